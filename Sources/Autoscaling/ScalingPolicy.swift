import Core

/// How a model's number of replicas follows its load: what a `ScalingPolicy` resource says.
package struct ScalingPolicy: Sendable, Hashable {
    /// The largest recommendation wins. At most `targetsMax` are looked at.
    package var targets: [ScalingGoal]
    /// The time over which load is averaged in calm times; 1 s to 1 h.
    package var stableWindow: Duration
    /// The time over which a burst is looked for; 1 s to `stableWindow`.
    package var burstWindow: Duration
    /// How far ahead demand is forecast. `automatic`: the measured cold start.
    package var forecastHorizon: AutomaticDuration
    /// `automatic` stabilisation upwards is none at all.
    package var scaleUp: ScalingSpeed
    /// `automatic` stabilisation downwards is the break-even time of a start: cold start + drain.
    package var scaleDown: ScalingSpeed
    /// How long a model is idle before its last replica goes. Nil: it never does.
    package var idleAfter: Duration?
    /// Decide and explain, never act.
    package var isDryRun: Bool

    package static let targetsMax = 16

    /// The defaults of the resource, with `targets`.
    package init(
        targets: [ScalingGoal] = [.objective],
        stableWindow: Duration = .seconds(60),
        burstWindow: Duration = .seconds(6),
        forecastHorizon: AutomaticDuration = .automatic,
        scaleUp: ScalingSpeed = ScalingSpeed(stabilization: .fixed(.zero), maxPerMinute: 100),
        scaleDown: ScalingSpeed = ScalingSpeed(stabilization: .automatic, maxPerMinute: 10),
        idleAfter: Duration? = nil,
        isDryRun: Bool = false
    ) {
        self.targets = targets
        self.stableWindow = stableWindow
        self.burstWindow = burstWindow
        self.forecastHorizon = forecastHorizon
        self.scaleUp = scaleUp
        self.scaleDown = scaleDown
        self.idleAfter = idleAfter
        self.isDryRun = isDryRun
    }
}

/// One reason to want a number of replicas.
package enum ScalingGoal: Sendable, Hashable {
    /// Requests in flight and queued, per replica; more than 0.
    case concurrency(Double)
    /// The time requests wait in the queue, at a quantile (0 to 1).
    case queueWait(quantile: Double, below: Duration)
    /// The model's objectives, with a capacity learned online.
    case objective
    /// Requests per second and replica; more than 0.
    case requestRate(Double)
    /// Tokens, in and out, per second and replica; more than 0.
    case tokenRate(Double)
    /// Use of the KV cache, as a share (0 to 1).
    case kvCache(Double)
    /// Use of the GPUs, as a share (0 to 1).
    case gpuUtilization(Double)
    /// The result of a PromQL query, per replica. `VariantObservation.metrics` carries the readings
    /// in the order in which metric goals stand in `targets`; `name` is for people.
    case metric(name: String, value: Double)
    /// A number of replicas for a time after each match of `cron`.
    case schedule(CronExpression, duration: Duration, replicas: Int)

    package var kind: ScalingGoalKind {
        switch self {
        case .concurrency: .concurrency
        case .queueWait: .queueWait
        case .objective: .objective
        case .requestRate: .requestRate
        case .tokenRate: .tokenRate
        case .kvCache: .kvCache
        case .gpuUtilization: .gpuUtilization
        case .metric: .metric
        case .schedule: .schedule
        }
    }
}

/// A duration that may be left to Weir.
package enum AutomaticDuration: Sendable, Hashable {
    case automatic
    case fixed(Duration)
    case off
}

/// How fast replicas are added or taken away.
package struct ScalingSpeed: Sendable, Hashable {
    /// How long a change must have been wanted. `off` is the same as no time.
    package var stabilization: AutomaticDuration
    /// Replicas per minute, at least 1; the first change of a quiet minute may be that large.
    package var maxPerMinute: Int

    package init(stabilization: AutomaticDuration, maxPerMinute: Int) {
        self.stabilization = stabilization
        self.maxPerMinute = maxPerMinute
    }
}

/// The numbers of replicas a variant may have.
package struct ScalingBounds: Sendable, Hashable {
    package var minimum: Int
    /// At least `minimum`, else `minimum` holds.
    package var maximum: Int

    package static let replicasMax = 100_000

    package init(minimum: Int, maximum: Int) {
        self.minimum = min(max(0, minimum), Self.replicasMax)
        self.maximum = min(max(self.minimum, maximum), Self.replicasMax)
    }

    func clamp(_ count: Int) -> Int { min(max(count, self.minimum), self.maximum) }
}

/// A quantile (between 0 and 1) of some times that must lie below a limit.
package struct TimeObjective: Sendable, Hashable {
    package var quantile: Double
    package var limit: Duration

    package init(quantile: Double, below limit: Duration) {
        self.quantile = min(max(quantile, 0), 1)
        self.limit = limit
    }
}

/// What good service means.
package struct Objectives: Sendable, Hashable {
    /// From a request's arrival, the queue included, to its last byte.
    package var latency: TimeObjective?
    /// From a request's arrival, the queue included, to its first token.
    package var timeToFirstToken: TimeObjective?

    package init(latency: TimeObjective? = nil, timeToFirstToken: TimeObjective? = nil) {
        self.latency = latency
        self.timeToFirstToken = timeToFirstToken
    }

    package var isEmpty: Bool { self.latency == nil && self.timeToFirstToken == nil }
}

/// What is to be known about a variant before it runs.
package struct VariantSetup: Sendable, Hashable {
    package var name: String
    package var bounds: ScalingBounds
    /// Units of the budget's resource that one replica takes, such as GPUs. At least 1.
    package var unitsPerReplica: Int
    /// What a replica costs in proportion to the other variants' replicas; more than 0.
    package var cost: Double
    /// What a cold start is taken for until one was measured.
    package var assumedColdStart: Duration
    /// What a drain is taken for until one was measured.
    package var assumedDrain: Duration
    /// Fewer than this are never wanted, whatever the load: what a rollout needs. Bounded by
    /// `bounds.maximum`; unlike `bounds.minimum` it does not keep an idle model from zero forever.
    package var floor: Int
    /// Whether it gets any of the model's requests. One that does not is left at its minimum.
    package var isServing: Bool
    /// Whether it can do any request that the others of which this is true can do (a small and a
    /// big GPU): they are sized together, and the cheapest mix serves.
    package var isInterchangeable: Bool

    package init(
        name: String,
        bounds: ScalingBounds,
        unitsPerReplica: Int = 1,
        cost: Double = 1,
        assumedColdStart: Duration = .seconds(60),
        assumedDrain: Duration = .seconds(30),
        floor: Int = 0,
        isServing: Bool = true,
        isInterchangeable: Bool = false
    ) {
        self.name = name
        self.bounds = bounds
        self.unitsPerReplica = max(1, unitsPerReplica)
        self.cost = cost > 0 && cost.isFinite ? cost : 1
        self.assumedColdStart = assumedColdStart
        self.assumedDrain = assumedDrain
        self.floor = floor
        self.isServing = isServing
        self.isInterchangeable = isInterchangeable
    }
}

/// Everything given about a model; changes when its resources do.
package struct ModelSetup: Sendable, Hashable {
    package var name: String
    package var policy: ScalingPolicy
    package var objectives: Objectives
    /// At least one, at most `variantsMax`; observations and decisions use the same order.
    package var variants: [VariantSetup]
    /// Replicas that interchangeable variants have together at least; at least 0.
    package var pooledMinimum: Int

    package static let variantsMax = 16

    package init(
        name: String,
        policy: ScalingPolicy,
        objectives: Objectives = Objectives(),
        variants: [VariantSetup],
        pooledMinimum: Int = 0
    ) {
        precondition(!variants.isEmpty, "model \(name) has no variant")
        precondition(
            variants.count <= Self.variantsMax,
            "model \(name) has \(variants.count) variants, at most \(Self.variantsMax) are allowed"
        )
        self.name = name
        self.policy = policy
        self.objectives = objectives
        self.variants = variants
        self.pooledMinimum = max(0, pooledMinimum)
    }

    /// Whether several variants share one demand. Any other gets what the weights give it, and is
    /// sized by itself.
    package var isInterchangeable: Bool { self.variants.count(where: \.isInterchangeable) > 1 }
}
