import CPlatform
import Core
import EventLoop
import Glibc

/// Which of its outputs a replica wrote to.
package enum OutputStream: String, Sendable, Hashable {
    case standardOutput = "stdout"
    case standardError = "stderr"
}

/// A running child: tells when it ends and what it writes; signals its whole group.
///
/// The child's end is seen through a pidfd but not collected until `collect`: as long as the zombie
/// is there, the kernel gives its number to nobody else, so signals to the group cannot go astray.
final class ChildProcess {
    let pid: Int32
    private let exitWatch: ExitWatch
    private var readers: [PipeReader] = []

    /// Takes over a process that was started just now.
    ///
    /// - Parameters:
    ///   - onOutput: bytes as they come.
    ///   - onExit: once, when the process itself has ended; all it wrote has been handed on.
    init(
        owning spawned: ProcessSpawner.Spawned,
        loop: EventLoop,
        onOutput: @escaping (OutputStream, ArraySlice<UInt8>) -> Void,
        onExit: @escaping (ProcessExit) -> Void
    ) throws(SystemError) {
        self.pid = spawned.pid
        let descriptor = weir_pidfd_open(spawned.pid)
        guard descriptor >= 0 else {
            let code = errno
            close(spawned.standardOutput)
            close(spawned.standardError)
            throw SystemError("pidfd_open", code: code)
        }
        self.exitWatch = ExitWatch()
        self.readers = [
            PipeReader(owning: spawned.standardOutput, loop: loop) {
                onOutput(.standardOutput, $0)
            },
            PipeReader(owning: spawned.standardError, loop: loop) { onOutput(.standardError, $0) },
        ]
        self.exitWatch.start(descriptor, loop: loop) { [weak self] in
            guard let self, let exit = self.peek() else { return }
            for reader in self.readers { reader.drain() }
            onExit(exit)
        }
    }

    /// Sends a signal to every process of the group.
    func signalGroup(_ number: Int32) {
        // ESRCH: all of them have ended; that is what was wanted.
        _ = Glibc.kill(-self.pid, number)
    }

    /// Collects the ended process and closes everything. Only once its end was told.
    func collect() {
        self.exitWatch.stop()
        for reader in self.readers {
            reader.drain()
            reader.stop()
        }
        var status: Int32 = 0
        while waitpid(self.pid, &status, 0) < 0, errno == EINTR {}
    }

    private func peek() -> ProcessExit? {
        var code: Int32 = 0
        var status: Int32 = 0
        switch weir_peek_exit(self.pid, &code, &status) {
        case 1: return code == Int32(CLD_EXITED) ? .code(status) : .signal(status)
        case 0: return nil
        // ECHILD: somebody else collected it (SIGCHLD ignored in this process); the pidfd is right.
        default: return .code(-1)
        }
    }
}

/// Waits for a pidfd to become readable.
private final class ExitWatch: IOHandler {
    private var body: (() -> Void)?
    private var isOpen = false

    func start(_ descriptor: Int32, loop: EventLoop, body: @escaping () -> Void) {
        self.body = body
        self.isOpen = true
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    override func ready(_ events: IOEvents) {
        let body = self.body
        // The pidfd stays readable until it is closed; one word is enough.
        if let body {
            self.body = nil
            self.deregister()
            body()
        }
    }

    func stop() {
        guard self.isOpen else { return }
        self.isOpen = false
        self.body = nil
        let descriptor = self.descriptor
        self.deregister()
        close(descriptor)
    }
}

/// Hands on what comes out of a pipe, a bounded amount per turn.
private final class PipeReader: IOHandler {
    /// Bytes per turn of the loop; the rest waits in the pipe, and then the writer does.
    private static let bytesPerTurnMax = 64 * 1024
    /// What is read of a child that has ended: the pipe's capacity, with room for one made larger.
    private static let bytesAtEndMax = 1024 * 1024

    private let body: (ArraySlice<UInt8>) -> Void
    private var isOpen = true

    init(owning descriptor: Int32, loop: EventLoop, body: @escaping (ArraySlice<UInt8>) -> Void) {
        self.body = body
        super.init()
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    override func ready(_ events: IOEvents) {
        self.read(atMost: Self.bytesPerTurnMax)
    }

    /// Reads what is there already, without waiting.
    func drain() {
        self.read(atMost: Self.bytesAtEndMax)
    }

    func stop() {
        guard self.isOpen else { return }
        self.isOpen = false
        let descriptor = self.descriptor
        self.deregister()
        close(descriptor)
    }

    private func read(atMost limit: Int) {
        var remaining = limit
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while self.isOpen, remaining > 0 {
            let count = Glibc.read(self.descriptor, &chunk, min(chunk.count, remaining))
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            guard count > 0 else { return self.stop() }
            remaining -= count
            self.body(chunk[..<count])
        }
    }
}
