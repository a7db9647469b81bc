import Core
import Proxy
import Synchronization
import Testing

/// Replicas that fail: what is tried again, where, how often, and what the client is told.
@Suite struct UpstreamFailureTests {
    /// One model with a good replica and one that refuses connections, tried in turn.
    private func goodAndRefusing(
        _ wire: Wire,
        _ change: (inout ModelSettings) -> Void = { _ in }
    ) throws -> (good: ScriptedUpstream, refusing: Endpoint) {
        let good = try wire.upstream()
        good.serve { _, socket in try socket.respond("good") }
        let refusing = wire.endpoint(try wire.upstream(isListening: false))
        var settings = Wire.settings
        settings.balancing = .roundRobin
        change(&settings)
        wire.publish([
            .init(
                settings: settings,
                variants: [.init(endpoints: [refusing, wire.endpoint(good)])]
            )
        ])
        return (good, refusing)
    }

    // MARK: Retries

    @Test(arguments: ["POST", "GET"])
    func aRefusedConnectionIsTriedElsewhere(method: String) throws {
        try Wire.run { wire in
            _ = try self.goodAndRefusing(wire)
            let client = try wire.client()
            for _ in 0..<10 {
                // Never sent, so any request may be tried again.
                try client.send(
                    Ask.get("/side-effect", method: method, fields: "Content-Length: 0\r\n")
                )
                #expect(try client.readResponse().text == "good")
            }
            let statistics = try wire.statistics().models["m"]
            let retries = statistics?.retries[.success] ?? 0
            #expect(retries >= 5)
            #expect(statistics?.variants[0].upstreamErrors[.connect] == retries)
        }
    }

    /// A replica killed between its head and its body: the head was kept back, another one answers.
    @Test func aReplicaThatDiesBehindItsHeadIsReplaced() throws {
        try Wire.run { wire in
            let good = try wire.upstream()
            good.serve { _, socket in try socket.respond("good") }
            let dying = try wire.upstream()
            dying.serve { _, socket in
                try socket.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                socket.close()
            }
            var settings = Wire.settings
            settings.balancing = .roundRobin
            wire.publish([
                .init(
                    settings: settings,
                    variants: [.init(endpoints: [wire.endpoint(dying), wire.endpoint(good)])]
                )
            ])
            for _ in 0..<6 {
                #expect(try wire.fetch(Ask.infer()).text == "good")
            }
        }
    }

    /// With no budget beyond the floor of ten in ten seconds, the eleventh is not tried again.
    @Test func theBudgetBoundsRetries() throws {
        try Wire.run { wire in
            _ = try self.goodAndRefusing(wire) { $0.retryBudget = 0 }
            var failed = 0
            for _ in 0..<60 where try wire.fetch(Ask.infer()).status == 502 { failed += 1 }
            let retries = try wire.statistics().models["m"]?.retries
            #expect((retries?[.success] ?? 0) >= 10)
            #expect(failed > 0)
            #expect(retries?[.budgetExhausted] == UInt64(failed))
        }
    }

    @Test func attemptsBoundRetries() throws {
        try Wire.run { wire in
            _ = try self.goodAndRefusing(wire) { $0.attempts = 1 }
            let statuses = try (0..<4).map { _ in try wire.fetch(Ask.infer()).status }
            #expect(statuses.sorted() == [200, 200, 502, 502])
        }
    }

    /// Each try goes to another replica; the last error is what the client gets.
    @Test func neverTriesTheEndpointThatFailedAgain() throws {
        try Wire.run { wire in
            let upstreams = try (0..<3).map { _ in try wire.upstream() }
            var settings = Wire.settings
            settings.attempts = 10
            wire.publish([
                .init(
                    settings: settings,
                    variants: [.init(endpoints: upstreams.map { wire.endpoint($0) })]
                )
            ])
            let client = try wire.client()
            try client.send(Ask.infer())
            var waiting = upstreams
            // Whichever it takes: it must be one that it has not taken.
            while !waiting.isEmpty {
                var tried: ScriptedUpstream?
                try wire.wait(for: "a try") {
                    tried = waiting.first { $0.hasWaiting }
                    return tried != nil
                }
                let upstream = try #require(tried)
                let server = try upstream.accept()
                _ = try server.readRequest()
                server.reset()
                waiting.removeAll { $0 === upstream }
            }
            #expect(try client.readResponse().status == 502)
            #expect(upstreams.allSatisfy { $0.acceptedCount == 1 && !$0.hasWaiting })
        }
    }

    /// A `POST` of unknown effect that was sent may have had it: once is enough.
    @Test func doesNotRepeatWhatMayHaveHadAnEffect() throws {
        try Wire.run { wire in
            let upstreams = [try wire.upstream(), try wire.upstream()]
            for upstream in upstreams { upstream.serve { _, _ in throw WireError.ended("") } }
            wire.publish([
                .init(variants: [.init(endpoints: upstreams.map { wire.endpoint($0) })])
            ])
            let response = try wire.fetch(
                Ask.get("/side-effect", method: "POST", fields: "Content-Length: 0\r\n")
            )
            #expect(response.status == 502)
            #expect(upstreams.reduce(0) { $0 + $1.acceptedCount } == 1)
            #expect(try wire.fetch(Ask.infer()).status == 502)
            #expect(upstreams.reduce(0) { $0 + $1.acceptedCount } == 3)
        }
    }

    @Test func doesNotRepeatABodyThatWasNotKept() throws {
        var limits = GatewayLimits()
        limits.maxReplayBody = 1_000
        try Wire.run(limits: limits) { wire in
            let upstreams = [try wire.upstream(), try wire.upstream()]
            wire.publish([
                .init(variants: [.init(endpoints: upstreams.map { wire.endpoint($0) })])
            ])
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\n"
            )
            try wire.wait(for: "the try") { upstreams.contains { $0.hasWaiting } }
            let server = try upstreams[upstreams[0].hasWaiting ? 0 : 1].accept()
            _ = try server.readHead()
            try client.send([UInt8](repeating: 0, count: 4_000))
            _ = try server.skip(4_000)
            server.reset()
            #expect(try client.readResponse().status == 502)
            #expect(upstreams.reduce(0) { $0 + $1.acceptedCount } == 1)
            #expect(upstreams.allSatisfy { !$0.hasWaiting })
        }
    }

    /// The replica closed the idle connection; the request that meets it is sent on a new one.
    @Test func aStaleConnectionIsReplaced() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            for round in 0..<5 {
                try client.send(Ask.infer("m", "\(round)"))
                let server = try upstream.accept()
                #expect(try server.readRequest().text == "\(round)")
                try server.respond("\(round)")
                #expect(try client.readResponse().text == "\(round)")
                server.close()
            }
        }
    }

    /// The same where the close comes only after the request was written.
    @Test func aConnectionThatTurnsOutStaleIsReplaced() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
            try client.send(Ask.infer("m", "second"))
            _ = try server.readRequest()
            server.close()
            let next = try upstream.accept()
            #expect(try next.readRequest().text == "second")
            try next.respond("again")
            #expect(try client.readResponse().text == "again")
        }
    }

    /// A replica is killed: its idle connection is reset, then it refuses, then another takes over.
    @Test func theOnlyReplicaDyingWhereAnotherWillCome() throws {
        try Wire.run { wire in
            let upstream = try wire.upstream()
            var model = Wire.Model(variants: [.init(endpoints: [wire.endpoint(upstream)])])
            model.settings.startsReplicas = true
            wire.publish([model])
            let client = try wire.client()
            try client.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
            try client.send(Ask.infer("m", "second"))
            _ = try server.readRequest()
            upstream.endListening()
            server.reset()
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            let next = try wire.upstream()
            model.variants[0].endpoints = [wire.endpoint(next)]
            wire.publish([model])
            let successor = try next.accept()
            #expect(try successor.readRequest().text == "second")
            try successor.respond("alive")
            #expect(try client.readResponse().text == "alive")
        }
    }

    /// Nothing is left to try, and nobody will start another replica.
    @Test func theOnlyReplicaRefusing() throws {
        try Wire.run { wire in
            let endpoint = wire.endpoint(try wire.upstream(isListening: false))
            wire.publish([.init(variants: [.init(endpoints: [endpoint])])])
            let response = try wire.fetch(Ask.chat(#"{"model":"m"}"#))
            #expect(response.status == 502)
            #expect(response.text.contains(#""code":"connect-failed""#))
            #expect(response["x-weir-variant"] == "v1")
        }
    }

    /// Where replicas are started by the cluster, the request waits for the next one.
    @Test func theOnlyReplicaRefusingWhereAnotherWillCome() throws {
        try Wire.run { wire in
            let refusing = wire.endpoint(try wire.upstream(isListening: false))
            var model = Wire.Model(variants: [.init(endpoints: [refusing])])
            model.settings.startsReplicas = true
            wire.publish([model])
            let client = try wire.client()
            try client.send(Ask.infer("m", "patient"))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            let upstream = try wire.upstream()
            model.variants[0].endpoints = [wire.endpoint(upstream)]
            wire.publish([model])
            let server = try upstream.accept()
            #expect(try server.readRequest().text == "patient")
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    // MARK: Timeouts

    /// A full accept queue: the kernel drops what asks to connect.
    @Test func connectTimesOut() throws {
        try Wire.run { wire in
            let upstream = try wire.upstream(backlog: 0)
            let fillers = (0..<4).map { _ in LateConnection(port: upstream.port) }
            var model = Wire.Model(variants: [.init(endpoints: [wire.endpoint(upstream)])])
            model.settings.connectTimeout = .milliseconds(100)
            wire.publish([model])
            #expect(try wire.fetch(Ask.infer()).status == 504)
            let errors = try wire.statistics().models["m"]?.variants[0].upstreamErrors
            #expect(errors?[.connectTimeout] == 1)
            for filler in fillers { filler.close() }
        }
    }

    @Test func theFirstByteTimesOut() throws {
        try Wire.one {
            $0.firstByteTimeout = .milliseconds(100)
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            #expect(try client.readResponse().status == 504)
            #expect(try server.waitForEnd() == .reset)
            // The client's connection goes on.
            try client.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.readResponse().status == 200)
        }
    }

    @Test func aSilentStreamIsCut() throws {
        try Wire.one {
            $0.streamIdleTimeout = .milliseconds(100)
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            _ = try client.readHead()
            #expect(try client.readChunk() == Array("a".utf8))
            // No end that could be taken for a whole answer.
            #expect(try client.waitForEnd() == .reset)
            #expect(try server.waitForEnd() == .reset)
            let errors = try wire.statistics().models["m"]?.variants[0].upstreamErrors
            #expect(errors?[.streamIdleTimeout] == 1)
        }
    }

    @Test(arguments: [true, false])
    func theWholeRequestTimesOut(hasBegun: Bool) throws {
        try Wire.one {
            $0.requestTimeout = .milliseconds(200)
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            if hasBegun {
                try server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
                #expect(try client.waitForEnd() == .reset)
            } else {
                #expect(try client.readResponse().status == 504)
            }
            #expect(try server.waitForEnd() == .reset)
        }
    }

    /// A client that takes long to send its body is not a replica that takes long to answer. The
    /// other request's timeout, which is the same, tells that the time has passed.
    @Test func aSlowUploadIsNotASlowAnswer() throws {
        try Wire.one {
            $0.firstByteTimeout = .milliseconds(150)
        } body: { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            #expect(try server.read(count: 1) == Array("a".utf8))
            let clock = try wire.client()
            try clock.send(Ask.infer())
            let held = try upstream.accept()
            _ = try held.readRequest()
            #expect(try clock.readResponse().status == 504)
            held.close()
            try client.send("b")
            #expect(try server.read(count: 1) == Array("b".utf8))
            try server.respond("slow but whole")
            #expect(try client.readResponse().text == "slow but whole")
        }
    }

    /// A client that stops reading is cut in the end, and the replica is not blamed. The time is
    /// the client's, not the one that replicas have.
    @Test func aClientThatStopsReadingIsNotTheReplicasFault() throws {
        var limits = GatewayLimits()
        limits.idleTimeout = .milliseconds(200)
        try Wire.one(limits: limits) { wire, upstream in
            let client = try wire.client(receiveBuffer: 4096)
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n")
            do {
                _ = try server.sendUntilBlocked(limit: 500_000_000, pauseMilliseconds: 10_000)
            } catch WireError.reset {}
            let errors = try wire.statistics().models["m"]?.variants[0].upstreamErrors
            #expect(errors?.isEmpty == true)
        }
    }

    // MARK: Outliers

    @Test func ejectsAReplicaThatFailsAndTakesItBack() throws {
        try Wire.run { wire in
            let isBad = Counter()
            isBad.add()
            let bad = try wire.upstream()
            bad.serve { _, socket in
                let status = isBad.value > 0 ? "500 Internal Server Error" : "200 OK"
                try socket.respond("bad", status: status)
            }
            let good = try wire.upstream()
            good.serve { _, socket in try socket.respond("good") }
            var settings = Wire.settings
            settings.balancing = .roundRobin
            settings.outlier.consecutiveErrors = 3
            settings.outlier.ejectFor = .milliseconds(300)
            let endpoints = [wire.endpoint(bad), wire.endpoint(good)]
            wire.publish([.init(settings: settings, variants: [.init(endpoints: endpoints)])])
            let client = try wire.client()
            var texts: [String] = []
            for _ in 0..<6 {
                try client.send(Ask.infer())
                texts.append(try client.readResponse().text)
            }
            #expect(texts.count { $0 == "bad" } == 3)
            #expect(try wire.statistics().models["m"]?.variants[0].ejections == 1)
            isBad.add(-1)
            // It is asked again when its time is over, and not before.
            let until = endpoints[0].ejectedUntil.load(ordering: .relaxed)
            var returned = false
            while !returned {
                try client.send(Ask.infer())
                returned = try client.readResponse().text == "bad"
                if !returned { continue }
                #expect(EventLoopClock.now().nanoseconds >= until)
            }
        }
    }

    /// However bad they all are: somebody must answer.
    @Test func neverEjectsTheLastReplica() throws {
        try Wire.run { wire in
            let upstreams = try (0..<3).map { _ in try wire.upstream() }
            for upstream in upstreams {
                upstream.serve { _, socket in try socket.respond(status: "500 No") }
            }
            var settings = Wire.settings
            settings.outlier.consecutiveErrors = 1
            settings.outlier.maxEjected = 1
            let endpoints = upstreams.map { wire.endpoint($0) }
            wire.publish([.init(settings: settings, variants: [.init(endpoints: endpoints)])])
            let client = try wire.client()
            for _ in 0..<30 {
                try client.send(Ask.infer())
                #expect(try client.readResponse().status == 500)
            }
            #expect(try wire.statistics().models["m"]?.variants[0].ejections == 2)
        }
    }
}
