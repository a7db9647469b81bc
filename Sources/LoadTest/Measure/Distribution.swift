import Histogram

/// Durations with three significant figures, from half a microsecond to an hour (HdrHistogram).
package struct Distribution: Sendable {
    private static let highest: UInt64 = 3_600_000_000_000
    private var histogram = Histogram<UInt64>(
        lowestDiscernibleValue: 1_000,
        highestTrackableValue: Self.highest,
        numberOfSignificantValueDigits: .three
    )
    /// Exact, so that the mean is.
    private var sum = 0.0
    private var squares = 0.0
    private var exactMaximum: UInt64 = 0
    private var exactMinimum = UInt64.max

    package init() {}

    /// Counts a duration; what is longer than an hour counts as an hour, but in `maximum` and
    /// `mean`.
    @inline(__always)
    package mutating func record(nanoseconds: UInt64) {
        self.histogram.record(min(nanoseconds, Self.highest))
        let value = Double(nanoseconds)
        self.sum += value
        self.squares += value * value
        if nanoseconds > self.exactMaximum { self.exactMaximum = nanoseconds }
        if nanoseconds < self.exactMinimum { self.exactMinimum = nanoseconds }
    }

    package mutating func merge(_ other: Distribution) {
        if other.count == 0 { return }
        self.histogram.add(other.histogram)
        self.sum += other.sum
        self.squares += other.squares
        self.exactMaximum = max(self.exactMaximum, other.exactMaximum)
        self.exactMinimum = min(self.exactMinimum, other.exactMinimum)
    }

    package var count: UInt64 { self.histogram.totalCount }

    /// Nanoseconds; 0 where nothing was recorded.
    package var mean: Double { self.count == 0 ? 0 : self.sum / Double(self.count) }
    package var minimum: UInt64 { self.count == 0 ? 0 : self.exactMinimum }
    package var maximum: UInt64 { self.exactMaximum }

    /// Nanoseconds; 0 where nothing was recorded.
    package var deviation: Double {
        guard self.count > 0 else { return 0 }
        return max(0, self.squares / Double(self.count) - self.mean * self.mean).squareRoot()
    }

    /// The nanoseconds that a share of the durations, 0 to 1, does not exceed; 0 where nothing was
    /// recorded.
    package func quantile(_ quantile: Double) -> UInt64 {
        precondition((0...1).contains(quantile), "a quantile of \(quantile)")
        if self.count == 0 { return 0 }
        let value = self.histogram.valueAtPercentile(quantile * 100)
        return min(max(value, self.exactMinimum), self.exactMaximum)
    }

    /// HdrHistogram's percentile spectrum in milliseconds, which `hdr-plot` and others read.
    package func percentileText() -> String {
        var text = ""
        self.histogram.outputPercentileDistribution(to: &text, outputValueUnitScalingRatio: 1e6)
        return text
    }

    /// Points of the quantile plot: ever closer to 1 by halves of what is left, four to a half.
    package func spectrum() -> [(quantile: Double, nanoseconds: UInt64)] {
        guard self.count > 0 else { return [] }
        var points: [(Double, UInt64)] = [(0, self.minimum)]
        var rest = 1.0
        while rest * Double(self.count) >= 1, points.count < 200 {
            for step in 1...4 {
                let quantile = 1 - rest * (1 - Double(step) / 8)
                points.append((quantile, self.quantile(quantile)))
            }
            rest /= 2
        }
        return points
    }
}
