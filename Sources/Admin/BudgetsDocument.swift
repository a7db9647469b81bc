import Control
import Core
import HTTPService
import Orchestration

/// `GET /api/v1/budgets`: who has how much of what is shared out, and what there is of it.
struct BudgetsDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        let uses = self.control.scaling?.budgetUses ?? []
        let stock = self.control.stock
        writer.object {
            $0.list("budgets") { writer in
                for use in uses { Self.write(use, stock, &writer) }
            }
        }
    }

    private static func write(
        _ use: BudgetUse,
        _ stock: CapacityLedger?,
        _ writer: inout JSONWriter
    ) {
        let budget = use.budget
        let quota = stock?.quota(of: budget.resource, in: budget.namespace)
        let pools = stock.map { $0.hasNodes ? $0.pools(of: budget.resource) : [] } ?? []
        writer.object {
            $0.member("name", budget.name)
            $0.member("namespace", budget.namespace)
            $0.member("resource", budget.resource)
            $0.member("total", budget.total)
            $0.member("available", use.available)
            $0.member("used", use.used)
            $0.member("wanted", use.wanted)
            $0.optional("quota", quota?.hard)
            $0.optional("quotaUsed", quota?.used)
            let isKnown = stock?.hasNodes ?? false
            $0.optional("allocatable", isKnown ? pools.reduce(0) { $0 + $1.allocatable } : nil)
            $0.list("pools") { writer in
                for pool in pools { Self.write(pool, &writer) }
            }
            $0.list("models") { writer in
                for model in use.models { Self.write(model, &writer) }
            }
        }
    }

    private static func write(_ pool: CapacityLedger.Pool, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", pool.name)
            $0.member("nodes", pool.nodes)
            $0.member("allocatable", pool.allocatable)
            $0.member("used", pool.used)
            $0.member("largestFree", max(0, pool.largestFree))
        }
    }

    private static func write(_ model: BudgetUse.Model, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", model.name)
            $0.member("used", model.used)
            $0.member("wanted", model.wanted)
        }
    }
}
