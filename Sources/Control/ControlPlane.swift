import Clusters
import Configuration
import Core
import EventLoop
import Logging
import Orchestration
import Proxy
import Synchronization

/// Gathers what is (configuration, replicas), decides what the workers should know, and tells them.
///
/// Confined to the control loop's thread. One writer: nobody else publishes snapshots or scales.
/// Changes are gathered within a turn and published once: a hundred replicas becoming ready at once
/// are one snapshot.
package final class ControlPlane {
    /// How often draining replicas are looked at.
    private static let drainCheckPeriod = Duration.milliseconds(20)

    package let loop: EventLoop
    /// Another one after each start of Weir.
    package let identity = UInt64(EventLoop.readWallClock() * 1e6)
    package private(set) var configuration: Configuration
    package let processes: ProcessCluster?
    package let endpoints: StaticCluster
    /// The pods of a cluster; nil without one.
    package let pods: (any ReplicaSource)?
    package private(set) var gateway: Gateway?
    /// Of the listeners that speak TLS.
    package private(set) var certificates: ListenerCertificates?
    /// Of the endpoints that speak TLS.
    package let upstreams: UpstreamCertificates
    /// Rises with every snapshot: changed routes and weights, and replicas that come and go.
    package var generation: UInt64 { self.snapshot?.generation ?? 0 }
    /// Rises with every configuration that was accepted, beginning with 1.
    package private(set) var configurationGeneration: UInt64 = 1
    /// What was published last.
    package private(set) var snapshot: TrafficSnapshot?
    /// Configurations that were refused since the start.
    package private(set) var configurationErrors: UInt64 = 0
    /// What the last refused configuration had wrong; nil once one was accepted.
    package private(set) var lastProblem: String?
    package private(set) var isDraining = false
    /// Why requests should not be sent here though they would be served; nil where they should.
    package var unreadiness: String?
    /// Whether there are listeners to be ready; a controller has none.
    package var hasGateway = true
    private var namespaces: [String: String] = [:]

    /// Cold starts of this run by group, for metrics; the cluster keeps those of earlier runs too.
    private var coldStarts: [String: LatencyHistogram] = [:]
    /// Which start of a replica was counted last.
    private var countedStarts: [ReplicaID: Int] = [:]
    let logger: Logger
    /// Decides how many replicas there are; nil without processes to scale.
    package private(set) var scaling: ScalingLoop?
    private(set) var driver: ScalingDriver?
    /// Moves the models' requests from variant to variant.
    private(set) var rolloutDriver: RolloutDriver?
    /// What moves requests from variant to variant, where that is not the configuration alone.
    var trafficSource: (any TrafficSource)?
    /// Requests per second that a replica does at the objective, by model and variant, of
    /// interchangeable variants: the requests of a pool are divided by it.
    var worths: [String: [String: Double]] = [:] {
        didSet { if self.worths != oldValue { self.publishSoon() } }
    }
    /// Who decides about the rollouts of a cluster; nil elsewhere.
    package var rolloutHost: (any RolloutHost)?
    /// On a cluster: why nothing can be asked of rollouts here, and where it can; nil: here.
    package var rolloutsElsewhere: () -> String? = { nil }
    /// Records traffic, where the configuration asks for it.
    package let recording: TrafficRecording
    /// On a gateway of a cluster: keys that are in Secrets.
    var tenantKeys = TenantKeySource()
    private var builder: SnapshotBuilder?
    private var isPublishScheduled = false
    private var drainTimer: LoopTimer?
    /// Replicas that are drained; the others need not be looked at.
    private var draining: Set<ReplicaID> = []
    private var shutDownTimer: LoopTimer?
    /// On a gateway of a cluster: a request waits, and another process decides.
    package var onWake: ((_ model: String, _ variant: String?) -> Void)?

    package init(
        loop: EventLoop,
        configuration: Configuration,
        processes: ProcessCluster?,
        pods: (any ReplicaSource)? = nil,
        logger: Logger,
        stateDirectory: String? = nil
    ) {
        self.loop = loop
        self.configuration = configuration
        self.processes = processes
        self.endpoints = StaticCluster(loop: loop)
        self.upstreams = UpstreamCertificates(loop: loop, logger: logger)
        self.pods = pods
        self.logger = logger
        self.recording = TrafficRecording(loop: loop, logger: logger)
        self.noteNamespaces()
        let bound = LoopBound(Weak(self), loop: loop)
        self.builder = SnapshotBuilder { model, variant in
            loop.post { bound.value.object?.wake(model, pinnedTo: variant) }
        }
        // Weak: a cluster that is shutting down keeps itself, and may outlive the control plane.
        processes?.onChange = { [weak self] in self?.replicaChanged($0) }
        self.endpoints.onChange = { [weak self] in self?.replicaChanged($0) }
        pods?.onChange = { [weak self] in self?.replicaChanged($0) }
        processes?.inFlight = { [weak self] in self?.requestsInFlight($0) ?? 0 }
        self.endpoints.inFlight = { [weak self] in self?.requestsInFlight($0) ?? 0 }
        if let processes { self.prepareScaling(processes, stateDirectory) }
        // Many gateways serve the same models on a cluster: not each may change their weights.
        if pods != nil { return }
        let rollouts = RolloutDriver(self, stateDirectory: stateDirectory)
        self.rolloutDriver = rollouts
        self.trafficSource = rollouts
        rollouts.adopt(configuration)
    }

    private func prepareScaling(_ processes: ProcessCluster, _ stateDirectory: String?) {
        let scaling = ScalingLoop(fleet: processes, logger: self.logger)
        scaling.oldestQueuedSeconds = { [weak self] model in
            guard let self else { return 0 }
            return self.builder?.oldestWaitSeconds(of: model, now: self.loop.now) ?? 0
        }
        processes.cacheValue = { [weak scaling] in scaling?.sources?.cacheValue(of: $0) ?? 0 }
        self.scaling = scaling
        self.driver = ScalingDriver(self, scaling, stateDirectory: stateDirectory)
    }

    deinit {
        // A timer lives on by itself; this one would go on without what it works for.
        self.drainTimer?.cancel()
    }

    // MARK: Start

    /// Opens the listeners. Replicas are started by `startReplicas`, so that ports answer first.
    package func startGateway(
        _ options: Gateway.Options,
        certificates: ListenerCertificates? = nil
    ) throws(SystemError) {
        var options = options
        options.security = certificates?.security ?? [:]
        self.certificates = certificates
        certificates?.start()
        let gateway = try Gateway(
            options: options,
            snapshot: self.buildSnapshot(),
            control: self.loop
        )
        self.gateway = gateway
        self.recording.adopt(self.configuration.gateway.spec.recorder, gateway)
        for listener in gateway.addresses {
            self.logger.info(
                "listening",
                metadata: ["listener": "\(listener.name)", "address": "\(listener.address)"]
            )
        }
    }

    /// Brings the clusters to what the configuration says.
    package func startReplicas() {
        self.applyWorkloads(removing: [])
        self.driver?.run()
        self.rolloutDriver?.run()
    }

    // MARK: Configuration

    /// Takes over a new configuration: routes and weights at once, replicas as they come.
    package func apply(_ configuration: Configuration) {
        let before = self.workloadNames(self.configuration)
        self.configuration = configuration
        self.noteNamespaces()
        self.configurationGeneration += 1
        self.lastProblem = nil
        self.rolloutDriver?.adopt(configuration)
        if let gateway { self.recording.adopt(configuration.gateway.spec.recorder, gateway) }
        self.applyWorkloads(removing: before.subtracting(self.workloadNames(configuration)))
        self.scaling?.forgetModels(except: Set(configuration.models.map(\.name)))
        self.driver?.run()
        self.publishSoon()
    }

    /// The files say again what is in force: nothing is wrong with them any more.
    package func confirm() {
        self.lastProblem = nil
    }

    /// Keeps the old configuration and says why.
    package func refuse(_ problem: String) {
        self.configurationErrors += 1
        self.lastProblem = problem
        self.logger.error(
            "configuration refused, the old one stays",
            metadata: ["problem": "\(problem)"]
        )
    }

    private func workloadNames(_ configuration: Configuration) -> Set<String> {
        var names = Set(configuration.processDeployments.map(\.name))
        for model in configuration.models {
            for variant in model.spec.variants {
                if case .endpoints = variant.backend {
                    names.insert(Self.fixedGroup(model.name, variant.name))
                }
            }
        }
        return names
    }

    private func applyWorkloads(removing gone: Set<String>) {
        for name in gone {
            self.coldStarts[name] = nil
            self.processes?.remove(group: name)
            self.endpoints.remove(group: name)
        }
        let plan = self.scalingPlan
        for deployment in self.configuration.processDeployments {
            self.attempt("start \(deployment.name)") { () throws(ClusterError) in
                var spec = ProcessGroupSpec(deployment)
                self.rolloutDriver?.adjust(&spec)
                spec.replicas = self.replicas(of: deployment, plan)
                try self.processes?.apply(spec)
                if self.isReleased(deployment, plan) {
                    try self.processes?.scale(deployment.name, to: spec.replicas)
                }
            }
        }
        self.scaling?.adopt(plan, memory: self.driver?.memory, at: self.loop.now)
        self.upstreams.begin()
        for model in self.configuration.models {
            for variant in model.spec.variants {
                guard case .endpoints(let urls) = variant.backend else { continue }
                let spec = FixedGroupSpec(
                    name: Self.fixedGroup(model.name, variant.name),
                    urls: urls,
                    probe: model.spec.healthCheck,
                    security: { self.upstreams.security(of: $0, variant.tls) }
                )
                self.attempt("use the endpoints of \(spec.name)") { () throws(ClusterError) in
                    try self.endpoints.apply(spec)
                }
            }
        }
        self.upstreams.end()
    }

    /// What replicas are made of has changed, and nothing else.
    func reapplyWorkloads() {
        if !self.isDraining { self.applyWorkloads(removing: []) }
    }

    private func attempt(_ what: String, _ body: () throws(ClusterError) -> Void) {
        do throws(ClusterError) {
            try body()
        } catch {
            self.logger.error("cannot \(what)", metadata: ["reason": "\(error)"])
            self.lastProblem = error.description
        }
    }

    private static func fixedGroup(_ model: String, _ variant: String) -> String {
        "\(model).\(variant)"
    }

    private func noteNamespaces() {
        self.namespaces = Dictionary(
            self.configuration.models.map { ($0.name, $0.metadata.namespace) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// The name of the group a variant's replicas belong to.
    package func groupName(_ model: String, _ variant: VariantSpec) -> String {
        switch variant.backend {
        case .workload(let reference):
            reference.group(in: self.namespaces[model] ?? Metadata.defaultNamespace)
        case .endpoints: Self.fixedGroup(model, variant.name)
        }
    }

    package func groupStatus(_ model: String, _ variant: VariantSpec) -> GroupStatus? {
        let name = self.groupName(model, variant)
        switch variant.backend {
        case .workload(let reference):
            return reference.kind == .processDeployment
                ? self.processes?.group(name) : self.pods?.group(name)
        case .endpoints: return self.endpoints.group(name)
        }
    }

    // MARK: Scaling

    /// Asks for a number of replicas of a workload.
    package func scale(_ group: String, to count: Int) throws(ClusterError) {
        guard let processes = self.processes, processes.group(group) != nil else {
            let known = self.configuration.processDeployments.map(\.name)
            let names = known.isEmpty ? "none" : known.joined(separator: ", ")
            throw ClusterError("there is no ProcessDeployment `\(group)`; there are \(names)")
        }
        try self.checkMayScale(group)
        try processes.scale(group, to: count)
        self.logger.info(
            "scaled by hand",
            metadata: ["deployment": "\(group)", "replicas": "\(count)"]
        )
    }

    /// A request waits for a model none of whose variants has a replica: start one.
    private func wake(_ model: String, pinnedTo pinned: String?) {
        if self.isDraining { return }
        if let onWake = self.onWake { return onWake(model, pinned) }
        let isScaled =
            self.scaling?.wake(
                model,
                pinnedTo: pinned,
                wallClock: ScalingDriver.wallClock(),
                at: self.loop.refreshNow()
            ) ?? false
        if isScaled { return }
        guard let resource = self.configuration.models.first(where: { $0.name == model }) else {
            return
        }
        for (variant, weight) in zip(resource.spec.variants, self.weights(of: resource))
        where pinned.map({ $0 == variant.name }) ?? (weight > 0) {
            guard case .workload(let reference) = variant.backend,
                let group = self.processes?.group(reference.name), group.desired == 0
            else { continue }
            self.logger.info(
                "woken by a request",
                metadata: ["model": "\(model)", "deployment": "\(group.name)"]
            )
            self.attempt("wake \(group.name)") { () throws(ClusterError) in
                try self.processes?.scale(group.name, to: 1)
            }
        }
    }

    // MARK: Replicas

    private func replicaChanged(_ change: ReplicaChange) {
        self.scaling?.note(change, at: self.loop.now)
        self.rolloutDriver?.replicasChanged()
        switch change {
        case .updated(let status):
            self.logger.info(
                "replica",
                metadata: [
                    "replica": "\(status.id)", "state": "\(status.state.rawValue)",
                    "reason": "\(status.message)",
                ]
            )
            if status.state == .draining {
                self.draining.insert(status.id)
                self.watchDrains()
            }
            self.countColdStart(status)
        case .removed(let id):
            self.countedStarts[id] = nil
            self.draining.remove(id)
            self.logger.info("replica", metadata: ["replica": "\(id)", "state": "removed"])
        }
        self.publishSoon()
    }

    /// Counts a start once, when its replica is ready for the first time since.
    private func countColdStart(_ status: ReplicaStatus) {
        guard status.state == .ready, let coldStart = status.coldStart,
            self.countedStarts[status.id] != status.restarts
        else { return }
        self.countedStarts[status.id] = status.restarts
        let nanoseconds = UInt64(clamping: coldStart.nanosecondsClamped)
        self.coldStarts[status.id.group, default: LatencyHistogram()]
            .record(nanoseconds: nanoseconds)
    }

    /// Cold starts of a group's replicas since Weir started.
    package func coldStarts(ofGroup name: String) -> LatencyHistogram {
        self.coldStarts[name] ?? LatencyHistogram()
    }

    /// Requests in flight at a replica, whether or not it gets new ones.
    func requestsUnderWay(_ id: ReplicaID) -> Int {
        self.requestsInFlight(id) + (self.builder?.requestsDraining(id.description) ?? 0)
    }

    private func requestsInFlight(_ id: ReplicaID) -> Int {
        guard let status = self.status(of: id), let target = Self.target(of: status) else {
            return 0
        }
        return self.builder?.requestsInFlight(at: target) ?? 0
    }

    private func status(of id: ReplicaID) -> ReplicaStatus? {
        let group =
            self.processes?.group(id.group) ?? self.endpoints.group(id.group)
            ?? self.pods?.group(id.group)
        return group?.replicas.first { $0.id == id }
    }

    /// Tells the cluster which draining replicas are idle: no worker can choose them any more and
    /// no request is in flight.
    private func watchDrains() {
        if self.drainTimer?.isArmed == true { return }
        self.drainTimer = self.loop.scheduleRepeating(every: Self.drainCheckPeriod) {
            [weak self] in self?.checkDrains()
        }
    }

    private func checkDrains() {
        guard let builder = self.builder, let gateway = self.gateway else { return }
        let current = !self.isPublishScheduled && gateway.acknowledgedGeneration == self.generation
        for id in self.draining {
            guard self.status(of: id)?.state == .draining else {
                // Taken back.
                self.draining.remove(id)
                continue
            }
            guard current, builder.requestsDraining(id.description) == 0 else { continue }
            self.processes?.drained(id)
            self.endpoints.drained(id)
            self.pods?.drained(id)
        }
        builder.acknowledged(gateway.acknowledgedGeneration)
        if self.draining.isEmpty {
            self.drainTimer?.cancel()
            self.drainTimer = nil
        }
    }

    // MARK: Snapshots

    func publishSoon() {
        if self.isPublishScheduled { return }
        self.isPublishScheduled = true
        let bound = LoopBound(Weak(self), loop: self.loop)
        self.loop.post { bound.value.object?.publish() }
    }

    private func publish() {
        self.isPublishScheduled = false
        // A controller has nobody to tell.
        if self.gateway == nil, self.pods != nil { return }
        // Kept until no worker has it: whoever lets go last takes it apart, and with thousands of
        // models that is nothing for a worker to do between two requests.
        let before = self.snapshot
        let snapshot = self.buildSnapshot()
        let traffic = self.trafficSource?.generations ?? [:]
        self.gateway?.publish(snapshot) { [weak self] in
            withExtendedLifetime(before) {}
            self?.builder?.acknowledged(snapshot.generation)
            self?.trafficSource?.acknowledged(traffic)
        }
    }

    private func buildSnapshot() -> TrafficSnapshot {
        guard let builder = self.builder else { preconditionFailure("no snapshot builder") }
        let snapshot = builder.build(
            self.configuration,
            traffic: { [unowned self] in self.trafficSource?.traffic(of: $0) },
            keys: self.tenantKeys,
            worths: { [unowned self] in self.worths[$0]?[$1] }
        ) { [unowned self] model, variant in
            (self.groupStatus(model, variant)?.replicas ?? []).compactMap {
                $0.state.takesRequests ? Self.target(of: $0) : nil
            }
        }
        self.snapshot = snapshot
        return snapshot
    }

    /// A restart makes a new target: what was learned of the old process does not hold for it.
    static func target(of status: ReplicaStatus) -> SnapshotBuilder.Target? {
        guard let address = status.address,
            let socket = SocketAddress(host: address.host, port: address.port)
        else { return nil }
        return SnapshotBuilder.Target(
            id: status.id.description,
            incarnation: UInt64(status.restarts) &+ status.id.serial << 32,
            address: socket,
            security: address.security,
            callAddress: status.namedPorts[Self.callPort].flatMap {
                SocketAddress(host: address.host, port: $0)
            }
        )
    }

    /// The name of a replica's further port that takes calls of gRPC.
    private static let callPort = "grpc"

    /// Requests in flight by the name of the replica, where there are any.
    package func requestsInFlight() -> [String: Int] { self.builder?.requestsInFlight() ?? [:] }

    /// The loop that scales the pods of a cluster.
    package func useScaling(_ scaling: ScalingLoop) { self.scaling = scaling }

    /// Why a workload of a cluster is not written though it is ours; nil where nothing is in the
    /// way.
    package func obstruction(ofGroup group: String) -> String? {
        (self.pods as? KubernetesCluster)?.obstruction(of: group)
    }

    /// What the nodes and quotas of a cluster have; nil where there is none, or nobody reads them.
    package var stock: CapacityLedger? { (self.pods as? KubernetesCluster)?.stock }

    /// The groups of both clusters, with their replicas.
    package var groups: [GroupStatus] {
        (self.processes?.groups ?? []) + self.endpoints.groups + (self.pods?.groups ?? [])
    }

    /// Whether requests are served: the listeners are open, and every worker has a snapshot.
    package var isServing: Bool {
        guard let gateway = self.gateway else { return false }
        return !self.isDraining && gateway.acknowledgedGeneration > 0
    }

    /// The tenants, with what was counted of them.
    package var tenants: [TenantShared] { self.builder?.tenantStatistics ?? [] }

    /// What is known of the tenants' keys, and what was asked of their limits.
    package var tenantReport: TenantReport {
        let now = self.loop.refreshNow()
        return TenantReport(
            tenants: self.configuration.tenants.map { tenant in
                var report = self.tenantKeys.report(tenant)
                for owner in self.builder?.keyOwners[tenant.key]?.sorted() ?? [] {
                    report.problems.append(.shared(with: owner))
                }
                report.limits = self.builder?.shared(tenant).map { TenantUse($0.use(now: now)) }
                return report
            }
        )
    }

    /// This gateway's parts of the tenants' limits are others than before.
    func shareLimits() {
        self.builder?.share(
            self.configuration.tenants,
            self.tenantKeys,
            now: self.loop.refreshNow()
        )
    }

    package func queueDepth(of model: String) -> Int { self.builder?.queueDepth(of: model) ?? 0 }

    /// Requests in flight at a replica, over all workers.
    package func inFlight(at status: ReplicaStatus) -> Int { self.requestsInFlight(status.id) }

    // MARK: The end

    /// Drains the gateway, then stops the replicas; `completion` runs when nothing is left.
    package func shutDown(within deadline: Duration, completion: @escaping () -> Void) {
        if self.isDraining { return }
        self.isDraining = true
        self.driver?.stop()
        self.rolloutDriver?.stop()
        self.logger.info("draining", metadata: ["deadline": "\(deadline)"])
        var isDone = false
        let conclude = { [self] in
            if isDone { return }
            isDone = true
            self.shutDownTimer?.cancel()
            self.shutDownTimer = nil
            self.stopReplicas(completion)
        }
        guard let gateway = self.gateway else { return conclude() }
        gateway.drain(conclude)
        self.shutDownTimer = self.loop.schedule(after: deadline) { [self] in
            if !isDone { self.logger.warning("drain deadline passed, requests are cut off") }
            conclude()
        }
    }

    private func stopReplicas(_ completion: @escaping () -> Void) {
        self.gateway?.stop()
        self.gateway = nil
        self.recording.stop()
        self.certificates?.stop()
        self.upstreams.stop()
        self.drainTimer?.cancel()
        guard let processes = self.processes else { return completion() }
        // Nobody sends requests any more: whoever is to be drained is.
        // Weak: a cluster that holds itself would never go.
        processes.onChange = { [weak processes] change in
            if case .updated(let status) = change, status.state == .draining {
                processes?.drained(status.id)
            }
        }
        for replica in processes.groups.flatMap(\.replicas) where replica.state == .draining {
            processes.drained(replica.id)
        }
        let graces = self.configuration.processDeployments.map(\.spec.terminationGracePeriod)
        processes.shutdown(
            within: (graces.max() ?? .zero) + Self.stopMargin,
            completion: completion
        )
    }

    /// What processes get beyond their grace before they are killed whatever their state.
    private static let stopMargin = Duration.seconds(2)

    /// Ends all replicas at once, for a process that is about to end itself.
    package func killReplicas() {
        self.processes?.killEverything()
    }
}

/// Lets the loop's jobs name an object without keeping it.
struct Weak<Object: AnyObject> {
    weak var object: Object?

    init(_ object: Object) {
        self.object = object
    }
}

/// What became of a request to read the configuration again.
package enum ReloadResult: Equatable {
    case applied
    /// The files say what is in force already.
    case unchanged
    /// The old configuration stays; why, for people.
    case refused(String)
}
