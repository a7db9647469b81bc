import Core
import Curl
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Testing

@Suite struct CurlFetchTests {
    @Test(arguments: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], ["", "content"])
    func sendsMethodTargetFieldsAndBody(method: String, body: String) throws {
        let peers = try Peers { request, response in
            let seen = [
                "\(request.method.name)", request.path, request.query ?? "",
                request.field(named: "x-asked") ?? "-", request.field(named: "user-agent") ?? "-",
                request.field(named: "content-type") ?? "-", request.field(named: "expect") ?? "-",
                request.field(named: "content-length") ?? "-",
                String(decoding: request.body, as: UTF8.self),
            ]
            response.respond(
                status: 201,
                fields: { ResponseFields.add("X-Answer", "  spaced out ", to: $0) },
                json: { $0.string(seen.joined(separator: "|")) }
            )
        }
        var request = peers.request("/a/../b%20c?q=1&r=%2F")
        request.method = method
        request.body = Array(body.utf8)
        request.fields = [("X-Asked", "for: this"), ("X-Empty", "")]
        let response = try peers.fetch(request).get()
        #expect(response.status == 201)
        #expect(response.head.field("x-answer") == "spaced out")
        #expect(response.head.field("absent") == nil)
        let hasNoLength = body.isEmpty && ["GET", "DELETE"].contains(method)
        let length = hasNoLength ? "-" : "\(body.utf8.count)"
        let agent = "weir/\(WeirVersion.current)"
        #expect(
            response.text
                == "\"\(method)|/a/../b%20c|q=1&r=%2F|for: this|\(agent)|-|-|\(length)|\(body)\""
        )
    }

    @Test func sendsAHeadAndTakesNoContent() throws {
        let peers = try Peers { request, response in
            response.respond(
                status: request.method == .head ? 200 : 405,
                contentType: "text/plain",
                text: "not for HEAD"
            )
        }
        var request = peers.request()
        request.method = "HEAD"
        let response = try peers.fetch(request).get()
        #expect(response.status == 200)
        #expect(response.body.isEmpty)
        #expect(response.head.field("Content-Length") == "12")
    }

    @Test func ownFieldsReplaceThoseOfItsOwn() throws {
        let peers = try Peers { request, response in
            let names: [StaticString] = ["host", "user-agent", "content-type", "accept"]
            response.respond(
                contentType: "text/plain",
                text: names.map { request.field(named: $0) ?? "-" }.joined(separator: "|")
            )
        }
        var request = peers.request()
        request.method = "POST"
        request.body = [0, 255, 0]
        request.fields = [
            ("Host", "other.example"), ("user-agent", "me"), ("Content-Type", "a/b"),
            ("ACCEPT", "c/d"),
        ]
        #expect(try peers.fetch(request).get().text == "other.example|me|a/b|c/d")
    }

    @Test func collectsLargeBodiesBothWays() throws {
        let sent = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let peers = try Peers { request, response in
            let body = request.body
            response.respond(contentType: "application/octet-stream", body: body.span.bytes)
        }
        var request = peers.request()
        request.method = "PUT"
        request.body = sent
        #expect(try peers.fetch(request).get().body == sent)
    }

    /// Redirects are the caller's business.
    @Test(arguments: [301, 302, 303, 307, 308] as [UInt16])
    func doesNotFollowRedirects(status: UInt16) throws {
        var asked = 0
        let peers = try Peers { request, response in
            asked += 1
            response.respond(
                status: status,
                contentType: "text/plain",
                fields: { ResponseFields.add("Location", "/elsewhere", to: $0) },
                body: [UInt8]().span.bytes
            )
        }
        let response = try peers.fetch(peers.request()).get()
        #expect(response.status == status)
        #expect(response.head.field("location") == "/elsewhere")
        #expect(asked == 1)
    }

    @Test func skipsInterimAnswersAndTrailers() throws {
        let peers = try Peers { _, response in
            response.writeRaw(
                """
                HTTP/1.1 103 Early Hints\r\nX-Interim: 1\r\n\r\n\
                HTTP/1.1 200 OK\r\nX-Final: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n
                """
            )
            response.cutShort()
        }
        let response = try peers.fetch(peers.request()).get()
        #expect(response.status == 200)
        #expect(response.head.fields.map(\.name) == ["X-Final", "Transfer-Encoding"])
        #expect(response.text == "hi")
    }

    @Test func reusesConnections() throws {
        let peers = try Peers { _, response in
            response.respond(contentType: "text/plain", text: "x")
        }
        for _ in 0..<20 { _ = try peers.fetch(peers.request()).get() }
        #expect(peers.server.counts.accepted == 1)
        #expect(peers.server.counts.requests == 20)
    }

    // MARK: Failures

    static let invalid: [(String, @Sendable (inout CurlRequest) -> Void)] = [
        ("http://", { $0.url = "ftp://127.0.0.1/" }), ("http://", { $0.url = "127.0.0.1:1" }),
        ("http://", { $0.url = "" }), ("percent", { $0.url = "http://127.0.0.1:1/a b" }),
        ("percent", { $0.url = "http://127.0.0.1:1/\r\nX: y" }),
        ("percent", { $0.url = "http://127.0.0.1:1/é" }),
        ("bytes", { $0.url = "http://127.0.0.1:1/" + String(repeating: "a", count: 65_536) }),
        ("method", { $0.method = "" }), ("method", { $0.method = "GET /\r\n" }),
        ("name of a field", { $0.fields = [("", "x")] }),
        ("name of a field", { $0.fields = [("A B", "x")] }),
        ("control", { $0.fields = [("A", "x\r\nB: y")] }),
        ("control", { $0.fields = [("A", "x\0")] }),
        ("timeout", { $0.connectTimeout = .zero }), ("timeout", { $0.totalTimeout = .zero }),
        ("timeout", { $0.idleTimeout = .seconds(-1) }),
        ("answer", { $0.responseBytesMax = -1 }),
        ("needs its key", { $0.tls.certificate = .file("a") }),
        ("needs its key", { $0.tls.key = .file("a") }),
        ("empty", { $0.tls.authorities = .data([]) }),
        ("empty", { $0.tls.authorities = .file("") }),
        ("at most", { $0.tls.authorities = .data(Array(repeating: 65, count: 4 << 20 + 1)) }),
        ("server name", { $0.tls.serverName = "a b" }),
        ("", { $0.url = "http://:80/" }), ("", { $0.url = "http://127.0.0.1:99999/" }),
        ("redentials", { $0.url = "http://user:word@127.0.0.1:1/" }),
    ]

    @Test(arguments: invalid.indices)
    func refusesWhatCannotBeSent(index: Int) throws {
        let (words, change) = Self.invalid[index]
        let peers = try Peers()
        var request = peers.request()
        change(&request)
        let failure = try #require(try peers.failure(request))
        guard case .invalidRequest(let why) = failure else {
            Issue.record("\(failure)")
            return
        }
        #expect(words.isEmpty || why.contains(words), "\(why)")
        #expect(!why.contains("word@"))
        #expect(failure.isBeforeSending)
    }

    @Test func saysThatNobodyListens() throws {
        let peers = try Peers()
        let other = try Peers()
        let request = other.request()
        other.server.close()
        let failure = try #require(try peers.failure(request))
        guard case .cannotConnect(let why) = failure else {
            Issue.record("\(failure)")
            return
        }
        #expect(why.contains("Connection refused"))
        #expect(failure.isBeforeSending)
    }

    @Test func saysThatAHostIsUnknown() throws {
        let peers = try Peers()
        // RFC 6761, section 6.4: never exists. Without any name server the answer is the same.
        let failure = try #require(try peers.failure(CurlRequest("http://weir.invalid/")))
        guard case .unknownHost(let why) = failure else {
            Issue.record("\(failure)")
            return
        }
        #expect(why.contains("weir.invalid"))
    }

    @Test func givesUpWhenTheAnswerTakesTooLong() throws {
        let peers = try Peers { request, response in
            if request.hasPath("/head") { return }
            response.writeHead(contentType: "text/plain")
            response.write("some")
        }
        for path in ["/head", "/body"] {
            var request = peers.request(path)
            request.totalTimeout = .milliseconds(50)
            #expect(try peers.failure(request) == .timedOut(.total))
        }
    }

    /// The kernel completes connections to a full backlog late or never.
    @Test func givesUpOnAConnection() throws {
        let peers = try Peers()
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let listener = try Sockets.listen(on: address, backlog: 0)
        defer { Sockets.close(listener) }
        let local = try #require(Sockets.localAddress(of: listener))
        var fillers: [Int32] = []
        defer { for filler in fillers { Sockets.close(filler) } }
        for _ in 0..<8 { fillers.append(try Sockets.connect(to: local)) }
        peers.harness.settle()
        var request = CurlRequest("http://\(local)/")
        request.connectTimeout = .milliseconds(50)
        let failure = try #require(try peers.failure(request))
        #expect(failure == .timedOut(.connect))
        #expect(failure.isBeforeSending)
    }

    @Test(arguments: [0, 1, 999, 1_000])
    func refusesAnswersThatAreTooLarge(limit: Int) throws {
        let peers = try Peers { request, response in
            if request.hasPath("/chunked") {
                response.writeHead(contentType: "text/plain")
                for _ in 0..<1_000 { response.write("x") }
                return response.end()
            }
            let text = String(repeating: "x", count: 1_000)
            response.respond(contentType: "text/plain", text: text)
        }
        for path in ["/whole", "/chunked"] {
            var request = peers.request(path)
            request.responseBytesMax = limit
            let result = try peers.fetch(request)
            if limit < 1_000 {
                #expect(result.error == .tooLarge(bytesMax: limit))
            } else {
                #expect(try result.get().body.count == 1_000)
            }
        }
    }

    @Test func refusesEndlessHeads() throws {
        let peers = try Peers { _, response in
            response.writeRaw("HTTP/1.1 200 OK\r\n")
            for _ in 0..<300 {
                response.writeRaw("X-Filler: ")
                for _ in 0..<100 { response.writeRaw("0123456789") }
                response.writeRaw("\r\n")
            }
            response.writeRaw("Content-Length: 0\r\n\r\n")
            response.cutShort()
        }
        #expect(
            try peers.failure(peers.request()) == .tooLarge(bytesMax: CurlLimits.headBytesMax)
        )
    }

    static let broken: [(StaticString, String)] = [
        ("", "lost"), ("HTTP/1.1 200 OK\r\nContent-", "lost"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "lost"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nshort", "lost"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "lost"),
        ("garbage that is no answer at all\r\n\r\n", "invalid"),
        ("HTTP/9.9 200 OK\r\n\r\n", "invalid"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "invalid"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "invalid"),
    ]

    @Test(arguments: broken.indices)
    func toleratesBrokenServers(index: Int) throws {
        let (bytes, expected) = Self.broken[index]
        let peers = try Peers { _, response in
            response.writeRaw(bytes)
            response.cutShort()
        }
        let failure = try #require(try peers.failure(peers.request()))
        switch failure {
        case .connectionLost: #expect(expected == "lost", "\(failure)")
        case .invalidResponse: #expect(expected == "invalid", "\(failure)")
        default: Issue.record("\(failure)")
        }
        #expect(!failure.isBeforeSending)
    }

    @Test func saysThatTheConnectionWasReset() throws {
        let peers = try Peers { _, response in response.abort() }
        guard case .connectionLost = try peers.failure(peers.request()) else {
            Issue.record("no loss")
            return
        }
    }

    // MARK: Proxies

    @Test func goesThroughAProxy() throws {
        let proxy = try Peers { request, response in
            if request.method == .connect { return response.refuse(status: 403, "not there") }
            response.respond(contentType: "text/plain", text: "proxied \(request.path)")
        }
        var request = CurlRequest("http://elsewhere.invalid/x")
        request.proxy = .url("http://\(proxy.server.address)")
        #expect(try proxy.fetch(request).get().text.hasPrefix("proxied "))
        request.url = "https://elsewhere.invalid/x"
        let failure = try #require(try proxy.failure(request))
        #expect(failure == .proxyRefused("it answered CONNECT with 403"))
    }
}
