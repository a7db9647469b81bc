import HTTP

/// A request as `RequestStreamReader` read it.
package struct StreamedRequest: Equatable, Sendable {
    package var method: String
    package var target: String
    package var authority: String?
    package var body: String
    package var trailers: String
    package var keepsAlive: Bool

    package init(
        _ method: String,
        _ target: String,
        authority: String? = "h",
        body: String = "",
        trailers: String = "",
        keepsAlive: Bool = true
    ) {
        self.method = method
        self.target = target
        self.authority = authority
        self.body = body
        self.trailers = trailers
        self.keepsAlive = keepsAlive
    }
}

/// How a run of bytes ended, seen as a connection.
package enum StreamEnd: Equatable, Sendable {
    /// Between two messages, or behind one after which the connection closes.
    case clean
    /// Inside a message.
    case incomplete
    case refused(status: UInt16, label: String)
}

/// A server's reading side without the sockets: bytes in, requests out. It keeps guard bytes behind
/// what it has, so that a parser which looks too far sees bytes that change its mind.
package struct RequestStreamReader {
    package static let headLimits = HeadLimits(
        maxHeadBytes: 1024,
        maxFields: 16,
        maxTargetBytes: 128
    )
    package static let bodyLimits = BodyLimits(
        maxBodyBytes: 256,
        maxChunkExtensionBytes: 64,
        maxTrailerBytes: 128,
        maxTrailers: 4
    )

    package private(set) var requests: [StreamedRequest] = []
    package private(set) var refusal: StreamEnd?
    /// Bytes fed when the refusal came.
    package private(set) var refusedAt: Int?
    private let guardBytes: [UInt8]
    private let head = RequestHead()
    private var buffer: [UInt8] = []
    private var decoder: BodyDecoder?
    private var current: StreamedRequest?
    private var body: [UInt8] = []
    private var fed = 0
    private var isClosed = false

    package init(guardBytes: [UInt8] = []) {
        self.guardBytes = guardBytes
    }

    package var end: StreamEnd {
        if let refusal = self.refusal { return refusal }
        return self.buffer.isEmpty && self.decoder == nil ? .clean : .incomplete
    }

    package mutating func feed(_ bytes: some Sequence<UInt8>) {
        let before = self.buffer.count
        self.buffer.append(contentsOf: bytes)
        self.fed += self.buffer.count - before
        while self.refusal == nil, !self.isClosed, self.advance() {}
        if self.isClosed { self.buffer.removeAll() }
    }

    /// One step; false if it needs more.
    private mutating func advance() -> Bool {
        let padded = self.buffer + self.guardBytes
        let input = padded.span.bytes.extracting(0..<self.buffer.count)
        return self.decoder == nil ? self.readHead(input) : self.readBody(input)
    }

    private mutating func readHead(_ input: RawSpan) -> Bool {
        switch self.head.parse(input, limits: Self.headLimits) {
        case .needMore: return false
        case .invalid(let error):
            self.refuse(error.status, error.label)
            return false
        case .complete(let count):
            self.current = StreamedRequest(
                self.text(self.head.methodRange),
                self.text(self.head.targetRange),
                authority: self.head.authorityRange.map { self.text($0) },
                keepsAlive: self.head.keepsAlive
            )
            self.decoder = BodyDecoder(self.head.framing, limits: Self.bodyLimits)
            self.buffer.removeFirst(count)
            return true
        }
    }

    private mutating func readBody(_ input: RawSpan) -> Bool {
        switch self.decoder?.next(input) {
        case .data(let range, let consumed):
            self.body += self.buffer[range]
            self.buffer.removeFirst(consumed)
        case .needMore(let consumed):
            self.buffer.removeFirst(consumed)
            return false
        case .end(let consumed):
            self.buffer.removeFirst(consumed)
            self.finishRequest()
        case .invalid(let error):
            self.refuse(error.status, error.label)
            return false
        case nil: return false
        }
        return true
    }

    private mutating func finishRequest() {
        guard var request = self.current else { return }
        request.body = String(decoding: self.body, as: UTF8.self)
        request.trailers = String(decoding: self.decoder?.trailers ?? [], as: UTF8.self)
        self.requests.append(request)
        self.isClosed = !request.keepsAlive
        self.current = nil
        self.decoder = nil
        self.body = []
        self.head.reset()
    }

    private mutating func refuse(_ status: UInt16, _ label: StaticString) {
        self.refusal = .refused(status: status, label: label.description)
        self.refusedAt = self.fed
    }

    private func text(_ range: ByteRange) -> String {
        String(decoding: self.buffer[range.indices], as: UTF8.self)
    }
}
