import Core
import Proxy
import Synchronization
import Testing

/// After thousands of requests of every kind nothing is left of them. In a process of their own:
/// descriptors are counted, and no other test may open any meanwhile.
@Suite struct LeakTests {
    @Test func nothingIsLeftAfterTenThousandMixedRequests() async throws {
        await #expect(processExitsWith: .success) {
            try Mixture.run(requests: 10_000)
        }
    }

    /// The checker itself: sockets that stay open are found. Several, since a process that has just
    /// begun may still be closing what it was started with.
    @Test func descriptorsThatStayOpenAreFound() async {
        await #expect(processExitsWith: .success) {
            try Mixture.holdDescriptors()
        }
    }
}

/// Requests of every kind: good, refused, failing, cut by either side.
private enum Mixture {
    static func holdDescriptors() throws {
        let before = try Memory.descriptors()
        let upstreams = try (0..<16).map { _ in try ScriptedUpstream() }
        let after = try Memory.descriptors()
        guard after >= before + 8, upstreams.allSatisfy({ $0.port != 0 }) else {
            throw WireError.malformed("\(after) descriptors, \(before) before")
        }
    }

    static func run(requests: Int) throws {
        var limits = GatewayLimits()
        limits.maxRequestBody = 100_000
        let wire = try Wire(workers: 2, limits: limits)
        try self.publish(wire)
        // Everything that is made once is made before the count.
        try self.send(200, to: wire)
        try self.settle(wire)
        let before = try Memory.descriptors()
        let resident = try Memory.resident()
        try self.send(requests, to: wire)
        try self.settle(wire)
        let after = try Memory.descriptors()
        guard after <= before else {
            throw WireError.malformed("\(after) descriptors, \(before) before")
        }
        let grown = try Memory.resident() - resident
        guard grown < 24 * 1024 * 1024 else { throw WireError.malformed("grown by \(grown)") }
        for endpoint in wire.endpoints where endpoint.inFlight.load(ordering: .relaxed) != 0 {
            throw WireError.malformed("slots of \(endpoint.name) are taken")
        }
        let drained = wire.drain()
        try wire.wait(for: "no request") { drained.value == 1 }
        wire.stop()
    }

    private static func publish(_ wire: Wire) throws {
        let upstream = try wire.upstream()
        upstream.serve { try self.misbehave($0, $1) }
        let refusing = try wire.upstream(isListening: false)
        var settings = Wire.settings
        settings.queueTimeout = .milliseconds(200)
        settings.firstByteTimeout = .seconds(5)
        settings.mirror = (variant: 1, share: 0.2)
        let good = wire.endpoint(upstream, limit: 8)
        wire.publish([
            .init(
                settings: settings,
                variants: [
                    .init(endpoints: [good, wire.endpoint(refusing, limit: 8)]),
                    .init(name: "v2", weight: 0, endpoints: [wire.endpoint(upstream)]),
                ]
            )
        ])
    }

    /// The replica does what the request's body says.
    private static func misbehave(_ request: Message, _ socket: RawSocket) throws {
        switch request.text {
        case "chunked":
            try socket.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: u\r\n\r\n"
            )
        case "close": try socket.respond(fields: "Connection: close\r\n")
        case "cut":
            try socket.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            throw WireError.ended("by rule")
        case "garbage":
            try socket.send("garbage\r\n\r\n")
            throw WireError.ended("by rule")
        case "nothing": throw WireError.ended("by rule")
        case "twice":
            try socket.respond()
            try socket.respond("again")
        case "upgrade":
            try socket.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
            )
            _ = try socket.readToEnd()
            throw WireError.ended("by rule")
        default: try socket.respond(request.text)
        }
    }

    private static let bodies = [
        "plain", "chunked", "close", "cut", "garbage", "nothing", "twice", "plain",
    ]

    /// From four threads; no answer is checked here but that there is an end.
    private static func send(_ count: Int, to wire: Wire) throws {
        let port = wire.port
        let threads = (0..<4).map { thread in
            Background {
                var random = RandomSource(seed: UInt64(thread + 1))
                for _ in 0..<count / 4 { try self.one(port, &random) }
            }
        }
        for thread in threads { try thread.join() }
    }

    private static func one(_ port: UInt16, _ random: inout RandomSource) throws {
        let client = try RawSocket.connect(port: port)
        defer { client.close() }
        let body = self.bodies[Int(random.next() % UInt64(self.bodies.count))]
        do {
            switch random.next() % 12 {
            case 0: try client.send("GET / HTTP/1.1\r\n: broken\r\n\r\n")
            case 1: try client.send("GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
            case 2: try client.send(Ask.infer("nobody", body))
            case 3:
                try client.send(Ask.infer("m", body))
                return client.reset()
            case 4:
                try client.send(String(Ask.infer("m", body).dropLast(2)))
                return client.close()
            case 5: try client.send(Ask.infer("m", String(repeating: "x", count: 100_001)))
            case 6: try client.send(Ask.infer("m", body) + Ask.infer("m", "plain"))
            case 7:
                try client.send(
                    "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nConnection: upgrade\r\n"
                        + "Upgrade: x\r\nContent-Length: 7\r\n\r\nupgrade"
                )
            case 8: try client.send(Ask.chat(#"{"model":17}"#))
            default: try client.send(Ask.infer("m", body, fields: "Connection: close\r\n"))
            }
            client.finish()
            try client.waitForEnd()
        } catch WireError.reset {
            // One way to end a bad request.
        }
    }

    /// All clients are gone and no replica is busy.
    private static func settle(_ wire: Wire) throws {
        try wire.wait(for: "the end of all requests") { statistics in
            statistics.workers.clientConnections == 0
                && statistics.workers.upstreamConnections
                    == statistics.workers.upstreamConnectionsIdle
                && wire.endpoints.allSatisfy { $0.inFlight.load(ordering: .relaxed) == 0 }
        }
        // Idle connections are the pool's: they end with their timeout.
        try wire.wait(for: "the end of idle connections") {
            $0.workers.upstreamConnections == 0 && !wire.upstreams.contains { $0.isServing }
        }
    }
}
