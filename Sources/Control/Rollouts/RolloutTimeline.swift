import Core
import Rollouts

/// What a rollout looked like over time, for reports: points at even distances, and what happened.
///
/// Bounded whatever the rollout takes: when there are too many points, every other one goes and
/// they come half as often.
package struct RolloutTimeline: Sendable, Equatable, Codable {
    package static let pointsMax = 600
    package static let recordsMax = 200
    static let firstStride = 1_000

    package struct Point: Sendable, Equatable, Codable {
        /// Milliseconds since 1970.
        package var at: Int
        /// The new variant's, in percent.
        package var weight: Int
        package var stable: Arm
        package var canary: Arm
        /// In the order of `metrics`.
        package var values: [Value]
    }

    /// What an arm answered since the point before.
    package struct Arm: Sendable, Equatable, Codable {
        package var ready: Int
        package var requests: Int
        package var errors: Int
        /// Of good answers in seconds; nil where there were none.
        package var p50: Double?
        package var p95: Double?
    }

    package struct Value: Sendable, Equatable, Codable {
        package var evidence: Double
        package var stable: Double?
        package var canary: Double?
    }

    package struct Metric: Sendable, Equatable, Codable {
        package var name: String
        package var threshold: Double
    }

    package var model: String
    package var rollout: Int
    package var stable: VariantReference
    package var canary: VariantReference
    /// Milliseconds since 1970.
    package var startedAt: Int
    package private(set) var metrics: [Metric] = []
    package private(set) var points: [Point] = []
    package private(set) var records: [RolloutRecord] = []
    private var stride = Self.firstStride
    /// Since the last point.
    private var open = Open()

    private struct Open: Sendable, Equatable, Codable {
        var requests = [0, 0]
        var errors = [0, 0]
        var buckets: [[Int: Int]] = [[:], [:]]
    }

    package init(
        model: String,
        rollout: Int,
        stable: VariantReference,
        canary: VariantReference,
        at wall: Int
    ) {
        self.model = model
        self.rollout = rollout
        self.stable = stable
        self.canary = canary
        self.startedAt = wall
    }

    /// The last record of that kind.
    package func record(_ kinds: Set<RolloutRecord.Kind>) -> RolloutRecord? {
        self.records.last { kinds.contains($0.kind) }
    }

    mutating func append(_ record: RolloutRecord) {
        if self.records.count >= Self.recordsMax { self.records.remove(at: 1) }
        self.records.append(record)
    }

    /// Takes a tick in; `isDecision`: something was decided by it, so that it makes a point.
    mutating func add(
        _ observation: RolloutObservation,
        _ status: RolloutStatus,
        at wall: Int,
        isDecision: Bool = false
    ) {
        self.gather(0, observation.stable)
        self.gather(1, observation.canary)
        let last = self.points.last?.at ?? self.startedAt
        guard wall - last >= self.stride || self.points.isEmpty || isDecision else { return }
        if status.reports.map(\.name) != self.metrics.map(\.name) {
            self.metrics = status.reports.map { Metric(name: $0.name, threshold: $0.threshold) }
        }
        self.points.append(
            Point(
                at: wall,
                weight: status.traffic.weight(of: self.canary.name),
                stable: self.arm(0, observation.variants[self.stable.name]),
                canary: self.arm(1, observation.variants[self.canary.name]),
                values: status.reports.map {
                    Value(
                        evidence: $0.evidence.isFinite
                            ? $0.evidence : Double.greatestFiniteMagnitude,
                        stable: $0.stable,
                        canary: $0.canary
                    )
                }
            )
        )
        self.open = Open()
        if self.points.count > Self.pointsMax { self.thin() }
    }

    /// Joins neighbours.
    private mutating func thin() {
        self.stride *= 2
        var kept: [Point] = []
        for index in Swift.stride(from: 1, to: self.points.count, by: 2) {
            var point = self.points[index]
            let before = self.points[index - 1]
            point.stable.requests += before.stable.requests
            point.stable.errors += before.stable.errors
            point.canary.requests += before.canary.requests
            point.canary.errors += before.canary.errors
            kept.append(point)
        }
        // The newest has no neighbour yet, and may be what was decided by.
        if self.points.count % 2 == 1, let last = self.points.last { kept.append(last) }
        self.points = kept
    }

    private mutating func gather(_ arm: Int, _ sample: GuardrailSample) {
        self.open.requests[arm] += sample.requests
        self.open.errors[arm] += sample.errors
        for entry in sample.latency.entries {
            self.open.buckets[arm][Int(entry.bucket), default: 0] += Int(entry.count)
        }
    }

    private func arm(_ arm: Int, _ seen: VariantObservation?) -> Arm {
        Arm(
            ready: seen?.ready ?? 0,
            requests: self.open.requests[arm],
            errors: self.open.errors[arm],
            p50: self.quantile(arm, 0.5),
            p95: self.quantile(arm, 0.95)
        )
    }

    private func quantile(_ arm: Int, _ quantile: Double) -> Double? {
        let buckets = self.open.buckets[arm].sorted { $0.key < $1.key }
        let total = buckets.reduce(0) { $0 + $1.value }
        if total == 0 { return nil }
        let rank = max(1, Int((quantile * Double(total)).rounded(.up)))
        var seen = 0
        for (bucket, count) in buckets {
            seen += count
            guard seen >= rank else { continue }
            let bounds = LatencyHistogram.bounds(ofBucket: bucket)
            return Double(bounds.lowerBound + bounds.upperBound) / 2e9
        }
        return nil
    }
}
