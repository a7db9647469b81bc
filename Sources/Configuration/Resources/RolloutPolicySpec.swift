import Rollouts

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
    /// How long the new variant's replicas stay after a rollback.
    package var abortScaleDownDelay: Duration
    package var drainDeadline: Duration
    package var rollbackWindow: Int
    package var keepsStableCapacity: Bool
    package var inPlaceWatch: Duration

    /// What a `RolloutPolicy` without any field but its steps says; it has none.
    package static let defaults = RolloutPolicySpec(Schemas.defaults(of: .rolloutPolicy))

    init(_ record: Record) {
        self.steps = record.records("steps").map(RolloutStep.init)
        self.analysis = AnalysisSpec(record.record("analysis"))
        self.guardrails = GuardrailsSpec(record.record("guardrails"))
        self.onInconclusive = record.choice("onInconclusive")
        self.webhooks = record.records("webhooks").map(WebhookSpec.init)
        self.scaleDownDelay = record.duration("scaleDownDelay")
        self.abortScaleDownDelay = record.duration("abortScaleDownDelay")
        self.drainDeadline = record.duration("drainDeadline")
        self.rollbackWindow = record.integer("rollbackWindow")
        self.keepsStableCapacity = record.boolean("keepStableCapacity")
        self.inPlaceWatch = record.duration("inPlaceWatch")
    }

    /// The plan for the rollout machine; valid where the spec passed its checks.
    ///
    /// - Parameter objectives: the model's; the error budget comes from there.
    package func plan(_ objectives: ObjectivesSpec) -> RolloutPlan {
        var plan = RolloutPlan(steps: self.steps)
        plan.analysis = self.analysis.plan
        plan.guardrails = self.guardrails.plan(objectives)
        plan.onInconclusive =
            switch self.onInconclusive {
            case .pause: .pause
            case .promote: .promote
            case .rollback: .rollback
            }
        plan.webhooks = self.webhooks.map(\.plan)
        plan.progressDeadline = self.guardrails.progressDeadline
        plan.scaleDownDelay = self.scaleDownDelay
        plan.abortScaleDownDelay = self.abortScaleDownDelay
        plan.drainDeadline = self.drainDeadline
        plan.rollbackWindow = self.rollbackWindow
        plan.keepsStableCapacity = self.keepsStableCapacity
        plan.inPlaceWatch = self.inPlaceWatch
        return plan
    }
}

extension RolloutStep {
    init(_ record: Record) {
        if let weight = record.optionalInteger("weight") {
            self = .weight(weight, hold: record.duration("hold"))
        } else if let percent = record.optionalInteger("mirror") {
            self = .mirror(percent, hold: record.duration("hold"))
        } else if let duration = record.optionalDuration("wait") {
            self = .pause(duration)
        } else if let duration = record.optionalDuration("watch") {
            self = .analysis(hold: duration)
        } else if let scale = record.optionalRecord("canaryScale") {
            self = .canaryReplicas(CanaryScale(scale))
        } else if let route = record.optionalRecord("headerRoute") {
            // Field names are the same in any case; gateways compare lower ones.
            let name = route.text("name").lowercased()
            self = .headerRoute(HeaderRoute(name: name, value: route.text("value")))
        } else if record.has("removeHeaderRoute") {
            self = .headerRoute(nil)
        } else {
            self = .pause(nil)
        }
    }
}

extension CanaryScale {
    init(_ record: Record) {
        if let replicas = record.optionalInteger("replicas") {
            self = .replicas(replicas)
        } else if let share = record.optionalInteger("share") {
            self = .share(share)
        } else {
            self = .matchWeight
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
    package var startingStep: Int
    package var isDryRun: Bool

    init(_ record: Record) {
        self.alpha = record.decimal("alpha")
        self.minRequests = record.integer("minRequests")
        self.metrics = Self.named(record.records("metrics").map(AnalysisMetric.init))
        self.warmup = record.duration("warmup")
        self.startingStep = record.integer("startingStep")
        self.isDryRun = record.boolean("dryRun")
    }

    /// Reports name metrics: of those of one name the later ones get a number.
    private static func named(_ metrics: [AnalysisMetric]) -> [AnalysisMetric] {
        var names: Set<String> = []
        return metrics.map { metric in
            var metric = metric
            let name = metric.plan.name
            var number = 1
            while !names.insert(metric.plan.name).inserted {
                number += 1
                metric.plan.name = "\(name) \(number)"
            }
            return metric
        }
    }

    var plan: AnalysisPlan {
        var plan = AnalysisPlan(metrics: self.metrics.map(\.plan))
        plan.alpha = self.alpha
        plan.minRequests = self.minRequests
        plan.warmup = self.warmup
        plan.startingStep = self.startingStep
        plan.isDryRun = self.isDryRun
        return plan
    }
}

/// A metric as the machine knows it, and where a custom one is asked for.
package struct AnalysisMetric: Sendable, Hashable {
    package var plan: MetricPlan
    package var source: Source?

    /// A PromQL query; the URL is nil only in a spec that failed its checks.
    package struct Source: Sendable, Hashable {
        package var server: EndpointURL?
        package var query: String
    }

    init(_ record: Record) {
        let test = Self.test(record)
        self.plan = MetricPlan(
            name: record.optionalText("label") ?? Self.name(record.text("name"), test),
            test,
            alphaWeight: record.decimal("alphaWeight"),
            isDryRun: record.boolean("dryRun")
        )
        if case .custom = test {
            self.source = Source(
                server: EndpointURL(text: record.text("server")),
                query: record.text("query")
            )
        }
    }

    /// Quantiles of one thing are different metrics.
    private static func name(_ name: String, _ test: MetricPlan.Test) -> String {
        guard case .quantile(_, let quantile, _) = test else { return name }
        let thousandths = Int((quantile * 100_000).rounded())
        let whole = "\(name) p\(thousandths / 1_000)"
        let rest = thousandths % 1_000
        return rest == 0 ? whole : "\(name) p\(Double(thousandths) / 1_000)"
    }

    private static func test(_ record: Record) -> MetricPlan.Test {
        func events(_ kind: EventKind) -> MetricPlan.Test {
            .events(kind, maxIncrease: record.percent("maxIncrease").fraction)
        }
        func quantile(_ kind: LatencyKind) -> MetricPlan.Test {
            .quantile(
                kind,
                quantile: record.decimal("quantile"),
                maxIncrease: record.percent("maxIncrease").fraction
            )
        }
        func pairs(_ kind: PairTest.Kind) -> MetricPlan.Test {
            .pairs(kind, maxIncrease: record.percent("maxIncrease").fraction)
        }
        switch record.text("name") {
        case "timeouts": return events(.timeout)
        case "cancelled": return events(.cancelled)
        case "refused": return events(.refused)
        case "invalidJSON": return events(.invalidJSON)
        case "emptyOutput": return events(.emptyOutput)
        case "truncatedOutput": return events(.truncatedOutput)
        case "latency": return quantile(.latency)
        case "timeToFirstToken": return quantile(.timeToFirstToken)
        case "timePerOutputToken": return quantile(.timePerOutputToken)
        case "outputLength":
            return .distance(
                .outputTokens,
                maxDistance: record.percent("maxDistance").fraction
            )
        case "answers": return pairs(.different)
        case "pairedErrors": return pairs(.bad)
        case "pairedLatency": return pairs(.slower)
        case "custom": return .custom(CustomPlan(record))
        default: return .events(.error, maxIncrease: record.percent("maxDrop").fraction)
        }
    }
}

extension CustomPlan {
    init(_ record: Record) {
        let above = record.optionalDecimal("above").map(Bound.above)
        self.init(above ?? .below(record.decimal("below")))
        self.interval = record.duration("interval")
        self.initialDelay = record.duration("initialDelay")
        self.timeout = record.duration("timeout")
        self.failureLimit = record.integer("failureLimit")
        self.inconclusiveLimit = record.integer("inconclusiveLimit")
        self.consecutiveErrorLimit = record.integer("consecutiveErrorLimit")
    }
}

/// Absolute bounds that end a rollout at once.
package struct GuardrailsSpec: Sendable, Hashable {
    package var consecutiveErrors: Int
    package var errorRate: Percent
    package var minRequests: Int
    package var window: Duration
    /// Nil: latency has no ceiling.
    package var latency: LatencyObjective?
    package var crashes: Int
    /// Nil: the error budget is not looked at.
    package var burnRate: Double?
    package var progressDeadline: Duration

    init(_ record: Record) {
        self.consecutiveErrors = record.integer("consecutiveErrors")
        self.errorRate = record.percent("errorRate")
        self.minRequests = record.integer("minRequests")
        self.window = record.duration("window")
        self.latency = record.optionalRecord("latency").map(LatencyObjective.init)
        self.crashes = record.integer("crashes")
        self.burnRate = record.optionalDecimal("burnRate")
        self.progressDeadline = record.duration("progressDeadline")
    }

    func plan(_ objectives: ObjectivesSpec) -> GuardrailPlan {
        var plan = GuardrailPlan()
        plan.consecutiveErrors = self.consecutiveErrors
        plan.errorRate = self.errorRate.fraction
        plan.minRequests = self.minRequests
        plan.window = self.window
        plan.latency = self.latency.map {
            GuardrailPlan.LatencyCeiling(quantile: $0.quantile, ceiling: $0.below)
        }
        plan.crashes = self.crashes
        if let limit = self.burnRate, let objective = objectives.successRate,
            objective > .zero, objective < .whole
        {
            plan.burnRate = GuardrailPlan.BurnRate(objective: objective.fraction, limit: limit)
        }
        return plan
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
    /// A file with the keys that sign requests. Nil: they are not signed.
    package var keyFile: String?

    init(_ record: Record) {
        self.when = record.choice("when")
        self.url = EndpointURL(text: record.text("url"))
        self.timeout = record.duration("timeout")
        self.keyFile = record.optionalText("keyFile")
    }

    var plan: WebhookPlan {
        let moment: WebhookPlan.Moment =
            switch self.when {
            case .beforeStep: .beforeStep
            case .afterStep: .afterStep
            case .onRollback: .onRollback
            case .onComplete: .onComplete
            }
        var plan = WebhookPlan(moment, url: self.url.map { "\($0)" } ?? "")
        plan.timeout = self.timeout
        plan.keyFile = self.keyFile
        return plan
    }
}
