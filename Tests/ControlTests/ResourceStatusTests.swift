import Configuration
import HTTPService
import Kubernetes
import Testing

@testable import Control

@Suite struct ResourceStatusTests {
    private func item(
        _ kind: ResourceDirectory.Kind,
        _ name: String,
        status: JSONValue = [:]
    ) -> ResourceDirectory.Item {
        var item = ResourceDirectory.Item(kind, KubernetesObject(kind.resource, name: name))
        item.key = ObjectKey(namespace: "ns", name: name)
        item.generation = 4
        item.status = status
        return item
    }

    private func configuration() throws -> Configuration {
        let result = ConfigurationLoader.load(
            [
                ConfigurationFile(
                    name: "test.yaml",
                    text: """
                        apiVersion: weir.dev/v1alpha1
                        kind: Model
                        metadata: {name: chat, namespace: ns}
                        spec:
                          protocol: OpenAI
                          variants:
                          - {name: v1, workloadRef: {kind: Deployment, name: one, port: 80}}
                          scaling: {policy: standard, maxReplicas: 4}
                        ---
                        apiVersion: weir.dev/v1alpha1
                        kind: ScalingPolicy
                        metadata: {name: standard, namespace: ns}
                        spec: {targets: [{type: Concurrency, value: "2"}]}
                        ---
                        apiVersion: weir.dev/v1alpha1
                        kind: Tenant
                        metadata: {name: team, namespace: ns}
                        spec:
                          keys: [{secretRef: {name: team}}]
                          models: [chat, later]
                        """
                )
            ],
            tenantsMayNameMissingModels: true
        )
        return try #require(result.configuration, "\(Problem.render(result.problems))")
    }

    private func condition(_ status: JSONValue, _ type: String) throws -> JSONValue {
        try #require(status["conditions"].elements.first { $0["type"].string == type })
    }

    @Test func policiesSayWhoNamesThem() throws {
        let users = PolicyStatuses.Users(try self.configuration())
        for (name, count, reason) in [("standard", 1, "InUse"), ("spare", 0, "Unused")] {
            let item = self.item(.scalingPolicy, name)
            let draft = PolicyStatuses.draft(
                item,
                verdict: .accepted,
                users: users.of(item),
                wallTime: 0
            )
            let status = draft.value()
            #expect(status["models"].integer == count && status["observedGeneration"] == 4)
            let used = try self.condition(status, "InUse")
            #expect(used["reason"].string == reason)
            #expect(used["status"] == (count > 0 ? "True" : "False"))
        }
        // One of the same name of another kind is not the one that is used.
        #expect(users.of(self.item(.rolloutPolicy, "standard")).isEmpty)
    }

    @Test func tenantsSayWhatIsMissing() throws {
        let configuration = try self.configuration()
        let problem = KeyProblem(reason: "SecretMissing", message: "Secret ns/team does not exist")
        let draft = PolicyStatuses.draft(
            tenant: self.item(.tenant, "team"),
            spec: configuration.tenants.first?.spec,
            verdict: .accepted,
            models: Set(configuration.models.map(\.name)),
            report: .init(name: "ns/team", keys: 0, problems: [problem]),
            wallTime: 0
        )
        let status = draft.value()
        #expect(status["keys"] == 0)
        #expect(try self.condition(status, "Accepted")["status"] == "True")
        let models = try self.condition(status, "ModelsFound")
        #expect(models["status"] == "False" && models["message"].string?.contains("later") == true)
        let keys = try self.condition(status, "KeysFound")
        #expect(keys["reason"] == "SecretMissing" && keys["message"].string == problem.message)
    }

    /// Before a gateway has answered, nothing is said of keys.
    @Test func tenantsSayNothingOfWhatNobodyKnows() {
        let draft = PolicyStatuses.draft(
            tenant: self.item(.tenant, "team"),
            spec: nil,
            verdict: .refused([]),
            models: [],
            report: nil,
            wallTime: 0
        )
        let status = draft.value()
        #expect(status["conditions"].elements.map { $0["type"].string } == ["Accepted"])
        #expect(status["keys"].isNull)
    }

    @Test func whatIsThereIsNotWrittenAgain() {
        let draft: JSONValue = ["observedGeneration": 4, "models": 1]
        #expect(StatusWriter.says(draft, draft))
        #expect(!StatusWriter.says([:], draft))
        #expect(!StatusWriter.says(["observedGeneration": 3, "models": 1], draft))
        // What is not said any more has to go; what another one writes stays.
        #expect(!StatusWriter.says(["observedGeneration": 4, "models": 1, "keys": 2], draft))
        #expect(StatusWriter.says(["observedGeneration": 4, "models": 1, "rollout": [:]], draft))
    }

    @Test func whatTheServerRefusesIsTriedLessAndLessOften() {
        let key = ObjectKey(namespace: "ns", name: "team")
        var rests = StatusRests()
        var tries: [Int] = []
        for tick in 0..<200 where !rests.pass(key) {
            tries.append(tick)
            #expect(rests.refused(key) == (tick == 0))
        }
        #expect(tries == [0, 2, 5, 10, 19, 36, 69, 134, 199])
        rests.taken(key)
        let isResting = rests.pass(key)
        #expect(!isResting)
    }

    @Test func timesOfConditionsStayWhileTheyHold() {
        let item = self.item(.scalingPolicy, "standard")
        let before = PolicyStatuses.draft(item, verdict: nil, users: [], wallTime: 1_000).value()
        let again = self.item(.scalingPolicy, "standard", status: before)
        let after = PolicyStatuses.draft(again, verdict: nil, users: [], wallTime: 9_000).value()
        #expect(StatusWriter.says(before, after))
    }
}
