import Configuration
import Control
import Core
import EventLoop
import Proxy
import Rollouts
import Synchronization
import Testing
import Traffic

/// A builder and the replicas that it is told of.
private final class Workshop {
    let builder = SnapshotBuilder { _, _ in }
    /// Ready replicas by model and variant: `river/main`.
    var targets: [String: [SnapshotBuilder.Target]] = [:]

    func build(_ text: String) throws -> TrafficSnapshot {
        let configuration = try Documents.load(text)
        return self.builder.build(configuration) { [unowned self] model, variant in
            self.targets["\(model)/\(variant.name)"] ?? []
        }
    }

    static func target(_ id: String, incarnation: UInt64 = 0) throws -> SnapshotBuilder.Target {
        SnapshotBuilder.Target(
            id: id,
            incarnation: incarnation,
            address: try #require(SocketAddress("127.0.0.1:9000"))
        )
    }
}

extension Endpoint {
    fileprivate var wasRetired: Bool { self.isRetired.load(ordering: .acquiring) }
}

extension TrafficSnapshot {
    fileprivate func lookup(_ name: String) -> String? {
        let bytes = Array(name.utf8)
        return self.table.lookup(bytes.span.bytes).flatMap { self.models[$0]?.name }
    }

    fileprivate func route(host: String, path: String) -> String? {
        let host = Array(host.utf8)
        let path = Array(path.utf8)
        return self.routes.lookup(host: host.span.bytes, path: path.span.bytes)
            .flatMap { self.models[$0]?.name }
    }

    fileprivate func endpoints(_ model: String) -> [Endpoint] {
        let route = self.models.compactMap { $0 }.first { $0.name == model }
        return route?.variants.flatMap(\.endpoints) ?? []
    }
}

@Suite struct SnapshotTenantTests {
    private func build(_ tenants: String, _ keys: TenantKeySource) throws -> TrafficSnapshot {
        let text = Documents.fixed("river", at: ["127.0.0.1:1"]) + tenants
        return SnapshotBuilder { _, _ in }
            .build(try Documents.load(text), keys: keys) { _, _ in [] }
    }

    /// Somebody made a tenant that is wrong: the gateway is not open to everybody.
    @Test func withoutATenantTheGatewayMayStillBeClosed() throws {
        #expect(try self.build("", TenantKeySource()).tenants == nil)
        let closed = try #require(try self.build("", TenantKeySource(areRequired: true)).tenants)
        #expect(closed.tenants.isEmpty)
    }

    @Test func keysInSecretsAreTheTenants() throws {
        let hash = String(repeating: "ab", count: 32)
        let digest = try #require(KeyDigest(hexadecimal: hash))
        let tenant = """
            ---
            apiVersion: weir.dev/v1alpha1
            kind: Tenant
            metadata: {name: team}
            spec: {keys: [{secretRef: {name: team}}]}

            """
        var asked: [String] = []
        let keys = TenantKeySource(inSecrets: {
            asked.append($0.name)
            return [digest]
        })
        let snapshot = try self.build(tenant, keys)
        #expect(asked == ["team"] && snapshot.tenants?.tenants.map(\.name) == ["team"])
    }
}

@Suite struct SnapshotEndpointTests {
    private let river = Documents.fixed("river", at: ["127.0.0.1:1"])

    @Test func aReplicaKeepsItsEndpoint() throws {
        let workshop = Workshop()
        workshop.targets["river/main"] = [try Workshop.target("a"), try Workshop.target("b")]
        let first = try workshop.build(self.river).endpoints("river")
        workshop.targets["river/main"]?.reverse()
        let second = try workshop.build(self.river).endpoints("river")
        #expect(first.map(\.slot) == [0, 1])
        #expect(second.map(\.slot) == [1, 0])
        #expect(first[0] === second[1] && first[1] === second[0])
    }

    @Test func aSuccessorIsAnotherEndpoint() throws {
        let workshop = Workshop()
        workshop.targets["river/main"] = [try Workshop.target("a", incarnation: 1)]
        let before = try #require(try workshop.build(self.river).endpoints("river").first)
        workshop.targets["river/main"] = [try Workshop.target("a", incarnation: 2)]
        let after = try #require(try workshop.build(self.river).endpoints("river").first)
        #expect(before !== after && before.slot != after.slot)
        #expect(before.wasRetired && !after.wasRetired)
        #expect(before.hash == after.hash, "the same place in consistent hashing")
    }

    @Test func aSlotIsUsedAgainOnlyAfterTheAcknowledgement() throws {
        let workshop = Workshop()
        workshop.targets["river/main"] = [try Workshop.target("a")]
        let gone = try #require(try workshop.build(self.river).endpoints("river").first)
        workshop.targets["river/main"] = []
        let without = try workshop.build(self.river)
        func slot(of name: String) throws -> Int? {
            workshop.targets["river/main"]?.append(try Workshop.target(name))
            return try workshop.build(self.river).endpoints("river").last?.slot
        }
        #expect(try slot(of: "b") == 1, "nothing was acknowledged")
        workshop.builder.acknowledged(without.generation - 1)
        #expect(try slot(of: "c") == 2, "a worker may still use the snapshot that had it")
        workshop.builder.acknowledged(without.generation)
        #expect(try slot(of: "d") == gone.slot)
        #expect(try slot(of: "e") == 3, "once")
    }

    @Test func aSlotIsNotUsedAgainWhileARequestIsInFlight() throws {
        let workshop = Workshop()
        workshop.targets["river/main"] = [try Workshop.target("a")]
        let gone = try #require(try workshop.build(self.river).endpoints("river").first)
        #expect(gone.tryAcquire())
        workshop.targets["river/main"] = []
        let without = try workshop.build(self.river)
        workshop.builder.acknowledged(without.generation)
        #expect(workshop.builder.requestsDraining("a") == 1)
        workshop.targets["river/main"] = [try Workshop.target("b")]
        #expect(try workshop.build(self.river).endpoints("river").first?.slot == 1)
        gone.release()
        #expect(workshop.builder.requestsDraining("a") == 0)
        workshop.builder.acknowledged(without.generation)
        workshop.targets["river/main"] = [try Workshop.target("c")]
        #expect(try workshop.build(self.river).endpoints("river").first?.slot == gone.slot)
    }

    @Test func limitsFollowTheConfiguration() throws {
        let workshop = Workshop()
        workshop.targets["river/main"] = [try Workshop.target("a")]
        func limit(_ spec: String) throws -> Int? {
            let text = Documents.fixed("river", at: ["127.0.0.1:1"], spec)
            return try workshop.build(text).endpoints("river").first?.limit.load(ordering: .relaxed)
        }
        #expect(try limit("concurrency: {perReplica: 3}") == 3)
        #expect(try limit("concurrency: {perReplica: 5}") == 5)
        #expect(try limit("") == .max)
    }

    /// Replicas come and go at random; no two endpoints that a worker may know share a slot.
    @Test(arguments: 1...20)
    func slotsAreNeverShared(seed: Int) throws {
        var random = RandomSource(seed: UInt64(seed))
        let workshop = Workshop()
        var snapshots: [(generation: UInt64, endpoints: [Endpoint])] = []
        var running: [Endpoint] = []
        var next = 0
        for _ in 0..<200 {
            var targets = workshop.targets["river/main"] ?? []
            targets.removeAll { _ in Int.random(in: 0..<4, using: &random) == 0 }
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                targets.append(try Workshop.target("replica-\(next)"))
                next += 1
            }
            workshop.targets["river/main"] = targets
            let snapshot = try workshop.build(self.river)
            let endpoints = snapshot.endpoints("river")
            snapshots.append((snapshot.generation, endpoints))
            if let chosen = endpoints.randomElement(using: &random), chosen.tryAcquire() {
                running.append(chosen)
            }
            if running.count > 5 { running.removeFirst().release() }
            if Bool.random(using: &random) {
                let oldest = snapshots[Int.random(in: 0..<snapshots.count, using: &random)]
                snapshots.removeAll { $0.generation < oldest.generation }
                workshop.builder.acknowledged(oldest.generation)
            }
            let known = snapshots.flatMap(\.endpoints) + running
            let distinct = Dictionary(grouping: known, by: ObjectIdentifier.init)
                .compactMap(\.value.first)
            #expect(Set(distinct.map(\.slot)).count == distinct.count, "seed \(seed)")
        }
        for endpoint in running { endpoint.release() }
        let slots = snapshots.flatMap(\.endpoints).map(\.slot)
        #expect((slots.max() ?? 0) < 100, "slots are used again: \(next) replicas there were")
    }
}

@Suite struct SnapshotModelTests {
    @Test func weightsAreThoseOfTheVariants() throws {
        let variants =
            "variants:\n- {name: v1, endpoints: [\"http://127.0.0.1:1\"]}\n"
            + "- {name: v2, endpoints: [\"http://127.0.0.1:2\"]}\n"
        func weights(_ rest: String) throws -> [Int]? {
            let snapshot = try Workshop().build(Documents.model("river", variants + rest))
            return snapshot.models.first??.variants.map(\.weight)
        }
        #expect(try weights("weights: {v1: 90, v2: 10}") == [90, 10])
        #expect(try weights("weights: {v2: 1}") == [0, 1])
        let live = try #require(try weights("live: v2"))
        #expect(live[0] == 0 && live[1] > 0)
    }

    @Test func namesAndAliasesLeadToTheModel() throws {
        let text =
            Documents.fixed("river", at: ["127.0.0.1:1"], "aliases: [stream, brook]")
            + Documents.fixed("sea", at: ["127.0.0.1:1"])
        let snapshot = try Workshop().build(text)
        #expect(snapshot.lookup("river") == "river")
        #expect(snapshot.lookup("brook") == "river")
        #expect(snapshot.lookup("sea") == "sea")
        #expect(snapshot.lookup("lake") == nil)
    }

    @Test func theCatchAllTakesWhatNobodyHas() throws {
        let text =
            Documents.fixed("river", at: ["127.0.0.1:1"], "aliases: [\"*\"]")
            + Documents.fixed("sea", at: ["127.0.0.1:1"])
            + Documents.fixed(
                "score",
                at: ["127.0.0.1:1"],
                protocol: "HTTP",
                "paths: [{prefix: /score}]"
            )
        let snapshot = try Workshop().build(text)
        #expect(snapshot.lookup("lake") == "river")
        #expect(snapshot.lookup("sea") == "sea")
        #expect(snapshot.route(host: "a.example", path: "/score/x") == "score")
        #expect(snapshot.route(host: "a.example", path: "/scores") == "river")
    }

    @Test func hostsAndPathsLeadToTheModel() throws {
        let text =
            Documents.fixed(
                "paths",
                at: ["127.0.0.1:1"],
                protocol: "HTTP",
                "paths: [{prefix: /a}, {prefix: /a/b}]"
            )
            + Documents.fixed(
                "host",
                at: ["127.0.0.1:1"],
                protocol: "HTTP",
                "hostnames: [one.example, \"*.deep.example\"]"
            )
            + Documents.fixed(
                "both",
                at: ["127.0.0.1:1"],
                protocol: "HTTP",
                "hostnames: [two.example]\npaths: [{prefix: /a}]"
            )
        let snapshot = try Workshop().build(text)
        #expect(snapshot.route(host: "x.example", path: "/a/c") == "paths")
        #expect(snapshot.route(host: "one.example:80", path: "/anything") == "host")
        #expect(snapshot.route(host: "x.y.deep.example", path: "/") == "host")
        #expect(snapshot.route(host: "two.example", path: "/a") == "both")
        #expect(snapshot.route(host: "two.example", path: "/b") == nil)
        #expect(snapshot.route(host: "x.example", path: "/") == nil)
    }

    @Test func aModelKeepsItsIndexAndItsQueue() throws {
        let workshop = Workshop()
        let river = Documents.fixed("river", at: ["127.0.0.1:1"])
        let sea = Documents.fixed("sea", at: ["127.0.0.1:1"])
        let first = try workshop.build(river + sea)
        let second = try workshop.build(sea + river)
        for name in ["river", "sea"] {
            let before = try #require(first.models.compactMap { $0 }.first { $0.name == name })
            let after = try #require(second.models.compactMap { $0 }.first { $0.name == name })
            #expect(before.index == after.index && before.shared === after.shared)
            #expect(second.models[after.index] === after)
        }
    }

    @Test func aRemovedModelLeavesAHoleForTheNext() throws {
        let workshop = Workshop()
        let names = ["river", "sea", "lake"]
        let documents = names.map { Documents.fixed($0, at: ["127.0.0.1:1"]) }
        let all = try workshop.build(documents.joined())
        #expect(all.models.map { $0?.name } == ["river", "sea", "lake"])
        let less = try workshop.build(documents[0] + documents[2])
        #expect(less.models.map { $0?.name } == ["river", nil, "lake"])
        #expect(less.lookup("sea") == nil)
        let more = try workshop.build(
            documents[0] + documents[2] + Documents.fixed("pond", at: ["127.0.0.1:1"])
        )
        #expect(more.models.map { $0?.name } == ["river", "pond", "lake"])
        #expect(more.models[1]?.shared !== all.models[1]?.shared, "another model, another queue")
        let last = try workshop.build(documents[0])
        #expect(last.models.map { $0?.name } == ["river"])
    }

    @Test func aReturningModelBeginsAnew() throws {
        let workshop = Workshop()
        let river = Documents.fixed("river", at: ["127.0.0.1:1"])
        let sea = Documents.fixed("sea", at: ["127.0.0.1:1"])
        let first = try workshop.build(river + sea)
        _ = try workshop.build(sea)
        let third = try workshop.build(river + sea)
        #expect(third.models[0]?.name == "river")
        #expect(third.models[0]?.shared !== first.models[0]?.shared)
    }

    @Test func generationsRise() throws {
        let workshop = Workshop()
        let text = Documents.fixed("river", at: ["127.0.0.1:1"])
        let generations = try (0..<3).map { _ in try workshop.build(text).generation }
        #expect(generations == [1, 2, 3])
    }

    /// What the checks of the configuration let pass must not end the program here.
    @Test(arguments: [
        ("hostnames: [a.example]", "hostnames: [A.example]"),
        ("hostnames: [a.example]", "hostnames: [a.example]\npaths: [{prefix: /}]"),
        ("paths: [{prefix: /a}]", "paths: [{prefix: /a/}]"),
        ("paths: [{prefix: /a//}]", "paths: [{prefix: /a}]"),
        ("hostnames: [\"*.example\"]", "hostnames: [\"*.Example\"]"),
        ("aliases: [\"*\"]", "paths: [{prefix: /}]"),
    ])
    func twoModelsInOnePlaceAreRefusedBeforehand(one: String, other: String) {
        let text =
            Documents.fixed("one", at: ["127.0.0.1:1"], protocol: "HTTP", one)
            + Documents.fixed("other", at: ["127.0.0.1:1"], protocol: "HTTP", other)
        let result = ConfigurationLoader.load(files: [(name: "test.yaml", text: text)])
        #expect(result.configuration == nil)
        #expect(result.problems.contains { $0.message.contains("duplicate") })
    }

    @Test(arguments: [
        ("hostnames: [a.example]", "hostnames: [b.example]"),
        ("paths: [{prefix: /a}]", "paths: [{prefix: /a/b}]"),
        ("paths: [{prefix: /a}]", "hostnames: [a.example]\npaths: [{prefix: /a}]"),
        ("aliases: [\"*\"]", "hostnames: [a.example]"),
        ("paths: [{prefix: /}]", "hostnames: [\"*.example\"]"),
    ])
    func twoPlacesAreFine(one: String, other: String) throws {
        let text =
            Documents.fixed("one", at: ["127.0.0.1:1"], protocol: "HTTP", one)
            + Documents.fixed("other", at: ["127.0.0.1:1"], protocol: "HTTP", other)
        #expect(try Workshop().build(text).models.count == 2)
    }

    @Test(arguments: [(1_024, true), (1_025, false)])
    func prefixesAreBounded(bytes: Int, isAccepted: Bool) throws {
        let prefix = "/" + String(repeating: "a", count: bytes - 1)
        let text = Documents.fixed(
            "one",
            at: ["127.0.0.1:1"],
            protocol: "HTTP",
            "paths: [{prefix: \(prefix)}]"
        )
        let result = ConfigurationLoader.load(files: [(name: "test.yaml", text: text)])
        #expect((result.configuration != nil) == isAccepted)
        if isAccepted {
            #expect(try Workshop().build(text).route(host: "a", path: prefix) == "one")
        }
    }
}

/// What a rollout makes of a model's route.
@Suite struct SnapshotTrafficTests {
    private static let river = Documents.model(
        "river",
        """
        live: v1
        variants:
        - {name: v1, endpoints: ["http://127.0.0.1:1"]}
        - {name: v2, endpoints: ["http://127.0.0.1:2"]}
        """
    )

    private func plan(_ generation: Int, _ canary: Int) -> TrafficPlan {
        TrafficPlan(
            generation: generation,
            weights: [.init("v1", 100 - canary), .init("v2", canary)].filter { $0.percent > 0 }
        )
    }

    @Test func theRolloutsPlanTakesThePlaceOfTheConfigurations() throws {
        let builder = SnapshotBuilder { _, _ in }
        let configuration = try Documents.load(Self.river)
        let trial = Trial(number: 1, inspectsAnswers: false, failuresMax: 0) {}
        var traffic: SnapshotBuilder.Traffic?
        func route() throws -> ModelRoute {
            let snapshot = builder.build(configuration, traffic: { _ in traffic }) { _, _ in [] }
            return try #require(snapshot.models.compactMap { $0 }.first)
        }
        #expect(try route().variants.map(\.weight) == [100, 0])
        var plan = self.plan(2, 30)
        plan.headerRoute = HeaderRoute(name: "x-canary", value: "yes")
        plan.mirrorTo = "v2"
        plan.mirrorPercent = 50
        traffic = SnapshotBuilder.Traffic(plan, canary: "v2", trial: trial)
        let first = try route()
        #expect(first.variants.map(\.weight) == [70, 30])
        #expect(first.variants.map { $0.trial?.arm } == [.stable, .canary])
        #expect(first.variants.map { $0.trial?.generation } == [2, 2])
        #expect(first.settings.headerRoute?.variant == 1)
        #expect(first.settings.mirror?.share == 0.5)
        // Nothing has changed: the workers keep what they have.
        #expect(try route() === first)
        traffic = SnapshotBuilder.Traffic(self.plan(3, 0), canary: "v2", trial: trial)
        let second = try route()
        #expect(second.variants.map(\.weight) == [100, 0])
        #expect(second.settings.headerRoute == nil)
        #expect(second.settings.mirror == nil)
        traffic = SnapshotBuilder.Traffic(self.plan(4, 100))
        #expect(try route().variants.allSatisfy { $0.trial == nil })
    }
}
