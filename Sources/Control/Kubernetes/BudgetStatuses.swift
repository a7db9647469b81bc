import Core
import HTTPService
import Kubernetes
import Orchestration

/// What holds of each ResourceBudget, for its status: who has how much, and what the nodes and a
/// quota have of its resource.
enum BudgetStatuses {
    static func draft(
        _ item: ResourceDirectory.Item,
        verdict: ResourceKeeper.Verdict?,
        uses: [BudgetUse],
        stock: CapacityLedger,
        wallTime: Double
    ) -> StatusWriter.Draft {
        let use = uses.first {
            $0.budget.name == item.key.name && $0.budget.namespace == item.key.namespace
        }
        let accepted = StatusCondition.accepted(verdict)
        var status = self.value(use, stock, generation: item.generation)
        let significant = status.text + accepted.significant
        status["conditions"] = [
            accepted.value(old: item.status, generation: item.generation, wallTime: wallTime)
        ]
        return StatusWriter.Draft(significant: significant) { [status] in status }
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
}
