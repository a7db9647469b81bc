/// Chooses variants in proportion to their weights, evenly also in the short run.
///
/// Smooth weighted round robin, as nginx describes it: every variant that takes part earns its
/// weight as credit, the richest is chosen and pays what all have earned together. Over any run of
/// picks a variant is within one pick of its share; weight 0 is never chosen.
///
/// Credits of those that take part always sum to zero, so they stay bounded by the sum of weights.
package struct WeightedPicker: Sendable {
    package static let weightMax = 1_000_000
    package static let variantsMax = 64

    private var weights: [Int]
    private var credits: [Int]

    /// Weights are 0...`weightMax`, any sum. `phase` picks are skipped, so that several workers
    /// which start together do not all send their rare variant its request at the same moment.
    package init(weights: [Int], phase: Int = 0) {
        Self.check(weights)
        self.weights = weights
        self.credits = Array(repeating: 0, count: weights.count)
        for _ in 0..<min(max(phase, 0), Self.phaseMax) { _ = self.next() }
    }

    package static let phaseMax = 1_000

    package var count: Int { self.weights.count }
    package func weight(_ variant: Int) -> Int { self.weights[variant] }

    /// The next variant, or nil where all weights are 0.
    package mutating func next() -> Int? { self.next(among: .max) }

    /// The next variant among those whose bits are set in `eligible`, the first one's lowest; nil
    /// where none of positive weight is. The others neither earn nor pay, so their share is split
    /// among the eligible in proportion, and nobody gets a burst to catch up afterwards.
    package mutating func next(among eligible: UInt64) -> Int? {
        var best = -1
        var bestCredit = 0
        var earned = 0
        var index = 0
        while index < self.weights.count {
            let weight = self.weights[index]
            if weight > 0, (eligible &>> UInt64(truncatingIfNeeded: index)) & 1 == 1 {
                let credit = self.credits[index] &+ weight
                self.credits[index] = credit
                earned &+= weight
                if best < 0 || credit > bestCredit {
                    best = index
                    bestCredit = credit
                }
            }
            index &+= 1
        }
        guard best >= 0 else { return nil }
        self.credits[best] = bestCredit &- earned
        return best
    }

    /// Puts new weights in place of the old ones. `previousIndex` says where a variant stood
    /// before, nil for a new one. What a variant was owed, it is owed still, scaled to the new sum;
    /// so a reload with unchanged weights changes nothing, and one in the middle of a cycle does
    /// not start it anew.
    package mutating func update(weights: [Int], previousIndex: (Int) -> Int? = { $0 }) {
        Self.check(weights)
        let oldSum = self.weights.reduce(0, +)
        let newSum = weights.reduce(0, +)
        var credits = Array(repeating: 0, count: weights.count)
        for index in weights.indices where weights[index] > 0 && oldSum > 0 {
            guard let previous = previousIndex(index), self.weights.indices.contains(previous),
                self.weights[previous] > 0
            else { continue }
            let limit = Double(newSum)
            let scaled = Double(self.credits[previous]) * limit / Double(oldSum)
            credits[index] = Int(max(-limit, min(limit, scaled)))
        }
        self.weights = weights
        self.credits = Self.balanced(credits, weights: weights)
    }

    /// Takes the sum of the credits back to zero: what a variant that left was owed or owes, the
    /// others share by weight, and the heaviest takes the rest of the division.
    private static func balanced(_ credits: [Int], weights: [Int]) -> [Int] {
        var credits = credits
        let excess = credits.reduce(0, +)
        let sum = weights.reduce(0, +)
        guard excess != 0, sum > 0,
            let heaviest = weights.indices.max(by: { weights[$0] < weights[$1] })
        else { return credits }
        for index in weights.indices { credits[index] -= excess * weights[index] / sum }
        credits[heaviest] -= credits.reduce(0, +)
        return credits
    }

    private static func check(_ weights: [Int]) {
        precondition(weights.count <= Self.variantsMax, "\(weights.count) variants")
        for weight in weights {
            precondition(weight >= 0 && weight <= Self.weightMax, "a weight of \(weight)")
        }
    }
}
