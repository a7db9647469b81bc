import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes

/// The custom resources of a cluster, and the configuration that they make.
///
/// Changes are gathered for a moment and then taken over together. While the server is gone the
/// configuration stays as it is. On the control loop's thread.
package final class ResourceDirectory {
    /// A custom resource as it was read.
    package struct Item {
        package var kind: Kind
        package var key: ObjectKey
        package var uid: String
        package var generation: Int
        package var version: ResourceVersion
        package var text: ResourceText
        package var status: JSONValue
    }

    package enum Kind: String, CaseIterable {
        case model = "Model"
        case scalingPolicy = "ScalingPolicy"
        case rolloutPolicy = "RolloutPolicy"
        case resourceBudget = "ResourceBudget"
        case tenant = "Tenant"

        package var resource: Kubernetes.Resource {
            let plural =
                switch self {
                case .model: "models"
                case .scalingPolicy: "scalingpolicies"
                case .rolloutPolicy: "rolloutpolicies"
                case .resourceBudget: "resourcebudgets"
                case .tenant: "tenants"
                }
            return Kubernetes.Resource(
                group: "weir.dev",
                version: "v1alpha1",
                kind: self.rawValue,
                plural: plural
            )
        }
    }

    /// How long changes are gathered.
    private static let gatherTime = Duration.milliseconds(10)

    /// Another configuration is in force, or other verdicts.
    package var onChange: (ResourceKeeper.Outcome) -> Void = { _ in }
    /// A Model's status is another one, and nothing else of it.
    package var onStatus: (Item) -> Void = { _ in }
    /// Something does not work; it is tried again.
    package var onProblem: (String) -> Void = { _ in }

    private let client: KubernetesClient
    private let namespaces: [String]?
    private var keeper: ResourceKeeper
    private var informers: [(kind: Kind, informer: Informer<Item>)] = []
    private var timer: LoopTimer?

    /// - Parameter namespaces: nil for all.
    package init(client: KubernetesClient, namespaces: [String]?, base: [ConfigurationFile]) {
        self.client = client
        self.namespaces = namespaces
        self.keeper = ResourceKeeper(base: base)
    }

    deinit {
        self.timer?.cancel()
    }

    package func start() {
        for namespace in self.namespaces.map({ $0.map(Optional.some) }) ?? [nil] {
            for kind in Kind.allCases { self.watch(kind, namespace) }
        }
    }

    package func stop() {
        self.timer?.cancel()
        self.timer = nil
        for (_, informer) in self.informers { informer.stop() }
    }

    /// Whether every kind has been read completely once.
    package var isSynced: Bool {
        !self.informers.isEmpty && self.informers.allSatisfy(\.informer.isSynced)
    }

    /// Why it is not synced, in words.
    package var waitingFor: String {
        for (kind, informer) in self.informers where !informer.isSynced {
            guard let problem = informer.problem else { continue }
            if problem.isNotFound {
                return "\(kind.resource) do not exist: install the custom resource definitions"
            }
            return "\(kind.resource) cannot be read: \(problem.reason)"
        }
        return "the resources are being read"
    }

    package func forEach(_ wanted: Kind, _ body: (Item) -> Void) {
        for (kind, informer) in self.informers where kind == wanted {
            informer.forEach { _, item in body(item) }
        }
    }

    package func item(_ kind: Kind, _ key: ObjectKey) -> Item? {
        self.informers.lazy.filter { $0.kind == kind }.compactMap { $0.informer[key] }.first
    }

    package func model(_ key: ObjectKey) -> Item? { self.item(.model, key) }

    private func watch(_ kind: Kind, _ namespace: String?) {
        let scope = InformerScope<Item>(kind.resource, namespace: namespace) { object in
            Item(kind, object)
        }
        let informer = Informer(self.client, scope)
        informer.handlers = InformerHandlers(
            onChange: { [weak self] change in
                // What the controller writes into the status changes nothing here, but for how a
                // rollout goes.
                if case .modified(_, let old, let new) = change, old.text == new.text,
                    old.generation == new.generation
                {
                    if kind == .model { self?.onStatus(new) }
                    return
                }
                self?.changed()
            },
            onSynced: { [weak self] in self?.changed() },
            onProblem: { [weak self] in self?.onProblem("\($0)") }
        )
        self.informers.append((kind, informer))
        informer.start()
    }

    private func changed() {
        if self.timer != nil { return }
        self.timer = self.client.loop.schedule(after: Self.gatherTime) { [weak self] in
            self?.timer = nil
            self?.assemble()
        }
    }

    private func assemble() {
        if !self.isSynced { return }
        var texts: [ResourceText] = []
        for (_, informer) in self.informers { informer.forEach { texts.append($1.text) } }
        guard let outcome = self.keeper.assemble(texts) else {
            return self.onProblem("no configuration can be made of the resources")
        }
        self.onChange(outcome)
    }
}

extension ResourceDirectory.Item {
    init(_ kind: ResourceDirectory.Kind, _ object: KubernetesObject) {
        let metadata = object.metadata
        self.kind = kind
        self.key = metadata.key
        self.uid = metadata.uid
        self.generation = metadata.generation
        self.version = metadata.resourceVersion
        self.status = object.status
        let document: JSONValue = [
            "apiVersion": .string(object.apiVersion), "kind": .string(kind.rawValue),
            "metadata": [
                "name": .string(metadata.name), "namespace": .string(metadata.namespace),
            ],
            "spec": object.spec,
        ]
        self.text = ResourceText(
            name: "\(kind.resource) \(metadata.key)",
            createdAt: metadata.creationTimestamp ?? "",
            kind: kind,
            text: document.text
        )
    }
}
