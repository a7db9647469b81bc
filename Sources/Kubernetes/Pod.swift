import Core
import HTTPService

/// Why an object is not what its kind promises.
package struct ObjectProblem: Error, Sendable, Hashable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) {
        self.description = description
    }
}

/// Labels that many objects share are kept once.
package final class LabelSet: Sendable, Hashable {
    package let labels: [String: String]

    init(_ labels: [String: String]) {
        self.labels = labels
    }

    package static func == (left: LabelSet, right: LabelSet) -> Bool {
        left === right || left.labels == right.labels
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(self.labels) }
}

/// What of a pod decides about replicas: kept small, as there may be 100 000 of them.
package final class Pod: Sendable {
    package enum Phase: String, Sendable {
        case pending = "Pending"
        case running = "Running"
        case succeeded = "Succeeded"
        case failed = "Failed"
        case unknown = "Unknown"
    }

    /// Why a container is not running, as the kubelet says it.
    package struct ContainerTrouble: Sendable, Hashable {
        package var container: String
        /// `CrashLoopBackOff`, `ImagePullBackOff`, `OOMKilled`, …
        package var reason: String
        package var message: String
        /// How it ended the last time, where it did.
        package var ended: ContainerEnd?
    }

    package struct ContainerEnd: Sendable, Hashable {
        package var reason: String
        package var exitCode: Int
        package var message: String
    }

    package let key: ObjectKey
    package let uid: String
    private let labelSet: LabelSet
    /// What manages it, a ReplicaSet for most; nil for a bare pod.
    package let controller: OwnerReference?
    package let nodeName: String
    package let podIP: String
    package let phase: Phase
    package let isReady: Bool
    /// Somebody has asked for its deletion; when, as seconds since 1970.
    package let deletedAt: Double?
    package let createdAt: Double
    /// Since when it is ready.
    package let readySince: Double?
    package let isScheduled: Bool
    /// Why it is not scheduled: `Unschedulable`, and the scheduler's words.
    package let schedulingReason: String
    package let schedulingMessage: String
    /// Of all its containers together.
    package let restarts: Int
    package let troubles: [ContainerTrouble]
    /// What its containers ask for of things that are counted, such as `nvidia.com/gpu`.
    package let extendedResources: [String: Int]
    /// `controller.kubernetes.io/pod-deletion-cost`.
    package let deletionCost: Int?
    /// The container port named `metrics`, where there is one.
    package let metricsPort: UInt16?

    package var labels: [String: String] { self.labelSet.labels }
    package var isTerminating: Bool { self.deletedAt != nil }

    package static let deletionCostAnnotation = "controller.kubernetes.io/pod-deletion-cost"
    static let messageBytesMax = 512

    /// What is read of a pod; `Pod.Reader` needs no more.
    package static let projection = JSONProjection.paths([
        "metadata.name", "metadata.namespace", "metadata.uid", "metadata.resourceVersion",
        "metadata.labels", "metadata.ownerReferences", "metadata.deletionTimestamp",
        "metadata.creationTimestamp", "metadata.annotations[\(deletionCostAnnotation)]",
        "spec.nodeName", "spec.containers.name", "spec.containers.resources",
        "spec.containers.ports.name", "spec.containers.ports.containerPort",
        "status.phase", "status.podIP", "status.conditions", "status.containerStatuses.name",
        "status.containerStatuses.state", "status.containerStatuses.lastState.terminated",
        "status.containerStatuses.ready", "status.containerStatuses.restartCount",
        "status.initContainerStatuses.name", "status.initContainerStatuses.state",
        "status.initContainerStatuses.lastState.terminated",
        "status.initContainerStatuses.ready", "status.initContainerStatuses.restartCount",
    ])

    /// Reads pods, and keeps once what many of them share. On one thread.
    package final class Reader {
        /// Texts and sets of labels that are remembered; beyond, they are not shared.
        package static let sharedMax = 65_536
        private var texts: Set<String> = []
        private var labels: Set<LabelSet> = []
        private var owners: [OwnerReference: OwnerReference] = [:]

        package init() {}

        package func pod(_ object: KubernetesObject) throws(ObjectProblem) -> Pod {
            try Pod(object, self)
        }

        fileprivate func shared(_ text: String) -> String {
            // Short ones lie in the value itself.
            if text.utf8.count <= 15 { return text }
            if let index = self.texts.firstIndex(of: text) { return self.texts[index] }
            if self.texts.count < Self.sharedMax { self.texts.insert(text) }
            return text
        }

        fileprivate func shared(_ labels: [String: String]) -> LabelSet {
            let own = LabelSet(labels)
            if let index = self.labels.firstIndex(of: own) { return self.labels[index] }
            var pairs: [String: String] = [:]
            for (name, value) in labels { pairs[self.shared(name)] = self.shared(value) }
            let kept = LabelSet(pairs)
            if self.labels.count < Self.sharedMax { self.labels.insert(kept) }
            return kept
        }

        fileprivate func shared(_ owner: OwnerReference) -> OwnerReference {
            if let kept = self.owners[owner] { return kept }
            if self.owners.count < Self.sharedMax { self.owners[owner] = owner }
            return owner
        }
    }

    private init(_ object: KubernetesObject, _ reader: Reader) throws(ObjectProblem) {
        let metadata = object.metadata
        guard !metadata.name.isEmpty, !metadata.namespace.isEmpty else {
            throw ObjectProblem("a pod without name or namespace")
        }
        self.key = ObjectKey(
            namespace: reader.shared(metadata.namespace),
            name: metadata.name
        )
        self.uid = metadata.uid
        self.labelSet = reader.shared(metadata.labels)
        self.controller = metadata.controller.map(reader.shared)
        self.deletedAt = metadata.deletionTimestamp.flatMap(WallTime.seconds)
        self.createdAt = metadata.creationTimestamp.flatMap(WallTime.seconds) ?? 0
        self.deletionCost = metadata.annotations[Self.deletionCostAnnotation].flatMap { Int($0) }
        let status = object.status
        self.nodeName = reader.shared(object.spec["nodeName"].string ?? "")
        self.podIP = status["podIP"].string ?? ""
        self.phase = status["phase"].string.flatMap(Phase.init) ?? .unknown
        let ready = Self.condition("Ready", of: status)
        self.isReady = ready["status"].string == "True"
        self.readySince =
            self.isReady ? ready["lastTransitionTime"].string.flatMap(WallTime.seconds) : nil
        let scheduled = Self.condition("PodScheduled", of: status)
        self.isScheduled = scheduled["status"].string == "True" || !self.nodeName.isEmpty
        self.schedulingReason = scheduled["reason"].string ?? ""
        self.schedulingMessage = reader.shared(
            EventSeries.clip(scheduled["message"].string ?? "", Self.messageBytesMax)
        )
        let containers =
            status["initContainerStatuses"].elements + status["containerStatuses"].elements
        self.restarts = containers.reduce(0) { $0 + max(0, $1["restartCount"].integer ?? 0) }
        self.troubles = containers.compactMap { Self.trouble($0, reader) }
        self.extendedResources = Self.resources(of: object.spec, reader)
        let ports = object.spec["containers"].elements.flatMap { $0["ports"].elements }
        self.metricsPort = ports.first { $0["name"].string == "metrics" }
            .flatMap { $0["containerPort"].integer }.flatMap { UInt16(exactly: $0) }
    }

    private static func condition(_ type: String, of status: JSONValue) -> JSONValue {
        status["conditions"].elements.first { $0["type"].string == type } ?? .null
    }

    private static func trouble(_ status: JSONValue, _ reader: Reader) -> ContainerTrouble? {
        let state = status["state"]
        let isEnded = !state["terminated"].isNull
        let what = isEnded ? state["terminated"] : state["waiting"]
        let reason = what["reason"].string ?? ""
        // What every start and every good end goes through is no trouble, unless it was started
        // again before and is not well yet.
        let harmless = ["", "ContainerCreating", "PodInitializing", "Completed"]
        let before = status["lastState"]["terminated"]
        let isAgain = !before.isNull && !(status["ready"].bool ?? false)
        if !isAgain, what.isNull || harmless.contains(reason) { return nil }
        let message = EventSeries.clip(what["message"].string ?? "", self.messageBytesMax)
        return ContainerTrouble(
            container: reader.shared(status["name"].string ?? ""),
            reason: reader.shared(reason),
            message: message,
            ended: Self.end(isEnded ? what : before, reader)
        )
    }

    private static func end(_ value: JSONValue, _ reader: Reader) -> ContainerEnd? {
        guard let code = value["exitCode"].integer else { return nil }
        return ContainerEnd(
            reason: reader.shared(value["reason"].string ?? ""),
            exitCode: code,
            message: EventSeries.clip(value["message"].string ?? "", self.messageBytesMax)
        )
    }

    /// Names with a slash, which are counted; the limit where no request is given, as they are one.
    private static func resources(of spec: JSONValue, _ reader: Reader) -> [String: Int] {
        var result: [String: Int] = [:]
        for container in spec["containers"].elements {
            let resources = container["resources"]
            let asked = resources["limits"].members + resources["requests"].members
            var own: [String: Int] = [:]
            for member in asked where member.name.contains("/") {
                let count = member.value.integer ?? member.value.string.flatMap { Int($0) }
                if let count, count > 0 { own[reader.shared(member.name)] = count }
            }
            result.merge(own) { $0 &+ $1 }
        }
        return result
    }
}

extension InformerScope where Value == Pod {
    /// Pods, as small as can be.
    package static func pods(
        namespace: String? = nil,
        labelSelector: String? = nil
    ) -> InformerScope<Pod> {
        let reader = Pod.Reader()
        var scope = InformerScope<Pod>(
            .pods,
            namespace: namespace,
            projection: Pod.projection
        ) { try reader.pod($0) }
        scope.labelSelector = labelSelector
        return scope
    }
}
