import Core
import Testing

@Suite struct InstantTests {
    @Test func addsAndSubtractsDurations() {
        let start = Instant(nanoseconds: 1_000)
        #expect(start + .nanoseconds(5) == Instant(nanoseconds: 1_005))
        #expect(start + .microseconds(-1) == .zero)
        #expect((start + .seconds(2)) - start == .seconds(2))
        #expect(start.seconds(since: .zero) == 1e-6)
    }

    @Test func saturatesAtBothEnds() {
        let late = Instant(nanoseconds: .max - 1)
        #expect(late + .nanoseconds(1) == .distantFuture)
        #expect(late + .nanoseconds(2) == .distantFuture)
        #expect(late + .seconds(Int64.max) == .distantFuture)
        #expect(Instant(nanoseconds: 5) + .nanoseconds(-6) == .zero)
        #expect(late.advanced(byNanoseconds: .max) == .distantFuture)
        #expect(Instant.zero.advanced(byNanoseconds: .min) == .zero)
        let big = UInt64(Int64.max) + 1
        #expect(Instant(nanoseconds: big).advanced(byNanoseconds: .min) == .zero)
        #expect(Instant(nanoseconds: big + 7).advanced(byNanoseconds: .min).nanoseconds == 7)
    }

    @Test func timeNeverRunsBackwards() {
        let early = Instant(nanoseconds: 10)
        let late = Instant(nanoseconds: 30)
        #expect(late.nanoseconds(since: early) == 20)
        #expect(early.nanoseconds(since: late) == 0)
        #expect(early.seconds(since: late) == 0)
        #expect(early - late == .zero)
    }

    @Test func differencesBeyondADurationAreClamped() {
        #expect(Instant.distantFuture - .zero == .nanoseconds(Int64.max))
        #expect(Instant.distantFuture.nanoseconds(since: .zero) == .max)
    }

    @Test func isOrderedByTime() {
        let times = [Instant.distantFuture, .zero, Instant(nanoseconds: 7), .zero]
        #expect(times.sorted().map(\.nanoseconds) == [0, 0, 7, .max])
    }

    private static let durations: [(Duration, Int64)] = [
        (.zero, 0), (.nanoseconds(1), 1), (.seconds(-3), -3_000_000_000),
        (.milliseconds(1_500), 1_500_000_000), (.seconds(9_223_372_036), 9_223_372_036_000_000_000),
        (.seconds(9_223_372_037), .max), (.seconds(-9_223_372_037), .min),
        (.seconds(Int64.max), .max), (.seconds(Int64.min), .min),
        // The last whole second fits, its fraction does not.
        (.seconds(9_223_372_036) + .milliseconds(900), .max),
        // Less than a nanosecond counts as none.
        (.init(secondsComponent: 0, attosecondsComponent: 999_999_999), 0),
    ]

    @Test(arguments: InstantTests.durations)
    func durationsAreClampedToNanoseconds(duration: Duration, nanoseconds: Int64) {
        #expect(duration.nanosecondsClamped == nanoseconds)
    }

    @Test func durationsAreReadAsSeconds() {
        #expect(Duration.milliseconds(1_500).secondsAsDouble == 1.5)
        #expect(Duration.seconds(-2).secondsAsDouble == -2)
    }
}
