import Core
import HTTPService
import Kubernetes
import Orchestration

/// Writes what holds of each ResourceBudget into its status: who has how much, and what the nodes
/// and a quota have of its resource. Where it changed, a bounded number at a time.
package final class BudgetStatuses {
    /// Statuses written per tick; the others wait for the next one.
    static let writesMax = 5

    package var onProblem: (String) -> Void = { _ in }
    private let client: KubernetesClient
    private var written: [ObjectKey: JSONValue] = [:]
    private var writing: Set<ObjectKey> = []

    package init(client: KubernetesClient) {
        self.client = client
    }

    /// Another process has led meanwhile.
    package func forget() { self.written = [:] }

    package func write(
        _ directory: ResourceDirectory,
        verdicts: [String: ResourceKeeper.Verdict],
        uses: [BudgetUse],
        stock: CapacityLedger,
        wallTime: Double
    ) {
        var items: [ResourceDirectory.Item] = []
        directory.forEach(.resourceBudget) { items.append($0) }
        let present = Set(items.map(\.key))
        self.written = self.written.filter { present.contains($0.key) }
        var writes = 0
        for item in items where writes < Self.writesMax && !self.writing.contains(item.key) {
            let use = uses.first {
                $0.budget.name == item.key.name && $0.budget.namespace == item.key.namespace
            }
            let accepted = StatusCondition.accepted(verdicts[item.text.name])
            var status = Self.value(use, stock, generation: item.generation)
            status["accepted"] = .string(accepted.significant)
            if self.written[item.key] == status { continue }
            let text = status
            status.remove("accepted")
            status["conditions"] = [
                accepted.value(old: item.status, generation: item.generation, wallTime: wallTime)
            ]
            self.send(item, status, text)
            writes += 1
        }
    }

    static func value(
        _ use: BudgetUse?,
        _ stock: CapacityLedger,
        generation: Int
    ) -> JSONValue {
        var status: JSONValue = ["observedGeneration": .integer(generation)]
        guard let use else { return status }
        status["used"] = .integer(use.used)
        status["wanted"] = .integer(use.wanted)
        status["available"] = .integer(use.available)
        status["models"] = .array(
            use.models.prefix(1_000).map {
                [
                    "name": .string($0.name), "used": .integer($0.used),
                    "wanted": .integer($0.wanted),
                ]
            }
        )
        if let quota = stock.quota(of: use.budget.resource, in: use.budget.namespace) {
            status["quota"] = ["hard": .integer(quota.hard), "used": .integer(quota.used)]
        }
        // Without the right to read nodes nothing is known of them.
        if !stock.hasNodes { return status }
        let pools = stock.pools(of: use.budget.resource)
        status["allocatable"] = .integer(pools.reduce(0) { $0 + $1.allocatable })
        status["pools"] = .array(pools.prefix(100).map(Self.value))
        return status
    }

    private static func value(_ pool: CapacityLedger.Pool) -> JSONValue {
        [
            "name": .string(pool.name), "nodes": .integer(pool.nodes),
            "allocatable": .integer(pool.allocatable), "used": .integer(pool.used),
            "largestFree": .integer(max(0, pool.largestFree)),
        ]
    }

    private func send(_ item: ResourceDirectory.Item, _ status: JSONValue, _ text: JSONValue) {
        let resource = ResourceDirectory.Kind.resourceBudget.resource
        let key = item.key
        var object = KubernetesObject(resource, namespace: key.namespace, name: key.name)
        object["status"] = status
        self.writing.insert(key)
        self.client.apply(
            resource,
            object,
            manager: ModelStatuses.manager,
            force: true,
            subresource: "status"
        ) { [weak self] result in
            self?.writing.remove(key)
            switch result {
            case .success: self?.written[key] = text
            case .failure(let error):
                if error.isConflict || error.isNotFound || error.isCancelled { return }
                self?.onProblem("the status of ResourceBudget \(key) cannot be written: \(error)")
            }
        }
    }
}
