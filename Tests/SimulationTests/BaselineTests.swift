import Core
import Testing

@testable import Simulation

/// Timelines and values worked out by hand from the sources that each baseline names.
@Suite("Baselines")
struct BaselineTests {
    /// Plays a policy over seconds of load; replicas are ready `delay` seconds after they are
    /// wanted.
    private func play(
        _ policy: any ReplicaPolicy,
        seconds: Int,
        from start: Int = 1,
        delay: Int = 0,
        firstToken: Double = 0,
        load: (Int) -> Double
    ) -> [Int] {
        var policy = policy
        var wanted = start
        var history: [Int] = []
        return (0..<seconds).map { second in
            var seen = Observation(now: Instant(nanoseconds: UInt64(second) * 1_000_000_000))
            seen.desired = wanted
            history.append(wanted)
            let past = max(0, history.count - 1 - delay)
            seen.ready = history[past...].min() ?? wanted
            seen.starting = wanted - seen.ready
            // Means are those of the second before.
            seen.inFlightMean = second > 0 ? load(second - 1) : 0
            seen.completions = 10
            seen.firstTokenSum = 10 * firstToken * seen.inFlightMean / Double(max(1, seen.ready))
            wanted = policy.desiredReplicas(seen)
            return wanted
        }
    }

    // MARK: HPA

    @Test(arguments: [
        (25.0, 5.0, 4, 5), (21, 5, 4, 4), (22.1, 5, 4, 5), (18.1, 5, 4, 4), (17.9, 5, 4, 4),
        (9, 5, 4, 2), (0, 5, 4, 0), (12, 5, 0, 3),
    ])
    func hpaDividesByTheTargetOutsideItsTolerance(
        total: Double,
        target: Double,
        current: Int,
        wanted: Int
    ) {
        #expect(HPA.external(total: total, target: target, current: current) == wanted)
    }

    @Test func hpaCountsUnreadyPodsAgainstTheDirection() {
        // 1.5 times the target, but 0.75 with the unready as idle: neither up nor down.
        #expect(HPA.pods(values: [0.9, 0.9], unready: 2, target: 0.6, current: 4) == 4)
        #expect(HPA.pods(values: [0.9, 0.9, 0.9, 0.9], unready: 1, target: 0.6, current: 5) == 6)
        #expect(HPA.pods(values: [0.9, 0.9], unready: 0, target: 0.6, current: 2) == 3)
        #expect(HPA.pods(values: [0.3, 0.3], unready: 2, target: 0.6, current: 4) == 1)
        #expect(HPA.pods(values: [], unready: 2, target: 0.6, current: 2) == nil)
    }

    @Test func hpaDoublesOrAddsFourPerFifteenSeconds() {
        let hpa = HPA(metric: .load, target: 1, bounds: 1...100)
        let steps = self.play(hpa, seconds: 61) { _ in 40 }
        // At 0 there is no load yet; then 1 + 4, twice 5, twice 10, twice 20.
        #expect(stride(from: 0, to: 61, by: 15).map { steps[$0] } == [1, 5, 10, 20, 40])
        #expect(steps[29] == 5 && steps[30] == 10)
    }

    @Test func hpaWaitsFiveMinutesOnTheWayDown() {
        let hpa = HPA(metric: .load, target: 1, bounds: 1...100)
        let steps = self.play(hpa, seconds: 500, from: 8) { $0 < 100 ? 8 : 2 }
        // The sync at 90 is the last that wants 8; the first one without it in its window is at
        // 390.
        #expect(steps[389] == 8 && steps[390] == 2)
    }

    @Test func hpaTakesTheLeastOfTheWindowUpwards() {
        let hpa = HPA(
            metric: .load,
            target: 1,
            bounds: 1...100,
            behavior: .init(upWindow: 60, downWindow: 300)
        )
        // A spike of 30 s is over before the window is.
        let spike = self.play(hpa, seconds: 200, from: 2) { (100..<130).contains($0) ? 6 : 2 }
        #expect(spike.allSatisfy { $0 == 2 })
        let lasting = self.play(hpa, seconds: 200, from: 2) { $0 >= 100 ? 6 : 2 }
        #expect(lasting.last == 6)
    }

    // MARK: KPA

    @Test func kpaDividesTheStableMean() {
        let kpa = KPA(target: 7, bounds: 0...100)
        let steps = self.play(kpa, seconds: 120, from: 10) { _ in 70 }
        #expect(steps.last == 10)
    }

    @Test func kpaPanicsAtTwiceOfWhatIsReady() {
        var kpa = KPA(target: 10, bounds: 0...100)
        var panicAt: Int?
        var wanted: [Int] = []
        for second in 0...200 {
            var seen = Observation(now: Instant(nanoseconds: UInt64(second) * 1_000_000_000))
            seen.desired = wanted.last ?? 2
            seen.ready = 2
            seen.inFlightMean = (101...110).contains(second) ? 60 : 10
            wanted.append(kpa.desiredReplicas(seen))
            if kpa.isPanicking, panicAt == nil { panicAt = second }
        }
        // At 104, the tick with four seconds of 60 in six, the mean is 43.3: five for the two
        // ready.
        #expect(panicAt == 104)
        #expect(wanted[102] == 2 && wanted[104] == 5 && wanted[106] == 6)
        // No way down until a minute after the last second over the threshold.
        #expect(wanted[115] == 6 && wanted[170] == 6)
        #expect(kpa.isPanicking == false && wanted[200] == 1)
    }

    @Test func kpaAtMostHalvesAndGoesToZeroInSteps() {
        let kpa = KPA(target: 10, bounds: 0...100)
        let steps = self.play(kpa, seconds: 400, from: 16) { $0 < 100 ? 160 : 0 }
        for (before, after) in zip(steps, steps.dropFirst()) where before > 1 {
            #expect(after >= before / 2)
        }
        // One is kept for the grace period after the mean is 0.
        let one = steps.firstIndex(of: 1) ?? 0
        let zero = steps.firstIndex(of: 0) ?? 0
        #expect(zero - one >= 30 && zero <= 100 + 60 + 34)
    }

    // MARK: KEDA, Ray, AIBrix

    @Test func kedaGoesToZeroAfterItsCooldown() {
        let keda = KEDA(
            target: 5,
            cooldown: 300,
            polling: 0,
            bounds: 0...10,
            behavior: .init()
        )
        let steps = self.play(keda, seconds: 800, from: 3) { $0 < 50 ? 15 : 0 }
        #expect(steps[48] == 3)
        // Down to one with the HPA's window, to none with the cooldown.
        #expect(steps.firstIndex(of: 1) == 345)
        #expect((345...355).contains(steps.firstIndex(of: 0) ?? 0))
    }

    @Test func rayWaitsThirtySecondsUpAndTenMinutesDown() {
        let ray = RayServe(target: 2, upDelay: 30, downDelay: 600, bounds: 0...20)
        let steps = self.play(ray, seconds: 1_000) { $0 < 200 ? 10 : 4 }
        // Pushed at 10, wanted for more than 30 seconds in a row at 40.
        #expect(steps[39] == 1 && steps[40] == 5)
        // The first push that wants fewer comes at 210, the decision 600 seconds after that.
        #expect(steps[809] == 5 && steps[810] == 2 || steps[819] == 5 && steps[820] == 2)
    }

    @Test(arguments: [
        (6.0, 4.0, 3, 5), (16, 4, 3, 6), (3.8, 4, 3, 3), (0.8, 4, 8, 4), (2, 4, 8, 4),
    ])
    func apaDoublesAndHalvesAtMost(perPod: Double, target: Double, pods: Int, wanted: Int) {
        #expect(APA.recommend(perPod: perPod, target: target, pods: pods) == wanted)
    }

    // MARK: llm-d and Dynamo

    @Test(arguments: [
        (0.75, 0.0, 3, 1), (0.85, 0, 3, 1), (0.3, 2.5, 3, 1), (0.3, 0, 3, -1), (0.6, 0, 2, 0),
        (0.3, 0, 1, 0),
    ])
    func wvaV1LooksAtSpareRoom(cache: Double, queue: Double, replicas: Int, step: Int) {
        let found = WVAV1.step(
            cache: cache,
            queue: queue,
            replicas: replicas,
            cacheThreshold: 0.8,
            queueThreshold: 5
        )
        #expect(found == step)
    }

    @Test(arguments: [
        (850.0, 8, 0, 10), (850, 8, 2, 10), (340, 8, 0, 5), (600, 8, 0, 8), (10, 1, 0, 1),
    ])
    func wvaCountsWhatIsComing(demand: Double, ready: Int, coming: Int, wanted: Int) {
        let found = WVA.replicas(
            demand: demand,
            perReplica: 100,
            ready: ready,
            coming: coming,
            up: 0.85
        )
        #expect(found == wanted)
    }

    @Test func dynamoGoesOneByOneAndHoldsWhileScaling() {
        // The first token takes a tenth of a second per request on a replica; 0.5 s allow five.
        let dynamo = DynamoLoad(sla: 0.5, sensitivity: 0.8, bounds: 1...20)
        let steps = self.play(dynamo, seconds: 400, delay: 20, firstToken: 0.1) {
            $0 < 50 ? Double($0 % 5) : 19
        }
        for (before, after) in zip(steps, steps.dropFirst()) {
            #expect((after - before).magnitude <= 1)
        }
        // 19 requests need four at five each; with four it stays, as three would miss.
        #expect(steps.last == 4)
        let changes = zip(steps, steps.dropFirst()).enumerated().filter { $1.0 != $1.1 }.map(
            \.offset
        )
        #expect(zip(changes, changes.dropFirst()).allSatisfy { $1 - $0 >= 20 })
    }

    // MARK: Theory

    @Test func breakEvenKeepsAReplicaForWhatAStartCosts() {
        let policy = BreakEven(target: 1, timeout: 60, bounds: 0...10)
        let steps = self.play(policy, seconds: 200, from: 0) { $0 < 50 ? 3 : 1 }
        #expect(steps[1] == 3 && steps[110] == 3 && steps[111] == 1)
    }

    @Test(arguments: 1...20)
    func lcpStaysBetweenTheLastEntriesOfBothOptima(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let penalty = 0.5 + random.nextUnit() * 4
        let switching = random.nextUnit() * 5
        var lcp = LCP(target: 1, penalty: penalty, switching: switching, bounds: 0...3)
        var needs: [Double] = []
        var last = 0
        for _ in 0..<6 {
            needs.append((random.nextUnit() * 30).rounded() / 10)
            let lower = self.lastEntry(needs, penalty, switching, isUp: true)
            let upper = self.lastEntry(needs, penalty, switching, isUp: false)
            last = min(max(last, lower), max(lower, upper))
            #expect(lcp.step(needed: needs[needs.count - 1]) == last, "seed \(seed): \(needs)")
        }
    }

    /// Over every past there could have been: the last entry of the cheapest, the least of those
    /// where going up costs, the greatest where going down does.
    private func lastEntry(
        _ needs: [Double],
        _ penalty: Double,
        _ switching: Double,
        isUp: Bool
    ) -> Int {
        var best = Double.infinity
        var entry = 0
        for code in 0..<(1 << (2 * needs.count)) {
            var cost = 0.0
            var previous = 0
            for index in needs.indices {
                let count = (code >> (2 * index)) & 3
                cost += Double(count) + penalty * max(0, needs[index] - Double(count))
                cost += switching * Double(max(0, isUp ? count - previous : previous - count))
                previous = count
            }
            let isBetter = cost < best - 1e-9
            let isEqual = (cost - best).magnitude <= 1e-9
            if isBetter || isEqual && (isUp ? previous < entry : previous > entry) {
                best = min(best, cost)
                entry = previous
            }
        }
        return entry
    }

    // MARK: Names

    @Test func baselinesAreReadByName() throws {
        let context = BaselineContext(
            slots: 8,
            minimum: 0,
            maximum: 10,
            coldStart: 60,
            drain: 5,
            firstToken: 1
        )
        let kpa = try Baseline.parse("kpa:target=5,window=30", context)
        #expect(kpa.kind == .kpa && kpa.values == ["target": 5, "window": 30])
        #expect(kpa.description == "kpa:target=5,window=30")
        for kind in Baseline.Kind.allCases {
            let plain = try Baseline.parse(kind.rawValue, context)
            #expect(plain.values.isEmpty)
            #expect(kind.parameters(context).contains { $0.name == kind.knob })
            _ = plain.policy(context)
        }
        for text in [
            "", "hpb", "kpa:", "kpa:target", "kpa:goal=5", "kpa:target=-1", "kpa:target=x",
        ] {
            #expect(throws: SimulationError.self, "\(text)") {
                try Baseline.parse(text, context)
            }
        }
    }

    @Test(arguments: Baseline.Kind.allCases)
    func everyBaselineServesAndIsDeterministic(kind: Baseline.Kind) {
        var model = Worlds.model(
            Worlds.poisson(rate: 4, duration: 1_200, service: .exponential(mean: 2)),
            concurrency: 4
        )
        model.replicasAtStart = 2
        model.replicasMax = 12
        model.objective = ServiceObjective(firstToken: 5)
        let baseline = kind == .fixed ? Baseline(kind, ["replicas": 4]) : Baseline(kind)
        let setup = WorldSetup(models: [model], duration: 1_200)
        let result = PolicyChoice.baseline(baseline).run(setup)
        #expect(result.models[0].completed > 4_000)
        #expect(result.models[0].peak <= 12)
        #expect(PolicyChoice.baseline(baseline).run(setup).digest == result.digest)
    }
}
