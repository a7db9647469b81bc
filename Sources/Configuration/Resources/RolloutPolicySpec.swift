/// How a model moves from one live variant to the next.
package struct RolloutPolicySpec: Sendable, Hashable {
    package enum InconclusiveAction: String, Sendable, CaseIterable {
        case pause = "Pause"
        case promote = "Promote"
        case rollback = "Rollback"
    }

    package var steps: [RolloutStep]
    package var analysis: AnalysisSpec
    package var guardrails: GuardrailsSpec
    package var onInconclusive: InconclusiveAction
    package var webhooks: [WebhookSpec]
    /// How long the old variant's replicas stay after the last step.
    package var scaleDownDelay: Duration

    /// What a `RolloutPolicy` without any field but its steps says; it has none.
    package static let defaults = RolloutPolicySpec(Schemas.defaults(of: .rolloutPolicy))

    init(_ record: Record) {
        self.steps = record.records("steps").map(RolloutStep.init)
        self.analysis = AnalysisSpec(record.record("analysis"))
        self.guardrails = GuardrailsSpec(record.record("guardrails"))
        self.onInconclusive = record.choice("onInconclusive")
        self.webhooks = record.records("webhooks").map(WebhookSpec.init)
        self.scaleDownDelay = record.duration("scaleDownDelay")
    }
}

package enum RolloutStep: Sendable, Hashable {
    /// The new variant's share in percent, and how long it is watched.
    case weight(Int, hold: Duration)
    /// Waits for a promotion by hand.
    case pause

    init(_ record: Record) {
        if let weight = record.optionalInteger("weight") {
            self = .weight(weight, hold: record.duration("hold"))
        } else {
            self = .pause
        }
    }
}

package struct AnalysisSpec: Sendable, Hashable {
    /// The bound on a false rollback, over all looks and metrics; between 0 and 1.
    package var alpha: Double
    package var minRequests: Int
    package var metrics: [AnalysisMetric]
    /// Ignored on both arms after a replica becomes ready.
    package var warmup: Duration

    init(_ record: Record) {
        self.alpha = record.decimal("alpha")
        self.minRequests = record.integer("minRequests")
        self.metrics = record.records("metrics").map(AnalysisMetric.init)
        self.warmup = record.duration("warmup")
    }
}

package enum AnalysisMetric: Sendable, Hashable {
    case successRate(maxDrop: Percent)
    case latency(quantile: Double, maxIncrease: Percent)
    case timeToFirstToken(quantile: Double, maxIncrease: Percent)
    /// A PromQL query; the URL is nil only in a spec that failed its checks.
    case custom(server: EndpointURL?, query: String, bound: Bound)

    package enum Bound: Sendable, Hashable {
        case below(Double)
        case above(Double)
    }

    init(_ record: Record) {
        switch record.text("name") {
        case "latency":
            self = .latency(
                quantile: record.decimal("quantile"),
                maxIncrease: record.percent("maxIncrease")
            )
        case "timeToFirstToken":
            self = .timeToFirstToken(
                quantile: record.decimal("quantile"),
                maxIncrease: record.percent("maxIncrease")
            )
        case "custom":
            let above = record.optionalDecimal("above").map(Bound.above)
            self = .custom(
                server: EndpointURL(text: record.text("server")),
                query: record.text("query"),
                bound: above ?? .below(record.decimal("below"))
            )
        default: self = .successRate(maxDrop: record.percent("maxDrop"))
        }
    }
}

/// Absolute bounds that end a rollout at once.
package struct GuardrailsSpec: Sendable, Hashable {
    package var consecutiveErrors: Int
    package var errorRate: Percent
    /// Nil: latency has no ceiling.
    package var latency: LatencyObjective?
    package var progressDeadline: Duration

    init(_ record: Record) {
        self.consecutiveErrors = record.integer("consecutiveErrors")
        self.errorRate = record.percent("errorRate")
        self.latency = record.optionalRecord("latency").map(LatencyObjective.init)
        self.progressDeadline = record.duration("progressDeadline")
    }
}

package struct WebhookSpec: Sendable, Hashable {
    package enum Moment: String, Sendable, CaseIterable {
        case beforeStep = "BeforeStep"
        case afterStep = "AfterStep"
        case onRollback = "OnRollback"
        case onComplete = "OnComplete"
    }

    package var when: Moment
    /// Nil only in a spec that failed its checks.
    package var url: EndpointURL?
    package var timeout: Duration

    init(_ record: Record) {
        self.when = record.choice("when")
        self.url = EndpointURL(text: record.text("url"))
        self.timeout = record.duration("timeout")
    }
}
