import ArgumentParser
import Autoscaling
import Configuration
import Core
import Simulation
import Workload

/// Who decides.
struct SimulatedPolicyFlags: ParsableArguments {
    @Option(
        name: .customLong("policy"),
        help: """
            weir, a file with a ScalingPolicy, or a baseline such as kpa:target=5; may be given \
            several times. Default: weir and some baselines.
            """
    )
    var names: [String] = []
    @Flag(help: "Run each baseline over the values of its main knob.") var sweep = false
    @Flag(help: "Tune each baseline to the attainment that is wanted, and print the goals.")
    var compare = false
    @Flag(help: "Leave the clairvoyant out, which takes some thirty runs.") var noOptimum = false
    @Option(help: "The share of requests that should meet the objective, in percent.")
    var attainment = 99.0
    @Option(help: "Runs with different seeds; two or more give confidence intervals.") var seeds = 1
    @Option(help: "The first seed.") var seed: UInt64 = 1

    func validate() throws {
        guard self.attainment > 0, self.attainment < 100 else {
            throw ValidationError("--attainment must be between 0 and 100")
        }
        guard (1...1_000).contains(self.seeds) else {
            throw ValidationError("--seeds must be 1 to 1000")
        }
    }

    var allSeeds: [UInt64] { (0..<self.seeds).map { self.seed &+ UInt64($0) } }

    /// Those of Weir; the default one where no policy was named.
    func own() throws -> [OwnPolicy] {
        let quantile = self.attainment / 100
        if self.names.isEmpty { return [OwnPolicy.standard(quantile)] }
        var found: [OwnPolicy] = []
        for name in self.names {
            if name == "weir" {
                found.append(.standard(quantile))
            } else if self.isFile(name) {
                found.append(try OwnPolicy(path: name, quantile: quantile))
            }
        }
        return found
    }

    private func isFile(_ name: String) -> Bool {
        name.hasSuffix(".yaml") || name.hasSuffix(".yml")
    }

    private static let standard: [Baseline.Kind] = [.hpa, .kpa, .keda, .breakEven]

    /// The others, with the parameters that were given.
    func baselines(_ study: SimulationStudy) throws -> [Baseline] {
        if self.names.isEmpty {
            return (self.sweep ? Baseline.Kind.allCases : Self.standard).map { Baseline($0) }
        }
        var found: [Baseline] = []
        for name in self.names where name != "weir" && !self.isFile(name) {
            found.append(try Baseline.parse(name, study.context))
        }
        return found
    }

    /// Those that are tuned.
    func kinds(_ study: SimulationStudy) throws -> [Baseline] {
        if self.names.isEmpty { return Baseline.Kind.allCases.map { Baseline($0) } }
        let named = try self.baselines(study)
        return named.isEmpty ? Baseline.Kind.allCases.map { Baseline($0) } : named
    }
}

/// One of Weir's own policies, and what its file says of the model it is for.
struct OwnPolicy {
    var choice: PolicyChoice
    var concurrency: Int?
    var minReplicas: Int?
    var maxReplicas: Int?
    /// As `--objective` wants it.
    var objective: String?
    /// The variants of the model that are interchangeable, the first of which stands for them.
    var pool: [Variant] = []

    struct Variant {
        var name: String
        var scaling: VariantScalingSpec
    }

    /// The models of the file that share a budget with the first one.
    var sharing: SharedBudget?

    /// `Objective` as the only target, all else automatic.
    static func standard(_ quantile: Double) -> OwnPolicy {
        OwnPolicy(choice: .weir(name: "weir", ScalingPolicy(), quantile: quantile))
    }

    private init(choice: PolicyChoice) {
        self.choice = choice
    }

    /// Reads a file with a `ScalingPolicy`, and with a `Model` that uses it, or none.
    init(path: String, quantile: Double) throws {
        let loaded = ConfigurationLoader.load(paths: [path])
        guard let configuration = loaded.configuration else {
            Problems.write(loaded.problems)
            throw RuntimeError(description: "\(path) is no configuration: see above")
        }
        let model = configuration.models.first { $0.spec.scaling?.policy != nil }
        let named = model?.spec.scaling?.policy.flatMap {
            configuration.scalingPolicy($0, namespace: model?.metadata.namespace ?? "default")
        }
        guard let policy = named ?? configuration.scalingPolicies.first else {
            throw RuntimeError(description: "\(path) has no ScalingPolicy")
        }
        let objectives = model?.spec.objectives
        let wanted = objectives?.timeToFirstToken?.quantile ?? objectives?.latency?.quantile
        self.init(
            choice: .weir(
                name: policy.name,
                try ScalingPolicy(policy.spec, path),
                quantile: wanted ?? quantile
            )
        )
        guard let model else { return }
        let spec = model.spec
        self.sharing = try SharedBudget(of: model, in: configuration, path)
        if let pool = spec.servingPool() {
            let variants = spec.variants.filter { $0.pool == pool }
            self.pool = variants.map { Variant(name: $0.name, scaling: $0.scaling) }
        }
        if case .perReplica(let limit) = spec.concurrency { self.concurrency = limit }
        self.minReplicas = spec.scaling?.minReplicas
        self.maxReplicas = spec.scaling?.maxReplicas
        let parts = [
            ("ttft", spec.objectives.timeToFirstToken), ("latency", spec.objectives.latency),
        ]
        .compactMap { name, objective in
            objective.map { "\(name):\($0.below.secondsAsDouble)s" }
        }
        self.objective = parts.isEmpty ? nil : parts.joined(separator: ",")
    }
}

/// A `ResourceBudget` and the models that share it, each with its own copy of the traffic.
struct SharedBudget {
    struct Member {
        var name: String
        var concurrency: Int?
        var minReplicas: Int
        var maxReplicas: Int
        /// Units of the budget that a replica takes.
        var units: Int
        var weight: Int
        var priority: Int
        var objective: ServiceObjective?
    }

    var total: Int
    var members: [Member]

    /// Nil where the model has no budget.
    init?(of model: ModelResource, in configuration: Configuration, _ path: String) throws {
        guard let name = model.spec.scaling?.budget?.name else { return nil }
        guard let budget = configuration.resourceBudgets.first(where: { $0.name == name }) else {
            throw RuntimeError(description: "\(path) has no ResourceBudget \(name)")
        }
        let sharing = configuration.models.filter { $0.spec.scaling?.budget?.name == name }
        if let other = sharing.first(where: {
            $0.spec.scaling?.policy != model.spec.scaling?.policy
        }) {
            throw RuntimeError(
                description: "\(path): \(other.name) shares the budget \(name) and has another "
                    + "scaling policy than \(model.name): a simulation has one policy for all"
            )
        }
        guard sharing.count <= SimulationLimits.modelsMax else {
            throw RuntimeError(
                description: "\(path): \(sharing.count) models share the budget \(name): "
                    + "a simulation has at most \(SimulationLimits.modelsMax)"
            )
        }
        self.total = budget.spec.total
        self.members = sharing.compactMap { model in
            model.spec.scaling.map { Member(model.name, model.spec, $0) }
        }
    }

    /// Replicas of each model at the beginning: what all have room for.
    func replicasAtStart(_ wanted: Int) -> Int {
        let round = self.members.reduce(0) { $0 + $1.units }
        return min(wanted, round > 0 ? self.total / round : wanted)
    }
}

extension SharedBudget.Member {
    fileprivate init(_ name: String, _ spec: ModelSpec, _ scaling: ModelScalingSpec) {
        var objective = ServiceObjective()
        objective.firstToken = spec.objectives.timeToFirstToken?.below.secondsAsDouble
        objective.latency = spec.objectives.latency?.below.secondsAsDouble
        var concurrency: Int?
        if case .perReplica(let limit) = spec.concurrency { concurrency = limit }
        self.init(
            name: name,
            concurrency: concurrency,
            minReplicas: scaling.minReplicas,
            maxReplicas: scaling.maxReplicas,
            units: scaling.budget?.perReplica ?? 1,
            weight: scaling.budget?.weight ?? 1,
            priority: scaling.priority,
            objective: objective.firstToken == nil && objective.latency == nil ? nil : objective
        )
    }
}

extension ScalingPolicy {
    /// What a resource says, as the autoscaler takes it.
    init(_ spec: ScalingPolicySpec, _ path: String) throws {
        var goals: [ScalingGoal] = []
        for target in spec.targets {
            switch target {
            case .concurrency(let value): goals.append(.concurrency(value))
            case .queueWait(let quantile, let below):
                goals.append(.queueWait(quantile: quantile, below: below))
            case .objective: goals.append(.objective)
            case .requestRate(let value): goals.append(.requestRate(value))
            case .tokenRate(let value): goals.append(.tokenRate(value))
            case .kvCache(let share): goals.append(.kvCache(share.fraction))
            case .schedule(let cron?, let duration, let replicas):
                goals.append(.schedule(cron, duration: duration, replicas: replicas))
            case .gpuUtilization, .prometheus, .schedule(nil, _, _):
                throw RuntimeError(
                    description: "\(path): a simulation has no GPU meters and no Prometheus: "
                        + "leave those targets out"
                )
            }
        }
        self.init(
            targets: goals.isEmpty ? [.objective] : goals,
            stableWindow: spec.windows.stable,
            burstWindow: spec.windows.burst,
            forecastHorizon: Self.setting(spec.forecastHorizon),
            scaleUp: Self.speed(spec.scaleUp),
            scaleDown: Self.speed(spec.scaleDown),
            idleAfter: spec.scaleToZeroAfter,
            isDryRun: spec.dryRun
        )
    }

    private static func setting(_ setting: DurationSetting) -> AutomaticDuration {
        switch setting {
        case .automatic: .automatic
        case .off: .off
        case .fixed(let duration): .fixed(duration)
        }
    }

    private static func speed(_ rate: ScalingRate) -> ScalingSpeed {
        ScalingSpeed(
            stabilization: self.setting(rate.stabilization),
            maxPerMinute: rate.maxPerMinute
        )
    }
}
