import Core
import Rollouts

/// What a made-up model does in a trial: how much traffic, how replicas behave, how the canary
/// differs.
package struct TrialScenario: Sendable {
    package enum Load: Sendable {
        case steady
        /// Every twenty seconds five seconds with four times the requests; latency doubles and
        /// errors triple meanwhile, on both arms.
        case bursty
    }

    package var name: String
    package var load = Load.steady
    package var requestsPerSecond = 100.0
    package var errorRate = 0.001
    /// The median, and the standard deviation of the logarithm.
    package var latencySeconds = 0.1
    package var latencySpread = 0.5
    /// Standard deviations of the logarithms of each replica's own factors.
    package var replicaErrorSpread = 0.0
    package var replicaLatencySpread = 0.0
    /// Chance per replica and second that a burst of errors begins: a fifth of its requests fail
    /// for three seconds.
    package var errorBurstChance = 0.0
    /// Replicas of the stable variant, and of the canary for all requests.
    package var replicas = 10
    package var canaryErrorRate: Double?
    package var canaryLatencyFactor = 1.0
    /// The share of requests with a long prompt; the canary's factor may be for those alone.
    package var longPromptShare = 0.0
    package var slowOnLongPromptsOnly = false

    package init(_ name: String) {
        self.name = name
    }
}

/// What became of one rollout.
package struct TrialResult: Sendable, Equatable {
    package var isRolledBack = false
    package var isPromoted = false
    package var isPaused = false
    /// Seconds from the first request of the canary to the rollback.
    package var seconds = 0
    package var reason = ""
}

/// Runs the shipped machine against a scenario: replicas and acknowledgements come at once, each
/// tick is a second, all randomness comes from the seed.
package struct TrialWorld {
    private let scenario: TrialScenario
    private var random: RandomSource
    private var errorFactors: [Arm: [Double]] = [:]
    private var latencyFactors: [Arm: [Double]] = [:]
    private var burstsUntil: [Arm: [Int]] = [:]
    private var second = 0
    private var owed = 0.0
    private var scratch: [UInt16] = []

    package init(_ scenario: TrialScenario, seed: UInt64) {
        self.scenario = scenario
        self.random = RandomSource(seed: seed)
        for arm in Arm.allCases {
            var errors: [Double] = []
            var latencies: [Double] = []
            for _ in 0..<scenario.replicas {
                let spread = scenario.replicaErrorSpread
                // The mean of the factors is 1.
                let shift = spread * spread / 2
                errors.append(Mathematics.exp(spread * self.normal() - shift))
                latencies.append(Mathematics.exp(scenario.replicaLatencySpread * self.normal()))
            }
            self.errorFactors[arm] = errors
            self.latencyFactors[arm] = latencies
            self.burstsUntil[arm] = Array(repeating: 0, count: scenario.replicas)
        }
    }

    /// - Parameter secondsMax: after this long the trial ends without a decision.
    package mutating func run(_ plan: RolloutPlan, secondsMax: Int) throws -> TrialResult {
        let variants = [VariantReference("v1"), VariantReference("v2")]
        var machine = try RolloutMachine(RolloutSpec(live: "v1", variants: variants, plan: plan))
        var result = TrialResult()
        var exposed: Int?
        _ = try machine.perform(.start(variant: "v2"), at: self.moment)
        while self.second < secondsMax {
            self.second += 1
            let traffic = machine.status.traffic
            let weight = traffic.weight(of: "v2")
            if weight > 0, exposed == nil { exposed = self.second }
            let observation = self.observation(traffic.generation, weight)
            _ = machine.handle(.tick(observation), at: self.moment)
            _ = machine.handle(
                .acknowledged(generation: machine.status.traffic.generation),
                at: self.moment
            )
            switch machine.status.phase {
            case .rollingBack, .rolledBack: result.isRolledBack = true
            case .stable: result.isPromoted = true
            case .paused: result.isPaused = true
            case .progressing, .promoting: continue
            }
            break
        }
        result.seconds = self.second - (exposed ?? self.second)
        result.reason = machine.status.message
        return result
    }

    private var moment: RolloutMoment {
        let nanoseconds = UInt64(self.second + 1) * 1_000_000_000
        return RolloutMoment(instant: Instant(nanoseconds: nanoseconds), wall: self.second * 1_000)
    }

    // MARK: One second

    private mutating func observation(_ generation: Int, _ weight: Int) -> RolloutObservation {
        let all = self.scenario.replicas
        var observation = RolloutObservation(variants: [
            "v1": VariantObservation(ready: all, replicasForAll: all),
            "v2": VariantObservation(ready: all, replicasForAll: all),
        ])
        let isBurst = self.isBurst
        let requests = self.poisson(self.scenario.requestsPerSecond * (isBurst ? 4 : 1))
        // As smooth weights do it: within one request of the share.
        self.owed += Double(requests * weight) / 100
        let canary = Int(self.owed)
        self.owed -= Double(canary)
        let replicas = max(1, (all * weight + 99) / 100)
        if canary > 0 { self.sample(.canary, canary, replicas, generation, &observation) }
        if requests > canary {
            self.sample(.stable, requests - canary, all, generation, &observation)
        }
        return observation
    }

    private var isBurst: Bool {
        switch self.scenario.load {
        case .steady: false
        case .bursty: self.second % 20 >= 15
        }
    }

    private mutating func sample(
        _ arm: Arm,
        _ requests: Int,
        _ replicas: Int,
        _ generation: Int,
        _ observation: inout RolloutObservation
    ) {
        var guardrail = GuardrailSample()
        for replica in 0..<replicas {
            let own = requests / replicas + (replica < requests % replicas ? 1 : 0)
            guard own > 0 else { continue }
            let long = self.scenario.longPromptShare > 0
            let longCount = long ? self.binomial(own, self.scenario.longPromptShare) : 0
            for (stratum, count) in [(0, own - longCount), (1, longCount)] where count > 0 {
                var sample = ArmSample(
                    arm: arm,
                    replica: "\(replica)",
                    generation: generation,
                    stratum: stratum,
                    requests: count
                )
                sample[.error] = self.binomial(count, self.errorChance(arm, replica))
                sample[.latency] = self.latencies(arm, replica, stratum, count - sample[.error])
                guardrail.requests += count
                guardrail.errors += sample[.error]
                observation.samples.append(sample)
            }
        }
        switch arm {
        case .canary: observation.canary = guardrail
        case .stable: observation.stable = guardrail
        }
    }

    private mutating func errorChance(_ arm: Arm, _ replica: Int) -> Double {
        if self.scenario.errorBurstChance > 0,
            self.random.nextUnit() < self.scenario.errorBurstChance
        {
            self.burstsUntil[arm]?[replica] = self.second + 3
        }
        if (self.burstsUntil[arm]?[replica] ?? 0) > self.second { return 0.2 }
        var chance = self.scenario.errorRate
        if arm == .canary { chance = self.scenario.canaryErrorRate ?? chance }
        chance *= self.errorFactors[arm]?[replica] ?? 1
        return min(chance * (self.isBurst ? 3 : 1), 1)
    }

    private mutating func latencies(_ arm: Arm, _ replica: Int, _ stratum: Int, _ count: Int)
        -> BucketCounts
    {
        var scale = self.scenario.latencySeconds * 1e9 * (stratum == 0 ? 1 : 4)
        scale *= self.latencyFactors[arm]?[replica] ?? 1
        if self.isBurst { scale *= 2 }
        if arm == .canary, stratum == 1 || !self.scenario.slowOnLongPromptsOnly {
            scale *= self.scenario.canaryLatencyFactor
        }
        self.scratch.removeAll(keepingCapacity: true)
        for _ in 0..<count {
            let value = scale * Mathematics.exp(self.scenario.latencySpread * self.normal())
            self.scratch.append(UInt16(LatencyHistogram.bucket(of: UInt64(value))))
        }
        self.scratch.sort()
        var entries: [BucketCounts.Entry] = []
        for bucket in self.scratch {
            if entries.last?.bucket == bucket {
                entries[entries.count - 1].count += 1
            } else {
                entries.append(.init(bucket: bucket, count: 1))
            }
        }
        return BucketCounts(entries)
    }

    // MARK: Random numbers

    /// A standard normal number out of a table of 4096 quantiles, which is exact enough for both
    /// arms alike.
    private mutating func normal() -> Double {
        NormalTable.values[Int(truncatingIfNeeded: self.random.next() >> 52)]
    }

    private mutating func poisson(_ mean: Double) -> Int {
        max(0, Int((mean + mean.squareRoot() * self.normal()).rounded()))
    }

    /// Exact: jumps from success to success.
    private mutating func binomial(_ count: Int, _ chance: Double) -> Int {
        if chance <= 0 { return 0 }
        if chance >= 1 { return count }
        let logarithm = Mathematics.log(1 - chance)
        var successes = 0
        var position = 0
        while true {
            let unit = max(self.random.nextUnit(), 0x1p-53)
            let jump = Mathematics.log(unit) / logarithm
            if jump >= Double(count - position) { return successes }
            position += Int(jump) + 1
            successes += 1
            if position >= count { return successes }
        }
    }
}

/// Quantiles of the standard normal distribution at the middles of 4096 equal parts.
private enum NormalTable {
    static let values: [Double] = (0..<4_096).map { Self.quantile((Double($0) + 0.5) / 4_096) }

    /// Abramowitz and Stegun, 26.2.23, |error| < 4.5e-4.
    private static func quantile(_ share: Double) -> Double {
        if share > 0.5 { return -self.quantile(1 - share) }
        let root = (-2 * Mathematics.log(share)).squareRoot()
        let upper = 2.515517 + root * (0.802853 + root * 0.010328)
        let lower = 1 + root * (1.432788 + root * (0.189269 + root * 0.001308))
        return -(root - upper / lower)
    }
}
