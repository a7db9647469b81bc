import Autoscaling

/// What a decision comes down to, for logs, the explanation and the dashboard.
package enum ScalingWords {
    /// Why a variant has the number it has: the recommendation that won, and what changed it.
    package static func reason(_ decision: VariantDecision) -> String {
        if decision.desired == 0, decision.outcome != .hold, decision.isCovered {
            let part = decision.worth == nil ? nil : self.winner(decision)?.reason.text
            return ["others of its pool do its work", part].compactMap { $0 }
                .joined(separator: ": ")
        }
        if decision.desired == 0, decision.outcome != .hold, ScalingReason(decision) == .idle {
            return "no request for the time that `scaleToZero` gives"
        }
        let winner = self.winner(decision)
        var parts = winner.map { [$0.reason.text] } ?? []
        if let last = decision.constraints.last(where: { $0.after == decision.desired }) {
            parts.append(last.kind.text)
        }
        return parts.joined(separator: "; ")
    }

    /// The recommendation for the most replicas, the first where several agree.
    package static func winner(_ decision: VariantDecision) -> Recommendation? {
        var winner: Recommendation?
        for recommendation in decision.recommendations {
            guard let replicas = recommendation.replicas else { continue }
            if replicas > winner?.replicas ?? -1 { winner = recommendation }
        }
        return winner ?? decision.recommendations.first
    }
}

/// The label `reason` of `weir_scaling_decisions_total`.
package enum ScalingReason: String, Sendable, CaseIterable {
    case concurrency
    case queueWait = "queue_wait"
    case objective
    case requestRate = "request_rate"
    case tokenRate = "token_rate"
    case kvCache = "kv_cache"
    case gpuUtilization = "gpu_utilization"
    case metric
    case schedule
    /// A request waited and there was no replica.
    case request
    /// Nothing came for long enough.
    case idle
    case minimum
    case maximum
    case budget
    case fallback
    /// Replicas did not come.
    case obstacle
    case unknown

    /// What changes under this policy may come of.
    package static func possible(_ policy: ScalingPolicy) -> Set<ScalingReason> {
        var reasons: Set<ScalingReason> = [.request, .idle, .minimum, .maximum]
        for goal in policy.targets { reasons.insert(Self(goal.kind)) }
        return reasons
    }

    /// What a change to `desired` came of.
    package init(_ decision: VariantDecision) {
        let last = decision.constraints.last { $0.after == decision.desired }
        if let reason = last.flatMap({ Self($0.kind) }) {
            self = reason
        } else if decision.desired == 0, !decision.isCovered {
            self = .idle
        } else {
            self = ScalingWords.winner(decision).map { Self($0.reason) } ?? .unknown
        }
    }

    /// Nil for constraints that only delay.
    private init?(_ constraint: AppliedConstraint.Kind) {
        switch constraint {
        case .minimum, .floor: self = .minimum
        case .maximum: self = .maximum
        case .budget: self = .budget
        case .fallback: self = .fallback
        case .obstacle: self = .obstacle
        case .stabilization, .breakEven, .rate, .consolidation, .othersNotReady, .workLeft,
            .notIdle, .zeroNotAllowed, .warmingUp, .sourceOut, .blind:
            return nil
        }
    }

    private init(_ reason: RecommendationReason) {
        switch reason {
        case .perReplica(let kind, _, _), .utilization(let kind, _, _, _): self.init(kind)
        case .queueWait: self = .queueWait
        case .objective, .objectiveStanding, .objectiveLearning, .objectiveOutOfReach, .mix:
            self = .objective
        case .schedule, .scheduleOff: self = .schedule
        case .unknown: self = .unknown
        case .requestWaiting: self = .request
        case .minimum: self = .minimum
        }
    }

    package init(_ kind: ScalingGoalKind) {
        switch kind {
        case .concurrency: self = .concurrency
        case .queueWait: self = .queueWait
        case .objective: self = .objective
        case .requestRate: self = .requestRate
        case .tokenRate: self = .tokenRate
        case .kvCache: self = .kvCache
        case .gpuUtilization: self = .gpuUtilization
        case .metric: self = .metric
        case .schedule: self = .schedule
        }
    }
}
