import Core

/// Kubernetes' HorizontalPodAutoscaler, version 2.
///
/// Source: kubernetes/kubernetes, pkg/controller/podautoscaler (replica_calculator.go,
/// horizontal.go) and pkg/apis/autoscaling/v2/defaults.go. Every 15 s: a ratio with a tolerance of
/// 0.1, missing metrics counted against the direction, then stabilisation, rate limits, bounds. The
/// metrics are as fresh as at the moment of the sync, which flatters it: Prometheus and its adapter
/// add up to a minute.
package struct HPA: ReplicaPolicy {
    package enum Metric: Sendable {
        /// In flight and queued; an external metric with an AverageValue.
        case load
        /// Queued in the gateway and in the servers; likewise.
        case queue
        /// Use of the KV cache, 0 to 1; a metric of the pods.
        case cache
    }

    /// `behavior` of the resource.
    package struct Behavior: Sendable {
        /// Seconds.
        package var upWindow = 0.0
        package var downWindow = 300.0
        /// Per 15 s: the larger of these many pods and this share of them may be added.
        package var upPods = 4
        package var upPercent = 100.0
        package var downPercent = 100.0

        package init(upWindow: Double = 0, downWindow: Double = 300) {
            self.upWindow = upWindow
            self.downWindow = downWindow
        }
    }

    package static let syncPeriod = 15.0
    package static let tolerance = 0.1

    private let metric: Metric
    private let target: Double
    private var actuator: HPAActuator
    private var desired: Int?

    package init(
        metric: Metric,
        target: Double,
        bounds: ClosedRange<Int>,
        behavior: Behavior = Behavior()
    ) {
        self.metric = metric
        self.target = target
        self.actuator = HPAActuator(bounds: bounds, behavior: behavior)
    }

    package var needsReplicas: Bool { self.metric != .load }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        guard self.actuator.isDue(seen.seconds) else { return seen.desired }
        let current = seen.desired
        guard let wanted = self.recommend(seen, current: current) else { return current }
        return self.actuator.apply(wanted, current: current, at: seen.seconds)
    }

    /// A request at zero replicas: an HPA does not go there.
    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }

    private func recommend(_ seen: Observation, current: Int) -> Int? {
        switch self.metric {
        case .load:
            return Self.external(
                total: seen.inFlightMean + seen.queuedMean,
                target: self.target,
                current: current
            )
        case .queue:
            guard let replicas = seen.replicas else { return nil }
            let waiting = replicas.reduce(0) { $0 + $1.waiting }
            return Self.external(
                total: Double(waiting) + seen.queuedMean,
                target: self.target,
                current: current
            )
        case .cache:
            guard let replicas = seen.replicas else { return nil }
            return Self.pods(
                values: replicas.map(\.cacheUse),
                unready: seen.starting + seen.pending,
                target: self.target,
                current: current
            )
        }
    }

    /// An external metric with an AverageValue.
    package static func external(total: Double, target: Double, current: Int) -> Int {
        if current == 0 { return Int((total / target).rounded(.up)) }
        let ratio = total / (target * Double(current))
        if (1 - ratio).magnitude <= self.tolerance { return current }
        return Int((total / target).rounded(.up))
    }

    /// A metric of the pods: unready ones count as idle on the way up.
    package static func pods(
        values: [Double],
        unready: Int,
        target: Double,
        current: Int
    ) -> Int? {
        guard !values.isEmpty else { return nil }
        let sum = values.reduce(0, +)
        let ratio = sum / Double(values.count) / target
        let isUp = ratio > 1
        if unready == 0 || !isUp {
            if (1 - ratio).magnitude <= self.tolerance { return current }
            return Int((ratio * Double(values.count)).rounded(.up))
        }
        let count = values.count + unready
        let again = sum / Double(count) / target
        if (1 - again).magnitude <= self.tolerance || again < 1 { return current }
        let wanted = Int((again * Double(count)).rounded(.up))
        return max(wanted, current)
    }
}

/// The part of an HPA behind its metric: when it looks, stabilisation, rate limits, bounds. KEDA
/// and the variant autoscaler of llm-d act through it as well.
package struct HPAActuator: Sendable {
    private let bounds: ClosedRange<Int>
    private let behavior: HPA.Behavior
    private var next = 0.0
    private var hasBegun = false
    private var recommendations: [(time: Double, count: Int)] = []
    /// Changes of the last 15 s.
    private var changes: [(time: Double, difference: Int)] = []

    package init(bounds: ClosedRange<Int>, behavior: HPA.Behavior) {
        self.bounds = bounds
        self.behavior = behavior
    }

    package mutating func isDue(_ seconds: Double) -> Bool {
        guard seconds >= self.next else { return false }
        self.next = seconds + HPA.syncPeriod
        return true
    }

    package mutating func apply(_ wanted: Int, current: Int, at seconds: Double) -> Int {
        let stable = self.stabilise(wanted, current: current, at: seconds)
        let limited = self.limit(stable, current: current, at: seconds)
        let result = min(max(limited, self.bounds.lowerBound), self.bounds.upperBound)
        if result != current { self.changes.append((seconds, result - current)) }
        return result
    }

    private mutating func stabilise(_ wanted: Int, current: Int, at seconds: Double) -> Int {
        let longest = max(self.behavior.upWindow, self.behavior.downWindow)
        // The first look counts what runs as recommended.
        if !self.hasBegun { self.recommendations.append((seconds, current)) }
        self.hasBegun = true
        self.recommendations.removeAll { $0.time <= seconds - longest }
        var up = wanted
        var down = wanted
        for entry in self.recommendations {
            if entry.time > seconds - self.behavior.upWindow { up = min(up, entry.count) }
            if entry.time > seconds - self.behavior.downWindow { down = max(down, entry.count) }
        }
        self.recommendations.append((seconds, wanted))
        // Up to the least of the window, down to the greatest of it.
        var result = current
        if result < up { result = up }
        if result > down { result = down }
        return result
    }

    private mutating func limit(_ wanted: Int, current: Int, at seconds: Double) -> Int {
        self.changes.removeAll { $0.time <= seconds - HPA.syncPeriod }
        if wanted > current {
            let added = self.changes.reduce(0) { $0 + max(0, $1.difference) }
            let start = current - added
            let byPercent = (Double(start) * (1 + self.behavior.upPercent / 100)).rounded(.up)
            return max(current, min(wanted, max(start + self.behavior.upPods, Int(byPercent))))
        }
        if wanted < current {
            let removed = self.changes.reduce(0) { $0 + max(0, -$1.difference) }
            let start = current + removed
            let least = Int(Double(start) * (1 - self.behavior.downPercent / 100))
            return min(current, max(wanted, least))
        }
        return wanted
    }
}
