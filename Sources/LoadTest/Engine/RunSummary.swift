import TLS
import Workload

/// A finished run: what was counted, and what it comes to.
package struct RunSummary: Sendable {
    package var statistics: RunStatistics
    /// Requests in the order of their ends per thread, where they were kept.
    package var records: [RequestRecord] = []
    /// Names of the variants that `records` mention by number.
    package var recordVariants: [String] = [""]
    /// Gaps between outputs, in nanoseconds, one list per record, where they were kept.
    package var gaps: [[UInt64]] = []
    /// By the target's number: how often TLS was what failed, and how the first time.
    package var securityFailures: [Int: (failure: TLSFailure, count: UInt64)] = [:]
    /// Records that did not fit.
    package var recordsDropped: UInt64 = 0
    /// When the run began: seconds since 1970.
    package var startedAt = 0.0
    package var isOpenLoop = true
    package var wasInterrupted = false
    /// Nanoseconds of scheduling error, 99th percentile, that a valid run may have.
    package var lagMax = 10_000_000.0

    package init(statistics: RunStatistics) {
        self.statistics = statistics
    }

    /// Seconds that count.
    package var seconds: Double {
        let window = self.statistics.window
        let isCut = window.end == .max || self.wasInterrupted
        let end = isCut ? min(window.end, max(self.statistics.lastEnd, window.start)) : window.end
        return Double(end - window.start) / 1e9
    }

    private func perSecond(_ count: UInt64) -> Double {
        self.seconds > 0 ? Double(count) / self.seconds : 0
    }

    /// Requests scheduled per second.
    package var offeredRate: Double { self.perSecond(self.statistics.total + self.unsent) }
    /// Successful requests per second, by their end.
    package var rate: Double { self.perSecond(self.statistics.succeededInWindow) }
    /// Good requests per second.
    package var goodput: Double { self.perSecond(self.statistics.good) }
    package var outputTokenRate: Double { self.perSecond(self.statistics.outputTokensInWindow) }
    package var inputTokenRate: Double { self.perSecond(self.statistics.inputTokens) }
    package var failed: UInt64 { self.statistics.total - self.statistics.succeeded }
    private var unsent: UInt64 { self.statistics.dropped }

    /// 0 to 1.
    package var errorShare: Double {
        self.statistics.total == 0 ? 0 : Double(self.failed) / Double(self.statistics.total)
    }

    /// Share of requests that were good, 0 to 1.
    package var attainment: Double {
        self.statistics.total == 0
            ? 0 : Double(self.statistics.good) / Double(self.statistics.total)
    }

    /// Nanoseconds of scheduling error, 99th percentile. Below a hundred requests that would be the
    /// worst one; a single late request is forgiven there.
    package var lag: UInt64 {
        let count = Double(self.statistics.lag.count)
        return self.statistics.lag.quantile(count < 100 ? max(0, 1 - 1 / max(1, count)) : 0.99)
    }

    /// Why the figures must not be used; nil for a valid run.
    package var invalidity: String? {
        guard self.isOpenLoop else { return nil }
        if self.statistics.dropped > 0 {
            return "\(self.statistics.dropped) requests were never sent, because too many waited "
                + "for a connection: allow more connections or lower the rate"
        }
        if Double(self.lag) > self.lagMax {
            return
                "the generator itself was late by \(TimeText.short(nanoseconds: Double(self.lag)))"
                + " (p99), more than \(TimeText.short(nanoseconds: self.lagMax)): lower the rate, "
                + "use more --threads, or give it a free core"
        }
        return nil
    }
}

/// How a run is getting on.
package struct LoadProgress: Sendable, Equatable {
    /// Seconds since the start of the run.
    package var elapsed = 0.0
    package var started: UInt64 = 0
    package var ended: UInt64 = 0
    package var failed: UInt64 = 0
    /// Requests without an answer, those that wait for a connection with them.
    package var inFlight = 0
    /// Latencies of successful requests since the last report, in nanoseconds; nil without any.
    package var median: UInt64?
    package var high: UInt64?

    package init() {}
}
