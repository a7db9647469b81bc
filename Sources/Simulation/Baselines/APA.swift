import Core

/// AIBrix's APA.
///
/// Source: vllm-project/aibrix, pkg/controller/podautoscaler/algorithm/apa.go and context.go. Use
/// per pod against a target with a tolerance of 0.1 either way, at most doubled and at most halved
/// at a time; upwards at once, downwards the greatest recommendation of the last 300 s. It looks
/// every 10 s and counts ready pods alone, as before its pending guard.
package struct APA: ReplicaPolicy {
    package static let period = 10.0
    package static let tolerance = 0.1
    package static let rate = 2.0

    private let target: Double
    private let downCooldown: Double
    private let bounds: ClosedRange<Int>
    private var next = 0.0
    private var recent: [(time: Double, count: Int)] = []

    package init(target: Double, downCooldown: Double, bounds: ClosedRange<Int>) {
        self.target = target
        self.downCooldown = downCooldown
        self.bounds = bounds
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        guard seen.seconds >= self.next else { return seen.desired }
        self.next = seen.seconds + Self.period
        let pods = max(1, seen.ready)
        let wanted = Self.recommend(
            perPod: (seen.inFlightMean + seen.queuedMean) / Double(pods),
            target: self.target,
            pods: pods
        )
        self.recent.removeAll { $0.time <= seen.seconds - self.downCooldown }
        self.recent.append((seen.seconds, wanted))
        let held = self.recent.reduce(wanted) { max($0, $1.count) }
        let result = wanted > seen.desired ? wanted : min(seen.desired, held)
        return min(max(result, self.bounds.lowerBound), self.bounds.upperBound)
    }

    package static func recommend(perPod: Double, target: Double, pods: Int) -> Int {
        let ratio = perPod / target
        let count = Double(pods)
        let scaled = (count * ratio).rounded(.up)
        if ratio > 1 + self.tolerance { return Int(min(scaled, (self.rate * count).rounded(.up))) }
        if ratio < 1 - self.tolerance {
            return Int(max(scaled, (count / self.rate).rounded(.down)))
        }
        return pods
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}
