import Clusters
import Configuration
import Core
import HTTPService
import Kubernetes
import Orchestration
import Testing

@testable import Control

@Suite struct ModelStatusTests {
    private static let spec = """
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: chat, namespace: ns}
        spec:
          protocol: OpenAI
          variants:
          - {name: v1, workloadRef: {kind: Deployment, name: one, port: 80}}
          - {name: v2, workloadRef: {kind: Deployment, name: two, port: 80}}
          live: v1
          scaling: {policy: standard, minReplicas: 0, maxReplicas: 4}
        ---
        apiVersion: weir.dev/v1alpha1
        kind: ScalingPolicy
        metadata: {name: standard, namespace: ns}
        spec: {targets: [{type: Concurrency, value: "2"}], scaleToZero: {idleAfter: 5m}}
        """

    private struct Scene {
        var groups: [String: GroupStatus] = [:]
        var obstructions: [String: String] = [:]
        var gaps: [String: EndpointGap] = [:]
        var gateways = 1
        var missing = 0
        var verdict = ResourceKeeper.Verdict.accepted
        var old: JSONValue = [:]

        /// The model's two workloads: replicas in these states.
        init(_ one: [ReplicaState]?, _ two: [ReplicaState] = []) {
            self.groups["ns/two"] = Self.group("ns/two", two)
            if let one { self.groups["ns/one"] = Self.group("ns/one", one) }
        }

        private static func group(_ name: String, _ states: [ReplicaState]) -> GroupStatus {
            GroupStatus(
                name: name,
                desired: states.count { !$0.isLeaving },
                replicas: states.enumerated().map { index, state in
                    FakeFleet.replica(name, index, state: state, isLeaving: state.isLeaving)
                },
                coldStarts: ColdStarts()
            )
        }

        func status() throws -> JSONValue {
            let result = ConfigurationLoader.load(
                files: [(name: "test.yaml", text: ModelStatusTests.spec)]
            )
            let configuration = try #require(
                result.configuration,
                "\(Problem.render(result.problems))"
            )
            let model = try #require(configuration.models.first)
            let names = model.spec.variants.compactMap { variant -> String? in
                guard case .workload(let reference) = variant.backend else { return nil }
                return reference.group(in: "ns")
            }
            let byName = Dictionary(
                uniqueKeysWithValues: zip(["ns/one", "ns/two"], names).map { ($1, $0) }
            )
            var item = ResourceDirectory.Item(.model, KubernetesObject([:]))
            item.key = ObjectKey(namespace: "ns", name: "chat")
            item.generation = 3
            let facts = ModelStatuses.Facts(
                group: { self.groups[byName[$0] ?? ""] },
                obstruction: { self.obstructions[byName[$0] ?? ""] },
                gap: { self.gaps[byName[$0] ?? ""] },
                decision: { _ in nil },
                rollout: { _ in nil },
                gateways: self.gateways,
                gatewaysMissing: self.missing
            )
            return ModelStatus(item, verdict: self.verdict, spec: model.spec, facts)
                .value(old: self.old, wallTime: 1_767_323_045)
        }

        func condition(_ type: String) throws -> JSONValue {
            let found = try self.status()["conditions"].elements.first {
                $0["type"].string == type
            }
            return try #require(found)
        }
    }

    @Test func countsReplicas() throws {
        let status = try Scene([.ready, .ready, .starting, .draining]).status()
        #expect(status["observedGeneration"] == 3 && status["live"] == "v1")
        let replicas = status["replicas"]
        #expect(replicas["summary"] == "2/3" && replicas["ready"] == 2)
        #expect(replicas["starting"] == 1 && replicas["draining"] == 1)
        let weights = status["variants"].elements.map { $0["weight"].integer }
        #expect(weights == [100, 0])
    }

    @Test(
        arguments: [
            ([.ready], "True", "Serving"), ([.ready, .starting], "True", "Serving"),
            ([], "True", "ScaledToZero"), ([.starting], "False", "NoReplicaReady"),
            ([.notReady], "False", "NoReplicaReady"), (nil, "False", "WorkloadMissing"),
        ] as [([ReplicaState]?, String, String)]
    )
    func saysWhetherItServes(
        _ states: [ReplicaState]?,
        _ status: String,
        _ reason: String
    ) throws {
        let condition = try Scene(states).condition("Ready")
        #expect(condition["status"].string == status && condition["reason"].string == reason)
    }

    @Test(
        arguments: zip(
            StartTrouble.allCases,
            [
                "CannotStart", "CrashLoop", "StartTimeout", "Unschedulable", "QuotaExceeded",
            ]
        )
    )
    func saysWhyReplicasDoNotCome(_ trouble: StartTrouble, _ reason: String) throws {
        var scene = Scene([.failed])
        scene.groups["ns/one"]?.replicas[0].trouble = trouble
        scene.groups["ns/one"]?.replicas[0].message = "because"
        let condition = try scene.condition("Ready")
        #expect(condition["reason"].string == reason && condition["status"] == "False")
        #expect(condition["message"] == "variant v1: because")
        #expect(try scene.status()["variants"].elements[0]["message"] == "because")
    }

    @Test func saysThatNothingReachesIt() throws {
        var scene = Scene([.ready, .ready])
        scene.gaps["ns/one"] = .serviceMissing
        #expect(try scene.condition("Ready")["reason"] == "ServiceMissing")
        scene.gaps["ns/one"] = .noEndpoint
        let condition = try scene.condition("Ready")
        #expect(condition["reason"] == "NoEndpoint")
        #expect(condition["message"].string?.contains("none of 2 ready pods") == true)
        // Without a ready pod there is nothing to reach.
        scene = Scene([.starting])
        scene.gaps["ns/one"] = .noEndpoint
        #expect(try scene.condition("Ready")["reason"] == "NoReplicaReady")
    }

    @Test func saysWhatIsInTheWayOfScaling() throws {
        #expect(try Scene([.ready]).condition("ScalingActive")["status"] == "True")
        var scene = Scene([.ready])
        scene.obstructions["ns/one"] = "somebody else"
        #expect(try scene.condition("ScalingActive")["message"] == "somebody else")
        scene = Scene([.ready])
        scene.missing = 1
        #expect(try scene.condition("ScalingActive")["reason"] == "GatewaysMissing")
    }

    /// The time of a condition is that of its status, whatever else changes.
    @Test func keepsTheTimeOfWhatStays() throws {
        var scene = Scene([.ready])
        scene.old = [
            "conditions": [["type": "Ready", "status": "True", "lastTransitionTime": "t"]]
        ]
        #expect(try scene.condition("Ready")["lastTransitionTime"] == "t")
        scene.groups["ns/one"] = nil
        #expect(
            try scene.condition("Ready")["lastTransitionTime"] == "2026-01-02T03:04:05Z"
        )
    }

    @Test func saysWhatIsWrongWithIt() throws {
        var scene = Scene([.ready])
        scene.verdict = .refused([])
        let condition = try scene.condition("Accepted")
        #expect(condition["status"] == "False" && condition["reason"] == "Invalid")
    }

    // MARK: Budgets

    @Test func aBudgetSaysWhoHasWhat() {
        let budget = ScalingPlan.Budget(
            name: "gpus",
            namespace: "ns",
            resource: "nvidia.com/gpu",
            total: 8,
            fixed: []
        )
        let use = BudgetUse(
            budget: budget,
            available: 4,
            models: [.init(name: "chat", used: 2, wanted: 6)]
        )
        var stock = CapacityLedger()
        var status = BudgetStatuses.value(use, stock, generation: 2)
        #expect(status["used"] == 2 && status["wanted"] == 6 && status["available"] == 4)
        #expect(status["pools"].isNull && status["quota"].isNull)
        stock.set(.init(pool: "a", allocatable: ["nvidia.com/gpu": 8]), named: "n")
        stock.set(["nvidia.com/gpu": .init(hard: 4, used: 2)], ofQuota: "ns/q", in: "ns")
        status = BudgetStatuses.value(use, stock, generation: 2)
        #expect(status["allocatable"] == 8 && status["quota"]["hard"] == 4)
        #expect(status["pools"].elements.first?["largestFree"] == 8)
    }
}
