import HTTPService
import Kubernetes
import Testing

@testable import Clusters

@Suite struct TemplateRollbackTests {
    private func deployment(image: String, paused: Bool = false) -> KubernetesObject {
        KubernetesObject([
            "metadata": [
                "name": "chat", "namespace": "ns", "uid": "d", "resourceVersion": "17",
                "annotations": [
                    "deployment.kubernetes.io/revision": "3", "kept": "of the deployment",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                ],
            ],
            "spec": ["paused": .bool(paused), "template": self.template(image, hash: nil)],
        ])
    }

    private func template(_ image: String, hash: String?) -> JSONValue {
        var labels: JSONValue = ["app": "chat"]
        if let hash { labels["pod-template-hash"] = .string(hash) }
        return ["metadata": ["labels": labels], "spec": ["image": .string(image)]]
    }

    private func set(_ revision: String, _ image: String, owner: String = "d") -> KubernetesObject {
        KubernetesObject([
            "metadata": [
                "name": .string("chat-\(revision)"), "namespace": "ns",
                "ownerReferences": [
                    ["kind": "Deployment", "uid": .string(owner), "controller": true]
                ],
                "annotations": [
                    "deployment.kubernetes.io/revision": .string(revision), "cause": "of the set",
                    "deployment.kubernetes.io/desired-replicas": "9",
                ],
            ],
            "spec": ["template": self.template(image, hash: "h\(revision)")],
        ])
    }

    @Test func returnsToTheRevisionBefore() throws {
        let outcome = TemplateRollback.undo(
            self.deployment(image: "c"),
            replicaSets: [self.set("1", "a"), self.set("3", "c"), self.set("2", "b")]
        )
        guard case .patch(let patch, let revision) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(revision == 2)
        let steps = patch.elements
        #expect(steps.map { $0["op"].string } == ["test", "replace", "add"])
        #expect(steps[0]["value"].string == "17")
        #expect(steps[1]["path"].string == "/spec/template")
        #expect(steps[1]["value"] == self.template("b", hash: nil))
        #expect(
            steps[2]["value"].strings == [
                "deployment.kubernetes.io/revision": "3", "cause": "of the set",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            ]
        )
    }

    @Test func returnsToTheRevisionThatIsNamed() {
        let sets = [self.set("1", "a"), self.set("2", "b"), self.set("10", "c")]
        let deployment = self.deployment(image: "c")
        guard case .patch(_, 1) = TemplateRollback.undo(deployment, replicaSets: sets, to: 1)
        else {
            Issue.record("not to 1")
            return
        }
        // By number, not by text.
        guard case .patch(_, 2) = TemplateRollback.undo(deployment, replicaSets: sets) else {
            Issue.record("not to 2")
            return
        }
    }

    @Test func changesNothingWhereTheTemplateIsTheSame() {
        let outcome = TemplateRollback.undo(
            self.deployment(image: "b"),
            replicaSets: [self.set("2", "b"), self.set("3", "c")]
        )
        #expect(outcome == .unchanged(revision: 2))
    }

    @Test func saysWhyItCannotBeDone() {
        let cases: [(TemplateRollback.Outcome, String)] = [
            (
                TemplateRollback.undo(self.deployment(image: "a", paused: true), replicaSets: []),
                "paused"
            ),
            (
                TemplateRollback.undo(
                    self.deployment(image: "c"),
                    replicaSets: [self.set("3", "c"), self.set("2", "b", owner: "other")]
                ),
                "no earlier revision"
            ),
            (
                TemplateRollback.undo(
                    self.deployment(image: "c"),
                    replicaSets: [self.set("3", "c"), self.set("x", "b")],
                    to: 7
                ),
                "no revision 7"
            ),
        ]
        for (outcome, words) in cases {
            guard case .impossible(let text) = outcome else {
                Issue.record("\(outcome)")
                continue
            }
            #expect(text.contains(words))
        }
    }
}
