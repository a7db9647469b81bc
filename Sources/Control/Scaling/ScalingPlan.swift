import Autoscaling
import Clusters
import Configuration
import Core

/// What a configuration says about scaling, in the terms of the code that decides.
///
/// A model is in it where it names a `ScalingPolicy` and at least one of its variants is a
/// `ProcessDeployment`. `minReplicas` and `maxReplicas` hold for each variant by itself, but for
/// the least of interchangeable variants, which holds for all of them together.
package struct ScalingPlan: Sendable, Equatable {
    package struct Model: Sendable, Equatable {
        package var setup: ModelSetup
        package var policyName: String
        /// In the order of `setup.variants`.
        package var variants: [Variant]
        /// All variants of the model with the weights of the configuration, fixed ones too.
        package var weights: [(name: String, weight: Int)]
        package var budget: Share?
        /// Where metric targets ask, in their order.
        package var queries: [MetricQuery]
        /// Where GPU targets ask, if the replicas say nothing.
        package var exporters: [EndpointURL] = []
        /// Requests that one replica is given at a time, where that is limited.
        package var slotsPerReplica: Double?
        /// Requests with equal beginnings go to the same replica: its cache is worth something.
        package var balancesByPrefix = false

        package init(
            setup: ModelSetup,
            policyName: String,
            variants: [Variant],
            weights: [(name: String, weight: Int)],
            budget: Share? = nil,
            queries: [MetricQuery] = [],
            slotsPerReplica: Double? = nil,
            balancesByPrefix: Bool = false
        ) {
            precondition(variants.count == setup.variants.count, "\(variants.count) variants")
            self.setup = setup
            self.policyName = policyName
            self.variants = variants
            self.weights = weights
            self.budget = budget
            self.queries = queries
            self.slotsPerReplica = slotsPerReplica
            self.balancesByPrefix = balancesByPrefix
        }

        package var name: String { self.setup.name }

        package static func == (left: Model, right: Model) -> Bool {
            left.setup == right.setup && left.policyName == right.policyName
                && left.variants == right.variants && left.budget == right.budget
                && left.weights.map(\.name) == right.weights.map(\.name)
                && left.weights.map(\.weight) == right.weights.map(\.weight)
                && left.queries == right.queries && left.exporters == right.exporters
                && left.slotsPerReplica == right.slotsPerReplica
                && left.balancesByPrefix == right.balancesByPrefix
        }
    }

    package struct Variant: Sendable, Equatable {
        package var name: String
        /// Of the process cluster.
        package var group: String
        package var weight: Int

        package init(name: String, group: String, weight: Int) {
            self.name = name
            self.group = group
            self.weight = weight
        }
    }

    /// A question to a Prometheus server.
    package struct MetricQuery: Sendable, Hashable {
        package enum Credentials: Sendable, Hashable {
            case token(file: String)
            case password(user: String, file: String)
        }

        package var server: EndpointURL
        package var query: String
        /// Who may sign the server's certificate; nil for the system's authorities.
        package var authoritiesFile: String?
        package var credentials: Credentials?

        package init(server: EndpointURL, query: String) {
            self.server = server
            self.query = query
        }

        /// Nil where the specification failed its checks.
        init?(_ spec: PrometheusQuerySpec) {
            guard let server = spec.server else { return nil }
            self.init(server: server, query: spec.query)
            self.authoritiesFile = spec.caFile
            if let file = spec.tokenFile { self.credentials = .token(file: file) }
            if let basic = spec.basicAuth {
                self.credentials = .password(user: basic.username, file: basic.passwordFile)
            }
        }
    }

    /// What a model takes of a budget.
    package struct Share: Sendable, Equatable {
        /// Of `budgets`.
        package var index: Int
        package var weight: Int
        /// Higher first.
        package var priority = 0

        package init(index: Int, weight: Int, priority: Int = 0) {
            self.index = index
            self.weight = weight
            self.priority = priority
        }
    }

    package struct Budget: Sendable, Equatable {
        package var name: String
        package var namespace: String
        package var resource: String
        package var total: Int
        /// Groups that take of it and are not scaled, with what one replica takes.
        package var fixed: [Fixed]
    }

    /// A group that takes of a budget and is not scaled.
    package struct Fixed: Sendable, Equatable {
        package var model: String
        package var group: String
        /// What one replica takes.
        package var units: Int
    }

    package var models: [Model] = []
    package var budgets: [Budget] = []
    private var indices: [String: Int] = [:]
    private var owners: [String: (model: Int, variant: Int)] = [:]

    package init() {}

    /// - Parameters:
    ///   - rollouts: what rollouts ask for, by model.
    ///   - onCluster: about the workloads of a cluster instead of local processes.
    package init(
        _ configuration: Configuration,
        rollouts: [String: RolloutCapacity] = [:],
        onCluster: Bool = false
    ) {
        self.budgets = configuration.resourceBudgets.map {
            Budget(
                name: $0.name,
                namespace: $0.metadata.namespace,
                resource: $0.spec.resource,
                total: $0.spec.total,
                fixed: []
            )
        }
        for resource in configuration.models {
            let share = self.share(resource)
            let rollout = rollouts[resource.name]
            guard let model = Self.model(resource, configuration, share, rollout, onCluster)
            else {
                self.addFixed(resource, share)
                continue
            }
            self.add(model)
        }
    }

    package static func == (left: ScalingPlan, right: ScalingPlan) -> Bool {
        left.models == right.models && left.budgets == right.budgets
    }

    package mutating func add(_ model: Model) {
        let index = self.models.count
        for (variant, entry) in model.variants.enumerated() {
            self.owners[entry.group] = (index, variant)
        }
        self.indices[model.name] = index
        self.models.append(model)
    }

    package func index(of model: String) -> Int? { self.indices[model] }

    /// The model that scales a group.
    package func index(ofGroup group: String) -> Int? { self.owners[group]?.model }

    /// Which variant's number decides over a group's replicas.
    package func owner(ofGroup group: String) -> (model: Model, variant: Int)? {
        self.owners[group].map { (self.models[$0.model], $0.variant) }
    }

    // MARK: From the configuration

    private func share(_ model: ModelResource) -> Share? {
        guard let budget = model.spec.scaling?.budget,
            let index = self.budgets.firstIndex(where: { $0.name == budget.name })
        else { return nil }
        return Share(
            index: index,
            weight: budget.weight,
            priority: model.spec.scaling?.priority ?? 0
        )
    }

    private mutating func addFixed(_ model: ModelResource, _ share: Share?) {
        guard let share, let units = model.spec.scaling?.budget?.perReplica else { return }
        for variant in model.spec.variants {
            guard case .workload(let reference) = variant.backend else { continue }
            let group = reference.group(in: model.metadata.namespace)
            self.budgets[share.index].fixed.append(
                Fixed(
                    model: model.name,
                    group: group,
                    units: variant.scaling.budgetPerReplica ?? units
                )
            )
        }
    }

    private static func model(
        _ resource: ModelResource,
        _ configuration: Configuration,
        _ share: Share?,
        _ rollout: RolloutCapacity?,
        _ onCluster: Bool
    ) -> Model? {
        let spec = resource.spec
        guard let scaling = spec.scaling, let name = scaling.policy,
            let policy = configuration.scalingPolicy(name, namespace: resource.metadata.namespace)
        else { return nil }
        var variants: [Variant] = []
        var setups: [VariantSetup] = []
        let weights =
            rollout.map { rollout in spec.variants.map { rollout.weights[$0.name] ?? 0 } }
            ?? spec.variantWeights
        let pool = spec.servingPool(stable: rollout?.stable)
        for (variant, weight) in zip(spec.variants, weights) {
            guard variants.count < ModelSetup.variantsMax,
                case .workload(let reference) = variant.backend,
                (reference.kind != .processDeployment) == onCluster
            else { continue }
            let group = reference.group(in: resource.metadata.namespace)
            let deployment = configuration.processDeployment(
                reference.name,
                namespace: resource.metadata.namespace
            )
            variants.append(Variant(name: variant.name, group: group, weight: weight))
            let isPooled = pool != nil && variant.pool == pool
            var setup = Self.setup(variant, weight, spec, isPooled: isPooled, deployment)
            rollout?.adjust(&setup)
            setups.append(setup)
        }
        if variants.isEmpty { return nil }
        var model = Model(
            setup: ModelSetup(
                name: resource.name,
                policy: ScalingPolicy(policy.spec),
                objectives: Objectives(spec.objectives),
                variants: setups,
                pooledMinimum: pool == nil ? 0 : scaling.minReplicas
            ),
            policyName: name,
            variants: variants,
            weights: zip(spec.variants, weights).map { ($0.name, $1) },
            budget: share,
            queries: policy.spec.queries,
            slotsPerReplica: spec.concurrency.slots,
            balancesByPrefix: spec.loadBalancing.policy == .prefixAffinity
        )
        model.exporters = policy.spec.exporters
        return model
    }

    private static func setup(
        _ variant: VariantSpec,
        _ weight: Int,
        _ spec: ModelSpec,
        isPooled: Bool,
        _ deployment: ProcessDeploymentResource?
    ) -> VariantSetup {
        let own = variant.scaling
        let least = own.minReplicas ?? (isPooled ? 0 : spec.scaling?.minReplicas ?? 0)
        return VariantSetup(
            name: variant.name,
            bounds: ScalingBounds(
                minimum: least,
                maximum: own.maxReplicas ?? spec.scaling?.maxReplicas ?? 1
            ),
            unitsPerReplica: own.budgetPerReplica ?? spec.scaling?.budget?.perReplica ?? 1,
            cost: own.cost,
            assumedColdStart: deployment.map {
                min($0.spec.startupTimeout, Self.assumedColdStartMax)
            } ?? Self.assumedColdStartMax,
            assumedDrain: deployment.map { min($0.spec.drainTimeout, Self.assumedDrainMax) }
                ?? Self.assumedDrainMax,
            isServing: weight > 0 || isPooled || spec.mirror?.to == variant.name,
            isInterchangeable: isPooled
        )
    }

    /// Taken for a cold start until one was measured, unless the start-up timeout is shorter.
    private static let assumedColdStartMax = Duration.seconds(60)
    private static let assumedDrainMax = Duration.seconds(30)
}

/// What a rollout asks of the autoscaler for one model.
package struct RolloutCapacity: Sendable, Equatable {
    /// Of the requests in percent, by variant.
    package var weights: [String: Int]
    /// Replicas that a variant must have whatever its load is.
    package var floors: [String: Int]
    /// The variant that serves but for what is tried; with it its pool does.
    package var stable: String?

    package init(weights: [String: Int], floors: [String: Int], stable: String? = nil) {
        self.weights = weights
        self.floors = floors
        self.stable = stable
    }

    /// A variant that neither serves nor is wanted has no minimum either: it goes to zero.
    func adjust(_ setup: inout VariantSetup) {
        setup.floor = self.floors[setup.name] ?? 0
        if setup.floor > 0 {
            setup.isServing = true
        } else if !setup.isServing {
            setup.bounds.minimum = 0
        }
    }
}

// MARK: Resources as the deciding code wants them

extension ScalingPolicy {
    package init(_ spec: ScalingPolicySpec) {
        self.init(
            targets: spec.targets.map { ScalingGoal($0) },
            stableWindow: spec.windows.stable,
            burstWindow: min(spec.windows.burst, spec.windows.stable),
            forecastHorizon: AutomaticDuration(spec.forecastHorizon),
            scaleUp: ScalingSpeed(spec.scaleUp),
            scaleDown: ScalingSpeed(spec.scaleDown),
            idleAfter: spec.scaleToZeroAfter,
            isDryRun: spec.dryRun
        )
    }
}

extension ScalingGoal {
    package init(_ target: ScalingTarget) {
        switch target {
        case .concurrency(let value): self = .concurrency(value)
        case .queueWait(let quantile, let below):
            self = .queueWait(quantile: quantile, below: below)
        case .objective: self = .objective
        case .requestRate(let value): self = .requestRate(value)
        case .tokenRate(let value): self = .tokenRate(value)
        case .kvCache(let share): self = .kvCache(share.fraction)
        case .gpuUtilization(let share, _): self = .gpuUtilization(share.fraction)
        case .prometheus(let query, let value):
            self = .metric(name: query.query, value: value)
        case .schedule(let cron, let duration, let replicas):
            guard let cron else { preconditionFailure("a schedule that was not checked") }
            self = .schedule(cron, duration: duration, replicas: replicas)
        }
    }
}

extension ScalingPolicySpec {
    /// What metric targets ask, in their order.
    package var queries: [ScalingPlan.MetricQuery] {
        self.targets.compactMap { target in
            guard case .prometheus(let query, _) = target else { return nil }
            return ScalingPlan.MetricQuery(query)
        }
    }

    /// The DCGM exporters of GPU targets.
    package var exporters: [EndpointURL] {
        self.targets.compactMap { target in
            guard case .gpuUtilization(_, let exporter) = target else { return nil }
            return exporter
        }
    }
}

extension AutomaticDuration {
    init(_ setting: DurationSetting) {
        switch setting {
        case .automatic: self = .automatic
        case .off: self = .off
        case .fixed(let duration): self = .fixed(duration)
        }
    }
}

extension ScalingSpeed {
    init(_ rate: ScalingRate) {
        self.init(
            stabilization: AutomaticDuration(rate.stabilization),
            maxPerMinute: rate.maxPerMinute
        )
    }
}

extension Objectives {
    package init(_ spec: ObjectivesSpec) {
        self.init(
            latency: spec.latency.map { TimeObjective(quantile: $0.quantile, below: $0.below) },
            timeToFirstToken: spec.timeToFirstToken.map {
                TimeObjective(quantile: $0.quantile, below: $0.below)
            }
        )
    }
}

extension ConcurrencySpec {
    var slots: Double? {
        if case .perReplica(let limit) = self { Double(limit) } else { nil }
    }
}
