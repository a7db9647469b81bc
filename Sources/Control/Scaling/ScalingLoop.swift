// Design note
//
// Gather, decide, act, once per tick, and at once when a request has no replica.
//
//     workers ──cumulative counters──▶ LoadLedger ─┐
//     clusters ──changes, states──▶ ReplicaLedger ─┼─▶ VariantGather ─▶ ModelAutoscaler ─▶ scale
//     model servers, Prometheus ──▶ ScalingSources ┘                          │
//                                         ScalingHistory, explanation, memory ┘
//
// It owns no clock, no socket and no thread: `tick` and `wake` take the time, and what it acts on
// is behind `ScalingFleet`. It alone writes the number of replicas of the groups in its plan.
//
// Limits: `ScalingPlan` (variants per model), `ScalingHistory.capacity`, `DecisionLog`. Not done
// here: deciding (module Autoscaling), choosing whom to stop (Clusters), asking the workers
// (`ControlPlane`).

import Autoscaling
import Clusters
import Core
import Logging
import Proxy

/// What the loop looks at and acts on.
package protocol ScalingFleet: AnyObject {
    func group(_ name: String) -> GroupStatus?
    func scale(_ group: String, to count: Int) throws(ClusterError)
}

extension ProcessCluster: ScalingFleet {}
extension KubernetesCluster: ScalingFleet {}

/// Readings of sources other than the gateway. What is not known is nil or empty.
package protocol ScalingSources: AnyObject {
    /// The models and groups to ask about from now on.
    func follow(_ plan: ScalingPlan)
    /// Replicas may have come and gone.
    func refresh()
    /// At most one sample per ready replica.
    func servers(ofGroup group: String, at now: Instant) -> [ServerSample]
    /// Mean use of the GPUs of the group's replicas.
    func gpuUtilization(ofGroup group: String, at now: Instant) -> Reading?
    /// The results of the model's metric targets, in their order.
    func metrics(of model: ScalingPlan.Model, at now: Instant) -> [Reading]
    /// How useful what a replica has in its cache is; 0 where nobody knows.
    func cacheValue(of replica: ReplicaID) -> Double
}

/// See the design note at the top of this file.
package final class ScalingLoop {
    private struct Entry {
        var plan: ScalingPlan.Model
        var autoscaler: ModelAutoscaler
        var gather: VariantGather
        var latest: ScalingDecision?
        /// What was wanted last, by variant of the plan: in a dry run nothing else knows.
        var wanted: [Int?]
        var counts: [ReplicaCounts?]
        /// Seconds, the last of each variant, for the memory.
        var drains: [[Double]]
    }

    package private(set) var plan = ScalingPlan()
    package private(set) var history = ScalingHistory()
    private var entries: [Entry] = []
    private var ledger = LoadLedger()
    private var replicas = ReplicaLedger()
    private unowned let fleet: any ScalingFleet
    package var sources: (any ScalingSources)?
    private let logger: Logger
    private var tickedAt: Instant?
    /// How long the first in a model's queue has waited, in seconds.
    package var oldestQueuedSeconds: (_ model: String) -> Double = { _ in 0 }

    /// - Parameter fleet: lives longer than the loop.
    package init(fleet: any ScalingFleet, logger: Logger) {
        self.fleet = fleet
        self.logger = logger
    }

    // MARK: Configuration

    /// Takes over a plan. What was learned stays with models and variants of the same name.
    /// - Parameter memory: what an earlier run knew.
    package func adopt(_ plan: ScalingPlan, memory: ScalingMemory? = nil, at now: Instant) {
        var old: [String: Entry] = [:]
        for entry in self.entries { old[entry.plan.name] = entry }
        self.entries = plan.models.map { model in
            guard let known = old[model.name] else {
                return self.newEntry(model, memory, at: now)
            }
            return Self.changed(known, to: model, at: now)
        }
        self.plan = plan
        var limits: [String: ObjectiveLimits] = [:]
        for model in plan.models { limits[model.name] = ObjectiveLimits(model.setup.objectives) }
        self.ledger.follow(limits)
        self.replicas.follow(Set(plan.models.flatMap { $0.variants.map(\.group) }))
        self.history.forget { plan.index(of: $0) != nil }
        self.sources?.follow(plan)
    }

    /// Forgets what was counted of models that the configuration has no more.
    package func forgetModels(except names: Set<String>) {
        self.ledger.forget { names.contains($0) }
    }

    private func newEntry(
        _ model: ScalingPlan.Model,
        _ memory: ScalingMemory?,
        at now: Instant
    ) -> Entry {
        var entry = Entry(
            plan: model,
            autoscaler: ModelAutoscaler(model.setup, at: now),
            gather: VariantGather(variants: model.variants.count),
            wanted: Array(repeating: nil, count: model.variants.count),
            counts: Array(repeating: nil, count: model.variants.count),
            drains: Array(repeating: [], count: model.variants.count)
        )
        for (index, variant) in model.variants.enumerated() {
            let drains = memory?.groups[variant.group]?.drainSeconds ?? []
            let starts = self.fleet.group(variant.group)?.coldStarts.samples ?? []
            entry.drains[index] = drains
            if drains.isEmpty && starts.isEmpty { continue }
            entry.autoscaler.observe(
                VariantObservation(
                    seconds: 1,
                    coldStartSeconds: starts.map(\.secondsAsDouble),
                    drainSeconds: drains
                ),
                variant: index,
                at: now
            )
        }
        return entry
    }

    private static func changed(
        _ entry: Entry,
        to model: ScalingPlan.Model,
        at now: Instant
    ) -> Entry {
        var entry = entry
        if entry.plan == model { return entry }
        if entry.plan.setup != model.setup { entry.autoscaler.reconfigure(model.setup, at: now) }
        let names = entry.plan.variants.map(\.name)
        let old = entry
        if names != model.variants.map(\.name) {
            let places = model.variants.map { names.firstIndex(of: $0.name) }
            entry.gather = VariantGather(variants: model.variants.count)
            entry.wanted = places.map { $0.flatMap { old.wanted[$0] } }
            entry.counts = places.map { $0.flatMap { old.counts[$0] } }
            entry.drains = places.map { $0.map { old.drains[$0] } ?? [] }
            // Its indices are those of other variants.
            entry.latest = nil
        }
        entry.plan = model
        return entry
    }

    // MARK: What comes in

    package func take(_ load: WorkerLoad) { self.ledger.take(load) }

    /// A source of `take` is gone.
    package func forget(source: Int) { self.ledger.forget(source: source) }

    package func note(_ change: ReplicaChange, at now: Instant) {
        self.replicas.note(change, at: now)
    }

    // MARK: The tick

    /// - Parameters:
    ///   - isGatewayHeard: whether any worker answered since the last tick.
    ///   - missing: how many did not.
    package func tick(
        at now: Instant,
        wallClock: WallClock?,
        isGatewayHeard: Bool = true,
        missing: Int = 0
    ) {
        let seconds = self.tickedAt.map { max(0.001, now.seconds(since: $0)) } ?? 1
        self.tickedAt = now
        self.sources?.refresh()
        for index in self.entries.indices {
            let samples = self.gather(index, isGatewayHeard: isGatewayHeard, at: now)
            for variant in self.entries[index].plan.variants.indices {
                self.observe(
                    index,
                    variant,
                    samples?[variant],
                    seconds: seconds,
                    missing: missing,
                    at: now
                )
            }
            if let samples { self.wakeSleeping(index, samples, wallClock, at: now) }
        }
        self.decide(wallClock, at: now)
    }

    private func gather(_ index: Int, isGatewayHeard: Bool, at now: Instant) -> [GatewaySample]? {
        let model = self.entries[index].plan
        for (variant, entry) in model.variants.enumerated() {
            self.entries[index].counts[variant] = self.fleet.group(entry.group).map {
                self.replicas.counts($0, at: now)
            }
        }
        guard isGatewayHeard else { return nil }
        let delta = self.ledger.delta(of: model.name)
        return self.entries[index].gather.samples(
            model,
            delta,
            replicas: self.entries[index].counts,
            oldestQueuedSeconds: self.oldestQueuedSeconds(model.name)
        )
    }

    private func observe(
        _ index: Int,
        _ variant: Int,
        _ sample: GatewaySample?,
        seconds: Double,
        missing: Int,
        at now: Instant
    ) {
        let model = self.entries[index].plan
        let group = model.variants[variant].group
        var observation = VariantObservation(seconds: seconds)
        observation.gateway = sample
        observation.gatewaysMissing = missing
        observation.replicas = self.entries[index].counts[variant]
        observation.coldStartSeconds = self.replicas.takeStarts(of: group)
        observation.drainSeconds = self.replicas.takeDrains(of: group)
        observation.slotsPerReplica = model.slotsPerReplica
        if let sources = self.sources {
            observation.servers = sources.servers(ofGroup: group, at: now)
            observation.gpuUtilization = sources.gpuUtilization(ofGroup: group, at: now)
            observation.metrics = sources.metrics(of: model, at: now)
        }
        if !observation.drainSeconds.isEmpty {
            let kept = self.entries[index].drains[variant] + observation.drainSeconds
            self.entries[index].drains[variant] = kept.suffix(ScalingMemory.drainsMax)
        }
        self.entries[index].autoscaler.observe(observation, variant: variant, at: now)
    }

    /// A variant that has weight and no replica while others serve: it is started, so that it gets
    /// the share it is to have. Until it is ready the others have its requests.
    private func wakeSleeping(
        _ index: Int,
        _ samples: [GatewaySample],
        _ wallClock: WallClock?,
        at now: Instant
    ) {
        for (variant, entry) in self.entries[index].plan.variants.enumerated()
        where entry.weight > 0 && samples[variant].arrivals + samples[variant].queued > 0 {
            guard let counts = self.entries[index].counts[variant],
                counts.ready + counts.starting + counts.stuck == 0
            else { continue }
            self.start(
                index,
                variant,
                "its weight gives it requests and it has no replica",
                wallClock,
                at: now
            )
        }
    }

    private func decide(_ wallClock: WallClock?, at now: Instant) {
        var claims: [[BudgetAllocator.Claim]] = self.plan.budgets.map { budget in
            self.fixedClaims(budget, at: now)
        }
        var places: [(entry: Int, budget: Int, first: Int)] = []
        for index in self.entries.indices {
            let proposals = self.entries[index].autoscaler.propose(at: now, wallClock: wallClock)
            guard let share = self.entries[index].plan.budget else {
                self.conclude(index, grants: [], wallClock, at: now)
                continue
            }
            places.append((index, share.index, claims[share.index].count))
            claims[share.index] += self.claims(index, proposals, share)
        }
        if places.isEmpty { return }
        let grants = zip(self.plan.budgets, claims).map { budget, claims in
            BudgetAllocator(total: budget.total).grants(for: claims)
        }
        for place in places {
            let count = self.entries[place.entry].plan.variants.count
            let own = grants[place.budget][place.first..<(place.first + count)]
            self.conclude(place.entry, grants: own.map { $0 }, wallClock, at: now)
        }
    }

    private func claims(
        _ index: Int,
        _ proposals: [Proposal],
        _ share: ScalingPlan.Share
    ) -> [BudgetAllocator.Claim] {
        let entry = self.entries[index]
        return proposals.indices.map { variant in
            let counts = entry.counts[variant]
            let draining = counts?.draining ?? 0
            // What drains and can be taken back needs no units that are free.
            let group = self.fleet.group(entry.plan.variants[variant].group)
            let takeable = min(group?.takeable ?? 0, draining)
            return BudgetAllocator.Claim(
                unitsPerReplica: entry.plan.setup.variants[variant].unitsPerReplica,
                minimum: proposals[variant].minimum,
                wanted: proposals[variant].wanted,
                held: (counts.map { $0.ready + $0.starting + $0.stuck } ?? 0) + takeable,
                draining: draining - takeable,
                weight: share.weight
            )
        }
    }

    /// What groups take that are not scaled: they have it, and nobody asks.
    private func fixedClaims(_ budget: ScalingPlan.Budget, at now: Instant)
        -> [BudgetAllocator.Claim]
    {
        budget.fixed.compactMap { fixed in
            guard let group = self.fleet.group(fixed.group) else { return nil }
            let draining = group.replicas.count(where: \.isLeaving)
            return BudgetAllocator.Claim(
                unitsPerReplica: fixed.units,
                minimum: group.desired,
                wanted: group.desired,
                held: group.replicas.count - draining,
                draining: draining
            )
        }
    }

    private func conclude(
        _ index: Int,
        grants: [Int?],
        _ wallClock: WallClock?,
        at now: Instant
    ) {
        let decision = self.entries[index].autoscaler.conclude(grants: grants, at: now)
        self.entries[index].latest = decision
        for variant in decision.variants.indices { self.act(index, variant, decision, wallClock) }
    }

    private func act(
        _ index: Int,
        _ variant: Int,
        _ decision: ScalingDecision,
        _ wallClock: WallClock?
    ) {
        let own = decision.variants[variant]
        let isDryRun = own.isDryRun
        guard isDryRun ? own.outcome != .hold : own.replicasToSet != nil else { return }
        let group = self.entries[index].plan.variants[variant].group
        let present = self.fleet.group(group)?.desired
        let before = isDryRun ? self.entries[index].wanted[variant] ?? present : present
        self.entries[index].wanted[variant] = own.desired
        guard let before, before != own.desired else { return }
        let change = ScalingChange(
            model: self.entries[index].plan.name,
            variant: own.variant,
            group: group,
            from: before,
            to: own.desired,
            reason: ScalingReason(own),
            text: ScalingWords.reason(own),
            isDryRun: isDryRun,
            wallSeconds: Double(wallClock?.secondsSince1970 ?? 0)
        )
        self.make(change)
    }

    /// Writes a number and says so. What cannot be written is tried again at the next tick.
    private func make(_ change: ScalingChange) {
        if !change.isDryRun {
            do throws(ClusterError) {
                try self.fleet.scale(change.group, to: change.to)
            } catch {
                self.logger.error(
                    "cannot scale",
                    metadata: [
                        "model": "\(change.model)", "variant": "\(change.variant)",
                        "replicas": "\(change.to)", "reason": "\(error)",
                    ]
                )
                return
            }
        }
        self.history.append(change)
        self.logger.info(
            change.isDryRun ? "would scale" : "scaled",
            metadata: [
                "model": "\(change.model)", "variant": "\(change.variant)",
                "from": "\(change.from)", "replicas": "\(change.to)",
                "reason": "\(change.reason.rawValue)", "because": "\(change.text)",
            ]
        )
    }

    // MARK: From zero

    /// A request waits and no replica can take it.
    /// - Parameter pinned: the variant it must go to; nil: any with weight.
    /// - Returns: false where the model is not scaled here, or in a dry run.
    package func wake(
        _ model: String,
        pinnedTo pinned: String?,
        wallClock: WallClock?,
        at now: Instant
    ) -> Bool {
        guard let index = self.plan.index(of: model) else { return false }
        for (variant, entry) in self.entries[index].plan.variants.enumerated()
        where pinned.map({ $0 == entry.name }) ?? (entry.weight > 0) {
            guard let group = self.fleet.group(entry.group) else { continue }
            if group.desired > 0 {
                // It comes between two ticks: the next decision is not to take the replica for idle.
                _ = self.entries[index].autoscaler.requestArrived(variant: variant, at: now)
                continue
            }
            self.start(
                index,
                variant,
                "a request waits for the first replica",
                wallClock,
                at: now
            )
        }
        return !self.entries[index].plan.setup.policy.isDryRun
    }

    private func start(
        _ index: Int,
        _ variant: Int,
        _ text: String,
        _ wallClock: WallClock?,
        at now: Instant
    ) {
        let model = self.entries[index].plan
        guard self.hasRoom(model, variant, at: now) else { return }
        let answer = self.entries[index].autoscaler.requestArrived(variant: variant, at: now)
        guard case .start(let count) = answer else { return }
        let group = model.variants[variant].group
        let isDryRun = model.setup.policy.isDryRun
        let before = self.fleet.group(group)?.desired ?? 0
        let known = isDryRun ? self.entries[index].wanted[variant] ?? before : before
        self.entries[index].wanted[variant] = count
        if known >= count { return }
        self.make(
            ScalingChange(
                model: model.name,
                variant: model.variants[variant].name,
                group: group,
                from: known,
                to: count,
                reason: .request,
                text: text,
                isDryRun: isDryRun,
                wallSeconds: Double(wallClock?.secondsSince1970 ?? 0)
            )
        )
    }

    /// Whether the model's budget has units that nobody holds, or that the variant's own draining
    /// replicas hold, which come back. If not, the next tick shares anew.
    private func hasRoom(_ model: ScalingPlan.Model, _ variant: Int, at now: Instant) -> Bool {
        guard let share = model.budget else { return true }
        var held = 0
        for other in self.plan.models where other.budget?.index == share.index {
            for (place, entry) in other.variants.enumerated() {
                let replicas = self.fleet.group(entry.group)?.replicas.count ?? 0
                held += replicas * other.setup.variants[place].unitsPerReplica
            }
        }
        for fixed in self.plan.budgets[share.index].fixed {
            held += (self.fleet.group(fixed.group)?.replicas.count ?? 0) * fixed.units
        }
        let setup = model.setup.variants[variant]
        let takeable = self.fleet.group(model.variants[variant].group)?.takeable ?? 0
        let count = max(0, max(1, setup.bounds.minimum) - takeable)
        return held + count * setup.unitsPerReplica <= self.plan.budgets[share.index].total
    }

    // MARK: What others ask

    /// The latest decision about a model; nil before the first, or where it is not scaled.
    package func latest(of model: String) -> ScalingDecision? {
        self.plan.index(of: model).flatMap { self.entries[$0].latest }
    }

    /// What is wanted of a variant now; nil where nothing was decided.
    package func wanted(model: String, variant: String) -> Int? {
        guard let index = self.plan.index(of: model),
            let place = self.entries[index].plan.variants.firstIndex(where: { $0.name == variant })
        else { return nil }
        return self.entries[index].wanted[place]
    }

    /// What the next run should know.
    package func remember(wallSeconds: Double) -> ScalingMemory {
        var memory = ScalingMemory(savedAt: wallSeconds)
        for entry in self.entries {
            for (index, variant) in entry.plan.variants.enumerated() {
                memory.groups[variant.group] = ScalingMemory.Group(
                    replicas: self.fleet.group(variant.group)?.desired ?? 0,
                    drainSeconds: entry.drains[index]
                )
            }
        }
        return memory
    }
}
