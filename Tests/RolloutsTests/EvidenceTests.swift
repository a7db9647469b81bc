import Core
import Testing

@testable import Rollouts

@Suite struct EvidenceTests {
    private func sample(
        _ arm: Arm,
        requests: Int,
        errors: Int = 0,
        milliseconds: [Int] = [],
        stratum: Int = 0,
        generation: Int = 1,
        replica: String = "a",
        readyFor: Duration? = nil
    ) -> ArmSample {
        var sample = ArmSample(
            arm: arm,
            replica: replica,
            readyFor: readyFor,
            generation: generation,
            stratum: stratum,
            requests: requests
        )
        sample[.error] = errors
        if !milliseconds.isEmpty { sample[.latency] = self.counts(milliseconds) }
        return sample
    }

    private func counts(_ milliseconds: [Int]) -> BucketCounts {
        var histogram = LatencyHistogram()
        for value in milliseconds { histogram.record(nanoseconds: UInt64(value) * 1_000_000) }
        return BucketCounts(histogram)
    }

    private let both = ArmShares(stable: true, canary: true)

    private func evidence(_ metrics: [MetricPlan], alpha: Double = 0.01) -> Evidence {
        var plan = AnalysisPlan(metrics: metrics)
        plan.alpha = alpha
        return Evidence(plan)
    }

    // MARK: Verdicts

    @Test func noDataIsInconclusiveAndSaysWhatIsMissing() throws {
        var evidence = self.evidence([.successRate(maxDrop: 0.005)])
        var report = try #require(evidence.reports(share: self.both).first)
        #expect(report.verdict == .inconclusive)
        #expect(
            report.reason
                == "0 of 50 values of the stable variant, 0 of 50 values of the new variant"
        )
        evidence.record(
            [self.sample(.stable, requests: 900), self.sample(.canary, requests: 12)],
            pairs: PairCounts(),
            seconds: 1
        )
        report = try #require(evidence.reports(share: self.both).first)
        #expect(report.verdict == .inconclusive)
        #expect(report.reason == "12 of 50 values of the new variant")
    }

    @Test func enoughGoodDataPasses() throws {
        var evidence = self.evidence([.successRate(maxDrop: 0.005)])
        for _ in 0..<10 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90, errors: 1),
                    self.sample(.canary, requests: 10),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let report = try #require(evidence.reports(share: self.both).first)
        #expect(report.verdict == .pass)
        #expect(report.stable == 10.0 / 900)
        #expect(report.canary == 0)
        #expect(evidence.failing.isEmpty)
    }

    @Test func moreErrorsFailAndStayFailed() throws {
        var evidence = self.evidence([.successRate(maxDrop: 0.005)])
        for _ in 0..<20 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90),
                    self.sample(.canary, requests: 10, errors: 2),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing == [0])
        let report = try #require(evidence.reports(share: self.both).first)
        #expect(report.verdict == .fail)
        #expect(report.evidence >= report.threshold)
        #expect(report.threshold == 100)
        // Good times afterwards do not undo it.
        for _ in 0..<2_000 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90, errors: 5),
                    self.sample(.canary, requests: 10),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing == [0])
    }

    @Test func aDropWithinTheMarginIsNoFailure() {
        var evidence = self.evidence([.successRate(maxDrop: 0.05)])
        for _ in 0..<600 {
            evidence.record(
                [
                    self.sample(.stable, requests: 900, errors: 9),
                    self.sample(.canary, requests: 100, errors: 5),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing.isEmpty)
    }

    /// Between suspicion and proof a step is not passed.
    @Test func evidenceThatLeansToWorseIsInconclusive() throws {
        var evidence = self.evidence([.successRate(maxDrop: 0)])
        evidence.record(
            [
                self.sample(.stable, requests: 900, errors: 1),
                self.sample(.canary, requests: 100, errors: 2),
            ],
            pairs: PairCounts(),
            seconds: 1
        )
        while evidence.reports(share: self.both)[0].evidence < 10 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90),
                    self.sample(.canary, requests: 10, errors: 1),
                ],
                pairs: PairCounts(),
                seconds: 0
            )
        }
        let report = evidence.reports(share: self.both)[0]
        #expect(report.evidence < 100)
        #expect(report.verdict == .inconclusive)
        #expect(report.reason.hasPrefix("leans to worse"))
    }

    @Test func anArmWithoutShareNeedNotShowRequests() throws {
        var evidence = self.evidence([.successRate(maxDrop: 0)])
        evidence.record([self.sample(.canary, requests: 80)], pairs: PairCounts(), seconds: 1)
        let shares = ArmShares(stable: false, canary: true)
        #expect(evidence.reports(share: shares)[0].verdict == .pass)
        #expect(evidence.reports(share: self.both)[0].verdict == .inconclusive)
    }

    @Test func warmUpIsIgnoredOnBothArms() {
        var evidence = self.evidence([.successRate(maxDrop: 0)])
        for _ in 0..<50 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90),
                    self.sample(.canary, requests: 10, errors: 10, readyFor: .seconds(29)),
                    self.sample(.stable, requests: 10, readyFor: .seconds(1)),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let report = evidence.reports(share: self.both)[0]
        #expect(report.canaryRequests == 0)
        #expect(report.stableRequests == 50 * 90)
        #expect(evidence.failing.isEmpty)
    }

    /// More load with more errors, while the canary's share rises: pooled over time the canary
    /// looks three times as bad (Simpson's paradox), at every moment it is the same.
    @Test func changingWeightsAndLoadDoNotMislead() {
        var evidence = self.evidence([.successRate(maxDrop: 0)], alpha: 0.05)
        for _ in 0..<200 {
            evidence.record(
                [
                    self.sample(.stable, requests: 950, errors: 1, generation: 1),
                    self.sample(.canary, requests: 50, generation: 1),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        for _ in 0..<200 {
            evidence.record(
                [
                    self.sample(.stable, requests: 500, errors: 25, generation: 2),
                    self.sample(.canary, requests: 500, errors: 25, generation: 2),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let report = evidence.reports(share: self.both)[0]
        let stable = report.stable ?? 0
        let canary = report.canary ?? 0
        #expect(canary > 2.5 * stable, "the trap is set")
        #expect(evidence.failing.isEmpty)
    }

    /// Requests of two weights that end in one tick are not thrown together.
    @Test func cohortsOfOneTickAreComparedApart() {
        var evidence = self.evidence([.successRate(maxDrop: 0)], alpha: 0.05)
        for _ in 0..<400 {
            evidence.record(
                [
                    self.sample(.stable, requests: 10, errors: 5, generation: 2),
                    self.sample(.canary, requests: 10, errors: 5, generation: 2),
                    self.sample(.stable, requests: 980, errors: 1, generation: 1),
                    self.sample(.canary, requests: 0, generation: 1),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing.isEmpty)
    }

    // MARK: Quantiles

    /// Latencies of one tick: `slow` of 100 are long.
    private func latencies(_ slow: Int, factor: Double = 1) -> [Int] {
        (0..<100).map { Int(factor * Double($0 < slow ? 300 : 100 + $0 % 50)) }
    }

    @Test func slowerTailFailsAndFasterPasses() {
        var evidence = self.evidence([.quantile(.latency, 0.95, maxIncrease: 0.05)])
        var faster = self.evidence([.quantile(.latency, 0.95, maxIncrease: 0.05)])
        for _ in 0..<60 {
            let stable = self.sample(.stable, requests: 100, milliseconds: self.latencies(4))
            evidence.record(
                [
                    stable,
                    self.sample(.canary, requests: 100, milliseconds: self.latencies(12)),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
            faster.record(
                [stable, self.sample(.canary, requests: 100, milliseconds: self.latencies(1))],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing == [0])
        #expect(faster.reports(share: self.both)[0].verdict == .pass)
    }

    /// What disturbs both for a moment must not hide for minutes that one is slower since.
    @Test func aMomentOfSlownessHidesNothingForLong() {
        var evidence = self.evidence([.quantile(.latency, 0.95, maxIncrease: 0.05)])
        for second in 0..<40 {
            let isDisturbed = (5..<9).contains(second)
            let stable = self.latencies(4, factor: isDisturbed ? 10 : 1)
            let canary = second < 9 ? stable : self.latencies(4, factor: 3)
            evidence.record(
                [
                    self.sample(.stable, requests: 100, milliseconds: stable),
                    self.sample(.canary, requests: 100, milliseconds: canary),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing == [0])
    }

    @Test func increaseWithinTheMarginPasses() {
        var evidence = self.evidence([.quantile(.latency, 0.95, maxIncrease: 0.2)])
        for _ in 0..<300 {
            evidence.record(
                [
                    self.sample(.stable, requests: 100, milliseconds: self.latencies(4)),
                    self.sample(
                        .canary,
                        requests: 100,
                        milliseconds: self.latencies(4, factor: 1.15)
                    ),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let report = evidence.reports(share: self.both)[0]
        #expect(report.verdict == .pass)
        #expect(report.dispersion == 1)
    }

    @Test func intervalsHoldTheQuantile() throws {
        var evidence = self.evidence([.quantile(.latency, 0.9, maxIncrease: 0.2)])
        var random = RandomSource(seed: 5)
        for _ in 0..<100 {
            let values = (0..<100).map { _ in Int(random.nextUnit() * 1_000) }
            evidence.record(
                [
                    self.sample(.stable, requests: 100, milliseconds: values),
                    self.sample(.canary, requests: 10, milliseconds: Array(values.prefix(10))),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let report = evidence.reports(share: self.both)[0]
        let stable = try #require(report.stableInterval)
        let canary = try #require(report.canaryInterval)
        #expect(stable[0] < 0.9 && stable[1] > 0.9, "\(stable)")
        #expect(canary[0] < 0.9 && canary[1] > 0.9, "\(canary)")
        #expect(stable[1] - stable[0] < canary[1] - canary[0])
    }

    /// Long prompts take longer, and the canary gets more of them by chance of the clients: within
    /// a stratum nothing differs.
    @Test func promptMixDoesNotMislead() {
        var evidence = self.evidence([.quantile(.latency, 0.95, maxIncrease: 0)], alpha: 0.05)
        for _ in 0..<300 {
            evidence.record(
                [
                    self.sample(
                        .stable,
                        requests: 90,
                        milliseconds: Array(repeating: 100, count: 90)
                    ),
                    self.sample(
                        .canary,
                        requests: 10,
                        milliseconds: Array(repeating: 100, count: 10)
                    ),
                    self.sample(
                        .stable,
                        requests: 2,
                        milliseconds: [900, 910],
                        stratum: PromptStratum.index(tokens: 5_000)
                    ),
                    self.sample(
                        .canary,
                        requests: 10,
                        milliseconds: Array(repeating: 905, count: 10),
                        stratum: PromptStratum.index(tokens: 5_000)
                    ),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        #expect(evidence.failing.isEmpty)
    }

    @Test(arguments: [
        (nil, 0), (0, 0), (255, 0), (256, 1), (2_048, 2), (16_384, 3), (1_000_000, 3),
    ])
    func strataOfPrompts(tokens: Int?, expected: Int) {
        #expect(PromptStratum.index(tokens: tokens) == expected)
    }

    // MARK: Distances

    @Test func outputLengthsThatDriftFailAndLikeOnesDoNot() {
        let plan = MetricPlan(
            name: "outputLength",
            .distance(.outputTokens, maxDistance: 0.1)
        )
        var drifting = self.evidence([plan])
        var alike = self.evidence([plan])
        var random = RandomSource(seed: 11)
        func tokens(_ count: Int, _ longest: Int) -> BucketCounts {
            var histogram = LatencyHistogram()
            for _ in 0..<count {
                let tokens = UInt64(random.nextUnit() * Double(longest)) + 1
                histogram.record(nanoseconds: tokens * LatencyKind.nanosecondsPerToken)
            }
            return BucketCounts(histogram)
        }
        for _ in 0..<60 {
            var stable = self.sample(.stable, requests: 100)
            stable[.outputTokens] = tokens(100, 400)
            var longer = self.sample(.canary, requests: 100)
            longer[.outputTokens] = tokens(100, 800)
            var same = self.sample(.canary, requests: 100)
            same[.outputTokens] = tokens(100, 400)
            drifting.record([stable, longer], pairs: PairCounts(), seconds: 1)
            alike.record([stable, same], pairs: PairCounts(), seconds: 1)
        }
        #expect(drifting.failing == [0])
        #expect(alike.failing.isEmpty)
        let report = alike.reports(share: self.both)[0]
        #expect(report.verdict == .pass)
        #expect((report.canary ?? 1) < 0.05)
    }

    // MARK: α

    @Test func alphaIsSplitByWeightAndDryRunsTakeNone() {
        var dry = MetricPlan(name: "dry", .events(.refused, maxIncrease: 0), isDryRun: true)
        dry.alphaWeight = 100
        let evidence = self.evidence(
            [
                MetricPlan(name: "a", .events(.error, maxIncrease: 0), alphaWeight: 3),
                MetricPlan(name: "b", .quantile(.latency, quantile: 0.5, maxIncrease: 0)),
                dry,
                MetricPlan(name: "c", .custom(CustomPlan(.below(1)))),
            ],
            alpha: 0.04
        )
        #expect((evidence.alpha(of: 0) - 0.03).magnitude < 1e-12)
        #expect((evidence.alpha(of: 1) - 0.01).magnitude < 1e-12)
        #expect(evidence.alpha(of: 2) == 0.04)
        #expect(evidence.alpha(of: 3) == 1)
    }

    // MARK: Dispersion

    /// Errors that come in bursts on single replicas count for less than independent ones.
    @Test func replicasThatDifferDivideTheEvidence() {
        var independentSum = 0.0
        var clusteredSum = 0.0
        for seed in 0..<40 {
            var random = RandomSource(seed: UInt64(seed))
            var independent = Dispersion()
            var clustered = Dispersion()
            for tick in 0..<200 {
                independent.add(
                    (0..<10).map { ("\($0)", 20, random.nextUnit() < 0.2 ? 1 : 0) }
                )
                let burst = tick % 50 < 5 ? Int(random.next() % 10) : -1
                clustered.add((0..<10).map { ("\($0)", 20, $0 == burst ? 10 : 0) })
            }
            #expect(independent.isKnown)
            independentSum += independent.factor
            clusteredSum += clustered.factor
        }
        #expect(independentSum / 40 < 1.4, "\(independentSum / 40)")
        #expect(clusteredSum / 40 > 5, "\(clusteredSum / 40)")
    }

    @Test func twoReplicasSayNothingAboutDispersion() {
        var dispersion = Dispersion()
        for _ in 0..<100 {
            dispersion.add([("a", 100, 30), ("b", 100, 0)])
        }
        #expect(dispersion.factor == 1)
        #expect(!dispersion.isKnown)
    }

    @Test func dispersionFollowsABoundedNumberOfReplicas() {
        var dispersion = Dispersion()
        for replica in 0..<10 * Dispersion.replicasMax {
            dispersion.add([("\(replica)", 100, 5), ("other", 100, 5), ("third", 100, 0)])
        }
        #expect(dispersion.isValid)
        #expect(dispersion.factor.isFinite)
    }

    // MARK: Pairs

    @Test(arguments: [PairTest.Kind.bad, .slower, .different])
    func pairsThatDisagreeOneWayFail(kind: PairTest.Kind) {
        var worse = PairTest()
        var same = PairTest()
        for index in 0..<200 {
            var pairs = PairCounts()
            pairs.compared = 10
            pairs.baselineCompared = 10
            pairs.canaryBad = 2
            pairs.canarySlower = 2
            pairs.different = 2
            pairs.stableBad = index % 10 == 0 ? 1 : 0
            pairs.stableSlower = index % 10 == 0 ? 1 : 0
            worse.record(pairs, kind: kind, allowed: 0.01)
            pairs.stableBad = 2
            pairs.stableSlower = 2
            pairs.baselineDifferent = 2
            same.record(pairs, kind: kind, allowed: 0.01)
        }
        #expect(worse.evidence > 1_000)
        #expect(same.evidence < 1)
    }

    @Test func differencesWithoutABaselineAreComparedWithWhatIsAllowed() {
        var few = PairTest()
        var many = PairTest()
        for index in 0..<400 {
            var pairs = PairCounts()
            pairs.compared = 10
            pairs.different = index % 10 == 0 ? 1 : 0
            few.record(pairs, kind: .different, allowed: 0.02)
            pairs.different = 1
            many.record(pairs, kind: .different, allowed: 0.02)
        }
        #expect(few.evidence < 1)
        #expect(many.evidence > 1_000)
    }

    @Test func answersThatAlwaysDifferALittleAreJudgedByTheStableVariant() {
        var noisy = PairTest()
        var worse = PairTest()
        for index in 0..<400 {
            var pairs = PairCounts()
            pairs.hasBaseline = true
            pairs.compared = 8
            pairs.different = 4
            // The stable variant was not asked twice in each tick.
            if index % 2 == 0 {
                pairs.baselineCompared = 4
                pairs.baselineDifferent = 2
            }
            noisy.record(pairs, kind: .different, allowed: 0.01)
            pairs.different = 8
            worse.record(pairs, kind: .different, allowed: 0.01)
        }
        #expect(noisy.evidence < 1)
        #expect(worse.evidence > 1_000)
        #expect(noisy.compared == 400 * 8 - 8)
    }

    @Test func nothingIsSaidBeforeTheStableVariantWasAskedTwice() {
        var test = PairTest()
        var pairs = PairCounts()
        pairs.hasBaseline = true
        pairs.compared = 1_000
        pairs.different = 1_000
        test.record(pairs, kind: .different, allowed: 0)
        #expect(test.evidence == 1 && test.compared == 0)
    }

    @Test func strongEvidenceIsAPowerOfTen() {
        #expect(MetricReport.text(evidence: 1) == "1")
        #expect(MetricReport.text(evidence: 321.46) == "321.5")
        #expect(MetricReport.text(evidence: 999_999) == "999999")
        #expect(MetricReport.text(evidence: 5.58e16) == "> 10^16")
        #expect(MetricReport.text(evidence: .greatestFiniteMagnitude) == "> 10^308")
        #expect(MetricReport.text(evidence: .infinity) == "> 10^308")
    }

    // MARK: Storing

    @Test func evidenceGoesOnFromItsStateAndNewDefinitionsBeginAnew() {
        let metrics = [MetricPlan.successRate(maxDrop: 0)]
        var evidence = self.evidence(metrics)
        for _ in 0..<5 {
            evidence.record(
                [
                    self.sample(.stable, requests: 90),
                    self.sample(.canary, requests: 10, errors: 1),
                ],
                pairs: PairCounts(),
                seconds: 1
            )
        }
        let before = evidence.reports(share: self.both)[0].evidence
        let resumed = Evidence(evidence.plan, resuming: evidence.state)
        #expect(resumed.reports(share: self.both)[0].evidence == before)
        #expect(before > 3)
        var changed = evidence.plan
        changed.metrics = [.successRate(maxDrop: 0.01)]
        let anew = Evidence(changed, resuming: evidence.state)
        #expect((anew.reports(share: self.both)[0].evidence - 1).magnitude < 1e-9)
    }

    @Test func nonsenseInSamplesIsClamped() {
        var evidence = self.evidence([
            .successRate(maxDrop: 0), .quantile(.latency, 0.95, maxIncrease: 0),
        ])
        var sample = self.sample(.canary, requests: -5, errors: 100, stratum: 99)
        sample[.error] = -3
        sample[.latency] = BucketCounts([.init(bucket: .max, count: 7), .init(bucket: 3, count: 0)])
        evidence.record(
            Array(repeating: sample, count: Evidence.samplesMax + 10),
            pairs: PairCounts(),
            seconds: -1
        )
        #expect(evidence.failing.isEmpty)
        #expect(evidence.reports(share: self.both).allSatisfy { $0.verdict == .inconclusive })
    }
}
