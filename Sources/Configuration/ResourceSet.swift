/// Which resource: its kind, namespace and name.
package struct ResourceID: Sendable, Hashable, Comparable, CustomStringConvertible {
    package var kind: ResourceKind
    package var namespace: String
    package var name: String

    package init(kind: ResourceKind, namespace: String, name: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
    }

    /// The one Gateway, whatever its name.
    static let gateway = ResourceID(kind: .gateway, namespace: "", name: "")

    package static func < (left: ResourceID, right: ResourceID) -> Bool {
        (left.kind.rawValue, left.namespace, left.name)
            < (right.kind.rawValue, right.namespace, right.name)
    }

    package var description: String {
        let prefix =
            self.namespace == Metadata.defaultNamespace || self.namespace.isEmpty
            ? "" : "\(self.namespace)/"
        return self.name.isEmpty
            ? self.kind.rawValue : "\(self.kind.rawValue) \(prefix)\(self.name)"
    }
}

/// A resource with the tree it came from.
struct Loaded<Spec: Sendable & Equatable>: Sendable {
    var resource: Resource<Spec>
    var origin: LoadedResource

    var spec: Spec { self.resource.spec }
    var name: String { self.resource.metadata.name }
    var namespace: String { self.resource.metadata.namespace }
}

/// All resources of a configuration by kind, in the order they were read.
struct ResourceSet: Sendable {
    private(set) var gateways: [Loaded<GatewaySpec>] = []
    private(set) var models: [Loaded<ModelSpec>] = []
    private(set) var processDeployments: [Loaded<ProcessDeploymentSpec>] = []
    private(set) var scalingPolicies: [Loaded<ScalingPolicySpec>] = []
    private(set) var rolloutPolicies: [Loaded<RolloutPolicySpec>] = []
    private(set) var tenants: [Loaded<TenantSpec>] = []
    private(set) var resourceBudgets: [Loaded<ResourceBudgetSpec>] = []
    /// Every resource in the order it was read.
    private(set) var all: [LoadedResource] = []
    private(set) var documents: [ResourceID: Record] = [:]

    mutating func add(_ loaded: LoadedResource) {
        let source = loaded.source
        let spec = loaded.spec
        switch loaded.kind {
        case .gateway:
            self.gateways.append(Self.make(loaded, GatewaySpec(spec, source: source)))
        case .model: self.models.append(Self.make(loaded, ModelSpec(spec, source: source)))
        case .processDeployment:
            let deployment = ProcessDeploymentSpec(spec, source: source)
            self.processDeployments.append(Self.make(loaded, deployment))
        case .scalingPolicy:
            self.scalingPolicies.append(Self.make(loaded, ScalingPolicySpec(spec)))
        case .rolloutPolicy:
            self.rolloutPolicies.append(Self.make(loaded, RolloutPolicySpec(spec)))
        case .tenant: self.tenants.append(Self.make(loaded, TenantSpec(spec)))
        case .resourceBudget:
            self.resourceBudgets.append(Self.make(loaded, ResourceBudgetSpec(spec)))
        }
        self.all.append(loaded)
        self.documents[Self.id(of: loaded)] = loaded.root
    }

    /// Adds what was read of another file.
    mutating func add(_ other: ResourceSet) {
        self.gateways += other.gateways
        self.models += other.models
        self.processDeployments += other.processDeployments
        self.scalingPolicies += other.scalingPolicies
        self.rolloutPolicies += other.rolloutPolicies
        self.tenants += other.tenants
        self.resourceBudgets += other.resourceBudgets
        self.all += other.all
        self.documents.merge(other.documents) { $1 }
    }

    /// There is one Gateway, whose name says nothing.
    static func id(of loaded: LoadedResource) -> ResourceID {
        if loaded.kind == .gateway { return .gateway }
        let metadata = loaded.metadata
        return ResourceID(kind: loaded.kind, namespace: metadata.namespace, name: metadata.name)
    }

    private static func make<Spec>(_ loaded: LoadedResource, _ spec: Spec) -> Loaded<Spec> {
        Loaded(
            resource: Resource(metadata: loaded.metadata, spec: spec, source: loaded.source),
            origin: loaded
        )
    }
}
