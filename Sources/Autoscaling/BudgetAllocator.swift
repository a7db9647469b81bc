/// Shares a budget of some resource among those that want replicas.
///
/// Minimums come first, then what is left, by priority; within one priority by weight (weighted
/// max-min fairness). The total is never exceeded, also while replicas move from one to another:
/// a claimant grows only into units that nobody holds at this moment, and draining or stuck replicas
/// hold theirs.
package struct BudgetAllocator: Sendable {
    /// One variant of one model.
    package struct Claim: Sendable, Hashable {
        /// Units of the resource that a replica takes; at least 1.
        package var unitsPerReplica: Int
        /// Replicas that are to be there before anybody gets more than its minimum.
        package var minimum: Int
        /// Replicas wanted, without the budget.
        package var wanted: Int
        /// Replicas that are ready, starting or stuck.
        package var held: Int
        /// Replicas that are draining.
        package var draining: Int
        /// Higher first.
        package var priority: Int
        /// At least 1.
        package var weight: Int

        package init(
            unitsPerReplica: Int,
            minimum: Int,
            wanted: Int,
            held: Int,
            draining: Int,
            priority: Int = 0,
            weight: Int = 1
        ) {
            self.unitsPerReplica = max(1, unitsPerReplica)
            self.minimum = max(0, minimum)
            self.wanted = max(0, wanted)
            self.held = max(0, held)
            self.draining = max(0, draining)
            self.priority = priority
            self.weight = max(1, weight)
        }
    }

    package var total: Int

    package init(total: Int) {
        self.total = max(0, total)
    }

    /// The most replicas each claim may have from now on, in the order of the claims.
    package func grants(for claims: [Claim]) -> [Int] {
        claims.map { min($0.wanted, $0.held) }
    }
}
