/// Tests on requests that both arms answered, the canary a copy: the prompt is the same, so what
/// differs is the variant. McNemar's test and the sign test as bets: only pairs that disagree
/// count, and under the null each is the canary's with probability ½ at most.
package struct PairTest: Sendable, Equatable, Codable {
    package enum Kind: String, Sendable, Codable {
        /// Bad answers.
        case bad
        /// Slower answers.
        case slower
        /// Answers that should be equal and differ: classes, or text decoded greedily.
        case different
    }

    private var process: RateProcess
    package private(set) var compared = 0
    package private(set) var canaryCount = 0
    package private(set) var stableCount = 0
    /// What waits for answers of the stable arm to be compared with.
    private var waiting = Waiting()

    private struct Waiting: Sendable, Equatable, Codable {
        var compared = 0
        var different = 0
        var baselineCompared = 0
        var baselineDifferent = 0
    }

    private static let grid = RatioGrid.events

    package init() {
        self.process = RateProcess(grid: Self.grid)
    }

    package var evidence: Double { self.process.total }

    /// Counts one tick's pairs.
    ///
    /// - Parameter allowed: the share of pairs by which the canary may be worse.
    package mutating func record(_ pairs: PairCounts, kind: Kind, allowed: Double) {
        let margin = RateMargin(difference: allowed)
        let counts: CohortCounts
        switch kind {
        case .bad:
            counts = Self.discordant(pairs.compared, pairs.canaryBad, pairs.stableBad)
        case .slower:
            counts = Self.discordant(pairs.compared, pairs.canarySlower, pairs.stableSlower)
        case .different:
            guard let settled = self.settled(pairs) else { return }
            counts = settled
        }
        self.compared += counts.canary
        self.canaryCount += counts.canaryBad
        self.stableCount += counts.stableBad
        if let factors = Self.grid.factors(counts, margin) {
            self.process.settle(factors)
        } else if counts.canary > 0 {
            let allowed = max(allowed, Self.allowedMin)
            self.process.settle(
                Self.grid.factors(bad: counts.canaryBad, of: counts.canary, allowed: allowed)
            )
        }
    }

    /// What can be compared now; nil while answers of one side are missing. Which requests are sent
    /// to the stable arm once more is left to chance, so that ticks may be put together.
    private mutating func settled(_ pairs: PairCounts) -> CohortCounts? {
        self.waiting.compared += max(pairs.compared, pairs.different)
        self.waiting.different += max(pairs.different, 0)
        self.waiting.baselineCompared += max(pairs.baselineCompared, pairs.baselineDifferent)
        self.waiting.baselineDifferent += max(pairs.baselineDifferent, 0)
        let counts = CohortCounts(
            canary: self.waiting.compared,
            canaryBad: self.waiting.different,
            stable: self.waiting.baselineCompared,
            stableBad: self.waiting.baselineDifferent
        )
        let isWhole = counts.canary > 0 && counts.stable > 0
        guard isWhole || !pairs.hasBaseline else { return nil }
        self.waiting = Waiting()
        return counts
    }

    /// Without answers of the stable arm to compare with each other some noise is always allowed.
    package static let allowedMin = 0.001

    /// The pairs are as many requests of either arm.
    private static func discordant(_ compared: Int, _ canary: Int, _ stable: Int) -> CohortCounts {
        let pairs = max(compared, max(canary, 0) + max(stable, 0))
        return CohortCounts(
            canary: pairs,
            canaryBad: max(canary, 0),
            stable: pairs,
            stableBad: max(stable, 0)
        )
    }

    package mutating func beginStep() {
        self.process.spread(0.4, over: Self.grid)
        self.compared = 0
        self.canaryCount = 0
        self.stableCount = 0
    }

    package var isValid: Bool { self.process.fits(Self.grid) }
}

extension RatioGrid {
    /// By what the wealth is multiplied after `bad` of `count` trials, where the null allows each
    /// to be bad with probability `allowed`: g^bad · exp(−count·allowed·(g−1)), whose expectation
    /// is at most exp(count·(p−allowed)·(g−1)).
    package func factors(bad: Int, of count: Int, allowed: Double) -> [Double] {
        self.ratios.map { ratio in
            let cost = Double(count) * allowed * (ratio - 1)
            return Mathematics.exp(Double(bad) * Mathematics.log(ratio) - cost)
        }
    }
}
