/// Interchangeable variants, and what scaling is told of single ones.
extension ConfigurationChecker {
    mutating func checkPools(of model: Loaded<ModelSpec>) {
        let spec = model.spec
        var isReported = false
        for (index, variant) in spec.variants.enumerated() {
            let path = ConfigurationPath("spec", "variants").index(index)
            guard let pool = variant.pool, !pool.isEmpty else {
                self.checkNoPool(of: model, variant, path)
                continue
            }
            guard spec.variants.count(where: { $0.pool == pool }) > 1 else {
                self.report(
                    model.origin,
                    path.field("pool"),
                    "variant `\(variant.name)` is alone in pool `\(pool)`: nobody stands in for it",
                    hint: "give others of the same kind the same `pool`, or remove it",
                    severity: .warning
                )
                continue
            }
            if case .endpoints = variant.backend {
                self.report(
                    model.origin,
                    path.field("pool"),
                    "variant `\(variant.name)` cannot be scaled: it has fixed endpoints",
                    hint: "give it a `workloadRef`, or remove `pool`"
                )
            }
            if !isReported { isReported = self.checkPooledScaling(of: model, path.field("pool")) }
        }
        self.checkPooledWeights(of: model)
    }

    private mutating func checkNoPool(
        of model: Loaded<ModelSpec>,
        _ variant: VariantSpec,
        _ path: ConfigurationPath
    ) {
        guard variant.scaling.cost != 1 else { return }
        self.report(
            model.origin,
            path.field("scaling").field("cost"),
            "has no effect: the variant is in no pool",
            hint: "name a `pool` for it and those that can stand in for it, or remove it",
            isKey: true,
            severity: .warning
        )
    }

    /// Whether anything was reported: once for all of a model's pools.
    private mutating func checkPooledScaling(
        of model: Loaded<ModelSpec>,
        _ path: ConfigurationPath
    ) -> Bool {
        guard let name = model.spec.scaling?.policy, !name.isEmpty else {
            self.report(
                model.origin,
                path,
                "no ScalingPolicy decides which of the pool's variants serve",
                hint: "name one in `scaling.policy`, with `{type: Objective}` among its targets"
            )
            return true
        }
        let policy = self.set.scalingPolicies.first {
            $0.name == name && $0.namespace == model.namespace
        }
        // One that is missing or wrong has been reported as such.
        if let policy, !policy.spec.targets.isEmpty, !policy.spec.targets.contains(.objective) {
            self.report(
                model.origin,
                path,
                "ScalingPolicy `\(policy.name)` has no Objective target, so nothing says what a "
                    + "replica of each variant is worth",
                hint: "add `{type: Objective}` to its targets, or remove `pool`"
            )
            return true
        }
        let objectives = model.spec.objectives
        guard objectives.latency == nil && objectives.timeToFirstToken == nil else { return false }
        let given = model.origin.spec.record("objectives").keyPositions
        guard given["latency"] == nil && given["timeToFirstToken"] == nil else { return true }
        self.report(
            model.origin,
            path,
            "the model has no objective for latency, so nothing says what a replica of each "
                + "variant is worth",
            hint: "add `objectives.latency` or `objectives.timeToFirstToken`, or remove `pool`"
        )
        return true
    }

    /// A fixed split may have one pool in it: rollouts lead from one to another.
    private mutating func checkPooledWeights(of model: Loaded<ModelSpec>) {
        let spec = model.spec
        var first: String?
        for entry in spec.weights where entry.weight > 0 {
            guard let pool = spec.variant(named: entry.variant)?.pool,
                spec.interchangeable(with: entry.variant).count > 1
            else { continue }
            guard let serving = first, serving != pool else {
                first = pool
                continue
            }
            self.report(
                model.origin,
                ConfigurationPath("spec", "weights").field(entry.variant),
                "pool `\(pool)` would serve beside pool `\(serving)`",
                hint: "give weight to variants of one pool, or use `live` and a rollout",
                isKey: true
            )
            return
        }
    }

    mutating func checkVariantBounds(of model: Loaded<ModelSpec>, _ scaling: ModelScalingSpec) {
        for (index, variant) in model.spec.variants.enumerated() {
            let own = variant.scaling
            guard own.minReplicas != nil || own.maxReplicas != nil else { continue }
            let least = own.minReplicas ?? (variant.pool == nil ? scaling.minReplicas : 0)
            let most = own.maxReplicas ?? scaling.maxReplicas
            if least <= most { continue }
            let field = own.minReplicas == nil ? "maxReplicas" : "minReplicas"
            self.report(
                model.origin,
                ConfigurationPath("spec", "variants").index(index).field("scaling").field(field),
                "variant `\(variant.name)` has at least \(least) replicas and at most \(most)",
                hint: "raise maxReplicas, or lower minReplicas"
            )
        }
    }

    /// What is said about a share of a budget that the model does not name.
    mutating func checkNoBudget(of model: Loaded<ModelSpec>, _ scaling: ModelScalingSpec) {
        guard model.origin.spec.record("scaling").keyPositions["budget"] == nil else { return }
        if scaling.priority != 0 {
            self.report(
                model.origin,
                ConfigurationPath("spec", "scaling", "priority"),
                "has no effect: the model has no budget",
                hint: "name a ResourceBudget in `scaling.budget`, or remove it",
                isKey: true,
                severity: .warning
            )
        }
        for (index, variant) in model.spec.variants.enumerated()
        where variant.scaling.budgetPerReplica != nil {
            self.report(
                model.origin,
                ConfigurationPath("spec", "variants").index(index).field("scaling")
                    .field("budgetPerReplica"),
                "has no effect: the model has no budget",
                hint: "name a ResourceBudget in `scaling.budget`, or remove it",
                isKey: true,
                severity: .warning
            )
        }
    }
}
