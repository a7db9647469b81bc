import Autoscaling
import Clusters
import Configuration
import Core
import EventLoop
import Logging
import Rollouts

/// What is kept of the models whose rollouts are run here.
struct RolloutBook {
    var capacities: [String: RolloutCapacity] = [:]
    /// The most replicas that all requests needed since the rollout of that number began.
    var peaks: [String: (rollout: Int, replicas: Int)] = [:]
    /// The configuration's, by name.
    private(set) var resources: [String: ModelResource] = [:]
    /// Who uses a group, over all models.
    private(set) var owners: [String: [(model: String, variant: String)]] = [:]

    mutating func adopt(_ configuration: Configuration) {
        self.owners = [:]
        self.resources = [:]
        self.capacities = [:]
        for model in configuration.models {
            self.resources[model.name] = model
            for variant in model.spec.variants {
                guard case .workload(let reference) = variant.backend else { continue }
                let group = reference.group(in: model.metadata.namespace)
                self.owners[group, default: []].append((model.name, variant.name))
            }
        }
    }

    mutating func forget(except specs: [String: RolloutSpec]) {
        for model in self.peaks.keys where specs[model] == nil { self.peaks[model] = nil }
    }
}

/// Replicas as rollouts see them and ask for them, of processes here or of a cluster.
protocol RolloutFleet: RolloutWorld {
    var book: RolloutBook { get set }
    var control: ControlPlane { get }
    /// Nil where somebody else runs the rollouts.
    var loop: RolloutLoop? { get }
    /// How many replicas of a group all requests need, where no policy says.
    func fullReplicas(ofGroup group: String, _ model: String) -> Int
    /// How many a group has that serves while no rollout runs; nil: leave it.
    func restingReplicas(ofGroup group: String, _ model: String) -> Int?
    /// What a group that no policy scales should have; nil: whatever it has.
    func wantedReplicas(ofGroup group: String) -> Int?
    /// Requests under way at a replica.
    func inFlight(_ replica: ReplicaStatus) -> Int
    /// Whether somebody else sizes the group.
    func isForeign(_ group: String) -> Bool
    func scale(_ group: String, to count: Int) throws(ClusterError)
    /// What rollouts ask of the autoscaler has changed.
    func capacitiesChanged()
    var calls: RolloutCalls { get }
    /// The machine has been told what a webhook answered.
    func webhookAnswered()
}

enum RolloutLead {
    /// Replicas for the next step are asked for that much sooner than they take to start.
    static let margin = Duration.seconds(2)
    /// Where no cold start was measured.
    static let assumedColdStart = Duration.seconds(10)
}

extension RolloutFleet {
    var moment: RolloutMoment {
        RolloutMoment(
            instant: self.control.loop.refreshNow(),
            wall: Int(EventLoop.readWallClock() * 1_000)
        )
    }

    // MARK: To the outside

    func call(_ webhook: WebhookCall, of model: String) {
        self.calls.call(webhook, of: model) { [weak self] answer in
            guard let self else { return }
            let event = RolloutEvent.webhookAnswered(call: webhook.id, answer)
            self.loop?.handle(event, of: model, at: self.moment)
            self.webhookAnswered()
        }
    }

    func measure(_ metric: Int, number: Int, of model: String) {
        guard let resource = self.book.resources[model],
            let policy = self.control.configuration.rolloutPolicy(of: resource)
        else { return }
        self.calls.measure(metric, of: policy) { [weak self] value in
            guard let self else { return }
            let event = RolloutEvent.measured(metric: metric, number: number, value)
            self.loop?.handle(event, of: model, at: self.moment)
        }
    }

    // MARK: What there is

    func variants(of model: String) -> [String: Rollouts.VariantObservation] {
        guard let resource = self.book.resources[model] else { return [:] }
        var result: [String: Rollouts.VariantObservation] = [:]
        for variant in resource.spec.variants {
            let group = self.control.groupStatus(model, variant)
            // Whoever does the same as it carries its share with it.
            let ready = resource.spec.interchangeable(with: variant.name).reduce(0) {
                $0 + (self.control.groupStatus(model, $1)?.count(.ready) ?? 0)
            }
            var seen = Rollouts.VariantObservation(ready: ready)
            switch variant.backend {
            case .endpoints: seen.isScalable = false
            case .workload:
                seen.isScalable = !self.isForeign(self.control.groupName(model, variant))
            }
            seen.readyOfOldRevision = self.readyOfOldRevision(group)
            seen.replicasForAll = self.replicasForAll(model, variant)
            seen.inFlight = (group?.replicas ?? []).reduce(0) { $0 + self.inFlight($1) }
            result[variant.name] = seen
        }
        return result
    }

    private func readyOfOldRevision(_ group: GroupStatus?) -> Int {
        guard let group else { return 0 }
        return group.replicas.count { $0.state == .ready && $0.revision != group.revision }
    }

    func crashes(of model: String, variant: String) -> Int {
        guard let resource = self.book.resources[model],
            let variant = resource.spec.variant(named: variant)
        else { return 0 }
        return (self.control.groupStatus(model, variant)?.replicas ?? []).reduce(0) {
            $0 + $1.restarts
        }
    }

    /// How many replicas of a variant all requests would need.
    private func replicasForAll(_ model: String, _ variant: VariantSpec) -> Int? {
        guard case .workload = variant.backend else { return nil }
        let group = self.control.groupName(model, variant)
        if let (plan, index) = self.scaler(ofGroup: group) {
            let most = plan.setup.variants[index].bounds.maximum
            return min(max(1, most), self.peak(model, plan))
        }
        return self.fullReplicas(ofGroup: group, model)
    }

    /// Whose number of replicas the autoscaler writes.
    private func scaler(ofGroup group: String) -> (model: ScalingPlan.Model, variant: Int)? {
        guard let owner = self.control.scaling?.plan.owner(ofGroup: group),
            !owner.model.setup.policy.isDryRun
        else { return nil }
        return owner
    }

    /// From what the autoscaler recommends for each arm's share, the most since the rollout began:
    /// going back must not have to wait for replicas that were there.
    private func peak(_ model: String, _ plan: ScalingPlan.Model) -> Int {
        guard let status = self.loop?.controller(of: model)?.status else { return 1 }
        var replicas = max(1, status.baselineReplicas)
        if let known = self.book.peaks[model], known.rollout == status.rollout {
            replicas = max(replicas, known.replicas)
        }
        var wanted: [String: Int] = [:]
        for variant in self.control.scaling?.latest(of: model)?.variants ?? [] {
            let name =
                self.book.resources[model]?.spec.representative(of: variant.variant)
                ?? variant.variant
            wanted[name, default: 0] += variant.recommendations.reduce(0) {
                max($0, $1.replicas ?? 0)
            }
        }
        let needed = FullLoad.replicas(
            wanted.map { (status.traffic.weight(of: $0.key), $0.value) }
        )
        replicas = max(replicas, needed ?? 1)
        self.book.peaks[model] = (status.rollout, replicas)
        return replicas
    }

    // MARK: What is asked for

    /// What a demand comes to in replicas.
    private func replicas(_ demand: CapacityDemand, all: Int, group: GroupStatus?) -> Int {
        var share = demand.share
        if let next = demand.nextShare, let milliseconds = demand.nextShareInMilliseconds {
            let start = group?.coldStarts.median ?? RolloutLead.assumedColdStart
            let isSoon = Duration.milliseconds(milliseconds) <= start + RolloutLead.margin
            if isSoon { share = max(share, next) }
        }
        var count = max(demand.replicasMin, (all * min(share, 100) + 99) / 100)
        if !demand.mayShrink { count = max(count, group?.desired ?? 0) }
        return count
    }

    private func currentDemands(_ model: String) -> [CapacityDemand] {
        self.loop?.controller(of: model)?.machine.capacity ?? []
    }

    /// What a variant of an unscaled model needs now; nil: whatever it has.
    func need(_ model: String, _ variant: String, group: String) -> Int? {
        guard let controller = self.loop?.controller(of: model) else { return nil }
        if let demand = self.currentDemands(model).first(where: { $0.variant == variant }) {
            return self.replicas(
                demand,
                all: self.fullReplicas(ofGroup: group, model),
                group: self.status(ofGroup: group)
            )
        }
        // Without a policy nobody said that the others' replicas may go.
        guard controller.machine.spec.plan != nil else { return nil }
        if controller.status.stable.name == variant {
            return self.restingReplicas(ofGroup: group, model)
        }
        let mirror = self.book.resources[model]?.spec.mirror
        return mirror?.to == variant ? nil : 0
    }

    private func status(ofGroup group: String) -> GroupStatus? {
        self.control.processes?.group(group) ?? self.control.pods?.group(group)
    }

    /// The model whose rollout needs the group's replicas now.
    func claimant(ofGroup group: String) -> String? {
        self.book.owners[group]?.first { owner in
            self.currentDemands(owner.model).contains { $0.variant == owner.variant }
        }?.model
    }

    // MARK: Writing

    /// Brings the autoscaler's plan, and the replicas of what it does not scale, to what the
    /// models' rollouts ask for now.
    func refreshCapacity(of models: [String]) {
        // What is not stored yet may never hold.
        let models = models.filter {
            !(self.loop?.controller(of: $0)?.isStoringStatus ?? false)
        }
        self.refreshPlan(models)
        for model in models {
            guard let resource = self.book.resources[model] else { continue }
            for variant in resource.spec.variants {
                guard case .workload = variant.backend else { continue }
                self.refresh(self.control.groupName(model, variant))
            }
        }
    }

    private func refresh(_ group: String) {
        if self.scaler(ofGroup: group) != nil || self.isForeign(group) { return }
        guard let wanted = self.wantedReplicas(ofGroup: group),
            let present = self.status(ofGroup: group)?.desired, present != wanted
        else { return }
        do throws(ClusterError) {
            try self.scale(group, to: wanted)
            self.control.logger.info(
                "scaled for a rollout",
                metadata: ["deployment": "\(group)", "replicas": "\(wanted)"]
            )
        } catch {
            self.control.logger.error(
                "cannot scale for a rollout",
                metadata: ["deployment": "\(group)", "reason": "\(error)"]
            )
        }
    }

    private func capacity(_ model: ModelResource, _ controller: RolloutController)
        -> RolloutCapacity
    {
        let traffic = controller.status.traffic
        var capacity = RolloutCapacity(
            weights: [:],
            floors: [:],
            stable: controller.status.stable.name
        )
        for weight in traffic.weights { capacity.weights[weight.variant] = weight.percent }
        for demand in self.currentDemands(model.name) {
            guard let variant = model.spec.variant(named: demand.variant),
                case .workload = variant.backend
            else { continue }
            capacity.floors[demand.variant] = self.replicas(
                demand,
                all: self.replicasForAll(model.name, variant) ?? 1,
                group: self.control.groupStatus(model.name, variant)
            )
            if demand.variant == controller.status.stable.name {
                self.shareFloor(of: variant, model, mayShrink: demand.mayShrink, &capacity)
            }
        }
        return capacity
    }

    /// What a pool needs is had by all of its variants: what the others have, the first need not.
    private func shareFloor(
        of variant: VariantSpec,
        _ model: ModelResource,
        mayShrink: Bool,
        _ capacity: inout RolloutCapacity
    ) {
        for other in model.spec.interchangeable(with: variant.name) where other.name != variant.name
        {
            let present = self.control.groupStatus(model.name, other)
            let ready = present?.count(.ready) ?? 0
            let own = self.control.groupStatus(model.name, variant)?.desired ?? 0
            let floor = capacity.floors[variant.name] ?? 0
            capacity.floors[variant.name] = max(mayShrink ? 0 : own, floor - ready)
            if !mayShrink { capacity.floors[other.name] = present?.desired ?? 0 }
        }
    }

    private func refreshPlan(_ models: [String]) {
        var isChanged = false
        for model in models {
            guard let resource = self.book.resources[model],
                resource.spec.scaling?.policy != nil,
                let controller = self.loop?.controller(of: model)
            else { continue }
            let capacity = self.capacity(resource, controller)
            isChanged = isChanged || capacity != self.book.capacities[model]
            self.book.capacities[model] = capacity
        }
        if isChanged { self.capacitiesChanged() }
    }
}

// MARK: Processes of this machine

extension RolloutDriver: RolloutFleet {
    var loop: RolloutLoop? { self.rollouts }

    /// As many as the configuration gives the deployment, or where it gives none the largest of the
    /// model's others.
    func fullReplicas(ofGroup group: String, _ model: String) -> Int {
        let configuration = self.control.configuration
        if let own = configuration.processDeployment(group)?.spec.replicas, own > 0 { return own }
        let others = self.book.resources[model]?.spec.variants.compactMap { variant -> Int? in
            guard case .workload(let reference) = variant.backend else { return nil }
            return configuration.processDeployment(reference.name)?.spec.replicas
        }
        return max(1, others?.max() ?? 1)
    }

    func restingReplicas(ofGroup group: String, _ model: String) -> Int? {
        self.fullReplicas(ofGroup: group, model)
    }

    func inFlight(_ replica: ReplicaStatus) -> Int { self.control.requestsUnderWay(replica.id) }

    func isForeign(_ group: String) -> Bool { false }

    func wantedReplicas(ofGroup group: String) -> Int? {
        guard let plan = self.control.scaling?.plan,
            let deployment = self.control.configuration.processDeployment(group)
        else { return nil }
        return self.replicas(of: deployment, plan)
    }

    func scale(_ group: String, to count: Int) throws(ClusterError) {
        try self.control.processes?.scale(group, to: count)
    }

    func capacitiesChanged() { self.control.adoptScalingPlan() }

    func readySince(_ replica: String, of model: String) -> Instant? {
        guard let (_, status) = self.find(replica, of: model) else { return nil }
        return status.state == .ready ? status.since : nil
    }

    func arm(ofReplica replica: String, of model: String) -> Rollouts.Arm? {
        self.find(replica, of: model).map { group, status in
            status.revision == group.revision ? .canary : .stable
        }
    }

    private func find(_ replica: String, of model: String) -> (GroupStatus, ReplicaStatus)? {
        for variant in self.book.resources[model]?.spec.variants ?? [] {
            guard let group = self.control.groupStatus(model, variant),
                let status = group.replicas.first(where: { $0.id.description == replica })
            else { continue }
            return (group, status)
        }
        return nil
    }

    /// How many replicas a deployment gets that no autoscaler sets; nil: as the configuration says.
    func replicas(of deployment: ProcessDeploymentResource, _ plan: ScalingPlan) -> Int? {
        if let (model, _) = plan.owner(ofGroup: deployment.name), !model.setup.policy.isDryRun {
            return nil
        }
        let owners = self.book.owners[deployment.name] ?? []
        guard owners.contains(where: { self.rollouts.controller(of: $0.model) != nil }) else {
            return nil
        }
        return owners.map {
            self.need($0.model, $0.variant, group: deployment.name) ?? deployment.spec.replicas
        }.max()
    }
}
