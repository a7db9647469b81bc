import Core
import Testing

@testable import Autoscaling

/// The objective: what is learned of a fleet and what is made of it.
@Suite struct ObjectiveTests {
    private static func scaler(
        _ limit: Double,
        quantile: Double = 0.99,
        maximum: Int = 60,
        edit: (inout ScalingPolicy) -> Void = { _ in }
    ) -> ModelAutoscaler {
        var policy = ScalingPolicy()
        edit(&policy)
        let objective = TimeObjective(quantile: quantile, below: .seconds(limit))
        let variant = VariantSetup(
            name: "v1",
            bounds: ScalingBounds(minimum: 1, maximum: maximum),
            assumedColdStart: .seconds(20),
            assumedDrain: .seconds(5)
        )
        return ModelAutoscaler(
            ModelSetup(
                name: "m",
                policy: policy,
                objectives: Objectives(latency: objective),
                variants: [variant]
            ),
            at: Instant(nanoseconds: 1_000_000_000_000)
        )
    }

    @Test func saysThatItIsLearningAndIsCarefulMeanwhile() {
        var rig = Rig(
            [.objective],
            ready: 3,
            objectives: Objectives(latency: TimeObjective(quantile: 0.95, below: .seconds(1)))
        )
        let decision = rig.run(61, Rig.sample(inFlight: 12)) { $0.slotsPerReplica = 8 }
        // Half of the eight slots: 12 / 4.
        #expect(decision.recommendations[0].replicas == 3)
        guard
            case .objectiveLearning(let load, let target, samples: 0) =
                decision.recommendations[0].reason
        else {
            Issue.record("\(decision.recommendations)")
            return
        }
        #expect(abs(load - 12) < 1e-6 && target == 4)
        #expect(decision.summary.contains("learning"))
    }

    /// Where every request meets a queue no time is learned. What comes, and how long each one is
    /// on a replica, still say what is needed, and the queue does not.
    @Test func learnsUnderAQueueWhatIsNeeded() {
        var rig = Rig(
            [.objective],
            ready: 2,
            objectives: Objectives(
                timeToFirstToken: TimeObjective(quantile: 0.99, below: .seconds(2))
            ),
            coldStart: 180
        )
        // 8/s come, 16 are worked on for 5 s each, and 4.8 more wait every second.
        var last: VariantDecision?
        for second in 1...120 {
            var sample = Rig.sample(inFlight: 16, queued: 5 * second, arrivals: 8)
            sample.completions = second % 5 == 0 ? 4 : 3
            last = rig.tick(sample) { $0.slotsPerReplica = 8 }
        }
        let wanted = last?.recommendations[0].replicas ?? 0
        // 40 in service are five replicas, 52 with room for chance, and 600 wait for a cold start
        // of 180 s: two or three more.
        #expect((8...11).contains(wanted), "\(wanted)")
        guard case .objectiveLearning = last?.recommendations[0].reason else {
            Issue.record("\(String(describing: last?.recommendations))")
            return
        }
    }

    /// The first requests to end are the short ones: a replica with all its slots taken is known
    /// better by how many it ends.
    @Test func believesWhatFullReplicasDo() {
        var curve = LoadCurve()
        var early = TimeHistogram()
        early.record(seconds: 2, times: 60)
        curve.learn(early, good: 60, load: 3)
        let hopeful = curve.fit(limitSeconds: 30, slots: 8, full: nil)
        let full = LoadCurve.Full(rate: 1, count: 1_000)
        let sober = curve.fit(limitSeconds: 30, slots: 8, full: full)
        let bin = LoadCurve.bin(of: 7.5)
        #expect((hopeful?.seconds[bin] ?? 0) < 5)
        // Eight at a time and one per second: each is there for eight.
        #expect(abs((sober?.seconds[bin] ?? 0) - 8) < 0.2)
        #expect(sober?.seconds[0] == hopeful?.seconds[0])
    }

    @Test func withoutObjectivesItCannotSay() {
        var rig = Rig([.objective], ready: 2)
        let decision = rig.run(61, Rig.sample(inFlight: 12))
        #expect(decision.recommendations[0].replicas == nil)
        #expect(decision.desired == 2)
    }

    /// A replica of the fleet does 8 requests per second: 40/s want five and room for chance.
    @Test(arguments: [UInt64(1), 2, 3])
    func learnsTheCapacityOfAReplicaAndDoesNotFlapAtConstantLoad(seed: UInt64) throws {
        var fleet = Fleet(ready: 4, limit: 3, seed: seed)
        var scaler = Self.scaler(3)
        fleet.run(1_800, &scaler, from: 1_000) { _ in 40 }
        let inputs = try #require(scaler.log.latest).variants[0].inputs
        let capacity = try #require(inputs.capacityRate)
        #expect(capacity > 7 && capacity < 9, "seed \(seed): \(capacity)")
        #expect(fleet.live >= 5 && fleet.live <= 7, "seed \(seed): \(fleet.live)")
        fleet.changes = 0
        (fleet.good, fleet.total) = (0, 0)
        fleet.run(3_600, &scaler, from: 2_800) { _ in 40 }
        #expect(fleet.changes <= 3, "seed \(seed)")
        #expect(fleet.good >= 0.99 * fleet.total, "seed \(seed): \(fleet.good / fleet.total)")
    }

    @Test(arguments: [UInt64(4), 5])
    func followsARampUpAndDown(seed: UInt64) {
        var fleet = Fleet(ready: 3, limit: 3, seed: seed)
        var scaler = Self.scaler(3)
        fleet.run(1_200, &scaler, from: 1_000) { _ in 16 }
        (fleet.good, fleet.total, fleet.replicaSeconds) = (0, 0, 0)
        fleet.run(3_600, &scaler, from: 2_200) { 16 + 100 * (1 - abs($0 - 1_800) / 1_800) }
        #expect(fleet.good >= 0.985 * fleet.total, "seed \(seed): \(fleet.good / fleet.total)")
        // 66/s on average is 8.3 replicas.
        #expect(fleet.replicaSeconds / 3_600 < 8.3 * 1.35, "\(fleet.replicaSeconds / 3_600)")
        fleet.run(1_200, &scaler, from: 5_800) { _ in 16 }
        #expect(fleet.live <= 4)
    }

    @Test func saysThatAnObjectiveIsOutOfReachInsteadOfBuyingEverything() {
        // Every request takes a second, and a quarter of one is asked for.
        var fleet = Fleet(ready: 4, limit: 0.25, seed: 9)
        var scaler = Self.scaler(0.25)
        fleet.run(2_400, &scaler, from: 1_000) { _ in 24 }
        #expect(fleet.live < 20)
        let reasons = scaler.log.latest?.variants[0].recommendations.map(\.reason)
        guard case .objectiveOutOfReach? = reasons?.first else {
            Issue.record("\(String(describing: reasons))")
            return
        }
    }

    @Test func forgetsNothingOfWhatItLearnedWhenThePolicyChanges() {
        var fleet = Fleet(ready: 6, limit: 3, seed: 3)
        var scaler = Self.scaler(3)
        fleet.run(900, &scaler, from: 1_000) { _ in 40 }
        var setup = scaler.setup
        setup.policy.isDryRun = true
        scaler.reconfigure(setup, at: Instant(nanoseconds: 1_900_000_000_000))
        let decision = scaler.decide(at: Instant(nanoseconds: 1_901_000_000_000)).variants[0]
        #expect(decision.inputs.capacityRate != nil)
        #expect(decision.isDryRun)
    }

    @Test func learnsOnlyFromRequestsThatMetNoQueue() throws {
        // Overload first: what it does to latencies is the queue's fault, not the load's.
        var fleet = Fleet(ready: 2, limit: 3, seed: 5)
        var scaler = Self.scaler(3)
        fleet.run(900, &scaler, from: 1_000) { $0 < 120 ? 60 : 30 }
        let inputs = try #require(scaler.log.latest).variants[0].inputs
        #expect(try #require(inputs.capacityRate) > 7)
    }
}

@Suite struct RetiredVariantTests {
    /// What it did is no reason to keep it, though the policy would never let it go to zero.
    @Test func aVariantThatServesNoMoreGoes() {
        func setup(_ isServing: Bool) -> ModelSetup {
            let variant = VariantSetup(
                name: "v1",
                bounds: ScalingBounds(minimum: 0, maximum: 20),
                assumedColdStart: .seconds(20),
                assumedDrain: .seconds(5),
                isServing: isServing
            )
            return ModelSetup(
                name: "m",
                policy: ScalingPolicy(),
                objectives: Objectives(latency: TimeObjective(quantile: 0.99, below: .seconds(3))),
                variants: [variant]
            )
        }
        #expect(setup(true).policy.idleAfter == nil)
        var scaler = ModelAutoscaler(setup(true), at: Instant(nanoseconds: 0))
        var fleet = Fleet(ready: 4, limit: 3, seed: 3)
        fleet.run(1_800, &scaler, from: 0) { $0 < 1_500 ? 30 : 0 }
        #expect(fleet.live >= 1, "it serves and may not go to zero")
        scaler.reconfigure(setup(false), at: Instant(nanoseconds: 1_800_000_000_000))
        fleet.run(300, &scaler, from: 1_800) { _ in 0 }
        #expect(fleet.live == 0)
    }
}

@Suite struct MixedVariantTests {
    private static func setup() -> ModelSetup {
        func variant(_ name: String, cost: Double) -> VariantSetup {
            VariantSetup(
                name: name,
                bounds: ScalingBounds(minimum: 0, maximum: 20),
                cost: cost,
                assumedColdStart: .seconds(20),
                assumedDrain: .seconds(5),
                isInterchangeable: true
            )
        }
        return ModelSetup(
            name: "m",
            policy: ScalingPolicy(),
            objectives: Objectives(latency: TimeObjective(quantile: 0.99, below: .seconds(3))),
            variants: [variant("small", cost: 1), variant("big", cost: 1.5)]
        )
    }

    /// A small replica does 8/s, a big one 16/s for half as much again: the big ones win, and the
    /// small ones stand in when no big one comes.
    @Test func prefersTheCheaperOneAndFallsBack() {
        var scaler = ModelAutoscaler(Self.setup(), at: Instant(nanoseconds: 0))
        var fleets = [Fleet(ready: 4, limit: 3, seed: 1), Fleet(ready: 2, limit: 3, seed: 2)]
        fleets[1].slots = 16
        var isBigOut = false
        var last: [VariantDecision] = []
        func run(_ seconds: Int, from start: Int, rate: Double) {
            for second in 1...seconds {
                let now = Instant(nanoseconds: UInt64(start + second) * 1_000_000_000)
                let capacity = fleets.reduce(0) { $0 + $1.ready * $1.slots }
                for index in 0..<2 {
                    let share = Double(fleets[index].ready * fleets[index].slots)
                    var seen = fleets[index].step(rate: rate * share / Double(max(1, capacity)))
                    if index == 1, isBigOut, let wanted = last.last?.desired {
                        seen.replicas?.stuck = max(0, wanted - fleets[1].live)
                        seen.replicas?.obstacle = Obstacle(.noCapacity)
                    }
                    scaler.observe(seen, variant: index, at: now)
                }
                last = scaler.decide(at: now).variants
                for index in 0..<2 {
                    guard let count = last[index].replicasToSet else { continue }
                    let isStuck = index == 1 && isBigOut && count > fleets[1].live
                    if !isStuck { fleets[index].scale(to: count) }
                }
            }
        }
        run(1_800, from: 0, rate: 60)
        #expect(fleets[1].live >= 4 && fleets[0].live <= 1, "\(fleets.map(\.live))")
        #expect(last.compactMap(\.trafficShare).reduce(0, +) > 0.999)
        isBigOut = true
        run(900, from: 1_800, rate: 100)
        #expect(fleets[0].live >= 3, "\(fleets.map(\.live))")
        let isTold = last[0].constraints.contains {
            $0.kind == .fallback(from: "big", Obstacle(.noCapacity))
        }
        #expect(isTold)
        #expect(last[0].explanation.contains("stands in for big"))
    }
}
