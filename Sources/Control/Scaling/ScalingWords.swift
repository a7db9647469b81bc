import Autoscaling

/// Decisions in words, for logs, the explanation and the dashboard.
///
/// Numbers are rounded for people; the documents have them in full beside the words.
package enum ScalingWords {
    /// What a recommendation says, as half a sentence.
    package static func text(_ recommendation: Recommendation) -> String {
        switch recommendation.reason {
        case .perReplica(let kind, let measured, let target):
            return "\(self.noun(kind)) of \(self.number(measured)) at "
                + "\(self.number(target)) per replica"
        case .utilization(let kind, let measured, let target, let ready):
            return "\(self.noun(kind)) of \(self.percent(measured)) on \(ready) ready against "
                + self.percent(target)
        case .queueWait(let seconds, let limit, let demand):
            return "waits of \(self.time(seconds)) against \(self.time(limit)), "
                + "demand of \(self.number(demand)) replicas"
        case .objective(let rate, let perReplica, let backlog):
            let waiting = backlog > 0 ? " and \(self.number(backlog)) waiting" : ""
            return "\(self.number(rate)) requests/s expected\(waiting), of which a replica does "
                + "\(self.number(perReplica)) within the objective"
        case .objectiveLearning(let load, let target, let samples):
            return "still learning what a replica can do (\(samples) samples): load of "
                + "\(self.number(load)) at \(self.number(target)) per replica"
        case .objectiveOutOfReach(let attainment, let rate, _):
            return "more replicas cannot help: even lightly loaded ones keep the objective for "
                + "\(self.percent(attainment)) of requests only, at \(self.number(rate))/s"
        case .mix(let demand, let perReplica):
            return "its part of the cheapest mix: \(self.number(demand)) requests/s at "
                + "\(self.number(perReplica)) per replica"
        case .schedule(let isAhead):
            return isAhead
                ? "the schedule begins before replicas would be ready"
                : "the schedule is on"
        case .scheduleOff: return "the schedule is off"
        case .unknown(let kind, let silentSeconds):
            let since = silentSeconds.map { " for \(self.time($0))" } ?? ""
            return "nothing known of \(self.noun(kind))\(since)"
        case .requestWaiting: return "a request waits for the first replica"
        case .minimum: return "the least there may be"
        }
    }

    /// What a constraint did, as half a sentence.
    package static func text(_ constraint: AppliedConstraint) -> String {
        switch constraint.kind {
        case .minimum: "minReplicas is \(constraint.after)"
        case .maximum: "maxReplicas is \(constraint.after)"
        case .floor: "a rollout needs \(constraint.after)"
        case .stabilization(let seconds):
            constraint.after > constraint.before
                ? "more were wanted within the last \(self.time(seconds))"
                : "not wanted for \(self.time(seconds)) yet"
        case .breakEven(let seconds):
            "more were wanted within the last \(self.time(seconds)), the time in which a start "
                + "pays for itself"
        case .rate(let perMinute): "no more than \(perMinute) per minute"
        case .consolidation(let load, let limit):
            "the others could not carry the load: \(self.number(load)) each, and "
                + "\(self.number(limit)) is what one can"
        case .workLeft: "work is queued or in flight"
        case .notIdle(let seconds, let needed):
            "idle for \(self.time(seconds)) of \(self.time(needed))"
        case .zeroNotAllowed: "scaleToZero is not set"
        case .warmingUp(let left):
            "nothing is taken away in the first \(self.time(left)) from now, until windows are full"
        case .sourceOut(let kind):
            kind.map { "nothing is known of \(self.noun($0))" } ?? "a gateway is silent"
        case .budget(let granted): "the budget gives \(granted)"
        case .obstacle(let obstacle, let retry):
            "replicas do not come: \(self.text(obstacle)); the next try is in \(self.time(retry))"
        case .fallback(let other): "takes over from `\(other)`, which cannot grow"
        case .blind: "the gateway or the cluster is silent"
        }
    }

    package static func text(_ obstacle: Obstacle) -> String {
        let words =
            switch obstacle.kind {
            case .noCapacity: "there is no room"
            case .quota: "a quota refuses them"
            case .imageError: "they cannot be started"
            case .crashLoop: "they crash again and again"
            case .startTimeout: "they are not ready in time"
            }
        return obstacle.message.isEmpty ? words : "\(words) (\(obstacle.message))"
    }

    /// Why a variant has the number it has: the recommendation that won, and what changed it.
    package static func reason(_ decision: VariantDecision) -> String {
        if decision.desired == 0, decision.outcome != .hold, ScalingReason(decision) == .idle {
            return "no request for the time that `scaleToZero` gives"
        }
        let winner = self.winner(decision)
        var parts = winner.map { [self.text($0)] } ?? []
        if let last = decision.constraints.last(where: { $0.after == decision.desired }) {
            parts.append(self.text(last))
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

    // MARK: Numbers

    static func noun(_ kind: ScalingGoalKind) -> String {
        switch kind {
        case .concurrency: "requests in flight and queued"
        case .queueWait: "waits in the queue"
        case .objective: "the objectives"
        case .requestRate: "requests per second"
        case .tokenRate: "tokens per second"
        case .kvCache: "KV-cache use"
        case .gpuUtilization: "GPU use"
        case .metric: "the metric"
        case .schedule: "the schedule"
        }
    }

    static func number(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "?" }
        if value.magnitude >= 100 || value == value.rounded() { return "\(Int(value.rounded()))" }
        let digits = value.magnitude >= 10 ? 10.0 : 100.0
        let text = "\((value * digits).rounded() / digits)"
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }

    static func percent(_ share: Double) -> String { "\(self.number(share * 100)) %" }

    static func time(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds < 1e12 else { return "?" }
        if seconds < 1 { return "\(Int((seconds * 1_000).rounded())) ms" }
        if seconds < 120 { return "\(self.number((seconds * 10).rounded() / 10)) s" }
        return seconds < 7_200
            ? "\(self.number((seconds / 6).rounded() / 10)) min"
            : "\(self.number((seconds / 360).rounded() / 10)) h"
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
        for goal in policy.targets { reasons.insert(Self(goal)) }
        return reasons
    }

    private init(_ goal: ScalingGoal) {
        switch goal {
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

    /// What a change to `desired` came of.
    package init(_ decision: VariantDecision) {
        let last = decision.constraints.last { $0.after == decision.desired }
        if let reason = last.flatMap({ Self($0.kind) }) {
            self = reason
        } else if decision.desired == 0 {
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
        case .stabilization, .breakEven, .rate, .consolidation, .workLeft, .notIdle,
            .zeroNotAllowed, .warmingUp, .sourceOut, .blind:
            return nil
        }
    }

    private init(_ reason: RecommendationReason) {
        switch reason {
        case .perReplica(let kind, _, _), .utilization(let kind, _, _, _): self.init(kind)
        case .queueWait: self = .queueWait
        case .objective, .objectiveLearning, .objectiveOutOfReach, .mix: self = .objective
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
