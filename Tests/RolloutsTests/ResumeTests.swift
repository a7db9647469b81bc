import Core
import Foundation
import Testing

@testable import Rollouts

/// A controller that dies between any two actions, and another one that has only the spec and the
/// stored status.
@Suite struct ResumeTests {
    private static let plan: RolloutPlan = {
        var plan = RolloutPlan(steps: [
            .headerRoute(HeaderRoute(name: "x-canary", value: "1")),
            .mirror(10, hold: .seconds(3)), .weight(10, hold: .seconds(3)), .pause(.seconds(3)),
            .canaryReplicas(.replicas(3)), .weight(50, hold: .seconds(3)),
        ])
        plan.analysis.minRequests = 1
        plan.webhooks = [
            WebhookPlan(.beforeStep, url: "http://a"), WebhookPlan(.onComplete, url: "http://b"),
        ]
        return plan
    }()

    /// After every second of a rollout, and of a rollback.
    @Test(arguments: [[:], ["v2": 60]])
    func aCrashEverySecondChangesNothingInTheEnd(errors: [String: Int]) throws {
        var rig = try Rig(Self.plan)
        rig.errors = errors
        rig.live("v2")
        for _ in 0..<200 where rig.status.isRunning {
            try rig.crash()
            // The first tick after a start has no time before it.
            rig.tick(2)
        }
        #expect(rig.phase == (errors.isEmpty ? .stable : .rolledBack))
        #expect(rig.weight(errors.isEmpty ? "v2" : "v1") == 100)
    }

    /// Every controller dies after none, one, two… of the actions of each of its events, without
    /// hearing of acknowledgements; every seventh lives for three seconds. What was never done is
    /// asked for again.
    @Test func actionsThatWereNeverDoneAreSaidAgain() throws {
        var plan = Self.plan
        plan.steps = [.weight(10, hold: .seconds(3)), .weight(50, hold: .seconds(3))]
        var rig = try Rig(plan)
        rig.live("v2")
        var seconds = 0
        var world = World(machine: rig.machine)
        while world.machine.status.isRunning, seconds < 500 {
            try world.second(keeping: seconds % 7 == 6 ? .max : seconds % 7)
            seconds += 1
        }
        #expect(world.machine.status.stable.name == "v2", "\(world.machine.status)")
        #expect(seconds < 400)
    }

    /// Does only some of the actions of an event before the crash.
    private struct World {
        var machine: RolloutMachine
        var traffic: TrafficPlan?
        var ready = ["v1": 4]
        var now = 5_000

        mutating func second(keeping: Int) throws {
            // Three ticks by one controller, so that time passes.
            for _ in 0..<3 {
                self.now += 1
                var observation = RolloutObservation()
                for (name, ready) in self.ready {
                    observation.variants[name] = VariantObservation(ready: ready, replicasForAll: 4)
                }
                for arm in Arm.allCases {
                    let generation = self.traffic?.generation ?? 0
                    observation.samples.append(
                        ArmSample(arm: arm, replica: "r", generation: generation, requests: 50)
                    )
                }
                var actions = self.machine.handle(.tick(observation), at: self.moment)
                actions = Array(actions.prefix(keeping))
                self.perform(actions)
                if let traffic = self.traffic, keeping == .max {
                    let more = self.machine.handle(
                        .acknowledged(generation: traffic.generation),
                        at: self.moment
                    )
                    self.perform(more)
                }
            }
            let data = try JSONEncoder().encode(self.machine.status)
            let status = try JSONDecoder().decode(RolloutStatus.self, from: data)
            #expect(status == self.machine.status)
            self.machine = try RolloutMachine(self.machine.spec, resuming: status)
        }

        private var moment: RolloutMoment {
            RolloutMoment(
                instant: Instant(nanoseconds: UInt64(self.now) * 1_000_000_000),
                wall: self.now * 1_000
            )
        }

        private mutating func perform(_ actions: [RolloutAction]) {
            for action in actions {
                switch action {
                case .setTraffic(let plan): self.traffic = plan
                case .setCapacity(let demands):
                    for demand in demands { self.ready[demand.variant] = 4 }
                case .callWebhook(let call):
                    self.perform(
                        self.machine.handle(
                            .webhookAnswered(call: call.id, .accepted),
                            at: self.moment
                        )
                    )
                case .record, .measure, .rollBackTemplate: break
                }
            }
        }
    }

    /// Before the first tick nothing is known, which is no reason to take weight away.
    @Test func theFirstEventsOfANewControllerKeepTheWeights() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 50 && $0.status.stage == .holding }
        try rig.crash()
        rig.send(.acknowledged(generation: rig.status.traffic.generation))
        rig.live("v2")
        #expect(rig.weight("v2") == 50)
        rig.tick()
        #expect(rig.weight("v2") == 50)
    }

    /// Both variants' replicas start with the controller, and the canary's are ready first.
    @Test func aCanaryThatStartsFirstIsNotGivenEverything() throws {
        var rig = try Rig(.simple)
        rig.obeysDemands = false
        rig.ready = ["v1": 4, "v2": 2]
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 25 && $0.status.stage == .holding }
        try rig.crash()
        rig.ready = [:]
        rig.tick()
        rig.ready = ["v2": 2]
        let held = rig.status.heldMilliseconds
        rig.tick(5)
        #expect(rig.weight("v1") == 100, "requests wait for the stable variant")
        #expect(rig.status.heldMilliseconds == held, "that was no time watched")
        rig.ready["v1"] = 4
        rig.tick(2)
        #expect(rig.weight("v2") == 25)
        // From then on a lost stable variant is not waited for.
        rig.ready["v1"] = 0
        rig.tick()
        #expect(rig.weight("v2") == 100)
        // What another controller decided stays.
        try rig.crash()
        rig.tick(2)
        #expect(rig.weight("v2") == 100)
    }

    @Test func aStableVariantThatDoesNotComeIsNotAwaitedForEver() throws {
        var rig = try Rig(.simple)
        rig.obeysDemands = false
        rig.ready = ["v1": 4, "v2": 2]
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 25 && $0.status.stage == .holding }
        try rig.crash()
        rig.ready = [:]
        rig.tick(60)
        rig.ready = ["v2": 1]
        let seconds = RolloutMachine.stableAwaitedMillisecondsMax / 1_000
        rig.tick(seconds - 1)
        #expect(rig.weight("v2") == 0)
        rig.tick(2)
        #expect(rig.weight("v2") == 100, "it is the only one that serves")
    }

    @Test func evidenceSurvives() throws {
        var rig = try Rig(.simple)
        rig.errors = ["v2": 4]
        rig.live("v2")
        _ = rig.tick { ($0.status.evidence?.metrics.first?.bet?.evidence ?? 0) > 3 }
        let before = try #require(rig.status.evidence?.metrics.first?.bet?.evidence)
        try rig.crash()
        rig.tick()
        let after = try #require(rig.status.evidence?.metrics.first?.bet?.evidence)
        #expect(after > 0.9 * before, "\(before) \(after)")
    }

    @Test func changesWhileNobodyWatchedAreSeen() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 25 }
        var spec = rig.machine.spec
        spec.live = VariantReference("v3")
        rig.machine = try RolloutMachine(spec, resuming: rig.status)
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v3")
    }

    @Test func theTemplateRollbackIsAskedForAgain() throws {
        var rig = try Rig(.simple, revision: "a")
        rig.send(.templateChanged(VariantReference("v1", revision: "b")))
        rig.tick(5)
        rig.consecutiveErrors = 30
        rig.tick()
        let asked = RolloutAction.rollBackTemplate(VariantReference("v1", revision: "a"))
        #expect(rig.log.count { $0 == asked } == 1)
        var spec = rig.machine.spec
        spec.variants = spec.variants.map {
            VariantReference($0.name, revision: $0.name == "v1" ? "b" : "a")
        }
        spec.live.revision = "b"
        rig.machine = try RolloutMachine(spec, resuming: rig.status)
        rig.tick()
        #expect(rig.log.count { $0 == asked } == 2)
    }

    /// What is stored stays small, however long it runs.
    @Test func theStoredStatusIsBounded() throws {
        var plan = RolloutPlan(steps: [.pause(nil)])
        plan.analysis.metrics += [
            .quantile(.latency, 0.95, maxIncrease: 0.1),
            MetricPlan(name: "length", .distance(.outputTokens, maxDistance: 0.2)),
        ]
        var rig = try Rig(plan)
        for round in 0..<60 {
            try rig.command(.start(variant: round % 2 == 0 ? "v2" : "v3"))
            rig.tick(5)
            try rig.command(.abort)
            rig.tick(2)
        }
        let bytes = try JSONEncoder().encode(rig.status).count
        #expect(bytes < 400_000, "\(bytes) bytes")
    }
}
