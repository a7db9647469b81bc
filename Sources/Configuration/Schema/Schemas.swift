/// The schemas of all kinds, and what they share.
package enum Schemas {
    /// Bounds on what one file may hold of anything that has no tighter one.
    static let maxModels = 10_000
    static let maxVariants = 32
    static let maxAliases = 100
    static let maxEndpoints = 1_000
    static let maxReplicas = 10_000
    static let maxMetadataEntries = 256
    /// As many as a cluster keeps in all annotations of an object.
    static let maxMetadataBytes = 262_144

    package static let apiVersion = "weir.dev/v1alpha1"

    package static func schema(of kind: ResourceKind) -> ResourceSchema {
        switch kind {
        case .gateway: self.gateway
        case .model: self.model
        case .processDeployment: self.processDeployment
        case .scalingPolicy: self.scalingPolicy
        case .rolloutPolicy: self.rolloutPolicy
        case .tenant: self.tenant
        case .resourceBudget: self.resourceBudget
        }
    }

    /// The spec that a resource without any field has; required fields are absent.
    package static func defaults(of kind: ResourceKind) -> Record {
        SchemaDefaults.record(of: Self.schema(of: kind).spec)
    }

    package static let metadata = ObjectSchema([
        field("name", .text(.subdomain), .required, "Unique among the resources of its kind."),
        field(
            "namespace",
            .text(.label),
            .standard("default"),
            "The namespace on a cluster; alone, it only keeps equal names apart."
        ),
        field("labels", Self.metadataTexts, .standard("{}"), "Names for selecting resources."),
        field("annotations", Self.metadataTexts, .standard("{}"), "Notes of other programs."),
    ])

    private static let metadataTexts = Schema.map(
        keys: .qualifiedName,
        values: .text(.possiblyEmpty(maxBytes: maxMetadataBytes)),
        maxCount: maxMetadataEntries
    )

    // MARK: Shared parts

    static let timeout = Schema.duration(.milliseconds(1) ... .seconds(86_400))
    static let anyDuration = Schema.duration(.zero...DurationText.maximum)
    static let percent = Schema.percent(.zero ... .whole)
    static let quantile = Schema.decimal(0.001...0.9999)
    static let positive = Schema.decimal(0.000_001...1_000_000_000)
    static let count = Schema.integer(1...1_000_000_000)
    static let policyName = Schema.text(.subdomain)
    static let query = Schema.text(.free(maxBytes: 8_192))

    static let latencyObjective = Schema.object([
        field("quantile", Self.quantile, .standard("0.95"), "Which share must be within `below`."),
        field("below", Self.timeout, .required, "The longest time at that quantile."),
    ])

    static func probe(path: FieldSchema.Presence, period: String) -> Schema {
        let fields = [
            field(
                "path",
                .text(.urlPath),
                path,
                """
                Asked with GET; 2xx or 3xx means ready. With neither this nor `grpc` an open port \
                is enough.
                """
            ),
            field(
                "grpc",
                .object([
                    field(
                        "service",
                        .text(.possiblyEmpty(maxBytes: 256)),
                        .standard("\"\""),
                        "The name that is asked for; none asks for the server as a whole."
                    )
                ]),
                .optional,
                "Asked by `grpc.health.v1.Health/Check`; `SERVING` means ready."
            ),
            field(
                "period",
                .duration(.milliseconds(10) ... .seconds(3_600)),
                .standard(period),
                "From one answer to the next question."
            ),
            field(
                "timeout",
                .duration(.milliseconds(10) ... .seconds(600)),
                .standard("1s"),
                "For the whole answer."
            ),
            field(
                "successThreshold",
                .integer(1...100),
                .standard("1"),
                "Good answers in a row that make it ready."
            ),
            field(
                "failureThreshold",
                .integer(1...100),
                .standard("3"),
                "Bad answers in a row that make it unready."
            ),
        ]
        return .object(fields, [.atMostOne("path", "grpc")])
    }
}
