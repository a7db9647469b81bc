import Testing

/// What of a head is forwarded, what is not, and what is added.
@Suite struct HeaderTests {
    /// Sends a request's fields and returns what the upstream got.
    private func forwarded(_ head: String, body: String = "", trusts: Bool = true) throws -> Message
    {
        var request: Message?
        try Wire.run(trustsForwarded: trusts) { wire in
            let upstream = try wire.upstream()
            wire.publish([.init(variants: [.init(endpoints: [wire.endpoint(upstream)])])])
            let client = try wire.client()
            try client.send(head + "\r\n" + body)
            let server = try upstream.accept()
            request = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
        return try #require(request)
    }

    @Test func removesWhatIsForOneConnectionFromRequests() throws {
        let request = try self.forwarded(
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nConnection: keep-alive, X-Private\r\n"
                + "connection: x-other\r\nX-Private: 1\r\nX-OTHER: 2\r\nKeep-Alive: timeout=5\r\n"
                + "Proxy-Connection: keep-alive\r\nTE: trailers\r\nProxy-Authorization: b\r\n"
                + "X-Kept: yes\r\n"
        )
        for name in [
            "connection", "x-private", "x-other", "keep-alive", "proxy-connection", "te",
            "x-weir-model",
        ] {
            #expect(request[name] == nil, "\(name)")
        }
        #expect(request["x-kept"] == "yes")
    }

    @Test func removesWhatIsForOneConnectionFromResponses() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond(
                fields: "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n"
                    + "Proxy-Connection: x\r\nX-Kept: yes\r\nX-Weir-Variant: forged\r\n"
                    + "X-Request-Id: forged\r\n"
            )
            let response = try client.readResponse()
            for name in ["connection", "x-private", "keep-alive", "proxy-connection"] {
                #expect(response[name] == nil, "\(name)")
            }
            #expect(response["x-kept"] == "yes")
            #expect(response["x-weir-variant"] == "v1")
            #expect(response["x-request-id"] != "forged")
        }
    }

    /// A client that nominates what the gateway adds, or what frames the message, gets neither off.
    @Test func keepsItsOwnFieldsWhateverConnectionNominates() throws {
        let request = try self.forwarded(
            "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
                + "Connection: content-length, host, x-forwarded-for, via, x-request-id\r\n",
            body: "abc"
        )
        #expect(request["host"] == "h")
        #expect(request["content-length"] == "3")
        #expect(request["x-forwarded-for"] == "127.0.0.1")
        #expect(request["via"] == "1.1 weir")
        #expect(request["x-request-id"] != nil)
    }

    @Test func tellsUpstreamsAboutTheClient() throws {
        let request = try self.forwarded("GET /a HTTP/1.1\r\nHost: h:81\r\nX-Weir-Model: m\r\n")
        #expect(request["x-forwarded-for"] == "127.0.0.1")
        #expect(request["x-forwarded-proto"] == "http")
        #expect(request["x-forwarded-host"] == "h:81")
        #expect(request["forwarded"] == "for=127.0.0.1;proto=http;host=\"h:81\"")
        #expect(request["via"] == "1.1 weir")
        #expect(request["host"] == "h:81")
        #expect(request["traceparent"]?.count == 55)
    }

    @Test(arguments: [true, false])
    func extendsOrReplacesWhatTheClientSaysOfItsOwnHops(trusts: Bool) throws {
        let request = try self.forwarded(
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nX-Forwarded-For: 10.0.0.1\r\n"
                + "X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Proto: https\r\n"
                + "X-Forwarded-Host: outside\r\nForwarded: for=10.0.0.1\r\nVia: 1.0 edge\r\n",
            trusts: trusts
        )
        #expect(
            request["x-forwarded-for"]
                == (trusts ? "10.0.0.1, 10.0.0.2, 127.0.0.1" : "127.0.0.1")
        )
        #expect(request["x-forwarded-proto"] == (trusts ? "https" : "http"))
        #expect(request["x-forwarded-host"] == (trusts ? "outside" : "h"))
        #expect(
            request["forwarded"] == (trusts ? "for=10.0.0.1, " : "")
                + "for=127.0.0.1;proto=http;host=\"h\""
        )
        #expect(request["via"] == "1.0 edge, 1.1 weir")
    }

    @Test func passesAGoodTraceAndRequestIDOnAndReplacesABadOne() throws {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        let good = try self.forwarded(
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nTraceparent: \(trace)\r\n"
                + "X-Request-Id: abc-123\r\n"
        )
        #expect(good["traceparent"] == trace)
        #expect(good["x-request-id"] == "abc-123")
        let bad = try self.forwarded(
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nTraceparent: 00-zz\r\n"
        )
        #expect(bad["traceparent"] != "00-zz")
        #expect(bad["traceparent"]?.count == 55)
    }

    @Test func takesTheHostOfAnAbsoluteTarget() throws {
        let request = try self.forwarded(
            "GET http://real.example:8080/a?b=c HTTP/1.1\r\nHost: other\r\nX-Weir-Model: m\r\n"
        )
        #expect(request.startLine == "GET /a?b=c HTTP/1.1")
        #expect(request["host"] == "real.example:8080")
        #expect(request["x-forwarded-host"] == "real.example:8080")
    }

    @Test func passesTheTargetOnByteForByte() throws {
        let target = "//a/../b/%2e%2E/%00?x=%zz&\"<>[]\\^`{|}"
        let request = try self.forwarded(
            "GET \(target) HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\n"
        )
        #expect(request.target == target)
    }

    @Test func refusesConnect() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nX-Weir-Model: m\r\n\r\n"
            )
            let response = try client.readResponse()
            #expect(response.status == 405)
            #expect(!upstream.hasWaiting)
        }
    }

    /// Many ways to write the same request; one way to forward it.
    @Test func framesWhatItForwardsCanonically() throws {
        let request = try self.forwarded(
            "POST /v2/models/m/infer HTTP/1.1\r\nhOsT:   h\t \r\ncontent-LENGTH:  003 \r\n"
                + "X-A:\t a  b\t\r\nX-Empty:\r\n",
            body: "abc"
        )
        #expect(request.values("host") == ["h"])
        #expect(request.fields.filter { $0.name == "Content-Length" }.map(\.value) == ["3"])
        #expect(request["x-a"] == "a  b")
        #expect(request["x-empty"]?.isEmpty == true)
        #expect(request.text == "abc")
    }

    @Test func saysHowLongTheQueueAndTheUpstreamTookWhenAsked() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get(fields: "Server-Timing: please\r\n"))
            let server = try upstream.accept()
            #expect(try server.readRequest()["server-timing"] == nil)
            try server.respond()
            let timing = try client.readResponse()["server-timing"]
            #expect(timing?.hasPrefix("queue;dur=0.000, upstream;dur=") == true)
        }
    }
}
