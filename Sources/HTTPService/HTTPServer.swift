import Core
import EventLoop
import Glibc
import HTTP

/// An HTTP/1.1 server on one event loop. All calls belong to the loop's thread.
///
/// End it with `close` or `stop`: until then it keeps itself and its connections alive.
package final class HTTPServer {
    /// Answers one request. The request may be read during the call only; the writer may be kept.
    package typealias Handler = (borrowing HTTPRequest, ResponseWriter) -> Void

    package let options: HTTPServerOptions
    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    package let address: SocketAddress
    package internal(set) var counts = HTTPServerCounts()

    let loop: EventLoop
    let wheel: TimerWheel
    /// Dropped once stopped: it may hold writers, which hold connections, which hold the server.
    private(set) var handler: Handler?
    let clock = DateClock()
    private var listener: ServerListener?
    private var connections: [ObjectIdentifier: ServerConnection] = [:]
    private var stopTimer: LoopTimer?
    /// How many bytes of content a request may have, asked when its head is there; nil is what the
    /// options say for each.
    package var contentLimit: ((borrowing HTTPRequest) -> Int)?
    private var onStopped: (() -> Void)?
    private(set) var isStopping = false

    package init(
        loop: EventLoop,
        address: SocketAddress,
        options: HTTPServerOptions = HTTPServerOptions(),
        handler: @escaping Handler
    ) throws(SystemError) {
        loop.assertOnLoop()
        let descriptor = try Sockets.listen(on: address, reusePort: options.reusePort)
        self.loop = loop
        self.options = options
        self.handler = handler
        self.address = Sockets.localAddress(of: descriptor) ?? address
        self.wheel = TimerWheel(loop: loop)
        self.listener = nil
        self.listener = ServerListener(descriptor: descriptor, server: self)
    }

    deinit {
        precondition(self.listener == nil, "an HTTP server was dropped while listening")
    }

    /// Stops accepting, lets requests at hand finish, closes idle connections at once and the rest
    /// after `grace`. `completion` runs when the last connection has gone. A second call is
    /// ignored.
    package func stop(within grace: Duration, completion: @escaping () -> Void = {}) {
        self.loop.assertOnLoop()
        if self.isStopping { return }
        self.isStopping = true
        self.onStopped = completion
        self.listener?.close()
        self.listener = nil
        for connection in self.connections.values { connection.stopSoon() }
        if self.connections.isEmpty { return self.finishStopping() }
        self.stopTimer = self.loop.schedule(after: grace) { self.close() }
    }

    /// Ends everything now; clients see a reset.
    package func close() {
        self.loop.assertOnLoop()
        self.isStopping = true
        self.listener?.close()
        self.listener = nil
        for connection in self.connections.values { connection.close(reset: true) }
        self.finishStopping()
    }

    // MARK: For connections

    func accept(_ descriptor: Int32, peer: SocketAddress?) {
        if self.connections.count >= self.options.connectionsMax {
            self.turnAway(descriptor)
            return
        }
        self.counts.accepted += 1
        let connection = ServerConnection(server: self, peer: peer)
        self.connections[ObjectIdentifier(connection)] = connection
        self.counts.connections = self.connections.count
        connection.start(descriptor)
    }

    func remove(_ connection: ServerConnection) {
        self.connections[ObjectIdentifier(connection)] = nil
        self.counts.connections = self.connections.count
        if self.isStopping && self.connections.isEmpty { self.finishStopping() }
    }

    private func finishStopping() {
        self.stopTimer?.cancel()
        self.stopTimer = nil
        self.wheel.stop()
        self.handler = nil
        let completion = self.onStopped
        self.onStopped = nil
        completion?()
    }

    /// One write that fits any socket buffer, then the end.
    private func turnAway(_ descriptor: Int32) {
        self.counts.turnedAway += 1
        let answer: StaticString = """
            HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
            Connection: close\r\n\r\n
            """
        _ = Sockets.write(descriptor, from: answer.utf8Start, count: answer.utf8CodeUnitCount)
        Sockets.shutdownWriting(descriptor)
        Sockets.close(descriptor)
    }
}

/// The listening socket.
private final class ServerListener: IOHandler {
    /// Connections taken per turn, so that a flood of them does not starve those that are there.
    private static let acceptsPerTurn = 64
    /// How long accepting rests when the process has no descriptor left.
    private static let restAfterFailure = Duration.milliseconds(100)

    // Unowned: the server owns the listener and closes it before it goes.
    private unowned let server: HTTPServer
    private let socket: Int32
    private var rest: LoopTimer?
    private var isClosed = false

    init(descriptor: Int32, server: HTTPServer) {
        self.server = server
        self.socket = descriptor
        super.init()
        self.register(descriptor: descriptor, on: server.loop, interest: .read)
    }

    override func ready(_ events: IOEvents) {
        for _ in 0..<Self.acceptsPerTurn {
            do throws(SystemError) {
                guard let accepted = try Sockets.accept(from: self.socket) else { return }
                self.server.accept(accepted.descriptor, peer: accepted.peer)
                if self.isClosed { return }
            } catch {
                return self.pause()
            }
        }
    }

    func close() {
        if self.isClosed { return }
        self.isClosed = true
        self.rest?.cancel()
        self.rest = nil
        self.deregister()
        Sockets.close(self.socket)
    }

    /// Out of descriptors or memory: the backlog would wake us at once again, so look away a while.
    private func pause() {
        self.deregister()
        self.rest = self.server.loop.schedule(after: Self.restAfterFailure) { [unowned self] in
            self.rest = nil
            self.register(descriptor: self.socket, on: self.server.loop, interest: .read)
        }
    }
}

/// The `Date` field's value, made once a second.
final class DateClock {
    private var second: Int64 = .min
    private var text: [UInt8] = []

    func append(to buffer: ByteBuffer) {
        let now = Int64(EventLoop.readWallClock())
        if now != self.second {
            self.second = now
            let fresh = ByteBuffer(capacity: 32)
            HTTPDate.write(secondsSince1970: now, into: fresh)
            self.text = JSONText.array(fresh.readable)
        }
        buffer.append(self.text)
    }
}
