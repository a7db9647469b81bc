import Configuration
import HTTPService
import Kubernetes

/// What holds of ScalingPolicies, RolloutPolicies and Tenants, for their statuses: whether they are
/// gone by, who uses them, and whether what they name is there.
enum PolicyStatuses {
    /// Names told in a message; of the others, the number.
    private static let namesMax = 10
    /// Characters of a condition's message; the definitions allow 32 768.
    private static let messageMax = 4_000

    /// Which models name each policy.
    struct Users: Equatable {
        private var scaling: [ObjectKey: [String]] = [:]
        private var rollouts: [ObjectKey: [String]] = [:]

        init(_ configuration: Configuration) {
            for model in configuration.models {
                let namespace = model.metadata.namespace
                if let name = model.spec.scaling?.policy {
                    let key = ObjectKey(namespace: namespace, name: name)
                    self.scaling[key, default: []].append(model.name)
                }
                if let name = model.spec.rolloutPolicy {
                    let key = ObjectKey(namespace: namespace, name: name)
                    self.rollouts[key, default: []].append(model.name)
                }
            }
        }

        func of(_ item: ResourceDirectory.Item) -> [String] {
            let users = item.kind == .rolloutPolicy ? self.rollouts : self.scaling
            return (users[item.key] ?? []).sorted()
        }
    }

    static func draft(
        _ item: ResourceDirectory.Item,
        verdict: ResourceKeeper.Verdict?,
        users: [String],
        wallTime: Double
    ) -> StatusWriter.Draft {
        let used = StatusCondition(
            type: "InUse",
            isTrue: !users.isEmpty,
            reason: users.isEmpty ? "Unused" : "InUse",
            message: users.isEmpty
                ? "no model names it" : "models go by it: \(self.list(users))"
        )
        return self.draft(
            item,
            conditions: [.accepted(verdict), used],
            fields: [("models", .integer(users.count))],
            wallTime
        )
    }

    /// - Parameter report: what the gateways say of it; nil until one did.
    static func draft(
        tenant item: ResourceDirectory.Item,
        spec: TenantSpec?,
        verdict: ResourceKeeper.Verdict?,
        models: Set<String>,
        report: TenantReport.Tenant?,
        wallTime: Double
    ) -> StatusWriter.Draft {
        var conditions = [StatusCondition.accepted(verdict)]
        var fields: [(String, JSONValue)] = []
        if let spec {
            let missing = spec.models.filter { !models.contains($0) }
            let isFound = missing.isEmpty
            conditions.append(
                StatusCondition(
                    type: "ModelsFound",
                    isTrue: isFound,
                    reason: isFound ? "Found" : "ModelMissing",
                    message: isFound
                        ? "the models it may use are there"
                        : "there is no model \(self.list(missing)) in any namespace that is served"
                )
            )
        }
        if let report {
            conditions.append(self.keys(report))
            fields.append(("keys", .integer(report.keys)))
        }
        return self.draft(item, conditions: conditions, fields: fields, wallTime)
    }

    static func keys(_ report: TenantReport.Tenant) -> StatusCondition {
        let problem = report.problems.first
        let more = report.problems.dropFirst().map(\.message)
        return StatusCondition(
            type: "KeysFound",
            isTrue: problem == nil,
            reason: problem?.reason ?? "Found",
            message: problem.map {
                String(([$0.message] + more).joined(separator: "; ").prefix(self.messageMax))
            } ?? "every gateway knows its keys"
        )
    }

    private static func draft(
        _ item: ResourceDirectory.Item,
        conditions: [StatusCondition],
        fields: [(String, JSONValue)],
        _ wallTime: Double
    ) -> StatusWriter.Draft {
        var status: JSONValue = ["observedGeneration": .integer(item.generation)]
        for (name, value) in fields { status[name] = value }
        let significant = conditions.reduce(into: status.text) {
            $0 += "|\($1.significant) \($1.message)"
        }
        return StatusWriter.Draft(significant: significant) { [status] in
            var status = status
            status["conditions"] = .array(
                conditions.map {
                    $0.value(old: item.status, generation: item.generation, wallTime: wallTime)
                }
            )
            return status
        }
    }

    private static func list(_ names: [String]) -> String {
        let told = names.prefix(self.namesMax).joined(separator: ", ")
        let rest = names.count - self.namesMax
        return rest > 0 ? "\(told) and \(rest) more" : told
    }
}
