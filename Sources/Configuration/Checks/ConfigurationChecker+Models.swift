import Traffic

extension ConfigurationChecker {
    mutating func checkModels() {
        self.checkModelNames()
        self.checkRoutes()
        for model in self.set.models {
            self.checkReferences(of: model)
            self.checkVariants(of: model)
            self.checkWorkloads(of: model)
            self.checkTraffic(of: model)
            self.checkPools(of: model)
            self.checkScaling(of: model)
        }
        self.checkSharedWorkloads()
    }

    // MARK: Names and routes

    /// A client's name must lead to one model.
    private mutating func checkModelNames() {
        var owners: [String: String] = [:]
        var namespaces: [String: String] = [:]
        for model in self.set.models where !model.name.isEmpty {
            owners[model.name] = model.name
            let first = namespaces[model.name, default: model.namespace]
            namespaces[model.name] = first
            if first == model.namespace { continue }
            self.report(
                model.origin,
                ConfigurationPath("metadata", "name"),
                "the name `\(Excerpt.of(model.name))` is a duplicate",
                hint: "the model in namespace `\(first)` has it already: clients know names alone"
            )
        }
        for model in self.set.models where !model.spec.aliases.isEmpty {
            let path = ConfigurationPath("spec", "aliases")
            var seen: Set<String> = []
            for (index, alias) in model.spec.aliases.enumerated() {
                // A second time in the same list has been reported as such.
                if alias.isEmpty || !seen.insert(alias).inserted { continue }
                if let owner = owners[alias] {
                    self.report(
                        model.origin,
                        path.index(index),
                        "the name `\(Excerpt.of(alias))` is a duplicate",
                        hint: "model `\(owner)` has it already"
                    )
                } else {
                    owners[alias] = model.name
                }
            }
        }
    }

    /// A host and path must lead to one model. Both are compared as `HostPathTable` does: hosts
    /// without regard to case, prefixes without slashes at their end; no prefix takes every path.
    private mutating func checkRoutes() {
        var owners: [String: String] = [:]
        for model in self.set.models {
            let spec = model.spec
            let takesPaths = spec.protocol == .http || spec.protocol == .grpc
            let path = ConfigurationPath("spec", "paths")
            if !takesPaths && !spec.paths.isEmpty {
                self.report(
                    model.origin,
                    path,
                    "`paths` are for the protocols HTTP and GRPC",
                    hint: "remove them; \(spec.protocol.rawValue) requests name their model",
                    isKey: true
                )
            }
            for (index, route) in spec.paths.enumerated() where !route.prefix.isEmpty {
                let place = path.index(index).field("prefix")
                self.checkPrefixLength(route.prefix, of: model, place)
                if takesPaths { self.checkRoute(route.prefix, of: model, place, &owners) }
            }
            let takesAll = spec.isCatchAll || (spec.protocol == .http && !spec.hostnames.isEmpty)
            if spec.paths.isEmpty && takesAll {
                let place = ConfigurationPath("spec", spec.isCatchAll ? "aliases" : "hostnames")
                self.checkRoute("/", of: model, place, &owners)
            }
        }
    }

    private mutating func checkRoute(
        _ prefix: String,
        of model: Loaded<ModelSpec>,
        _ place: ConfigurationPath,
        _ owners: inout [String: String]
    ) {
        let path = String(prefix.reversed().drop { $0 == "/" }.reversed())
        for host in model.spec.hostnames.isEmpty ? [""] : model.spec.hostnames {
            let owner = owners.updateValue(model.name, forKey: "\(host.lowercased()) \(path)")
            guard let owner, owner != model.name else { continue }
            // Of two models with the alias `*` the aliases' check has told.
            if model.spec.isCatchAll, self.isCatchAll(owner) { continue }
            self.report(
                model.origin,
                place,
                "`\(Excerpt.of(prefix))` is a duplicate on the same host",
                hint: "model `\(owner)` has it already"
            )
        }
    }

    private func isCatchAll(_ name: String) -> Bool {
        self.set.models.contains { $0.name == name && $0.spec.isCatchAll }
    }

    private mutating func checkPrefixLength(
        _ prefix: String,
        of model: Loaded<ModelSpec>,
        _ place: ConfigurationPath
    ) {
        if prefix.utf8.count <= HostPathTable.prefixBytesMax { return }
        self.report(
            model.origin,
            place,
            "is \(prefix.utf8.count) bytes long",
            hint: "the longest allowed is \(HostPathTable.prefixBytesMax) bytes"
        )
    }

    // MARK: References

    private mutating func checkReferences(of model: Loaded<ModelSpec>) {
        for reference in ModelReferences(model).all {
            let id = reference.id
            if self.set.documents[id] != nil { continue }
            let there = self.set.all.map(ResourceSet.id).filter {
                $0.kind == id.kind && $0.namespace == id.namespace
            }
            self.reportMissing(
                id.kind.rawValue,
                id.name,
                among: there.map(\.name),
                model.origin,
                reference.path
            )
        }
    }

    private mutating func checkVariants(of model: Loaded<ModelSpec>) {
        let path = ConfigurationPath("spec")
        let spec = model.spec
        // A name that was wrong would make every reference to it look wrong as well.
        guard !spec.variants.isEmpty, !spec.variants.contains(where: { $0.name.isEmpty }) else {
            return
        }
        if let live = spec.live, !live.isEmpty {
            self.checkVariant(live, of: model, path.field("live"))
        } else if spec.variants.count > 1 && !model.origin.spec.has("weights")
            && model.origin.spec.keyPositions["live"] == nil
            && model.origin.spec.keyPositions["weights"] == nil
        {
            self.report(
                model.origin,
                path.field("live"),
                "is missing: nothing says which of \(spec.variants.count) variants should serve",
                hint: "write `live: \(spec.variants[0].name)`, or `weights`"
            )
        }
        self.checkWeights(of: model)
        self.checkMirror(of: model)
        for index in spec.variants.indices { self.checkUpstreamTLS(of: model, index) }
    }

    private mutating func checkUpstreamTLS(of model: Loaded<ModelSpec>, _ index: Int) {
        let variant = model.spec.variants[index]
        guard let tls = variant.tls else { return }
        let path = ConfigurationPath("spec", "variants").index(index).field("tls")
        if (tls.certificate == nil) != (tls.key == nil) {
            self.report(
                model.origin,
                path,
                "a certificate and its key are given together",
                hint: tls.key == nil ? "add `key`" : "add `certificate`",
                isKey: true
            )
        }
        if tls.insecureSkipVerify {
            self.report(
                model.origin,
                path.field("insecureSkipVerify"),
                "nobody checks who the servers are",
                hint: "name the authority of their certificates: `ca`",
                severity: .warning
            )
        }
        guard case .endpoints(let urls) = variant.backend,
            urls.contains(where: { $0.scheme == .https })
        else {
            self.report(
                model.origin,
                path,
                "has no effect: the variant has no `https` endpoint",
                hint: "write `https://…` in `endpoints`, or remove `tls`",
                isKey: true,
                severity: .warning
            )
            return
        }
    }

    private mutating func checkWeights(of model: Loaded<ModelSpec>) {
        guard model.origin.spec.has("weights") else { return }
        let path = ConfigurationPath("spec", "weights")
        let entries = model.origin.spec.entries("weights")
        for entry in entries {
            self.checkVariant(entry.key, of: model, path.field(entry.key), isKey: true)
        }
        let hasWrong = entries.contains { !$0.isValid }
        if hasWrong || model.spec.weights.contains(where: { $0.weight > 0 }) { return }
        self.report(
            model.origin,
            path,
            entries.isEmpty ? "is empty" : "all weights are 0, so nothing would serve",
            hint: "give at least one variant a weight",
            isKey: true
        )
    }

    private mutating func checkVariant(
        _ name: String,
        of model: Loaded<ModelSpec>,
        _ path: @autoclosure () -> ConfigurationPath,
        isKey: Bool = false
    ) {
        if model.spec.variant(named: name) != nil { return }
        let names = model.spec.variants.map(\.name)
        self.reportMissing("variant", name, among: names, model.origin, path(), isKey: isKey)
    }

    private mutating func checkMirror(of model: Loaded<ModelSpec>) {
        guard let target = model.spec.mirror?.to, !target.isEmpty else { return }
        let path = ConfigurationPath("spec", "mirror", "to")
        self.checkVariant(target, of: model, path)
        let serving = zip(model.spec.variants, model.spec.variantWeights).filter { $0.1 > 0 }
        guard serving.count == 1, serving.first?.0.name == target else { return }
        self.report(
            model.origin,
            path,
            "`\(target)` would mirror to itself: it gets all requests anyway",
            hint: "mirror to another variant"
        )
    }

    private mutating func checkWorkloads(of model: Loaded<ModelSpec>) {
        var owners: [WorkloadReference: String] = [:]
        for (index, variant) in model.spec.variants.enumerated() {
            guard case .workload(var reference) = variant.backend, !reference.name.isEmpty else {
                continue
            }
            let path = ConfigurationPath("spec", "variants").index(index).field("workloadRef")
            switch (reference.kind, reference.port) {
            case (.processDeployment, .some):
                self.report(
                    model.origin,
                    path.field("port"),
                    "`port` is for a cluster; local processes are given theirs",
                    hint: "remove it and use `$(PORT)` in the ProcessDeployment",
                    isKey: true
                )
            case (.deployment, nil), (.statefulSet, nil), (.leaderWorkerSet, nil):
                self.report(
                    model.origin,
                    path.field("port"),
                    "is missing",
                    hint: "write the port that the pods of `\(reference.name)` listen on"
                )
            case (.processDeployment, nil), (.deployment, .some), (.statefulSet, .some),
                (.leaderWorkerSet, .some):
                break
            }
            reference.port = nil
            if let owner = owners.updateValue(variant.name, forKey: reference) {
                self.report(
                    model.origin,
                    path.field("name"),
                    "\(reference.kind.rawValue) `\(reference.name)` is a duplicate",
                    hint: "variant `\(owner)` is served by it already"
                )
            }
        }
    }

    // MARK: Settings

    private mutating func checkTraffic(of model: Loaded<ModelSpec>) {
        let balancing = model.spec.loadBalancing
        if balancing.header != nil && balancing.policy != .consistentHash {
            self.report(
                model.origin,
                ConfigurationPath("spec", "loadBalancing", "header"),
                "`header` is for ConsistentHash, not for \(balancing.policy.rawValue)",
                hint: "remove it, or write `policy: ConsistentHash`",
                isKey: true
            )
        }
        let timeouts = model.spec.timeouts
        if timeouts.connect > timeouts.request {
            self.report(
                model.origin,
                ConfigurationPath("spec", "timeouts", "connect"),
                "is longer than the whole request may take",
                hint: "make it shorter than \(DurationText.format(timeouts.request))"
            )
        }
    }

    private mutating func checkScaling(of model: Loaded<ModelSpec>) {
        guard let scaling = model.spec.scaling else { return }
        let path = ConfigurationPath("spec", "scaling")
        if scaling.minReplicas > scaling.maxReplicas {
            self.report(
                model.origin,
                path.field("minReplicas"),
                "minReplicas (\(scaling.minReplicas)) is more than maxReplicas "
                    + "(\(scaling.maxReplicas))",
                hint: "raise maxReplicas, or lower minReplicas"
            )
        }
        let isFixed = model.spec.variants.allSatisfy {
            if case .endpoints = $0.backend { true } else { false }
        }
        if isFixed && !model.spec.variants.isEmpty && scaling.policy != nil {
            self.report(
                model.origin,
                path,
                "no variant can be scaled: all have fixed endpoints",
                hint: "remove `scaling`, or give a variant a `workloadRef`",
                isKey: true,
                severity: .warning
            )
        }
        self.checkVariantBounds(of: model, scaling)
        self.checkScaledVariants(of: model, scaling)
        self.checkObjectiveTarget(of: model, scaling)
        self.checkBudget(of: model, scaling)
    }

    private mutating func checkScaledVariants(
        of model: Loaded<ModelSpec>,
        _ scaling: ModelScalingSpec
    ) {
        let most = ModelScalingSpec.variantsMax
        let scaled = model.spec.variants.indices.filter { index in
            guard case .workload(let reference) = model.spec.variants[index].backend else {
                return false
            }
            return reference.kind == .processDeployment
        }
        guard scaling.policy != nil, scaled.count > most else { return }
        self.report(
            model.origin,
            ConfigurationPath("spec", "variants").index(scaled[most]),
            "a ScalingPolicy scales at most \(most) variants of a model, and this one has "
                + "\(scaled.count) with a ProcessDeployment",
            hint: "remove variants that are not needed any more, or divide them among models"
        )
    }

    private mutating func checkObjectiveTarget(
        of model: Loaded<ModelSpec>,
        _ scaling: ModelScalingSpec
    ) {
        let policy = self.set.scalingPolicies.first {
            $0.name == scaling.policy && $0.namespace == model.namespace
        }
        guard let policy, policy.spec.targets.contains(.objective) else { return }
        let objectives = model.spec.objectives
        guard objectives.latency == nil && objectives.timeToFirstToken == nil else { return }
        // Wrong objectives have been reported as such.
        let given = model.origin.spec.record("objectives").keyPositions
        guard given["latency"] == nil && given["timeToFirstToken"] == nil else { return }
        // The others of the policy's targets still work, so the model can be served.
        self.report(
            model.origin,
            ConfigurationPath("spec", "scaling", "policy"),
            "ScalingPolicy `\(policy.name)` holds objectives, and the model has none for latency",
            hint: "add `objectives.latency` or `objectives.timeToFirstToken`",
            severity: .warning
        )
    }

    private mutating func checkBudget(of model: Loaded<ModelSpec>, _ scaling: ModelScalingSpec) {
        guard let share = scaling.budget else {
            return self.checkNoBudget(of: model, scaling)
        }
        let budget = self.set.resourceBudgets.first {
            $0.name == share.name && $0.namespace == model.namespace
        }
        guard let budget else { return }
        var cheapest: Int?
        for (index, variant) in model.spec.variants.enumerated() {
            let units = variant.scaling.budgetPerReplica ?? share.perReplica
            guard let least = variant.scaling.minReplicas else {
                cheapest = min(cheapest ?? units, units)
                continue
            }
            let path = ConfigurationPath("spec", "variants").index(index).field("scaling")
            if self.checkBudget(budget, of: model, path, least, units) { return }
        }
        guard let cheapest else { return }
        let path = ConfigurationPath("spec", "scaling")
        _ = self.checkBudget(budget, of: model, path, scaling.minReplicas, cheapest)
    }

    /// Whether the least was too much, and was reported.
    private mutating func checkBudget(
        _ budget: Loaded<ResourceBudgetSpec>,
        of model: Loaded<ModelSpec>,
        _ path: ConfigurationPath,
        _ count: Int,
        _ units: Int
    ) -> Bool {
        let least = count * units
        guard least > budget.spec.total else { return false }
        self.report(
            model.origin,
            path.field("minReplicas"),
            "\(count) replicas take \(least) of `\(budget.spec.resource)`, and "
                + "ResourceBudget `\(budget.name)` has \(budget.spec.total)",
            hint: "lower minReplicas, or raise the budget"
        )
        return true
    }

    /// Two models may share a server, but not both decide how many of it there are.
    private mutating func checkSharedWorkloads() {
        var owners: [ResourceID: String] = [:]
        for model in self.set.models where model.spec.scaling?.policy != nil {
            for reference in ModelReferences(model).all
            where reference.id.kind == .processDeployment {
                let owner = owners.updateValue(model.name, forKey: reference.id)
                guard let owner, owner != model.name else { continue }
                self.report(
                    model.origin,
                    reference.path,
                    "\(reference.id) would be scaled by two models",
                    hint: "model `\(owner)` scales it already; remove `scaling` from one of them"
                )
            }
        }
    }
}
