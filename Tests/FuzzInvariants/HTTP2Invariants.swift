import Core
import HTTP
import HTTP2

/// HTTP/2: fields as they come to be HTTP/1 heads, and whole connections to a server.
enum HTTP2Invariants {
    // MARK: Fields

    /// Fields as a byte of length and that many bytes, name and value in turn. The first byte says
    /// whether it is a request, an answer or trailers, and whether there is a body.
    static var fieldSeeds: [[UInt8]] {
        let get = [":method", "GET", ":scheme", "http", ":path", "/a?b", ":authority", "h:1"]
        let connect = [
            ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/",
            ":authority", "h", "sec-websocket-key", "x",
        ]
        let requests = [
            get, get + ["x", "1", "cookie", "a=1", "cookie", "b=2"], connect,
            get + ["content-length", "12"], get + ["host", "H:1", "te", "trailers"],
            get + ["x", "a\r\nb: c"], get + ["transfer-encoding", "chunked"],
            [":method", "CONNECT", ":authority", "h:443"], ["x", "1"] + get,
        ]
        let answers = [[":status", "200", "x", "1"], [":status", "103"], [":status", "101"]]
        let trailers = [["grpc-status", "0"], ["host", "x", "x", "1"]]
        return requests.flatMap { [Self.encode(0, $0), Self.encode(1, $0)] }
            + answers.flatMap { [Self.encode(2, $0), Self.encode(5, $0)] }
            + trailers.map { Self.encode(4, $0) }
    }

    private static func encode(_ first: UInt8, _ parts: [String]) -> [UInt8] {
        parts.reduce([first]) { $0 + [UInt8($1.utf8.count)] + Array($1.utf8) }
    }

    private static func parts(_ bytes: [UInt8]) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        var start = 1
        while start < bytes.count {
            let end = min(bytes.count, start + 1 + Int(bytes[start]))
            parts.append(Array(bytes[start + 1..<end]))
            start = end
        }
        return parts
    }

    private static let fieldLimits = HeadLimits(maxHeadBytes: 2_048, maxFields: 32)

    static func fieldViolation(_ bytes: [UInt8]) -> String? {
        guard let first = bytes.first else { return nil }
        let kinds: [FieldBlock.Kind] = [.request, .response(isToHead: first & 8 != 0), .trailers]
        let kind = kinds[Int(first >> 1 & 3) % 3]
        let block = FieldBlock()
        block.begin(kind, limits: Self.fieldLimits)
        let parts = Self.parts(bytes)
        for index in stride(from: 0, to: parts.count - 1, by: 2) {
            let (name, value) = (parts[index], parts[index + 1])
            block.add(name: name.span.bytes, value: value.span.bytes)
        }
        let key = first & 16 == 0 ? nil : WebSocketKey(high: 1, low: 2)
        let error = block.finish(endsStream: first & 1 == 0, webSocketKey: key)
        guard error == block.error else { return "\(String(describing: error)) is not kept" }
        let memory = block.head
        let head = memory.readable.array
        if error != nil { return head.isEmpty ? nil : "a head that is none: \(head.text)" }
        switch kind {
        case .request: return Self.request(head, parts)
        case .response: return Self.response(head, block.status)
        case .trailers: return Self.trailers(head)
        }
    }

    /// One head to its last byte, with as many lines as there were fields, and ours.
    private static func request(_ bytes: [UInt8], _ parts: [[UInt8]]) -> String? {
        let head = RequestHead()
        switch head.parse(bytes.span.bytes, limits: HeadLimits()) {
        case .needMore: return "no end: \(bytes.text)"
        case .complete(let count):
            guard count == bytes.count else { return "more than a head: \(bytes.text)" }
        case .invalid(.unknownExpectation): return nil
        case .invalid(let error): return "\(error.label): \(bytes.text)"
        }
        let names = stride(from: 0, to: parts.count - 1, by: 2).map { parts[$0] }
        let fields = names.count { $0.first != UInt8(ascii: ":") }
        // The host, the framing, and for an upgrade two more.
        guard head.fields.count <= fields + 4 else { return "more lines: \(bytes.text)" }
        return head.minorVersion == 1 ? nil : "another version: \(bytes.text)"
    }

    private static func response(_ bytes: [UInt8], _ status: UInt16) -> String? {
        let head = ResponseHead()
        switch head.parse(bytes.span.bytes, limits: HeadLimits()) {
        case .needMore: return "no end: \(bytes.text)"
        case .complete(let count):
            guard count == bytes.count else { return "more than a head: \(bytes.text)" }
            return head.status == status && status != 101 ? nil : "another status: \(bytes.text)"
        case .invalid(let error): return "\(error.label): \(bytes.text)"
        }
    }

    private static func trailers(_ lines: [UInt8]) -> String? {
        let limits = BodyLimits(
            maxTrailerBytes: Self.fieldLimits.maxHeadBytes,
            maxTrailers: Self.fieldLimits.maxFields
        )
        var decoder = BodyDecoder(RequestFraming.chunked, limits: limits)
        let body = Array("0\r\n".utf8) + lines + Array("\r\n".utf8)
        guard case .end(let count) = decoder.next(body.span.bytes), count == body.count else {
            return "no trailers: \(lines.text)"
        }
        return decoder.trailers == lines ? nil : "trailers that change: \(lines.text)"
    }

    // MARK: Connections

    static var connectionSeeds: [[UInt8]] {
        let settings = Self.frame(4)
        let get: [UInt8] = [0x82, 0x86, 0x84, 0x41, 1, 0x61]
        let post: [UInt8] = [0x83, 0x86, 0x84, 0x41, 1, 0x61]
        let request = Self.frame(1, 5, 1, get)
        let body = Self.frame(1, 4, 1, post)
        return [
            settings + request, settings + body + Self.frame(0, 1, 1, [1, 2, 3]),
            settings + body + Self.frame(0, 0, 1, [1])
                + Self.frame(1, 5, 1, [0, 1, 0x78, 1, 0x79]),
            settings + Self.frame(1, 1, 1, get) + Self.frame(9, 4, 1, [0, 1, 0x78, 1, 0x79]),
            settings + request + Self.frame(3, 0, 1, [0, 0, 0, 8]),
            settings + Self.frame(6, 0, 0, [UInt8](repeating: 1, count: 8)),
            settings + Self.frame(8, 0, 0, [0, 0, 1, 0])
                + Self.frame(7, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0]),
            Self.frame(4, 0, 0, [0, 4, 0, 0, 0, 1]) + request + Self.frame(8, 0, 1, [0, 0, 0, 9]),
            settings + Self.frame(1, 0x2D, 1, [2, 0, 0, 0, 3, 16] + get + [0, 0]),
            settings + Self.frame(16, 0, 0, [0, 0, 0, 1, 0x75, 0x3D, 0x31]) + request,
        ]
    }

    private static func frame(
        _ type: UInt8,
        _ flags: UInt8 = 0,
        _ stream: UInt8 = 0,
        _ payload: [UInt8] = []
    ) -> [UInt8] {
        [0, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF), type, flags, 0, 0, 0, stream]
            + payload
    }

    /// Behind the preface. In whatever pieces it comes, the server says and hears the same.
    static func connectionViolation(_ bytes: [UInt8]) -> String? {
        var first: [String]?
        for cut in Cut.allCases {
            let server = FuzzedServer()
            cut.pieces(of: bytes) { piece in
                piece.withUnsafeBytes { server.take($0) }
            }
            let told = server.finish()
            if let violation = server.violation { return violation }
            if let first, first != told { return "\(cut): \(told) instead of \(first)" }
            first = told
        }
        return nil
    }
}

/// A server that answers every request with what it heard.
private final class FuzzedServer: HTTP2SessionOwner {
    private var session: HTTP2Session?
    private let sink = ByteBuffer(capacity: 1_024)
    fileprivate var told: [String] = []
    private var isLeft = false
    fileprivate(set) var violation: String?

    init() {
        var settings = HTTP2Settings()
        settings.offersWebSockets = true
        settings.head = HeadLimits(maxHeadBytes: 1_024, maxFields: 16)
        self.session = HTTP2Session(.server, settings: settings, owner: self)
        Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8).withUnsafeBytes { self.take($0) }
    }

    func take(_ bytes: UnsafeRawBufferPointer) {
        _ = self.session?.receive(bytes, now: .zero)
    }

    /// What was heard. What it has to say goes nowhere: how it is cut depends on the pieces.
    func finish() -> [String] {
        guard let session = self.session else { return [] }
        while session.wantsOutput {
            session.write(into: self.sink, limit: 4_096, now: .zero)
            if self.sink.isEmpty { break }
            self.checkFrames()
            self.sink.removeAll()
        }
        session.close()
        self.session = nil
        return self.told
    }

    /// Frames follow each other without a gap, none larger than the peer has to take.
    private func checkFrames() {
        let sink = self.sink
        let bytes = sink.readable.array
        var start = 0
        while start < bytes.count {
            guard start + 9 <= bytes.count else { return self.violation = "half a frame" }
            let count =
                Int(bytes[start]) << 16 | Int(bytes[start + 1]) << 8 | Int(bytes[start + 2])
            guard count <= 16_384 else { return self.violation = "a frame of \(count) bytes" }
            start += 9 + count
        }
        if start != bytes.count { self.violation = "frames end behind the bytes" }
    }

    fileprivate func note(head: [UInt8]) {
        let read = RequestHead()
        switch read.parse(head.span.bytes, limits: HeadLimits()) {
        case .complete(head.count), .invalid(.unknownExpectation): break
        default: self.violation = "no head: \(head.text)"
        }
    }

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? { FuzzedStream(self) }
    func settingsReceived(_ session: HTTP2Session) {}
    func pingAnswered(_ session: HTTP2Session) {}
    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode) {
        self.isLeft = true
    }
    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey { WebSocketKey(high: 3, low: 4) }
    /// Without streams, nothing is looked at that comes in a piece behind a farewell's.
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) {
        if !self.isLeft || !session.openStreams.isEmpty { self.told.append("\(what)") }
    }
}

private final class FuzzedStream: HTTP2Stream {
    private let server: FuzzedServer
    private var body: [UInt8] = []

    init(_ server: FuzzedServer) {
        self.server = server
        super.init()
    }

    override func headReceived(_ block: FieldBlock, endsStream: Bool) {
        let memory = block.head
        let head = memory.readable.array
        self.server.note(head: head)
        self.server.told.append("\(self.id): \(head.text)")
        let fields = OutgoingFields()
        fields.append(":status", "200")
        self.respond(fields, endsStream: false)
    }

    override func blockRefused(_ error: FieldBlockError) {
        self.server.told.append("\(self.id): \(error)")
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
        self.body += bytes
        self.consumed(bytes.count)
        if let start = bytes.baseAddress, self.session != nil {
            self.send(start, count: bytes.count)
        }
    }

    override func trailersReceived(_ lines: [UInt8]) {
        self.server.told.append("\(self.id): \(lines.text)")
    }

    override func endReceived() {
        self.server.told.append("\(self.id): \(self.body.count) bytes")
        self.end()
    }
}
