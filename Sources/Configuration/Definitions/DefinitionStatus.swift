import Rollouts

/// The schema of a status: what the controller writes and people read.
///
/// Nobody sends it to `weir check`, so its fields are described here and not in `Schemas`. Numbers
/// with a fraction are texts. Everything is optional: a controller that does not know says nothing.
struct DefinitionStatus {
    let tree: DefinitionTree

    static func schema(of kind: ResourceKind) -> DefinitionStatus {
        let fields: [Field]
        switch kind {
        case .model: fields = Self.model
        case .scalingPolicy, .rolloutPolicy:
            fields = [("models", .count("How many models go by it."))]
        case .tenant: fields = [("keys", .count("How many of its keys are known."))]
        case .resourceBudget: fields = Self.budget
        case .gateway, .processDeployment: fields = []
        }
        let status = Node.object(
            "What Weir makes of it; written by the controller.",
            common + fields
        )
        return DefinitionStatus(tree: status.tree)
    }

    typealias Field = (name: String, node: Node)

    /// A part of a status.
    struct Node {
        let tree: DefinitionTree

        private init(_ description: String, _ entries: [DefinitionTree.Entry]) {
            self.tree = .mapping([.init("description", .text(description))] + entries)
        }

        static func text(_ description: String, max: Int = 256) -> Node {
            Node(
                description,
                [
                    .init("type", .text("string")), .init("maxLength", .integer(max)),
                ]
            )
        }

        static func time(_ description: String) -> Node {
            Node(
                description,
                [
                    .init("type", .text("string")), .init("format", .text("date-time")),
                ]
            )
        }

        static func count(_ description: String, max: Int? = nil) -> Node {
            var entries: [DefinitionTree.Entry] = [
                .init("type", .text("integer")), .init("format", .text("int64")),
                .init("minimum", .integer(0)),
            ]
            if let max { entries.add("maximum", .integer(max)) }
            return Node(description, entries)
        }

        static func truth(_ description: String) -> Node {
            Node(description, [.init("type", .text("boolean"))])
        }

        static func choice(_ description: String, _ choices: [String]) -> Node {
            Node(
                description,
                [
                    .init("type", .text("string")), .init("enum", .texts(choices)),
                ]
            )
        }

        static func object(
            _ description: String,
            _ fields: [Field],
            required: [String] = []
        ) -> Node {
            var entries: [DefinitionTree.Entry] = [.init("type", .text("object"))]
            if !required.isEmpty { entries.add("required", .texts(required)) }
            let properties = fields.map { DefinitionTree.Entry($0.name, $0.node.tree) }
            entries.add("properties", .mapping(properties))
            return Node(description, entries)
        }

        /// A list of objects; with a key, whoever applies one of them leaves the others alone.
        static func list(
            _ description: String,
            max: Int,
            key: String? = nil,
            of element: Node
        ) -> Node {
            var entries: [DefinitionTree.Entry] = [
                .init("type", .text("array")), .init("maxItems", .integer(max)),
                .init("x-kubernetes-list-type", .text(key == nil ? "atomic" : "map")),
            ]
            if let key { entries.add("x-kubernetes-list-map-keys", .texts([key])) }
            entries.add("items", element.tree)
            return Node(description, entries)
        }
    }

    // MARK: Common

    private static let common: [Field] = [
        (
            "observedGeneration",
            .count("The generation of the spec that the rest of the status is about.")
        ),
        (
            "conditions",
            .list(
                "What holds, each with a reason in a word and a message in a sentence.",
                max: 32,
                key: "type",
                of: condition
            )
        ),
    ]

    private static let condition = Node.object(
        "One thing that holds or does not.",
        [
            ("type", .text("What it is about.", max: 316)),
            ("status", .choice("Whether it holds.", ["True", "False", "Unknown"])),
            ("observedGeneration", .count("The generation of the spec it was found with.")),
            ("lastTransitionTime", .time("When `status` changed last.")),
            ("reason", .text("Why, in a word.", max: 1_024)),
            ("message", .text("Why, in a sentence.", max: 32_768)),
        ],
        required: ["type", "status", "lastTransitionTime", "reason", "message"]
    )

    private static let replicaCounts: [Field] = [
        ("desired", .count("How many there should be.")),
        ("ready", .count("How many take requests.")),
        ("starting", .count("How many are on their way.")),
        ("draining", .count("How many finish their last requests.")),
    ]

    // MARK: Model

    private static let model: [Field] = [
        ("url", .text("Where the gateway serves the model.", max: 2_048)),
        ("live", .text("The variant that serves now.", max: 63)),
        (
            "replicas",
            .object(
                "Replicas of all variants.",
                [("summary", .text("Those ready, of those wanted: `3/4`."))] + replicaCounts
            )
        ),
        (
            "variants",
            .list(
                "Each variant.",
                max: Schemas.maxVariants,
                key: "name",
                of: .object("A variant.", variant, required: ["name"])
            )
        ),
        ("scaling", .object("The last decision about replicas.", scaling)),
        (
            "rollout",
            .object("The change of the live variant that is under way, or the last one.", rollout)
        ),
    ]

    private static let variant: [Field] = [
        ("name", .text("Its name.", max: 63)),
        ("workload", .text("What holds its replicas: `Deployment/digits-v1`.", max: 300)),
        ("revision", .text("The revision of the workload's template.", max: 253)),
        ("weight", .count("Its part of the requests, against that of the other variants.")),
        ("replicas", .object("Its replicas.", replicaCounts)),
        (
            "requestsPerReplica",
            .text(
                """
                In a pool: requests per second that a replica does within the objective, as \
                learned; the requests of the pool are divided by it.
                """,
                max: 32
            )
        ),
        ("reason", .text("What keeps replicas from becoming ready, in a word.", max: 1_024)),
        ("message", .text("What keeps replicas from becoming ready.", max: 4_096)),
    ]

    private static let scaling: [Field] = [
        ("desired", .count("The number decided on.")),
        ("recommended", .count("The number that the load asks for, before bounds and budgets.")),
        ("reason", .text("What decided, in a word.", max: 1_024)),
        ("message", .text("What decided; `weir explain MODEL` tells all of it.", max: 4_096)),
        ("lastScaleTime", .time("When the number changed last.")),
        ("coldStart", .text("How long a replica takes to become ready, as measured: `41s`.")),
        ("dryRun", .truth("Decisions are told and not carried out.")),
    ]

    private static let reference: [Field] = [
        ("name", .text("The variant.", max: 63)),
        ("revision", .text("The revision of its workload's template.", max: 253)),
    ]

    private static let rollout: [Field] = [
        ("number", .count("Counts the model's rollouts.")),
        ("phase", .choice("Where it stands.", phases)),
        ("stable", .object("The variant that served before.", reference)),
        ("canary", .object("The variant that is tried.", reference)),
        ("step", .count("The step under way, counted from 0.")),
        ("steps", .count("How many steps the policy has.")),
        ("stage", .choice("Where the step stands.", stages)),
        ("weight", .count("The new variant's share in percent.", max: 100)),
        (
            "acknowledged",
            .truth("Whether every gateway goes by that share.")
        ),
        ("pauseReason", .choice("Why it waits.", pauseReasons)),
        ("held", .text("How long the step has been watched: `1m30s`.")),
        ("message", .text("Where it stands, in a sentence.", max: 4_096)),
        ("startTime", .time("When it began.")),
        ("lastTransitionTime", .time("When the phase, the step or the share changed last.")),
        ("inPlace", .truth("The template of one workload was changed, instead of the variant.")),
        ("rejected", .object("The variant that was rolled back from.", reference)),
        ("templateRollback", .object("The revision a template was asked to return to.", reference)),
        (
            "metrics",
            .list(
                "What the comparison says so far.",
                max: AnalysisPlan.metricsMax,
                of: .object("One metric.", metric, required: ["name", "verdict"])
            )
        ),
        (
            "history",
            .list(
                "The last things that happened, oldest first.",
                max: 64,
                of: .object("One thing.", record, required: ["id", "kind"])
            )
        ),
        ("traffic", .object("What gateways go by.", traffic)),
        (
            "checkpoint",
            .text(
                """
                What a controller needs to go on where another one stopped: the evidence so far \
                and all else, as JSON. For Weir alone; do not edit it.
                """,
                max: 524_288
            )
        ),
    ]

    private static let traffic: [Field] = [
        ("generation", .count("Another one with every change.")),
        (
            "weights",
            .list(
                "The variants with a share of the requests.",
                max: Schemas.maxVariants,
                of: .object(
                    "A variant's share.",
                    [
                        ("name", .text("The variant.", max: 63)),
                        ("percent", .count("Its share in percent.", max: 100)),
                    ],
                    required: ["name", "percent"]
                )
            )
        ),
        ("canary", .text("The variant that is tried.", max: 63)),
        (
            "header",
            .object(
                "Requests with this header go to it, whatever the shares are.",
                [
                    ("name", .text("The header.")),
                    ("value", .text("Its exact value.", max: 1_024)),
                ]
            )
        ),
        (
            "mirror",
            .object(
                "Copies of requests.",
                [
                    ("to", .text("The variant that gets them.", max: 63)),
                    ("percent", .count("Of how many requests, in percent.", max: 100)),
                ]
            )
        ),
        (
            "trial",
            .object(
                "What is measured; absent: nothing.",
                [
                    ("number", .count("The rollout's number.")),
                    ("inspectsAnswers", .truth("Answers are looked into.")),
                    ("repeatsStable", .truth("Some copies go to the old variant once more.")),
                    ("consecutiveErrors", .count("Failures in a row that are told at once.")),
                ]
            )
        ),
    ]

    private static let phases = [
        "Stable", "Progressing", "Paused", "Promoting", "RollingBack", "RolledBack",
    ]
    private static let stages = ["Opening", "Scaling", "Shifting", "Holding", "Closing"]
    private static let pauseReasons = ["Step", "Manual", "Inconclusive", "Webhook"]

    private static let metric: [Field] = [
        ("name", .text("Its name.")),
        ("verdict", .choice("What it says.", ["Pass", "Fail", "Inconclusive"])),
        ("evidence", .text("How strongly the data speaks against the new variant.")),
        ("threshold", .text("Where the evidence suffices for a rollback.")),
        ("stable", .text("The value of the variant that served before.")),
        ("canary", .text("The value of the new variant.")),
        ("stableRequests", .count("Requests compared of the one.")),
        ("canaryRequests", .count("Requests compared of the other.")),
        ("reason", .text("Why.", max: 1_024)),
        ("dryRun", .truth("Told, never acted on.")),
    ]

    private static let record: [Field] = [
        ("id", .count("Rising, never used twice.")),
        ("rollout", .count("The rollout's number.")),
        ("time", .time("When.")),
        ("kind", .text("What happened, in a word.")),
        ("message", .text("What happened.", max: 4_096)),
        ("step", .count("The step it happened in.")),
        ("weight", .count("The new variant's share then.", max: 100)),
    ]

    // MARK: ResourceBudget

    private static let budget: [Field] = [
        ("used", .count("Units in use.")),
        ("wanted", .count("Units that models would take if there were enough.")),
        ("available", .count("Units that are shared out: the total, or what a quota leaves.")),
        ("allocatable", .count("Units that the nodes have, in use or not.")),
        (
            "quota",
            .object(
                "What the ResourceQuota with the least left says of it.",
                [("hard", .count("Units allowed.")), ("used", .count("Units in use."))]
            )
        ),
        (
            "pools",
            .list(
                "What the nodes have, by pool.",
                max: 100,
                key: "name",
                of: .object(
                    "The nodes of one kind.",
                    [
                        ("name", .text("What their labels say; empty for none.", max: 253)),
                        ("nodes", .count("How many have any of it.")),
                        ("allocatable", .count("Units they have.")),
                        ("used", .count("Units that pods take.")),
                        ("largestFree", .count("The most that is left on one node.")),
                    ],
                    required: ["name"]
                )
            )
        ),
        (
            "models",
            .list(
                "Who has them.",
                max: 1_000,
                key: "name",
                of: .object(
                    "A model's part.",
                    [
                        ("name", .text("The model.", max: 253)),
                        ("used", .count("Units it has.")),
                        ("wanted", .count("Units it would take.")),
                    ],
                    required: ["name"]
                )
            )
        ),
    ]
}
