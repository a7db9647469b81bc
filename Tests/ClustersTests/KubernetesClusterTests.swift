import Autoscaling
import Core
import Curl
import EventLoop
import HTTP
import HTTPService
import Kubernetes
import LoopTestSupport
import Orchestration
import Testing

@testable import Clusters

/// A `KubernetesCluster` against a server that lists what a test puts there and tells of changes.
/// Real servers are met in Tests/Kubernetes.
@Suite struct KubernetesClusterTests {
    /// An API server as small as can be: lists, watches, `/scale` and discovery.
    private final class FakeServer {
        let server: HTTPServer
        /// By the collection's path, then by name.
        private var objects: [String: [String: JSONValue]] = [:]
        private var watches: [(path: String, response: ResponseWriter)] = []
        /// Other documents, by path.
        var documents: [String: JSONValue] = [:]
        /// Numbers that were written, in order.
        private(set) var writes: [Int] = []
        var refusesWrites = false
        private var version = 1

        private struct Asked {
            var path: String
            var method: String
            /// The version that a watch goes on from; nil for what is no watch.
            var watchedFrom: Int?
            var body: [UInt8]
        }

        init(_ harness: LoopHarness) throws {
            let address = try #require(SocketAddress("127.0.0.1:0"))
            var handler: (Asked, ResponseWriter) -> Void = { _, _ in }
            self.server = try HTTPServer(loop: harness.loop, address: address) {
                request,
                response in
                let query = request.query ?? ""
                // As servers that cannot list by a watch.
                if query.contains("sendInitialEvents") {
                    return response.refuse(status: 400, "not here")
                }
                let version = query.split(separator: "&").first { $0.hasPrefix("resourceVersion=") }
                let from = version.flatMap { Int($0.dropFirst("resourceVersion=".count)) } ?? 0
                let asked = Asked(
                    path: request.path,
                    method: "\(request.method.name)",
                    watchedFrom: query.contains("watch=1") ? from : nil,
                    body: request.body
                )
                handler(asked, response)
            }
            handler = { [unowned self] in self.answer($0, $1) }
        }

        deinit { self.server.close() }

        func put(_ path: String, _ name: String, _ object: JSONValue) {
            self.version += 1
            var object = object
            object["metadata"]["name"] = .string(name)
            object["metadata"]["uid"] = .string("u-\(name)")
            object["metadata"]["resourceVersion"] = .string("\(self.version)")
            let parts = path.split(separator: "/")
            if let index = parts.firstIndex(of: "namespaces"), index + 1 < parts.count {
                object["metadata"]["namespace"] = .string(String(parts[index + 1]))
            }
            let isNew = self.objects[path]?[name] == nil
            self.objects[path, default: [:]][name] = object
            self.tell(path, isNew ? "ADDED" : "MODIFIED", object)
        }

        private func tell(_ path: String, _ type: String, _ object: JSONValue) {
            let event: JSONValue = ["type": .string(type), "object": object]
            for watch in self.watches where watch.path == path {
                watch.response.write(event.text + "\n")
            }
        }

        private func answer(_ asked: Asked, _ response: ResponseWriter) {
            let path = asked.path
            if let from = asked.watchedFrom {
                self.begin(path, from, response)
            } else if path.hasSuffix("/scale") {
                self.answerScale(path, asked.method, asked.body, response)
            } else if let document = self.documents[path] {
                Self.respond(document, response)
            } else if path.split(separator: "/").count == 2 {
                response.refuse(status: 404, "no such group")
            } else {
                let items = (self.objects[path] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
                let metadata: JSONValue = ["resourceVersion": .string("\(self.version)")]
                Self.respond(["metadata": metadata, "items": .array(items)], response)
            }
        }

        /// A watch, with what has changed since the version it names.
        private func begin(_ path: String, _ from: Int, _ response: ResponseWriter) {
            response.writeHead(contentType: "application/json")
            response.flushHead()
            self.watches.append((path, response))
            for object in (self.objects[path] ?? [:]).values {
                let version = object["metadata"]["resourceVersion"].string.flatMap { Int($0) } ?? 0
                if version <= from { continue }
                let event: JSONValue = ["type": "MODIFIED", "object": object]
                response.write(event.text + "\n")
            }
        }

        private func answerScale(
            _ path: String,
            _ method: String,
            _ body: [UInt8],
            _ response: ResponseWriter
        ) {
            let parts = path.split(separator: "/")
            let name = String(parts[parts.count - 2])
            let collection = "/" + parts.dropLast(2).joined(separator: "/")
            guard var object = self.objects[collection]?[name] else {
                return response.refuse(status: 404, "no such object")
            }
            if method == "PUT" {
                if self.refusesWrites { return Self.refuse(409, response) }
                let asked = (try? JSONValue(body)) ?? .null
                let count = asked["spec"]["replicas"].integer ?? 0
                self.writes.append(count)
                object["spec"]["replicas"] = .integer(count)
                self.put(collection, name, object)
            }
            let selector = object["status"]["selector"]
            Self.respond(
                [
                    "metadata": object["metadata"],
                    "spec": ["replicas": object["spec"]["replicas"]],
                    "status": ["selector": selector],
                ],
                response
            )
        }

        private static func respond(_ value: JSONValue, _ response: ResponseWriter) {
            let bytes = value.bytes
            response.respond(contentType: "application/json", body: bytes.span.bytes)
        }

        private static func refuse(_ code: Int, _ response: ResponseWriter) {
            let status: JSONValue = [
                "kind": "Status", "status": "Failure", "reason": "Conflict",
                "code": .integer(code),
            ]
            let bytes = status.bytes
            response.respond(
                status: UInt16(code),
                contentType: "application/json",
                body: bytes.span.bytes
            )
        }
    }

    private final class Rig {
        let harness: LoopHarness
        let server: FakeServer
        let client: KubernetesClient
        let cluster: KubernetesCluster
        var notes: [KubernetesCluster.Note] = []
        var mayWrite = true

        init(_ prepare: (FakeServer) -> Void = { _ in }) throws {
            self.harness = try LoopHarness()
            self.server = try FakeServer(self.harness)
            prepare(self.server)
            var access = ClusterAccess(name: "test", server: "http://\(self.server.server.address)")
            access.proxy = .none
            var options = ClientOptions()
            options.seed = 1
            self.client = KubernetesClient(
                loop: self.harness.loop,
                access: access,
                surroundings: AccessSurroundings(environment: [:], read: LocalFile.read),
                options: options
            )
            var clusterOptions = KubernetesCluster.Options()
            clusterOptions.namespaces = ["ns"]
            clusterOptions.drainDeadline = .zero
            self.cluster = KubernetesCluster(client: self.client, options: clusterOptions)
            self.cluster.mayWrite = { [unowned self] in self.mayWrite }
            self.cluster.onNote = { [unowned self] in self.notes.append($0) }
        }

        deinit {
            self.cluster.stop()
            self.client.close()
            self.harness.settle()
        }

        func follow(_ kind: WorkloadTarget.Kind = .deployment) throws {
            self.cluster.start()
            let key = ObjectKey(namespace: "ns", name: "chat")
            self.cluster.follow([WorkloadTarget(group: "g", kind: kind, key: key, port: 80)])
            try self.run(until: "the first state") { self.cluster.isSynced }
        }

        func run(until what: String, _ condition: () throws -> Bool) throws {
            try self.harness.run(until: what, condition)
        }
    }

    private static let deployments = "/apis/apps/v1/namespaces/ns/deployments"
    private static let pods = "/api/v1/namespaces/ns/pods"

    private static func deployment(_ replicas: Int) -> JSONValue {
        ["metadata": ["generation": 1], "spec": ["replicas": .integer(replicas)]]
    }

    private static func pod(owner: String, isReady: Bool, node: String = "n1") -> JSONValue {
        let reference: JSONValue = [
            "uid": .string(owner), "controller": true, "kind": "ReplicaSet", "name": "s",
            "apiVersion": "apps/v1",
        ]
        let condition: JSONValue = [
            "type": "Ready", "status": .string(isReady ? "True" : "False"),
        ]
        return [
            "metadata": ["ownerReferences": [reference], "labels": ["app": "chat"]],
            "spec": [
                "nodeName": .string(node),
                "containers": [
                    ["name": "c", "resources": ["requests": ["nvidia.com/gpu": "2"]]]
                ],
            ],
            "status": ["phase": "Running", "podIP": "10.0.0.1", "conditions": [condition]],
        ]
    }

    /// A Deployment of two with one ready pod and one that starts.
    private static func fill(_ server: FakeServer) {
        server.put(self.deployments, "chat", self.deployment(2))
        let reference: JSONValue = [
            "uid": "u-chat", "controller": true, "kind": "Deployment", "name": "chat",
            "apiVersion": "apps/v1",
        ]
        server.put(
            "/apis/apps/v1/namespaces/ns/replicasets",
            "set",
            ["metadata": ["ownerReferences": [reference]]]
        )
        server.put(self.pods, "p1", self.pod(owner: "u-set", isReady: true))
        server.put(self.pods, "p2", self.pod(owner: "u-set", isReady: false))
        server.put(self.pods, "other", self.pod(owner: "u-else", isReady: true))
    }

    @Test func podsOfADeploymentAreReplicas() throws {
        let rig = try Rig(Self.fill)
        #expect(rig.cluster.group("g") == nil)
        try rig.follow()
        let group = try #require(rig.cluster.group("g"))
        #expect(group.desired == 2)
        #expect(
            group.replicas.map(\.state).sorted { $0.rawValue < $1.rawValue } == [.ready, .starting]
        )
        #expect(group.replicas[0].address == ReplicaAddress(host: "10.0.0.1", port: 80))
        // A pod that goes is noticed by its event, and the one that is asked for counts.
        rig.server.put(Self.deployments, "chat", Self.deployment(3))
        try rig.run(until: "the change") { rig.cluster.group("g")?.desired == 3 }
        #expect(rig.cluster.group("g")?.replicas.count { $0.id.index < 0 } == 1)
    }

    @Test func saysThatPodsAreRefused() throws {
        let rig = try Rig(Self.fill)
        try rig.follow()
        var object = Self.deployment(3)
        let failure: JSONValue = [
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods is forbidden: exceeded quota: q",
        ]
        object["status"] = ["conditions": [failure]]
        for _ in 0..<2 { rig.server.put(Self.deployments, "chat", object) }
        try rig.run(until: "the refusal") {
            rig.cluster.group("g")?.replicas.contains { $0.trouble == .refusedByQuota } ?? false
        }
        rig.harness.settle()
        // Beside the one about the number, which nobody here has set.
        let refusals = rig.notes.filter { $0.reason == "QuotaExceeded" }
        #expect(refusals.count == 1)
        #expect(refusals.first?.text.contains("exceeded quota") == true)
    }

    @Test func writesNumbersWhileItMay() throws {
        let rig = try Rig(Self.fill)
        try rig.follow()
        try rig.cluster.scale("g", to: 4)
        try rig.run(until: "the write") { rig.server.writes == [4] }
        try rig.run(until: "the number") { rig.cluster.group("g")?.desired == 4 }
        #expect(rig.notes.isEmpty)
        rig.mayWrite = false
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
        #expect(throws: ClusterError.self) { try rig.cluster.scale("none", to: 1) }
    }

    @Test func triesAgainAfterAConflict() throws {
        let rig = try Rig(Self.fill)
        rig.server.refusesWrites = true
        try rig.follow()
        try rig.cluster.scale("g", to: 4)
        rig.harness.settle()
        rig.server.refusesWrites = false
        try rig.run(until: "the write") {
            rig.cluster.tick()
            return rig.server.writes.first == 4
        }
        #expect(rig.cluster.obstruction(of: "g") == nil)
    }

    @Test func leavesNumbersOfOthersAlone() throws {
        let rig = try Rig(Self.fill)
        try rig.follow()
        rig.server.put(Self.deployments, "chat", Self.deployment(5))
        try rig.run(until: "the note") { !rig.notes.isEmpty }
        #expect(rig.notes.map(\.reason) == ["SecondWriter"])
        let words = try #require(rig.cluster.obstruction(of: "g"))
        #expect(words.contains("from 2 to 5"))
        // The same words for as long as it is the same: they are told once.
        rig.cluster.tick()
        #expect(rig.cluster.obstruction(of: "g") == words)
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
        #expect(rig.server.writes == [])
    }

    @Test func leavesWhatAnAutoscalerAimsAtAlone() throws {
        let rig = try Rig(Self.fill)
        try rig.follow()
        let owner: JSONValue = ["kind": "ScaledObject", "name": "rival", "controller": true]
        rig.server.put(
            "/apis/autoscaling/v1/namespaces/ns/horizontalpodautoscalers",
            "keda-hpa-x",
            [
                "metadata": ["ownerReferences": [owner]],
                "spec": ["scaleTargetRef": ["kind": "Deployment", "name": "chat"]],
            ]
        )
        try rig.run(until: "the rival") { rig.cluster.hasSecondWriter("g") }
        #expect(rig.cluster.obstruction(of: "g")?.hasPrefix("ScaledObject ns/rival") == true)
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
    }

    // MARK: Other kinds

    private static let sets = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/ns/leaderworkersets"

    @Test func saysThatAKindIsNotThere() throws {
        let rig = try Rig(Self.fill)
        try rig.follow(.leaderWorkerSet)
        try rig.run(until: "the answer") { rig.cluster.obstruction(of: "g") != nil }
        #expect(
            rig.cluster.obstruction(of: "g")
                == "this cluster has no kind LeaderWorkerSet: install leaderworkerset.x-k8s.io"
        )
        #expect(rig.cluster.group("g") == nil && rig.cluster.isSynced)
    }

    @Test func asksForAKindAndGoesByItsScale() throws {
        let group = "/apis/leaderworkerset.x-k8s.io"
        let rig = try Rig { server in
            let version: JSONValue = ["version": "v1"]
            server.documents[group] = ["preferredVersion": version]
            let kinds: JSONValue = [
                [
                    "name": "leaderworkersets", "kind": "LeaderWorkerSet", "namespaced": true,
                ], ["name": "leaderworkersets/scale", "kind": "Scale", "namespaced": true],
            ]
            server.documents["\(group)/v1"] = ["resources": kinds]
            var object = Self.deployment(2)
            object["status"] = ["selector": "app=chat"]
            server.put(Self.sets, "chat", object)
            server.put(Self.pods, "chat-0", Self.pod(owner: "x", isReady: true))
            server.put(Self.pods, "chat-1", Self.pod(owner: "x", isReady: true))
        }
        try rig.follow(.leaderWorkerSet)
        try rig.run(until: "both pods") { rig.cluster.group("g")?.count(.ready) == 2 }
        rig.server.put(Self.pods, "chat-2", Self.pod(owner: "x", isReady: true))
        try rig.run(until: "the third") { rig.cluster.group("g")?.count(.ready) == 3 }
        try rig.cluster.scale("g", to: 1)
        try rig.run(until: "the write") {
            rig.cluster.tick()
            return rig.server.writes.last == 1
        }
        // The highest number goes first whatever is marked.
        #expect(rig.cluster.draining.isSubset(of: ["u-chat-2"]))
    }

    // MARK: Stock

    @Test func countsWhatNodesAndQuotasHave() throws {
        let rig = try Rig { server in
            Self.fill(server)
            let ready: JSONValue = ["type": "Ready", "status": "True"]
            server.put(
                "/api/v1/nodes",
                "n1",
                [
                    "metadata": ["labels": ["karpenter.sh/nodepool": "a100"]],
                    "status": [
                        "allocatable": ["cpu": "8", "nvidia.com/gpu": "8"], "conditions": [ready],
                    ],
                ]
            )
            server.put(
                "/api/v1/namespaces/ns/resourcequotas",
                "q",
                [
                    "status": [
                        "hard": ["requests.nvidia.com/gpu": "10", "pods": "4"],
                        "used": ["requests.nvidia.com/gpu": "6"],
                    ]
                ]
            )
        }
        try rig.follow()
        let gpu = "nvidia.com/gpu"
        try rig.run(until: "the stock") {
            rig.cluster.stock.hasNodes && rig.cluster.stock.quota(of: gpu, in: "ns") != nil
        }
        let pool = try #require(rig.cluster.stock.pools(of: gpu).first)
        #expect(pool.name == "a100" && pool.allocatable == 8 && pool.used == 6)
        #expect(pool.largestFree == 2)
        #expect(rig.cluster.stock.quota(of: gpu, in: "ns") == .init(hard: 10, used: 6))
        #expect(rig.cluster.stock.quota(of: "pods", in: "ns") == nil)
    }

    @Test(
        arguments: [
            ("8", 8), ("1k", 1_000), ("2Ki", 2_048), ("1500m", 1), ("1e3", 1_000), ("x", nil),
            ("", nil), ("3Q", nil), ("-1", -1), ("2.5", 2),
        ] as [(String, Int?)]
    )
    func readsAmounts(_ text: String, _ expected: Int?) {
        #expect(Quantity.units(.string(text)) == expected)
    }
}
