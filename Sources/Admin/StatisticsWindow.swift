import Core
import Proxy

/// The last few things the workers told, for rates and quantiles of the recent past.
///
/// It is fed by those who ask: while nobody looks, nothing is kept up to date and nothing is due.
struct StatisticsWindow {
    /// How far back the recent past reaches.
    static let length = Duration.seconds(10)
    /// Samples come no closer than this; several dashboards share them.
    static let spacing = Duration.milliseconds(900)
    static let samplesMax = 16

    private var samples: [(at: Instant, statistics: GatewayStatistics)] = []

    /// The newest statistics, and what they are compared to.
    struct View {
        var current: GatewayStatistics
        /// Nil where there is nothing to compare to yet.
        var earlier: GatewayStatistics?
        /// The time between both; 0 without an earlier one.
        var seconds: Double
    }

    /// Takes in what the workers just told.
    mutating func add(_ statistics: GatewayStatistics, now: Instant) -> View {
        let limit = Self.length.nanosecondsClamped
        self.samples.removeAll { Int64(clamping: now.nanoseconds(since: $0.at)) > limit }
        let earlier = self.samples.first
        let isDue = self.samples.last.map { now - $0.at >= Self.spacing } ?? true
        if isDue {
            if self.samples.count >= Self.samplesMax { self.samples.removeFirst() }
            self.samples.append((now, statistics))
        }
        return View(
            current: statistics,
            earlier: earlier?.statistics,
            seconds: earlier.map { now.seconds(since: $0.at) } ?? 0
        )
    }
}

extension LatencyHistogram {
    /// What was recorded since `earlier`; everything where it was begun anew in between.
    func recent(since earlier: LatencyHistogram?) -> LatencyHistogram {
        guard let earlier, earlier.count <= self.count else { return self }
        return self.recorded(since: earlier)
    }
}
