import Core
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
}

/// What goes wrong with the replicas of a model.
package struct ReplicaFaults: Hashable, Sendable {
    /// Seconds between crashes of one replica, the mean of an exponential time. Nil: never.
    package var crashInterval: Double?
    /// The probability that a start ends in a failure and begins anew after a back-off.
    package var startFailure = 0.0

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

    package init(name: String, requests: RequestStream) {
        self.name = name
        self.requests = requests
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
        return found
    }
}
