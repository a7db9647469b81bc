import Core

/// Ray Serve's autoscaling of a deployment.
///
/// Source: ray-project/ray, python/ray/serve/autoscaling_policy.py and its guide. Ongoing requests,
/// averaged over 30 s and pushed every 10 s, against a target per replica; a change must have been
/// wanted for 30 s upwards and 600 s downwards in a row. From none to one at once.
package struct RayServe: ReplicaPolicy {
    package static let lookBack = 30
    package static let push = 10.0

    private let target: Double
    private let upDelay: Double
    private let downDelay: Double
    private let bounds: ClosedRange<Int>
    private var window = SecondsWindow(seconds: RayServe.lookBack)
    private var reported = 0.0
    private var nextPush = 0.0
    /// Seconds that one direction has been wanted; below zero for down.
    private var streak = 0.0

    package init(target: Double, upDelay: Double, downDelay: Double, bounds: ClosedRange<Int>) {
        self.target = target
        self.upDelay = upDelay
        self.downDelay = downDelay
        self.bounds = bounds
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        if seen.seconds > 0 { self.window.append(seen.inFlightMean + seen.queuedMean) }
        if seen.seconds >= self.nextPush {
            self.nextPush = seen.seconds + Self.push
            self.reported = self.window.mean(Self.lookBack)
        }
        let current = seen.desired
        if current == 0 { return self.reported > 0 ? max(1, self.bounds.lowerBound) : 0 }
        let wanted = min(
            max(Int((self.reported / self.target).rounded(.up)), self.bounds.lowerBound),
            self.bounds.upperBound
        )
        if wanted > current {
            self.streak = max(0, self.streak) + 1
            if self.streak > self.upDelay { return self.decide(wanted) }
        } else if wanted < current {
            self.streak = min(0, self.streak) - 1
            // The last one goes only by itself.
            if -self.streak > self.downDelay {
                return self.decide(current > 1 ? max(1, wanted) : 0)
            }
        } else {
            self.streak = 0
        }
        return current
    }

    private mutating func decide(_ count: Int) -> Int {
        self.streak = 0
        return max(count, self.bounds.lowerBound)
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}
