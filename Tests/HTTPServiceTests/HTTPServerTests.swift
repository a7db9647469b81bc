import Core
import EventLoop
import HTTP
import LoopTestSupport
import Testing

@testable import HTTPService

/// A server on a free port of a loop of its own, closed at the end.
final class TestServer {
    let harness: LoopHarness
    let server: HTTPServer

    init(
        _ options: HTTPServerOptions = HTTPServerOptions(),
        handler: @escaping HTTPServer.Handler
    ) throws {
        self.harness = try LoopHarness()
        guard let address = SocketAddress("127.0.0.1:0") else { throw CancellationError() }
        self.server = try HTTPServer(
            loop: self.harness.loop,
            address: address,
            options: options,
            handler: handler
        )
    }

    deinit { self.server.close() }

    func client() throws -> RawClient {
        try RawClient(self.harness, to: self.server.address)
    }
}

/// Answers with the method, the path and the content.
private func echo(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
    let body = String(decoding: request.body, as: UTF8.self)
    let method: StaticString = request.method.name
    response.respond(contentType: "text/plain", text: "[\(method) \(request.path) \(body)]")
}

@Suite struct HTTPServerTests {
    @Test func answersWithDateLengthAndContent() throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        try client.send("GET /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "[GET /a/b ]")
        let lines = client.text.split(separator: "\r\n").map(String.init)
        #expect(lines[0] == "HTTP/1.1 200 OK")
        #expect(lines[1].hasPrefix("Date: ") && lines[1].hasSuffix(" GMT"))
        #expect(lines[1].utf8.count == 6 + 29)
        #expect(lines[2...] == ["Content-Type: text/plain", "Content-Length: 11", "[GET /a/b ]"])
        #expect(test.server.counts.requests == 1)
    }

    static let wholeRequests = [
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: v\r\n\r\n",
    ]

    @Test(arguments: wholeRequests)
    func readsARequestByteByByte(_ request: String) throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        for byte in request.utf8 {
            try client.send([byte])
            test.harness.settle(turns: 2)
        }
        try client.wait(for: "[POST /x hello]")
        // And the connection goes on.
        try client.send(request)
        try client.wait(for: "[POST /x hello]", count: 2)
        #expect(test.server.counts.accepted == 1)
    }

    @Test func answersPipelinedRequestsInOrder() throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        let count = 500
        var text = ""
        for index in 0..<count {
            text += "POST /\(index) HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        }
        try client.send(text)
        try client.wait(for: "abc]", count: count)
        let order = client.text.split(separator: "[POST /").dropFirst().compactMap {
            Int($0.prefix { $0.isNumber })
        }
        #expect(order == Array(0..<count))
    }

    @Test func answersLaterRequestsOnlyAfterASlowOne() throws {
        var held: [ResponseWriter] = []
        let test = try TestServer { request, response in
            if request.hasPath("/slow") { held.append(response) } else { echo(request, response) }
        }
        let client = try test.client()
        try client.send(
            "GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /fast HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        try test.harness.run { held.count == 1 }
        test.harness.settle()
        client.poll()
        #expect(client.received.isEmpty)
        held[0].respond(contentType: "text/plain", text: "[slow]")
        try client.wait(for: "[GET /fast ]")
        #expect(client.text.contains("[slow]"))
        // A writer that outlived its exchange does nothing.
        held[0].respond(contentType: "text/plain", text: "[again]")
        #expect(!held[0].isOpen)
        test.harness.settle()
        client.poll()
        #expect(!client.text.contains("again"))
    }

    @Test func streamsChunksAsTheyAreWritten() throws {
        var writer: ResponseWriter?
        let test = try TestServer { _, response in
            writer = response
            response.writeHead(contentType: "text/event-stream")
            response.flushHead()
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "Transfer-Encoding: chunked\r\n\r\n")
        writer?.write("hello")
        try client.wait(for: "5\r\nhello\r\n")
        writer?.write("")
        writer?.write(String(repeating: "x", count: 300))
        try client.wait(for: "12c\r\nxxx")
        #expect(!client.text.contains("0\r\n\r\n"))
        writer?.end()
        try client.wait(for: "xxx\r\n0\r\n\r\n")
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "HTTP/1.1 200 OK", count: 2)
    }

    @Test func tellsTheHandlerThatTheClientHasGone() throws {
        for reset in [false, true] {
            var isGone = false
            var writer: ResponseWriter?
            let test = try TestServer { _, response in
                writer = response
                response.onClose { isGone = true }
            }
            let client = try test.client()
            try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try test.harness.run { writer != nil }
            #expect(writer?.isOpen == true)
            client.close(reset: reset)
            try test.harness.run(until: "the close") { isGone }
            #expect(writer?.isOpen == false)
            #expect(test.server.counts.abandoned == 1)
            #expect(test.server.counts.connections == 0)
            var isToldLate = false
            writer?.onClose { isToldLate = true }
            #expect(isToldLate)
            writer?.respond(contentType: "text/plain", text: "nobody hears this")
        }
    }

    @Test func doesNotCallOnCloseAfterACompleteResponse() throws {
        var calls = 0
        let test = try TestServer { _, response in
            response.onClose { calls += 1 }
            response.respond(contentType: "text/plain", text: "done")
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "done")
        client.close()
        try test.harness.run { test.server.counts.connections == 0 }
        #expect(calls == 0)
        #expect(test.server.counts.abandoned == 0)
    }

    @Test func answersAClientThatClosedItsSendingSide() throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        try client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.finishWriting()
        try client.waitForEnd()
        #expect(client.text.contains("[GET /1 ]"))
        #expect(client.text.hasSuffix("[GET /2 ]"))
        #expect(!client.isReset)
    }

    @Test func slowReadersHoldTheHandlerBack() throws {
        var options = HTTPServerOptions()
        options.unsentBytesHigh = 64 << 10
        options.unsentBytesLow = 16 << 10
        let total = 32 << 20
        var produced = 0
        var highest = 0
        let block = [UInt8](repeating: 7, count: 16 << 10)
        let test = try TestServer(options) { _, response in
            response.writeHead(contentType: "application/octet-stream", contentLength: total)
            func produce() {
                while produced < total {
                    produced += block.count
                    if !response.write(block.span.bytes) { break }
                }
                if produced == total { response.end() }
            }
            response.onWritable(produce)
            produce()
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try test.harness.run { produced > 0 }
        test.harness.settle(turns: 200)
        let early = produced
        // Socket buffers and the limit hold it: far less than everything.
        #expect(early < total / 2)
        try test.harness.run(until: "the whole body") {
            client.poll(limit: 256 << 10)
            highest = max(highest, produced - client.received.count)
            return client.received.count >= total
        }
        #expect(produced == total)
        #expect(highest < total / 2)
        #expect(client.received.suffix(1_000).allSatisfy { $0 == 7 })
    }

    @Test func aHandlerThatIgnoresBackPressureLosesTheConnection() throws {
        var options = HTTPServerOptions()
        options.unsentBytesMax = 1 << 20
        var writes = 0
        var isGone = false
        let test = try TestServer(options) { _, response in
            response.onClose { isGone = true }
            response.writeHead(contentType: "text/plain")
            let block = [UInt8](repeating: 1, count: 1 << 20)
            while response.isOpen && writes < 100 {
                response.write(block.span.bytes)
                writes += 1
            }
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try test.harness.run { isGone }
        #expect(writes < 100)
        #expect(test.server.counts.connections == 0)
    }

    @Test func headHasTheFieldsWithoutTheContent() throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        try client.send("HEAD /q HTTP/1.1\r\nHost: x\r\n\r\nGET /q HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "[GET /q ]")
        #expect(client.occurrences(of: "Content-Length: 10\r\n") == 1)
        #expect(client.occurrences(of: "Content-Length: 9\r\n") == 1)
        #expect(!client.text.contains("[HEAD"))
    }

    @Test func http10ClosesUnlessAskedToKeep() throws {
        let test = try TestServer { request, response in
            if request.hasPath("/stream") {
                response.writeHead(contentType: "text/plain")
                response.write("until the end")
                response.end()
            } else {
                echo(request, response)
            }
        }
        let plain = try test.client()
        try plain.send("GET / HTTP/1.0\r\n\r\n")
        try plain.waitForEnd()
        #expect(plain.text.contains("Connection: close\r\n"))
        let kept = try test.client()
        try kept.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        try kept.wait(for: "Connection: keep-alive\r\n")
        try kept.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        try kept.waitForEnd()
        #expect(kept.text.hasSuffix("\r\n\r\nuntil the end"))
        #expect(!kept.text.contains("chunked"))
    }

    @Test func answers100ContinueOnceAndOnlyWhenItWaits() throws {
        let test = try TestServer(handler: echo)
        let client = try test.client()
        try client.send(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        try client.wait(for: "HTTP/1.1 100 Continue\r\n\r\n")
        try client.send("o")
        test.harness.settle()
        try client.send("k")
        try client.wait(for: "[POST / ok]")
        #expect(client.occurrences(of: "100 Continue") == 1)
    }

    @Test func aResponseThatEndsEarlyCutsTheConnection() throws {
        let test = try TestServer { _, response in
            response.writeHead(contentType: "text/plain", contentLength: 10)
            response.write("short")
            response.end()
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.waitForEnd()
        #expect(client.text.hasSuffix("short"))
    }

    @Test func helpersForWhatIsNotThere() throws {
        let test = try TestServer { request, response in
            if request.hasPath("/get") {
                response.methodNotAllowed(allow: "GET, HEAD")
            } else if request.hasPath("/empty") {
                response.respond(status: 204, contentType: "", body: RawSpan())
            } else {
                response.notFound()
            }
        }
        let client = try test.client()
        try client.send("POST /get HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.send("GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "HTTP/1.1 204 No Content")
        #expect(client.text.contains("HTTP/1.1 405 Method Not Allowed"))
        #expect(client.text.contains("Allow: GET, HEAD\r\n"))
        #expect(client.text.contains("HTTP/1.1 404 Not Found"))
        #expect(client.text.contains("{\"error\":\"there is nothing at this path\"}"))
        #expect(client.occurrences(of: "Content-Length") == 2)
    }
}
