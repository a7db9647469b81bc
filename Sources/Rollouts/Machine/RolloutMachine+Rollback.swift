import Core

/// Going back, for whatever reason, and what people and the configuration ask for.
extension RolloutMachine {
    // MARK: Going back

    /// The canary is not wanted: the verdict, the deadline or somebody says so.
    mutating func reject(_ reason: String, isEmergency: Bool) {
        self.record(.failed, reason, self.status.reports)
        self.goBack(.reject, reason, isEmergency: isEmergency)
    }

    mutating func goBack(
        _ aim: RolloutStatus.RollbackAim,
        _ reason: String,
        isEmergency: Bool
    ) {
        self.status.phase = .rollingBack
        self.status.rollbackAim = aim
        self.status.isEmergency = isEmergency
        self.resetStep()
        self.status.headerRoute = nil
        self.status.targetWeight = 0
        self.status.message = reason
        self.record(.rollingBack, reason)
        if aim == .reject { self.notify(.onRollback) }
        if self.status.isInPlace, aim == .reject {
            self.status.templateRollback = self.status.stable
            self.actions.append(.rollBackTemplate(self.status.stable))
        }
    }

    mutating func advanceRollback(_ elapsed: Int) {
        self.status.waitedMilliseconds += elapsed
        let isLate = self.status.waitedMilliseconds >= self.progressDeadline.millisecondsClamped
        if self.status.isInPlace {
            if self.status.templateRollback == nil || isLate { self.finishRollback() }
            return
        }
        // A stable variant that does not get its replicas must do with those it has.
        if isLate { self.status.isEmergency = true }
        self.publishTraffic()
        guard self.canaryWeight == 0, self.status.traffic.headerRoute == nil else { return }
        self.status.heldMilliseconds += elapsed
        let isLong = self.status.heldMilliseconds >= Self.acknowledgementMillisecondsMax
        if self.status.isAcknowledged || isLong { self.finishRollback() }
    }

    private mutating func finishRollback() {
        guard let canary = self.status.canary else { return }
        let aim = self.status.rollbackAim ?? .reject
        let next = self.status.next
        let reason = self.status.message
        let wasInPlace = self.status.isInPlace
        self.record(.rolledBack, reason, self.status.reports)
        self.endRollout(aim == .reject ? .rolledBack : .stable, message: reason)
        if aim == .reject { self.status.rejected = canary }
        if !wasInPlace {
            let delay = self.spec.plan?.abortScaleDownDelay ?? .zero
            self.retire(canary.name, delay: delay)
        }
        self.status.next = nil
        if aim == .supersede, let next { self.start(next, "\(next.name) takes its place") }
    }

    // MARK: Commands

    mutating func follow(_ command: RolloutCommand) throws(RolloutRefusal) {
        switch command {
        case .start(let name): try self.startByHand(name)
        case .pause:
            guard self.status.phase == .progressing, !self.status.isInPlace else {
                throw RolloutRefusal("nothing that can be paused runs: \(self.phaseText)")
            }
            self.pause(.manual, "paused by hand")
        case .promote(let full): try self.promoteByHand(full: full)
        case .abort:
            switch self.status.phase {
            case .progressing, .paused, .promoting:
                self.record(.aborted, "aborted by hand")
                self.goBack(.reject, "aborted by hand", isEmergency: false)
            case .stable, .rolledBack, .rollingBack:
                throw RolloutRefusal("nothing that can be aborted runs: \(self.phaseText)")
            }
        case .retry:
            guard self.status.phase == .rolledBack, let rejected = self.status.rejected else {
                throw RolloutRefusal("there is nothing to retry: \(self.phaseText)")
            }
            self.record(.retried, "retried by hand")
            self.startOrWatch(rejected, "\(rejected.name), once more")
        }
    }

    /// What goes on, for refusals.
    private var phaseText: String {
        switch self.status.phase {
        case .stable: "\(self.status.stable.name) serves and no rollout runs"
        case .rolledBack: "the last rollout was rolled back; `retry` starts it again"
        case .rollingBack: "\(self.canaryName) is being rolled back already"
        case .progressing: "\(self.canaryName) is being rolled out"
        case .paused: "the rollout of \(self.canaryName) is paused already"
        case .promoting: "\(self.canaryName) is being promoted already"
        }
    }

    private mutating func startByHand(_ name: String) throws(RolloutRefusal) {
        guard let target = self.spec.variant(named: name) else { throw self.spec.unknown(name) }
        if name == self.status.stable.name, !self.status.isRunning {
            throw RolloutRefusal("\(name) serves already: there is nothing to roll out")
        }
        if name == self.status.canary?.name, self.status.phase != .rollingBack {
            throw RolloutRefusal("a rollout to \(name) runs already")
        }
        self.aim(at: target, "\(name), started by hand")
    }

    private mutating func promoteByHand(full: Bool) throws(RolloutRefusal) {
        switch self.status.phase {
        case .stable, .rolledBack, .rollingBack, .promoting:
            throw RolloutRefusal("there is nothing to promote: \(self.phaseText)")
        case .progressing, .paused: break
        }
        if self.status.isInPlace {
            self.acceptInPlace("promoted by hand")
        } else if full {
            self.promote("promoted in full by hand")
        } else if self.status.phase == .paused, self.status.pause == .manual {
            self.status.phase = .progressing
            self.status.pause = nil
            self.status.message = ""
            self.record(.resumed, "resumed by hand")
        } else if self.status.pause == .webhook, self.status.stage == .opening {
            // The decision by hand stands in for the webhook's.
            self.status.phase = .progressing
            self.status.pause = nil
            self.status.stage = .scaling
            self.status.waitedMilliseconds = 0
            self.record(.resumed, "promoted past a webhook by hand")
        } else {
            self.record(.resumed, "promoted to the next step by hand")
            self.beginStep(self.status.step + 1)
        }
    }

    // MARK: Configuration

    /// Takes over a configuration that was checked.
    mutating func configure(_ spec: RolloutSpec) {
        do {
            try spec.check()
        } catch {
            // Not ours to fix: what runs goes on under the old one.
            self.record(.configuration, "not taken over: \(error)")
            return
        }
        let isPlanChanged = self.spec.plan != spec.plan
        self.spec = spec
        let isLiveChanged = spec.live.name != self.status.specLive.name
        self.status.specLive = spec.live
        if isPlanChanged { self.replan() }
        self.dropVariants()
        for variant in spec.variants where !variant.revision.isEmpty {
            self.templateChanged(variant)
        }
        if isLiveChanged { self.aim(at: spec.live, "the configuration names \(spec.live.name)") }
    }

    /// Makes `target` what the machine works towards.
    private mutating func aim(at target: VariantReference, _ reason: String) {
        switch self.status.phase {
        case .stable, .rolledBack:
            if target.name == self.status.stable.name {
                self.status.phase = .stable
                self.status.rejected = nil
                self.status.message = ""
            } else {
                self.start(target, reason)
            }
        case .progressing, .paused, .promoting:
            if target.name == self.status.stable.name {
                self.record(.superseded, reason)
                self.goBack(.revert, reason, isEmergency: false)
            } else if target.name != self.status.canary?.name {
                self.supersede(target, reason)
            }
        case .rollingBack: self.redirect(target, reason)
        }
    }

    mutating func supersede(_ target: VariantReference, _ reason: String) {
        self.record(.superseded, reason)
        self.status.next = target
        self.goBack(.supersede, reason, isEmergency: false)
    }

    /// While going back, only what comes afterwards changes.
    private mutating func redirect(_ target: VariantReference, _ reason: String) {
        self.record(.superseded, reason)
        if target.name == self.status.stable.name {
            self.status.rollbackAim = .revert
            self.status.next = nil
        } else {
            self.status.rollbackAim = .supersede
            self.status.next = target
        }
    }

    /// The plan changed: go on at the first step that does not take weight away.
    private mutating func replan() {
        guard self.status.isRunning else { return }
        self.evidence = self.spec.plan.map {
            Evidence($0.analysis, resuming: self.status.evidence)
        }
        self.status.evidence = self.evidence?.state
        guard self.status.phase == .progressing || self.status.phase == .paused,
            !self.status.isInPlace
        else { return }
        guard let plan = self.spec.plan else {
            return self.promote("there is no rollout policy any more: no steps")
        }
        let weight = self.status.targetWeight
        let step = plan.steps.firstIndex { ($0.weight ?? -1) >= max(weight, 1) }
        self.record(.configuration, "the rollout policy changed")
        let isPausedByHand = self.status.pause == .manual
        self.status.canaryScale = .matchWeight
        self.beginStep(step ?? plan.steps.count)
        if isPausedByHand { self.pause(.manual, "paused by hand") }
    }

    /// Variants that are gone from the configuration take no part any more.
    private mutating func dropVariants() {
        let names = Set(self.spec.variants.map(\.name))
        self.status.recentGood.removeAll { !names.contains($0.name) }
        self.status.retiring.removeAll { !names.contains($0.name) }
        if let rejected = self.status.rejected, !names.contains(rejected.name) {
            self.status.rejected = nil
        }
        if let next = self.status.next, !names.contains(next.name) {
            self.status.next = nil
            self.status.rollbackAim = .revert
        }
        switch self.status.phase {
        case .progressing, .paused, .promoting:
            if !names.contains(self.canaryName) {
                let text = "\(self.canaryName) is no longer configured"
                self.goBack(.revert, text, isEmergency: true)
            } else if !names.contains(self.status.stable.name), self.status.phase != .promoting {
                self.promote("\(self.status.stable.name) is no longer configured")
            }
        case .stable, .rolledBack:
            // Without a rollout the configuration's word holds.
            if !names.contains(self.status.stable.name) {
                self.status.stable = self.spec.live
                self.status.phase = .stable
                self.status.rejected = nil
            }
        case .rollingBack: break
        }
    }
}
