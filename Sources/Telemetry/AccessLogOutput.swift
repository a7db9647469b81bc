import Core
import EventLoop
import Glibc
import Synchronization

/// The descriptor behind an access log. The writer's thread opens, writes and closes; any thread
/// may say that it is time to close.
final class AccessLogOutput: Sendable {
    private struct State {
        var descriptor: Int32 = -1
        /// A file on a disk, which takes a write of any size without waiting for a reader.
        var isRegular = false
        /// The last write ended within a line.
        var isTorn = false
        /// What is left of the time that closing may wait for a reader.
        var patienceMilliseconds = AccessLogWriter.closePatienceMilliseconds
    }

    private let path: String
    private let state = Locked(State())
    private let isClosing = Atomic<Bool>(false)

    /// Written at a time to a pipe that `poll` reported writable: POSIX says that so many fit.
    private static let pipeBytes = 4_096
    private static let pollMilliseconds: Int32 = 100

    init(path: String) {
        self.path = path
    }

    private var isStandardOutput: Bool { self.path == AccessLogWriter.standardOutput }

    /// Opens the file, and closes the one that was open before.
    func open() throws(SystemError) {
        var opened = STDOUT_FILENO
        if !self.isStandardOutput {
            opened = Glibc.open(self.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o640)
            guard opened >= 0 else { throw SystemError("open \(self.path)", code: errno) }
        }
        var status = stat()
        let isRegular = fstat(opened, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        let previous = self.state.withLock { state in
            let previous = state.descriptor
            state = State(descriptor: opened, isRegular: isRegular)
            return previous
        }
        self.closeFile(previous)
    }

    func beginClosing() {
        self.isClosing.store(true, ordering: .releasing)
    }

    func close() {
        let previous = self.state.withLock { state in
            let previous = state.descriptor
            state = State()
            return previous
        }
        self.closeFile(previous)
    }

    private func closeFile(_ descriptor: Int32) {
        if descriptor >= 0 && !self.isStandardOutput { Glibc.close(descriptor) }
    }

    /// False where not all of it could be written.
    func write(_ bytes: ByteBuffer) -> Bool {
        var state = self.state.withLock { $0 }
        guard state.descriptor >= 0 else { return false }
        if state.isTorn {
            // The next line begins on a line of its own.
            let lineFeed = ByteBuffer(capacity: 16)
            lineFeed.append(byte: UInt8(ascii: "\n"))
            self.writeAll(lineFeed, &state)
            if !lineFeed.isEmpty {
                self.state.withLock { [state] in $0 = state }
                return false
            }
        }
        let total = bytes.count
        self.writeAll(bytes, &state)
        state.isTorn = !bytes.isEmpty && bytes.count < total
        // Nobody else changes it once the thread runs; the lock is what makes it provable.
        self.state.withLock { [state] in $0 = state }
        return bytes.isEmpty
    }

    /// Consumes what could be written.
    private func writeAll(_ bytes: ByteBuffer, _ state: inout State) {
        let limit = state.isRegular ? Int.max : Self.pipeBytes
        while !bytes.isEmpty {
            guard self.waitUntilWritable(&state) else { return }
            let count = Glibc.write(
                state.descriptor,
                bytes.readablePointer,
                min(bytes.count, limit)
            )
            if count > 0 {
                bytes.consume(count)
            } else if count == 0 || (errno != EINTR && errno != EAGAIN) {
                return
            }
        }
    }

    /// Waits for a reader, but not for ever once the log is being closed.
    private func waitUntilWritable(_ state: inout State) -> Bool {
        while true {
            var request = pollfd(fd: state.descriptor, events: Int16(POLLOUT), revents: 0)
            // Once patience is spent, what the reader takes at once is still written.
            let isPatient = state.patienceMilliseconds > 0
            let count = poll(&request, 1, isPatient ? Self.pollMilliseconds : 0)
            if count > 0 { return request.revents & Int16(POLLOUT) != 0 }
            if count < 0 && errno != EINTR { return false }
            if count == 0 && self.isClosing.load(ordering: .acquiring) {
                state.patienceMilliseconds -= Self.pollMilliseconds
                if state.patienceMilliseconds <= 0 { return false }
            }
        }
    }
}
