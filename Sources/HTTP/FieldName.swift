/// Field names that the gateway looks at; every other name is `other` and stays bytes.
///
/// There are fewer than 64 of them so that a set of names is one word (`FieldNameSet`).
package enum FieldName: UInt8, CaseIterable, Sendable {
    case other
    // Framing, routing and the connection.
    case host, contentLength, transferEncoding, connection, te, trailer, upgrade, expect, keepAlive
    case proxyConnection, proxyAuthenticate, proxyAuthorization, http2Settings
    // Credentials.
    case authorization, apiKey, cookie, setCookie, wwwAuthenticate
    // Content.
    case contentType, contentEncoding, contentRange, accept, acceptEncoding, acceptLanguage
    case etag, lastModified, location, range, vary, origin, referer, userAgent, server, date
    // Control.
    case age, cacheControl, expires, pragma, warning, maxForwards, retryAfter, idempotencyKey
    // Who forwarded what.
    case via, forwarded, xForwardedFor, xForwardedProto, xForwardedHost, xRealIP
    case xRequestID, traceparent, tracestate, serverTiming
    // The gateway's own.
    case xWeirModel, xWeirVariant, xGatewayModelName, xWeirClientSubject
    case endpointLoadMetrics

    /// The name in lower case; empty for `other`.
    package var canonical: StaticString {
        switch self {
        case .other: ""
        case .host: "host"
        case .contentLength: "content-length"
        case .transferEncoding: "transfer-encoding"
        case .connection: "connection"
        case .te: "te"
        case .trailer: "trailer"
        case .upgrade: "upgrade"
        case .expect: "expect"
        case .keepAlive: "keep-alive"
        case .proxyConnection: "proxy-connection"
        case .proxyAuthenticate: "proxy-authenticate"
        case .proxyAuthorization: "proxy-authorization"
        case .http2Settings: "http2-settings"
        case .authorization: "authorization"
        case .apiKey: "x-api-key"
        case .cookie: "cookie"
        case .setCookie: "set-cookie"
        case .wwwAuthenticate: "www-authenticate"
        case .contentType: "content-type"
        case .contentEncoding: "content-encoding"
        case .contentRange: "content-range"
        case .accept: "accept"
        case .acceptEncoding: "accept-encoding"
        case .acceptLanguage: "accept-language"
        case .etag: "etag"
        case .lastModified: "last-modified"
        case .location: "location"
        case .range: "range"
        case .vary: "vary"
        case .origin: "origin"
        case .referer: "referer"
        case .userAgent: "user-agent"
        case .server: "server"
        case .date: "date"
        case .age: "age"
        case .cacheControl: "cache-control"
        case .expires: "expires"
        case .pragma: "pragma"
        case .warning: "warning"
        case .maxForwards: "max-forwards"
        case .retryAfter: "retry-after"
        case .idempotencyKey: "idempotency-key"
        case .via: "via"
        case .forwarded: "forwarded"
        case .xForwardedFor: "x-forwarded-for"
        case .xForwardedProto: "x-forwarded-proto"
        case .xForwardedHost: "x-forwarded-host"
        case .xRealIP: "x-real-ip"
        case .xRequestID: "x-request-id"
        case .traceparent: "traceparent"
        case .tracestate: "tracestate"
        case .serverTiming: "server-timing"
        case .xWeirModel: "x-weir-model"
        case .xWeirVariant: "x-weir-variant"
        case .xGatewayModelName: "x-gateway-model-name"
        case .endpointLoadMetrics: "endpoint-load-metrics"
        case .xWeirClientSubject: "x-weir-client-subject"
        }
    }

    /// The known name that the bytes of `range` spell, in whatever case, or `other`. The bytes are
    /// visible ASCII.
    package init(_ bytes: RawSpan, _ range: ByteRange) {
        let count = Int(range.count)
        guard count >= 2 else {
            self = .other
            return
        }
        let first = bytes.byte(at: range.lower) | 0x20
        let last = bytes.byte(at: range.upper &- 1) | 0x20
        let candidate = Self.candidate(count: count, first: first, last: last)
        let matches =
            candidate != .other
            && (bytes.folds(to: candidate.canonical, range)
                || candidate == .xWeirClientSubject && Self.isSubjectForCGI(bytes, range))
        self = matches ? candidate : .other
    }
}

extension FieldName {
    /// Servers that hand fields on as variables (RFC 3875, section 4.1.18) make no difference
    /// between `-` and `_`: who can write one can forge the other.
    private static func isSubjectForCGI(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var index = range.lower
        return "x-weir-client-subject".utf8.allSatisfy { expected in
            let byte = bytes.byte(at: index)
            index += 1
            return byte | 0x20 == expected || (byte == UInt8(ascii: "_") && expected == 0x2D)
        }
    }

    /// The one known name of that length and those ends. A wrong candidate is harmless, a missing
    /// one is not: a test looks every name up.
    @inline(__always)
    private static func candidate(count: Int, first: UInt8, last: UInt8) -> FieldName {
        if count <= 7 { return self.shortCandidate(count: count, first: first, last: last) }
        if count <= 12 { return self.mediumCandidate(count: count, first: first, last: last) }
        return self.longCandidate(count: count, last: last)
    }

    @inline(__always)
    private static func shortCandidate(count: Int, first: UInt8, last: UInt8) -> FieldName {
        switch (count, first, last) {
        case (2, _, _): .te
        case (3, UInt8(ascii: "a"), _): .age
        case (3, _, _): .via
        case (4, _, UInt8(ascii: "t")): .host
        case (4, _, UInt8(ascii: "e")): .date
        case (4, _, UInt8(ascii: "y")): .vary
        case (4, _, _): .etag
        case (5, _, _): .range
        case (6, UInt8(ascii: "a"), _): .accept
        case (6, UInt8(ascii: "c"), _): .cookie
        case (6, UInt8(ascii: "e"), _): .expect
        case (6, UInt8(ascii: "o"), _): .origin
        case (6, UInt8(ascii: "p"), _): .pragma
        case (6, _, _): .server
        case (7, UInt8(ascii: "e"), _): .expires
        case (7, UInt8(ascii: "r"), _): .referer
        case (7, UInt8(ascii: "t"), _): .trailer
        case (7, UInt8(ascii: "u"), _): .upgrade
        case (7, _, _): .warning
        default: .other
        }
    }

    @inline(__always)
    private static func mediumCandidate(count: Int, first: UInt8, last: UInt8) -> FieldName {
        switch (count, first, last) {
        case (8, _, _): .location
        case (9, UInt8(ascii: "f"), _): .forwarded
        case (9, _, UInt8(ascii: "y")): .apiKey
        case (9, _, _): .xRealIP
        case (10, UInt8(ascii: "c"), _): .connection
        case (10, UInt8(ascii: "k"), _): .keepAlive
        case (10, UInt8(ascii: "s"), _): .setCookie
        case (10, UInt8(ascii: "t"), _): .tracestate
        case (10, _, _): .userAgent
        case (11, UInt8(ascii: "t"), _): .traceparent
        case (11, _, _): .retryAfter
        case (12, _, UInt8(ascii: "e")): .contentType
        case (12, _, UInt8(ascii: "d")): .xRequestID
        case (12, _, UInt8(ascii: "l")): .xWeirModel
        case (12, _, _): .maxForwards
        default: .other
        }
    }

    @inline(__always)
    private static func longCandidate(count: Int, last: UInt8) -> FieldName {
        switch (count, last) {
        case (13, UInt8(ascii: "d")): .lastModified
        case (13, UInt8(ascii: "e")): .contentRange
        case (13, UInt8(ascii: "g")): .serverTiming
        case (13, UInt8(ascii: "l")): .cacheControl
        case (13, _): .authorization
        case (14, UInt8(ascii: "h")): .contentLength
        case (14, UInt8(ascii: "s")): .http2Settings
        case (14, _): .xWeirVariant
        case (15, UInt8(ascii: "e")): .acceptLanguage
        case (15, UInt8(ascii: "g")): .acceptEncoding
        case (15, UInt8(ascii: "r")): .xForwardedFor
        case (15, _): .idempotencyKey
        case (16, UInt8(ascii: "e")): .wwwAuthenticate
        case (16, UInt8(ascii: "g")): .contentEncoding
        case (16, UInt8(ascii: "n")): .proxyConnection
        case (16, _): .xForwardedHost
        case (17, UInt8(ascii: "g")): .transferEncoding
        case (17, _): .xForwardedProto
        case (18, _): .proxyAuthenticate
        case (19, _): .proxyAuthorization
        case (20, _): .xGatewayModelName
        case (21, UInt8(ascii: "s")): .endpointLoadMetrics
        case (21, UInt8(ascii: "t")): .xWeirClientSubject
        default: .other
        }
    }
}

/// A set of known field names in one word.
package struct FieldNameSet: Equatable, Sendable {
    var bits: UInt64 = 0

    package init() {}

    package init(_ names: FieldName...) {
        for name in names { self.insert(name) }
    }

    @inline(__always)
    package func contains(_ name: FieldName) -> Bool {
        (self.bits &>> UInt64(name.rawValue)) & 1 == 1
    }

    @inline(__always)
    package mutating func insert(_ name: FieldName) {
        self.bits |= 1 &<< UInt64(name.rawValue)
    }

    package func union(_ other: FieldNameSet) -> FieldNameSet {
        var result = self
        result.bits |= other.bits
        return result
    }

    @inline(__always)
    static func bit(_ name: FieldName) -> UInt64 { 1 &<< UInt64(name.rawValue) }

    /// Fields for the next hop alone (RFC 9110, section 7.6.1). Besides those named there: the
    /// proxy authentication fields, because towards the client a gateway is the origin and no
    /// proxy, and `HTTP2-Settings`, which belongs to an upgrade to h2c and must not reach an
    /// upstream.
    package static var hopByHop: FieldNameSet {
        var set = FieldNameSet()
        set.bits =
            bit(.connection) | bit(.keepAlive) | bit(.proxyConnection) | bit(.te)
            | bit(.transferEncoding) | bit(.upgrade) | bit(.proxyAuthenticate)
            | bit(.proxyAuthorization) | bit(.http2Settings)
        return set
    }

    /// Fields that say where the body ends or what becomes of the connection.
    static var framing: FieldNameSet {
        var set = FieldNameSet()
        set.bits =
            bit(.contentLength) | bit(.transferEncoding) | bit(.connection) | bit(.upgrade)
        return set
    }

    /// Names that `Connection` cannot turn into hop-by-hop fields, because without them the message
    /// would mean something else to the next hop.
    static var neverNominated: FieldNameSet {
        var set = FieldNameSet()
        set.bits = bit(.host) | bit(.contentLength)
        return set
    }

    /// Names that must not come as trailers, because they frame, route, authorise, modify or
    /// describe the message as a whole (RFC 9110, section 6.5.1), or speak for the gateway.
    package static var forbiddenInTrailers: FieldNameSet {
        var set = FieldNameSet.hopByHop
        set.bits |=
            bit(.host) | bit(.contentLength) | bit(.trailer) | bit(.expect)
            | bit(.authorization) | bit(.apiKey) | bit(.cookie) | bit(.setCookie)
            | bit(.wwwAuthenticate) | bit(.contentType) | bit(.contentEncoding)
            | bit(.contentRange) | bit(.location) | bit(.range) | bit(.vary) | bit(.date)
        set.bits |=
            bit(.age) | bit(.cacheControl) | bit(.expires) | bit(.pragma) | bit(.warning)
            | bit(.maxForwards) | bit(.retryAfter) | bit(.via) | bit(.forwarded)
            | bit(.xForwardedFor) | bit(.xForwardedProto) | bit(.xForwardedHost)
            | bit(.xRealIP) | bit(.xRequestID) | bit(.traceparent) | bit(.tracestate)
            | bit(.xWeirModel) | bit(.xWeirVariant) | bit(.xGatewayModelName)
            | bit(.xWeirClientSubject)
        return set
    }
}
