import Core
import Testing

@testable import Autoscaling

@Suite struct TimeHistogramTests {
    @Test func findsQuantilesWithinABucket() throws {
        var histogram = TimeHistogram()
        for index in 1...1_000 { histogram.record(seconds: Double(index) / 100) }
        let median = try #require(histogram.quantileSeconds(0.5))
        #expect(abs(median - 5) < 0.6)
        #expect(abs(histogram.count(within: 2) - 200) < 15)
        #expect(abs(try #require(histogram.meanSeconds) - 5.005) < 1e-9)
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity, -1, 0, 1e300, 1e-300])
    func takesAnything(seconds: Double) {
        var histogram = TimeHistogram()
        histogram.record(seconds: seconds, times: 3)
        histogram.record(seconds: 1, times: -2)
        #expect(histogram.count == 3)
        #expect(histogram.sumSeconds.isFinite)
    }

    @Test func bucketsFollowEachOther() {
        for bucket in 1..<TimeHistogram.bucketCount {
            let edge = TimeHistogram.upperEdge(ofBucket: bucket - 1)
            #expect(TimeHistogram.bucket(ofSeconds: edge * 1.0001) == bucket)
            #expect(TimeHistogram.bucket(ofSeconds: edge * 0.9999) == bucket - 1)
        }
    }

    @Test func takesOverTheGatewaysHistogramAndCountsAtTheLimit() {
        var fine = LatencyHistogram()
        for index in 1...100 { fine.record(nanoseconds: UInt64(index) * 10_000_000) }
        let sample = TimeSample(fine, limit: .milliseconds(300))
        #expect(sample.count == 100)
        #expect(abs(sample.count(within: .milliseconds(300)) - 30) <= 1)
        #expect(abs(sample.histogram.count(within: 0.5) - 50) < 4)
    }
}

@Suite struct WindowTests {
    @Test(arguments: [UInt64(1), 2, 3])
    func findsTheExtremeOfAnyWindow(seed: UInt64) {
        var random = RandomSource(seed: seed)
        for keepsLargest in [true, false] {
            var window = MonotoneWindow(keepsLargest: keepsLargest)
            var all: [(Double, Int)] = []
            for second in 0..<400 {
                let value = Int(random.next() % 12)
                window.add(value, atSeconds: Double(second))
                all.append((Double(second), value))
                let span = Double(random.next() % 100)
                let inside = all.filter { $0.0 >= Double(second) - span }.map(\.1)
                let expected = keepsLargest ? inside.max() : inside.min()
                let found = window.extreme(overSeconds: span, atSeconds: Double(second))
                #expect(found == expected, "seed \(seed)")
            }
        }
    }

    @Test func whenFullItErrsTowardsHolding() {
        var window = MonotoneWindow(keepsLargest: true)
        for second in 0..<100 { window.add(1_000 - second, atSeconds: Double(second)) }
        let largest = window.extreme(overSeconds: 20, atSeconds: 99) ?? 0
        #expect(largest >= 1_000 - 79)
    }

    @Test func meansAreOverTheTimeCovered() {
        var window = LoadWindow(stableSeconds: 60)
        var sums = LoadWindow.Sums()
        sums.values[0] = 5
        sums.values[5] = 1
        for second in 0..<30 { window.add(sums, atSeconds: Double(second)) }
        #expect(window.sums(overSeconds: 60).rate == 5)
        // Half a minute without samples is not half a minute without requests.
        window.add(sums, atSeconds: 59)
        #expect(window.sums(overSeconds: 60).rate == 5)
        #expect(window.sums(overSeconds: 6).arrivals == 5)
    }
}

@Suite struct CalendarTests {
    @Test func countsDaysLikeACalendar() {
        // Day by day from 1970-01-01, a Thursday, over two centuries.
        let lengths: [Int64] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        var (year, month, day) = (Int64(1970), Int64(1), Int64(1))
        for days in Int64(0)..<73_000 {
            let date = CivilDate(daysSince1970: days)
            let isSame = date.month == month && date.day == day
            #expect(isSame && date.weekday == (days + 4) % 7, "day \(days)")
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            let length = month == 2 && isLeap ? 29 : lengths[Int(month - 1)]
            day += 1
            if day > length { (day, month) = (1, month + 1) }
            if month > 12 { (month, year) = (1, year + 1) }
        }
    }

    @Test func aLongScheduleIsFoundAfterARestartInItsMiddle() throws {
        let cron = try CronExpression(text: "0 0 1 * *")
        var tracker = ScheduleTracker(cron, durationSeconds: 10 * 86_400)
        // 2026-11-05, 12:00: 20 762 days after 1970-01-01.
        let clock = WallClock(secondsSince1970: 20_762 * 86_400 + 43_200)
        #expect(tracker.state(clock, leadSeconds: 0) == .on)
        #expect(tracker.state(WallClock(secondsSince1970: 20_768 * 86_400), leadSeconds: 0) == .off)
        // The clock jumps a year back.
        let back = WallClock(secondsSince1970: 20_397 * 86_400 + 43_200)
        #expect(tracker.state(back, leadSeconds: 0) == .on)
        #expect(tracker.state(WallClock(secondsSince1970: .max), leadSeconds: 0) == .off)
    }
}

@Suite struct ForecastTests {
    private static func fed(_ seconds: Int, horizon: Double = 60, rate: (Int) -> Double)
        -> Forecaster
    {
        var forecaster = Forecaster()
        for second in 0..<seconds {
            _ = forecaster.add(
                arrivals: rate(second),
                seconds: 1,
                atSeconds: Double(second),
                horizonSeconds: horizon
            )
        }
        return forecaster
    }

    @Test func aSteadyRateStaysWhatItIs() {
        let forecaster = Self.fed(1_200) { _ in 12 }
        #expect(abs(forecaster.forecast(atSeconds: 60).rate - 12) < 0.01)
    }

    @Test func aRampGoesOn() {
        // A tenth of a request per second more each second: in a minute it is 6/s more.
        let forecaster = Self.fed(1_800) { 20 + Double($0) / 10 }
        #expect(forecaster.forecast(atSeconds: 60).hasSlope)
        #expect(abs(forecaster.forecast(atSeconds: 60).rate - (20 + 180 + 6)) < 4)
    }

    @Test func aForecastIsNeverNegativeNorEndless() {
        let falling = Self.fed(900) { max(0, 100 - Double($0) / 5) }
        #expect(falling.forecast(atSeconds: 1_800).rate >= 0)
        let rising = Self.fed(900) { Double($0) }
        #expect(rising.forecast(atSeconds: 1e9).rate <= 2_000)
    }

    @Test func onlyALonelyErrorIsAnOutlier() {
        let once = Self.fed(3_000) { 10 + Double($0 % 2) + ($0 >= 2_000 && $0 < 2_060 ? 90 : 0) }
        #expect(once.outlier(low: 0, high: 1_000, horizonSeconds: 60) != nil)
        let again = Self.fed(3_000) { 10 + Double($0 % 2) + ($0 % 1_000 > 940 ? 90 : 0) }
        #expect(again.outlier(low: 0, high: 1_000, horizonSeconds: 60) == nil)
    }

    /// A jump at the same time every day earns the seasonal floor; noise does not.
    @Test(arguments: [(true, UInt64(1)), (false, 2)])
    func theSeasonalFloorHasToBeEarned(isRegular: Bool, seed: UInt64) {
        var seasonal = Seasonal()
        var random = RandomSource(seed: seed)
        var rate = 1.0
        for slot in 0..<4 * Seasonal.dayCount {
            let last = rate
            let hour = slot % Seasonal.dayCount / 6
            rate =
                isRegular ? (hour >= 8 && hour < 10 ? 50 : 5) : 5 + 45 * random.nextUnit()
            for part in 0..<6 {
                seasonal.add(
                    arrivals: rate * 100,
                    seconds: 100,
                    forecast: last,
                    atSeconds: Double(slot) * 600 + Double(part) * 100
                )
            }
        }
        #expect(seasonal.isBelieved.day == isRegular)
        let eight = Double(4 * Seasonal.dayCount + 8 * 6) * 600
        #expect((seasonal.floor(atSeconds: eight) > 40) == isRegular)
    }
}

@Suite struct RecordTests {
    @Test func explainsInWords() {
        var rig = Rig([.concurrency(6), .kvCache(0.8)], maximum: 4, ready: 2)
        let decision = rig.run(61, Rig.sample(inFlight: 30, arrivals: 5))
        let text = decision.explanation
        #expect(decision.summary == "v1: stays at 4 replicas, because maxReplicas")
        #expect(text.contains("* 5: concurrency 30, 6 per replica"))
        #expect(text.contains("- cannot say: KV cache use: no usable reading for"))
        #expect(text.contains("! 5 → 4: maxReplicas"))
        #expect(text.contains("in flight 30"))
    }

    @Test func writesJSON() {
        var rig = Rig([.concurrency(6), .kvCache(0.8)], maximum: 4, ready: 2)
        rig.run(61, Rig.sample(inFlight: 30, arrivals: 5))
        let buffer = ByteBuffer(capacity: 64)
        rig.scaler.log.latest?.append(toJSON: buffer)
        let span = buffer.readable
        let bytes = (0..<span.byteCount).map { span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.hasPrefix("{\"model\":\"m\",\"number\":61,\"variants\":[{\"variant\":\"v1\","))
        #expect(text.contains("\"desired\":4"))
        #expect(text.contains("{\"replicas\":null,\"target\":1,"))
        #expect(text.hasSuffix("}]}"))
    }

    @Test(arguments: [
        (0.0, "0"), (0.5, "0.5"), (1.0 / 3, "0.333"), (12.34, "12.3"), (999.6, "1000"),
        (-2.5, "-2.5"), (.nan, "unknown"), (.infinity, "endless"), (1e300, "1e+300"),
    ])
    func writesNumbersShort(value: Double, text: String) {
        #expect(Decimal.text(value) == text)
    }

    @Test func aLogIsBoundedAndKeepsWhatChanged() {
        var rig = Rig([.concurrency(1)], ready: 1) {
            $0.stableWindow = .seconds(1)
            $0.burstWindow = .seconds(1)
        }
        rig.scaler = ModelAutoscaler(rig.scaler.setup, at: rig.now, logCapacity: 5)
        for step in 0..<400 { rig.run(2, Rig.sample(inFlight: 1 + step / 4)) }
        let changes = rig.scaler.log.changes
        #expect(changes.count == 5)
        #expect(zip(changes, changes.dropFirst()).allSatisfy { $0.number < $1.number })
        #expect(rig.scaler.log.latest?.number ?? 0 >= changes[4].number)
    }
}
