import Autoscaling
import Clusters
import Configuration
import Core
import EventLoop
import Glibc
import Logging
import Proxy

/// Drives the `ScalingLoop`: asks the workers once per second, and keeps what must outlive us.
final class ScalingDriver {
    static let period = Duration.seconds(1)
    /// What has not answered by then is decided without.
    static let patience = Duration.milliseconds(400)
    /// How often what the next run should know is written down, where it has changed.
    static let savePeriod = Duration.seconds(10)
    /// How often learned capacities are among that.
    private static let learnPeriodSeconds = 60.0

    let scaling: ScalingLoop
    private unowned let control: ControlPlane
    private let memoryPath: String?
    private(set) var memory: ScalingMemory?
    private var saved: ScalingMemory?
    /// When capacities were written down last, since 1970.
    private var learnedAt = EventLoop.readWallClock()
    private var sources: ScrapedSources?
    private var timer: LoopTimer?
    private var saveTimer: LoopTimer?
    private var patienceTimer: LoopTimer?
    /// The questions under way: their number, and how many answers they got.
    private var round: UInt64 = 0
    private var answers = 0
    private var hasDecided = true

    init(_ control: ControlPlane, _ scaling: ScalingLoop, stateDirectory: String?) {
        self.control = control
        self.scaling = scaling
        self.memoryPath = stateDirectory.map { $0 + "/scaling.json" }
        self.load()
    }

    deinit {
        self.timer?.cancel()
        self.saveTimer?.cancel()
        self.patienceTimer?.cancel()
        self.sources?.close()
    }

    // MARK: The tick

    /// Ticks while any model is scaled.
    func run() {
        if self.scaling.plan.models.isEmpty { return self.stop() }
        if self.timer != nil { return }
        if let processes = self.control.processes {
            let sources = ScrapedSources(
                loop: self.control.loop,
                fleet: processes,
                board: { [weak control = self.control] in control?.gateway?.loadReports },
                logger: self.control.logger
            )
            self.sources = sources
            self.scaling.sources = sources
            sources.follow(self.scaling.plan)
        }
        self.timer = self.control.loop.scheduleRepeating(every: Self.period) { [weak self] in
            self?.ask()
        }
        self.saveTimer = self.control.loop.scheduleRepeating(every: Self.savePeriod) {
            [weak self] in self?.save()
        }
    }

    /// Ends the ticking; what is known is written down.
    func stop() {
        if self.timer == nil { return }
        self.save(isLast: true)
        self.timer?.cancel()
        self.saveTimer?.cancel()
        self.patienceTimer?.cancel()
        self.timer = nil
        self.saveTimer = nil
        self.scaling.sources = nil
        self.sources?.close()
        self.sources = nil
    }

    private func ask() {
        guard let gateway = self.control.gateway else { return }
        // The last question is answered in its own time; those who were late are not waited for.
        self.finishRound(workers: gateway.workerCount)
        self.round += 1
        self.answers = 0
        self.hasDecided = false
        let round = self.round
        let workers = gateway.workerCount
        gateway.collectLoad { [weak self] load in self?.take(load, round: round, of: workers) }
        self.patienceTimer = self.control.loop.schedule(after: Self.patience) { [weak self] in
            self?.finishRound(workers: workers)
        }
    }

    private func take(_ load: WorkerLoad, round: UInt64, of workers: Int) {
        self.scaling.take(load)
        guard round == self.round else { return }
        self.answers += 1
        if self.answers == workers { self.finishRound(workers: workers) }
    }

    private func finishRound(workers: Int) {
        if self.hasDecided { return }
        self.hasDecided = true
        self.patienceTimer?.cancel()
        self.patienceTimer = nil
        if self.control.isDraining { return }
        self.scaling.tick(
            at: self.control.loop.refreshNow(),
            wallClock: Self.wallClock(),
            isGatewayHeard: self.answers > 0,
            missing: workers - self.answers
        )
        self.control.worths = self.scaling.worths
    }

    /// The time of day here, for schedules and stamps.
    static func wallClock() -> WallClock {
        let seconds = EventLoop.readWallClock()
        var time = time_t(seconds)
        var local = tm()
        let isKnown = localtime_r(&time, &local) != nil
        return WallClock(
            secondsSince1970: Int64(seconds),
            utcOffsetSeconds: isKnown ? local.tm_gmtoff : 0
        )
    }

    // MARK: Memory

    private func load() {
        guard let path = self.memoryPath, access(path, F_OK) == 0 else { return }
        guard let bytes = readFile(path, limit: ScalingMemory.bytesMax) else {
            return self.warn(path, "it cannot be read")
        }
        do throws(ScalingMemory.Damage) {
            var memory = try ScalingMemory(bytes)
            memory.ageSeconds = max(0, EventLoop.readWallClock() - memory.savedAt)
            self.memory = memory
        } catch {
            self.warn(path, error.description)
        }
    }

    private func warn(_ path: String, _ reason: String) {
        self.control.logger.warning(
            "what was known of scaling is lost: it is learned anew",
            metadata: ["file": "\(path)", "reason": "\(reason)"]
        )
    }

    /// - Parameter isLast: nothing is left to a later time.
    private func save(isLast: Bool = false) {
        guard let path = self.memoryPath else { return }
        let now = EventLoop.readWallClock()
        // What replicas can do changes all the time, and little.
        let isDue = isLast || now - self.learnedAt >= Self.learnPeriodSeconds
        if isDue { self.learnedAt = now }
        let memory = self.scaling.remember(
            wallSeconds: now,
            capacitiesOf: isDue ? nil : self.saved ?? self.memory
        )
        // An old number of replicas is not taken up, so it has to be written again while it holds.
        let isFresh =
            memory.savedAt - (self.saved?.savedAt ?? 0) < ScalingMemory.replicasHoldSeconds / 10
        if isFresh, memory.groups == self.saved?.groups { return }
        let code = replaceFile(path, with: memory.text + "\n")
        if code == 0 {
            self.saved = memory
        } else {
            self.control.logger.warning(
                "what is known of scaling is not kept",
                metadata: ["file": "\(path)", "reason": "\(String(cString: strerror(code)))"]
            )
        }
    }
}

extension ControlPlane {
    /// What the deployment is to have when it is applied: its own number where nobody scales it,
    /// else what it has, or had before a restart, within its bounds.
    func replicas(of deployment: ProcessDeploymentResource, _ plan: ScalingPlan) -> Int {
        let asked =
            self.rolloutDriver?.replicas(of: deployment, plan) ?? deployment.spec.replicas
        guard let (model, variant) = plan.owner(ofGroup: deployment.name),
            !model.setup.policy.isDryRun
        else { return asked }
        // One that was removed and comes back before it is gone has nothing to go on with.
        if let group = self.processes?.group(deployment.name), !group.isRemoved {
            return group.desired
        }
        let remembered = self.driver?.memory?.replicas(
            of: deployment.name,
            wallSeconds: EventLoop.readWallClock()
        )
        guard let remembered else { return asked }
        let bounds = model.setup.variants[variant].bounds
        return min(max(remembered, bounds.minimum), bounds.maximum)
    }

    /// Whether a policy set the deployment's number until now and none does any more.
    func isReleased(_ deployment: ProcessDeploymentResource, _ plan: ScalingPlan) -> Bool {
        guard let (model, _) = self.scaling?.plan.owner(ofGroup: deployment.name) else {
            return false
        }
        return !model.setup.policy.isDryRun && plan.owner(ofGroup: deployment.name) == nil
    }

    /// Refuses to set by hand what a policy sets: it would be undone within a second.
    func checkMayScale(_ group: String) throws(ClusterError) {
        if let model = self.rolloutDriver?.claimant(ofGroup: group) {
            throw ClusterError(
                "`\(group)` gets its replicas from a rollout of model `\(model)`: wait for its "
                    + "end, or end it with `weir rollout abort \(model)`"
            )
        }
        guard let (model, _) = self.scaling?.plan.owner(ofGroup: group),
            !model.setup.policy.isDryRun
        else { return }
        throw ClusterError(
            "`\(group)` is scaled by ScalingPolicy `\(model.policyName)` of model "
                + "`\(model.name)`: change `scaling.minReplicas` or `maxReplicas` of the model, or "
                + "set `dryRun: true` in the policy to scale by hand"
        )
    }
}
