/// Counts of durations in fixed log-linear buckets, for the request path.
///
/// Each power of two is cut into 32 equal buckets, so a reported value is at most 1/64 (1.6 %) off
/// wherever it lies between 1 µs and 73 minutes (2^42 ns). Below 1 µs the buckets are 32 ns wide;
/// durations past the end count in the last bucket, while `sum` and `maximum` stay exact. The whole
/// takes 8.3 KB, of which a real distribution touches a few cache lines.
///
/// One writer owns it. It is a value: a copy shares the storage until either side writes, so that a
/// scrape costs one copy of 8 KB on the next record, not one per sample.
package struct LatencyHistogram: Sendable, Equatable {
    /// log2 of the buckets per power of two.
    private static let precision = 5
    /// Bucket width below 2^(linearBits + precision) ns: 2^5 = 32 ns.
    private static let linearBits = 5
    /// 32 linear buckets, then 32 powers of two from 2^10 to 2^42 ns with 32 buckets each.
    package static let bucketCount = 33 << precision

    private var buckets: [UInt64]
    /// How many durations were recorded.
    package private(set) var count: UInt64 = 0
    /// Their sum in nanoseconds; saturates after 584 years.
    package private(set) var sum: UInt64 = 0
    /// The shortest in nanoseconds; `UInt64.max` where nothing was recorded.
    package private(set) var minimum: UInt64 = .max
    /// The longest in nanoseconds; 0 where nothing was recorded.
    package private(set) var maximum: UInt64 = 0

    /// Shared by all that have recorded nothing: many never do.
    private static let empty = [UInt64](repeating: 0, count: Self.bucketCount)

    package init() {
        self.buckets = Self.empty
    }

    // MARK: Recording

    /// Counts one duration.
    package mutating func record(nanoseconds: UInt64) {
        self.buckets[Self.bucket(of: nanoseconds)] &+= 1
        self.count &+= 1
        self.sum = Self.saturatingSum(self.sum, nanoseconds)
        if nanoseconds < self.minimum { self.minimum = nanoseconds }
        if nanoseconds > self.maximum { self.maximum = nanoseconds }
    }

    /// Counts the time from `start` to `end`; 0 where they are the wrong way round.
    package mutating func record(from start: Instant, to end: Instant) {
        self.record(nanoseconds: end.nanoseconds(since: start))
    }

    /// Adds everything `other` has counted.
    package mutating func merge(_ other: LatencyHistogram) {
        if other.count == 0 { return }
        for index in 0..<Self.bucketCount {
            self.buckets[index] &+= other.buckets[index]
        }
        self.count &+= other.count
        self.sum = Self.saturatingSum(self.sum, other.sum)
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
    }

    /// What was recorded since `earlier`, an older copy of this very histogram.
    ///
    /// `minimum` and `maximum` become those of the buckets, as the exact ones are not kept in time.
    package func recorded(since earlier: LatencyHistogram) -> LatencyHistogram {
        precondition(earlier.count <= self.count, "the earlier histogram has counted more")
        var difference = LatencyHistogram()
        for index in 0..<Self.bucketCount where self.buckets[index] > earlier.buckets[index] {
            difference.buckets[index] = self.buckets[index] - earlier.buckets[index]
            let bounds = Self.bounds(ofBucket: index)
            difference.minimum = min(difference.minimum, bounds.lowerBound)
            difference.maximum = min(self.maximum, bounds.upperBound - 1)
        }
        difference.count = self.count - earlier.count
        difference.sum = self.sum - min(self.sum, earlier.sum)
        return difference
    }

    /// Calls `body` with the middle and the number of the durations recorded since `earlier`, an
    /// older copy of this very histogram, bucket by bucket. Where the older one has counted more,
    /// everything is new.
    package func forEachBucket(
        since earlier: LatencyHistogram?,
        _ body: (_ nanoseconds: UInt64, _ times: UInt64) -> Void
    ) {
        guard self.count > 0, self.count != earlier?.count else { return }
        let earlier = earlier.flatMap { $0.count < self.count ? $0 : nil }
        let first = Self.bucket(of: self.minimum)
        let last = Self.bucket(of: self.maximum)
        for index in first...last {
            let times = self.buckets[index]
            let before = earlier?.buckets[index] ?? 0
            if times > before { body(Self.middle(ofBucket: index), times - before) }
        }
    }

    /// Calls `body` with each bucket that has counted any, in rising order.
    package func forEachOccupied(_ body: (_ bucket: Int, _ times: UInt64) -> Void) {
        for index in 0..<Self.bucketCount where self.buckets[index] > 0 {
            body(index, self.buckets[index])
        }
    }

    /// Counts durations that another histogram had in `bucket`, as their bucket's middle.
    package mutating func record(bucket: Int, times: UInt64) {
        precondition(bucket >= 0 && bucket < Self.bucketCount, "bucket \(bucket)")
        if times == 0 { return }
        let middle = Self.middle(ofBucket: bucket)
        self.buckets[bucket] &+= times
        self.count &+= times
        let (product, overflow) = middle.multipliedReportingOverflow(by: times)
        self.sum = overflow ? .max : Self.saturatingSum(self.sum, product)
        self.minimum = min(self.minimum, middle)
        self.maximum = max(self.maximum, middle)
    }

    /// Forgets everything, keeping the memory.
    package mutating func reset() {
        for index in 0..<Self.bucketCount { self.buckets[index] = 0 }
        self.count = 0
        self.sum = 0
        self.minimum = .max
        self.maximum = 0
    }

    // MARK: Reading

    /// The nanoseconds that a share `quantile` (0 to 1) of the durations does not exceed, within
    /// 1.6 %; nil where nothing was recorded.
    package func quantile(_ quantile: Double) -> UInt64? {
        precondition(quantile >= 0 && quantile <= 1, "a quantile of \(quantile)")
        if self.count == 0 { return nil }
        let rank = max(1, UInt64((quantile * Double(self.count)).rounded(.up)))
        // The largest is known exactly, and rounding a huge count must not run past it.
        if rank >= self.count { return self.maximum }
        var seen: UInt64 = 0
        for index in 0..<Self.bucketCount {
            seen &+= self.buckets[index]
            if seen >= rank {
                return min(max(Self.middle(ofBucket: index), self.minimum), self.maximum)
            }
        }
        return self.maximum
    }

    /// The mean in nanoseconds; nil where nothing was recorded.
    package var mean: Double? {
        self.count == 0 ? nil : Double(self.sum) / Double(self.count)
    }

    /// How many durations are at most each boundary, as a Prometheus histogram wants them.
    ///
    /// A bucket that a boundary cuts counts where its middle lies, so a count may be off by the
    /// durations within 1.6 % of the boundary; the counts never fall from one to the next.
    /// - Parameter boundaries: nanoseconds, rising.
    package func cumulativeCounts(atNanoseconds boundaries: [UInt64]) -> [UInt64] {
        var counts: [UInt64] = []
        counts.reserveCapacity(boundaries.count)
        var total: UInt64 = 0
        var index = 0
        var previous: UInt64 = 0
        for boundary in boundaries {
            precondition(boundary >= previous, "boundaries must rise: \(boundary) < \(previous)")
            previous = boundary
            while index < Self.bucketCount && Self.middle(ofBucket: index) <= boundary {
                total &+= self.buckets[index]
                index += 1
            }
            counts.append(total)
        }
        return counts
    }

    // MARK: Buckets

    /// How many durations a bucket has counted.
    package func count(inBucket index: Int) -> UInt64 { self.buckets[index] }

    /// The bucket a duration falls in: 0 ..< `bucketCount`.
    package static func bucket(of nanoseconds: UInt64) -> Int {
        // Dropping the linear bits makes the buckets below 2^10 ns come out of the same formula.
        let units = nanoseconds >> UInt64(Self.linearBits)
        let magnitude = 63 - (units | 1).leadingZeroBitCount
        if magnitude < Self.precision { return Int(truncatingIfNeeded: units) }
        let shift = magnitude - Self.precision
        let index = (shift << Self.precision) + Int(truncatingIfNeeded: units >> UInt64(shift))
        return min(index, Self.bucketCount - 1)
    }

    /// The nanoseconds of a bucket.
    package static func bounds(ofBucket index: Int) -> Range<UInt64> {
        precondition(index >= 0 && index < Self.bucketCount, "bucket \(index)")
        let shift = max(0, (index >> Self.precision) - 1)
        let units = UInt64(index - (shift << Self.precision))
        let lower = units << UInt64(shift + Self.linearBits)
        return lower..<(lower + (1 << UInt64(shift + Self.linearBits)))
    }

    private static func middle(ofBucket index: Int) -> UInt64 {
        let bounds = Self.bounds(ofBucket: index)
        return bounds.lowerBound + (bounds.upperBound - bounds.lowerBound) / 2
    }

    private static func saturatingSum(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (sum, overflow) = left.addingReportingOverflow(right)
        return overflow ? .max : sum
    }
}
