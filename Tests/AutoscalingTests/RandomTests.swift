import Core
import Testing

@testable import Autoscaling

/// Random worlds against what must always hold.
@Suite struct RandomTests {
    private static func policy(_ random: inout RandomSource) -> ScalingPolicy {
        let goals: [ScalingGoal] = [
            .concurrency(6), .queueWait(quantile: 0.95, below: .milliseconds(200)), .objective,
            .requestRate(5), .tokenRate(300), .kvCache(0.8), .gpuUtilization(0.85),
            .metric(name: "a", value: 3), .metric(name: "b", value: 1),
        ]
        var targets = goals.filter { _ in random.next() % 3 == 0 }
        if targets.isEmpty { targets = [.objective] }
        var policy = ScalingPolicy(targets: targets)
        policy.stableWindow = .seconds(1 + Int64(random.next() % 120))
        if random.next() % 3 == 0 { policy.forecastHorizon = .off }
        if random.next() % 3 == 0 { policy.scaleDown.stabilization = .fixed(.seconds(20)) }
        if random.next() % 3 == 0 { policy.scaleUp.stabilization = .fixed(.seconds(9)) }
        policy.scaleUp.maxPerMinute = 1 + Int(random.next() % 100)
        policy.scaleDown.maxPerMinute = 1 + Int(random.next() % 100)
        if random.next() % 2 == 0 { policy.idleAfter = .seconds(40) }
        return policy
    }

    /// Anything a broken source could say.
    private static func number(_ random: inout RandomSource) -> Double {
        switch random.next() % 12 {
        case 0: .nan
        case 1: .infinity
        case 2: -.infinity
        case 3: -5
        case 4: 1e300
        case 5: 0
        default: random.nextUnit() * 40
        }
    }

    private static func count(_ random: inout RandomSource) -> Int {
        switch random.next() % 16 {
        case 0: -3
        case 1: 1 << 40
        default: Int(random.next() % 60)
        }
    }

    private static func observation(_ random: inout RandomSource, live: Int) -> VariantObservation {
        var times = TimeHistogram()
        times.record(seconds: Self.number(&random), times: Int(random.next() % 20))
        let sample = GatewaySample(
            arrivals: Self.count(&random),
            completions: Self.count(&random),
            refused: Self.count(&random) / 8,
            inFlightSeconds: Self.number(&random),
            queuedSeconds: Self.number(&random),
            inFlight: Self.count(&random),
            queued: Self.count(&random),
            oldestQueuedSeconds: Self.number(&random),
            queueWait: TimeSample(times),
            latency: TimeSample(times, within: random.next() % 9),
            timeToFirstToken: TimeSample(times),
            tokensIn: Self.number(&random),
            tokensOut: Self.number(&random)
        )
        let starting = Int(random.next() % 3)
        let isStuck = random.next() % 5 == 0
        return VariantObservation(
            seconds: random.next() % 20 == 0 ? Self.number(&random) : 1,
            gateway: random.next() % 10 == 0 ? nil : sample,
            gatewaysMissing: random.next() % 10 == 0 ? 1 : 0,
            replicas: random.next() % 10 == 0
                ? nil
                : ReplicaCounts(
                    ready: max(0, live - starting),
                    startingAges: Array(repeating: Self.number(&random), count: starting),
                    draining: Int(random.next() % 3),
                    stuck: isStuck ? 2 : 0,
                    obstacle: isStuck ? Obstacle(.crashLoop) : nil
                ),
            coldStartSeconds: [Self.number(&random)],
            drainSeconds: [Self.number(&random)],
            servers: [
                ServerSample(kvCacheUse: Self.number(&random), ageSeconds: Self.number(&random))
            ],
            gpuUtilization: Reading(Self.number(&random), ageSeconds: Self.number(&random)),
            metrics: [Reading(Self.number(&random)), Reading(nil)],
            slotsPerReplica: Self.number(&random)
        )
    }

    @Test(arguments: (UInt64(1)...12).map { $0 })
    func keepsItsBoundsAndExplainsWhateverComes(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let bounds = ScalingBounds(
            minimum: Int(random.next() % 3),
            maximum: 3 + Int(random.next() % 30)
        )
        let isPooled = random.next() % 2 == 0
        let variants = (0..<1 + Int(random.next() % 3)).map { index in
            VariantSetup(
                name: "v\(index)",
                bounds: bounds,
                cost: 1 + random.nextUnit(),
                isInterchangeable: isPooled
            )
        }
        let objective = TimeObjective(quantile: 0.95, below: .seconds(2))
        let setup = ModelSetup(
            name: "m",
            policy: Self.policy(&random),
            objectives: Objectives(latency: objective, timeToFirstToken: objective),
            variants: variants,
            pooledMinimum: Int(random.next() % 4)
        )
        var scaler = ModelAutoscaler(setup, at: Instant(nanoseconds: 0))
        var live = Array(repeating: 2, count: variants.count)
        var nanoseconds: UInt64 = 0
        for step in 0..<600 {
            // Sometimes the clock stands still, sometimes a machine sleeps.
            nanoseconds +=
                [1_000_000_000, 1_000_000_000, 0, 90_000_000_000][
                    random.next() % 40 == 0 ? 3 : Int(random.next() % 3)
                ]
            let now = Instant(nanoseconds: nanoseconds)
            for index in variants.indices {
                scaler.observe(
                    Self.observation(&random, live: live[index]),
                    variant: index,
                    at: now
                )
            }
            let proposals = scaler.propose(at: now)
            let isTight = random.next() % 4 == 0
            let grants = proposals.map { isTight ? Optional($0.wanted / 2) : nil }
            let decision = scaler.conclude(grants: grants, at: now)
            for (index, variant) in decision.variants.enumerated() {
                let place = "seed \(seed) step \(step): \(variant.explanation)"
                if let count = variant.replicasToSet {
                    #expect(count <= bounds.maximum, "\(place)")
                    if let grant = grants[index] {
                        #expect(count <= grant, "\(place)")
                    } else {
                        #expect(count >= bounds.minimum, "\(place)")
                    }
                    live[index] = count
                }
                #expect(!variant.recommendations.isEmpty, "\(place)")
                #expect(
                    !variant.summary.isEmpty && !variant.explanation.contains("nan"),
                    "\(place)"
                )
                if variant.outcome == .scaleDown, grants[index] == nil {
                    let kinds = variant.recommendations.map(\.replicas)
                    let isObstacle = variant.constraints.contains {
                        if case .obstacle = $0.kind { true } else { false }
                    }
                    #expect(!kinds.contains(nil) || isObstacle, "\(place)")
                }
            }
        }
    }

    /// No scale-down of the last replica under work, and none at all in the first minute.
    @Test(arguments: [UInt64(31), 32, 33, 34])
    func neverTakesTheLastReplicaUnderWork(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var policy = Self.policy(&random)
        policy.targets = [.concurrency(3), .objective]
        policy.idleAfter = .seconds(5)
        var rig = Rig(
            policy.targets,
            ready: 3,
            objectives: Objectives(latency: TimeObjective(quantile: 0.9, below: .seconds(2)))
        ) { $0 = policy }
        for step in 0..<1_000 {
            let isQuiet = random.next() % 200 > 150 || step % 300 > 150
            let queued = isQuiet ? 0 : Int(random.next() % 5)
            let sample = Rig.sample(
                inFlight: isQuiet ? 0 : Int(random.next() % 9),
                queued: queued,
                arrivals: isQuiet ? 0 : Int(random.next() % 4)
            )
            let before = rig.ready
            let decision = rig.tick(sample)
            rig.obey(decision)
            if sample.queued + sample.inFlight > 0, before > 0 {
                #expect(rig.ready > 0, "seed \(seed) step \(step): \(decision.explanation)")
            }
            if step < 20 { #expect(rig.ready >= before, "seed \(seed) step \(step)") }
        }
    }
}
