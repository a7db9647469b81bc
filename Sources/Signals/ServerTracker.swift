import Core

/// One server's readings over time: what two of them tell that one cannot.
///
/// A counter that fell means that the server has started anew; what it did in between is unknown
/// until the next reading.
package struct ServerTracker: Sendable {
    /// What happened between the last two readings. Everything may be unknown.
    package struct Rates: Sendable, Hashable {
        /// The seconds between them.
        package var seconds = 0.0
        package var promptTokensPerSecond: Double?
        package var generatedTokensPerSecond: Double?
        /// 0 to 1; nil where nothing was looked for in the cache.
        package var prefixHitRate: Double?
        /// Of requests that got their first token or were completed in between.
        package var timeToFirstToken: BucketHistogram?
        package var latency: BucketHistogram?

        package init() {}
    }

    package private(set) var latest: ServerMetrics?
    package private(set) var latestAt = Instant.zero
    package private(set) var rates: Rates?
    /// How often the server was seen to have started anew.
    package private(set) var restarts = 0

    package init() {}

    /// Takes a reading made at `now`. A reading of another kind of server begins anew.
    package mutating func take(_ metrics: ServerMetrics, at now: Instant) {
        defer {
            self.latest = metrics
            self.latestAt = now
        }
        let seconds = now.seconds(since: self.latestAt)
        self.rates = nil
        guard let before = self.latest, before.server == metrics.server, seconds > 0 else { return }
        if Self.hasRestarted(before, metrics) {
            self.restarts += 1
            return
        }
        self.rates = Self.rates(before, metrics, seconds)
    }

    /// The share of prompts found in the prefix cache: lately where that is known, else what the
    /// server works out itself, else since it started.
    package var prefixHitRate: Double? {
        guard let latest = self.latest else { return nil }
        if let recent = self.rates?.prefixHitRate ?? latest.prefixHitRate { return recent }
        guard let hits = latest.prefixHitsTotal, let queries = latest.prefixQueriesTotal,
            queries > 0, hits <= queries
        else { return nil }
        return hits / queries
    }

    private static func counters(_ metrics: ServerMetrics) -> [Double?] {
        [
            metrics.promptTokensTotal, metrics.generatedTokensTotal, metrics.prefixQueriesTotal,
            metrics.prefixHitsTotal, metrics.latency?.count, metrics.timeToFirstToken?.count,
        ]
    }

    private static func hasRestarted(_ before: ServerMetrics, _ after: ServerMetrics) -> Bool {
        zip(self.counters(before), self.counters(after)).contains { old, new in
            guard let old, let new else { return false }
            return new < old
        }
    }

    private static func rates(
        _ before: ServerMetrics,
        _ after: ServerMetrics,
        _ seconds: Double
    ) -> Rates {
        func increase(_ counter: KeyPath<ServerMetrics, Double?>) -> Double? {
            guard let old = before[keyPath: counter], let new = after[keyPath: counter] else {
                return nil
            }
            return new - old
        }
        var rates = Rates()
        rates.seconds = seconds
        rates.promptTokensPerSecond = increase(\.promptTokensTotal).map { $0 / seconds }
        rates.generatedTokensPerSecond = increase(\.generatedTokensTotal).map { $0 / seconds }
        if let hits = increase(\.prefixHitsTotal), let queries = increase(\.prefixQueriesTotal),
            queries > 0, hits <= queries
        {
            rates.prefixHitRate = hits / queries
        }
        if let old = before.timeToFirstToken {
            rates.timeToFirstToken = after.timeToFirstToken?.recorded(since: old)
        }
        if let old = before.latency { rates.latency = after.latency?.recorded(since: old) }
        return rates
    }
}
