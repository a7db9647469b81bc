import Core

/// The client's side of a request as the upstream is told about it.
///
/// An object, so that a connection hands it to each request by one reference.
package final class ForwardedHop: Sendable {
    /// Whether the client's connection is encrypted.
    package let isSecure: Bool

    /// The fields that only the connection decides, ready to copy for each request: all of them but
    /// hosts, when the client is not trusted. Every idle connection has these bytes, so the parts
    /// that are needed by themselves are not kept twice.
    private let fixed: [UInt8]
    /// Where in `fixed` the client's address ends; it begins behind the first field's name.
    private let addressEnd: Int
    /// Where in `fixed` this hop's element of `Forwarded` begins; it goes on to the end.
    private let elementStart: Int
    /// A whole field that names the subject of the client's certificate; empty without one.
    private let subjectField: [UInt8]
    private static let addressStart = 17

    /// `clientAddress` is in text, without brackets or port: `192.0.2.1`, `2001:db8::1`. Fails for
    /// one that has bytes other than those of addresses in text. `clientSubject` is what the
    /// client's certificate says who it is, in visible ASCII (RFC 4514); empty without one.
    package init?(clientAddress: [UInt8], isSecure: Bool, clientSubject: [UInt8] = []) {
        let isAddress = clientAddress.allSatisfy {
            ASCII.hexValue($0) != nil || $0 == ASCII.colon || $0 == UInt8(ascii: ".")
        }
        guard isAddress, !clientAddress.isEmpty else { return nil }
        self.isSecure = isSecure
        let scheme = Array((isSecure ? "https" : "http").utf8)
        // RFC 7239, section 6: an IPv6 address is in brackets and, for its colons, in quotes.
        let isIPv6 = clientAddress.contains(ASCII.colon)
        let open = Array((isIPv6 ? "for=\"[" : "for=").utf8)
        let close = Array((isIPv6 ? "]\";proto=" : ";proto=").utf8)
        var fixed = Array("X-Forwarded-For: ".utf8) + clientAddress
        self.addressEnd = fixed.count
        fixed += Array("\r\nX-Forwarded-Proto: ".utf8) + scheme + Array("\r\nForwarded: ".utf8)
        self.elementStart = fixed.count
        self.fixed = fixed + open + clientAddress + close + scheme
        self.subjectField =
            clientSubject.isEmpty
            ? [] : Array("X-Weir-Client-Subject: ".utf8) + clientSubject + Array("\r\n".utf8)
    }

    private var scheme: StaticString { self.isSecure ? "https" : "http" }

    /// The fields that `write` composes; drop them when copying the others.
    package static var fieldNames: FieldNameSet {
        var set = FieldNameSet()
        set.insert(.forwarded)
        set.insert(.xForwardedFor)
        set.insert(.xForwardedProto)
        set.insert(.xForwardedHost)
        set.insert(.xWeirClientSubject)
        return set
    }

    /// Writes `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` (RFC
    /// 7239), and `X-Weir-Client-Subject`, where the client has shown a certificate. That one the
    /// client never decides: its own is dropped, whatever is trusted.
    ///
    /// With `trustsClient` the lists the request came with are kept and this hop is added at their
    /// end, and its protocol and host are passed on; otherwise they are replaced.
    package func write(
        for head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        if !self.subjectField.isEmpty { buffer.append(self.subjectField) }
        if trustsClient {
            self.writeXForwardedFor(head, bytes, into: buffer)
            self.writeXForwardedProto(head, bytes, into: buffer)
            buffer.append("Forwarded: ")
            Self.copyList(.forwarded, of: head, bytes, into: buffer)
            self.append(from: self.elementStart, to: self.fixed.count, into: buffer)
        } else {
            buffer.append(self.fixed)
        }
        guard let authority = head.authorityRange else {
            buffer.append("\r\n")
            return
        }
        // Quoted always: most authorities have a colon, which no token has (RFC 7239, section 4),
        // and none has a quote or a backslash.
        buffer.append(";host=\"")
        buffer.append(bytes.slice(authority))
        buffer.append("\"\r\nX-Forwarded-Host: ")
        let passed = trustsClient ? head.first(.xForwardedHost)?.valueRange ?? authority : authority
        buffer.append(bytes.slice(passed.isEmpty ? authority : passed))
        buffer.append("\r\n")
    }

    private func append(from start: Int, to end: Int, into buffer: ByteBuffer) {
        let fixed = self.fixed
        // Sound: the span lives only for the call, and nothing writes to a constant.
        unsafe buffer.append(fixed.span.bytes.extracting(start..<end))
    }

    private func writeXForwardedFor(
        _ head: RequestHead,
        _ bytes: RawSpan,
        into buffer: ByteBuffer
    ) {
        buffer.append("X-Forwarded-For: ")
        Self.copyList(.xForwardedFor, of: head, bytes, into: buffer)
        self.append(from: Self.addressStart, to: self.addressEnd, into: buffer)
        buffer.append("\r\n")
    }

    private func writeXForwardedProto(
        _ head: RequestHead,
        _ bytes: RawSpan,
        into buffer: ByteBuffer
    ) {
        if let field = head.first(.xForwardedProto), !field.valueRange.isEmpty {
            HeadWriter.field("X-Forwarded-Proto", bytes.slice(field.valueRange), into: buffer)
        } else {
            HeadWriter.field("X-Forwarded-Proto", self.scheme, into: buffer)
        }
    }

    /// The values of all fields of that name joined to one list, with a comma behind.
    private static func copyList(
        _ name: FieldName,
        of head: RequestHead,
        _ bytes: RawSpan,
        into buffer: ByteBuffer
    ) {
        guard head.contains(name) else { return }
        for field in head.fields where field.name == name && !field.valueRange.isEmpty {
            buffer.append(bytes.slice(field.valueRange))
            buffer.append(", ")
        }
    }
}
