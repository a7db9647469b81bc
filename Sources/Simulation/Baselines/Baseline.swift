import Core

/// What a baseline may know of its model beforehand: what its users would write into its
/// configuration.
package struct BaselineContext: Sendable {
    /// Requests that a replica works on at a time.
    package var slots: Double
    package var minimum: Int
    package var maximum: Int
    /// Seconds from asking for a replica to its being ready, and from draining to gone.
    package var coldStart: Double
    package var drain: Double
    /// Seconds to the first token; what latency-driven policies aim at.
    package var firstToken: Double

    package init(
        slots: Double,
        minimum: Int,
        maximum: Int,
        coldStart: Double,
        drain: Double,
        firstToken: Double
    ) {
        self.slots = slots
        self.minimum = minimum
        self.maximum = maximum
        self.coldStart = coldStart
        self.drain = drain
        self.firstToken = firstToken
    }

    package init(_ model: SimulatedModel) {
        self.init(
            slots: Double(model.concurrency ?? 16),
            minimum: model.replicasMin,
            maximum: model.replicasMax,
            coldStart: model.coldStart.median,
            drain: model.exit,
            firstToken: model.objective.firstToken ?? model.objective.latency ?? 1
        )
    }
}

/// A policy by its name with parameters, as `kpa:target=5`.
package struct Baseline: Hashable, Sendable, CustomStringConvertible {
    /// The kinds there are.
    package enum Kind: String, CaseIterable, Sendable {
        case hpa
        case hpaTuned = "hpa-tuned"
        case hpaQueue = "hpa-queue"
        case hpaKV = "hpa-kv"
        case kpa
        case keda
        case ray
        case apa
        case wvaV1 = "wva-v1"
        case wva
        case dynamo
        case fixed = "static"
        case breakEven = "break-even"
        case lcp
    }

    /// What can be changed: a name, the value without it, what it is, and its bounds.
    package struct Parameter: Sendable {
        package var name: String
        package var value: Double
        package var range: ClosedRange<Double>
        package var meaning: String
    }

    package var kind: Kind
    /// Only those that differ from the default.
    package var values: [String: Double] = [:]

    package init(_ kind: Kind, _ values: [String: Double] = [:]) {
        self.kind = kind
        self.values = values
    }

    /// Reads `NAME` or `NAME:PARAMETER=NUMBER,…`.
    package static func parse(
        _ text: String,
        _ context: BaselineContext
    ) throws(SimulationError) -> Baseline {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let kind = Kind(rawValue: String(parts[0])) else {
            let names = Kind.allCases.map(\.rawValue).joined(separator: ", ")
            throw SimulationError("\(parts[0]) is no baseline: there are \(names)")
        }
        var result = Baseline(kind)
        guard parts.count == 2 else { return result }
        let known = kind.parameters(context)
        for assignment in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
            let halves = assignment.split(separator: "=", omittingEmptySubsequences: false)
            guard halves.count == 2, let value = Double(String(halves[1])) else {
                throw SimulationError("\(assignment) in \(text) is no PARAMETER=NUMBER")
            }
            let name = String(halves[0])
            guard let parameter = known.first(where: { $0.name == name }) else {
                let names = known.map(\.name).joined(separator: ", ")
                throw SimulationError(
                    "\(kind.rawValue) has no parameter \(name): there are \(names)"
                )
            }
            guard parameter.range.contains(value) else {
                throw SimulationError(
                    "\(name) of \(kind.rawValue) must be \(parameter.range.lowerBound) to "
                        + "\(parameter.range.upperBound), not \(value)"
                )
            }
            result.values[name] = value
        }
        return result
    }

    package var description: String {
        if self.values.isEmpty { return self.kind.rawValue }
        let values = self.values.sorted { $0.key < $1.key }
            .map { "\($0.key)=\(Self.short($0.value))" }
        return "\(self.kind.rawValue):\(values.joined(separator: ","))"
    }

    private static func short(_ value: Double) -> String {
        let rounded = (value * 100).rounded() / 100
        return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }

    /// The policy itself.
    package func policy(_ context: BaselineContext) -> any ReplicaPolicy {
        var known: [String: Double] = [:]
        for parameter in self.kind.parameters(context) { known[parameter.name] = parameter.value }
        known.merge(self.values) { _, given in given }
        return self.kind.make(context, BaselineValues(values: known))
    }
}

/// Parameters that are known to be there.
struct BaselineValues {
    let values: [String: Double]

    subscript(name: String) -> Double {
        guard let value = self.values[name] else { preconditionFailure("no parameter \(name)") }
        return value
    }
}

/// What was asked of the simulation cannot be done, in words.
package struct SimulationError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

extension Baseline.Kind {
    /// The one that decides between cost and service; larger values mean fewer replicas, but for
    /// `static`.
    package var knob: String {
        switch self {
        case .hpa, .hpaTuned, .hpaQueue, .hpaKV, .kpa, .keda, .ray, .apa, .breakEven, .lcp: "target"
        case .wvaV1: "kv"
        case .wva: "up"
        case .dynamo: "sla"
        case .fixed: "replicas"
        }
    }

    /// In the order in which help shows them.
    package func parameters(_ context: BaselineContext) -> [Baseline.Parameter] {
        let slots = context.slots
        func target(_ value: Double, _ meaning: String) -> Baseline.Parameter {
            .init(name: "target", value: value, range: 0.01...1e6, meaning: meaning)
        }
        let load = "requests in flight and queued per replica"
        switch self {
        case .hpa, .hpaTuned:
            return [
                target(slots * 0.7, load), Self.seconds("up", 0, "stabilisation up"),
                Self.seconds(
                    "down",
                    self == .hpa ? 300 : context.coldStart + context.drain,
                    "and down"
                ),
            ]
        case .hpaQueue: return self.hpaParameters(target(3, "queued requests per replica"))
        case .hpaKV:
            return self.hpaParameters(
                .init(name: "target", value: 0.7, range: 0.01...1, meaning: "use of the KV cache")
            )
        case .kpa:
            return [
                target(slots, load), Self.seconds("window", 60, "stable window"),
                .init(name: "utilization", value: 0.7, range: 0.01...1, meaning: "of the target"),
                Self.seconds("delay", 0, "scale-down delay"),
            ]
        case .keda:
            return [
                target(slots * 0.7, load),
                Self.seconds("cooldown", 300, "before the last one goes"),
                Self.seconds("poll", 0, "look at zero replicas; 0: the add-on pushes"),
                Self.seconds("down", 300, "stabilisation down"),
            ]
        case .ray:
            return [
                target(slots * 0.7, "ongoing requests per replica"),
                Self.seconds("up", 30, "delay up"),
                Self.seconds("down", 600, "and down"),
            ]
        case .apa:
            return [target(slots * 0.7, load), Self.seconds("down", 300, "cooldown down")]
        case .wvaV1, .wva, .dynamo: return self.serverParameters
        case .fixed:
            return [
                .init(name: "replicas", value: 1, range: 0...4_096, meaning: "how many")
            ]
        case .breakEven: return [target(slots * 0.7, load)]
        case .lcp:
            return [
                target(slots * 0.7, load),
                .init(
                    name: "penalty",
                    value: 20,
                    range: 0.01...1e6,
                    meaning: "cost of a second without a replica that is needed"
                ),
            ]
        }
    }

    private func hpaParameters(_ target: Baseline.Parameter) -> [Baseline.Parameter] {
        [
            target, Self.seconds("up", 0, "stabilisation up"),
            Self.seconds("down", 300, "and down"),
        ]
    }

    private static func seconds(
        _ name: String,
        _ value: Double,
        _ meaning: String
    ) -> Baseline.Parameter {
        .init(name: name, value: value, range: 0...86_400, meaning: meaning)
    }

    /// Of those that look into the servers.
    private var serverParameters: [Baseline.Parameter] {
        switch self {
        case .wvaV1:
            return [
                .init(name: "kv", value: 0.8, range: 0.05...1, meaning: "KV threshold"),
                .init(name: "queue", value: 5, range: 0...1e4, meaning: "queue threshold"),
                Self.seconds("down", 300, "stabilisation down of the HPA behind it"),
            ]
        case .wva:
            return [
                .init(name: "up", value: 0.85, range: 0.05...2, meaning: "use to scale up at"),
                Self.seconds("down", 300, "stabilisation down of the HPA behind it"),
            ]
        case .dynamo:
            return [
                .init(name: "sla", value: 1, range: 0.01...100, meaning: "share of the objective"),
                .init(name: "sensitivity", value: 0.8, range: 0.01...1, meaning: "to scale down"),
            ]
        default: return []
        }
    }

    /// The values of the knob that tuning looks at, from most replicas to fewest.
    package func knobRange(_ context: BaselineContext) -> (values: [Double], isCount: Bool) {
        let shares = [
            0.12, 0.18, 0.25, 0.32, 0.4, 0.48, 0.55, 0.62, 0.7, 0.77, 0.85, 0.92, 1, 1.1, 1.25, 1.5,
            2, 3,
        ]
        switch self {
        case .hpa, .hpaTuned, .kpa, .keda, .ray, .apa, .breakEven, .lcp:
            return (shares.map { $0 * context.slots }, false)
        case .hpaQueue: return ([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 5, 8, 12, 20], false)
        case .hpaKV: return (shares.filter { $0 <= 1 }, false)
        case .wvaV1: return ([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1], false)
        case .wva: return (shares.filter { $0 <= 1.5 }, false)
        case .dynamo: return ([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 4], false)
        case .fixed: return ((0...context.maximum).reversed().map(Double.init), true)
        }
    }

    func make(_ context: BaselineContext, _ values: BaselineValues) -> any ReplicaPolicy {
        let bounds = max(1, context.minimum)...max(1, context.maximum)
        switch self {
        case .hpa, .hpaTuned, .hpaQueue, .hpaKV: return self.hpa(values, bounds)
        case .kpa:
            return KPA(
                target: values["target"] * values["utilization"],
                stableWindow: Int(max(6, values["window"])),
                scaleDownDelay: values["delay"],
                bounds: context.minimum...max(1, context.maximum)
            )
        case .keda:
            return KEDA(
                target: values["target"],
                cooldown: values["cooldown"],
                polling: values["poll"],
                bounds: context.minimum...max(1, context.maximum),
                behavior: .init(upWindow: 0, downWindow: values["down"])
            )
        case .ray:
            return RayServe(
                target: values["target"],
                upDelay: values["up"],
                downDelay: values["down"],
                bounds: context.minimum...max(1, context.maximum)
            )
        case .apa:
            return APA(target: values["target"], downCooldown: values["down"], bounds: bounds)
        case .wvaV1:
            return WVAV1(
                cacheThreshold: values["kv"],
                queueThreshold: values["queue"],
                bounds: bounds,
                behavior: .init(upWindow: 0, downWindow: values["down"])
            )
        case .wva:
            return WVA(
                upThreshold: values["up"],
                bounds: bounds,
                behavior: .init(upWindow: 0, downWindow: values["down"])
            )
        case .dynamo:
            return DynamoLoad(
                sla: values["sla"] * context.firstToken,
                sensitivity: values["sensitivity"],
                bounds: bounds
            )
        case .fixed: return FixedReplicas(count: Int(values["replicas"]))
        case .breakEven:
            return BreakEven(
                target: values["target"],
                timeout: context.coldStart + context.drain,
                bounds: context.minimum...max(1, context.maximum)
            )
        case .lcp:
            return LCP(
                target: values["target"],
                penalty: values["penalty"],
                switching: context.coldStart + context.drain,
                bounds: context.minimum...max(1, context.maximum)
            )
        }
    }

    private func hpa(_ values: BaselineValues, _ bounds: ClosedRange<Int>) -> HPA {
        let metric: HPA.Metric =
            switch self {
            case .hpaQueue: .queue
            case .hpaKV: .cache
            default: .load
            }
        return HPA(
            metric: metric,
            target: values["target"],
            bounds: bounds,
            behavior: .init(upWindow: values["up"], downWindow: values["down"])
        )
    }
}
