import EventLoop
import Glibc
import Synchronization

/// A replica that does what the test says: the test accepts its connections and plays the server on
/// them, or lets threads answer by a rule.
final class ScriptedUpstream: Sendable {
    let port: UInt16
    private let descriptor: Int32
    private let state = Locked(State())

    private struct State {
        var acceptedCount = 0
        var open: Set<Int32> = []
        var isClosed = false
        var threadCount = 0
    }

    /// `backlog`: connections that the kernel takes before the test does.
    init(isListening: Bool = true, backlog: Int32 = 1024) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw WireError.system("socket", errno) }
        self.descriptor = descriptor
        guard Loopback.bind(descriptor) == 0 else { throw WireError.system("bind", errno) }
        // Bound and not listening: the port is ours, and connections are refused.
        if isListening, listen(descriptor, backlog) != 0 {
            throw WireError.system("listen", errno)
        }
        self.port = Loopback.port(of: descriptor)
    }

    deinit { Glibc.close(self.descriptor) }

    /// Connections accepted so far, by the test or by the threads.
    var acceptedCount: Int { self.state.withLock { $0.acceptedCount } }

    /// Whether a thread still serves a connection, or has not closed it yet.
    var isServing: Bool { self.state.withLock { $0.threadCount > 1 } }

    /// Whether a connection waits to be accepted at this moment.
    var hasWaiting: Bool { self.wait(milliseconds: 0) }

    func setReceiveBuffer(_ bytes: Int32) {
        var value = bytes
        setsockopt(
            self.descriptor,
            SOL_SOCKET,
            SO_RCVBUF,
            &value,
            socklen_t(MemoryLayout<Int32>.size)
        )
    }

    /// From now on connections are refused; the port stays taken.
    func endListening() { shutdown(self.descriptor, Int32(SHUT_RDWR)) }

    private func wait(milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) > 0
    }

    /// The next connection.
    func accept() throws -> RawSocket {
        guard self.wait(milliseconds: Int32(RawSocket.deadlineSeconds * 1000)) else {
            throw WireError.timeout("a connection to the upstream")
        }
        let accepted = Glibc.accept(self.descriptor, nil, nil)
        guard accepted >= 0 else { throw WireError.system("accept", errno) }
        self.state.withLock { $0.acceptedCount += 1 }
        return RawSocket(owning: accepted)
    }

    // MARK: Threads

    /// Answers every request by the rule, a thread per connection, until `stop`. Where the rule
    /// throws, the connection is closed.
    func serve(_ rule: @escaping @Sendable (Message, RawSocket) throws -> Void) {
        self.run {
            while let socket = self.acceptForThread() {
                let carried = Carried(socket)
                self.run { self.serve(carried.value, rule) }
            }
        }
    }

    private func serve(_ socket: RawSocket, _ rule: (Message, RawSocket) throws -> Void) {
        defer {
            _ = self.state.withLock { $0.open.remove(socket.descriptor) }
            socket.close()
        }
        // Idle connections end by the gateway's FIN or by `stop`.
        socket.setDeadline(milliseconds: 120_000)
        while let request = try? socket.readRequest() {
            do { try rule(request, socket) } catch { return }
        }
    }

    private func acceptForThread() -> RawSocket? {
        let accepted = Glibc.accept(self.descriptor, nil, nil)
        guard accepted >= 0 else { return nil }
        let isClosed = self.state.withLock {
            $0.acceptedCount += 1
            $0.open.insert(accepted)
            return $0.isClosed
        }
        let socket = RawSocket(owning: accepted)
        return isClosed ? nil : socket
    }

    /// A thread of its own, detached: one for every connection of a long test would keep its stack.
    private func run(_ body: @escaping @Sendable () -> Void) {
        self.state.withLock { $0.threadCount += 1 }
        let whole = Body {
            body()
            self.state.withLock { $0.threadCount -= 1 }
        }
        var thread = pthread_t()
        let code = pthread_create(
            &thread,
            nil,
            { context in
                if let context { Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            },
            Unmanaged.passRetained(whole).toOpaque()
        )
        precondition(code == 0, "pthread_create: \(code)")
        pthread_detach(thread)
    }

    /// Ends the threads and their connections, and waits until they have.
    func stop() {
        var isRunning = self.state.withLock { state in
            state.isClosed = true
            for descriptor in state.open { shutdown(descriptor, Int32(SHUT_RDWR)) }
            return state.threadCount > 0
        }
        if !isRunning { return }
        shutdown(self.descriptor, Int32(SHUT_RDWR))
        while isRunning {
            sched_yield()
            isRunning = self.state.withLock { $0.threadCount > 0 }
        }
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

/// Hands a value to another thread for good: the giver does not touch it again.
struct Carried<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

extension RawSocket {
    /// A small whole answer.
    func respond(
        _ body: String = "ok",
        status: String = "200 OK",
        fields: String = ""
    ) throws {
        try self.send(
            "HTTP/1.1 \(status)\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
    }
}
