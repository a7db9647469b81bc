import Core

/// Order is safety: which weights may be given now, and what replicas must stay.
extension RolloutMachine {
    // MARK: Weights

    /// Brings the traffic plan as near to what the phase asks for as is safe.
    mutating func publishTraffic() {
        let weight = self.safeWeight()
        let plan = self.plan(weight: weight)
        let old = self.status.traffic
        guard
            plan.weights != old.weights || plan.headerRoute != old.headerRoute
                || plan.mirrorTo != old.mirrorTo || plan.mirrorPercent != old.mirrorPercent
        else { return }
        let before = self.canaryWeight
        self.status.traffic = plan
        self.status.traffic.generation = old.generation + 1
        for weight in plan.weights { self.use(weight) }
        if self.status.canary != nil, before != weight {
            self.record(.weightChanged, "\(self.canaryName) gets \(weight) %, before \(before) %")
        }
        // Only the last plan of an event counts.
        self.actions.removeAll { if case .setTraffic = $0 { true } else { false } }
        self.actions.append(.setTraffic(self.status.traffic))
    }

    private mutating func use(_ weight: VariantWeight) {
        let known = self.status.weightsInUse.firstIndex { $0.variant == weight.variant }
        if let known {
            let percent = self.status.weightsInUse[known].percent
            self.status.weightsInUse[known].percent = max(percent, weight.percent)
        } else {
            self.status.weightsInUse.append(weight)
        }
    }

    private func weightInUse(_ variant: String) -> Int {
        self.status.weightsInUse.first { $0.variant == variant }?.percent ?? 0
    }

    private func plan(weight: Int) -> TrafficPlan {
        var weights: [VariantWeight] = []
        if weight < 100 { weights.append(VariantWeight(self.status.stable.name, 100 - weight)) }
        if weight > 0 { weights.append(VariantWeight(self.canaryName, weight)) }
        var plan = TrafficPlan(generation: 0, weights: weights)
        let mayHaveMore =
            self.status.phase == .progressing || self.status.phase == .paused
        guard mayHaveMore, !self.status.isInPlace, (self.canaryObservation?.ready ?? 0) > 0 else {
            return plan
        }
        plan.headerRoute = self.status.headerRoute
        if self.status.mirrorPercent > 0 {
            plan.mirrorTo = self.canaryName
            plan.mirrorPercent = self.status.mirrorPercent
        }
        return plan
    }

    /// The canary's weight now.
    ///
    /// - An arm without a ready replica gets none; with none on either side the stable variant has
    ///   all, and its queue.
    /// - After a start of the controller the stable variant's replicas may be starting as well.
    ///   Until one was ready, for `stableAwaitedMillisecondsMax` at most, requests wait for it as
    ///   they do after scaling from zero: a canary on trial, with replicas for its share, is not
    ///   given all.
    /// - More weight only once the canary's replicas are ready for it.
    /// - Less weight only as far as the stable variant can carry what it gets, unless the canary
    ///   fails hard: then errors are worse than a queue.
    private func safeWeight() -> Int {
        guard self.status.canary != nil, !self.status.isInPlace else { return 0 }
        let current = self.canaryWeight
        // After a start nothing is known before the first tick.
        if !self.hasObserved { return current }
        let canary = self.canaryObservation?.ready ?? 0
        let stable = self.stableObservation?.ready ?? 0
        if canary == 0 { return 0 }
        if stable == 0 { return self.isStableAwaited ? current : 100 }
        let wanted = self.wantedWeight
        if wanted > current {
            return canary >= self.replicasNeeded(.canary, share: wanted) ? wanted : current
        }
        if wanted == current || self.status.isEmergency { return wanted }
        if stable >= self.replicasNeeded(.stable, share: 100 - wanted) { return wanted }
        let all = self.replicasNeeded(.stable, share: 100)
        let carried = min(100, 100 * stable / max(all, 1))
        return max(wanted, min(current, 100 - carried))
    }

    /// Lets the time pass in which the stable variant's first replica is waited for.
    mutating func awaitStable(_ elapsed: Int) {
        if (self.stableObservation?.ready ?? 0) > 0 {
            self.millisecondsToAwaitStable = 0
        } else if (self.canaryObservation?.ready ?? 0) > 0 {
            self.millisecondsToAwaitStable -= elapsed
        }
    }

    private var isStableAwaited: Bool {
        self.millisecondsToAwaitStable > 0 && self.status.phase != .promoting
    }

    private var wantedWeight: Int {
        switch self.status.phase {
        case .progressing, .paused: self.status.targetWeight
        case .promoting: 100
        case .rollingBack, .stable, .rolledBack: 0
        }
    }

    // MARK: Replicas

    /// How many ready replicas an arm needs for a share of all requests in percent.
    func replicasNeeded(_ arm: Arm, share: Int) -> Int {
        if share <= 0 { return 0 }
        let seen = arm == .canary ? self.canaryObservation : self.stableObservation
        if let seen, !seen.isScalable { return 1 }
        let all = max(1, seen?.replicasForAll ?? self.status.baselineReplicas)
        let scale = arm == .canary ? self.status.canaryScale : .matchWeight
        switch scale {
        case .replicas(let count): return max(1, count)
        case .share(let percent): return Self.replicas(all, max(percent, 1))
        case .matchWeight: return Self.replicas(all, share)
        }
    }

    private static func replicas(_ all: Int, _ share: Int) -> Int {
        let (product, overflow) = all.multipliedReportingOverflow(by: min(share, 100))
        return overflow ? all : max(1, (product + 99) / 100)
    }

    /// Says what the autoscaler must keep, where that has changed.
    mutating func demandCapacity() {
        let demands = self.demands
        let isNew =
            self.lastDemands.map { last in
                last.map(\.withoutTime) != demands.map(\.withoutTime)
            } ?? true
        guard isNew else { return }
        self.lastDemands = demands
        self.actions.append(.setCapacity(demands))
    }

    /// What the autoscaler must keep now. The same as in the last `setCapacity`, but for the times,
    /// which pass without another action.
    package var capacity: [CapacityDemand] { self.demands }

    private var demands: [CapacityDemand] {
        var demands: [CapacityDemand] = []
        if self.status.isRunning, !self.status.isInPlace {
            demands.append(self.stableDemand)
            demands.append(self.canaryDemand)
        }
        // What retires, and what nobody needs any more but some gateway may not know it yet.
        let mayBeUsed = self.status.weightsInUse.map(\.variant).filter {
            $0 != self.status.stable.name && self.status.traffic.weight(of: $0) == 0
        }
        for name in self.status.retiring.map(\.name) + mayBeUsed
        where !demands.contains(where: { $0.variant == name }) {
            demands.append(
                CapacityDemand(variant: name, share: 0, replicasMin: 0, mayShrink: false)
            )
        }
        return demands
    }

    private var stableDemand: CapacityDemand {
        let keepsAll =
            self.spec.plan?.keepsStableCapacity ?? true || self.status.phase == .rollingBack
        // Until all gateways have acknowledged a plan, some may still use an older one.
        let share = keepsAll ? 100 : self.weightInUse(self.status.stable.name)
        var demand = CapacityDemand(
            variant: self.status.stable.name,
            share: share,
            replicasMin: 1,
            mayShrink: true
        )
        if !keepsAll { demand.nextShare = self.nextShare.map { 100 - $0.share } }
        return demand
    }

    private var canaryDemand: CapacityDemand {
        let used = max(self.weightInUse(self.canaryName), self.status.mirrorPercent)
        var demand = CapacityDemand(
            variant: self.canaryName,
            share: max(used, self.enteredShare),
            replicasMin: 1,
            mayShrink: self.status.phase != .rollingBack
        )
        switch self.status.canaryScale {
        case .replicas(let count): demand.replicasMin = max(1, count)
        case .share(let percent): demand.share = max(used, percent)
        case .matchWeight: break
        }
        demand.nextShare = self.nextShare?.share
        demand.nextShareInMilliseconds = self.nextShare?.milliseconds
        return demand
    }

    /// What the step that is being entered will need.
    private var enteredShare: Int {
        switch self.status.phase {
        case .promoting: return 100
        case .stable, .rolledBack, .rollingBack: return 0
        case .progressing, .paused:
            guard let plan = self.spec.plan, plan.steps.indices.contains(self.status.step) else {
                return self.status.targetWeight
            }
            switch plan.steps[self.status.step] {
            case .weight(let weight, _): return max(weight, self.status.targetWeight)
            case .mirror(let percent, _): return max(percent, self.status.targetWeight)
            case .pause, .canaryReplicas, .headerRoute, .analysis:
                return self.status.targetWeight
            }
        }
    }

    /// The share of the next step that changes it, and when that can be at the earliest.
    private var nextShare: (share: Int, milliseconds: Int?)? {
        guard let plan = self.spec.plan,
            self.status.phase == .progressing || self.status.phase == .paused
        else { return nil }
        let later = plan.steps.dropFirst(self.status.step + 1)
        let share = later.lazy.compactMap(\.weight).first ?? 100
        guard self.status.phase == .progressing, self.status.stage == .holding,
            plan.steps.indices.contains(self.status.step),
            let hold = plan.steps[self.status.step].hold
        else { return (share, nil) }
        return (share, max(0, hold.millisecondsClamped - self.status.heldMilliseconds))
    }

    // MARK: Retiring

    /// Takes a variant without weight out of use: its replicas go once nobody can use them.
    mutating func retire(_ name: String, delay: Duration) {
        guard name != self.status.stable.name else { return }
        self.status.retiring.removeAll { $0.name == name }
        self.status.retiring.append(
            RetiringVariant(
                name: name,
                generation: self.status.traffic.generation,
                delayMilliseconds: delay.millisecondsClamped
            )
        )
        // More variants than this cannot retire at once: the oldest loses its grace.
        if self.status.retiring.count > RolloutStatus.retiringMax {
            self.status.retiring.removeFirst()
        }
    }

    /// Lets time pass for variants that retire.
    mutating func retire(_ elapsed: Int) {
        guard self.hasObserved else { return }
        let drain = self.spec.plan?.drainDeadline ?? RolloutPlan(steps: []).drainDeadline
        var released: [String] = []
        for index in self.status.retiring.indices {
            let variant = self.status.retiring[index]
            guard self.status.acknowledged >= variant.generation else { continue }
            self.status.retiring[index].elapsedMilliseconds += elapsed
            let waited = variant.elapsedMilliseconds + elapsed
            let isDrained = self.observation.variants[variant.name].map { $0.inFlight == 0 }
            let isOver = waited >= drain.millisecondsClamped
            guard isDrained ?? false || isOver, waited >= variant.delayMilliseconds else {
                continue
            }
            released.append(variant.name)
        }
        for name in released {
            self.status.retiring.removeAll { $0.name == name }
            self.record(.retired, "\(name) may shrink")
        }
    }
}

extension CapacityDemand {
    fileprivate var withoutTime: CapacityDemand {
        var demand = self
        demand.nextShareInMilliseconds = nil
        return demand
    }
}
