import Core
import Testing

@testable import Rollouts

@Suite struct WebhookTests {
    private func plan(_ webhooks: [WebhookPlan]) -> RolloutPlan {
        var plan = RolloutPlan(steps: [.weight(25, hold: .seconds(5))])
        plan.analysis.metrics = []
        plan.webhooks = webhooks
        return plan
    }

    @Test func gatesAreAskedInTurnAndNoticesTold() throws {
        var rig = try Rig(
            self.plan([
                WebhookPlan(.beforeStep, url: "http://a"), WebhookPlan(.afterStep, url: "http://b"),
                WebhookPlan(.beforeStep, url: "http://c"),
                WebhookPlan(.onComplete, url: "http://d"),
                WebhookPlan(.onRollback, url: "http://e"),
            ])
        )
        rig.live("v2")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.calls().map(\.url) == ["http://a", "http://c", "http://b", "http://d"])
        #expect(rig.calls().first?.canary?.name == "v2")
        #expect(Set(rig.calls().map(\.id)).count == 4)
    }

    @Test func noWeightBeforeTheGateIsOpen() throws {
        var rig = try Rig(self.plan([WebhookPlan(.beforeStep, url: "http://a")]))
        rig.answer = .denied("403 not today")
        rig.live("v2")
        rig.tick(100)
        #expect(rig.weight("v2") == 0)
        #expect(rig.status.message == "the webhook http://a says no: 403 not today")
        #expect((9...11).contains(rig.calls().count), "asked every ten seconds")
        rig.answer = .accepted
        rig.tick(12)
        #expect(rig.weight("v2") == 25)
    }

    @Test func aGateThatStaysClosedPausesWithinTheDeadline() throws {
        var rig = try Rig(self.plan([WebhookPlan(.beforeStep, url: "http://a")]))
        rig.answer = .denied("no")
        rig.live("v2")
        rig.tick(605)
        #expect(rig.phase == .paused)
        #expect(rig.status.pause == .webhook)
        // A decision by hand stands in for it: this very step.
        try rig.command(.promote(full: false))
        rig.tick(2)
        #expect(rig.weight("v2") == 25)
    }

    @Test func aWebhookThatHangsPausesAfterItsTries() throws {
        var rig = try Rig(self.plan([WebhookPlan(.beforeStep, url: "http://a")]))
        rig.answer = nil
        rig.live("v2")
        // Five times twelve seconds, and ten between them.
        rig.tick(95)
        #expect(rig.phase == .progressing)
        rig.tick(15)
        #expect(rig.phase == .paused)
        #expect(rig.status.message == "the webhook http://a failed: no answer within 10 s")
        #expect(rig.calls().count == RolloutMachine.webhookAttemptsMax)
    }

    @Test func aGateAfterAStepHoldsItsWeight() throws {
        var rig = try Rig(self.plan([WebhookPlan(.afterStep, url: "http://b")]))
        rig.answer = .denied("quality")
        rig.live("v2")
        rig.tick(100)
        #expect(rig.weight("v2") == 25)
        #expect(rig.phase == .progressing)
    }

    @Test func lateAnswersAreForNobody() throws {
        var rig = try Rig(self.plan([WebhookPlan(.beforeStep, url: "http://a")]))
        rig.answer = nil
        rig.live("v2")
        let first = try #require(rig.calls().first)
        rig.tick(30)
        rig.send(.webhookAnswered(call: first.id, .accepted))
        rig.send(.webhookAnswered(call: -1, .accepted))
        rig.send(.webhookAnswered(call: 0, .accepted))
        rig.tick(2)
        #expect(rig.weight("v2") == 0)
    }

    @Test func rollbackIsToldAndNotWaitedFor() throws {
        var rig = try Rig(self.plan([WebhookPlan(.onRollback, url: "http://e")]))
        rig.answer = nil
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 25 }
        try rig.command(.abort)
        #expect(rig.weight("v2") == 0)
        rig.tick(60)
        #expect(rig.calls().count == RolloutMachine.noticeAttemptsMax)
        #expect(Set(rig.calls().map(\.id)).count == 1, "the same notice")
        #expect(rig.status.notices.isEmpty)
        #expect(
            rig.status.records.last { $0.kind == .webhook }?.message
                == "the webhook http://e was not told: no answer"
        )
    }

    @Test func aWebhookThatLeavesThePolicyHoldsNothing() throws {
        var rig = try Rig(self.plan([WebhookPlan(.beforeStep, url: "http://a")]))
        rig.answer = .denied("no")
        rig.live("v2")
        rig.tick(5)
        var spec = rig.machine.spec
        spec.plan = self.plan([])
        rig.send(.configured(spec))
        rig.tick(2)
        #expect(rig.weight("v2") == 25)
    }
}

/// What can be asked for wrongly: a clear refusal, and nothing changes.
@Suite struct BadInputTests {
    private func refusal(_ body: () throws -> Void) -> String {
        do {
            try body()
        } catch let refusal as RolloutRefusal {
            return refusal.description
        } catch {
            return "another error: \(error)"
        }
        return "no error"
    }

    private func refusal(_ rig: inout Rig, _ command: RolloutCommand) -> String {
        let before = rig.status
        let text: String
        do {
            try rig.command(command)
            text = "no error"
        } catch {
            text = "\(error)"
        }
        #expect(rig.status == before)
        return text
    }

    @Test func commandsWithNothingToDo() throws {
        var rig = try Rig(.simple)
        #expect(
            self.refusal(&rig, .start(variant: "v9"))
                == "there is no variant v9: the variants are v1, v2, v3, v4"
        )
        #expect(
            self.refusal(&rig, .start(variant: "v1"))
                == "v1 serves already: there is nothing to roll out"
        )
        #expect(
            self.refusal(&rig, .promote(full: false))
                == "there is nothing to promote: v1 serves and no rollout runs"
        )
        #expect(
            self.refusal(&rig, .promote(full: true))
                == "there is nothing to promote: v1 serves and no rollout runs"
        )
        #expect(
            self.refusal(&rig, .abort)
                == "nothing that can be aborted runs: v1 serves and no rollout runs"
        )
        #expect(
            self.refusal(&rig, .pause)
                == "nothing that can be paused runs: v1 serves and no rollout runs"
        )
        #expect(
            self.refusal(&rig, .retry)
                == "there is nothing to retry: v1 serves and no rollout runs"
        )
    }

    @Test func commandsAtTheWrongTime() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        rig.tick(3)
        #expect(
            self.refusal(&rig, .start(variant: "v2")) == "a rollout to v2 runs already"
        )
        #expect(self.refusal(&rig, .retry) == "there is nothing to retry: v2 is being rolled out")
        try rig.command(.pause)
        #expect(
            self.refusal(&rig, .pause)
                == "nothing that can be paused runs: the rollout of v2 is paused already"
        )
        rig.acknowledges = false
        try rig.command(.abort)
        #expect(
            self.refusal(&rig, .abort)
                == "nothing that can be aborted runs: v2 is being rolled back already"
        )
        #expect(
            self.refusal(&rig, .promote(full: true))
                == "there is nothing to promote: v2 is being rolled back already"
        )
    }

    @Test(arguments: [
        (
            [RolloutStep.weight(50, hold: .zero), .weight(50, hold: .zero)],
            "steps[1]: the weights of the steps must rise: 50 comes after 50; "
                + "put the steps in rising order"
        ),
        (
            [.weight(101, hold: .zero)], "steps[0].weight: 101 is not between 0 and 100"
        ),
        ([.weight(-1, hold: .zero)], "steps[0].weight: -1 is not between 0 and 100"),
        ([.weight(1, hold: .seconds(-1))], "steps[0].hold: must not be negative"),
        ([.mirror(0, hold: .zero)], "steps[0].mirror: 0 is not between 1 and 100"),
        ([.pause(.seconds(-1))], "steps[0].pause: must not be negative"),
        (
            [.canaryReplicas(.replicas(-1))],
            "steps[0].canaryReplicas: -1 is not between 0 and 10000"
        ),
        (
            [.headerRoute(HeaderRoute(name: "X-Canary", value: ""))],
            "steps[0].headerRoute: the name must be in lower case"
        ),
        (
            Array(repeating: .pause(nil), count: 65), "steps: 65 is not between 0 and 64"
        ),
    ])
    func plansThatCannotBeWalked(steps: [RolloutStep], message: String) {
        #expect(self.refusal { try RolloutPlan(steps: steps).check() } == message)
    }

    @Test(arguments: [
        (MetricPlan.successRate(maxDrop: 2), "maxIncrease of successRate: 2.0 is not between"),
        (.quantile(.latency, 1, maxIncrease: 0), "quantile of latency: 1.0 is not between"),
        (.quantile(.latency, 0.5, maxIncrease: -1), "maxIncrease of latency: -1.0 is not between"),
        (
            MetricPlan(name: "d", .distance(.latency, maxDistance: .nan)),
            "maxDistance of d: nan is not between"
        ),
        (
            MetricPlan(name: "w", .events(.error, maxIncrease: 0), alphaWeight: 0),
            "the weight of w must be above 0"
        ),
    ])
    func metricsThatMakeNoSense(metric: MetricPlan, message: String) {
        let text = self.refusal { try AnalysisPlan(metrics: [metric]).check() }
        #expect(text.hasPrefix("analysis.metrics: " + message), "\(text)")
    }

    @Test(arguments: [0, 1, -0.1, .nan, .infinity])
    func alphaIsAProbability(alpha: Double) {
        var plan = AnalysisPlan()
        plan.alpha = alpha
        let text = self.refusal { try plan.check() }
        #expect(text == "analysis.alpha: \(alpha) is not between 0 and 1")
    }

    @Test func aMetricTwice() {
        let plan = AnalysisPlan(metrics: [.successRate(maxDrop: 0), .successRate(maxDrop: 0)])
        #expect(
            self.refusal { try plan.check() }
                == "analysis.metrics: the name successRate is given twice; rename one"
        )
    }

    @Test func aCustomMetricWithoutAPause() {
        var custom = CustomPlan(.below(1))
        custom.interval = .zero
        let plan = AnalysisPlan(metrics: [MetricPlan(name: "m", .custom(custom))])
        #expect(
            self.refusal { try plan.check() }
                == "analysis.metrics: m needs an interval of at least 1 s and a timeout"
        )
    }

    @Test func aLiveVariantThatDoesNotExist() {
        let text = self.refusal {
            _ = try RolloutMachine(
                RolloutSpec(live: "x", variants: [VariantReference("v1")], plan: nil)
            )
        }
        #expect(text == "there is no variant x: the variants are v1")
    }

    /// A status that was edited, or written by something else.
    @Test(arguments: 0..<7)
    func aStoredStatusThatContradictsItself(kind: Int) throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        rig.tick(3)
        var status = rig.status
        switch kind {
        case 0: status.traffic.weights = [VariantWeight("v1", 90)]
        case 1: status.canary = nil
        case 2: status.step = -1
        case 3: status.acknowledged = 10_000
        case 4: status.targetWeight = 400
        case 5: status.retiring = [RetiringVariant(name: "v2", generation: 1, delayMilliseconds: 0)]
        default: status.traffic.weights = [VariantWeight("v1", 200), VariantWeight("v2", -100)]
        }
        let text = self.refusal { _ = try RolloutMachine(rig.machine.spec, resuming: status) }
        #expect(text.hasPrefix("the stored status of the rollout contradicts itself"))
    }
}
