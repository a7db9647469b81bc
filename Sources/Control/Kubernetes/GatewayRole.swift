import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes
import Logging
import Orchestration
import Proxy

// Design note
//
// `weir gateway`: serves the models of a cluster. It reads Models and EndpointSlices itself, asks
// nobody else and writes nothing, so that it goes on with what it knows while the controller, or
// the API server, is gone.
//
//   Models, policies, tenants ─▶ ResourceDirectory ─▶ Configuration ─┐
//   Secrets that tenants name ─▶ TenantSecrets ──────────────────────┤
//   EndpointSlices ─▶ SliceCluster ──────────────────────────────────┴─▶ ControlPlane ─▶ workers
//   a request without a replica ─▶ WakeBoard ─▶ the controller, which is waiting for it
//
// Ready: every resource and every slice has been read once, every Secret of a tenant asked for, and
// the workers have the table.
// Leaving: not ready any more, wait until everybody has noticed, then drain.

/// The gateway of a cluster. On the control loop's thread.
package final class GatewayRole {
    package let control: ControlPlane
    package let slices: SliceCluster
    package let wakes: WakeBoard
    package let rollouts: RolloutFollower
    package let shares: TenantShares
    private let secrets: TenantSecrets
    private let client: KubernetesClient
    private let directory: ResourceDirectory
    private let namespaces: [String]?
    private let logger: Logger
    private var informers: [Informer<EndpointSlice>] = []
    private var version = "v1"
    private var problems: Set<String> = []
    private var isLeaving = false
    /// All Secrets of tenants have been read once: what comes later does not stop serving.
    private var knowsKeys = false

    /// Problems that are told once each.
    private static let problemsMax = 1_000

    /// - Parameters:
    ///   - namespaces: nil for all.
    ///   - base: the Gateway's own settings.
    ///   - keyPeriod: within which keys in Secrets are read again.
    package init(
        client: KubernetesClient,
        namespaces: [String]?,
        base: Configuration,
        baseFiles: [ConfigurationFile],
        keyPeriod: Duration = TenantSecrets.standardPeriod,
        logger: Logger
    ) {
        self.client = client
        self.secrets = TenantSecrets(client, period: keyPeriod)
        self.shares = TenantShares(loop: client.loop)
        self.namespaces = namespaces
        self.logger = logger
        self.slices = SliceCluster(loop: client.loop)
        self.wakes = WakeBoard(loop: client.loop)
        self.directory = ResourceDirectory(
            client: client,
            namespaces: namespaces,
            base: baseFiles
        )
        self.control = ControlPlane(
            loop: client.loop,
            configuration: base,
            processes: nil,
            pods: self.slices,
            logger: logger
        )
        self.rollouts = RolloutFollower(self.control, slices: self.slices)
        self.control.trafficSource = self.rollouts
        self.control.rolloutsElsewhere = { [weak self] in self?.rollouts.elsewhere }
        self.control.unreadiness = "nothing has been read from the cluster yet"
        self.directory.onChange = { [weak self] in self?.take($0) }
        self.directory.onStatus = { [weak self] in
            self?.rollouts.take($0.key.name, $0.status)
            self?.takeWorths($0.key.name, $0.status)
        }
        self.directory.onProblem = { [weak self] in self?.tell($0) }
        self.shares.onChange = { [weak self] in self?.control.shareLimits() }
        self.shares.onSilence = { [weak self] in self?.tellSilence() }
        self.secrets.onChange = { [weak self] in self?.keysChanged() }
        self.control.tenantKeys = TenantKeySource(
            inSecrets: { [secrets] in secrets.keys($0) },
            share: { [shares] in shares.share(of: $0.key) },
            report: { [secrets] in secrets.report($0) }
        )
        self.control.onWake = { [wakes] model, variant in
            wakes.note(WakeLog.Wake(model: model, variant: variant))
        }
    }

    package func start() {
        self.watchSlices()
        self.directory.start()
        self.shares.start()
    }

    /// Not ready from now on, though everything is served.
    package func leave() {
        self.isLeaving = true
        self.shares.leave()
        self.control.unreadiness = "leaving"
    }

    package func stop() {
        self.directory.stop()
        self.secrets.stop()
        self.shares.stop()
        for informer in self.informers { informer.stop() }
    }

    // MARK: Models

    private func take(_ outcome: ResourceKeeper.Outcome) {
        for (name, verdict) in outcome.verdicts where !verdict.problems.isEmpty {
            self.tell("\(name) is not taken over: \(Problem.render(verdict.problems))")
        }
        self.secrets.follow(outcome.configuration)
        if self.control.tenantKeys.areRequired != outcome.requiresKeys {
            self.control.tenantKeys.areRequired = outcome.requiresKeys
            self.control.publishSoon()
        }
        self.slices.follow(self.backends(outcome.configuration))
        self.takeRollouts(outcome.configuration)
        if outcome.configuration != self.control.configuration {
            self.control.apply(outcome.configuration)
            self.logger.info(
                "configuration taken over",
                metadata: [
                    "models": "\(outcome.configuration.models.count)",
                    "generation": "\(self.control.configurationGeneration)",
                ]
            )
        }
        self.checkReady()
    }

    private func takeRollouts(_ configuration: Configuration) {
        var statuses: [String: JSONValue] = [:]
        for model in configuration.models {
            let key = ObjectKey(namespace: model.metadata.namespace, name: model.name)
            statuses[model.name] = self.directory.model(key)?.status
        }
        self.rollouts.take(statuses)
        self.control.worths = statuses.mapValues(PoolWorths.values).filter { !$0.value.isEmpty }
    }

    private func takeWorths(_ model: String, _ status: JSONValue) {
        let worths = PoolWorths.values(in: status)
        self.control.worths[model] = worths.isEmpty ? nil : worths
    }

    // MARK: Tenants

    private func keysChanged() {
        for tenant in self.control.tenantReport.tenants {
            for problem in tenant.problems {
                self.tell("Tenant \(tenant.name): \(problem.message)")
            }
        }
        self.control.publishSoon()
        self.checkReady()
    }

    private func tellSilence() {
        let hasLimits = self.control.configuration.tenants.contains { $0.spec.limits.isAny }
        if !hasLimits || self.isLeaving { return }
        self.logger.warning(
            "no controller tells this gateway its parts of tenants' limits",
            metadata: [
                "seconds": "\(Int(TenantShares.silenceSeconds))",
                "part": "\(self.shares.generation == 0 ? "5 %" : "an equal one")",
            ]
        )
    }

    private func backends(_ configuration: Configuration) -> [String: SliceCluster.Backend] {
        var backends: [String: SliceCluster.Backend] = [:]
        for model in configuration.models {
            let namespace = model.metadata.namespace
            for variant in model.spec.variants {
                guard case .workload(let reference) = variant.backend,
                    reference.kind != .processDeployment
                else { continue }
                backends[reference.group(in: namespace)] = SliceCluster.Backend(
                    service: "\(namespace)/\(reference.name)",
                    port: reference.port.map { .number($0) } ?? .automatic
                )
            }
        }
        return backends
    }

    // MARK: EndpointSlices

    private func watchSlices() {
        for namespace in self.namespaces.map({ $0.map(Optional.some) }) ?? [nil] {
            var resource = Kubernetes.Resource.endpointSlices
            resource.version = self.version
            let scope = InformerScope<EndpointSlice>(
                resource,
                namespace: namespace,
                projection: EndpointSlice.projection
            ) { EndpointSlice($0) }
            let informer = Informer(self.client, scope)
            informer.handlers = InformerHandlers(
                onChange: { [weak self] in self?.changed($0) },
                onSynced: { [weak self] in self?.checkReady() },
                onProblem: { [weak self] in self?.sliceProblem($0) }
            )
            self.informers.append(informer)
            informer.start()
        }
    }

    private func changed(_ change: ObjectChange<EndpointSlice>) {
        switch change {
        case .added(_, let slice), .modified(_, _, let slice): self.slices.put(slice)
        case .deleted(_, let slice): self.slices.remove(slice: slice.key)
        }
    }

    /// Servers before 1.21 have no `v1`.
    private func sliceProblem(_ problem: InformerProblem) {
        if case .call(let error) = problem, error.isNotFound, self.version == "v1",
            !self.informers.contains(where: \.isSynced)
        {
            self.version = "v1beta1"
            for informer in self.informers { informer.stop() }
            self.informers = []
            return self.watchSlices()
        }
        self.tell("\(problem)")
    }

    private func checkReady() {
        if self.isLeaving { return }
        if !self.directory.isSynced {
            self.control.unreadiness = self.directory.waitingFor
        } else if !self.informers.allSatisfy(\.isSynced) {
            let problem = self.informers.lazy.compactMap(\.problem).first
            self.control.unreadiness =
                problem.map { "endpoint slices cannot be read: \($0.reason)" }
                ?? "the endpoint slices are being read"
        } else if !self.knowsKeys, !self.secrets.book.isComplete {
            self.control.unreadiness = "the keys of tenants are being read"
        } else if self.control.unreadiness != nil {
            self.control.unreadiness = nil
            self.knowsKeys = true
            self.logger.info("ready")
        }
    }

    /// Once each: the same problem comes again with every try.
    private func tell(_ problem: String) {
        self.checkReady()
        if self.problems.count >= Self.problemsMax { self.problems = [] }
        guard self.problems.insert(problem).inserted else { return }
        self.logger.warning("a problem with the cluster", metadata: ["problem": "\(problem)"])
    }
}
