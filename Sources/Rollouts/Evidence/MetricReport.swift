/// What a comparison says so far. No data is never a pass and never a failure.
package enum Verdict: String, Sendable, Codable {
    case pass
    case fail
    case inconclusive
}

/// One metric's state, for status, events and reports.
package struct MetricReport: Sendable, Equatable, Codable {
    package var name: String
    package var verdict: Verdict
    /// The e-value: how many times 1 was multiplied by betting that the canary is worse. 1/α of
    /// the metric contradicts "no worse than allowed". 0 for metrics that are not statistical.
    package var evidence: Double
    package var threshold: Double
    /// Shares for events and distances, seconds or tokens for quantiles.
    package var stable: Double?
    package var canary: Double?
    /// Confidence sequences of the two, where there are any.
    package var stableInterval: [Double]?
    package var canaryInterval: [Double]?
    /// Requests (or pairs) compared within the step.
    package var stableRequests: Int
    package var canaryRequests: Int
    /// What the evidence's logarithm is divided by because replicas differ from each other.
    package var dispersion: Double
    /// Why it is inconclusive, or failed; a phrase.
    package var reason: String
    package var isDryRun: Bool

    package init(name: String, threshold: Double, isDryRun: Bool) {
        self.name = name
        self.verdict = .inconclusive
        self.evidence = 0
        self.threshold = threshold
        self.stableRequests = 0
        self.canaryRequests = 0
        self.dispersion = 1
        self.reason = ""
        self.isDryRun = isDryRun
    }
}

extension MetricReport {
    /// An e-value for people: beyond a million only the power of ten says anything.
    package static func text(evidence: Double) -> String {
        guard evidence >= 1e6 else { return evidence.shortText }
        var power = 6
        var rest = evidence / 1e6
        while rest >= 10, power < Self.powerMax {
            rest /= 10
            power += 1
        }
        return "> 10^\(power)"
    }

    private static let powerMax = 308
}
