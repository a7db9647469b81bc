import Autoscaling
import Core
import Rollouts
import Testing
import Workload

@testable import Simulation

/// Weir's own decisions in worlds where everything goes wrong at once.
@Suite("Robustness")
struct RobustnessTests {
    /// Looks over the autoscaler's shoulder.
    private final class Watch {
        var decisions = 0
        var unexplained: [String] = []
        var outOfBounds: [Int] = []
    }

    private struct Watched: WorldController {
        var inner: WeirController
        let watch: Watch
        let bounds: [ClosedRange<Int>]
        var traits: ControllerTraits { self.inner.traits }

        mutating func tick(_ observations: [Observation], desired: inout [Int]) {
            self.inner.tick(observations, desired: &desired)
            for decision in self.inner.decisions where decision == nil {
                self.watch.unexplained.append("\(decision.debugDescription): no decision")
            }
            for variant in self.inner.decisions.flatMap({ $0?.variants ?? [] }) {
                self.watch.decisions += 1
                if variant.recommendations.isEmpty {
                    self.watch.unexplained.append("\(variant.outcome) without a reason")
                }
                let isChange = variant.outcome == .scaleUp || variant.outcome == .scaleDown
                if isChange == (variant.desired == variant.previous) {
                    self.watch.unexplained.append("\(variant.outcome) by nothing")
                }
            }
            for (index, count) in desired.enumerated() where !self.bounds[index].contains(count) {
                self.watch.outOfBounds.append(count)
            }
        }

        mutating func wake(model: Int, _ seen: Observation, desired: inout [Int]) {
            self.inner.wake(model: model, seen, desired: &desired)
        }

        func worth(of model: Int) -> Double? { self.inner.worth(of: model) }
        func recommended(for model: Int) -> Int? { self.inner.recommended(for: model) }
    }

    private func periods(_ random: inout RandomSource, within duration: Double) -> [Period] {
        (0..<Int(random.next() % 3)).map { _ in
            let start = random.nextUnit() * duration
            return Period(from: start, to: start + 10 + random.nextUnit() * 200)
        }
    }

    private func profile(_ random: inout RandomSource, duration: Double) -> RateProfile {
        var segments: [RateProfile.Segment] = []
        var time = 0.0
        while time < duration {
            let length = 30 + random.nextUnit() * 400
            // Now and then nothing at all, now and then far too much.
            let level = [0, 0.5, 2, 6, 15][Int(random.next() % 5)]
            let next = random.next() % 2 == 0 ? level : level * 2 * random.nextUnit()
            segments.append(.init(start: level, end: next, duration: length))
            time += length
        }
        segments.append(.init(start: 1, end: 1, duration: 1))
        return RateProfile(segments)
    }

    private func model(_ index: Int, _ random: inout RandomSource, duration: Double)
        -> SimulatedModel
    {
        let seed = random.next()
        let patterns: [ArrivalPattern] = [.poisson, .constant, .gamma(burstiness: 0.1)]
        let requests = RequestStream(
            ArrivalSchedule(
                self.profile(&random, duration: duration),
                pattern: patterns[Int(random.next() % 3)],
                seed: seed
            ),
            trace: nil,
            shape: RequestShape(
                service: .logNormal(median: 0.3 + 4 * random.nextUnit(), sigma: random.nextUnit()),
                firstTokenShare: random.nextUnit(),
                input: .uniform(1...2_000),
                output: .uniform(1...300)
            ),
            seed: seed
        )
        var model = SimulatedModel(name: "model-\(index)", requests: requests)
        if random.next() % 3 == 0 { model.engine = .batching(BatchingSetup()) }
        model.concurrency = [1, 4, 16, nil][Int(random.next() % 4)]
        model.objective = ServiceObjective(
            firstToken: 0.5 + 4 * random.nextUnit(),
            latency: random.next() % 2 == 0 ? 10 : nil
        )
        model.replicasMin = Int(random.next() % 3)
        model.replicasMax = model.replicasMin + 1 + Int(random.next() % 12)
        model.replicasAtStart = model.replicasMin
        model.gpusPerReplica = 1 + Int(random.next() % 2)
        model.coldStart =
            [
                .fixed(5), .uniform(10...120), .pareto(minimum: 10, shape: 1.2, maximum: 900),
                .empirical([20, 25, 30, 60, 400]),
            ][Int(random.next() % 4)]
        model.queueTimeout = 20 + 100 * random.nextUnit()
        model.drainDeadline = [5, 60, 600][Int(random.next() % 3)]
        model.priority = Int(random.next() % 3)
        if random.next() % 2 == 0 { model.faults.crashInterval = 100 + 900 * random.nextUnit() }
        if random.next() % 3 == 0 { model.faults.startFailure = 0.4 }
        return model
    }

    /// A second GPU for the first model, and now and then a new variant that may be bad.
    private func addVariants(_ setup: inout WorldSetup, _ random: inout RandomSource) {
        func variant(_ name: String) -> SimulatedModel {
            var variant = setup.models[0].variant(name, of: 0)
            variant.cost = 0.2 + 5 * random.nextUnit()
            variant.speed = 0.2 + 5 * random.nextUnit()
            variant.gpusPerReplica = 1 + Int(random.next() % 4)
            variant.replicasMax = Int(random.next() % 10)
            if random.next() % 3 == 0 { variant.faults.startFailure = 0.9 }
            return variant
        }
        setup.models.append(variant("big"))
        if random.next() % 2 == 0 { return }
        var next = variant("next")
        next.isInterchangeable = false
        next.faults.errorRate = [0, 0.01, 0.5][Int(random.next() % 3)]
        var plan = RolloutPlan(
            steps: [1, 30, 60].map { .weight($0, hold: .seconds(30 + 100 * random.nextUnit())) }
        )
        plan.onInconclusive = random.next() % 2 == 0 ? .promote : .rollback
        plan.progressDeadline = .seconds(200)
        setup.rollout = SimulatedRollout(
            canary: setup.models.count,
            plan: plan,
            startsAt: 500 * random.nextUnit()
        )
        setup.models.append(next)
    }

    private func setup(_ random: inout RandomSource, seed: UInt64) -> WorldSetup {
        let duration = 1_500.0
        let count = 1 + Int(random.next() % 4)
        var setup = WorldSetup(
            models: (0..<count).map { self.model($0, &random, duration: duration) },
            duration: duration
        )
        setup.seed = seed
        let least = setup.models.reduce(0) { $0 + $1.replicasMin * $1.gpusPerReplica }
        if random.next() % 2 == 0 { setup.budget = least + Int(random.next() % 20) }
        setup.pool.delay = [.fixed(0), .fixed(20), .uniform(0...200)][Int(random.next() % 3)]
        if random.next() % 2 == 0 { setup.pool.total = least + Int(random.next() % 20) }
        if random.next() % 3 == 0 { setup.pool.neverComes = 0.3 }
        setup.pool.shortages = self.periods(&random, within: duration).map {
            GPUPool.Shortage(period: $0, available: least + Int(random.next() % 4))
        }
        if random.next() % 2 == 0 { self.addVariants(&setup, &random) }
        setup.outages = self.periods(&random, within: duration)
        setup.blackouts = self.periods(&random, within: duration)
        return setup
    }

    @Test(arguments: 1...25)
    func keepsItsRulesWhateverGoesWrong(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let setup = self.setup(&random, seed: seed)
        #expect(setup.problems.isEmpty, "seed \(seed)")
        // Variants of a pool have an objective; a configuration without one is refused.
        let others: [ScalingGoal] =
            setup.models.contains { $0.variantOf != nil } ? [.objective] : [.concurrency(4)]
        let policy = ScalingPolicy(
            targets: [[.objective], others, [.objective, .kvCache(0.8)]][Int(seed % 3)],
            idleAfter: seed % 2 == 0 ? .seconds(60) : nil
        )
        let watch = Watch()
        let controller = Watched(
            inner: WeirController(setup, policies: setup.models.map { _ in policy }),
            watch: watch,
            // A budget may leave less than the least, and a pool has its least together.
            bounds: setup.models.map { 0...$0.replicasMax }
        )
        let result = World(setup, controller: controller).run()
        #expect(result.violations == Violations(), "seed \(seed)")
        #expect(watch.decisions >= 1_500 * setup.models.count, "seed \(seed)")
        #expect(watch.unexplained.isEmpty, "seed \(seed): \(watch.unexplained.prefix(3))")
        #expect(watch.outOfBounds.isEmpty, "seed \(seed): \(watch.outOfBounds.prefix(3))")
        for model in result.models {
            let ended =
                model.completed + model.rejected + model.timedOut + model.crashed
                + model.interrupted + model.failed
            // What still runs after the time to settle has no end.
            #expect(ended <= model.arrivals, "seed \(seed) \(model.name)")
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func baselinesSurviveTheSameWorlds(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let setup = self.setup(&random, seed: seed)
        for kind in Baseline.Kind.allCases {
            let result = PolicyChoice.baseline(Baseline(kind)).run(setup)
            #expect(result.violations.budget == 0, "seed \(seed) \(kind)")
            #expect(result.violations.earlyKill == 0, "seed \(seed) \(kind)")
        }
    }

    @Test func constantLoadMakesNoOscillation() {
        // After it has learned, an hour of the same load needs next to no changes.
        var setup = Scenario.constant.make(1, .fixed(20))
        setup.duration = 7_200
        setup.warmUp = 3_600
        let policy = PolicyChoice.weir(name: "weir", ScalingPolicy(), quantile: 0.99)
        let result = policy.run(setup)
        #expect(result.startsPerReplicaHour <= 6)
        #expect(result.interrupted == 0)
    }
}
