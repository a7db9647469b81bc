import Autoscaling
import Clusters
import Core
import Proxy
import Testing

@testable import Control

@Suite struct ScalingLoopTests {
    @Test func loadRaisesTheNumberAndSaysWhy() throws {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 1)
        for _ in 0..<15 {
            rig.tick { $0.serve("river", "main", 10, seconds: 0.5) }
            rig.settle()
        }
        let desired = try #require(rig.fleet.groups["river-main"]?.desired)
        #expect(desired >= 5 && desired <= 10, "a load of 5 at 1 per replica: \(desired)")
        let change = try #require(rig.loop.history.changes.first)
        #expect(change.model == "river" && change.variant == "main")
        #expect(change.from == 1 && change.to > 1 && change.direction == .up)
        #expect(change.reason == .concurrency && !change.text.isEmpty && !change.isDryRun)
        #expect(change.wallSeconds > 1_800_000_000)
        #expect(rig.loop.latest(of: "river")?.variants[0].desired == desired)
        #expect(rig.loop.wanted(model: "river", variant: "main") == desired)
    }

    /// One that stood by for long: what it has not counted is not taken for no load.
    @Test func takesNothingAwayAfterARestartUntilItsWindowsAreFull() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 4)
        rig.settle()
        for _ in 0..<30 { rig.tick { $0.serve("river", "main", 8, seconds: 0.5) } }
        #expect(rig.fleet.writes.isEmpty, "a load of 4 at 1 per replica")
        rig.pass(seconds: 3_600)
        rig.loop.restart(at: rig.now)
        rig.startCounting()
        for _ in 0..<9 { rig.tick() }
        #expect(rig.fleet.writes.isEmpty)
        for _ in 0..<3 { rig.tick() }
        #expect(rig.fleet.writes(of: "river-main") == [0], "idle, and known to be")
    }

    @Test func aDryRunWritesNothingAndSaysWhatItWould() throws {
        var model = Plans.model("river")
        model.setup.policy.isDryRun = true
        let rig = ScalingRig(Plans.plan([model]), replicas: 1)
        for _ in 0..<10 { rig.tick { $0.serve("river", "main", 10, seconds: 0.5) } }
        #expect(rig.fleet.writes.isEmpty)
        let change = try #require(rig.loop.history.changes.first)
        #expect(change.isDryRun && change.from == 1 && change.to > 1)
        #expect(rig.loop.history.changes.count < 10, "one line per change, not per tick")
        #expect(!rig.wake("river"), "others start it as they did before")
    }

    @Test func aRequestStartsASleepingModelAtOnceAndOnce() throws {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]))
        rig.tick()
        #expect(rig.fleet.writes.isEmpty)
        #expect(rig.wake("river"))
        #expect(rig.fleet.writes(of: "river-main") == [1])
        #expect(rig.wake("river"))
        #expect(rig.fleet.writes.count == 1)
        #expect(rig.loop.history.changes.map(\.reason) == [.request])
        rig.tick { $0.queue("river", 1) }
        #expect(rig.fleet.groups["river-main"]?.desired == 1, "it is not taken back at the tick")
    }

    /// It came after the workers were asked: the decision does not know of it by them.
    @Test func aRequestBetweenAskingAndDecidingKeepsTheReplica() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 1)
        rig.fleet.have(1, ready: 0, in: "river-main")
        // Warm after ten seconds, idle after five.
        for _ in 0..<9 { rig.tick() }
        #expect(rig.fleet.writes.isEmpty)
        #expect(rig.wake("river"), "it waits for the replica that starts")
        rig.tick(collects: false)
        #expect(rig.fleet.writes.isEmpty, "not taken for idle")
        for _ in 0..<3 { rig.tick() }
        #expect(rig.fleet.writes.isEmpty, "idle since the request")
        rig.tick()
        #expect(rig.fleet.writes(of: "river-main") == [0])
    }

    /// The last replica drains, and holds all that there is: nothing else needs to be free.
    @Test(arguments: [true, false])
    func aDrainingReplicaIsTakenBackFromAFullBudget(isAsked: Bool) {
        let model = Plans.model("river", budget: .init(index: 0, weight: 1))
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: 1,
            fixed: []
        )
        let rig = ScalingRig(Plans.plan([model], budgets: [budget]))
        rig.fleet.groups["river-main"]?.replicas = [
            FakeFleet.replica("river-main", 0, state: .draining, isLeaving: true)
        ]
        rig.tick()
        if isAsked { #expect(rig.wake("river")) } else { rig.tick { $0.queue("river", 1) } }
        #expect(rig.fleet.writes.isEmpty, "it cannot come back, and there is no room for another")
        rig.fleet.groups["river-main"]?.takeable = 1
        if isAsked { #expect(rig.wake("river")) } else { rig.tick() }
        #expect(rig.fleet.writes(of: "river-main") == [1])
    }

    @Test func aPinnedRequestStartsItsVariantOnly() {
        let rig = ScalingRig(Plans.plan([Plans.model("river", [("a", 100), ("b", 0)])]))
        rig.tick()
        #expect(rig.wake("river", pinnedTo: "b"))
        #expect(rig.fleet.writes.map(\.group) == ["river-b"])
        #expect(rig.wake("river"))
        #expect(rig.fleet.writes.map(\.group) == ["river-b", "river-a"])
    }

    @Test func otherModelsAreNotItsBusiness() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]))
        #expect(!rig.wake("lake"))
        #expect(rig.loop.latest(of: "lake") == nil)
    }

    /// Its share is owed to it: it is started although the others could serve everything.
    @Test func aVariantWithWeightAndNoReplicaIsStartedWhileOthersServe() {
        let rig = ScalingRig(Plans.plan([Plans.model("river", [("a", 90), ("b", 10)])]))
        rig.fleet.have(1, ready: 1, in: "river-a")
        for _ in 0..<20 { rig.tick { $0.serve("river", "a", 10, seconds: 0.02) } }
        #expect(rig.fleet.writes(of: "river-b").first == 1)
        #expect((rig.fleet.groups["river-b"]?.desired ?? 0) >= 1, "and it stays")
    }

    @Test func aVariantWithoutWeightSleepsOn() {
        let rig = ScalingRig(Plans.plan([Plans.model("river", [("a", 100), ("b", 0)])]))
        rig.fleet.have(1, ready: 1, in: "river-a")
        for _ in 0..<20 { rig.tick { $0.serve("river", "a", 10, seconds: 0.02) } }
        #expect(rig.fleet.writes(of: "river-b").isEmpty)
    }

    @Test func whatCannotBeWrittenIsTriedAgain() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 1)
        rig.fleet.refusal = "not now"
        for _ in 0..<5 { rig.tick { $0.serve("river", "main", 10, seconds: 0.5) } }
        #expect(rig.fleet.writes.isEmpty && rig.loop.history.changes.isEmpty)
        rig.fleet.refusal = nil
        rig.tick { $0.serve("river", "main", 10, seconds: 0.5) }
        #expect(rig.fleet.writes.count == 1)
    }

    @Test func silentWorkersChangeNothing() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 4)
        for _ in 0..<60 {
            rig.tick { $0.serve("river", "main", 8, seconds: 0.5) }
            rig.settle()
        }
        let before = rig.fleet.groups["river-main"]?.desired
        let writes = rig.fleet.writes.count
        for _ in 0..<120 { rig.tick(hears: false) }
        #expect(rig.fleet.groups["river-main"]?.desired == before)
        #expect(rig.fleet.writes.count == writes)
    }

    @Test func aSilentClusterChangesNothing() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 2)
        rig.tick()
        rig.fleet.groups = [:]
        for _ in 0..<30 { rig.tick { $0.serve("river", "main", 10, seconds: 0.5) } }
        #expect(rig.fleet.writes.isEmpty)
    }

    @Test func aReloadKeepsWhatIsKnown() throws {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 1)
        for _ in 0..<15 {
            rig.tick { $0.serve("river", "main", 10, seconds: 0.5) }
            rig.settle()
        }
        let before = try #require(rig.fleet.groups["river-main"]?.desired)
        let changes = rig.loop.history.changes.count
        let more = Plans.model("river", bounds: ScalingBounds(minimum: 0, maximum: 20))
        rig.loop.adopt(Plans.plan([Plans.model("lake"), more]), at: rig.now)
        #expect(rig.loop.history.changes.count == changes)
        #expect(rig.loop.wanted(model: "river", variant: "main") == before)
        rig.tick { $0.serve("river", "main", 10, seconds: 0.5) }
        #expect(rig.fleet.groups["river-main"]?.desired == before, "no step at the reload")
    }

    @Test func aVariantThatMovesKeepsItsOwn() {
        let rig = ScalingRig(Plans.plan([Plans.model("river", [("a", 50), ("b", 50)])]))
        rig.fleet.have(2, ready: 2, in: "river-a")
        rig.fleet.have(5, ready: 5, in: "river-b")
        rig.tick {
            $0.serve("river", "a", 2, seconds: 1)
            $0.serve("river", "b", 5, seconds: 1)
        }
        let wanted = ["a", "b"].map { rig.loop.wanted(model: "river", variant: $0) }
        rig.loop.adopt(Plans.plan([Plans.model("river", [("b", 50), ("a", 50)])]), at: rig.now)
        #expect(["a", "b"].map { rig.loop.wanted(model: "river", variant: $0) } == wanted)
    }

    @Test func whatTheNextRunShouldKnowIsRemembered() throws {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 3)
        let leaving = FakeFleet.replica("river-main", 9, state: .draining, isLeaving: true)
        rig.loop.note(.updated(leaving), at: rig.now)
        rig.loop.note(.removed(leaving.id), at: rig.now + .seconds(4))
        rig.tick()
        let memory = rig.loop.remember(wallSeconds: 1_800_000_000)
        #expect(memory.groups["river-main"]?.drainSeconds == [4])
        #expect(memory.groups["river-main"]?.replicas == rig.fleet.groups["river-main"]?.desired)
        let next = ScalingRig(Plans.plan([Plans.model("river")]), replicas: 3, memory: memory)
        next.tick()
        let again = next.loop.remember(wallSeconds: 1_800_000_001)
        #expect(again.groups["river-main"]?.drainSeconds == [4])
    }

    private static func objective(_ milliseconds: Int) -> ScalingPlan {
        var model = Plans.model("river")
        model.setup.policy.targets = [.objective]
        model.setup.objectives = Objectives(
            latency: TimeObjective(quantile: 0.95, below: .milliseconds(milliseconds))
        )
        return Plans.plan([model])
    }

    private func isLearning(_ rig: ScalingRig) throws -> Bool {
        let decision = try #require(rig.loop.latest(of: "river")?.variants.first)
        if case .objectiveLearning = try #require(decision.recommendations.first).reason {
            return true
        }
        return false
    }

    /// - Returns: what a run knows that served requests for some minutes.
    private func experience() throws -> ScalingMemory {
        let rig = ScalingRig(Self.objective(500), replicas: 2)
        for _ in 0..<200 {
            rig.tick { $0.serve("river", "main", 10, seconds: 0.2) }
            rig.settle()
        }
        #expect(try !self.isLearning(rig))
        let text = rig.loop.remember(wallSeconds: 1_800_000_000).text
        return try ScalingMemory(Array(text.utf8))
    }

    @Test func whatReplicasCanDoIsKnownAfterARestart() throws {
        let next = ScalingRig(Self.objective(500), replicas: 2, memory: try self.experience())
        next.tick { $0.serve("river", "main", 10, seconds: 0.2) }
        #expect(try !self.isLearning(next))
        let fresh = ScalingRig(Self.objective(500), replicas: 2)
        fresh.tick { $0.serve("river", "main", 10, seconds: 0.2) }
        #expect(try self.isLearning(fresh))
    }

    @Test func whatIsOldOrOfAnotherObjectiveIsLearnedAnew() throws {
        var memory = try self.experience()
        let other = ScalingRig(Self.objective(300), replicas: 2, memory: memory)
        other.tick { $0.serve("river", "main", 10, seconds: 0.2) }
        #expect(try self.isLearning(other))
        // Two hundred half-lives.
        memory.ageSeconds = 360_000
        let late = ScalingRig(Self.objective(500), replicas: 2, memory: memory)
        late.tick { $0.serve("river", "main", 10, seconds: 0.2) }
        #expect(try self.isLearning(late))
    }

    @Test func capacitiesThatAreNotDueStayAsTheyWere() throws {
        let memory = try self.experience()
        let next = ScalingRig(Self.objective(500), replicas: 2, memory: memory)
        for _ in 0..<20 { next.tick { $0.serve("river", "main", 10, seconds: 0.2) } }
        let later = next.loop.remember(wallSeconds: 1_800_000_020, capacitiesOf: memory)
        #expect(later.groups["river-main"]?.capacity == memory.groups["river-main"]?.capacity)
        let anew = next.loop.remember(wallSeconds: 1_800_000_020)
        #expect(anew.groups["river-main"]?.capacity != memory.groups["river-main"]?.capacity)
    }
}
