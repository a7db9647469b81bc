import Core
import Testing

@testable import Signals

private func histogram(_ buckets: [(Double, Double)], sum: Double = 0) -> BucketHistogram {
    var histogram = BucketHistogram()
    for (bound, count) in buckets { histogram.add(bound: bound, count: count) }
    histogram.count = buckets.last?.1 ?? 0
    histogram.sum = sum
    return histogram
}

@Suite struct BucketHistogramTests {
    @Test func bucketsStandInOrderAndAddUp() {
        var histogram = BucketHistogram()
        for bound in [1, .infinity, 0.5, 1, 0.25, .infinity] {
            histogram.add(bound: bound, count: 2)
        }
        #expect(histogram.buckets.map(\.bound) == [0.25, 0.5, 1, .infinity])
        #expect(histogram.buckets.map(\.count) == [2, 2, 4, 4])
    }

    @Test func bucketsAreBounded() {
        var histogram = BucketHistogram()
        for bound in 0..<(BucketHistogram.bucketsMax + 10) {
            histogram.add(bound: Double(bound), count: 1)
        }
        #expect(histogram.buckets.count == BucketHistogram.bucketsMax)
    }

    /// Worked by hand, as `histogram_quantile` defines it.
    @Test(
        arguments: [
            (0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.7, 1.5), (0.9, 2.0), (0.93, 3.0), (0.96, 4.0),
            (1.0, 4.0),
        ]
    )
    func quantilesLieOnAStraightLineWithinABucket(quantile: Double, expected: Double) throws {
        // 50 up to 1, 50 … 100 up to 2 (90), 96 up to 4, the rest beyond.
        let buckets = [(1.0, 50.0), (2.0, 90.0), (4.0, 96.0), (Double.infinity, 100.0)]
        let value = try #require(histogram(buckets).quantile(quantile))
        #expect(abs(value - expected) < 1e-9)
    }

    @Test func nothingHasNoQuantile() {
        #expect(BucketHistogram().quantile(0.5) == nil)
        #expect(histogram([(1, 0), (.infinity, 0)]).quantile(0.5) == nil)
        #expect(BucketHistogram().mean == nil)
    }

    @Test func differencesAreWhatCameIn() throws {
        let before = histogram([(1, 5), (.infinity, 8)], sum: 10)
        let after = histogram([(1, 6), (.infinity, 12)], sum: 25)
        let between = try #require(after.recorded(since: before))
        #expect(between.buckets.map(\.count) == [1, 4])
        #expect(between.count == 4)
        #expect(between.sum == 15)
        #expect(before.recorded(since: after) == nil, "it fell")
        #expect(after.recorded(since: histogram([(2, 5), (.infinity, 8)])) == nil, "other bounds")
    }
}

@Suite struct ServerTrackerTests {
    private func metrics(_ prompt: Double?, _ generated: Double? = nil) -> ServerMetrics {
        ServerMetrics(
            server: .vLLM,
            promptTokensTotal: prompt,
            generatedTokensTotal: generated
        )
    }

    @Test func ratesNeedTwoReadings() {
        var tracker = ServerTracker()
        tracker.take(self.metrics(100, 10), at: Instant(nanoseconds: 1_000_000_000))
        #expect(tracker.rates == nil)
        tracker.take(self.metrics(300, 20), at: Instant(nanoseconds: 3_000_000_000))
        #expect(tracker.rates?.seconds == 2)
        #expect(tracker.rates?.promptTokensPerSecond == 100)
        #expect(tracker.rates?.generatedTokensPerSecond == 5)
        #expect(tracker.rates?.prefixHitRate == nil)
        // Twice at one time says nothing.
        tracker.take(self.metrics(400, 20), at: Instant(nanoseconds: 3_000_000_000))
        #expect(tracker.rates == nil)
    }

    @Test func aCounterThatFellIsANewStart() {
        var tracker = ServerTracker()
        for (second, total) in [100.0, 200, 5, 25].enumerated() {
            tracker.take(
                self.metrics(total),
                at: Instant(nanoseconds: UInt64(second) * 1_000_000_000)
            )
            if second == 2 {
                #expect(tracker.rates == nil, "what was done in between is unknown")
                #expect(tracker.restarts == 1)
            }
        }
        #expect(tracker.rates?.promptTokensPerSecond == 20)
        #expect(tracker.restarts == 1)
    }

    @Test func aCounterThatVanishesIsUnknown() {
        var tracker = ServerTracker()
        tracker.take(self.metrics(100, 1), at: .zero)
        tracker.take(self.metrics(nil, 2), at: Instant(nanoseconds: 1_000_000_000))
        #expect(tracker.rates?.promptTokensPerSecond == nil)
        #expect(tracker.rates?.generatedTokensPerSecond == 1)
        tracker.take(ServerMetrics(server: .tgi), at: Instant(nanoseconds: 2_000_000_000))
        #expect(tracker.rates == nil, "another server")
    }

    @Test func theHitRateIsTheLatestThatIsKnown() {
        var tracker = ServerTracker()
        #expect(tracker.prefixHitRate == nil)
        var first = self.metrics(0)
        first.prefixHitsTotal = 50
        first.prefixQueriesTotal = 100
        tracker.take(first, at: .zero)
        #expect(tracker.prefixHitRate == 0.5)
        var second = first
        second.prefixHitsTotal = 140
        second.prefixQueriesTotal = 200
        tracker.take(second, at: Instant(nanoseconds: 1_000_000_000))
        #expect(tracker.prefixHitRate == 0.9)
        // Nobody asked since: over its whole life.
        tracker.take(second, at: Instant(nanoseconds: 2_000_000_000))
        #expect(tracker.prefixHitRate == 0.7)
        second.prefixHitRate = 0.2
        tracker.take(second, at: Instant(nanoseconds: 3_000_000_000))
        #expect(tracker.prefixHitRate == 0.2)
    }
}
