import Autoscaling
import Core

/// Weir's own policy in a world: the shipped `ModelAutoscaler`, `BudgetAllocator` and
/// `VictimChoice`, given each second what the control loop would give them.
package struct WeirController: WorldController {
    /// A model with its variants.
    private struct Family {
        /// Places in the world, the model's own first.
        var members: [Int]
        /// Without a rollout.
        var setup: ModelSetup
        var autoscaler: ModelAutoscaler
        /// Fractions of requests that are left over, by variant.
        var rests: [Double]
        /// What a rollout asked for last, by variant.
        var asked: [Asked]
    }

    private struct Asked: Equatable {
        var weight: Int?
        var floor = 0
    }

    private var families: [Family] = []
    private let models: [SimulatedModel]
    private let allocator: BudgetAllocator?
    private let epoch: Int64
    /// Whether a target asks what the servers say of themselves.
    private let needsServers: Bool
    /// The last decision of each model with its variants, for those who ask why.
    package private(set) var decisions: [ScalingDecision?]

    package var traits: ControllerTraits {
        var traits = ControllerTraits()
        traits.needsReplicas = self.needsServers
        traits.needsSamples = true
        traits.victims = .fewestStreams
        return traits
    }

    /// - Parameters:
    ///   - policies: one per model; that of a model is also that of its variants.
    ///   - quantile: of the objectives.
    ///   - epoch: seconds since 1970 at the start of the run, for schedules and seasons.
    package init(
        _ setup: WorldSetup,
        policies: [ScalingPolicy],
        quantile: Double = 0.99,
        epoch: Int64 = 1_767_571_200
    ) {
        self.epoch = epoch
        self.models = setup.models
        self.needsServers = policies.contains { policy in
            policy.targets.contains { goal in
                if case .kvCache = goal { true } else { false }
            }
        }
        self.allocator = setup.budget.map { BudgetAllocator(total: $0) }
        for (index, model) in setup.models.enumerated() where model.variantOf == nil {
            let members =
                [index] + setup.models.indices.filter { setup.models[$0].variantOf == index }
            let own = Self.setup(members, setup.models, policies[index], quantile)
            self.families.append(
                Family(
                    members: members,
                    setup: own,
                    autoscaler: ModelAutoscaler(own, at: .zero),
                    rests: members.map { _ in 0 },
                    asked: members.map { _ in Asked() }
                )
            )
        }
        self.decisions = self.families.map { _ in nil }
    }

    private static func setup(
        _ members: [Int],
        _ models: [SimulatedModel],
        _ policy: ScalingPolicy,
        _ quantile: Double
    ) -> ModelSetup {
        func objective(_ seconds: Double?) -> TimeObjective? {
            seconds.map { TimeObjective(quantile: quantile, below: .seconds($0)) }
        }
        let model = models[members[0]]
        let hasPool = members.dropFirst().contains { models[$0].isInterchangeable }
        let variants = members.map { index in
            let isPooled = hasPool && models[index].isInterchangeable
            return VariantSetup(
                name: models[index].variantOf == nil && members.count == 1
                    ? "replicas" : models[index].name,
                bounds: ScalingBounds(
                    minimum: isPooled && index == members[0]
                        ? models[index].replicasMinOwn : models[index].replicasMin,
                    maximum: models[index].replicasMax
                ),
                unitsPerReplica: models[index].gpusPerReplica,
                cost: models[index].cost,
                isServing: models[index].variantOf == nil || models[index].isInterchangeable,
                isInterchangeable: isPooled
            )
        }
        return ModelSetup(
            name: model.name,
            policy: policy,
            objectives: Objectives(
                latency: objective(model.objective.latency),
                timeToFirstToken: objective(model.objective.firstToken)
            ),
            variants: variants,
            pooledMinimum: hasPool ? model.replicasMinTogether ?? model.replicasMin : 0
        )
    }

    package mutating func tick(_ observations: [Observation], desired: inout [Int]) {
        guard let now = observations.first?.now else { return }
        var claims: [BudgetAllocator.Claim] = []
        claims.reserveCapacity(observations.count)
        for index in self.families.indices {
            self.followRollout(index, observations, at: now)
            self.observe(index, observations, at: now)
            let whole = self.families[index].members[0]
            let proposals = self.families[index].autoscaler.propose(
                at: now,
                wallClock: self.wallClock(observations[whole])
            )
            for (variant, place) in self.families[index].members.enumerated() {
                claims.append(
                    BudgetAllocator.Claim(
                        unitsPerReplica: self.models[place].gpusPerReplica,
                        minimum: proposals[variant].minimum,
                        wanted: proposals[variant].wanted,
                        held: observations[place].supply,
                        draining: observations[place].draining,
                        priority: self.models[whole].priority,
                        weight: self.models[whole].weight
                    )
                )
            }
        }
        let grants = self.allocator?.grants(for: claims)
        var first = 0
        for index in self.families.indices {
            let members = self.families[index].members
            let own = grants.map { $0[first..<(first + members.count)].map(Optional.some) }
            first += members.count
            let decision = self.families[index].autoscaler.conclude(grants: own ?? [], at: now)
            self.decisions[index] = decision
            for (variant, place) in members.enumerated() {
                if let count = decision.variants[variant].replicasToSet { desired[place] = count }
            }
        }
    }

    package mutating func wake(model: Int, _ seen: Observation, desired: inout [Int]) {
        guard let index = self.families.firstIndex(where: { $0.members[0] == model }) else {
            return
        }
        let served = self.families[index].asked.firstIndex { ($0.weight ?? 0) > 0 }
        let variant = self.families[index].autoscaler.starter ?? served ?? 0
        let place = self.families[index].members[variant]
        switch self.families[index].autoscaler.requestArrived(variant: variant, at: seen.now) {
        case .start(let count): desired[place] = max(desired[place], count)
        case .wait: break
        }
    }

    package func worth(of model: Int) -> Double? { self.decision(on: model)?.worth }

    package func recommended(for model: Int) -> Int? {
        self.decision(on: model).map { decision in
            decision.recommendations.reduce(0) { max($0, $1.replicas ?? 0) }
        }
    }

    private func decision(on model: Int) -> VariantDecision? {
        for (index, family) in self.families.enumerated() {
            guard let variant = family.members.firstIndex(of: model) else { continue }
            return self.decisions[index]?.variants[variant]
        }
        return nil
    }

    // MARK: Rollouts

    /// Takes over what a rollout asks for, as the control loop does.
    private mutating func followRollout(
        _ index: Int,
        _ observations: [Observation],
        at now: Instant
    ) {
        let members = self.families[index].members
        let asked = members.map { place in
            Asked(
                weight: observations[place].rolloutWeight,
                floor: observations[place].rolloutFloor
            )
        }
        if asked == self.families[index].asked { return }
        self.families[index].asked = asked
        var setup = self.families[index].setup
        for (variant, own) in asked.enumerated() {
            guard let weight = own.weight else { continue }
            // The pool serves as long as its first variant has a share.
            let isPooled = setup.variants[variant].isInterchangeable
            let share = isPooled ? asked[0].weight ?? 0 : weight
            setup.variants[variant].floor = own.floor
            setup.variants[variant].isServing = share > 0 || own.floor > 0
            if isPooled, share == 0 { setup.variants[variant].isInterchangeable = false }
            if share == 0, own.floor == 0 {
                setup.variants[variant].bounds = ScalingBounds(
                    minimum: 0,
                    maximum: setup.variants[variant].bounds.maximum
                )
            }
        }
        if setup.pooledMinimum > 0, (asked[0].weight ?? 100) == 0 { setup.pooledMinimum = 0 }
        self.families[index].autoscaler.reconfigure(setup, at: now)
    }

    // MARK: What is seen

    private mutating func observe(_ index: Int, _ observations: [Observation], at now: Instant) {
        let members = self.families[index].members
        let shares = self.shares(index, observations)
        let whole = observations[members[0]]
        for (variant, place) in members.enumerated() {
            var seen = observations[place]
            if members.count > 1 {
                let exact =
                    Double(whole.arrivals) * shares[variant]
                    + self.families[index].rests[variant]
                seen.arrivals = Int(exact)
                self.families[index].rests[variant] = exact - Double(seen.arrivals)
                seen.failures = Int(Double(whole.failures) * shares[variant])
                seen.queuedMean = whole.queuedMean * shares[variant]
                seen.queued = Int((Double(whole.queued) * shares[variant]).rounded(.up))
                seen.oldestWait = shares[variant] > 0 ? whole.oldestWait : 0
                seen.inputTokens = Int(Double(whole.inputTokens) * shares[variant])
            }
            self.families[index].autoscaler.observe(
                self.sample(seen, place),
                variant: variant,
                at: now
            )
        }
    }

    /// Who gets which part of what comes: as requests went in this second; where none went to
    /// anybody, by replicas; where nobody has one it is the business of whoever is to be started.
    private func shares(_ index: Int, _ observations: [Observation]) -> [Double] {
        let members = self.families[index].members
        if members.count == 1 { return [1] }
        let started = members.map { Double(observations[$0].started) }
        let sum = started.reduce(0, +)
        if sum > 0 { return started.map { $0 / sum } }
        let ready = members.indices.map { variant in
            let serves = self.families[index].autoscaler.setup.variants[variant].isServing
            return serves ? Double(observations[members[variant]].ready) : 0
        }
        let all = ready.reduce(0, +)
        if all > 0 { return ready.map { $0 / all } }
        let coming = members.indices.first { observations[members[$0]].startingAges.count > 0 }
        let served = self.families[index].asked.firstIndex { ($0.weight ?? 0) > 0 }
        let chosen = coming ?? self.families[index].autoscaler.starter ?? served ?? 0
        return members.indices.map { $0 == chosen ? 1 : 0 }
    }

    private func wallClock(_ seen: borrowing Observation) -> WallClock {
        WallClock(secondsSince1970: self.epoch + Int64(seen.seconds))
    }

    // MARK: Observations

    private func sample(_ seen: borrowing Observation, _ index: Int) -> VariantObservation {
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
            slotsPerReplica: self.models[index].concurrency.map(Double.init)
        )
    }

    private func counts(_ seen: borrowing Observation) -> ReplicaCounts {
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

    private func servers(_ seen: borrowing Observation) -> [ServerSample] {
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
