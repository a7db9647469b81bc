import Core
import Testing

@testable import Rollouts

/// Changes of mind, at every point of a rollout.
@Suite struct SupersedeTests {
    private static let plan: RolloutPlan = {
        var plan = RolloutPlan(steps: [
            .headerRoute(HeaderRoute(name: "x-canary", value: "1")),
            .mirror(10, hold: .seconds(5)), .canaryReplicas(.replicas(2)),
            .weight(10, hold: .seconds(5)), .analysis(hold: .seconds(5)), .pause(.seconds(5)),
            .weight(50, hold: .seconds(5)),
        ])
        plan.analysis.metrics = []
        return plan
    }()

    /// How many seconds the whole rollout takes.
    private func length() throws -> Int {
        var rig = try Rig(Self.plan)
        rig.live("v2")
        let start = rig.seconds
        #expect(rig.tick { $0.phase == .stable })
        return rig.seconds - start
    }

    /// Runs into every second of a rollout, changes something, and looks where it ends.
    private func forEachSecond(_ check: (inout Rig) throws -> Void) throws {
        let length = try self.length()
        #expect(length > 25)
        for second in 0...length {
            for acknowledges in [true, false] {
                var rig = try Rig(Self.plan)
                rig.live("v2")
                rig.tick(second)
                if !rig.status.isRunning { continue }
                rig.acknowledges = acknowledges
                try check(&rig)
            }
        }
    }

    @Test func aThirdVariantTakesOverAtAnyTime() throws {
        try self.forEachSecond { rig in
            rig.live("v3")
            var shares = [rig.status.traffic.weights.map(\.variant)]
            rig.tick(40)
            rig.acknowledges = true
            #expect(
                rig.tick { rig in
                    shares.append(rig.status.traffic.weights.map(\.variant))
                    return rig.phase == .stable && rig.status.stable.name == "v3"
                },
                "\(rig.status.phase) \(rig.status.message)"
            )
            // Never two canaries at once.
            #expect(shares.allSatisfy { !($0.contains("v2") && $0.contains("v3")) })
            #expect(rig.kinds().contains(.superseded))
            #expect(rig.tick(limit: 60) { $0.status.retiring.isEmpty })
        }
    }

    @Test func goingBackInTheConfigurationEndsItAtAnyTime() throws {
        try self.forEachSecond { rig in
            rig.live("v1")
            #expect(rig.weight("v1") == 100 || rig.ready["v1"] == 0)
            rig.acknowledges = true
            #expect(rig.tick(limit: 10) { $0.phase == .stable })
            #expect(rig.status.stable.name == "v1")
            #expect(rig.status.rejected == nil)
        }
    }

    @Test func abortEndsItAtAnyTime() throws {
        try self.forEachSecond { rig in
            if rig.phase == .rollingBack { return }
            try rig.command(.abort)
            #expect(rig.tick(limit: 40) { $0.phase == .rolledBack })
            #expect(rig.weight("v1") == 100)
            #expect(rig.status.traffic.headerRoute == nil)
            #expect(rig.status.traffic.mirrorTo == nil)
        }
    }

    @Test func aChangedTemplateOfTheCanaryBeginsAnewFromZero() throws {
        var rig = try Rig(Self.plan, revision: "a")
        rig.live("v2")
        #expect(rig.tick { $0.weight("v2") == 50 })
        let before = rig.status.rollout
        rig.acknowledges = false
        rig.send(.templateChanged(VariantReference("v2", revision: "b")))
        #expect(rig.weight("v2") == 0)
        rig.tick(5)
        #expect(rig.status.rollout == before, "not before all gateways know")
        rig.acknowledge()
        rig.acknowledges = true
        rig.tick()
        #expect(rig.status.rollout == before + 1)
        #expect(rig.status.canary?.revision == "b")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable == VariantReference("v2", revision: "b"))
    }

    @Test func mindsChangedTwiceWhileGoingBack() throws {
        var rig = try Rig(Self.plan)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 50 }
        rig.acknowledges = false
        rig.live("v3")
        rig.live("v4")
        rig.live("v2")
        rig.tick(3)
        rig.acknowledges = true
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v2")
    }

    @Test func anotherVariantAfterARollback() throws {
        var rig = try Rig(.simple)
        rig.errors = ["v2": 60]
        rig.live("v2")
        #expect(rig.tick { $0.phase == .rolledBack })
        rig.live("v3")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v3")
        var back = try Rig(.simple)
        back.errors = ["v2": 60]
        back.live("v2")
        #expect(back.tick { $0.phase == .rolledBack })
        back.live("v1")
        #expect(back.phase == .stable)
        #expect(back.status.rejected == nil)
    }

    // MARK: Configuration

    @Test func aShorterPolicyGoesOnWithoutLosingWeight() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 25 && $0.status.stage == .holding }
        var spec = rig.machine.spec
        spec.plan = RolloutPlan(steps: [.weight(10, hold: .zero), .weight(40, hold: .seconds(30))])
        rig.send(.configured(spec))
        var weights: [Int] = []
        _ = rig.tick { rig in
            if weights.last != rig.weight("v2") { weights.append(rig.weight("v2")) }
            return rig.phase == .stable
        }
        #expect(weights == [40, 100] || weights == [25, 40, 100])
    }

    @Test func aPolicyThatIsTakenAwayEndsTheSteps() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        var spec = rig.machine.spec
        spec.plan = nil
        rig.send(.configured(spec))
        #expect(rig.tick(limit: 5) { $0.phase == .stable })
        #expect(rig.status.stable.name == "v2")
    }

    @Test func aCanaryThatIsNoLongerConfiguredLosesItsShareAtOnce() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        let variants = rig.machine.spec.variants.filter { $0.name != "v2" }
        rig.send(.configured(RolloutSpec(live: "v1", variants: variants, plan: .simple)))
        #expect(rig.weight("v1") == 100)
        rig.tick(2)
        #expect(rig.phase == .stable)
        #expect(rig.status.retiring.map(\.name) == ["v2"])
    }

    @Test func aStableVariantThatIsNoLongerConfiguredIsNoWayBack() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        let variants = rig.machine.spec.variants.filter { $0.name != "v1" }
        rig.send(.configured(RolloutSpec(live: "v2", variants: variants, plan: .simple)))
        #expect(rig.phase == .promoting)
        #expect(rig.tick(limit: 5) { $0.status.stable.name == "v2" })
    }

    @Test func aConfigurationThatIsWrongChangesNothing() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.live("v9")
        #expect(rig.status.canary?.name == "v2")
        #expect(rig.phase == .progressing)
        #expect(
            rig.status.records.last?.message
                == "not taken over: there is no variant v9: the variants are v1, v2, v3, v4"
        )
    }
}

/// A workload that somebody else updates in place.
@Suite struct InPlaceTests {
    private func rig() throws -> Rig {
        var rig = try Rig(.simple, revision: "a")
        rig.send(.templateChanged(VariantReference("v1", revision: "b")))
        return rig
    }

    @Test func aGoodRevisionIsAcceptedAfterItsTime() throws {
        var rig = try self.rig()
        #expect(rig.status.isInPlace)
        #expect(rig.weight("v1") == 100)
        rig.tick(290)
        #expect(rig.phase == .progressing)
        rig.tick(15)
        #expect(rig.phase == .stable)
        #expect(rig.status.stable.revision == "b")
        #expect(rig.demand("v1") == nil, "its own controller keeps its replicas")
    }

    @Test func aBadRevisionGoesBackToTheLastGoodOne() throws {
        var rig = try self.rig()
        rig.tick(10)
        rig.consecutiveErrors = 30
        rig.tick()
        #expect(rig.phase == .rollingBack)
        let good = VariantReference("v1", revision: "a")
        #expect(rig.log.contains(.rollBackTemplate(good)))
        rig.tick(20)
        #expect(rig.phase == .rollingBack)
        rig.send(.templateChanged(good))
        #expect(rig.phase == .rolledBack)
        #expect(rig.status.stable == good)
        rig.consecutiveErrors = 0
        rig.tick(100)
        #expect(rig.phase == .rolledBack)
    }

    @Test func revisionsAreComparedWhileBothServe() throws {
        var rig = try self.rig()
        rig.readyOfOldRevision = ["v1": 2]
        // The rig's samples are of the stable arm; those of the new revision are given here.
        for _ in 0..<60 where rig.phase == .progressing {
            var observation = RolloutObservation(variants: [
                "v1": VariantObservation(ready: 4, replicasForAll: 4)
            ])
            for (arm, errors) in [(Arm.stable, 0), (.canary, 6)] {
                var sample = ArmSample(arm: arm, replica: "r", generation: 1, requests: 50)
                sample[.error] = errors
                observation.samples.append(sample)
            }
            rig.send(.tick(observation))
        }
        #expect(rig.phase == .rollingBack)
        #expect(rig.status.message.hasPrefix("v1: successRate worse than allowed"))
    }

    @Test func aRevisionThatNeverGetsReadyGoesBack() throws {
        var rig = try self.rig()
        rig.readyOfOldRevision = ["v1": 4]
        rig.tick(605)
        #expect(rig.phase == .rollingBack)
        #expect(
            rig.status.message == "no progress for 600 s: no replica of the new revision was ready"
        )
        // Nobody does it: the wait is bounded.
        rig.tick(605)
        #expect(rig.phase == .rolledBack)
    }

    @Test func undoneByHandEndsTheWatch() throws {
        var rig = try self.rig()
        rig.send(.templateChanged(VariantReference("v1", revision: "a")))
        #expect(rig.phase == .stable)
        #expect(rig.status.stable.revision == "a")
    }

    @Test func changedAgainIsWatchedAnew() throws {
        var rig = try self.rig()
        rig.tick(200)
        rig.send(.templateChanged(VariantReference("v1", revision: "c")))
        rig.tick(200)
        #expect(rig.status.isInPlace)
        rig.tick(110)
        #expect(rig.status.stable.revision == "c")
    }

    @Test func aChangeWhileNobodyWatchedIsSeenAfterwards() throws {
        var rig = try Rig(.simple, revision: "a")
        var spec = rig.machine.spec
        spec.variants = spec.variants.map { VariantReference($0.name, revision: "b") }
        spec.live.revision = "b"
        rig.machine = try RolloutMachine(spec, resuming: rig.status)
        rig.tick()
        #expect(rig.status.isInPlace)
        #expect(rig.status.canary?.revision == "b")
    }

    @Test func aChangedStableVariantDropsTheEvidence() throws {
        var rig = try Rig(.simple, revision: "a")
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.tick(30)
        rig.send(.templateChanged(VariantReference("v1", revision: "b")))
        #expect(rig.phase == .progressing)
        #expect(rig.status.heldMilliseconds == 0)
        #expect(rig.status.evidence?.metrics.first?.canary.requests == 0)
    }

    @Test func promotedByHandIsAccepted() throws {
        var rig = try self.rig()
        try rig.command(.promote(full: false))
        #expect(rig.phase == .stable)
        #expect(rig.status.stable.revision == "b")
    }
}
