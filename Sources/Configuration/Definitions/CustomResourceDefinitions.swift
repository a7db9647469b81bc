/// The definitions that a cluster needs to keep Weir's resources: one CustomResourceDefinition for
/// each kind that is more than one machine's.
///
/// They are made from the same schemas that files are read with, so that an API server refuses
/// what `weir check` refuses and fills in the same defaults. What spans several resources (a policy
/// that does not exist) is no API server's to say: the controller says it in a condition.
package enum CustomResourceDefinitions {
    /// Those of `weir run` alone, a ProcessDeployment and the Gateway, are not among them.
    package static let kinds: [ResourceKind] = [
        .model, .scalingPolicy, .rolloutPolicy, .tenant, .resourceBudget,
    ]

    package static let group = "weir.dev"
    package static let version = "v1alpha1"

    /// What a kind is called besides its own name.
    package struct Names: Sendable {
        package var plural: String
        package var singular: String
        package var shortName: String
    }

    /// Nil for a kind that no cluster knows.
    package static func names(of kind: ResourceKind) -> Names? {
        switch kind {
        case .model: Names(plural: "models", singular: "model", shortName: "wm")
        case .scalingPolicy:
            Names(plural: "scalingpolicies", singular: "scalingpolicy", shortName: "wsp")
        case .rolloutPolicy:
            Names(plural: "rolloutpolicies", singular: "rolloutpolicy", shortName: "wrp")
        case .tenant: Names(plural: "tenants", singular: "tenant", shortName: "wt")
        case .resourceBudget:
            Names(plural: "resourcebudgets", singular: "resourcebudget", shortName: "wrb")
        case .gateway, .processDeployment: nil
        }
    }

    /// The file of `manifests/crds` that holds a kind's definition.
    package static func fileName(of kind: ResourceKind) -> String? {
        self.names(of: kind).map { "\($0.plural).yaml" }
    }

    /// A kind's definition as YAML; nil for a kind that no cluster knows.
    package static func yaml(of kind: ResourceKind) -> String? {
        guard let names = self.names(of: kind) else { return nil }
        let spec: DefinitionTree = .mapping([
            .init("group", .text(self.group)), .init("scope", .text("Namespaced")),
            .init("names", self.tree(of: names, kind)),
            .init("versions", .list([self.version(of: kind)])),
        ])
        let metadata: DefinitionTree = .mapping([
            .init("name", .text("\(names.plural).\(self.group)")),
            .init("labels", .mapping([.init("app.kubernetes.io/part-of", .text("weir"))])),
        ])
        let definition: DefinitionTree = .mapping([
            .init("apiVersion", .text("apiextensions.k8s.io/v1")),
            .init("kind", .text("CustomResourceDefinition")), .init("metadata", metadata),
            .init("spec", spec),
        ])
        return "# Made by `weir crds` from the schemas in Sources/Configuration.\n"
            + definition.yaml
    }

    private static func tree(of names: Names, _ kind: ResourceKind) -> DefinitionTree {
        // `kubectl get all` shows what runs, not what it goes by.
        let categories = kind == .model ? ["weir", "all"] : ["weir"]
        return .mapping([
            .init("kind", .text(kind.rawValue)), .init("listKind", .text("\(kind.rawValue)List")),
            .init("plural", .text(names.plural)), .init("singular", .text(names.singular)),
            .init("shortNames", .texts([names.shortName])),
            .init("categories", .texts(categories)),
        ])
    }

    private static func version(of kind: ResourceKind) -> DefinitionTree {
        .mapping([
            .init("name", .text(self.version)), .init("served", .truth(true)),
            .init("storage", .truth(true)),
            .init("subresources", .mapping([.init("status", .mapping([]))])),
            .init("additionalPrinterColumns", .list(self.columns(of: kind).map(\.tree))),
            .init("schema", .mapping([.init("openAPIV3Schema", self.schema(of: kind))])),
        ])
    }

    private static func schema(of kind: ResourceKind) -> DefinitionTree {
        let resource = Schemas.schema(of: kind)
        let builder = DefinitionSchema(rules: self.rules(of: kind), fixed: self.fixed(of: kind))
        let name = "The schema of the object: `\(Schemas.apiVersion)`."
        var entries: [DefinitionTree.Entry] = [
            .init("description", .text(resource.documentation)), .init("type", .text("object")),
            .init("required", .texts(["spec"])),
            .init(
                "properties",
                .mapping([
                    .init("apiVersion", self.text(name)),
                    .init("kind", self.text("The kind of the object: `\(kind.rawValue)`.")),
                    .init("metadata", .mapping([.init("type", .text("object"))])),
                    .init(
                        "spec",
                        builder.tree(of: .object(resource.spec), "What is wanted.", path: "spec")
                    ),
                    .init("status", DefinitionStatus.schema(of: kind).tree),
                ])
            ),
        ]
        let rules = self.rules(of: kind)[""] ?? []
        if !rules.isEmpty { entries.add("x-kubernetes-validations", .list(rules.map(\.tree))) }
        return .mapping(entries)
    }

    private static func text(_ description: String) -> DefinitionTree {
        .mapping([.init("description", .text(description)), .init("type", .text("string"))])
    }
}

// MARK: Columns

extension CustomResourceDefinitions {
    struct Column {
        var name: String
        var type = "string"
        var path: String
        var documentation: String
        /// Only with `-o wide`.
        var isWide = false

        var tree: DefinitionTree {
            var entries: [DefinitionTree.Entry] = [
                .init("name", .text(self.name)), .init("type", .text(self.type)),
                .init("jsonPath", .text(self.path)),
                .init("description", .text(self.documentation)),
            ]
            if self.isWide { entries.add("priority", .integer(1)) }
            return .mapping(entries)
        }
    }

    private static func condition(_ type: String, _ part: String) -> String {
        ".status.conditions[?(@.type==\"\(type)\")].\(part)"
    }

    private static let age = Column(
        name: "Age",
        type: "date",
        path: ".metadata.creationTimestamp",
        documentation: "Since it was created."
    )

    private static let accepted = [
        Column(
            name: "Accepted",
            path: condition("Accepted", "status"),
            documentation: "Whether Weir goes by it."
        ),
        Column(
            name: "Reason",
            path: condition("Accepted", "reason"),
            documentation: "Why, in a word."
        ),
    ]

    private static let message = Column(
        name: "Message",
        path: condition("Accepted", "message"),
        documentation: "Why, in a sentence.",
        isWide: true
    )

    static func columns(of kind: ResourceKind) -> [Column] {
        switch kind {
        case .model: self.modelColumns
        case .scalingPolicy, .rolloutPolicy: self.accepted + self.used + [self.message, self.age]
        case .tenant: self.accepted + self.tenantColumns + [self.message, self.age]
        case .resourceBudget: self.accepted + self.budgetColumns + [self.message, self.age]
        case .gateway, .processDeployment: []
        }
    }

    private static let modelColumns = [
        Column(
            name: "Ready",
            path: condition("Ready", "status"),
            documentation: "Whether requests are answered."
        ),
        Column(
            name: "Reason",
            path: condition("Ready", "reason"),
            documentation: "Why, in a word."
        ),
        Column(name: "Live", path: ".status.live", documentation: "The variant that serves."),
        Column(
            name: "Replicas",
            path: ".status.replicas.summary",
            documentation: "How many are ready, of those wanted."
        ),
        Column(
            name: "Rollout",
            path: ".status.rollout.phase",
            documentation: "What a change of the live variant is doing."
        ),
        Column(
            name: "Canary",
            type: "integer",
            path: ".status.rollout.weight",
            documentation: "The new variant's share in percent."
        ),
        Column(
            name: "Protocol",
            path: ".spec.protocol",
            documentation: "What clients speak.",
            isWide: true
        ),
        Column(name: "URL", path: ".status.url", documentation: "Where it is.", isWide: true),
        Column(
            name: "Message",
            path: condition("Ready", "message"),
            documentation: "Why, in a sentence.",
            isWide: true
        ),
        age,
    ]

    private static let used = [
        Column(
            name: "Models",
            type: "integer",
            path: ".status.models",
            documentation: "How many models go by it."
        )
    ]

    private static let tenantColumns = [
        Column(
            name: "Keys",
            type: "integer",
            path: ".status.keys",
            documentation: "How many of its keys are known."
        ),
        Column(
            name: "Priority",
            type: "integer",
            path: ".spec.priority",
            documentation: "Higher goes first.",
            isWide: true
        ),
    ]

    private static let budgetColumns = [
        Column(name: "Resource", path: ".spec.resource", documentation: "What is shared out."),
        Column(
            name: "Used",
            type: "integer",
            path: ".status.used",
            documentation: "Units in use."
        ),
        Column(
            name: "Total",
            type: "integer",
            path: ".spec.total",
            documentation: "Units there are."
        ),
        Column(
            name: "Wanted",
            type: "integer",
            path: ".status.wanted",
            documentation: "Units that models would take if there were enough.",
            isWide: true
        ),
        Column(
            name: "Nodes",
            type: "integer",
            path: ".status.allocatable",
            documentation: "Units that the nodes have.",
            isWide: true
        ),
        Column(
            name: "Quota",
            type: "integer",
            path: ".status.quota.hard",
            documentation: "Units that a quota allows.",
            isWide: true
        ),
    ]
}
