import Core
import EventLoop
import HTTP
import LoopTestSupport
import Testing

@testable import HTTPService

private func ok(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
    response.respond(contentType: "text/plain", text: "ok")
}

@Suite struct HTTPServerLimitTests {
    static let refusals: [(String, String)] = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GARBAGE\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400"
        ),
        ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505"),
        ("GET /\(String(repeating: "x", count: 9_000)) HTTP/1.1\r\nHost: x\r\n\r\n", "414"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: \(String(repeating: "x", count: 40_000))\r\n\r\n", "431"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n", "413"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "65\r\n\(String(repeating: "y", count: 101))\r\n0\r\n\r\n", "413"
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "400"),
    ]

    @Test(arguments: refusals)
    func refusesAndEndsTheConnection(_ request: String, _ status: String) throws {
        var options = HTTPServerOptions()
        options.bodyBytesMax = 100
        var handled = 0
        let test = try TestServer(options) { request, response in
            handled += 1
            ok(request, response)
        }
        let client = try test.client()
        try client.send(request + "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "HTTP/1.1 \(status) ")
        try client.wait(for: "{\"error\":")
        #expect(client.text.contains("Connection: close\r\n"))
        #expect(handled == 0)
        #expect(test.server.counts.refused == 1)
        client.finishWriting()
        try client.waitForEnd()
        try test.harness.run { test.server.counts.connections == 0 }
    }

    @Test func theLargestBodyIsTaken() throws {
        var options = HTTPServerOptions()
        options.bodyBytesMax = 100
        let test = try TestServer(options, handler: ok)
        let client = try test.client()
        let body = String(repeating: "y", count: 100)
        try client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n\(body)")
        try client.send(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n\(body)\r\n0\r\n\r\n"
        )
        try client.wait(for: "200 OK", count: 2)
    }

    @Test func turnsConnectionsAwayBeyondTheLimit() throws {
        var options = HTTPServerOptions()
        options.connectionsMax = 2
        let test = try TestServer(options, handler: ok)
        let first = try test.client()
        let second = try test.client()
        try test.harness.run { test.server.counts.connections == 2 }
        let third = try test.client()
        try third.waitForEnd()
        #expect(third.text.hasPrefix("HTTP/1.1 503 Service Unavailable\r\n"))
        #expect(test.server.counts.turnedAway == 1)
        first.close()
        try test.harness.run { test.server.counts.connections == 1 }
        let fourth = try test.client()
        try fourth.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try fourth.wait(for: "200 OK")
        try second.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try second.wait(for: "200 OK")
    }

    @Test func idleConnectionsEnd() throws {
        var options = HTTPServerOptions()
        options.idleTimeout = .milliseconds(30)
        let test = try TestServer(options, handler: ok)
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.waitForEnd()
        #expect(client.text.hasSuffix("ok"))
        #expect(test.server.counts.connections == 0)
    }

    @Test(arguments: [
        "GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    ])
    func slowRequestsAreAnswered408(_ request: String) throws {
        var options = HTTPServerOptions()
        options.headTimeout = .milliseconds(30)
        options.stallTimeout = .milliseconds(30)
        let test = try TestServer(options, handler: ok)
        let client = try test.client()
        try client.send(request)
        try client.wait(for: "HTTP/1.1 408 Request Timeout")
        client.finishWriting()
        try client.waitForEnd()
    }

    @Test func aClientThatReadsNothingIsCutOff() throws {
        var options = HTTPServerOptions()
        options.stallTimeout = .milliseconds(50)
        var isGone = false
        let test = try TestServer(options) { _, response in
            response.onClose { isGone = true }
            response.writeHead(contentType: "text/plain")
            let block = [UInt8](repeating: 1, count: 1 << 20)
            func produce() { while response.write(block.span.bytes) {} }
            response.onWritable(produce)
            produce()
        }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try test.harness.run(until: "the cut") { isGone }
        #expect(test.server.counts.connections == 0)
    }

    @Test func aFloodOfPipelinedRequestsWaitsInTheKernel() throws {
        var options = HTTPServerOptions()
        options.pipelineBytesMax = 4 << 10
        var held: ResponseWriter?
        var handled = 0
        let test = try TestServer(options) { request, response in
            handled += 1
            if held == nil { held = response } else { ok(request, response) }
        }
        let client = try test.client()
        let one = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        try client.send(one)
        try test.harness.run { held != nil }
        let count = 20_000
        var rest = Array(String(repeating: one, count: count).utf8)[...]
        // As much as the kernel and the server take together; then the answer lets the rest in.
        try client.send(Array(rest.prefix(100_000)))
        rest = rest.dropFirst(100_000)
        test.harness.settle()
        #expect(handled == 1)
        held?.respond(contentType: "text/plain", text: "ok")
        while !rest.isEmpty {
            try client.send(Array(rest.prefix(10_000)))
            rest = rest.dropFirst(10_000)
            client.poll()
        }
        try test.harness.run(until: "all answers") {
            client.poll()
            return handled == count + 1
        }
        try client.wait(for: "HTTP/1.1 200 OK", count: count + 1)
    }

    @Test func stopLetsRequestsFinishAndClosesIdleConnections() throws {
        var held: [ResponseWriter] = []
        let test = try TestServer { _, response in held.append(response) }
        let idle = try test.client()
        let busy = try test.client()
        try busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try test.harness.run { held.count == 1 && test.server.counts.connections == 2 }
        var isStopped = false
        test.server.stop(within: .seconds(60)) { isStopped = true }
        try idle.waitForEnd()
        #expect(!isStopped)
        let late = try? test.client()
        held[0].respond(contentType: "text/plain", text: "finished")
        try busy.waitForEnd()
        #expect(busy.text.contains("Connection: close\r\n"))
        #expect(busy.text.hasSuffix("finished"))
        busy.close()
        idle.close()
        try test.harness.run(until: "the stop") { isStopped }
        late?.close()
    }

    @Test func stopEndsWhatOutlastsItsGrace() throws {
        var held: [ResponseWriter] = []
        var isGone = false
        let test = try TestServer { _, response in
            response.onClose { isGone = true }
            held.append(response)
        }
        let busy = try test.client()
        try busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try test.harness.run { held.count == 1 }
        var isStopped = false
        test.server.stop(within: .milliseconds(20)) { isStopped = true }
        try test.harness.run(until: "the stop") { isStopped }
        #expect(isGone)
        try busy.waitForEnd()
        #expect(busy.isReset)
    }

    @Test func serversShareAnAddress() throws {
        var options = HTTPServerOptions()
        options.reusePort = true
        let test = try TestServer(options, handler: ok)
        let other = try HTTPServer(
            loop: test.harness.loop,
            address: test.server.address,
            options: options,
            handler: ok
        )
        defer { other.close() }
        #expect(other.address == test.server.address)
        for _ in 0..<200 {
            let client = try test.client()
            try client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            try client.wait(for: "200 OK")
        }
        // The kernel spreads by a hash of the addresses: one side getting none of 200 is 2^-199.
        #expect(test.server.counts.requests > 0)
        #expect(other.counts.requests > 0)
        #expect(test.server.counts.requests + other.counts.requests == 200)
    }

    @Test func anAddressInUseIsAnError() throws {
        let test = try TestServer(handler: ok)
        #expect(throws: SystemError.self) {
            try HTTPServer(loop: test.harness.loop, address: test.server.address, handler: ok)
        }
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func survivesGarbage(seed: UInt64) throws {
        let test = try TestServer(handler: ok)
        var random = RandomSource(seed: seed)
        let base = Array(
            "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .utf8
        )
        for _ in 0..<50 {
            var bytes = base + base
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = .random(
                    in: 0...255,
                    using: &random
                )
            }
            let client = try test.client()
            try client.send(Array(bytes.prefix(.random(in: 0...bytes.count, using: &random))))
            test.harness.settle(turns: 1)
            client.close(reset: .random(using: &random))
        }
        try test.harness.run { test.server.counts.connections == 0 }
        let client = try test.client()
        try client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try client.wait(for: "200 OK")
    }
}
