/// Request methods (RFC 9110, section 9, and RFC 5789). A method is case-sensitive: `get` is
/// `other`.
package enum HTTPMethod: UInt8, Sendable {
    case get, head, post, put, delete, connect, options, trace, patch
    /// A well-formed token that none of the above is; the bytes are in the head's `methodRange`.
    case other

    /// Whether a request may be sent twice for the effect of once (RFC 9110, section 9.2.2).
    package var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .connect, .patch, .other: false
        }
    }

    /// Whether a request only reads (RFC 9110, section 9.2.1).
    package var isSafe: Bool {
        switch self {
        case .get, .head, .options, .trace: true
        case .post, .put, .delete, .connect, .patch, .other: false
        }
    }

    /// How the method is written; empty for `other`.
    package var name: StaticString {
        switch self {
        case .get: "GET"
        case .head: "HEAD"
        case .post: "POST"
        case .put: "PUT"
        case .delete: "DELETE"
        case .connect: "CONNECT"
        case .options: "OPTIONS"
        case .trace: "TRACE"
        case .patch: "PATCH"
        case .other: ""
        }
    }

    /// The method whose name stands at `range`, which is not empty.
    init(_ bytes: RawSpan, _ range: ByteRange) {
        let candidate = Self.candidate(count: range.count, second: bytes.byte(at: range.lower + 1))
        self = bytes.equals(candidate.name, range) ? candidate : .other
    }

    private static func candidate(count: UInt32, second: UInt8) -> HTTPMethod {
        switch (count, second) {
        case (3, UInt8(ascii: "E")): .get
        case (3, _): .put
        case (4, UInt8(ascii: "O")): .post
        case (4, _): .head
        case (5, UInt8(ascii: "A")): .patch
        case (5, _): .trace
        case (6, _): .delete
        case (7, UInt8(ascii: "P")): .options
        case (7, _): .connect
        default: .other
        }
    }
}
