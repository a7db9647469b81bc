import Core
import Foundation
import Testing

@testable import Rollouts

/// A hostile world with a memory of its own: replicas come and go, gateways lag, people change
/// their minds, the controller dies. After every event it checks what must never be broken, and in
/// the end, once the world calms down, that everything comes to rest.
@Suite struct RandomWalkTests {
    @Test(arguments: Array(0..<100))
    func invariantsHold(seed: Int) throws {
        var world = HostileWorld(seed: UInt64(seed))
        try world.walk(events: 400)
        try world.calmDown()
    }

    /// The checker finds what it is there for.
    @Test func theOracleIsNotBlind() throws {
        var world = HostileWorld(seed: 1)
        try world.walk(events: 50)
        var plan = world.machine.status.traffic
        plan.weights = [VariantWeight("v1", 60), VariantWeight("v2", 30)]
        #expect(!world.oracle.objections(to: plan, world.machine).isEmpty)
        plan.weights = [VariantWeight("v9", 100)]
        world.oracle.ready["v1"] = 3
        world.oracle.ready["v9"] = 0
        #expect(!world.oracle.objections(to: plan, world.machine).isEmpty)
        let demand = CapacityDemand(variant: "v1", share: 10, replicasMin: 0, mayShrink: true)
        world.oracle.inUse = [TrafficPlan(generation: 1, weights: [VariantWeight("v1", 100)])]
        world.oracle.demands = [demand]
        #expect(!world.oracle.shrinkObjections(running: true, stable: "v1").isEmpty)
    }
}

/// What is known from outside the machine.
private struct Oracle {
    /// As the machine was last told.
    var ready: [String: Int] = [:]
    /// A new controller knows nothing before its first tick, and keeps the weights until then.
    var isBlind = false
    /// Seconds for which a stable variant that was never ready since the start may be waited for.
    var patience = 0.0
    var all = 4
    /// The plan each worker uses.
    var inUse: [TrafficPlan] = []
    var demands: [CapacityDemand] = []
    var last: TrafficPlan?

    func needed(_ share: Int) -> Int { share == 0 ? 0 : max(1, (self.all * share + 99) / 100) }

    /// What is wrong with a plan that follows `last`.
    func objections(to plan: TrafficPlan, _ machine: RolloutMachine) -> [String] {
        var wrong: [String] = []
        let weights = plan.weights
        if weights.reduce(0, { $0 + $1.percent }) != 100 { wrong.append("the sum is not 100") }
        if Set(weights.map(\.variant)).count != weights.count { wrong.append("a variant twice") }
        if weights.count > 2 { wrong.append("more than two arms") }
        let serving = weights.filter { (self.ready[$0.variant] ?? 0) > 0 }
        let arms = [machine.status.stable.name, machine.status.canary?.name].compactMap { $0 }
        let someArmIsReady = arms.contains { (self.ready[$0] ?? 0) > 0 }
        let mayWait = self.isBlind || self.patience > 0 && machine.status.phase != .promoting
        if !mayWait, someArmIsReady, serving.count < weights.count, machine.status.isRunning {
            wrong.append("weight for an arm without a ready replica")
        }
        let target = plan.mirrorTo ?? (plan.headerRoute == nil ? nil : machine.status.canary?.name)
        if let target, (self.ready[target] ?? 0) == 0 {
            wrong.append("a header route or copies for an arm without a ready replica")
        }
        if let last { wrong += self.changeObjections(from: last, to: plan, machine) }
        return wrong
    }

    private func changeObjections(
        from last: TrafficPlan,
        to plan: TrafficPlan,
        _ machine: RolloutMachine
    ) -> [String] {
        if plan.generation < last.generation { return ["the generation fell"] }
        if plan.generation == last.generation, plan != last { return ["changed in silence"] }
        guard machine.status.isRunning, let canary = machine.status.canary?.name,
            !machine.status.isInPlace
        else { return [] }
        var wrong: [String] = []
        let stable = machine.status.stable.name
        let risen = plan.weight(of: canary) > last.weight(of: canary)
        let stableReady = self.ready[stable] ?? 0
        if risen, stableReady > 0, case .matchWeight = machine.status.canaryScale,
            (self.ready[canary] ?? 0) < self.needed(plan.weight(of: canary))
        {
            wrong.append("more weight than the canary is ready for")
        }
        let stableRisen = plan.weight(of: stable) > last.weight(of: stable)
        if stableRisen, !machine.status.isEmergency, (self.ready[canary] ?? 0) > 0,
            stableReady * 100 < self.all * plan.weight(of: stable),
            stableReady < self.needed(plan.weight(of: stable))
        {
            wrong.append("the stable variant cannot carry what it gets")
        }
        return wrong
    }

    /// Variants that some worker may still send requests to, and that are free to shrink.
    func shrinkObjections(running: Bool, stable: String) -> [String] {
        var wrong: [String] = []
        for plan in self.inUse {
            for weight in plan.weights {
                let demand = self.demands.first { $0.variant == weight.variant }
                if !running, weight.variant == stable { continue }
                guard let demand else {
                    wrong.append("\(weight.variant) is free and has \(weight.percent) %")
                    continue
                }
                if demand.mayShrink, demand.share < weight.percent {
                    wrong.append("\(weight.variant) may shrink below \(weight.percent) %")
                }
            }
        }
        return wrong
    }
}

private struct HostileWorld {
    var machine: RolloutMachine
    var oracle = Oracle()
    private let seed: UInt64
    private var random: RandomSource
    private var now = 1_000.0
    private var ready: [String: Int]
    /// Replicas that all requests need.
    private var all = 4
    private var inFlight: [String: Int] = [:]
    private var published: [TrafficPlan] = []
    private var pendingCalls: [Int] = []
    private var revision = 0
    private var errors: [String: Int] = [:]

    private static let variants = ["v1", "v2", "v3"]
    private static let workers = 3

    init(seed: UInt64) {
        self.seed = seed
        self.random = RandomSource(seed: seed)
        self.ready = ["v1": 4]
        let spec = RolloutSpec(
            live: "v1",
            variants: Self.variants.map { VariantReference($0, revision: "r0") },
            plan: nil
        )
        do {
            self.machine = try RolloutMachine(spec)
        } catch {
            preconditionFailure("a spec that is wrong: \(error)")
        }
        self.published = [self.machine.status.traffic]
        self.oracle.inUse = Array(
            repeating: self.machine.status.traffic,
            count: Self.workers
        )
        var changed = spec
        changed.plan = self.plan()
        self.send(.configured(changed))
    }

    private mutating func below(_ limit: Int) -> Int {
        Int(self.random.next() % UInt64(limit))
    }

    private mutating func variant() -> String {
        Self.variants[self.below(Self.variants.count)]
    }

    // MARK: Events

    mutating func walk(events: Int) throws {
        for _ in 0..<events {
            switch self.below(100) {
            case 0..<45: self.tick()
            case 45..<62: self.acknowledge()
            case 62..<72: self.changeReplicas()
            case 72..<76: self.answerWebhook()
            case 76..<82: self.command()
            case 82..<87: self.configure()
            case 87..<89: self.changeTemplate()
            case 89..<92: self.errors = [self.variant(): self.below(3) * 30]
            case 92..<95: self.inFlight = [self.variant(): self.below(3)]
            default: try self.crash()
            }
        }
    }

    private mutating func tick() {
        let seconds = [0.2, 1, 1, 1, 3, 20][self.below(6)]
        self.now += seconds
        // The first tick after a start has no time before it, and a late one counts for little.
        let isFirst = self.oracle.isBlind
        self.see()
        self.await(isFirst ? 0 : min(seconds, 5))
        self.send(.tick(self.observation()))
    }

    /// What the machine is told, the oracle knows.
    private mutating func see() {
        self.oracle.ready = self.ready
        self.oracle.all = self.all
        self.oracle.isBlind = false
    }

    private mutating func await(_ seconds: Double) {
        let status = self.machine.status
        if (self.ready[status.stable.name] ?? 0) > 0 { self.oracle.patience = 0 }
        let isCanaryReady = status.canary.map { (self.ready[$0.name] ?? 0) > 0 } ?? false
        if isCanaryReady { self.oracle.patience -= seconds }
    }

    private mutating func observation() -> RolloutObservation {
        var observation = RolloutObservation()
        for name in Self.variants {
            observation.variants[name] = VariantObservation(
                ready: self.ready[name] ?? 0,
                replicasForAll: self.oracle.all,
                inFlight: self.inFlight[name] ?? 0
            )
        }
        let canary = self.machine.status.canary?.name
        for plan in self.oracle.inUse {
            for weight in plan.weights {
                let arm: Arm = weight.variant == canary ? .canary : .stable
                var sample = ArmSample(
                    arm: arm,
                    replica: weight.variant,
                    generation: plan.generation,
                    requests: weight.percent
                )
                sample[.error] = weight.percent * (self.errors[weight.variant] ?? 0) / 100
                observation.samples.append(sample)
                if arm == .canary {
                    observation.canary.requests += sample.requests
                    observation.canary.errors += sample[.error]
                } else {
                    observation.stable.requests += sample.requests
                    observation.stable.errors += sample[.error]
                }
            }
        }
        return observation
    }

    /// A worker takes over the newest plan, or one between; gateways report the oldest in use.
    private mutating func acknowledge() {
        let worker = self.below(Self.workers)
        let from = self.oracle.inUse[worker].generation
        let later = self.published.filter { $0.generation >= from }
        self.oracle.inUse[worker] = later[self.below(2) == 0 ? later.count - 1 : 0]
        let oldest = self.oracle.inUse.map(\.generation).min() ?? 0
        self.send(.acknowledged(generation: oldest))
    }

    /// Replicas start, crash, and go where they may.
    private mutating func changeReplicas() {
        let name = self.variant()
        switch self.below(4) {
        case 0: self.ready[name] = min(6, (self.ready[name] ?? 0) + 1)
        case 1: self.ready[name] = max(0, (self.ready[name] ?? 0) - 1)
        case 2: self.obeyDemands()
        default: self.all = 2 + self.below(4)
        }
    }

    private mutating func obeyDemands() {
        for demand in self.oracle.demands {
            let wanted = max(self.oracle.needed(demand.share), demand.replicasMin)
            let have = self.ready[demand.variant] ?? 0
            self.ready[demand.variant] = demand.mayShrink ? wanted : max(have, wanted)
        }
        for name in Self.variants where name != self.machine.status.stable.name {
            if !self.oracle.demands.contains(where: { $0.variant == name }) { self.ready[name] = 0 }
        }
    }

    private mutating func answerWebhook() {
        guard let call = self.pendingCalls.popLast() else { return }
        let answers: [WebhookAnswer] = [.accepted, .accepted, .denied("no"), .failed("refused")]
        self.send(.webhookAnswered(call: call, answers[self.below(4)]))
    }

    private mutating func command() {
        let commands: [RolloutCommand] = [
            .start(variant: self.variant()), .pause, .promote(full: false), .promote(full: true),
            .abort, .retry,
        ]
        let command = commands[self.below(commands.count)]
        let before = self.machine.status
        do {
            self.take(try self.machine.perform(command, at: self.moment))
        } catch {
            #expect(self.machine.status == before, "\(self.place): refused, and changed")
        }
    }

    private mutating func configure() {
        var spec = self.machine.spec
        switch self.below(4) {
        case 0: spec.plan = self.plan()
        case 1 where self.below(3) == 0: spec.plan = nil
        default: spec.live = spec.variant(named: self.variant()) ?? spec.live
        }
        self.send(.configured(spec))
    }

    private mutating func changeTemplate() {
        self.revision += 1
        let revision = "r\(self.below(self.revision + 1))"
        self.send(.templateChanged(VariantReference(self.variant(), revision: revision)))
    }

    private mutating func plan() -> RolloutPlan {
        let holds = [Duration.zero, .seconds(2), .seconds(20)]
        var steps: [RolloutStep] = []
        var weight = self.below(20)
        for _ in 0..<self.below(7) {
            let hold = holds[self.below(3)]
            switch self.below(8) {
            case 0: steps.append(.pause(self.below(2) == 0 ? nil : hold))
            case 1: steps.append(.headerRoute(HeaderRoute(name: "x", value: "y")))
            case 2: steps.append(.mirror(1 + self.below(100), hold: hold))
            case 3: steps.append(.analysis(hold: hold))
            case 4: steps.append(.headerRoute(nil))
            default:
                steps.append(.weight(weight, hold: hold))
                weight = min(100, weight + 1 + self.below(40))
                if weight == 100 { break }
            }
        }
        var plan = RolloutPlan(steps: steps)
        plan.analysis.minRequests = self.below(2) * 50
        plan.onInconclusive = [.pause, .promote, .rollback][self.below(3)]
        plan.progressDeadline = .seconds(30)
        plan.drainDeadline = .seconds(40)
        plan.inPlaceWatch = .seconds(20)
        plan.keepsStableCapacity = self.below(2) == 0
        if self.below(3) == 0 { plan.webhooks = [WebhookPlan(.beforeStep, url: "http://a")] }
        do { try plan.check() } catch { plan.steps = [.weight(10, hold: .seconds(1))] }
        return plan
    }

    private mutating func crash() throws {
        let data = try JSONEncoder().encode(self.machine.status)
        let status = try JSONDecoder().decode(RolloutStatus.self, from: data)
        #expect(status == self.machine.status, "\(self.place)")
        self.machine = try RolloutMachine(self.machine.spec, resuming: status)
        self.oracle.isBlind = true
        let isRunning = self.machine.status.isRunning
        let patience = Double(RolloutMachine.stableAwaitedMillisecondsMax) / 1_000
        self.oracle.patience = isRunning ? patience : 0
    }

    // MARK: Checking

    private var moment: RolloutMoment {
        RolloutMoment(instant: Instant(nanoseconds: UInt64(self.now * 1e9)), wall: Int(self.now))
    }

    private var place: Comment { "seed \(self.seed), second \(self.now)" }

    private mutating func send(_ event: RolloutEvent) {
        self.take(self.machine.handle(event, at: self.moment))
    }

    private mutating func take(_ actions: [RolloutAction]) {
        for action in actions {
            switch action {
            case .setTraffic(let plan):
                if plan.generation > (self.published.last?.generation ?? 0) {
                    self.published.append(plan)
                }
            case .setCapacity(let demands): self.oracle.demands = demands
            case .callWebhook(let call): self.pendingCalls.append(call.id)
            case .record(let record): self.check(record)
            case .measure, .rollBackTemplate: break
            }
        }
        self.check()
    }

    private mutating func check() {
        let plan = self.machine.status.traffic
        let wrong =
            self.oracle.objections(to: plan, self.machine)
            + self.oracle.shrinkObjections(
                running: self.machine.status.isRunning && !self.machine.status.isInPlace,
                stable: self.machine.status.stable.name
            )
        #expect(wrong.isEmpty, "\(self.place): \(wrong) in \(self.machine.status.phase)")
        self.oracle.last = plan
        let newest = self.published.last?.generation
        #expect(newest == plan.generation, "\(self.place): a plan that was never published")
    }

    /// What may shrink is used by no worker.
    private func check(_ record: RolloutRecord) {
        guard record.kind == .retired else { return }
        for name in Self.variants where record.message == "\(name) may shrink" {
            let inUse = self.oracle.inUse.contains { $0.weight(of: name) > 0 }
            #expect(!inUse, "\(self.place): \(name) retired in use")
        }
    }

    // MARK: The end

    /// Replicas come, gateways answer, nobody interferes: an abort ends everything.
    mutating func calmDown() throws {
        self.errors = [:]
        self.inFlight = [:]
        self.all = 4
        if let plan = self.machine.spec.plan {
            var spec = self.machine.spec
            spec.plan = plan
            spec.plan?.webhooks = []
            self.send(.configured(spec))
        }
        switch self.machine.status.phase {
        case .progressing, .paused, .promoting:
            self.take(try self.machine.perform(.abort, at: self.moment))
        case .stable, .rolledBack, .rollingBack: break
        }
        for _ in 0..<400 {
            for name in Self.variants { self.ready[name] = 4 }
            self.now += 1
            self.see()
            self.send(.tick(self.observation()))
            if let good = self.machine.status.templateRollback {
                self.send(.templateChanged(good))
            }
            for worker in 0..<Self.workers {
                self.oracle.inUse[worker] = self.machine.status.traffic
            }
            self.send(.acknowledged(generation: self.machine.status.traffic.generation))
            // What was superseded starts its successor; that is aborted as well.
            if self.machine.status.phase == .paused || self.machine.status.phase == .progressing {
                self.take(try self.machine.perform(.abort, at: self.moment))
            }
        }
        let status = self.machine.status
        #expect(!status.isRunning, "\(self.place): \(status.phase) \(status.message)")
        #expect(status.traffic.weight(of: status.stable.name) == 100, "\(self.place)")
        #expect(status.retiring.isEmpty, "\(self.place): \(status.retiring)")
    }
}
