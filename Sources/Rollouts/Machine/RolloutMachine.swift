import Core

/// One model's rollouts, as a value: events in, actions out.
///
/// The shell gives it what it sees about once a second (`handle`), and what people ask for
/// (`perform`), stores `status`, then does what the actions say. `init` with a stored status goes
/// on from there; the first event then repeats all actions that still hold.
package struct RolloutMachine: Sendable {
    package internal(set) var spec: RolloutSpec
    package internal(set) var status: RolloutStatus

    var evidence: Evidence?
    var guardrails = Guardrails()
    var finding = Guardrails.Finding.fine
    var observation = RolloutObservation()
    var hasObserved = false
    var actions: [RolloutAction] = []
    private var lastTick: Instant?
    private var wall = 0
    /// What still holds has to be said once after a start.
    private var isResuming = true
    var lastDemands: [CapacityDemand]?
    private var millisecondsToReport = 0
    /// What was known when the last step was over.
    private var reportsOfSteps: [MetricReport] = []
    /// What is left of `stableAwaitedMillisecondsMax`.
    var millisecondsToAwaitStable = 0

    /// The most time that one tick counts: what lies between two ticks further apart was not
    /// watched.
    package static let tickMillisecondsMax = 5_000
    /// After this long a rollback no longer waits for acknowledgements; its replicas still do.
    package static let acknowledgementMillisecondsMax = 30_000
    /// After a start, a canary that is ready waits so long for the stable variant's first replica
    /// before it gets all requests: less than requests may wait in a queue, 30 s by default.
    package static let stableAwaitedMillisecondsMax = 10_000
    /// Transitions within one event: more than any chain of steps that wait for nothing.
    static let transitionsMax = 8 + 4 * RolloutPlan.stepsMax
    private static let reportMilliseconds = 1_000

    /// - Parameter stored: the status of an earlier controller; nil: the live variant serves.
    /// - Throws: where the configuration or the stored status makes no sense.
    package init(_ spec: RolloutSpec, resuming stored: RolloutStatus? = nil)
        throws(RolloutRefusal)
    {
        try spec.check()
        try stored?.check()
        self.spec = spec
        self.status = stored ?? RolloutStatus(live: spec.live)
        if self.status.isRunning {
            self.millisecondsToAwaitStable = Self.stableAwaitedMillisecondsMax
        }
        if let plan = spec.plan, self.status.isRunning {
            self.evidence = Evidence(plan.analysis, resuming: self.status.evidence)
        }
    }

    // MARK: Events

    package mutating func handle(_ event: RolloutEvent, at moment: RolloutMoment)
        -> [RolloutAction]
    {
        self.begin(moment)
        var elapsed = 0
        switch event {
        case .tick(let observation):
            elapsed = self.elapsed(moment.instant)
            self.observation = observation
            self.hasObserved = true
            self.awaitStable(elapsed)
            self.watch(elapsed)
        case .acknowledged(let generation): self.acknowledge(generation)
        case .configured(let spec): self.configure(spec)
        case .templateChanged(let variant): self.templateChanged(variant)
        case .webhookAnswered(let call, let answer): self.webhookAnswered(call, answer)
        case .measured(let metric, let number, let result):
            self.evidence?.measured(metric, number, result)
            self.status.evidence = self.evidence?.state ?? self.status.evidence
        }
        return self.finish(elapsed)
    }

    /// - Throws: why the command cannot be followed; then nothing has changed.
    package mutating func perform(_ command: RolloutCommand, at moment: RolloutMoment)
        throws(RolloutRefusal) -> [RolloutAction]
    {
        var changed = self
        changed.begin(moment)
        try changed.follow(command)
        let actions = changed.finish(0)
        self = changed
        return actions
    }

    private mutating func begin(_ moment: RolloutMoment) {
        self.wall = moment.wall
        self.actions = []
        // What was changed while nobody watched.
        if self.isResuming { self.configure(self.spec) }
    }

    private mutating func elapsed(_ now: Instant) -> Int {
        let last = self.lastTick ?? now
        self.lastTick = max(last, now)
        let milliseconds = Int(clamping: now.nanoseconds(since: last) / 1_000_000)
        return min(milliseconds, Self.tickMillisecondsMax)
    }

    /// Everything that follows from what has changed.
    private mutating func finish(_ elapsed: Int) -> [RolloutAction] {
        self.advance(elapsed)
        self.passNotices(elapsed)
        self.publishTraffic()
        self.retire(elapsed)
        self.demandCapacity()
        if self.isResuming { self.resend() }
        self.isResuming = false
        self.checkInvariants()
        return self.actions
    }

    /// Says again what holds and was perhaps never done.
    private mutating func resend() {
        let isSaid = self.actions.contains {
            if case .setTraffic = $0 { true } else { false }
        }
        if !isSaid { self.actions.append(.setTraffic(self.status.traffic)) }
        self.resendWebhooks()
        if let variant = self.status.templateRollback {
            self.actions.append(.rollBackTemplate(variant))
        }
    }

    private mutating func acknowledge(_ generation: Int) {
        let known = min(generation, self.status.traffic.generation)
        self.status.acknowledged = max(self.status.acknowledged, known)
        if self.status.isAcknowledged { self.status.weightsInUse = self.status.traffic.weights }
    }

    // MARK: Phases

    private mutating func advance(_ elapsed: Int) {
        var elapsed = elapsed
        for _ in 0..<Self.transitionsMax {
            let before = (self.status.phase, self.status.stage, self.status.step)
            let rollout = self.status.rollout
            switch self.status.phase {
            case .stable, .rolledBack: return
            case .progressing:
                if self.status.isInPlace {
                    self.advanceInPlace(elapsed)
                } else {
                    self.advanceStep(elapsed)
                }
            case .paused: self.advancePause(elapsed)
            case .promoting: self.advancePromotion(elapsed)
            case .rollingBack: self.advanceRollback(elapsed)
            }
            let after = (self.status.phase, self.status.stage, self.status.step)
            if before == after, rollout == self.status.rollout { return }
            // Time is spent once, and what was decided is published before it is built upon.
            elapsed = 0
            self.publishTraffic()
        }
    }

    /// A rollout to `target` begins.
    mutating func start(_ target: VariantReference, _ reason: String) {
        let known = self.spec.variant(named: target.name) ?? target
        self.status.rollout += 1
        self.status.canary = known
        self.status.rejected = nil
        self.status.rollbackAim = nil
        self.status.next = nil
        self.status.retiring.removeAll { $0.name == known.name }
        self.status.baselineReplicas = max(1, self.stableObservation?.ready ?? 1)
        self.status.canaryScale = .matchWeight
        self.status.isEmergency = false
        self.status.isInPlace = false
        self.status.targetWeight = 0
        self.status.step = 0
        self.resetStep()
        self.resetEvidence()
        self.record(.started, reason)
        let isRecent = self.status.recentGood.contains { $0.name == known.name }
        if isRecent, (self.spec.plan?.rollbackWindow ?? 0) > 0 {
            self.promote("\(known.name) served well lately: no steps")
        } else if self.spec.plan == nil {
            self.promote("there is no rollout policy: no steps")
        } else {
            self.status.phase = .progressing
            self.status.message = ""
        }
    }

    /// To the beginning of the current step.
    mutating func resetStep() {
        self.status.stage = .opening
        self.status.heldMilliseconds = 0
        self.status.waitedMilliseconds = 0
        self.status.pause = nil
        self.status.gate = nil
        self.status.mirrorPercent = 0
        if self.status.step == 0 { self.status.headerRoute = nil }
    }

    mutating func resetEvidence() {
        self.status.evidenceAfter = self.status.traffic.generation
        self.guardrails = Guardrails()
        self.finding = .fine
        self.evidence = self.spec.plan.map { Evidence($0.analysis) }
        self.status.evidence = self.evidence?.state
        self.status.reports = []
        self.status.dryRunFailures = []
    }

    /// To the end, without further steps; still no faster than is safe.
    mutating func promote(_ reason: String) {
        self.status.phase = .promoting
        self.resetStep()
        self.status.canaryScale = .matchWeight
        self.status.targetWeight = 100
        self.status.message = reason
        self.reportsOfSteps = self.fullReports()
        self.evidence?.beginStep()
        self.record(.promoting, reason)
    }

    private mutating func advancePromotion(_ elapsed: Int) {
        guard self.canaryWeight == 100, self.status.isAcknowledged else {
            self.wait(elapsed, "\(self.canaryName) did not get all requests")
            return
        }
        self.swapRoles()
    }

    /// The canary is the stable variant from here on: nothing restarts.
    private mutating func swapRoles() {
        guard let canary = self.status.canary else { return }
        let old = self.status.stable
        // What it rests on is the last step, and not the moment after it.
        let reports = self.reportsOfSteps
        let isEmpty = reports.allSatisfy { $0.canaryRequests == 0 }
        self.record(
            .promoted,
            "\(canary.name) serves, \(old.name) retires",
            isEmpty ? self.fullReports() : reports
        )
        self.notify(.onComplete)
        self.status.stable = canary
        self.remember(old)
        self.status.recentGood.removeAll { $0.name == canary.name }
        self.endRollout(.stable, message: "")
        self.retire(old.name, delay: self.spec.plan?.scaleDownDelay ?? .zero)
    }

    func fullReports() -> [MetricReport] {
        self.evidence?.reports(share: self.shares) ?? []
    }

    private mutating func remember(_ variant: VariantReference) {
        self.status.recentGood.removeAll { $0.name == variant.name }
        self.status.recentGood.insert(variant, at: 0)
        let window = self.spec.plan?.rollbackWindow ?? 0
        self.status.recentGood.removeLast(max(0, self.status.recentGood.count - window))
    }

    mutating func endRollout(_ phase: RolloutStatus.Phase, message: String) {
        self.status.phase = phase
        self.status.canary = nil
        self.status.step = 0
        self.resetStep()
        self.status.canaryScale = .matchWeight
        self.status.targetWeight = 0
        self.status.isEmergency = false
        self.status.isInPlace = false
        self.status.rollbackAim = nil
        self.status.message = message
        self.evidence = nil
        self.status.evidence = nil
    }

    // MARK: Watching

    private mutating func watch(_ elapsed: Int) {
        guard let plan = self.spec.plan, self.status.canary != nil, self.status.isRunning else {
            return
        }
        let after = self.status.isInPlace ? Int.min : self.status.evidenceAfter
        let samples = self.observation.samples.filter { $0.generation > after }
        self.evidence?.record(
            samples,
            pairs: self.observation.pairs,
            seconds: Double(elapsed) / 1_000
        )
        for (metric, number) in self.evidence?.measurements(milliseconds: elapsed) ?? [] {
            self.actions.append(.measure(metric: metric, number: number))
        }
        self.status.evidence = self.evidence?.state
        self.guardrails.record(
            canary: self.observation.canary,
            stable: self.observation.stable,
            elapsedMilliseconds: elapsed,
            plan.guardrails
        )
        self.finding = self.guardrails.finding(plan.guardrails)
        self.report(elapsed)
        self.actOnFindings(plan)
    }

    /// Refreshes what the status shows.
    private mutating func report(_ elapsed: Int) {
        self.millisecondsToReport -= elapsed
        guard self.millisecondsToReport <= 0 else { return }
        self.millisecondsToReport = Self.reportMilliseconds
        self.status.reports = self.fullReports()
    }

    private mutating func actOnFindings(_ plan: RolloutPlan) {
        if self.status.phase == .rollingBack {
            if case .broken = self.finding { self.status.isEmergency = true }
            return
        }
        if case .broken(let text) = self.finding {
            self.status.reports = self.fullReports()
            self.reject("\(self.canaryName): \(text)", isEmergency: true)
            return
        }
        guard self.isAnalysing(plan), let evidence = self.evidence else { return }
        let failing = evidence.failing
        let acted = failing.filter { !evidence.isDryRun($0) }
        if failing.count > acted.count { self.recordDryRun(failing) }
        guard !acted.isEmpty else { return }
        let reports = evidence.reports(share: self.shares)
        let text = acted.map { "\(reports[$0].name) \(reports[$0].reason)" }
            .joined(separator: "; ")
        self.status.reports = reports
        self.reject("\(self.canaryName): \(text)", isEmergency: false)
    }

    /// Says once per metric what a dry run would have done.
    private mutating func recordDryRun(_ failing: [Int]) {
        guard let evidence = self.evidence else { return }
        for index in failing where evidence.isDryRun(index) {
            let name = evidence.plan.metrics[index].name
            guard !self.status.dryRunFailures.contains(name) else { continue }
            self.status.dryRunFailures.append(name)
            let reports = evidence.reports(share: self.shares)
            let text = "\(name) \(reports[index].reason)"
            self.record(.dryRun, "would be rolled back: \(text)", [reports[index]])
        }
    }

    func isAnalysing(_ plan: RolloutPlan) -> Bool {
        self.status.phase == .promoting || self.status.isInPlace
            || self.status.step >= plan.analysis.startingStep
    }

    // MARK: What is seen

    var canaryName: String { self.status.canary?.name ?? "" }

    var canaryWeight: Int {
        guard let canary = self.status.canary, !self.status.isInPlace else { return 0 }
        return self.status.traffic.weight(of: canary.name)
    }

    var stableObservation: VariantObservation? {
        self.observation.variants[self.status.stable.name]
    }

    var canaryObservation: VariantObservation? {
        self.status.canary.flatMap { self.observation.variants[$0.name] }
    }

    var shares: ArmShares {
        if self.status.isInPlace {
            return ArmShares(
                stable: (self.stableObservation?.readyOfOldRevision ?? 0) > 0,
                canary: true
            )
        }
        let weight = self.canaryWeight
        return ArmShares(stable: weight < 100, canary: weight > 0)
    }

    // MARK: History

    mutating func record(
        _ kind: RolloutRecord.Kind,
        _ message: String,
        _ reports: [MetricReport] = []
    ) {
        let record = RolloutRecord(
            id: self.takeID(),
            rollout: self.status.rollout,
            kind: kind,
            message: message,
            at: self.wall,
            step: self.status.step,
            weight: self.canaryWeight,
            stable: self.status.stable,
            canary: self.status.canary,
            reports: reports
        )
        self.status.records.append(record)
        if self.status.records.count > RolloutStatus.recordsMax {
            self.status.records.removeFirst()
        }
        self.actions.append(.record(record))
    }

    mutating func takeID() -> Int {
        let id = self.status.nextID
        self.status.nextID += 1
        return id
    }

    // MARK: Invariants

    /// What must hold after every event.
    private func checkInvariants() {
        let weights = self.status.traffic.weights
        precondition(weights.reduce(0) { $0 + $1.percent } == 100, "weights \(weights)")
        precondition(weights.allSatisfy { $0.percent > 0 }, "weights \(weights)")
        precondition(self.status.acknowledged <= self.status.traffic.generation, "acknowledged")
        precondition(
            self.status.isRunning == (self.status.canary != nil),
            "a canary and no rollout"
        )
        assert(!self.status.retiring.contains { $0.name == self.canaryName }, "retires and runs")
    }
}

extension RolloutStatus {
    /// Throws where a stored status cannot be the machine's.
    package func check() throws(RolloutRefusal) {
        let sum = self.traffic.weights.reduce(0) { $0 + $1.percent }
        let isWhole =
            sum == 100 && self.traffic.weights.allSatisfy { $0.percent > 0 }
            && self.isRunning == (self.canary != nil) && self.step >= 0
            && self.acknowledged <= self.traffic.generation && self.nextID > 0
            && self.retiring.allSatisfy { $0.name != self.canary?.name }
            && self.waitedMilliseconds >= 0 && self.heldMilliseconds >= 0
            && (0...100).contains(self.targetWeight) && (0...100).contains(self.mirrorPercent)
            && self.isBounded
        if isWhole { return }
        throw RolloutRefusal(
            "the stored status of the rollout contradicts itself: remove it, and the live variant "
                + "serves without a rollout"
        )
    }

    private var isBounded: Bool {
        self.records.count <= Self.recordsMax && self.retiring.count <= Self.retiringMax
            && self.notices.count <= Self.noticesMax
            && self.recentGood.count <= RolloutPlan.rollbackWindowMax
    }
}
