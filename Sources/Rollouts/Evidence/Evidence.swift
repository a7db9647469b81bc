import Core

/// Everything that is known of the canary against the stable arm: counts come in with each tick,
/// a report per metric comes out at any time.
///
/// What the guarantee rests on, the e-values, is in `state`, which can be stored. Windows for where
/// "slow" begins, and the distributions shown, are gathered anew after a restart; a comparison of
/// distributions then goes on with a smaller part of its α.
///
/// α is split over the statistical metrics by weight, so that the chance of any of them ever
/// failing a canary that is no worse is at most α (union bound).
package struct Evidence: Sendable {
    package let plan: AnalysisPlan
    package private(set) var state: EvidenceState

    private var references: [QuantileReference]
    private var stableValues: [Distribution]
    private var canaryValues: [Distribution]
    /// Of each metric that compares distributions, for this step's part of its α.
    private var bandConstants: [Double]

    /// Samples taken per tick; those beyond are dropped.
    package static let samplesMax = 4_096

    /// - Parameter stored: what an earlier controller knew; metrics that changed begin anew.
    package init(_ plan: AnalysisPlan, resuming stored: EvidenceState? = nil) {
        precondition(plan.alpha > 0 && plan.alpha < 1, "an alpha of \(plan.alpha)")
        self.plan = plan
        let kinds = LatencyKind.allCases.count
        self.references = Array(repeating: QuantileReference(), count: kinds)
        self.stableValues = Array(repeating: Distribution(), count: kinds)
        self.canaryValues = Array(repeating: Distribution(), count: kinds)
        let metrics = plan.metrics.map { metric in
            stored?.metrics.first { $0.fits(metric) } ?? MetricState(metric)
        }
        self.state = EvidenceState(metrics: metrics, epoch: 1)
        self.bandConstants = []
        if let stored { self.state.epoch = min(max(stored.epoch, 0), Self.epochsMax) + 1 }
        self.spendOnDistances()
    }

    /// Each step spends a part of its own of a metric's α: ½, ⅙, … 1/(k·(k+1)), which add up to 1;
    /// half of it for each arm's band.
    private mutating func spendOnDistances() {
        let epoch = Double(max(self.state.epoch, 1))
        self.bandConstants = self.plan.metrics.indices.map { index in
            guard case .distance = self.plan.metrics[index].test else { return 0 }
            let spent = self.alpha(of: index) / (epoch * (epoch + 1)) / 2
            return Boundaries.bandConstant(alpha: spent)
        }
    }

    private static let epochsMax = 1_000_000

    /// The metric's part of α; 1 (never reached) for one that spends nothing.
    package func alpha(of index: Int) -> Double {
        let metric = self.plan.metrics[index]
        guard metric.isStatistical else { return 1 }
        let weights = self.plan.metrics.reduce(0) {
            $0 + ($1.isStatistical && !$1.isDryRun ? $1.alphaWeight : 0)
        }
        if metric.isDryRun { return self.plan.alpha }
        return self.plan.alpha * metric.alphaWeight / weights
    }

    // MARK: Time

    /// A step begins: what it has seen starts at nothing, the bets go on.
    package mutating func beginStep() {
        for index in self.plan.metrics.indices {
            self.state.metrics[index].beginStep(self.plan.metrics[index])
        }
        self.state.epoch = min(self.state.epoch + 1, Self.epochsMax)
        self.spendOnDistances()
        for index in self.stableValues.indices {
            self.stableValues[index].removeAll()
            self.canaryValues[index].removeAll()
        }
    }

    // MARK: Recording

    /// Counts one tick.
    package mutating func record(_ samples: [ArmSample], pairs: PairCounts, seconds: Double) {
        let warm = samples.prefix(Self.samplesMax).filter { sample in
            sample.readyFor.map { $0 >= self.plan.warmup } ?? true
        }
        for cohort in Self.cohorts(warm) { self.record(cohort) }
        for sample in warm { self.addValues(sample) }
        for index in self.references.indices { self.references[index].pass(seconds: seconds) }
        for index in self.plan.metrics.indices {
            self.state.metrics[index].pass(seconds: seconds, self.plan.metrics[index])
            if case .pairs(let kind, let allowed) = self.plan.metrics[index].test {
                self.state.metrics[index].pairs?.record(pairs, kind: kind, allowed: allowed)
            }
            self.noteContradiction(index)
        }
    }

    /// Samples that are compared with each other: of one generation and one stratum.
    private static func cohorts(_ samples: [ArmSample]) -> [ArraySlice<ArmSample>] {
        let sorted = samples.sorted { ($0.generation, $0.stratum) < ($1.generation, $1.stratum) }
        var cohorts: [ArraySlice<ArmSample>] = []
        var start = 0
        for index in sorted.indices {
            let next = index + 1
            let isLast =
                next == sorted.count || sorted[next].generation != sorted[index].generation
                || sorted[next].stratum != sorted[index].stratum
            if isLast {
                cohorts.append(sorted[start..<next])
                start = next
            }
        }
        return cohorts
    }

    private mutating func record(_ cohort: ArraySlice<ArmSample>) {
        let stratum = cohort.first?.stratum ?? 0
        for (index, metric) in self.plan.metrics.enumerated() {
            switch metric.test {
            case .events(let kind, let increase, let ratio):
                let margin = RateMargin(ratio: ratio, difference: increase)
                self.settle(index, cohort, stratum, .events, margin) { ($0.requests, $0[kind]) }
            case .quantile(let kind, let quantile, let increase):
                self.settle(index, cohort, stratum, kind, quantile, increase)
            case .distance, .pairs, .custom: break
            }
        }
    }

    private mutating func settle(
        _ index: Int,
        _ cohort: ArraySlice<ArmSample>,
        _ stratum: Int,
        _ kind: LatencyKind,
        _ quantile: Double,
        _ increase: Double
    ) {
        let thresholds = self.references[kind.index].thresholds(
            quantile: quantile,
            increase: increase,
            stratum: stratum
        )
        guard let thresholds else { return }
        self.settle(index, cohort, stratum, .exceedances, RateMargin()) { sample in
            guard let values = sample[kind] else { return (0, 0) }
            let last = sample.arm == .canary ? thresholds.canary : thresholds.stable
            return (values.total, values.count(after: last))
        }
    }

    private mutating func settle(
        _ index: Int,
        _ cohort: ArraySlice<ArmSample>,
        _ stratum: Int,
        _ grid: RatioGrid,
        _ margin: RateMargin,
        _ count: (ArmSample) -> (requests: Int, bad: Int)
    ) {
        var counts = CohortCounts(canary: 0, canaryBad: 0, stable: 0, stableBad: 0)
        var replicas: [(replica: String, requests: Int, bad: Int)] = []
        for sample in cohort {
            let (requests, bad) = count(sample)
            switch sample.arm {
            case .canary:
                counts.canary += requests
                counts.canaryBad += bad
            case .stable:
                counts.stable += requests
                counts.stableBad += bad
                replicas.append((sample.replica, requests, bad))
            }
        }
        let divisor = self.state.metrics[index].bet?.dispersion.factor ?? 1
        self.state.metrics[index].canary.requests += counts.canary
        self.state.metrics[index].canary.bad += counts.canaryBad
        self.state.metrics[index].stable.requests += counts.stable
        self.state.metrics[index].stable.bad += counts.stableBad
        self.state.metrics[index].bet?.settle(
            counts,
            stratum: stratum,
            grid: grid,
            margin: margin,
            divisor: divisor
        )
        self.state.metrics[index].bet?.observe(replicas)
    }

    private mutating func addValues(_ sample: ArmSample) {
        for metric in self.plan.metrics {
            guard let kind = metric.distribution, let values = sample[kind] else { continue }
            // Two metrics of one kind share the values.
            let first = self.plan.metrics.first { $0.distribution == kind }
            guard first?.name == metric.name else { continue }
            switch sample.arm {
            case .stable:
                self.references[kind.index].add(values, stratum: sample.stratum)
                self.stableValues[kind.index].add(values)
            case .canary: self.canaryValues[kind.index].add(values)
            }
        }
    }

    // MARK: Custom metrics

    /// Lets time pass for the metrics from outside; returns those to measure now.
    package mutating func measurements(milliseconds: Int) -> [(metric: Int, number: Int)] {
        var wanted: [(metric: Int, number: Int)] = []
        for (index, metric) in self.plan.metrics.enumerated() {
            guard case .custom(let plan) = metric.test,
                let number = self.state.metrics[index].custom?.pass(
                    milliseconds: milliseconds,
                    plan
                )
            else { continue }
            wanted.append((index, number))
        }
        return wanted
    }

    package mutating func measured(_ index: Int, _ number: Int, _ result: CustomMetric.Result) {
        guard self.plan.metrics.indices.contains(index),
            case .custom(let plan) = self.plan.metrics[index].test
        else { return }
        self.state.metrics[index].custom?.measured(number, result, plan)
    }

    // MARK: Verdicts

    private mutating func noteContradiction(_ index: Int) {
        guard !self.state.metrics[index].isContradicted else { return }
        if self.evidence(of: index) >= 1 / self.alpha(of: index) {
            self.state.metrics[index].isContradicted = true
        }
    }

    /// The metric's e-value, or what stands for it: a distance that is too large for its band
    /// counts as just enough.
    private func evidence(of index: Int) -> Double {
        let metric = self.state.metrics[index]
        switch self.plan.metrics[index].test {
        case .events, .quantile: return metric.bet?.evidence ?? 0
        case .pairs: return metric.pairs?.evidence ?? 0
        case .distance(let kind, let allowed):
            guard let range = self.distance(kind, metric: index) else { return 0 }
            return range.lowerBound > allowed ? 1 / self.alpha(of: index) : 0
        case .custom: return 0
        }
    }

    /// Between what bounds the distance of the two distributions lies, in this step.
    private func distance(_ kind: LatencyKind, metric index: Int) -> ClosedRange<Double>? {
        let stable = self.stableValues[kind.index]
        let canary = self.canaryValues[kind.index]
        let constant = self.bandConstants[index]
        let band =
            Boundaries.distributionBand(count: stable.total, constant: constant)
            + Boundaries.distributionBand(count: canary.total, constant: constant)
        guard let distance = stable.distance(to: canary), band.isFinite else { return nil }
        return max(0, distance - band)...max(0, min(1, distance + band))
    }

    package func isDryRun(_ index: Int) -> Bool {
        self.plan.isDryRun || self.plan.metrics[index].isDryRun
    }

    /// Metrics that fail.
    package var failing: [Int] {
        self.plan.metrics.indices.filter { index in
            let metric = self.plan.metrics[index]
            let state = self.state.metrics[index]
            if case .custom(let plan) = metric.test {
                return state.custom?.verdict(plan).verdict == .fail
            }
            return state.isContradicted
        }
    }

    /// One report per metric.
    ///
    /// - Parameter share: which arms get requests at all; an arm without need not show any.
    package func reports(share: ArmShares) -> [MetricReport] {
        self.plan.metrics.indices.map { self.report($0, share) }
    }

    private func report(_ index: Int, _ share: ArmShares) -> MetricReport {
        let metric = self.plan.metrics[index]
        let state = self.state.metrics[index]
        let alpha = self.alpha(of: index)
        var report = MetricReport(
            name: metric.name,
            threshold: metric.isStatistical ? 1 / alpha : 0,
            isDryRun: metric.isDryRun || self.plan.isDryRun
        )
        report.evidence = self.evidence(of: index)
        report.dispersion = state.bet?.dispersion.factor ?? 1
        self.describe(&report, index, alpha)
        if case .custom(let plan) = metric.test, let custom = state.custom {
            (report.verdict, report.reason) = custom.verdict(plan)
            report.canary = custom.lastValue
            return report
        }
        if state.isContradicted {
            report.verdict = .fail
            report.reason = Self.failure(report)
        } else if let missing = self.missing(report, metric, share) {
            report.reason = missing
        } else if report.evidence >= report.threshold.squareRoot() {
            let evidence = MetricReport.text(evidence: report.evidence)
            let part = "\(evidence) of \(report.threshold.shortText)"
            report.reason = "leans to worse: evidence \(part)"
        } else {
            report.verdict = .pass
        }
        return report
    }

    private static func failure(_ report: MetricReport) -> String {
        "worse than allowed: evidence \(MetricReport.text(evidence: report.evidence)), "
            + "enough is \(report.threshold.shortText)"
    }

    /// What a verdict lacks; nil: nothing.
    private func missing(_ report: MetricReport, _ metric: MetricPlan, _ share: ArmShares)
        -> String?
    {
        let wanted = self.plan.minRequests
        var lacking: [String] = []
        if case .pairs = metric.test {
            if report.canaryRequests >= wanted { return nil }
            return "\(report.canaryRequests) of \(wanted) pairs"
        }
        if share.stable, report.stableRequests < wanted {
            lacking.append("\(report.stableRequests) of \(wanted) values of the stable variant")
        }
        if share.canary, report.canaryRequests < wanted {
            lacking.append("\(report.canaryRequests) of \(wanted) values of the new variant")
        }
        return lacking.isEmpty ? nil : lacking.joined(separator: ", ")
    }

    /// The two arms' values, for people.
    private func describe(_ report: inout MetricReport, _ index: Int, _ alpha: Double) {
        let state = self.state.metrics[index]
        report.stableRequests = state.stable.requests
        report.canaryRequests = state.canary.requests
        switch self.plan.metrics[index].test {
        case .events:
            report.stable = state.stable.rate
            report.canary = state.canary.rate
        case .quantile(let kind, let quantile, _):
            let stable = self.stableValues[kind.index]
            let canary = self.canaryValues[kind.index]
            report.stableRequests = stable.total
            report.canaryRequests = canary.total
            report.stable = stable.value(ofQuantile: quantile, kind)
            report.canary = canary.value(ofQuantile: quantile, kind)
            report.stableInterval = stable.shown(quantile, alpha / 2, kind)
            report.canaryInterval = canary.shown(quantile, alpha / 2, kind)
        case .distance(let kind, _):
            report.stableRequests = self.stableValues[kind.index].total
            report.canaryRequests = self.canaryValues[kind.index].total
            report.canary = self.stableValues[kind.index].distance(
                to: self.canaryValues[kind.index]
            )
            report.canaryInterval = self.distance(kind, metric: index).map {
                [$0.lowerBound, $0.upperBound]
            }
        case .pairs:
            report.canaryRequests = state.pairs?.compared ?? 0
            report.stable = state.pairs.map { Double($0.stableCount) }
            report.canary = state.pairs.map { Double($0.canaryCount) }
        case .custom: break
        }
    }
}

/// What is stored of the evidence.
package struct EvidenceState: Sendable, Equatable, Codable {
    package var metrics: [MetricState]
    /// Comparisons of whole distributions begin anew with each step; this counts them.
    package var epoch: Int

    package init(metrics: [MetricState] = [], epoch: Int = 0) {
        self.metrics = metrics
        self.epoch = epoch
    }
}

/// Which arms have a share of the requests.
package struct ArmShares: Sendable, Equatable {
    package var stable: Bool
    package var canary: Bool

    package init(stable: Bool, canary: Bool) {
        self.stable = stable
        self.canary = canary
    }
}

extension Distribution {
    /// In seconds, or in tokens.
    func value(ofQuantile quantile: Double, _ kind: LatencyKind) -> Double? {
        self.bucket(ofQuantile: quantile, with: Distribution.empty).map { bucket in
            let bounds = LatencyHistogram.bounds(ofBucket: bucket)
            return kind.shown((bounds.lowerBound + bounds.upperBound) / 2)
        }
    }

    func shown(_ quantile: Double, _ alpha: Double, _ kind: LatencyKind) -> [Double]? {
        self.interval(ofQuantile: quantile, alpha: alpha).map {
            [kind.shown($0.lowerBound), kind.shown($0.upperBound)]
        }
    }

    private static let empty = Distribution()
}

extension LatencyKind {
    func shown(_ nanoseconds: UInt64) -> Double {
        switch self {
        case .latency, .timeToFirstToken, .timePerOutputToken: Double(nanoseconds) / 1e9
        case .outputTokens: Double(nanoseconds) / Double(Self.nanosecondsPerToken)
        }
    }
}
