import Core
import HTTPService
import Kubernetes
import Orchestration

/// The templates that a Deployment's pods are made from.
extension KubernetesCluster {
    /// Names the template that the group's new pods are made from: equal templates have equal
    /// names, however often one is gone back to. Empty where that is not known.
    package func revision(ofGroup name: String) -> String {
        guard self.isSynced, let workload = self.workloads[name], let object = workload.object,
            workload.target.kind == .deployment, !object.revision.isEmpty
        else { return "" }
        return self.sets(of: object.uid).first { $0.revision == object.revision }?.hash ?? ""
    }

    /// A pod of any group: its state, and whether it is made from the template that new ones are.
    package func replica(uid: String) -> (status: ReplicaStatus, isCurrent: Bool)? {
        for workload in self.workloads.values {
            guard let status = workload.entries[uid]?.status else { continue }
            return (status, status.revision == workload.revision)
        }
        return nil
    }

    /// The pod's UID of a replica.
    package func uid(of replica: ReplicaID) -> String? {
        self.workloads[replica.group]?.entries.first { $0.value.status.id == replica }?.key
    }

    /// Gives a Deployment the template of an earlier revision again.
    ///
    /// - Parameters:
    ///   - revision: as `revision(ofGroup:)` names it.
    ///   - completion: nil, or why it did not work.
    package func rollBackTemplate(
        ofGroup name: String,
        to revision: String,
        completion: @escaping (String?) -> Void
    ) {
        guard let target = self.workloads[name]?.target, target.kind == .deployment else {
            return completion("\(name) is no Deployment: its template cannot be rolled back")
        }
        guard self.mayWrite() else { return completion("another controller leads") }
        self.client.get(.deployments, target.key) { [weak self] result in
            switch result {
            case .failure(let error): completion("\(error)")
            case .success(let deployment):
                self?.findRevision(revision, deployment, completion)
            }
        }
    }

    private func findRevision(
        _ revision: String,
        _ deployment: KubernetesObject,
        _ completion: @escaping (String?) -> Void
    ) {
        let options = ListOptions(namespace: deployment.key.namespace)
        self.client.listAll(.replicaSets, options, keeping: .withoutBookkeeping) {
            [weak self] result in
            guard let self else { return }
            switch result {
            case .failure(let error): completion("\(error)")
            case .success(let list):
                let set = list.items.first {
                    $0.metadata.labels[TemplateRollback.hashLabel] == revision
                        && $0.metadata.controller?.uid == deployment.metadata.uid
                }
                let number = set.flatMap {
                    Int($0.metadata.annotations[TemplateRollback.revisionAnnotation] ?? "")
                }
                guard let number else {
                    return completion(
                        "Deployment \(deployment.key) has no ReplicaSet of its last good template: "
                            + "raise its revisionHistoryLimit"
                    )
                }
                self.undo(deployment, list.items, to: number, completion)
            }
        }
    }

    private func undo(
        _ deployment: KubernetesObject,
        _ sets: [KubernetesObject],
        to number: Int,
        _ completion: @escaping (String?) -> Void
    ) {
        switch TemplateRollback.undo(deployment, replicaSets: sets, to: number) {
        case .unchanged: completion(nil)
        case .impossible(let why): completion(why)
        case .patch(let patch, _):
            guard self.mayWrite() else { return completion("another controller leads") }
            self.client.patch(.deployments, deployment.key, patch, as: .json) { result in
                switch result {
                case .success: completion(nil)
                case .failure(let error): completion("\(error)")
                }
            }
        }
    }
}
