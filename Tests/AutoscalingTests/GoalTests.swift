import Core
import Testing

@testable import Autoscaling

/// Each target by itself: its formula, worked by hand.
@Suite struct GoalTests {
    @Test(arguments: [
        // Little: 100 in flight and queued, 6 per replica.
        (80, 20, 6.0, 17), (6, 0, 6.0, 1), (7, 0, 6.0, 2), (0, 0, 6.0, 0), (36, 0, 6.0, 6),
    ])
    func concurrencyIsLoadByTarget(inFlight: Int, queued: Int, target: Double, expected: Int) {
        var rig = Rig([.concurrency(target)])
        let decision = rig.run(61, Rig.sample(inFlight: inFlight, queued: queued))
        #expect(decision.recommendations[0].replicas == expected)
    }

    @Test func aBurstCountsOverItsOwnWindow() {
        var rig = Rig([.concurrency(5)])
        rig.run(61, Rig.sample(inFlight: 5))
        // Over 60 s the mean is 5 + 6 · 95 / 60 = 14.5; over the last 6 s it is 100.
        let decision = rig.run(6, Rig.sample(inFlight: 100))
        #expect(decision.recommendations[0].replicas == 20)
    }

    @Test func requestRateFollowsArrivals() {
        var rig = Rig([.requestRate(20)])
        let decision = rig.run(61, Rig.sample(arrivals: 90))
        #expect(decision.recommendations[0].replicas == 5)
    }

    @Test func tokenRateCountsBothDirections() {
        var rig = Rig([.tokenRate(2_000)])
        var sample = Rig.sample(arrivals: 1)
        sample.tokensIn = 6_000
        sample.tokensOut = 1_500
        let decision = rig.run(61, sample)
        #expect(decision.recommendations[0].replicas == 4)
    }

    @Test(arguments: [
        // 4 replicas at 96 % with a target of 80 %: 4 · 1.2 = 4.8.
        (4, 0.96, 5), (4, 0.40, 2), (4, 0.79, 4), (4, 0.85, 4), (10, 0.72, 10), (10, 0.70, 9),
    ])
    func kvCacheIsProportional(ready: Int, use: Double, expected: Int) {
        var rig = Rig([.kvCache(0.8)], ready: ready)
        let decision = rig.tick(Rig.sample(inFlight: 1, arrivals: 1)) {
            $0.servers = Array(repeating: ServerSample(kvCacheUse: use), count: ready)
        }
        #expect(decision.recommendations[0].replicas == expected)
    }

    @Test func gpuUtilizationIsProportional() {
        var rig = Rig([.gpuUtilization(0.5)], ready: 3)
        let decision = rig.tick(Rig.sample(inFlight: 1, arrivals: 1)) {
            $0.gpuUtilization = Reading(0.9)
        }
        #expect(decision.recommendations[0].replicas == 6)
    }

    @Test func metricsAreSharedOutAndKeepTheirOrder() {
        var rig = Rig([.metric(name: "a", value: 10), .metric(name: "b", value: 2)])
        let decision = rig.tick { $0.metrics = [Reading(31), Reading(3)] }
        #expect(decision.recommendations.map(\.replicas) == [4, 2])
        #expect(decision.desired == 4)
    }

    @Test func queueWaitLeavesRoomByTheSquareRoot() {
        var rig = Rig([.queueWait(quantile: 0.95, below: .milliseconds(200))], ready: 4)
        // 25 busy slots and room for five more, eight slots each: 30 / 8.
        let decision = rig.run(61, Rig.sample(inFlight: 25, arrivals: 9)) { $0.slotsPerReplica = 8 }
        #expect(decision.recommendations[0].replicas == 4)
    }

    @Test func queueWaitGrowsWithTheQueue() {
        var rig = Rig([.queueWait(quantile: 0.95, below: .milliseconds(200))], ready: 4)
        var waits = TimeHistogram()
        waits.record(seconds: 3, times: 50)
        var sample = Rig.sample(inFlight: 32, queued: 40, arrivals: 9)
        sample.queueWait = TimeSample(waits)
        var last = rig.tick(sample) { $0.slotsPerReplica = 8 }
        for _ in 0..<60 { last = rig.tick(sample) { $0.slotsPerReplica = 8 } }
        // 72 that want a slot, eight slots each.
        #expect(last.recommendations[0].replicas == 9)
    }

    @Test func theLargestWinsAndAllKeepTheirReasons() {
        var rig = Rig([.concurrency(10), .requestRate(5), .kvCache(0.5)], ready: 2)
        let decision = rig.run(61, Rig.sample(inFlight: 12, arrivals: 30)) {
            $0.servers = [ServerSample(kvCacheUse: 0.5), ServerSample(kvCacheUse: 0.5)]
        }
        #expect(decision.recommendations.map(\.replicas) == [2, 6, 6])
        #expect(decision.desired == 6)
        #expect(decision.recommendations.allSatisfy { !$0.reason.text.isEmpty })
    }

    @Test func schedulesAskAheadOfTheirTime() throws {
        let cron = try CronExpression(text: "0 8 * * 1-5")
        // 2026-11-20 is a Friday: 20 777 days after 1970-01-01.
        let midnight: Int64 = 20_777 * 86_400
        var rig = Rig([.schedule(cron, duration: .seconds(36_000), replicas: 4)], coldStart: 60) {
            $0.forecastHorizon = .automatic
        }
        let ask = { (rig: inout Rig, seconds: Int64) -> Recommendation in
            let clock = WallClock(
                secondsSince1970: midnight + seconds - 3_600,
                utcOffsetSeconds: 3_600
            )
            return rig.tick(wallClock: clock).recommendations[0]
        }
        #expect(ask(&rig, 8 * 3_600 - 120).replicas == 0)
        #expect(ask(&rig, 8 * 3_600 - 59).reason == .schedule(isAhead: true))
        #expect(ask(&rig, 8 * 3_600).reason == .schedule(isAhead: false))
        #expect(ask(&rig, 18 * 3_600 - 1).replicas == 4)
        #expect(ask(&rig, 18 * 3_600).reason == .scheduleOff)
        #expect(ask(&rig, 32 * 3_600 + 60).replicas == 0, "Saturday")
    }
}
