import Core

/// How many calls go out: a token bucket.
package struct RequestLimits: Sendable, Hashable {
    /// Calls per second in the long run.
    package var perSecond = 40.0
    /// Calls at once after a pause.
    package var burst = 80.0
    /// Calls that wait for their turn; the next one fails.
    package var waitingMax = 4_096

    package init() {}
}

/// The bucket: a value that is told the time.
struct TokenBucket: Sendable {
    let perSecond: Double
    let burst: Double
    private var tokens: Double
    private var updated: Instant

    init(perSecond: Double, burst: Double, now: Instant) {
        precondition(perSecond > 0 && burst >= 1, "a bucket that never gives anything")
        self.perSecond = perSecond
        self.burst = burst
        self.tokens = burst
        self.updated = now
    }

    /// Takes a token; where there is none, how long until there is.
    mutating func take(now: Instant) -> Duration? {
        self.tokens = min(
            self.burst,
            self.tokens + now.seconds(since: self.updated) * self.perSecond
        )
        self.updated = max(self.updated, now)
        if self.tokens >= 1 {
            self.tokens -= 1
            return nil
        }
        // Rounded up: a timer that is early would find nothing.
        let wait = (1 - self.tokens) / self.perSecond
        return .nanoseconds(Int64(min(wait, 1e6) * 1e9) + 1)
    }

    /// Whether no token is missing.
    func isFull(now: Instant) -> Bool {
        self.tokens + now.seconds(since: self.updated) * self.perSecond >= self.burst
    }
}
