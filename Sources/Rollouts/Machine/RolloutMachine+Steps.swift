import Core

/// Walking the steps: open, scale, shift, hold, close.
extension RolloutMachine {
    mutating func advanceStep(_ elapsed: Int) {
        guard let plan = self.spec.plan, self.status.step < plan.steps.count else {
            return self.promote("all steps are done")
        }
        let step = plan.steps[self.status.step]
        switch self.status.stage {
        case .opening: self.open(step, elapsed)
        case .scaling: self.scale(step, elapsed)
        case .shifting: self.shift(step, elapsed)
        case .holding: self.hold(step, elapsed)
        case .closing:
            if self.passGate(.afterStep, elapsed) { self.beginStep(self.status.step + 1) }
        }
    }

    mutating func beginStep(_ index: Int) {
        self.status.step = index
        self.status.phase = .progressing
        self.resetStep()
        self.status.message = ""
        self.record(.stepBegan, "step \(index + 1)")
    }

    private mutating func open(_ step: RolloutStep, _ elapsed: Int) {
        guard self.passGate(.beforeStep, elapsed) else { return }
        self.status.waitedMilliseconds = 0
        if case .canaryReplicas(let scale) = step { self.status.canaryScale = scale }
        if case .pause(let duration) = step {
            let text = duration.map { " for \($0.secondsAsDouble.shortText) s" } ?? ""
            self.pause(.step, "step \(self.status.step + 1) pauses\(text)")
        } else {
            self.status.stage = .scaling
        }
    }

    private mutating func scale(_ step: RolloutStep, _ elapsed: Int) {
        if let missing = self.missing(for: step) {
            self.wait(elapsed, missing)
            return
        }
        switch step {
        case .weight(let weight, _): self.status.targetWeight = weight
        case .headerRoute(let route): self.status.headerRoute = route
        case .mirror(let percent, _): self.status.mirrorPercent = percent
        case .pause, .canaryReplicas, .analysis: break
        }
        self.status.stage = .shifting
    }

    /// What has to be ready before the step may change anything; nil: nothing is missing.
    private func missing(for step: RolloutStep) -> String? {
        let canaryShare: Int
        var stableShare = 0
        switch step {
        case .weight(let weight, _):
            canaryShare = weight
            // A share that shrinks the stable variant's needs nothing of it.
            stableShare = weight < self.canaryWeight ? 100 - weight : 0
        case .canaryReplicas: canaryShare = max(1, self.canaryWeight)
        case .headerRoute(let route): canaryShare = route == nil ? 0 : 1
        case .mirror(let percent, _): canaryShare = max(percent, self.canaryWeight)
        case .pause, .analysis: canaryShare = 0
        }
        let canary = self.canaryObservation?.ready ?? 0
        let canaryNeed = self.replicasNeeded(.canary, share: canaryShare)
        if canary < canaryNeed {
            return "\(self.canaryName) had \(canary) of \(canaryNeed) replicas ready"
        }
        let stable = self.stableObservation?.ready ?? 0
        let stableNeed = self.replicasNeeded(.stable, share: stableShare)
        if stable < stableNeed {
            return "\(self.status.stable.name) had \(stable) of \(stableNeed) replicas ready"
        }
        return nil
    }

    private mutating func shift(_ step: RolloutStep, _ elapsed: Int) {
        guard self.isPublished, self.status.isAcknowledged else {
            self.wait(elapsed, "not every gateway took over the new weights")
            return
        }
        self.status.stage = .holding
        self.status.heldMilliseconds = 0
        self.status.waitedMilliseconds = 0
        if step.hold != nil { self.evidence?.beginStep() }
        self.status.evidence = self.evidence?.state
    }

    /// Whether the traffic plan is what the step asks for.
    private var isPublished: Bool {
        self.canaryWeight == self.status.targetWeight
            && self.status.traffic.headerRoute == self.status.headerRoute
            && self.status.traffic.mirrorPercent == self.status.mirrorPercent
    }

    private mutating func hold(_ step: RolloutStep, _ elapsed: Int) {
        guard let hold = step.hold else {
            self.status.stage = .closing
            return
        }
        // While replicas are missing the step is not what it should be: that is no time watched.
        guard self.isPublished else {
            self.wait(elapsed, "\(self.canaryName) lost its ready replicas")
            return
        }
        self.status.waitedMilliseconds = 0
        self.status.message = ""
        self.status.heldMilliseconds += elapsed
        if self.status.heldMilliseconds >= hold.millisecondsClamped { self.judge() }
    }

    // MARK: Verdicts

    private mutating func judge() {
        guard let plan = self.spec.plan else { return }
        guard let missing = self.inconclusiveReason(plan) else {
            self.status.stage = .closing
            return
        }
        self.record(.inconclusive, missing, self.status.reports)
        switch plan.onInconclusive {
        case .pause: self.pause(.inconclusive, missing)
        case .promote: self.status.stage = .closing
        case .rollback: self.reject("inconclusive: \(missing)", isEmergency: false)
        }
    }

    /// What keeps the step from being a pass; nil: it passes.
    private mutating func inconclusiveReason(_ plan: RolloutPlan) -> String? {
        if case .shared(let text) = self.finding { return text }
        guard self.isAnalysing(plan), !plan.analysis.isDryRun else { return nil }
        self.status.reports = self.fullReports()
        let missing = zip(plan.analysis.metrics, self.status.reports).compactMap {
            metric,
            report -> String? in
            guard self.isRelevant(metric), !report.isDryRun, report.verdict == .inconclusive
            else { return nil }
            return "\(report.name): \(report.reason)"
        }
        return missing.isEmpty ? nil : missing.joined(separator: "; ")
    }

    /// Copies are what a mirror step is about; without one there are none.
    private func isRelevant(_ metric: MetricPlan) -> Bool {
        let isMirroring = self.status.mirrorPercent > 0
        switch metric.test {
        case .pairs: return isMirroring
        case .custom: return true
        case .events, .quantile, .distance: return self.canaryWeight > 0 || !isMirroring
        }
    }

    // MARK: Waiting

    mutating func pause(_ reason: RolloutStatus.PauseReason, _ message: String) {
        self.status.phase = .paused
        self.status.pause = reason
        self.status.message = message
        self.status.gate = nil
        self.status.heldMilliseconds = reason == .step ? 0 : self.status.heldMilliseconds
        self.record(.paused, message)
    }

    mutating func advancePause(_ elapsed: Int) {
        guard self.status.pause == .step, let plan = self.spec.plan,
            plan.steps.indices.contains(self.status.step),
            case .pause(let duration?) = plan.steps[self.status.step]
        else { return }
        self.status.heldMilliseconds += elapsed
        guard self.status.heldMilliseconds >= duration.millisecondsClamped else { return }
        self.status.phase = .progressing
        self.status.pause = nil
        self.status.stage = .closing
    }

    /// Counts time without progress, and gives up when the deadline has passed.
    mutating func wait(_ elapsed: Int, _ missing: String) {
        self.status.message = missing
        if self.hasObserved, (self.stableObservation?.ready ?? 0) == 0,
            (self.canaryObservation?.ready ?? 0) > 0
        {
            // The canary is the only one that serves: giving it up would help nobody.
            self.status.message = "\(self.status.stable.name) has no ready replica"
            return
        }
        self.status.waitedMilliseconds += elapsed
        let deadline = self.progressDeadline
        guard self.status.waitedMilliseconds >= deadline.millisecondsClamped else { return }
        let seconds = deadline.secondsAsDouble.shortText
        self.reject("no progress for \(seconds) s: \(missing)", isEmergency: false)
    }

    var progressDeadline: Duration {
        self.spec.plan?.progressDeadline ?? RolloutPlan(steps: []).progressDeadline
    }
}

extension RolloutStep {
    /// How long the step is watched; nil where it is not.
    var hold: Duration? {
        switch self {
        case .weight(_, let hold), .mirror(_, let hold), .analysis(let hold): hold
        case .pause, .canaryReplicas, .headerRoute: nil
        }
    }
}
