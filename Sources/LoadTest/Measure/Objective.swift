import Workload

/// What a single request must keep to be good: a bound on one of its times.
package struct Objective: Equatable, Sendable, CustomStringConvertible {
    package enum Metric: String, Sendable, CaseIterable {
        case latency
        case timeToFirstToken = "ttft"
        case timePerOutputToken = "tpot"
        case serviceTime = "service"
    }

    package var metric: Metric
    /// Seconds.
    package var bound: Double

    /// What `parse` reads.
    package static let grammar = "METRIC:TIME,… with the metrics latency, service, ttft and tpot"

    /// Reads `ttft:200ms,tpot:50ms`. `e2el` and `e2e` are other names for latency.
    package static func parse(_ text: String) throws(LoadError) -> [Objective] {
        var result: [Objective] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: ":", omittingEmptySubsequences: false)
            guard halves.count == 2, let metric = Self.metric(String(halves[0])),
                let seconds = TimeText.seconds(halves[1]), seconds > 0
            else { throw LoadError("\(part) is no objective: expected \(Self.grammar)") }
            result.append(Objective(metric: metric, bound: seconds))
        }
        return result
    }

    private static func metric(_ name: String) -> Metric? {
        name == "e2el" || name == "e2e" ? .latency : Metric(rawValue: name)
    }

    /// Whether a request that succeeded keeps it. One that lacks the measure does not, but for
    /// TPOT, which an answer of one token has not and cannot miss.
    package func isKept(by record: RequestRecord) -> Bool {
        switch self.metric {
        case .latency: Double(record.latency) <= self.bound * 1e9
        case .serviceTime: Double(record.serviceTime) <= self.bound * 1e9
        case .timeToFirstToken:
            record.timeToFirstToken.map { Double($0) <= self.bound * 1e9 } ?? false
        case .timePerOutputToken:
            record.timePerOutputToken.map { $0 <= self.bound * 1e9 } ?? (record.firstOutput > 0)
        }
    }

    package var description: String {
        "\(self.metric.rawValue):\(TimeText.short(nanoseconds: self.bound * 1e9))"
    }
}
