import Core

/// When one target is asked next.
struct PollSchedule: Sendable {
    let period: Duration
    let jitter: Double
    let backOffMax: Duration
    /// Failures since the last success.
    private(set) var failures = 0

    init(period: Duration, options: PollOptions) {
        precondition(period > .zero, "a period of \(period)")
        precondition((0...1).contains(options.jitter), "a jitter of \(options.jitter)")
        self.period = period
        self.jitter = options.jitter
        self.backOffMax = max(options.backOffMax, period)
    }

    /// Until the first question: anywhere within a period, so that targets that came together are
    /// not asked together.
    func firstDelay(_ random: inout RandomSource) -> Duration {
        self.period * random.nextUnit()
    }

    mutating func succeeded() { self.failures = 0 }

    mutating func failed() { self.failures = min(self.failures + 1, 64) }

    /// From the beginning of one question to that of the next.
    func delay(_ random: inout RandomSource) -> Duration {
        var delay = self.period
        for _ in 0..<max(0, self.failures - 1) where delay < self.backOffMax {
            delay = min(delay * 2, self.backOffMax)
        }
        return delay * (1 + self.jitter * (2 * random.nextUnit() - 1))
    }
}
