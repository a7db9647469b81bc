import HTTPService
import Kubernetes

/// Takes a Deployment's pod template back to an earlier revision, as `kubectl rollout undo` does
/// (kubectl, polymorphichelpers/rollback.go): the template and the annotations of the revision's
/// ReplicaSet, without what belongs to the ReplicaSet or to the Deployment itself.
package enum TemplateRollback {
    package enum Outcome: Equatable {
        /// A JSON patch (RFC 6902) of the Deployment, and the revision that it returns to. Refused
        /// by the server if the Deployment has changed since it was read.
        case patch(JSONValue, revision: Int)
        /// The template is that of the revision already.
        case unchanged(revision: Int)
        /// Why it cannot be done, for people.
        case impossible(String)
    }

    static let revisionAnnotation = "deployment.kubernetes.io/revision"
    static let hashLabel = "pod-template-hash"
    /// Annotations that stay as the Deployment has them.
    static let ownAnnotations = [
        "kubectl.kubernetes.io/last-applied-configuration", Self.revisionAnnotation,
        "deployment.kubernetes.io/revision-history",
        "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
    ]

    /// - Parameters:
    ///   - replicaSets: any; those that the Deployment does not control are left out.
    ///   - revision: 0 for the one before the present one.
    package static func undo(
        _ deployment: KubernetesObject,
        replicaSets: [KubernetesObject],
        to revision: Int = 0
    ) -> Outcome {
        let name = deployment.key
        if deployment.spec["paused"].bool ?? false {
            return .impossible("Deployment \(name) is paused: resume it first")
        }
        let uid = deployment.metadata.uid
        let owned = replicaSets.filter { $0.metadata.controller?.uid == uid && !uid.isEmpty }
        let revisions = owned.compactMap { set in Self.number(set).map { ($0, set) } }
            .sorted { $0.0 > $1.0 }
        let found =
            revision == 0 ? revisions.dropFirst().first : revisions.first { $0.0 == revision }
        guard let (number, set) = found else {
            return .impossible(
                revision == 0
                    ? "Deployment \(name) has no earlier revision"
                    : "Deployment \(name) has no revision \(revision)"
            )
        }
        let template = Self.template(of: set)
        if Self.template(of: deployment) == template { return .unchanged(revision: number) }
        return .patch(
            [
                [
                    "op": "test", "path": "/metadata/resourceVersion",
                    "value": .string(deployment.metadata.resourceVersion.text),
                ],
                ["op": "replace", "path": "/spec/template", "value": template],
                // `add` replaces what is there, and works where nothing is.
                [
                    "op": "add", "path": "/metadata/annotations",
                    "value": Self.annotations(deployment, set),
                ],
            ],
            revision: number
        )
    }

    private static func number(_ set: KubernetesObject) -> Int? {
        set.metadata.annotations[self.revisionAnnotation].flatMap { Int($0) }
    }

    /// The template without the label that tells ReplicaSets apart.
    private static func template(of object: KubernetesObject) -> JSONValue {
        var template = object.spec["template"]
        var labels = template["metadata"]["labels"]
        if labels.isNull { return template }
        labels.remove(self.hashLabel)
        template["metadata"]["labels"] = labels
        return template
    }

    private static func annotations(
        _ deployment: KubernetesObject,
        _ set: KubernetesObject
    ) -> JSONValue {
        var annotations = set.metadata.annotations
        for name in self.ownAnnotations {
            annotations[name] = deployment.metadata.annotations[name]
        }
        return JSONValue(annotations)
    }
}
