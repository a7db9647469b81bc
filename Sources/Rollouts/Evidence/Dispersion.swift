/// How much more the stable arm's replicas differ from each other than independent requests would.
///
/// A replica on a bad node, or errors that come in bursts, make a small arm look worse by luck. Per
/// tick each replica's bad events are compared with its share of the arm's; the squared sums of
/// these differences over their variances (Pearson's dispersion, hypergeometric variances) say by
/// what the logarithm of a bet has to be divided. Below three replicas it cannot be known and
/// is 1: then a bad node is not told from a bad variant.
package struct Dispersion: Sendable, Equatable, Codable {
    /// Replicas followed; those that come when the table is full are left out.
    package static let replicasMax = 64
    /// With fewer the dispersion is not known.
    package static let replicasMin = 3

    private struct Replica: Sendable, Equatable, Codable {
        var name: String
        /// Bad events minus those expected.
        var excess: Double
        var variance: Double
    }

    private var replicas: [Replica] = []

    package init() {}

    /// Counts one tick of the stable arm, a cohort at a time.
    package mutating func add(_ counts: [(replica: String, requests: Int, bad: Int)]) {
        let requests = counts.reduce(0) { $0 + $1.requests }
        let bad = counts.reduce(0) { $0 + $1.bad }
        guard requests > 1, bad > 0 else { return }
        for count in counts where count.requests > 0 {
            let share = Double(count.requests) / Double(requests)
            let spread = Double(requests - bad) / Double(requests - 1)
            guard let index = self.index(of: count.replica) else { continue }
            self.replicas[index].excess += Double(count.bad) - Double(bad) * share
            self.replicas[index].variance += Double(bad) * share * (1 - share) * spread
        }
    }

    private mutating func index(of name: String) -> Int? {
        if let index = self.replicas.firstIndex(where: { $0.name == name }) { return index }
        guard self.replicas.count < Self.replicasMax else { return nil }
        self.replicas.append(Replica(name: name, excess: 0, variance: 0))
        return self.replicas.count - 1
    }

    /// At least 1. Excesses sum to zero, so that k replicas have k − 1 degrees of freedom, which
    /// the share in each variance already accounts for.
    package var factor: Double {
        let known = self.replicas.filter { $0.variance > 0 }
        guard known.count >= Self.replicasMin else { return 1 }
        let squares = known.reduce(0) { $0 + $1.excess * $1.excess }
        let variances = known.reduce(0) { $0 + $1.variance }
        let estimate = squares / variances
        let uncertainty = (2 / Double(known.count - 1)).squareRoot()
        // A little more than 1 is what independent requests give by chance.
        if estimate <= 1 + 2 * uncertainty { return max(1, estimate) }
        return estimate * (1 + uncertainty)
    }

    /// Whether there are enough replicas to tell a bad node from a bad variant.
    package var isKnown: Bool {
        self.replicas.count { $0.variance > 0 } >= Self.replicasMin
    }

    package var isValid: Bool {
        self.replicas.count <= Self.replicasMax
            && self.replicas.allSatisfy { $0.excess.isFinite && $0.variance >= 0 }
    }
}
