import Core

/// A workload whose template was changed in place: its own controller replaces the replicas, so
/// there are no weights to move. The new revision is watched as a canary is, against the old one
/// for as long as both serve; if it fails, the template goes back to the last good revision.
extension RolloutMachine {
    mutating func templateChanged(_ variant: VariantReference) {
        guard !variant.revision.isEmpty,
            let index = self.spec.variants.firstIndex(where: { $0.name == variant.name })
        else { return }
        self.spec.variants[index].revision = variant.revision
        if variant.name == self.status.stable.name {
            self.stableTemplateChanged(variant)
        } else if variant.name == self.status.canary?.name,
            variant.revision != self.status.canary?.revision
        {
            self.canaryTemplateChanged(variant)
        }
    }

    private mutating func stableTemplateChanged(_ variant: VariantReference) {
        if self.status.stable.revision.isEmpty {
            self.status.stable.revision = variant.revision
            return
        }
        if self.status.isInPlace {
            self.changedAgain(variant)
            return
        }
        guard variant.revision != self.status.stable.revision else { return }
        if self.status.isRunning {
            // What was compared with is gone.
            self.status.stable.revision = variant.revision
            self.resetEvidence()
            self.status.heldMilliseconds = 0
            self.record(.inPlace, "\(variant.name) changed during the rollout: evidence dropped")
        } else if self.spec.plan == nil {
            self.status.stable.revision = variant.revision
        } else {
            self.startInPlace(variant)
        }
    }

    private mutating func startInPlace(_ variant: VariantReference) {
        self.start(variant, "\(variant.name) changed in place to revision \(variant.revision)")
        self.status.canary = variant
        self.status.phase = .progressing
        self.status.isInPlace = true
        self.resetStep()
        self.status.stage = .holding
        self.status.targetWeight = 0
    }

    /// Another change while one is watched, or the way back that was asked for.
    private mutating func changedAgain(_ variant: VariantReference) {
        if variant.revision == self.status.stable.revision {
            if self.status.phase == .rollingBack {
                self.status.templateRollback = nil
            } else {
                self.record(.superseded, "\(variant.name) is back at its last good revision")
                self.endRollout(.stable, message: "")
            }
        } else if variant.revision != self.status.canary?.revision {
            self.status.templateRollback = nil
            self.record(.superseded, "\(variant.name) changed again")
            self.startInPlace(variant)
        }
    }

    /// Weight 0 before an arm's pods change: the same variant begins anew from there.
    private mutating func canaryTemplateChanged(_ variant: VariantReference) {
        let reason = "the template of \(variant.name) changed"
        switch self.status.phase {
        case .progressing, .paused, .promoting: self.supersede(variant, reason)
        case .rollingBack, .stable, .rolledBack: break
        }
    }

    mutating func advanceInPlace(_ elapsed: Int) {
        guard let plan = self.spec.plan else { return self.acceptInPlace("no rollout policy") }
        let seen = self.stableObservation
        let readyOfNew = (seen?.ready ?? 0) - (seen?.readyOfOldRevision ?? 0)
        guard readyOfNew > 0 else {
            self.wait(elapsed, "no replica of the new revision was ready")
            return
        }
        self.status.waitedMilliseconds = 0
        self.status.heldMilliseconds += elapsed
        guard self.status.heldMilliseconds >= plan.inPlaceWatch.millisecondsClamped else { return }
        // Nothing was worse than it may be; what could not be compared is in the reports.
        self.acceptInPlace("watched for \(plan.inPlaceWatch.secondsAsDouble.shortText) s")
    }

    mutating func acceptInPlace(_ reason: String) {
        guard let canary = self.status.canary else { return }
        self.record(.promoted, "\(canary.name): \(reason)", self.fullReports())
        self.notify(.onComplete)
        self.status.stable = canary
        self.endRollout(.stable, message: "")
    }

    /// Starts again what was rolled back: a variant, or a revision of the stable one.
    mutating func startOrWatch(_ target: VariantReference, _ reason: String) {
        if target.name == self.status.stable.name {
            // Its template is changed by whoever owns it; that begins a watch of its own.
            self.status.phase = .stable
            self.status.rejected = nil
            self.status.message = "apply the template of \(target.name) again"
        } else {
            self.start(target, reason)
        }
    }
}
