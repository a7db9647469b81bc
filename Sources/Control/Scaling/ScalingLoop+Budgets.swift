import Autoscaling
import Clusters
import Core
import Orchestration

/// What a budget has, and who has how much of it.
package struct BudgetUse: Sendable, Equatable {
    package struct Model: Sendable, Equatable {
        package var name: String
        /// Units that its replicas take, whatever they are doing.
        package var used: Int
        /// Units that it would take if there were enough.
        package var wanted: Int
    }

    package var budget: ScalingPlan.Budget
    /// What may be shared out now: the budget's total, or less where something else limits it.
    package var available: Int
    package var models: [Model]

    package var used: Int { self.models.reduce(0) { $0 + $1.used } }
    package var wanted: Int { self.models.reduce(0) { $0 + $1.wanted } }
}

extension ScalingLoop {
    /// What every budget comes to at this moment, in the order of the plan.
    package var budgetUses: [BudgetUse] {
        self.plan.budgets.indices.map { index in
            var models: [BudgetUse.Model] = self.plan.models.compactMap { model in
                model.budget?.index == index ? self.use(of: model) : nil
            }
            models += self.plan.budgets[index].fixed.map { fixed in
                let desired = self.fleet.group(fixed.group)?.desired ?? 0
                return BudgetUse.Model(
                    name: fixed.model,
                    used: self.present(fixed.group) * fixed.units,
                    wanted: desired * fixed.units
                )
            }
            return BudgetUse(
                budget: self.plan.budgets[index],
                available: self.available(index),
                models: Self.merged(models)
            )
        }
    }

    private func use(of model: ScalingPlan.Model) -> BudgetUse.Model {
        var use = BudgetUse.Model(name: model.name, used: 0, wanted: 0)
        let latest = self.latest(of: model.name)
        for (place, variant) in model.variants.enumerated() {
            let units = model.setup.variants[place].unitsPerReplica
            use.used += self.present(variant.group) * units
            let decision = latest?.variant(named: variant.name)
            // What the budget took away is wanted all the same.
            let before = decision?.constraints.lazy.compactMap { constraint in
                if case .budget = constraint.kind { constraint.before } else { nil }
            }.first
            use.wanted += (before ?? decision?.desired ?? 0) * units
        }
        return use
    }

    /// A model may have several variants that are not scaled.
    private static func merged(_ models: [BudgetUse.Model]) -> [BudgetUse.Model] {
        var byName: [String: BudgetUse.Model] = [:]
        for model in models {
            byName[model.name, default: BudgetUse.Model(name: model.name, used: 0, wanted: 0)]
                .used += model.used
            byName[model.name]?.wanted += model.wanted
        }
        return byName.values.sorted { $0.name < $1.name }
    }

    /// Replicas that exist: those that are only asked for take nothing.
    private func present(_ group: String) -> Int {
        self.fleet.group(group)?.replicas.count { $0.id.index >= 0 } ?? 0
    }

    /// Units that may be shared out now: the total, or what a quota leaves of it. What others use
    /// of the quota is not ours to share.
    func available(_ budget: Int) -> Int {
        let total = self.plan.budgets[budget].total
        guard let quota = self.quota(self.plan.budgets[budget]) else { return total }
        return min(total, max(0, quota.hard - max(0, quota.used - self.held(budget))))
    }

    /// Units that the budget's models have.
    private func held(_ budget: Int) -> Int {
        var held = 0
        for model in self.plan.models where model.budget?.index == budget {
            for (place, variant) in model.variants.enumerated() {
                held += self.present(variant.group) * model.setup.variants[place].unitsPerReplica
            }
        }
        for fixed in self.plan.budgets[budget].fixed {
            held += self.present(fixed.group) * fixed.units
        }
        return held
    }
}
