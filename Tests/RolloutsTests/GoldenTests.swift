import Core
import Testing

@testable import Rollouts

/// Values that others published, or that were computed by a second program.
@Suite struct GoldenTests {
    private func isClose(_ left: Double, _ right: Double, within tolerance: Double = 1e-5) -> Bool {
        (left - right).magnitude <= tolerance
    }

    @Test(arguments: [
        // SciPy 1.17: gammaln.
        (0.1, 2.252712651734206), (0.5, 0.5723649429247), (1, 0), (2, 0),
        (3.7, 1.428072326665388), (10, 12.801827480081469), (123.4, 469.3360974421906),
    ])
    func logGammaIsExact(value: Double, expected: Double) {
        let error = (Mathematics.logGamma(value) - expected).magnitude
        #expect(error <= 1e-11 * max(1, expected.magnitude), "\(Mathematics.logGamma(value))")
    }

    // The next six are from confseq's own tests (uniform_boundaries_unittest.cpp at 5ffe733).

    @Test func bestRhoMatchesConfseq() {
        #expect(self.isClose(Boundaries.bestRho(variance: 100, alpha: 0.05), 12.60056))
    }

    @Test func normalMixtureMatchesConfseq() {
        let rho = Boundaries.bestRho(variance: 100, alpha: 0.05)
        let bound = Boundaries.normalMixture(variance: 100, rho: rho, alpha: 0.05)
        #expect(self.isClose(bound, 30.35209))
    }

    @Test func betaBinomialMixtureMatchesConfseq() {
        let logarithm = Boundaries.logBetaBinomialMixture(
            sum: 10,
            variance: 100,
            best: 100,
            alpha: 0.05,
            lower: 0.2,
            upper: 0.8
        )
        #expect(self.isClose(logarithm, -0.6941012))
    }

    @Test(arguments: [
        (700, 1_000, 100.0, 0.651629, 0.745949), (15, 50, 50, 0.129556, 0.511896),
        (5, 50, 50, 0.013021, 0.269264), (1, 50, 50, 0, 0.13489),
    ])
    func bernoulliIntervalMatchesConfseq(
        successes: Int,
        trials: Int,
        best: Double,
        low: Double,
        high: Double
    ) {
        let interval = Boundaries.bernoulliInterval(
            successes: successes,
            trials: trials,
            alpha: 0.05,
            bestTrials: best
        )
        #expect(self.isClose(interval.lowerBound, low), "\(interval)")
        #expect(self.isClose(interval.upperBound, high), "\(interval)")
    }

    @Test func distributionBandMatchesConfseq() {
        let band = Boundaries.distributionBand(count: 1_000, alpha: 0.05)
        #expect(self.isClose(band, 0.08204769))
        #expect(Boundaries.distributionBand(count: 99, alpha: 0.05) == .infinity)
    }

    @Test(arguments: [
        (0.05, 8.12272), (0.025, 8.62265), (0.01, 9.28354), (0.005, 9.78337), (0.001, 10.94307),
    ])
    func bandConstantSolvesItsEquation(alpha: Double, expected: Double) {
        #expect(self.isClose(Boundaries.bandConstant(alpha: alpha), expected))
    }

    // The two-count process, against an independent program.

    private func logWealth(
        _ ratios: [Double],
        _ margin: RateMargin,
        _ cohorts: [CohortCounts]
    ) throws -> Double {
        let grid = RatioGrid(ratios: ratios)
        var process = RateProcess(grid: grid)
        for cohort in cohorts { process.settle(try #require(grid.factors(cohort, margin))) }
        return Mathematics.log(process.total)
    }

    @Test(arguments: [(15, 45, 4.305864), (5, 45, -1.176823)])
    func twoCountProcess(canary: Int, stable: Int, expected: Double) throws {
        let cohort = CohortCounts(canary: 100, canaryBad: canary, stable: 900, stableBad: stable)
        let result = try self.logWealth([1.25, 1.5, 2, 3, 5, 8], RateMargin(), [cohort])
        #expect(self.isClose(result, expected), "\(result)")
    }

    @Test func twoCountProcessUnderARamp() throws {
        // The grid counts from what the null allows.
        let result = try self.logWealth(
            [1.5, 2, 3, 5, 8].map { $0 / 1.1 },
            RateMargin(ratio: 1.1),
            [
                CohortCounts(canary: 50, canaryBad: 4, stable: 950, stableBad: 20),
                CohortCounts(canary: 200, canaryBad: 10, stable: 800, stableBad: 12),
            ]
        )
        #expect(self.isClose(result, 4.021732), "\(result)")
    }

    /// McNemar's test: with pairs each discordant one is the canary's with probability ½.
    @Test func pairsAreATwoCountProcessAtOneHalf() throws {
        let cohort = CohortCounts(canary: 80, canaryBad: 9, stable: 80, stableBad: 2)
        let result = try self.logWealth([3], RateMargin(), [cohort])
        let expected = 9 * Mathematics.log(1.5) + 2 * Mathematics.log(0.5)
        #expect(self.isClose(result, expected, within: 1e-12), "\(result)")
    }

    // MARK: What the proof says

    /// The expectation of one factor under the null, summed over all counts of two Poisson arms.
    private func expectation(
        _ canaryMean: Double,
        _ stableMean: Double,
        _ requests: (canary: Int, stable: Int),
        _ margin: RateMargin,
        divisor: Double
    ) throws -> [Double] {
        let grid = RatioGrid.events
        var sums = Array(repeating: 0.0, count: grid.ratios.count)
        for bad in 0..<60 {
            for other in 0..<60 {
                let weight =
                    self.poisson(bad, canaryMean) * self.poisson(other, stableMean)
                let counts = CohortCounts(
                    canary: requests.canary,
                    canaryBad: bad,
                    stable: requests.stable,
                    stableBad: other
                )
                let factors = try #require(grid.factors(counts, margin, divisor: divisor))
                for (index, factor) in factors.enumerated() { sums[index] += weight * factor }
            }
        }
        return sums
    }

    private func poisson(_ count: Int, _ mean: Double) -> Double {
        Mathematics.exp(
            Double(count) * Mathematics.log(mean) - mean - Mathematics.logGamma(Double(count) + 1)
        )
    }

    /// At the edge of the null the expectation is 1, inside of it less, whatever the margin.
    @Test(arguments: [
        RateMargin(), RateMargin(ratio: 1.5), RateMargin(difference: 0.01),
        RateMargin(ratio: 2, difference: 0.02),
    ])
    func wealthIsExpectedNotToGrowUnderTheNull(margin: RateMargin) throws {
        let rate = 0.02
        let edge = margin.ratio * rate + margin.difference
        let atEdge = try self.expectation(
            100 * edge,
            300 * rate,
            (100, 300),
            margin,
            divisor: 1
        )
        // The largest alternatives' sums have tails beyond the counts summed here.
        for (index, sum) in atEdge.enumerated() where index < 4 {
            #expect(self.isClose(sum, 1, within: 1e-3), "\(index): \(sum)")
        }
        #expect(atEdge.allSatisfy { $0 <= 1 + 1e-6 }, "\(atEdge)")
        let inside = try self.expectation(
            60 * edge,
            300 * rate,
            (100, 300),
            margin,
            divisor: 1
        )
        #expect(inside.allSatisfy { $0 < 1 }, "\(inside)")
        let divided = try self.expectation(
            100 * edge,
            300 * rate,
            (100, 300),
            margin,
            divisor: 3
        )
        #expect(divided.allSatisfy { $0 <= 1 + 1e-9 }, "\(divided)")
    }

    @Test func spreadingKeepsAllWealth() throws {
        let grid = RatioGrid.events
        var process = RateProcess(grid: grid)
        #expect(self.isClose(process.total, 1, within: 1e-12))
        let cohort = CohortCounts(canary: 50, canaryBad: 9, stable: 500, stableBad: 20)
        process.settle(try #require(grid.factors(cohort, RateMargin())))
        let before = process.total
        process.spread(0.4, over: grid)
        #expect(self.isClose(process.total, before, within: 1e-9 * before))
        #expect(process.wealth.allSatisfy { $0 > 0 })
    }

    /// A long good time must not protect a canary that turns bad.
    @Test func regressionAfterALongGoodTimeIsCaughtSoon() throws {
        let grid = RatioGrid.events
        var bet = StratifiedBet(grid: grid)
        func settle(_ canaryBad: Int) {
            bet.settle(
                CohortCounts(canary: 100, canaryBad: canaryBad, stable: 900, stableBad: 9),
                stratum: 0,
                grid: grid,
                margin: RateMargin(),
                divisor: 1
            )
            bet.pass(seconds: 1, grid: grid)
        }
        for _ in 0..<3_600 { settle(1) }
        #expect(bet.evidence < 1)
        var seconds = 0
        while bet.evidence < 1_000, seconds < 100 {
            settle(6)
            seconds += 1
        }
        #expect(seconds <= 6)
    }

    @Test func wealthStaysANumberWhateverComes() throws {
        let grid = RatioGrid.events
        var process = RateProcess(grid: grid)
        let terrible = CohortCounts(
            canary: 1_000_000,
            canaryBad: 1_000_000,
            stable: 1_000_000,
            stableBad: 0
        )
        let fine = CohortCounts(
            canary: 1_000_000,
            canaryBad: 0,
            stable: 1_000_000,
            stableBad: 1_000_000
        )
        for cohort in [terrible, terrible, fine, fine, fine, terrible] {
            process.settle(try #require(grid.factors(cohort, RateMargin())))
            #expect(process.total.isFinite && process.total > 0)
        }
        #expect(process.fits(grid))
    }
}
