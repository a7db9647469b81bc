import Core

/// Absolute bounds beside the statistics: no margin, no α, and fast. They look at everything the
/// canary answers, warm-up included.
///
/// A rate that the stable arm exceeds as well is no reason to roll back, as that would help nobody:
/// it is reported, and holds the step.
package struct Guardrails: Sendable {
    package enum Finding: Sendable, Equatable {
        case fine
        /// Both arms fail.
        case shared(String)
        /// The canary fails hard: roll back at once.
        case broken(String)
    }

    private var canary = SlidingCounts()
    private var stable = SlidingCounts()
    private var latency = Distribution()
    private var previousLatency = Distribution()
    private var latencyAge = 0
    private var crashes = 0
    private var consecutiveErrors = 0

    package init() {}

    /// Counts one tick. The crashes and consecutive errors are the tick's; counts go into windows.
    package mutating func record(
        canary: GuardrailSample,
        stable: GuardrailSample,
        elapsedMilliseconds: Int,
        _ plan: GuardrailPlan
    ) {
        self.canary.add(canary.requests, canary.errors, afterMilliseconds: elapsedMilliseconds)
        self.stable.add(stable.requests, stable.errors, afterMilliseconds: elapsedMilliseconds)
        self.crashes = canary.crashes
        self.consecutiveErrors = canary.consecutiveErrors
        self.latencyAge += elapsedMilliseconds
        if self.latencyAge >= plan.window.millisecondsClamped {
            self.latencyAge = 0
            swap(&self.latency, &self.previousLatency)
            self.latency.removeAll()
        }
        self.latency.add(canary.latency)
    }

    package func finding(_ plan: GuardrailPlan) -> Finding {
        if plan.consecutiveErrors > 0, self.consecutiveErrors >= plan.consecutiveErrors {
            return .broken("\(self.consecutiveErrors) errors in a row")
        }
        if plan.crashes > 0, self.crashes >= plan.crashes {
            return .broken("its replicas crashed \(self.crashes) times")
        }
        if let text = self.latencyExcess(plan) { return .broken(text) }
        if let finding = self.rateFinding(plan) { return finding }
        return self.burnFinding(plan) ?? .fine
    }

    private func rateFinding(_ plan: GuardrailPlan) -> Finding? {
        guard let limit = plan.errorRate else { return nil }
        let window = plan.window.millisecondsClamped
        guard let rate = self.canary.rate(milliseconds: window, minimum: plan.minRequests),
            rate > limit
        else { return nil }
        let text = "\((rate * 100).shortText) % errors, at most \((limit * 100).shortText) %"
        let other = self.stable.rate(milliseconds: window, minimum: plan.minRequests) ?? 0
        return other > limit ? .shared("\(text); the stable variant as well") : .broken(text)
    }

    private func burnFinding(_ plan: GuardrailPlan) -> Finding? {
        guard let burn = plan.burnRate else { return nil }
        let limit = burn.limit * (1 - burn.objective)
        let windows = [GuardrailPlan.BurnRate.longWindow, GuardrailPlan.BurnRate.shortWindow]
        func isBurning(_ counts: SlidingCounts) -> Bool {
            windows.allSatisfy { window in
                let window = window.millisecondsClamped
                let rate = counts.rate(milliseconds: window, minimum: plan.minRequests)
                return (rate ?? 0) > limit
            }
        }
        guard isBurning(self.canary) else { return nil }
        let text = "spends its error budget more than \(burn.limit.shortText) times too fast"
        return isBurning(self.stable)
            ? .shared("\(text); the stable variant as well") : .broken(text)
    }

    /// More values above the ceiling than the quantile allows, by three standard deviations.
    private func latencyExcess(_ plan: GuardrailPlan) -> String? {
        guard let ceiling = plan.latency else { return nil }
        let total = self.latency.total + self.previousLatency.total
        guard total >= max(plan.minRequests, 1) else { return nil }
        let limit = UInt64(clamping: ceiling.ceiling.nanosecondsClamped)
        let bucket = LatencyHistogram.bucket(of: limit)
        let above =
            self.latency.count(after: bucket) + self.previousLatency.count(after: bucket)
        let share = 1 - ceiling.quantile
        let expected = Double(total) * share
        let deviation = (expected * ceiling.quantile).squareRoot()
        guard Double(above) > expected + 3 * deviation else { return nil }
        let seconds = ceiling.ceiling.secondsAsDouble.shortText
        return "\(above) of \(total) answers took longer than \(seconds) s"
    }
}

/// Requests and errors of the last five minutes in slots of five seconds.
struct SlidingCounts: Sendable {
    private static let slotMilliseconds = 5_000
    private static let slotCount = 60

    private var requests = Array(repeating: 0, count: Self.slotCount)
    private var errors = Array(repeating: 0, count: Self.slotCount)
    private var slot = 0
    private var age = 0

    mutating func add(_ requests: Int, _ errors: Int, afterMilliseconds elapsed: Int) {
        self.age += max(elapsed, 0)
        var passed = min(self.age / Self.slotMilliseconds, Self.slotCount)
        self.age %= Self.slotMilliseconds
        while passed > 0 {
            self.slot = (self.slot + 1) % Self.slotCount
            self.requests[self.slot] = 0
            self.errors[self.slot] = 0
            passed -= 1
        }
        self.requests[self.slot] += max(requests, 0)
        self.errors[self.slot] += min(max(errors, 0), max(requests, 0))
    }

    /// The share of errors over about the last milliseconds; nil with fewer requests than
    /// `minimum`.
    func rate(milliseconds: Int, minimum: Int) -> Double? {
        let wanted = max(1, (milliseconds + Self.slotMilliseconds - 1) / Self.slotMilliseconds)
        var requests = 0
        var errors = 0
        for back in 0..<min(wanted, Self.slotCount) {
            let index = (self.slot - back + Self.slotCount) % Self.slotCount
            requests += self.requests[index]
            errors += self.errors[index]
        }
        guard requests >= max(minimum, 1) else { return nil }
        return Double(errors) / Double(requests)
    }
}
