import Core

/// What goes wrong on purpose. All rates are shares of requests, 0 to 1, and exclude one another,
/// so that they must not add up to more than 1.
package struct FaultPlan: Hashable, Sendable {
    /// Answered with `errorStatus` at once.
    package var errorRate: Double = 0
    /// 400 to 599.
    package var errorStatus: Int = 500
    /// Taken and never answered; the connection stays open.
    package var hangRate: Double = 0
    /// The connection is closed before a byte of the answer.
    package var resetRate: Double = 0
    /// The head and half of the body are sent, then the connection is closed.
    package var truncateRate: Double = 0
    /// Bytes that are no HTTP are sent, then the connection is closed.
    package var garbageRate: Double = 0
    /// Added before every answer begins. At most an hour.
    package var extraLatency: Duration = .zero
    /// Multiplies every model time; above 0, at most a million.
    package var slowdown: Double = 1
    /// Readiness says 503 while this is set.
    package var notReady: Bool = false
    /// How the process ends when `crashAfterRequests` more requests have come.
    package var crash: Crash = .none
    /// Requests that are still taken before `crash`; 0 crashes at once.
    package var crashAfterRequests: Int = 0

    /// How a process ends.
    package enum Crash: String, Hashable, Sendable, CaseIterable {
        case none
        /// A clean-up-free exit with status 1.
        case exit
        /// SIGABRT.
        case abort
    }

    /// What happens to one request.
    package enum Action: Hashable, Sendable {
        case none
        case error(status: Int)
        case hang
        case reset
        case truncate
        case garbage
    }

    package init() {}

    package static let extraLatencyMax = Duration.seconds(3_600)

    /// What is wrong with these numbers; empty where they can be used.
    package var problems: [String] {
        var found: [String] = []
        for (name, rate) in self.rates where !(rate >= 0 && rate <= 1) {
            found.append("\(name) must be 0 to 1, not \(rate)")
        }
        if found.isEmpty && self.rates.reduce(0, { $0 + $1.1 }) > 1 + 1e-9 {
            found.append("the rates add up to more than 1")
        }
        if !(400...599).contains(self.errorStatus) {
            found.append("errorStatus must be 400 to 599, not \(self.errorStatus)")
        }
        if self.extraLatency < .zero || self.extraLatency > Self.extraLatencyMax {
            found.append("extraLatency must be 0 to 1h")
        }
        if !(self.slowdown > 0 && self.slowdown <= 1e6) {
            found.append("slowdown must be above 0 and at most 1000000, not \(self.slowdown)")
        }
        if self.crashAfterRequests < 0 {
            found.append("crashAfterRequests must not be negative")
        }
        return found
    }

    /// Draws one request's fate. One number is drawn whatever the rates are, so that a change of
    /// rates does not shift what other requests meet.
    package func decide(_ random: inout RandomSource) -> Action {
        var rest = random.nextUnit()
        let outcomes: [(Double, Action)] = [
            (self.errorRate, .error(status: self.errorStatus)), (self.hangRate, .hang),
            (self.resetRate, .reset), (self.truncateRate, .truncate), (self.garbageRate, .garbage),
        ]
        for (rate, action) in outcomes {
            if rest < rate { return action }
            rest -= rate
        }
        return .none
    }

    private var rates: [(String, Double)] {
        [
            ("errorRate", self.errorRate), ("hangRate", self.hangRate),
            ("resetRate", self.resetRate), ("truncateRate", self.truncateRate),
            ("garbageRate", self.garbageRate),
        ]
    }
}
