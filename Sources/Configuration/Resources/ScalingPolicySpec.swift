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
    case gpuUtilization(Percent)
    /// A PromQL query's result, per replica. The URL is nil only in a spec that failed its checks.
    case prometheus(server: EndpointURL?, query: String, value: Double)
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
        case "GPUUtilization": self = .gpuUtilization(record.percent("value"))
        case "Prometheus":
            self = .prometheus(
                server: EndpointURL(text: record.text("server")),
                query: record.text("query"),
                value: record.decimal("value")
            )
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
