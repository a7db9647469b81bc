extension Schemas {
    static let gateway = ResourceSchema(
        kind: .gateway,
        documentation: """
            Process-wide settings: where Weir listens, what it bounds, what it logs. At most one \
            per configuration; every field has a default.
            """,
        spec: ObjectSchema([
            field(
                "listeners",
                .list(Self.listener, 1...64, unique: .field("name")),
                .standard("[{name: http, address: \"127.0.0.1:8080\"}]"),
                "Where clients connect.",
                change: .restart
            ),
            field(
                "admin",
                Self.admin,
                .standard("{}"),
                "Metrics, health, API and dashboard.",
                change: .restart
            ),
            field(
                "workers",
                .integer(0...1_024),
                .standard("0"),
                "Threads that serve; 0 is one per core.",
                change: .restart
            ),
            field("limits", Self.gatewayLimits, .standard("{}"), "Bounds of the data listeners."),
            field("upstream", Self.upstream, .standard("{}"), "Kept connections to replicas."),
            field("accessLog", Self.accessLog, .optional, "One line per request. Absent: none."),
            field(
                "recorder",
                Self.recorder,
                .optional,
                "Compressed traffic records for simulation and replay. Absent: none."
            ),
            field(
                "forwardCredentials",
                .boolean,
                .standard("false"),
                "With tenants: send replicas the Authorization and x-api-key of requests."
            ),
            field("tracing", Self.tracing, .optional, "Where spans are sent. Absent: nowhere."),
            field(
                "drainTimeout",
                Self.timeout,
                .standard("30s"),
                "How long streams may run on after SIGTERM."
            ),
            field(
                "stateDirectory",
                .text(.filePath),
                .standard(".weir"),
                "What must survive a restart of a standalone Weir.",
                change: .restart
            ),
        ]),
        isSpecOptional: true
    )

    private static let listener = Schema.object([
        field("name", .text(.label), .required, "Unique among the listeners."),
        field(
            "address",
            .text(.listenAddress),
            .required,
            "`host:port`; port 0 lets the system choose, no host means every address."
        ),
        field(
            "tls",
            Self.listenerTLS,
            .optional,
            "Files are read again when they change. Absent: plain text."
        ),
        field("http2", Self.http2, .standard("{}"), "HTTP/2, of which gRPC is a part."),
    ])

    private static let http2 = Schema.object([
        field(
            "enabled",
            .boolean,
            .standard("true"),
            """
            Spoken beside HTTP/1.1: with TLS where the client offers it (ALPN), else with one that \
            begins so (prior knowledge). Off: HTTP/1.1 alone.
            """
        ),
        field(
            "maxConcurrentStreams",
            .integer(1...10_000),
            .standard("100"),
            "Requests of one connection at once; one more is refused and may be sent again."
        ),
        field(
            "initialStreamWindowSize",
            .bytes(65_535...16_777_216),
            .standard("128KiB"),
            "Bytes of one body on their way to a model server that does not take them."
        ),
        field(
            "initialConnectionWindowSize",
            .bytes(65_535...268_435_456),
            .standard("1MiB"),
            "Bytes of all bodies of a connection on their way to Weir."
        ),
        field(
            "maxHeaderListSize",
            .bytes(1_024...262_144),
            .optional,
            """
            Bytes of a request's fields when decoded, each counted with 32 more; more get 431. \
            Absent: `limits.maxHeaderBytes`.
            """
        ),
    ])

    private static let certificateFields = [
        field("certificate", .text(.filePath), .required, "Certificate chain, PEM."),
        field("key", .text(.filePath), .required, "Private key, PEM, without pass phrase."),
        field(
            "ocspStaple",
            .text(.filePath),
            .optional,
            "What the authority's OCSP responder says of the certificate, DER."
        ),
    ]

    private static let listenerTLS = Schema.object(
        certificateFields + [
            field(
                "certificates",
                .list(.object(certificateFields), 0...64),
                .standard("[]"),
                """
                Further ones. A client gets the one with the name that it asks for, before one \
                with a wildcard for it; else the first.
                """
            ),
            field(
                "clientCA",
                .text(.filePath),
                .optional,
                """
                Clients must show a certificate that this authority signed, PEM. Its subject \
                goes to the model server as `x-weir-client-subject`.
                """
            ),
            field(
                "clientCertificate",
                .choice([
                    Choice("Required", "No certificate, no connection."),
                    Choice("Optional", "A client without one is served too."),
                ]),
                .standard("Required"),
                "What `clientCA` means for a client that has no certificate."
            ),
            field(
                "minimumVersion",
                .choice([Choice("1.2", "TLS 1.2 and 1.3."), Choice("1.3", "TLS 1.3 alone.")]),
                .standard("\"1.2\""),
                "The oldest version of TLS that is spoken."
            ),
            field(
                "kernel",
                .boolean,
                .standard("false"),
                "Lets the kernel encrypt what is sent, if it can (kTLS)."
            ),
        ]
    )

    private static let admin = Schema.object([
        field(
            "address",
            .text(.listenAddress),
            .standard("127.0.0.1:9901"),
            "`host:port`; port 0 lets the system choose."
        ),
        field(
            "tokenFile",
            .text(.filePath),
            .optional,
            "File with the token for writes; needed where the address is not loopback."
        ),
    ])

    private static let gatewayLimits = Schema.object([
        field(
            "maxConnections",
            .integer(1...10_000_000),
            .standard("10000"),
            """
            Open client connections; one more gets 503. One of HTTP/2 counts as many as it has \
            requests under way; one more of those is refused.
            """
        ),
        field(
            "maxHeaderBytes",
            .bytes(1_024...16_777_216),
            .standard("32KiB"),
            "Bytes of a request's head; more get 431."
        ),
        field(
            "maxHeaders",
            .integer(8...10_000),
            .standard("100"),
            "Fields of a request's head; more get 431."
        ),
        field(
            "maxTargetBytes",
            .bytes(256...1_048_576),
            .standard("8KiB"),
            "Bytes of a request's target; more get 414."
        ),
        field(
            "maxBufferedBody",
            .bytes(0...1_073_741_824),
            .standard("1MiB"),
            "Bytes of a body held to find the model's name in it; more get 413."
        ),
        field(
            "maxRetryBody",
            .bytes(0...1_073_741_824),
            .standard("64KiB"),
            "Bytes of a body kept for a retry; a longer request is not retried."
        ),
        field(
            "maxRequestBody",
            .bytes(0...1_099_511_627_776),
            .standard("512MiB"),
            "Bytes of a request's body; more get 413."
        ),
        field(
            "maxDecodedRatio",
            .integer(1...1_000_000),
            .standard("200"),
            "How many times its own size a compressed body may become, beyond 128 KiB; then 413."
        ),
        field("headerTimeout", Self.timeout, .standard("10s"), "For a whole head; then 408."),
        field(
            "idleTimeout",
            Self.timeout,
            .standard("60s"),
            """
            Between requests of a connection, and between two pieces of a body; and in which a \
            client must take something of an answer.
            """
        ),
        field("handshakeTimeout", Self.timeout, .standard("10s"), "For a whole TLS handshake."),
        field(
            "maxHandshakes",
            .integer(1...1_000_000),
            .standard("512"),
            "TLS handshakes under way at once, per worker; one more client is turned away."
        ),
    ])

    private static let upstream = Schema.object([
        field(
            "maxIdleConnections",
            .integer(0...10_000),
            .standard("64"),
            "Kept per worker and endpoint."
        ),
        field("idleTimeout", Self.timeout, .standard("30s"), "How long one is kept."),
    ])

    private static let accessLog = Schema.object([
        field(
            "format",
            .choice([
                Choice("json", "One JSON object per line."), Choice("text", "Words for people."),
            ]),
            .standard("json"),
            "How lines are written."
        ),
        field(
            "path",
            .text(.filePath),
            .standard("\"-\""),
            "A file, opened again on SIGHUP; `-` is standard output."
        ),
        field("sample", Self.percent, .standard("100%"), "The share of requests that is logged."),
    ])

    private static let recorder = Schema.object([
        field("path", .text(.filePath), .required, "The folder the records go to."),
        field("sample", Self.percent, .standard("100%"), "The share of requests that is recorded."),
        field(
            "maxSegmentBytes",
            .bytes(65_536...1_073_741_824),
            .standard("64MiB"),
            "Bytes of one file; then the next one is begun."
        ),
        field(
            "maxSegmentAge",
            .duration(.seconds(1) ... .seconds(604_800)),
            .standard("1h"),
            "How long a file is written to; then the next one is begun."
        ),
        field(
            "maxBytes",
            .bytes(1_048_576...1_099_511_627_776),
            .standard("4GiB"),
            "Bytes of all files together; the oldest are removed."
        ),
    ])

    private static let tracing = Schema.object([
        field("endpoint", .text(.url), .required, "An OTLP receiver that speaks HTTP."),
        field("sample", Self.percent, .standard("1%"), "The share of requests that is traced."),
    ])
}
