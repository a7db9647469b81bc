import Compression
import HTTP
import Proxy
import Testing

/// Requests that come compressed, and answers that go so.
@Suite struct CodingTests {
    static func encode(_ text: String, _ coding: ContentCoding) -> [UInt8] {
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 1)
        defer { scratch.deallocate() }
        var result: [UInt8] = []
        Array(text.utf8).withUnsafeBytes {
            ContentEncoder(coding).encode($0, .finish, scratch: scratch) { result += Array($0) }
        }
        return result
    }

    static func decode(_ bytes: [UInt8], _ coding: ContentCoding) throws -> String {
        var limits = DecodingLimits()
        limits.ratioMax = 100_000
        let decoder = ContentDecoder([coding], limits: limits)
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 24, alignment: 1)
        defer { room.deallocate() }
        let step = try bytes.withUnsafeBytes { try decoder.decode($0, into: room) }
        #expect(decoder.isComplete && step.consumed == bytes.count)
        return String(decoding: room[..<step.produced], as: UTF8.self)
    }

    /// JSON of about that size that does not shrink to nothing.
    static func json(_ count: Int, isNamedFirst: Bool = false) -> String {
        var text = isNamedFirst ? "{\"model\":\"m\",\"prompt\":\"" : "{\"prompt\":\""
        var number: UInt64 = 88_172_645_463_325_252
        while text.utf8.count < count {
            number ^= number << 13
            number ^= number >> 7
            number ^= number << 17
            text += "river \(number) "
        }
        return text + (isNamedFirst ? "\"}" : "\",\"model\":\"m\"}")
    }

    static func head(_ body: [UInt8], _ encoding: String, fields: String = "") -> String {
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Encoding: \(encoding)\r\n"
            + "\(fields)Content-Length: \(body.count)\r\n\r\n"
    }

    // MARK: Requests

    @Test(arguments: ContentCoding.allCases, [200, 20_000, 500_000])
    func theModelIsFoundInACompressedBody(coding: ContentCoding, count: Int) throws {
        try Wire.one { wire, upstream in
            let body = Self.encode(Self.json(count), coding)
            let client = try wire.client()
            try client.send(Array(Self.head(body, "\(coding.name)").utf8) + body)
            let server = try upstream.accept()
            let request = try server.readRequest()
            #expect(request.body == body)
            #expect(request["content-encoding"] == "\(coding.name)")
            #expect(request["content-length"] == "\(body.count)")
            try server.respond()
            #expect(try client.readResponse().status == 200)
            let coding = try wire.statistics().workers.coding
            #expect(coding.requests == [.forwarded: 1])
        }
    }

    /// The body in single bytes and chunks, coded twice.
    @Test func theModelIsFoundHoweverTheBodyComes() throws {
        try Wire.one { wire, upstream in
            let once = Self.encode("{\"model\":\"m\",\"n\":1}", .gzip)
            let encoder = ContentEncoder(.zstd)
            let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 1)
            defer { scratch.deallocate() }
            var body: [UInt8] = []
            once.withUnsafeBytes {
                encoder.encode($0, .finish, scratch: scratch) { body += Array($0) }
            }
            let client = try wire.client()
            try client.send(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
                    + "Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for byte in body { try client.send(Array("1\r\n".utf8) + [byte] + Array("\r\n".utf8)) }
            try client.send("0\r\n\r\n")
            let server = try upstream.accept()
            #expect(try server.readRequest().body == body)
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    /// Where the model's servers cannot decode, they do not have to.
    @Test(arguments: ContentCoding.allCases, [200, 20_000, 3_000_000])
    func requestsAreDecodedWhereAsked(coding: ContentCoding, count: Int) throws {
        try Wire.one({ $0.compression.decodesRequests = true }) { wire, upstream in
            // The name comes first: the body is longer than what is looked into.
            let text = Self.json(count, isNamedFirst: true)
            let body = Self.encode(text, coding)
            let client = try wire.client()
            let carried = Carried(client)
            let sender = Background {
                try carried.value.send(Array(Self.head(body, "\(coding.name)").utf8) + body)
            }
            let server = try upstream.accept()
            let request = try server.readRequest()
            try sender.join()
            #expect(request.text == text)
            #expect(request["content-encoding"] == nil)
            if count == 200 { #expect(request["content-length"] == "\(text.utf8.count)") }
            try server.respond()
            #expect(try client.readResponse().status == 200)
            #expect(try wire.statistics().workers.coding.requests == [.decoded: 1])
        }
    }

    /// A decoded request is sent again as it is.
    @Test func decodedRequestsAreTriedAgain() throws {
        try Wire.run { wire in
            let upstreams = try [wire.upstream(), wire.upstream()]
            var settings = Wire.settings
            settings.compression.decodesRequests = true
            let endpoints = upstreams.map { wire.endpoint($0) }
            wire.publish([
                Wire.Model(settings: settings, variants: [Wire.Variant(endpoints: endpoints)])
            ])
            let text = "{\"model\":\"m\",\"n\":[1,2,3]}"
            let body = Self.encode(text, .gzip)
            let client = try wire.client()
            try client.send(Array(Self.head(body, "gzip").utf8) + body)
            let first = upstreams[0].hasWaiting ? 0 : 1
            let one = try Self.acceptOne(of: upstreams, likely: first)
            #expect(try one.socket.readRequest().text == text)
            one.socket.reset()
            let second = try upstreams[1 - one.index].accept()
            #expect(try second.readRequest().text == text)
            try second.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    private static func acceptOne(
        of upstreams: [ScriptedUpstream],
        likely: Int
    ) throws -> (socket: RawSocket, index: Int) {
        var index = likely
        while !upstreams[index].hasWaiting { index = 1 - index }
        return (try upstreams[index].accept(), index)
    }

    @Test func onlyWhoNeedsTheBodyMindsItsCoding() throws {
        try Wire.one { wire, upstream in
            let body = Array("whatever".utf8)
            let refused = try wire.fetch(Self.head(body, "br") + "whatever")
            #expect(refused.status == 415)
            #expect(refused["accept-encoding"] == "zstd, gzip")
            let client = try wire.client()
            try client.send(Self.head(body, "br", fields: "X-Weir-Model: m\r\n") + "whatever")
            let server = try upstream.accept()
            #expect(try server.readRequest().body == body)
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    @Test func brokenAndExcessiveBodiesAreRefused() throws {
        try Wire.one { wire, _ in
            let whole = Self.encode(Self.json(3_000), .gzip)
            let bomb = Self.encode(String(repeating: " ", count: 4 << 20), .gzip)
            let cases: [([UInt8], Int)] = [
                (Array("{\"model\":\"m\"}".utf8), 400), (Array(whole.dropLast(1)), 400),
                (Array(whole.dropLast(500)), 400), (whole + Array("more".utf8), 400),
                (bomb, 413), (Self.encode("[]", .gzip), 400), ([], 400),
            ]
            for (body, status) in cases {
                let client = try wire.client()
                try client.send(Array(Self.head(body, "gzip").utf8) + body)
                #expect(try client.readResponse().status == status, "\(body.count) bytes")
            }
            let counted = try wire.statistics().workers.coding.requests
            #expect(counted[.refused] == 5)
        }
    }

    /// Frames that hold nothing: what comes is bounded also where nothing comes of it.
    @Test func bodiesThatBecomeNothingAreBounded() throws {
        var limits = GatewayLimits()
        limits.maxBufferedBody = 100_000
        try Wire.one(limits: limits) { wire, _ in
            // A skippable frame (RFC 8878, section 3.1.2) of 4 000 bytes, over and over.
            let frame =
                [0x50, 0x2A, 0x4D, 0x18, 0xA0, 0x0F, 0, 0] + [UInt8](repeating: 0, count: 4_000)
            let body = Array(repeatElement(frame, count: 100).joined())
            let client = try wire.client()
            let carried = Carried(client)
            let sender = Background {
                try carried.value.send(Array(Self.head(body, "zstd").utf8) + body)
            }
            #expect(try client.readResponse().status == 413)
            client.close()
            try? sender.join()
        }
    }

    /// The same on their way to a server that has begun to be told.
    @Test func whatBreaksOnItsWayEndsThere() throws {
        try Wire.one({ $0.compression.decodesRequests = true }) { wire, upstream in
            let body = Self.encode(Self.json(2_000_000), .zstd)
            let cut = body.count / 2
            let client = try wire.client()
            let head = Self.head(body, "zstd", fields: "X-Weir-Model: m\r\n")
            try client.send(Array(head.utf8) + body[..<cut])
            let server = try upstream.accept()
            #expect(try server.readHead().isChunked)
            #expect(try !server.readChunk().isEmpty)
            let carried = Carried(client)
            let sender = Background {
                try carried.value.send([UInt8](repeating: 0xA5, count: body.count - cut))
            }
            #expect(try client.readResponse().status == 400)
            try server.waitForEnd()
            client.close()
            try? sender.join()
        }
    }

    // MARK: Answers

    static func ask(_ accept: String, method: String = "POST") -> String {
        "\(method) /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nAccept-Encoding: \(accept)\r\n"
            + "Content-Length: 0\r\n\r\n"
    }

    static func answer(_ body: String, fields: String = "") -> String {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\(fields)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test(arguments: ContentCoding.allCases, [1_100, 20_000, 3_000_000])
    func answersAreCompressed(coding: ContentCoding, count: Int) throws {
        try Wire.one { wire, upstream in
            let text = Self.json(count)
            upstream.serve { _, socket in
                try socket.send(Self.answer(text, fields: "ETag: \"e\"\r\n"))
            }
            let client = try wire.client()
            // Twice on one connection: nothing of the first is left.
            for _ in 0..<2 {
                try client.send(Self.ask("\(coding.name)"))
                let answer = try client.readResponse()
                #expect(answer["content-encoding"] == "\(coding.name)")
                #expect(answer["vary"] == "Accept-Encoding")
                #expect(answer["etag"] == "W/\"e\"")
                #expect(answer["content-length"] == nil)
                #expect(answer.body.count < text.utf8.count * 3 / 4)
                #expect(try Self.decode(answer.body, coding) == text)
            }
            let counted = try wire.statistics().workers.coding
            #expect(counted.answers == [coding: 2])
            #expect(counted.plainBytes == UInt64(text.utf8.count) * 2)
            #expect(counted.codedBytes < counted.plainBytes)
        }
    }

    @Test(arguments: [
        (Self.ask("br"), Self.answer(Self.json(2_000))),
        (Self.ask("gzip;q=0"), Self.answer(Self.json(2_000))),
        (Self.ask("gzip"), Self.answer(Self.json(100))),
        (
            Self.ask("gzip"),
            Self.answer(Self.json(2_000), fields: "Cache-Control: no-transform\r\n")
        ),
        (Self.ask("gzip"), Self.answer(Self.json(2_000), fields: "Content-Encoding: br\r\n")),
    ])
    func otherAnswersStayAsTheyAre(request: String, answer: String) throws {
        try Wire.one { wire, upstream in
            upstream.serve { _, socket in try socket.send(answer) }
            let got = try wire.fetch(request)
            #expect(answer.hasSuffix(got.text) && !got.body.isEmpty)
            #expect(got["vary"] == nil)
            #expect(got["content-length"] == "\(got.body.count)")
        }
    }

    @Test func answersToGetSayThatTheyVary() throws {
        try Wire.one { wire, upstream in
            upstream.serve { _, socket in try socket.send(Self.answer(Self.json(2_000))) }
            let plain = try wire.fetch(Ask.get())
            #expect(plain["vary"] == "Accept-Encoding" && plain["content-encoding"] == nil)
            #expect(plain["content-length"] == "\(plain.body.count)")
            let coded = try wire.fetch(Ask.get(fields: "Accept-Encoding: gzip\r\n"))
            #expect(coded["vary"] == "Accept-Encoding")
            #expect(try Self.decode(coded.body, .gzip) == plain.text)
        }
    }

    /// RFC 9110, section 9.3.2.
    @Test(arguments: [
        ("Accept-Encoding: gzip\r\n", 2_000), ("", 2_000), ("Accept-Encoding: gzip\r\n", 20),
    ])
    func headSaysWhatGetWould(fields: String, count: Int) throws {
        try Wire.one { wire, upstream in
            upstream.serve { request, socket in
                let answer = Self.answer(Self.json(count), fields: "ETag: \"e\"\r\n")
                let isHead = request.startLine.hasPrefix("HEAD")
                let end = answer.firstRange(of: "\r\n\r\n")?.upperBound ?? answer.endIndex
                try socket.send(isHead ? String(answer[..<end]) : answer)
            }
            let get = try wire.fetch(Ask.get(fields: fields))
            let head = try wire.fetch(Ask.get(method: "HEAD", fields: fields), to: "HEAD")
            for name in ["vary", "content-encoding", "etag", "content-length"] {
                #expect(head[name] == get[name])
            }
            #expect((head["vary"] == nil) == (count < 1_024))
        }
    }

    @Test func oldClientsGetTheEndOfTheConnection() throws {
        try Wire.one { wire, upstream in
            let text = Self.json(5_000)
            upstream.serve { _, socket in try socket.send(Self.answer(text)) }
            let answer = try wire.fetch(
                "POST /v2/models/m/infer HTTP/1.0\r\nHost: h\r\nAccept-Encoding: gzip\r\n"
                    + "Content-Length: 0\r\n\r\n"
            )
            #expect(answer["transfer-encoding"] == nil)
            #expect(try Self.decode(answer.body, .gzip) == text)
        }
    }

    /// Each event can be decoded before the next one is sent.
    @Test(arguments: ContentCoding.allCases)
    func eventsAreFlushed(coding: ContentCoding) throws {
        try Wire.one({ $0.compression.streams = true }) { wire, upstream in
            let client = try wire.client()
            try client.send(
                Ask.chat("{\"model\":\"m\"}", fields: "Accept-Encoding: \(coding.name)\r\n")
            )
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    + "Trailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            #expect(try client.readHead()["content-encoding"] == "\(coding.name)")
            let decoder = ContentDecoder([coding], limits: DecodingLimits())
            let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 1)
            defer { room.deallocate() }
            for index in 0..<20 {
                let event = "data: {\"choices\":[{\"text\":\"t\(index)\"}]}\n\n"
                try server.send("\(String(event.utf8.count, radix: 16))\r\n\(event)\r\n")
                var got = ""
                while got.utf8.count < event.utf8.count {
                    let chunk = try client.readChunk()
                    try #require(!chunk.isEmpty)
                    let step = try chunk.withUnsafeBytes { try decoder.decode($0, into: room) }
                    got += String(decoding: room[..<step.produced], as: UTF8.self)
                }
                #expect(got == event)
            }
            try server.send("0\r\nx-end: yes\r\n\r\n")
            while true {
                let chunk = try client.readChunk()
                if chunk.isEmpty { break }
                _ = try chunk.withUnsafeBytes { try decoder.decode($0, into: room) }
            }
            #expect(decoder.isComplete)
            #expect(try client.readLine() == "x-end: yes")
            let variant = try #require(wire.statistics().models["m"]?.variants.first)
            #expect(variant.outputTokens == 20)
        }
    }

    @Test func streamsAreLeftAloneUnlessAskedFor() throws {
        try Wire.one { wire, upstream in
            upstream.serve { _, socket in
                try socket.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        + "Transfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n0\r\n\r\n"
                )
            }
            let answer = try wire.fetch(
                Ask.chat("{\"model\":\"m\"}", fields: "Accept-Encoding: gzip\r\n")
            )
            #expect(answer["content-encoding"] == nil && answer.text == "data:")
        }
    }

    /// A client that leaves in the middle gives its encoder back.
    @Test func clientsMayLeave() throws {
        try Wire.one { wire, upstream in
            for _ in 0..<3 {
                let client = try wire.client()
                try client.send(Self.ask("gzip"))
                let server = try upstream.accept()
                _ = try server.readRequest()
                try server.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        + "Content-Length: 100000\r\n\r\n" + String(repeating: "[", count: 50_000)
                )
                #expect(try client.readHead()["content-encoding"] == "gzip")
                client.reset()
                try server.waitForEnd()
            }
        }
    }

    // MARK: Answers that come compressed

    @Test(arguments: ContentCoding.allCases, [true, false])
    func usageIsReadInCompressedAnswers(coding: ContentCoding, isWhole: Bool) throws {
        try Wire.one { wire, upstream in
            let text = "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}"
            var body = Self.encode(text, coding)
            if !isWhole { body.removeLast(3) }
            let sent = body
            upstream.serve { _, socket in
                try socket.send(
                    Array(
                        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                            + "Content-Encoding: \(coding.name)\r\n"
                            + "Content-Length: \(sent.count)\r\n\r\n").utf8
                    ) + sent
                )
            }
            let answer = try wire.fetch(Ask.chat("{\"model\":\"m\"}"))
            #expect(answer.body == sent)
            let statistics = try wire.statistics()
            let variant = try #require(statistics.models["m"]?.variants.first)
            #expect(variant.outputTokens == (isWhole ? 5 : 0))
            #expect(statistics.workers.coding.unreadable == (isWhole ? 0 : 1))
        }
    }
}
