import Autoscaling
import Clusters
import Core
import Proxy

/// One model of the scaling loop: what it is to have, what is known of it, and what was decided.
///
/// An object, so that a tick changes thousands of them where they stand.
final class ScaledModel {
    /// A tick in which a model may have rested.
    struct Tick {
        var number: Int
        var at: Instant
        var seconds: Double
    }

    /// What a tick knows before it looks at any model.
    struct Observed {
        var seconds: Double
        /// Gateways that did not answer.
        var missing: Int
        var isGatewayHeard: Bool
        var now: Instant
    }

    private(set) var plan: ScalingPlan.Model
    var autoscaler: ModelAutoscaler
    private var shares: VariantGather
    var latest: ScalingDecision?
    /// What was wanted last, by variant of the plan: in a dry run nothing else knows.
    var wanted: [Int?]
    /// What the cluster had at the last look.
    private(set) var counts: [ReplicaCounts?]
    /// What the gateway counted before the present tick; empty where it was not heard.
    var samples: [GatewaySample] = []
    /// Seconds, the last of each variant, for the memory.
    private(set) var drains: [[Double]]
    /// The number of the last tick that was looked at or made up for; 0: none yet.
    var lookedAt = 0
    /// The end of what it was told of, while it waits for its turn.
    var waitsSince: Instant?

    /// - Parameter memory: what an earlier run knew.
    init(
        _ model: ScalingPlan.Model,
        _ memory: ScalingMemory?,
        _ fleet: any ScalingFleet,
        at now: Instant
    ) {
        let count = model.variants.count
        self.plan = model
        self.autoscaler = ModelAutoscaler(model.setup, at: now)
        self.shares = VariantGather(variants: count)
        self.wanted = Array(repeating: nil, count: count)
        self.counts = Array(repeating: nil, count: count)
        self.drains = Array(repeating: [], count: count)
        for (index, variant) in model.variants.enumerated() {
            let known = memory?.groups[variant.group]
            if let capacity = known?.capacity, let age = memory?.ageSeconds {
                self.autoscaler.recall(capacity, secondsAgo: age, variant: index)
            }
            let drains = known?.drainSeconds ?? []
            let starts = fleet.group(variant.group)?.coldStarts.samples ?? []
            self.drains[index] = drains
            if drains.isEmpty && starts.isEmpty { continue }
            self.autoscaler.observe(
                VariantObservation(
                    seconds: 1,
                    coldStartSeconds: starts.map(\.secondsAsDouble),
                    drainSeconds: drains
                ),
                variant: index,
                at: now
            )
        }
    }

    /// Takes over a changed plan of the model of this name.
    func adopt(_ model: ScalingPlan.Model, at now: Instant) {
        if self.plan == model { return }
        if self.plan.setup != model.setup { self.autoscaler.reconfigure(model.setup, at: now) }
        let names = self.plan.variants.map(\.name)
        if names != model.variants.map(\.name) {
            let places = model.variants.map { names.firstIndex(of: $0.name) }
            let wanted = self.wanted
            let counts = self.counts
            let drains = self.drains
            self.shares = VariantGather(variants: model.variants.count)
            self.wanted = places.map { $0.flatMap { wanted[$0] } }
            self.counts = places.map { $0.flatMap { counts[$0] } }
            self.drains = places.map { $0.map { drains[$0] } ?? [] }
            // Its indices are those of other variants.
            self.latest = nil
        }
        self.plan = model
    }

    // MARK: A tick

    /// What the cluster has now.
    func look(at fleet: any ScalingFleet, _ ledger: borrowing ReplicaLedger, _ now: Instant) {
        for (variant, entry) in self.plan.variants.enumerated() {
            let isPooled = self.plan.setup.variants[variant].isInterchangeable
            self.counts[variant] = fleet.group(entry.group).map {
                ledger.counts($0, isInterchangeable: isPooled, at: now)
            }
        }
    }

    /// What the gateway counted since the tick before.
    func gather(_ delta: borrowing ModelDelta, oldestQueuedSeconds: Double) {
        self.samples = self.shares.samples(
            self.plan,
            delta,
            replicas: self.counts,
            starter: self.autoscaler.starter,
            oldestQueuedSeconds: oldestQueuedSeconds
        )
    }

    /// Hands everything to the autoscaler.
    func observe(
        _ observed: Observed,
        _ ledger: inout ReplicaLedger,
        _ sources: (any ScalingSources)?
    ) {
        for (variant, entry) in self.plan.variants.enumerated() {
            var observation = VariantObservation(seconds: observed.seconds)
            if !self.samples.isEmpty { observation.gateway = self.samples[variant] }
            observation.gatewaysMissing = observed.missing
            observation.replicas = self.counts[variant]
            observation.coldStartSeconds = ledger.takeStarts(of: entry.group)
            observation.drainSeconds = ledger.takeDrains(of: entry.group)
            observation.slotsPerReplica = self.plan.slotsPerReplica
            if let sources {
                observation.servers = sources.servers(ofGroup: entry.group, at: observed.now)
                observation.gpuUtilization = sources.gpuUtilization(
                    ofGroup: entry.group,
                    at: observed.now
                )
                observation.metrics = sources.metrics(of: self.plan, at: observed.now)
            }
            if !observation.drainSeconds.isEmpty {
                let kept = self.drains[variant] + observation.drainSeconds
                self.drains[variant] = kept.suffix(ScalingMemory.drainsMax)
            }
            self.autoscaler.observe(observation, variant: variant, at: observed.now)
        }
    }

    // MARK: Rest

    /// Whether nothing changes by itself for so long; see `ModelAutoscaler.mayRest`. What shares a
    /// budget is decided together with the others.
    func mayRest(forSeconds seconds: Int, _ wallClock: WallClock?, at now: Instant) -> Bool {
        guard self.plan.budget == nil, self.latest != nil else { return false }
        // Whoever has requests does not rest. The autoscaler says so as well, but to ask it costs
        // a copy of it.
        guard self.samples.allSatisfy({ $0.arrivals == 0 && $0.inFlight == 0 }) else {
            return false
        }
        for (variant, entry) in self.counts.enumerated() {
            // What starts, drains or fails changes with time.
            guard let counts = entry, counts.ready == counts.total,
                self.latest?.variants[variant].outcome == .keep
            else { return false }
        }
        return self.autoscaler.mayRest(forSeconds: seconds, wallClock: wallClock, at: now)
    }

    /// Makes up for the ticks since the last look, in which nothing came.
    func rest(_ ticks: [Tick]) {
        for variant in self.plan.variants.indices {
            var idle = VariantObservation(seconds: 1, gateway: GatewaySample())
            idle.replicas = self.counts[variant]
            idle.slotsPerReplica = self.plan.slotsPerReplica
            for tick in ticks where tick.number > self.lookedAt {
                idle.seconds = tick.seconds
                self.autoscaler.rest(idle, variant: variant, at: tick.at)
            }
        }
        self.lookedAt = max(self.lookedAt, ticks.last?.number ?? 0)
    }
}
