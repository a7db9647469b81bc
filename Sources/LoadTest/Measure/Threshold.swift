import Workload

/// A condition on a whole run, for a CI job: `p99(latency)<200ms`, `errors<1%`, `rate>=1000`.
package struct Threshold: Equatable, Sendable, CustomStringConvertible {
    package enum Measure: Equatable, Sendable {
        case quantile(Double, Timing)
        case mean(Timing)
        case maximum(Timing)
        /// Share of requests that failed, 0 to 1.
        case errors
        /// Share of requests that met all objectives, 0 to 1.
        case attainment
        /// Successful requests, good requests, output tokens per second.
        case rate
        case goodput
        case tokens
    }

    /// What has a distribution.
    package enum Timing: String, Sendable, CaseIterable {
        case latency, service, ttft, itl, tpot, connect, lag
    }

    package enum Comparison: String, Sendable, CaseIterable {
        // Longer ones first: a prefix must not be taken for the whole.
        case atMost = "<="
        case atLeast = ">="
        case below = "<"
        case above = ">"

        func holds(_ left: Double, _ right: Double) -> Bool {
            switch self {
            case .atMost: left <= right
            case .atLeast: left >= right
            case .below: left < right
            case .above: left > right
            }
        }
    }

    package let measure: Measure
    package let comparison: Comparison
    /// Nanoseconds, a share, or a rate per second.
    package let bound: Double
    package let description: String

    /// What `init` reads.
    package static let grammar =
        "pNN(TIMING), mean(TIMING), max(TIMING), errors, attainment, rate, goodput or tokens, then "
        + "<, <=, > or >=, then a time, a percentage or a number; the timings are latency, "
        + "service, ttft, itl, tpot, connect and lag"

    package init(_ text: String) throws(LoadError) {
        let plain = String(text.filter { $0 != " " })
        let wrong = LoadError("\(text) is no threshold: expected \(Self.grammar)")
        guard let sign = plain.firstIndex(where: { $0 == "<" || $0 == ">" }) else { throw wrong }
        let rest = plain[sign...]
        guard let comparison = Comparison.allCases.first(where: { rest.hasPrefix($0.rawValue) }),
            let measure = Self.measure(plain[..<sign])
        else { throw wrong }
        let boundText = rest.dropFirst(comparison.rawValue.count)
        guard let bound = Self.bound(boundText, measure) else { throw wrong }
        (self.measure, self.comparison, self.bound) = (measure, comparison, bound)
        self.description = plain
    }

    private static func measure(_ text: Substring) -> Measure? {
        switch text {
        case "errors": return .errors
        case "attainment": return .attainment
        case "rate": return .rate
        case "goodput": return .goodput
        case "tokens": return .tokens
        default: break
        }
        guard let open = text.firstIndex(of: "("), text.hasSuffix(")"),
            let timing = Timing(rawValue: String(text[text.index(after: open)...].dropLast()))
        else { return nil }
        let function = text[..<open]
        if function == "mean" || function == "avg" { return .mean(timing) }
        if function == "max" { return .maximum(timing) }
        guard function.hasPrefix("p"), let percent = Double(function.dropFirst()),
            (0...100).contains(percent)
        else { return nil }
        return .quantile(percent / 100, timing)
    }

    private static func bound(_ text: Substring, _ measure: Measure) -> Double? {
        switch measure {
        case .quantile, .mean, .maximum: return TimeText.seconds(text).map { $0 * 1e9 }
        case .errors, .attainment:
            let isPercent = text.hasSuffix("%")
            guard let value = Double(isPercent ? text.dropLast() : text) else { return nil }
            let share = isPercent ? value / 100 : value
            return (0...1).contains(share) ? share : nil
        case .rate, .goodput, .tokens:
            guard let value = Double(text), value >= 0, value.isFinite else { return nil }
            return value
        }
    }

    /// Whether a run keeps it, and what the run has; nil where the run has nothing to be measured:
    /// such a threshold is not kept.
    package func evaluate(_ summary: RunSummary) -> (isKept: Bool, value: Double?) {
        guard let value = self.value(summary) else { return (false, nil) }
        return (self.comparison.holds(value, self.bound), value)
    }

    private func value(_ summary: RunSummary) -> Double? {
        switch self.measure {
        case .quantile(let quantile, let timing):
            let distribution = summary.statistics.distribution(timing)
            return distribution.count > 0 ? Double(distribution.quantile(quantile)) : nil
        case .mean(let timing):
            let distribution = summary.statistics.distribution(timing)
            return distribution.count > 0 ? distribution.mean : nil
        case .maximum(let timing):
            let distribution = summary.statistics.distribution(timing)
            return distribution.count > 0 ? Double(distribution.maximum) : nil
        case .errors: return summary.statistics.total > 0 ? summary.errorShare : nil
        case .attainment: return summary.statistics.total > 0 ? summary.attainment : nil
        case .rate: return summary.rate
        case .goodput: return summary.goodput
        case .tokens: return summary.outputTokenRate
        }
    }

    /// A value as people read it, in the measure's unit.
    package func text(_ value: Double) -> String {
        switch self.measure {
        case .quantile, .mean, .maximum: TimeText.short(nanoseconds: value)
        case .errors, .attainment: DecimalText.fixed(value * 100, places: 2) + "%"
        case .rate, .goodput, .tokens: DecimalText.figures(value) + "/s"
        }
    }
}
