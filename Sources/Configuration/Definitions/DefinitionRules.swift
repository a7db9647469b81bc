import Traffic

/// What the checkers say about several fields of one resource, as an API server's rules.
///
/// Each has its counterpart in `ConfigurationChecker`; a table of bad documents that both must
/// refuse keeps them together.
extension CustomResourceDefinitions {
    /// By the path of the object that `self` is; the empty path is the whole resource.
    static func rules(of kind: ResourceKind) -> [String: [DefinitionRule]] {
        switch kind {
        case .model: self.modelRules
        case .scalingPolicy: self.scalingRules
        case .rolloutPolicy: self.rolloutRules
        case .tenant, .resourceBudget, .gateway, .processDeployment: [:]
        }
    }

    /// Fields that stay as they were created, by path, and what to do instead.
    static func fixed(of kind: ResourceKind) -> [String: String] {
        switch kind {
        case .model:
            ["spec.protocol": "cannot be changed: clients rely on it; make another Model"]
        case .resourceBudget:
            ["spec.resource": "cannot be changed: make another ResourceBudget"]
        case .scalingPolicy, .rolloutPolicy, .tenant, .gateway, .processDeployment: [:]
        }
    }

    // MARK: Model

    private static let modelRules: [String: [DefinitionRule]] = [
        "": [
            DefinitionRule(
                "!has(self.spec.aliases) || !(self.metadata.name in self.spec.aliases)",
                "an alias is the model's own name: leave it out",
                field: "spec.aliases"
            )
        ],
        "spec": variantRules + trafficRules,
        "spec.variants[].workloadRef": workloadRules,
        "spec.scaling": [
            DefinitionRule(
                "self.minReplicas <= self.maxReplicas",
                "must not be more than maxReplicas",
                field: "minReplicas"
            )
        ],
        "spec.loadBalancing": [
            DefinitionRule(
                "!has(self.header) || self.policy == 'ConsistentHash'",
                "is for ConsistentHash: remove it, or write `policy: ConsistentHash`",
                field: "header"
            )
        ],
        "spec.timeouts": [
            DefinitionRule(
                "duration(self.connect) <= duration(self.request)",
                "is longer than the whole request may take",
                field: "connect"
            )
        ],
    ]

    private static let variantRules = [
        DefinitionRule(
            "!has(self.live) || self.variants.exists(v, v.name == self.live)",
            "no variant has this name",
            field: "live"
        ),
        DefinitionRule(
            "has(self.live) || has(self.weights) || size(self.variants) == 1",
            "is missing: nothing says which variant should serve; write `live` or `weights`",
            field: "live"
        ),
        DefinitionRule(
            "!has(self.weights)"
                + " || self.weights.all(k, self.variants.exists(v, v.name == k))",
            "names a variant that does not exist",
            field: "weights"
        ),
        DefinitionRule(
            "!has(self.weights) || self.weights.exists(k, self.weights[k] > 0)",
            "all weights are 0, so nothing would serve",
            field: "weights"
        ),
        DefinitionRule(
            "!has(self.mirror) || self.variants.exists(v, v.name == self.mirror.to)",
            "no variant has this name",
            field: "mirror.to"
        ),
        DefinitionRule(
            """
            !has(self.mirror) || (has(self.weights) \
            ? self.weights.exists(k, self.weights[k] > 0 && k != self.mirror.to) \
            : has(self.live) ? self.live != self.mirror.to : size(self.variants) > 1)
            """,
            "would mirror to itself: the variant gets all requests anyway",
            field: "mirror.to"
        ),
        DefinitionRule(
            """
            self.variants.filter(a, has(a.workloadRef)).all(a, \
            self.variants.filter(b, has(b.workloadRef)).exists_one(b, \
            b.workloadRef.kind == a.workloadRef.kind && b.workloadRef.name == a.workloadRef.name))
            """,
            "two variants are served by the same workload",
            field: "variants"
        ),
    ]

    private static let trafficRules = [
        DefinitionRule(
            "self.protocol in ['HTTP', 'GRPC'] || !has(self.paths) || size(self.paths) == 0",
            "are for the protocols HTTP and GRPC: other requests name their model",
            field: "paths"
        ),
        DefinitionRule(
            "!has(self.paths)"
                + " || self.paths.all(p, size(p.prefix) <= \(HostPathTable.prefixBytesMax))",
            "a prefix is longer than \(HostPathTable.prefixBytesMax) bytes",
            field: "paths"
        ),
    ]

    private static let workloadRules = [
        DefinitionRule(
            "self.kind != 'ProcessDeployment'",
            "a ProcessDeployment is for `weir run` on one machine: name a Deployment, StatefulSet "
                + "or LeaderWorkerSet",
            field: "kind"
        ),
        DefinitionRule(
            "self.kind == 'ProcessDeployment' || has(self.port)",
            "`port` is missing: write the port that its pods listen on"
        ),
    ]

    // MARK: Policies

    private static let scalingRules: [String: [DefinitionRule]] = [
        "spec.windows": [
            DefinitionRule(
                "duration(self.burst) <= duration(self.stable)",
                "is longer than the stable window",
                field: "burst"
            )
        ]
    ]

    private static let rolloutRules: [String: [DefinitionRule]] = [
        "spec": [
            DefinitionRule(
                "self.steps.filter(s, has(s.weight)).map(s, s.weight).isSorted()",
                "the weights of the steps must rise: put the steps in rising order",
                field: "steps"
            ),
            DefinitionRule(
                """
                self.steps.filter(a, has(a.weight)).all(a, self.steps.filter(b, has(b.weight))\
                .exists_one(b, b.weight == a.weight))
                """,
                "the weights of the steps must rise: two steps have the same",
                field: "steps"
            ),
        ],
        "spec.steps[]": [
            DefinitionRule(
                "!has(self.pause) || self.pause",
                "a step that does not pause does nothing: write `pause: true`, or remove it",
                field: "pause"
            ),
            DefinitionRule(
                "!has(self.removeHeaderRoute) || self.removeHeaderRoute",
                "a step that does not remove the header route does nothing: remove the step",
                field: "removeHeaderRoute"
            ),
            DefinitionRule(
                "!has(self.hold) || has(self.weight) || has(self.mirror)",
                "only shares and copies are held: remove `hold`, or write `wait`",
                field: "hold"
            ),
        ],
        "spec.steps[].canaryScale": [
            DefinitionRule(
                "!has(self.matchWeight) || self.matchWeight",
                "says nothing about how many replicas there should be: write `matchWeight: true`, "
                    + "`replicas` or `share`",
                field: "matchWeight"
            )
        ],
    ]
}
