/// A run of bytes on a server's connection and what must become of it.
package struct FramingCase: Sendable, CustomStringConvertible {
    package var name: String
    package var bytes: [UInt8]
    package var requests: [StreamedRequest]
    package var end: StreamEnd
    /// Bytes that suffice to refuse, all of them and no fewer; nil where nothing is refused.
    package var proofCount: Int?
    /// Whether it depends on the limits of `RequestStreamReader`, and not on HTTP alone.
    package var isLimit: Bool

    package var description: String { self.name }

    /// Bytes that are exactly these requests.
    static func accept(_ name: String, _ text: String, _ requests: StreamedRequest...) -> Self {
        Self(
            name: name,
            bytes: Array(text.utf8),
            requests: requests,
            end: .clean,
            proofCount: nil,
            isLimit: false
        )
    }

    /// Bytes that are a good beginning.
    static func wait(_ name: String, _ text: String, _ requests: StreamedRequest...) -> Self {
        var result = Self.accept(name, text)
        result.requests = requests
        result.end = .incomplete
        return result
    }

    /// Bytes whose last one proves that they must be refused. What is sent goes on with `rest`.
    static func refuse(
        _ name: String,
        _ proof: String,
        _ label: String,
        status: UInt16 = 400,
        rest: String = "\r\n\r\n",
        after requests: [StreamedRequest] = []
    ) -> Self {
        self.refuse(
            name,
            bytes: Array(proof.utf8),
            label,
            status: status,
            rest: rest,
            after: requests
        )
    }

    /// The same for bytes that are no text.
    static func refuse(
        _ name: String,
        bytes proof: [UInt8],
        _ label: String,
        status: UInt16 = 400,
        rest: String = "\r\n\r\n",
        after requests: [StreamedRequest] = []
    ) -> Self {
        Self(
            name: name,
            bytes: proof + Array(rest.utf8),
            requests: requests,
            end: .refused(status: status, label: label),
            proofCount: proof.count,
            isLimit: false
        )
    }

    var atLimit: Self {
        var result = self
        result.isLimit = true
        return result
    }
}

extension FramingCase {
    /// Every case.
    package static let all: [FramingCase] =
        Self.requestLines + Self.targets + Self.hosts + Self.fieldSyntax + Self.lengths
        + Self.transferEncodings + Self.chunks + Self.chunkExtensions + Self.trailers
        + Self.connections + Self.pipelines + Self.limits

    /// Those with a chunked body, whose head is good.
    package static let bodies: [FramingCase] = Self.chunks + Self.chunkExtensions + Self.trailers
}
