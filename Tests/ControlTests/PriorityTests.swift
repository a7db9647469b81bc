import Autoscaling
import Clusters
import Core
import Proxy
import Testing

@testable import Control

@Suite struct PriorityTests {
    /// How many replicas both models end with, which want five each, of a budget of `total`.
    private func counts(
        _ models: [ScalingPlan.Model],
        sharing total: Int,
        from replicas: Int
    ) -> [Int] {
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: total,
            fixed: []
        )
        let rig = ScalingRig(Plans.plan(models, budgets: [budget]), replicas: replicas)
        for _ in 0..<40 {
            rig.tick {
                $0.serve("lake", "main", 10, seconds: 0.5)
                $0.serve("river", "main", 10, seconds: 0.5)
            }
            rig.settle()
        }
        return ["lake-main", "river-main"].map { rig.fleet.groups[$0]?.desired ?? -1 }
    }

    /// The second model has the higher priority, or the same.
    @Test(arguments: [0, 5])
    func whoHasTheHigherPriorityGetsWhatIsFree(priority: Int) {
        let lake = Plans.model("lake", budget: .init(index: 0, weight: 1))
        let river = Plans.model(
            "river",
            budget: .init(index: 0, weight: 1, priority: priority)
        )
        let counts = self.counts([lake, river], sharing: 4, from: 0)
        // Each wants five and neither has a minimum.
        #expect(counts == (priority == 0 ? [2, 2] : [0, 4]))
    }

    @Test func minimumsComeBeforePriorities() {
        let lake = Plans.model(
            "lake",
            bounds: ScalingBounds(minimum: 1, maximum: 10),
            budget: .init(index: 0, weight: 1, priority: -3)
        )
        let river = Plans.model("river", budget: .init(index: 0, weight: 1, priority: 3))
        let counts = self.counts([lake, river], sharing: 3, from: 1)
        #expect(counts == [1, 2])
    }
}
