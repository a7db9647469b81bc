import Core
import Foundation

@testable import Rollouts

/// A machine in a small world that obeys it: replicas come when they are demanded, gateways
/// acknowledge, clients send a hundred requests a second. Tests turn parts of that off.
struct Rig {
    var machine: RolloutMachine
    /// Ready replicas by variant.
    var ready: [String: Int]
    var inFlight: [String: Int] = [:]
    /// Replicas that all requests need.
    var all = 4
    var obeysDemands = true
    var acknowledges = true
    /// Errors per hundred requests.
    var errors: [String: Int] = [:]
    var requests = 100
    var consecutiveErrors = 0
    var readyOfOldRevision: [String: Int] = [:]
    var pairs = PairCounts()
    /// What webhooks answer; nil: nothing.
    var answer: WebhookAnswer? = .accepted
    var measurement: CustomMetric.Result?

    private(set) var log: [RolloutAction] = []
    private(set) var seconds = 0
    private(set) var demands: [CapacityDemand] = []

    static let variants = ["v1", "v2", "v3", "v4"]

    init(
        _ plan: RolloutPlan?,
        variants: [String] = Rig.variants,
        revision: String = ""
    ) throws {
        let references = variants.map { VariantReference($0, revision: revision) }
        self.machine = try RolloutMachine(
            RolloutSpec(live: "v1", variants: references, plan: plan)
        )
        self.ready = ["v1": 4]
        self.tick()
    }

    var status: RolloutStatus { self.machine.status }
    var phase: RolloutStatus.Phase { self.machine.status.phase }

    func weight(_ variant: String) -> Int { self.machine.status.traffic.weight(of: variant) }

    func kinds() -> [RolloutRecord.Kind] {
        self.log.compactMap { if case .record(let record) = $0 { record.kind } else { nil } }
    }

    func calls() -> [WebhookCall] {
        self.log.compactMap { if case .callWebhook(let call) = $0 { call } else { nil } }
    }

    func demand(_ variant: String) -> CapacityDemand? {
        self.demands.first { $0.variant == variant }
    }

    var moment: RolloutMoment {
        let nanoseconds = UInt64(self.seconds + 1_000) * 1_000_000_000
        return RolloutMoment(
            instant: Instant(nanoseconds: nanoseconds),
            wall: self.seconds * 1_000
        )
    }

    mutating func live(_ variant: String) {
        var spec = self.machine.spec
        spec.live = spec.variant(named: variant) ?? VariantReference(variant)
        self.send(.configured(spec))
    }

    mutating func command(_ command: RolloutCommand) throws {
        self.take(try self.machine.perform(command, at: self.moment))
    }

    mutating func send(_ event: RolloutEvent) {
        self.take(self.machine.handle(event, at: self.moment))
    }

    mutating func tick(_ count: Int = 1) {
        for _ in 0..<count {
            self.seconds += 1
            self.send(.tick(self.observation()))
            if self.acknowledges { self.acknowledge() }
        }
    }

    mutating func acknowledge() {
        self.send(.acknowledged(generation: self.machine.status.traffic.generation))
    }

    /// Ticks until the condition holds; at most `limit` times.
    mutating func tick(limit: Int = 2_000, until condition: (Rig) -> Bool) -> Bool {
        for _ in 0..<limit {
            if condition(self) { return true }
            self.tick()
        }
        return condition(self)
    }

    /// A new controller with nothing but the spec and the stored status, through JSON.
    mutating func crash() throws {
        let data = try JSONEncoder().encode(self.machine.status)
        let status = try JSONDecoder().decode(RolloutStatus.self, from: data)
        self.machine = try RolloutMachine(self.machine.spec, resuming: status)
    }

    private mutating func take(_ actions: [RolloutAction]) {
        self.log += actions
        for action in actions {
            switch action {
            case .setCapacity(let demands): self.obey(demands)
            case .callWebhook(let call):
                if let answer = self.answer {
                    self.send(.webhookAnswered(call: call.id, answer))
                }
            case .measure(let metric, let number):
                if let result = self.measurement {
                    self.send(.measured(metric: metric, number: number, result))
                }
            case .setTraffic, .record, .rollBackTemplate: break
            }
        }
    }

    private mutating func obey(_ demands: [CapacityDemand]) {
        self.demands = demands
        guard self.obeysDemands else { return }
        for demand in demands {
            let wanted = max((self.all * demand.share + 99) / 100, demand.replicasMin)
            self.ready[demand.variant] = max(self.ready[demand.variant] ?? 0, wanted)
        }
    }

    private func observation() -> RolloutObservation {
        var variants: [String: VariantObservation] = [:]
        for variant in self.machine.spec.variants {
            var seen = VariantObservation(
                ready: self.ready[variant.name] ?? 0,
                replicasForAll: self.all,
                inFlight: self.inFlight[variant.name] ?? 0
            )
            seen.readyOfOldRevision = self.readyOfOldRevision[variant.name] ?? 0
            variants[variant.name] = seen
        }
        var observation = RolloutObservation(variants: variants)
        observation.pairs = self.pairs
        let traffic = self.machine.status.traffic
        let canary = self.machine.status.canary?.name ?? ""
        for weight in traffic.weights {
            let arm: Arm = weight.variant == canary ? .canary : .stable
            self.sample(arm, weight.variant, weight.percent, traffic.generation, &observation)
        }
        observation.canary.consecutiveErrors = self.consecutiveErrors
        return observation
    }

    private func sample(
        _ arm: Arm,
        _ variant: String,
        _ percent: Int,
        _ generation: Int,
        _ observation: inout RolloutObservation
    ) {
        let count = self.requests * percent / 100
        guard count > 0 else { return }
        let errors = count * (self.errors[variant] ?? 0) / 100
        var sample = ArmSample(
            arm: arm,
            replica: "\(variant)-0",
            generation: generation,
            requests: count
        )
        sample[.error] = errors
        observation.samples.append(sample)
        var guardrail = GuardrailSample()
        guardrail.requests = count
        guardrail.errors = errors
        switch arm {
        case .canary: observation.canary = guardrail
        case .stable: observation.stable = guardrail
        }
    }
}

extension RolloutPlan {
    /// Two shares and the end.
    static var simple: RolloutPlan {
        RolloutPlan(steps: [
            .weight(25, hold: .seconds(60)), .weight(50, hold: .seconds(60)),
        ])
    }
}
