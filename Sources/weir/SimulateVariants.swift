import ArgumentParser
import Autoscaling
import Configuration
import Core
import Rollouts
import Simulation
import Workload

/// Several variants of one model: interchangeable ones, and one that is rolled out.
struct SimulatedVariantFlags: ParsableArguments {
    @Option(
        name: .customLong("variant"),
        help: """
            A further variant that is interchangeable with the first, such as \
            big:cost=3.2,speed=2.5,gpus=2; may be given several times. \(Self.grammar)
            """
    )
    var variants: [String] = []
    @Option(
        help: """
            A new variant that is rolled out while the traffic runs, such as \
            next:at=10m,errors=0.02,speed=0.8; the settings are those of --variant (cost and speed \
            as the first's), and at and errors: when it begins, and the share of its answers that \
            are errors.
            """
    )
    var canary: String?
    @Option(
        help: "A file with the RolloutPolicy for it. Default: 5, 25 and 50 percent, 5 min each."
    )
    var rolloutPolicy: String?

    private static let grammar = """
        Settings: cost (of a replica; default 1), speed (against the first; default as it costs), \
        gpus, min, max, concurrency, cold-start and start-failure.
        """

    func validate() throws {
        for text in self.variants { _ = try VariantSettings(text, isCanary: false) }
        if let canary = self.canary { _ = try VariantSettings(canary, isCanary: true) }
        if self.rolloutPolicy != nil, self.canary == nil {
            throw ValidationError("--rollout-policy needs --canary: nothing is rolled out")
        }
    }

    /// Whether a world has more than one variant.
    func areThere(_ own: OwnPolicy?) -> Bool {
        !self.variants.isEmpty || self.canary != nil || (own?.pool.count ?? 0) > 1
    }

    /// What makes worlds have these variants.
    func adapter(own: OwnPolicy?) throws -> (Scenario) -> Scenario {
        let pool = try self.settings(own)
        let canary = try self.canary.map { try VariantSettings($0, isCanary: true) }
        if pool.isEmpty, canary == nil { return { $0 } }
        let plan = try self.plan()
        let first = own?.pool.first
        try Self.checkNames(
            [first?.name ?? Self.firstName] + (pool + [canary].compactMap { $0 }).map(\.name)
        )
        return { scenario in
            let make = scenario.make
            var result = scenario
            result.make = { seed, coldStart in
                var setup = make(seed, coldStart)
                guard setup.models.count == 1 else { return setup }
                setup.models[0].name = first?.name ?? Self.firstName
                if let scaling = first?.scaling { setup.models[0].take(scaling) }
                let base = setup.models[0]
                for settings in pool { setup.models.append(settings.variant(of: base)) }
                guard let canary else { return setup }
                var variant = canary.variant(of: base)
                variant.isInterchangeable = false
                variant.faults.errorRate = canary.errors
                setup.rollout = SimulatedRollout(
                    canary: setup.models.count,
                    plan: plan,
                    startsAt: canary.at
                )
                setup.models.append(variant)
                return setup
            }
            return result
        }
    }

    /// Of the variant that no flag and no file names.
    private static let firstName = "first"

    private static func checkNames(_ names: [String]) throws {
        for (index, name) in names.enumerated() where names[..<index].contains(name) {
            throw ValidationError(
                "two variants are called \(name): give --variant and --canary names of their own"
            )
        }
    }

    /// Those of the policy's file, with what flags say of them, then those of flags alone.
    private func settings(_ own: OwnPolicy?) throws -> [VariantSettings] {
        var named = try self.variants.map { try VariantSettings($0, isCanary: false) }
        var found: [VariantSettings] = []
        for variant in own?.pool.dropFirst() ?? [] {
            let index = named.firstIndex { $0.name == variant.name }
            found.append(VariantSettings(variant, index.map { named.remove(at: $0) }))
        }
        return found + named
    }

    private func plan() throws -> RolloutPlan {
        guard let path = self.rolloutPolicy else {
            var plan = RolloutPlan(
                steps: [5, 25, 50].map { RolloutStep.weight($0, hold: .seconds(300)) }
            )
            plan.onInconclusive = .promote
            return plan
        }
        let loaded = ConfigurationLoader.load(paths: [path])
        guard let configuration = loaded.configuration else {
            Problems.write(loaded.problems)
            throw RuntimeError(description: "\(path) is no configuration: see above")
        }
        guard let policy = configuration.rolloutPolicies.first else {
            throw RuntimeError(description: "\(path) has no RolloutPolicy")
        }
        let objectives = configuration.models.first?.spec.objectives
        let (plan, leftOut) = SimulatedRollout.playable(
            policy.spec.plan(objectives ?? ModelSpec.defaults.objectives)
        )
        if !leftOut.isEmpty {
            Output.error(
                "RolloutPolicy \(policy.name) without its \(leftOut.joined(separator: ", ")): "
                    + "nobody answers them in a simulation"
            )
        }
        return plan
    }
}

extension SimulatedModel {
    /// What a file says of the first variant of a pool.
    fileprivate mutating func take(_ scaling: VariantScalingSpec) {
        self.cost = scaling.cost
        self.replicasMax = scaling.maxReplicas ?? self.replicasMax
        self.replicasMinTogether = self.replicasMin
        self.replicasMin = min(self.replicasMin, self.replicasMax)
        self.replicasMinOwn = min(scaling.minReplicas ?? 0, self.replicasMax)
        self.gpusPerReplica = scaling.budgetPerReplica ?? self.gpusPerReplica
        self.replicasAtStart = min(max(self.replicasAtStart, self.replicasMinOwn), self.replicasMax)
    }
}

/// What is said of one variant on the command line. Nil: as with the first, or as a file says.
struct VariantSettings {
    var name: String
    var cost: Double?
    var speed: Double?
    var gpus: Int?
    var least: Int?
    var most: Int?
    var concurrency: Int?
    var coldStart: Delay?
    var startFailure: Double?
    /// Of a canary: seconds until it begins, and the share of errors.
    var at = 0.0
    var errors = 0.0
    private var isCanary = false

    init(_ text: String, isCanary: Bool) throws {
        let halves = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        self.name = String(halves[0])
        self.isCanary = isCanary
        guard !self.name.isEmpty, !self.name.contains("=") else {
            throw ValidationError("a variant begins with its name, such as big:cost=3, not \(text)")
        }
        guard halves.count == 2 else { return }
        for part in halves[1].split(separator: ",", omittingEmptySubsequences: false) {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2 else {
                throw ValidationError("\(self.name): settings are like cost=3, not `\(part)`")
            }
            try self.take(pair[0], pair[1])
        }
        if let least, let most, least > most {
            throw ValidationError("\(self.name): min=\(least) is more than max=\(most)")
        }
    }

    /// What a file says of a variant, with what flags say of it.
    init(_ variant: OwnPolicy.Variant, _ flags: VariantSettings?) {
        var settings = flags ?? VariantSettings(name: variant.name)
        settings.least = settings.least ?? variant.scaling.minReplicas
        settings.most = settings.most ?? variant.scaling.maxReplicas
        settings.gpus = settings.gpus ?? variant.scaling.budgetPerReplica
        settings.cost = settings.cost ?? variant.scaling.cost
        self = settings
    }

    private init(name: String) { self.name = name }

    private mutating func take(_ key: String, _ value: String) throws {
        func number(_ range: ClosedRange<Double>) throws -> Double {
            if let number = Double(value), range.contains(number) { return number }
            let (from, to) = (Self.text(range.lowerBound), Self.text(range.upperBound))
            throw ValidationError("\(self.name): \(key) must be \(from) to \(to), not \(value)")
        }
        func count(_ range: ClosedRange<Int>) throws -> Int {
            if let count = Int(value), range.contains(count) { return count }
            throw ValidationError(
                "\(self.name): \(key) must be \(range.lowerBound) to \(range.upperBound), "
                    + "not \(value)"
            )
        }
        switch key {
        case "cost": self.cost = try number(1e-6...1e9)
        case "speed": self.speed = try number(1e-3...1e3)
        case "gpus": self.gpus = try count(1...64)
        case "min": self.least = try count(0...SimulationLimits.replicasMax)
        case "max": self.most = try count(0...SimulationLimits.replicasMax)
        case "concurrency": self.concurrency = try count(1...65_536)
        case "start-failure": self.startFailure = try number(0...0.999_999)
        case "cold-start":
            guard let delay = Delay(value) else {
                throw ValidationError(
                    "\(self.name): cold-start must be like 60s or 20s..90s, not \(value)"
                )
            }
            self.coldStart = delay
        case "at" where self.isCanary:
            guard let seconds = TimeText.seconds(value), seconds >= 0 else {
                throw ValidationError("\(self.name): at must be a time such as 10m, not \(value)")
            }
            self.at = seconds
        case "errors" where self.isCanary: self.errors = try number(0...1)
        default:
            throw ValidationError(
                "\(self.name): no setting is called \(key); there are cost, speed, gpus, min, max, "
                    + "concurrency, cold-start, start-failure"
                    + (self.isCanary ? ", at and errors" : "; at and errors are for --canary")
            )
        }
    }

    private static func text(_ bound: Double) -> String {
        bound == bound.rounded() ? "\(Int(bound))" : DecimalText.fixed(bound, places: 6)
    }

    func variant(of base: SimulatedModel) -> SimulatedModel {
        var variant = base.variant(self.name, of: 0)
        variant.replicasMinOwn = 0
        variant.replicasMinTogether = nil
        variant.cost = self.cost ?? (self.isCanary ? base.cost : 1)
        variant.speed = self.speed ?? (self.isCanary ? base.speed : variant.cost / base.cost)
        if case .batching(let setup) = base.engine {
            variant.engine = .batching(setup.faster(by: variant.speed))
        }
        variant.gpusPerReplica = self.gpus ?? base.gpusPerReplica
        variant.replicasMin = self.least ?? 0
        variant.replicasMax = max(variant.replicasMin, self.most ?? base.replicasMax)
        variant.replicasAtStart = variant.replicasMin
        if let concurrency = self.concurrency { variant.concurrency = concurrency }
        if let coldStart = self.coldStart { variant.coldStart = coldStart }
        if let startFailure = self.startFailure { variant.faults.startFailure = startFailure }
        return variant
    }
}
