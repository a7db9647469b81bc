import Autoscaling
import Core

/// One replica as its own metrics describe it.
package struct ReplicaSample: Equatable, Sendable {
    /// Requests on it; those that its engine works on, and those that wait inside.
    package var inFlight: Int
    package var running: Int
    package var waiting: Int
    /// The share of its KV cache in use, and tokens in it.
    package var cacheUse: Double
    package var cacheTokens: Int
    package var cacheCapacity: Int
    /// Seconds since it became ready.
    package var age: Double

    package init(
        inFlight: Int,
        running: Int,
        waiting: Int,
        cacheUse: Double,
        cacheTokens: Int,
        cacheCapacity: Int,
        age: Double
    ) {
        self.inFlight = inFlight
        self.running = running
        self.waiting = waiting
        self.cacheUse = cacheUse
        self.cacheTokens = cacheTokens
        self.cacheCapacity = cacheCapacity
        self.age = age
    }
}

/// Times of the requests that left the queue, or ended, in one tick.
package struct TimeSamples: Sendable {
    package var wait = TimeSample(TimeHistogram(), within: 0)
    package var firstToken = TimeSample(TimeHistogram(), within: 0)
    package var latency = TimeSample(TimeHistogram(), within: 0)

    package init() {}
}

/// What a policy learns about a model in one tick: what a gateway counted since the last one, and
/// what is there. Nothing in it lies in the future.
package struct Observation: Sendable {
    package var now: Instant
    /// Seconds since the last tick.
    package var interval = 1.0
    package var arrivals = 0
    /// Requests that ended well, and those that did not.
    package var completions = 0
    package var failures = 0
    /// Tokens of the requests that arrived, and of the answers that ended.
    package var inputTokens = 0
    package var outputTokens = 0
    package var inFlight = 0
    package var queued = 0
    /// Means over the tick, weighted by time.
    package var inFlightMean = 0.0
    package var queuedMean = 0.0
    /// Seconds that requests which left the queue in the tick had waited: the sum and the longest;
    /// requests that did not wait count as 0.
    package var waitSum = 0.0
    package var waitMax = 0.0
    package var started = 0
    /// Seconds that the first in line has waited.
    package var oldestWait = 0.0
    /// Seconds from arrival to first token and end, of the requests that ended in the tick: sums.
    package var firstTokenSum = 0.0
    package var latencySum = 0.0
    /// Of the requests that ended in the tick, those within the objective.
    package var good = 0

    package var desired = 0
    package var ready = 0
    /// With GPUs, loading.
    package var starting = 0
    /// Without GPUs.
    package var pending = 0
    package var draining = 0
    /// Seconds that the oldest of those without GPUs has waited for them.
    package var pendingAge = 0.0
    /// Failed starts and crashes in the tick.
    package var failedStarts = 0
    package var crashes = 0
    /// Seconds of the starts that succeeded in the tick.
    package var coldStarts: [Double] = []

    /// What the ready replicas say of themselves; nil during an outage, and where the policy does
    /// not ask for it.
    package var replicas: [ReplicaSample]?
    /// Times of the requests of the tick; only where the policy asks for them.
    package var samples: TimeSamples?
    /// Seconds since each replica that is on its way was asked for; without those that will not
    /// come for now.
    package var startingAges: [Double] = []
    /// Those that will not come for now: without GPUs for long, or failing again and again.
    package var stuck = 0
    package var isCrashLoop = false
    /// Seconds from drain to gone, of the replicas that went in the tick.
    package var drains: [Double] = []
    /// By a rollout: the share of the model's requests in percent, nil where none runs, and how
    /// many replicas it needs whatever the load.
    package var rolloutWeight: Int?
    package var rolloutFloor = 0
    /// Whether nothing can be measured: what is here is what was known before.
    package var isBlind = false

    package init(now: Instant) {
        self.now = now
    }

    /// Ready, starting and pending.
    package var supply: Int { self.ready + self.starting + self.pending }
    package var seconds: Double { Double(self.now.nanoseconds) / 1e9 }
}

/// What a policy wants to see, and what its platform can do.
package struct ControllerTraits: Sendable {
    package enum Victims: Sendable {
        /// As `VictimChoice` says: those with the fewest streams first; draining ones come back
        /// before new ones are made.
        case fewestStreams
        /// The last one to become ready first, as a ReplicaSet does.
        case newest
    }

    package var needsReplicas = false
    package var needsSamples = false
    package var victims = Victims.newest

    package init() {}
}

/// Decides for all models of a world.
package protocol WorldController {
    var traits: ControllerTraits { get }
    /// Called every second. `desired` has one entry per model with what was wanted before, and
    /// takes what is wanted now.
    mutating func tick(_ observations: [Observation], desired: inout [Int])
    /// A request came for a model that has no replica and none under way.
    mutating func wake(model: Int, _ observations: Observation, desired: inout [Int])
    /// Requests per second that a replica of an interchangeable variant does within the objective;
    /// nil where nobody knows.
    func worth(of model: Int) -> Double?
    /// How many replicas its load alone asks for; nil: what the latest tick wanted.
    func recommended(for model: Int) -> Int?
}

extension WorldController {
    package func worth(of model: Int) -> Double? { nil }
    package func recommended(for model: Int) -> Int? { nil }
}

/// Decides for one model; what the baselines are.
package protocol ReplicaPolicy: Sendable {
    /// Called every second; it keeps its own slower rhythm itself. Returns what is wanted.
    mutating func desiredReplicas(_ observation: Observation) -> Int
    /// A request came, and there is no replica and none under way. Returns what is wanted.
    mutating func wake(_ observation: Observation) -> Int
    var needsReplicas: Bool { get }
}

extension ReplicaPolicy {
    package mutating func wake(_ observation: Observation) -> Int { observation.desired }
    package var needsReplicas: Bool { false }
}

/// A policy of its own for each model, as where each has its own autoscaler.
package struct PerModelController: WorldController {
    private var policies: [any ReplicaPolicy]
    package var traits: ControllerTraits

    package init(_ policies: [any ReplicaPolicy]) {
        self.policies = policies
        self.traits = ControllerTraits()
        self.traits.needsReplicas = policies.contains(where: \.needsReplicas)
    }

    package mutating func tick(_ observations: [Observation], desired: inout [Int]) {
        for index in observations.indices {
            if observations[index].isBlind { continue }
            desired[index] = self.policies[index].desiredReplicas(observations[index])
        }
    }

    package mutating func wake(model: Int, _ observation: Observation, desired: inout [Int]) {
        desired[model] = self.policies[model].wake(observation)
    }
}
