import Workload

/// Looks for the highest rate at which enough requests meet the objectives.
///
/// It doubles the rate from the first one until a probe fails (or halves it until one passes), then
/// bisects until the bracket is narrower than the tolerance. A probe that the generator could not
/// send says nothing about the server: it is tried once more, and then the search ends there. Where
/// the server refuses the requests themselves, no rate would help: the search ends at once.
package struct GoodputSearch: Sendable {
    package struct Probe: Equatable, Sendable {
        /// Requests per second that were asked for.
        package var rate: Double
        /// Requests that counted, and those of them that met the objectives.
        package var requests: UInt64
        package var good: UInt64
        /// Whether the generator kept its schedule.
        package var isValid: Bool
        /// Whether every request was answered that it is wrong, whatever the rate.
        package var isRefused: Bool

        package init(
            rate: Double,
            requests: UInt64,
            good: UInt64,
            isValid: Bool,
            isRefused: Bool = false
        ) {
            self.rate = rate
            self.requests = requests
            self.good = good
            self.isValid = isValid
            self.isRefused = isRefused
        }

        /// 0 to 1.
        package var attainment: Double {
            self.requests == 0 ? 0 : Double(self.good) / Double(self.requests)
        }

        /// Wilson's interval for the attainment at 95 %.
        package var interval: ClosedRange<Double> {
            guard self.requests > 0 else { return 0...1 }
            let n = Double(self.requests)
            let z = 1.959964
            let centre = (self.attainment + z * z / (2 * n)) / (1 + z * z / n)
            let variance = self.attainment * (1 - self.attainment) / n + z * z / (4 * n * n)
            let half = z * variance.squareRoot() / (1 + z * z / n)
            return max(0, centre - half)...min(1, centre + half)
        }
    }

    package enum Next: Equatable, Sendable {
        case probe(rate: Double)
        /// The highest rate that passed; nil where none did.
        case done(rate: Double?, reason: Reason)
    }

    package enum Reason: String, Equatable, Sendable {
        case converged = "converged"
        case noRatePasses = "no rate tried keeps the objectives"
        case refused = "the server refuses the requests, whatever the rate: see the statuses"
        case generatorLagged = "the generator could not send more"
        case probesExhausted = "the number of probes is used up"
    }

    /// Share of requests that must be good.
    package let target: Double
    /// The bracket's width over its lower end at which the search ends.
    package let tolerance: Double
    package let probesMax: Int
    package private(set) var probes: [Probe] = []
    private var rate: Double
    /// The highest rate that passed and the lowest that failed.
    private var passed: Double?
    private var failed: Double?
    private var lagged = false
    /// Whether the probe before could not be sent.
    private var isSecondTry = false

    /// Below this a search downwards gives up: one request in a thousand seconds.
    private static let rateMin = 0.001

    package init(from rate: Double, target: Double, tolerance: Double = 0.05, probesMax: Int = 20) {
        precondition(rate > 0 && target > 0 && target <= 1 && tolerance > 0 && probesMax > 0)
        self.rate = rate
        self.target = target
        self.tolerance = tolerance
        self.probesMax = probesMax
    }

    /// What to do first, and after each `add`.
    package var next: Next {
        if self.probes.last?.isRefused == true {
            return .done(rate: self.passed, reason: .refused)
        }
        if self.lagged { return .done(rate: self.passed, reason: .generatorLagged) }
        if let passed = self.passed, let failed = self.failed,
            (failed - passed) <= self.tolerance * passed
        {
            return .done(rate: passed, reason: .converged)
        }
        if self.probes.count >= self.probesMax {
            return .done(rate: self.passed, reason: .probesExhausted)
        }
        if self.rate < Self.rateMin { return .done(rate: nil, reason: .noRatePasses) }
        return .probe(rate: self.rate)
    }

    /// Takes the result of the probe that `next` asked for.
    package mutating func add(_ probe: Probe) {
        self.probes.append(probe)
        guard probe.isValid else {
            self.lagged = self.isSecondTry
            self.isSecondTry = true
            return
        }
        self.isSecondTry = false
        if probe.attainment >= self.target {
            self.passed = max(self.passed ?? 0, probe.rate)
        } else {
            self.failed = min(self.failed ?? .infinity, probe.rate)
        }
        switch (self.passed, self.failed) {
        case (let passed?, let failed?): self.rate = (passed + failed) / 2
        case (let passed?, nil): self.rate = min(passed * 2, WorkloadLimits.rateMax)
        case (nil, let failed?): self.rate = failed / 2
        case (nil, nil): break
        }
        // At the largest rate there is nothing above to look at.
        if self.failed == nil && probe.rate >= WorkloadLimits.rateMax { self.lagged = true }
    }
}
