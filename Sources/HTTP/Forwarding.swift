import Core

/// The client's side of a request as the upstream is told about it.
package struct ForwardedHop: Equatable, Sendable {
    /// The client's address in text, without brackets or port: `192.0.2.1`, `2001:db8::1`.
    package var clientAddress: [UInt8]
    /// Whether the client's connection is encrypted.
    package var isSecure: Bool

    /// Fails for an address that has bytes other than those of addresses in text.
    package init?(clientAddress: [UInt8], isSecure: Bool) {
        let isAddress = clientAddress.allSatisfy {
            ASCII.hexValue($0) != nil || $0 == ASCII.colon || $0 == UInt8(ascii: ".")
        }
        guard isAddress, !clientAddress.isEmpty else { return nil }
        self.clientAddress = clientAddress
        self.isSecure = isSecure
        self.isIPv6 = clientAddress.contains(ASCII.colon)
    }

    private let isIPv6: Bool

    private var scheme: StaticString { self.isSecure ? "https" : "http" }

    /// The fields that `write` composes; drop them when copying the others.
    package static var fieldNames: FieldNameSet {
        var set = FieldNameSet()
        set.insert(.forwarded)
        set.insert(.xForwardedFor)
        set.insert(.xForwardedProto)
        set.insert(.xForwardedHost)
        return set
    }

    /// Writes `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` (RFC 7239).
    ///
    /// With `trustsClient` the lists the request came with are kept and this hop is added at their
    /// end, and its protocol and host are passed on; otherwise they are replaced.
    package func write(
        for head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        self.writeXForwardedFor(head, bytes, trustsClient: trustsClient, into: buffer)
        self.writeXForwardedProto(head, bytes, trustsClient: trustsClient, into: buffer)
        self.writeXForwardedHost(head, bytes, trustsClient: trustsClient, into: buffer)
        self.writeForwarded(head, bytes, trustsClient: trustsClient, into: buffer)
    }

    private func writeXForwardedFor(
        _ head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        buffer.append("X-Forwarded-For: ")
        if trustsClient { Self.copyList(.xForwardedFor, of: head, bytes, into: buffer) }
        buffer.append(self.clientAddress)
        buffer.append("\r\n")
    }

    private func writeXForwardedProto(
        _ head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        if trustsClient, let field = head.first(.xForwardedProto), !field.valueRange.isEmpty {
            HeadWriter.field("X-Forwarded-Proto", bytes.slice(field.valueRange), into: buffer)
        } else {
            HeadWriter.field("X-Forwarded-Proto", self.scheme, into: buffer)
        }
    }

    private func writeXForwardedHost(
        _ head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        let passed = trustsClient ? head.first(.xForwardedHost)?.valueRange : nil
        guard let host = passed ?? head.authorityRange, !host.isEmpty else { return }
        HeadWriter.field("X-Forwarded-Host", bytes.slice(host), into: buffer)
    }

    /// RFC 7239, section 4: a value that is no token is quoted, an IPv6 address in brackets too.
    private func writeForwarded(
        _ head: RequestHead,
        _ bytes: RawSpan,
        trustsClient: Bool,
        into buffer: ByteBuffer
    ) {
        buffer.append("Forwarded: ")
        if trustsClient { Self.copyList(.forwarded, of: head, bytes, into: buffer) }
        buffer.append(self.isIPv6 ? "for=\"[" : "for=")
        buffer.append(self.clientAddress)
        buffer.append(self.isIPv6 ? "]\";proto=" : ";proto=")
        buffer.append(self.scheme)
        if let host = head.authorityRange {
            buffer.append(";host=")
            Self.writeTokenOrQuoted(bytes.slice(host), into: buffer)
        }
        buffer.append("\r\n")
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

    private static func writeTokenOrQuoted(_ value: RawSpan, into buffer: ByteBuffer) {
        if value.isToken(ByteRange(0, value.byteCount)) {
            buffer.append(value)
            return
        }
        buffer.append(byte: UInt8(ascii: "\""))
        for index in 0..<value.byteCount {
            let byte = value.byte(at: index)
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                buffer.append(byte: UInt8(ascii: "\\"))
            }
            buffer.append(byte: byte)
        }
        buffer.append(byte: UInt8(ascii: "\""))
    }
}
