import Autoscaling
import Clusters
import Configuration
import Core
import Logging
import Rollouts

/// What rollouts see of replicas, and what they ask for.
extension RolloutDriver {
    func variants(of model: String) -> [String: Rollouts.VariantObservation] {
        guard let resource = self.resources[model] else { return [:] }
        var result: [String: Rollouts.VariantObservation] = [:]
        for variant in resource.spec.variants {
            let group = self.control.groupStatus(model, variant)
            var seen = Rollouts.VariantObservation(ready: group?.count(.ready) ?? 0)
            if case .endpoints = variant.backend { seen.isScalable = false }
            seen.replicasForAll = self.replicasForAll(model, variant)
            seen.inFlight = (group?.replicas ?? []).reduce(0) {
                $0 + self.control.requestsUnderWay($1.id)
            }
            result[variant.name] = seen
        }
        return result
    }

    func crashes(of model: String, variant: String) -> Int {
        guard let resource = self.resources[model],
            let variant = resource.spec.variant(named: variant)
        else { return 0 }
        return (self.control.groupStatus(model, variant)?.replicas ?? []).reduce(0) {
            $0 + $1.restarts
        }
    }

    func readySince(_ replica: String, of model: String) -> Instant? {
        guard let resource = self.resources[model] else { return nil }
        for variant in resource.spec.variants {
            let replicas = self.control.groupStatus(model, variant)?.replicas ?? []
            if let status = replicas.first(where: { $0.id.description == replica }) {
                return status.state == .ready ? status.since : nil
            }
        }
        return nil
    }

    /// How many replicas of a variant all requests would need.
    private func replicasForAll(_ model: String, _ variant: VariantSpec) -> Int? {
        guard case .workload(let reference) = variant.backend else { return nil }
        if let (plan, index) = self.scaler(ofGroup: reference.name) {
            let most = plan.setup.variants[index].bounds.maximum
            return min(max(1, most), self.peak(model, plan))
        }
        return self.fullReplicas(reference.name, model)
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
        guard let status = self.rollouts.controller(of: model)?.status else { return 1 }
        var replicas = max(1, status.baselineReplicas)
        if let known = self.peaks[model], known.rollout == status.rollout {
            replicas = max(replicas, known.replicas)
        }
        for variant in self.control.scaling?.latest(of: model)?.variants ?? [] {
            let weight = status.traffic.weight(of: variant.variant)
            let own = variant.recommendations.reduce(0) { max($0, $1.replicas ?? 0) }
            // The last of them may be needed for a fraction only.
            if weight > 0, own > 0 { replicas = max(replicas, (own - 1) * 100 / weight + 1) }
        }
        self.peaks[model] = (status.rollout, replicas)
        return replicas
    }

    /// As many as the configuration gives the deployment, or where it gives none the largest of the
    /// model's others.
    private func fullReplicas(_ group: String, _ model: String) -> Int {
        let configuration = self.control.configuration
        if let own = configuration.processDeployment(group)?.spec.replicas, own > 0 { return own }
        let others = self.resources[model]?.spec.variants.compactMap { variant -> Int? in
            guard case .workload(let reference) = variant.backend else { return nil }
            return configuration.processDeployment(reference.name)?.spec.replicas
        }
        return max(1, others?.max() ?? 1)
    }

    /// What a demand comes to in replicas.
    private func replicas(_ demand: CapacityDemand, all: Int, group: GroupStatus?) -> Int {
        var share = demand.share
        if let next = demand.nextShare, let milliseconds = demand.nextShareInMilliseconds {
            let start = group?.coldStarts.median ?? Self.assumedColdStart
            if .milliseconds(milliseconds) <= start + Self.leadMargin { share = max(share, next) }
        }
        var count = max(demand.replicasMin, (all * min(share, 100) + 99) / 100)
        if !demand.mayShrink { count = max(count, group?.desired ?? 0) }
        return count
    }

    private func currentDemands(_ model: String) -> [CapacityDemand] {
        guard self.demands[model] != nil else { return [] }
        return self.rollouts.controller(of: model)?.machine.capacity ?? []
    }

    /// What a variant of an unscaled model needs now; nil: as the configuration says.
    private func need(_ model: String, _ variant: String, group: String) -> Int? {
        guard let controller = self.rollouts.controller(of: model) else { return nil }
        let status = controller.status
        let all = self.fullReplicas(group, model)
        if let demand = self.currentDemands(model).first(where: { $0.variant == variant }) {
            return self.replicas(demand, all: all, group: self.control.processes?.group(group))
        }
        // Without a policy nobody said that the others' replicas may go.
        guard controller.machine.spec.plan != nil else { return nil }
        if status.stable.name == variant { return all }
        let mirror = self.resources[model]?.spec.mirror
        return mirror?.to == variant ? nil : 0
    }

    /// How many replicas a deployment gets that no autoscaler sets; nil: as the configuration says.
    func replicas(of deployment: ProcessDeploymentResource, _ plan: ScalingPlan) -> Int? {
        if let (model, _) = plan.owner(ofGroup: deployment.name), !model.setup.policy.isDryRun {
            return nil
        }
        let owners = self.owners[deployment.name] ?? []
        guard owners.contains(where: { self.rollouts.controller(of: $0.model) != nil }) else {
            return nil
        }
        return owners.map {
            self.need($0.model, $0.variant, group: deployment.name) ?? deployment.spec.replicas
        }.max()
    }

    /// The model whose rollout needs the group's replicas now.
    func claimant(ofGroup group: String) -> String? {
        self.owners[group]?.first { owner in
            self.currentDemands(owner.model).contains { $0.variant == owner.variant }
        }?.model
    }

    // MARK: Writing

    /// Brings the autoscaler's plan, and the replicas of what it does not scale, to what the
    /// models' rollouts ask for now.
    func refreshCapacity(of models: [String]) {
        guard self.control.processes != nil else { return }
        self.refreshPlan(models)
        for model in models {
            for variant in self.resources[model]?.spec.variants ?? [] {
                if case .workload(let reference) = variant.backend { self.refresh(reference.name) }
            }
        }
    }

    private func refresh(_ group: String) {
        guard let plan = self.control.scaling?.plan, let processes = self.control.processes,
            let deployment = self.control.configuration.processDeployment(group),
            let wanted = self.replicas(of: deployment, plan),
            let present = processes.group(group)?.desired, present != wanted
        else { return }
        do throws(ClusterError) {
            try processes.scale(group, to: wanted)
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
        var capacity = RolloutCapacity(weights: [:], floors: [:])
        for weight in traffic.weights { capacity.weights[weight.variant] = weight.percent }
        for demand in self.currentDemands(model.name) {
            guard let variant = model.spec.variant(named: demand.variant),
                case .workload(let reference) = variant.backend
            else { continue }
            capacity.floors[demand.variant] = self.replicas(
                demand,
                all: self.replicasForAll(model.name, variant) ?? 1,
                group: self.control.processes?.group(reference.name)
            )
        }
        return capacity
    }

    private func refreshPlan(_ models: [String]) {
        var isChanged = false
        for model in models {
            guard let resource = self.resources[model], resource.spec.scaling?.policy != nil,
                let controller = self.rollouts.controller(of: model)
            else { continue }
            let capacity = self.capacity(resource, controller)
            isChanged = isChanged || capacity != self.capacities[model]
            self.capacities[model] = capacity
        }
        if isChanged { self.control.adoptScalingPlan() }
    }
}
