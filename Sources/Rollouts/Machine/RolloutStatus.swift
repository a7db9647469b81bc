/// All that a rollout is, in fields that JSON can hold: a controller that has only the spec and
/// this goes on where another one stopped.
///
/// Times are counted, not dated: they are milliseconds that a controller watched, so that time
/// nobody watched is neither a hold nor a deadline.
package struct RolloutStatus: Sendable, Equatable, Codable {
    package enum Phase: String, Sendable, Codable {
        /// No rollout: the stable variant serves.
        case stable
        /// Walking the steps.
        case progressing
        /// Waiting for a decision by hand, see `pause`.
        case paused
        /// Going to 100 % and then swapping roles.
        case promoting
        /// Going to 0 %.
        case rollingBack
        /// The stable variant serves although the configuration names another: see `rejected`.
        case rolledBack
    }

    package enum PauseReason: String, Sendable, Codable {
        case step
        case manual
        case inconclusive
        case webhook
    }

    /// Within a step.
    package enum Stage: String, Sendable, Codable {
        /// Webhooks before it are asked.
        case opening
        /// Waiting for replicas that carry the coming share.
        case scaling
        /// Published, not acknowledged by everybody.
        case shifting
        /// Watched.
        case holding
        /// Webhooks after it are asked.
        case closing
    }

    /// What a rollback leads to.
    package enum RollbackAim: String, Sendable, Codable {
        /// The new variant was found bad, or the rollout was aborted.
        case reject
        /// The configuration names the stable variant again.
        case revert
        /// Another variant's turn: see `next`.
        case supersede
    }

    package var phase = Phase.stable
    package var stable: VariantReference
    package var canary: VariantReference?
    /// The live variant of the last configuration seen.
    package var specLive: VariantReference
    package var isInPlace = false

    // The step.
    package var step = 0
    package var stage = Stage.opening
    package var heldMilliseconds = 0
    /// Without progress, for the deadline.
    package var waitedMilliseconds = 0
    package var pause: PauseReason?
    package var targetWeight = 0
    package var canaryScale = CanaryScale.matchWeight
    package var headerRoute: HeaderRoute?
    package var mirrorPercent = 0

    // Going back.
    package var rollbackAim: RollbackAim?
    /// The canary fails hard: move at once.
    package var isEmergency = false
    package var next: VariantReference?
    package var rejected: VariantReference?
    /// The revision that a template was asked to go back to, until it is seen there.
    package var templateRollback: VariantReference?

    // What the gateways were told, and have acknowledged.
    package var traffic: TrafficPlan
    package var acknowledged: Int
    /// The largest weight of each variant that some worker may still use.
    package var weightsInUse: [VariantWeight]

    package var retiring: [RetiringVariant] = []
    package var recentGood: [VariantReference] = []
    /// Replicas the stable variant had when the rollout began.
    package var baselineReplicas = 1

    // Evidence.
    package var evidence: EvidenceState?
    /// Requests dispatched under this generation or an earlier one are not compared.
    package var evidenceAfter = 0
    package var reports: [MetricReport] = []
    /// Metrics that failed in dry run, each told once.
    package var dryRunFailures: [String] = []

    // Webhooks.
    package var gate: WebhookGate?
    package var notices: [WebhookNotice] = []

    // History.
    package var rollout = 0
    package var message = ""
    package var records: [RolloutRecord] = []
    package var nextID = 1

    package static let recordsMax = 256
    package static let retiringMax = 16
    package static let noticesMax = 16

    /// Before any rollout: the live variant serves.
    package init(live: VariantReference) {
        self.stable = live
        self.specLive = live
        self.traffic = TrafficPlan(generation: 1, weights: [.init(live.name, 100)])
        self.acknowledged = 0
        self.weightsInUse = self.traffic.weights
    }

    package var isRunning: Bool {
        switch self.phase {
        case .progressing, .paused, .promoting, .rollingBack: true
        case .stable, .rolledBack: false
        }
    }

    package var isAcknowledged: Bool { self.acknowledged >= self.traffic.generation }
}

/// A variant that has no share any more and waits until its replicas may go.
package struct RetiringVariant: Sendable, Equatable, Codable {
    package var name: String
    /// The generation from which on it has no weight.
    package var generation: Int
    package var delayMilliseconds: Int
    /// Since that generation was acknowledged.
    package var elapsedMilliseconds = 0

    package init(name: String, generation: Int, delayMilliseconds: Int) {
        self.name = name
        self.generation = generation
        self.delayMilliseconds = delayMilliseconds
    }
}

/// Webhooks that are asked one after the other before a rollout goes on.
package struct WebhookGate: Sendable, Equatable, Codable {
    package var moment: WebhookPlan.Moment
    /// Index into the plan's webhooks.
    package var webhook: Int
    /// The call under way; 0: waiting until it is asked again.
    package var call: Int
    package var attempts = 1
    package var waitedMilliseconds = 0
    package var totalMilliseconds = 0
}

/// A webhook that is told and not waited for.
package struct WebhookNotice: Sendable, Equatable, Codable {
    package var call: WebhookCall
    package var attempts = 1
    package var waitedMilliseconds = 0
}

/// One entry of the history.
package struct RolloutRecord: Sendable, Equatable, Codable {
    package enum Kind: String, Sendable, Codable {
        case started
        case stepBegan
        case weightChanged
        case paused
        case resumed
        case inconclusive
        case failed
        case rollingBack
        case rolledBack
        case promoting
        case promoted
        case superseded
        case aborted
        case retried
        case retired
        case webhook
        case configuration
        case inPlace
        case dryRun
    }

    /// Rising, never used twice: whoever passes events on can leave out those it has seen.
    package var id: Int
    /// Counts rollouts of the model from 1.
    package var rollout: Int
    package var kind: Kind
    package var message: String
    /// Milliseconds since 1970.
    package var at: Int
    package var step: Int
    package var weight: Int
    package var stable: VariantReference
    package var canary: VariantReference?
    /// What the verdict rests on; empty where there is none.
    package var reports: [MetricReport]
}
