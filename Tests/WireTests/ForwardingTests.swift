import Testing

/// HTTP/1.1 messages through the gateway and back, as RFC 9110 and 9112 have them.
@Suite struct ForwardingTests {
    // MARK: Connections

    @Test func keepsTheClientsConnectionAndTheUpstreamsBetweenRequests() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer("m", "one"))
            let server = try upstream.accept()
            #expect(try server.readRequest().text == "one")
            try server.respond("first")
            #expect(try client.readResponse().text == "first")
            for round in 0..<20 {
                try client.send(Ask.infer("m", "\(round)"))
                #expect(try server.readRequest().text == "\(round)")
                try server.respond("answer \(round)")
                #expect(try client.readResponse().text == "answer \(round)")
            }
            #expect(upstream.acceptedCount == 1 && !upstream.hasWaiting)
        }
    }

    @Test func closesAfterTheAnswerWhereTheClientAsksForIt() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get(fields: "Connection: close\r\n"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse()["connection"] == "close")
            #expect(try client.waitForEnd() == .fin)
            // The upstream's connection is the gateway's own and stays.
            _ = try wire.client().send(Ask.get())
            #expect(try server.readRequest().target == "/a")
            try server.respond()
        }
    }

    @Test(arguments: [true, false])
    func servesHTTP10(keepsAlive: Bool) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            let option = keepsAlive ? "Connection: keep-alive\r\n" : ""
            try client.send("GET /a HTTP/1.0\r\nX-Weir-Model: m\r\n\(option)\r\n")
            let server = try upstream.accept()
            #expect(try server.readRequest().startLine == "GET /a HTTP/1.1")
            try server.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            )
            let response = try client.readResponse()
            // Chunks are unknown to HTTP/1.0: the end of the connection ends the body.
            #expect(response["transfer-encoding"] == nil)
            #expect(response.text == "hi")
            #expect(try client.waitForEnd() == .fin)
        }
    }

    // MARK: Pipelining

    @Test func answersPipelinedRequestsInOrderLocalOnesIncluded() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                Ask.infer("m", "1") + "GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"
                    + Ask.infer("nobody", "2") + Ask.infer("m", "3") + Ask.infer("m", "4")
            )
            let server = try upstream.accept()
            for expected in ["1", "3", "4"] {
                #expect(try server.readRequest().text == expected)
                try server.respond("answer \(expected)")
            }
            #expect(try client.readResponse().text == "answer 1")
            #expect(try client.readResponse().text.contains("\"id\":\"m\""))
            #expect(try client.readResponse().status == 404)
            #expect(try client.readResponse().text == "answer 3")
            #expect(try client.readResponse().text == "answer 4")
        }
    }

    @Test func forwardsRequestsThatArriveByteByByte() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            let request =
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n" + Ask.infer("m", "next")
            for byte in request.utf8 { try client.send([byte]) }
            let server = try upstream.accept()
            #expect(try server.readRequest().text == "abcde")
            try server.respond("1")
            #expect(try client.readResponse().text == "1")
            #expect(try server.readRequest().text == "next")
            try server.respond("2")
            #expect(try client.readResponse().text == "2")
        }
    }

    @Test func passesResponsesThatArriveByteByByteAndReusesTheConnection() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            var server: RawSocket?
            for round in 0..<3 {
                try client.send(Ask.get())
                let connection = try server ?? upstream.accept()
                server = connection
                _ = try connection.readRequest()
                let response = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX: y\r\n\r\nhello\(round)"
                for byte in response.utf8 { try connection.send([byte]) }
                #expect(try client.readResponse().text == "hello\(round)")
            }
            #expect(upstream.acceptedCount == 1)
        }
    }

    // MARK: Chunked

    @Test func passesChunkedRequestsWithTrailers() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n"
                    + "Trailer: checksum\r\n\r\n5;name=value\r\nhello\r\n006\r\n world\r\n"
                    + "000\r\nChecksum: 17\r\n\r\n"
            )
            let server = try upstream.accept()
            let request = try server.readRequest()
            #expect(request.values("transfer-encoding") == ["chunked"])
            #expect(request["content-length"] == nil)
            #expect(request.text == "hello world")
            #expect(request.trailers == [.init(name: "Checksum", value: "17")])
            try server.respond()
            #expect(try client.readResponse().text == "ok")
        }
    }

    @Test func passesChunkedResponsesWithTrailers() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n"
                    + "1\r\n!\r\n0\r\nX-Sum: 3\r\n\r\n"
            )
            let response = try client.readResponse()
            #expect(response.values("transfer-encoding") == ["chunked"])
            #expect(response.text == "hello!")
            #expect(response.trailers == [.init(name: "X-Sum", value: "3")])
        }
    }

    @Test func chunksWhatTheUpstreamEndsByClosing() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
            server.close()
            let response = try client.readResponse()
            #expect(response.isChunked)
            #expect(response.text == "until the end")
            // The client's connection goes on.
            try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.readResponse().status == 200)
        }
    }

    // MARK: Answers without a body

    @Test(arguments: ["Content-Length: 1234\r\n", "Transfer-Encoding: chunked\r\n", ""])
    func answersHeadWithoutABody(_ fields: String) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get(method: "HEAD") + Ask.get("/b"))
            let server = try upstream.accept()
            #expect(try server.readRequest().startLine == "HEAD /a HTTP/1.1")
            try server.send("HTTP/1.1 200 OK\r\n\(fields)\r\n")
            let response = try client.readResponse(to: "HEAD")
            #expect(response.status == 200)
            #expect(response["content-length"] == (fields.contains("1234") ? "1234" : nil))
            #expect(try server.readRequest().target == "/b")
            try server.respond("behind")
            #expect(try client.readResponse().text == "behind")
        }
    }

    @Test(
        arguments: [
            ("204 No Content", "", nil), ("304 Not Modified", "Content-Length: 55\r\n", "55"),
            ("304 Not Modified", "ETag: \"x\"\r\n", nil),
        ] as [(String, String, String?)]
    )
    func answersWithoutBodyKeepTheConnection(
        _ status: String,
        _ fields: String,
        _ length: String?
    ) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get() + Ask.get("/b"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 \(status)\r\n\(fields)\r\n")
            let response = try client.readResponse()
            #expect(response.startLine == "HTTP/1.1 \(status)")
            #expect(response["content-length"] == length)
            #expect(response["transfer-encoding"] == nil)
            #expect(try server.readRequest().target == "/b")
            try server.respond("behind")
            #expect(try client.readResponse().text == "behind")
        }
    }

    // MARK: Interim responses

    @Test func relaysInterimResponses() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: y\r\nY: z\r\n\r\n"
            )
            let hints = try client.readResponse(interim: true)
            #expect(hints.startLine == "HTTP/1.1 103 Early Hints")
            #expect(hints["link"] == "</x>")
            #expect(hints["y"] == nil)
            try server.send("HTTP/1.1 102 Processing\r\n\r\n")
            #expect(try client.readResponse(interim: true).status == 102)
            try server.respond("done")
            #expect(try client.readResponse(interim: true).text == "done")
        }
    }

    @Test func sparesHTTP10InterimResponses() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send("GET /a HTTP/1.0\r\nX-Weir-Model: m\r\n\r\n")
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 103 Early Hints\r\n\r\n")
            try server.respond("done")
            #expect(try client.readResponse(interim: true).text == "done")
        }
    }

    // MARK: Expect

    @Test func letsTheUpstreamDecideOnABodyWhereTheHeadNamesTheModel() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n"
                    + "Expect: 100-continue\r\n\r\n"
            )
            let server = try upstream.accept()
            #expect(try server.readHead()["expect"] == "100-continue")
            #expect(client.isQuiet)
            try server.send("HTTP/1.1 100 Continue\r\n\r\n")
            #expect(try client.readResponse(interim: true).status == 100)
            try client.send("body")
            #expect(try server.read(count: 4) == Array("body".utf8))
            try server.respond("done")
            #expect(try client.readResponse(interim: true).text == "done")
        }
    }

    @Test func asksForTheBodyItselfWhereItNamesTheModel() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            let body = "{\"model\":\"m\"}"
            try client.send(
                "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.utf8.count)\r\n"
                    + "Expect: 100-continue\r\n\r\n"
            )
            #expect(try client.readResponse(interim: true).startLine == "HTTP/1.1 100 Continue")
            try client.send(body)
            let server = try upstream.accept()
            let request = try server.readRequest()
            #expect(request.text == body)
            #expect(request["expect"] == nil)
            try server.respond("done")
            #expect(try client.readResponse(interim: true).text == "done")
        }
    }

    @Test func passesARefusalOfTheBodyOn() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n"
                    + "Expect: 100-continue\r\n\r\n"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            try server.respond("no", status: "403 Forbidden")
            let response = try client.readResponse(interim: true)
            #expect(response.status == 403)
            // What the client does next is unknown: the connection cannot be used again.
            #expect(try client.waitForEnd() == .fin)
        }
    }

    @Test func refusesOtherExpectations() throws {
        try Wire.one { wire, upstream in
            let response = try wire.fetch(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n"
                    + "Expect: a-miracle\r\n\r\n"
            )
            #expect(response.status == 417)
            #expect(!upstream.hasWaiting)
        }
    }

    // MARK: Early and half-closed

    @Test func passesAnAnswerThatComesBeforeTheRequestIsComplete() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\npart"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            try server.respond("enough", status: "413 Content Too Large")
            let response = try client.readResponse()
            #expect(response.status == 413)
            #expect(response.text == "enough")
            // The rest of the request must not be taken for the next one.
            #expect(try client.waitForEnd() == .fin)
            try server.waitForEnd()
        }
    }

    @Test func answersAClientThatHasFinishedSending() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer("m", "all"))
            client.finish()
            let server = try upstream.accept()
            #expect(try server.readRequest().text == "all")
            try server.respond("still here")
            #expect(try client.readResponse().text == "still here")
            #expect(try client.waitForEnd() == .fin)
        }
    }

    /// The client reads slowly, so the end of the answer waits in the gateway when its FIN comes.
    @Test func answersAClientThatHasFinishedSendingInFull() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client(receiveBuffer: 4096)
            try client.send(Ask.get())
            client.finish()
            let server = try upstream.accept()
            _ = try server.readRequest()
            let size = 16 * 1024 * 1024
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            let carried = Carried(server)
            let writer = Background { try carried.value.send([UInt8](repeating: 7, count: size)) }
            let head = try client.readHead()
            #expect(head["content-length"] == "\(size)")
            #expect(try client.skip() == size)
            try writer.join()
        }
    }
}
