import Core

/// What the machine is told.
package enum RolloutEvent: Sendable, Equatable {
    /// About once a second.
    case tick(RolloutObservation)
    /// Every worker of every gateway uses this generation of the traffic plan, or a later one.
    case acknowledged(generation: Int)
    /// The configuration changed; one that was checked.
    case configured(RolloutSpec)
    /// A workload's template changed in place.
    case templateChanged(VariantReference)
    case webhookAnswered(call: Int, WebhookAnswer)
    case measured(metric: Int, number: Int, CustomMetric.Result)
}

/// What somebody asks for by hand.
package enum RolloutCommand: Sendable, Equatable {
    case start(variant: String)
    case pause
    /// Ends a pause, or the rest of a hold; in full: goes to the end without further steps.
    case promote(full: Bool)
    case abort
    case retry
}

package enum WebhookAnswer: Sendable, Equatable {
    /// 2xx.
    case accepted
    /// Any other status.
    case denied(String)
    /// No answer.
    case failed(String)
}

/// Now, on both clocks: decisions use the first, stamps in the history the second.
package struct RolloutMoment: Sendable, Equatable {
    package var instant: Instant
    /// Milliseconds since 1970.
    package var wall: Int

    package init(instant: Instant, wall: Int) {
        self.instant = instant
        self.wall = wall
    }
}

/// What is seen at a tick.
package struct RolloutObservation: Sendable, Equatable {
    /// By variant; one that is missing is taken for one without replicas, and never retired.
    package var variants: [String: VariantObservation]
    package var samples: [ArmSample] = []
    package var pairs = PairCounts()
    package var canary = GuardrailSample()
    package var stable = GuardrailSample()

    package init(variants: [String: VariantObservation] = [:]) {
        self.variants = variants
    }
}

package struct VariantObservation: Sendable, Equatable {
    /// Replicas that may get requests, of all revisions.
    package var ready: Int
    /// How many would be needed if it had all requests, at most its maximum; nil: not known.
    package var replicasForAll: Int?
    /// Fixed addresses are as many as they are.
    package var isScalable = true
    /// Requests and streams that run.
    package var inFlight: Int
    /// Ready replicas of the revision before the last, while a template changes in place.
    package var readyOfOldRevision = 0

    package init(ready: Int, replicasForAll: Int? = nil, inFlight: Int = 0) {
        self.ready = ready
        self.replicasForAll = replicasForAll
        self.inFlight = inFlight
    }
}

// MARK: Actions

/// What the shell does. It stores the status first, then acts; after a restart the machine says
/// again whatever still holds, so each action must be harmless when done twice.
package enum RolloutAction: Sendable, Equatable {
    /// Put this plan into the snapshot of every gateway; report when all have acknowledged it.
    case setTraffic(TrafficPlan)
    /// What the autoscaler has to keep for the variants named, until told otherwise.
    case setCapacity([CapacityDemand])
    /// Pass an event on.
    case record(RolloutRecord)
    case callWebhook(WebhookCall)
    /// Measure a custom metric of the analysis.
    case measure(metric: Int, number: Int)
    /// Give a workload the template of this revision again.
    case rollBackTemplate(VariantReference)
}

/// Who gets which requests. Replaced as a whole.
package struct TrafficPlan: Sendable, Equatable, Codable {
    /// Rises with every change.
    package var generation: Int
    /// The variants with a share, stable first; the sum is 100.
    package var weights: [VariantWeight]
    /// Requests that go to the canary whatever the weights are.
    package var headerRoute: HeaderRoute?
    /// Where copies go to, and what share of the requests is copied.
    package var mirrorTo: String?
    package var mirrorPercent = 0

    package init(generation: Int, weights: [VariantWeight]) {
        self.generation = generation
        self.weights = weights
    }

    package func weight(of variant: String) -> Int {
        self.weights.first { $0.variant == variant }?.percent ?? 0
    }
}

package struct VariantWeight: Sendable, Equatable, Codable {
    package var variant: String
    package var percent: Int

    package init(_ variant: String, _ percent: Int) {
        self.variant = variant
        self.percent = percent
    }
}

/// What a variant must have, whatever its own load says. Variants that are not named are free.
package struct CapacityDemand: Sendable, Equatable, Codable {
    package var variant: String
    /// Capacity for this percentage of the model's requests.
    package var share: Int
    package var replicasMin: Int
    /// False: no replica may be taken away, however little there is to do.
    package var mayShrink: Bool
    /// The share it will have at the next step, and in how many milliseconds at the earliest; nil
    /// where nobody knows. Starting replicas a cold start ahead saves waiting.
    package var nextShare: Int?
    package var nextShareInMilliseconds: Int?

    package init(variant: String, share: Int, replicasMin: Int, mayShrink: Bool) {
        self.variant = variant
        self.share = share
        self.replicasMin = replicasMin
        self.mayShrink = mayShrink
    }
}

/// A webhook to call; the identifier is the same when it is called again after a restart.
package struct WebhookCall: Sendable, Equatable, Codable {
    package var id: Int
    package var moment: WebhookPlan.Moment
    package var url: String
    package var timeoutMilliseconds: Int
    /// Nil where it is not signed.
    package var keyFile: String?
    package var rollout: Int
    package var stable: VariantReference
    package var canary: VariantReference?
    package var step: Int
    package var weight: Int
    package var message: String
}
