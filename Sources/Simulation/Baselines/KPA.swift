import Core

/// Means over the last seconds, one value per second.
struct SecondsWindow: Sendable {
    private var values: [Double]
    private var next = 0
    private(set) var count = 0

    init(seconds: Int) {
        self.values = Array(repeating: 0, count: max(1, seconds))
    }

    mutating func append(_ value: Double) {
        self.values[self.next] = value
        self.next = (self.next + 1) % self.values.count
        self.count = min(self.count + 1, self.values.count)
    }

    /// Of the last `seconds`, as far as there are so many; 0 where there are none.
    func mean(_ seconds: Int) -> Double {
        let count = min(seconds, self.count)
        if count == 0 { return 0 }
        var sum = 0.0
        var index = self.next
        for _ in 0..<count {
            index = index == 0 ? self.values.count - 1 : index - 1
            sum += self.values[index]
        }
        return sum / Double(count)
    }
}

/// Knative's pod autoscaler.
///
/// Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go, config/config.go and
/// kpa/scaler.go. Every 2 s: the means of concurrency over 60 s and over 6 s, each divided by the
/// target; when the short one wants twice of what is ready, panic: no way down for 60 s. Requests
/// that the activator holds count as concurrency.
package struct KPA: ReplicaPolicy {
    package static let tick = 2.0
    package static let panicShare = 0.1
    package static let panicThreshold = 2.0
    package static let maxUpRate = 1_000.0
    package static let maxDownRate = 2.0
    package static let grace = 30.0

    private let target: Double
    private let stableWindow: Int
    private let panicWindow: Int
    private let scaleDownDelay: Double
    private let bounds: ClosedRange<Int>
    private var window: SecondsWindow
    private var next = 0.0
    private var panicTime: Double?
    private var panicPods = 0
    private var delayed: [(time: Double, count: Int)] = []
    private var activeSince: Double? = 0
    private var inactiveSince: Double?

    /// - Parameter target: concurrency per replica, the utilisation applied.
    package init(
        target: Double,
        stableWindow: Int = 60,
        scaleDownDelay: Double = 0,
        bounds: ClosedRange<Int>
    ) {
        self.target = target
        self.stableWindow = stableWindow
        self.panicWindow = max(1, Int(Double(stableWindow) * Self.panicShare))
        self.scaleDownDelay = scaleDownDelay
        self.bounds = bounds
        self.window = SecondsWindow(seconds: stableWindow)
    }

    package var isPanicking: Bool { self.panicTime != nil }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        if seen.seconds > 0 { self.window.append(seen.inFlightMean + seen.queuedMean) }
        guard seen.seconds >= self.next else { return seen.desired }
        self.next = seen.seconds + Self.tick
        let scale = self.scale(seen)
        let held = self.holdAtOne(self.delay(scale, seen.seconds), seen.seconds)
        return min(max(held, self.bounds.lowerBound), self.bounds.upperBound)
    }

    package mutating func wake(_ seen: Observation) -> Int {
        self.activeSince = seen.seconds
        self.inactiveSince = nil
        return max(1, seen.desired)
    }

    private mutating func scale(_ seen: Observation) -> Int {
        let ready = Double(max(1, seen.ready))
        let maxUp = (Self.maxUpRate * ready).rounded(.up)
        let maxDown = (ready / Self.maxDownRate).rounded(.down)
        let stableWanted = (self.window.mean(self.stableWindow) / self.target).rounded(.up)
        let panicWanted = (self.window.mean(self.panicWindow) / self.target).rounded(.up)
        let stable = Int(min(max(stableWanted, maxDown), maxUp))
        let panic = Int(min(max(panicWanted, maxDown), maxUp))
        if panicWanted / ready >= Self.panicThreshold {
            self.panicTime = seen.seconds
        } else if let time = self.panicTime, seen.seconds > time + Double(self.stableWindow) {
            self.panicTime = nil
            self.panicPods = 0
        }
        guard self.panicTime != nil else { return stable }
        self.panicPods = max(self.panicPods, stable, panic)
        return self.panicPods
    }

    private mutating func delay(_ count: Int, _ seconds: Double) -> Int {
        if self.scaleDownDelay <= 0 { return count }
        self.delayed.removeAll { $0.time <= seconds - self.scaleDownDelay }
        self.delayed.append((seconds, count))
        return self.delayed.reduce(0) { max($0, $1.count) }
    }

    /// On the way to zero: one stays until the revision has been active for a stable window, and
    /// then while the activator takes over.
    private mutating func holdAtOne(_ count: Int, _ seconds: Double) -> Int {
        if count > 0 {
            self.activeSince = self.activeSince ?? seconds
            self.inactiveSince = nil
            return count
        }
        if let active = self.activeSince, seconds - active < Double(self.stableWindow) { return 1 }
        self.activeSince = nil
        let since = self.inactiveSince ?? seconds
        self.inactiveSince = since
        return seconds - since < Self.grace ? 1 : 0
    }
}
