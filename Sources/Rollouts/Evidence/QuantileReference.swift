import Core

/// Where the stable arm's quantile has been lately, per stratum: from there on a request is slow.
///
/// What is compared in a tick is the share of slow requests, and where "slow" begins may be chosen
/// freely from what was seen before: a wrong place costs power, never validity.
package struct QuantileReference: Sendable {
    private struct Window: Sendable {
        var current = Distribution()
        var previous = Distribution()
        var age = 0.0

        mutating func pass(seconds: Double) {
            self.age += max(seconds, 0)
            let isFull = self.age >= windowSeconds && self.current.total >= windowValues
            guard isFull || self.age >= windowSecondsMax else { return }
            swap(&self.current, &self.previous)
            self.current.removeAll()
            self.age = 0
        }
    }

    private var strata = Array(repeating: Window(), count: PromptStratum.count)

    /// Two windows are kept, each so long once it has enough values. They are short because what
    /// disturbs the stable arm for a moment, as a canary that starts beside it does, would raise
    /// the threshold for as long, and hide a canary that is slow.
    private static let windowSeconds = 10.0
    private static let windowValues = 300
    /// However few values there are.
    private static let windowSecondsMax = 60.0
    /// Fewer values give no threshold.
    package static let valuesMin = 50

    package init() {}

    package mutating func add(_ counts: BucketCounts, stratum: Int) {
        self.strata[stratum].current.add(counts)
    }

    package mutating func pass(seconds: Double) {
        for index in self.strata.indices { self.strata[index].pass(seconds: seconds) }
    }

    /// The last buckets that are not slow, of the stable arm and of the canary, whose values may be
    /// larger by the share `increase`; nil while too little was seen.
    ///
    /// The canary's bucket is rounded up, in its favour; the stable arm's is chosen among a few
    /// near the quantile so that this costs little.
    package func thresholds(quantile: Double, increase: Double, stratum: Int)
        -> (stable: Int, canary: Int)?
    {
        let window = self.strata[stratum]
        guard window.current.total + window.previous.total >= Self.valuesMin,
            let middle = window.current.bucket(ofQuantile: quantile, with: window.previous)
        else { return nil }
        var best: (stable: Int, canary: Int, excess: Double)?
        for stable in middle...min(middle + Self.candidates, LatencyHistogram.bucketCount - 2) {
            let end = Double(LatencyHistogram.bounds(ofBucket: stable).upperBound)
            let limit = UInt64(min(end * (1 + increase), 0x1p62).rounded(.up))
            let canary = LatencyHistogram.bucket(of: limit - 1)
            let canaryEnd = Double(LatencyHistogram.bounds(ofBucket: canary).upperBound)
            let excess = canaryEnd / (end * (1 + increase))
            if best.map({ excess < $0.excess }) ?? true { best = (stable, canary, excess) }
        }
        return best.map { ($0.stable, $0.canary) }
    }

    private static let candidates = 3
}
