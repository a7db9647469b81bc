/// A bet against "the canary is no worse", settled with every bad event: an e-process.
///
/// The null hypothesis, at every moment by itself: the canary's risk of a bad event is at most
/// `ratio` times the stable arm's plus `difference`. Under it the expected wealth never exceeds 1,
/// whatever the load does and whatever the weights are, so the chance that it *ever* reaches 1/α is
/// at most α (Ville's inequality) however often it is looked at.
///
/// One cohort has requests of both arms dispatched under the same weights. With θ the canary's
/// share of them and odds o = ratio·θ/(1−θ), a bad event came from the canary with probability at
/// most q₀ = o/(1+o) when `difference` is 0 (Lindon and Malek, "Anytime-valid inference for
/// multinomial count data", NeurIPS 2022: load that varies cancels). For an alternative whose risk
/// is g times the null's, q = g·o/(1+g·o), the wealth is multiplied by
///
///     (q/q₀)^canaryBad · ((1−q)/(1−q₀))^stableBad · exp(−(q−q₀)·D·difference/ratio)
///
/// where D = requests·(ratio·θ + 1 − θ). The last factor pays for the difference allowed: with
/// Poisson counts of means p_c·n_c and p_s·n_s the expectation is
/// exp((q−q₀)·D·(p_c − ratio·p_s − difference)/ratio), which is at most 1 exactly under the null,
/// and Bernoulli counts only lower it.
///
/// The wealth is spread over a grid of alternatives and cash, which never changes. Each tick and,
/// more so, each step a share of all wealth is spread anew ("fixed share", Herbster and Warmuth,
/// Machine Learning 32, 1998): spreading keeps the total, so it keeps the guarantee, and a canary
/// that was fine for an hour is caught soon after it turns bad.
package struct RateProcess: Sendable, Equatable, Codable {
    /// Cash first, then one entry per alternative of the grid.
    package private(set) var wealth: [Double]

    /// Wealth is kept in this range, so that it stays a number that JSON can hold.
    private static let wealthRange = 1e-300...1e300

    package init(grid: RatioGrid) {
        self.wealth = [grid.cash] + grid.shares
    }

    /// What was made of 1; at least 1/α contradicts the null at level α.
    package var total: Double {
        min(self.wealth.reduce(0, +), Self.wealthRange.upperBound)
    }

    /// Settles the bets on one cohort.
    package mutating func settle(_ factors: [Double]) {
        precondition(factors.count == self.wealth.count - 1, "\(factors.count) factors")
        for (index, factor) in factors.enumerated() {
            let product = self.wealth[index + 1] * factor
            let range = Self.wealthRange
            self.wealth[index + 1] = min(max(product, range.lowerBound), range.upperBound)
        }
    }

    /// Spreads a share of all wealth as in the beginning.
    package mutating func spread(_ share: Double, over grid: RatioGrid) {
        precondition(share >= 0 && share <= 1, "a share of \(share)")
        let common = self.total * share
        self.wealth[0] = self.wealth[0] * (1 - share) + common * grid.cash
        for (index, part) in grid.shares.enumerated() {
            self.wealth[index + 1] = self.wealth[index + 1] * (1 - share) + common * part
        }
    }

    /// Whether a stored process has the shape of `grid` and numbers that make sense.
    package func fits(_ grid: RatioGrid) -> Bool {
        self.wealth.count == grid.ratios.count + 1
            && self.wealth.allSatisfy { $0.isFinite && $0 >= 0 }
    }
}

/// The alternatives that wealth is bet on.
package struct RatioGrid: Sendable, Equatable {
    /// How many times the risk that the null allows, each above 1.
    package let ratios: [Double]
    /// What is kept out of the bets at first, 0 up to below 1.
    package let cash: Double
    /// What is bet on each alternative at first.
    let shares: [Double]
    private let logarithms: [Double]

    package init(ratios: [Double], cash: Double = 0) {
        precondition(!ratios.isEmpty && ratios.allSatisfy { $0 > 1 }, "ratios \(ratios)")
        precondition(cash >= 0 && cash < 1, "\(cash) in cash")
        self.ratios = ratios
        self.cash = cash
        self.shares = ratios.map { _ in (1 - cash) / Double(ratios.count) }
        self.logarithms = ratios.map(Mathematics.log)
    }

    /// For rare events, whose rate may rise a lot.
    package static let events = RatioGrid(ratios: [1.3, 1.7, 2.5, 4, 7, 13, 25], cash: 0.15)
    /// For the share of requests beyond a quantile, which a slower canary raises a little.
    package static let exceedances = RatioGrid(
        ratios: [1.15, 1.3, 1.5, 1.8, 2.3, 3.5, 7],
        cash: 0.15
    )

    /// By what the wealth on each alternative is multiplied after one cohort.
    ///
    /// - Parameter divisor: at least 1; how many times as much as independent events the counts
    ///   vary. The factor's logarithm is divided by it, which keeps the expectation at most 1
    ///   (Jensen) and widens the bet as the spread asks.
    package func factors(_ cohort: CohortCounts, _ margin: RateMargin, divisor: Double = 1)
        -> [Double]?
    {
        precondition(divisor >= 1, "a divisor of \(divisor)")
        guard cohort.canary > 0, cohort.stable > 0 else { return nil }
        let odds = margin.ratio * Double(cohort.canary) / Double(cohort.stable)
        let null = odds / (1 + odds)
        let all = margin.ratio * Double(cohort.canary) + Double(cohort.stable)
        let allowed = all * margin.difference / margin.ratio
        let bad = Double(cohort.canaryBad)
        let badInAll = bad + Double(cohort.stableBad)
        return self.ratios.indices.map { index in
            let more = self.ratios[index] * odds
            let common = Mathematics.log((1 + odds) / (1 + more))
            let logarithm =
                bad * self.logarithms[index] + badInAll * common
                - (more / (1 + more) - null) * allowed
            return Mathematics.exp(logarithm / divisor)
        }
    }
}

/// What the null hypothesis lets the canary do.
package struct RateMargin: Sendable, Equatable {
    /// At least 1.
    package var ratio: Double
    /// On top, as a share of all requests, 0...1.
    package var difference: Double

    package init(ratio: Double = 1, difference: Double = 0) {
        precondition(ratio >= 1 && difference >= 0 && difference <= 1, "\(ratio), \(difference)")
        self.ratio = ratio
        self.difference = difference
    }
}

/// Requests of both arms dispatched under the same weights, and how many of them went bad.
package struct CohortCounts: Sendable, Equatable {
    package var canary: Int
    package var canaryBad: Int
    package var stable: Int
    package var stableBad: Int

    package init(canary: Int, canaryBad: Int, stable: Int, stableBad: Int) {
        self.canary = canary
        self.canaryBad = canaryBad
        self.stable = stable
        self.stableBad = stableBad
    }
}
