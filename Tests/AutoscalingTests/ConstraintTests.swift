import Core
import Testing

@testable import Autoscaling

/// What bites between a recommendation and a decision, one by one.
@Suite struct ConstraintTests {
    private static func kinds(_ decision: VariantDecision) -> [AppliedConstraint.Kind] {
        decision.constraints.map(\.kind)
    }

    @Test func keepsToItsBounds() {
        var rig = Rig([.concurrency(1)], minimum: 2, maximum: 5, ready: 2)
        let many = rig.run(61, Rig.sample(inFlight: 50))
        #expect(many.desired == 5)
        #expect(Self.kinds(many) == [.maximum])
        let few = rig.run(61)
        #expect(few.desired == 2)
        #expect(Self.kinds(few) == [.minimum])
    }

    @Test func aRolloutsFloorHolds() {
        var rig = Rig([.concurrency(1)], ready: 1)
        var setup = rig.scaler.setup
        setup.variants[0].floor = 3
        rig.scaler.reconfigure(setup, at: rig.now)
        let decision = rig.run(61, Rig.sample(inFlight: 1))
        #expect(decision.desired == 3)
        #expect(Self.kinds(decision) == [.floor])
    }

    @Test func waitsForAFixedStabilizationBothWays() {
        var rig = Rig([.concurrency(1)], ready: 4) {
            $0.scaleUp.stabilization = .fixed(.seconds(10))
            $0.scaleDown.stabilization = .fixed(.seconds(30))
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        rig.run(61, Rig.sample(inFlight: 4))
        #expect(rig.run(10, Rig.sample(inFlight: 9)).desired == 4)
        #expect(rig.run(2, Rig.sample(inFlight: 9)).desired == 9)
        let held = rig.run(30, Rig.sample(inFlight: 4))
        #expect(held.desired == 9)
        #expect(Self.kinds(held) == [.stabilization(seconds: 30)])
        #expect(rig.run(2, Rig.sample(inFlight: 4)).desired == 4)
    }

    @Test func holdsForTheBreakEvenTimeOfAStart() {
        var rig = Rig([.concurrency(1)], ready: 6, coldStart: 40, drain: 20) {
            $0.scaleDown.stabilization = .automatic
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        rig.run(61, Rig.sample(inFlight: 6))
        let held = rig.run(60, Rig.sample(inFlight: 2))
        #expect(held.desired == 6)
        #expect(Self.kinds(held).first == .breakEven(seconds: 60))
        #expect(rig.run(2, Rig.sample(inFlight: 2)).desired == 2)
    }

    @Test func aScaleDownThatWasWrongHoldsLongerTheNextTime() {
        var rig = Rig([.concurrency(1)], ready: 4, coldStart: 20, drain: 10) {
            $0.scaleDown.stabilization = .automatic
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        rig.run(61, Rig.sample(inFlight: 4))
        #expect(rig.run(32, Rig.sample(inFlight: 2)).desired == 2)
        #expect(rig.run(5, Rig.sample(inFlight: 4)).desired == 4)
        #expect(rig.run(55, Rig.sample(inFlight: 2)).desired == 4)
        #expect(rig.run(300, Rig.sample(inFlight: 2)).desired == 2)
    }

    @Test func limitsChangesPerMinute() {
        var rig = Rig([.concurrency(1)], ready: 1) {
            $0.scaleUp.maxPerMinute = 6
            $0.scaleDown.maxPerMinute = 3
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        rig.run(61, Rig.sample(inFlight: 1))
        let first = rig.run(2, Rig.sample(inFlight: 50))
        #expect(first.desired == 7)
        #expect(Self.kinds(first) == [.rate(perMinute: 6)])
        #expect(rig.run(20, Rig.sample(inFlight: 50)).desired == 9)
        let down = rig.run(2, Rig.sample(inFlight: 1))
        #expect(down.desired == 6)
        #expect(Self.kinds(down) == [.rate(perMinute: 3)])
    }

    @Test func aBigLoadOnTheRestKeepsAReplica() {
        // Requests per second say one is enough; 20 in flight do not fit into its 8 slots.
        var rig = Rig([.requestRate(100)], ready: 3)
        let decision = rig.run(65, Rig.sample(inFlight: 20, arrivals: 10)) {
            $0.slotsPerReplica = 8
        }
        #expect(decision.desired == 3)
        #expect(Self.kinds(decision) == [.consolidation(load: 20, limit: 8)])
    }

    @Test func theLastReplicaStaysWhileThereIsWork() {
        var rig = Rig([.metric(name: "x", value: 1)], ready: 1) { $0.idleAfter = .seconds(60) }
        let decision = rig.run(300, Rig.sample(queued: 1)) { $0.metrics = [Reading(0)] }
        #expect(decision.desired == 1)
        #expect(Self.kinds(decision) == [.workLeft])
    }

    @Test func goesToZeroOnlyWhenIdleForLong() {
        var rig = Rig([.concurrency(4)], ready: 1) { $0.idleAfter = .seconds(300) }
        rig.run(10, Rig.sample(inFlight: 1, arrivals: 1))
        let early = rig.run(299)
        #expect(early.desired == 1)
        guard case .notIdle(_, needed: 300)? = Self.kinds(early).last else {
            Issue.record("\(Self.kinds(early))")
            return
        }
        #expect(rig.run(3).desired == 0)
    }

    @Test func neverGoesToZeroUnasked() {
        var rig = Rig([.concurrency(4)], ready: 1)
        let decision = rig.run(5_000)
        #expect(decision.desired == 1)
        #expect(Self.kinds(decision) == [.zeroNotAllowed])
    }

    @Test func wakesAtOnceFromZero() {
        var rig = Rig([.concurrency(4)], ready: 0) { $0.idleAfter = .seconds(60) }
        rig.run(5)
        #expect(rig.scaler.requestArrived(variant: 0, at: rig.now) == .start(replicas: 1))
        #expect(rig.scaler.requestArrived(variant: 0, at: rig.now) == .wait, "asked for already")
        rig.starting = 1
        let decision = rig.tick(Rig.sample(queued: 1, arrivals: 1))
        #expect(decision.desired == 1)
    }

    @Test func doesNotWakeBeyondABudget() {
        var rig = Rig([.concurrency(4)], ready: 0) { $0.idleAfter = .seconds(60) }
        rig.run(5)
        #expect(rig.scaler.requestArrived(variant: 0, grant: 0, at: rig.now) == .wait)
        #expect(rig.scaler.requestArrived(variant: 0, grant: 1, at: rig.now) == .start(replicas: 1))
    }

    @Test func takesNothingAwayBeforeWindowsAreFull() {
        var rig = Rig([.concurrency(4)], ready: 8)
        let early = rig.run(50, Rig.sample(inFlight: 1))
        #expect(early.desired == 8)
        guard case .warmingUp? = Self.kinds(early).last else {
            Issue.record("\(Self.kinds(early))")
            return
        }
        #expect(rig.run(12, Rig.sample(inFlight: 1)).desired == 1)
    }

    @Test func growsBeforeWindowsAreFull() {
        var rig = Rig([.concurrency(4)], ready: 1)
        #expect(rig.run(3, Rig.sample(inFlight: 40)).desired == 10)
    }

    @Test(arguments: [
        ScalingGoal.kvCache(0.8), .gpuUtilization(0.8), .metric(name: "q", value: 1),
    ])
    func aSilentSourceTakesNothingAway(goal: ScalingGoal) {
        var rig = Rig([.concurrency(10), goal], ready: 5)
        let speak = { (observation: inout VariantObservation) in
            observation.servers = [ServerSample(kvCacheUse: 0.8)]
            observation.gpuUtilization = Reading(0.8)
            observation.metrics = [Reading(5)]
        }
        let sample = Rig.sample(inFlight: 1, arrivals: 1)
        rig.run(70, sample, edit: speak)
        #expect(rig.ready == 5)
        let silent = rig.run(100, sample)
        #expect(silent.desired == 5)
        #expect(silent.recommendations[1].replicas == nil)
        guard case .sourceOut? = Self.kinds(silent).last else {
            Issue.record("\(Self.kinds(silent))")
            return
        }
        // It may still grow.
        #expect(rig.run(61, Rig.sample(inFlight: 90, arrivals: 1)).desired == 9)
    }

    @Test func staleReadingsAreUnknown() {
        var rig = Rig([.kvCache(0.8), .metric(name: "q", value: 1)], ready: 5)
        let decision = rig.tick(Rig.sample(inFlight: 1, arrivals: 1)) {
            $0.servers = [ServerSample(kvCacheUse: 0.1, ageSeconds: 16)]
            $0.metrics = [Reading(1, ageSeconds: 91)]
        }
        #expect(decision.recommendations.map(\.replicas) == [nil, nil])
        #expect(decision.desired == 5)
    }

    @Test func holdsWhileBlind() {
        var rig = Rig([.concurrency(4)], ready: 3)
        rig.run(70, Rig.sample(inFlight: 12))
        var last = rig.tick(nil)
        for _ in 0..<15 { last = rig.tick(nil) }
        #expect(last.outcome == .hold)
        #expect(last.replicasToSet == nil)
        #expect(Self.kinds(last) == [.blind])
        #expect(rig.run(3, Rig.sample(inFlight: 12)).outcome == .keep)
    }

    @Test func aMissingGatewayTakesNothingAway() {
        var rig = Rig([.concurrency(4)], ready: 3)
        rig.run(70, Rig.sample(inFlight: 12))
        let part = rig.run(70, Rig.sample(inFlight: 4)) { $0.gatewaysMissing = 1 }
        #expect(part.desired == 3)
        #expect(Self.kinds(part) == [.sourceOut(nil)])
    }

    @Test func decidesAndExplainsButNeverWritesInADryRun() {
        var rig = Rig([.concurrency(1)], ready: 1) { $0.isDryRun = true }
        let decision = rig.run(61, Rig.sample(inFlight: 7))
        #expect(decision.desired == 7)
        #expect(decision.replicasToSet == nil)
        #expect(decision.summary.contains("dry run"))
    }

    @Test(arguments: Obstacle.Kind.allCases)
    func stopsAskingForWhatDoesNotComeAndTriesAgain(kind: Obstacle.Kind) {
        var rig = Rig([.concurrency(1)], ready: 2, coldStart: 10) {
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        for _ in 0..<65 { rig.tick(Rig.sample(inFlight: 2)) }
        #expect(rig.tick(Rig.sample(inFlight: 6)).desired == 6)
        rig.stuck = 4
        rig.obstacle = Obstacle(kind, message: "0/3 nodes")
        let blocked = rig.tick(Rig.sample(inFlight: 6))
        #expect(blocked.desired == 2)
        #expect(blocked.summary.contains(kind.text))
        #expect(blocked.summary.contains("0/3 nodes"))
        rig.stuck = 0
        var tries: [Double] = []
        for _ in 0..<400 {
            let decision = rig.tick(Rig.sample(inFlight: 6))
            #expect(decision.desired <= 3, "never more than one at a time")
            rig.stuck = max(0, decision.desired - 2)
            if decision.desired == 3 { tries.append(rig.seconds) }
        }
        #expect(tries.count >= 3 && tries.count <= 8, "\(tries)")
        #expect(tries[2] - tries[1] > (tries[1] - tries[0]) * 1.5, "backs off: \(tries)")
    }

    /// It crashes and is started again where it is: without it nothing would be tried at all.
    @Test(arguments: Obstacle.Kind.allCases)
    func theLastReplicaStaysAskedForWhileWorkWaits(kind: Obstacle.Kind) {
        var rig = Rig([.concurrency(1)], ready: 0, coldStart: 10) {
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
            $0.idleAfter = .seconds(5)
        }
        for _ in 0..<65 { rig.tick() }
        #expect(rig.tick(Rig.sample(queued: 1)).desired == 1)
        rig.stuck = 1
        rig.obstacle = Obstacle(kind, message: "no")
        for _ in 0..<600 {
            #expect(rig.tick(Rig.sample(queued: 1)).desired == 1)
        }
        #expect(rig.tick(Rig.sample(queued: 6)).desired == 1, "and no more than that")
        // It comes after all, by itself: then more may be asked for again.
        rig.stuck = 0
        rig.ready = 1
        #expect(rig.tick(Rig.sample(queued: 6)).desired == 6)
    }

    @Test func recoversWhenReplicasComeAgain() {
        var rig = Rig([.concurrency(1)], ready: 2, coldStart: 10) {
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        for _ in 0..<65 { rig.tick(Rig.sample(inFlight: 2)) }
        rig.stuck = 1
        rig.obstacle = Obstacle(.noCapacity)
        #expect(rig.tick(Rig.sample(inFlight: 6)).desired == 2)
        rig.stuck = 0
        var last = rig.tick(Rig.sample(inFlight: 6))
        for _ in 0..<60 where last.desired < 3 { last = rig.tick(Rig.sample(inFlight: 6)) }
        #expect(last.desired == 3)
        rig.starting = 1
        last = rig.tick(Rig.sample(inFlight: 6))
        #expect(last.desired == 6, "room has been found")
    }

    @Test func whatIsAskedForIsKeptWhileReplicasStart() {
        var rig = Rig([.kvCache(0.5)], ready: 2)
        let use = { (observation: inout VariantObservation) in
            observation.servers = [ServerSample(kvCacheUse: 0.9)]
        }
        // 2 · 0.9 / 0.5 = 3.6; starting ones are supply, so four stay four.
        for _ in 0..<30 {
            let decision = rig.tick(Rig.sample(inFlight: 9, arrivals: 3), edit: use)
            #expect(decision.desired == 4)
            rig.starting = 2
        }
    }
}
