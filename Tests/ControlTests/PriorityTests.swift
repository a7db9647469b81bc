import Autoscaling
import Clusters
import Core
import Proxy
import Testing

@testable import Control

@Suite struct PriorityTests {
    /// Three units: the first model has two of them, the second one has a higher priority.
    @Test(arguments: [0, 5])
    func whoHasTheHigherPriorityGetsWhatIsFree(priority: Int) {
        let lake = Plans.model("lake", budget: .init(index: 0, weight: 1))
        let river = Plans.model(
            "river",
            budget: .init(index: 0, weight: 1, priority: priority)
        )
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: 4,
            fixed: []
        )
        let rig = ScalingRig(Plans.plan([lake, river], budgets: [budget]))
        for _ in 0..<40 {
            rig.tick {
                $0.serve("lake", "main", 10, seconds: 0.5)
                $0.serve("river", "main", 10, seconds: 0.5)
            }
            rig.settle()
        }
        let counts = ["lake-main", "river-main"].map { rig.fleet.groups[$0]?.desired ?? -1 }
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
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: 3,
            fixed: []
        )
        let rig = ScalingRig(Plans.plan([lake, river], budgets: [budget]), replicas: 1)
        for _ in 0..<40 {
            rig.tick {
                $0.serve("lake", "main", 10, seconds: 0.5)
                $0.serve("river", "main", 10, seconds: 0.5)
            }
            rig.settle()
        }
        let counts = ["lake-main", "river-main"].map { rig.fleet.groups[$0]?.desired ?? -1 }
        #expect(counts == [1, 2])
    }
}
