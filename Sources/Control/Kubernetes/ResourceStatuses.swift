import Autoscaling
import Configuration
import Kubernetes
import Orchestration

/// The statuses of all kinds, written within what one tick may.
package final class ResourceStatuses {
    /// Statuses written per tick of a second; the others wait for the next one. The client sends 40
    /// calls per second (`RequestLimits`): numbers of replicas and the Lease need some of them.
    static let writesMax = 30
    /// Of these, for models: the others' turn comes while a thousand models change.
    static let modelsMax = 25

    /// The last; until there is one, nothing is said.
    var outcome: ResourceKeeper.Outcome?
    package var onProblem: (String) -> Void = { _ in } {
        didSet { for writer in self.writers.values { writer.onProblem = self.onProblem } }
    }
    private let directory: ResourceDirectory
    private let writers: [ResourceDirectory.Kind: StatusWriter]

    init(_ client: KubernetesClient, _ directory: ResourceDirectory) {
        self.directory = directory
        self.writers = Dictionary(
            uniqueKeysWithValues: ResourceDirectory.Kind.allCases.map {
                ($0, StatusWriter(client, $0))
            }
        )
    }

    /// Another process has led meanwhile.
    package func forget() { for writer in self.writers.values { writer.forget() } }

    func write(
        _ configuration: Configuration,
        models facts: ModelStatuses.Facts,
        budgets: [BudgetUse],
        stock: CapacityLedger,
        tenants: [String: TenantReport.Tenant],
        wallTime: Double,
        mayWrite: () -> Bool
    ) {
        let specs = ModelStatuses.specs(configuration)
        var left = Self.modelsMax
        self.write(.model, &left, mayWrite) { item, verdict in
            ModelStatus(item, verdict: verdict, spec: specs[item.key], facts)
                .draft(old: item.status, wallTime: wallTime)
        }
        left += Self.writesMax - Self.modelsMax
        self.write(.resourceBudget, &left, mayWrite) {
            BudgetStatuses.draft(
                $0,
                verdict: $1,
                uses: budgets,
                stock: stock,
                wallTime: wallTime
            )
        }
        let models = Set(specs.keys.map(\.name))
        let accepted = Dictionary(
            configuration.tenants.map { ($0.key, $0.spec) },
            uniquingKeysWith: { first, _ in first }
        )
        self.write(.tenant, &left, mayWrite) {
            PolicyStatuses.draft(
                tenant: $0,
                spec: accepted[$0.key.description],
                verdict: $1,
                models: models,
                report: tenants[$0.key.description],
                wallTime: wallTime
            )
        }
        let users = PolicyStatuses.Users(configuration)
        for kind in [ResourceDirectory.Kind.scalingPolicy, .rolloutPolicy] {
            self.write(kind, &left, mayWrite) {
                PolicyStatuses.draft(
                    $0,
                    verdict: $1,
                    users: users.of($0),
                    wallTime: wallTime
                )
            }
        }
    }

    private func write(
        _ kind: ResourceDirectory.Kind,
        _ left: inout Int,
        _ mayWrite: () -> Bool,
        _ draft: (ResourceDirectory.Item, ResourceKeeper.Verdict) -> StatusWriter.Draft
    ) {
        self.writers[kind]?.write(self.directory, left: &left, mayWrite: mayWrite) { item in
            self.outcome?.verdict(of: item.text).map { draft(item, $0) }
        }
    }
}
