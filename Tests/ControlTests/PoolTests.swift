import Autoscaling
import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Proxy
import Rollouts
import Testing

@testable import Control

private enum Pools {
    static let documents = """
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: river}
        spec:
          protocol: OpenAI
          live: small
          objectives: {latency: {quantile: 0.9, below: 2s}}
          variants:
          - name: small
            pool: one
            scaling: {maxReplicas: 2}
            workloadRef: {kind: ProcessDeployment, name: river-small}
          - name: big
            pool: one
            scaling: {cost: "3.5", budgetPerReplica: 4}
            workloadRef: {kind: ProcessDeployment, name: river-big}
          - {name: next, workloadRef: {kind: ProcessDeployment, name: river-next}}
          scaling:
            policy: standard
            minReplicas: 1
            maxReplicas: 6
            priority: 7
            budget: {name: gpus}
        ---
        apiVersion: weir.dev/v1alpha1
        kind: ScalingPolicy
        metadata: {name: standard}
        spec: {targets: [{type: Objective}], scaleToZero: {idleAfter: 2m}}
        ---
        apiVersion: weir.dev/v1alpha1
        kind: ResourceBudget
        metadata: {name: gpus}
        spec: {resource: nvidia.com/gpu, total: 16}

        """
        + ["river-small", "river-big", "river-next"].map {
            """
            ---
            apiVersion: weir.dev/v1alpha1
            kind: ProcessDeployment
            metadata: {name: \($0)}
            spec: {command: [serve], startupTimeout: 20s}

            """
        }.joined()

    /// Without a least and a budget, so that a rig may start from nothing.
    static func plan() throws -> ScalingPlan {
        let text = Self.documents.replacing("minReplicas: 1", with: "minReplicas: 0")
            .replacing("    budget: {name: gpus}\n", with: "")
        return ScalingPlan(try Documents.load(text))
    }
}

@Suite struct PoolPlanTests {
    @Test func aPoolIsSizedTogether() throws {
        let plan = ScalingPlan(try Documents.load(Pools.documents))
        let model = try #require(plan.models.first)
        #expect(model.setup.isInterchangeable && model.setup.pooledMinimum == 1)
        #expect(model.setup.variants.map(\.isInterchangeable) == [true, true, false])
        #expect(model.setup.variants.map(\.cost) == [1, 3.5, 1])
        #expect(model.setup.variants.map(\.bounds.minimum) == [0, 0, 1], "together, not each")
        #expect(model.setup.variants.map(\.bounds.maximum) == [2, 6, 6])
        #expect(model.setup.variants.map(\.unitsPerReplica) == [1, 4, 1])
        #expect(model.setup.variants.map(\.isServing) == [true, true, false])
        #expect(model.budget == ScalingPlan.Share(index: 0, weight: 1, priority: 7))
    }

    @Test func aCanaryIsNotInterchangeable() throws {
        let capacity = RolloutCapacity(
            weights: ["small": 75, "next": 25],
            floors: ["next": 2],
            stable: "small"
        )
        let plan = ScalingPlan(
            try Documents.load(Pools.documents),
            rollouts: ["river": capacity]
        )
        let setup = try #require(plan.models.first).setup
        #expect(setup.variants.map(\.isInterchangeable) == [true, true, false])
        #expect(setup.variants.map(\.isServing) == [true, true, true])
        #expect(setup.variants[2].floor == 2)
    }

    @Test func onceAnotherVariantServesNothingIsPooled() throws {
        let capacity = RolloutCapacity(weights: ["next": 100], floors: [:], stable: "next")
        let plan = ScalingPlan(
            try Documents.load(Pools.documents),
            rollouts: ["river": capacity]
        )
        let setup = try #require(plan.models.first).setup
        #expect(!setup.isInterchangeable)
        #expect(setup.variants.map(\.isServing) == [false, false, true])
        #expect(setup.variants.map(\.bounds.minimum) == [0, 0, 1], "who has served goes")
    }

    @Test func betweenVariantsOfAPoolThereIsNoRollout() throws {
        let text = Pools.documents.replacing("live: small", with: "live: big")
        let configuration = try Documents.load(text)
        let model = try #require(configuration.models.first)
        #expect(RolloutSpec(model, configuration)?.live.name == "small")
        let command = RolloutCommand.start(variant: "big")
        let stood = command.standing { model.spec.representative(of: $0) }
        #expect(stood == .start(variant: "small"))
        #expect(RolloutCommand.abort.standing { _ in "x" } == .abort)
    }
}

@Suite struct PoolLoopTests {
    @Test func aRequestStartsTheCheapestAlone() throws {
        let rig = ScalingRig(try Pools.plan())
        rig.tick()
        #expect(rig.wake("river"))
        #expect(rig.fleet.writes.map(\.group) == ["river-small"])
        #expect(rig.wake("river", pinnedTo: "big"), "a header may name the other one")
        #expect(rig.fleet.writes.map(\.group) == ["river-small", "river-big"])
    }

    /// The one that was asked for crashes, and requests wait.
    @Test func theOtherOneIsStartedForWhatWaits() throws {
        let rig = ScalingRig(try Pools.plan())
        rig.tick()
        _ = rig.wake("river")
        let crashed = FakeFleet.replica(
            "river-small",
            0,
            state: .failed,
            trouble: .crashes,
            message: "exit code 1"
        )
        rig.fleet.groups["river-small"]?.replicas = [crashed]
        rig.loop.note(.updated(crashed), at: rig.now)
        rig.tick { $0.queue("river", 2) }
        rig.tick()
        #expect(rig.fleet.writes(of: "river-big").first == 1)
        let change = try #require(rig.loop.history.changes.first { $0.variant == "big" })
        #expect(change.reason == .request || change.reason == .fallback)
        rig.tick()
        let decision = try #require(rig.loop.latest(of: "river")?.variant(named: "big"))
        #expect(decision.explanation.contains("stands in for small"), "\(decision.explanation)")
        #expect(decision.explanation.contains("exit code 1"), "\(decision.explanation)")
    }

    @Test func worthsAreNewOnlyWhereTheyChangedMuch() throws {
        let rig = ScalingRig(try Pools.plan())
        let model = try #require(rig.loop.plan.models.first)
        rig.tick()
        var decision = try #require(rig.loop.latest(of: "river"))
        #expect(rig.loop.worths.isEmpty, "nothing is known")
        decision.variants[0].worth = 8.123_456
        decision.variants[1].worth = 20
        rig.loop.noteWorths(of: model, decision)
        #expect(rig.loop.worths == ["river": ["small": 8.123, "big": 20]])
        decision.variants[0].worth = 8.5
        decision.variants[1].worth = 30
        rig.loop.noteWorths(of: model, decision)
        #expect(rig.loop.worths == ["river": ["small": 8.123, "big": 30]])
        rig.loop.adopt(ScalingPlan(), at: rig.now)
        #expect(rig.loop.worths.isEmpty, "the model is gone")
    }
}

@Suite struct PoolGatherTests {
    private func samples(_ replicas: [ReplicaCounts], starter: Int) throws -> [GatewaySample] {
        let model = try #require(try Pools.plan().models.first)
        var delta = ModelDelta()
        delta.arrivals = 10
        var gather = VariantGather(variants: 3)
        return gather.samples(
            model,
            delta,
            replicas: replicas,
            starter: starter,
            oldestQueuedSeconds: 0
        )
    }

    private let none = ReplicaCounts(ready: 0)

    /// That it has no replica is as it should be: it is not credited with what it might get.
    @Test func whatComesIsOfThoseThatAreReady() throws {
        let samples = try self.samples(
            [ReplicaCounts(ready: 0), .init(ready: 1), none],
            starter: 0
        )
        #expect(samples.map(\.arrivals) == [0, 10, 0])
    }

    @Test func whatWaitsForTheFirstIsOfOneAlone() throws {
        #expect(try self.samples([none, none, none], starter: 1).map(\.arrivals) == [0, 10, 0])
        let starting = ReplicaCounts(ready: 0, startingAges: [1])
        let samples = try self.samples([none, starting, none], starter: 0)
        #expect(samples.map(\.arrivals) == [0, 10, 0], "of the one that starts already")
    }
}

@Suite struct PoolSnapshotTests {
    private func route(
        _ ready: [String: Int],
        _ traffic: SnapshotBuilder.Traffic?,
        worths: [String: Double] = [:]
    ) throws -> [VariantRoute] {
        let address = try #require(SocketAddress("127.0.0.1:9000"))
        let snapshot = SnapshotBuilder { _, _ in }
            .build(
                try Documents.load(Pools.documents),
                traffic: { _ in traffic },
                worths: { worths[$1] },
                targets: { _, variant in
                    (0..<(ready[variant.name] ?? 0)).map {
                        SnapshotBuilder.Target(id: "\(variant.name)-\($0)", address: address)
                    }
                }
            )
        return try #require(snapshot.models.compactMap { $0 }.first).variants
    }

    @Test func requestsGoWhereReplicasAre() throws {
        let both = try self.route(["small": 2, "big": 1], nil, worths: ["small": 3, "big": 6])
        #expect(both.map(\.weight) == [50_000, 50_000, 0])
        let unknown = try self.route(["small": 7, "big": 2], nil)
        #expect(unknown.map(\.weight) == [50_000, 50_000, 0], "worth what they cost")
        let alone = try self.route(["big": 2], nil, worths: ["small": 3, "big": 6])
        #expect(alone.map(\.weight) == [0, 100_000, 0])
        #expect(try self.route([:], nil).map(\.weight) == [100, 0, 0], "somebody is to be woken")
    }

    @Test func aRolloutsShareIsNotOfThePool() throws {
        let plan = TrafficPlan(generation: 3, weights: [.init("small", 80), .init("next", 20)])
        let trial = Trial(number: 1, inspectsAnswers: false, failuresMax: 0) {}
        let traffic = SnapshotBuilder.Traffic(plan, canary: "next", trial: trial)
        let worths = ["small": 1.0, "big": 3]
        let routes = try self.route(["small": 1, "big": 1, "next": 1], traffic, worths: worths)
        #expect(routes.map(\.weight) == [20_000, 60_000, 20_000])
        #expect(routes.map { $0.trial?.arm } == [.stable, .stable, .canary])
    }
}

@Suite struct PoolWorthsTests {
    @Test func aGatewayReadsWhatAControllerWrites() {
        let status: JSONValue = [
            "variants": [
                ["name": "small", "requestsPerReplica": "8.125"],
                ["name": "big", "requestsPerReplica": "-1"],
                ["name": "next", "requestsPerReplica": "soon"], ["name": "old"], 7,
            ]
        ]
        #expect(PoolWorths.values(in: status) == ["small": 8.125])
        #expect(PoolWorths.text(of: "small", in: status) == "8.125")
        #expect(PoolWorths.text(of: "old", in: status) == nil)
        #expect(PoolWorths.values(in: .null).isEmpty)
    }
}
