import Core

/// How a model moves from one variant to the next: what a `RolloutPolicy` says.
package struct RolloutPlan: Sendable, Equatable {
    package enum InconclusiveAction: String, Sendable, Codable {
        case pause
        case promote
        case rollback
    }

    package var steps: [RolloutStep]
    package var analysis = AnalysisPlan()
    package var guardrails = GuardrailPlan()
    package var onInconclusive = InconclusiveAction.pause
    package var webhooks: [WebhookPlan] = []
    /// How long replicas, readiness, acknowledgements may take before the rollout is rolled back.
    package var progressDeadline = Duration.seconds(600)
    /// How long the old variant's replicas stay after a promotion.
    package var scaleDownDelay = Duration.seconds(30)
    /// How long the new variant's replicas stay after a rollback.
    package var abortScaleDownDelay = Duration.seconds(30)
    /// How long running streams may keep a variant without weight from shrinking.
    package var drainDeadline = Duration.seconds(300)
    /// So many variants that served well before are returned to without steps.
    package var rollbackWindow = 1
    /// Whether the stable variant keeps capacity for all requests until the end, so that a rollback
    /// needs no start. If not, it may shrink to its share once that is acknowledged.
    package var keepsStableCapacity = true
    /// How long a workload that was updated in place is watched.
    package var inPlaceWatch = Duration.seconds(300)

    package static let stepsMax = 64
    package static let webhooksMax = 32
    package static let rollbackWindowMax = 10

    package init(steps: [RolloutStep]) {
        self.steps = steps
    }
}

/// One step of a rollout.
package enum RolloutStep: Sendable, Hashable {
    /// The new variant's share in percent, 0...100, and how long it is watched.
    case weight(Int, hold: Duration)
    /// Waits for a promotion by hand; with a duration at most that long.
    case pause(Duration?)
    /// Gives the new variant replicas that do not follow from its share.
    case canaryReplicas(CanaryScale)
    /// Sends requests with a header to the new variant, apart from the share; nil ends it.
    case headerRoute(HeaderRoute?)
    /// Sends copies of a share of the requests, in percent, to the new variant while it is watched.
    case mirror(Int, hold: Duration)
    /// Watches without changing anything.
    case analysis(hold: Duration)

    /// The share that a step asks for, if it is about that.
    package var weight: Int? {
        if case .weight(let weight, _) = self { weight } else { nil }
    }
}

package enum CanaryScale: Sendable, Hashable, Codable {
    case replicas(Int)
    /// As many as a share of the requests in percent would need.
    case share(Int)
    case matchWeight
}

/// Requests whose header has a value go to the new variant.
package struct HeaderRoute: Sendable, Hashable, Codable {
    /// Lower case.
    package var name: String
    package var value: String

    package init(name: String, value: String) {
        self.name = name
        self.value = value
    }
}

package struct WebhookPlan: Sendable, Equatable {
    package enum Moment: String, Sendable, Codable {
        case beforeStep
        case afterStep
        case onRollback
        case onComplete
    }

    package var moment: Moment
    package var url: String
    package var timeout = Duration.seconds(10)
    /// A file with the keys that sign its requests; nil: they are not signed.
    package var keyFile: String?

    package init(_ moment: Moment, url: String) {
        self.moment = moment
        self.url = url
    }
}

/// A variant and the revision of its template; empty where revisions are not known.
package struct VariantReference: Sendable, Hashable, Codable {
    package var name: String
    package var revision: String

    package init(_ name: String, revision: String = "") {
        self.name = name
        self.revision = revision
    }
}

/// What the configuration says about one model.
package struct RolloutSpec: Sendable, Equatable {
    package var live: VariantReference
    package var variants: [VariantReference]
    /// Nil: a change of the live variant takes effect as soon as that is safe, without steps.
    package var plan: RolloutPlan?

    package init(live: String, variants: [VariantReference], plan: RolloutPlan?) {
        self.live = variants.first { $0.name == live } ?? VariantReference(live)
        self.variants = variants
        self.plan = plan
    }

    package func variant(named name: String) -> VariantReference? {
        self.variants.first { $0.name == name }
    }
}

// MARK: Checks

/// Why a plan, a configuration or a command cannot be followed: what, where, and what to do.
package struct RolloutRefusal: Error, Equatable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

extension RolloutSpec {
    /// Throws for the first thing that is wrong.
    package func check() throws(RolloutRefusal) {
        guard self.variant(named: self.live.name) != nil else {
            throw self.unknown(self.live.name)
        }
        try self.plan?.check()
    }

    package func unknown(_ name: String) -> RolloutRefusal {
        let names = self.variants.map(\.name).joined(separator: ", ")
        return RolloutRefusal("there is no variant \(name): the variants are \(names)")
    }
}

extension RolloutPlan {
    package func check() throws(RolloutRefusal) {
        try Self.bound("steps", self.steps.count, 0...Self.stepsMax)
        try Self.bound("webhooks", self.webhooks.count, 0...Self.webhooksMax)
        try Self.bound("rollbackWindow", self.rollbackWindow, 0...Self.rollbackWindowMax)
        var last = -1
        for (index, step) in self.steps.enumerated() {
            try step.check(at: "steps[\(index)]")
            guard let weight = step.weight else { continue }
            if weight <= last {
                throw RolloutRefusal(
                    "steps[\(index)]: the weights of the steps must rise: \(weight) comes after "
                        + "\(last); put the steps in rising order"
                )
            }
            last = weight
        }
        try self.analysis.check()
    }

    static func bound(_ name: String, _ value: Int, _ range: ClosedRange<Int>)
        throws(RolloutRefusal)
    {
        if range.contains(value) { return }
        throw RolloutRefusal(
            "\(name): \(value) is not between \(range.lowerBound) and \(range.upperBound)"
        )
    }
}

extension RolloutStep {
    func check(at place: String) throws(RolloutRefusal) {
        switch self {
        case .weight(let weight, let hold):
            try RolloutPlan.bound("\(place).weight", weight, 0...100)
            try Self.check(hold, "\(place).hold")
        case .mirror(let percent, let hold):
            try RolloutPlan.bound("\(place).mirror", percent, 1...100)
            try Self.check(hold, "\(place).hold")
        case .analysis(let hold): try Self.check(hold, "\(place).hold")
        case .pause(let duration?): try Self.check(duration, "\(place).pause")
        case .canaryReplicas(.replicas(let count)):
            try RolloutPlan.bound("\(place).canaryReplicas", count, 0...Self.replicasMax)
        case .canaryReplicas(.share(let percent)):
            try RolloutPlan.bound("\(place).canaryReplicas", percent, 0...100)
        case .headerRoute(let route?):
            if route.name.isEmpty || route.name != route.name.lowercased() {
                throw RolloutRefusal("\(place).headerRoute: the name must be in lower case")
            }
        case .pause(nil), .canaryReplicas(.matchWeight), .headerRoute(nil): break
        }
    }

    package static let replicasMax = 10_000

    private static func check(_ duration: Duration, _ place: String) throws(RolloutRefusal) {
        if duration < .zero { throw RolloutRefusal("\(place): must not be negative") }
    }
}

extension AnalysisPlan {
    package func check() throws(RolloutRefusal) {
        guard self.alpha > 0, self.alpha < 1 else {
            throw RolloutRefusal("analysis.alpha: \(self.alpha) is not between 0 and 1")
        }
        try RolloutPlan.bound("analysis.metrics", self.metrics.count, 0...Self.metricsMax)
        var names: Set<String> = []
        for metric in self.metrics {
            if !names.insert(metric.name).inserted {
                throw RolloutRefusal(
                    "analysis.metrics: the name \(metric.name) is given twice; rename one"
                )
            }
            try metric.check()
        }
    }
}

extension MetricPlan {
    func check() throws(RolloutRefusal) {
        if !(self.alphaWeight > 0 && self.alphaWeight.isFinite) {
            throw RolloutRefusal("analysis.metrics: the weight of \(self.name) must be above 0")
        }
        switch self.test {
        case .events(_, let increase, let ratio):
            try self.bound("maxIncrease", increase, 0...1)
            try self.bound("maxRatio", ratio, 1...1_000)
        case .quantile(_, let quantile, let increase):
            try self.bound("quantile", quantile, 0.001...0.9999)
            try self.bound("maxIncrease", increase, 0...100)
        case .distance(_, let distance): try self.bound("maxDistance", distance, 0...1)
        case .pairs(_, let increase): try self.bound("maxIncrease", increase, 0...1)
        case .custom(let plan):
            if plan.interval < .seconds(1) || plan.timeout <= .zero {
                throw RolloutRefusal(
                    "analysis.metrics: \(self.name) needs an interval of at least 1 s and a timeout"
                )
            }
        }
    }

    private func bound(_ field: String, _ value: Double, _ range: ClosedRange<Double>)
        throws(RolloutRefusal)
    {
        if range.contains(value) { return }
        throw RolloutRefusal(
            "analysis.metrics: \(field) of \(self.name): \(value) is not between "
                + "\(range.lowerBound) and \(range.upperBound)"
        )
    }
}
