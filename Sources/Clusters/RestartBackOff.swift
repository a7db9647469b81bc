import Core

/// How long to wait before a replica that ended is started again.
///
/// The first wait is `first`; each further failure in a row doubles it up to `longest`. A life of
/// `healthyAfter` after the first readiness wipes the slate. The kubelet goes from 10 s to 5 min
/// and resets after 10 min, which is for machines that others watch; somebody at a laptop waits for
/// it.
package struct RestartBackOff: Hashable, Sendable {
    package var first: Duration
    package var longest: Duration
    package var healthyAfter: Duration
    /// Failures in a row from which on the wait is called a crash loop.
    package var crashLoopAfter: Int

    package init(
        first: Duration = .milliseconds(500),
        longest: Duration = .seconds(60),
        healthyAfter: Duration = .seconds(60),
        crashLoopAfter: Int = 3
    ) {
        self.first = first
        self.longest = longest
        self.healthyAfter = healthyAfter
        self.crashLoopAfter = crashLoopAfter
    }

    /// The wait after `failures` failures in a row, from 1.
    package func delay(afterFailures failures: Int) -> Duration {
        var delay = self.first
        var remaining = failures - 1
        while remaining > 0, delay < self.longest {
            delay *= 2
            remaining -= 1
        }
        return min(delay, self.longest)
    }

    func validate(_ subject: String) throws(ClusterError) {
        guard self.first >= .milliseconds(1), self.longest >= self.first, self.crashLoopAfter >= 1
        else {
            throw ClusterError(
                "\(subject): the back-off must rise from at least 1ms, and a crash loop takes at "
                    + "least one failure"
            )
        }
    }
}
