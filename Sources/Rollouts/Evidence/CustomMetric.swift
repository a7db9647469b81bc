import Core

/// A number from outside, measured every so often, with the forgiveness its plan sets.
///
/// States: waiting for the next time to measure; asked (the shell measures); and, over both, the
/// verdict. A value on the wrong side is a failure; a measurement without a value, and an error,
/// are neither good nor bad, and too many of them make the metric inconclusive.
package struct CustomMetric: Sendable, Equatable, Codable {
    /// The number of the measurement that is under way; nil: none is.
    package private(set) var asked: Int?
    /// How many were asked for.
    package private(set) var count = 0
    /// Until the next one, or since the one under way was asked for.
    private var milliseconds: Int
    package private(set) var failures = 0
    package private(set) var errorsInRow = 0
    /// Since the step began.
    package private(set) var successes = 0
    package private(set) var withoutValue = 0
    package private(set) var lastValue: Double?
    package private(set) var lastError = ""

    package enum Result: Sendable, Equatable {
        case value(Double)
        /// The query worked and gave nothing.
        case noValue
        case error(String)
    }

    package init(_ plan: CustomPlan) {
        self.milliseconds = plan.initialDelay.millisecondsClamped
    }

    /// Lets time pass; returns the number of a measurement to make now.
    package mutating func pass(milliseconds: Int, _ plan: CustomPlan) -> Int? {
        if let asked = self.asked {
            self.milliseconds += milliseconds
            guard self.milliseconds >= plan.timeout.millisecondsClamped else { return nil }
            let seconds = plan.timeout.secondsAsDouble
            self.measured(asked, .error("no answer within \(seconds.shortText) s"), plan)
            return nil
        }
        self.milliseconds -= milliseconds
        guard self.milliseconds <= 0 else { return nil }
        self.count += 1
        self.asked = self.count
        self.milliseconds = 0
        return self.count
    }

    /// Takes a result; one that comes too late, or twice, is dropped.
    package mutating func measured(_ number: Int, _ result: Result, _ plan: CustomPlan) {
        guard self.asked == number else { return }
        self.asked = nil
        self.milliseconds = plan.interval.millisecondsClamped
        switch result {
        case .value(let value) where value.isFinite:
            self.errorsInRow = 0
            self.lastValue = value
            if plan.bound.holds(value) { self.successes += 1 } else { self.failures += 1 }
        case .value, .noValue:
            self.errorsInRow = 0
            self.withoutValue += 1
        case .error(let text):
            self.errorsInRow += 1
            self.lastError = String(text.prefix(Self.errorCharactersMax))
        }
    }

    package static let errorCharactersMax = 200

    package mutating func beginStep() {
        self.successes = 0
        self.withoutValue = 0
    }

    /// The verdict so far, and why where it is no pass.
    package func verdict(_ plan: CustomPlan) -> (verdict: Verdict, reason: String) {
        if self.failures > plan.failureLimit {
            let value = self.lastValue.map { ", last \($0.shortText)" } ?? ""
            return (.fail, "\(self.failures) values on the wrong side\(value)")
        }
        if self.errorsInRow > plan.consecutiveErrorLimit {
            return (.inconclusive, "\(self.errorsInRow) errors in a row: \(self.lastError)")
        }
        if self.withoutValue > plan.inconclusiveLimit {
            return (.inconclusive, "\(self.withoutValue) measurements gave no value")
        }
        if self.successes == 0 {
            let error = self.errorsInRow > 0 ? ": \(self.lastError)" : ""
            return (.inconclusive, "no good value within this step\(error)")
        }
        return (.pass, "")
    }
}

extension Duration {
    package var millisecondsClamped: Int { Int(clamping: self.nanosecondsClamped / 1_000_000) }
}

extension Double {
    /// At most four significant digits, for phrases.
    var shortText: String {
        guard self.isFinite, self.magnitude < 1e15 else { return "\(self)" }
        if self == self.rounded(), self.magnitude < 1e6 { return "\(Int(self))" }
        var scale = 1.0
        while self.magnitude * scale < 1_000, scale < 1e9 { scale *= 10 }
        let rounded = (self * scale).rounded() / scale
        if rounded == rounded.rounded() { return "\(Int(rounded))" }
        return "\(rounded)"
    }
}
