import Autoscaling
import Core
import Rollouts
import Traffic

/// What good service is: both parts must hold where both are given.
package struct ServiceObjective: Hashable, Sendable {
    /// Seconds from the arrival to the first token, and to the last.
    package var firstToken: Double?
    package var latency: Double?

    package init(firstToken: Double? = nil, latency: Double? = nil) {
        self.firstToken = firstToken
        self.latency = latency
    }
}

/// What a replica does to time.
package enum ReplicaEngine: Hashable, Sendable {
    /// Requests share nothing; each is in service for its own time, which every other request on
    /// the replica lengthens by the share `slowdown`.
    case simple(slowdown: Double)
    /// Continuous batching, as an LLM server does it.
    case batching(BatchingSetup)
}

/// A continuous-batching engine; the defaults are near an 8-billion parameter model on one
/// data-centre GPU.
package struct BatchingSetup: Hashable, Sendable {
    package var prefillTokensPerSecond = 20_000.0
    /// Nanoseconds of a step whatever is in it, and for each sequence that decodes.
    package var stepBase: UInt64 = 8_000_000
    package var stepPerSequence: UInt64 = 100_000
    package var batchMax = 64
    package var stepTokensMax = 2_048
    package var blockTokens = 16
    package var blocks = 8_192

    package init() {}

    package var cacheTokens: Int { self.blocks * self.blockTokens }

    /// The same on a GPU that is so many times as fast; its memory is as large.
    package func faster(by speed: Double) -> BatchingSetup {
        var faster = self
        faster.prefillTokensPerSecond = max(1, self.prefillTokensPerSecond * speed)
        faster.stepBase = UInt64(max(1, Double(self.stepBase) / speed))
        faster.stepPerSequence = UInt64(Double(self.stepPerSequence) / speed)
        return faster
    }
}

/// What goes wrong with the replicas of a model.
package struct ReplicaFaults: Hashable, Sendable {
    /// Seconds between crashes of one replica, the mean of an exponential time. Nil: never.
    package var crashInterval: Double?
    /// The probability that a start ends in a failure and begins anew after a back-off.
    package var startFailure = 0.0
    /// The share of requests that are answered with an error, at the end of their time.
    package var errorRate = 0.0

    package init() {}
}

/// One model of a world.
package struct SimulatedModel: Sendable {
    package var name: String
    package var requests: RequestStream
    package var engine: ReplicaEngine = .simple(slowdown: 0)
    /// Requests that one replica works on at a time. Nil: no limit.
    package var concurrency: Int? = 8
    package var queue = AdmissionLimits(countMax: 100_000, bytesMax: .max)
    /// Seconds that a request waits at most.
    package var queueTimeout = 300.0
    package var objective = ServiceObjective()
    package var replicasMin = 0
    package var replicasMax = 100
    package var replicasAtStart = 1
    package var gpusPerReplica = 1
    /// From having its GPUs to being ready.
    package var coldStart = Delay.fixed(60)
    /// Seconds from its last request to its GPUs being free again.
    package var exit = 2.0
    /// Seconds after which what still runs on a draining replica is cut off.
    package var drainDeadline = 300.0
    /// A higher one is served first where a budget is short.
    package var priority = 0
    /// Of a budget's remainder.
    package var weight = 1
    package var faults = ReplicaFaults()
    /// The model of the world, an earlier one, of which it is another variant: it serves requests
    /// of that one and has none of its own. Nil: a model of its own.
    package var variantOf: Int?
    /// Whether it does what that one does, so that the cheapest mix serves. If not, it gets
    /// requests by a rollout alone.
    package var isInterchangeable = true
    /// Of the first of interchangeable variants: how many of it there are at least.
    package var replicasMinOwn = 0
    /// And of all of them together; nil: its `replicasMin`.
    package var replicasMinTogether: Int?
    /// What a replica costs for each second, against those of the other variants.
    package var cost = 1.0
    /// How much faster than the traffic says its replicas are, where they do not batch.
    package var speed = 1.0

    package init(name: String, requests: RequestStream) {
        self.name = name
        self.requests = requests
    }

    /// Another variant of this one, which is the model `index` of its world.
    package func variant(_ name: String, of index: Int) -> SimulatedModel {
        var variant = self
        variant.name = name
        variant.variantOf = index
        variant.replicasMin = 0
        variant.replicasAtStart = 0
        return variant
    }

    /// What is wrong with it; empty where it can be run.
    package var problems: [String] {
        var found: [String] = []
        func require(_ holds: Bool, _ message: String) {
            if !holds { found.append("\(self.name): \(message)") }
        }
        let replicas = 0...SimulationLimits.replicasMax
        require(
            self.concurrency.map { (1...65_536).contains($0) } ?? true,
            "concurrency must be 1 to 65536"
        )
        require(replicas.contains(self.replicasMax), "at most \(replicas.upperBound) replicas")
        require(
            (0...self.replicasMax).contains(self.replicasMin),
            "minReplicas must be 0 to maxReplicas"
        )
        require(
            (self.replicasMin...max(self.replicasMin, self.replicasMax)).contains(
                self.replicasAtStart
            ),
            "replicas at the start must be minReplicas to maxReplicas"
        )
        require((1...64).contains(self.gpusPerReplica), "a replica takes 1 to 64 GPUs")
        require(self.queueTimeout > 0, "the queue's timeout must be above 0")
        require(self.exit >= 0 && self.drainDeadline >= 0, "times must not be negative")
        require(
            (0..<1).contains(self.faults.startFailure),
            "startFailure must be 0 to below 1"
        )
        require((self.faults.crashInterval ?? 1) > 0, "crashInterval must be above 0")
        require((0...1).contains(self.faults.errorRate), "errorRate must be 0 to 1")
        require(self.cost > 0 && self.cost <= 1e9, "a cost must be above 0, up to 1e9")
        require((1e-3...1e3).contains(self.speed), "a speed must be 0.001 to 1000")
        require(
            (0...self.replicasMax).contains(self.replicasMinOwn),
            "replicasMinOwn must be 0 to replicasMax"
        )
        if case .batching(let setup) = self.engine {
            require(setup.prefillTokensPerSecond >= 1, "prefillTokensPerSecond must be 1 or more")
            require(setup.batchMax >= 1 && setup.stepTokensMax >= 1, "a batch of at least 1")
            require(setup.blocks >= 1 && setup.blockTokens >= 1, "a cache of at least one block")
            require(setup.stepBase + setup.stepPerSequence > 0, "a step must take time")
        }
        return found
    }
}

/// A stretch of time, in seconds from the start.
package struct Period: Hashable, Sendable {
    package var from: Double
    package var to: Double

    package init(from: Double, to: Double) {
        self.from = from
        self.to = to
    }

    package func contains(_ seconds: Double) -> Bool { seconds >= self.from && seconds < self.to }
}

/// GPUs that all models of a world share.
package struct GPUPool: Hashable, Sendable {
    package struct Shortage: Hashable, Sendable {
        package var period: Period
        /// How many there are meanwhile. Those in use beyond it are not taken away.
        package var available: Int

        package init(period: Period, available: Int) {
            self.period = period
            self.available = available
        }
    }

    /// Nil: there are always enough.
    package var total: Int?
    package var shortages: [Shortage] = []
    /// From asking for GPUs to their being there: scheduling, or a node that must start.
    package var delay = Delay.fixed(0)
    /// The probability that what a replica asks for never comes.
    package var neverComes = 0.0

    package init() {}

    func available(at seconds: Double) -> Int {
        var least = self.total ?? .max
        for shortage in self.shortages where shortage.period.contains(seconds) {
            least = min(least, shortage.available)
        }
        return least
    }
}

/// Everything that a run depends on but the policy.
package struct WorldSetup: Sendable {
    package var models: [SimulatedModel]
    package var pool = GPUPool()
    /// What the policies may use in all, in GPUs. Nil: no budget. Replicas past it are not made.
    package var budget: Int?
    /// When the servers' own metrics cannot be had; the gateway's can.
    package var outages: [Period] = []
    /// When nothing can be measured at all.
    package var blackouts: [Period] = []
    /// Seconds. What arrives later does not count and does not come.
    package var duration: Double
    /// Seconds at the beginning that do not count.
    package var warmUp = 0.0
    package var seed: UInt64 = 1
    /// What becomes of a new variant; nil: none is tried.
    package var rollout: SimulatedRollout?

    package init(models: [SimulatedModel], duration: Double) {
        self.models = models
        self.duration = duration
    }

    /// What is wrong with it; empty where it can be run.
    package var problems: [String] {
        var found = self.models.flatMap(\.problems)
        if !(1...SimulationLimits.modelsMax).contains(self.models.count) {
            found.append("a world has 1 to \(SimulationLimits.modelsMax) models")
        }
        if !(self.duration >= 1 && self.duration <= 2_592_000) {
            found.append("a run lasts 1 second to 30 days")
        }
        if !(self.warmUp >= 0 && self.warmUp < self.duration) {
            found.append("the warm-up must be shorter than the run")
        }
        if !(0...1).contains(self.pool.neverComes) { found.append("neverComes must be 0 to 1") }
        found += self.variantProblems
        return found
    }

    private var variantProblems: [String] {
        var found: [String] = []
        for (index, model) in self.models.enumerated() {
            guard let whole = model.variantOf else { continue }
            if !(0..<index).contains(whole) || self.models[whole].variantOf != nil {
                found.append("\(model.name): a variant comes after its model")
            } else if self.models.count(where: { $0.variantOf == whole }) >= ModelSetup.variantsMax
            {
                found.append(
                    "\(self.models[whole].name): at most \(ModelSetup.variantsMax) variants"
                )
            }
        }
        guard let rollout else { return found }
        if !self.models.indices.contains(rollout.canary)
            || self.models[rollout.canary].variantOf == nil
            || self.models[rollout.canary].isInterchangeable
        {
            found.append("a rollout needs a variant that is not interchangeable")
        }
        if !(rollout.startsAt >= 0) { found.append("a rollout begins at 0 or later") }
        return found
    }
}

/// A new variant of a model that gets a growing share of its requests, or is found out.
package struct SimulatedRollout: Sendable {
    /// The index of the variant that is tried.
    package var canary: Int
    package var plan: RolloutPlan
    /// Seconds until somebody begins it.
    package var startsAt: Double

    package init(canary: Int, plan: RolloutPlan, startsAt: Double = 0) {
        self.canary = canary
        self.plan = plan
        self.startsAt = startsAt
    }

    /// A plan without what a world has nobody for: webhooks, queries, a promotion by hand, headers
    /// and copies of requests. And what of these it had, in words.
    package static func playable(_ plan: RolloutPlan) -> (plan: RolloutPlan, leftOut: [String]) {
        var plan = plan
        var leftOut: [String] = []
        func drop(_ what: String, _ isThere: Bool) { if isThere { leftOut.append(what) } }
        drop("webhooks", !plan.webhooks.isEmpty)
        plan.webhooks = []
        let metrics = plan.analysis.metrics
        plan.analysis.metrics.removeAll { metric in
            if case .custom = metric.test { true } else { false }
        }
        drop("queries", plan.analysis.metrics.count < metrics.count)
        let steps = plan.steps
        plan.steps.removeAll { step in
            switch step {
            case .pause(nil), .headerRoute, .mirror: true
            case .weight, .pause(.some), .canaryReplicas, .analysis: false
            }
        }
        drop("pauses without an end", steps.contains(.pause(nil)))
        let isRouted = steps.contains { step in
            switch step {
            case .headerRoute, .mirror: true
            case .weight, .pause, .canaryReplicas, .analysis: false
            }
        }
        drop("header routes and mirrors", isRouted)
        return (plan, leftOut)
    }
}
