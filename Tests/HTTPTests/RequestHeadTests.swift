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

    @Test(arguments: [
        ("Expect: 100-continue\r\nContent-Length: 1\r\n", "1.1", true),
        ("Content-Length: 1\r\nExpect: 100-Continue\r\n", "1.1", true),
        ("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "1.1", true),
        ("Expect: 100-continue\r\nContent-Length: 0\r\n", "1.1", false),
        ("Expect: 100-continue\r\n", "1.1", false),
        ("Expect: 100-continue\r\nContent-Length: 1\r\n", "1.0", false),
        ("Expect: anything\r\nContent-Length: 1\r\n", "1.0", false),
        ("Content-Length: 1\r\n", "1.1", false),
    ])
    func seesWhetherTheClientWaits(fields: String, version: String, expected: Bool) throws {
        let (head, _) = try WriterTests.parse("POST / HTTP/\(version)\r\nHost: h\r\n\(fields)\r\n")
        #expect(head.expectsContinue == expected)
    }

    @Test(arguments: [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", "1.1", "websocket"),
        ("Upgrade: a, b\r\nConnection: x, UPGRADE\r\n", "1.1", "a, b"),
        ("Connection: upgrade\r\n", "1.1", nil),
        ("Upgrade: websocket\r\n", "1.1", nil),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", "1.0", nil),
    ])
    func seesAnUpgradeOnlyWhereBothFieldsSaySo(
        fields: String,
        version: String,
        expected: String?
    ) throws {
        let text = "GET / HTTP/\(version)\r\nHost: h\r\n\(fields)\r\n"
        let (head, bytes) = try WriterTests.parse(text)
        #expect(head.upgrade.map { bytes.text($0) } == expected)
    }

    @Test(arguments: [
        // Named before and after, known and unknown, in any case.
        ("X-A: 1\r\nConnection: x-a\r\nx-A: 2\r\n", ["X-A", "Connection", "x-A"]),
        ("Cookie: c\r\nConnection: COOKIE, x\r\n", ["Cookie", "Connection"]),
        ("X-Ab: 1\r\nConnection: X-A\r\n", ["Connection"]),
        // What a message cannot do without is not dropped on a client's word.
        ("Content-Length: 1\r\nConnection: host, content-length\r\n", ["Connection"]),
        ("Keep-Alive: 5\r\nTE: trailers\r\n", ["Keep-Alive", "TE"]),
        ("Upgrade: x\r\nHTTP2-Settings: y\r\n", ["Upgrade", "HTTP2-Settings"]),
        (
            "Proxy-Authorization: x\r\nProxy-Connection: y\r\nTrailer: z\r\n",
            [
                "Proxy-Authorization", "Proxy-Connection",
            ]
        ),
        ("Connection: close\r\nClose: 1\r\n", ["Connection"]),
    ])
    func marksFieldsForThisHop(fields: String, expected: [String]) throws {
        let (head, bytes) = try WriterTests.parse("GET / HTTP/1.1\r\nHost: h\r\n\(fields)\r\n")
        let marked = head.fields.filter(\.isHopByHop).map { bytes.text($0.nameRange) }
        #expect(marked == expected)
    }

    /// Nothing of one request may show in the next.
    @Test func resetForgetsEverything() throws {
        let full =
            "POST http://a/b?c HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade, cookie, x\r\nUpgrade: w\r\n"
            + "Expect: 100-continue\r\nContent-Length: 7\r\nX: y\r\n\r\n"
        let broken = Array("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX y".utf8)
        let plain = Array("GET / HTTP/1.1\r\nHost: i\r\nX: y\r\nCookie: c\r\n\r\n".utf8)
        let (head, _) = try WriterTests.parse(full)
        head.reset()
        _ = head.parse(broken.span.bytes, limits: HeadLimits())
        head.reset()
        let step = head.parse(plain.span.bytes, limits: HeadLimits())
        #expect(step.isComplete)
        #expect(head.method == .get)
        #expect(head.targetForm == .origin)
        #expect(plain.text(head.pathRange) == "/")
        #expect(head.queryRange == nil)
        #expect(head.authorityRange.map { plain.text($0) } == "i")
        #expect(head.framing == .none)
        #expect(head.contentLength == nil)
        #expect(head.keepsAlive)
        #expect(!head.expectsContinue)
        #expect(head.upgrade == nil)
        #expect(head.fields.map(\.isHopByHop) == [false, false, false])
        #expect(!head.contains(.connection))
        #expect(head.contains(.cookie))
    }

    @Test func repeatsItsAnswer() {
        let good = Array("GET / HTTP/1.1\r\nHost: h\r\n\r\nnext".utf8)
        let bad = Array("GET /#".utf8)
        let head = RequestHead()
        for _ in 0..<2 {
            guard case .complete(good.count - 4) = head.parse(good.span.bytes, limits: HeadLimits())
            else {
                Issue.record("not complete")
                return
            }
        }
        head.reset()
        for _ in 0..<2 {
            guard case .invalid(.invalidTarget) = head.parse(bad.span.bytes, limits: HeadLimits())
            else {
                Issue.record("not refused")
                return
            }
        }
    }

    /// Half a megabyte in single bytes: each byte is looked at once, or this would take an hour.
    @Test(.timeLimit(.minutes(1))) func longLinesByteByByteAreNotQuadratic() {
        let bytes =
            Array("GET / HTTP/1.1\r\nHost: h\r\nX: ".utf8) + Array(repeating: 97, count: 1 << 19)
        let head = RequestHead()
        let limits = HeadLimits(maxHeadBytes: bytes.count + 1)
        for count in 0...bytes.count {
            if case .needMore = head.parse(bytes.span.bytes.extracting(0..<count), limits: limits) {
                continue
            }
            Issue.record("not waiting after \(count) bytes")
            return
        }
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
