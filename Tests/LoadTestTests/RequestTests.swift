import Core
import HTTPService
import Testing

@testable import LoadTest
@testable import Workload

func text(_ buffer: ByteBuffer) -> String {
    let bytes = buffer.readable
    return bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
}

/// Checks that it is one JSON document; returns its top-level keys.
@discardableResult
func keys(ofJSON text: String) throws -> [String] {
    let bytes = Array(text.utf8)
    var cursor = JSONCursor()
    var keys: [String] = []
    let span = bytes.span.bytes
    try cursor.object(span) { (cursor, key) throws(JSONError) in
        keys.append(String(decoding: bytes[key], as: UTF8.self))
        try cursor.skip(span)
    }
    try cursor.end(span)
    return keys
}

@Suite("Requests")
struct RequestTests {
    private static let text = PromptText()

    private func write(
        _ kind: RequestKind,
        index: Int = 0,
        traceIndex: Int? = nil,
        url: String = "http://localhost:8080",
        fields: [HeaderField] = [],
        seed: UInt64 = 1,
        trace: RequestTrace? = nil
    ) throws -> (head: String, body: String, written: RequestWriter.Written) {
        let writer = RequestWriter(
            kind,
            targets: [try TargetURL(url)],
            fields: fields,
            seed: seed,
            trace: trace,
            text: Self.text
        )
        let buffer = ByteBuffer(capacity: 64)
        let arrival = Arrival(index: index, offset: 0, traceIndex: traceIndex)
        let written = writer.write(arrival, target: 0, to: buffer)
        let all = LoadTestTests.text(buffer)
        let end = try #require(all.firstRange(of: "\r\n\r\n"))
        return (String(all[..<end.lowerBound]), String(all[end.upperBound...]), written)
    }

    @Test func chatRequestIsValidAndHasItsLength() throws {
        var plan = GenerationPlan(model: "a \"quoted\" model")
        plan.inputTokens = .fixed(100)
        let (head, body, written) = try self.write(.chat(plan))
        #expect(head.hasPrefix("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:8080\r\n"))
        #expect(head.contains("\r\ncontent-length: \(body.utf8.count)"))
        #expect(
            try keys(ofJSON: body) == [
                "model", "max_tokens", "ignore_eos", "stream", "stream_options", "messages",
            ]
        )
        #expect(written.inputTokens == 100)
        // Five bytes to a word.
        #expect(body.utf8.count > 500 && body.utf8.count < 700)
    }

    @Test func promptsDifferAndRepeatWithTheSeed() throws {
        let plan = RequestKind.completions(GenerationPlan(model: "m"))
        let bodies = try (0..<200).map { try self.write(plan, index: $0).body }
        #expect(Set(bodies.map { $0.prefix(160) }).count == 200)
        #expect(try self.write(plan, index: 7).body == bodies[7])
        #expect(try self.write(plan, index: 7, seed: 2).body != bodies[7])
    }

    @Test func sharedPrefixesAreShared() throws {
        var plan = GenerationPlan(model: "m")
        plan.inputTokens = .fixed(120)
        plan.sharedPrefixTokens = 100
        plan.prefixGroups = 3
        let bodies = try (0..<60).map { try self.write(.completions(plan), index: $0).body }
        let prompts = try bodies.map { body in
            body[try #require(body.firstRange(of: "\"prompt\":\"")).upperBound...]
        }
        #expect(Set(prompts.map { $0.prefix(500) }).count == 3)
        #expect(Set(prompts.map { $0.prefix(540) }).count == 60)
    }

    @Test func tracedPromptsShareTheirBlocks() throws {
        let trace = RequestTrace(
            requests: [
                TraceRequest(offset: 0, inputTokens: 1_200, outputTokens: 5, blocks: 0..<2),
                TraceRequest(offset: 0, inputTokens: 1_000, outputTokens: 7, blocks: 2..<4),
            ],
            blocks: [10, 11, 10, 12]
        )
        let plan = RequestKind.completions(GenerationPlan(model: "m"))
        let one = try self.write(plan, index: 0, traceIndex: 0, trace: trace)
        let two = try self.write(plan, index: 1, traceIndex: 1, trace: trace)
        #expect(one.written.inputTokens == 1_200)
        #expect(one.body.contains("\"max_tokens\":5"))
        let starts = [one.body, two.body].map { body in
            Array(body.utf8.drop { $0 != UInt8(ascii: "}") }.dropFirst(12))
        }
        #expect(starts[0].prefix(2_560) == starts[1].prefix(2_560))
        #expect(starts[0].prefix(2_700) != starts[1].prefix(2_700))
    }

    @Test func inferRequestHasItsTensors() throws {
        let tensor = try #require(InferPlan.Tensor("x:fp32:2x3"))
        let plan = InferPlan(model: "digits/v1", inputs: [tensor])
        let (head, body, _) = try self.write(.infer(plan))
        #expect(head.hasPrefix("POST /v2/models/digits%2Fv1/infer HTTP/1.1"))
        #expect(try keys(ofJSON: body) == ["inputs"])
        #expect(body.split(separator: "\"data\":").last?.split(separator: ",").count == 6)
    }

    @Test(arguments: [
        "", "x", "x:FP32", "x:FP31:1", "x:FP32:0", "x:FP32:1x", ":FP32:1", "x:FP32:99999x99999",
    ])
    func refusesWhatIsNoTensor(_ text: String) {
        #expect(InferPlan.Tensor(text) == nil)
    }

    @Test func fixedRequestKeepsItsPathAndFields() throws {
        var request = FixedRequest()
        let isPut = request.setMethod("put")
        #expect(isPut)
        request.body = Array("hello".utf8)
        let field = try #require(HeaderField("Host: other"))
        let (head, body, _) = try self.write(
            .http(request),
            url: "http://127.0.0.1/a?b=c",
            fields: [field]
        )
        #expect(head.hasPrefix("PUT /a?b=c HTTP/1.1\r\n"))
        #expect(head.contains("Host: other") && !head.contains("host: 127"))
        #expect(body == "hello")
        let isConnect = request.setMethod("CONNECT")
        #expect(!isConnect)
    }

    @Test func readsARequestFile() throws {
        let file = "POST /v1/x HTTP/1.1\r\nX-Key: a b\r\n\r\n{\"a\":\r\n1}"
        let (request, fields) = try RequestFile.read(Array(file.utf8))
        #expect(request.methodText == "POST" && request.target == "/v1/x")
        #expect(fields == [HeaderField(name: "X-Key", value: "a b")])
        #expect(String(decoding: request.body, as: UTF8.self) == "{\"a\":\r\n1}")
        #expect(try RequestFile.read(Array("GET".utf8)).request.target == nil)
    }

    @Test(arguments: [
        "", "\nGET /", "BREW /", "GET x", "GET /a b c d", "GET / HTTP/2", "GET /\nno field\n",
        "GET /\ncontent-length: 5\n\nabcde", "GET /\nTransfer-Encoding: chunked\n",
    ])
    func refusesWhatIsNoRequestFile(_ text: String) {
        #expect(throws: LoadError.self) { try RequestFile.read(Array(text.utf8)) }
    }

    @Test(arguments: [
        ("http://host:81/a?b", "host", UInt16(81), "/a?b", "host:81"),
        ("host", "host", 80, "", "host"),
        ("HTTP://[::1]:8080/", "::1", 8_080, "/", "[::1]:8080"),
        ("http://h:80?q", "h", 80, "/?q", "h"),
        ("http://h/a#b", "h", 80, "/a", "h"),
        ("https://h/a", "h", 443, "/a", "h"),
        ("https://h:443", "h", 443, "", "h"),
        ("https://h:80", "h", 80, "", "h:80"),
        ("HTTPS://[::1]:8443/", "::1", 8_443, "/", "[::1]:8443"),
    ])
    func readsURLs(
        _ text: String,
        host: String,
        port: UInt16,
        path: String,
        authority: String
    ) throws {
        let url = try TargetURL(text)
        #expect(url.host == host && url.port == port && url.path == path)
        #expect(url.authority == authority)
        #expect(url.isSecure == text.lowercased().hasPrefix("https"))
        #expect(url.description == "\(url.isSecure ? "https" : "http")://\(authority)\(path)")
    }

    @Test(arguments: [
        "", "http://", "http:///x", "ftp://a", "http://a:99999", "http://a:",
        "http://a:0", "https://", "https://a:0", "http://a b/", "http://u@a/", "http://a/ö",
        "http://:80",
    ])
    func refusesURLs(_ text: String) {
        #expect(throws: LoadError.self) { try TargetURL(text) }
    }

    @Test func namesWithoutAddressAreSaid() {
        #expect(throws: LoadError.self) { try TargetURL("http://no-such-host.invalid/").resolve() }
    }
}

@Suite("Detours")
struct DetourTests {
    @Test(arguments: [
        ("h:443:10.0.0.1:8443", "10.0.0.1:8443"),
        ("H:443:10.0.0.1:8443", "10.0.0.1:8443"),
        ("::10.0.0.1:", "10.0.0.1:443"),
        (":443:[::1]:", "[::1]:443"),
        // It is for another host or port, so the URL's own holds.
        ("other:443:10.0.0.1:8443", "127.0.0.9:443"),
        ("h:80:10.0.0.1:8443", "127.0.0.9:443"),
    ])
    func leadElsewhere(_ text: String, to address: String) throws {
        let detour = try #require(Detour(text))
        let always = try #require(Detour("h::127.0.0.9:"))
        let found = try TargetURL("https://h/").resolve([detour, always])
        #expect("\(found)" == address)
    }

    @Test(arguments: [
        "", "h", "h:1:g", "h:1:g:2:3", "h:x:g:1", "h:1:g:x", "h:0:g:1", "h:1::", ":::",
        "h:1:[::1:2", "h:1:[::1]x:2", "h:1:[]:2", "h:1:a b:2",
    ])
    func mustBeWhole(_ text: String) {
        #expect(Detour(text) == nil)
    }

    @Test func aRequestOnAConnectionOfItsOwnSaysSo() throws {
        let writer = RequestWriter(
            .http(.ping),
            targets: [try TargetURL("https://h/")],
            fields: [],
            keepsConnections: false,
            seed: 1,
            trace: nil,
            text: PromptText()
        )
        let buffer = ByteBuffer(capacity: 16)
        _ = writer.write(Arrival(index: 0, offset: 0, traceIndex: nil), target: 0, to: buffer)
        #expect(text(buffer).contains("\r\nhost: h\r\n"))
        #expect(text(buffer).contains("\r\nconnection: close\r\n"))
    }
}
