/// One metric's bets: on all strata together, and on each by itself.
///
/// A regression of long prompts alone would drown in the short ones, so a quarter of the wealth is
/// bet on single strata. The average of e-processes is one.
package struct StratifiedBet: Sendable, Equatable, Codable {
    private var common: RateProcess
    private var strata: [RateProcess]
    package private(set) var dispersion = Dispersion()

    private static let commonShare = 0.75
    /// Wealth spread anew per second, and at the beginning of each step.
    private static let spreadPerSecond = 0.000_5
    private static let spreadPerStep = 0.4

    package init(grid: RatioGrid) {
        self.common = RateProcess(grid: grid)
        self.strata = Array(repeating: RateProcess(grid: grid), count: PromptStratum.count)
    }

    /// The e-value.
    package var evidence: Double {
        let single = self.strata.reduce(0) { $0 + $1.total } / Double(self.strata.count)
        return Self.commonShare * self.common.total + (1 - Self.commonShare) * single
    }

    package mutating func settle(
        _ counts: CohortCounts,
        stratum: Int,
        grid: RatioGrid,
        margin: RateMargin,
        divisor: Double
    ) {
        guard let factors = grid.factors(counts, margin, divisor: divisor) else { return }
        self.common.settle(factors)
        self.strata[stratum].settle(factors)
    }

    /// The stable arm's replicas in one cohort; counts for later ticks' divisor only.
    package mutating func observe(_ replicas: [(replica: String, requests: Int, bad: Int)]) {
        self.dispersion.add(replicas)
    }

    package mutating func pass(seconds: Double, grid: RatioGrid) {
        self.spread(min(Self.spreadPerSecond * max(seconds, 0), 0.5), grid)
    }

    package mutating func beginStep(grid: RatioGrid) {
        self.spread(Self.spreadPerStep, grid)
    }

    private mutating func spread(_ share: Double, _ grid: RatioGrid) {
        self.common.spread(share, over: grid)
        for index in self.strata.indices { self.strata[index].spread(share, over: grid) }
    }

    /// Whether a stored bet can go on.
    package func fits(_ grid: RatioGrid) -> Bool {
        self.common.fits(grid) && self.strata.count == PromptStratum.count
            && self.strata.allSatisfy { $0.fits(grid) } && self.dispersion.isValid
    }
}
