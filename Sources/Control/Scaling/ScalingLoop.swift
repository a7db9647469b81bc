// Design note
//
// Gather, decide, act, once per tick, and at once when a request has no replica.
//
//     workers ──cumulative counters──▶ LoadLedger ─┐
//     clusters ──changes, states──▶ ReplicaLedger ─┼─▶ VariantGather ─▶ ModelAutoscaler ─▶ scale
//     model servers, Prometheus ──▶ ScalingSources ┘                          │
//                                         ScalingHistory, explanation, memory ┘
//
// A model to which nothing happens rests: it is left out of up to `restTicks` - 1 ticks, and makes
// up for them when a request, a change of a replica or the end of its rest comes. Where more models
// are awake than `looksPerTick`, they take turns: one that waits for its turn is later told of all
// the time that it waited at once. Those with a queue, or whose replicas have changed, come first.
//
// It owns no clock, no socket and no thread: `tick` and `wake` take the time, and what it acts on
// is behind `ScalingFleet`. It alone writes the number of replicas of the groups in its plan.
//
// Limits: `looksPerTick`, `ScalingPlan` (variants per model), `ScalingHistory.capacity`,
// `DecisionLog`. Not done here: deciding (module Autoscaling), choosing whom to stop (Clusters),
// asking the workers (`ControlPlane`).

import Autoscaling
import Clusters
import Core
import Logging
import Orchestration
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
    /// Models that rest are looked at so often.
    package static let restTicks = 8
    private let restTicks: Int
    /// Models that are looked at in one tick, but for those that share a budget, which are decided
    /// about together.
    package static let looksPerTick = 1_250
    private let looksPerTick: Int
    /// Where the turn is.
    private var turn = 0

    package private(set) var plan = ScalingPlan()
    package private(set) var history = ScalingHistory()
    /// In the order of the plan, which is that of the ledger's places.
    private var models: [ScaledModel] = []
    /// The first tick at which each model is not to rest; 0: at once.
    private var restsUntil: [Int] = []
    private var ticks = 0
    /// The last ticks, oldest first: what a model that rested catches up on.
    private var recent: [ScaledModel.Tick] = []
    /// Whose replicas have changed since they were looked at.
    private var hasChanged: [Bool] = []
    /// Models that were decided about since the start.
    package private(set) var looks: UInt64 = 0
    private var ledger = LoadLedger()
    private var replicas = ReplicaLedger()
    unowned let fleet: any ScalingFleet
    package var sources: (any ScalingSources)?
    private let logger: Logger
    private var tickedAt: Instant?
    /// Why a group's number cannot be written, as it was last told.
    private var refusals: [String: String] = [:]
    /// Requests per second that a replica does at the objective, by model and variant, of
    /// interchangeable variants. Rounded, and new only where it has changed much: requests are
    /// divided by it, and every new number is a new snapshot.
    package var worths: [String: [String: Double]] = [:]
    /// The quota that limits what a budget shares out; nil where there is none.
    package var quota: (ScalingPlan.Budget) -> CapacityLedger.Quota? = { _ in nil }
    /// How long the first in a model's queue has waited, in seconds.
    package var oldestQueuedSeconds: (_ model: String) -> Double = { _ in 0 }

    /// - Parameters:
    ///   - fleet: lives longer than the loop.
    ///   - restTicks: 1 looks at every model at every tick.
    ///   - looksPerTick: of models that are awake.
    package init(
        fleet: any ScalingFleet,
        logger: Logger,
        restTicks: Int = ScalingLoop.restTicks,
        looksPerTick: Int = ScalingLoop.looksPerTick
    ) {
        precondition(restTicks > 0, "a rest of \(restTicks) ticks")
        precondition(looksPerTick > 0, "\(looksPerTick) looks per tick")
        self.looksPerTick = looksPerTick
        self.restTicks = restTicks
        self.fleet = fleet
        self.logger = logger
    }

    // MARK: Configuration

    /// Takes over a plan. What was learned stays with models and variants of the same name.
    /// - Parameter memory: what an earlier run knew.
    package func adopt(_ plan: ScalingPlan, memory: ScalingMemory? = nil, at now: Instant) {
        var old: [String: ScaledModel] = [:]
        for (index, model) in self.models.enumerated() {
            self.catchUp(index)
            old[model.plan.name] = model
        }
        self.models = plan.models.map { entry in
            guard let known = old[entry.name] else {
                return ScaledModel(entry, memory, self.fleet, at: now)
            }
            known.adopt(entry, at: now)
            return known
        }
        self.restsUntil = Array(repeating: 0, count: plan.models.count)
        self.hasChanged = Array(repeating: false, count: plan.models.count)
        self.plan = plan
        self.followLoads()
        self.replicas.follow(Set(plan.models.flatMap { $0.variants.map(\.group) }))
        self.history.forget { plan.index(of: $0) != nil }
        self.refusals = self.refusals.filter { plan.index(ofGroup: $0.key) != nil }
        self.worths = self.worths.filter { plan.index(of: $0.key) != nil }
        self.sources?.follow(plan)
    }

    private func followLoads() {
        self.ledger.follow(
            self.plan.models.map { ($0.name, ObjectiveLimits($0.setup.objectives)) }
        )
    }

    /// Begins anew, knowing the replicas and what was learned of them, and nothing of the loads:
    /// those of before are old, where there are any. Nothing is taken away until the windows are
    /// full again.
    package func restart(at now: Instant) {
        var memory = self.remember(wallSeconds: 0)
        memory.ageSeconds = self.tickedAt.map { now.seconds(since: $0) } ?? 0
        self.models = self.plan.models.map { ScaledModel($0, memory, self.fleet, at: now) }
        self.restsUntil = Array(repeating: 0, count: self.models.count)
        self.recent = []
        self.tickedAt = nil
        self.ledger = LoadLedger()
        self.followLoads()
    }

    /// Forgets what was counted of models that the configuration has no more.
    package func forgetModels(except names: Set<String>) {
        self.ledger.forget { names.contains($0) }
    }

    // MARK: What comes in

    package func take(_ load: WorkerLoad) { self.ledger.take(load) }

    /// A source of `take` is gone.
    package func forget(source: Int) { self.ledger.forget(source: source) }

    package func note(_ change: ReplicaChange, at now: Instant) {
        self.replicas.note(change, at: now)
        guard let index = self.plan.index(ofGroup: change.id.group) else { return }
        self.restsUntil[index] = 0
        self.hasChanged[index] = true
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
        self.ticks += 1
        self.sources?.refresh()
        let awake = self.awake(isWhole: isGatewayHeard && missing == 0, since: seconds, at: now)
        for index in awake {
            self.catchUp(index)
            let waited = self.models[index].waitsSince.map { now.seconds(since: $0) }
            self.models[index].waitsSince = nil
            self.hasChanged[index] = false
            let observed = ScaledModel.Observed(
                seconds: max(seconds, waited ?? 0),
                missing: missing,
                isGatewayHeard: isGatewayHeard,
                now: now
            )
            self.observe(index, observed, wallClock)
        }
        self.recent.append(ScaledModel.Tick(number: self.ticks, at: now, seconds: seconds))
        if self.recent.count > self.restTicks { self.recent.removeFirst() }
        self.looks += UInt64(awake.count)
        self.decide(awake, wallClock, at: now)
        self.layToRest(awake, wallClock, at: now)
    }

    /// Those to look at now: all that do not rest, or those of them whose turn it is.
    private func awake(isWhole: Bool, since seconds: Double, at now: Instant) -> [Int] {
        var awake: [Int] = []
        awake.reserveCapacity(self.models.count)
        for index in self.models.indices {
            let rests = isWhole && self.restsUntil[index] > self.ticks
            if !rests || self.ledger.isTouched(index) { awake.append(index) }
        }
        if awake.count <= self.looksPerTick { return awake }
        var choice = Turns(count: self.models.count, left: self.looksPerTick)
        // In a budget a model that is not asked would lose its part to the others.
        for index in awake where self.models[index].plan.budget != nil {
            choice.isChosen[index] = true
        }
        // Half of the looks go round, so that nobody waits for ever behind those in need.
        self.turn = choice.take(awake, from: self.turn, self.looksPerTick / 2) { _ in true }
        _ = choice.take(awake, from: self.turn, choice.left) { index in
            self.hasChanged[index] || self.ledger.hasQueue(index)
        }
        self.turn = choice.take(awake, from: self.turn, choice.left) { _ in true }
        for index in awake where !choice.isChosen[index] {
            self.putOff(index, since: seconds, at: now)
        }
        return awake.filter { choice.isChosen[$0] }
    }

    /// Who is looked at in a tick with too many to look at.
    private struct Turns {
        var isChosen: [Bool]
        private(set) var left: Int

        init(count: Int, left: Int) {
            self.isChosen = Array(repeating: false, count: count)
            self.left = left
        }

        /// Chooses up to `count` of those that fit, from the place `turn` on; the place after the
        /// last one chosen.
        mutating func take(
            _ awake: [Int],
            from turn: Int,
            _ count: Int,
            _ fits: (Int) -> Bool
        ) -> Int {
            let first = awake.firstIndex { $0 >= turn } ?? 0
            var next = turn
            let end = self.left - count
            for step in awake.indices {
                if self.left <= end { break }
                let index = awake[(first + step) % awake.count]
                if self.isChosen[index] || !fits(index) { continue }
                self.isChosen[index] = true
                self.left -= 1
                next = index + 1
            }
            return next
        }
    }

    /// Not now: what happens to it is told at its turn, with all the time since now.
    private func putOff(_ index: Int, since seconds: Double, at now: Instant) {
        if self.models[index].waitsSince == nil {
            self.catchUp(index)
            self.models[index].waitsSince = now.advanced(byNanoseconds: -Int64(seconds * 1e9))
        }
        self.models[index].lookedAt = self.ticks
    }

    /// Makes up for the ticks in which a model rested.
    private func catchUp(_ index: Int) {
        let model = self.models[index]
        guard model.lookedAt > 0, let newest = self.recent.last, newest.number > model.lookedAt
        else { return }
        model.rest(self.recent)
    }

    private func layToRest(_ awake: [Int], _ wallClock: WallClock?, at now: Instant) {
        for index in awake {
            self.models[index].lookedAt = self.ticks
            let mayRest =
                self.restTicks > 1
                && self.models[index].mayRest(
                    forSeconds: self.restTicks + 1,
                    wallClock,
                    at: now
                )
            // Each has its turn, so that those who rest are not all looked at in one tick.
            let turns = (index - self.ticks) % self.restTicks
            let rest = turns > 0 ? turns : turns + self.restTicks
            self.restsUntil[index] = mayRest ? self.ticks + rest : 0
        }
    }

    private func observe(
        _ index: Int,
        _ observed: ScaledModel.Observed,
        _ wallClock: WallClock?
    ) {
        let model = self.models[index]
        model.look(at: self.fleet, self.replicas, observed.now)
        if observed.isGatewayHeard {
            let oldest = self.oldestQueuedSeconds(model.plan.name)
            self.ledger.withDelta(index) { model.gather($0, oldestQueuedSeconds: oldest) }
            self.ledger.settle(index)
        } else {
            model.samples.removeAll(keepingCapacity: true)
        }
        model.observe(observed, &self.replicas, self.sources)
        if observed.isGatewayHeard { self.wakeSleeping(index, wallClock, at: observed.now) }
    }

    /// A variant that has weight and no replica while others serve: it is started, so that it gets
    /// the share it is to have. Until it is ready the others have its requests.
    private func wakeSleeping(_ index: Int, _ wallClock: WallClock?, at now: Instant) {
        let model = self.models[index]
        for variant in model.samples.indices {
            let sample = model.samples[variant]
            let isPooled = model.plan.setup.variants[variant].isInterchangeable
            guard isPooled || model.plan.variants[variant].weight > 0,
                sample.arrivals + sample.queued > 0,
                let counts = model.counts[variant],
                counts.ready + counts.starting + counts.stuck == 0
            else { continue }
            self.start(
                index,
                variant,
                isPooled
                    ? "requests are there that it is to do, and it has no replica"
                    : "its weight gives it requests and it has no replica",
                wallClock,
                at: now
            )
        }
    }

    private func decide(_ awake: [Int], _ wallClock: WallClock?, at now: Instant) {
        var claims: [[BudgetAllocator.Claim]] = self.plan.budgets.map { budget in
            self.fixedClaims(budget, at: now)
        }
        var places: [(model: Int, budget: Int, first: Int)] = []
        for index in awake {
            let model = self.models[index]
            let proposals = model.autoscaler.propose(at: now, wallClock: wallClock)
            guard let share = model.plan.budget else {
                self.conclude(index, grants: [], wallClock, at: now)
                continue
            }
            places.append((index, share.index, claims[share.index].count))
            claims[share.index] += self.claims(model, proposals, share)
        }
        if places.isEmpty { return }
        let grants = claims.indices.map { budget in
            BudgetAllocator(total: self.available(budget)).grants(for: claims[budget])
        }
        for place in places {
            let count = self.models[place.model].plan.variants.count
            let own = grants[place.budget][place.first..<(place.first + count)]
            self.conclude(place.model, grants: own.map { $0 }, wallClock, at: now)
        }
    }

    private func claims(
        _ entry: ScaledModel,
        _ proposals: [Proposal],
        _ share: ScalingPlan.Share
    ) -> [BudgetAllocator.Claim] {
        proposals.indices.map { variant in
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
                priority: share.priority,
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
                draining: draining,
                priority: .max
            )
        }
    }

    private func conclude(
        _ index: Int,
        grants: [Int?],
        _ wallClock: WallClock?,
        at now: Instant
    ) {
        let decision = self.models[index].autoscaler.conclude(grants: grants, at: now)
        self.models[index].latest = decision
        self.noteWorths(of: self.models[index].plan, decision)
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
        let group = self.models[index].plan.variants[variant].group
        let present = self.fleet.group(group)?.desired
        let before = isDryRun ? self.models[index].wanted[variant] ?? present : present
        self.models[index].wanted[variant] = own.desired
        guard let before, before != own.desired else { return }
        let change = ScalingChange(
            model: self.models[index].plan.name,
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
                self.refusals[change.group] = nil
            } catch {
                return self.tell(change, refusedBy: error)
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

    /// Once for each reason: it is tried again every second.
    private func tell(_ change: ScalingChange, refusedBy error: ClusterError) {
        guard
            self.refusals.updateValue(error.description, forKey: change.group)
                != error.description
        else { return }
        self.logger.error(
            "cannot scale",
            metadata: [
                "model": "\(change.model)", "variant": "\(change.variant)",
                "replicas": "\(change.to)", "reason": "\(error)",
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
        self.catchUp(index)
        self.models[index].lookedAt = self.ticks
        self.restsUntil[index] = 0
        let starter = pinned == nil ? self.firstOfPool(index) : nil
        for (variant, entry) in self.models[index].plan.variants.enumerated()
        where pinned.map({ $0 == entry.name })
            ?? self.isWoken(index, variant, starter: starter)
        {
            guard let group = self.fleet.group(entry.group) else { continue }
            if group.desired > 0 {
                // It comes between two ticks: the next decision must not take the model for idle.
                _ = self.models[index].autoscaler.requestArrived(variant: variant, at: now)
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
        return !self.models[index].plan.setup.policy.isDryRun
    }

    /// Which of the interchangeable variants a waiting request is for: one that starts already,
    /// else the cheapest that comes.
    private func firstOfPool(_ index: Int) -> Int? {
        let model = self.models[index]
        guard let starter = model.autoscaler.starter else { return nil }
        let starting = model.plan.setup.variants.indices.first { variant in
            model.plan.setup.variants[variant].isInterchangeable
                && (model.counts[variant]?.starting ?? 0) > 0
        }
        return starting ?? starter
    }

    private func isWoken(_ index: Int, _ variant: Int, starter: Int?) -> Bool {
        let plan = self.models[index].plan
        guard let starter, plan.setup.variants[variant].isInterchangeable else {
            return plan.variants[variant].weight > 0
        }
        return variant == starter
    }

    private func start(
        _ index: Int,
        _ variant: Int,
        _ text: String,
        _ wallClock: WallClock?,
        at now: Instant
    ) {
        let model = self.models[index].plan
        guard self.hasRoom(model, variant, at: now) else { return }
        let answer = self.models[index].autoscaler.requestArrived(variant: variant, at: now)
        guard case .start(let count) = answer else { return }
        let group = model.variants[variant].group
        let isDryRun = model.setup.policy.isDryRun
        let before = self.fleet.group(group)?.desired ?? 0
        let known = isDryRun ? self.models[index].wanted[variant] ?? before : before
        self.models[index].wanted[variant] = count
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
        return held + count * setup.unitsPerReplica <= self.available(share.index)
    }

    // MARK: What others ask

    /// The latest decision about a model; nil before the first, or where it is not scaled.
    package func latest(of model: String) -> ScalingDecision? {
        self.plan.index(of: model).flatMap { self.models[$0].latest }
    }

    /// What is wanted of a variant now; nil where nothing was decided.
    package func wanted(model: String, variant: String) -> Int? {
        guard let index = self.plan.index(of: model),
            let place = self.models[index].plan.variants.firstIndex(where: { $0.name == variant })
        else { return nil }
        return self.models[index].wanted[place]
    }

    /// What the next run should know.
    /// - Parameter before: what was kept last, where capacities change too little to be taken anew.
    package func remember(
        wallSeconds: Double,
        capacitiesOf before: ScalingMemory? = nil
    ) -> ScalingMemory {
        var memory = ScalingMemory(savedAt: wallSeconds)
        for entry in self.models {
            for (index, variant) in entry.plan.variants.enumerated() {
                let capacity =
                    before.map { $0.groups[variant.group]?.capacity }
                    ?? entry.autoscaler.learned(variant: index)
                memory.groups[variant.group] = ScalingMemory.Group(
                    replicas: self.fleet.group(variant.group)?.desired ?? 0,
                    drainSeconds: entry.drains[index],
                    capacity: capacity
                )
            }
        }
        return memory
    }
}
