/// Upper bounds of a metric's buckets, in seconds, without the last one (+Inf).
package struct HistogramBoundaries: Sendable {
    package let seconds: [Double]
    /// The same in nanoseconds, as `LatencyHistogram.cumulativeCounts` takes them.
    package let nanoseconds: [UInt64]
    /// The values of the label `le`.
    let labels: [String]

    /// - Parameter seconds: positive and rising.
    package init(seconds: [Double]) {
        precondition(!seconds.isEmpty, "a histogram needs a boundary")
        for (lower, upper) in zip(seconds, seconds.dropFirst()) {
            precondition(lower < upper, "boundaries must rise: \(upper) after \(lower)")
        }
        precondition(seconds[0] > 0, "a boundary of \(seconds[0])")
        self.seconds = seconds
        self.nanoseconds = seconds.map { UInt64(($0 * 1e9).rounded()) }
        self.labels = seconds.map { ExpositionWriter.text(of: $0) }
    }

    /// For requests, from 1 ms to 5 min: two to three boundaries per power of ten.
    package static let requests = HistogramBoundaries(seconds: [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
    ])
    /// For what the gateway adds, from 5 µs to 100 ms.
    package static let overhead = HistogramBoundaries(seconds: [
        0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.005, 0.01, 0.1,
    ])
    /// For the time between two tokens, from 1 ms to 2.5 s, finer where objectives usually lie.
    package static let tokens = HistogramBoundaries(seconds: [
        0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25,
        0.5, 1,
        2.5,
    ])
    /// For cold starts, from 100 ms to half an hour.
    package static let coldStarts = HistogramBoundaries(seconds: [
        0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1_800,
    ])
}
