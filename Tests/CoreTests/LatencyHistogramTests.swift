import Testing

@testable import Core

@Suite struct LatencyHistogramTests {
    @Test func bucketsTileTheRangeWithoutGaps() {
        var expected: UInt64 = 0
        for index in 0..<LatencyHistogram.bucketCount {
            let bounds = LatencyHistogram.bounds(ofBucket: index)
            #expect(bounds.lowerBound == expected)
            #expect(LatencyHistogram.bucket(of: bounds.lowerBound) == index)
            #expect(LatencyHistogram.bucket(of: bounds.upperBound - 1) == index)
            expected = bounds.upperBound
        }
        #expect(expected == 1 << 42)
    }

    @Test func bucketsAreNarrowFromOneMicrosecondToOneHour() {
        for index in 0..<LatencyHistogram.bucketCount {
            let bounds = LatencyHistogram.bounds(ofBucket: index)
            if bounds.lowerBound < 1_000 { continue }
            let halfWidth = Double(bounds.upperBound - bounds.lowerBound) / 2
            #expect(halfWidth / Double(bounds.lowerBound) <= 1.0 / 64)
        }
        #expect(
            LatencyHistogram.bounds(ofBucket: LatencyHistogram.bucketCount - 1).upperBound
                > 3_600_000_000_000
        )
    }

    @Test(arguments: [UInt64(0), 1, 31, 32, 1_023, 1_024, 1 << 42, (1 << 42) - 1, .max])
    func extremesAreCounted(nanoseconds: UInt64) {
        var histogram = LatencyHistogram()
        histogram.record(nanoseconds: nanoseconds)
        #expect(histogram.count == 1)
        #expect(histogram.sum == nanoseconds)
        #expect(histogram.minimum == nanoseconds)
        #expect(histogram.quantile(0.5) == nanoseconds)
    }

    @Test func anEmptyOneHasNoQuantiles() {
        let histogram = LatencyHistogram()
        #expect(histogram.quantile(0.99) == nil)
        #expect(histogram.mean == nil)
        #expect(histogram.cumulativeCounts(atNanoseconds: [1, 2]) == [0, 0])
    }

    @Test(arguments: [UInt64(1), 2, 3])
    func quantilesAreWithinTwoPercentOfTheExactOnes(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var histogram = LatencyHistogram()
        var values: [UInt64] = []
        for _ in 0..<20_000 {
            // Log-uniform over nine decades, 1 µs to 1000 s.
            var value = 1_000.0
            for _ in 0..<9 { value *= 1 + 9 * random.nextUnit() }
            values.append(UInt64(min(value, 1e12)))
            histogram.record(nanoseconds: UInt64(min(value, 1e12)))
        }
        values.sort()
        for quantile in [0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let rank = max(1, Int((quantile * Double(values.count)).rounded(.up)))
            let exact = Double(values[rank - 1])
            let reported = Double(histogram.quantile(quantile) ?? 0)
            #expect(abs(reported - exact) / exact <= 0.02, "seed \(seed), quantile \(quantile)")
        }
        #expect(histogram.sum == values.reduce(0, +))
        #expect(histogram.maximum == values.last)
    }

    @Test func mergingEqualsRecordingTogether() {
        var random = RandomSource(seed: 7)
        var parts = [LatencyHistogram(), LatencyHistogram(), LatencyHistogram()]
        var whole = LatencyHistogram()
        for step in 0..<3_000 {
            let value = random.next() >> (20 + random.next() % 40)
            parts[step % 2].record(nanoseconds: value)
            whole.record(nanoseconds: value)
        }
        var merged = parts[0]
        merged.merge(parts[1])
        merged.merge(parts[2])
        #expect(merged == whole)
    }

    @Test func theDifferenceOfTwoCopiesHoldsWhatCameBetween() {
        var histogram = LatencyHistogram()
        for value in 1...100 { histogram.record(nanoseconds: UInt64(value) * 1_000_000) }
        let earlier = histogram
        for _ in 1...10 { histogram.record(nanoseconds: 500_000) }
        let difference = histogram.recorded(since: earlier)
        #expect(difference.count == 10)
        #expect(difference.sum == 5_000_000)
        let median = Double(difference.quantile(0.5) ?? 0)
        #expect(abs(median - 500_000) / 500_000 < 0.02)
        #expect(histogram.recorded(since: histogram).quantile(0.5) == nil)
    }

    @Test func cumulativeCountsRiseAndEndAtTheCount() {
        var histogram = LatencyHistogram()
        for milliseconds in 1...1_000 {
            histogram.record(nanoseconds: UInt64(milliseconds) * 1_000_000)
        }
        let boundaries: [UInt64] = [0, 5_000_000, 100_000_000, 500_000_000, 2_000_000_000, .max]
        let counts = histogram.cumulativeCounts(atNanoseconds: boundaries)
        #expect(counts[0] == 0)
        #expect(counts[1] >= 4 && counts[1] <= 5)
        #expect(abs(Int(counts[2]) - 100) <= 2)
        #expect(abs(Int(counts[3]) - 500) <= 8)
        #expect(counts[4] == 1_000)
        #expect(counts[5] == 1_000)
        #expect(counts == counts.sorted())
    }

    @Test func theSumSaturates() {
        var histogram = LatencyHistogram()
        histogram.record(nanoseconds: .max)
        histogram.record(nanoseconds: 5)
        #expect(histogram.sum == .max)
        histogram.reset()
        #expect(histogram == LatencyHistogram())
    }

    @Test func timesTheWrongWayRoundCountAsZero() {
        var histogram = LatencyHistogram()
        histogram.record(from: Instant(nanoseconds: 9), to: Instant(nanoseconds: 4))
        #expect(histogram.maximum == 0 && histogram.count == 1)
    }
}
