import Core
import EventLoop
import HTTP
import LoopTestSupport
import Testing

@testable import HTTPService

@Suite struct HTTPFetchTests {
    private func fetch(
        _ harness: LoopHarness,
        _ request: FetchRequest
    ) throws -> Result<FetchResponse, FetchError> {
        var results: [Result<FetchResponse, FetchError>] = []
        HTTPFetch.start(request, on: harness.loop) { results.append($0) }
        try harness.run(until: "the answer") { !results.isEmpty }
        harness.settle()
        #expect(results.count == 1)
        return results[0]
    }

    private func isFailure(
        _ result: Result<FetchResponse, FetchError>,
        _ expected: FetchError
    ) -> Bool {
        if case .failure(let error) = result { error == expected } else { false }
    }

    @Test func bringsTheAnswer() throws {
        let test = try TestServer { request, response in
            let body = String(decoding: request.body, as: UTF8.self)
            response.respond(
                status: 201,
                fields: {
                    ResponseFields.add("X-Seen", request.field(named: "x-asked") ?? "", to: $0)
                },
                json: { $0.string("\(request.method.name) \(request.query ?? "") \(body)") }
            )
        }
        var request = FetchRequest(address: test.server.address, target: "/p?q=1")
        request.method = .post
        request.fields = [("X-Asked", "for this")]
        request.body = Array("content".utf8)
        let response = try self.fetch(test.harness, request).get()
        #expect(response.status == 201)
        #expect(response.text == "\"POST q=1 content\"")
        #expect(response.field("x-seen") == "for this")
        #expect(response.field("absent") == nil)
    }

    @Test func readsChunksAndBodiesUntilClose() throws {
        let test = try TestServer { _, response in
            response.writeHead(contentType: "text/plain")
            for index in 0..<1_000 { response.write("line \(index)\n") }
            response.end()
        }
        let response = try self.fetch(test.harness, FetchRequest(address: test.server.address))
            .get()
        #expect(response.text.split(separator: "\n").count == 1_000)
        let raw = try TestServer { _, response in
            response.writeRaw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil close")
            response.cutShort()
        }
        let plain = try self.fetch(raw.harness, FetchRequest(address: raw.server.address)).get()
        #expect(plain.text == "until close")
    }

    @Test func failsAsItShould() throws {
        let raw = try TestServer { request, response in
            if request.hasPath("/garbage") {
                response.writeRaw("SSH-2.0-OpenSSH\r\n")
            } else if request.hasPath("/short") {
                response.writeRaw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            } else if request.hasPath("/large") {
                response.writeRaw(
                    "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234567890123456789"
                )
            } else if request.hasPath("/hang") {
                return
            }
            response.cutShort()
        }
        func result(_ target: String) throws -> Result<FetchResponse, FetchError> {
            var request = FetchRequest(address: raw.server.address, target: target)
            request.bodyBytesMax = 10
            request.timeout = target == "/hang" ? .milliseconds(30) : .seconds(20)
            return try self.fetch(raw.harness, request)
        }
        guard case .failure(.invalidResponse) = try result("/garbage") else {
            Issue.record("garbage was accepted")
            return
        }
        #expect(self.isFailure(try result("/short"), .truncated))
        #expect(self.isFailure(try result("/large"), .tooLarge))
        #expect(self.isFailure(try result("/empty"), .truncated))
        #expect(self.isFailure(try result("/hang"), .timedOut))
        #expect(self.isFailure(try result("/with space"), .invalidRequest))
        #expect(self.isFailure(try result("no-slash"), .invalidRequest))
    }

    @Test func sendsNoFieldThatBreaksTheLine() throws {
        let test = try TestServer { _, response in response.notFound() }
        var request = FetchRequest(address: test.server.address)
        request.fields = [("X-A", "b\r\nX-Smuggled: c")]
        #expect(self.isFailure(try self.fetch(test.harness, request), .invalidRequest))
        #expect(test.server.counts.requests == 0)
    }

    @Test func refusedConnectionsAndCancelledFetches() throws {
        let test = try TestServer { _, _ in }
        let address = test.server.address
        var result: Result<FetchResponse, FetchError>?
        let fetch = HTTPFetch.start(FetchRequest(address: address), on: test.harness.loop) {
            result = $0
        }
        try test.harness.run { test.server.counts.requests == 1 }
        fetch.cancel()
        fetch.cancel()
        #expect(result.map { self.isFailure($0, .cancelled) } == true)
        test.server.close()
        guard
            case .failure(.cannotConnect) = try self.fetch(
                test.harness,
                FetchRequest(address: address)
            )
        else {
            Issue.record("connected to nothing")
            return
        }
    }

    @Test func blockingFetchRunsItsOwnLoop() throws {
        guard let nobody = SocketAddress("127.0.0.1:1") else { return }
        #expect(throws: FetchError.self) {
            try HTTPFetch.wait(for: FetchRequest(address: nobody))
        }
        // Made here, run by the thread, closed here once the thread has gone.
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let loop = try EventLoop()
        let server = try HTTPServer(loop: loop, address: address) { _, response in
            response.respond(contentType: "text/plain", text: "from afar")
        }
        let thread = LoopThread(name: "server", loop: loop)
        defer {
            loop.stop()
            thread.join()
            server.close()
        }
        let response = try HTTPFetch.wait(for: FetchRequest(address: server.address))
        #expect(response.text == "from afar")
    }
}
