import Core
import Testing

@testable import Rollouts

/// Every transition, in a world that obeys.
@Suite struct MachineTests {
    @Test func walksTheStepsAndSwapsRoles() throws {
        var rig = try Rig(.simple)
        #expect(rig.phase == .stable)
        rig.live("v2")
        #expect(rig.phase == .progressing)
        var weights = [rig.weight("v2")]
        _ = rig.tick { rig in
            if rig.weight("v2") != weights.last { weights.append(rig.weight("v2")) }
            return rig.phase == .stable
        }
        #expect(weights == [0, 25, 50, 100])
        #expect(rig.status.stable.name == "v2")
        #expect(rig.status.recentGood.map(\.name) == ["v1"])
        #expect(rig.status.retiring.map(\.name) == ["v1"])
        #expect(
            rig.kinds() == [
                .started, .weightChanged, .stepBegan, .weightChanged, .stepBegan, .promoting,
                .weightChanged, .promoted,
            ]
        )
        rig.tick(40)
        #expect(rig.status.retiring.isEmpty)
        #expect(rig.kinds().last == .retired)
    }

    /// Not of the moment after the last step, of which nothing is known yet.
    @Test func thePromotionShowsWhatItRestsOn() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        #expect(rig.tick { $0.phase == .stable })
        let promoted = try #require(rig.status.records.last { $0.kind == .promoted })
        let report = try #require(promoted.reports.first)
        #expect(report.canaryRequests > 1_000 && report.stableRequests > 1_000, "\(report)")
        #expect(report.verdict == .pass)
    }

    @Test func withoutAPolicyAChangeIsStillOrdered() throws {
        var rig = try Rig(nil)
        rig.obeysDemands = false
        rig.live("v2")
        rig.tick(5)
        #expect(rig.weight("v2") == 0)
        #expect(rig.demand("v2")?.share == 100)
        rig.ready["v2"] = 3
        rig.tick(5)
        #expect(rig.weight("v2") == 0, "three of four replicas cannot carry everything")
        rig.ready["v2"] = 4
        rig.tick(2)
        #expect(rig.status.stable.name == "v2")
        #expect(rig.weight("v2") == 100)
    }

    @Test func holdsForItsTimeAndNoLonger() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.tick(59)
        #expect(rig.weight("v2") == 25)
        #expect(rig.demand("v2")?.nextShare == 50)
        rig.tick(3)
        #expect(rig.weight("v2") == 50)
    }

    /// Time that nobody watched is no time held.
    @Test func aGapBetweenTicksIsNotWatched() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        let held = rig.status.heldMilliseconds
        let later = RolloutMoment(
            instant: rig.moment.instant + .seconds(3_600),
            wall: 9_000_000
        )
        _ = rig.machine.handle(
            .tick(
                RolloutObservation(variants: [
                    "v1": VariantObservation(ready: 4, replicasForAll: 4),
                    "v2": VariantObservation(ready: 1, replicasForAll: 4),
                ])
            ),
            at: later
        )
        #expect(rig.status.heldMilliseconds - held <= RolloutMachine.tickMillisecondsMax)
        #expect(rig.phase == .progressing)
    }

    // MARK: Steps

    @Test func pauseStepWaitsForAPromotion() throws {
        var rig = try Rig(RolloutPlan(steps: [.weight(10, hold: .seconds(5)), .pause(nil)]))
        rig.machine.spec.plan?.analysis.metrics = []
        rig.live("v2")
        #expect(rig.tick { $0.phase == .paused })
        rig.tick(1_000)
        #expect(rig.phase == .paused)
        #expect(rig.status.pause == .step)
        #expect(rig.weight("v2") == 10)
        try rig.command(.promote(full: false))
        #expect(rig.tick(limit: 5) { $0.phase == .stable })
        #expect(rig.status.stable.name == "v2")
    }

    @Test func pauseStepWithADurationEndsByItself() throws {
        var rig = try Rig(RolloutPlan(steps: [.pause(.seconds(30)), .weight(10, hold: .zero)]))
        rig.machine.spec.plan?.analysis.metrics = []
        rig.live("v2")
        rig.tick(29)
        #expect(rig.phase == .paused)
        rig.tick(4)
        #expect(rig.phase == .stable)
    }

    @Test func canaryReplicasComeApartFromItsShare() throws {
        var rig = try Rig(
            RolloutPlan(steps: [
                .canaryReplicas(.replicas(3)), .weight(5, hold: .seconds(5)),
                .canaryReplicas(.matchWeight), .weight(25, hold: .seconds(5)),
            ])
        )
        rig.machine.spec.plan?.analysis.metrics = []
        rig.obeysDemands = false
        rig.live("v2")
        rig.ready["v2"] = 2
        rig.tick(5)
        #expect(rig.demand("v2")?.replicasMin == 3)
        #expect(rig.weight("v2") == 0)
        rig.ready["v2"] = 3
        rig.tick(2)
        #expect(rig.weight("v2") == 5)
        rig.tick(5)
        #expect(rig.demand("v2")?.replicasMin == 1)
        #expect(rig.weight("v2") == 25)
    }

    @Test func canaryReplicasByShareAreAsManyAsItNeeds() throws {
        var rig = try Rig(RolloutPlan(steps: [.canaryReplicas(.share(50)), .pause(nil)]))
        rig.obeysDemands = false
        rig.live("v2")
        rig.ready["v2"] = 1
        rig.tick(3)
        #expect(rig.demand("v2")?.share == 50)
        #expect(rig.phase == .progressing)
        rig.ready["v2"] = 2
        rig.tick(2)
        #expect(rig.phase == .paused)
    }

    @Test func headerRouteStaysUntilAnotherStepOrTheEnd() throws {
        let route = HeaderRoute(name: "x-canary", value: "yes")
        var rig = try Rig(
            RolloutPlan(steps: [
                .headerRoute(route), .pause(nil), .headerRoute(nil),
                .weight(50, hold: .seconds(5)),
                .headerRoute(route), .pause(nil),
            ])
        )
        rig.machine.spec.plan?.analysis.metrics = []
        rig.live("v2")
        _ = rig.tick { $0.phase == .paused }
        #expect(rig.status.traffic.headerRoute == route)
        #expect(rig.weight("v2") == 0)
        try rig.command(.promote(full: false))
        _ = rig.tick { $0.weight("v2") == 50 }
        #expect(rig.status.traffic.headerRoute == nil)
        _ = rig.tick { $0.phase == .paused }
        #expect(rig.status.traffic.headerRoute == route)
        try rig.command(.promote(full: false))
        _ = rig.tick { $0.phase == .stable }
        #expect(rig.status.traffic.headerRoute == nil)
    }

    @Test func headerRouteGoesWithTheLastReplica() throws {
        let route = HeaderRoute(name: "x-canary", value: "yes")
        var rig = try Rig(RolloutPlan(steps: [.headerRoute(route), .pause(nil)]))
        rig.obeysDemands = false
        rig.live("v2")
        rig.tick(3)
        #expect(rig.status.traffic.headerRoute == nil)
        rig.ready["v2"] = 1
        rig.tick(3)
        #expect(rig.status.traffic.headerRoute == route)
        rig.ready["v2"] = 0
        rig.tick()
        #expect(rig.status.traffic.headerRoute == nil)
        rig.ready["v2"] = 1
        rig.tick()
        #expect(rig.status.traffic.headerRoute == route)
    }

    @Test func mirrorsDuringItsStepOnly() throws {
        var rig = try Rig(
            RolloutPlan(steps: [.mirror(20, hold: .seconds(10)), .weight(25, hold: .seconds(10))])
        )
        rig.machine.spec.plan?.analysis.metrics = []
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        #expect(rig.status.traffic.mirrorTo == "v2")
        #expect(rig.status.traffic.mirrorPercent == 20)
        #expect(rig.weight("v2") == 0)
        #expect((rig.demand("v2")?.share ?? 0) >= 20)
        _ = rig.tick { $0.weight("v2") == 25 }
        #expect(rig.status.traffic.mirrorTo == nil)
    }

    @Test func pairsThatDisagreeEndAMirrorStep() throws {
        var plan = RolloutPlan(steps: [.mirror(20, hold: .seconds(60)), .pause(nil)])
        plan.analysis.metrics = [
            .successRate(maxDrop: 0.005),
            MetricPlan(name: "answers", .pairs(.different, maxIncrease: 0.01)),
        ]
        var rig = try Rig(plan)
        rig.pairs.compared = 20
        rig.live("v2")
        // Copies are compared; what has no share is not, and is no reason to wait.
        #expect(rig.tick { $0.phase == .paused })
        #expect(rig.status.pause == .step)
        var bad = try Rig(plan)
        bad.pairs.compared = 20
        bad.pairs.different = 3
        bad.live("v2")
        #expect(bad.tick { $0.phase == .rolledBack })
        #expect(bad.status.message.hasPrefix("v2: answers worse than allowed"))
    }

    @Test func analysisStepWatchesWithoutChange() throws {
        var rig = try Rig(
            RolloutPlan(steps: [.weight(20, hold: .zero), .analysis(hold: .seconds(20))])
        )
        rig.machine.spec.plan?.analysis.startingStep = 1
        rig.live("v2")
        _ = rig.tick { $0.status.step == 1 && $0.status.stage == .holding }
        rig.tick(10)
        #expect(rig.weight("v2") == 20)
        #expect(rig.tick(limit: 20) { $0.phase == .stable })
    }

    // MARK: Verdicts

    @Test func worseCanaryIsRolledBackAndStaysBack() throws {
        var rig = try Rig(.simple)
        rig.errors = ["v2": 12]
        rig.live("v2")
        #expect(rig.tick { $0.phase == .rolledBack })
        #expect(rig.weight("v1") == 100)
        #expect(rig.status.rejected?.name == "v2")
        #expect(rig.status.message.hasPrefix("v2: successRate worse than allowed: evidence"))
        let failed = rig.status.records.last { $0.kind == .failed }
        #expect(failed?.reports.first?.verdict == .fail)
        rig.tick(500)
        #expect(rig.phase == .rolledBack)
        #expect(rig.status.retiring.isEmpty)
    }

    /// From the tick that shows it to the new weights it is one event.
    @Test func guardrailMovesWeightsWithinTheEvent() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        #expect(rig.weight("v2") == 25)
        rig.consecutiveErrors = 20
        rig.acknowledges = false
        // Even when the stable variant has too few replicas: errors are worse than a queue.
        rig.obeysDemands = false
        rig.ready["v1"] = 1
        rig.tick()
        #expect(rig.weight("v2") == 0)
        #expect(rig.status.message == "v2: 20 errors in a row")
    }

    @Test func noRequestsAreInconclusiveAndPause() throws {
        var rig = try Rig(.simple)
        rig.requests = 0
        rig.live("v2")
        #expect(rig.tick { $0.phase == .paused })
        #expect(rig.status.pause == .inconclusive)
        #expect(
            rig.status.message
                == "successRate: 0 of 50 values of the stable variant, "
                + "0 of 50 values of the new variant"
        )
        #expect(rig.weight("v2") == 25)
    }

    @Test(arguments: [
        (RolloutPlan.InconclusiveAction.promote, RolloutStatus.Phase.stable, "v2"),
        (.rollback, .rolledBack, "v1"), (.pause, .paused, "v1"),
    ])
    func inconclusiveDoesAsConfigured(
        action: RolloutPlan.InconclusiveAction,
        phase: RolloutStatus.Phase,
        stable: String
    ) throws {
        var plan = RolloutPlan.simple
        plan.onInconclusive = action
        var rig = try Rig(plan)
        rig.requests = 0
        rig.live("v2")
        rig.tick(300)
        #expect(rig.phase == phase)
        #expect(rig.status.stable.name == stable)
    }

    @Test func anOutageOfBothVariantsHoldsTheStep() throws {
        var rig = try Rig(.simple)
        rig.errors = ["v1": 60, "v2": 60]
        rig.live("v2")
        #expect(rig.tick { $0.phase == .paused || $0.phase == .rolledBack })
        #expect(rig.phase == .paused)
        #expect(rig.status.message.hasSuffix("the stable variant as well"))
    }

    @Test func dryRunReportsAndGoesOn() throws {
        var plan = RolloutPlan.simple
        plan.analysis.isDryRun = true
        plan.guardrails.errorRate = nil
        var rig = try Rig(plan)
        rig.errors = ["v2": 12]
        rig.live("v2")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v2")
        #expect(rig.kinds().count { $0 == .dryRun } == 1)
    }

    @Test func aMetricInDryRunReportsAndGoesOn() throws {
        var plan = RolloutPlan.simple
        plan.analysis.metrics = [
            MetricPlan(name: "errors", .events(.error, maxIncrease: 0), isDryRun: true)
        ]
        var rig = try Rig(plan)
        rig.errors = ["v2": 12]
        rig.live("v2")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.kinds().contains(.dryRun))
    }

    @Test func customMetricThatFailsRollsBackAndOneThatNeverComesPauses() throws {
        var plan = RolloutPlan.simple
        var custom = CustomPlan(.below(0.1))
        custom.interval = .seconds(10)
        plan.analysis.metrics = [MetricPlan(name: "toxicity", .custom(custom))]
        var good = try Rig(plan)
        good.measurement = .value(0.05)
        good.live("v2")
        #expect(good.tick { $0.phase == .stable })
        var bad = try Rig(plan)
        bad.measurement = .value(0.5)
        bad.live("v2")
        #expect(bad.tick { $0.phase == .rolledBack })
        #expect(bad.status.message == "v2: toxicity 1 values on the wrong side, last 0.5")
        var never = try Rig(plan)
        never.live("v2")
        #expect(never.tick(limit: 90) { $0.phase == .paused })
        #expect(
            never.status.message
                == "toxicity: no good value within this step: no answer within 10 s"
        )
    }

    // MARK: Order

    @Test func noShareBeforeItsReplicasAreReady() throws {
        var rig = try Rig(.simple)
        rig.obeysDemands = false
        rig.live("v2")
        rig.tick(10)
        #expect(rig.weight("v2") == 0)
        #expect(rig.status.message == "v2 had 0 of 1 replicas ready")
        rig.ready["v2"] = 1
        rig.tick(70)
        #expect(rig.weight("v2") == 25, "one replica carries a quarter, not a half")
        rig.ready["v2"] = 2
        rig.tick(2)
        #expect(rig.weight("v2") == 50)
    }

    @Test func canaryWithoutReplicasLosesItsShareAndGetsItBack() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.obeysDemands = false
        rig.ready["v2"] = 0
        rig.tick()
        #expect(rig.weight("v2") == 0)
        let held = rig.status.heldMilliseconds
        rig.tick(30)
        #expect(rig.status.heldMilliseconds == held, "that was no time watched")
        rig.ready["v2"] = 1
        rig.tick()
        #expect(rig.weight("v2") == 25)
    }

    @Test func canaryServesAloneWhenTheStableVariantIsGone() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.obeysDemands = false
        rig.ready["v1"] = 0
        rig.tick(2)
        #expect(rig.weight("v2") == 100)
        rig.tick(2_000)
        #expect(rig.phase == .progressing, "giving up the only one that serves helps nobody")
        #expect(rig.status.message == "v1 has no ready replica")
        rig.ready["v1"] = 4
        rig.tick(2)
        #expect(rig.weight("v2") == 25)
    }

    @Test func nothingGoesOnBeforeTheAcknowledgement() throws {
        var rig = try Rig(.simple)
        rig.acknowledges = false
        rig.live("v2")
        rig.tick(100)
        #expect(rig.weight("v2") == 25)
        #expect(rig.status.stage == .shifting)
        #expect(rig.status.heldMilliseconds == 0)
        rig.acknowledge()
        #expect(rig.status.stage == .holding)
    }

    @Test func retirementWaitsForAcknowledgementStreamsAndDelay() throws {
        var plan = RolloutPlan.simple
        plan.analysis.metrics = []
        var rig = try Rig(plan)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.inFlight["v2"] = 3
        rig.acknowledges = false
        try rig.command(.abort)
        #expect(rig.weight("v2") == 0)
        // The rollback ends, as nothing more can be done; the replicas stay.
        #expect(rig.tick(limit: 40) { $0.phase == .rolledBack })
        rig.tick(1_000)
        #expect(rig.demand("v2")?.mayShrink == false)
        rig.acknowledge()
        rig.tick(100)
        #expect(rig.demand("v2")?.mayShrink == false, "streams run")
        rig.inFlight["v2"] = 0
        rig.tick(2)
        #expect(rig.demand("v2") == nil)
    }

    @Test func streamsThatNeverEndHoldAVariantUntilTheDrainDeadline() throws {
        var rig = try Rig(.simple)
        rig.inFlight["v1"] = 1
        rig.live("v2")
        _ = rig.tick { $0.phase == .stable }
        rig.tick(295)
        #expect(rig.demand("v1")?.mayShrink == false)
        rig.tick(10)
        #expect(rig.demand("v1") == nil)
    }

    @Test func stableKeepsAllCapacityUnlessToldOtherwise() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 50 && $0.status.stage == .holding }
        #expect(rig.demand("v1")?.share == 100)
        var plan = RolloutPlan.simple
        plan.keepsStableCapacity = false
        var dynamic = try Rig(plan)
        dynamic.live("v2")
        _ = dynamic.tick { $0.weight("v2") == 25 }
        dynamic.acknowledges = false
        _ = dynamic.tick { $0.weight("v2") == 50 }
        dynamic.tick(3)
        #expect(dynamic.demand("v1")?.share == 75, "some gateway may still send three quarters")
        dynamic.acknowledge()
        #expect(dynamic.demand("v1")?.share == 50)
        dynamic.acknowledges = true
        dynamic.obeysDemands = false
        dynamic.ready["v1"] = 2
        dynamic.tick(2)
        try dynamic.command(.abort)
        // Two of four replicas carry what they have; more when they are there.
        dynamic.tick(3)
        #expect(dynamic.weight("v1") == 50)
        #expect(dynamic.demand("v1")?.share == 100)
        dynamic.ready["v1"] = 3
        dynamic.tick()
        #expect(dynamic.weight("v1") == 75)
        dynamic.ready["v1"] = 4
        dynamic.tick(2)
        #expect(dynamic.weight("v1") == 100)
        #expect(dynamic.phase == .rolledBack)
    }

    @Test func fixedAddressesAreTakenAsTheyAre() throws {
        var plan = RolloutPlan.simple
        plan.analysis.metrics = []
        let spec = RolloutSpec(
            live: "v1",
            variants: [VariantReference("v1"), VariantReference("cloud")],
            plan: plan
        )
        var machine = try RolloutMachine(spec)
        var cloud = VariantObservation(ready: 1, replicasForAll: 9)
        cloud.isScalable = false
        let observation = RolloutObservation(variants: [
            "v1": VariantObservation(ready: 4, replicasForAll: 4), "cloud": cloud,
        ])
        func moment(_ second: Int) -> RolloutMoment {
            RolloutMoment(
                instant: Instant(nanoseconds: UInt64(second) * 1_000_000_000),
                wall: second
            )
        }
        _ = machine.handle(.tick(observation), at: moment(1))
        _ = try machine.perform(.start(variant: "cloud"), at: moment(1))
        _ = machine.handle(.tick(observation), at: moment(2))
        #expect(machine.status.traffic.weight(of: "cloud") == 25)
    }

    // MARK: Deadline

    @Test func progressDeadlineRollsBack() throws {
        var rig = try Rig(.simple)
        rig.obeysDemands = false
        rig.live("v2")
        rig.tick(599)
        #expect(rig.phase == .progressing)
        rig.tick(3)
        #expect(rig.phase == .rolledBack)
        #expect(
            rig.status.message == "no progress for 600 s: v2 had 0 of 1 replicas ready"
        )
    }

    @Test func gatewaysThatNeverAcknowledgeEndInARollback() throws {
        var rig = try Rig(.simple)
        rig.acknowledges = false
        rig.live("v2")
        #expect(rig.tick(limit: 640) { $0.phase == .rolledBack })
        #expect(rig.weight("v1") == 100)
    }

    // MARK: Commands

    @Test func pauseStopsTheClockAndPromoteGoesOn() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        rig.tick(30)
        try rig.command(.pause)
        rig.tick(300)
        #expect(rig.weight("v2") == 25)
        try rig.command(.promote(full: false))
        #expect(rig.phase == .progressing)
        rig.tick(20)
        #expect(rig.weight("v2") == 25)
        rig.tick(14)
        #expect(rig.weight("v2") == 50)
    }

    @Test func aBadCanaryIsRolledBackWhilePaused() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        try rig.command(.pause)
        rig.errors = ["v2": 60]
        #expect(rig.tick(limit: 60) { $0.phase == .rolledBack })
    }

    @Test func promoteEndsAHold() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        try rig.command(.promote(full: false))
        rig.tick(2)
        #expect(rig.weight("v2") == 50)
    }

    @Test func promoteInFullSkipsStepsNotSafety() throws {
        var rig = try Rig(.simple)
        rig.obeysDemands = false
        rig.ready["v2"] = 1
        rig.live("v2")
        _ = rig.tick { $0.status.stage == .holding }
        try rig.command(.promote(full: true))
        rig.tick(5)
        #expect(rig.phase == .promoting)
        #expect(rig.weight("v2") == 25)
        rig.ready["v2"] = 4
        rig.tick(2)
        #expect(rig.status.stable.name == "v2")
    }

    @Test func abortAndRetry() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.weight("v2") == 50 }
        try rig.command(.abort)
        #expect(rig.tick(limit: 5) { $0.phase == .rolledBack })
        #expect(rig.status.message == "aborted by hand")
        try rig.command(.retry)
        #expect(rig.phase == .progressing)
        #expect(rig.status.step == 0)
        #expect(rig.status.retiring.isEmpty, "what starts again does not retire")
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v2")
    }

    @Test func startByHandWalksToo() throws {
        var rig = try Rig(.simple)
        try rig.command(.start(variant: "v3"))
        #expect(rig.tick { $0.phase == .stable })
        #expect(rig.status.stable.name == "v3")
        // The configuration says the same later: nothing is to be done.
        rig.live("v3")
        #expect(rig.phase == .stable)
    }

    @Test func historyIsBoundedAndItsNumbersRise() throws {
        var rig = try Rig(.simple)
        for _ in 0..<120 {
            try rig.command(.start(variant: "v2"))
            rig.tick(3)
            try rig.command(.abort)
            rig.tick(3)
        }
        let ids = rig.status.records.map(\.id)
        #expect(ids.count == RolloutStatus.recordsMax)
        #expect(zip(ids, ids.dropFirst()).allSatisfy { $0 < $1 })
    }

    // MARK: Fast track

    @Test func theWayBackToARecentVariantHasNoSteps() throws {
        var rig = try Rig(.simple)
        rig.live("v2")
        _ = rig.tick { $0.phase == .stable }
        rig.ready["v1"] = 0
        rig.obeysDemands = false
        rig.live("v1")
        #expect(rig.phase == .promoting)
        rig.tick(5)
        #expect(rig.weight("v1") == 0, "fast, not before it is ready")
        rig.ready["v1"] = 4
        rig.tick(2)
        #expect(rig.status.stable.name == "v1")
        // Outside of the window the steps are walked.
        rig.obeysDemands = true
        rig.live("v3")
        _ = rig.tick { $0.phase == .stable }
        rig.live("v2")
        #expect(rig.phase == .progressing)
    }
}
