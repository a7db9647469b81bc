import Core
import Testing

@testable import Autoscaling

/// Plans that play along, and the one that is taken.
@Suite struct RehearsalTests {
    /// A replica works on eight requests at a time, each for a second; a wait of more than two
    /// seconds is a miss.
    private static let staffing: Staffing = {
        var fit = LoadCurve.Fit(
            seconds: Array(repeating: 1, count: LoadCurve.binCount),
            waits: Array(repeating: 0, count: LoadCurve.binCount),
            share: Array(repeating: 1, count: LoadCurve.binCount),
            seen: LoadCurve.binCount - 1,
            reach: LoadCurve.binCount - 1
        )
        for bin in 0..<LoadCurve.binCount {
            let wait = max(0, LoadCurve.load(ofBin: bin) / 8 - 1)
            fit.waits[bin] = wait
            fit.share[bin] = wait <= 2 ? 1 : 0
        }
        return Staffing(
            latency: fit,
            firstToken: nil,
            latencyQuantile: 0.99,
            firstTokenQuantile: nil,
            samples: 1_000_000
        )
    }()

    private struct Course {
        var rehearsal = Rehearsal()
        var forecaster = Forecaster()
        let coldStart: Double
        var now = 0.0

        init(coldStart: Double) { self.coldStart = coldStart }

        /// Plays so many seconds of a rate.
        /// - Parameter missing: a share of the requests really misses, whatever was foretold.
        mutating func run(_ seconds: Double, rate: Double, missing: Double = 0) {
            let end = self.now + seconds
            while self.now < end {
                let isNew = self.forecaster.add(
                    arrivals: rate,
                    seconds: 1,
                    atSeconds: self.now,
                    horizonSeconds: self.coldStart
                )
                self.now += 1
                if isNew, let last = self.forecaster.last {
                    self.rehearsal.note(
                        self.forecaster,
                        rate: last,
                        coldStartSeconds: self.coldStart
                    )
                    self.rehearsal.begin(
                        self.forecaster,
                        rate: last,
                        forecast: self.forecaster.forecast(atSeconds: self.coldStart).rate,
                        RehearsalTests.staffing,
                        coldStartSeconds: self.coldStart,
                        holdSeconds: self.coldStart,
                        present: 3,
                        atSeconds: self.now
                    )
                }
                self.rehearsal.play()
                self.rehearsal.judge(
                    arrived: rate,
                    missed: rate * missing,
                    isSupplied: true,
                    RehearsalTests.staffing
                )
            }
        }

        func wanted(rate: Double) -> Int {
            self.rehearsal.replicas(rate: rate, load: rate, present: 0, RehearsalTests.staffing)
        }
    }

    @Test func aSteadyRateNeedsNoRoom() {
        var course = Course(coldStart: 60)
        course.run(7_200, rate: 15)
        #expect(course.rehearsal.isReady)
        #expect(course.wanted(rate: 15) == 2, "\(course.rehearsal.plan.text)")
    }

    /// A burst that is over before a replica could be ready leaves no choice but to stand ready.
    @Test(arguments: [UInt64(1), 2, 3])
    func standsReadyForBurstsShorterThanAStart(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var course = Course(coldStart: 180)
        for _ in 0..<16 {
            course.run(600 + 1_200 * random.nextUnit(), rate: 8)
            course.run(90, rate: 40)
        }
        course.run(600, rate: 8)
        // 40/s are five replicas; 24 queue up in a second and may wait for two.
        #expect(course.wanted(rate: 8) >= 4, "seed \(seed): \(course.rehearsal.plan.text)")
    }

    /// One burst in ten hours may be missed: it costs less than the share that may miss.
    @Test func forgetsABurstThatIsRare() {
        var course = Course(coldStart: 60)
        course.run(3_600, rate: 15)
        course.run(90, rate: 40)
        course.run(36_000, rate: 15)
        #expect(course.wanted(rate: 15) <= 3, "\(course.rehearsal.plan.text)")
    }

    /// Who knows when it comes back need not keep what is not used until then.
    @Test func holdsForLessWhatIsSeenComing() {
        var steady = Course(coldStart: 60)
        steady.run(7_200, rate: 15)
        #expect(steady.rehearsal.holdShare == 1)
        var periodic = Course(coldStart: 60)
        for _ in 0..<16 {
            periodic.run(600, rate: 40)
            periodic.run(600, rate: 4)
        }
        #expect(periodic.rehearsal.plan.period != nil, "\(periodic.rehearsal.plan.text)")
        #expect(periodic.rehearsal.holdShare < 0.3)
        #expect(periodic.rehearsal.holdShare >= 0)
    }

    /// A shorter hold ends where replicas come back too often.
    @Test func aShareOfTheHoldCountsWhileReplicasSeldomComeBack() {
        var hold = HoldTime()
        #expect(hold.seconds(breakEven: 100, share: 0.1) == 10)
        for round in 0..<20 {
            let now = Double(round) * 200
            hold.pass(seconds: 200, replicas: 4, breakEven: 100, atSeconds: now)
            hold.lowered(by: 4, atSeconds: now)
            hold.raised(by: 4, breakEven: 100, atSeconds: now + 150)
        }
        #expect(hold.seconds(breakEven: 100, share: 0.1) >= 100)
    }

    /// The model says that all is well, and it is not: the plan owes what it did not foretell.
    @Test func leavesAPlanThatFailsInReality() {
        var course = Course(coldStart: 60)
        course.run(7_200, rate: 15)
        let before = course.rehearsal.plan
        course.run(1_200, rate: 15)
        #expect(course.rehearsal.plan == before, "\(course.rehearsal.plan.text)")
        course.run(1_200, rate: 15, missing: 0.1)
        #expect(course.rehearsal.plan != before, "\(course.rehearsal.plan.text)")
    }

    /// A queue swells without saying how much is needed.
    @Test(arguments: [UInt64(1), 2, 3])
    func aQueueAsksForNoMoreThanTheHighestNeed(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var course = Course(coldStart: 60)
        for _ in 0..<40 {
            course.run(60 + 240 * random.nextUnit(), rate: 4 + 12 * random.nextUnit())
            let replicas = course.rehearsal.replicas(
                rate: 4,
                load: 100_000,
                present: 0,
                RehearsalTests.staffing
            )
            // 16/s are two replicas.
            #expect(replicas <= 4, "seed \(seed): \(course.rehearsal.plan.text)")
        }
    }

    /// Until plans are known what fell at once may return at once, as long as that would matter.
    @Test func isReadyForWhatMayReturnWhileYoung() {
        func young(_ coldStart: Double, _ seconds: Double) -> Double {
            var course = Course(coldStart: coldStart)
            course.run(coldStart + 120, rate: 20)
            course.run(seconds, rate: 5)
            return course.rehearsal.youngRate(expected: 5, missAllowed: 0.01)
        }
        #expect(young(180, 300) > 19)
        #expect(young(180, 43_200) == 0)
        #expect(young(5, 3_600) == 0, "quick starts make a surprise cheap")
    }

    /// What was reached slowly is followed and need not stand ready, however high it was.
    @Test func isNotReadyForWhatItSawComing() {
        var course = Course(coldStart: 60)
        for step in 0..<120 { course.run(60, rate: 5 + Double(step) / 8) }
        for step in 0..<120 { course.run(60, rate: 20 - Double(step) / 8) }
        #expect(course.rehearsal.peakRate > 15)
        let young = course.rehearsal.youngRate(expected: 5, missAllowed: 0.01)
        #expect(young < 7, "\(young)")
        #expect(course.wanted(rate: 5) == 1, "\(course.rehearsal.plan.text)")
    }

    @Test func surprisesAreMeasuredInEitherDirection() {
        func rates(_ first: Double, _ second: Double) -> SIMD2<Double> {
            var course = Course(coldStart: 60)
            var surprises = Surprises()
            var isEarly = true
            for rate in [first, second] {
                for _ in 0..<120 {
                    course.run(5, rate: rate)
                    surprises.add(course.forecaster, coldStartSeconds: 60, fading: 1)
                    if isEarly, course.now > 30 {
                        #expect(!surprises.isKnown)
                        #expect(surprises.rates(from: 1, highest: 9) == SIMD2(9, 9))
                        isEarly = false
                    }
                }
            }
            #expect(surprises.isKnown)
            return surprises.rates(from: 10, highest: 100)
        }
        #expect(rates(8, 8) == SIMD2(10, 10), "nothing was unforeseen")
        // Twelve cold starts in twenty minutes and more: at most a little more than what was seen.
        for (first, second) in [(20.0, 4.0), (4, 20)] {
            for rate in [rates(first, second)[0], rates(first, second)[1]] {
                #expect(rate > 22 && rate < 40, "\(first) to \(second): \(rate)")
            }
        }
    }

    @Test func startsComeOnTimeAndAreTakenBackLatestFirst() {
        var starts = Rehearsal.Starts()
        for index in 1...12 { starts.add(1, due: index) }
        // The last five are one group by now.
        #expect(starts.takeReady(bucket: 7) == 7)
        #expect(starts.takeReady(bucket: 11) == 0)
        #expect(starts.take(2) == 2)
        #expect(starts.takeReady(bucket: 12) == 3)
        #expect(starts.take(1) == 0)
    }

    @Test func saysWhatItIsReadyFor() {
        let reason = RecommendationReason.objectiveStanding(
            rate: 0.4,
            readyFor: 8,
            perReplica: 1,
            backlog: 2
        )
        #expect(
            reason.text
                == "ready for 8 requests/s, as there were before and may return sooner than a "
                + "start takes (0.4 expected), 1 per replica, 2 more for the backlog"
        )
    }

    @Test func explainsItsPlan() {
        let plan = RehearsedPlan(factor: 1.3, deviations: 2.5, floor: 0.7, period: 5)
        #expect(
            plan.text
                == "forecast × 1.3 + 2.5 deviations and at least 70 % of the highest need and "
                + "what was needed 20 min ago"
        )
    }
}
