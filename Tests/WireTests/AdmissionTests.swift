import Core
import Proxy
import Synchronization
import Testing

/// Slots, the queue in front of them, and how snapshots come and go.
@Suite struct AdmissionTests {
    @Test func aReplicaNeverGetsMoreThanItsLimit() throws {
        try Wire.run(workers: 2) { wire in
            let upstream = try wire.upstream()
            let running = Counter()
            let most = Counter()
            upstream.serve { _, socket in
                let now = running.add()
                // One thread raises it at a time, or none: the limit is what matters.
                while most.value < now { most.add() }
                running.add(-1)
                try socket.respond()
            }
            let endpoint = wire.endpoint(upstream, limit: 3)
            wire.publish([.init(variants: [.init(endpoints: [endpoint])])])
            let port = wire.port
            let clients = (0..<16).map { _ in
                Background {
                    let client = try RawSocket.connect(port: port)
                    for _ in 0..<50 {
                        try client.send(Ask.infer())
                        if try client.readResponse().status != 200 {
                            throw WireError.malformed("a refusal")
                        }
                    }
                }
            }
            for client in clients { try client.join() }
            #expect(most.value <= 3)
        }
    }

    /// First come, first served, whichever worker a request came to.
    @Test(arguments: [1, 2])
    func theQueueIsFirstInFirstOut(workers: Int) throws {
        try Wire.run(workers: workers) { wire in
            let upstream = try wire.upstream()
            let endpoint = wire.endpoint(upstream, limit: 1)
            wire.publish([.init(variants: [.init(endpoints: [endpoint])])])
            var clients: [RawSocket] = []
            for index in 0..<12 {
                let client = try wire.client()
                try client.send(Ask.infer("m", "\(index)", fields: "Connection: close\r\n"))
                clients.append(client)
                try wire.wait(for: "the request") {
                    endpoint.inFlight.load(ordering: .relaxed) == 1 && wire.queueDepth() == index
                }
            }
            for index in 0..<12 {
                let server = try upstream.accept()
                #expect(try server.readRequest().text == "\(index)")
                try server.respond("\(index)", fields: "Connection: close\r\n")
                #expect(try clients[index].readResponse().text == "\(index)")
            }
        }
    }

    @Test func aFullQueueRefusesWithRetryAfter() throws {
        try Wire.one(limit: 1, { $0.queueCapacity = 1 }) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let second = try wire.client()
            try second.send(Ask.infer("m", "second"))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            let third = try wire.fetch(Ask.infer("m", "third"))
            #expect(third.status == 429)
            #expect(third["retry-after"] != nil)
            #expect(third.text.hasPrefix(#"{"error":""#))
            let chat = try wire.fetch(Ask.chat(#"{"model":"m"}"#))
            #expect(chat.status == 429)
            #expect(chat.text.contains(#""type":"rate_limit_error""#))
            try server.respond()
            #expect(try first.readResponse().status == 200)
            #expect(try server.readRequest().text == "second")
            try server.respond()
            #expect(try second.readResponse().status == 200)
        }
    }

    @Test func theQueueIsBoundedByBytesToo() throws {
        try Wire.one(limit: 1, { $0.queueBytes = 10_000 }) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let large = String(repeating: "x", count: 8_000)
            let second = try wire.client()
            try second.send(Ask.infer("m", large))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            #expect(try wire.fetch(Ask.infer("m", large)).status == 429)
            try server.respond()
            #expect(try first.readResponse().status == 200)
            #expect(try server.readRequest().body.count == 8_000)
            try server.respond()
            #expect(try second.readResponse().status == 200)
        }
    }

    /// A body that goes on coming while its request waits is not kept without end.
    @Test func aWaitingRequestHoldsABoundedPartOfItsBody() throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let size = 200 * 1024 * 1024
            let second = try wire.client()
            try second.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: \(size)\r\n\r\n"
            )
            let ahead = try second.sendUntilBlocked(limit: size)
            #expect(ahead < 24 * 1024 * 1024)
            try server.respond()
            #expect(try first.readResponse().status == 200)
            // The slot is its own now: the rest streams.
            #expect(try server.readHead()["content-length"] == "\(size)")
            let carried = Carried(second)
            let writer = Background {
                _ = try carried.value.sendUntilBlocked(
                    limit: size - ahead,
                    pauseMilliseconds: 20_000
                )
            }
            #expect(try server.skip(size) == size)
            try writer.join()
            try server.respond()
            #expect(try second.readResponse().status == 200)
        }
    }

    @Test func waitingEndsWithTheQueuesTimeout() throws {
        try Wire.one(limit: 1, { $0.queueTimeout = .milliseconds(100) }) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let response = try wire.fetch(Ask.infer("m", "second"))
            #expect(response.status == 503)
            #expect(response["retry-after"] != nil)
            try server.respond()
            #expect(try first.readResponse().status == 200)
        }
    }

    // MARK: No replica

    @Test func withoutAReplicaARequestWaitsAndWakesTheCluster() throws {
        try Wire.run(workers: 2) { wire in
            wire.publish([.init(variants: [.init(endpoints: [])])])
            var clients: [RawSocket] = []
            for index in 0..<6 {
                let client = try wire.client()
                try client.send(Ask.infer("m", "\(index)"))
                clients.append(client)
            }
            try wire.wait(for: "the queue") { wire.queueDepth() == 6 }
            #expect(wire.wakes.value >= 1)
            let upstream = try wire.upstream()
            upstream.serve { message, socket in try socket.respond(message.text) }
            wire.publish([.init(variants: [.init(endpoints: [wire.endpoint(upstream)])])])
            for (index, client) in clients.enumerated() {
                #expect(try client.readResponse().text == "\(index)")
            }
        }
    }

    @Test func withoutAReplicaInTimeTheAnswerIs503() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: [.init(endpoints: [])])
            model.settings.queueTimeout = .milliseconds(50)
            wire.publish([model])
            let response = try wire.fetch(Ask.chat(#"{"model":"m"}"#))
            #expect(response.status == 503)
            #expect(response["retry-after"] != nil)
            #expect(response.text.contains(#""code":"no-replica""#))
        }
    }

    /// A variant without replicas is not owed requests: the other serves.
    @Test func aVariantWithoutReplicasPassesItsTurn() throws {
        try Wire.run { wire in
            let upstream = try wire.upstream()
            upstream.serve { _, socket in try socket.respond("a") }
            wire.publish([
                .init(variants: [
                    .init(name: "a", weight: 50, endpoints: [wire.endpoint(upstream)]),
                    .init(name: "b", weight: 50, endpoints: []),
                ])
            ])
            for _ in 0..<10 { #expect(try wire.fetch(Ask.get()).text == "a") }
        }
    }

    // MARK: Snapshots

    /// After the acknowledgement no worker starts a request with older endpoints.
    @Test func noRequestGoesToAnEndpointThatHasLeft() throws {
        try Wire.run(workers: 2) { wire in
            var model = Wire.Model(variants: [.init(endpoints: [])])
            for round in 0..<10 {
                let upstream = try wire.upstream()
                upstream.serve { _, socket in try socket.respond("\(round)") }
                let old = model.variants[0].endpoints
                model.variants[0].endpoints = [wire.endpoint(upstream)]
                wire.publish([model])
                for endpoint in old { endpoint.isRetired.store(true, ordering: .relaxed) }
                for _ in 0..<8 { #expect(try wire.fetch(Ask.get()).text == "\(round)") }
            }
        }
    }

    /// A request under way keeps its replica through a reload that drops it.
    @Test func aReloadDoesNotTouchRequestsUnderWay() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
            _ = try client.readHead()
            wire.endpoints[0].isRetired.store(true, ordering: .relaxed)
            wire.publish([.init(variants: [.init(endpoints: [])])])
            try server.send("def")
            #expect(try client.read(count: 6) == Array("abcdef".utf8))
            // A retired replica's connection is not kept.
            #expect(try server.waitForEnd() == .fin)
        }
    }

    @Test func idleConnectionsOfARetiredReplicaEnd() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
            wire.endpoints[0].isRetired.store(true, ordering: .relaxed)
            wire.publish([.init(variants: [.init(endpoints: [])])])
            #expect(try server.waitForEnd() == .fin)
        }
    }

    /// What was not given to a replica before the model was removed does not wait for one.
    @Test func aRequestWhosePromptIsLateDoesNotOutliveItsModel() throws {
        try Wire.one({ $0.balancing = .prefixAffinity }) { wire, _ in
            let client = try wire.client()
            let request = Ask.chat(#"{"prompt":"late"}"#, fields: "X-Weir-Model: m\r\n")
            try client.send(String(request.dropLast(6)))
            try wire.wait(for: "the head") { (now: GatewayStatistics) in
                now.models["m"]?.arrivals == 1
            }
            for endpoint in wire.endpoints { endpoint.isRetired.store(true, ordering: .relaxed) }
            wire.publish([])
            try client.send(String(request.suffix(6)))
            #expect(try client.readResponse().status == 404)
        }
    }

    @Test func aModelThatIsRemovedIsUnknown() throws {
        try Wire.one { wire, upstream in
            upstream.serve { _, socket in try socket.respond() }
            let before = try wire.fetch(Ask.infer())
            #expect(before.status == 200)
            wire.publish([])
            #expect(try wire.fetch(Ask.infer()).status == 404)
            wire.publish([.init(name: "n", variants: [.init(endpoints: wire.endpoints)])])
            #expect(try wire.fetch(Ask.infer("n")).status == 200)
            #expect(try wire.fetch(Ask.infer()).status == 404)
        }
    }

    /// A request pinned to a variant waits; the variant is removed meanwhile.
    @Test(arguments: [1, 2])
    func aVariantMayLeaveWhileARequestWaitsForIt(workers: Int) throws {
        try Wire.run(workers: workers) { wire in
            let upstream = try wire.upstream()
            upstream.serve { _, socket in try socket.respond() }
            var model = Wire.Model(variants: [
                .init(name: "a", endpoints: [wire.endpoint(upstream)]),
                .init(name: "b", weight: 0, endpoints: []),
            ])
            model.settings.overrideHeader = Array("x-weir-variant".utf8)
            model.settings.queueTimeout = .milliseconds(300)
            wire.publish([model])
            let client = try wire.client()
            try client.send(Ask.get(fields: "X-Weir-Variant: b\r\n"))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            model.variants.removeLast()
            wire.publish([model])
            #expect(try wire.fetch(Ask.get()).status == 200)
            #expect(try client.readResponse().status == 503)
        }
    }

    @Test func reloadsUnderLoadDropNothing() throws {
        try Wire.run(workers: 2) { wire in
            let upstream = try wire.upstream()
            upstream.serve { message, socket in try socket.respond(message.text) }
            let endpoint = wire.endpoint(upstream, limit: 4)
            let other = wire.endpoint(upstream, limit: 4)
            let models = (0..<4).map { round in
                Wire.Model(variants: [
                    .init(name: "a", weight: 100 - round * 20, endpoints: [endpoint]),
                    .init(name: "b", weight: round * 20, endpoints: round > 0 ? [other] : []),
                ])
            }
            wire.publish([models[0]])
            let port = wire.port
            let clients = (0..<8).map { number in
                Background {
                    let client = try RawSocket.connect(port: port)
                    for index in 0..<200 {
                        let body = "\(number)-\(index)"
                        try client.send(Ask.infer("m", body))
                        let response = try client.readResponse()
                        guard response.status == 200, response.text == body else {
                            throw WireError.malformed("\(response.startLine) for \(body)")
                        }
                    }
                }
            }
            for round in 0..<100 { wire.publish([models[round % 4]]) }
            for client in clients { try client.join() }
        }
    }

    // MARK: Drain

    @Test func drainFinishesWhatIsUnderWayAndAcceptsNothingNew() throws {
        try Wire.one { wire, upstream in
            let idle = try wire.client()
            try idle.send("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try idle.readResponse()
            let busy = try wire.client()
            try busy.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            let drained = wire.drain()
            #expect(try idle.waitForEnd() == .fin)
            let port = wire.port
            #expect(throws: WireError.self) { try RawSocket.connect(port: port) }
            #expect(drained.value == 0)
            try server.respond("in time")
            let response = try busy.readResponse()
            #expect(response.text == "in time")
            #expect(response["connection"] == "close")
            #expect(try busy.waitForEnd() == .fin)
            try wire.wait(for: "the drain") { drained.value == 1 }
        }
    }

    @Test func drainLetsStreamsAndQueuedRequestsFinish() throws {
        try Wire.one(limit: 1) { wire, upstream in
            let first = try wire.client()
            try first.send(Ask.infer("m", "first"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            _ = try first.readHead()
            let second = try wire.client()
            try second.send(Ask.infer("m", "second"))
            try wire.wait(for: "the queue") { wire.queueDepth() == 1 }
            let drained = wire.drain()
            try server.send("1\r\nb\r\n0\r\n\r\n")
            #expect(try first.readChunk() == Array("a".utf8))
            #expect(try first.readChunk() == Array("b".utf8))
            #expect(try first.readChunk().isEmpty)
            #expect(try server.readRequest().text == "second")
            #expect(drained.value == 0)
            try server.respond()
            #expect(try second.readResponse().status == 200)
            try wire.wait(for: "the drain") { drained.value == 1 }
        }
    }
}
