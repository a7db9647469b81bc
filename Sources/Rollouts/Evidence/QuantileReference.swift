import Core

/// Where the stable arm's quantile has been lately, per stratum: from there on a request is slow.
///
/// What is compared in a tick is the share of slow requests, and where "slow" begins may be chosen
/// freely from what was seen before: a wrong place costs power, never validity.
package struct QuantileReference: Sendable {
    private struct Window: Sendable {
        var current = Distribution()
        var previous = Distribution()

        mutating func rotate() {
            swap(&self.current, &self.previous)
            self.current.removeAll()
        }
    }

    private var strata = Array(repeating: Window(), count: PromptStratum.count)
    private var age = 0.0

    /// Two windows of this length are kept.
    private static let windowSeconds = 60.0
    /// Fewer values give no threshold.
    package static let valuesMin = 50

    package init() {}

    package mutating func add(_ counts: BucketCounts, stratum: Int) {
        self.strata[stratum].current.add(counts)
    }

    package mutating func pass(seconds: Double) {
        self.age += max(seconds, 0)
        guard self.age >= Self.windowSeconds else { return }
        self.age = 0
        for index in self.strata.indices { self.strata[index].rotate() }
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
