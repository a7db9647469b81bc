import Core

/// How a model's number of replicas follows its load.
package struct ScalingPolicySpec: Sendable, Hashable {
    /// The largest recommendation wins.
    package var targets: [ScalingTarget]
    package var windows: ScalingWindows
    /// How far ahead demand is forecast. Automatic: the measured cold start.
    package var forecastHorizon: DurationSetting
    package var scaleUp: ScalingRate
    package var scaleDown: ScalingRate
    /// How long a model is idle before its last replica goes. Nil: it never does.
    package var scaleToZeroAfter: Duration?
    /// Decide and explain, never write.
    package var dryRun: Bool

    /// What a `ScalingPolicy` without any field but its targets says; it has none.
    package static let defaults = ScalingPolicySpec(Schemas.defaults(of: .scalingPolicy))

    init(_ record: Record) {
        self.targets = record.records("targets").map(ScalingTarget.init)
        self.windows = ScalingWindows(record.record("windows"))
        self.forecastHorizon = record.record("forecast").setting("horizon")
        self.scaleUp = ScalingRate(record.record("scaleUp"))
        self.scaleDown = ScalingRate(record.record("scaleDown"))
        self.scaleToZeroAfter = record.optionalRecord("scaleToZero")?.duration("idleAfter")
        self.dryRun = record.boolean("dryRun")
    }
}

/// One reason to want a number of replicas.
package enum ScalingTarget: Sendable, Hashable {
    /// Requests in flight and queued, per replica.
    case concurrency(Double)
    /// The time requests wait in the queue.
    case queueWait(quantile: Double, below: Duration)
    /// The model's objectives, with a capacity learned online.
    case objective
    /// Requests per second, per replica.
    case requestRate(Double)
    /// Tokens per second, per replica.
    case tokenRate(Double)
    case kvCache(Percent)
    /// Of the replicas' own metrics, else of a DCGM exporter; its URL is nil only in a spec that
    /// failed its checks.
    case gpuUtilization(Percent, exporter: EndpointURL?)
    /// A PromQL query's result, per replica.
    case prometheus(PrometheusQuerySpec, value: Double)
    /// A number of replicas for a time. The expression is nil only in a spec that failed its
    /// checks.
    case schedule(CronExpression?, duration: Duration, replicas: Int)

    init(_ record: Record) {
        switch record.text("type") {
        case "Concurrency": self = .concurrency(record.decimal("value"))
        case "QueueWait":
            self = .queueWait(
                quantile: record.decimal("quantile"),
                below: record.duration("value")
            )
        case "RequestRate": self = .requestRate(record.decimal("value"))
        case "TokenRate": self = .tokenRate(record.decimal("value"))
        case "KVCache": self = .kvCache(record.percent("value"))
        case "GPUUtilization":
            self = .gpuUtilization(
                record.percent("value"),
                exporter: EndpointURL(text: record.text("exporter"))
            )
        case "Prometheus":
            self = .prometheus(PrometheusQuerySpec(record), value: record.decimal("value"))
        case "Schedule":
            self = .schedule(
                try? CronExpression(text: record.text("cron")),
                duration: record.duration("duration"),
                replicas: record.integer("replicas")
            )
        default: self = .objective
        }
    }
}

/// A query, and how the Prometheus server that answers it is reached.
package struct PrometheusQuerySpec: Sendable, Hashable {
    /// Nil only in a spec that failed its checks.
    package var server: EndpointURL?
    package var query: String
    /// Certificates of who may sign the server's, in PEM. Nil: the system's authorities.
    package var caFile: String?
    /// A file with a token to send. Nil: none.
    package var tokenFile: String?
    package var basicAuth: BasicAuthSpec?

    init(_ record: Record) {
        self.server = EndpointURL(text: record.text("server"))
        self.query = record.text("query")
        self.caFile = record.optionalText("caFile")
        self.tokenFile = record.optionalText("tokenFile")
        self.basicAuth = record.optionalRecord("basicAuth").map(BasicAuthSpec.init)
    }
}

/// A name, and the file with its password.
package struct BasicAuthSpec: Sendable, Hashable {
    package var username: String
    package var passwordFile: String

    init(_ record: Record) {
        self.username = record.text("username")
        self.passwordFile = record.text("passwordFile")
    }
}

package struct ScalingWindows: Sendable, Hashable {
    /// What the number of replicas follows in calm times.
    package var stable: Duration
    /// What it follows in a burst.
    package var burst: Duration

    init(_ record: Record) {
        self.stable = record.duration("stable")
        self.burst = record.duration("burst")
    }
}

package struct ScalingRate: Sendable, Hashable {
    /// How long a change must have been wanted. Automatic: the break-even time of a cold start.
    package var stabilization: DurationSetting
    /// Replicas per minute.
    package var maxPerMinute: Int

    init(_ record: Record) {
        self.stabilization = record.setting("stabilization")
        self.maxPerMinute = record.integer("maxPerMinute")
    }
}
