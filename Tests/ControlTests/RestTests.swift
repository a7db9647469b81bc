import Autoscaling
import Clusters
import Core
import Proxy
import Testing

@testable import Control

/// Models that rest between requests decide as if they had been looked at each second.
@Suite struct RestTests {
    /// Two loops in the same world: one lets models rest, the other never does.
    private final class Pair {
        let resting: ScalingRig
        let reference: ScalingRig

        init(_ plan: ScalingPlan, replicas: Int) {
            self.resting = ScalingRig(plan, replicas: replicas)
            self.reference = ScalingRig(plan, replicas: replicas, restTicks: 1)
        }

        var both: [ScalingRig] { [self.resting, self.reference] }

        func wake(_ model: String) {
            for rig in self.both { _ = rig.wake(model) }
        }
    }

    /// Some policies that rest in different ways: at a minimum, at one, at zero, on a schedule.
    private static let policies: [ScalingPolicy] = {
        var toZero = ScalingPolicy(
            targets: [.objective, .concurrency(2)],
            stableWindow: .seconds(20),
            burstWindow: .seconds(6),
            idleAfter: .seconds(60)
        )
        var atOne = toZero
        atOne.idleAfter = nil
        atOne.targets = [.requestRate(5), .queueWait(quantile: 0.95, below: .seconds(1))]
        var daily = toZero
        daily.scaleDown = ScalingSpeed(stabilization: .fixed(.seconds(30)), maxPerMinute: 10)
        if let cron = try? CronExpression(text: "*/7 * * * *") {
            daily.targets.append(.schedule(cron, duration: .seconds(90), replicas: 2))
        }
        var cached = toZero
        cached.targets = [.kvCache(0.5), .concurrency(1)]
        return [toZero, atOne, daily, cached]
    }()

    private static func plan(_ random: inout RandomSource) -> ScalingPlan {
        Plans.plan(
            Self.policies.enumerated().map { index, policy in
                var model = Plans.model(
                    "m\(index)",
                    policy: policy,
                    bounds: ScalingBounds(minimum: random.next() % 4 == 0 ? 1 : 0, maximum: 8)
                )
                model.setup.objectives = Objectives(
                    latency: TimeObjective(quantile: 0.95, below: .milliseconds(500))
                )
                model.slotsPerReplica = random.next() % 2 == 0 ? 4 : nil
                return model
            }
        )
    }

    private struct World {
        var random: RandomSource
        /// Until when each model has requests, and how many per second.
        var busyUntil: [Int] = [0, 0, 0, 0]
        var rates: [Int] = [0, 0, 0, 0]

        /// What comes for a model in this second; nil where nothing does.
        mutating func requests(_ model: Int, _ second: Int) -> (count: Int, seconds: Double)? {
            if second >= self.busyUntil[model] {
                // Idle from some seconds to some minutes, busy from one second to a minute.
                guard self.random.next() % 150 == 0 else { return nil }
                self.busyUntil[model] = second + 1 + Int(self.random.next() % 60)
                self.rates[model] = 1 + Int(self.random.next() % 30)
            }
            let count = Int(self.random.next() % UInt64(2 * self.rates[model]))
            return (count, 0.05 + Double(self.random.next() % 600) / 1_000)
        }
    }

    @Test(arguments: 0..<8)
    func aModelAtRestDecidesAsOneObservedEachSecond(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let plan = Self.plan(&random)
        let pair = Pair(plan, replicas: Int(random.next() % 2))
        var world = World(random: random)
        for second in 0..<2_000 {
            let requests = plan.models.indices.map { world.requests($0, second) }
            let isHeard = world.random.next() % 200 != 0
            // Replicas are ready some seconds after they were asked for.
            let settles = world.random.next() % 4 == 0
            for rig in pair.both {
                if settles { rig.settle() }
                rig.tick(hears: isHeard) { worker in
                    for (index, request) in requests.enumerated() {
                        guard let request else { continue }
                        worker.serve(
                            "m\(index)",
                            "main",
                            request.count,
                            seconds: request.seconds
                        )
                    }
                }
            }
            self.expectSame(pair, plan, "seed \(seed), second \(second)")
            if world.random.next() % 300 == 0 { pair.wake("m\(world.random.next() % 4)") }
        }
        let looks = pair.resting.loop.looks
        let all = pair.reference.loop.looks
        #expect(looks < all * 19 / 20, "seed \(seed): \(looks) of \(all) looks: hardly any rest")
    }

    private func expectSame(_ pair: Pair, _ plan: ScalingPlan, _ place: String) {
        for model in plan.models {
            let group = model.variants[0].group
            let own = pair.resting.fleet.groups[group]?.desired
            let others = pair.reference.fleet.groups[group]?.desired
            #expect(own == others, "\(place), \(model.name)")
            guard let latest = pair.resting.loop.latest(of: model.name),
                let reference = pair.reference.loop.latest(of: model.name),
                latest.at == reference.at
            else { continue }
            #expect(latest.number == reference.number, "\(place), \(model.name)")
            #expect(
                latest.variants[0].inputs == reference.variants[0].inputs,
                "\(place), \(model.name)"
            )
            #expect(
                latest.variants[0].recommendations == reference.variants[0].recommendations,
                "\(place), \(model.name)"
            )
            #expect(
                latest.variants[0].constraints == reference.variants[0].constraints,
                "\(place), \(model.name)"
            )
        }
    }

    @Test func modelsThatRestAreLookedAtInTurns() {
        let names = (0..<(3 * ScalingLoop.restTicks)).map { "m\($0)" }
        let rig = ScalingRig(Plans.plan(names.map { Plans.model($0) }))
        for _ in 0..<20 { rig.tick() }
        for _ in 0..<20 {
            let before = rig.loop.looks
            rig.tick()
            #expect(rig.loop.looks - before == 3)
        }
    }

    @Test func anIdleModelIsLookedAtNowAndThen() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]))
        for _ in 0..<20 { rig.tick() }
        let before = rig.loop.looks
        for _ in 0..<(10 * ScalingLoop.restTicks) { rig.tick() }
        #expect(rig.loop.looks - before == 10)
        rig.tick { $0.serve("river", "main", 1) }
        #expect(rig.loop.looks - before == 11, "a request is looked at in its own second")
    }

    @Test func whatSharesABudgetIsDecidedTogether() {
        let model = Plans.model("river", budget: .init(index: 0, weight: 1))
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: 1,
            fixed: []
        )
        let rig = ScalingRig(Plans.plan([model], budgets: [budget]))
        for _ in 0..<50 { rig.tick() }
        #expect(rig.loop.looks == 50)
    }

    @Test func silenceEndsEveryRest() {
        let rig = ScalingRig(Plans.plan([Plans.model("river")]))
        for _ in 0..<20 { rig.tick() }
        for _ in 0..<15 { rig.tick(hears: false) }
        #expect(rig.loop.latest(of: "river")?.variants[0].outcome == .hold)
    }
}
