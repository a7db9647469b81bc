import Core
import EventLoop
import HTTPService
import Kubernetes
import Orchestration

// What the cluster has of counted resources: nodes, what pods take, quotas. Nodes belong to no
// namespace: whoever may not list them goes without, and scales as before.

extension KubernetesCluster {
    func watchStock() {
        let nodes = InformerScope<CapacityLedger.Node>(
            .nodes,
            projection: .paths([
                "metadata.name", "metadata.labels", "spec.unschedulable", "status.allocatable",
                "status.conditions",
            ])
        ) { CapacityLedger.Node($0) }
        let informer = Informer(self.client, nodes)
        informer.handlers = InformerHandlers(onChange: { [weak self] change in
            switch change {
            case .added(let key, let node), .modified(let key, _, let node):
                self?.stock.set(node, named: key.name)
            case .deleted(let key, _): self?.stock.set(nil, named: key.name)
            }
        })
        self.nodeInformer = informer
        informer.start()
        for namespace in self.namespaces { self.watchQuotas(namespace) }
    }

    private func watchQuotas(_ namespace: String?) {
        let scope = InformerScope<[String: CapacityLedger.Quota]>(
            .resourceQuotas,
            namespace: namespace,
            projection: .paths(["metadata.name", "metadata.namespace", "spec.scopes", "status"])
        ) { QuotaLimits.read($0) }
        let informer = Informer(self.client, scope)
        informer.handlers = InformerHandlers(onChange: { [weak self] change in
            let limits: [String: CapacityLedger.Quota]
            switch change {
            case .added(_, let new), .modified(_, _, let new): limits = new
            case .deleted: limits = [:]
            }
            self?.stock.set(
                limits,
                ofQuota: change.key.description,
                in: change.key.namespace
            )
        })
        self.quotaInformers.append(informer)
        informer.start()
    }

    func stopStock() {
        self.nodeInformer?.stop()
        for informer in self.quotaInformers { informer.stop() }
    }

    /// What a pod takes of its node, as it is now.
    func account(_ change: ObjectChange<Pod>) {
        switch change {
        case .added(_, let pod): self.account(pod)
        case .modified(_, let old, let pod):
            if old.uid != pod.uid { self.stock.set([:], ofPod: old.uid, on: "") }
            self.account(pod)
        case .deleted(_, let pod): self.stock.set([:], ofPod: pod.uid, on: "")
        }
    }

    private func account(_ pod: Pod) {
        let isOver = pod.phase == .succeeded || pod.phase == .failed
        self.stock.set(isOver ? [:] : pod.extendedResources, ofPod: pod.uid, on: pod.nodeName)
    }
}

extension CapacityLedger.Node {
    /// Labels that name a node's pool, first come first served: those of node autoscalers and
    /// clouds, then what any node has.
    private static let poolLabels = [
        "karpenter.sh/nodepool", "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup",
        "kubernetes.azure.com/agentpool", "nvidia.com/gpu.product",
        "node.kubernetes.io/instance-type",
    ]

    init(_ object: KubernetesObject) {
        let labels = object.metadata.labels
        var allocatable: [String: Int] = [:]
        for member in object.status["allocatable"].members where member.name.contains("/") {
            if let count = Quantity.units(member.value), count > 0 {
                allocatable[member.name] = count
            }
        }
        let isReady = object.status["conditions"].elements.contains {
            $0["type"].string == "Ready" && $0["status"].string == "True"
        }
        self.init(
            pool: Self.poolLabels.lazy.compactMap { labels[$0] }.first ?? "",
            allocatable: allocatable,
            takesPods: isReady && !(object.spec["unschedulable"].bool ?? false)
        )
    }
}

/// What a ResourceQuota says of counted resources.
enum QuotaLimits {
    /// Extended resources are limited by what is requested, which is what is used.
    private static let prefix = "requests."

    /// By the resource's name. A quota for some pods alone says nothing of ours.
    static func read(_ object: KubernetesObject) -> [String: CapacityLedger.Quota] {
        if !object.spec["scopes"].elements.isEmpty { return [:] }
        let used = object.status["used"]
        var limits: [String: CapacityLedger.Quota] = [:]
        for member in object.status["hard"].members where member.name.hasPrefix(self.prefix) {
            let resource = String(member.name.dropFirst(self.prefix.count))
            guard resource.contains("/"), let hard = Quantity.units(member.value) else { continue }
            let count = Quantity.units(used[member.name]) ?? 0
            limits[resource] = CapacityLedger.Quota(hard: hard, used: count)
        }
        return limits
    }
}

/// Amounts as Kubernetes writes them (`resource.Quantity`).
enum Quantity {
    private static let factors: [String: Double] = [
        "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1_024, "Mi": 1_048_576,
        "Gi": 1_073_741_824, "Ti": 1_099_511_627_776, "m": 1e-3,
    ]

    /// Whole units, rounded down; nil where it is no amount.
    static func units(_ value: JSONValue) -> Int? {
        if let number = value.integer { return number }
        guard let text = value.string else { return nil }
        let digits = text.prefix { $0.isNumber || $0 == "." || $0 == "-" || $0 == "+" }
        let rest = text[digits.endIndex...]
        if rest.first == "e" || rest.first == "E", let number = Double(text) {
            return Int(exactly: number.rounded(.down))
        }
        guard let number = Double(digits), let factor = self.factors[String(rest)] else {
            return nil
        }
        return Int(exactly: (number * factor).rounded(.down))
    }
}
