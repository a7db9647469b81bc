import Core
import Glibc
import Testing

@testable import ModelSimulator

private func at(_ milliseconds: UInt64) -> Instant {
    Instant(nanoseconds: milliseconds * 1_000_000)
}

@Suite struct ElementaryTests {
    @Test func exponentialAndLogarithmAgreeWithTheLibrary() {
        var random = RandomSource(seed: 42)
        for _ in 0..<10_000 {
            let x = random.nextUnit() * 200 - 100
            #expect(abs(exponential(x) / exp(x) - 1) < 1e-13, "\(x)")
            let y = exp(x)
            #expect(abs(naturalLogarithm(y) - log(y)) <= 1e-13 * max(1, abs(x)), "\(y)")
        }
        #expect(exponential(0) == 1)
        #expect(naturalLogarithm(1) == 0)
        #expect(exponential(10_000).isFinite)
        #expect(exponential(-10_000) > 0)
    }

    @Test func normalVariatesHaveMeanZeroAndVarianceOne() {
        var random = RandomSource(seed: 3)
        let values = (0..<100_000).map { _ in random.nextNormal() }
        let mean = values.reduce(0, +) / 1e5
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 1e5
        #expect(abs(mean) < 0.02)
        #expect(abs(variance - 1) < 0.02)
        let factors = (0..<10_001).map { _ in random.nextLogNormal(sigma: 0.5) }.sorted()
        #expect(abs(factors[5_000] - 1) < 0.05)
    }
}

@Suite struct ServiceStationTests {
    @Test func serversWorkInParallelAndTheQueueInOrder() {
        let station = Held(
            ServiceStation(
                serviceTime: .fixed(.milliseconds(10)),
                servers: 2,
                waitingMax: 2,
                seed: 1
            )
        )
        for id in 1...4 { #expect(station.submit(SequenceID(UInt64(id)), now: at(0)) == .accepted) }
        #expect(station.submit(SequenceID(5), now: at(0)) == .rejected(.queueFull))
        #expect(station.submit(SequenceID(1), now: at(0)) == .rejected(.duplicate))
        #expect(station.nextEventTime == at(10))
        let events = station.advance(to: at(100))
        #expect(events.map(\.id.rawValue) == [1, 2, 3, 4])
        #expect(events.map(\.at) == [at(10), at(10), at(20), at(20)])
        #expect(station.nextEventTime == nil)
        #expect(station.totals.finished == 4)
        #expect(station.totals.rejected == 2)
    }

    @Test func cancellingTheOneInServiceStartsTheNext() {
        let station = Held(
            ServiceStation(
                serviceTime: .fixed(.milliseconds(10)),
                servers: 1,
                waitingMax: 5,
                seed: 1
            )
        )
        for id in 1...3 { _ = station.submit(SequenceID(UInt64(id)), now: at(0)) }
        #expect(station.cancel(SequenceID(1), now: at(4)))
        #expect(station.cancel(SequenceID(3), now: at(4)))
        #expect(!station.cancel(SequenceID(3), now: at(4)))
        #expect(station.advance(to: at(100)).map(\.at) == [at(14)])
        #expect(station.totals.cancelled == 2)
    }

    @Test func logNormalTimesHaveTheirMedian() {
        let station = Held(
            ServiceStation(
                serviceTime: .logNormal(median: .milliseconds(10), sigma: 0.5),
                servers: 2_001,
                waitingMax: 0,
                seed: 5
            )
        )
        for id in 0..<2_001 { _ = station.submit(SequenceID(UInt64(id)), now: at(0)) }
        let events = station.advance(to: at(10_000))
        #expect(events.count == 2_001)
        let median = events[1_000].at.seconds(since: at(0))
        #expect(abs(median - 0.010) < 0.0006)
        #expect(zip(events, events.dropFirst()).allSatisfy { $0.at <= $1.at })
    }

    @Test func slowdownMultipliesServiceTimes() {
        let station = Held(
            ServiceStation(
                serviceTime: .fixed(.milliseconds(10)),
                servers: 1,
                waitingMax: 1,
                seed: 1
            )
        )
        station.value.slowdown = 2.5
        _ = station.submit(SequenceID(1), now: at(0))
        #expect(station.nextEventTime == at(25))
    }
}

@Suite struct FaultPlanTests {
    @Test func ratesAreMet() {
        var plan = FaultPlan()
        plan.errorRate = 0.2
        plan.errorStatus = 503
        plan.hangRate = 0.1
        plan.truncateRate = 0.3
        #expect(plan.problems.isEmpty)
        var random = RandomSource(seed: 11)
        var counts: [FaultPlan.Action: Int] = [:]
        for _ in 0..<100_000 { counts[plan.decide(&random), default: 0] += 1 }
        #expect(abs(Double(counts[.error(status: 503)] ?? 0) / 1e5 - 0.2) < 0.01)
        #expect(abs(Double(counts[.hang] ?? 0) / 1e5 - 0.1) < 0.01)
        #expect(abs(Double(counts[.truncate] ?? 0) / 1e5 - 0.3) < 0.01)
        #expect(counts[.reset] == nil)
        #expect(counts[.garbage] == nil)
    }

    @Test func aRateOfOneAlwaysHitsAndZeroNever() {
        var random = RandomSource(seed: 1)
        var plan = FaultPlan()
        for _ in 0..<1_000 { #expect(plan.decide(&random) == .none) }
        plan.resetRate = 1
        for _ in 0..<1_000 { #expect(plan.decide(&random) == .reset) }
    }

    @Test func aPlanSaysAllThatIsWrongWithIt() {
        var plan = FaultPlan()
        plan.errorRate = 0.7
        plan.hangRate = 0.7
        #expect(plan.problems == ["the rates add up to more than 1"])
        plan.errorRate = .nan
        plan.errorStatus = 200
        plan.slowdown = 0
        plan.extraLatency = .seconds(-1)
        plan.crashAfterRequests = -1
        #expect(plan.problems.count == 5)
    }
}
