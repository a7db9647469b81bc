extension Schemas {
    static let model = ResourceSchema(
        kind: .model,
        documentation: """
            A model as clients see it: its names, the variants that serve it, how requests are \
            spread over them, and what good service means.
            """,
        spec: ObjectSchema(
            Self.modelIdentity + Self.modelTraffic + Self.modelBounds + Self.modelControl
        ),
        isSpecOptional: false
    )

    private static let modelIdentity = [
        field(
            "protocol",
            .choice([
                Choice("OpenAI", "Chat, completions, embeddings and responses of the OpenAI API."),
                Choice(
                    "OpenInference",
                    "The Open Inference Protocol, V2 (MLServer, Triton, KServe)."
                ),
                Choice("HTTP", "Any HTTP, chosen by host and path."),
                Choice("GRPC", "gRPC; Open Inference messages name the model."),
            ]),
            .required,
            "What clients and replicas speak; it decides routing and the shape of errors."
        ),
        field(
            "aliases",
            .list(.text(.modelName), 0...maxAliases, unique: .value),
            .standard("[]"),
            "Further names for clients; `*` takes every name that no other model has."
        ),
        field(
            "hostnames",
            .list(.text(.hostPattern), 0...maxAliases, unique: .value),
            .standard("[]"),
            "Only on these hosts; `*.example.com` stands for all below it. Empty: on all."
        ),
        field(
            "paths",
            .list(
                .object([
                    field(
                        "prefix",
                        .text(.urlPath),
                        .required,
                        "Matches whole segments: `/score` takes `/score/x` and not `/scores`."
                    )
                ]),
                0...maxAliases,
                unique: .field("prefix")
            ),
            .standard("[]"),
            "Paths of a model of protocol HTTP or GRPC."
        ),
        field(
            "variants",
            .list(Self.variant, 1...maxVariants, unique: .field("name")),
            .required,
            "What serves the model."
        ),
        field(
            "live",
            .text(.label),
            .optional,
            """
            The variant that should serve; changing it starts a rollout. May be left out where \
            there is one variant, or where `weights` are given.
            """
        ),
        field(
            "weights",
            .map(keys: .label, values: .integer(0...1_000_000), maxCount: maxVariants),
            .optional,
            "A fixed split by variant instead of a rollout; a variant left out has 0."
        ),
    ]

    private static let variant = Schema.object(
        [
            field("name", .text(.label), .required, "Unique in the model."),
            field(
                "workloadRef",
                Self.workloadReference,
                .optional,
                "A workload that can be scaled."
            ),
            field(
                "endpoints",
                .list(.text(.endpoint), 1...maxEndpoints, unique: .value),
                .optional,
                "Fixed addresses, never scaled: `http://host:port` or `https://host:port`."
            ),
            field("tls", Self.upstreamTLS, .optional, "How `https` endpoints are asked."),
            field(
                "pool",
                .text(.label),
                .optional,
                """
                Variants with the same pool are interchangeable, as the same model on a small and \
                a big GPU is: requests go to whoever can take them, and the cheapest mix that \
                holds the objective serves. In `live` any of them stands for all.
                """
            ),
            field("scaling", Self.variantScaling, .optional, "What scaling is to know of it."),
        ],
        [.exactlyOne("workloadRef", "endpoints")]
    )

    private static let variantScaling = Schema.object([
        field(
            "cost",
            Self.positive,
            .standard("1"),
            "What a replica costs against those of the others of its pool, in any unit."
        ),
        field(
            "minReplicas",
            .integer(0...maxReplicas),
            .optional,
            "Never fewer of this one. Absent: 0 in a pool, else as the model says."
        ),
        field(
            "maxReplicas",
            .integer(0...maxReplicas),
            .optional,
            "Never more of this one. Absent: as the model says."
        ),
        field(
            "budgetPerReplica",
            .integer(1...1_000_000),
            .optional,
            "Units of the model's budget that a replica takes. Absent: `scaling.budget.perReplica`."
        ),
    ])

    private static let upstreamTLS = Schema.object([
        field(
            "ca",
            .text(.filePath),
            .optional,
            "Authorities of the servers' certificates, PEM. Absent: those of the system."
        ),
        field("certificate", .text(.filePath), .optional, "Shown to servers that ask for it, PEM."),
        field("key", .text(.filePath), .optional, "Its private key, PEM, without pass phrase."),
        field(
            "serverName",
            .text(.subdomain),
            .optional,
            "What the certificates must be for. Absent: the host of the endpoint."
        ),
        field(
            "insecureSkipVerify",
            .boolean,
            .standard("false"),
            "Believes whoever answers. Anybody on the way can read and change everything."
        ),
    ])

    private static let workloadReference = Schema.object([
        field(
            "kind",
            .choice([
                Choice(
                    "ProcessDeployment",
                    "A group of local processes in the same configuration."
                ),
                Choice("Deployment", "A Deployment of `apps/v1` on a cluster."),
                Choice("StatefulSet", "A StatefulSet of `apps/v1` on a cluster."),
                Choice(
                    "LeaderWorkerSet",
                    "On a cluster: groups of pods, each with a leader that takes the requests."
                ),
            ]),
            .required,
            "What holds the replicas."
        ),
        field("name", .text(.subdomain), .required, "Its name."),
        field(
            "port",
            .integer(1...65_535),
            .optional,
            "The port its pods listen on. Local processes are given theirs."
        ),
    ])

    private static let modelTraffic = [
        field(
            "overrideHeader",
            .text(.headerName),
            .optional,
            "A request that names a variant in this header goes to it."
        ),
        field(
            "sticky",
            .object(
                [
                    field("header", .text(.headerName), .optional, "Requests with equal values."),
                    field("cookie", .text(.cookieName), .optional, "Set where a client has none."),
                ],
                [.exactlyOne("header", "cookie")]
            ),
            .optional,
            "By what the same client keeps getting the same variant."
        ),
        field(
            "mirror",
            .object([
                field("to", .text(.label), .required, "The variant that gets copies."),
                field("sample", Self.percent, .standard("100%"), "The share of requests copied."),
            ]),
            .optional,
            "Copies requests to a variant and throws its answers away."
        ),
        field("loadBalancing", Self.loadBalancing, .standard("{}"), "How a replica is chosen."),
    ]

    private static let loadBalancing = Schema.object([
        field(
            "policy",
            .choice([
                Choice("LeastLoaded", "The replica with the fewest requests in flight."),
                Choice("RoundRobin", "One after the other."),
                Choice("PrefixAffinity", "Prompts with the same beginning, with bounded load."),
                Choice("ConsistentHash", "Requests with the same key, with bounded load."),
            ]),
            .standard("LeastLoaded"),
            "What it goes by."
        ),
        field(
            "header",
            .text(.headerName),
            .optional,
            "The key of ConsistentHash. Absent: the sticky key, else the client's address."
        ),
    ])

    private static let modelBounds = [
        field(
            "concurrency",
            .object(
                [
                    field("perReplica", .integer(1...1_000_000), .optional, "A fixed limit."),
                    field("adaptive", .boolean, .optional, "Found out from the latency."),
                ],
                [.atMostOne("perReplica", "adaptive")]
            ),
            .standard("{}"),
            "How many requests a replica works on at a time; empty means any number."
        ),
        field(
            "queue",
            .object([
                field("capacity", .integer(0...1_000_000), .standard("1000"), "More get 429."),
                field(
                    "maxBytes",
                    .bytes(0...1_099_511_627_776),
                    .standard("64MiB"),
                    "Bytes of bodies that waiting requests may hold; more get 429."
                ),
                field("timeout", Self.timeout, .standard("30s"), "Then 503."),
            ]),
            .standard("{}"),
            "Where requests wait for a free replica."
        ),
        field(
            "timeouts",
            .object([
                field("connect", Self.timeout, .standard("1s"), "To reach a replica."),
                field("firstByte", Self.timeout, .standard("60s"), "Until its answer begins."),
                field("request", Self.timeout, .standard("300s"), "For the whole exchange."),
                field("streamIdle", Self.timeout, .standard("60s"), "Between pieces of an answer."),
            ]),
            .standard("{}"),
            "How long Weir waits for replicas; past it clients get 504."
        ),
        field(
            "retry",
            .object([
                field(
                    "attempts",
                    .integer(1...10),
                    .standard("2"),
                    "Tries in all; 1 means no retry."
                ),
                field("budget", Self.percent, .standard("20%"), "The share that may be retries."),
            ]),
            .standard("{}"),
            "When a request may be tried again on another replica."
        ),
        field(
            "outlier",
            .object([
                field(
                    "consecutiveErrors",
                    .integer(0...10_000),
                    .standard("5"),
                    "Failures in a row that eject a replica; 0 turns it off."
                ),
                field(
                    "ejectFor",
                    Self.timeout,
                    .standard("30s"),
                    "Longer each time it fails again."
                ),
                field(
                    "maxEjected",
                    Self.percent,
                    .standard("50%"),
                    "The share that may be ejected."
                ),
            ]),
            .standard("{}"),
            "Keeps requests away from replicas that fail."
        ),
        field(
            "compression",
            .object([
                field(
                    "answers",
                    .boolean,
                    .standard("true"),
                    "Compresses answers of text or JSON, by `Accept-Encoding`: zstd, else gzip."
                ),
                field(
                    "streams",
                    .boolean,
                    .standard("false"),
                    "The same for event streams, flushed with every piece that arrives."
                ),
                field(
                    "minBytes",
                    .bytes(0...1_073_741_824),
                    .standard("1KiB"),
                    "Shorter answers stay as they are."
                ),
                field(
                    "requests",
                    .choice([
                        Choice("Forward", "As they came: the model server decodes them."),
                        Choice("Decode", "Decoded, for model servers that cannot."),
                    ]),
                    .standard("Forward"),
                    "What becomes of requests that come with a `Content-Encoding`."
                ),
            ]),
            .standard("{}"),
            "What is compressed on the way, and what is not any more."
        ),
        field(
            "healthCheck",
            Self.probe(path: .optional, period: "5s"),
            .optional,
            "How fixed `endpoints` are asked whether they are ready. Absent: they count as ready."
        ),
    ]

    private static let modelControl = [
        field(
            "objectives",
            .object([
                field("successRate", Self.percent, .optional, "The share that must not fail."),
                field("latency", Self.latencyObjective, .optional, "Time to the last byte."),
                field("timeToFirstToken", Self.latencyObjective, .optional, "Of streams."),
            ]),
            .standard("{}"),
            "What good service means; used by scaling, rollouts and dashboards."
        ),
        field(
            "scaling",
            .object([
                field(
                    "policy",
                    Self.policyName,
                    .optional,
                    "The ScalingPolicy that decides. Absent: replicas stay as they were set."
                ),
                field(
                    "minReplicas",
                    .integer(0...maxReplicas),
                    .standard("1"),
                    """
                    Never fewer of a variant that serves, or of a pool's together. With 0, and \
                    `scaleToZero` in the policy, an idle model has none.
                    """
                ),
                field(
                    "maxReplicas",
                    .integer(1...maxReplicas),
                    .standard("1"),
                    "Never more of a variant, whatever the load."
                ),
                field(
                    "priority",
                    .integer(-1_000_000_000...1_000_000_000),
                    .standard("0"),
                    """
                    Where its budget is short: whoever has a higher one gets what it wants first, \
                    and takes it from lower ones; minimums come before.
                    """
                ),
                field(
                    "budget",
                    Self.budgetShare,
                    .optional,
                    "What its replicas take from a ResourceBudget, which models share."
                ),
            ]),
            .optional,
            "How many replicas there are: a policy decides by the load, within bounds."
        ),
        field(
            "rollout",
            .object([
                field(
                    "policy",
                    Self.policyName,
                    .required,
                    "The RolloutPolicy that says in which steps, and what is compared."
                )
            ]),
            .optional,
            "How a change of `live` comes into force. Absent: at once."
        ),
    ]

    private static let budgetShare = Schema.object([
        field("name", Self.policyName, .required, "A ResourceBudget."),
        field("perReplica", .integer(1...1_000_000), .standard("1"), "Units one replica takes."),
        field(
            "weight",
            .integer(1...1_000_000),
            .standard("1"),
            "Its part, against that of the others, where there is not enough."
        ),
    ])

    static let processDeployment = ResourceSchema(
        kind: .processDeployment,
        documentation: """
            A group of local processes that serve a variant: standalone's stand-in for a \
            Deployment. In `command`, `workingDirectory` and `env`, `$(PORT)` is the port the \
            replica must listen on, `$(PORT_name)` a further one, `$(REPLICA)` its number, \
            `$(NAME)` a variable of `env` that stands before it; `$$(NAME)` stays as it is, \
            without one `$`.
            """,
        spec: ObjectSchema([
            field(
                "replicas",
                .integer(0...maxReplicas),
                .standard("1"),
                "How many to start with."
            ),
            field(
                "command",
                .list(.text(.possiblyEmpty(maxBytes: 32_768)), 1...1_000),
                .required,
                "Program and arguments; no shell is involved."
            ),
            field(
                "workingDirectory",
                .text(.filePath),
                .standard("\".\""),
                "Where it runs, from the configuration file's folder."
            ),
            field(
                "env",
                .list(
                    .object([
                        field("name", .text(.environmentName), .required, "The variable."),
                        field(
                            "value",
                            .text(.possiblyEmpty(maxBytes: 32_768)),
                            .standard("\"\""),
                            "Its value."
                        ),
                    ]),
                    0...1_000,
                    unique: .field("name")
                ),
                .standard("[]"),
                "Added to Weir's own environment."
            ),
            field(
                "readiness",
                Self.probe(path: .optional, period: "200ms"),
                .standard("{}"),
                "When a replica may get requests."
            ),
            field("startupTimeout", Self.timeout, .standard("60s"), "From start to ready."),
            field("terminationGracePeriod", Self.timeout, .standard("30s"), "SIGTERM to SIGKILL."),
            field(
                "drainTimeout",
                Self.timeout,
                .standard("30s"),
                "How long requests in flight may hold up a stop."
            ),
            field(
                "outputLimit",
                .bytes(1_024...16_777_216),
                .standard("64KiB"),
                "How much of a replica's output is kept."
            ),
        ]),
        isSpecOptional: false
    )
}
