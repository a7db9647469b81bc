import Core
import HTTPService
import Kubernetes
import Testing

@Suite struct PodTests {
    static let text = """
        {"metadata":{"name":"web-1","namespace":"models","uid":"u1","resourceVersion":"5",
        "labels":{"app":"web","pod-template-hash":"abc"},"creationTimestamp":"2026-01-02T03:04:05Z",
        "annotations":{"controller.kubernetes.io/pod-deletion-cost":"-5","other":"x"},
        "ownerReferences":[{"apiVersion":"v1","kind":"Other","name":"o","uid":"o1"},
        {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"r1","controller":true}],
        "managedFields":[{"manager":"x"}]},
        "spec":{"nodeName":"n1","containers":[{"name":"a","image":"i","resources":{
        "limits":{"nvidia.com/gpu":"2","cpu":"1"},"requests":{"nvidia.com/gpu":"2"}}},
        {"name":"b","resources":{"limits":{"nvidia.com/gpu":1,"example.com/x":"4"}}}]},
        "status":{"phase":"Running","podIP":"10.0.0.1","conditions":[
        {"type":"PodScheduled","status":"True"},
        {"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T03:05:00Z"}],
        "containerStatuses":[{"name":"a","restartCount":2,"state":{"running":{}}},
        {"name":"b","restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff",
        "message":"back-off 10s"}}}]}}
        """

    private static func pod(_ change: (inout JSONValue) -> Void = { _ in }) throws -> Pod {
        var value = try JSONValue(Array(self.text.utf8), keeping: Pod.projection)
        change(&value)
        return try Pod.Reader().pod(KubernetesObject(value))
    }

    @Test func readsWhatDecidesAboutReplicas() throws {
        let pod = try Self.pod()
        #expect(pod.key == ObjectKey(namespace: "models", name: "web-1") && pod.uid == "u1")
        #expect(pod.labels == ["app": "web", "pod-template-hash": "abc"])
        #expect(pod.controller?.uid == "r1" && pod.nodeName == "n1" && pod.podIP == "10.0.0.1")
        #expect(pod.phase == .running && pod.isReady && pod.isScheduled && !pod.isTerminating)
        #expect(pod.createdAt == 1_767_323_045 && pod.readySince == 1_767_323_100)
        #expect(pod.restarts == 3 && pod.deletionCost == -5)
        #expect(pod.troubles.map(\.container) == ["b"])
        #expect(pod.troubles[0].reason == "CrashLoopBackOff")
        #expect(pod.extendedResources == ["nvidia.com/gpu": 3, "example.com/x": 4])
    }

    @Test func readsAPodThatCannotBePlaced() throws {
        let pending = try JSONValue(
            parsing:
                """
                {"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False",
                "reason":"Unschedulable","message":"0/3 nodes: insufficient nvidia.com/gpu"}]}
                """
        )
        let pod = try Self.pod { value in
            value["spec"].remove("nodeName")
            value["status"] = pending
        }
        #expect(pod.phase == .pending && !pod.isScheduled && !pod.isReady)
        #expect(pod.schedulingReason == "Unschedulable")
        #expect(pod.schedulingMessage.contains("insufficient nvidia.com/gpu"))
        #expect(pod.readySince == nil && pod.restarts == 0 && pod.troubles.isEmpty)
    }

    @Test func readsAPodThatSaysNothingOfItself() throws {
        let bare = try JSONValue(parsing: #"{"metadata":{"name":"x","namespace":"a"}}"#)
        let pod = try Pod.Reader().pod(KubernetesObject(bare))
        #expect(pod.phase == .unknown && !pod.isReady && pod.controller == nil)
        #expect(pod.labels.isEmpty && pod.extendedResources.isEmpty && pod.deletionCost == nil)
    }

    /// Between two starts of a container that dies nothing but its last end tells of it.
    @Test func remembersHowAContainerEnded() throws {
        let text = """
            [{"name":"a","restartCount":3,"ready":false,"state":{"running":{}},"lastState":
            {"terminated":{"exitCode":137,"reason":"OOMKilled","message":"too much"}}},
            {"name":"b","restartCount":1,"ready":true,"state":{"running":{}},"lastState":
            {"terminated":{"exitCode":1}}}]
            """
        let statuses = try JSONValue(parsing: text)
        let pod = try Self.pod { $0["status"]["containerStatuses"] = statuses }
        #expect(pod.troubles.map(\.container) == ["a"])
        #expect(pod.troubles[0].reason.isEmpty)
        #expect(pod.troubles[0].ended?.exitCode == 137)
        #expect(pod.troubles[0].ended?.reason == "OOMKilled")
        #expect(pod.troubles[0].ended?.message == "too much")
    }

    @Test(arguments: [("8000", 8_000), ("70000", nil), ("\"x\"", nil)] as [(String, UInt16?)])
    func findsTheMetricsPort(_ number: String, _ expected: UInt16?) throws {
        let ports = try JSONValue(
            parsing: #"[{"name":"http","containerPort":1},{"name":"metrics","containerPort":"#
                + "\(number)}]"
        )
        let pod = try Self.pod { value in
            value["spec"]["containers"] = [["name": "a", "ports": ports]]
        }
        #expect(pod.metricsPort == expected)
        #expect(try Self.pod().metricsPort == nil)
    }

    @Test func refusesWhatIsNoPod() {
        #expect(throws: ObjectProblem.self) { try Pod.Reader().pod(KubernetesObject([:])) }
    }

    /// What starts and ends well is no trouble.
    @Test(arguments: ["ContainerCreating", "PodInitializing", ""])
    func startingIsNoTrouble(reason: String) throws {
        let pod = try Self.pod { value in
            var status: JSONValue = ["name": "a", "restartCount": 0]
            status["state"] = ["waiting": ["reason": .string(reason)]]
            value["status"]["containerStatuses"] = [status]
        }
        #expect(pod.troubles.isEmpty)
    }
}
