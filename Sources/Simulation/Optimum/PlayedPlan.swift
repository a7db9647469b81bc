import Core

/// A plan that was made beforehand, with starts early enough for its replicas to be ready in time:
/// how the clairvoyant's plan is shown to work.
package struct PlayedPlan: ReplicaPolicy {
    private let slot: Double
    private let wanted: [UInt16]

    /// - Parameter lead: seconds that a start takes.
    package init(_ plan: CapacityOptimum.Plan, slot: Double, lead: Double) {
        self.slot = slot
        // What is wanted now is the most of what is needed until a start from now would be ready.
        let reach = Int((lead / slot).rounded(.up))
        var wanted = plan.counts
        var window: [Int] = []
        var head = 0
        for index in plan.counts.indices.reversed() {
            // A falling queue of the candidates for the maximum, nearest last.
            while window.count > head, let last = window.last,
                plan.counts[last] <= plan.counts[index]
            {
                window.removeLast()
            }
            window.append(index)
            while window[head] > index + reach { head += 1 }
            wanted[index] = plan.counts[window[head]]
        }
        self.wanted = wanted
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        if self.wanted.isEmpty { return 0 }
        let index = Int(seen.seconds / self.slot)
        // After the last slot what is under way still ends.
        return Int(self.wanted[min(index, self.wanted.count - 1)])
    }

    package mutating func wake(_ seen: Observation) -> Int { self.desiredReplicas(seen) }
}
