import Core
import RolloutTrials
import Testing

@testable import Rollouts

/// Whole rollouts of the shipped machine in made-up traffic; `make bench-rollouts` runs many more.
@Suite struct TrialTests {
    /// With 24 rollouts and a chance of at most 5 % each, seven false rollbacks or more have a
    /// chance below 1 in 5000.
    @Test(arguments: Array(Trials.same.indices))
    func aSameVariantIsSeldomRolledBack(index: Int) throws {
        let (scenario, kind) = Trials.same[index]
        let plan = Trials.plan(kind, alpha: 0.05, maxDrop: 0, maxIncrease: 0)
        let summary = try Trials.run(scenario, plan, count: 24, secondsMax: 300, seed: 20)
        #expect(summary.rolledBack <= 6, "\(summary) with seed 20")
        #expect(summary.rolledBack + summary.promoted == summary.count)
    }

    @Test func worseOnesAreCaught() throws {
        for trial in Trials.worse {
            let summary = try Trials.run(
                trial.scenario,
                trial.plan,
                count: 6,
                secondsMax: 4 * trial.target,
                seed: 21
            )
            #expect(summary.rolledBack >= 5, "\(trial.scenario.name): \(summary) with seed 21")
        }
    }

    @Test func theSameSeedGivesTheSameRollout() throws {
        let (scenario, kind) = Trials.same[3]
        let plan = Trials.plan(kind, alpha: 0.05, maxDrop: 0, maxIncrease: 0)
        var first = TrialWorld(scenario, seed: 7)
        var second = TrialWorld(scenario, seed: 7)
        #expect(
            try first.run(plan, secondsMax: 100) == second.run(plan, secondsMax: 100)
        )
    }
}
