@testable import Configuration

extension BadFile {
    /// A model on a small and a big GPU, and what it needs.
    private static func pool(
        targets: String = "{type: Objective}",
        small: String = "",
        model: String = "",
        policy: String = "policy: s, ",
        objectives: String = "  objectives: {latency: {quantile: 0.95, below: 1s}}\n",
        which: String = "  live: small\n"
    ) -> String {
        func deployment(_ name: String) -> String {
            Self.head("ProcessDeployment", name) + "spec: {command: [run]}\n---\n"
        }
        func reference(_ name: String) -> String {
            "workloadRef: {kind: ProcessDeployment, name: \(name)}"
        }
        return deployment("a") + deployment("b") + deployment("c") + deployment("d")
            + Self.head("ScalingPolicy", "s") + "spec: {targets: [\(targets)]}\n---\n"
            + Self.head("Model", "m")
            + "spec:\n  protocol: OpenAI\n\(which)\(objectives)"
            + "  scaling: {\(policy)maxReplicas: 4\(model)}\n  variants:\n"
            + "  - {name: small, pool: one, \(reference("a"))\(small)}\n"
            + "  - {name: big, pool: one, \(reference("b")), scaling: {cost: \"3.5\"}}\n"
            + "  - {name: small2, pool: two, \(reference("c"))}\n"
            + "  - {name: big2, pool: two, \(reference("d"))}\n"
    }

    private static let budget =
        Self.head("ResourceBudget", "g") + "spec: {resource: gpu, total: 3}\n---\n"

    static let pooledModel = Self.pool()

    static let pools: [BadFile] = [
        BadFile(
            "a pool without a policy",
            Self.pool(policy: "").replacing("small, pool: one", with: "small, pool: ⟨one"),
            path: "spec.variants[0].pool",
            "no ScalingPolicy decides which of the pool's variants serve",
            hint: "{type: Objective}"
        ),
        BadFile(
            "a pool whose policy holds no objective",
            Self.pool(targets: "{type: Concurrency, value: 2}"),
            path: "spec.variants[0].pool",
            "ScalingPolicy `s` has no Objective target",
            hint: "add `{type: Objective}` to its targets"
        ),
        BadFile(
            "a pool without an objective",
            Self.pool(objectives: ""),
            path: "spec.variants[0].pool",
            "the model has no objective for latency, so nothing says what a replica",
            hint: "add `objectives.latency`"
        ),
        BadFile(
            "a pool with fixed endpoints",
            Self.pool().replacing(
                "pool: two, workloadRef: {kind: ProcessDeployment, name: d}",
                with: "pool: ⟨two, endpoints: [\"http://h:1\"]"
            ),
            path: "spec.variants[3].pool",
            "variant `big2` cannot be scaled: it has fixed endpoints",
            hint: "give it a `workloadRef`"
        ),
        BadFile(
            "two pools that serve at once",
            Self.pool(which: "  weights: {small: 50, ⟨small2: 50}\n"),
            path: "spec.weights.small2",
            "pool `two` would serve beside pool `one`",
            hint: "use `live` and a rollout"
        ),
        BadFile(
            "a variant alone in its pool",
            Self.pool().replacing("big2, pool: two", with: "big2, pool: ⟨tow")
                .replacing("small2, pool: two, ", with: "small2, "),
            path: "spec.variants[3].pool",
            "variant `big2` is alone in pool `tow`: nobody stands in for it",
            hint: "give others of the same kind the same `pool`",
            severity: .warning
        ),
        BadFile(
            "a cost against nobody's",
            Self.pool().replacing(
                "pool: two, workloadRef: {kind: ProcessDeployment, name: d}",
                with: "workloadRef: {kind: ProcessDeployment, name: d}, scaling: {⟨cost: 2}"
            ).replacing("small2, pool: two, ", with: "small2, "),
            path: "spec.variants[3].scaling.cost",
            "has no effect: the variant is in no pool",
            hint: "name a `pool`",
            severity: .warning
        ),
        BadFile(
            "a cost of nothing",
            Self.pool(small: ", scaling: {cost: ⟨\"0\"}"),
            path: "spec.variants[0].scaling.cost",
            "0"
        ),
        BadFile(
            "a variant with more at least than at most",
            Self.pool(small: ", scaling: {minReplicas: ⟨5}"),
            path: "spec.variants[0].scaling.minReplicas",
            "variant `small` has at least 5 replicas and at most 4",
            hint: "raise maxReplicas, or lower minReplicas"
        ),
        BadFile(
            "units of no budget",
            Self.pool(small: ", scaling: {⟨budgetPerReplica: 2}"),
            path: "spec.variants[0].scaling.budgetPerReplica",
            "has no effect: the model has no budget",
            hint: "name a ResourceBudget in `scaling.budget`",
            severity: .warning
        ),
        BadFile(
            "a budget too small for the least of one variant",
            Self.budget
                + Self.pool(
                    small: ", scaling: {minReplicas: ⟨2, budgetPerReplica: 2}",
                    model: ", budget: {name: g}"
                ),
            path: "spec.variants[0].scaling.minReplicas",
            "2 replicas take 4 of `gpu`, and ResourceBudget `g` has 3"
        ),
        BadFile(
            "a budget too small for the least of a pool, were it of the smallest",
            Self.budget
                + Self.pool(
                    small: ", scaling: {budgetPerReplica: 1}",
                    model: ", minReplicas: ⟨4, budget: {name: g, perReplica: 4}"
                ),
            path: "spec.scaling.minReplicas",
            "4 replicas take 4 of `gpu`, and ResourceBudget `g` has 3"
        ),
        BadFile(
            "a priority beyond all bounds",
            Self.pool(model: ", priority: ⟨3000000000"),
            path: "spec.scaling.priority",
            "3000000000 is out of range"
        ),
    ]
}
