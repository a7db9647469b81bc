import Core

/// One decision about one model, with everything that led to it.
///
/// Kept as numbers and enums; `explanation` and `append(toJSON:)` put it into words when somebody
/// asks.
package struct ScalingDecision: Sendable {
    package var model: String
    /// Counts the model's decisions from 1.
    package var number: UInt64
    package var at: Instant
    /// Seconds since 1970, where the shell gave it.
    package var wallSeconds: Int64?
    /// In the order of the model's setup.
    package var variants: [VariantDecision]

    package func variant(named name: String) -> VariantDecision? {
        self.variants.first { $0.variant == name }
    }
}

/// What was decided about one variant.
package struct VariantDecision: Sendable {
    package var variant: String
    package var inputs: DecisionInputs
    /// One for each target, and what else asked for replicas. Never empty.
    package var recommendations: [Recommendation]
    /// In the order in which they were applied.
    package var constraints: [AppliedConstraint]
    /// Wanted until now: what the previous decision said, or what runs after a restart.
    package var previous: Int
    /// Replicas wanted from now on. With `isDryRun` nobody acts on it.
    package var desired: Int
    package var outcome: DecisionOutcome
    package var isDryRun: Bool
    /// For interchangeable variants: requests per second that one replica holds the objective at;
    /// nil before anything is known.
    package var worth: Double?
    /// For interchangeable variants: whether others are ready to do all of its work.
    package var isCovered: Bool
    /// For interchangeable variants: the share of their requests it should get, 0 to 1.
    package var trafficShare: Double?

    /// What is to be written. Nil: leave the replicas as they are.
    package var replicasToSet: Int? {
        self.isDryRun || self.outcome == .hold ? nil : self.desired
    }
}

package enum DecisionOutcome: String, Sendable, CaseIterable {
    /// `desired` is what is wanted already; writing it again does no harm.
    case keep
    case scaleUp
    case scaleDown
    /// Too little is known: whatever runs is left as it is.
    case hold
}

/// The measurements a decision used. Nil is unknown.
package struct DecisionInputs: Sendable, Hashable {
    package var ready: Int?
    package var starting: Int?
    package var draining: Int?
    package var stuck: Int?
    package var inFlight: Double?
    package var queued: Double?
    /// Requests per second over the stable window.
    package var arrivalRate: Double?
    /// Requests per second over the burst window.
    package var burstRate: Double?
    /// Requests per second expected when a replica started now would be ready.
    package var forecastRate: Double?
    package var forecastHorizonSeconds: Double?
    package var forecastMethod: ForecastMethod?
    /// Requests per second that a replica can do at the objective, as learned.
    package var capacityRate: Double?
    /// The share of requests within the objectives, over the last minutes.
    package var attainment: Double?
    /// By what the forecast is multiplied, as more or fewer than asked for met the objectives.
    package var correction: Double?
    /// The plan that was chosen of all that were rehearsed; nil before enough is known.
    package var plan: RehearsedPlan?
    package var coldStartSeconds: Double
    /// The measured share of that, or nil where it is assumed.
    package var coldStartsMeasured: Int
    package var drainSeconds: Double

    init() {
        self.coldStartSeconds = 0
        self.coldStartsMeasured = 0
        self.drainSeconds = 0
    }
}

package enum ForecastMethod: String, Sendable, CaseIterable {
    /// The rate will be what it is.
    case persistence
    /// The rate goes on rising as it does.
    case slope
    /// The rate will be at least what it was at this time yesterday or a week ago.
    case seasonal
    /// A burst is going on; the rate will be that of the burst.
    case burst
}

/// A number of replicas and why.
package struct Recommendation: Sendable, Hashable {
    package enum Source: Sendable, Hashable {
        /// The policy's target with this index.
        case target(Int)
        /// A request waits and there is no replica.
        case waitingRequest
        /// The least there may be: `bounds.minimum` or the floor of a rollout.
        case minimum
    }

    package var source: Source
    /// Nil: cannot say, for `reason`.
    package var replicas: Int?
    package var reason: RecommendationReason
}

/// How a recommendation came about, with the numbers of its formula.
package enum RecommendationReason: Sendable, Hashable {
    /// `measured / target`, rounded up; `measured` is the sum over the replicas.
    case perReplica(ScalingGoalKind, measured: Double, target: Double)
    /// `ready · measured / target`, rounded up; `measured` is the mean of the replicas.
    case utilization(ScalingGoalKind, measured: Double, target: Double, ready: Int)
    /// Waits at the quantile against the limit, and the demand in replicas it comes to.
    case queueWait(seconds: Double, limit: Double, demand: Double)
    /// A forecast rate against the capacity of a replica learned at the objective.
    case objective(rate: Double, perReplica: Double, backlog: Double)
    /// Too little is known of the objective: a careful concurrency instead.
    case objectiveLearning(load: Double, target: Double, samples: Int)
    /// More replicas cannot help: even lightly loaded ones miss the objective.
    /// Fewer would do for what is expected: they are ready for what there was before.
    case objectiveStanding(rate: Double, readyFor: Double, perReplica: Double, backlog: Double)
    case objectiveOutOfReach(attainment: Double, rate: Double, perReplica: Double)
    /// This variant's part in the cheapest mix of interchangeable variants.
    case mix(demand: Double, perReplica: Double)
    /// The schedule is on, or will be by the time replicas are ready.
    case schedule(isAhead: Bool)
    case scheduleOff
    /// The source has said nothing usable for so long.
    case unknown(ScalingGoalKind, silentSeconds: Double?)
    case requestWaiting
    case minimum
}

/// What a number is about.
package enum ScalingGoalKind: String, Sendable, CaseIterable {
    case concurrency
    case queueWait
    case objective
    case requestRate
    case tokenRate
    case kvCache
    case gpuUtilization
    case metric
    case schedule
}

/// Something that changed a wanted number, or kept it from changing.
package struct AppliedConstraint: Sendable, Hashable {
    package var kind: Kind
    package var before: Int
    package var after: Int

    package enum Kind: Sendable, Hashable {
        case minimum
        case maximum
        /// A rollout needs so many.
        case floor
        /// Up: wanted for less than the time. Down: an earlier recommendation still counts.
        case stabilization(seconds: Double)
        /// As `stabilization`, with the time that a start takes to pay for itself.
        case breakEven(seconds: Double)
        /// Changes per minute are limited.
        case rate(perMinute: Int)
        /// The others could not carry the load: expected requests per remaining replica.
        case consolidation(load: Double, limit: Double)
        /// Others of the pool are to do its work, and not enough of them are ready.
        case othersNotReady
        /// Work is queued or in flight: the last replica stays.
        case workLeft
        /// Not idle for long enough.
        case notIdle(seconds: Double, needed: Double)
        /// `scaleToZero` is off.
        case zeroNotAllowed
        /// Windows are not full since the (re)start.
        case warmingUp(secondsLeft: Double)
        /// A source is silent: nothing is taken away.
        case sourceOut(ScalingGoalKind?)
        /// The budget has no more.
        case budget(granted: Int)
        /// Replicas asked for do not come; asking for more is pointless until the next try.
        case obstacle(Obstacle, retrySeconds: Double)
        /// Load of a variant that cannot grow is moved here; nil: a budget has no more for it.
        case fallback(from: String, Obstacle?)
        /// No samples from the gateway or the cluster.
        case blind
    }
}

/// The last decisions of a model, oldest first; a bounded ring.
///
/// A decision like the one before it only replaces it, so that the ring reaches far back.
package struct DecisionLog: Sendable {
    private var ring: [ScalingDecision] = []
    private var next = 0
    package let capacity: Int

    package static let defaultCapacity = 64

    package init(capacity: Int = Self.defaultCapacity) {
        precondition(capacity > 0, "a decision log of \(capacity)")
        self.capacity = capacity
    }

    /// The latest decision, changed or not.
    package private(set) var latest: ScalingDecision?

    package mutating func append(_ decision: ScalingDecision) {
        defer { self.latest = decision }
        if let latest = self.latest, decision.isLike(latest) { return }
        if self.ring.count < self.capacity {
            self.ring.append(decision)
        } else {
            self.ring[self.next] = decision
            self.next = (self.next + 1) % self.capacity
        }
    }

    /// The decisions that changed something, oldest first.
    package var changes: [ScalingDecision] {
        Array(self.ring[self.next...] + self.ring[..<self.next])
    }
}

extension ScalingDecision {
    /// Whether it says the same for the same kinds of reasons.
    func isLike(_ other: ScalingDecision) -> Bool {
        guard self.variants.count == other.variants.count else { return false }
        for (own, others) in zip(self.variants, other.variants) {
            guard own.desired == others.desired, own.outcome == others.outcome else { return false }
        }
        return true
    }
}
