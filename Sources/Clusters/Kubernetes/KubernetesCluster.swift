import Autoscaling
import Core
import EventLoop
import HTTPService
import Kubernetes
import Orchestration

// Design note
//
// The replicas of Deployments and of whatever else has a scale subresource, as pods of a Kubernetes
// cluster. Copies of the objects are kept by informers; what they mean is decided in Orchestration;
// here they are brought together and the calls are made.
//
//   Deployments ─┐                       ┌─▶ PUT /scale, compare-and-set
//   ReplicaSets ─┼─▶ Workload ─▶ ScaleDown ─▶ PATCH deletion cost of a pod
//   Pods ────────┘                       └─▶ drain: the owner tells the gateways
//   Nodes, ResourceQuotas ─▶ CapacityLedger
//
// Of other kinds than Deployments and StatefulSets the server is asked: how they are called, and by
// `/scale` for their number and the selector of their pods (`KubernetesCluster+Kinds`).
//
// Nothing is written while `mayWrite` is false, and none of what was meant to be written then is
// remembered by anybody but the machines: another leader begins from the cluster's own state. A
// conflict means that the object is read again and the step repeated.
//
// Limits: `ClusterLimits.groupsMax` workloads; one write per workload and one patch per pod at a
// time; the client's own rate. Not done here: deciding the number, choosing the rate.

/// What runs a group's pods.
package struct WorkloadTarget: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        case deployment = "Deployment"
        case statefulSet = "StatefulSet"
        case leaderWorkerSet = "LeaderWorkerSet"
    }

    /// The group's name.
    package var group: String
    package var kind: Kind
    package var key: ObjectKey
    package var port: UInt16

    package init(group: String, kind: Kind, key: ObjectKey, port: UInt16) {
        self.group = group
        self.kind = kind
        self.key = key
        self.port = port
    }
}

/// See the design note above. On the control loop's thread.
package final class KubernetesCluster: ReplicaSource {
    package struct Options {
        /// Nil for all namespaces.
        package var namespaces: [String]?
        /// How long a replica may finish its requests before it goes all the same.
        package var drainDeadline = Duration.seconds(30)

        package init() {}
    }

    /// Of a Deployment or StatefulSet.
    package struct WorkloadObject {
        package var uid: String
        package var replicas: Int
        package var generation: Int
        package var observedGeneration: Int
        package var revision: String
        /// How long a pod may take to become ready; nil where the workload says nothing.
        package var startupLimit: Duration?
        /// The condition `ReplicaFailure`, where it is true.
        package var failure: PodFacts.Reason?
    }

    struct ReplicaSetObject: Equatable {
        var uid: String
        var owner: String
        /// The number of the Deployment's revision that it is of.
        var revision: String
        /// The same for equal templates.
        var hash: String
    }

    package var onChange: ((ReplicaChange) -> Void)?
    /// Whether this process may write at this very moment.
    package var mayWrite: () -> Bool = { false }
    /// Whether no gateway sends the pod anything, and nothing is in flight there.
    package var isDrained: (_ uid: String) -> Bool = { _ in false }
    /// Requests in flight at a pod, over all gateways.
    package var streams: (_ uid: String) -> Int = { _ in 0 }
    /// The pods that gateways should drain have changed.
    package var onDraining: () -> Void = {}
    /// Something for people: the group, whether it is a warning, a reason in a word, a sentence.
    package var onNote: (Note) -> Void = { _ in }

    package struct Note {
        package var group: String
        package var isWarning: Bool
        package var reason: String
        package var text: String
        /// Set where it is about a pod.
        package var pod: ObjectKey?

        package init(
            group: String,
            isWarning: Bool,
            reason: String,
            text: String,
            pod: ObjectKey? = nil
        ) {
            self.group = group
            self.isWarning = isWarning
            self.reason = reason
            self.text = text
            self.pod = pod
        }
    }

    let client: KubernetesClient
    let options: Options
    let loop: EventLoop
    var workloads: [String: Workload] = [:]
    /// What the kinds are called in this cluster.
    var resources: [WorkloadTarget.Kind: Kubernetes.Resource] = [:]
    /// Why a kind cannot be had.
    var kindProblems: [WorkloadTarget.Kind: String] = [:]
    var kindsAskedUntil: [WorkloadTarget.Kind: Instant] = [:]
    private var groupsByKey: [WorkloadTarget.Kind: [ObjectKey: String]] = [:]
    private var groupsByUID: [String: String] = [:]
    private var sets: [String: ReplicaSetObject] = [:]
    /// The ReplicaSets of a Deployment, by UIDs.
    private var setsByOwner: [String: Set<String>] = [:]
    private var podsByController: [String: Set<ObjectKey>] = [:]
    private var workloadInformers: [WorkloadTarget.Kind: [Informer<WorkloadObject>]] = [:]
    private var setInformers: [Informer<ReplicaSetObject>] = []
    private(set) var podInformers: [Informer<Pod>] = []
    private var rivalInformers: [Informer<Rival>] = []
    var nodeInformer: Informer<CapacityLedger.Node>?
    var quotaInformers: [Informer<[String: CapacityLedger.Quota]>] = []
    /// What nodes and quotas have of counted resources.
    package internal(set) var stock = CapacityLedger()
    var nextSerial: UInt64 = 1
    private var changes: [ReplicaChange] = []
    private var isDelivering = false
    private(set) var isClosed = false
    /// Why the server cannot be asked; nil while it can.
    package private(set) var problem: String?

    package init(client: KubernetesClient, options: Options) {
        self.client = client
        self.options = options
        self.loop = client.loop
    }

    // MARK: Life

    package func start() {
        self.watchStock()
        for namespace in self.namespaces {
            self.watchPods(namespace)
            self.watchSets(namespace)
            self.watchRivals(namespace)
            for kind in WorkloadTarget.Kind.allCases {
                guard let resource = kind.builtIn else { continue }
                self.resources[kind] = resource
                self.watch(kind, resource, namespace)
            }
        }
    }

    package func stop() {
        self.isClosed = true
        self.stopStock()
        for informer in self.podInformers { informer.stop() }
        for informer in self.setInformers { informer.stop() }
        for informer in self.rivalInformers { informer.stop() }
        for informer in self.workloadInformers.values.flatMap({ $0 }) { informer.stop() }
    }

    /// Whether pods, and what every cluster has to own them, are all known.
    package var isSynced: Bool {
        self.podInformers.allSatisfy(\.isSynced) && self.setInformers.allSatisfy(\.isSynced)
            && self.workloadInformers.allSatisfy { kind, informers in
                kind.builtIn == nil || informers.allSatisfy(\.isSynced)
            }
    }

    package var podCount: Int { self.podInformers.reduce(0) { $0 + $1.count } }

    var namespaces: [String?] { self.options.namespaces.map { $0 } ?? [nil] }

    private func handlers<Value>(
        _ onChange: @escaping (ObjectChange<Value>) -> Void
    ) -> InformerHandlers<Value> {
        InformerHandlers(
            onChange: { [weak self] change in
                onChange(change)
                self?.deliver()
            },
            onSynced: { [weak self] in self?.synced() },
            onProblem: { [weak self] in self?.problem = "\($0)" }
        )
    }

    private func watchPods(_ namespace: String?) {
        let informer = Informer(self.client, .pods(namespace: namespace))
        informer.handlers = self.handlers { [weak self] in self?.podChanged($0) }
        self.podInformers.append(informer)
        informer.start()
    }

    private func watchSets(_ namespace: String?) {
        let scope = InformerScope<ReplicaSetObject>(
            .replicaSets,
            namespace: namespace,
            projection: .paths([
                "metadata.uid", "metadata.ownerReferences",
                "metadata.annotations[\(TemplateRollback.revisionAnnotation)]",
                "metadata.labels[\(TemplateRollback.hashLabel)]",
            ])
        ) { ReplicaSetObject($0) }
        let informer = Informer(self.client, scope)
        informer.handlers = self.handlers { [weak self] in self?.setChanged($0) }
        self.setInformers.append(informer)
        informer.start()
    }

    func watch(
        _ kind: WorkloadTarget.Kind,
        _ resource: Kubernetes.Resource,
        _ namespace: String?
    ) {
        let scope = InformerScope<WorkloadObject>(
            resource,
            namespace: namespace,
            projection: .paths([
                "metadata.uid", "metadata.generation", "spec.replicas",
                "spec.progressDeadlineSeconds", "status.conditions", "status.observedGeneration",
                "metadata.annotations[deployment.kubernetes.io/revision]",
            ])
        ) { WorkloadObject($0) }
        let informer = Informer(self.client, scope)
        informer.handlers = self.handlers { [weak self] change in
            self?.workloadChanged(kind, change)
        }
        self.workloadInformers[kind, default: []].append(informer)
        informer.start()
    }

    private func watchRivals(_ namespace: String?) {
        let scope = InformerScope<Rival>(
            .horizontalPodAutoscalers,
            namespace: namespace,
            projection: .paths([
                "metadata.name", "metadata.namespace", "metadata.ownerReferences",
                "spec.scaleTargetRef",
            ])
        ) { Rival($0) }
        let informer = Informer(self.client, scope)
        // Whoever may not list them goes without the warning; scaling does not depend on it.
        informer.handlers = InformerHandlers(onChange: { [weak self] change in
            self?.rivalChanged(change)
        })
        self.rivalInformers.append(informer)
        informer.start()
    }

    private func synced() {
        if !self.isSynced { return }
        self.problem = nil
        for name in self.workloads.keys { self.refresh(name) }
        self.deliver()
    }

    // MARK: Workloads

    /// The workloads there are from now on. Others are left as they are.
    package func follow(_ targets: [WorkloadTarget]) {
        let wanted = Dictionary(targets.map { ($0.group, $0) }) { first, _ in first }
        for (name, workload) in self.workloads where wanted[name] != workload.target {
            for entry in workload.entries.values { self.changes.append(.removed(entry.status.id)) }
            self.workloads[name] = nil
        }
        for (name, target) in wanted where self.workloads[name] == nil {
            guard self.workloads.count < ClusterLimits.groupsMax else { break }
            self.workloads[name] = Workload(target, drainDeadline: self.options.drainDeadline)
        }
        self.groupsByKey = [:]
        self.groupsByUID = [:]
        for (name, workload) in self.workloads {
            self.groupsByKey[workload.target.kind, default: [:]][workload.target.key] = name
            let informers = self.workloadInformers[workload.target.kind] ?? []
            let object = informers.lazy.compactMap { $0[workload.target.key] }.first
            if workload.target.kind.builtIn != nil {
                workload.object = object
            } else if let object, workload.object == nil {
                self.readScale(workload, object)
            }
            if let uid = workload.object?.uid { self.groupsByUID[uid] = name }
        }
        self.updateRivals()
        self.findKinds()
        if self.isSynced { for name in self.workloads.keys { self.refresh(name) } }
        self.deliver()
    }

    private func workloadChanged(
        _ kind: WorkloadTarget.Kind,
        _ change: ObjectChange<WorkloadObject>
    ) {
        guard let name = self.groupsByKey[kind]?[change.key], let workload = self.workloads[name]
        else { return }
        switch change {
        case .added(_, let object), .modified(_, _, let object):
            if kind.builtIn == nil { return self.readScale(workload, object) }
            self.set(object, of: workload)
        case .deleted:
            workload.unread = nil
            workload.selector = nil
            workload.selected = []
            self.set(nil, of: workload)
        }
    }

    /// The workload's object is this one from now on.
    func set(_ object: WorkloadObject?, of workload: Workload) {
        let name = workload.target.group
        let before = workload.object
        workload.object = object
        if let failure = object?.failure, before?.failure == nil {
            self.note(CreationFailure(reason: failure.reason, message: failure.message), workload)
        }
        if before?.uid != workload.object?.uid {
            if let uid = before?.uid { self.groupsByUID[uid] = nil }
            if let uid = workload.object?.uid { self.groupsByUID[uid] = name }
            workload.forgetNumbers()
        }
        if self.isSynced { self.refresh(name) }
    }

    private func setChanged(_ change: ObjectChange<ReplicaSetObject>) {
        switch change {
        case .added(_, let set): self.index(set, isPresent: true)
        case .modified(_, let old, let new):
            if old == new { return }
            self.index(old, isPresent: false)
            self.index(new, isPresent: true)
        case .deleted(_, let set): self.index(set, isPresent: false)
        }
    }

    private func index(_ set: ReplicaSetObject, isPresent: Bool) {
        if set.owner.isEmpty { return }
        let name = self.groupsByUID[set.owner]
        if isPresent {
            self.sets[set.uid] = set
            self.setsByOwner[set.owner, default: []].insert(set.uid)
        } else {
            self.sets[set.uid] = nil
            self.setsByOwner[set.owner]?.remove(set.uid)
            if self.setsByOwner[set.owner]?.isEmpty == true { self.setsByOwner[set.owner] = nil }
        }
        if self.isSynced, let name { self.refresh(name) }
    }

    private func podChanged(_ change: ObjectChange<Pod>) {
        self.account(change)
        let pod: Pod
        switch change {
        case .added(_, let new):
            pod = new
            self.index(new, isPresent: true)
        case .modified(_, let old, let new):
            pod = new
            if old.controller?.uid != new.controller?.uid || old.uid != new.uid {
                self.index(old, isPresent: false)
                self.index(new, isPresent: true)
            }
        case .deleted(_, let old):
            pod = old
            self.index(old, isPresent: false)
        }
        if case .deleted = change {
            self.select(pod.key, nil)
        } else {
            self.select(pod.key, pod)
        }
        guard self.isSynced, let controller = pod.controller?.uid,
            let name = self.group(ofController: controller)
        else { return }
        self.refresh(name)
    }

    private func index(_ pod: Pod, isPresent: Bool) {
        guard let uid = pod.controller?.uid else { return }
        if isPresent {
            self.podsByController[uid, default: []].insert(pod.key)
        } else {
            self.podsByController[uid]?.remove(pod.key)
            if self.podsByController[uid]?.isEmpty == true { self.podsByController[uid] = nil }
        }
    }

    private func group(ofController uid: String) -> String? {
        self.groupsByUID[uid] ?? self.sets[uid].flatMap { self.groupsByUID[$0.owner] }
    }

    /// The ReplicaSets of a Deployment.
    func sets(of uid: String) -> [ReplicaSetObject] {
        (self.setsByOwner[uid] ?? []).compactMap { self.sets[$0] }
    }

    /// The number of the revision that a pod is of; 1 where there are none.
    func revision(of pod: Pod) -> Int {
        pod.controller.flatMap { self.sets[$0.uid] }.flatMap { Int($0.revision) } ?? 1
    }

    /// The pods that a workload's controllers have made.
    private func pods(of workload: Workload) -> [Pod] {
        guard let uid = workload.object?.uid else { return [] }
        if workload.target.kind.builtIn == nil { return workload.selected.compactMap(self.pod) }
        let controllers =
            workload.target.kind == .deployment ? self.setsByOwner[uid] ?? [] : [uid]
        return controllers.flatMap { controller in
            (self.podsByController[controller] ?? []).compactMap(self.pod)
        }
    }

    private func pod(_ key: ObjectKey) -> Pod? {
        self.podInformers.lazy.compactMap { $0[key] }.first
    }

    func refresh(_ name: String) {
        guard let workload = self.workloads[name] else { return }
        self.update(workload, self.pods(of: workload))
        self.observeNumber(workload)
        self.reconcile(workload)
    }

    // MARK: Rivals

    private func rivalChanged(_ change: ObjectChange<Rival>) {
        self.updateRivals()
        for workload in self.workloads.values { self.reconcile(workload) }
    }

    private func updateRivals() {
        var byTarget: [String: Set<String>] = [:]
        for informer in self.rivalInformers {
            informer.forEach { _, rival in
                byTarget[rival.target, default: []].insert(rival.name)
            }
        }
        for workload in self.workloads.values {
            let target = workload.target
            let rivals = byTarget["\(target.kind.rawValue) \(target.key)"] ?? []
            if !rivals.isEmpty, rivals != workload.watch.rivals {
                self.onNote(
                    Note(
                        group: target.group,
                        isWarning: true,
                        reason: "SecondWriter",
                        text: "\(rivals.sorted().joined(separator: ", ")) scales "
                            + "\(target.kind.rawValue) \(target.key) too: Weir does not write it"
                    )
                )
            }
            workload.watch.rivals = rivals
            if !rivals.isEmpty { workload.wanted = nil }
        }
    }

    // MARK: Changes

    func append(_ change: ReplicaChange) { self.changes.append(change) }

    /// Tells of what changed, now that everything fits together again.
    func deliver() {
        if self.isDelivering { return }
        self.isDelivering = true
        while !self.changes.isEmpty {
            let changes = self.changes
            self.changes = []
            for change in changes { self.onChange?(change) }
        }
        self.isDelivering = false
    }
}

/// An autoscaler of somebody else's.
struct Rival {
    var name: String
    /// `Deployment ns/name`.
    var target: String

    init(_ object: KubernetesObject) {
        let key = object.key
        let reference = object[path: "spec", "scaleTargetRef"]
        let target = ObjectKey(
            namespace: key.namespace,
            name: reference["name"].string ?? ""
        )
        // KEDA and its like work through an HPA of their own.
        let owner = object.metadata.controller
        self.name =
            owner.map { "\($0.kind) \(key.namespace)/\($0.name)" }
            ?? "HorizontalPodAutoscaler \(key)"
        self.target = "\(reference["kind"].string ?? "") \(target)"
    }
}

extension KubernetesCluster.ReplicaSetObject {
    init(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.uid = metadata.uid
        self.owner = metadata.controller?.uid ?? ""
        self.revision = metadata.annotations[TemplateRollback.revisionAnnotation] ?? ""
        self.hash = metadata.labels[TemplateRollback.hashLabel] ?? ""
    }
}

extension KubernetesCluster.WorkloadObject {
    init(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.uid = metadata.uid
        self.generation = metadata.generation
        // The API's own default.
        self.replicas = object.spec["replicas"].integer ?? 1
        self.observedGeneration = object.status["observedGeneration"].integer ?? 0
        self.revision = metadata.annotations["deployment.kubernetes.io/revision"] ?? ""
        let limit = object.spec["progressDeadlineSeconds"].integer ?? 0
        self.startupLimit = limit > 0 ? .seconds(limit) : nil
        let failure = object.status["conditions"].elements.first {
            $0["type"].string == "ReplicaFailure" && $0["status"].string == "True"
        }
        self.failure = failure.map {
            PodFacts.Reason($0["reason"].string ?? "", $0["message"].string ?? "")
        }
    }
}
