import Core
import Testing

@testable import Rollouts

@Suite struct GuardrailTests {
    private func finding(
        _ plan: GuardrailPlan,
        ticks: Int,
        stable: (requests: Int, errors: Int) = (900, 0),
        canary: (Int) -> GuardrailSample
    ) -> Guardrails.Finding {
        var guardrails = Guardrails()
        for tick in 0..<ticks {
            var other = GuardrailSample()
            other.requests = stable.requests
            other.errors = stable.errors
            guardrails.record(
                canary: canary(tick),
                stable: other,
                elapsedMilliseconds: 1_000,
                plan
            )
            let finding = guardrails.finding(plan)
            if finding != .fine { return finding }
        }
        return .fine
    }

    private func sample(_ requests: Int, _ errors: Int) -> GuardrailSample {
        var sample = GuardrailSample()
        sample.requests = requests
        sample.errors = errors
        return sample
    }

    @Test(arguments: [(19, false), (20, true), (500, true)])
    func consecutiveErrors(run: Int, isBroken: Bool) {
        let finding = self.finding(GuardrailPlan(), ticks: 1) { _ in
            var sample = self.sample(10, 1)
            sample.consecutiveErrors = run
            return sample
        }
        #expect((finding == .broken("\(run) errors in a row")) == isBroken)
    }

    @Test func crashLoop() {
        let finding = self.finding(GuardrailPlan(), ticks: 10) { tick in
            var sample = self.sample(0, 0)
            sample.crashes = tick
            return sample
        }
        #expect(finding == .broken("its replicas crashed 5 times"))
    }

    @Test func errorRateNeedsItsMinimumOfRequests() {
        let few = self.finding(GuardrailPlan(), ticks: 4) { _ in self.sample(10, 9) }
        #expect(few == .fine)
        let enough = self.finding(GuardrailPlan(), ticks: 5) { _ in self.sample(10, 9) }
        #expect(enough == .broken("90 % errors, at most 20 %"))
    }

    @Test func oldErrorsLeaveTheWindow() {
        func after(_ idle: Int) -> Guardrails.Finding {
            self.finding(GuardrailPlan(), ticks: 5 + idle) { tick in
                if tick < 4 { return self.sample(10, 10) }
                return tick < 4 + idle ? self.sample(0, 0) : self.sample(60, 5)
            }
        }
        #expect(after(0) == .broken("45 % errors, at most 20 %"))
        #expect(after(40) == .fine)
    }

    /// What the stable variant suffers as well is no reason to go back to it.
    @Test func anOutageOfBothIsShared() {
        let finding = self.finding(GuardrailPlan(), ticks: 10, stable: (900, 500)) { _ in
            self.sample(100, 60)
        }
        #expect(finding == .shared("60 % errors, at most 20 %; the stable variant as well"))
    }

    @Test func burnRateNeedsBothWindows() {
        var plan = GuardrailPlan()
        plan.errorRate = nil
        plan.burnRate = GuardrailPlan.BurnRate(objective: 0.999)
        // 1.44 % is the limit; a short spike long ago is not enough.
        let spike = self.finding(plan, ticks: 200) { tick in
            self.sample(100, tick < 2 ? 1 : 0)
        }
        #expect(spike == .fine)
        let burning = self.finding(plan, ticks: 60) { _ in self.sample(100, 3) }
        #expect(
            burning == .broken("spends its error budget more than 14.4 times too fast")
        )
    }

    @Test func latencyCeilingForgivesWhatChanceDoes() {
        var plan = GuardrailPlan()
        plan.latency = .init(quantile: 0.95, ceiling: .milliseconds(500))
        func sample(_ slow: Int) -> GuardrailSample {
            var histogram = LatencyHistogram()
            for index in 0..<20 {
                histogram.record(nanoseconds: index < slow ? 900_000_000 : 100_000_000)
            }
            var sample = self.sample(20, 0)
            sample.latency = BucketCounts(histogram)
            return sample
        }
        #expect(self.finding(plan, ticks: 60) { _ in sample(1) } == .fine)
        let slow = self.finding(plan, ticks: 60) { _ in sample(4) }
        #expect(slow == .broken("12 of 60 answers took longer than 0.5 s"))
    }

    @Test func guardrailsTurnedOffSayNothing() {
        var plan = GuardrailPlan()
        plan.consecutiveErrors = 0
        plan.crashes = 0
        plan.errorRate = nil
        let finding = self.finding(plan, ticks: 60) { _ in
            var sample = self.sample(100, 100)
            sample.consecutiveErrors = 6_000
            sample.crashes = 90
            return sample
        }
        #expect(finding == .fine)
    }
}

@Suite struct CustomMetricTests {
    private let plan = CustomPlan(.below(0.1))

    /// Lets seconds pass and answers each measurement.
    private func run(
        _ plan: CustomPlan,
        seconds: Int,
        _ answer: (Int) -> CustomMetric.Result?
    ) -> CustomMetric {
        var metric = CustomMetric(plan)
        for _ in 0..<seconds {
            guard let number = metric.pass(milliseconds: 1_000, plan) else { continue }
            if let result = answer(number) { metric.measured(number, result, plan) }
        }
        return metric
    }

    @Test func goodValuesPass() {
        let metric = self.run(self.plan, seconds: 60) { _ in .value(0.05) }
        #expect(metric.verdict(self.plan).verdict == .pass)
        #expect(metric.count == 4)
    }

    @Test func failuresBeyondTheLimitFail() {
        var plan = self.plan
        plan.failureLimit = 2
        let forgiven = self.run(plan, seconds: 60) { .value($0 <= 2 ? 1 : 0.05) }
        #expect(forgiven.verdict(plan).verdict == .pass)
        let failed = self.run(plan, seconds: 60) { _ in .value(1) }
        #expect(failed.verdict(plan).verdict == .fail)
        #expect(failed.verdict(plan).reason == "4 values on the wrong side, last 1")
    }

    @Test func noValueIsNeverAPassNorAFailure() {
        let none = self.run(self.plan, seconds: 30) { _ in .noValue }
        #expect(none.verdict(self.plan) == (.inconclusive, "no good value within this step"))
        let nan = self.run(self.plan, seconds: 90) { _ in .value(.nan) }
        #expect(nan.verdict(self.plan) == (.inconclusive, "6 measurements gave no value"))
    }

    @Test func errorsInARowAreInconclusiveAndAreForgotten() {
        let broken = self.run(self.plan, seconds: 100) { _ in .error("connection refused") }
        #expect(
            broken.verdict(self.plan) == (.inconclusive, "7 errors in a row: connection refused")
        )
        let back = self.run(self.plan, seconds: 100) { $0 < 6 ? .error("no") : .value(0) }
        #expect(back.verdict(self.plan).verdict == .pass)
    }

    /// The metric that never comes: each measurement is given up after its timeout.
    @Test func measurementsThatHangAreGivenUp() {
        let metric = self.run(self.plan, seconds: 200) { _ in nil }
        let verdict = metric.verdict(self.plan)
        #expect(verdict.verdict == .inconclusive)
        #expect(verdict.reason.hasSuffix("errors in a row: no answer within 10 s"))
        #expect(metric.count >= 7)
    }

    @Test func lateAndRepeatedAnswersAreDropped() {
        var metric = CustomMetric(self.plan)
        #expect(metric.pass(milliseconds: 0, self.plan) == 1)
        metric.measured(7, .value(1), self.plan)
        metric.measured(1, .value(0), self.plan)
        metric.measured(1, .value(1), self.plan)
        #expect(metric.failures == 0)
        #expect(metric.successes == 1)
    }

    @Test(arguments: [(0.05, true), (0.1, false), (3, false)])
    func boundsAreStrict(value: Double, below: Bool) {
        #expect(CustomPlan.Bound.below(0.1).holds(value) == below)
        #expect(CustomPlan.Bound.above(0.1).holds(value) == (value > 0.1))
    }
}

private func == (
    left: (verdict: Verdict, reason: String),
    right: (Verdict, String)
) -> Bool {
    left.verdict == right.0 && left.reason == right.1
}
