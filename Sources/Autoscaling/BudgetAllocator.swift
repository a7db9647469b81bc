/// Shares a budget of some resource among those that want replicas.
///
/// Minimums come first, then what is left, by priority; within one priority by weight (weighted
/// max-min fairness). The total is never exceeded, also while replicas move from one to another: a
/// claimant grows only into units that nobody holds at this moment, and draining or stuck replicas
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
    ///
    /// A claim is granted no more than it wants. Where it holds more than its share it is granted
    /// the share, and gives back; where it holds less it is granted what it holds and as many free
    /// units as its turn brings.
    package func grants(for claims: [Claim]) -> [Int] {
        let shares = self.shares(of: claims)
        var used = 0
        for claim in claims {
            used = used.addingClamped(
                (claim.held.addingClamped(claim.draining)).multipliedClamped(claim.unitsPerReplica)
            )
        }
        var free = max(0, self.total - used)
        var grants: [Int] = []
        grants.reserveCapacity(claims.count)
        for index in claims.indices { grants.append(min(shares[index], claims[index].held)) }
        // Minimums first, then by priority; the first in the list where those are the same.
        for isMinimum in [true, false] {
            for index in Self.order(claims) where grants[index] < shares[index] {
                let claim = claims[index]
                let target = isMinimum ? min(shares[index], claim.minimum) : shares[index]
                let missing = max(0, target - grants[index])
                let fitting = min(missing, free / claim.unitsPerReplica)
                grants[index] += fitting
                free -= fitting * claim.unitsPerReplica
            }
        }
        return grants
    }

    /// What each claim gets once all have moved.
    func shares(of claims: [Claim]) -> [Int] {
        var shares = Array(repeating: 0, count: claims.count)
        var left = self.total
        let order = Self.order(claims)
        for index in order {
            let claim = claims[index]
            let count = min(claim.minimum, claim.wanted, left / claim.unitsPerReplica)
            shares[index] = count
            left -= count * claim.unitsPerReplica
        }
        var start = 0
        while start < order.count {
            var end = start
            while end < order.count, claims[order[end]].priority == claims[order[start]].priority {
                end += 1
            }
            self.share(&left, among: order[start..<end], claims, &shares)
            start = end
        }
        return shares
    }

    /// Weighted max-min fairness: the next replica goes to whoever has the least for its weight.
    ///
    /// Units are handed out in rounds in proportion to the weights, then one by one; the number of
    /// rounds is bounded by that of the claims, as each but the last satisfies somebody.
    private func share(
        _ left: inout Int,
        among group: ArraySlice<Int>,
        _ claims: [Claim],
        _ shares: inout [Int]
    ) {
        var open = group.filter { shares[$0] < claims[$0].wanted }
        while !open.isEmpty {
            let level = Self.level(open, claims, shares, left: left)
            var wasSatisfied = false
            for index in open {
                let claim = claims[index]
                let units = min(level * Double(claim.weight), Double(self.total))
                let fair = Int(units) / claim.unitsPerReplica
                let count = min(max(fair, shares[index]), claim.wanted)
                let more = min(count - shares[index], left / claim.unitsPerReplica)
                shares[index] += more
                left -= more * claim.unitsPerReplica
                if shares[index] == claim.wanted { wasSatisfied = true }
            }
            open.removeAll { shares[$0] >= claims[$0].wanted }
            if !wasSatisfied { break }
        }
        self.shareRest(&left, among: open, claims, &shares)
    }

    /// Units per weight that everybody in `open` would have if what is left were spread evenly over
    /// what they have.
    private static func level(_ open: [Int], _ claims: [Claim], _ shares: [Int], left: Int)
        -> Double
    {
        // Those that hold more than the level already are left out, the richest first.
        var rich = open.map { index in
            let units = Double(shares[index]) * Double(claims[index].unitsPerReplica)
            return (has: units, weight: Double(claims[index].weight))
        }
        rich.sort { $0.has / $0.weight > $1.has / $1.weight }
        var units = Double(left)
        var weight = 0.0
        for entry in rich {
            units += entry.has
            weight += entry.weight
        }
        for entry in rich where entry.has / entry.weight > units / weight {
            units -= entry.has
            weight -= entry.weight
        }
        return weight > 0 ? units / weight : 0
    }

    /// What rounding left over: one replica at a time to whoever has the least for its weight and
    /// can take it.
    private func shareRest(
        _ left: inout Int,
        among group: [Int],
        _ claims: [Claim],
        _ shares: inout [Int]
    ) {
        var open = group
        // Less than one replica of each is left, so this ends soon.
        while !open.isEmpty {
            open.removeAll {
                shares[$0] >= claims[$0].wanted || claims[$0].unitsPerReplica > left
            }
            func poverty(_ index: Int) -> Double {
                let claim = claims[index]
                return Double(shares[index]) * Double(claim.unitsPerReplica) / Double(claim.weight)
            }
            guard let poorest = open.min(by: { poverty($0) < poverty($1) }) else { return }
            shares[poorest] += 1
            left -= claims[poorest].unitsPerReplica
        }
    }

    private static func order(_ claims: [Claim]) -> [Int] {
        claims.indices.sorted { left, right in
            let priorities = (claims[left].priority, claims[right].priority)
            return priorities.0 != priorities.1 ? priorities.0 > priorities.1 : left < right
        }
    }
}

extension Int {
    fileprivate func addingClamped(_ other: Int) -> Int {
        let (sum, overflow) = self.addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    fileprivate func multipliedClamped(_ other: Int) -> Int {
        let (product, overflow) = self.multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
