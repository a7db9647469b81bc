import Core
import EventLoop
import Foundation
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

/// A client of the cluster that `WEIR_TEST_KUBECONFIG` names, and a namespace for one test.
private final class Cluster {
    static let kubeconfig = ProcessInfo.processInfo.environment["WEIR_TEST_KUBECONFIG"]

    let harness: LoopHarness
    let client: KubernetesClient
    let namespace: String

    init() throws {
        let harness = try LoopHarness()
        let surroundings = AccessSurroundings(
            environment: ProcessInfo.processInfo.environment,
            read: LocalFile.read
        )
        let file = try #require(Self.kubeconfig)
        let access = try ClusterAccess.discovered(surroundings, file: file)
        self.client = KubernetesClient(
            loop: harness.loop,
            access: access,
            surroundings: surroundings
        )
        self.harness = harness
        self.namespace = "weir-client-\(UUID().uuidString.prefix(8).lowercased())"
        let object = KubernetesObject(.namespaces, name: self.namespace)
        _ = try self.result { [client] in client.create(.namespaces, object, completion: $0) }.get()
    }

    func end() throws {
        let key = ObjectKey(namespace: "", name: self.namespace)
        _ = try self.result { self.client.delete(.namespaces, key, completion: $0) }.get()
        self.client.close()
        self.harness.settle()
    }

    func result<Value>(
        _ body: (@escaping KubernetesClient.Completion<Value>) -> Void
    ) throws -> Result<Value, APIError> {
        var results: [Result<Value, APIError>] = []
        body { results.append($0) }
        try self.harness.run(until: "an answer") { !results.isEmpty }
        return results[0]
    }

    func key(_ name: String) -> ObjectKey { ObjectKey(namespace: self.namespace, name: name) }

    func map(_ name: String, _ data: [String: String] = [:]) -> KubernetesObject {
        var object = KubernetesObject(.configMaps, namespace: self.namespace, name: name)
        object["data"] = JSONValue(data)
        return object
    }

    func create(_ object: KubernetesObject) throws -> KubernetesObject {
        try self.result { self.client.create(.configMaps, object, completion: $0) }.get()
    }
}

/// The client against a real API server, or one that claims to be like one. Skipped without.
@Suite(.enabled(if: Cluster.kubeconfig != nil), .serialized)
struct ClusterTests {
    private func with(_ body: (Cluster) throws -> Void) throws {
        let cluster = try Cluster()
        let outcome = Result { try body(cluster) }
        try cluster.end()
        try outcome.get()
    }

    @Test func writesAndReads() throws {
        try self.with { cluster in
            let client = cluster.client
            let made = try cluster.create(cluster.map("a", ["x": "1"]))
            #expect(!made.metadata.uid.isEmpty && !made.metadata.resourceVersion.isEmpty)
            let again = try cluster.result {
                client.create(.configMaps, cluster.map("a"), completion: $0)
            }
            #expect(again.error?.isAlreadyExists == true)
            var stale = made
            stale["data"] = ["x": "2"]
            let written = try cluster.result {
                client.update(.configMaps, stale, completion: $0)
            }.get()
            #expect(written.metadata.resourceVersion != made.metadata.resourceVersion)
            #expect(
                try cluster.result { client.update(.configMaps, stale, completion: $0) }.error?
                    .isConflict == true
            )
            let patched = try cluster.result {
                let patch: JSONValue = ["data": ["x": nil, "y": "3"]]
                client.patch(.configMaps, cluster.key("a"), patch, completion: $0)
            }.get()
            #expect(patched["data"].strings == ["y": "3"])
            let edited = try cluster.result {
                let test: JSONValue = ["op": "test", "path": "/data/y", "value": "3"]
                let replace: JSONValue = ["op": "replace", "path": "/data/y", "value": "4"]
                client.patch(
                    .configMaps,
                    cluster.key("a"),
                    [test, replace],
                    as: .json,
                    completion: $0
                )
            }.get()
            #expect(edited["data"].strings == ["y": "4"])
            var wrong = DeleteOptions()
            wrong.uid = "no-such-uid"
            let refused = try cluster.result {
                client.delete(.configMaps, cluster.key("a"), wrong, completion: $0)
            }
            #expect(refused.error?.isConflict == true)
            var right = DeleteOptions()
            right.uid = made.metadata.uid
            _ = try cluster.result {
                client.delete(.configMaps, cluster.key("a"), right, completion: $0)
            }.get()
            let gone = try cluster.result {
                client.get(.configMaps, cluster.key("a"), completion: $0)
            }
            #expect(gone.error?.isNotFound == true)
        }
    }

    /// B.17: apply meets another owner, then forces; a field that is dropped is removed.
    @Test func applies() throws {
        try self.with { cluster in
            let client = cluster.client
            let apply = { (data: [String: String], manager: String, force: Bool) in
                try cluster.result {
                    client.apply(
                        .configMaps,
                        cluster.map("a", data),
                        manager: manager,
                        force: force,
                        completion: $0
                    )
                }
            }
            _ = try apply(["x": "1", "y": "1"], "one", false).get()
            let conflict = try apply(["x": "2"], "two", false)
            #expect(conflict.error?.status?.isFieldManagerConflict == true)
            #expect(
                try apply(["x": "2"], "two", true).get()["data"].strings == ["x": "2", "y": "1"]
            )
            #expect(try apply([:], "one", false).get()["data"].strings == ["x": "2"])
        }
    }

    @Test func listsInPages() throws {
        try self.with { cluster in
            for number in 0..<7 { _ = try cluster.create(cluster.map("m\(number)")) }
            var options = ListOptions(namespace: cluster.namespace)
            options.limit = 3
            options.fieldSelector = "metadata.name!=kube-root-ca.crt"
            let first = try cluster.result {
                cluster.client.list(.configMaps, options, completion: $0)
            }.get()
            #expect(first.items.count == 3 && first.continueToken != nil)
            let all = try cluster.result {
                cluster.client.listAll(.configMaps, options, completion: $0)
            }.get()
            #expect(all.items.map(\.metadata.name) == (0..<7).map { "m\($0)" })
        }
    }

    @Test(arguments: [true, false])
    func keepsACopy(usesWatchList: Bool) throws {
        try self.with { cluster in
            _ = try cluster.create(cluster.map("a", ["x": "1"]))
            var options = ReflectorOptions()
            options.usesWatchList = usesWatchList
            var scope = InformerScope<[String: String]>(
                .configMaps,
                namespace: cluster.namespace
            ) { $0["data"].strings }
            scope.fieldSelector = "metadata.name!=kube-root-ca.crt"
            let informer = Informer(cluster.client, scope, options: options)
            informer.handlers.onProblem = { Issue.record("\($0)") }
            informer.start()
            try cluster.harness.run(until: "the first state") { informer.isSynced }
            #expect(informer[cluster.key("a")] == ["x": "1"] && informer.count == 1)
            let made = try cluster.create(cluster.map("b"))
            informer.wrote(made)
            try cluster.harness.run(until: "b") { informer.isCurrent(cluster.key("b")) }
            #expect(informer.count == 2)
            _ = try cluster.result {
                cluster.client.delete(.configMaps, cluster.key("a"), completion: $0)
            }.get()
            try cluster.harness.run(until: "a to go") { informer[cluster.key("a")] == nil }
            informer.stop()
        }
    }

    @Test func aWatchFromAnImpossibleVersionIsRefused() throws {
        try self.with { cluster in
            var options = WatchOptions()
            options.resourceVersion = ResourceVersion("nonsense")
            var ends: [APIError?] = []
            cluster.client.watch(
                .configMaps,
                ListOptions(namespace: cluster.namespace),
                options,
                handlers: WatchHandlers(onEvent: { _ in }, onEnd: { ends.append($0) })
            )
            try cluster.harness.run(until: "the refusal") { !ends.isEmpty }
            // Version 1.20 calls it its own fault (500), later ones ours (400).
            #expect(ends[0]?.status != nil, "\(String(describing: ends[0]))")
        }
    }

    @Test func scales() throws {
        try self.with { cluster in
            let client = cluster.client
            var object = KubernetesObject(
                .deployments,
                namespace: cluster.namespace,
                name: "web"
            )
            let labels: JSONValue = ["app": "web"]
            let container: JSONValue = ["name": "c", "image": "example.invalid/none"]
            object["spec"] = [
                "replicas": 0, "selector": ["matchLabels": labels],
                "template": ["metadata": ["labels": labels], "spec": ["containers": [container]]],
            ]
            _ = try cluster.result { client.create(.deployments, object, completion: $0) }.get()
            let key = cluster.key("web")
            let scale = try cluster.result {
                client.scale(of: .deployments, key, completion: $0)
            }.get()
            #expect(scale.replicas == 0 && scale.selector == "app=web")
            _ = try cluster.result {
                let patch: JSONValue = ["metadata": ["annotations": ["a": "b"]]]
                client.patch(.deployments, key, patch, completion: $0)
            }.get()
            let stale = try cluster.result {
                client.setScale(of: .deployments, scale, replicas: 1, completion: $0)
            }
            #expect(stale.error?.isConflict == true)
            // Its controller writes to it as well: read and decide again, as long as it takes.
            var set: Result<Scale, APIError>
            var tries = 0
            repeat {
                let fresh = try cluster.result {
                    client.scale(of: .deployments, key, completion: $0)
                }.get()
                set = try cluster.result {
                    client.setScale(of: .deployments, fresh, replicas: 1, completion: $0)
                }
                tries += 1
            } while set.error?.isConflict == true && tries < 20
            #expect(try set.get().replicas == 1)
        }
    }

    @Test func electsALeader() throws {
        try self.with { cluster in
            var began: [String] = []
            let electors = ["a", "b"].map { name in
                LeaderElector(
                    cluster.client,
                    lease: cluster.key("controller"),
                    options: LeaderElectionOptions(identity: name),
                    seed: 1,
                    handlers: LeaderHandlers(
                        onBegan: { began.append(name) },
                        onEnded: { Issue.record("\(name) ended: \($0)") },
                        onProblem: { Issue.record("\($0)") }
                    )
                )
            }
            electors[0].start()
            try cluster.harness.run(until: "a to lead") { began == ["a"] }
            electors[1].start()
            try cluster.harness.run(until: "b to follow") { electors[1].holder == "a" }
            var isReleased = false
            electors[0].release { isReleased = true }
            try cluster.harness.run(until: "the release") { isReleased }
            try cluster.harness.run(until: "b to lead") { began == ["a", "b"] }
            electors[1].release { isReleased = false }
            try cluster.harness.run(until: "the release") { !isReleased }
        }
    }

    @Test func recordsEvents() throws {
        try self.with { cluster in
            let target = try cluster.create(cluster.map("a"))
            let recorder = EventRecorder(
                cluster.client,
                options: EventOptions(controller: "weir.dev/controller", instance: "test"),
                seed: UInt64(cluster.namespace.hashValue.magnitude)
            )
            var reference = ObjectReference(target)
            reference.apiVersion = "v1"
            reference.kind = "ConfigMap"
            let note = EventNote(
                reason: "Tested",
                action: "Test",
                note: "a test",
                regarding: reference
            )
            for _ in 0..<2 { recorder.record(note) }
            var events: [KubernetesObject] = []
            try cluster.harness.run(until: "both writes") { recorder.queueCount == 0 }
            events = try cluster.result {
                cluster.client.listAll(
                    .events,
                    ListOptions(namespace: cluster.namespace),
                    completion: $0
                )
            }.get().items
            #expect(events.count == 1 && recorder.dropped == 0)
            #expect(events.first?["series"]["count"] == 2)
            recorder.stop()
        }
    }
}
