import Core
import GRPC
import HTTP
import HTTP2

/// One call of `grpc.health.v1.Health/Check`, as bytes to send and bytes that come.
///
/// All that is to be sent is there from the beginning: windows that nobody has changed have room
/// for it, and a server answers without acknowledgements of its settings.
final class HealthQuestion: HTTP2SessionOwner {
    /// The name that is asked for; empty for the server as a whole.
    private let service: String
    private let session: HTTP2Session
    private let stream = Answer()
    /// What is to be sent.
    private(set) var request: [UInt8] = []

    init(service: String, authority: String, isSecure: Bool, now: Instant) {
        self.service = service
        self.session = HTTP2Session(.client, settings: HTTP2Settings())
        self.session.owner = self
        let fields = OutgoingFields()
        fields.append(":method", "POST")
        fields.append(":scheme", isSecure ? "https" : "http")
        fields.append(":path", HealthCheck.checkPath)
        let host = Array(authority.utf8)
        fields.append(":authority", host.span.bytes)
        fields.append("content-type", "application/grpc")
        fields.append("te", "trailers")
        fields.append("user-agent", "weir-readiness")
        let isBegun = self.session.request(
            self.stream,
            fields,
            isHead: false,
            endsStream: false
        )
        precondition(isBegun, "a session that is new takes a request")
        let message = ByteBuffer(capacity: 64)
        HealthCheck.writeRequest(service: service, into: message)
        self.stream.send(message.readablePointer, count: message.count)
        self.stream.end()
        let output = ByteBuffer(capacity: 1_024)
        self.session.write(into: output, limit: 64 * 1024, now: now)
        self.request = output.readable.withUnsafeBytes { Array($0) }
    }

    /// To be called when nobody asks any more.
    func close() { self.session.close() }

    /// Takes bytes that have come. Nil: more are needed.
    func receive(_ bytes: UnsafeRawBufferPointer, now: Instant) -> ProbeResult? {
        let received = self.session.receive(bytes, now: now)
        if let result = self.result { return result }
        return received == .end ? .bad("the server does not speak HTTP/2") : nil
    }

    private var result: ProbeResult? {
        if let status = self.stream.status, status != .ok {
            return .bad("\(self.asked) is answered with \(status.name)")
        }
        if let code = self.stream.httpStatus, code != 200 {
            return .bad("\(self.asked) is answered with \(code)")
        }
        let body = self.stream.body
        switch HealthCheck.read(body.span.bytes) {
        case .serving: return .good
        case .notServing: return .bad("\(self.asked) is answered with NOT_SERVING")
        case .unknown, .serviceUnknown: return .bad("\(self.asked) is answered with UNKNOWN")
        case nil: break
        }
        return self.stream.isOver ? .bad("\(self.asked) is not answered with a message") : nil
    }

    private var asked: String {
        self.service.isEmpty ? "the health check" : "the health check of `\(self.service)`"
    }

    // MARK: The session's owner

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? { nil }
    func settingsReceived(_ session: HTTP2Session) {}
    func pingAnswered(_ session: HTTP2Session) {}
    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode) {}
    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey { WebSocketKey(high: 0, low: 0) }
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) {}

    /// What has come of the answer.
    private final class Answer: HTTP2Stream {
        /// More than a message has is of no interest.
        private static let bodyBytesMax = 1_024
        private(set) var httpStatus: UInt16?
        private(set) var status: GRPCStatus?
        private(set) var body: [UInt8] = []
        private(set) var isOver = false

        override func headReceived(_ block: FieldBlock, endsStream: Bool) {
            if block.status < 200 { return }
            self.httpStatus = block.status
            let head = block.head
            self.look(head.readable.withUnsafeBytes { Array($0) })
        }

        override func blockRefused(_ error: FieldBlockError) { self.isOver = true }

        override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
            self.body += bytes.prefix(Self.bodyBytesMax - self.body.count)
        }

        override func trailersReceived(_ lines: [UInt8]) { self.look(lines) }
        override func endReceived() { self.isOver = true }
        override func closed(_ code: HTTP2ErrorCode) { self.isOver = true }

        private func look(_ lines: [UInt8]) {
            if let status = GRPCStatus(lines: lines) { self.status = status }
        }
    }
}
