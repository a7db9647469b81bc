import Core
import Testing
import Traffic
import Workload

@testable import Simulation

/// Small worlds worked out by hand.
@Suite("World")
struct WorldTests {
    @Test func oneReplicaServesOneAfterTheOther() {
        // Three at once, two seconds each: latencies 2, 4, 6.
        let model = Worlds.model(Worlds.requests(at: [5, 5, 5], service: 2))
        let result = Worlds.run(model, duration: 20) { _ in 1 }
        let found = result.models[0]
        #expect(found.arrivals == 3 && found.completed == 3)
        #expect(found.good == 1)
        #expect(found.latencies.maximum == 6_000_000_000)
        #expect(found.waits.maximum == 4_000_000_000)
        #expect(result.gpuSeconds == 20)
        #expect(result.violations.isEmpty)
    }

    @Test func requestsDrawnBeforehandAreTheSame() throws {
        let end: UInt64 = 600_000_000_000
        let stream = Worlds.poisson(rate: 5, duration: 700)
        var drawn = stream
        let drawnCount = drawn.drawAll(until: end, most: 10_000)
        let count = try #require(drawnCount)
        func result(_ requests: RequestStream) -> WorldResult {
            Worlds.run(Worlds.model(requests), duration: 600) { $0.seconds < 300 ? 4 : 6 }
        }
        // Drawn twice from the same stream, and shared by two runs.
        let plain = result(stream)
        for found in [result(drawn), result(drawn)] {
            #expect(found.digest == plain.digest && found.events == plain.events)
            #expect(found.good == plain.good && found.gpuSeconds == plain.gpuSeconds)
            #expect(found.requests == UInt64(count) && plain.requests == UInt64(count))
        }
        #expect(count > 2_000)
    }

    @Test func tooManyRequestsAreNotDrawnBeforehand() {
        let stream = Worlds.poisson(rate: 5, duration: 600)
        var refused = stream
        #expect(refused.drawAll(until: .max, most: 100) == nil)
        let (left, right) = (Worlds.model(stream), Worlds.model(refused))
        let expected = Worlds.run(left, duration: 600) { _ in 4 }
        #expect(Worlds.run(right, duration: 600) { _ in 4 }.digest == expected.digest)
        // Exactly as many as there are may be kept.
        var exact = stream
        #expect(exact.drawAll(until: .max, most: Int(expected.requests)) != nil)
        var short = stream
        #expect(short.drawAll(until: .max, most: Int(expected.requests) - 1) == nil)
    }

    @Test func billsLoadingAndDraining() {
        // A second replica from 10 to 30: loads until 20, serves until 30, is gone at 32.
        let model = Worlds.model(Worlds.requests(at: [], service: 1))
        let result = Worlds.run(model, duration: 100) { seen in
            seen.seconds >= 10 && seen.seconds < 30 ? 2 : 1
        }
        #expect(result.gpuSeconds == 100 + 22)
        #expect(result.models[0].starts == 1 && result.models[0].stops == 1)
        #expect(result.models[0].peak == 2)
    }

    @Test func drainFinishesItsStreams() {
        // 30 s of service from 5 on; given up at 10, gone at 35 + 2.
        let model = Worlds.model(Worlds.requests(at: [5], service: 30))
        let result = Worlds.run(model, duration: 100) { $0.seconds < 10 ? 1 : 0 }
        #expect(result.gpuSeconds == 37)
        #expect(result.interrupted == 0 && result.models[0].completed == 1)
        // The script gave up the last replica with a request on it.
        #expect(result.violations.lastReplica == 1)
    }

    @Test func deadlineCutsStreamsOff() {
        var model = Worlds.model(Worlds.requests(at: [5], service: 60))
        model.drainDeadline = 20
        let result = Worlds.run(model, duration: 100) { $0.seconds < 10 ? 1 : 0 }
        #expect(result.interrupted == 1 && result.models[0].completed == 0)
        #expect(result.gpuSeconds == 32)
        #expect(result.violations.earlyKill == 0)
    }

    @Test func drainingReplicasComeBack() {
        let model = Worlds.model(Worlds.requests(at: [5, 5], service: 40), concurrency: 1)
        var setup = WorldSetup(models: [model], duration: 100)
        setup.models[0].replicasAtStart = 2
        var controller = Scripted { seen in
            seen.seconds >= 10 && seen.seconds < 20 ? 1 : 2
        }
        controller.traits.victims = .fewestStreams
        let result = World(setup, controller: controller).run()
        #expect(result.models[0].takenBack == 1)
        #expect(result.models[0].starts == 0)
        #expect(result.gpuSeconds == 200)
    }

    @Test func firstRequestWakesAtZero() {
        var model = Worlds.model(Worlds.requests(at: [5.25], service: 1))
        model.replicasAtStart = 0
        let result = Worlds.run(model, duration: 60) { $0.seconds < 40 ? $0.desired : 0 }
        // Ready at 15.25, ends at 16.25, is given up at 40 and gone at 42.
        #expect(result.models[0].latencies.maximum == 11_000_000_000)
        #expect((result.gpuSeconds - 36.75).magnitude < 1e-6)
    }

    @Test func queueIsBoundedAndTimesOut() {
        var model = Worlds.model(Worlds.requests(at: [1, 1, 1, 1], service: 50))
        model.queue = AdmissionLimits(countMax: 2, bytesMax: .max)
        model.queueTimeout = 10
        let result = Worlds.run(model, duration: 100) { _ in 1 }
        let found = result.models[0]
        #expect(found.rejected == 1 && found.timedOut == 2 && found.completed == 1)
        #expect(found.attainment == 0)
    }

    @Test func withoutGPUsReplicasWait() {
        let model = Worlds.model(Worlds.requests(at: [], service: 1))
        var pending: [Int] = []
        var stuck = 0
        let result = Worlds.run(model, duration: 300) { setup in
            setup.pool.total = 2
        } _: { seen in
            pending.append(seen.pending)
            stuck = max(stuck, seen.stuck)
            return seen.seconds < 200 ? 5 : 2
        }
        #expect(pending.max() == 3 && stuck == 3)
        #expect(result.models[0].peak == 2)
        #expect(result.models[0].starts == 1)
    }

    @Test func shortageEndsAndGPUsComeLate() {
        let model = Worlds.model(Worlds.requests(at: [], service: 1))
        var readyAt = 0.0
        let result = Worlds.run(model, duration: 300) { setup in
            setup.pool.delay = .fixed(30)
            let period = Period(from: 0, to: 100)
            setup.pool.shortages = [GPUPool.Shortage(period: period, available: 1)]
        } _: { seen in
            if seen.ready == 2, readyAt == 0 { readyAt = seen.seconds }
            return 2
        }
        // Asked for at 0, waits for the end of the shortage at 100, loads for 10.
        #expect(readyAt >= 110 && readyAt <= 111)
        #expect(result.models[0].starts == 1)
    }

    @Test func budgetIsAWall() {
        let model = Worlds.model(Worlds.requests(at: [], service: 1))
        let result = Worlds.run(model, duration: 60) {
            $0.budget = 3
        } _: { _ in
            5
        }
        #expect(result.models[0].peak == 3)
        #expect(result.models[0].refused > 0)
        #expect(result.violations.budget == 0)
    }

    @Test func crashedReplicasComeBackAndRequestsAreTriedAgain() {
        var model = Worlds.model(
            Worlds.poisson(rate: 2, duration: 3_000, service: .fixed(2)),
            concurrency: 4
        )
        model.replicasAtStart = 3
        model.faults.crashInterval = 200
        let result = Worlds.run(model, duration: 3_000) { _ in 3 }
        let found = result.models[0]
        #expect(found.crashes > 5)
        #expect(found.crashed > 0)
        // Nobody is lost: each arrival ended somehow.
        #expect(
            found.completed + found.crashed + found.rejected + found.timedOut == found.arrivals
        )
    }

    @Test func failedStartsBackOff() {
        var model = Worlds.model(Worlds.requests(at: [], service: 1))
        model.replicasAtStart = 0
        model.faults.startFailure = 0.999_999
        var isLoop = false
        var ready = 0
        let result = Worlds.run(model, duration: 400) { seen in
            isLoop = isLoop || seen.isCrashLoop
            ready = max(ready, seen.ready)
            return 1
        }
        #expect(isLoop && ready == 0)
        // It holds its GPU all the while.
        #expect(result.gpuSeconds == 400)
    }

    @Test func outagesAndBlackoutsHideWhatTheyShould() {
        let model = Worlds.model(Worlds.requests(at: [], service: 1))
        var setup = WorldSetup(models: [model], duration: 60)
        setup.outages = [Period(from: 10, to: 20)]
        setup.blackouts = [Period(from: 30, to: 40)]
        var hidden: [Double] = []
        var blind: [Double] = []
        var controller = Scripted { seen in
            if seen.replicas == nil { hidden.append(seen.seconds) }
            if seen.isBlind { blind.append(seen.seconds) }
            return 1
        }
        controller.traits.needsReplicas = true
        _ = World(setup, controller: controller).run()
        #expect(hidden == (10..<20).map(Double.init))
        #expect(blind == (30..<40).map(Double.init))
    }

    @Test func sameSeedSameRun() {
        func run(_ seed: UInt64) -> WorldResult {
            var model = Worlds.model(
                Worlds.poisson(rate: 8, duration: 900, seed: seed),
                concurrency: 2
            )
            model.coldStart = .logNormal(median: 20, sigma: 1)
            model.faults.crashInterval = 300
            return Worlds.run(model, duration: 900, change: { $0.seed = seed }) { seen in
                1 + (seen.inFlight + seen.queued) / 2
            }
        }
        let first = run(7)
        let again = run(7)
        #expect(first.digest == again.digest && first.events == again.events)
        #expect(first.gpuSeconds == again.gpuSeconds)
        #expect(run(8).digest != first.digest)
    }

    @Test func policiesMeetTheSameRequestsAndColdStarts() {
        // Whatever the policy, the k-th start of the model takes as long.
        func coldStarts(_ decide: @escaping (Observation) -> Int) -> [Double] {
            var model = Worlds.model(Worlds.requests(at: [], service: 1))
            model.coldStart = .uniform(5...50)
            model.replicasAtStart = 0
            var times: [Double] = []
            _ = Worlds.run(model, duration: 600) { seen in
                times += seen.coldStarts
                return decide(seen)
            }
            return times
        }
        let together = coldStarts { _ in 3 }
        let apart = coldStarts { min(3, 1 + Int($0.seconds / 100)) }
        #expect(together.count == 3)
        #expect(Set(together) == Set(apart))
    }

    @Test func meansAreWeightedByTime() {
        let model = Worlds.model(Worlds.requests(at: [1.5], service: 1))
        var means: [Double] = []
        _ = Worlds.run(model, duration: 5) { seen in
            means.append(seen.inFlightMean)
            return 1
        }
        #expect(means.prefix(4).map { ($0 * 1_000).rounded() } == [0, 0, 500, 500])
    }

    @Test func refusesSetupsThatCannotRun() {
        var model = Worlds.model(Worlds.requests(at: [], service: 1))
        model.replicasMin = 5
        model.replicasMax = 2
        model.queueTimeout = 0
        var setup = WorldSetup(models: [model], duration: 0)
        setup.warmUp = 10
        #expect(setup.problems.count >= 4)
        #expect(WorldSetup(models: [], duration: 10).problems.count == 1)
    }
}
