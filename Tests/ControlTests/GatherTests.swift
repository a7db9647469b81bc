import Autoscaling
import Configuration
import Core
import Testing

@testable import Clusters
@testable import Control

@Suite struct VariantGatherTests {
    private func delta(
        arrivals: UInt64,
        queued: Int = 0,
        refused: UInt64 = 0,
        _ dispatched: [String: UInt64] = [:],
        pinned: [String: UInt64] = [:]
    ) -> ModelDelta {
        var delta = ModelDelta()
        delta.arrivals = arrivals
        delta.queued = queued
        delta.queuedSeconds = Double(queued)
        delta.refused = refused
        for name in Set(dispatched.keys).union(pinned.keys) {
            var variant = VariantDelta(name: name)
            variant.dispatched = dispatched[name] ?? 0
            variant.completions = variant.dispatched
            variant.pinned = pinned[name] ?? 0
            delta.variants.append(variant)
        }
        return delta
    }

    private let ready = ReplicaCounts(ready: 1)
    private let none = ReplicaCounts(ready: 0)

    @Test func theOnlyVariantHasEverything() {
        let model = Plans.model("river")
        var gather = VariantGather(variants: 1)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 7, queued: 3, refused: 2, ["main": 4]),
            replicas: [self.ready],
            oldestQueuedSeconds: 1.5
        )
        #expect(samples.map(\.arrivals) == [7])
        #expect(samples[0].queued == 3 && samples[0].queuedSeconds == 3)
        #expect(samples[0].refused == 2 && samples[0].completions == 4)
        #expect(samples[0].oldestQueuedSeconds == 1.5)
    }

    @Test func requestsCountForTheVariantsTheyWentTo() {
        let model = Plans.model("river", [("a", 90), ("b", 10)])
        var gather = VariantGather(variants: 2)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 10, queued: 4, ["a": 6, "b": 2]),
            replicas: [self.ready, self.ready],
            oldestQueuedSeconds: 0
        )
        // Six of eight went to a: so will those that wait.
        #expect(samples[0].queuedSeconds == 3 && samples[1].queuedSeconds == 1)
        #expect(samples.reduce(0) { $0 + $1.arrivals } >= 9)
    }

    /// Parts of requests are carried on: over time every request counts once.
    @Test(arguments: [[50, 50], [90, 10], [99, 1], [1, 1, 1]])
    func nothingIsLostToRounding(weights: [Int]) {
        let names = ["a", "b", "c"]
        let model = Plans.model("river", zip(names, weights).map { ($0, $1) })
        var gather = VariantGather(variants: weights.count)
        var sums = Array(repeating: 0, count: weights.count)
        for _ in 0..<1_000 {
            let samples = gather.samples(
                model,
                self.delta(arrivals: 1),
                replicas: weights.map { _ in self.ready },
                oldestQueuedSeconds: 0
            )
            for index in sums.indices { sums[index] += samples[index].arrivals }
        }
        #expect((sums.reduce(0, +) - 1_000).magnitude <= weights.count)
        let total = weights.reduce(0, +)
        for index in sums.indices {
            #expect((sums[index] - 1_000 * weights[index] / total).magnitude <= 1)
        }
    }

    @Test func aSleepingVariantIsCreditedWithItsShareAndTheOthersKeepWhatTheyServe() {
        let model = Plans.model("river", [("a", 75), ("b", 25)])
        var gather = VariantGather(variants: 2)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 100, ["a": 100]),
            replicas: [self.ready, self.none],
            oldestQueuedSeconds: 0
        )
        #expect(samples.map(\.arrivals) == [100, 25])
        #expect(samples[1].queued == 0, "nobody waits for it")
    }

    @Test func aVariantWhoseReplicasDoNotComeIsCreditedWithNothing() {
        let model = Plans.model("river", [("a", 50), ("b", 50)])
        var gather = VariantGather(variants: 2)
        let stuck = ReplicaCounts(ready: 0, stuck: 1, obstacle: Obstacle(.crashLoop))
        let samples = gather.samples(
            model,
            self.delta(arrivals: 10, ["a": 10]),
            replicas: [self.ready, stuck],
            oldestQueuedSeconds: 0
        )
        #expect(samples.map(\.arrivals) == [10, 0])
    }

    @Test func whereNobodyServesTheWeightsDivide() {
        let model = Plans.model("river", [("a", 75), ("b", 25)])
        var gather = VariantGather(variants: 2)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 8, queued: 8),
            replicas: [self.none, self.none],
            oldestQueuedSeconds: 2
        )
        #expect(samples.map(\.arrivals) == [6, 2])
        #expect(samples.map(\.queued) == [6, 2])
    }

    @Test func fixedEndpointsHaveTheirShare() {
        let model = Plans.model("river", [("a", 50)], fixed: [("cloud", 50)])
        var gather = VariantGather(variants: 1)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 10, ["a": 4, "cloud": 6]),
            replicas: [self.ready],
            oldestQueuedSeconds: 0
        )
        #expect(samples.map(\.arrivals) == [4])
    }

    @Test func pinnedRequestsCountForTheirVariantWhateverItsWeight() {
        let model = Plans.model("river", [("a", 100), ("b", 0)])
        var gather = VariantGather(variants: 2)
        let samples = gather.samples(
            model,
            self.delta(arrivals: 10, ["a": 7, "b": 3], pinned: ["b": 3]),
            replicas: [self.ready, self.ready],
            oldestQueuedSeconds: 0
        )
        #expect(samples.map(\.arrivals) == [7, 3])
    }
}

@Suite struct ReplicaLedgerTests {
    private let start = Instant(nanoseconds: 5_000_000_000)

    private func status(
        _ state: ReplicaState,
        trouble: StartTrouble? = nil,
        isLeaving: Bool = false,
        restarts: Int = 0,
        since: Instant? = nil,
        index: Int = 0
    ) -> ReplicaStatus {
        FakeFleet.replica(
            "g",
            index,
            state: state,
            since: since ?? self.start,
            trouble: trouble,
            isLeaving: isLeaving,
            restarts: restarts,
            message: "why"
        )
    }

    private func group(_ replicas: [ReplicaStatus]) -> GroupStatus {
        GroupStatus(name: "g", desired: 1, replicas: replicas, coldStarts: ColdStarts())
    }

    private func ledger() -> ReplicaLedger {
        var ledger = ReplicaLedger()
        ledger.follow(["g"])
        return ledger
    }

    @Test func whatNobodyScalesIsNotMeasured() {
        var ledger = ReplicaLedger()
        ledger.note(.updated(self.status(.starting)), at: self.start)
        ledger.note(.updated(self.status(.ready)), at: self.start + .seconds(6))
        #expect(ledger.takeStarts(of: "g") == [])
        ledger.follow(["g"])
        #expect(ledger.takeStarts(of: "g") == [], "what it was before is nobody's")
        let leaving = self.status(.draining, isLeaving: true)
        ledger.note(.updated(leaving), at: self.start + .seconds(10))
        ledger.note(.removed(leaving.id), at: self.start + .seconds(13))
        ledger.follow([])
        #expect(ledger.takeDrains(of: "g") == [], "it is followed no more")
    }

    @Test func aStartIsMeasuredFromWhenItWasAskedForAndOnce() {
        var ledger = self.ledger()
        ledger.note(.updated(self.status(.pending)), at: self.start)
        ledger.note(.updated(self.status(.starting)), at: self.start + .seconds(1))
        ledger.note(.updated(self.status(.ready)), at: self.start + .seconds(6))
        ledger.note(.updated(self.status(.notReady)), at: self.start + .seconds(8))
        ledger.note(.updated(self.status(.ready)), at: self.start + .seconds(9))
        #expect(ledger.takeStarts(of: "g") == [6])
        #expect(ledger.takeStarts(of: "g") == [])
    }

    @Test func aDrainIsMeasuredUnlessItIsTakenBack() {
        var ledger = self.ledger()
        ledger.note(.updated(self.status(.ready)), at: self.start)
        let leaving = self.status(.draining, isLeaving: true)
        ledger.note(.updated(leaving), at: self.start + .seconds(1))
        ledger.note(.updated(self.status(.ready)), at: self.start + .seconds(2))
        ledger.note(.updated(leaving), at: self.start + .seconds(10))
        ledger.note(
            .updated(self.status(.stopping, isLeaving: true)),
            at: self.start + .seconds(12)
        )
        ledger.note(.removed(leaving.id), at: self.start + .seconds(13))
        #expect(ledger.takeDrains(of: "g") == [3])
    }

    @Test func whatWasNeverReadyHasNoDrain() {
        var ledger = self.ledger()
        ledger.note(.updated(self.status(.starting)), at: self.start)
        let stopping = self.status(.stopping, isLeaving: true)
        ledger.note(.updated(stopping), at: self.start + .seconds(1))
        ledger.note(.removed(stopping.id), at: self.start + .seconds(2))
        #expect(ledger.takeDrains(of: "g") == [])
    }

    @Test(arguments: [
        (StartTrouble.crashes, Obstacle.Kind.crashLoop),
        (.tooSlow, .startTimeout),
        (.cannotStart, .imageError),
    ])
    func aReplicaThatWillNotComeIsStuckAndSaysWhy(trouble: StartTrouble, kind: Obstacle.Kind) {
        let ledger = ReplicaLedger()
        let counts = ledger.counts(
            self.group([
                self.status(.ready), self.status(.starting, trouble: trouble, index: 1),
                self.status(.starting, index: 2), self.status(.draining, isLeaving: true, index: 3),
                self.status(.stopping, trouble: trouble, index: 4),
            ]),
            at: self.start + .seconds(3)
        )
        #expect(counts.ready == 1 && counts.draining == 1)
        #expect(counts.startingAges == [3])
        // One that is stopped to be started again is not on its way out.
        #expect(counts.stuck == 2)
        #expect(counts.obstacle == Obstacle(kind, message: "why"))
    }

    @Test func aReplicaWithoutRoomIsWaitedForAsLongAsANodeMayTake() {
        let ledger = ReplicaLedger()
        let waiting = self.group([self.status(.failed, trouble: .noRoom)])
        let soon = ledger.counts(waiting, at: self.start + .seconds(599))
        #expect(soon.starting == 1 && soon.stuck == 0)
        let other = ledger.counts(
            waiting,
            isInterchangeable: true,
            at: self.start + .seconds(120)
        )
        #expect(other.stuck == 1, "another variant can do its work")
        let late = ledger.counts(waiting, at: self.start + .seconds(600))
        #expect(late.starting == 0 && late.stuck == 1)
        #expect(late.obstacle == Obstacle(.noCapacity, message: "why"))
    }

    @Test func aReplicaThatFailsItsCheckForLongIsNotCounted() {
        let ledger = ReplicaLedger()
        let ill = self.group([self.status(.notReady)])
        let soon = ledger.counts(ill, at: self.start + .seconds(5))
        #expect(soon.starting == 1 && soon.stuck == 0)
        let late = ledger.counts(ill, at: self.start + .seconds(60))
        #expect(late.starting == 0 && late.stuck == 1)
    }
}

@Suite struct ScalingMemoryTests {
    private func memory() -> ScalingMemory {
        var memory = ScalingMemory(savedAt: 1_800_000_000)
        memory.groups["river-main"] = .init(replicas: 3, drainSeconds: [0.5, 12])
        memory.groups["lake"] = .init(replicas: 0)
        var capacity = LearnedCapacity()
        capacity.latencyLimit = 0.5
        capacity.latency.bins = [
            .init(index: 3, count: 120.5, sum: 30.25, good: 119),
            .init(index: 51, count: 1, sum: 9, good: 0),
        ]
        capacity.latency.shape = [.init(index: 41, count: 121.5)]
        memory.groups["river-main"]?.capacity = capacity
        return memory
    }

    private static func curve(_ bins: String) -> String {
        #"{"version": 1, "savedAt": 1, "groups": {"a": {"capacity": {"latency": {"bins": "#
            + bins + "}}}}}"
    }

    @Test func whatIsNotKnownIsPassedOver() throws {
        let text = Self.curve(#"[[1, 2, 3, 1]], "more": [1]"#).replacing(
            #""savedAt""#,
            with: #""later": {"a": null}, "savedAt""#
        )
        let memory = try ScalingMemory(Array(text.utf8))
        #expect(memory.groups["a"]?.capacity?.latency.bins.map(\.count) == [2])
    }

    @Test func readsBackWhatItWrote() throws {
        #expect(try ScalingMemory(Array(self.memory().text.utf8)) == self.memory())
    }

    @Test(arguments: [(0.0, 3), (599, 3), (601, nil), (-5, nil)])
    func replicasHoldForAShortTime(age: Double, replicas: Int?) {
        let now = 1_800_000_000 + age
        #expect(self.memory().replicas(of: "river-main", wallSeconds: now) == replicas)
        #expect(self.memory().replicas(of: "sea", wallSeconds: now) == nil)
    }

    @Test(arguments: [
        "", "{}", "null", "[1]", #"{"version": 2, "savedAt": 1, "groups": {}}"#,
        #"{"version": 1, "groups": {}}"#,
        #"{"version": 1, "savedAt": 1, "groups": {"a": {"replicas": -1}}}"#,
        #"{"version": 1, "savedAt": 1, "groups": {"a": {"replicas": 1.5}}}"#,
        #"{"version": 1, "savedAt": 1, "groups": {"a": {"drainSeconds": [-1]}}}"#,
        #"{"version": 1, "savedAt": 1, "groups": {"a": 5}}"#,
        #"{"version": 1, "savedAt": 1, "groups": {"a": {"capacity": 1}}}"#,
        Self.curve("[[52, 1, 1, 1]]"), Self.curve("[[-1, 1, 1, 1]]"),
        Self.curve("[[1e9, 1, 1, 1]]"),
        Self.curve("[[1, 1, 1, 2]]"), Self.curve("[[1, -1, 1, -1]]"), Self.curve("[[1, 1, 1]]"),
        Self.curve("[[1, 1, 1, 1, 1]]"), Self.curve("[[1, 1e300, 1, 1]]"), Self.curve("[1]"),
        Self.curve(
            "[" + Array(repeating: "[1, 1, 1, 1]", count: 53).joined(separator: ",") + "]"
        ),
        #"{"version": 1, "savedAt": 1, "groups": {}"#,
    ])
    func damageIsSaidAndNeverTaken(text: String) {
        #expect(throws: ScalingMemory.Damage.self) { try ScalingMemory(Array(text.utf8)) }
    }

    @Test(arguments: 0..<200)
    func brokenFilesNeverCrash(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var text = Array(self.memory().text.utf8)
        for _ in 0..<3 {
            text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(
                in: 0x20...0x7E,
                using: &random
            )
        }
        _ = try? ScalingMemory(text)
    }
}

@Suite struct ScalingPlanTests {
    private static let documents = """
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: river}
        spec:
          protocol: OpenAI
          variants:
          - {name: a, workloadRef: {kind: ProcessDeployment, name: river-a}}
          - {name: b, workloadRef: {kind: ProcessDeployment, name: river-b}}
          - {name: cloud, endpoints: ["http://10.0.0.5:80"]}
          weights: {a: 70, cloud: 30}
          concurrency: {perReplica: 8}
          objectives: {latency: {quantile: 0.9, below: 2s}}
          scaling:
            policy: standard
            minReplicas: 0
            maxReplicas: 6
            budget: {name: gpus, perReplica: 2, weight: 3}
        ---
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: lake}
        spec:
          protocol: OpenAI
          variants: [{name: main, workloadRef: {kind: ProcessDeployment, name: lake}}]
          scaling: {budget: {name: gpus}}
        ---
        apiVersion: weir.dev/v1alpha1
        kind: ScalingPolicy
        metadata: {name: standard}
        spec:
          targets:
          - {type: Objective}
          - {type: Concurrency, value: "6"}
          - {type: QueueWait, quantile: 0.9, value: 200ms}
          - {type: KVCache, value: "80%"}
          - {type: Prometheus, server: "http://p:9090", query: "up", value: "10"}
          - {type: Schedule, cron: "0 8 * * 1-5", duration: 10h, replicas: 4}
          windows: {stable: 30s, burst: 5s}
          forecast: {horizon: 45s}
          scaleUp: {stabilization: 3s, maxPerMinute: 20}
          scaleToZero: {idleAfter: 2m}
          dryRun: true
        ---
        apiVersion: weir.dev/v1alpha1
        kind: ResourceBudget
        metadata: {name: gpus}
        spec: {resource: nvidia.com/gpu, total: 16}

        """
        + ["river-a", "river-b", "lake"].map {
            """
            ---
            apiVersion: weir.dev/v1alpha1
            kind: ProcessDeployment
            metadata: {name: \($0)}
            spec: {command: [serve], startupTimeout: 20s}

            """
        }.joined()

    @Test func theConfigurationRefusesWhatTheAutoscalerCannotTake() {
        #expect(ModelScalingSpec.variantsMax == ModelSetup.variantsMax)
    }

    @Test func sourcesAreReachedAsWritten() throws {
        let text = Self.documents.replacing(
            "server: \"http://p:9090\", query: \"up\"",
            with: "server: \"https://p:9090\", query: \"up\", caFile: /ca.pem, tokenFile: /token"
        ).replacing(
            "- {type: KVCache, value: \"80%\"}",
            with: "- {type: GPUUtilization, value: \"80%\", exporter: \"http://n:9401/metrics\"}\n"
                + "  - {type: GPUUtilization, value: \"90%\"}\n"
                + "  - {type: Prometheus, server: \"https://q\", query: \"up\", value: \"1\",\n"
                + "     basicAuth: {username: weir, passwordFile: /password}}"
        )
        let river = try #require(ScalingPlan(try Documents.load(text)).models.first)
        #expect(
            river.exporters.map { "\($0)" }
                == ["http://n:9401/metrics", "http://127.0.0.1:9400/metrics"]
        )
        #expect(river.queries.map(\.authoritiesFile) == [nil, "/ca.pem"])
        #expect(
            river.queries.map(\.credentials)
                == [.password(user: "weir", file: "/password"), .token(file: "/token")]
        )
    }

    @Test func everythingWrittenReachesTheDecision() throws {
        let plan = ScalingPlan(try Documents.load(Self.documents))
        #expect(plan.models.map(\.name) == ["river"])
        let river = try #require(plan.models.first)
        #expect(river.variants.map(\.group) == ["river-a", "river-b"])
        #expect(river.variants.map(\.weight) == [70, 0])
        #expect(river.weights.map(\.name) == ["a", "b", "cloud"])
        #expect(river.setup.variants.map(\.isServing) == [true, false])
        #expect(river.setup.variants[0].bounds == ScalingBounds(minimum: 0, maximum: 6))
        #expect(river.setup.variants[0].unitsPerReplica == 2)
        #expect(river.setup.variants[0].assumedColdStart == .seconds(20))
        #expect(river.setup.objectives.latency == TimeObjective(quantile: 0.9, below: .seconds(2)))
        #expect(river.slotsPerReplica == 8)
        let policy = river.setup.policy
        #expect(policy.targets.count == 6 && policy.targets[0] == .objective)
        #expect(policy.targets[1] == .concurrency(6))
        #expect(policy.targets[2] == .queueWait(quantile: 0.9, below: .milliseconds(200)))
        #expect(policy.targets[3] == .kvCache(0.8))
        #expect(policy.targets[4] == .metric(name: "up", value: 10))
        #expect(policy.stableWindow == .seconds(30) && policy.burstWindow == .seconds(5))
        #expect(policy.forecastHorizon == .fixed(.seconds(45)))
        #expect(policy.scaleUp.maxPerMinute == 20)
        #expect(policy.scaleDown.stabilization == .automatic)
        #expect(policy.idleAfter == .seconds(120) && policy.isDryRun)
        #expect(river.queries.map(\.query) == ["up"])
    }

    @Test func aBudgetKnowsWhoTakesOfItWithoutBeingScaled() throws {
        let plan = ScalingPlan(try Documents.load(Self.documents))
        #expect(plan.budgets.map(\.total) == [16])
        #expect(plan.budgets[0].fixed.map(\.group) == ["lake"])
        #expect(plan.models[0].budget == ScalingPlan.Share(index: 0, weight: 3))
        #expect(plan.owner(ofGroup: "river-b")?.variant == 1)
        #expect(plan.owner(ofGroup: "lake") == nil)
    }
}
