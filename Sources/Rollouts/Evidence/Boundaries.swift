/// Bounds that hold at all times at once, for the intervals that are shown and for distances
/// between distributions.
///
/// Formulas and published values: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric,
/// nonasymptotic confidence sequences", Annals of Statistics 49, 2021; Howard and Ramdas,
/// "Sequential estimation of quantiles", Bernoulli 28, 2022; their library `confseq`.
package enum Boundaries {
    /// The mixture parameter that is best where the variance process is at `variance`.
    package static func bestRho(variance: Double, alpha: Double) -> Double {
        let twice = 2 * Mathematics.log(1 / alpha)
        return variance / (twice + Mathematics.log(1 + twice))
    }

    /// The two-sided normal mixture's bound on a sum with variance process `variance`.
    package static func normalMixture(variance: Double, rho: Double, alpha: Double) -> Double {
        let logarithms = Mathematics.log(1 + variance / rho) + 2 * Mathematics.log(1 / alpha)
        return ((variance + rho) * logarithms).squareRoot()
    }

    /// ln of the two-sided beta-binomial mixture for a sum of steps bounded by −g and h.
    package static func logBetaBinomialMixture(
        sum: Double,
        variance: Double,
        best: Double,
        alpha: Double,
        lower g: Double,
        upper h: Double
    ) -> Double {
        let rho = max(self.bestRho(variance: best, alpha: alpha) - g * h, 1e-3 * g * h)
        let width = g + h
        return variance / (g * h) * Mathematics.log(width)
            - (variance + h * sum) / (h * width) * Mathematics.log(g)
            - (variance - g * sum) / (g * width) * Mathematics.log(h)
            + Mathematics.logBeta(
                (rho + variance - g * sum) / (g * width),
                (rho + variance + h * sum) / (h * width)
            ) - Mathematics.logBeta(rho / (g * width), rho / (h * width))
    }

    /// ln of the evidence that `successes` of `trials` were not drawn with probability
    /// `probability`, at its best near `bestTrials`; ln(1/α) or more excludes it.
    package static func logBernoulli(
        successes: Double,
        trials: Double,
        probability p: Double,
        bestTrials: Double
    ) -> Double {
        let rest = 1 - p
        return self.logBetaBinomialMixture(
            sum: successes - trials * p,
            variance: trials * p * rest,
            best: bestTrials * p * rest,
            alpha: 0.05,
            lower: p,
            upper: rest
        )
    }

    /// A probability's confidence sequence: holds for all numbers of trials at once.
    package static func bernoulliInterval(
        successes: Int,
        trials: Int,
        alpha: Double,
        bestTrials: Double
    ) -> ClosedRange<Double> {
        precondition(successes >= 0 && successes <= trials, "\(successes) of \(trials)")
        if trials == 0 { return 0...1 }
        let threshold = Mathematics.log(1 / alpha)
        let mean = Double(successes) / Double(trials)
        func isExcluded(_ probability: Double) -> Bool {
            self.logBernoulli(
                successes: Double(successes),
                trials: Double(trials),
                probability: probability,
                bestTrials: bestTrials
            ) >= threshold
        }
        let low = successes == 0 ? 0 : self.edge(from: 1e-12, to: mean, isExcluded)
        let high = successes == trials ? 1 : self.edge(from: 1 - 1e-12, to: mean, isExcluded)
        return low...max(low, high)
    }

    /// Where exclusion ends between an outer point and the middle, by bisection; 0 or 1 where even
    /// the outer point is not excluded.
    private static func edge(from outer: Double, to middle: Double, _ isExcluded: (Double) -> Bool)
        -> Double
    {
        if !isExcluded(outer) { return outer.rounded() }
        var excluded = outer
        var inside = middle
        for _ in 0..<60 {
            let center = (excluded + inside) / 2
            if isExcluded(center) { excluded = center } else { inside = center }
        }
        return inside
    }

    // MARK: Whole distributions

    /// How far an empirical distribution function of `count` values may be from the true one, at
    /// any point and at any time from `from` values on, but with probability `alpha`; infinite
    /// before (law-of-the-iterated-logarithm bound with A = 0.85).
    package static func distributionBand(count: Int, alpha: Double, from: Int = 100) -> Double {
        self.distributionBand(count: count, constant: self.bandConstant(alpha: alpha), from: from)
    }

    /// The same with the constant of α, which takes long to find.
    package static func distributionBand(count: Int, constant: Double, from: Int = 100) -> Double {
        if count < from { return .infinity }
        let logarithm = Mathematics.log(1 + Mathematics.log(Double(count) / Double(from)))
        return self.bandFactor * ((logarithm + constant) / Double(count)).squareRoot()
    }

    private static let bandFactor = 0.85

    /// The smallest C with 4·exp(−γ²C)·(1 + 1/((γ²−1)·ln η)) ≤ α over η > 1, where
    /// γ² = (2/η)·(A − √(2(η−1)/C))².
    package static func bandConstant(alpha: Double) -> Double {
        var low = 1.0
        var high = 200.0
        for _ in 0..<60 {
            let middle = (low + high) / 2
            if self.bandError(constant: middle) <= alpha { high = middle } else { low = middle }
        }
        return high
    }

    /// The least error probability over η, by golden-section search: it falls, then rises.
    private static func bandError(constant: Double) -> Double {
        func error(_ eta: Double) -> Double {
            let inner = Self.bandFactor - (2 * (eta - 1) / constant).squareRoot()
            let square = 2 / eta * inner * inner
            guard inner > 0, square > 1 else { return .infinity }
            return 4 * Mathematics.exp(-square * constant)
                * (1 + 1 / ((square - 1) * Mathematics.log(eta)))
        }
        let golden = 0.618_033_988_749_894_9
        var low = 1 + 1e-9
        var high = 1 + constant * self.bandFactor * self.bandFactor / 2
        for _ in 0..<90 {
            let left = high - golden * (high - low)
            let right = low + golden * (high - low)
            // Both infinite: the finite part lies near 1.
            if error(left) <= error(right) { high = right } else { low = left }
        }
        return error((low + high) / 2)
    }
}
