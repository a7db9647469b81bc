import Autoscaling
import Core
import Rollouts
import Testing
import Workload

@testable import Simulation

/// Several variants of one model in a world, and a rollout from one to another.
@Suite("Variants in a world")
struct VariantWorldTests {
    /// A steady load of `rate` requests per second of a second each; the big one is `speed` times
    /// as fast and costs `cost` times as much.
    private static func setup(
        rate: Double = 20,
        duration: Double = 3_600,
        cost: Double = 1.5,
        speed: Double = 3,
        edit: (inout [SimulatedModel]) -> Void = { _ in }
    ) -> WorldSetup {
        var small = SimulatedModel(
            name: "small",
            requests: Worlds.poisson(rate: rate, duration: duration)
        )
        small.concurrency = 4
        small.objective = ServiceObjective(latency: 6)
        small.coldStart = .fixed(20)
        small.replicasMax = 40
        small.replicasAtStart = 2
        var big = small.variant("big", of: 0)
        big.cost = cost
        big.speed = speed
        var models = [small, big]
        edit(&models)
        var setup = WorldSetup(models: models, duration: duration)
        setup.seed = 7
        return setup
    }

    private static func run(_ setup: WorldSetup) -> WorldResult {
        PolicyChoice.weir(name: "weir", ScalingPolicy(), quantile: 0.95).run(setup)
    }

    @Test func worksOutWhichVariantsAreCheaper() {
        var setup = Self.setup()
        // Nothing is known of one that was never tried: the world begins with one of each.
        setup.models[1].replicasAtStart = 1
        setup.models[1].replicasMin = 0
        let result = Self.run(setup)
        #expect(setup.problems.isEmpty)
        #expect(result.violations == Violations())
        #expect(result.attainment > 0.95, "\(result.attainment)")
        let served = result.models.map(\.served)
        #expect(served[1] > served[0], "three times as fast for half as much again: \(served)")
        #expect(served.reduce(0, +) == result.models[0].completed, "all of them of one model")
        let cost = result.models[0].replicaSeconds + 1.5 * result.models[1].replicaSeconds
        #expect(abs(result.costSeconds - cost) < 1e-6 && result.hasCosts)
        #expect(result.models[1].arrivals == 0 && result.models[1].variantOf == 0)
        let small = Self.run(Self.setup { $0.removeLast() })
        #expect(!small.hasCosts)
        #expect(result.costSeconds < small.costSeconds, "cheaper than small ones alone")
    }

    @Test func standsInWhereAVariantNeverComes() {
        let setup = Self.setup { $0[0].faults.startFailure = 0.999_999 }
        var warm = setup
        warm.models[0].replicasAtStart = 0
        let result = Self.run(warm)
        #expect(result.violations == Violations())
        #expect(result.models[1].served > 0 && result.models[0].served == 0)
        #expect(result.attainment > 0.9, "\(result.attainment)")
    }

    @Test func theSameSeedGivesTheSameRun() {
        let setup = Self.setup(duration: 900)
        let first = Self.run(setup)
        let second = Self.run(setup)
        #expect(first.digest == second.digest && first.costSeconds == second.costSeconds)
    }

    @Test func saysWhatCannotBe() {
        var setup = Self.setup()
        setup.models[1].variantOf = 1
        #expect(setup.problems == ["big: a variant comes after its model"])
        setup.models[1].variantOf = 0
        let plan = RolloutPlan(steps: [.weight(10, hold: .seconds(10))])
        setup.rollout = SimulatedRollout(canary: 1, plan: plan)
        #expect(setup.problems == ["a rollout needs a variant that is not interchangeable"])
        setup.rollout?.canary = 9
        #expect(setup.problems.count == 1)
        setup.rollout = nil
        setup.models[1].cost = 0
        #expect(setup.problems.count == 1)
    }

    /// Nothing else says what a replica of each is worth.
    @Test func aMixNeedsAnObjective() {
        let mixed = Self.setup()
        let alone = Self.setup { $0.removeLast() }
        let blind = ScalingPolicy(targets: [.concurrency(4)])
        func problem(_ policy: ScalingPolicy, _ setup: WorldSetup) -> String? {
            PolicyChoice.weir(name: "own", policy, quantile: 0.95).problem(in: setup)
        }
        #expect(problem(blind, mixed)?.contains("policy own has no Objective target") == true)
        #expect(problem(ScalingPolicy(), mixed) == nil)
        #expect(problem(blind, alone) == nil)
        #expect(PolicyChoice.baseline(Baseline(.kpa)).problem(in: mixed) == nil)
        let canary = Self.setup { $0[1].isInterchangeable = false }
        #expect(problem(blind, canary) == nil, "it stands in for nobody")
    }

    @Test func aFasterGPUBatchesFaster() {
        let setup = BatchingSetup()
        let twice = setup.faster(by: 2)
        #expect(twice.prefillTokensPerSecond == 2 * setup.prefillTokensPerSecond)
        #expect(twice.stepBase == setup.stepBase / 2)
        #expect(twice.stepPerSequence == setup.stepPerSequence / 2)
        #expect(twice.cacheTokens == setup.cacheTokens && setup.faster(by: 1) == setup)
        #expect(setup.faster(by: 1e-3).stepBase == 1_000 * setup.stepBase)
    }

    /// The least of the first is its own, and that of the model is that of all.
    @Test func everyVariantHasBoundsOfItsOwn() {
        let setup = Self.setup { models in
            models[0].replicasMin = 3
            models[0].replicasMinOwn = 1
            models[0].replicasAtStart = 3
            models[1].replicasMin = 1
            models[1].replicasAtStart = 1
            models[1].replicasMax = 2
        }
        #expect(setup.problems.isEmpty)
        let result = Self.run(setup)
        #expect(result.violations == Violations())
        #expect(result.models[1].peak <= 2)
        let settled = zip(result.models[0].series, result.models[1].series).dropFirst(60)
        #expect(settled.allSatisfy { $0.billed >= 1 && $1.billed >= 1 })
        #expect(settled.allSatisfy { $0.billed + $1.billed >= 3 })
    }

    // MARK: Rollouts

    @Test func whatNobodyAnswersIsLeftOutAndTold() {
        var plan = RolloutPlan(
            steps: [
                .weight(10, hold: .seconds(10)), .pause(nil), .pause(.seconds(5)),
                .mirror(5, hold: .seconds(1)),
            ]
        )
        plan.webhooks = [WebhookPlan(.beforeStep, url: "http://ci/approve")]
        let (left, told) = SimulatedRollout.playable(plan)
        #expect(left.steps == [.weight(10, hold: .seconds(10)), .pause(.seconds(5))])
        #expect(left.webhooks.isEmpty)
        #expect(told == ["webhooks", "pauses without an end", "header routes and mirrors"])
        let (same, nothing) = SimulatedRollout.playable(left)
        #expect(same == left && nothing.isEmpty)
    }

    private static func rollout(
        errors: Double = 0,
        speed: Double = 1,
        edit: (inout [SimulatedModel]) -> Void = { _ in }
    ) -> WorldSetup {
        var setup = Self.setup { models in
            models[1].replicasAtStart = 1
            var next = models[0].variant("next", of: 0)
            next.isInterchangeable = false
            next.speed = speed
            next.faults.errorRate = errors
            models.append(next)
            edit(&models)
        }
        var plan = RolloutPlan(
            steps: [10, 25, 50].map { RolloutStep.weight($0, hold: .seconds(180)) }
        )
        plan.onInconclusive = .promote
        setup.rollout = SimulatedRollout(canary: 2, plan: plan, startsAt: 600)
        return setup
    }

    @Test func aGoodVariantTakesOverFromAPool() throws {
        let setup = Self.rollout()
        #expect(setup.problems.isEmpty)
        let result = Self.run(setup)
        let rollout = try #require(result.rollout)
        #expect(rollout.live == "next" && rollout.phase == "stable", "\(rollout)")
        #expect(rollout.events.contains { $0.kind == "promoted" })
        #expect(result.violations == Violations())
        #expect(result.attainment > 0.95, "\(result.attainment)")
        // It began late, and from then on had more and more.
        let served = result.models.map(\.served)
        #expect(served.allSatisfy { $0 > 0 }, "\(served)")
        #expect(result.models[2].series.last.map { $0.ready > 0 } ?? false)
        #expect(result.models[0].series.last.map { $0.ready == 0 } ?? false, "the pool is gone")
        #expect(result.models[1].series.last.map { $0.ready == 0 } ?? false)
    }

    @Test(arguments: [0.05, 0.5])
    func aVariantThatFailsIsTakenBack(errors: Double) throws {
        let result = Self.run(Self.rollout(errors: errors))
        let rollout = try #require(result.rollout)
        #expect(rollout.live == "small" && rollout.phase == "rolledBack", "\(rollout)")
        #expect(rollout.canaryErrors > 0)
        #expect(Double(result.models[0].failed) < 0.02 * Double(result.arrivals))
        #expect(result.models[2].series.last.map { $0.ready == 0 } ?? false)
        #expect(result.violations == Violations())
    }

    /// Errors are what a plan looks at if nothing else is said: how slow a variant is shows only
    /// where its latency is measured.
    @Test func aSlowVariantIsTakenBackWhereLatencyIsMeasured() throws {
        var setup = Self.rollout(speed: 0.4)
        let unmeasured = try #require(Self.run(setup).rollout)
        #expect(unmeasured.live == "next", "\(unmeasured)")
        setup.rollout?.plan.analysis.metrics.append(.quantile(.latency, 0.5, maxIncrease: 0.3))
        let result = Self.run(setup)
        let rollout = try #require(result.rollout)
        #expect(rollout.live == "small" && rollout.phase == "rolledBack", "\(rollout)")
        #expect(rollout.canaryErrors == 0 && rollout.canaryRequests > 0)
        #expect(result.violations == Violations())
    }

    /// What a rollout keeps for going back is what load asked for, and not what it keeps itself.
    @Test func aRolloutDoesNotHoldItsOwnFloorsUp() {
        var setup = Self.rollout()
        let with = Self.run(setup)
        setup.rollout = nil
        setup.models.removeLast()
        let without = Self.run(setup)
        // At most both all the time: those that serve, and those that stay for going back.
        let alone = Self.run(Self.setup { $0.removeLast() })
        let (more, both) = (with.costSeconds, without.costSeconds + alone.costSeconds)
        #expect(more < both, "\(more) cost-seconds, \(both) for the pool and the new one")
        let peaks = (with.models.map(\.peak), without.models.map(\.peak))
        #expect(peaks.0.reduce(0, +) <= 3 * peaks.1.reduce(0, +), "\(peaks)")
    }
}
