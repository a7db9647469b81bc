import Core
import EventLoop
import HTTP2
import Proxy
import Synchronization
import Testing

/// Replicas that speak HTTP/2, behind clients that speak HTTP/1.
@Suite struct MultiplexedUpstreamTests {
    /// A model `m` whose replica answers by the rule; further ones are scripted by the test.
    private func run(
        settings: HTTP2Settings = HTTP2Settings(),
        connections: Int = 1,
        atHead: Bool = false,
        refuses: @escaping @Sendable () -> Bool = { false },
        limit: Int = .max,
        limits: GatewayLimits = GatewayLimits(),
        _ change: (inout ModelSettings) -> Void = { _ in },
        rule: @escaping HTTP2Replica.Rule,
        body: (Wire, HTTP2Replica) throws -> Void
    ) throws {
        let wire = try Wire(limits: limits)
        defer { wire.stop() }
        let upstream = try wire.upstream()
        let replica = HTTP2Replica(
            upstream,
            settings: settings,
            connections: connections,
            atHead: atHead,
            refuses: refuses,
            rule: rule
        )
        var modelSettings = Wire.settings
        modelSettings.kind = .grpc
        change(&modelSettings)
        let endpoint = wire.endpoint(upstream, limit: limit, wire: .http2)
        wire.publish([.init(settings: modelSettings, variants: [.init(endpoints: [endpoint])])])
        try body(wire, replica)
        try wire.checkNothingIsLeft()
        wire.stop()
        try replica.join()
    }

    // MARK: Requests and answers

    @Test func carriesARequestAndItsAnswer() throws {
        let seen = Box<String>()
        try self.run(rule: { stream in
            seen.set(stream.head)
            stream.answer(
                stream.body,
                status: 201,
                fields: "X-Own: 1\r\nContent-Type: text/plain\r\n",
                trailers: "X-Tail: t\r\n"
            )
        }) { wire, _ in
            let client = try wire.client()
            try client.send(
                Ask.infer("m", "echo", fields: "X-A: b\r\nConnection: x-hop\r\nX-Hop: 1\r\n")
            )
            let answer = try client.readResponse()
            #expect(answer.status == 201 && answer.text == "echo")
            #expect(answer["x-own"] == "1" && answer["x-weir-variant"] == "v1")
            #expect(answer.trailers.map(\.name) == ["x-tail"])
        }
        let head = try #require(seen.get())
        #expect(head.hasPrefix("POST /v2/models/m/infer HTTP/1.1\r\nhost: h\r\n"))
        #expect(head.contains("\r\nx-a: b\r\n") && head.contains("\r\nvia: 1.1 weir\r\n"))
        #expect(head.contains("\r\ncontent-length: 4\r\n"))
        #expect(!head.contains("x-hop") && !head.lowercased().contains("\r\nconnection:"))
    }

    @Test(arguments: ["GET", "HEAD", "DELETE"])
    func requestsWithoutABodyEndWithTheirHead(method: String) throws {
        try self.run(rule: { $0.answer([], status: 204) }) { wire, _ in
            let answer = try wire.fetch(Ask.get("/a", method: method), to: method)
            #expect(answer.status == 204 && answer.body.isEmpty)
        }
    }

    @Test func trailersOfARequestArePassedOn() throws {
        let seen = Box<String>()
        try self.run(rule: { stream in
            seen.set(stream.trailers + String(decoding: stream.body, as: UTF8.self))
            stream.answer()
        }) { wire, _ in
            let client = try wire.client()
            try client.send(
                Ask.get("/a", method: "POST", fields: "Transfer-Encoding: chunked\r\n")
                    + "3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
            )
            #expect(try client.readResponse().text == "ok")
        }
        #expect(seen.get() == "x-sum: 6\r\nabc")
    }

    @Test func largeBodiesGoBothWays() throws {
        let count = 3 << 20
        try self.run(rule: { $0.answer($0.body) }) { wire, _ in
            let body = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
            let client = try wire.client()
            let socket = Carried(client)
            let writer = Background {
                try socket.value.send(
                    Ask.get("/a", method: "POST", fields: "Content-Length: \(count)\r\n")
                )
                try socket.value.send(body)
            }
            let answer = try client.readResponse()
            try writer.join()
            #expect(answer.status == 200 && answer.body == body)
        }
    }

    // MARK: Connections

    /// Twenty requests are under way before the first is answered: on one connection.
    @Test func manyRequestsShareAConnection() throws {
        try self.run(rule: { stream in
            let connection = stream.connection
            connection.held.append(stream)
            guard connection.held.count == 20 else { return }
            for held in connection.held { held.answer(Array(held.path.utf8)) }
            connection.held = []
        }) { wire, replica in
            let clients = try (0..<20).map { _ in try wire.client() }
            for (index, client) in clients.enumerated() { try client.send(Ask.get("/n\(index)")) }
            for (index, client) in clients.enumerated() {
                #expect(try client.readResponse().text == "/n\(index)")
            }
            #expect(replica.upstream.acceptedCount == 1)
        }
    }

    /// A replica that takes two at a time: what it refuses because nobody had been told yet is sent
    /// again, whatever it asks for, and others open connections of their own.
    @Test func theReplicasLimitIsKept() throws {
        var settings = HTTP2Settings()
        settings.maxConcurrentStreams = 2
        try self.run(
            settings: settings,
            connections: 4,
            { $0.attempts = 4 },
            rule: { stream in
                let connection = stream.connection
                connection.held.append(stream)
                // Nobody is answered before there are two: more would have to wait for ever.
                guard connection.held.count == 2 else { return }
                for held in connection.held { held.answer() }
                connection.held = []
            }
        ) { wire, replica in
            let clients = try (0..<8).map { _ in try wire.client() }
            for client in clients {
                try client.send(Ask.get("/a", method: "POST", fields: "Content-Length: 0\r\n"))
            }
            for client in clients { #expect(try client.readResponse().status == 200) }
            #expect(replica.upstream.acceptedCount <= 4)
            for _ in replica.upstream.acceptedCount..<4 {
                // The threads that wait for a connection get one.
                try RawSocket.connect(port: replica.upstream.port).close()
            }
        }
    }

    @Test func aRefusedStreamIsSentAgainWhateverItAsksFor() throws {
        let refusals = Counter()
        try self.run(
            refuses: { refusals.add() == 1 },
            rule: { $0.answer($0.body) }
        ) { wire, _ in
            let client = try wire.client()
            try client.send(
                Ask.get("/side-effect", method: "POST", fields: "Content-Length: 3\r\n") + "abc"
            )
            #expect(try client.readResponse().text == "abc")
            #expect(refusals.value == 2)
        }
    }

    /// GOAWAY: what is under way is answered, what comes later goes on a new connection.
    @Test func aReplicaThatGoesAwayIsAskedAgain() throws {
        try self.run(
            connections: 3,
            rule: { stream in
                stream.connection.session.goAway()
                stream.answer(Array("\(stream.number)".utf8))
            }
        ) { wire, replica in
            let client = try wire.client()
            for _ in 0..<3 {
                try client.send(Ask.get("/a", method: "POST", fields: "Content-Length: 0\r\n"))
                #expect(try client.readResponse().text == "0")
            }
            #expect(replica.upstream.acceptedCount == 3)
        }
    }

    @Test func aConnectionThatBreaksFailsAllItsRequests() throws {
        try self.run(rule: { stream in
            stream.connection.held.append(stream)
            if stream.connection.held.count == 5 { stream.connection.isCut = true }
        }) { wire, replica in
            let clients = try (0..<5).map { _ in try wire.client() }
            for client in clients {
                try client.send(Ask.get("/a", method: "POST", fields: "Content-Length: 0\r\n"))
            }
            for client in clients { #expect(try client.readResponse().status == 502) }
            #expect(replica.upstream.acceptedCount == 1)
            let errors = try wire.statistics().models["m"]?.variants[0].upstreamErrors[.reset]
            #expect(errors == 5)
        }
    }

    @Test func aServerOfHTTP1IsFoundOut() throws {
        try Wire.run { wire in
            let upstream = try wire.upstream()
            let endpoint = wire.endpoint(upstream, wire: .http2)
            wire.publish([.init(variants: [.init(endpoints: [endpoint])])])
            let client = try wire.client()
            try client.send(Ask.get("/a", method: "POST", fields: "Content-Length: 0\r\n"))
            let server = try upstream.accept()
            _ = try server.read(count: 24, for: "the preface")
            try server.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            #expect(try client.readResponse().status == 502)
        }
    }

    // MARK: Streams

    @Test(arguments: [HTTP2ErrorCode.internalError, .cancel, .protocolError])
    func aResetBeforeTheAnswerIsAnError(code: HTTP2ErrorCode) throws {
        try self.run(rule: { $0.reset(code) }) { wire, replica in
            for _ in 0..<3 {
                let answer = try wire.fetch(
                    Ask.get("/a", method: "POST", fields: "Content-Length: 0\r\n")
                )
                #expect(answer.status == 502)
            }
            // The others on its connection have nothing to do with it.
            #expect(replica.upstream.acceptedCount == 1)
        }
    }

    @Test func aResetInTheMidstOfAnAnswerCutsIt() throws {
        try self.run(rule: { stream in
            stream.answer(Array("begun".utf8), ends: false)
            stream.connection.held.append(stream)
            guard stream.connection.held.count == 2 else { return }
            for held in stream.connection.held { held.reset(.internalError) }
        }) { wire, _ in
            let first = try wire.client()
            try first.send(Ask.get())
            _ = try first.readHead()
            #expect(try first.readChunk() == Array("begun".utf8))
            // Brings the reset about. Its own answer may not have begun by then.
            let second = try wire.client()
            try second.send(Ask.get("/b", method: "POST", fields: "Content-Length: 0\r\n"))
            #expect(try first.waitForEnd() == .reset)
        }
    }

    @Test func aClientThatLeavesTakesItsStreamWithIt() throws {
        let closures = Counter()
        try self.run(
            atHead: true,
            rule: { stream in
                stream.connection.onClosure = { if $0 == .cancel { closures.add() } }
                if stream.path == "/other" { stream.answer() }
            }
        ) { wire, replica in
            let client = try wire.client()
            try client.send(Ask.get())
            try wire.wait(for: "the request") {
                wire.endpoints[0].inFlight.load(ordering: .relaxed) == 1
            }
            // Behind this one's answer the first has surely been sent.
            #expect(try wire.fetch(Ask.get("/other")).text == "ok")
            client.reset()
            try wire.wait(for: "the stream's end") { closures.value == 1 }
            #expect(try wire.fetch(Ask.get("/other")).text == "ok")
            #expect(replica.upstream.acceptedCount == 1)
        }
    }

    /// An answer of eight megabytes for a client that does not read, and its neighbours' on the
    /// same connection meanwhile.
    @Test func aSlowClientHoldsUpNobodyElse() throws {
        let size = 8 << 20
        try self.run(rule: { stream in
            let count = stream.path == "/large" ? size : 10
            stream.answer([UInt8](repeating: 7, count: count))
        }) { wire, replica in
            let slow = try wire.client(receiveBuffer: 16 * 1024)
            try slow.send(Ask.get("/large"))
            _ = try slow.readHead()
            for _ in 0..<50 { #expect(try wire.fetch(Ask.get("/small")).body.count == 10) }
            // What the gateway keeps of it is a window, not the whole.
            let read = try wire.statistics().workers.bytesRead
            #expect(read < UInt64(size) / 2)
            var count = 0
            while true {
                let chunk = try slow.readChunk()
                if chunk.isEmpty { break }
                count += chunk.count
            }
            #expect(count == size)
            #expect(replica.upstream.acceptedCount == 1)
        }
    }

    // MARK: Slots

    @Test func slotsAreExact() throws {
        try self.run(
            limit: 2,
            rule: { stream in stream.answer(Array(stream.path.utf8)) }
        ) { wire, _ in
            let clients = try (0..<12).map { _ in try wire.client() }
            for round in 0..<5 {
                for (index, client) in clients.enumerated() {
                    try client.send(Ask.get("/\(round)-\(index)"))
                }
                for (index, client) in clients.enumerated() {
                    #expect(try client.readResponse().text == "/\(round)-\(index)")
                }
            }
        }
    }

    @Test func aTimeoutEndsTheStreamAndAsksWhoIsThere() throws {
        try self.run(
            { $0.firstByteTimeout = .milliseconds(50) },
            rule: { stream in if stream.path == "/fast" { stream.answer() } }
        ) { wire, replica in
            let first = try wire.fetch(Ask.get("/slow"))
            // The ping was answered, and the connection is as good as before.
            let second = try wire.fetch(Ask.get("/slow"))
            #expect(first.status == 504 && second.status == 504)
            #expect(replica.upstream.acceptedCount == 1)
        }
    }

    /// The only request has timed out, which leaves the connection idle, and its ping is never
    /// answered: nobody waits for that until an idle connection would be closed.
    @Test func aSilentConnectionIsGivenUpWhileIdle() throws {
        var limits = GatewayLimits()
        limits.upstreamIdleTimeout = .seconds(600)
        limits.upstreamPingTimeout = .milliseconds(100)
        try self.run(
            connections: 2,
            limits: limits,
            { $0.firstByteTimeout = .milliseconds(50) },
            rule: { stream in
                if stream.connection.isMute { return }
                if stream.path == "/fast" { return stream.answer() }
                stream.connection.isMute = true
            }
        ) { wire, replica in
            #expect(try wire.fetch(Ask.get("/slow")).status == 504)
            try wire.wait(for: "the connection's end") { replica.openConnections.value == 0 }
            #expect(try wire.fetch(Ask.get("/fast")).status == 200)
            #expect(replica.upstream.acceptedCount == 2)
        }
    }
}
