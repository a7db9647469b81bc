import Core
import Rollouts

/// Many rollouts of one scenario, and what became of them.
package struct TrialSummary: Sendable {
    package var name: String
    package var count = 0
    package var rolledBack = 0
    package var promoted = 0
    package var paused = 0
    /// Until the rollback, of those that were rolled back.
    package var seconds: [Int] = []

    package init(_ name: String) {
        self.name = name
    }

    package mutating func add(_ result: TrialResult) {
        self.count += 1
        if result.isRolledBack {
            self.rolledBack += 1
            self.seconds.append(result.seconds)
        }
        if result.isPromoted { self.promoted += 1 }
        if result.isPaused { self.paused += 1 }
    }

    /// A quantile of the time to the rollback over all rollouts; nil where it was never reached.
    package func seconds(quantile: Double) -> Int? {
        let sorted = self.seconds.sorted()
        let rank = Int((quantile * Double(self.count)).rounded(.up)) - 1
        return sorted.indices.contains(rank) ? sorted[rank] : nil
    }
}

package enum Trials {
    /// Both arms the same: what is rolled back is rolled back falsely.
    package static let same: [(TrialScenario, RolloutStepsKind)] = {
        var steady = TrialScenario("steady")
        steady.errorRate = 0.01
        var bursty = TrialScenario("bursty")
        bursty.load = .bursty
        bursty.errorRate = 0.01
        var ramps = bursty
        ramps.name = "weight ramps in bursts"
        var dispersed = TrialScenario("overdispersed replicas")
        dispersed.errorRate = 0.01
        dispersed.replicaErrorSpread = 0.5
        dispersed.replicaLatencySpread = 0.05
        dispersed.errorBurstChance = 1.0 / 600
        return [
            (steady, .constant(10)), (bursty, .constant(10)), (ramps, .ramp), (dispersed, .ramp),
        ]
    }()

    /// A canary that is worse, the plan it is rolled out with, and when it should be caught.
    package struct Worse: Sendable {
        package var scenario: TrialScenario
        package var plan: RolloutPlan
        /// In the median, in seconds.
        package var target: Int
        /// Whether the target is promised; else the row is for comparison.
        package var isPromised: Bool
        package var margin: String
    }

    package static let worse: [Worse] = {
        var errors = TrialScenario("errors 0.1 % -> 2 %")
        errors.canaryErrorRate = 0.02
        var slow = TrialScenario("p95 20 % worse")
        slow.canaryLatencyFactor = 1.2
        var long = TrialScenario("long prompts 50 % slower")
        long.longPromptShare = 0.2
        long.canaryLatencyFactor = 1.5
        long.slowOnLongPromptsOnly = true
        func row(_ scenario: TrialScenario, _ drop: Double, _ increase: Double, _ target: Int)
            -> Worse
        {
            let plan = Trials.plan(
                .watch(10),
                alpha: 0.01,
                maxDrop: drop,
                maxIncrease: increase
            )
            let isErrors = scenario.canaryErrorRate != nil
            let margin = isErrors ? "\(drop * 100) points" : "\(increase * 100) %"
            return Worse(
                scenario: scenario,
                plan: plan,
                target: target,
                isPromised: true,
                margin: margin
            )
        }
        return [
            row(errors, 0, 0, 30), row(errors, 0.001, 0.05, 30),
            row(slow, 0, 0, 180), row(slow, 0.001, 0.05, 180), row(long, 0.001, 0.05, 180),
        ]
    }()

    /// Wider margins than promised for: what they cost.
    package static let worseWithWiderMargins: [Worse] = {
        Self.worse[1...3].filter { $0.margin != "0.0 %" }.map { row in
            var wide = row
            wide.isPromised = false
            let isErrors = row.scenario.canaryErrorRate != nil
            wide.plan = Trials.plan(.watch(10), alpha: 0.01, maxDrop: 0.005, maxIncrease: 0.1)
            wide.margin = isErrors ? "0.5 points" : "10.0 %"
            return wide
        }
    }()

    package enum RolloutStepsKind: Sendable {
        /// Ten minutes at one share.
        case watch(Int)
        case constant(Int)
        case ramp

        /// Four minutes in all.
        var steps: [RolloutStep] {
            switch self {
            case .watch(let weight): [.weight(weight, hold: .seconds(600))]
            case .constant(let weight): [.weight(weight, hold: .seconds(240))]
            case .ramp: [2, 10, 25, 50].map { .weight($0, hold: .seconds(60)) }
            }
        }
    }

    /// Errors, and two quantiles of latency; without margins any difference is too much.
    package static func plan(
        _ kind: RolloutStepsKind,
        alpha: Double,
        maxDrop: Double,
        maxIncrease: Double
    ) -> RolloutPlan {
        var plan = RolloutPlan(steps: kind.steps)
        plan.analysis.alpha = alpha
        plan.analysis.metrics = [
            .successRate(maxDrop: maxDrop),
            .quantile(.latency, 0.95, maxIncrease: maxIncrease),
            MetricPlan(
                name: "medianLatency",
                .quantile(.latency, quantile: 0.5, maxIncrease: maxIncrease)
            ),
        ]
        plan.onInconclusive = .promote
        return plan
    }

    package static func run(
        _ scenario: TrialScenario,
        _ plan: RolloutPlan,
        count: Int,
        secondsMax: Int,
        seed: UInt64,
        progress: (Int) -> Void = { _ in }
    ) throws -> TrialSummary {
        var summary = TrialSummary(scenario.name)
        var seeds = RandomSource(seed: seed)
        for index in 0..<count {
            var world = TrialWorld(scenario, seed: seeds.next())
            summary.add(try world.run(plan, secondsMax: secondsMax))
            progress(index + 1)
        }
        return summary
    }
}
