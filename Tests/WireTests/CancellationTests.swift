import Proxy
import Testing

/// A client that goes away takes its upstream request with it, in every phase.
@Suite struct CancellationTests {
    @Test(arguments: [true, false])
    func cancelsBeforeTheFirstByte(byReset: Bool) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            if byReset { client.reset() } else { client.close() }
            #expect(try server.waitForEnd() == .reset)
            try wire.wait(for: "a 499") { $0.models["m"]?.variants[0].requestsByCode[499] == 1 }
        }
    }

    @Test(arguments: [true, false])
    func cancelsInTheMidstOfAStream(byReset: Bool) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            _ = try client.readHead()
            #expect(try client.readChunk() == Array("abc".utf8))
            if byReset { client.reset() } else { client.close() }
            // A FIN alone says nothing about who still reads; the next byte finds out.
            if byReset {
                #expect(try server.waitForEnd() == .reset)
            } else {
                try self.sendUntilEnded(server)
            }
        }
    }

    private func sendUntilEnded(_ server: RawSocket) throws {
        do {
            for _ in 0..<1_000_000 { try server.send("1\r\nx\r\n") }
        } catch WireError.reset {
            return
        }
        throw WireError.timeout("the end of a stream to nobody")
    }

    @Test func leavesTheQueue() throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let second = try wire.client()
            try second.send(Ask.infer("m", "second"))
            try wire.wait(for: "the second in the queue") { wire.queueDepth() == 1 }
            let third = try wire.client()
            try third.send(Ask.infer("m", "third"))
            try wire.wait(for: "the third in the queue") { wire.queueDepth() == 2 }
            second.reset()
            try wire.wait(for: "the second out of the queue") { wire.queueDepth() == 1 }
            try server.respond()
            #expect(try first.readResponse().status == 200)
            #expect(try server.readRequest().text == "third")
            try server.respond()
            #expect(try third.readResponse().status == 200)
            #expect(try wire.statistics().models["m"]?.unrouted[499] == 1)
        }
    }

    /// The body fills all buffers on the way to a replica that does not read. (A FIN would wait
    /// behind the body, where nobody can see it.)
    @Test func cancelsWhileTheBodyIsStuck() throws {
        try Wire.one { wire, upstream in
            upstream.setReceiveBuffer(4096)
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 500000000\r\n\r\n"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            _ = try client.sendUntilBlocked(limit: 64 * 1024 * 1024, pauseMilliseconds: 200)
            client.reset()
            try wire.wait(for: "the end of the request") { $0.workers.upstreamConnections == 0 }
            #expect(try server.waitForEnd() == .reset)
        }
    }

    @Test(arguments: [true, false])
    func cancelsWhileTheBodyStillComes(byReset: Bool) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\npart"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            #expect(try server.read(count: 4) == Array("part".utf8))
            if byReset { client.reset() } else { client.close() }
            #expect(try server.waitForEnd() == .reset)
        }
    }

    /// Queued with a large body behind: nobody reads the client, and yet its reset must be seen.
    @Test func leavesTheQueueWithABodyBehind() throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let second = try wire.client()
            try second.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 500000000\r\n\r\n"
            )
            _ = try second.sendUntilBlocked(limit: 64 * 1024 * 1024, pauseMilliseconds: 200)
            try wire.wait(for: "the second in the queue") { wire.queueDepth() == 1 }
            second.reset()
            try wire.wait(for: "the second out of the queue") { wire.queueDepth() == 0 }
            try server.respond()
            #expect(try first.readResponse().status == 200)
        }
    }

    @Test func cancelsWhileTheModelsNameIsAwaited() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{\"a\":"
            )
            client.close()
            try wire.wait(for: "the client gone") { $0.workers.clientConnections == 0 }
            #expect(!upstream.hasWaiting)
        }
    }

    /// The slot of a request that was cancelled serves the next in line.
    @Test func aCancelledRequestGivesItsSlotOn() throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let second = try wire.client()
            try second.send(Ask.infer("m", "second"))
            try wire.wait(for: "the second in the queue") { wire.queueDepth() == 1 }
            first.reset()
            #expect(try server.waitForEnd() == .reset)
            let next = try upstream.accept()
            #expect(try next.readRequest().text == "second")
            try next.respond()
            #expect(try second.readResponse().status == 200)
        }
    }
}
