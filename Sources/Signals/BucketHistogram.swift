/// A histogram as Prometheus has it: how many values were at most each boundary, since the start.
package struct BucketHistogram: Sendable, Hashable {
    /// Buckets read of one histogram; further ones are left out.
    package static let bucketsMax = 128

    package struct Bucket: Sendable, Hashable {
        /// Inclusive; the last one is infinite.
        package var bound: Double
        /// How many values are at most `bound`.
        package var count: Double
    }

    /// By rising bound.
    package private(set) var buckets: [Bucket] = []
    package var sum = 0.0
    package var count = 0.0

    package init() {}

    /// Adds a bucket of one series; series with the same bounds add up.
    mutating func add(bound: Double, count: Double) {
        if let last = self.buckets.last, last.bound < bound {
            self.insert(bound, count, at: self.buckets.count)
        } else if let index = self.buckets.firstIndex(where: { $0.bound >= bound }) {
            if self.buckets[index].bound == bound {
                self.buckets[index].count += count
            } else {
                self.insert(bound, count, at: index)
            }
        } else {
            self.insert(bound, count, at: 0)
        }
    }

    private mutating func insert(_ bound: Double, _ count: Double, at index: Int) {
        guard self.buckets.count < Self.bucketsMax else { return }
        self.buckets.insert(Bucket(bound: bound, count: count), at: index)
    }

    /// What came in since an older reading; nil where that was another histogram or the counts
    /// fell: the server has started anew.
    package func recorded(since earlier: BucketHistogram) -> BucketHistogram? {
        guard self.buckets.map(\.bound) == earlier.buckets.map(\.bound),
            self.count >= earlier.count
        else { return nil }
        var difference = self
        difference.sum -= earlier.sum
        difference.count -= earlier.count
        for (index, bucket) in earlier.buckets.enumerated() {
            difference.buckets[index].count -= bucket.count
            if difference.buckets[index].count < 0 { return nil }
        }
        return difference
    }

    /// The value that a share `quantile` (0 to 1) does not exceed, by a straight line within its
    /// bucket, as PromQL's `histogram_quantile` has it; nil where nothing was counted. Beyond the
    /// last finite bound, that bound.
    package func quantile(_ quantile: Double) -> Double? {
        precondition(quantile >= 0 && quantile <= 1, "a quantile of \(quantile)")
        guard let total = self.buckets.last?.count, total > 0 else { return nil }
        let rank = quantile * total
        var lower = (bound: 0.0, count: 0.0)
        for bucket in self.buckets {
            if bucket.count >= rank, bucket.count > lower.count {
                if bucket.bound.isInfinite { return lower.bound }
                let share = (rank - lower.count) / (bucket.count - lower.count)
                return lower.bound + (bucket.bound - lower.bound) * max(0, share)
            }
            // A count that falls from one bucket to the next is somebody's mistake: skip it.
            if bucket.bound.isFinite {
                lower = (bucket.bound, max(lower.count, bucket.count))
            }
        }
        return lower.bound
    }

    package var mean: Double? { self.count > 0 ? self.sum / self.count : nil }
}
