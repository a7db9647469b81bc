import Clusters
import Configuration
import Core
import EventLoop
import Logging
import Proxy
import Rollouts

/// Drives the rollouts of `weir run`: asks the workers once per second while one runs, and does
/// what the machines say with snapshots, process replicas, files and calls to the outside.
final class RolloutDriver: RolloutExecutor, TrafficSource {
    static let period = Duration.seconds(1)
    /// What has not answered by then is decided without.
    static let patience = Duration.milliseconds(300)
    unowned let control: ControlPlane
    let store: RolloutStore
    private(set) lazy var rollouts = RolloutLoop(
        executor: self,
        world: self,
        store: self.store,
        logger: self.control.logger
    )
    /// Of the models whose rollouts are measured.
    private var trials: [String: Trial] = [:]
    var book = RolloutBook()
    /// What the replicas of process deployments are made of, where that is watched.
    var templates: [String: ProcessTemplates] = [:]
    private var keptAt: [String: Instant] = [:]
    let calls: RolloutCalls
    private var timer: LoopTimer?
    private var patienceTimer: LoopTimer?
    private var round: UInt64 = 0
    private var answers = 0
    private var hasTicked = true
    private var isTickScheduled = false
    private var isRunning = false

    init(_ control: ControlPlane, stateDirectory: String?) {
        self.control = control
        self.store = RolloutStore(directory: stateDirectory, logger: control.logger)
        self.calls = RolloutCalls(loop: control.loop)
    }

    deinit {
        self.timer?.cancel()
        self.patienceTimer?.cancel()
    }

    // MARK: Configuration

    func adopt(_ configuration: Configuration) {
        var specs: [String: RolloutSpec] = [:]
        self.book.adopt(configuration)
        self.noteTemplates()
        for model in configuration.models { specs[model.name] = self.spec(of: model) }
        self.rollouts.adopt(specs, at: self.moment)
        self.forget(except: specs)
        self.refreshCapacity(of: self.rollouts.models)
        self.schedule()
    }

    /// What the configuration says of a model's rollouts, and what its replicas are made of.
    func spec(of model: ModelResource) -> RolloutSpec? {
        RolloutSpec(model, self.control.configuration) { [self] in
            self.revision(of: $0, model.name)
        }
    }

    private func forget(except specs: [String: RolloutSpec]) {
        self.book.forget(except: specs)
        for model in self.trials.keys where specs[model] == nil { self.trials[model] = nil }
        for model in self.keptAt.keys where specs[model] == nil { self.keptAt[model] = nil }
    }

    // MARK: The tick

    func run() {
        self.isRunning = true
        self.calls.open()
        self.schedule()
        self.tickSoon()
    }

    /// Ends the ticking and what is under way; what is known is written down.
    func stop() {
        guard self.isRunning else { return }
        self.isRunning = false
        for model in self.rollouts.active {
            guard let controller = self.rollouts.controller(of: model) else { continue }
            self.store.write(controller.status, of: model)
            if let timeline = controller.timeline { self.store.write(timeline) }
        }
        self.schedule()
        self.calls.close()
    }

    /// Ticks while any model needs it.
    private func schedule() {
        guard self.isRunning, self.rollouts.hasActive else {
            self.timer?.cancel()
            self.timer = nil
            return
        }
        if self.timer != nil { return }
        self.timer = self.control.loop.scheduleRepeating(every: Self.period) { [weak self] in
            self?.ask()
        }
    }

    private func ask() {
        guard let gateway = self.control.gateway else { return self.tick() }
        self.finishRound()
        self.round += 1
        self.answers = 0
        self.hasTicked = false
        let round = self.round
        let workers = gateway.workerCount
        gateway.collectTrials { [weak self] reports in
            self?.take(reports, round: round, of: workers)
        }
        self.patienceTimer = self.control.loop.schedule(after: Self.patience) { [weak self] in
            self?.finishRound()
        }
    }

    private func take(_ reports: [TrialReport], round: UInt64, of workers: Int) {
        for report in reports {
            let counts = TrialCounts(
                rollout: report.trial,
                samples: report.samples,
                pairs: report.pairs,
                canary: report.canary,
                stable: report.stable
            )
            self.rollouts.take(counts, of: report.model)
        }
        guard round == self.round else { return }
        self.answers += 1
        if self.answers == workers { self.finishRound() }
    }

    private func finishRound() {
        if self.hasTicked { return }
        self.hasTicked = true
        self.patienceTimer?.cancel()
        self.patienceTimer = nil
        self.tick()
    }

    private func tick() {
        guard self.isRunning else { return }
        let models = self.rollouts.active
        for model in models { self.tick(model) }
        self.refreshCapacity(of: models)
        self.schedule()
    }

    private func tick(_ model: String) {
        let run = self.trials[model]?.takeLongestRun() ?? 0
        self.rollouts.tick(model, longestRun: run, at: self.moment)
        self.followTrial(model)
    }

    /// Something began: from now on there are ticks.
    func begin() {
        self.refreshCapacity(of: self.rollouts.active)
        self.schedule()
    }

    /// Replicas came or went, or somebody answered: looks again before the next second.
    func tickSoon() {
        if self.isTickScheduled || !self.isRunning { return }
        self.isTickScheduled = true
        let bound = LoopBound(Weak(self), loop: self.control.loop)
        self.control.loop.post {
            guard let driver = bound.value.object else { return }
            driver.isTickScheduled = false
            driver.tick()
        }
    }

    func replicasChanged() {
        if self.isRunning, self.rollouts.hasActive { self.tickSoon() }
    }

    // MARK: Traffic

    /// What the snapshot says of a model; nil where the configuration's weights hold.
    func traffic(of model: String) -> SnapshotBuilder.Traffic? {
        guard let controller = self.rollouts.controller(of: model) else { return nil }
        let status = controller.status
        return SnapshotBuilder.Traffic(
            status.traffic,
            canary: status.isInPlace ? nil : status.canary?.name,
            trial: self.trials[model]
        )
    }

    /// The generations of the traffic plans that a snapshot made now has.
    var generations: [String: Int] {
        var result: [String: Int] = [:]
        for model in self.rollouts.active {
            result[model] = self.rollouts.controller(of: model)?.status.traffic.generation
        }
        return result
    }

    /// Every worker uses a snapshot that was made of these plans.
    func acknowledged(_ generations: [String: Int]) {
        for (model, generation) in generations {
            guard let status = self.rollouts.controller(of: model)?.status,
                status.acknowledged < generation
            else { continue }
            self.rollouts.handle(.acknowledged(generation: generation), of: model, at: self.moment)
            self.followTrial(model)
            self.refreshCapacity(of: [model])
        }
    }

    /// Measures what there is to measure, and stops when the rollout has ended.
    private func followTrial(_ model: String) {
        guard let controller = self.rollouts.controller(of: model) else { return }
        let status = controller.status
        let plan = controller.machine.spec.plan
        guard status.isRunning, let plan else {
            if self.trials.removeValue(forKey: model) != nil { self.control.publishSoon() }
            return
        }
        if self.trials[model]?.number == status.rollout { return }
        let bound = LoopBound(Weak(self), loop: self.control.loop)
        let loop = self.control.loop
        self.trials[model] = Trial(
            number: status.rollout,
            inspectsAnswers: plan.inspectsAnswers,
            repeatsStable: plan.comparesAnswers,
            failuresMax: plan.guardrails.consecutiveErrors
        ) {
            loop.post { bound.value.object?.ask() }
        }
        self.control.publishSoon()
    }

    // MARK: RolloutExecutor

    func store(
        _ status: RolloutStatus,
        of model: String,
        completion: @escaping (_ isStored: Bool) -> Void
    ) {
        // Nobody else writes it. A full disk is logged and must not keep a bad variant in traffic.
        self.store.write(status, of: model)
        completion(true)
    }

    func apply(_ plan: TrafficPlan, of model: String) {
        self.followTrial(model)
        self.control.publishSoon()
    }

    func ensure(_ demands: [CapacityDemand], of model: String) {
        self.refreshCapacity(of: [model])
    }

    func keep(_ timeline: RolloutTimeline) {
        let now = self.control.loop.now
        let isRunning = self.rollouts.controller(of: timeline.model)?.status.isRunning ?? false
        if isRunning, let kept = self.keptAt[timeline.model],
            now < kept + RolloutController.storePeriod
        {
            return
        }
        self.keptAt[timeline.model] = now
        self.store.write(timeline)
    }

    func announce(_ record: RolloutRecord, of model: String) {
        record.log(to: self.control.logger, of: model)
    }

    func webhookAnswered() { self.tickSoon() }
}

extension RolloutDriver {
    func perform(_ command: RolloutCommand, of model: String, _ spec: RolloutSpec)
        throws(RolloutRefusal)
    {
        let before = self.rollouts.controller(of: model)?.status
        try self.rollouts.perform(command, of: model, spec, at: self.moment)
        if command == .retry, let rejected = before?.rejected, rejected.name == before?.stable.name
        {
            self.releaseTemplate(of: rejected.name, model)
        }
        self.begin()
        self.tickSoon()
    }
}
