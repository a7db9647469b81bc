import Rollouts

extension Schemas {
    static let rolloutPolicy = ResourceSchema(
        kind: .rolloutPolicy,
        documentation: "How a model moves from one live variant to the next.",
        spec: ObjectSchema([
            field(
                "steps",
                .list(Self.rolloutStep, 1...RolloutPlan.stepsMax),
                .required,
                "Taken one after the other; after the last one all requests go to the new variant."
            ),
            field("analysis", Self.analysis, .standard("{}"), "What is compared at every step."),
            field("guardrails", Self.guardrails, .standard("{}"), "What ends a rollout at once."),
            field(
                "onInconclusive",
                .choice([
                    Choice("Pause", "Wait for a decision by hand."),
                    Choice("Promote", "Go on."),
                    Choice("Rollback", "Go back."),
                ]),
                .standard("Pause"),
                "What to do where the data decides nothing."
            ),
            field(
                "webhooks",
                .list(Self.webhook, 0...RolloutPlan.webhooksMax),
                .standard("[]"),
                "Asked or told along the way."
            ),
            field(
                "scaleDownDelay",
                Self.anyDuration,
                .standard("30s"),
                "How long the old variant's replicas stay after the last step."
            ),
            field(
                "abortScaleDownDelay",
                Self.anyDuration,
                .standard("30s"),
                "How long the new variant's replicas stay after a rollback."
            ),
            field(
                "drainDeadline",
                Self.anyDuration,
                .standard("5m"),
                "How long running streams may keep replicas of a variant without weight."
            ),
            field(
                "rollbackWindow",
                .integer(0...RolloutPlan.rollbackWindowMax),
                .standard("1"),
                "So many variants that served before are returned to without steps."
            ),
            field(
                "keepStableCapacity",
                .boolean,
                .standard("true"),
                "The old variant keeps replicas for all requests until the end."
            ),
            field(
                "inPlaceWatch",
                Self.anyDuration,
                .standard("5m"),
                "How long a workload whose template was changed in place is watched."
            ),
        ]),
        isSpecOptional: false
    )

    private static let rolloutStep = Schema.object(
        [
            field("weight", .integer(0...100), .optional, "The new variant's share in percent."),
            field("mirror", .integer(1...100), .optional, "Copies, in percent of the requests."),
            field("hold", Self.anyDuration, .optional, "How long `weight` or `mirror` is watched."),
            field("pause", .boolean, .optional, "Wait until the rollout is promoted."),
            field("wait", Self.anyDuration, .optional, "Wait so long, or until it is promoted."),
            field("watch", Self.anyDuration, .optional, "Compare without changing anything."),
            field("canaryScale", Self.canaryScale, .optional, "Replicas apart from the weight."),
            field(
                "headerRoute",
                .object([
                    field("name", .text(.headerName), .required, "The header."),
                    field("value", .text(.free(maxBytes: 1_024)), .required, "Its exact value."),
                ]),
                .optional,
                "Requests with this header go to the new variant."
            ),
            field("removeHeaderRoute", .boolean, .optional, "Ends a header route."),
        ],
        [
            .exactlyOne(
                "weight",
                "pause",
                "wait",
                "watch",
                "canaryScale",
                "headerRoute",
                "removeHeaderRoute",
                "mirror"
            )
        ]
    )

    private static let canaryScale = Schema.object(
        [
            field("replicas", .integer(0...maxReplicas), .optional, "So many."),
            field("share", .integer(0...100), .optional, "As many as this percentage needs."),
            field("matchWeight", .boolean, .optional, "As many as the weight needs, again."),
        ],
        [.exactlyOne("replicas", "share", "matchWeight")]
    )

    private static let analysis = Schema.object([
        field(
            "alpha",
            .decimal(0.000_001...0.5),
            .standard("0.01"),
            "Bound on a false rollback, over all looks and metrics."
        ),
        field("minRequests", .integer(0...1_000_000_000), .standard("50"), "Before any verdict."),
        field(
            "metrics",
            .list(.union(Self.analysisMetric), 0...AnalysisPlan.metricsMax),
            .standard("[{name: successRate, maxDrop: 0.1%}]"),
            "What must not become worse."
        ),
        field(
            "warmup",
            Self.anyDuration,
            .standard("30s"),
            "Ignored on both arms after a replica becomes ready."
        ),
        field(
            "startingStep",
            .integer(0...RolloutPlan.stepsMax),
            .standard("0"),
            "The first step, counted from 0, at which verdicts are acted upon."
        ),
        field("dryRun", .boolean, .standard("false"), "Report verdicts, never act on them."),
    ])

    // MARK: Metrics

    private static let analysisMetric = UnionSchema(
        discriminator: "name",
        documentation: "What is compared.",
        cases: [
            Self.metric(
                "successRate",
                "The share of requests that do not fail.",
                [
                    field(
                        "maxDrop",
                        Self.percent,
                        .required,
                        "The largest drop, in percent points."
                    )
                ]
            ),
            Self.shareMetric("timeouts", "The share of requests that time out."),
            Self.shareMetric("cancelled", "The share that clients leave before the end."),
            Self.shareMetric("refused", "The share that the model declines to answer."),
            Self.shareMetric("invalidJSON", "No JSON where the request asked for JSON."),
            Self.shareMetric("emptyOutput", "The share of empty answers."),
            Self.shareMetric("truncatedOutput", "The share cut off by the token limit."),
            Self.latencyMetric("latency", "The time to the last byte."),
            Self.latencyMetric("timeToFirstToken", "The time to a stream's first token."),
            Self.latencyMetric("timePerOutputToken", "The time between two tokens."),
            Self.metric(
                "outputLength",
                "How the number of output tokens is distributed.",
                [
                    field(
                        "maxDistance",
                        Self.percent,
                        .required,
                        "How far the shares below any length may be apart, in percent points."
                    )
                ]
            ),
            Self.shareMetric("answers", "Of mirrored requests: answers that differ."),
            Self.shareMetric("pairedErrors", "Of mirrored requests: failures of one arm alone."),
            Self.shareMetric("pairedLatency", "Of mirrored requests: one arm is slower."),
            Self.customMetric,
        ]
    )

    private static func metric(
        _ name: String,
        _ documentation: String,
        _ fields: [FieldSchema],
        _ alternatives: [Alternative] = []
    ) -> UnionCase {
        let common = [
            field(
                "label",
                .text(.label),
                .optional,
                "Its name in reports, where two metrics have the same."
            ),
            field(
                "alphaWeight",
                .decimal(0.001...1_000),
                .standard("1"),
                "Its part of alpha, relative to the other metrics."
            ),
            field("dryRun", .boolean, .standard("false"), "Report its verdict, never act on it."),
        ]
        return UnionCase(
            name: name,
            documentation: documentation,
            object: ObjectSchema(fields + common, alternatives: alternatives)
        )
    }

    private static func shareMetric(_ name: String, _ documentation: String) -> UnionCase {
        self.metric(
            name,
            documentation,
            [
                field(
                    "maxIncrease",
                    Self.percent,
                    .required,
                    "The largest increase, in percent points."
                )
            ]
        )
    }

    private static func latencyMetric(_ name: String, _ documentation: String) -> UnionCase {
        self.metric(
            name,
            documentation,
            [
                field("quantile", Self.quantile, .standard("0.95"), "Which quantile."),
                field(
                    "maxIncrease",
                    .percent(.zero...Percent(millionths: 100_000_000)),
                    .required,
                    "The largest increase."
                ),
            ]
        )
    }

    private static let customMetric = Self.metric(
        "custom",
        "The result of a PromQL query.",
        [
            field("server", .text(.url), .required, "The Prometheus server."),
            field("query", Self.query, .required, "Must give one number."),
            field("below", Self.anyNumber, .optional, "It must be below this."),
            field("above", Self.anyNumber, .optional, "It must be above this."),
            field(
                "interval",
                .duration(.seconds(1) ... .seconds(3_600)),
                .standard("15s"),
                "From one answer to the next question."
            ),
            field("initialDelay", Self.anyDuration, .standard("0s"), "Before the first question."),
            field("timeout", Self.timeout, .standard("10s"), "For an answer."),
            field("failureLimit", Self.limit, .standard("0"), "Wrong values that are forgiven."),
            field(
                "inconclusiveLimit",
                Self.limit,
                .standard("3"),
                "Answers without a value that are forgiven within a step."
            ),
            field(
                "consecutiveErrorLimit",
                Self.limit,
                .standard("4"),
                "Errors in a row that are forgiven."
            ),
        ],
        [.exactlyOne("below", "above")]
    )

    private static let anyNumber = Schema.decimal(0...1_000_000_000)
    private static let limit = Schema.integer(0...1_000_000)

    // MARK: Guardrails and webhooks

    private static let guardrails = Schema.object([
        field(
            "consecutiveErrors",
            .integer(1...1_000_000),
            .standard("20"),
            "Failures in a row of the new variant."
        ),
        field("errorRate", Self.percent, .standard("20%"), "Failures of the new variant."),
        field(
            "minRequests",
            Self.count,
            .standard("50"),
            "Requests within the window before a rate or a latency counts."
        ),
        field(
            "window",
            .duration(.seconds(5) ... .seconds(300)),
            .standard("30s"),
            "Over what time errors and latencies are counted."
        ),
        field("latency", Self.latencyObjective, .optional, "A ceiling for the new variant."),
        field(
            "crashes",
            .integer(1...1_000_000),
            .standard("5"),
            "Crashes of the new variant's replicas during the rollout."
        ),
        field(
            "burnRate",
            .decimal(1...1_000_000),
            .optional,
            "How many times too fast it may spend the error budget of `objectives.successRate`."
        ),
        field("progressDeadline", Self.timeout, .standard("10m"), "For its replicas to be ready."),
    ])

    private static let webhook = Schema.object([
        field(
            "when",
            .choice([
                Choice("BeforeStep", "Must answer 2xx before a step is taken."),
                Choice("AfterStep", "Must answer 2xx before the next step."),
                Choice("OnRollback", "Told about a rollback."),
                Choice("OnComplete", "Told about the end."),
            ]),
            .required,
            "The moment."
        ),
        field("url", .text(.url), .required, "Gets a POST with the rollout's state."),
        field("timeout", Self.timeout, .standard("10s"), "For its answer."),
        field(
            "keyFile",
            .text(.filePath),
            .optional,
            "File with the keys that sign the request, one in a line, read for each call."
        ),
    ])
}
