import Autoscaling
import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes
import Logging
import Orchestration
import Rollouts

// Design note
//
// `weir controller`: resizes the workloads of a cluster by what its gateways counted.
//
//   Models, policies ─▶ ResourceDirectory ─▶ ScalingPlan ─┐
//   gateways ─▶ GatewayPolls ─▶ LoadLedger, wakes ────────┼─▶ ScalingLoop ─▶ KubernetesCluster
//   model servers, Prometheus ─▶ ScrapedSources ──────────┤
//   pods, Deployments ────────▶ ReplicaLedger ────────────┘        └─▶ ModelStatuses, events
//
// Several may run; the one that holds the Lease decides and writes, the others keep their copies of
// the objects warm. Every write asks `LeaderElector.mayWrite` at that very moment. A new leader
// knows nothing of loads, so it takes nothing away until its windows are full again.

/// The controller of a cluster. On the control loop's thread.
package final class ControllerRole {
    package struct Options {
        /// Nil for all namespaces.
        package var namespaces: [String]?
        /// The Service whose endpoints are the gateways.
        package var gatewayService: ObjectKey
        /// The port of the gateways' admin API; nil for the Service's port `admin`.
        package var gatewayPort: Int?
        package var gatewayTokenFile: String?
        package var lease: ObjectKey
        /// Names this process among all controllers that ever ran; and the times of the lease.
        package var election: LeaderElectionOptions
        package var drainDeadline = Duration.seconds(30)

        package init(gatewayService: ObjectKey, lease: ObjectKey, identity: String) {
            self.gatewayService = gatewayService
            self.lease = lease
            self.election = LeaderElectionOptions(identity: identity)
        }

        package var identity: String { self.election.identity }
    }

    static let period = Duration.seconds(1)
    /// Gateways that have not answered by then are decided without.
    static let patience = Duration.milliseconds(500)

    package let control: ControlPlane
    package let cluster: KubernetesCluster
    package let polls: GatewayPolls
    private let client: KubernetesClient
    private let options: Options
    private let logger: Logger
    private let directory: ResourceDirectory
    private let scaling: ScalingLoop
    private let rollouts: ClusterRollouts
    private let events: EventRecorder
    private let statuses: ResourceStatuses
    private let tenants: TenantChannel
    private var elector: LeaderElector?
    private var gateways: Informer<EndpointSlice>?
    private var gatewayVersion = "v1"
    private var table = EndpointTable()
    private var timer: LoopTimer?
    private var patienceTimer: LoopTimer?
    private var round: UInt64 = 0
    private var hasDecided = true
    private var problems: Set<String> = []
    private var sources: ScrapedSources?
    /// What was told of groups that no gateway can reach.
    private var gaps: [String: EndpointGap] = [:]

    private static let problemsMax = 1_000

    package init(
        client: KubernetesClient,
        options: Options,
        base: Configuration,
        baseFiles: [ConfigurationFile],
        logger: Logger
    ) {
        self.client = client
        self.options = options
        self.logger = logger
        var clusterOptions = KubernetesCluster.Options()
        clusterOptions.namespaces = options.namespaces
        clusterOptions.drainDeadline = options.drainDeadline
        self.cluster = KubernetesCluster(client: client, options: clusterOptions)
        var pollOptions = GatewayPolls.Options()
        pollOptions.tokenFile = options.gatewayTokenFile
        pollOptions.identity = options.identity
        self.polls = GatewayPolls(loop: client.loop, options: pollOptions)
        self.directory = ResourceDirectory(
            client: client,
            namespaces: options.namespaces,
            base: baseFiles
        )
        self.scaling = ScalingLoop(fleet: self.cluster, logger: logger)
        self.control = ControlPlane(
            loop: client.loop,
            configuration: base,
            processes: nil,
            pods: self.cluster,
            logger: logger
        )
        self.rollouts = ClusterRollouts(
            self.control,
            cluster: self.cluster,
            client: client,
            directory: self.directory,
            polls: self.polls,
            logger: logger
        )
        self.events = EventRecorder(
            client,
            options: EventOptions(controller: "weir.dev/controller", instance: options.identity),
            seed: EventLoop.readClock().nanoseconds
        )
        self.statuses = ResourceStatuses(client, self.directory)
        self.tenants = TenantChannel(self.polls)
        self.control.useScaling(self.scaling)
        self.control.rolloutHost = self.rollouts
        self.control.rolloutsElsewhere = { [weak self] in self?.leaderElsewhere }
        self.control.hasGateway = false
        self.control.unreadiness = "nothing has been read from the cluster yet"
        self.connect()
    }

    private func connect() {
        self.directory.onChange = { [weak self] in self?.take($0) }
        self.directory.onProblem = { [weak self] in self?.tell($0) }
        self.statuses.onProblem = { [weak self] in self?.tell($0) }
        self.tenants.onKeys = { [weak self] in self?.note($0, of: $1) }
        self.cluster.mayWrite = { [weak self] in self?.elector?.mayWrite ?? false }
        self.cluster.streams = { [weak self] in self?.polls.streams($0) ?? 0 }
        self.cluster.isDrained = { [weak self] in self?.polls.isDrained($0) ?? false }
        self.cluster.onDraining = { [weak self] in
            guard let self else { return }
            self.polls.drain(self.cluster.draining)
        }
        self.scaling.quota = { [weak self] budget in
            self?.cluster.stock.quota(of: budget.resource, in: budget.namespace)
        }
        self.cluster.onNote = { [weak self] in self?.note($0) }
        self.connectRollouts()
        self.polls.onLoad = { [weak self] document, source in
            self?.scaling.take(document.load(source: source))
        }
        self.polls.onGone = { [weak self] in self?.scaling.forget(source: $0) }
        self.polls.onWake = { [weak self] in self?.wake($0) }
        self.polls.onDrained = { [weak self] in self?.cluster.tick() }
        self.polls.onProblem = { [weak self] gateway, problem in
            self?.tell("gateway \(gateway): \(problem)")
        }
    }

    private func connectRollouts() {
        self.rollouts.mayWrite = { [weak self] in self?.elector?.mayWrite ?? false }
        self.rollouts.knowsGateways = { [weak self] in self?.gateways?.isSynced ?? false }
        self.rollouts.onCapacities = { [weak self] in self?.adoptScalingPlan() }
        self.rollouts.onRecord = { [weak self] in self?.record($1, of: $0) }
        self.polls.asksForTrials = { [weak self] in self?.rollouts.needsGateways ?? false }
        self.polls.onTrial = { [weak self] in self?.rollouts.take($0) }
    }

    // MARK: Life

    package func start() {
        self.directory.start()
        self.cluster.start()
        self.watchGateways()
        let elector = LeaderElector(
            self.client,
            lease: self.options.lease,
            options: self.options.election,
            seed: EventLoop.readClock().nanoseconds,
            handlers: LeaderHandlers(
                onBegan: { [weak self] in self?.began() },
                onEnded: { [weak self] in self?.ended($0) },
                onHolder: { [weak self] holder in
                    self?.logger.info("following", metadata: ["leader": "\(holder)"])
                },
                onProblem: { [weak self] in self?.tell("the lease: \($0)") }
            )
        )
        self.elector = elector
        elector.start()
        self.timer = self.control.loop.scheduleRepeating(every: Self.period) { [weak self] in
            self?.tick()
        }
    }

    /// Stops writing and gives the lease back; `completion` runs when that is done.
    package func stop(completion: @escaping () -> Void) {
        self.timer?.cancel()
        self.patienceTimer?.cancel()
        self.hasDecided = true
        self.rollouts.end()
        self.cluster.resign()
        self.cluster.stop()
        self.directory.stop()
        self.gateways?.stop()
        self.polls.close()
        self.endScraping()
        self.events.stop()
        guard let elector = self.elector else { return completion() }
        elector.release(completion: completion)
    }

    private var leaderElsewhere: String? {
        if self.isLeader { return nil }
        return LeaderPlace.textOfController(
            holder: self.elector?.holder ?? "",
            own: self.options.identity,
            lease: "\(self.options.lease)"
        )
    }

    package var isLeader: Bool { self.elector?.isLeader ?? false }

    private func began() {
        self.logger.info("leading", metadata: ["identity": "\(self.options.identity)"])
        self.statuses.forget()
        self.tenants.forget()
        // It may have stood by for hours: its windows begin now.
        self.scaling.restart(at: self.control.loop.now)
        let sources = ScrapedSources(
            loop: self.control.loop,
            fleet: self.cluster,
            // What replicas say beside their answers only their gateway reads.
            board: { nil },
            logger: self.logger
        )
        self.sources = sources
        self.scaling.sources = sources
        sources.follow(self.scaling.plan)
        self.rollouts.begin()
    }

    private func endScraping() {
        self.scaling.sources = nil
        self.sources?.close()
        self.sources = nil
    }

    private func ended(_ why: String) {
        self.logger.warning("not leading any more", metadata: ["reason": "\(why)"])
        self.rollouts.end()
        self.cluster.resign()
        self.polls.rest()
        self.endScraping()
    }

    // MARK: What comes in

    private func take(_ outcome: ResourceKeeper.Outcome) {
        self.statuses.outcome = outcome
        if outcome.configuration != self.control.configuration {
            self.control.apply(outcome.configuration)
        }
        self.cluster.follow(self.targets(outcome.configuration))
        self.rollouts.adopt()
        self.adoptScalingPlan()
        self.scaling.forgetModels(except: Set(outcome.configuration.models.map(\.name)))
        self.checkReady()
    }

    private func adoptScalingPlan() {
        let plan = ScalingPlan(
            self.control.configuration,
            rollouts: self.rollouts.book.capacities,
            onCluster: true
        )
        self.scaling.adopt(plan, at: self.control.loop.now)
    }

    private func targets(_ configuration: Configuration) -> [WorkloadTarget] {
        configuration.models.flatMap { model in
            model.spec.variants.compactMap { variant in
                guard case .workload(let reference) = variant.backend,
                    let kind = WorkloadTarget.Kind(rawValue: reference.kind.rawValue)
                else { return nil }
                return WorkloadTarget(
                    group: reference.group(in: model.metadata.namespace),
                    kind: kind,
                    key: ObjectKey(namespace: model.metadata.namespace, name: reference.name),
                    port: UInt16(clamping: reference.port ?? 0)
                )
            }
        }
    }

    private func watchGateways() {
        var resource = Kubernetes.Resource.endpointSlices
        resource.version = self.gatewayVersion
        var scope = InformerScope<EndpointSlice>(
            resource,
            namespace: self.options.gatewayService.namespace,
            projection: EndpointSlice.projection
        ) { EndpointSlice($0) }
        scope.labelSelector = "kubernetes.io/service-name=\(self.options.gatewayService.name)"
        let informer = Informer(self.client, scope)
        informer.handlers = InformerHandlers(
            onChange: { [weak self] in self?.gatewaysChanged($0) },
            onProblem: { [weak self] problem in
                guard let self else { return }
                if case .call(let error) = problem, error.isNotFound, self.gatewayVersion == "v1" {
                    self.gatewayVersion = "v1beta1"
                    self.gateways?.stop()
                    self.watchGateways()
                } else {
                    self.tell("\(problem)")
                }
            }
        )
        self.gateways = informer
        informer.start()
    }

    private func gatewaysChanged(_ change: ObjectChange<EndpointSlice>) {
        switch change {
        case .added(_, let slice), .modified(_, _, let slice): _ = self.table.put(slice)
        case .deleted(_, let slice): _ = self.table.remove(slice.key)
        }
        let port = self.options.gatewayPort.map { PortChoice.number($0) } ?? .name("admin")
        self.polls.update(
            self.table.endpoints(of: self.options.gatewayService.description, port: port)
        )
    }

    // MARK: The tick

    private func tick() {
        self.checkReady()
        guard self.isLeader, self.directory.isSynced, self.cluster.isSynced else { return }
        self.finishRound()
        self.round += 1
        self.hasDecided = false
        let round = self.round
        self.patienceTimer = self.control.loop.schedule(after: Self.patience) { [weak self] in
            self?.finishRound()
        }
        self.polls.poll { [weak self] in
            guard let self, self.round == round else { return }
            self.finishRound()
        }
    }

    /// A request waits at a gateway for a model without a replica.
    private func wake(_ wake: WakeLog.Wake) {
        guard self.elector?.mayWrite ?? false, self.directory.isSynced, self.cluster.isSynced
        else { return }
        _ = self.scaling.wake(
            wake.model,
            pinnedTo: wake.variant,
            wallClock: ScalingDriver.wallClock(),
            at: self.control.loop.refreshNow()
        )
    }

    private func finishRound() {
        if self.hasDecided { return }
        self.hasDecided = true
        self.patienceTimer?.cancel()
        self.patienceTimer = nil
        guard self.elector?.mayWrite ?? false else { return }
        let now = self.control.loop.refreshNow()
        self.scaling.tick(
            at: now,
            wallClock: ScalingDriver.wallClock(),
            isGatewayHeard: self.polls.roll.isHeard(at: now),
            missing: self.polls.roll.missing(at: now)
        )
        self.rollouts.tick()
        self.cluster.tick()
        self.noteGaps()
        // Who is not known may be using its parts: what is there is not all before.
        if self.gateways?.isSynced ?? false { self.tenants.tick(self.control.configuration) }
        self.writeStatuses(now)
    }

    private func writeStatuses(_ now: Instant) {
        let missing = self.polls.roll.missing(at: now)
        self.statuses.write(
            self.control.configuration,
            models: ModelStatuses.Facts(
                group: { [cluster] in cluster.group($0) },
                obstruction: { [cluster] in cluster.obstruction(of: $0) },
                gap: { [polls] in polls.gap(ofGroup: $0) },
                decision: { [scaling] in scaling.latest(of: $0) },
                worth: { [scaling] in scaling.worths[$0]?[$1] },
                rollout: { [rollouts] in rollouts.loop?.controller(of: $0) },
                gateways: self.polls.roll.count,
                gatewaysMissing: missing
            ),
            budgets: self.scaling.budgetUses,
            stock: self.cluster.stock,
            tenants: self.tenants.known,
            wallTime: EventLoop.readWallClock(),
            mayWrite: { [weak self] in self?.elector?.mayWrite ?? false }
        )
    }

    // MARK: For people

    /// Tells of groups that have become unreachable.
    private func noteGaps() {
        for model in self.control.configuration.models {
            for variant in model.spec.variants {
                guard case .workload(let reference) = variant.backend else { continue }
                let group = reference.group(in: model.metadata.namespace)
                let gap = self.polls.gap(ofGroup: group)
                let text = gap.flatMap {
                    ModelStatuses.words($0, reference, self.cluster.group(group))
                }
                let known = self.gaps[group]
                self.gaps[group] = text == nil ? nil : gap
                guard let gap, let text, gap != known else { continue }
                self.note(
                    KubernetesCluster.Note(
                        group: group,
                        isWarning: true,
                        reason: gap.rawValue,
                        text: text
                    )
                )
            }
        }
    }

    private func note(_ note: KubernetesCluster.Note) {
        guard self.isLeader else { return }
        let details: Logger.Metadata = ["group": "\(note.group)", "what": "\(note.text)"]
        if note.isWarning {
            self.logger.warning("\(note.reason)", metadata: details)
        } else {
            self.logger.info("\(note.reason)", metadata: details)
        }
        guard let owner = self.scaling.plan.owner(ofGroup: note.group)?.model.name,
            let model = self.control.configuration.models.first(where: { $0.name == owner })
        else { return }
        self.events.record(
            EventNote(
                isWarning: note.isWarning,
                reason: note.reason,
                action: "Scale",
                note: note.text,
                regarding: self.reference(to: model)
            )
        )
    }

    /// What is wrong with a tenant's keys; nil where nothing is any more.
    private func note(_ problem: KeyProblem?, of tenant: ObjectKey) {
        guard self.isLeader, let item = self.directory.item(.tenant, tenant) else { return }
        self.events.record(
            EventNote(
                isWarning: problem != nil,
                reason: problem?.reason ?? "KeysFound",
                action: "ReadKeys",
                note: problem?.message ?? "every gateway knows its keys",
                regarding: ObjectReference(
                    apiVersion: "weir.dev/v1alpha1",
                    kind: item.kind.rawValue,
                    namespace: tenant.namespace,
                    name: tenant.name,
                    uid: item.uid
                )
            )
        )
    }

    private func record(_ record: RolloutRecord, of model: ModelResource) {
        let isWarning: Bool =
            switch record.kind {
            case .failed, .rolledBack, .inconclusive: true
            default: false
            }
        let word = record.kind.rawValue
        self.events.record(
            EventNote(
                isWarning: isWarning,
                reason: "Rollout" + word.prefix(1).uppercased() + word.dropFirst(),
                action: "Rollout",
                note: String(record.message.prefix(1_000)),
                regarding: self.reference(to: model)
            )
        )
    }

    private func reference(to model: ModelResource) -> ObjectReference {
        let key = ObjectKey(namespace: model.metadata.namespace, name: model.name)
        return ObjectReference(
            apiVersion: "weir.dev/v1alpha1",
            kind: "Model",
            namespace: key.namespace,
            name: key.name,
            uid: self.directory.model(key)?.uid ?? ""
        )
    }

    /// Standing by is being ready: readiness does not depend on who leads.
    private func checkReady() {
        self.control.unreadiness =
            if !self.directory.isSynced {
                self.directory.waitingFor
            } else if !self.cluster.isSynced {
                self.cluster.problem ?? "the pods are being read"
            } else {
                nil
            }
    }

    /// Once each: the same problem comes again with every try.
    private func tell(_ problem: String) {
        if self.problems.count >= Self.problemsMax { self.problems = [] }
        guard self.problems.insert(problem).inserted else { return }
        self.logger.warning("a problem with the cluster", metadata: ["problem": "\(problem)"])
    }
}
