extension Schemas {
    // MARK: ScalingPolicy

    static let scalingPolicy = ResourceSchema(
        kind: .scalingPolicy,
        documentation: "How the number of a model's replicas follows its load.",
        spec: ObjectSchema([
            field(
                "targets",
                .list(.union(Self.scalingTarget), 1...16),
                .required,
                "Each recommends a number of replicas; the largest wins."
            ),
            field(
                "windows",
                .object([
                    field("stable", Self.window, .standard("60s"), "Followed in calm times."),
                    field("burst", Self.window, .standard("6s"), "Followed in a burst."),
                ]),
                .standard("{}"),
                "Over what time load is averaged."
            ),
            field(
                "forecast",
                .object([
                    field(
                        "horizon",
                        .duration(.seconds(1) ... .seconds(86_400), keywords: [.auto, .off]),
                        .standard("auto"),
                        "`auto` is the measured cold start; `off` disables it."
                    )
                ]),
                .standard("{}"),
                "How far ahead demand is forecast."
            ),
            field(
                "scaleUp",
                Self.scalingRate(stabilization: "0s", perMinute: "100"),
                .standard("{}"),
                "How fast replicas are added."
            ),
            field(
                "scaleDown",
                Self.scalingRate(stabilization: "auto", perMinute: "10"),
                .standard("{}"),
                "How fast replicas are taken away."
            ),
            field(
                "scaleToZero",
                .object([
                    field("idleAfter", Self.timeout, .standard("5m"), "Idle for this long.")
                ]),
                .optional,
                "Takes the last replica of an idle model, if `minReplicas` is 0. Absent: never."
            ),
            field("dryRun", .boolean, .standard("false"), "Decide and explain, never write."),
        ]),
        isSpecOptional: false
    )

    private static let window = Schema.duration(.seconds(1) ... .seconds(3_600))

    private static func scalingRate(stabilization: String, perMinute: String) -> Schema {
        .object([
            field(
                "stabilization",
                .duration(.zero ... .seconds(86_400), keywords: [.auto]),
                .standard(stabilization),
                "How long a change must have been wanted; `auto`: until a cold start breaks even."
            ),
            field(
                "maxPerMinute",
                .integer(1...maxReplicas),
                .standard(perMinute),
                "Replicas per minute."
            ),
        ])
    }

    private static let scalingTarget = UnionSchema(
        discriminator: "type",
        documentation: "What is held at a value.",
        cases: [
            Self.target(
                "Concurrency",
                "Requests in flight and queued, per replica.",
                Self.positive
            ),
            UnionCase(
                name: "QueueWait",
                documentation: "The time requests wait in the queue.",
                object: ObjectSchema([
                    field("quantile", Self.quantile, .standard("0.95"), "Of the waits."),
                    field("value", Self.timeout, .required, "The longest at that quantile."),
                ])
            ),
            UnionCase(
                name: "Objective",
                documentation: "The model's objectives, with a capacity learned online.",
                object: ObjectSchema([])
            ),
            Self.target("RequestRate", "Requests per second, per replica.", Self.positive),
            Self.target("TokenRate", "Tokens per second, per replica.", Self.positive),
            Self.target("KVCache", "Use of the KV cache (vLLM, SGLang, Triton).", Self.percent),
            UnionCase(
                name: "GPUUtilization",
                documentation: "Use of the GPU, from the replicas or a DCGM exporter.",
                object: ObjectSchema([
                    field("value", Self.percent, .required, "What a replica should have."),
                    field(
                        "exporter",
                        .text(.url),
                        .standard("http://127.0.0.1:9400/metrics"),
                        "Asked where the replicas say nothing of their GPUs."
                    ),
                ])
            ),
            Self.prometheusTarget,
            UnionCase(
                name: "Schedule",
                documentation: "A number of replicas at given times.",
                object: ObjectSchema([
                    field("cron", .text(.cron), .required, "When it begins, in local time."),
                    field("duration", Self.scheduleDuration, .required, "How long it lasts."),
                    field("replicas", .integer(0...maxReplicas), .required, "How many at least."),
                ])
            ),
        ]
    )

    private static let prometheusTarget = UnionCase(
        name: "Prometheus",
        documentation: "The result of a PromQL query, per replica.",
        object: ObjectSchema(
            [
                field("server", .text(.url), .required, "The Prometheus server."),
                field("query", Self.query, .required, "Must give one number."),
                field("value", Self.positive, .required, "What a replica should have."),
                field(
                    "caFile",
                    .text(.filePath),
                    .optional,
                    "Who may sign the server's certificate, in PEM. Absent: the system's."
                ),
                field(
                    "tokenFile",
                    .text(.filePath),
                    .optional,
                    "File with a bearer token, read for each question."
                ),
                field(
                    "basicAuth",
                    .object([
                        field("username", .text(.free(maxBytes: 256)), .required, "Sent as it is."),
                        field(
                            "passwordFile",
                            .text(.filePath),
                            .required,
                            "File with the password, read for each question."
                        ),
                    ]),
                    .optional,
                    "A name and a password to send."
                ),
            ],
            alternatives: [.atMostOne("tokenFile", "basicAuth")]
        )
    )

    private static let scheduleDuration = Schema.duration(.seconds(1) ... .seconds(31 * 86_400))

    private static func target(_ name: String, _ documentation: String, _ value: Schema)
        -> UnionCase
    {
        UnionCase(
            name: name,
            documentation: documentation,
            object: ObjectSchema([field("value", value, .required, "What a replica should have.")])
        )
    }

    // MARK: Tenant and ResourceBudget

    static let tenant = ResourceSchema(
        kind: .tenant,
        documentation: """
            Who may use the gateway, and how much. Without any tenant the gateway is open; with \
            one or more every request needs a key.
            """,
        spec: ObjectSchema([
            field("keys", .list(Self.tenantKey, 1...1_000), .required, "Any of them will do."),
            field(
                "models",
                .list(.text(.subdomain), 0...maxModels, unique: .value),
                .standard("[]"),
                "What it may use; empty means all."
            ),
            field(
                "priority",
                .integer(-1_000...1_000),
                .standard("0"),
                "Higher goes first; negative is shed first."
            ),
            field(
                "limits",
                .object([
                    field("requestsPerSecond", Self.count, .optional, "Absent: any number."),
                    field("tokensPerMinute", Self.count, .optional, "Absent: any number."),
                    field("concurrency", Self.count, .optional, "At a time. Absent: any number."),
                ]),
                .standard("{}"),
                "How much it may use."
            ),
        ]),
        isSpecOptional: false
    )

    private static let tenantKey = Schema.object(
        [
            field("sha256", .text(.sha256), .optional, "The hash of the key."),
            field(
                "secretRef",
                .object([
                    field("name", .text(.subdomain), .required, "A Secret on the cluster."),
                    field("key", .text(.free(maxBytes: 253)), .standard("key"), "The entry in it."),
                ]),
                .optional,
                "Where the key is kept on a cluster."
            ),
        ],
        [.exactlyOne("sha256", "secretRef")]
    )

    static let resourceBudget = ResourceSchema(
        kind: .resourceBudget,
        documentation:
            "What autoscaling may share out among models, such as the GPUs of a namespace.",
        spec: ObjectSchema([
            field("resource", .text(.qualifiedName), .required, "Its name on a cluster."),
            field("total", .integer(0...1_000_000_000), .required, "How many units there are."),
        ]),
        isSpecOptional: false
    )
}
