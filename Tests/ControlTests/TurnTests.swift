import Autoscaling
import Clusters
import Core
import Testing

@testable import Control

/// More models with requests than are looked at in one tick take turns, and lose nothing by it.
@Suite struct TurnTests {
    private static let names = (0..<10).map { "m\($0)" }

    private static func rig(looksPerTick: Int) -> ScalingRig {
        let models = Self.names.map { name in
            Plans.model(name, policy: ScalingPolicy(targets: [.requestRate(2)]))
        }
        return ScalingRig(Plans.plan(models), replicas: 1, looksPerTick: looksPerTick)
    }

    private static func serveAll(_ worker: inout FakeWorker) {
        for name in Self.names { worker.serve(name, "main", 5) }
    }

    @Test func aTickLooksAtNoMoreThanItMay() {
        let rig = Self.rig(looksPerTick: 4)
        var before = rig.loop.looks
        for second in 0..<60 {
            rig.tick(Self.serveAll)
            #expect(rig.loop.looks - before == 4, "second \(second)")
            before = rig.loop.looks
        }
    }

    @Test func nobodyWaitsLongerThanARoundOfHalfTheLooks() {
        let rig = Self.rig(looksPerTick: 4)
        for second in 1...60 {
            rig.tick(Self.serveAll)
            guard second >= 5 else { continue }
            for name in Self.names {
                let seen = rig.loop.latest(of: name)?.at ?? .zero
                #expect(rig.now.seconds(since: seen) < 5, "\(name) in second \(second)")
            }
        }
    }

    @Test func whoWaitedIsToldOfAllThatCame() {
        let rig = Self.rig(looksPerTick: 3)
        let reference = Self.rig(looksPerTick: 10)
        for _ in 0..<120 {
            for each in [rig, reference] {
                each.tick(Self.serveAll)
                each.settle()
            }
        }
        for name in Self.names {
            let own = rig.loop.latest(of: name)?.variants[0]
            #expect(abs((own?.inputs.arrivalRate ?? 0) - 5) < 0.1, "\(name): \(own?.inputs)")
            let others = reference.loop.latest(of: name)?.variants[0]
            #expect(own?.desired == others?.desired, "\(name)")
            #expect(rig.fleet.groups["\(name)-main"]?.desired == 3, "\(name)")
        }
    }

    @Test func aModelWithAQueueIsLookedAtInItsOwnSecond() {
        let rig = Self.rig(looksPerTick: 4)
        for _ in 0..<20 { rig.tick(Self.serveAll) }
        for name in Self.names {
            rig.tick { worker in
                Self.serveAll(&worker)
                worker.queue(name, 8)
            }
            #expect(rig.loop.latest(of: name)?.at == rig.now, "\(name)")
            rig.tick { worker in
                Self.serveAll(&worker)
                worker.leaveQueue(name, 8)
            }
        }
    }

    @Test func aBudgetIsSharedOutAmongAllOfItsModels() {
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "default",
            resource: "gpu",
            total: 4,
            fixed: []
        )
        let models = Self.names.map { name in
            Plans.model(name, budget: .init(index: 0, weight: 1))
        }
        let rig = ScalingRig(Plans.plan(models, budgets: [budget]), looksPerTick: 2)
        for _ in 0..<30 {
            rig.tick(Self.serveAll)
            let total = rig.fleet.groups.values.reduce(0) { $0 + $1.desired }
            #expect(total <= 4)
        }
        #expect(rig.loop.looks == 300)
    }

    @Test func aModelThatRestedAndThenWaitsMissesNothing() {
        let rig = Self.rig(looksPerTick: 2)
        for _ in 0..<30 { rig.tick() }
        for _ in 0..<90 { rig.tick(Self.serveAll) }
        for name in Self.names {
            let rate = rig.loop.latest(of: name)?.variants[0].inputs.arrivalRate ?? 0
            #expect(abs(rate - 5) < 0.5, "\(name): \(rate)")
        }
    }
}
