import CPlatform
import Core
import EventLoop
import Glibc

/// Tells when files may have changed: written, replaced by rename, or reached through a symbolic
/// link that was switched (as Kubernetes does with mounted volumes).
///
/// It watches folders, not files, because editors and Kubernetes replace files: every folder in
/// which a part of a path, or of a link on the way, is looked up, for the names that are looked up
/// there. After a change the ways are followed anew. Changes are gathered for `settleTime`, so that
/// a file written in pieces is read once.
package final class FileWatcher {
    private static let settleTime = Duration.milliseconds(100)
    private static let eventBytes = 64 * 1024

    private let loop: EventLoop
    private let paths: [String]
    private let onChange: () -> Void
    private var descriptor: Int32 = -1
    private var handler: Handler?
    private var settling: LoopTimer?
    /// The names that matter, by the watch of the folder they are in.
    private var names: [Int32: Set<String>] = [:]
    private var isStopped = false

    /// Watches the ways to `paths`. Folders that cannot be watched are left out.
    package init(loop: EventLoop, paths: [String], onChange: @escaping () -> Void) {
        self.loop = loop
        self.paths = paths
        self.onChange = onChange
        self.descriptor = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
        guard self.descriptor >= 0 else { return }
        self.follow()
        let handler = Handler { [unowned self] in self.readEvents() }
        handler.register(descriptor: self.descriptor, on: loop, interest: .read)
        self.handler = handler
    }

    deinit {
        self.stop()
        if self.descriptor >= 0 { close(self.descriptor) }
    }

    /// Stops watching.
    package func stop() {
        self.isStopped = true
        self.handler?.deregister()
        self.settling?.cancel()
    }

    /// Sets the watches to where the paths lead now.
    private func follow() {
        var folders: [String: Set<String>] = [:]
        for path in self.paths {
            for step in PathTrail.steps(of: path) {
                folders[step.folder, default: []].insert(step.name)
            }
        }
        let interest = UInt32(
            IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF
                | IN_MOVE_SELF | IN_ONLYDIR
        )
        var names: [Int32: Set<String>] = [:]
        for (folder, wanted) in folders {
            // A folder that is watched already, perhaps under another name, keeps its number.
            let watch = inotify_add_watch(self.descriptor, folder, interest)
            if watch >= 0 { names[watch, default: []].formUnion(wanted) }
        }
        for watch in self.names.keys where names[watch] == nil {
            inotify_rm_watch(self.descriptor, watch)
        }
        self.names = names
    }

    private func readEvents() {
        var concerns = false
        withUnsafeTemporaryAllocation(byteCount: Self.eventBytes, alignment: 8) { buffer in
            while true {
                let count = read(self.descriptor, buffer.baseAddress, buffer.count)
                if count <= 0 { return }
                let events = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                if self.isConcerned(by: events) { concerns = true }
            }
        }
        if concerns { self.changed() }
    }

    /// Whether one of the events, laid out as inotify(7) says, may mean a change of a file.
    private func isConcerned(by events: UnsafeRawBufferPointer) -> Bool {
        let header = MemoryLayout<inotify_event>.size
        var offset = 0
        while offset + header <= events.count {
            let event = events.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
            let end = min(events.count, offset + header + Int(event.len))
            let name = events[(offset + header)..<end].prefix { $0 != 0 }
            offset = end
            if event.mask & UInt32(IN_Q_OVERFLOW) != 0 { return true }
            guard let wanted = self.names[event.wd] else { continue }
            if name.isEmpty || wanted.contains(String(decoding: name, as: UTF8.self)) {
                return true
            }
        }
        return false
    }

    private func changed() {
        if self.settling?.isArmed == true { return }
        self.settling = self.loop.schedule(after: Self.settleTime) { [weak self] in
            guard let self, !self.isStopped else { return }
            // Before anything is read: what changes after this is told.
            self.follow()
            self.onChange()
        }
    }

    private final class Handler: IOHandler {
        private let body: () -> Void

        init(_ body: @escaping () -> Void) {
            self.body = body
        }

        override func ready(_ events: IOEvents) {
            self.body()
        }
    }
}

/// The lookups by which the kernel gets from a path to a file.
enum PathTrail {
    /// Most symbolic links on one way, as in the kernel (path_resolution(7)).
    private static let linksMax = 40

    struct Step: Equatable {
        let folder: String
        let name: String
    }

    /// The folders that are passed and what is looked up in each, as far as there is something.
    static func steps(of path: String) -> [Step] {
        var steps: [Step] = []
        var folder = path.hasPrefix("/") ? "/" : "."
        var rest = self.parts(path)
        var links = 0
        while let name = rest.popLast() {
            steps.append(Step(folder: folder, name: name))
            let place = folder == "/" ? "/\(name)" : "\(folder)/\(name)"
            guard name != "..", let target = self.link(at: place) else {
                folder = place
                continue
            }
            links += 1
            if links > self.linksMax { break }
            if target.hasPrefix("/") { folder = "/" }
            rest += self.parts(target)
        }
        return steps
    }

    /// The parts of a path, the first one last.
    private static func parts(_ path: String) -> [String] {
        path.split(separator: "/").filter { $0 != "." }.map(String.init).reversed()
    }

    private static func link(at path: String) -> String? {
        withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
            let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
            let count = start.map { readlink(path, $0, buffer.count) } ?? -1
            return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
        }
    }
}

/// Delivers signals on an event loop. The signals must be blocked in every thread: call
/// `SignalSource.block` before any thread is started.
package final class SignalSource: IOHandler {
    private let body: (Int32) -> Void

    /// Blocks the signals for the calling thread and those it starts from here on.
    package static func block(_ signals: [Int32]) {
        var set = self.set(signals)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    package init(loop: EventLoop, signals: [Int32], body: @escaping (Int32) -> Void) {
        self.body = body
        super.init()
        var set = Self.set(signals)
        let descriptor = signalfd(-1, &set, Int32(SFD_NONBLOCK) | Int32(SFD_CLOEXEC))
        precondition(descriptor >= 0, "signalfd: \(String(cString: strerror(errno)))")
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    package func stop() {
        let descriptor = self.descriptor
        self.deregister()
        close(descriptor)
    }

    override package func ready(_ events: IOEvents) {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        while read(self.descriptor, &info, size) == size {
            self.body(Int32(info.ssi_signo))
        }
    }

    private static func set(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        return set
    }
}
