import Core
import HTTP
import Testing

@Suite struct WriterTests {
    private let buffer = ByteBuffer(capacity: 16)

    @Test(arguments: [
        ("GET http://a/b?c HTTP/1.1", "GET /b?c HTTP/1.1\r\n"),
        ("GET http://a HTTP/1.1", "GET / HTTP/1.1\r\n"),
        ("GET http://a?c HTTP/1.1", "GET /?c HTTP/1.1\r\n"),
        ("GET /? HTTP/1.1", "GET /? HTTP/1.1\r\n"),
        ("OPTIONS http://a HTTP/1.1", "OPTIONS * HTTP/1.1\r\n"),
        ("OPTIONS http://a?b HTTP/1.1", "OPTIONS /?b HTTP/1.1\r\n"),
        ("OPTIONS http://a/ HTTP/1.1", "OPTIONS / HTTP/1.1\r\n"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1\r\n"),
        ("BREW /pot HTTP/1.0", "BREW /pot HTTP/1.1\r\n"),
    ])
    func writesTargetsInOriginForm(line: String, expected: String) throws {
        let (head, bytes) = try Self.parse("\(line)\r\nHost: h\r\n\r\n")
        HeadWriter.requestLine(of: head, bytes.span.bytes, into: self.buffer)
        #expect(self.buffer.text == expected)
    }

    @Test func writesTheHostOfTheTarget() throws {
        let (head, bytes) = try Self.parse("GET http://a:1/ HTTP/1.1\r\nHost: h\r\n\r\n")
        let fallback = Array("up:2".utf8)
        HeadWriter.host(
            of: head,
            bytes.span.bytes,
            fallback: fallback.span.bytes,
            into: self.buffer
        )
        let (old, oldBytes) = try Self.parse("GET / HTTP/1.0\r\n\r\n")
        HeadWriter.host(
            of: old,
            oldBytes.span.bytes,
            fallback: fallback.span.bytes,
            into: self.buffer
        )
        #expect(self.buffer.text == "Host: a:1\r\nHost: up:2\r\n")
    }

    /// Runs of canonical lines are copied at once: every mix of kept, dropped and odd lines must
    /// give what copying line by line gives.
    @Test func copiesFieldsTheSameInRunsAndOneByOne() throws {
        let lines = ["A: 1\r\n", "B:2\r\n", "Cookie: c\r\n", "D: \r\n", "E:  5 \r\n", "X: x\r\n"]
        var random = RandomSource(seed: 7)
        for _ in 0..<500 {
            let chosen = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                lines.randomElement(using: &random) ?? ""
            }
            let text = "GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\n\(chosen.joined())\r\n"
            let (head, bytes) = try Self.parse(text)
            self.buffer.removeAll()
            HeadWriter.fields(
                head.fields,
                of: bytes.span.bytes,
                dropping: FieldNameSet(.cookie),
                into: self.buffer
            )
            let kept = chosen.filter { !$0.hasPrefix("Cookie") && !$0.hasPrefix("X:") }
            let expected = kept.map {
                $0.replacing("B:2", with: "B: 2").replacing("E:  5 ", with: "E: 5")
            }
            #expect(self.buffer.text == "Host: h\r\n" + expected.joined(), "from \(text)")
        }
    }

    @Test(arguments: [
        (UInt16(200), "HTTP/1.1 200 OK\r\n"), (101, "HTTP/1.1 101 Switching Protocols\r\n"),
        (404, "HTTP/1.1 404 Not Found\r\n"), (599, "HTTP/1.1 599 \r\n"),
        (299, "HTTP/1.1 299 \r\n"),
    ])
    func writesStatusLines(status: UInt16, expected: String) {
        HeadWriter.statusLine(status, into: self.buffer)
        #expect(self.buffer.text == expected)
    }

    /// The literals are long; each must carry its own number and be a status line.
    @Test func everyStatusLineReadsAsItsStatus() {
        for status in UInt16(100)...599 {
            self.buffer.removeAll()
            HeadWriter.statusLine(status, into: self.buffer)
            self.buffer.append("\r\n")
            let head = ResponseHead()
            let step = head.parse(self.buffer.readable, limits: HeadLimits())
            #expect(step.isComplete)
            #expect(head.status == status)
        }
    }

    @Test func keepsTheUpstreamsReason() {
        for (line, expected) in [
            ("HTTP/1.0 200 Fine", "HTTP/1.1 200 Fine\r\n"), ("HTTP/1.1 200", "HTTP/1.1 200 OK\r\n"),
            ("HTTP/1.1 250 ", "HTTP/1.1 250 \r\n"),
        ] {
            let bytes = Array("\(line)\r\n\r\n".utf8)
            let head = ResponseHead()
            let step = head.parse(bytes.span.bytes, limits: HeadLimits())
            #expect(step.isComplete)
            self.buffer.removeAll()
            HeadWriter.statusLine(of: head, bytes.span.bytes, into: self.buffer)
            #expect(self.buffer.text == expected)
        }
    }

    @Test func writesARequestOfOurOwn() {
        let target = Array("/v2/health/ready".utf8)
        let value = Array("a\tb".utf8)
        HeadWriter.requestLine(.get, target: target.span.bytes, into: self.buffer)
        HeadWriter.field("X", value.span.bytes, into: self.buffer)
        HeadWriter.field("Y", "z", into: self.buffer)
        HeadWriter.field("N", 42, into: self.buffer)
        HeadWriter.chunked(into: self.buffer)
        HeadWriter.connection(keepsAlive: false, into: self.buffer)
        HeadWriter.end(into: self.buffer)
        HeadWriter.chunkHeader(0x1A, into: self.buffer)
        HeadWriter.chunkEnd(into: self.buffer)
        HeadWriter.lastChunk(trailers: Array("A: b\r\n".utf8), into: self.buffer)
        HeadWriter.lastChunk(into: self.buffer)
        let expected =
            "GET /v2/health/ready HTTP/1.1\r\nX: a\tb\r\nY: z\r\nN: 42\r\n"
            + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            + "1a\r\n\r\n0\r\nA: b\r\n\r\n0\r\n\r\n"
        #expect(self.buffer.text == expected)
    }

    @Test func refusesToWriteALineEndIntoAValue() async {
        await #expect(processExitsWith: .failure) {
            let value = Array("a\r\nX: y".utf8)
            HeadWriter.field("X", value.span.bytes, into: ByteBuffer(capacity: 16))
        }
    }

    @Test func refusesToWriteAnEmptyChunk() async {
        await #expect(processExitsWith: .failure) {
            HeadWriter.chunkHeader(0, into: ByteBuffer(capacity: 16))
        }
    }

    @Test func refusesToWriteATargetWithASpace() async {
        await #expect(processExitsWith: .failure) {
            let target = Array("/a b".utf8)
            HeadWriter.requestLine(.get, target: target.span.bytes, into: ByteBuffer(capacity: 16))
        }
    }

    static func parse(_ text: String) throws -> (RequestHead, [UInt8]) {
        let bytes = Array(text.utf8)
        let head = RequestHead()
        let step = head.parse(bytes.span.bytes, limits: HeadLimits())
        try #require(step.isComplete, "\(step) for \(text)")
        return (head, bytes)
    }
}

@Suite struct ForwardedHopTests {
    private let buffer = ByteBuffer(capacity: 16)

    static let request =
        "GET / HTTP/1.1\r\nHost: h:80\r\nX-Forwarded-For: a, b\r\nX-Forwarded-For: c\r\n"
        + "X-Forwarded-Proto: https\r\nX-Forwarded-Host: front\r\nForwarded: for=a;proto=https\r\n\r\n"

    @Test func replacesWhatAStrangerSays() throws {
        let (head, bytes) = try WriterTests.parse(Self.request)
        let hop = try #require(
            ForwardedHop(clientAddress: Array("192.0.2.1".utf8), isSecure: false)
        )
        hop.write(for: head, bytes.span.bytes, trustsClient: false, into: self.buffer)
        let expected =
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            + "Forwarded: for=192.0.2.1;proto=http;host=\"h:80\"\r\nX-Forwarded-Host: h:80\r\n"
        #expect(self.buffer.text == expected)
    }

    @Test func addsToWhatAFriendSays() throws {
        let (head, bytes) = try WriterTests.parse(Self.request)
        let hop = try #require(ForwardedHop(clientAddress: Array("::1".utf8), isSecure: true))
        hop.write(for: head, bytes.span.bytes, trustsClient: true, into: self.buffer)
        let expected =
            "X-Forwarded-For: a, b, c, ::1\r\nX-Forwarded-Proto: https\r\n"
            + "Forwarded: for=a;proto=https, for=\"[::1]\";proto=https;host=\"h:80\"\r\n"
            + "X-Forwarded-Host: front\r\n"
        #expect(self.buffer.text == expected)
    }

    @Test func startsTheListsWhereThereAreNone() throws {
        let (head, bytes) = try WriterTests.parse("GET / HTTP/1.0\r\nX-Forwarded-For:\r\n\r\n")
        let hop = try #require(ForwardedHop(clientAddress: Array("::1".utf8), isSecure: true))
        hop.write(for: head, bytes.span.bytes, trustsClient: true, into: self.buffer)
        let expected =
            "X-Forwarded-For: ::1\r\nX-Forwarded-Proto: https\r\n"
            + "Forwarded: for=\"[::1]\";proto=https\r\n"
        #expect(self.buffer.text == expected)
    }

    @Test func namesTheClientOfACertificate() throws {
        let (head, bytes) = try WriterTests.parse("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        let hop = try #require(
            ForwardedHop(
                clientAddress: Array("192.0.2.1".utf8),
                isSecure: true,
                clientSubject: Array("CN=alice,O=Example".utf8)
            )
        )
        hop.write(for: head, bytes.span.bytes, trustsClient: false, into: self.buffer)
        #expect(self.buffer.text.hasPrefix("X-Weir-Client-Subject: CN=alice,O=Example\r\nX-For"))
    }

    @Test(arguments: ["", "a b", "1.2.3.4\r\n", "[::1]", "host", "1.2.3.4, x"])
    func takesOnlyAddresses(_ text: String) {
        #expect(ForwardedHop(clientAddress: Array(text.utf8), isSecure: false) == nil)
    }

    @Test func namesTheFieldsItWrites() {
        let names: [FieldName] = [
            .forwarded, .xForwardedFor, .xForwardedHost, .xForwardedProto, .xWeirClientSubject,
        ]
        for name in FieldName.allCases {
            #expect(ForwardedHop.fieldNames.contains(name) == names.contains(name))
        }
    }
}
