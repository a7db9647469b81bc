import Core

/// Turns the fields of an HTTP/2 message into an HTTP/1.1 head, as strictly as those are read.
///
/// This is where a request could be smuggled: what is written here is read again as HTTP/1, by our
/// own parser and then by upstreams. So every byte is checked before it is written: names are
/// tokens in lower case, values hold no control byte but HTAB, the first line is made of parts that
/// hold no space, framing is written anew and the fields for one connection are refused (RFC 9113,
/// sections 8.2 and 8.3). Where HTTP/2 leaves a choice, the stricter one is taken: there is one
/// authority, `Host` may only repeat it, and there is one `Content-Length`.
///
/// Call `begin`, then `add` for each field, then `finish`. The first fault sticks: what comes
/// behind it is not looked at, and `finish` tells it. Reusable from one block to the next; confined
/// to one thread. What it keeps is bounded by the limits.
///
/// Public only because it is handed to methods that other modules override.
public final class FieldBlock {
    package enum Kind: Equatable, Sendable {
        case request
        /// The answer to a request; `isToHead`: its method was HEAD.
        case response(isToHead: Bool)
        case trailers
    }

    /// RFC 9113, section 6.5.2: what a field counts beside its bytes.
    private static let fieldOverheadBytes = 32

    /// After `finish`: the HTTP/1.1 head, empty line included. Of trailers: their lines, as
    /// `BodyDecoder.trailers` has them.
    package let head = ByteBuffer(capacity: 1_024)
    package private(set) var kind = Kind.request
    /// The number in `content-length`, also 0, nil without one.
    package private(set) var contentLength: UInt64?
    /// Of a response.
    package private(set) var status: UInt16 = 0
    /// A CONNECT that asks for a WebSocket (RFC 8441). In the HTTP/1 head it is a GET that would
    /// switch protocols.
    package private(set) var isWebSocket = false
    /// There is a `:protocol`.
    package var namesProtocol: Bool { self.webProtocol != nil }

    /// The values of pseudo fields, one behind the other.
    private let pseudo = ByteBuffer(capacity: 256)
    private let lines = ByteBuffer(capacity: 1_024)
    /// RFC 9113, section 8.2.3: cookies may come in crumbs, and HTTP/1 wants them in one line.
    private let cookies = ByteBuffer(capacity: 64)
    private var limits = HeadLimits()
    private var method: ByteRange?
    private var scheme: ByteRange?
    private var path: ByteRange?
    private var authority: ByteRange?
    private var webProtocol: ByteRange?
    private var hasStatus = false
    private var hasHost = false
    private var host = ByteRange(start: 0, count: 0)
    private var hasFields = false
    private var size = 0
    private var count = 0
    private var failure: FieldBlockError?

    package init() {}

    /// The first fault that was found.
    package var error: FieldBlockError? { self.failure }

    /// Makes ready for the next block.
    package func begin(_ kind: Kind, limits: HeadLimits) {
        self.kind = kind
        self.limits = limits
        self.head.removeAll()
        self.pseudo.removeAll()
        self.lines.removeAll()
        self.cookies.removeAll()
        self.contentLength = nil
        self.status = 0
        self.isWebSocket = false
        self.method = nil
        self.scheme = nil
        self.path = nil
        self.authority = nil
        self.webProtocol = nil
        self.hasStatus = false
        self.hasHost = false
        self.hasFields = false
        self.size = 0
        self.count = 0
        self.failure = nil
    }

    /// Notes a fault that somebody else has found.
    package func fail(_ error: FieldBlockError) {
        if self.failure == nil { self.failure = error }
    }

    // MARK: Fields

    /// Takes the next field.
    package func add(name: RawSpan, value: RawSpan) {
        if self.failure != nil { return }
        self.count += 1
        self.size += name.byteCount + value.byteCount + Self.fieldOverheadBytes
        if self.size > self.limits.maxHeadBytes { return self.fail(.tooLarge) }
        let pseudoFieldsMax = self.kind == .trailers ? 0 : Self.pseudoFieldsMax
        if self.count > self.limits.maxFields + pseudoFieldsMax {
            return self.fail(.tooManyFields)
        }
        guard name.byteCount > 0 else { return self.fail(.emptyName) }
        guard Self.isClean(value) else { return self.fail(.invalidValue) }
        if name.byte(at: 0) == ASCII.colon {
            self.addPseudo(name, value)
        } else {
            self.addField(name, value)
        }
    }

    /// Those of a request; they do not count as fields.
    private static let pseudoFieldsMax = 5

    /// No control byte but HTAB, and no whitespace at the ends (RFC 9113, section 8.2.1).
    private static func isClean(_ value: RawSpan) -> Bool {
        let count = value.byteCount
        if count == 0 { return true }
        return HeadWriter.isValidValue(value) && !ASCII.isWhitespace(value.byte(at: 0))
            && !ASCII.isWhitespace(value.byte(at: count &- 1))
    }

    private static func isLowerCaseToken(_ name: RawSpan) -> Bool {
        for index in 0..<name.byteCount {
            let byte = name.byte(at: index)
            if !ASCII.isToken(byte) || byte &- 0x41 < 26 { return false }
        }
        return true
    }

    private func addPseudo(_ name: RawSpan, _ value: RawSpan) {
        if self.kind == .trailers { return self.fail(.pseudoFieldInTrailers) }
        if self.hasFields { return self.fail(.latePseudoField) }
        if case .response = self.kind {
            guard name.equals(":status") else { return self.fail(.unknownPseudoField) }
            return self.addStatus(value)
        }
        if name.equals(":method") {
            self.keep(value, in: &self.method)
        } else if name.equals(":scheme") {
            self.keep(value, in: &self.scheme)
        } else if name.equals(":path") {
            self.keep(value, in: &self.path)
        } else if name.equals(":authority") {
            self.keep(value, in: &self.authority)
        } else if name.equals(":protocol") {
            self.keep(value, in: &self.webProtocol)
        } else {
            self.fail(.unknownPseudoField)
        }
    }

    private func keep(_ value: RawSpan, in range: inout ByteRange?) {
        if range != nil { return self.fail(.duplicatePseudoField) }
        range = self.keep(value)
    }

    private func keep(_ value: RawSpan) -> ByteRange {
        let start = self.pseudo.count
        self.pseudo.append(value)
        return ByteRange(start, self.pseudo.count)
    }

    private func addStatus(_ value: RawSpan) {
        if self.hasStatus { return self.fail(.duplicatePseudoField) }
        self.hasStatus = true
        guard value.byteCount == 3, let status = value.decimal(ByteRange(0, 3)),
            (100...599).contains(status)
        else { return self.fail(.invalidStatus) }
        if status == 101 { return self.fail(.switchingProtocols) }
        self.status = UInt16(status)
    }

    private func addField(_ name: RawSpan, _ value: RawSpan) {
        self.hasFields = true
        guard Self.isLowerCaseToken(name) else { return self.fail(.invalidName) }
        let known = FieldName(name, ByteRange(0, name.byteCount))
        switch known {
        case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .http2Settings:
            return self.fail(.connectionSpecificField)
        case .te:
            guard value.equalsIgnoringCase("trailers", ByteRange(0, value.byteCount)) else {
                return self.fail(.invalidTE)
            }
            return
        default:
            break
        }
        if self.kind == .trailers {
            // As with HTTP/1: what frames, routes or authorises is left out, not refused.
            let range = ByteRange(0, name.byteCount)
            if TrailerSection.isForbidden(name, range) { return }
            return self.write(name, value)
        }
        switch known {
        case .host where self.kind == .request:
            if self.hasHost { return self.fail(.duplicateHost) }
            self.hasHost = true
            self.host = self.keep(value)
        case .contentLength: self.addContentLength(value)
        case .cookie:
            if !self.cookies.isEmpty { self.cookies.append("; ") }
            self.cookies.append(value)
        case .other where self.webProtocol != nil && name.equals("sec-websocket-key"):
            return  // RFC 8441, section 5: it has no meaning here, and ours takes its place.
        default: self.write(name, value)
        }
    }

    private func write(_ name: RawSpan, _ value: RawSpan) {
        self.lines.append(name)
        self.lines.append(": ")
        self.lines.append(value)
        self.lines.append("\r\n")
    }

    private func addContentLength(_ value: RawSpan) {
        if self.contentLength != nil { return self.fail(.duplicateContentLength) }
        guard let length = value.decimal(ByteRange(0, value.byteCount)) else {
            return self.fail(.invalidContentLength)
        }
        self.contentLength = length
    }

    // MARK: The end

    /// Writes the head. Nil where all is well.
    ///
    /// - Parameters:
    ///   - endsStream: nothing comes behind the block.
    ///   - webSocketKey: what a WebSocket's server is to sign, for an upgrade in place of an
    ///     extended CONNECT; nil where those were not offered. 24 bytes in Base64.
    package func finish(endsStream: Bool, webSocketKey: WebSocketKey? = nil)
        -> FieldBlockError?
    {
        if let failure = self.failure { return failure }
        switch self.kind {
        case .request: self.finishRequest(endsStream: endsStream, webSocketKey)
        case .response(let isToHead):
            self.finishResponse(endsStream: endsStream, isToHead: isToHead)
        case .trailers:
            if !endsStream { self.fail(.trailersWithoutEnd) }
            self.lines.copy(to: self.head)
        }
        if self.failure != nil { self.head.removeAll() }
        return self.failure
    }

    private func finishRequest(endsStream: Bool, _ key: WebSocketKey?) {
        guard let method = self.method else { return self.fail(.missingPseudoField) }
        let memory = self.pseudo
        let pseudo = memory.readable
        guard pseudo.isToken(method), Int(method.count) <= RequestHead.maxMethodBytes else {
            return self.fail(.invalidMethod)
        }
        let isConnect = pseudo.equals("CONNECT", method)
        if isConnect, self.webProtocol == nil { return self.finishConnect() }
        guard let scheme = self.scheme, let path = self.path else {
            return self.fail(.missingPseudoField)
        }
        guard
            pseudo.equalsIgnoringCase("http", scheme)
                || pseudo.equalsIgnoringCase("https", scheme)
        else { return self.fail(.invalidScheme) }
        guard self.isPath(path, method) else { return self.fail(.invalidPath) }
        guard let authority = self.checkedAuthority() else { return }
        if self.webProtocol != nil {
            guard self.checkWebSocket(isConnect: isConnect, key, endsStream: endsStream) else {
                return
            }
            self.head.append("GET ")
        } else {
            self.head.append(pseudo.slice(method))
            self.head.append(byte: ASCII.space)
        }
        self.head.append(pseudo.slice(path))
        self.head.append(" HTTP/1.1\r\nhost: ")
        self.head.append(pseudo.slice(authority))
        self.head.append("\r\n")
        self.writeFields()
        if self.isWebSocket, let key {
            self.head.append("connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ")
            self.head.append(key.bytes)
            self.head.append("\r\n\r\n")
        } else {
            self.writeFraming(endsStream: endsStream)
        }
    }

    /// The four forms of a target are two here: a path, and `*` for OPTIONS.
    private func isPath(_ range: ByteRange, _ method: ByteRange) -> Bool {
        let memory = self.pseudo
        let pseudo = memory.readable
        guard !range.isEmpty,
            pseudo.firstNonTarget(from: range.lower, to: range.upper) == range.upper
        else { return false }
        if pseudo.byte(at: range.lower) == UInt8(ascii: "/") { return true }
        return pseudo.equals("*", range) && pseudo.equals("OPTIONS", method)
    }

    /// RFC 9113, section 8.3.1: the authority, or where there is none the host.
    private func checkedAuthority() -> ByteRange? {
        let memory = self.pseudo
        let pseudo = memory.readable
        if let authority = self.authority {
            guard Authority.isValid(pseudo, authority, needsPort: false) else {
                self.fail(.invalidAuthority)
                return nil
            }
            if self.hasHost, !pseudo.areEqualIgnoringCase(authority, self.host) {
                self.fail(.hostDiffersFromAuthority)
                return nil
            }
            return authority
        }
        guard self.hasHost else {
            self.fail(.missingAuthority)
            return nil
        }
        guard Authority.isValid(pseudo, self.host, needsPort: false) else {
            self.fail(.invalidAuthority)
            return nil
        }
        return self.host
    }

    /// RFC 8441, section 4.
    private func checkWebSocket(
        isConnect: Bool,
        _ key: WebSocketKey?,
        endsStream: Bool
    ) -> Bool {
        guard let webProtocol = self.webProtocol, key != nil else {
            self.fail(.unknownPseudoField)
            return false
        }
        guard isConnect, self.contentLength == nil, !endsStream else {
            self.fail(.invalidConnect)
            return false
        }
        let memory = self.pseudo
        guard memory.readable.equalsIgnoringCase("websocket", webProtocol) else {
            self.fail(.invalidProtocol)
            return false
        }
        self.isWebSocket = true
        return true
    }

    /// A tunnel to anywhere: refused later on as any CONNECT, with a status of its own.
    private func finishConnect() {
        let memory = self.pseudo
        let pseudo = memory.readable
        if self.scheme != nil || self.path != nil { return self.fail(.invalidConnect) }
        guard let authority = self.authority,
            Authority.isValid(pseudo, authority, needsPort: true)
        else { return self.fail(.invalidAuthority) }
        guard let method = self.method else { return }
        self.head.append(pseudo.slice(method))
        self.head.append(byte: ASCII.space)
        self.head.append(pseudo.slice(authority))
        self.head.append(" HTTP/1.1\r\nhost: ")
        self.head.append(pseudo.slice(authority))
        self.head.append("\r\n\r\n")
    }

    private func finishResponse(endsStream: Bool, isToHead: Bool) {
        guard self.hasStatus else { return self.fail(.missingPseudoField) }
        HeadWriter.statusLine(self.status, into: self.head)
        self.writeFields()
        let hasNoBody =
            isToHead || self.status < 200 || self.status == 204 || self.status == 304
        if hasNoBody {
            if let length = self.contentLength { HeadWriter.contentLength(length, into: self.head) }
            HeadWriter.end(into: self.head)
        } else if endsStream, self.contentLength == nil {
            self.head.append("content-length: 0\r\n\r\n")
        } else {
            self.writeFraming(endsStream: endsStream)
        }
    }

    private func writeFields() {
        if !self.cookies.isEmpty {
            self.head.append("cookie: ")
            self.cookies.copy(to: self.head)
            self.head.append("\r\n")
        }
        self.lines.copy(to: self.head)
    }

    private func writeFraming(endsStream: Bool) {
        if let length = self.contentLength {
            if endsStream, length > 0 { return self.fail(.lengthWithoutBody) }
            self.head.append("content-length: ")
            self.head.append(decimal: length)
            self.head.append("\r\n\r\n")
        } else {
            self.head.append(endsStream ? "\r\n" : "transfer-encoding: chunked\r\n\r\n")
        }
    }
}

/// The key of a WebSocket handshake: 16 random bytes in Base64 (RFC 6455, section 4.1).
package struct WebSocketKey: Sendable {
    package let bytes: [UInt8]

    /// From 16 random bytes.
    package init(high: UInt64, low: UInt64) {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
        )
        var octets: [UInt8] = []
        for word in [high, low] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                octets.append(UInt8(truncatingIfNeeded: word &>> shift))
            }
        }
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: 15, by: 3) {
            let group =
                UInt32(octets[start]) &<< 16 | UInt32(octets[start + 1]) &<< 8
                | UInt32(octets[start + 2])
            for shift in [18, 12, 6, 0] as [UInt32] {
                bytes.append(alphabet[Int((group &>> shift) & 63)])
            }
        }
        bytes.append(alphabet[Int(octets[15] &>> 2)])
        bytes.append(alphabet[Int((octets[15] & 3) &<< 4)])
        bytes.append(UInt8(ascii: "="))
        bytes.append(UInt8(ascii: "="))
        self.bytes = bytes
    }
}
