import Core

/// llm-d's workload variant autoscaler, version 1: saturation in percent.
///
/// Source: llm-d/llm-d-workload-variant-autoscaler. Every 30 s, from the greatest value of the last
/// minute: one more when the spare cache or the spare queue room of unsaturated replicas is small,
/// one fewer when the others could carry the load; nothing while a change is under way. An HPA acts
/// on what it publishes.
package struct WVAV1: ReplicaPolicy {
    package static let period = 30.0
    package static let cacheSpare = 0.1
    package static let queueSpare = 3.0

    private let cacheThreshold: Double
    private let queueThreshold: Double
    private let bounds: ClosedRange<Int>
    private var actuator: HPAActuator
    private var recent: [(time: Double, cache: Double, queue: Double)] = []
    private var published: Int?
    private var next = 0.0

    package init(
        cacheThreshold: Double,
        queueThreshold: Double,
        bounds: ClosedRange<Int>,
        behavior: HPA.Behavior
    ) {
        self.cacheThreshold = cacheThreshold
        self.queueThreshold = queueThreshold
        self.bounds = bounds
        self.actuator = HPAActuator(bounds: bounds, behavior: behavior)
    }

    package var needsReplicas: Bool { true }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        if let replicas = seen.replicas, !replicas.isEmpty {
            let count = Double(replicas.count)
            let cache = replicas.reduce(0) { $0 + $1.cacheUse } / count
            let waiting = Double(replicas.reduce(0) { $0 + $1.waiting } + seen.queued) / count
            self.recent.append((seen.seconds, cache, waiting))
        }
        self.recent.removeAll { $0.time <= seen.seconds - 60 }
        if seen.seconds >= self.next {
            self.next = seen.seconds + Self.period
            self.decide(seen)
        }
        guard self.actuator.isDue(seen.seconds), let wanted = self.published else {
            return seen.desired
        }
        return self.actuator.apply(wanted, current: seen.desired, at: seen.seconds)
    }

    private mutating func decide(_ seen: Observation) {
        guard !self.recent.isEmpty, seen.ready > 0 else { return }
        // Transition blocking.
        if seen.ready != seen.desired { return }
        let cache = self.recent.reduce(0) { max($0, $1.cache) }
        let queue = self.recent.reduce(0) { max($0, $1.queue) }
        self.published =
            seen.ready
            + Self.step(
                cache: cache,
                queue: queue,
                replicas: seen.ready,
                cacheThreshold: self.cacheThreshold,
                queueThreshold: self.queueThreshold
            )
    }

    /// 1, 0 or -1.
    package static func step(
        cache: Double,
        queue: Double,
        replicas: Int,
        cacheThreshold: Double,
        queueThreshold: Double
    ) -> Int {
        let isSaturated = cache >= cacheThreshold || queue >= queueThreshold
        if isSaturated { return 1 }
        if cacheThreshold - cache < self.cacheSpare { return 1 }
        if queueThreshold - queue < self.queueSpare { return 1 }
        guard replicas >= 2 else { return 0 }
        let factor = Double(replicas) / Double(replicas - 1)
        let isSafe =
            cacheThreshold - cache * factor >= self.cacheSpare
            && queueThreshold - queue * factor >= self.queueSpare
        return isSafe ? -1 : 0
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}

/// llm-d's workload variant autoscaler, version 2: capacity in tokens.
///
/// Source: as above, the default since 0.9. Demand is what is in the caches and what waits, in
/// tokens; a replica's capacity is the smaller of 80 % of its cache and what was in use when it
/// queued. More when demand ÷ 0.85 exceeds what is there or coming, fewer when demand ÷ 0.70 leaves
/// whole replicas over. On replicas without a cache a slot is a token.
package struct WVA: ReplicaPolicy {
    package static let period = 30.0
    /// The boundary down in proportion to the threshold up: 0.70 to 0.85.
    package static let downShare = 0.70 / 0.85
    package static let cacheShare = 0.8
    package static let queueLimit = 5

    private let upThreshold: Double
    private var actuator: HPAActuator
    private let bounds: ClosedRange<Int>
    private var published: Int?
    private var next = 0.0
    private var observed: Double?
    private var perRequest = 1.0

    package init(upThreshold: Double, bounds: ClosedRange<Int>, behavior: HPA.Behavior) {
        self.upThreshold = upThreshold
        self.bounds = bounds
        self.actuator = HPAActuator(bounds: bounds, behavior: behavior)
    }

    package var needsReplicas: Bool { true }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        if seen.seconds >= self.next {
            self.next = seen.seconds + Self.period
            self.decide(seen)
        }
        guard self.actuator.isDue(seen.seconds), let wanted = self.published else {
            return seen.desired
        }
        return self.actuator.apply(wanted, current: seen.desired, at: seen.seconds)
    }

    private mutating func decide(_ seen: Observation) {
        guard let replicas = seen.replicas, !replicas.isEmpty else { return }
        var used = 0.0
        var queued = Double(seen.queued)
        var capacities: [Double] = []
        for replica in replicas {
            let tokens = Double(replica.cacheTokens)
            used += tokens
            queued += Double(replica.waiting)
            if replica.running > 0 {
                self.perRequest += 0.1 * (tokens / Double(replica.running) - self.perRequest)
            }
            if replica.waiting >= Self.queueLimit {
                self.observed = (self.observed ?? tokens) * 0.9 + tokens * 0.1
            }
            let memory = Double(replica.cacheCapacity) * Self.cacheShare
            capacities.append(min(memory, self.observed ?? memory))
        }
        capacities.sort()
        self.published = Self.replicas(
            demand: used + queued * max(1, self.perRequest),
            perReplica: capacities[capacities.count / 2],
            ready: seen.ready,
            coming: seen.starting + seen.pending,
            up: self.upThreshold
        )
    }

    /// - Parameter up: the use at which it scales up; 0.85.
    package static func replicas(
        demand: Double,
        perReplica: Double,
        ready: Int,
        coming: Int,
        up: Double
    ) -> Int {
        let supply = ready + coming
        guard perReplica > 0 else { return supply }
        let required = demand / up - Double(supply) * perReplica
        if required > 0 { return supply + Int((required / perReplica).rounded(.up)) }
        let spare = Double(ready) * perReplica - demand / (up * self.downShare)
        if spare > 0 { return max(1, supply - Int((spare / perReplica).rounded(.down))) }
        return supply
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}
