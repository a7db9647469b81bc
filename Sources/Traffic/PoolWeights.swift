/// Divides the weights of pools among the interchangeable variants in them.
///
/// A pool has the sum of its variants' weights. Each of them gets of it in proportion to what its
/// ready replicas can do; one without any gets nothing. Where none is ready the weights stay as
/// they are, and so do those of variants that are in no pool.
package enum PoolWeights {
    package struct Member: Sendable {
        package var weight: Int
        /// Members of the same pool have the same number; nil: in none.
        package var pool: Int?
        /// Replicas that take requests.
        package var ready: Int
        /// What one replica can do against one of the others; more than 0.
        package var worth: Double

        package init(weight: Int, pool: Int?, ready: Int, worth: Double) {
            self.weight = weight
            self.pool = pool
            self.ready = ready
            self.worth = worth > 0 && worth.isFinite ? worth : 1
        }
    }

    /// By so much all weights grow, where they can, so that small parts are not lost.
    private static let fineness = 1_000

    /// The weights in the order of the members, all of them multiplied by the same number where
    /// any pool is divided.
    /// - Parameter keepsScale: the sums stay as they are, and parts below one may be lost.
    package static func divide(_ members: [Member], keepsScale: Bool = false) -> [Int] {
        let pools = Set(members.compactMap(\.pool)).sorted()
        var weights = members.map { max(0, $0.weight) }
        let divided = pools.map { pool in members.indices.filter { members[$0].pool == pool } }
            .filter { $0.count > 1 && $0.contains { members[$0].ready > 0 } }
        if divided.isEmpty { return weights }
        let largest = max(1, weights.reduce(0, +))
        let most = max(1, WeightedPicker.weightMax / largest)
        let factor = keepsScale ? 1 : min(self.fineness, most)
        for index in weights.indices { weights[index] *= factor }
        for group in divided {
            let sum = group.reduce(0) { $0 + weights[$1] }
            self.divide(min(sum, WeightedPicker.weightMax), among: group, members, &weights)
        }
        return weights
    }

    private static func divide(
        _ sum: Int,
        among group: [Int],
        _ members: [Member],
        _ weights: inout [Int]
    ) {
        func power(_ index: Int) -> Double {
            Double(max(0, members[index].ready)) * members[index].worth
        }
        let total = group.reduce(0.0) { $0 + power($1) }
        var rest = sum
        for index in group {
            let exact = Double(sum) * (power(index) / total)
            weights[index] = min(rest, Int(exact.rounded(.down)))
            rest -= weights[index]
        }
        // What rounding left goes to whoever can do most.
        guard let strongest = group.max(by: { power($0) < power($1) }) else { return }
        weights[strongest] += rest
        precondition(group.reduce(0) { $0 + weights[$1] } == sum, "weight was lost")
    }
}
