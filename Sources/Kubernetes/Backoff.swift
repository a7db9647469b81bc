import Core

/// Waits between tries that fail, as client-go's reflector has them.
package struct BackoffPolicy: Sendable, Hashable {
    package var first = Duration.milliseconds(800)
    package var longest = Duration.seconds(30)
    package var factor = 2.0
    /// Up to this share of the wait is added at random, so that clients spread.
    package var jitter = 1.0
    /// After that long without a wait, the next one is the first again.
    package var resetAfter = Duration.seconds(120)

    package init() {}
}

/// The waits so far.
struct Backoff: Sendable {
    let policy: BackoffPolicy
    private var next: Duration
    private var lastUse: Instant?

    init(_ policy: BackoffPolicy) {
        self.policy = policy
        self.next = policy.first
    }

    mutating func delay(now: Instant, random: inout RandomSource) -> Duration {
        if let lastUse, now - lastUse > self.policy.resetAfter { self.next = self.policy.first }
        self.lastUse = now
        let base = self.next
        let longer = min(base.secondsAsDouble * self.policy.factor, 1e9)
        self.next = min(.seconds(longer), self.policy.longest)
        return base + .seconds(base.secondsAsDouble * self.policy.jitter * random.nextUnit())
    }

    mutating func reset() {
        self.next = self.policy.first
        self.lastUse = nil
    }
}
