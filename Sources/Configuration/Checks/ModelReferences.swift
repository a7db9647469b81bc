/// What a model refers to by name.
struct ModelReferences {
    struct Reference {
        var id: ResourceID
        var path: ConfigurationPath
    }

    private(set) var all: [Reference] = []

    init(_ model: Loaded<ModelSpec>) {
        func add(
            _ kind: ResourceKind,
            _ name: String?,
            _ path: @autoclosure () -> ConfigurationPath
        ) {
            guard let name, !name.isEmpty else { return }
            let id = ResourceID(kind: kind, namespace: model.namespace, name: name)
            self.all.append(Reference(id: id, path: path()))
        }
        for (index, variant) in model.spec.variants.enumerated() {
            guard case .workload(let reference) = variant.backend else { continue }
            // What is on the cluster is not in these files.
            if reference.kind.isOnCluster { continue }
            add(
                .processDeployment,
                reference.name,
                ConfigurationPath("spec", "variants").index(index).field("workloadRef")
                    .field("name")
            )
        }
        let scaling = model.spec.scaling
        add(.scalingPolicy, scaling?.policy, ConfigurationPath("spec", "scaling", "policy"))
        add(
            .resourceBudget,
            scaling?.budget?.name,
            ConfigurationPath("spec", "scaling", "budget", "name")
        )
        add(
            .rolloutPolicy,
            model.spec.rolloutPolicy,
            ConfigurationPath("spec", "rollout", "policy")
        )
    }
}
