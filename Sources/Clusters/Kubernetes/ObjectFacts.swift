import HTTPService
import Kubernetes
import Orchestration

extension EndpointSlice {
    /// What is read of a slice.
    package static let projection = JSONProjection.paths([
        "metadata.name", "metadata.namespace", "metadata.resourceVersion",
        "metadata.labels[kubernetes.io/service-name]", "addressType", "ports",
        "endpoints.addresses", "endpoints.conditions", "endpoints.targetRef",
    ])

    /// Version `v1` or `v1beta1`: they differ in what is not read here.
    package init(_ object: KubernetesObject) {
        let metadata = object.metadata
        let service = metadata.labels["kubernetes.io/service-name"] ?? ""
        self.init(
            key: metadata.key.description,
            service: service.isEmpty
                ? "" : ObjectKey(namespace: metadata.namespace, name: service).description,
            family: Family(rawValue: object["addressType"].string ?? "") ?? .fqdn,
            ports: object["ports"].elements.map { port in
                Port(
                    name: port["name"].string ?? "",
                    number: port["port"].integer,
                    isTCP: (port["protocol"].string ?? "TCP") == "TCP"
                )
            },
            endpoints: object["endpoints"].elements.map { endpoint in
                let conditions = endpoint["conditions"]
                let target = endpoint["targetRef"]
                let isPod = target["kind"].string == "Pod"
                return Endpoint(
                    addresses: endpoint["addresses"].elements.compactMap(\.string),
                    ready: conditions["ready"].bool,
                    serving: conditions["serving"].bool,
                    terminating: conditions["terminating"].bool,
                    podUID: isPod ? target["uid"].string ?? "" : "",
                    podName: isPod ? target["name"].string ?? "" : ""
                )
            }
        )
    }
}

extension PodFacts {
    package init(_ pod: Pod) {
        let phase: Phase =
            switch pod.phase {
            case .pending: .pending
            case .running: .running
            case .succeeded: .succeeded
            case .failed: .failed
            case .unknown: .unknown
            }
        self.init(uid: pod.uid, name: pod.key.name, phase: phase)
        self.isTerminating = pod.isTerminating
        self.isReady = pod.isReady
        if !pod.isScheduled, !pod.schedulingReason.isEmpty {
            self.unscheduled = Reason(pod.schedulingReason, pod.schedulingMessage)
        }
        self.containers = pod.troubles.enumerated().map { index, trouble in
            Container(
                name: trouble.container,
                waitingReason: trouble.reason.isEmpty ? nil : trouble.reason,
                waitingMessage: trouble.message,
                ended: trouble.ended.map {
                    Ended(reason: $0.reason, exitCode: $0.exitCode, message: $0.message)
                },
                restarts: index == 0 ? pod.restarts : 0
            )
        }
        if pod.troubles.isEmpty, pod.restarts > 0 {
            self.containers = [Container(name: "", restarts: pod.restarts, isReady: pod.isReady)]
        }
    }
}
