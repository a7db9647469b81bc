import Clusters
import Configuration
import Core
import Curl
import EventLoop
import HTTPService
import Logging
import Proxy
import Rollouts
import Scraping

/// Drives the rollouts of `weir run`: asks the workers once per second while one runs, and does
/// what the machines say with snapshots, process replicas, files and calls to the outside.
final class RolloutDriver: RolloutExecutor, RolloutWorld {
    static let period = Duration.seconds(1)
    /// What has not answered by then is decided without.
    static let patience = Duration.milliseconds(300)
    /// Replicas for the next step are asked for that much sooner than they take to start.
    static let leadMargin = Duration.seconds(2)
    /// Where no cold start was measured.
    static let assumedColdStart = Duration.seconds(10)
    /// Of a webhook's answer, for people.
    private static let answerBytesMax = 64 << 10

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
    /// What each model's rollout asks for.
    var demands: [String: [CapacityDemand]] = [:]
    var capacities: [String: RolloutCapacity] = [:]
    /// The most replicas that all requests needed since the rollout of that number began.
    var peaks: [String: (rollout: Int, replicas: Int)] = [:]
    /// The configuration's, by name.
    private(set) var resources: [String: ModelResource] = [:]
    /// Who uses a group, over all models.
    private(set) var owners: [String: [(model: String, variant: String)]] = [:]
    private var keptAt: [String: Instant] = [:]
    private var client: CurlClient?
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
    }

    deinit {
        self.timer?.cancel()
        self.patienceTimer?.cancel()
        self.client?.close()
    }

    var moment: RolloutMoment {
        RolloutMoment(
            instant: self.control.loop.refreshNow(),
            wall: Int(EventLoop.readWallClock() * 1_000)
        )
    }

    // MARK: Configuration

    func adopt(_ configuration: Configuration) {
        var specs: [String: RolloutSpec] = [:]
        self.owners = [:]
        self.resources = [:]
        for model in configuration.models {
            self.resources[model.name] = model
            if let spec = RolloutSpec(model, configuration) { specs[model.name] = spec }
            for variant in model.spec.variants {
                guard case .workload(let reference) = variant.backend else { continue }
                self.owners[reference.name, default: []].append((model.name, variant.name))
            }
        }
        self.rollouts.adopt(specs, at: self.moment)
        self.forget(except: specs)
        self.capacities = [:]
        self.refreshCapacity(of: self.rollouts.models)
        self.schedule()
    }

    private func forget(except specs: [String: RolloutSpec]) {
        for model in self.demands.keys where specs[model] == nil { self.demands[model] = nil }
        for model in self.trials.keys where specs[model] == nil { self.trials[model] = nil }
        for model in self.peaks.keys where specs[model] == nil { self.peaks[model] = nil }
        for model in self.keptAt.keys where specs[model] == nil { self.keptAt[model] = nil }
    }

    // MARK: The tick

    func run() {
        self.isRunning = true
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
        self.client?.close()
        self.client = nil
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
        guard status.isRunning, !status.isInPlace, let plan else {
            if self.trials.removeValue(forKey: model) != nil { self.control.publishSoon() }
            return
        }
        if self.trials[model]?.number == status.rollout { return }
        let bound = LoopBound(Weak(self), loop: self.control.loop)
        let loop = self.control.loop
        self.trials[model] = Trial(
            number: status.rollout,
            inspectsAnswers: plan.inspectsAnswers,
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
        self.demands[model] = demands.isEmpty ? nil : demands
        self.refreshCapacity(of: [model])
    }

    func rollBackTemplate(_ variant: VariantReference, of model: String) {
        self.control.logger.error(
            "a process deployment's template cannot be rolled back",
            metadata: ["model": "\(model)", "variant": "\(variant.name)"]
        )
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
        let metadata: Logger.Metadata = [
            "model": "\(model)", "event": "\(record.kind.rawValue)",
            "stable": "\(record.stable.name)", "canary": "\(record.canary?.name ?? "")",
            "weight": "\(record.weight)", "step": "\(record.step + 1)",
            "because": "\(record.message)",
        ]
        switch record.kind {
        case .failed, .rolledBack, .inconclusive:
            self.control.logger.warning("rollout", metadata: metadata)
        default: self.control.logger.info("rollout", metadata: metadata)
        }
    }

    // MARK: To the outside

    private func liveClient() -> CurlClient {
        if let client = self.client { return client }
        let client = CurlClient(loop: self.control.loop)
        self.client = client
        return client
    }

    func call(_ webhook: WebhookCall, of model: String) {
        guard self.isRunning else { return }
        var request = CurlRequest(webhook.url)
        request.method = "POST"
        request.fields = [("Content-Type", "application/json")]
        request.body = WebhookDocument.bytes(webhook, model: model)
        request.totalTimeout = .milliseconds(max(1, webhook.timeoutMilliseconds))
        request.responseBytesMax = Self.answerBytesMax
        request.allowsHTTP2 = false
        self.liveClient().fetch(request) { [weak self] result in
            guard let self, self.isRunning else { return }
            let answer = WebhookDocument.answer(result)
            self.rollouts.handle(
                .webhookAnswered(call: webhook.id, answer),
                of: model,
                at: self.moment
            )
            self.tickSoon()
        }
    }

    func measure(_ metric: Int, number: Int, of model: String) {
        guard self.isRunning, let policy = self.policy(of: model),
            policy.analysis.metrics.indices.contains(metric)
        else { return }
        let plan = policy.analysis.metrics[metric]
        guard let source = plan.source, let server = source.server,
            case .custom(let custom) = plan.plan.test
        else { return }
        let target = QueryTarget(server: "\(server)", query: source.query)
        let request = InstantQuery.request(target, timeout: custom.timeout)
        self.liveClient().fetch(request) { [weak self] result in
            guard let self, self.isRunning else { return }
            let value: CustomMetric.Result =
                switch InstantQuery.read(result) {
                case .value(let value): .value(value)
                case .noValue: .noValue
                case .error(let why): .error(why)
                }
            self.rollouts.handle(
                .measured(metric: metric, number: number, value),
                of: model,
                at: self.moment
            )
        }
    }

    private func policy(of model: String) -> RolloutPolicySpec? {
        guard let resource = self.resources[model],
            let name = resource.spec.rolloutPolicy
        else { return nil }
        return self.control.configuration.rolloutPolicy(
            name,
            namespace: resource.metadata.namespace
        )?.spec
    }
}

extension RolloutDriver {
    func perform(_ command: RolloutCommand, of model: String, _ spec: RolloutSpec)
        throws(RolloutRefusal)
    {
        try self.rollouts.perform(command, of: model, spec, at: self.moment)
        self.begin()
        self.tickSoon()
    }
}
