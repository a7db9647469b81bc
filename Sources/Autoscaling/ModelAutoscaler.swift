import Core

/// Decides how many replicas each variant of one model has.
///
/// Once per tick the owner calls `observe` for every variant and then `decide`. Where models share a
/// budget, it calls `propose`, hands the proposals to `BudgetAllocator`, and then `conclude` with
/// what was granted; `decide` is the two in one. When a request arrives and its variant has no
/// replica, `requestArrived` says at once what to do.
package struct ModelAutoscaler: Sendable {
    package private(set) var setup: ModelSetup
    package private(set) var log: DecisionLog
    /// What `propose` found, until `conclude`.
    var states: [VariantState]
    private var decisions: UInt64 = 0
    let startedAt: Instant

    /// - Parameter at: when observing begins; nothing is taken away until windows are full.
    package init(
        _ setup: ModelSetup,
        at now: Instant,
        logCapacity: Int = DecisionLog.defaultCapacity
    ) {
        self.setup = setup
        self.startedAt = now
        self.log = DecisionLog(capacity: logCapacity)
        self.states = setup.variants.map { VariantState($0, setup, at: now) }
    }

    /// Takes a changed configuration. What was learned stays with variants of the same name.
    package mutating func reconfigure(_ setup: ModelSetup, at now: Instant) {
        let old = self.setup
        let states = self.states
        self.states = setup.variants.map { variant in
            if let index = old.variants.firstIndex(where: { $0.name == variant.name }) {
                return states[index]
            }
            return VariantState(variant, setup, at: now)
        }
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
        self.states[variant].observe(observation, at: now)
    }

    /// What every variant wants, all constraints but the budget's applied.
    package mutating func propose(at now: Instant, wallClock: WallClock? = nil) -> [Proposal] {
        self.states.indices.map { index in
            self.states[index].propose(self.setup, index, at: now)
        }
    }

    /// Decides within what a budget grants.
    /// - Parameter grants: the most replicas of each variant; nil where no budget limits it.
    package mutating func conclude(grants: [Int?] = [], at now: Instant) -> ScalingDecision {
        self.decisions += 1
        let variants = self.states.indices.map { index in
            let grant = grants.indices.contains(index) ? grants[index] : nil
            return self.states[index].conclude(self.setup, index, grant: grant, at: now)
        }
        let decision = ScalingDecision(
            model: self.setup.name,
            number: self.decisions,
            at: now,
            wallSeconds: nil,
            variants: variants
        )
        self.log.append(decision)
        return decision
    }

    /// `propose` and `conclude` for a model without a budget.
    package mutating func decide(at now: Instant, wallClock: WallClock? = nil) -> ScalingDecision {
        _ = self.propose(at: now, wallClock: wallClock)
        return self.conclude(at: now)
    }

    /// A request waits for a variant; call it where the variant has no replica ready or starting.
    package mutating func requestArrived(variant: Int, at now: Instant) -> OnRequestWithoutReplica {
        let bounds = self.setup.variants[variant].bounds
        return bounds.maximum > 0 ? .start(replicas: max(1, bounds.minimum)) : .wait
    }
}

/// What a variant wants before a budget has its say.
package struct Proposal: Sendable, Hashable {
    package var wanted: Int
    package var minimum: Int
}

package enum OnRequestWithoutReplica: Sendable, Hashable {
    /// Have so many replicas now, without waiting for the next tick.
    case start(replicas: Int)
    /// Replicas were asked for already, or cannot come for now.
    case wait
}
