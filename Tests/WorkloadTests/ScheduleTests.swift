import Core
import Testing

@testable import Workload

func offsets(_ schedule: ArrivalSchedule) -> [Double] {
    var schedule = schedule
    var result: [Double] = []
    while let arrival = schedule.next() {
        #expect(arrival.index == result.count)
        result.append(Double(arrival.offset) / 1e9)
    }
    return result
}

/// Mean and coefficient of variation of the gaps.
func gaps(_ times: [Double]) -> (mean: Double, variation: Double) {
    let gaps = zip(times.dropFirst(), times).map { $0 - $1 }
    let mean = gaps.reduce(0, +) / Double(gaps.count)
    let variance = gaps.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(gaps.count)
    return (mean, variance.squareRoot() / mean)
}

@Suite("Schedules")
struct ScheduleTests {
    @Test func constantArrivalsAreEvenlySpaced() {
        let times = offsets(
            ArrivalSchedule(RateProfile(rate: 50, duration: 2), pattern: .constant, seed: 1)
        )
        #expect(times.count == 100)
        for (index, time) in times.enumerated() {
            #expect((time - Double(index) * 0.02).magnitude < 1e-8)
        }
    }

    @Test(arguments: [
        (ArrivalPattern.poisson, 1.0), (.gamma(burstiness: 0.25), 2), (.gamma(burstiness: 4), 0.5),
        (.gamma(burstiness: 1), 1),
    ])
    func randomArrivalsHaveTheRateAndTheVariationAskedFor(
        _ pattern: ArrivalPattern,
        variation: Double
    ) {
        let times = offsets(
            ArrivalSchedule(RateProfile(rate: 1_000, duration: 100), pattern: pattern, seed: 3)
        )
        let found = gaps(times)
        #expect((found.mean * 1_000 - 1).magnitude < 0.03)
        #expect((found.variation / variation - 1).magnitude < 0.03)
        #expect(zip(times.dropFirst(), times).allSatisfy { $0 >= $1 })
    }

    @Test func rampHasTheAreaUnderIt() throws {
        let profile = try RateProfile.parse("0..100@10s,100@5s,100..0@10s", duration: nil)
        #expect(profile.count == 1_500)
        let times = offsets(ArrivalSchedule(profile, pattern: .constant, seed: 1))
        #expect(times.count == 1_500)
        // In a ramp from 0 the n-th arrival is due at √(2n/slope).
        for index in stride(from: 1, to: 500, by: 37) {
            #expect((times[index] - (2 * Double(index) / 10).squareRoot()).magnitude < 1e-6)
        }
        #expect(times.count { $0 >= 10 && $0 < 15 } == 500)
    }

    @Test func sameSeedGivesTheSameSequence() {
        let profile = RateProfile(rate: 100, duration: 5)
        let one = offsets(ArrivalSchedule(profile, pattern: .poisson, seed: 7))
        #expect(one == offsets(ArrivalSchedule(profile, pattern: .poisson, seed: 7)))
        #expect(one != offsets(ArrivalSchedule(profile, pattern: .poisson, seed: 8)))
    }

    @Test func segmentsShareWhatIsLeft() throws {
        let profile = try RateProfile.parse("50@10s,20,5..10", duration: 30)
        #expect(profile.segments.map(\.duration) == [10, 10, 10])
        #expect(profile.segments[2] == .init(start: 5, end: 10, duration: 10))
        #expect(profile.padded(before: 2, after: 3).duration == 35)
    }

    @Test(arguments: [
        "", "fast", "-1", "10..", "..5", "10@", "10@never", "1e9", "0", "10,,20", "inf", "nan",
        "10@5s@6s", "1..2..3",
    ])
    func refusesWhatIsNoRate(_ text: String) {
        #expect(throws: WorkloadError.self) { try RateProfile.parse(text, duration: 10) }
    }

    @Test func refusesTwoDurations() {
        #expect(throws: WorkloadError.self) { try RateProfile.parse("5@10s", duration: 20) }
        #expect(throws: WorkloadError.self) { try RateProfile.parse("5@10s,6", duration: 10) }
    }

    @Test func windowsFillTheirTime() {
        let windows = WindowTrace(
            windows: [
                TraceWindow(start: 0, duration: 600, rate: 20, variation: 3),
                TraceWindow(start: 600, duration: 600, rate: 0, variation: 1),
                TraceWindow(start: 1_200, duration: 600, rate: 5, variation: 1),
            ]
        )
        let times = offsets(ArrivalSchedule(windows, seed: 5))
        #expect(times.count == 15_000)
        let first = times.filter { $0 < 600 }
        #expect(first.count == 12_000)
        #expect((gaps(first).variation / 3 - 1).magnitude < 0.1)
        #expect(!times.contains { $0 >= 600 && $0 < 1_200 })
        #expect(times.allSatisfy { $0 < 1_800 })
        #expect(zip(times.dropFirst(), times).allSatisfy { $0 >= $1 })
    }

    @Test(arguments: [
        ("0", 0.0), ("250us", 250e-6), ("1.5s", 1.5), ("2m", 120), ("1h", 3_600), ("7ns", 7e-9),
    ])
    func readsTimes(_ text: String, seconds: Double) throws {
        let found = try #require(TimeText.seconds(text))
        #expect((found - seconds).magnitude <= 1e-12 * seconds)
    }

    @Test(arguments: ["", "s", "5", "-1s", "1 s", "1e9h", "nans", "infs", "5x"])
    func refusesWhatIsNoTime(_ text: String) {
        #expect(TimeText.seconds(text) == nil)
    }

    @Test func writesDecimals() {
        #expect(DecimalText.fixed(1.005, places: 1) == "1.0")
        #expect(DecimalText.fixed(0.04, places: 2) == "0.04")
        #expect(DecimalText.fixed(-0.001, places: 2) == "0.00")
        #expect(DecimalText.fixed(-12.5, places: 2) == "-12.50")
        #expect(TimeText.short(nanoseconds: 1_234_567) == "1.23ms")
        #expect(TimeText.short(nanoseconds: 99_960) == "100us")
    }

    @Test(arguments: [
        ("512", 512.0), ("uniform:100,300", 200), ("normal:500,50", 500), ("exponential:300", 300),
    ])
    func lengthsHaveTheirMean(_ text: String, mean: Double) throws {
        let distribution = try #require(LengthDistribution(text))
        var random = RandomSource(seed: 11)
        let samples = (0..<20_000).map { _ in distribution.sample(&random) }
        let found = Double(samples.reduce(0, +)) / Double(samples.count)
        #expect((found / mean - 1).magnitude < 0.03)
        #expect(samples.allSatisfy { $0 >= 1 })
    }

    @Test func logNormalLengthsHaveTheirMedian() throws {
        let distribution = try #require(LengthDistribution("lognormal:200,1"))
        var random = RandomSource(seed: 2)
        let sorted = (0..<20_001).map { _ in distribution.sample(&random) }.sorted()
        #expect((Double(sorted[10_000]) / 200 - 1).magnitude < 0.05)
        #expect((Double(sorted[16_827]) / 543.7 - 1).magnitude < 0.08)
    }

    @Test(arguments: [
        "", "0", "-5", "1.5", "uniform:5", "uniform:9,3", "normal:0,1", "normal:5,-1", "zipf:3",
        "lognormal:10,9", "99999999", "uniform:1,99999999", "5:6", "fixed:",
    ])
    func refusesWhatIsNoLength(_ text: String) {
        #expect(LengthDistribution(text) == nil)
    }
}
