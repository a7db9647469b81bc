/// What a model refers to by name.
struct ModelReferences {
    struct Reference {
        var id: ResourceID
        var path: ConfigurationPath
    }

    private(set) var all: [Reference] = []

    init(_ model: Loaded<ModelSpec>) {
        let spec = ConfigurationPath("spec")
        func add(_ kind: ResourceKind, _ name: String?, _ path: ConfigurationPath) {
            guard let name, !name.isEmpty else { return }
            let id = ResourceID(kind: kind, namespace: model.namespace, name: name)
            self.all.append(Reference(id: id, path: path))
        }
        for (index, variant) in model.spec.variants.enumerated() {
            guard case .workload(let reference) = variant.backend else { continue }
            // What is on the cluster is not in these files.
            if reference.kind.isOnCluster { continue }
            let path = spec.field("variants").index(index).field("workloadRef").field("name")
            add(.processDeployment, reference.name, path)
        }
        let scaling = spec.field("scaling")
        add(.scalingPolicy, model.spec.scaling?.policy, scaling.field("policy"))
        add(
            .resourceBudget,
            model.spec.scaling?.budget?.name,
            scaling.field("budget").field("name")
        )
        add(.rolloutPolicy, model.spec.rolloutPolicy, spec.field("rollout").field("policy"))
    }
}
