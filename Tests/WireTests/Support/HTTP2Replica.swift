import Core
import EventLoop
import Glibc
import HTTP
import HTTP2

/// A replica that speaks HTTP/2 by prior knowledge: every connection on a thread of its own, what
/// it answers by a rule that runs there.
final class HTTP2Replica: Sendable {
    typealias Rule = @Sendable (ReplicaStream) -> Void

    let upstream: ScriptedUpstream
    private let settings: HTTP2Settings
    private let rule: Rule
    private let threads = Locked<[Background]>([])
    /// Connections that have begun and have not ended.
    let openConnections = Counter()

    /// `rule` is called when a request is complete, or with its head where `atHead`.
    init(
        _ upstream: ScriptedUpstream,
        settings: HTTP2Settings = HTTP2Settings(),
        connections: Int = 1,
        atHead: Bool = false,
        refuses: @escaping @Sendable () -> Bool = { false },
        rule: @escaping Rule
    ) {
        self.upstream = upstream
        self.settings = settings
        self.rule = rule
        for _ in 0..<connections {
            let thread = Background { [self] in
                guard let socket = try? self.upstream.accept() else { return }
                self.openConnections.add()
                let connection = ReplicaConnection(socket, settings, atHead: atHead, refuses, rule)
                connection.run()
                self.openConnections.add(-1)
            }
            self.threads.withLock { $0.append(thread) }
        }
    }

    /// Waits until every connection that was announced has come and gone.
    func join() throws {
        for thread in self.threads.withLock({ $0 }) { try thread.join() }
    }
}

/// A request at an `HTTP2Replica`.
final class ReplicaStream: HTTP2Stream {
    unowned let connection: ReplicaConnection
    private(set) var head = ""
    private(set) var body: [UInt8] = []
    private(set) var trailers = ""
    private(set) var closedWith: HTTP2ErrorCode?
    /// Which request of its connection it is, from 0.
    let number: Int

    init(_ connection: ReplicaConnection, number: Int) {
        self.connection = connection
        self.number = number
        super.init()
    }

    override init() { preconditionFailure("a stream is on a connection") }

    override func headReceived(_ block: FieldBlock, endsStream: Bool) {
        let head = block.head
        let bytes = UnsafeRawBufferPointer(start: head.readablePointer, count: head.count)
        self.head = String(decoding: bytes, as: UTF8.self)
        if self.connection.isAtHead { self.connection.rule(self) }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
        self.body.append(contentsOf: bytes)
        self.consumed(bytes.count)
    }

    override func trailersReceived(_ lines: [UInt8]) {
        self.trailers = String(decoding: lines, as: UTF8.self)
    }

    override func endReceived() {
        if !self.connection.isAtHead { self.connection.rule(self) }
    }

    override func closed(_ code: HTTP2ErrorCode) {
        self.closedWith = code
        self.connection.closures.append(code)
        self.connection.onClosure?(code)
    }

    var path: String {
        String(self.head.split(separator: " ").dropFirst().first ?? "")
    }

    /// Answers, with trailers where some are given as lines.
    func answer(
        _ body: [UInt8] = Array("ok".utf8),
        status: UInt64 = 200,
        fields: String = "",
        trailers: String = "",
        ends: Bool = true
    ) {
        let list = OutgoingFields()
        list.append(":status", status)
        list.append(lines: Array(fields.utf8).span.bytes)
        self.respond(list, endsStream: false)
        body.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { self.send(start, count: bytes.count) }
        }
        guard ends else { return }
        if trailers.isEmpty { return self.end() }
        let tail = OutgoingFields()
        tail.append(lines: Array(trailers.utf8).span.bytes)
        self.end(trailers: tail)
    }
}

/// One connection of an `HTTP2Replica`; on its own thread.
final class ReplicaConnection: HTTP2SessionOwner {
    let rule: HTTP2Replica.Rule
    let isAtHead: Bool
    private let socket: RawSocket
    private let refuses: @Sendable () -> Bool
    private(set) lazy var session = HTTP2Session(.server, settings: self.settings, owner: self)
    private let settings: HTTP2Settings
    private var requests = 0
    /// Requests that the rule wants to answer later.
    var held: [ReplicaStream] = []
    var closures: [HTTP2ErrorCode] = []
    var onClosure: ((HTTP2ErrorCode) -> Void)?
    /// Set by the rule to end the connection at once.
    var isCut = false
    /// Set by the rule to say nothing any more, not even that a ping has come.
    var isMute = false

    init(
        _ socket: RawSocket,
        _ settings: HTTP2Settings,
        atHead: Bool,
        _ refuses: @escaping @Sendable () -> Bool,
        _ rule: @escaping HTTP2Replica.Rule
    ) {
        self.socket = socket
        self.rule = rule
        self.isAtHead = atHead
        self.refuses = refuses
        self.settings = settings
    }

    /// Until the gateway closes, or the rule cuts.
    func run() {
        defer {
            self.held = []
            self.session.close()
            self.socket.close()
        }
        var piece = [UInt8](repeating: 0, count: 64 * 1024)
        guard self.flush() else { return }
        while true {
            let count = Glibc.read(self.socket.descriptor, &piece, piece.count)
            if count <= 0 { return }
            let outcome = piece.withUnsafeBytes {
                self.session.receive(
                    UnsafeRawBufferPointer(rebasing: $0[..<count]),
                    now: Instant(nanoseconds: 1)
                )
            }
            if self.isCut { return }
            guard self.flush(), outcome == .proceed else { return }
        }
    }

    private func flush() -> Bool {
        if self.isMute { return true }
        let output = ByteBuffer(capacity: 4096)
        while self.session.wantsOutput {
            output.removeAll()
            self.session.write(into: output, limit: 64 * 1024, now: Instant(nanoseconds: 1))
            if output.isEmpty { return true }
            let bytes = output.readable.withUnsafeBytes { Array($0) }
            do { try self.socket.send(bytes) } catch { return false }
        }
        return true
    }

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? {
        if self.refuses() { return nil }
        self.requests += 1
        return ReplicaStream(self, number: self.requests - 1)
    }

    func settingsReceived(_ session: HTTP2Session) {}
    func pingAnswered(_ session: HTTP2Session) {}
    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode) {}
    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey { WebSocketKey(high: 0, low: 0) }
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) {}
}
