/// How a request's body is delimited (RFC 9112, section 6.3).
package enum RequestFraming: Equatable, Sendable {
    /// No body.
    case none
    /// This many bytes, up to `Int64.max`; never 0 bytes: that is `none`.
    case length(UInt64)
    case chunked
}

/// The four forms of a request target (RFC 9112, section 3.2).
package enum TargetForm: UInt8, Sendable {
    case origin, absolute, authority, asterisk
}

/// The parsed head of a request, reusable from one request to the next.
///
/// Call `parse` with the bytes from the first one of the request on, again with more of them for as
/// long as it answers `needMore`, then read the properties; ranges are offsets into those bytes.
/// `reset` makes it ready for the next request and keeps its memory. Confined to one thread.
package final class RequestHead {
    /// Longest method that is read; the longest registered one has 16 bytes.
    package static let maxMethodBytes = 32

    package private(set) var method = HTTPMethod.other
    package private(set) var methodRange = ByteRange(start: 0, count: 0)
    package private(set) var targetRange = ByteRange(start: 0, count: 0)
    package private(set) var targetForm = TargetForm.origin
    /// The path, starting with `/`. Empty for `CONNECT`, for `*`, and for an absolute target
    /// without a path, which stands for `/` (for `*` with OPTIONS, RFC 9112, section 3.2.4).
    package private(set) var pathRange = ByteRange(start: 0, count: 0)
    /// What follows the first `?` of the target, nil without one.
    package private(set) var queryRange: ByteRange?
    /// The host and port the request is for: from an absolute or authority target, else from `Host`
    /// (RFC 9112, section 3.2.2). Nil only for HTTP/1.0 without either.
    package private(set) var authorityRange: ByteRange?
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    package private(set) var minorVersion: UInt8 = 1
    package private(set) var framing = RequestFraming.none
    /// Whether the client will send another request on this connection (RFC 9112, section 9.3).
    package private(set) var keepsAlive = false
    /// The number in `Content-Length`, also 0, nil without one.
    package var contentLength: UInt64? { self.section.contentLength }
    /// Whether the client waits for `100 Continue` before it sends the body.
    package private(set) var expectsContinue = false
    /// The protocols the client would switch to: the value of `Upgrade`, if `Connection` says so
    /// too.
    package private(set) var upgrade: ByteRange?
    /// The size of the head once it is complete, the line ends included.
    package private(set) var byteCount = 0

    private var state = State.start
    private var position = 0
    private var lineStart = 0
    private var hasHost = false
    private var section = FieldSection()
    private var failure: RequestError?
    private var lineMemory = FirstLineMemory<Line>()

    /// What a request line says.
    private struct Line {
        var method: HTTPMethod
        var methodRange: ByteRange
        var targetRange: ByteRange
        var targetForm: TargetForm
        var pathRange: ByteRange
        var queryRange: ByteRange?
        var authorityRange: ByteRange?
        var minorVersion: UInt8
    }

    enum State {
        case start, leadingLineFeed, method, target, version, versionEnd, fields, complete, failed
    }

    package init() {}

    /// All field lines in the order they came.
    package var fields: [Field] { self.section.fields }

    /// The first field of that name.
    package func first(_ name: FieldName) -> Field? {
        self.contains(name) ? FieldSection.first(name, of: self.section.fields) : nil
    }

    /// Whether there is a field of that name, in constant time.
    package func contains(_ name: FieldName) -> Bool { self.section.present.contains(name) }

    /// Makes ready for the next request.
    package func reset() {
        self.state = .start
        self.position = 0
        self.lineStart = 0
        self.hasHost = false
        self.failure = nil
        self.pathRange = ByteRange(start: 0, count: 0)
        self.queryRange = nil
        self.authorityRange = nil
        self.framing = .none
        self.keepsAlive = false
        self.expectsContinue = false
        self.upgrade = nil
        self.byteCount = 0
        self.section.reset()
    }

    /// Reads as far as it can. `bytes` starts with the first byte of the request (or with the empty
    /// line before it that RFC 9112, section 2.2, asks to ignore) at every call until `reset`.
    package func parse(_ bytes: RawSpan, limits: HeadLimits) -> ParseStep<RequestError> {
        precondition(bytes.byteCount >= self.position, "bytes that were parsed are gone")
        if let failure = self.failure { return .invalid(failure) }
        if self.state == .complete { return .complete(byteCount: self.byteCount) }
        let end = min(bytes.byteCount, limits.maxHeadBytes)
        if self.state != .fields, !self.recogniseLine(bytes, end: end, limits: limits) {
            switch self.parseRequestLine(bytes, end: end, limits: limits) {
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
                wanted: Self.checked
            )
            switch step {
            case .field(let field):
                if let error = self.check(field, bytes) { return self.fail(error) }
            case .needMore: return self.wait(bytes, limits)
            case .end(let count): return self.finish(bytes, byteCount: count)
            case .invalid(let error): return self.fail(.head(error))
            }
        }
    }

    // MARK: Outcomes

    private func wait(_ bytes: RawSpan, _ limits: HeadLimits) -> ParseStep<RequestError> {
        bytes.byteCount < limits.maxHeadBytes ? .needMore : self.fail(.head(.headTooLarge))
    }

    private func fail(_ error: RequestError) -> ParseStep<RequestError> {
        self.state = .failed
        self.failure = error
        return .invalid(error)
    }

    private func finish(_ bytes: RawSpan, byteCount: Int) -> ParseStep<RequestError> {
        if self.minorVersion == 1, !self.hasHost { return self.fail(.missingHost) }
        if self.section.isChunked {
            self.framing = .chunked
        } else if let length = self.section.contentLength, length > 0 {
            self.framing = .length(length)
        }
        let options = self.section.options
        self.keepsAlive = !options.close && (self.minorVersion == 1 || options.keepAlive)
        self.expectsContinue = self.expectsContinue && self.framing != .none
        // RFC 9110, section 7.8: Upgrade in an HTTP/1.0 request is ignored.
        if options.upgrade, self.minorVersion == 1 { self.upgrade = self.section.upgrade }
        self.byteCount = byteCount
        self.position = byteCount
        self.state = .complete
        return .complete(byteCount: byteCount)
    }

    // MARK: Request line

    private enum Scan {
        case proceed
        case needMore
        case invalid(RequestError)
    }

    /// Takes the request line of the last head, if it is here again.
    @inline(__always)
    private func recogniseLine(_ bytes: RawSpan, end: Int, limits: HeadLimits) -> Bool {
        guard self.state == .start, let (line, count) = self.lineMemory.recognise(bytes, end: end),
            Int(line.targetRange.count) <= limits.maxTargetBytes
        else { return false }
        self.method = line.method
        self.methodRange = line.methodRange
        self.targetRange = line.targetRange
        self.targetForm = line.targetForm
        self.pathRange = line.pathRange
        self.queryRange = line.queryRange
        self.authorityRange = line.authorityRange
        self.minorVersion = line.minorVersion
        self.beginFields(at: count)
        return true
    }

    /// Keeps the request line that ends before `end`, unless an empty line is before it.
    private func keepLine(_ bytes: RawSpan, end: Int) {
        guard self.methodRange.start == 0 else { return }
        let line = Line(
            method: self.method,
            methodRange: self.methodRange,
            targetRange: self.targetRange,
            targetForm: self.targetForm,
            pathRange: self.pathRange,
            queryRange: self.queryRange,
            authorityRange: self.authorityRange,
            minorVersion: self.minorVersion
        )
        self.lineMemory.keep(line, bytes, count: end)
    }

    @inline(__always)
    private func beginFields(at position: Int) {
        self.section.begin(at: position)
        self.state = .fields
    }

    private func parseRequestLine(_ bytes: RawSpan, end: Int, limits: HeadLimits) -> Scan {
        var scan = Scan.proceed
        while case .proceed = scan {
            switch self.state {
            case .start: scan = self.readStart(bytes, end: end)
            case .leadingLineFeed: scan = self.readLeadingLineFeed(bytes, end: end)
            case .method: scan = self.readMethod(bytes, end: end)
            case .target: scan = self.readTarget(bytes, end: end, limits: limits)
            case .version: scan = self.readVersion(bytes, end: end)
            case .versionEnd: scan = self.readVersionEnd(bytes, end: end)
            case .fields, .complete, .failed: return .proceed
            }
        }
        return scan
    }

    /// RFC 9112, section 2.2: one empty line before the request line is ignored.
    private func readStart(_ bytes: RawSpan, end: Int) -> Scan {
        guard end > 0 else { return .needMore }
        if bytes.byte(at: 0) == ASCII.carriageReturn {
            self.position = 1
            self.state = .leadingLineFeed
        } else {
            self.state = .method
        }
        return .proceed
    }

    private func readLeadingLineFeed(_ bytes: RawSpan, end: Int) -> Scan {
        guard self.position < end else { return .needMore }
        guard bytes.byte(at: self.position) == ASCII.lineFeed else {
            return .invalid(.head(.bareCarriageReturn))
        }
        self.position = 2
        self.lineStart = 2
        self.state = .method
        return .proceed
    }

    private func readMethod(_ bytes: RawSpan, end: Int) -> Scan {
        var index = self.position
        while index < end {
            let byte = bytes.byte(at: index)
            if !ASCII.isToken(byte) {
                guard byte == ASCII.space, index > self.lineStart else {
                    return .invalid(byte == ASCII.lineFeed ? .head(.bareLineFeed) : .invalidMethod)
                }
                self.methodRange = ByteRange(self.lineStart, index)
                self.method = HTTPMethod(bytes, self.methodRange)
                self.position = index &+ 1
                self.state = .target
                return .proceed
            }
            index &+= 1
            if index &- self.lineStart > Self.maxMethodBytes { return .invalid(.methodTooLong) }
        }
        self.position = index
        return .needMore
    }

    private func readTarget(_ bytes: RawSpan, end: Int, limits: HeadLimits) -> Scan {
        let start = Int(self.methodRange.end) &+ 1
        let last = start &+ limits.maxTargetBytes
        let index = bytes.firstNonTarget(from: self.position, to: min(end, last &+ 1))
        // The byte behind the longest target must be the space; it is in `end` only if sent
        // already.
        guard index <= last else { return .invalid(.targetTooLong) }
        guard index < end else {
            self.position = index
            return .needMore
        }
        guard bytes.byte(at: index) == ASCII.space else {
            return .invalid(Self.targetError(bytes.byte(at: index)))
        }
        self.targetRange = ByteRange(start, index)
        guard let target = RequestTarget(bytes, self.targetRange, method: self.method) else {
            return .invalid(.invalidTarget)
        }
        self.targetForm = target.form
        self.pathRange = target.path
        self.queryRange = target.query
        self.authorityRange = target.authority
        self.position = index &+ 1
        self.lineStart = index &+ 1
        self.state = .version
        return .proceed
    }

    private static func targetError(_ byte: UInt8) -> RequestError {
        switch byte {
        case ASCII.carriageReturn: .invalidRequestLine  // No version: HTTP/0.9.
        case ASCII.lineFeed: .head(.bareLineFeed)
        default: .invalidTarget
        }
    }

    private func readVersion(_ bytes: RawSpan, end: Int) -> Scan {
        switch VersionReader(lineStart: self.lineStart).read(bytes, from: self.position, to: end) {
        case .needMore:
            self.position = end
            return .needMore
        case .invalid:
            return .invalid(.invalidVersion)
        case .version(major: 1, minor: let minor) where minor <= 1:
            // The target was let pass for the sake of HTTP/2's preface.
            if self.targetForm == .asterisk, self.method != .options {
                return .invalid(.invalidTarget)
            }
            self.minorVersion = minor
        case .version(major: 2, minor: 0) where bytes.equals("PRI", self.methodRange):
            return .invalid(
                bytes.equals("*", self.targetRange) ? .http2Preface : .unsupportedVersion
            )
        case .version:
            return .invalid(.unsupportedVersion)
        }
        self.position = self.lineStart &+ VersionReader.byteCount
        self.state = .versionEnd
        return .proceed
    }

    private func readVersionEnd(_ bytes: RawSpan, end: Int) -> Scan {
        let start = self.lineStart &+ VersionReader.byteCount
        guard self.position < end else { return .needMore }
        let byte = bytes.byte(at: self.position)
        if self.position == start {
            guard byte == ASCII.carriageReturn else {
                return .invalid(byte == ASCII.lineFeed ? .head(.bareLineFeed) : .invalidVersion)
            }
            self.position &+= 1
            return .proceed
        }
        guard byte == ASCII.lineFeed else { return .invalid(.head(.bareCarriageReturn)) }
        self.keepLine(bytes, end: self.position &+ 1)
        self.beginFields(at: self.position &+ 1)
        return .proceed
    }

    // MARK: Fields of requests

    /// The fields that `check` knows.
    private static var checked: FieldNameSet {
        var set = FieldNameSet()
        set.bits = FieldNameSet.bit(.host) | FieldNameSet.bit(.expect)
        return set
    }

    /// What a field means for a request alone.
    @inline(__always)
    private func check(_ field: Field, _ bytes: RawSpan) -> RequestError? {
        switch field.name {
        case .host: self.checkHost(field, bytes)
        case .expect: self.checkExpect(field, bytes)
        default: nil  // Means nothing to the parser.
        }
    }

    /// RFC 9112, section 3.2: exactly one valid Host, also beside an absolute target, which wins.
    private func checkHost(_ field: Field, _ bytes: RawSpan) -> RequestError? {
        if self.hasHost { return .duplicateHost }
        self.hasHost = true
        guard
            self.section.isRecognised
                || Authority.isValid(bytes, field.valueRange, needsPort: false)
        else { return .invalidHost }
        if self.authorityRange == nil { self.authorityRange = field.valueRange }
        return nil
    }

    /// RFC 9110, section 10.1.1: an HTTP/1.0 client cannot expect anything.
    private func checkExpect(_ field: Field, _ bytes: RawSpan) -> RequestError? {
        if self.minorVersion == 0 { return nil }
        guard bytes.equalsIgnoringCase("100-continue", field.valueRange) else {
            return .unknownExpectation
        }
        self.expectsContinue = true
        return nil
    }
}
