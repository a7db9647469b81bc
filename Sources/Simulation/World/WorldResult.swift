import Core

/// One point of a run's plots: means over its stretch of time.
package struct SeriesPoint: Equatable, Sendable {
    /// Seconds, at its beginning.
    package var time = 0.0
    package var ready = 0.0
    /// Replicas that hold GPUs.
    package var billed = 0.0
    package var desired = 0.0
    package var inFlight = 0.0
    package var queued = 0.0
    /// Arrivals per second, and how many of the requests that ended missed the objective.
    package var rate = 0.0
    package var missed = 0.0
    var ticks = 0.0
}

/// What a run showed of one model. Requests count that arrived after the warm-up.
///
/// What came and how it ended counts for the model, for its variants only what they served.
package struct ModelResult: Sendable {
    package var name = ""
    /// The place of the model that it is another variant of.
    package var variantOf: Int?
    /// Requests that its replicas ended.
    package var served: UInt64 = 0
    /// Answered with an error.
    package var failed: UInt64 = 0
    /// Replica-seconds times what one costs.
    package var costSeconds = 0.0
    package var arrivals: UInt64 = 0
    package var completed: UInt64 = 0
    /// Completed within the objective.
    package var good: UInt64 = 0
    /// Turned away by a full queue, or too long for the cache.
    package var rejected: UInt64 = 0
    package var timedOut: UInt64 = 0
    /// Lost to a crash after their first token.
    package var crashed: UInt64 = 0
    /// Cut off at the end of a drain.
    package var interrupted: UInt64 = 0
    package var firstTokens = LatencyHistogram()
    package var latencies = LatencyHistogram()
    package var waits = LatencyHistogram()
    package var gpuSeconds = 0.0
    package var replicaSeconds = 0.0
    package var starts = 0
    package var stops = 0
    package var takenBack = 0
    package var peak = 0
    /// Starts that a budget or a limit refused.
    package var refused = 0
    package var crashes = 0
    package var series: [SeriesPoint] = []

    /// The share of arrivals that were served within the objective; 1 where none arrived.
    package var attainment: Double {
        self.arrivals == 0 ? 1 : Double(self.good) / Double(self.arrivals)
    }

    /// Per hour of a replica's existence.
    package var startsPerReplicaHour: Double {
        self.replicaSeconds > 0 ? Double(self.starts) / self.replicaSeconds * 3_600 : 0
    }
}

/// Rules that no policy and no world may break, and how often they were.
package struct Violations: Equatable, Sendable {
    /// GPUs in use exceeded the budget.
    package var budget = 0
    /// The last replica that was ready was given up while requests waited or ran.
    package var lastReplica = 0
    /// A replica was ended with streams before its drain deadline.
    package var earlyKill = 0

    package var isEmpty: Bool { self == Violations() }
}

package struct WorldResult: Sendable {
    package var models: [ModelResult] = []
    package var violations = Violations()
    /// Seconds that count.
    package var measured = 0.0
    package var events: UInt64 = 0
    /// All that arrived, also while nothing counted.
    package var requests: UInt64 = 0
    /// Sums up every event in its order; equal runs have equal ones.
    package var digest: UInt64 = 0
    package var wasInterrupted = false
    /// What became of the rollout; nil: there was none.
    package var rollout: RolloutResult?

    /// Whether replicas of some variants cost more than those of others.
    package var hasCosts: Bool { self.models.contains { $0.variantOf != nil } }
    package var costSeconds: Double { self.models.reduce(0) { $0 + $1.costSeconds } }
    package var gpuSeconds: Double { self.models.reduce(0) { $0 + $1.gpuSeconds } }
    package var arrivals: UInt64 { self.models.reduce(0) { $0 + $1.arrivals } }
    package var good: UInt64 { self.models.reduce(0) { $0 + $1.good } }
    package var attainment: Double {
        self.arrivals == 0 ? 1 : Double(self.good) / Double(self.arrivals)
    }
    package var interrupted: UInt64 { self.models.reduce(0) { $0 + $1.interrupted } }
    package var starts: Int { self.models.reduce(0) { $0 + $1.starts } }
    package var startsPerReplicaHour: Double {
        let hours = self.models.reduce(0) { $0 + $1.replicaSeconds } / 3_600
        return hours > 0 ? Double(self.starts) / hours : 0
    }
}
