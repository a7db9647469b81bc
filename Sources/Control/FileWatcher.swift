import CPlatform
import Core
import EventLoop
import Glibc

/// Tells when files may have changed: written, replaced by rename, or reached through a symbolic
/// link that was switched (as Kubernetes does with mounted volumes).
///
/// It watches the folders, not the files, because editors and Kubernetes replace files. Changes are
/// gathered for `settleTime`, so that a file written in pieces is read once.
package final class FileWatcher {
    private static let settleTime = Duration.milliseconds(100)
    private static let eventBytes = 64 * 1024

    private let loop: EventLoop
    private let onChange: () -> Void
    private var descriptor: Int32 = -1
    private var handler: Handler?
    private var settling: LoopTimer?

    /// Watches the folders of `paths`. Folders that cannot be watched are left out.
    package init(loop: EventLoop, paths: [String], onChange: @escaping () -> Void) {
        self.loop = loop
        self.onChange = onChange
        self.descriptor = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
        guard self.descriptor >= 0 else { return }
        let interest = UInt32(
            IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
        )
        for folder in Set(paths.map(Self.folder)) {
            inotify_add_watch(self.descriptor, folder, interest)
        }
        let handler = Handler { [unowned self] in self.changed() }
        handler.register(descriptor: self.descriptor, on: loop, interest: .read)
        self.handler = handler
    }

    deinit {
        self.handler?.deregister()
        if self.descriptor >= 0 { close(self.descriptor) }
    }

    /// Stops watching.
    package func stop() {
        self.handler?.deregister()
        self.settling?.cancel()
    }

    private static func folder(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private func changed() {
        withUnsafeTemporaryAllocation(byteCount: Self.eventBytes, alignment: 8) {
            while read(self.descriptor, $0.baseAddress, $0.count) > 0 {}
        }
        if self.settling?.isArmed == true { return }
        self.settling = self.loop.schedule(after: Self.settleTime) { [weak self] in
            self?.onChange()
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
