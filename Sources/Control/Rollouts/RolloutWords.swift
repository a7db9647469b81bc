import Core
import Logging
import Rollouts

/// What a rollout's status comes down to, for the explanation, the dashboard and the command line.
package enum RolloutWords {
    /// One word for the state, as a CI job wants it.
    package static func state(_ status: RolloutStatus) -> String {
        switch status.phase {
        case .stable: "live"
        case .rolledBack: "rolledBack"
        case .paused: "paused"
        case .progressing, .promoting, .rollingBack: status.phase.rawValue
        }
    }

    /// Whether it goes on only when somebody says so.
    package static func waitsForSomebody(_ status: RolloutStatus, _ plan: RolloutPlan?) -> Bool {
        guard status.phase == .paused else { return false }
        guard status.pause == .step, let steps = plan?.steps, steps.indices.contains(status.step),
            case .pause(.some) = steps[status.step]
        else { return true }
        return false
    }

    /// Why the weights are as they are.
    package static func reason(_ status: RolloutStatus, _ plan: RolloutPlan?) -> String {
        let stable = status.stable.name
        let canary = status.canary?.name ?? ""
        let weight = status.traffic.weight(of: canary)
        let steps = plan?.steps.count ?? 0
        let because = status.message.isEmpty ? "" : ": \(status.message)"
        switch status.phase {
        case .stable: return "\(stable) is live and no rollout runs"
        case .rolledBack:
            let rejected = status.rejected?.name ?? "the new variant"
            return "\(rejected) was rolled back\(because)"
        case .promoting: return "\(canary) takes over, at \(weight) % now\(because)"
        case .rollingBack: return "\(canary) is rolled back, at \(weight) % now\(because)"
        case .paused:
            return "the rollout to \(canary) is paused at \(weight) %\(because)"
        case .progressing:
            let stage = Self.stage(status, plan)
            return "\(canary) is rolled out: step \(status.step + 1) of \(steps), "
                + "at \(weight) %, \(stage)\(because)"
        }
    }

    private static func stage(_ status: RolloutStatus, _ plan: RolloutPlan?) -> String {
        switch status.stage {
        case .opening: return "waiting for the webhooks before the step"
        case .scaling: return "waiting for replicas"
        case .shifting: return "waiting until every worker uses the new weights"
        case .closing: return "waiting for the webhooks after the step"
        case .holding:
            guard let steps = plan?.steps, steps.indices.contains(status.step) else {
                return "watching"
            }
            let hold: Duration? =
                switch steps[status.step] {
                case .weight(_, let hold), .mirror(_, let hold), .analysis(let hold): hold
                case .pause, .canaryReplicas, .headerRoute: nil
                }
            guard let hold else { return "watching" }
            let held = status.heldMilliseconds / 1_000
            return "watched for \(held) s of \(Int(hold.secondsAsDouble)) s"
        }
    }
}

extension RolloutRecord {
    /// An entry of the history, for whoever looks at a log.
    func log(to logger: Logger, of model: String) {
        let metadata: Logger.Metadata = [
            "model": "\(model)", "event": "\(self.kind.rawValue)",
            "stable": "\(self.stable.name)", "canary": "\(self.canary?.name ?? "")",
            "weight": "\(self.weight)", "step": "\(self.step + 1)",
            "because": "\(self.message)",
        ]
        switch self.kind {
        case .failed, .rolledBack, .inconclusive: logger.warning("rollout", metadata: metadata)
        default: logger.info("rollout", metadata: metadata)
        }
    }
}
