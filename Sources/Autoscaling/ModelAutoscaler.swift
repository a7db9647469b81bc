import Core

/// Decides how many replicas each variant of one model has.
///
/// Once per tick the owner calls `observe` for every variant and then `decide`. Where models share
/// a budget, it calls `propose`, hands the proposals to `BudgetAllocator`, and then `conclude` with
/// what was granted; `decide` is the two in one. When a request arrives and its variant has no
/// replica, `requestArrived` says at once what to do.
package struct ModelAutoscaler: Sendable {
    package private(set) var setup: ModelSetup
    package private(set) var log: DecisionLog
    var states: [VariantState]
    /// The load of all variants together, where they are interchangeable.
    var pool: Demand?
    /// When that began to be measured.
    private(set) var pooledSince = 0.0
    /// The rate that the pool was last looked at for, and what a replica of each of the variants
    /// does of it; kept while the forecast stands.
    var rated: (rate: Double, each: [Double], at: Double)?
    /// What the variants' gateways have said since the latest decision.
    private var pooled: (sample: GatewaySample, seconds: Double)?
    private var decisions: UInt64 = 0
    private var wallSeconds: Int64?

    /// - Parameter at: when observing begins; nothing is taken away until windows are full.
    package init(
        _ setup: ModelSetup,
        at now: Instant,
        logCapacity: Int = DecisionLog.defaultCapacity
    ) {
        self.setup = setup
        self.log = DecisionLog(capacity: logCapacity)
        self.states = setup.variants.map { VariantState($0, setup, at: now) }
        self.beginPool(setup, at: now)
    }

    private mutating func beginPool(_ setup: ModelSetup, at now: Instant) {
        guard setup.isInterchangeable else {
            self.pool = nil
            return
        }
        guard self.pool == nil else { return }
        self.pooledSince = now.seconds(since: .zero)
        self.pool = Demand(setup.policy, atSeconds: self.pooledSince)
    }

    /// Takes a changed configuration. What was learned stays with variants of the same name.
    package mutating func reconfigure(_ setup: ModelSetup, at now: Instant) {
        if setup == self.setup { return }
        let old = self.setup
        let states = self.states
        self.rated = nil
        self.states = setup.variants.map { variant in
            guard let index = old.variants.firstIndex(where: { $0.name == variant.name }),
                old.objectives == setup.objectives,
                old.policy.stableWindow == setup.policy.stableWindow,
                old.policy.burstWindow == setup.policy.burstWindow
            else { return VariantState(variant, setup, at: now) }
            var state = states[index]
            if old.policy != setup.policy { state.adopt(setup) }
            return state
        }
        self.beginPool(setup, at: now)
        self.setup = setup
    }

    /// Takes in what was measured about the variant with index `variant` up to `now`.
    package mutating func observe(
        _ observation: borrowing VariantObservation,
        variant: Int,
        at now: Instant
    ) {
        precondition(
            self.states.indices.contains(variant),
            "variant \(variant) of \(self.states.count)"
        )
        self.states[variant].observe(observation, self.setup, at: now.seconds(since: .zero))
        guard self.pool != nil, self.setup.variants[variant].isInterchangeable,
            let gateway = observation.gateway
        else { return }
        var pooled = self.pooled ?? (GatewaySample(), 0)
        pooled.sample.merge(gateway)
        pooled.seconds = max(pooled.seconds, observation.seconds.sane)
        self.pooled = pooled
    }

    /// Hands what was said of the variants to the demand they share.
    private mutating func pool(at now: Double) {
        guard let pooled = self.pooled, pooled.seconds > 0 else { return }
        self.pooled = nil
        let policy = self.setup.policy
        let ready = self.members.reduce(0) { $0 + (self.states[$1].replicas?.ready ?? 0) }
        let horizon = self.pooledHorizon(policy) ?? 0
        _ = self.pool?.add(
            pooled.sample,
            seconds: pooled.seconds,
            ready: Double(ready),
            horizonSeconds: horizon,
            atSeconds: now
        )
    }

    /// What every variant wants, all constraints but the budget's applied.
    package mutating func propose(at now: Instant, wallClock: WallClock? = nil) -> [Proposal] {
        self.wallSeconds = wallClock?.secondsSince1970
        let seconds = now.seconds(since: .zero)
        self.pool(at: seconds)
        let mix = self.planMix(at: seconds)
        var proposals: [Proposal] = []
        proposals.reserveCapacity(self.states.count)
        for index in self.states.indices {
            proposals.append(
                self.states[index].propose(
                    self.setup,
                    index,
                    mix: mix[index],
                    wallClock: wallClock,
                    at: seconds
                )
            )
        }
        return proposals
    }

    /// Decides within what a budget grants.
    /// - Parameter grants: the most replicas of each variant; nil where no budget limits it.
    package mutating func conclude(grants: [Int?] = [], at now: Instant) -> ScalingDecision {
        self.decisions += 1
        let seconds = now.seconds(since: .zero)
        var variants: [VariantDecision] = []
        variants.reserveCapacity(self.states.count)
        for index in self.states.indices {
            let grant = grants.indices.contains(index) ? grants[index] : nil
            variants.append(
                self.states[index].conclude(self.setup, index, grant: grant, at: seconds)
            )
        }
        let decision = ScalingDecision(
            model: self.setup.name,
            number: self.decisions,
            at: now,
            wallSeconds: self.wallSeconds,
            variants: variants
        )
        self.log.append(decision)
        return decision
    }

    /// Counts a decision that was not made, as the one before it stands.
    mutating func skipDecision() { self.decisions += 1 }

    /// `propose` and `conclude` for a model without a budget.
    package mutating func decide(at now: Instant, wallClock: WallClock? = nil) -> ScalingDecision {
        _ = self.propose(at: now, wallClock: wallClock)
        return self.conclude(at: now)
    }

    /// A request waits for a variant that has no replica ready or starting.
    /// - Parameter grant: the most replicas a budget allows; nil where none limits it.
    package mutating func requestArrived(variant: Int, grant: Int? = nil, at now: Instant)
        -> OnRequestWithoutReplica
    {
        let seconds = now.seconds(since: .zero)
        self.states[variant].demand.wake(atSeconds: seconds)
        let wanted = self.states[variant].wake(
            self.setup.variants[variant],
            grant: grant,
            at: seconds
        )
        return wanted.map { .start(replicas: $0) } ?? .wait
    }
}

/// What a variant wants before a budget has its say.
package struct Proposal: Sendable, Hashable {
    package var wanted: Int
    package var minimum: Int
    /// Ready, starting or stuck.
    package var held: Int
    package var draining: Int
    package var unitsPerReplica: Int
}

package enum OnRequestWithoutReplica: Sendable, Hashable {
    /// Have so many replicas now, without waiting for the next tick.
    case start(replicas: Int)
    /// Replicas were asked for already, or cannot come for now.
    case wait
}

extension VariantState {
    /// Nil: asked for already, or pointless.
    mutating func wake(_ variant: VariantSetup, grant: Int?, at now: Double) -> Int? {
        guard (self.desired ?? self.live) == 0 else { return nil }
        let most = min(variant.bounds.maximum, grant ?? .max)
        guard most > 0 else { return nil }
        if self.supply.isBlocked {
            let limit = self.supply.limit(coming: 0, patience: self.patience, atSeconds: now)
            guard (limit ?? 1) > 0 else { return nil }
        }
        let count = min(most, max(1, variant.bounds.minimum, variant.floor))
        self.hold.raised(by: count, breakEven: self.breakEvenSeconds, atSeconds: now)
        self.wantedHigh.add(count, atSeconds: now)
        self.desired = count
        return count
    }
}
