import Core
import Proxy
import Testing

/// Each limit with its status, at the limit and one beyond; and slow clients.
@Suite struct LimitTests {
    private static func limits(_ change: (inout GatewayLimits) -> Void) -> GatewayLimits {
        var limits = GatewayLimits()
        change(&limits)
        return limits
    }

    /// The answer to a request that a replica would answer with 200.
    private func status(_ request: String, _ limits: GatewayLimits) throws -> Int {
        var status = 0
        try Wire.one(limits: limits) { wire, upstream in
            upstream.serve { _, socket in try socket.respond() }
            status = try wire.fetch(request).status
            // And the next request is served.
            let next = try wire.fetch(Ask.get())
            #expect(next.status == 200)
        }
        return status
    }

    @Test func headersTooLargeAre431() throws {
        let limits = Self.limits { $0.maxHeaderBytes = 4096 }
        func request(_ size: Int) -> String {
            let start = "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nX: "
            return start + String(repeating: "y", count: size - start.utf8.count - 4) + "\r\n\r\n"
        }
        #expect(try self.status(request(4096), limits) == 200)
        #expect(try self.status(request(4097), limits) == 431)
        // Below the megabyte that is read of a refused request before it is cut.
        #expect(try self.status(request(900_000), limits) == 431)
    }

    @Test func tooManyHeadersAre431() throws {
        let limits = Self.limits { $0.maxHeaders = 20 }
        func request(_ count: Int) -> String {
            Ask.get(fields: (0..<count - 2).map { "X-\($0): y\r\n" }.joined())
        }
        #expect(try self.status(request(20), limits) == 200)
        #expect(try self.status(request(21), limits) == 431)
        #expect(try self.status(request(10_000), limits) == 431)
    }

    @Test func aTargetTooLongIs414() throws {
        let limits = Self.limits { $0.maxTargetBytes = 100 }
        func request(_ count: Int) -> String {
            Ask.get("/" + String(repeating: "a", count: count - 1))
        }
        #expect(try self.status(request(100), limits) == 200)
        #expect(try self.status(request(101), limits) == 414)
        #expect(try self.status(request(1_000_000), limits) == 414)
    }

    @Test func aBodyTooLargeIs413() throws {
        let limits = Self.limits { $0.maxRequestBody = 1_000 }
        let body = String(repeating: "x", count: 1_000)
        func chunked(_ body: String) -> String {
            "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "\(String(body.utf8.count, radix: 16))\r\n\(body)\r\n0\r\n\r\n"
        }
        #expect(try self.status(Ask.infer("m", body), limits) == 200)
        #expect(try self.status(Ask.infer("m", body + "x"), limits) == 413)
        #expect(try self.status(chunked(body), limits) == 200)
        #expect(try self.status(chunked(body + "x"), limits) == 413)
    }

    /// A head of a gigabyte: refused when it is over the limit, not when it is complete.
    @Test func anEndlessHeadIsRefusedEarly() async {
        // In a process of its own: other tests would share its memory.
        await #expect(processExitsWith: .success) {
            try Wire.run { wire in
                let before = try Memory.resident()
                let client = try wire.client()
                try client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ")
                do {
                    _ = try client.sendUntilBlocked(limit: 1 << 30, pauseMilliseconds: 5_000)
                } catch WireError.reset {}
                #expect(try Memory.resident() - before < 16 * 1024 * 1024)
                let next = try wire.fetch("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(next.status == 200)
            }
        }
    }

    // MARK: Slow clients

    @Test func aSlowHeadIs408() throws {
        try Wire.run(limits: Self.limits { $0.headerTimeout = .milliseconds(100) }) { wire in
            let client = try wire.client()
            try client.send("GET /v2 HTTP/1.1\r\nHost:")
            #expect(try client.readResponse().status == 408)
            #expect(try client.waitForEnd() == .fin)
        }
    }

    /// Bytes that trickle in do not move the deadline of a head.
    @Test func aTricklingHeadIs408() throws {
        try Wire.run(limits: Self.limits { $0.headerTimeout = .milliseconds(200) }) { wire in
            let client = try wire.client()
            // A first request, so that the connection is one that has served.
            try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\nGET /v2 HTTP/1.1\r\nX: ")
            #expect(try client.readResponse().status == 200)
            while client.isQuiet {
                do { try client.send("y") } catch WireError.reset { break }
            }
            #expect([408, 431].contains(try client.readResponse().status))
        }
    }

    @Test func aConnectionThatSaysNothingIsClosed() throws {
        try Wire.run(limits: Self.limits { $0.headerTimeout = .milliseconds(50) }) { wire in
            #expect(try wire.client().readToEnd().isEmpty)
            let client = try wire.client()
            #expect(try client.waitForEnd() == .fin)
        }
    }

    @Test func anIdleConnectionIsClosed() throws {
        try Wire.run(limits: Self.limits { $0.idleTimeout = .milliseconds(50) }) { wire in
            let client = try wire.client()
            try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.readResponse().status == 200)
            #expect(try client.readToEnd().isEmpty)
        }
    }

    @Test func aSlowBodyIs408AndCancelsTheUpstream() throws {
        let limits = Self.limits { $0.idleTimeout = .milliseconds(100) }
        try Wire.one(limits: limits) { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            #expect(try client.readResponse().status == 408)
            #expect(try client.waitForEnd() == .fin)
            #expect(try server.waitForEnd() == .reset)
        }
    }

    /// A replica that reads slowly is no slow client. The idle connection, which has the same
    /// timeout, tells that the time has passed.
    @Test func aSlowReplicaIsNotASlowClient() throws {
        let limits = Self.limits { $0.idleTimeout = .milliseconds(200) }
        try Wire.one(limits: limits) { wire, upstream in
            upstream.setReceiveBuffer(4096)
            let client = try wire.client()
            let size = 32 * 1024 * 1024
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: \(size)\r\n\r\n"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            let ahead = try client.sendUntilBlocked(limit: size, pauseMilliseconds: 100)
            let clock = try wire.client()
            try clock.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try clock.readResponse()
            #expect(try clock.readToEnd().isEmpty)
            let carried = Carried(client)
            let rest = Background {
                _ = try carried.value.sendUntilBlocked(
                    limit: size - ahead,
                    pauseMilliseconds: 20_000
                )
            }
            #expect(try server.skip(size) == size)
            try rest.join()
            try server.respond("slow")
            #expect(try client.readResponse().text == "slow")
        }
    }

    /// Nothing is composed for a client that does not read.
    @Test func pipeliningWithoutReadingIsBounded() async {
        // In a process of its own: other tests would share its memory.
        await #expect(processExitsWith: .success) {
            try Wire.run { wire in
                let before = try Memory.resident()
                let client = try wire.client(receiveBuffer: 4096)
                let request = Array("GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n".utf8)
                let batch = Array(repeatElement(request, count: 1_000).joined())
                client.setDeadline(milliseconds: 500)
                var sent = 0
                do {
                    while sent < 10_000 {
                        try client.send(batch)
                        sent += 1
                    }
                    Issue.record("\(sent) batches were read without an answer being read")
                } catch WireError.timeout {}
                #expect(try Memory.resident() - before < 32 * 1024 * 1024)
                let next = try wire.fetch("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(next.status == 200)
            }
        }
    }

    // MARK: Connections

    @Test func refusesConnectionsOverTheLimitPolitely() throws {
        try Wire.run(limits: Self.limits { $0.maxConnections = 3 }) { wire in
            var clients: [RawSocket] = []
            for _ in 0..<3 {
                let client = try wire.client()
                try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.readResponse().status == 200)
                clients.append(client)
            }
            for _ in 0..<5 {
                let client = try wire.client()
                try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try client.readResponse()
                #expect(response.status == 503)
                #expect(response["retry-after"] != nil)
                #expect(response["connection"] == "close")
                #expect(try client.waitForEnd() == .fin)
                client.close()
            }
            clients[0].close()
            try wire.wait(for: "a place") { $0.workers.clientConnections == 2 }
            let next = try wire.fetch("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(next.status == 200)
            #expect(try wire.statistics().workers.clientConnectionsRefused == 5)
        }
    }
}
