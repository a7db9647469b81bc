import Configuration
import Testing

@testable import Control

@Suite struct ResourceKeeperTests {
    private static let base = ConfigurationFile(
        name: "base",
        text: "apiVersion: weir.dev/v1alpha1\nkind: Gateway\nmetadata: {name: default}\nspec: {}\n"
    )

    private func model(
        _ name: String,
        aliases: [String] = [],
        policy: String? = nil,
        createdAt: String = "2026-01-01T00:00:00Z",
        extra: String = ""
    ) -> ResourceText {
        let scaling = policy.map { ",\"scaling\":{\"policy\":\"\($0)\",\"maxReplicas\":2}" } ?? ""
        let list = aliases.map { "\"\($0)\"" }.joined(separator: ",")
        return ResourceText(
            name: "models.weir.dev ns/\(name)",
            createdAt: createdAt,
            kind: .model,
            text: """
                {"apiVersion":"weir.dev/v1alpha1","kind":"Model",\
                "metadata":{"name":"\(name)","namespace":"ns"},\
                "spec":{"protocol":"OpenAI","aliases":[\(list)],"variants":[{"name":"main",\
                "workloadRef":{"kind":"Deployment","name":"\(name)","port":8000}}]\
                \(scaling)\(extra)}}
                """
        )
    }

    private func policy(_ name: String, value: String = "6") -> ResourceText {
        ResourceText(
            name: "scalingpolicies.weir.dev ns/\(name)",
            createdAt: "2026-01-01T00:00:00Z",
            kind: .scalingPolicy,
            text: """
                {"apiVersion":"weir.dev/v1alpha1","kind":"ScalingPolicy",\
                "metadata":{"name":"\(name)","namespace":"ns"},\
                "spec":{"targets":[{"type":"Concurrency","value":"\(value)"}]}}
                """
        )
    }

    private func tenant(_ name: String, models: [String] = [], extra: String = "") -> ResourceText {
        let list = models.map { "\"\($0)\"" }.joined(separator: ",")
        return ResourceText(
            name: "tenants.weir.dev ns/\(name)",
            createdAt: "2026-01-01T00:00:00Z",
            kind: .tenant,
            text: """
                {"apiVersion":"weir.dev/v1alpha1","kind":"Tenant",\
                "metadata":{"name":"\(name)","namespace":"ns"},\
                "spec":{"keys":[{"secretRef":{"name":"\(name)"}}],"models":[\(list)]\(extra)}}
                """
        )
    }

    private func names(_ outcome: ResourceKeeper.Outcome?) -> [String]? {
        outcome?.configuration.models.map(\.name).sorted()
    }

    @Test func takesWhatIsRight() {
        var keeper = ResourceKeeper(base: [Self.base])
        #expect(self.names(keeper.assemble([])) == [])
        let outcome = keeper.assemble([self.model("a", policy: "p"), self.policy("p")])
        #expect(self.names(outcome) == ["a"])
        #expect(outcome?.verdicts.values.allSatisfy { $0 == .accepted } == true)
    }

    /// Between its coming and the next configuration nobody knows whether it will be accepted.
    @Test func saysNothingOfWhatItHasNotJudged() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        let judged = self.model("a")
        let made = keeper.assemble([judged])
        let outcome = try #require(made)
        #expect(outcome.verdict(of: judged) == .accepted)
        #expect(outcome.verdict(of: self.model("b")) == nil)
        #expect(outcome.verdict(of: self.model("a", aliases: ["c"])) == nil)
    }

    @Test func leavesOutWhatIsWrongAndNothingElse() {
        var keeper = ResourceKeeper(base: [Self.base])
        let outcome = keeper.assemble([
            self.model("a"), self.model("b", extra: ",\"nonsense\":1"), self.model("c"),
        ])
        #expect(self.names(outcome) == ["a", "c"])
        guard case .refused(let problems) = outcome?.verdicts["models.weir.dev ns/b"] else {
            Issue.record("\(String(describing: outcome?.verdicts))")
            return
        }
        #expect(problems.contains { $0.message.contains("nonsense") })
    }

    @Test func keepsTheLastGoodState() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        _ = keeper.assemble([self.model("a", aliases: ["one"])])
        let bad = self.model("a", aliases: ["two"], extra: ",\"nonsense\":1")
        let assembled = keeper.assemble([bad, self.model("b")])
        let outcome = try #require(assembled)
        #expect(self.names(outcome) == ["a", "b"])
        #expect(outcome.configuration.models.first { $0.name == "a" }?.spec.aliases == ["one"])
        guard case .keptOld = outcome.verdicts["models.weir.dev ns/a"] else {
            Issue.record("\(outcome.verdicts)")
            return
        }
        let repaired = keeper.assemble([self.model("a", aliases: ["two"])])
        #expect(repaired?.configuration.models[0].spec.aliases == ["two"])
        #expect(repaired?.verdicts["models.weir.dev ns/a"] == .accepted)
    }

    @Test func givesANameToTheOlderModel() {
        var keeper = ResourceKeeper(base: [Self.base])
        let outcome = keeper.assemble([
            self.model("b", aliases: ["shared"], createdAt: "2026-01-02T00:00:00Z"),
            self.model("a", aliases: ["shared"], createdAt: "2026-01-03T00:00:00Z"),
        ])
        #expect(self.names(outcome) == ["b"])
    }

    @Test func keepsAPolicyThatModelsNeed() {
        var keeper = ResourceKeeper(base: [Self.base])
        _ = keeper.assemble([self.model("a", policy: "p"), self.policy("p")])
        let without = keeper.assemble([self.model("a", policy: "p")])
        #expect(self.names(without) == ["a"])
        #expect(without?.configuration.scalingPolicies.map(\.name) == ["p"])
        // A model that was never served has no right to it.
        let gone = keeper.assemble([])
        #expect(gone?.configuration.scalingPolicies.isEmpty == true)
        #expect(self.names(keeper.assemble([self.model("b", policy: "p")])) == [])
    }

    @Test func forgetsModelsThatAreDeleted() {
        var keeper = ResourceKeeper(base: [Self.base])
        _ = keeper.assemble([self.model("a"), self.model("b")])
        #expect(self.names(keeper.assemble([self.model("b", extra: ",\"bad\":1")])) == ["b"])
        #expect(self.names(keeper.assemble([])) == [])
    }

    @Test func saysWhenItsOwnSettingsAreWrong() {
        var keeper = ResourceKeeper(base: [ConfigurationFile(name: "base", text: "nonsense")])
        #expect(keeper.assemble([self.model("a")]) == nil)
    }

    /// Clients know names alone: the older of two models in two namespaces keeps its.
    @Test func aNameIsOneModelsOverAllNamespaces() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        var other = self.model("a", createdAt: "2026-01-02T00:00:00Z")
        other.name = "models.weir.dev other/a"
        other.text = other.text.replacing("\"namespace\":\"ns\"", with: "\"namespace\":\"other\"")
        let assembled = keeper.assemble([other, self.model("a")])
        let outcome = try #require(assembled)
        #expect(outcome.configuration.models.map(\.metadata.namespace) == ["ns"])
        guard case .refused(let problems) = outcome.verdicts[other.name] else {
            Issue.record("\(outcome.verdicts)")
            return
        }
        #expect(problems.contains { $0.hint?.contains("namespace `ns`") == true })
    }

    // MARK: Tenants

    /// A model that is not there yet, or is gone, shuts nobody out.
    @Test func tenantsMayNameModelsThatAreNotThere() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        let tenant = self.tenant("team", models: ["a", "b"])
        for models in [[], [self.model("a"), self.model("b")], [self.model("b")]] {
            let assembled = keeper.assemble(models + [tenant])
            let outcome = try #require(assembled)
            #expect(outcome.configuration.tenants.map(\.name) == ["team"])
            #expect(outcome.verdicts["tenants.weir.dev ns/team"] == .accepted)
            #expect(outcome.requiresKeys)
        }
    }

    @Test func aTenantThatIsWrongStillClosesTheGateway() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        let assembled = keeper.assemble([self.tenant("team", extra: ",\"nonsense\":1")])
        let outcome = try #require(assembled)
        #expect(outcome.configuration.tenants.isEmpty && outcome.requiresKeys)
        let without = keeper.assemble([])
        #expect(without?.requiresKeys == false)
    }

    /// What models refer to stays with them; a tenant that was deleted does not come back.
    @Test func aDeletedTenantStaysAway() throws {
        var keeper = ResourceKeeper(base: [Self.base])
        _ = keeper.assemble([self.model("a", policy: "p"), self.policy("p"), self.tenant("team")])
        let assembled = keeper.assemble([self.model("a", policy: "p")])
        let outcome = try #require(assembled)
        #expect(outcome.configuration.scalingPolicies.map(\.name) == ["p"])
        #expect(outcome.configuration.tenants.isEmpty && !outcome.requiresKeys)
    }
}
