import Core

/// What is compared during a rollout, and how strictly.
package struct AnalysisPlan: Sendable, Hashable {
    /// Bound on the chance of a false rollback, over all looks and metrics; above 0, below 1.
    package var alpha = 0.01
    /// Requests that each arm with a share must have answered within a step before it can pass.
    package var minRequests = 50
    package var metrics: [MetricPlan]
    /// A replica's answers are ignored until it has been ready for this long, on both arms.
    package var warmup = Duration.seconds(30)
    /// The step, from 0, at which comparing begins.
    package var startingStep = 0
    /// Verdicts are given and reported, but nothing is done about them.
    package var isDryRun = false

    package static let metricsMax = 16

    package init(metrics: [MetricPlan] = [.successRate(maxDrop: 0.001)]) {
        self.metrics = metrics
    }
}

/// One thing that must not become worse.
package struct MetricPlan: Sendable, Hashable {
    package enum Test: Sendable, Hashable {
        /// The share of requests with an event may rise to `maxRatio` times the stable arm's, plus
        /// `maxIncrease` (a share of requests, 0...1).
        case events(EventKind, maxIncrease: Double, maxRatio: Double = 1)
        /// The quantile (above 0, below 1) may rise by the share `maxIncrease`.
        case quantile(LatencyKind, quantile: Double, maxIncrease: Double)
        /// The distribution functions may be apart by `maxDistance` (0...1) at any point.
        case distance(LatencyKind, maxDistance: Double)
        case pairs(PairTest.Kind, maxIncrease: Double)
        case custom(CustomPlan)
    }

    package var name: String
    package var test: Test
    /// Its part of α, relative to the other metrics' weights; above 0.
    package var alphaWeight = 1.0
    /// Reported, never acted upon; takes no part of α.
    package var isDryRun = false

    package init(name: String, _ test: Test, alphaWeight: Double = 1, isDryRun: Bool = false) {
        self.name = name
        self.test = test
        self.alphaWeight = alphaWeight
        self.isDryRun = isDryRun
    }

    /// - Parameter maxDrop: a share of requests, 0...1.
    package static func successRate(maxDrop: Double) -> MetricPlan {
        MetricPlan(name: "successRate", .events(.error, maxIncrease: maxDrop))
    }

    package static func quantile(_ kind: LatencyKind, _ quantile: Double, maxIncrease: Double)
        -> MetricPlan
    {
        MetricPlan(
            name: kind.rawValue,
            .quantile(kind, quantile: quantile, maxIncrease: maxIncrease)
        )
    }

    /// Whether it spends a part of α: thresholds that the user set are no statistics.
    package var isStatistical: Bool {
        if case .custom = self.test { false } else { true }
    }
}

/// A number from outside, such as the result of a PromQL query, against a threshold.
package struct CustomPlan: Sendable, Hashable {
    package enum Bound: Sendable, Hashable {
        case below(Double)
        case above(Double)

        package func holds(_ value: Double) -> Bool {
            switch self {
            case .below(let limit): value < limit
            case .above(let limit): value > limit
            }
        }
    }

    package var bound: Bound
    package var interval = Duration.seconds(15)
    package var initialDelay = Duration.zero
    /// How long a measurement may take before it counts as failed to measure.
    package var timeout = Duration.seconds(10)
    /// Values on the wrong side that are forgiven.
    package var failureLimit = 0
    /// Measurements without a value that are forgiven within a step.
    package var inconclusiveLimit = 3
    /// Errors in a row that are forgiven.
    package var consecutiveErrorLimit = 4

    package init(_ bound: Bound) {
        self.bound = bound
    }
}

/// Absolute bounds that end a rollout at once; nil or 0 turns one off.
package struct GuardrailPlan: Sendable, Hashable {
    package var consecutiveErrors = 20
    /// A share of the canary's requests, 0...1, over `window`.
    package var errorRate: Double? = 0.2
    /// Requests within the window before a rate is looked at.
    package var minRequests = 50
    package var window = Duration.seconds(30)
    /// The canary's latency at a quantile.
    package var latency: LatencyCeiling?
    /// Crashes of the canary's replicas during the rollout.
    package var crashes = 5
    package var burnRate: BurnRate?

    package init() {}

    package struct LatencyCeiling: Sendable, Hashable {
        /// Above 0, below 1.
        package var quantile: Double
        package var ceiling: Duration

        package init(quantile: Double, ceiling: Duration) {
            self.quantile = quantile
            self.ceiling = ceiling
        }
    }

    /// How many times as fast as the objective allows the canary may spend its error budget, over
    /// a long window and a short one at once ("Alerting on SLOs", The Site Reliability Workbook).
    package struct BurnRate: Sendable, Hashable {
        /// The success rate that is promised, above 0, below 1.
        package var objective: Double
        package var limit = 14.4

        package static let longWindow = Duration.seconds(300)
        package static let shortWindow = Duration.seconds(30)

        package init(objective: Double, limit: Double = 14.4) {
            self.objective = objective
            self.limit = limit
        }
    }
}
