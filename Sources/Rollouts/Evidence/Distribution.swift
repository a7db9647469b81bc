import Core

/// Counts in the fixed buckets of `LatencyHistogram`, those above zero only, for one tick.
package struct BucketCounts: Sendable, Equatable {
    package struct Entry: Sendable, Equatable {
        package var bucket: UInt16
        package var count: UInt32

        package init(bucket: UInt16, count: UInt32) {
            self.bucket = bucket
            self.count = count
        }
    }

    package private(set) var entries: [Entry]
    package private(set) var total: Int

    /// Buckets outside of the histogram's are taken for its last one.
    package init(_ entries: [Entry] = []) {
        let last = UInt16(LatencyHistogram.bucketCount - 1)
        self.entries = entries.filter { $0.count > 0 }.map {
            Entry(bucket: min($0.bucket, last), count: $0.count)
        }
        self.total = self.entries.reduce(0) { $0 + Int($1.count) }
    }

    /// Of a histogram that covers the tick alone.
    package init(_ histogram: LatencyHistogram) {
        var entries: [Entry] = []
        if histogram.count > 0 {
            for bucket in 0..<LatencyHistogram.bucketCount {
                let count = UInt32(clamping: histogram.count(inBucket: bucket))
                if count > 0 { entries.append(Entry(bucket: UInt16(bucket), count: count)) }
            }
        }
        self.init(entries)
    }

    /// How many values lie in buckets after `bucket`.
    package func count(after bucket: Int) -> Int {
        var count = 0
        for entry in self.entries where Int(entry.bucket) > bucket { count += Int(entry.count) }
        return count
    }
}

/// Counts in the fixed buckets of `LatencyHistogram`, all of them: 4 KB.
package struct Distribution: Sendable, Equatable {
    private var counts: [UInt32]
    package private(set) var total = 0

    package init() {
        self.counts = Array(repeating: 0, count: LatencyHistogram.bucketCount)
    }

    package mutating func add(_ other: BucketCounts) {
        for entry in other.entries {
            let (sum, overflow) = self.counts[Int(entry.bucket)].addingReportingOverflow(
                entry.count
            )
            // A bucket with four billion values no longer changes.
            if overflow { continue }
            self.counts[Int(entry.bucket)] = sum
            self.total += Int(entry.count)
        }
    }

    /// How many values lie in buckets after `bucket`.
    package func count(after bucket: Int) -> Int {
        var count = 0
        for index in self.counts.indices where index > bucket { count += Int(self.counts[index]) }
        return count
    }

    package mutating func removeAll() {
        if self.total == 0 { return }
        for index in self.counts.indices { self.counts[index] = 0 }
        self.total = 0
    }

    /// The bucket that holds the quantile of this and `other` together; nil without values.
    package func bucket(ofQuantile quantile: Double, with other: Distribution) -> Int? {
        let total = self.total + other.total
        if total == 0 { return nil }
        let rank = max(1, Int((quantile * Double(total)).rounded(.up)))
        var seen = 0
        for index in self.counts.indices {
            seen += Int(self.counts[index]) + Int(other.counts[index])
            if seen >= rank { return index }
        }
        return self.counts.count - 1
    }

    /// The largest difference of the two distribution functions; nil where one is empty.
    package func distance(to other: Distribution) -> Double? {
        guard self.total > 0, other.total > 0 else { return nil }
        var own = 0
        var others = 0
        var largest = 0.0
        for index in self.counts.indices {
            own += Int(self.counts[index])
            others += Int(other.counts[index])
            let difference =
                Double(own) / Double(self.total) - Double(others) / Double(other.total)
            largest = max(largest, difference.magnitude)
        }
        return largest
    }

    /// The quantile's confidence sequence in nanoseconds, from the fixed buckets; nil where there
    /// are too few values to bound it on both sides.
    ///
    /// A bucket's end is excluded as "at or above the quantile" where too few values lie below it,
    /// and as "below" where too many do. Counts rise from bucket to bucket, so excluding one end
    /// excludes all before it, and no union over buckets has to be paid.
    package func interval(ofQuantile quantile: Double, alpha: Double) -> ClosedRange<UInt64>? {
        if self.total == 0 { return nil }
        var ends: [(end: UInt64, seen: Int)] = []
        var seen = 0
        for index in self.counts.indices where self.counts[index] > 0 {
            seen += Int(self.counts[index])
            ends.append((LatencyHistogram.bounds(ofBucket: index).upperBound, seen))
        }
        let threshold = Mathematics.log(1 / alpha)
        let expected = quantile * Double(self.total)
        func isExcluded(_ seen: Int) -> Bool {
            let evidence = Boundaries.logBernoulli(
                successes: Double(seen),
                trials: Double(self.total),
                probability: quantile,
                bestTrials: Self.bestTrials
            )
            return evidence >= threshold
        }
        // Excluded ends come first, then those that are not, then excluded ones again.
        let low = ends.firstIndex(sorted: { Double($0.seen) >= expected || !isExcluded($0.seen) })
        let high = ends.firstIndex(sorted: { Double($0.seen) > expected && isExcluded($0.seen) })
        guard low > 0, high < ends.count else { return nil }
        return ends[low - 1].end...max(ends[low - 1].end, ends[high].end)
    }

    /// Intervals are narrowest near this many values.
    private static let bestTrials = 1_000.0
}

extension Array {
    /// The first index whose element fulfils `isAfter`, which holds for none before it and for all
    /// after it; `count` where there is none.
    fileprivate func firstIndex(sorted isAfter: (Element) -> Bool) -> Int {
        var low = 0
        var high = self.count
        while low < high {
            let middle = (low + high) / 2
            if isAfter(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
