import Core

/// From recommendations to a wanted number, one constraint after the other.
extension VariantState {
    /// - Parameter mix: this variant's part of a mix of interchangeable variants, in place of what
    ///   its own objective says.
    mutating func propose(
        _ setup: ModelSetup,
        _ index: Int,
        mix: VariantPart? = nil,
        wallClock: WallClock?,
        at now: Double
    ) -> Proposal {
        var variant = setup.variants[index]
        variant.bounds = ScalingBounds(
            minimum: max(variant.bounds.minimum, mix?.least ?? 0),
            maximum: variant.bounds.maximum
        )
        let previous = self.desired ?? self.live
        var pending = PendingDecision()
        defer { self.pending = pending }
        let context = self.context(setup.policy, wallClock: wallClock, at: now)
        pending.inputs = self.inputs(setup, context)
        self.isBursting = context.expected.method == .burst
        if self.isBlind(at: now) {
            pending.isBlind = true
            pending.wanted = previous
            pending.recommendations = [
                Recommendation(
                    source: .minimum,
                    replicas: nil,
                    reason: .unknown(.objective, silentSeconds: nil)
                )
            ]
            pending.constraints = [
                AppliedConstraint(kind: .blind, before: previous, after: previous)
            ]
            return self.proposal(variant, wanted: previous)
        }
        pending.recommendations = self.recommend(setup, context)
        if !variant.isServing, !self.demand.hasWork { self.retire(setup.policy, &pending) }
        var chain = ConstraintChain(0, previous: previous)
        if let mix { self.adopt(mix, setup.policy, &pending, &chain) }
        pending.inputs.capacityRate = self.capability.staffing?.rateAtObjective
        chain.begin(pending.recommendations.reduce(0) { max($0, $1.replicas ?? 0) })
        let isCovered = mix?.isCovered ?? false
        self.bound(&chain, variant, context, setup.policy, isCovered: isCovered)
        self.steady(&chain, setup.policy, context)
        self.protect(&chain, setup, pending.recommendations, context, mix)
        self.pace(&chain, setup.policy, variant, isCovered: isCovered, at: now)
        // Speed and stabilisation give way to the bounds: a raised minimum holds at once.
        chain.atLeast(variant.bounds.minimum, .minimum)
        pending.wanted = chain.value
        pending.constraints = chain.applied
        return self.proposal(variant, wanted: chain.value)
    }

    /// What a variant did that serves no more says nothing of what it is needed for.
    private func retire(_ policy: ScalingPolicy, _ pending: inout PendingDecision) {
        for (index, goal) in policy.targets.prefix(ScalingPolicy.targetsMax).enumerated()
        where goal.followsRequests && pending.recommendations[index].replicas != nil {
            pending.recommendations[index].replicas = 0
        }
    }

    /// Puts what the mix wants in place of what its own objective says.
    private func adopt(
        _ mix: VariantPart,
        _ policy: ScalingPolicy,
        _ pending: inout PendingDecision,
        _ chain: inout ConstraintChain
    ) {
        guard let own = policy.targets.firstIndex(of: .objective) else { return }
        if let replicas = mix.replicas {
            pending.recommendations[own].replicas = replicas
            pending.recommendations[own].reason = mix.reason
        }
        pending.worth = mix.worth
        pending.isCovered = mix.isCovered
        pending.trafficShare = mix.trafficShare
        guard let fallback = mix.fallback else { return }
        let count = mix.replicas ?? pending.recommendations[own].replicas ?? 0
        chain.applied.append(
            AppliedConstraint(
                kind: .fallback(from: fallback.from.variant, fallback.from.obstacle),
                before: fallback.before,
                after: max(count, mix.least)
            )
        )
    }

    private func proposal(_ variant: VariantSetup, wanted: Int) -> Proposal {
        Proposal(
            wanted: wanted,
            minimum: min(variant.bounds.minimum, wanted),
            held: self.live,
            draining: self.replicas?.draining ?? 0,
            unitsPerReplica: variant.unitsPerReplica
        )
    }

    /// Bounds, the floor, and whether zero is allowed.
    private func bound(
        _ chain: inout ConstraintChain,
        _ variant: VariantSetup,
        _ context: Context,
        _ policy: ScalingPolicy,
        isCovered: Bool
    ) {
        chain.atMost(variant.bounds.maximum, .maximum)
        if chain.value == 0 && variant.bounds.minimum == 0 && variant.bounds.maximum > 0
            && chain.previous > 0 && variant.isServing && !isCovered
        {
            if self.demand.hasWork {
                chain.atLeast(1, .workLeft)
            } else if let idle = policy.idleAfter {
                let needed = idle.secondsAsDouble
                let since = context.now - self.demand.busyAt
                if since < needed { chain.atLeast(1, .notIdle(seconds: since, needed: needed)) }
            } else {
                chain.atLeast(1, .zeroNotAllowed)
            }
        }
        chain.atLeast(variant.bounds.minimum, .minimum)
        chain.atLeast(min(variant.floor, variant.bounds.maximum), .floor)
    }

    /// Stabilisation: up by the smallest, down by the largest number of the time before.
    private mutating func steady(
        _ chain: inout ConstraintChain,
        _ policy: ScalingPolicy,
        _ context: Context
    ) {
        let now = context.now
        self.wantedLow.add(chain.value, atSeconds: now)
        self.wantedHigh.add(chain.value, atSeconds: now)
        if case .fixed(let duration) = policy.scaleUp.stabilization, chain.isRaise {
            let seconds = duration.secondsAsDouble
            let low = self.wantedLow.extreme(overSeconds: seconds, atSeconds: now) ?? chain.value
            chain.atMost(max(low, chain.previous), .stabilization(seconds: seconds))
        }
        // An idle model has waited for `idleAfter` already.
        guard chain.isLowering, !(chain.value == 0 && context.isIdle) else { return }
        let (seconds, kind) = self.holdTime(policy)
        let high = self.wantedHigh.extreme(overSeconds: seconds, atSeconds: now) ?? chain.value
        chain.atLeast(min(high, chain.previous), kind)
    }

    private func holdTime(_ policy: ScalingPolicy) -> (Double, AppliedConstraint.Kind) {
        switch policy.scaleDown.stabilization {
        case .off: return (0, .stabilization(seconds: 0))
        case .fixed(let duration):
            let seconds = duration.secondsAsDouble
            return (seconds, .stabilization(seconds: seconds))
        case .automatic:
            let seconds = self.hold.seconds(
                breakEven: self.breakEvenSeconds,
                share: self.rehearsal.holdShare
            )
            return (seconds, .breakEven(seconds: seconds))
        }
    }

    /// What keeps replicas: the others' load, work, unknowns.
    private func protect(
        _ chain: inout ConstraintChain,
        _ setup: ModelSetup,
        _ recommendations: [Recommendation],
        _ context: Context,
        _ mix: VariantPart?
    ) {
        guard chain.isLowering else { return }
        if let mix { chain.atLeast(min(mix.kept, chain.previous), .othersNotReady) }
        if !(mix?.isCovered ?? false) {
            self.consolidate(&chain, context)
            if self.demand.hasWork && chain.value == 0 { chain.atLeast(1, .workLeft) }
        }
        let full = max(
            setup.policy.stableWindow.secondsAsDouble,
            min(self.holdTime(setup.policy).0, self.breakEvenSeconds)
        )
        let left = max(self.startedAt, mix?.since ?? 0) + full - context.now
        if left > 0 { chain.atLeast(chain.previous, .warmingUp(secondsLeft: left)) }
        if self.isPartial(at: context.now) { chain.atLeast(chain.previous, .sourceOut(nil)) }
        for recommendation in recommendations {
            if case .unknown(let kind, _) = recommendation.reason, recommendation.replicas == nil {
                chain.atLeast(chain.previous, .sourceOut(kind))
            }
        }
    }

    /// Would the rest carry what is there now?
    private func consolidate(_ chain: inout ConstraintChain, _ context: Context) {
        let load = max(context.burst.load ?? 0, min(context.stable.load ?? 0, self.demand.work))
        var limits: Double?
        if let staffing = self.capability.staffing, !staffing.isOutOfReach {
            limits = staffing.loadAtObjective
        }
        if let slots = self.capability.slots { limits = min(limits ?? slots, slots) }
        guard let limit = limits, limit > 0, load > 0 else { return }
        let needed = (load / limit).replicasRoundedUp
        if chain.value < needed {
            let remaining = Double(max(1, chain.value))
            chain.atLeast(
                min(needed, chain.previous),
                .consolidation(load: load / remaining, limit: limit)
            )
        }
    }

    /// Changes per minute, and whether replicas come at all.
    private mutating func pace(
        _ chain: inout ConstraintChain,
        _ policy: ScalingPolicy,
        _ variant: VariantSetup,
        isCovered: Bool,
        at now: Double
    ) {
        if chain.isRaise {
            let perMinute = policy.scaleUp.maxPerMinute
            let steps = self.upLimit.allowed(
                chain.value - chain.previous,
                perMinute: perMinute,
                atSeconds: now
            )
            chain.atMost(chain.previous + steps, .rate(perMinute: perMinute))
        } else if chain.isLowering {
            let perMinute = policy.scaleDown.maxPerMinute
            let steps = self.downLimit.allowed(
                chain.previous - chain.value,
                perMinute: perMinute,
                atSeconds: now
            )
            chain.atLeast(chain.previous - steps, .rate(perMinute: perMinute))
        }
        let coming = self.coming
        guard let obstacle = self.supply.obstacle, chain.value > coming else { return }
        let limit = self.supply.limit(coming: coming, patience: self.patience, atSeconds: now)
        if let limit {
            let retry = self.supply.retrySeconds(atSeconds: now)
            // While work waits, the last replica asked for stays asked for: it is tried again where
            // it is, and taking it back would leave nobody to try.
            let last = chain.previous > 0 && self.demand.hasWork && !isCovered ? 1 : 0
            chain.atMost(
                max(limit, variant.bounds.minimum, last),
                .obstacle(obstacle, retrySeconds: retry)
            )
        }
    }

    // MARK: Conclusion

    mutating func conclude(_ setup: ModelSetup, _ index: Int, grant: Int?, at now: Double)
        -> VariantDecision
    {
        let previous = self.desired ?? self.live
        var chain = ConstraintChain(self.pending.wanted, previous: previous)
        chain.applied = self.pending.constraints
        if !self.pending.isBlind {
            self.note(grant: grant, of: chain.value, at: now)
            if let grant { chain.atMost(max(0, grant), .budget(granted: grant)) }
        }
        let asked = self.pending.recommendations.reduce(0) { max($0, $1.replicas ?? 0) }
        self.isLimited = chain.value < asked
        let outcome = self.settle(chain.value, previous: previous, at: now)
        var inputs = self.pending.inputs
        inputs.attainment = self.capability.attainment
        if self.capability.staffing != nil {
            // A mix follows no plan.
            let isPlanned = self.rehearsal.isReady && self.pending.worth == nil
            inputs.plan = isPlanned ? self.rehearsal.plan : nil
            inputs.correction = inputs.plan == nil ? self.capability.correction : nil
        }
        return VariantDecision(
            variant: setup.variants[index].name,
            inputs: inputs,
            recommendations: self.pending.recommendations,
            constraints: chain.applied,
            previous: previous,
            desired: chain.value,
            outcome: outcome,
            isDryRun: setup.policy.isDryRun,
            worth: self.pending.worth,
            isCovered: self.pending.isCovered,
            trafficShare: self.pending.trafficShare
        )
    }

    private mutating func settle(_ value: Int, previous: Int, at now: Double) -> DecisionOutcome {
        if self.pending.isBlind { return .hold }
        self.desired = value
        if value > previous {
            self.upLimit.take(value - previous)
            self.hold.raised(
                by: value - previous,
                breakEven: self.breakEvenSeconds,
                atSeconds: now
            )
            return .scaleUp
        }
        if value < previous {
            self.downLimit.take(previous - value)
            self.hold.lowered(by: previous - value, atSeconds: now)
            return .scaleDown
        }
        return .keep
    }

    private func inputs(_ setup: ModelSetup, _ context: Context) -> DecisionInputs {
        var inputs = DecisionInputs()
        inputs.ready = self.replicas?.ready
        inputs.starting = self.replicas?.starting
        inputs.draining = self.replicas?.draining
        inputs.stuck = self.replicas?.stuck
        if self.gatewayAt != nil {
            inputs.inFlight = Double(self.demand.inFlight)
            inputs.queued = Double(self.demand.queued)
            inputs.forecastRate = context.expected.rate
            inputs.forecastMethod = context.expected.method
        }
        inputs.arrivalRate = context.stable.rate
        inputs.burstRate = context.burst.rate
        inputs.forecastHorizonSeconds = self.horizonSeconds(setup.policy)
        inputs.coldStartSeconds = self.coldStart.seconds
        inputs.coldStartsMeasured = self.coldStart.count
        inputs.drainSeconds = self.drain.seconds
        return inputs
    }
}

/// A number on its way through the constraints, and those that changed it.
struct ConstraintChain {
    private(set) var value: Int
    let previous: Int
    var applied: [AppliedConstraint] = []

    init(_ value: Int, previous: Int) {
        self.value = value
        self.previous = previous
    }

    mutating func begin(_ value: Int) { self.value = value }

    var isRaise: Bool { self.value > self.previous }
    var isLowering: Bool { self.value < self.previous }

    mutating func atMost(_ limit: Int, _ kind: @autoclosure () -> AppliedConstraint.Kind) {
        if self.value > limit { self.set(limit, kind()) }
    }

    mutating func atLeast(_ limit: Int, _ kind: @autoclosure () -> AppliedConstraint.Kind) {
        if self.value < limit { self.set(limit, kind()) }
    }

    private mutating func set(_ value: Int, _ kind: AppliedConstraint.Kind) {
        self.applied.append(AppliedConstraint(kind: kind, before: self.value, after: value))
        self.value = value
    }
}
