import Control
import Core
import EventLoop
import Logging
import Rollouts
import Testing

/// A world for one controller: replicas that come a tick after they were asked for, gateways that
/// acknowledge a tick after they were told, and a store that may refuse. It can die at any call.
private final class World: RolloutExecutor {
    enum Call: Equatable {
        case store, traffic(Int), capacity, webhook(Int), measure(Int), template
    }

    var stored: RolloutStatus?
    var calls: [Call] = []
    /// Dead after so many calls; what is called later has no effect.
    var callsMax = Int.max
    /// The next store is refused.
    var refusesNext = false
    /// The next store is answered later, by `finishStore`.
    var defersStores = false
    private var deferred: (() -> Void)?
    private(set) var plan: TrafficPlan?
    private(set) var demands: [CapacityDemand] = []
    private(set) var acknowledged = 0
    private(set) var timelines: [RolloutTimeline] = []
    private var replicas = ["v1": 2, "v2": 0]

    private func lives(_ call: Call) -> Bool {
        if self.calls.count >= self.callsMax { return false }
        self.calls.append(call)
        return true
    }

    func store(
        _ status: RolloutStatus,
        of model: String,
        completion: @escaping (_ isStored: Bool) -> Void
    ) {
        guard self.lives(.store) else { return }
        if self.refusesNext {
            self.refusesNext = false
            return completion(false)
        }
        let finish = {
            self.stored = status
            completion(true)
        }
        if self.defersStores { self.deferred = finish } else { finish() }
    }

    func finishStore() {
        let finish = self.deferred
        self.deferred = nil
        finish?()
    }

    func apply(_ plan: TrafficPlan, of model: String) {
        guard self.lives(.traffic(plan.generation)) else { return }
        // Whoever would die now could go on from what is stored.
        #expect(self.stored?.traffic.generation ?? 0 >= plan.generation)
        self.plan = plan
    }

    func ensure(_ demands: [CapacityDemand], of model: String) {
        if self.lives(.capacity) { self.demands = demands }
    }

    func rollBackTemplate(_ variant: VariantReference, of model: String) {
        _ = self.lives(.template)
    }

    func call(_ webhook: WebhookCall, of model: String) { _ = self.lives(.webhook(webhook.id)) }

    func measure(_ metric: Int, number: Int, of model: String) { _ = self.lives(.measure(number)) }

    func keep(_ timeline: RolloutTimeline) { self.timelines.append(timeline) }

    func announce(_ record: RolloutRecord, of model: String) {}

    /// A second passes.
    func pass() {
        for demand in self.demands {
            let wanted = max(demand.replicasMin, (2 * demand.share + 99) / 100)
            if wanted > self.replicas[demand.variant] ?? 0 {
                self.replicas[demand.variant] = wanted
            }
        }
        self.acknowledged = self.plan?.generation ?? self.acknowledged
    }

    func observation(generation: Int) -> RolloutObservation {
        var result = RolloutObservation(
            variants: self.replicas.mapValues { VariantObservation(ready: $0, replicasForAll: 2) }
        )
        for arm in Arm.allCases {
            result.samples.append(
                ArmSample(arm: arm, replica: arm.rawValue, generation: generation, requests: 50)
            )
        }
        return result
    }
}

@Suite struct RolloutControllerTests {
    private let world = World()

    private static func spec() -> RolloutSpec {
        let hold = Duration.seconds(2)
        var plan = RolloutPlan(steps: [.weight(20, hold: hold), .weight(50, hold: hold)])
        plan.analysis = AnalysisPlan(metrics: [.successRate(maxDrop: 0.005)])
        plan.scaleDownDelay = .zero
        return RolloutSpec(
            live: "v1",
            variants: [VariantReference("v1"), VariantReference("v2")],
            plan: plan
        )
    }

    private static func moment(_ tick: Int) -> RolloutMoment {
        RolloutMoment(
            instant: Instant(nanoseconds: UInt64(tick) * 1_000_000_000),
            wall: 1_000_000 + tick * 1_000
        )
    }

    private func controller(_ tick: Int) throws -> RolloutController {
        try RolloutController(
            model: "m",
            spec: Self.spec(),
            resuming: self.world.stored,
            executor: self.world,
            at: Self.moment(tick)
        )
    }

    /// Ticks until v2 is live; returns how many ticks it took, nil where it never came so far.
    private func run(_ controller: RolloutController, from tick: Int) -> Int? {
        for tick in tick..<(tick + 60) {
            self.world.pass()
            let moment = Self.moment(tick)
            controller.handle(.acknowledged(generation: self.world.acknowledged), at: moment)
            let observation = self.world.observation(
                generation: controller.status.traffic.generation
            )
            controller.handle(.tick(observation), at: moment)
            if self.world.calls.count >= self.world.callsMax { return nil }
            if controller.status.stable.name == "v2", !controller.isActive { return tick }
        }
        return nil
    }

    @Test func storesBeforeItActs() throws {
        let controller = try self.controller(0)
        try controller.perform(.start(variant: "v2"), at: Self.moment(1))
        #expect(self.run(controller, from: 2) != nil)
        let first = try #require(self.world.calls.first)
        #expect(first == .store)
        #expect(controller.verdicts[.pass] == 1)
        let timeline = try #require(self.world.timelines.last)
        #expect(timeline.rollout == 1)
        #expect(!timeline.points.isEmpty)
        #expect(timeline.records.contains { $0.kind == .promoted })
    }

    /// Dies between any two calls, and another controller goes on from what was stored.
    @Test func goesOnAfterACrashBetweenAnyTwoCalls() throws {
        let whole = try self.controller(0)
        try whole.perform(.start(variant: "v2"), at: Self.moment(1))
        _ = self.run(whole, from: 2)
        let count = self.world.calls.count
        #expect(count > 10)
        for crash in 1..<count {
            let tests = RolloutControllerTests()
            tests.world.callsMax = crash
            let controller = try tests.controller(0)
            try controller.perform(.start(variant: "v2"), at: Self.moment(1))
            _ = tests.run(controller, from: 2)
            tests.world.callsMax = .max
            let next = try tests.controller(100)
            let isStarted = (tests.world.stored?.rollout ?? 0) > 0
            // A start that was not stored was never answered either.
            if !isStarted { try next.perform(.start(variant: "v2"), at: Self.moment(101)) }
            #expect(tests.run(next, from: 102) != nil, "died after \(crash) calls")
            #expect(tests.world.plan?.weight(of: "v2") == 100, "died after \(crash) calls")
        }
    }

    @Test func aConflictThrowsAwayWhatWouldHaveFollowed() throws {
        let controller = try self.controller(0)
        controller.handle(.tick(self.world.observation(generation: 0)), at: Self.moment(1))
        self.world.calls = []
        self.world.refusesNext = true
        try controller.perform(.start(variant: "v2"), at: Self.moment(2))
        #expect(self.world.calls == [.store])
        #expect(controller.status.canary == nil, "the start was not stored")
        try controller.perform(.start(variant: "v2"), at: Self.moment(3))
        #expect(self.run(controller, from: 4) != nil)
    }

    @Test func whatHappensWhileAStoreIsUnderWayWaitsForTheNext() throws {
        let controller = try self.controller(0)
        self.world.defersStores = true
        try controller.perform(.start(variant: "v2"), at: Self.moment(1))
        controller.handle(.tick(self.world.observation(generation: 0)), at: Self.moment(2))
        try controller.perform(.pause, at: Self.moment(2))
        #expect(self.world.calls == [.store])
        self.world.finishStore()
        // What followed from the first is done, what came meanwhile waits for the second.
        #expect(self.world.calls.filter { $0 == .store }.count == 2)
        #expect(self.world.stored?.phase == .progressing)
        self.world.finishStore()
        #expect(self.world.stored?.phase == .paused)
    }

    @Test func takesOverWhatSomebodyElseStored() throws {
        let controller = try self.controller(0)
        var other = controller.status
        other.stable = VariantReference("v2")
        other.traffic = TrafficPlan(generation: 9, weights: [.init("v2", 100)])
        try controller.adopt(other)
        controller.handle(.tick(self.world.observation(generation: 9)), at: Self.moment(1))
        #expect(self.world.plan?.weight(of: "v2") == 100)
    }
}

@Suite struct RolloutTimelineTests {
    @Test func staysBoundedHoweverLongARolloutTakes() throws {
        let world = World()
        var plan = RolloutPlan(steps: [.weight(20, hold: .seconds(100_000))])
        plan.analysis = AnalysisPlan(metrics: [.successRate(maxDrop: 0.005)])
        let spec = RolloutSpec(
            live: "v1",
            variants: [VariantReference("v1"), VariantReference("v2")],
            plan: plan
        )
        func moment(_ tick: Int) -> RolloutMoment {
            RolloutMoment(
                instant: Instant(nanoseconds: UInt64(tick) * 1_000_000_000),
                wall: tick * 1_000
            )
        }
        let controller = try RolloutController(
            model: "m",
            spec: spec,
            resuming: nil,
            executor: world,
            at: moment(0)
        )
        try controller.perform(.start(variant: "v2"), at: moment(1))
        for tick in 2..<3_000 {
            world.pass()
            controller.handle(.acknowledged(generation: world.acknowledged), at: moment(tick))
            let generation = controller.status.traffic.generation
            controller.handle(.tick(world.observation(generation: generation)), at: moment(tick))
        }
        let timeline = try #require(controller.timeline)
        #expect(timeline.points.count <= RolloutTimeline.pointsMax)
        #expect(timeline.points.count > RolloutTimeline.pointsMax / 3)
        let first = try #require(timeline.points.first)
        let last = try #require(timeline.points.last)
        #expect(last.at - first.at > 2_900_000)
    }

    /// However soon after the last point; then the picture ends with the reason.
    @Test func showsWhatWasDecidedBy() throws {
        let world = World()
        var plan = RolloutPlan(steps: [.weight(50, hold: .seconds(600))])
        plan.analysis = AnalysisPlan(metrics: [.successRate(maxDrop: 0)])
        let spec = RolloutSpec(
            live: "v1",
            variants: [VariantReference("v1"), VariantReference("v2")],
            plan: plan
        )
        var milliseconds = 1_000
        func moment() -> RolloutMoment {
            milliseconds += 400
            return RolloutMoment(
                instant: Instant(nanoseconds: UInt64(milliseconds) * 1_000_000),
                wall: milliseconds
            )
        }
        let controller = try RolloutController(
            model: "m",
            spec: spec,
            resuming: nil,
            executor: world,
            at: moment()
        )
        try controller.perform(.start(variant: "v2"), at: moment())
        for _ in 0..<400 where controller.status.phase != .rolledBack {
            world.pass()
            controller.handle(.acknowledged(generation: world.acknowledged), at: moment())
            let generation = controller.status.traffic.generation
            var observation = world.observation(generation: generation)
            for index in observation.samples.indices where observation.samples[index].arm == .canary
            {
                observation.samples[index][.error] = 1
            }
            controller.handle(.tick(observation), at: moment())
        }
        let timeline = try #require(controller.timeline)
        let failed = try #require(timeline.record([.failed]))
        let point = try #require(timeline.points.last { $0.at <= failed.at })
        #expect(point.at == failed.at)
        let threshold = try #require(timeline.metrics.first?.threshold)
        #expect(try #require(point.values.first).evidence >= threshold)
        // What is kept on disk with the finding has that point as well.
        let kept = try #require(world.timelines.first { $0.record([.failed]) != nil })
        #expect(kept.points.last { $0.at <= failed.at }?.at == failed.at)
    }
}

/// Files, and what is made of those that are damaged.
@Suite struct RolloutStoreTests {
    private func status() throws -> RolloutStatus {
        var status = RolloutStatus(live: VariantReference("v1"))
        status.message = "é \u{1} \" "
        return status
    }

    @Test func keepsWhatItWasGiven() throws {
        let folder = try TemporaryFolder()
        let store = RolloutStore(directory: folder.path, logger: Logger(label: "test"))
        #expect(store.status(of: "m") == nil)
        let status = try self.status()
        #expect(store.write(status, of: "m"))
        #expect(store.status(of: "m") == status)
        for number in 1...12 {
            store.write(
                RolloutTimeline(
                    model: "m",
                    rollout: number,
                    stable: VariantReference("v1"),
                    canary: VariantReference("v2"),
                    at: 0
                )
            )
        }
        #expect(store.rollouts(of: "m", upTo: 12) == Array(5...12))
        #expect(store.timeline(of: "m", rollout: 4) == nil)
        #expect(store.timeline(of: "m", rollout: 12)?.canary.name == "v2")
    }

    @Test(arguments: [
        "", "{", "null", #"{"version":2,"content":{}}"#, #"{"version":1,"content":{"phase":"x"}}"#,
    ])
    func whatMakesNoSenseIsPutAside(_ text: String) throws {
        let folder = try TemporaryFolder()
        let store = RolloutStore(directory: folder.path, logger: Logger(label: "test"))
        #expect(store.write(try self.status(), of: "m"))
        try folder.write("rollouts/m.json", text)
        #expect(store.status(of: "m") == nil)
        #expect(store.status(of: "m") == nil)
        let status = try self.status()
        #expect(store.write(status, of: "m"))
        #expect(store.status(of: "m") == status)
    }
}
