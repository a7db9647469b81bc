import Core
import EventLoop
import Kubernetes
import Orchestration

// Kinds of workloads that not every cluster has, or that are not built in: the server is asked how
// they are called, and their scale subresource for the number and for the selector of their pods.

extension WorkloadTarget.Kind {
    /// Nil where the server has to be asked.
    var builtIn: Kubernetes.Resource? {
        switch self {
        case .deployment: .deployments
        case .statefulSet: .statefulSets
        case .leaderWorkerSet: nil
        }
    }

    /// Of its API.
    var group: String {
        switch self {
        case .deployment, .statefulSet: "apps"
        case .leaderWorkerSet: "leaderworkerset.x-k8s.io"
        }
    }

    /// Its pods are numbered, and the highest number goes first whatever the pods' marks say.
    var isOrdered: Bool {
        switch self {
        case .deployment: false
        case .statefulSet, .leaderWorkerSet: true
        }
    }
}

extension KubernetesCluster {
    /// How long after it was missing a kind is asked for again.
    private static let kindRetry = Duration.seconds(30)

    /// Looks for the kinds of the workloads that are followed.
    func findKinds() {
        let kinds = Set(self.workloads.values.map(\.target.kind))
        for kind in kinds where self.resources[kind] == nil { self.find(kind) }
    }

    private func find(_ kind: WorkloadTarget.Kind) {
        let now = self.loop.now
        if self.isClosed || self.kindsAskedUntil[kind].map({ now < $0 }) ?? false { return }
        self.kindsAskedUntil[kind] = now + Self.kindRetry
        self.client.discover(group: kind.group, kind: kind.rawValue) { [weak self] result in
            guard let self, !self.isClosed, self.resources[kind] == nil else { return }
            switch result {
            case .success(let found?) where found.isScalable:
                self.kindProblems[kind] = nil
                self.resources[kind] = found.resource
                for namespace in self.namespaces { self.watch(kind, found.resource, namespace) }
            case .success(.some):
                self.kindProblems[kind] = "\(kind.rawValue) has no scale subresource here"
            case .success(nil):
                self.kindProblems[kind] = "this cluster has no kind \(kind.rawValue)"
            case .failure(let error):
                self.kindProblems[kind] =
                    error.isNotFound
                    ? "this cluster has no kind \(kind.rawValue): install \(kind.group)"
                    : "\(kind.rawValue) cannot be asked for: \(error)"
            }
        }
    }

    /// Reads the number and the selector of a workload whose object has changed, one call at a
    /// time.
    func readScale(_ workload: Workload, _ object: WorkloadObject) {
        workload.unread = object
        guard !workload.isReading, let resource = self.resources[workload.target.kind] else {
            return
        }
        workload.isReading = true
        self.client.scale(of: resource, workload.target.key) { [weak self, weak workload] result in
            guard let self, let workload, !self.isClosed else { return }
            workload.isReading = false
            guard let object = workload.unread else { return }
            switch result {
            case .failure(let error):
                // A change is told again by the next event; what is gone needs no number.
                if !error.isNotFound, !error.isCancelled {
                    workload.lastProblem = "its scale cannot be read: \(error)"
                }
            case .success(let scale) where scale.uid == object.uid:
                workload.unread = nil
                self.take(scale, workload, object)
            case .success: self.readScale(workload, object)
            }
        }
    }

    private func take(_ scale: Scale, _ workload: Workload, _ object: WorkloadObject) {
        var object = object
        object.replicas = scale.replicas
        let selector = LabelSelector(text: scale.selector)
        if selector != workload.selector {
            workload.selector = selector
            workload.selected = self.pods(matching: selector, in: workload.target.key.namespace)
        }
        self.set(object, of: workload)
        self.deliver()
    }

    private func pods(matching selector: LabelSelector?, in namespace: String) -> Set<ObjectKey> {
        guard let selector else { return [] }
        var found: Set<ObjectKey> = []
        for informer in self.podInformers {
            informer.forEach { key, pod in
                if key.namespace == namespace, selector.matches(pod.labels) { found.insert(key) }
            }
        }
        return found
    }

    /// A pod has changed: the workloads that select it, now or before.
    /// - Parameter pod: nil where it is gone.
    func select(_ key: ObjectKey, _ pod: Pod?) {
        for (name, workload) in self.workloads {
            guard let selector = workload.selector, workload.target.key.namespace == key.namespace
            else { continue }
            let isSelected = pod.map { selector.matches($0.labels) } ?? false
            let wasSelected = workload.selected.contains(key)
            if isSelected { workload.selected.insert(key) } else { workload.selected.remove(key) }
            if self.isSynced, isSelected || wasSelected { self.refresh(name) }
        }
    }
}
