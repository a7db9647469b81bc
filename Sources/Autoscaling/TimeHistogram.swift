import Core

/// Counts of times in buckets a fifth wide, small enough to be copied about: 360 bytes, no heap.
///
/// Four buckets per power of two from 1 ms (2^-10 s) to 68 minutes (2^12 s); shorter times count in
/// the first bucket, longer ones in the last. Counts saturate. Merging two is adding their buckets.
package struct TimeHistogram: Sendable {
    static let perOctave = 4
    static let firstExponent = -10
    /// 22 powers of two.
    package static let bucketCount = 88

    /// Read in loops through its span: `buckets[index]` copies all of them each time.
    private(set) var buckets: InlineArray<88, UInt32>
    package private(set) var count: UInt64
    /// Of what was recorded, in seconds.
    package private(set) var sumSeconds: Double

    package init() {
        self.buckets = InlineArray(repeating: 0)
        self.count = 0
        self.sumSeconds = 0
    }

    /// What a gateway's finer histogram holds.
    package init(_ histogram: LatencyHistogram) {
        self.init()
        if histogram.count == 0 { return }
        let edges = (0..<Self.bucketCount).map { UInt64(Self.upperEdge(ofBucket: $0) * 1e9) }
        let below = histogram.cumulativeCounts(atNanoseconds: edges)
        var previous: UInt64 = 0
        for (bucket, total) in below.enumerated() {
            self.buckets[bucket] = UInt32(clamping: total - previous)
            previous = total
        }
        let last = Self.bucketCount - 1
        let (sum, _) = self.buckets[last].addingReportingOverflow(
            UInt32(clamping: histogram.count - min(histogram.count, previous))
        )
        self.buckets[last] = sum
        self.count = histogram.count
        self.sumSeconds = Double(histogram.sum) / 1e9
    }

    package var isEmpty: Bool { self.count == 0 }
    package var meanSeconds: Double? {
        self.count == 0 ? nil : self.sumSeconds / Double(self.count)
    }

    /// Counts `times` times of `seconds`; what is negative or no number counts as 0.
    package mutating func record(seconds: Double, times: Int = 1) {
        if times <= 0 { return }
        let clean = seconds > 0 ? min(seconds, 1e9) : 0
        let bucket = Self.bucket(ofSeconds: clean)
        let (sum, overflow) = self.buckets[bucket].addingReportingOverflow(UInt32(clamping: times))
        self.buckets[bucket] = overflow ? .max : sum
        self.count &+= UInt64(times)
        self.sumSeconds += clean * Double(times)
    }

    package mutating func merge(_ other: borrowing TimeHistogram) {
        if other.count == 0 { return }
        let others = other.buckets.span
        for bucket in 0..<Self.bucketCount where others[bucket] > 0 {
            let (sum, overflow) = self.buckets[bucket].addingReportingOverflow(others[bucket])
            self.buckets[bucket] = overflow ? .max : sum
        }
        self.count &+= other.count
        self.sumSeconds += other.sumSeconds
    }

    /// How many are at most `seconds`, taking a bucket's times as spread evenly over it.
    package func count(within seconds: Double) -> Double {
        guard seconds > 0 else { return 0 }
        let own = Self.bucket(ofSeconds: seconds)
        var total: Double = 0
        let buckets = self.buckets.span
        for bucket in 0..<own { total += Double(buckets[bucket]) }
        let lower = own == 0 ? 0 : Self.upperEdge(ofBucket: own - 1)
        let width = Self.upperEdge(ofBucket: own) - lower
        let share = min(1, max(0, (seconds - lower) / width))
        return total + Double(buckets[own]) * share
    }

    /// The seconds that a share `quantile` of the times does not exceed, within a tenth; nil where
    /// nothing was recorded.
    package func quantileSeconds(_ quantile: Double) -> Double? {
        if self.count == 0 { return nil }
        var total: UInt64 = 0
        let buckets = self.buckets.span
        for bucket in 0..<Self.bucketCount { total &+= UInt64(buckets[bucket]) }
        let share = min(max(quantile, 0), 1) * Double(total)
        let rank = max(1, UInt64(share.rounded(.up)))
        // High quantiles are asked for: from the top it is not far.
        var before = total
        for bucket in stride(from: Self.bucketCount - 1, through: 0, by: -1) {
            let own = UInt64(buckets[bucket])
            before &-= own
            if before >= rank || own == 0 { continue }
            let lower = bucket == 0 ? 0 : Self.upperEdge(ofBucket: bucket - 1)
            let upper = Self.upperEdge(ofBucket: bucket)
            return lower + (upper - lower) * Double(rank - before) / Double(own)
        }
        return Self.upperEdge(ofBucket: Self.bucketCount - 1)
    }

    /// Calls `body` with every bucket that has counts.
    func forEachBucket(_ body: (_ bucket: Int, _ times: UInt32) -> Void) {
        let buckets = self.buckets.span
        for bucket in 0..<Self.bucketCount where buckets[bucket] > 0 {
            body(bucket, buckets[bucket])
        }
    }

    // MARK: Buckets

    static func bucket(ofSeconds seconds: Double) -> Int {
        guard seconds > 0x1p-10 else { return 0 }
        guard seconds < 0x1p12 else { return Self.bucketCount - 1 }
        // The exponent and two more bits: an octave, cut into four equal parts.
        let quarters = Int(truncatingIfNeeded: seconds.bitPattern >> 50)
        return quarters - (1_023 + Self.firstExponent) * Self.perOctave
    }

    static func upperEdge(ofBucket bucket: Int) -> Double {
        let quarters = bucket + 1 + (1_023 + Self.firstExponent) * Self.perOctave
        return Double(bitPattern: UInt64(truncatingIfNeeded: quarters) << 50)
    }
}

/// Times of some requests, and how many kept to their limit.
package struct TimeSample: Sendable {
    package var histogram: TimeHistogram
    /// How many were at most the objective's limit, where that was counted exactly; else it is
    /// worked out from the histogram.
    package var within: UInt64?

    package init(_ histogram: TimeHistogram = TimeHistogram(), within: UInt64? = nil) {
        self.histogram = histogram
        self.within = within
    }

    /// From the gateway's histogram, which is fine enough to count at the limit itself.
    package init(_ histogram: LatencyHistogram, limit: Duration?) {
        self.histogram = TimeHistogram(histogram)
        if let limit {
            let edge = UInt64(clamping: limit.nanosecondsClamped)
            self.within = histogram.cumulativeCounts(atNanoseconds: [edge]).first
        }
    }

    package var count: UInt64 { self.histogram.count }

    func count(within limit: Duration) -> Double {
        if let within = self.within { return Double(min(within, self.histogram.count)) }
        return self.histogram.count(within: limit.secondsAsDouble)
    }

    package mutating func merge(_ other: borrowing TimeSample) {
        switch (self.within, other.within) {
        case (let own?, let others?): self.within = own &+ others
        case (nil, let others?) where self.histogram.isEmpty: self.within = others
        case (.some, nil) where other.histogram.isEmpty: break
        default: self.within = nil
        }
        self.histogram.merge(other.histogram)
    }
}
