import Rollouts
import Testing

@testable import Configuration

/// What a policy says arrives in the machine's plan.
@Suite struct RolloutPolicyTests {
    private func plan(_ spec: String) throws -> RolloutPlan {
        let text = BadFile.rollout(spec)
        let loaded = ConfigurationLoader.load(files: [(name: "a.yaml", text: text)])
        let configuration = try #require(loaded.configuration, "\(loaded.problems)")
        let policy = try #require(configuration.rolloutPolicy("r"))
        var model = ModelSpec.defaults.objectives
        model.successRate = Percent(text: "99.9%")
        let plan = policy.spec.plan(model)
        try plan.check()
        return plan
    }

    @Test func everyStepIsRead() throws {
        let plan = try self.plan(
            """
              steps:
              - {mirror: 5, hold: 1m}
              - {headerRoute: {name: X-Canary, value: "yes"}}
              - {weight: 5, hold: 90s}
              - {pause: true}
              - {wait: 10m}
              - {watch: 5m}
              - {canaryScale: {replicas: 3}}
              - {canaryScale: {share: 50}}
              - {canaryScale: {matchWeight: true}}
              - {removeHeaderRoute: true}
              - {weight: 50}
            """
        )
        #expect(
            plan.steps == [
                .mirror(5, hold: .seconds(60)),
                .headerRoute(HeaderRoute(name: "x-canary", value: "yes")),
                .weight(5, hold: .seconds(90)), .pause(nil), .pause(.seconds(600)),
                .analysis(hold: .seconds(300)), .canaryReplicas(.replicas(3)),
                .canaryReplicas(.share(50)), .canaryReplicas(.matchWeight), .headerRoute(nil),
                .weight(50, hold: .zero),
            ]
        )
    }

    @Test func everyMetricIsRead() throws {
        let plan = try self.plan(
            """
              steps: [{weight: 5}]
              analysis:
                alpha: 0.05
                minRequests: 7
                warmup: 3s
                startingStep: 2
                dryRun: true
                metrics:
                - {name: successRate, maxDrop: 0.5%, alphaWeight: 2}
                - {name: timeouts, maxIncrease: 0.1%}
                - {name: latency, quantile: 0.5, maxIncrease: 20%}
                - {name: latency, quantile: 0.999, maxIncrease: 20%, dryRun: true}
                - {name: timePerOutputToken, maxIncrease: 1%, label: tokens}
                - {name: outputLength, maxDistance: 10%}
                - {name: answers, maxIncrease: 1%}
                - {name: custom, server: "http://p:9090", query: up, above: 3, failureLimit: 2}
                - {name: custom, server: "http://p:9090", query: down, below: 1}
            """
        )
        #expect(plan.analysis.alpha == 0.05)
        #expect(plan.analysis.minRequests == 7)
        #expect(plan.analysis.warmup == .seconds(3))
        #expect(plan.analysis.startingStep == 2)
        #expect(plan.analysis.isDryRun)
        var custom = CustomPlan(.above(3))
        custom.failureLimit = 2
        #expect(
            plan.analysis.metrics == [
                MetricPlan(
                    name: "successRate",
                    .events(.error, maxIncrease: 0.005),
                    alphaWeight: 2
                ),
                MetricPlan(name: "timeouts", .events(.timeout, maxIncrease: 0.001)),
                MetricPlan(
                    name: "latency p50",
                    .quantile(.latency, quantile: 0.5, maxIncrease: 0.2)
                ),
                MetricPlan(
                    name: "latency p99.9",
                    .quantile(.latency, quantile: 0.999, maxIncrease: 0.2),
                    isDryRun: true
                ),
                MetricPlan(
                    name: "tokens",
                    .quantile(.timePerOutputToken, quantile: 0.95, maxIncrease: 0.01)
                ),
                MetricPlan(name: "outputLength", .distance(.outputTokens, maxDistance: 0.1)),
                MetricPlan(name: "answers", .pairs(.different, maxIncrease: 0.01)),
                MetricPlan(name: "custom", .custom(custom)),
                MetricPlan(name: "custom 2", .custom(CustomPlan(.below(1)))),
            ]
        )
    }

    @Test func theRestIsRead() throws {
        let plan = try self.plan(
            """
              steps: [{weight: 5}]
              guardrails:
                consecutiveErrors: 3
                errorRate: 10%
                minRequests: 9
                window: 10s
                latency: {quantile: 0.9, below: 2s}
                crashes: 2
                burnRate: 6
                progressDeadline: 1m
              onInconclusive: Rollback
              webhooks: [{when: AfterStep, url: "http://ci:80/ok", timeout: 3s, keyFile: ci.key}]
              scaleDownDelay: 1s
              abortScaleDownDelay: 2s
              drainDeadline: 3s
              rollbackWindow: 4
              keepStableCapacity: false
              inPlaceWatch: 5s
            """
        )
        #expect(plan.guardrails.consecutiveErrors == 3)
        #expect(plan.guardrails.errorRate == 0.1)
        #expect(plan.guardrails.minRequests == 9)
        #expect(plan.guardrails.window == .seconds(10))
        #expect(plan.guardrails.latency?.ceiling == .seconds(2))
        #expect(plan.guardrails.latency?.quantile == 0.9)
        #expect(plan.guardrails.crashes == 2)
        #expect(plan.guardrails.burnRate == .init(objective: 0.999, limit: 6))
        #expect(plan.progressDeadline == .seconds(60))
        #expect(plan.onInconclusive == .rollback)
        #expect(plan.webhooks.map(\.moment) == [.afterStep])
        #expect(plan.webhooks.map(\.url) == ["http://ci:80/ok"])
        #expect(plan.webhooks.map(\.timeout) == [.seconds(3)])
        #expect(plan.webhooks.map(\.keyFile) == ["ci.key"])
        #expect(plan.scaleDownDelay == .seconds(1))
        #expect(plan.abortScaleDownDelay == .seconds(2))
        #expect(plan.drainDeadline == .seconds(3))
        #expect(plan.rollbackWindow == 4)
        #expect(!plan.keepsStableCapacity)
        #expect(plan.inPlaceWatch == .seconds(5))
    }

    /// The defaults of the schema are those of the machine.
    @Test func defaultsAgree() throws {
        let plan = try self.plan("  steps: [{weight: 5}]")
        var wanted = RolloutPlan(steps: [.weight(5, hold: .zero)])
        wanted.guardrails.burnRate = plan.guardrails.burnRate
        #expect(plan == wanted)
        #expect(plan.guardrails.burnRate == nil)
    }
}
