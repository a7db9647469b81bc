import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes
import Logging
import Rollouts

// Design note
//
// The rollouts of a cluster, in the controller that leads.
//
//   Models, revisions ─▶ RolloutSpec ─▶ RolloutLoop ─▶ status.rollout of the Model, compare-and-set
//   GatewayPolls: what was measured, who has acknowledged ─▶ ┘   │
//                                                   gateways ◀───┘ watch it, and go by the weights
//
// A status is written before anything follows from it, and the write is refused where somebody else
// has written meanwhile: then what they wrote is where this one goes on. The weights are part of
// the status, so that to store them is to publish them. Another leader begins with what it finds in
// the Models, and measures from then on.
//
// Limits: one write per model at a time, `triesMax` of each; timelines of the last eight rollouts
// of a model, in memory. On the control loop's thread.

/// See the design note above.
final class ClusterRollouts: RolloutExecutor, RolloutFleet, RolloutHost {
    /// The fields that are ours.
    static let manager = "weir-controller-rollout"
    /// Of one write, where others change the Model all the time.
    private static let triesMax = 10
    private static let timelinesMax = 8

    unowned let control: ControlPlane
    let cluster: KubernetesCluster
    private let client: KubernetesClient
    private let directory: ResourceDirectory
    private let polls: GatewayPolls
    private let logger: Logger
    let calls: RolloutCalls
    private(set) var loop: RolloutLoop?
    var book = RolloutBook()
    var mayWrite: () -> Bool = { false }
    /// Whether the gateways are all known.
    var knowsGateways: () -> Bool = { false }
    /// What rollouts ask of the autoscaler has changed.
    var onCapacities: () -> Void = {}
    /// For people: the model, what happened.
    var onRecord: (ModelResource, RolloutRecord) -> Void = { _, _ in }
    private var specs: [String: RolloutSpec] = [:]
    /// What was read or written last of each model's status.
    private var checkpoints: [String: String] = [:]
    private var versions: [String: String] = [:]
    private var timelines: [String: [RolloutTimeline]] = [:]
    /// The longest run of failures since the last tick.
    private var runs: [String: Int] = [:]
    private var undoing: Set<String> = []
    private var problems: [String: String] = [:]

    init(
        _ control: ControlPlane,
        cluster: KubernetesCluster,
        client: KubernetesClient,
        directory: ResourceDirectory,
        polls: GatewayPolls,
        logger: Logger
    ) {
        self.control = control
        self.cluster = cluster
        self.client = client
        self.directory = directory
        self.polls = polls
        self.logger = logger
        self.calls = RolloutCalls(loop: client.loop)
    }

    // MARK: Who leads

    func begin() {
        self.end()
        self.polls.forgetTrials()
        self.calls.open()
        self.loop = RolloutLoop(executor: self, world: self, store: self, logger: self.logger)
        self.adopt()
    }

    func end() {
        self.loop = nil
        self.calls.close()
        self.specs = [:]
        self.checkpoints = [:]
        self.versions = [:]
        self.runs = [:]
        self.undoing = []
        self.book.capacities = [:]
    }

    // MARK: What comes in

    /// The configuration may be another one, or templates.
    func adopt() {
        guard let loop = self.loop, self.directory.isSynced, self.cluster.isSynced else { return }
        self.book.adopt(self.control.configuration)
        let specs = self.currentSpecs
        self.specs = specs
        self.book.forget(except: specs)
        loop.adopt(specs, at: self.moment)
        self.refreshCapacity(of: loop.models)
    }

    private var currentSpecs: [String: RolloutSpec] {
        self.control.configuration.models.reduce(into: [:]) { specs, model in
            specs[model.name] = self.spec(of: model)
        }
    }

    private func spec(of model: ModelResource) -> RolloutSpec? {
        RolloutSpec(model, self.control.configuration) { name in
            guard let variant = model.spec.variant(named: name),
                case .workload = variant.backend
            else { return "" }
            return self.cluster.revision(ofGroup: self.control.groupName(model.name, variant))
        }
    }

    func take(_ report: TrialDocument.Model) {
        self.loop?.take(report.counts, of: report.name)
        self.runs[report.name] = max(self.runs[report.name] ?? 0, report.run)
    }

    var needsGateways: Bool { self.loop?.hasActive ?? false }

    /// About once a second.
    func tick() {
        guard let loop = self.loop, self.mayWrite(), self.directory.isSynced, self.cluster.isSynced
        else { return }
        if self.currentSpecs != self.specs { self.adopt() }
        for model in loop.active { self.tick(model, loop) }
        self.refreshCapacity(of: loop.active)
    }

    private func tick(_ model: String, _ loop: RolloutLoop) {
        guard let controller = loop.controller(of: model) else { return }
        let generation = controller.status.traffic.generation
        if !controller.status.isAcknowledged, self.isPublished(controller),
            self.knowsGateways(), self.polls.isAcknowledged(generation, of: model)
        {
            loop.handle(.acknowledged(generation: generation), of: model, at: self.moment)
        }
        let run = self.runs.removeValue(forKey: model) ?? 0
        loop.tick(model, longestRun: run, at: self.moment)
        // The way back may have failed: once more while it is wanted.
        if let variant = loop.controller(of: model)?.status.templateRollback {
            self.rollBackTemplate(variant, of: model)
        }
    }

    /// Whether what gateways see is what the machine says: not while a write is under way.
    private func isPublished(_ controller: RolloutController) -> Bool {
        !controller.isStoringStatus
    }

    // MARK: RolloutHost

    var memory: (any RolloutMemory)? { self }

    func perform(_ command: RolloutCommand, of model: ModelResource) throws(RolloutRefusal) {
        guard let loop = self.loop, self.mayWrite() else {
            throw RolloutRefusal(
                "this controller may be losing the lead: try again in some seconds"
            )
        }
        guard let spec = self.spec(of: model) else {
            throw RolloutRefusal(
                "\(model.name) has fixed `weights`, or no `live` variant: remove `weights` and "
                    + "name one in `live` to have rollouts"
            )
        }
        try loop.perform(command, of: model.name, spec, at: self.moment)
        self.refreshCapacity(of: [model.name])
    }

    // MARK: RolloutExecutor

    func apply(_ plan: TrafficPlan, of model: String) {
        // It is in the status that was stored: gateways see it there.
    }

    func ensure(_ demands: [CapacityDemand], of model: String) {
        self.refreshCapacity(of: [model])
    }

    func rollBackTemplate(_ variant: VariantReference, of model: String) {
        guard let resource = self.book.resources[model],
            let own = resource.spec.variant(named: variant.name),
            self.undoing.insert(model).inserted
        else { return }
        let group = self.control.groupName(model, own)
        self.cluster.rollBackTemplate(ofGroup: group, to: variant.revision) { [weak self] why in
            guard let self else { return }
            self.undoing.remove(model)
            if let why { self.tell(model, "the template cannot be rolled back: \(why)") }
        }
    }

    /// The next tick is soon enough.
    func webhookAnswered() {}

    func keep(_ timeline: RolloutTimeline) {
        var kept = self.timelines[timeline.model] ?? []
        kept.removeAll { $0.rollout == timeline.rollout }
        kept.append(timeline)
        self.timelines[timeline.model] = Array(kept.suffix(Self.timelinesMax))
    }

    func announce(_ record: RolloutRecord, of model: String) {
        record.log(to: self.logger, of: model)
        if let resource = self.book.resources[model] { self.onRecord(resource, record) }
    }

    /// Once each, until something else is wrong.
    private func tell(_ model: String, _ problem: String) {
        if self.problems[model] == problem { return }
        self.problems[model] = problem
        self.logger.warning(
            "a rollout is held up",
            metadata: ["model": "\(model)", "problem": "\(problem)"]
        )
    }

    // MARK: Storing

    func store(
        _ status: RolloutStatus,
        of model: String,
        completion: @escaping (_ isStored: Bool) -> Void
    ) {
        guard let resource = self.book.resources[model], let spec = self.specs[model],
            let value = RolloutPublication.value(status, spec)
        else {
            self.tell(model, "its status cannot be written: it is too large, or the Model is gone")
            return completion(false)
        }
        let key = ObjectKey(namespace: resource.metadata.namespace, name: resource.name)
        self.write(value, of: model, key, tries: 1, completion)
    }

    private func write(
        _ value: JSONValue,
        of model: String,
        _ key: ObjectKey,
        tries: Int,
        _ completion: @escaping (_ isStored: Bool) -> Void
    ) {
        guard self.mayWrite(), self.loop != nil else { return completion(false) }
        let kind = ResourceDirectory.Kind.model.resource
        var object = KubernetesObject(kind, namespace: key.namespace, name: key.name)
        if let version = self.versions[model] {
            object["metadata"]["resourceVersion"] = .string(version)
        }
        object["status"] = ["rollout": value]
        self.client.apply(
            kind,
            object,
            manager: Self.manager,
            force: true,
            subresource: "status"
        ) { [weak self] result in
            guard let self, self.loop != nil else { return completion(false) }
            switch result {
            case .success(let written):
                self.versions[model] = written.metadata.resourceVersion.text
                self.checkpoints[model] = value["checkpoint"].string
                self.problems[model] = nil
                completion(true)
            case .failure(let error) where error.isConflict && tries < Self.triesMax:
                self.readAgain(value, of: model, key, tries: tries, completion)
            case .failure(let error):
                self.tell(model, "its status cannot be written: \(error)")
                completion(false)
            }
        }
    }

    /// Somebody has written: another field, or another controller has gone on with the rollout.
    private func readAgain(
        _ value: JSONValue,
        of model: String,
        _ key: ObjectKey,
        tries: Int,
        _ completion: @escaping (_ isStored: Bool) -> Void
    ) {
        self.client.get(ResourceDirectory.Kind.model.resource, key) { [weak self] result in
            guard let self, let loop = self.loop else { return completion(false) }
            guard case .success(let object) = result else { return completion(false) }
            self.versions[model] = object.metadata.resourceVersion.text
            let rollout = object.status["rollout"]
            if rollout["checkpoint"].string == self.checkpoints[model] {
                return self.write(value, of: model, key, tries: tries + 1, completion)
            }
            self.checkpoints[model] = rollout["checkpoint"].string
            // First what holds, so that nothing older is written over it.
            do {
                if let status = try RolloutPublication.status(in: rollout) {
                    try loop.controller(of: model)?.adopt(status)
                }
            } catch {
                self.tell(model, "what another controller wrote cannot be used: \(error)")
            }
            completion(false)
        }
    }
}

// MARK: What was written before

extension ClusterRollouts: RolloutMemory {
    func status(of model: String) -> RolloutStatus? {
        guard let resource = self.book.resources[model] else { return nil }
        let key = ObjectKey(namespace: resource.metadata.namespace, name: model)
        guard let item = self.directory.model(key) else { return nil }
        let rollout = item.status["rollout"]
        self.versions[model] = item.version.text
        self.checkpoints[model] = rollout["checkpoint"].string
        do {
            return try RolloutPublication.status(in: rollout)
        } catch {
            self.tell(model, "the status in the Model cannot be read: \(error)")
            return nil
        }
    }

    func discard(_ model: String, because reason: String) {
        self.tell(model, "the status in the Model cannot be used, \(reason)")
    }

    func timeline(of model: String, rollout: Int) -> RolloutTimeline? {
        self.timelines[model]?.first { $0.rollout == rollout }
    }

    func rollouts(of model: String, upTo last: Int) -> [Int] {
        (self.timelines[model] ?? []).map(\.rollout)
    }
}

// MARK: Replicas

extension ClusterRollouts {
    /// As many as serve, and at least as many as did when the rollout began.
    func fullReplicas(ofGroup group: String, _ model: String) -> Int {
        guard let status = self.loop?.controller(of: model)?.status,
            let resource = self.book.resources[model],
            let stable = resource.spec.variant(named: status.stable.name)
        else { return 1 }
        let desired = self.control.groupStatus(model, stable)?.desired ?? 0
        return max(1, status.isRunning ? status.baselineReplicas : 1, desired)
    }

    /// The number of what serves is somebody else's to say.
    func restingReplicas(ofGroup group: String, _ model: String) -> Int? { nil }

    /// Nil where one of those who use it says nothing.
    func wantedReplicas(ofGroup group: String) -> Int? {
        var wanted: Int?
        for owner in self.book.owners[group] ?? [] {
            guard let need = self.need(owner.model, owner.variant, group: group) else { return nil }
            wanted = max(wanted ?? 0, need)
        }
        return wanted
    }

    func inFlight(_ replica: ReplicaStatus) -> Int {
        self.cluster.uid(of: replica.id).map { self.polls.streams($0) } ?? 0
    }

    func isForeign(_ group: String) -> Bool { self.cluster.hasSecondWriter(group) }

    func scale(_ group: String, to count: Int) throws(ClusterError) {
        try self.cluster.scale(group, to: count)
    }

    func capacitiesChanged() { self.onCapacities() }

    func readySince(_ replica: String, of model: String) -> Instant? {
        guard let status = self.cluster.replica(uid: replica)?.status, status.state == .ready else {
            return nil
        }
        return status.since
    }

    func arm(ofReplica replica: String, of model: String) -> Rollouts.Arm? {
        self.cluster.replica(uid: replica).map { $0.isCurrent ? .canary : .stable }
    }
}
