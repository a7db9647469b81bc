import Autoscaling
import Core

/// Weir's own policy in a world: the shipped `ModelAutoscaler`, `BudgetAllocator` and
/// `VictimChoice`, given each second what the control loop would give them.
package struct WeirController: WorldController {
    private var autoscalers: [ModelAutoscaler]
    private let allocator: BudgetAllocator?
    private let priorities: [Int]
    private let weights: [Int]
    private let gpus: [Int]
    private let slots: [Double?]
    private let epoch: Int64
    /// Whether a target asks what the servers say of themselves.
    private let needsServers: Bool
    /// The last decision of each model, for those who ask why.
    package private(set) var decisions: [ScalingDecision?]

    package var traits: ControllerTraits {
        var traits = ControllerTraits()
        traits.needsReplicas = self.needsServers
        traits.needsSamples = true
        traits.victims = .fewestStreams
        return traits
    }

    /// - Parameters:
    ///   - policies: one per model.
    ///   - quantile: of the objectives.
    ///   - epoch: seconds since 1970 at the start of the run, for schedules and seasons.
    package init(
        _ setup: WorldSetup,
        policies: [ScalingPolicy],
        quantile: Double = 0.99,
        epoch: Int64 = 1_767_571_200
    ) {
        self.epoch = epoch
        self.needsServers = policies.contains { policy in
            policy.targets.contains { goal in
                if case .kvCache = goal { true } else { false }
            }
        }
        self.allocator = setup.budget.map { BudgetAllocator(total: $0) }
        self.priorities = setup.models.map(\.priority)
        self.weights = setup.models.map(\.weight)
        self.gpus = setup.models.map(\.gpusPerReplica)
        self.slots = setup.models.map { $0.concurrency.map(Double.init) }
        self.decisions = setup.models.map { _ in nil }
        self.autoscalers = zip(setup.models, policies).map { model, policy in
            ModelAutoscaler(Self.setup(model, policy, quantile), at: .zero)
        }
    }

    private static func setup(
        _ model: SimulatedModel,
        _ policy: ScalingPolicy,
        _ quantile: Double
    ) -> ModelSetup {
        func objective(_ seconds: Double?) -> TimeObjective? {
            seconds.map { TimeObjective(quantile: quantile, below: .seconds($0)) }
        }
        let variant = VariantSetup(
            name: "replicas",
            bounds: ScalingBounds(minimum: model.replicasMin, maximum: model.replicasMax),
            unitsPerReplica: model.gpusPerReplica
        )
        return ModelSetup(
            name: model.name,
            policy: policy,
            objectives: Objectives(
                latency: objective(model.objective.latency),
                timeToFirstToken: objective(model.objective.firstToken)
            ),
            variants: [variant]
        )
    }

    package mutating func tick(_ observations: [Observation], desired: inout [Int]) {
        guard let now = observations.first?.now else { return }
        var claims: [BudgetAllocator.Claim] = []
        for (index, seen) in observations.enumerated() {
            self.autoscalers[index].observe(self.sample(seen, index), variant: 0, at: now)
            let proposal = self.autoscalers[index].propose(at: now, wallClock: self.wallClock(seen))
            claims.append(
                BudgetAllocator.Claim(
                    unitsPerReplica: self.gpus[index],
                    minimum: proposal.first?.minimum ?? 0,
                    wanted: proposal.first?.wanted ?? 0,
                    held: seen.supply,
                    draining: seen.draining,
                    priority: self.priorities[index],
                    weight: self.weights[index]
                )
            )
        }
        let grants = self.allocator?.grants(for: claims)
        for index in observations.indices {
            let decision = self.autoscalers[index].conclude(
                grants: grants.map { [$0[index]] } ?? [],
                at: now
            )
            self.decisions[index] = decision
            if let count = decision.variants.first?.replicasToSet { desired[index] = count }
        }
    }

    package mutating func wake(model: Int, _ seen: Observation, desired: inout [Int]) {
        switch self.autoscalers[model].requestArrived(variant: 0, at: seen.now) {
        case .start(let count): desired[model] = max(desired[model], count)
        case .wait: break
        }
    }

    private func wallClock(_ seen: Observation) -> WallClock {
        WallClock(secondsSince1970: self.epoch + Int64(seen.seconds))
    }

    // MARK: Observations

    private func sample(_ seen: Observation, _ index: Int) -> VariantObservation {
        var gateway = GatewaySample()
        gateway.arrivals = seen.arrivals
        gateway.completions = seen.completions
        gateway.refused = seen.failures
        gateway.inFlightSeconds = seen.inFlightMean * seen.interval
        gateway.queuedSeconds = seen.queuedMean * seen.interval
        gateway.inFlight = seen.inFlight
        gateway.queued = seen.queued
        gateway.oldestQueuedSeconds = seen.oldestWait
        gateway.tokensIn = Double(seen.inputTokens)
        gateway.tokensOut = Double(seen.outputTokens)
        if let samples = seen.samples {
            gateway.queueWait = samples.wait
            gateway.latency = samples.latency
            gateway.timeToFirstToken = samples.firstToken
        }
        return VariantObservation(
            seconds: seen.interval,
            gateway: seen.isBlind ? nil : gateway,
            replicas: seen.isBlind ? nil : self.counts(seen),
            coldStartSeconds: seen.coldStarts,
            drainSeconds: seen.drains,
            servers: self.servers(seen),
            slotsPerReplica: self.slots[index]
        )
    }

    private func counts(_ seen: Observation) -> ReplicaCounts {
        var counts = ReplicaCounts(ready: seen.ready, startingAges: seen.startingAges)
        counts.draining = seen.draining
        counts.stuck = seen.stuck
        if seen.stuck > 0 {
            counts.obstacle = Obstacle(
                seen.isCrashLoop ? .crashLoop : .noCapacity,
                message: seen.isCrashLoop ? "it fails as it starts" : "no GPU is free"
            )
        }
        return counts
    }

    private func servers(_ seen: Observation) -> [ServerSample] {
        guard let replicas = seen.replicas else { return [] }
        return replicas.map { replica in
            ServerSample(
                running: Double(replica.running),
                waiting: Double(replica.waiting),
                kvCacheUse: replica.cacheUse
            )
        }
    }
}
