import Core
import Proxy
import Synchronization
import Testing

/// Which replica of a variant serves, seen from the wire.
@Suite struct BalancingTests {
    /// Replicas that answer with their index at once.
    private func replicas(
        _ wire: Wire,
        _ count: Int,
        _ policy: BalancingPolicy,
        limit: Int = .max,
        _ change: (inout ModelSettings) -> Void = { _ in }
    ) throws {
        var endpoints: [Endpoint] = []
        for index in 0..<count {
            let upstream = try wire.upstream()
            upstream.serve { _, socket in try socket.respond("\(index)") }
            endpoints.append(wire.endpoint(upstream, name: "r\(index)", limit: limit))
        }
        var settings = Wire.settings
        settings.balancing = policy
        change(&settings)
        wire.publish([.init(settings: settings, variants: [.init(endpoints: endpoints)])])
    }

    @Test func roundRobinTakesTurns() throws {
        try Wire.run { wire in
            try self.replicas(wire, 3, .roundRobin)
            let client = try wire.client()
            var order: [String] = []
            for _ in 0..<9 {
                try client.send(Ask.get())
                order.append(try client.readResponse().text)
            }
            #expect(Set(order[..<3]).count == 3)
            #expect(Array(order[..<3]) == Array(order[3..<6]))
            #expect(Array(order[..<3]) == Array(order[6...]))
        }
    }

    /// Requests that stay open are counted before the next is sent: each goes to a free replica.
    @Test func leastLoadedCountsRequestsBeforeTheyAreSent() throws {
        try Wire.run { wire in
            let upstreams = [try wire.upstream(), try wire.upstream(), try wire.upstream()]
            let endpoints = upstreams.map { wire.endpoint($0) }
            wire.publish([.init(variants: [.init(endpoints: endpoints)])])
            var clients: [RawSocket] = []
            for _ in 0..<6 {
                let client = try wire.client()
                try client.send(Ask.get())
                clients.append(client)
            }
            var servers: [RawSocket] = []
            for upstream in upstreams {
                for _ in 0..<2 {
                    let server = try upstream.accept()
                    _ = try server.readRequest()
                    servers.append(server)
                }
                #expect(!upstream.hasWaiting)
            }
            for endpoint in endpoints { #expect(endpoint.inFlight.load(ordering: .relaxed) == 2) }
            for server in servers { try server.respond() }
            for client in clients { #expect(try client.readResponse().status == 200) }
        }
    }

    @Test func consistentHashKeepsAKeyOnItsReplica() throws {
        try Wire.run(workers: 2) { wire in
            try self.replicas(wire, 4, .consistentHash) {
                $0.hashHeader = Array("x-session".utf8)
            }
            var seen: Set<String> = []
            for key in 0..<32 {
                var places: Set<String> = []
                for _ in 0..<3 {
                    let response = try wire.fetch(Ask.get(fields: "X-Session: s\(key)\r\n"))
                    places.insert(response.text)
                }
                #expect(places.count == 1, "key \(key) went to \(places)")
                seen.formUnion(places)
            }
            #expect(seen.count == 4)
        }
    }

    @Test func consistentHashWithoutAKeyTakesTheClientsAddress() throws {
        try Wire.run { wire in
            try self.replicas(wire, 4, .consistentHash)
            var places: Set<String> = []
            for _ in 0..<8 { places.insert(try wire.fetch(Ask.get()).text) }
            #expect(places.count == 1)
        }
    }

    /// One hot key does not pile up on its replica.
    @Test func consistentHashBoundsTheLoad() throws {
        try Wire.run { wire in
            let upstreams = [try wire.upstream(), try wire.upstream()]
            let endpoints = upstreams.map { wire.endpoint($0) }
            var model = Wire.Model(variants: [.init(endpoints: endpoints)])
            model.settings.balancing = .consistentHash
            wire.publish([model])
            var clients: [RawSocket] = []
            for _ in 0..<20 {
                let client = try wire.client()
                try client.send(Ask.get())
                clients.append(client)
                try wire.wait(for: "the request") {
                    endpoints.reduce(0) { $0 + $1.inFlight.load(ordering: .relaxed) }
                        == clients.count
                }
            }
            for endpoint in endpoints {
                let load = endpoint.inFlight.load(ordering: .relaxed)
                #expect(load >= 7 && load <= 13, "a load of \(load)")
            }
            for client in clients { client.reset() }
        }
    }

    @Test func prefixAffinityKeepsAConversationOnItsReplica() throws {
        try Wire.run(workers: 2) { wire in
            try self.replicas(wire, 4, .prefixAffinity)
            var seen: Set<String> = []
            for conversation in 0..<24 {
                var places: Set<String> = []
                var prompt = String(repeating: "conversation \(conversation) says: ", count: 100)
                for turn in 0..<4 {
                    prompt += "turn \(turn) "
                    let response = try wire.fetch(
                        Ask.chat(
                            #"{"model":"m","messages":[{"role":"user","content":"\#(prompt)"}]}"#
                        )
                    )
                    places.insert(response.text)
                }
                #expect(places.count == 1, "\(conversation) went to \(places)")
                seen.formUnion(places)
            }
            #expect(seen.count >= 3)
        }
    }

    /// The head names the model and comes alone; the prompt is waited for all the same.
    @Test func prefixAffinityWaitsForThePrompt() throws {
        try Wire.run { wire in
            try self.replicas(wire, 4, .prefixAffinity)
            var places: Set<String> = []
            let prompt = String(repeating: "the same for all ", count: 100)
            let body = "{\"prompt\":\"\(prompt)\"}"
            for _ in 0..<8 {
                let client = try wire.client()
                let request = Ask.chat(body, fields: "X-Weir-Model: m\r\n")
                try client.send(String(request.dropLast(body.count)))
                // The gateway has looked at the head before it answers somebody else.
                _ = try wire.fetch(Ask.get())
                try client.send(body)
                places.insert(try client.readResponse().text)
            }
            #expect(places.count == 1)
        }
    }

    @Test func prefixAffinityWithoutAPromptServesAllTheSame() throws {
        try Wire.run { wire in
            try self.replicas(wire, 2, .prefixAffinity)
            #expect(try wire.fetch(Ask.chat(#"{"model":"m"}"#)).status == 200)
            #expect(try wire.fetch(Ask.infer("m", "no JSON")).status == 200)
            #expect(try wire.fetch(Ask.get()).status == 200)
        }
    }
}
