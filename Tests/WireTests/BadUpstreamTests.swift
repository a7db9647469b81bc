import Proxy
import Synchronization
import TestSupport
import Testing

/// Replicas that break the rules: the client gets a 502 or a cut, and the next request an answer.
@Suite struct BadUpstreamTests {
    /// Answers one request with `bytes` (and FIN, where asked) and gives what the client got; then
    /// sees that a good replica on a new connection serves the same client or the next.
    private func answer(
        _ bytes: String,
        finishes: Bool = true,
        to method: String = "GET"
    ) throws -> Result<Message, WireError> {
        var result: Result<Message, WireError> = .failure(.timeout("nothing"))
        try Wire.one {
            $0.attempts = 1
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get("/side", method: method, fields: "Content-Length: 0\r\n"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            do { try server.send(bytes) } catch WireError.reset {}
            if finishes { server.finish() }
            do {
                result = .success(try client.readResponse(to: method))
            } catch let error as WireError {
                result = .failure(error)
            }
            server.close()
            let next = try wire.client()
            try next.send(Ask.get("/next"))
            let healthy = try upstream.accept()
            #expect(try healthy.readRequest().target == "/next")
            try healthy.respond("healthy")
            #expect(try next.readResponse().text == "healthy")
        }
        return result
    }

    @Test(arguments: ResponseCase.all.filter { $0.label != nil })
    func aHeadThatCannotBeReadIsA502(_ bad: ResponseCase) throws {
        let text = String(decoding: bad.bytes, as: UTF8.self)
        #expect(try self.answer(text).get().status == 502)
    }

    @Test(arguments: [
        "", "HTTP/1.1 200 OK\r\nContent-Le", "\u{0}\u{1}\u{2}", "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nX: " + String(repeating: "y", count: 100_000) + "\r\n\r\n",
        String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 17),
        "HTTP/1.1 200 OK\r\n" + (0..<200).map { "X-\($0): y\r\n" }.joined() + "\r\n",
    ])
    func noAnswerIsA502(_ bytes: String) throws {
        #expect(try self.answer(bytes).get().status == 502)
    }

    @Test func garbageInTheMiddleCutsTheAnswer() throws {
        for chunks in ["zz\r\n", "5\r\nhelloX", "-1\r\n", "5\r\nhel"] {
            let result = try self.answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + chunks
            )
            #expect(throws: WireError.self) { try result.get() }
        }
    }

    @Test func aBodyThatIsTooShortIsCut() throws {
        let result = try self.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
        #expect(throws: WireError.self) { try result.get() }
    }

    @Test func whatIsLongerThanItsLengthIsNotPassedOn() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than that")
            #expect(try client.readResponse().text == "ok")
            try server.waitForEnd()
            try client.send(Ask.get("/b"))
            let next = try upstream.accept()
            #expect(try next.readRequest().target == "/b")
            try next.respond("clean")
            #expect(try client.readResponse().text == "clean")
        }
    }

    /// Another client's request waits for the slot, and must not get the second answer.
    @Test(arguments: ["Content-Length: 2\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
    func aSecondAnswerReachesNobody(_ rest: String) throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let second = try wire.client()
            try second.send(Ask.infer("m", "second"))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
            try server.send("HTTP/1.1 200 OK\r\n\(rest)\(stray)")
            #expect(try first.readResponse().status == 200)
            let next = try upstream.accept()
            #expect(try next.readRequest().text == "second")
            try next.respond("its own")
            #expect(try second.readResponse().text == "its own")
        }
    }

    /// The second answer comes while the connection idles.
    @Test func anAnswerToNobodyEndsTheConnection() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
            try server.waitForEnd()
            try client.send(Ask.get("/b"))
            let next = try upstream.accept()
            _ = try next.readRequest()
            try next.respond("own")
            #expect(try client.readResponse().text == "own")
        }
    }

    /// Accepts connections and speaks before it is asked.
    @Test func anAnswerBeforeTheRequestIsNoAnswer() throws {
        try Wire.one { wire, upstream in
            let greeter = Background {
                let server = try upstream.accept()
                try server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
                try server.waitForEnd()
            }
            let response = try wire.fetch(Ask.get(method: "POST", fields: "Content-Length: 0\r\n"))
            // Too early by a hair or not, it is an answer or an error, and whole.
            #expect(response.status == 502 || response.text == "early")
            wire.endpoints[0].isRetired.store(true, ordering: .relaxed)
            wire.publish([.init(variants: [.init(endpoints: [])])])
            try greeter.join()
        }
    }

    @Test func interimAnswersWithoutEndAreBounded() throws {
        try Wire.one {
            $0.attempts = 1
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            do {
                while true { try server.send("HTTP/1.1 103 Early Hints\r\n\r\n") }
            } catch WireError.reset {}
            var response = try client.readResponse(interim: true)
            var count = 0
            while response.status == 103 {
                count += 1
                response = try client.readResponse(interim: true)
            }
            #expect(response.status == 502)
            #expect(count == 16)
        }
    }

    /// A server that stops in the middle of its head is as silent as one that says nothing.
    @Test func aHeadThatNeverEndsTimesOut() throws {
        try Wire.one {
            $0.firstByteTimeout = .milliseconds(100)
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nX: y")
            #expect(try client.readResponse().status == 504)
            #expect(try server.waitForEnd() == .reset)
        }
    }

    /// Whatever the method, a body where none may be is not taken for the next answer.
    @Test(arguments: [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")])
    func aBodyWhereNoneMayBeReachesNobody(_ method: String, _ status: String) throws {
        let stray = "HTTP/1.1 \(status)\r\nContent-Length: 5\r\n\r\nstray"
        let response = try self.answer(stray, to: method).get()
        #expect(response.status == Int(status.prefix(3)))
    }
}
