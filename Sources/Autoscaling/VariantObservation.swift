import Core

/// What was measured about one variant since the tick before.
///
/// What is not known is nil or left out, never zero: a source that does not answer, a reading that
/// has grown old. Numbers that cannot be (negative, infinite, no number) are treated as unknown.
package struct VariantObservation: Sendable {
    /// The time the sample covers, in seconds; more than 0.
    package var seconds: Double
    /// Merged over gateways and workers. Nil: none answered.
    package var gateway: GatewaySample?
    /// Gateways that should have answered and did not: the sample is too low by their share.
    package var gatewaysMissing: Int
    /// Nil: the cluster does not answer.
    package var replicas: ReplicaCounts?
    /// Seconds from the decision to ready, of replicas that became ready since the tick before.
    package var coldStartSeconds: [Double]
    /// Seconds from draining to gone, of replicas that went since the tick before.
    package var drainSeconds: [Double]
    /// Scraped from model servers, at most one per ready replica. `ServerSample.ageSecondsMax`
    /// old ones count as missing.
    package var servers: [ServerSample]
    /// Mean use of the replicas' GPUs, 0 to 1.
    package var gpuUtilization: Reading?
    /// Results of the policy's metric goals, in their order; missing ones at the end are unknown.
    package var metrics: [Reading]
    /// Requests that one replica is given at a time, where the gateway limits them.
    package var slotsPerReplica: Double?

    package init(
        seconds: Double,
        gateway: GatewaySample? = nil,
        gatewaysMissing: Int = 0,
        replicas: ReplicaCounts? = nil,
        coldStartSeconds: [Double] = [],
        drainSeconds: [Double] = [],
        servers: [ServerSample] = [],
        gpuUtilization: Reading? = nil,
        metrics: [Reading] = [],
        slotsPerReplica: Double? = nil
    ) {
        self.seconds = seconds
        self.gateway = gateway
        self.gatewaysMissing = gatewaysMissing
        self.replicas = replicas
        self.coldStartSeconds = coldStartSeconds
        self.drainSeconds = drainSeconds
        self.servers = servers
        self.gpuUtilization = gpuUtilization
        self.metrics = metrics
        self.slotsPerReplica = slotsPerReplica
    }
}

/// What the gateway counted about one variant. Samples of several gateways or workers over the
/// same time are merged.
package struct GatewaySample: Sendable {
    /// Requests that came for the variant, those refused included.
    package var arrivals: Int
    /// Requests answered to the end.
    package var completions: Int
    /// Requests given up before an answer for want of capacity: queue full or its time over. They
    /// count as missed objectives.
    package var refused: Int
    /// Requests on replicas, as the integral over the tick: request-seconds.
    package var inFlightSeconds: Double
    /// Requests waiting, as the integral over the tick.
    package var queuedSeconds: Double
    /// On replicas now.
    package var inFlight: Int
    /// Waiting now.
    package var queued: Int
    /// How long the first in the queue has waited, in seconds; 0 where nobody waits.
    package var oldestQueuedSeconds: Double
    /// Of requests that left the queue since the tick before; 0 for those that did not wait.
    package var queueWait: TimeSample
    /// Of completed requests, from arrival.
    package var latency: TimeSample
    /// Of requests that got their first token, from arrival.
    package var timeToFirstToken: TimeSample
    package var tokensIn: Double
    package var tokensOut: Double

    package init(
        arrivals: Int = 0,
        completions: Int = 0,
        refused: Int = 0,
        inFlightSeconds: Double = 0,
        queuedSeconds: Double = 0,
        inFlight: Int = 0,
        queued: Int = 0,
        oldestQueuedSeconds: Double = 0,
        queueWait: TimeSample = TimeSample(),
        latency: TimeSample = TimeSample(),
        timeToFirstToken: TimeSample = TimeSample(),
        tokensIn: Double = 0,
        tokensOut: Double = 0
    ) {
        self.arrivals = arrivals
        self.completions = completions
        self.refused = refused
        self.inFlightSeconds = inFlightSeconds
        self.queuedSeconds = queuedSeconds
        self.inFlight = inFlight
        self.queued = queued
        self.oldestQueuedSeconds = oldestQueuedSeconds
        self.queueWait = queueWait
        self.latency = latency
        self.timeToFirstToken = timeToFirstToken
        self.tokensIn = tokensIn
        self.tokensOut = tokensOut
    }

    package mutating func merge(_ other: borrowing GatewaySample) {
        self.arrivals += other.arrivals
        self.completions += other.completions
        self.refused += other.refused
        self.inFlightSeconds += other.inFlightSeconds
        self.queuedSeconds += other.queuedSeconds
        self.inFlight += other.inFlight
        self.queued += other.queued
        self.oldestQueuedSeconds = max(self.oldestQueuedSeconds, other.oldestQueuedSeconds)
        self.queueWait.merge(other.queueWait)
        self.latency.merge(other.latency)
        self.timeToFirstToken.merge(other.timeToFirstToken)
        self.tokensIn += other.tokensIn
        self.tokensOut += other.tokensOut
    }
}

/// A variant's replicas by state.
package struct ReplicaCounts: Sendable, Hashable {
    /// Take requests.
    package var ready: Int
    /// Seconds since each starting replica was asked for; those that will not come excluded.
    package var startingAges: [Double]
    /// Finish their streams and then go; they still take units of a budget.
    package var draining: Int
    /// Asked for, and not coming for now.
    package var stuck: Int
    /// Why the stuck ones do not come; the worst where there are several reasons.
    package var obstacle: Obstacle?

    package init(
        ready: Int,
        startingAges: [Double] = [],
        draining: Int = 0,
        stuck: Int = 0,
        obstacle: Obstacle? = nil
    ) {
        self.ready = ready
        self.startingAges = startingAges
        self.draining = draining
        self.stuck = stuck
        self.obstacle = obstacle
    }

    package var starting: Int { self.startingAges.count }
    /// What takes room: all of them.
    package var total: Int { self.ready + self.starting + self.draining + self.stuck }
}

/// Why a replica will not come.
package struct Obstacle: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        /// Nowhere is room for it: no GPU left, no node.
        case noCapacity
        /// A quota of the cluster or the cloud refuses it.
        case quota
        /// Its image or command cannot be run.
        case imageError
        /// It starts and dies, again and again.
        case crashLoop
        /// It has not become ready within its start-up timeout.
        case startTimeout
    }

    package var kind: Kind
    /// What the cluster says, for people.
    package var message: String

    package init(_ kind: Kind, message: String = "") {
        self.kind = kind
        self.message = message
    }
}

/// What one model server said of itself. Everything may be unknown.
package struct ServerSample: Sendable, Hashable {
    /// Requests being worked on.
    package var running: Double?
    /// Requests waiting inside the server.
    package var waiting: Double?
    /// 0 to 1.
    package var kvCacheUse: Double?
    /// Share of prompt tokens found in the prefix cache, 0 to 1.
    package var prefixHitRate: Double?
    /// Since the server started.
    package var promptTokensTotal: Double?
    package var generatedTokensTotal: Double?
    /// Since it was read, in seconds.
    package var ageSeconds: Double

    /// Older samples are unknown.
    package static let ageSecondsMax: Double = 15

    package init(
        running: Double? = nil,
        waiting: Double? = nil,
        kvCacheUse: Double? = nil,
        prefixHitRate: Double? = nil,
        promptTokensTotal: Double? = nil,
        generatedTokensTotal: Double? = nil,
        ageSeconds: Double = 0
    ) {
        self.running = running
        self.waiting = waiting
        self.kvCacheUse = kvCacheUse
        self.prefixHitRate = prefixHitRate
        self.promptTokensTotal = promptTokensTotal
        self.generatedTokensTotal = generatedTokensTotal
        self.ageSeconds = ageSeconds
    }
}

/// A number from outside with its age.
package struct Reading: Sendable, Hashable {
    /// Nil: the source was asked and could not say.
    package var value: Double?
    package var ageSeconds: Double

    /// Older readings are unknown: three of Prometheus' usual scrapes.
    package static let ageSecondsMax: Double = 90

    package init(_ value: Double?, ageSeconds: Double = 0) {
        self.value = value
        self.ageSeconds = ageSeconds
    }

    /// The value where it is a number and fresh.
    var usable: Double? {
        guard let value = self.value, value.isFinite, value >= 0 else { return nil }
        return self.ageSeconds >= 0 && self.ageSeconds <= Self.ageSecondsMax ? value : nil
    }
}
