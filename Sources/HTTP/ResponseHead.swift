/// How a response's body is delimited (RFC 9112, section 6.3).
package enum ResponseFraming: Equatable, Sendable {
    /// No body, whatever the fields say.
    case none
    /// This many bytes, up to `Int64.max`; may be 0.
    case length(UInt64)
    case chunked
    /// All that comes until the upstream closes.
    case untilClose
    /// The connection is no longer HTTP: 101, or 2xx to CONNECT.
    case tunnel
}

/// The parsed head of a response, reusable like `RequestHead`.
package final class ResponseHead {
    /// 100 to 599.
    package private(set) var status: UInt16 = 0
    /// The reason phrase, perhaps empty.
    package private(set) var reasonRange = ByteRange(start: 0, count: 0)
    /// Where the digits of the status stand.
    var statusStart: Int { Self.statusStart }
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    package private(set) var minorVersion: UInt8 = 1
    /// Whether the upstream keeps the connection for another request. False too where the response
    /// announces a body that its status cannot have, since some servers send it all the same.
    package private(set) var keepsAlive = false
    /// The protocol the upstream switches to, for status 101.
    package private(set) var upgrade: ByteRange?
    /// The size of the head once it is complete, the line ends included.
    package private(set) var byteCount = 0

    private var state = State.version
    private var position = 0
    private var section = FieldSection()
    private var failure: ResponseError?
    private var lineMemory = FirstLineMemory<Line>()

    /// What a status line says.
    private struct Line {
        var status: UInt16
        var reasonRange: ByteRange
        var minorVersion: UInt8
    }

    enum State { case version, versionEnd, status, statusEnd, reason, reasonEnd, fields, complete }

    package init() {}

    /// All field lines in the order they came.
    package var fields: [Field] { self.section.fields }

    /// The first field of that name.
    package func first(_ name: FieldName) -> Field? {
        self.contains(name) ? FieldSection.first(name, of: self.section.fields) : nil
    }

    /// Whether there is a field of that name, in constant time.
    package func contains(_ name: FieldName) -> Bool { self.section.present.contains(name) }

    /// The number in `Content-Length`, nil without one.
    package var contentLength: UInt64? { self.section.contentLength }

    /// 1xx: another response to the same request follows, but for 101, which ends HTTP.
    package var isInformational: Bool { self.status < 200 }

    /// Makes ready for the next response.
    package func reset() {
        self.state = .version
        self.position = 0
        self.status = 0
        self.reasonRange = ByteRange(start: 0, count: 0)
        self.keepsAlive = false
        self.upgrade = nil
        self.byteCount = 0
        self.failure = nil
        self.section.reset()
    }

    /// How the body is delimited, given the request. Conflicts between the fields that decide it
    /// were refused by `parse`.
    package func framing(requestMethod: HTTPMethod) -> ResponseFraming {
        precondition(self.state == .complete, "the head is not complete")
        if self.status == 101 { return .tunnel }
        if requestMethod == .connect, (200..<300).contains(self.status) { return .tunnel }
        if requestMethod == .head || Self.hasNoBody(self.status) { return .none }
        if self.section.isChunked { return .chunked }
        if let length = self.section.contentLength { return .length(length) }
        return .untilClose
    }

    /// Reads as far as it can. `bytes` starts with the first byte of the response at every call
    /// until `reset`.
    package func parse(_ bytes: RawSpan, limits: HeadLimits) -> ParseStep<ResponseError> {
        precondition(bytes.byteCount >= self.position, "bytes that were parsed are gone")
        if let failure = self.failure { return .invalid(failure) }
        if self.state == .complete { return .complete(byteCount: self.byteCount) }
        let end = min(bytes.byteCount, limits.maxHeadBytes)
        if self.state != .fields, !self.recogniseLine(bytes, end: end) {
            switch self.parseStatusLine(bytes, end: end) {
            case .proceed: break
            case .needMore: return self.wait(bytes, limits)
            case .invalid(let error): return self.fail(error)
            }
        }
        while true {
            let step = self.section.next(
                bytes,
                end: end,
                maxFields: limits.maxFields,
                minorVersion: self.minorVersion,
                wanted: FieldNameSet()
            )
            switch step {
            case .field: continue
            case .needMore: return self.wait(bytes, limits)
            case .end(let count): return self.finish(byteCount: count)
            case .invalid(let error): return self.fail(.head(error))
            }
        }
    }

    // MARK: Outcomes

    private func wait(_ bytes: RawSpan, _ limits: HeadLimits) -> ParseStep<ResponseError> {
        bytes.byteCount < limits.maxHeadBytes ? .needMore : self.fail(.head(.headTooLarge))
    }

    private func fail(_ error: ResponseError) -> ParseStep<ResponseError> {
        self.failure = error
        return .invalid(error)
    }

    private func finish(byteCount: Int) -> ParseStep<ResponseError> {
        let options = self.section.options
        self.keepsAlive = !options.close && (self.minorVersion == 1 || options.keepAlive)
        if Self.hasNoBody(self.status), self.status != 304 {
            let announcesBody = self.section.isChunked || (self.section.contentLength ?? 0) > 0
            if announcesBody { self.keepsAlive = false }
        }
        if self.status == 101, options.upgrade { self.upgrade = self.section.upgrade }
        self.byteCount = byteCount
        self.position = byteCount
        self.state = .complete
        return .complete(byteCount: byteCount)
    }

    /// RFC 9112, section 6.3, item 1.
    private static func hasNoBody(_ status: UInt16) -> Bool {
        status < 200 || status == 204 || status == 304
    }

    // MARK: Status line

    private enum Scan {
        case proceed
        case needMore
        case invalid(ResponseError)
    }

    private static let statusStart = VersionReader.byteCount + 1
    private static let statusEnd = VersionReader.byteCount + 4

    /// Takes the status line of the last head, if it is here again.
    @inline(__always)
    private func recogniseLine(_ bytes: RawSpan, end: Int) -> Bool {
        guard self.state == .version, self.position == 0,
            let (line, count) = self.lineMemory.recognise(bytes, end: end)
        else { return false }
        self.status = line.status
        self.reasonRange = line.reasonRange
        self.minorVersion = line.minorVersion
        self.beginFields(at: count)
        return true
    }

    @inline(__always)
    private func beginFields(at position: Int) {
        self.section.begin(at: position)
        self.state = .fields
    }

    private func parseStatusLine(_ bytes: RawSpan, end: Int) -> Scan {
        var scan = Scan.proceed
        while case .proceed = scan {
            switch self.state {
            case .version: scan = self.readVersion(bytes, end: end)
            case .versionEnd: scan = self.readSpace(bytes, end: end)
            case .status: scan = self.readStatus(bytes, end: end)
            case .statusEnd: scan = self.readStatusEnd(bytes, end: end)
            case .reason: scan = self.readReason(bytes, end: end)
            case .reasonEnd: scan = self.readLineFeed(bytes, end: end)
            case .fields, .complete: return .proceed
            }
        }
        return scan
    }

    private func readVersion(_ bytes: RawSpan, end: Int) -> Scan {
        switch VersionReader(lineStart: 0).read(bytes, from: self.position, to: end) {
        case .needMore:
            self.position = end
            return .needMore
        case .invalid:
            return .invalid(.invalidStatusLine)
        case .version(major: 1, minor: let minor) where minor <= 1:
            self.minorVersion = minor
        case .version:
            return .invalid(.invalidVersion)
        }
        self.position = VersionReader.byteCount
        self.state = .versionEnd
        return .proceed
    }

    private func readSpace(_ bytes: RawSpan, end: Int) -> Scan {
        guard self.position < end else { return .needMore }
        guard bytes.byte(at: self.position) == ASCII.space else {
            return .invalid(.invalidStatusLine)
        }
        self.position = Self.statusStart
        self.state = .status
        return .proceed
    }

    private func readStatus(_ bytes: RawSpan, end: Int) -> Scan {
        while self.position < Self.statusEnd {
            guard self.position < end else { return .needMore }
            let byte = bytes.byte(at: self.position)
            let isFirst = self.position == Self.statusStart
            guard ASCII.isDigit(byte), !isFirst || (0x31...0x35).contains(byte) else {
                return .invalid(.invalidStatus)
            }
            self.status = self.status * 10 + UInt16(byte - 0x30)
            self.position &+= 1
        }
        self.state = .statusEnd
        return .proceed
    }

    /// The space behind the status is required, and left out by servers without a reason to give.
    private func readStatusEnd(_ bytes: RawSpan, end: Int) -> Scan {
        guard self.position < end else { return .needMore }
        switch bytes.byte(at: self.position) {
        case ASCII.space:
            self.position &+= 1
            self.reasonRange = ByteRange(self.position, self.position)
            self.state = .reason
        case ASCII.carriageReturn:
            self.reasonRange = ByteRange(self.position, self.position)
            self.position &+= 1
            self.state = .reasonEnd
        case ASCII.lineFeed: return .invalid(.head(.bareLineFeed))
        case let byte: return .invalid(ASCII.isDigit(byte) ? .invalidStatus : .invalidStatusLine)
        }
        return .proceed
    }

    private func readReason(_ bytes: RawSpan, end: Int) -> Scan {
        while true {
            self.position = bytes.firstControl(from: self.position, to: end)
            guard self.position < end else { return .needMore }
            let byte = bytes.byte(at: self.position)
            self.position &+= 1
            switch byte {
            case ASCII.tab: continue
            case ASCII.lineFeed: return .invalid(.head(.bareLineFeed))
            case ASCII.carriageReturn:
                self.reasonRange = ByteRange(Int(self.reasonRange.start), self.position &- 1)
                self.state = .reasonEnd
                return .proceed
            default: return .invalid(.invalidReason)
            }
        }
    }

    private func readLineFeed(_ bytes: RawSpan, end: Int) -> Scan {
        guard self.position < end else { return .needMore }
        guard bytes.byte(at: self.position) == ASCII.lineFeed else {
            return .invalid(.head(.bareCarriageReturn))
        }
        let end = self.position &+ 1
        let line = Line(
            status: self.status,
            reasonRange: self.reasonRange,
            minorVersion: self.minorVersion
        )
        self.lineMemory.keep(line, bytes, count: end)
        self.beginFields(at: end)
        return .proceed
    }
}
