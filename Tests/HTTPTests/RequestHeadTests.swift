import Core
import HTTP
import Testing

@Suite struct RequestHeadTests {
    static let post = """
        POST /v2/models/digits/infer?trace=1 HTTP/1.1\r
        Host: gateway.example:8080\r
        Content-Type: application/json\r
        Connection: keep-alive, X-Private\r
        X-Private: secret\r
        Content-Length: 12\r
        Accept:\t*/*  \r
        \r

        """

    @Test func readsEveryPartOfARequest() {
        let bytes = Array(Self.post.utf8)
        let head = RequestHead()
        guard case .complete(let count) = head.parse(bytes.span.bytes, limits: HeadLimits()) else {
            Issue.record("not complete")
            return
        }
        #expect(count == bytes.count)
        #expect(head.method == .post)
        #expect(bytes.text(head.targetRange) == "/v2/models/digits/infer?trace=1")
        #expect(bytes.text(head.pathRange) == "/v2/models/digits/infer")
        #expect(head.queryRange.map { bytes.text($0) } == "trace=1")
        #expect(head.authorityRange.map { bytes.text($0) } == "gateway.example:8080")
        #expect(head.framing == .length(12))
        #expect(head.keepsAlive)
        #expect(!head.expectsContinue)
        #expect(head.fields.map { bytes.text($0.valueRange) }.last == "*/*")
        #expect(head.fields.map(\.isHopByHop) == [false, false, true, true, false, false])
        #expect(head.first(.contentType)?.name == .contentType)
        #expect(head.first(.cookie) == nil)
    }

    @Test func forwardsWithoutHopByHopFields() {
        let bytes = Array(Self.post.utf8)
        let head = RequestHead()
        _ = head.parse(bytes.span.bytes, limits: HeadLimits())
        let buffer = ByteBuffer(capacity: 512)
        HeadWriter.requestLine(of: head, bytes.span.bytes, into: buffer)
        HeadWriter.fields(
            head.fields,
            of: bytes.span.bytes,
            dropping: FieldNameSet(.contentLength),
            into: buffer
        )
        HeadWriter.contentLength(12, into: buffer)
        HeadWriter.end(into: buffer)
        let expected = """
            POST /v2/models/digits/infer?trace=1 HTTP/1.1\r
            Host: gateway.example:8080\r
            Content-Type: application/json\r
            Accept: */*\r
            Content-Length: 12\r
            \r

            """
        #expect(buffer.text == expected)
    }
}
