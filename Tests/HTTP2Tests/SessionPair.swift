import Core
import HTTP
import HTTP2

/// A stream that notes what it is told.
final class NotingStream: HTTP2Stream {
    var heads: [String] = []
    var statuses: [UInt16] = []
    var body: [UInt8] = []
    var trailers: String?
    var hasEnded = false
    var refusal: FieldBlockError?
    var closedWith: HTTP2ErrorCode?
    var drains = 0
    var keepsRoom = false
    var isWebSocket = false
    var onHead: ((NotingStream) -> Void)?
    var onRefusal: ((NotingStream) -> Void)?

    override func headReceived(_ block: FieldBlock, endsStream: Bool) {
        let head = block.head
        self.heads.append(head.readable.withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
        self.statuses.append(block.status)
        self.isWebSocket = block.isWebSocket
        self.onHead?(self)
    }

    override func blockRefused(_ error: FieldBlockError) {
        self.refusal = error
        self.onRefusal?(self)
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
        self.body.append(contentsOf: bytes)
        if !self.keepsRoom { self.consumed(bytes.count) }
    }

    override func trailersReceived(_ lines: [UInt8]) {
        self.trailers = String(decoding: lines, as: UTF8.self)
    }

    override func endReceived() { self.hasEnded = true }
    override func outputDrained() { self.drains += 1 }
    override func closed(_ code: HTTP2ErrorCode) { self.closedWith = code }
}

/// One side of a connection: a session and what its owner was told.
final class Side: HTTP2SessionOwner {
    let session: HTTP2Session
    var streams: [NotingStream] = []
    var refusesStreams = false
    var goAways: [(lastStream: Int32, code: HTTP2ErrorCode)] = []
    var pings = 0
    var settings = 0
    var overdone: [FrameAbuse] = []
    var prepare: ((NotingStream) -> Void)?
    /// Most bytes that were composed in one call.
    var largestWrite = 0
    let now: () -> Instant

    init(
        _ role: HTTP2Session.Role,
        _ settings: HTTP2Settings = HTTP2Settings(),
        now: @escaping () -> Instant = { Instant(nanoseconds: 1) }
    ) {
        self.now = now
        self.session = HTTP2Session(role, settings: settings)
        self.session.owner = self
    }

    deinit { self.session.close() }

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? {
        if self.refusesStreams { return nil }
        let stream = NotingStream()
        self.prepare?(stream)
        self.streams.append(stream)
        return stream
    }

    func settingsReceived(_ session: HTTP2Session) { self.settings += 1 }
    func pingAnswered(_ session: HTTP2Session) { self.pings += 1 }
    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey { WebSocketKey(high: 1, low: 2) }

    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode) {
        self.goAways.append((lastStream, code))
    }

    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) { self.overdone.append(what) }

    /// All that the session has to say now.
    func output(limit: Int = 64 * 1024) -> [UInt8] {
        var bytes: [UInt8] = []
        let sink = ByteBuffer(capacity: 1_024)
        while self.session.wantsOutput {
            self.session.write(into: sink, limit: limit, now: self.now())
            if sink.isEmpty { break }
            self.largestWrite = max(self.largestWrite, sink.count)
            sink.readable.withUnsafeBytes { bytes.append(contentsOf: $0) }
            sink.removeAll()
        }
        return bytes
    }

    @discardableResult
    func take(_ bytes: [UInt8], pieces: Int = .max) -> HTTP2Session.Received {
        var result = HTTP2Session.Received.proceed
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, start + max(1, min(pieces, bytes.count)))
            // Memory of its own, so that a look beyond the piece is found by sanitizers.
            let piece = Array(bytes[start..<end])
            result = piece.withUnsafeBytes { self.session.receive($0, now: self.now()) }
            start = end
        }
        return result
    }
}

/// A client and a server that hear each other at once.
final class SessionPair {
    let client: Side
    let server: Side
    let pieces: Int

    init(
        client: HTTP2Settings = HTTP2Settings(),
        server: HTTP2Settings = HTTP2Settings(),
        pieces: Int = .max
    ) {
        self.client = Side(.client, client)
        self.server = Side(.server, server)
        self.pieces = pieces
        self.exchange()
    }

    /// Carries bytes until both are silent.
    func exchange() {
        while true {
            let fromClient = self.client.output()
            self.server.take(fromClient, pieces: self.pieces)
            let fromServer = self.server.output()
            self.client.take(fromServer, pieces: self.pieces)
            if fromClient.isEmpty, fromServer.isEmpty { return }
        }
    }

    func request(
        _ fields: [(StaticString, StaticString)],
        isHead: Bool = false,
        endsStream: Bool = true
    ) -> NotingStream {
        let stream = NotingStream()
        let list = OutgoingFields(fields)
        _ = self.client.session.request(stream, list, isHead: isHead, endsStream: endsStream)
        return stream
    }
}

extension OutgoingFields {
    convenience init(_ fields: [(StaticString, StaticString)]) {
        self.init()
        for (name, value) in fields { self.append(name, value) }
    }
}

/// Frames by hand, for what no session of ours would send.
enum Frame {
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    static func bytes(
        type: UInt8,
        flags: UInt8 = 0,
        stream: UInt32 = 0,
        _ payload: [UInt8] = []
    ) -> [UInt8] {
        let count = payload.count
        var bytes: [UInt8] = [
            UInt8(count >> 16 & 0xFF), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF), type, flags,
        ]
        bytes += Frame.word(stream)
        return bytes + payload
    }

    static func word(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(value >> $0 & 0xFF) }
    }

    /// Fields without compression (RFC 7541, section 6.2.3); each shorter than 127 bytes.
    static func block(_ fields: [(String, String)]) -> [UInt8] {
        var block: [UInt8] = []
        for (name, value) in fields {
            block += [0x10, UInt8(name.utf8.count)]
            block += Array(name.utf8)
            block.append(UInt8(value.utf8.count))
            block += Array(value.utf8)
        }
        return block
    }

    static func headers(
        _ stream: UInt32,
        _ fields: [(String, String)],
        ends: Bool = true,
        isComplete: Bool = true
    ) -> [UInt8] {
        Frame.bytes(
            type: 1,
            flags: (ends ? 1 : 0) | (isComplete ? 4 : 0),
            stream: stream,
            Frame.block(fields)
        )
    }

    static let get = [
        (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example"),
    ]
    static let post = [
        (":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.example"),
    ]

    /// Type, flags, stream and payload of each frame in `bytes`.
    static func parse(_ bytes: [UInt8]) -> [(type: UInt8, flags: UInt8, stream: UInt32, [UInt8])] {
        var frames: [(type: UInt8, flags: UInt8, stream: UInt32, [UInt8])] = []
        var start = 0
        while start + 9 <= bytes.count {
            let head = bytes[start..<start + 9].map { UInt32($0) }
            let count = Int(head[0] << 16 | head[1] << 8 | head[2])
            let stream = head[5] << 24 | head[6] << 16 | head[7] << 8 | head[8]
            let payload = Array(bytes[start + 9..<start + 9 + count])
            frames.append((UInt8(head[3]), UInt8(head[4]), stream, payload))
            start += 9 + count
        }
        return frames
    }
}
