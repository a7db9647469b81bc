import Core

/// A number of replicas that does not change.
package struct FixedReplicas: ReplicaPolicy {
    private let count: Int

    package init(count: Int) { self.count = count }

    package mutating func desiredReplicas(_ seen: Observation) -> Int { self.count }
    package mutating func wake(_ seen: Observation) -> Int { self.count }
}

/// What the load needs at once, and a replica that is not needed any more for as long as a new
/// start would cost: the break-even rule of ski rental, at most twice as dear as the optimum where
/// starts take no time.
package struct BreakEven: ReplicaPolicy {
    private let target: Double
    private let timeout: Double
    private let bounds: ClosedRange<Int>
    /// When so many (index + 1) were needed last.
    private var needed: [Double] = []

    package init(target: Double, timeout: Double, bounds: ClosedRange<Int>) {
        self.target = target
        self.timeout = timeout
        self.bounds = bounds
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        let load = max(seen.inFlightMean + seen.queuedMean, seen.queued > 0 ? 1e-9 : 0)
        let count = Int((load / self.target).rounded(.up))
        let bounded = min(max(count, self.bounds.lowerBound), self.bounds.upperBound)
        while self.needed.count < bounded { self.needed.append(seen.seconds) }
        for level in 0..<bounded { self.needed[level] = seen.seconds }
        while let last = self.needed.last, self.needed.count > bounded,
            seen.seconds - last > self.timeout
        {
            self.needed.removeLast()
        }
        return self.needed.count
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}

/// Lazy capacity provisioning (Lin, Wierman, Andrew, Thereska: "Dynamic right-sizing for
/// power-proportional data centers", INFOCOM 2011): between the last entries of two optima of the
/// past, one that pays for switching on and one that pays for switching off, change as little as
/// possible. Three-competitive.
///
/// A slot is a second; its cost is that of the replicas and `penalty` for each one that was
/// missing.
package struct LCP: ReplicaPolicy {
    private let target: Double
    private let penalty: Double
    private let switching: Double
    private let bounds: ClosedRange<Int>
    /// Costs of the best pasts that end with so many replicas.
    private var lower: [Double]
    private var upper: [Double]
    private var current = 0

    /// - Parameter switching: what a start costs, in seconds of a replica.
    package init(target: Double, penalty: Double, switching: Double, bounds: ClosedRange<Int>) {
        self.target = target
        self.penalty = penalty
        self.switching = switching
        self.bounds = bounds
        self.lower = (0...bounds.upperBound).map { switching * Double($0) }
        self.upper = Array(repeating: 0, count: bounds.upperBound + 1)
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        let needed = (seen.inFlightMean + seen.queuedMean) / self.target
        self.current = self.step(needed: needed)
        return max(self.bounds.lowerBound, self.current)
    }

    /// One slot in which `needed` replicas would have been right.
    package mutating func step(needed: Double) -> Int {
        Self.relaxUp(&self.lower, self.switching)
        Self.relaxDown(&self.upper, self.switching)
        for count in self.lower.indices {
            let cost = Double(count) + self.penalty * max(0, needed - Double(count))
            self.lower[count] += cost
            self.upper[count] += cost
        }
        let low = Self.normalise(&self.lower, last: false)
        let high = Self.normalise(&self.upper, last: true)
        self.current = min(max(self.current, low), max(low, high))
        return self.current
    }

    /// Going up costs: V(x) = min over y of V(y) + β·max(0, x − y).
    private static func relaxUp(_ values: inout [Double], _ cost: Double) {
        for index in values.indices.dropFirst() {
            values[index] = min(values[index], values[index - 1] + cost)
        }
        for index in values.indices.dropLast().reversed() {
            values[index] = min(values[index], values[index + 1])
        }
    }

    /// Going down costs.
    private static func relaxDown(_ values: inout [Double], _ cost: Double) {
        for index in values.indices.dropLast().reversed() {
            values[index] = min(values[index], values[index + 1] + cost)
        }
        for index in values.indices.dropFirst() {
            values[index] = min(values[index], values[index - 1])
        }
    }

    /// Takes the least away from all, so that sums do not grow without bound; where it is.
    private static func normalise(_ values: inout [Double], last: Bool) -> Int {
        var best = 0
        for index in values.indices
        where last ? values[index] <= values[best] : values[index] < values[best] {
            best = index
        }
        let least = values[best]
        for index in values.indices { values[index] -= least }
        return best
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}
