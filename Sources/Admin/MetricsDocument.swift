import Autoscaling
import Clusters
import Configuration
import Control
import Core
import HTTP
import Proxy
import Recorder
import Rollouts

/// Everything `/metrics` tells, gathered in one place before it is written.
///
/// Every configured model and variant is there from the start with zeros, so that a rate is right
/// from the first request on. Variants that have left the configuration keep their counters as long
/// as the workers do, and have no gauges of replicas and weights any more.
struct MetricsDocument {
    struct Variant {
        var name: String
        var statistics: VariantStatistics
        /// Absent for a variant that has left the configuration.
        var replicas: Replicas?
    }

    struct Replicas {
        var desired: Int
        var states: [ReplicaState: Int]
        /// Share of the model's requests, 0 to 100.
        var weightPercent: Double
        var coldStarts: LatencyHistogram
    }

    struct Model {
        var name: String
        /// Whether it makes tokens: then it is told under the names for generative models as well.
        var isGenerative: Bool
        var statistics: ModelStatistics
        var queueDepth: Int
        var variants: [Variant]
        /// Changes of replicas so far, with zeros for what may happen; empty where nobody scales.
        var decisions: [ScalingHistory.Kind: UInt64] = [:]
        /// Of rollouts so far; nil where the model has none.
        var verdicts: [Verdict: UInt64]?
    }

    var models: [Model]
    var workers: WorkerStatistics
    /// Of the listeners that speak TLS.
    var certificates: [ListenerCertificates.Facts]
    var configurationGeneration: UInt64
    var configurationErrors: UInt64
    var tenants: [(name: String, statistics: TenantShared.Statistics)] = []
    /// Of a gateway's parts of tenants' limits, in seconds; nil where there is no controller.
    var sharesAge: Double?
    /// Of the recorder since the start; zeros where it is off.
    var recorder = Recording()
    var process: ProcessFacts

    struct Recording {
        var written: UInt64 = 0
        var dropped: UInt64 = 0
        var bytes: UInt64 = 0
    }

    init(
        _ control: ControlPlane,
        _ statistics: GatewayStatistics,
        process: ProcessFacts = .current()
    ) {
        self.models = control.configuration.models.map {
            Self.model($0, control, statistics.models[$0.name])
        }
        self.workers = statistics.workers
        self.certificates = control.certificates?.facts ?? []
        self.configurationGeneration = control.configurationGeneration
        self.configurationErrors = control.configurationErrors
        self.tenants = control.tenants.map { ($0.name, $0.statistics) }
        let recorder = control.recording.counters
        self.recorder = Recording(
            written: recorder.written,
            dropped: recorder.dropped,
            bytes: recorder.bytes
        )
        self.process = process
    }

    private static func model(
        _ resource: ModelResource,
        _ control: ControlPlane,
        _ statistics: ModelStatistics?
    ) -> Model {
        let spec = resource.spec
        let measured = statistics?.variants ?? []
        let weights = control.weights(of: resource)
        let sum = weights.reduce(0, +)
        var variants: [Variant] = []
        for (variant, weight) in zip(spec.variants, weights) {
            let group = control.groupStatus(resource.name, variant)
            let name = control.groupName(resource.name, variant)
            var states: [ReplicaState: Int] = [:]
            for replica in group?.replicas ?? [] { states[replica.state, default: 0] += 1 }
            variants.append(
                Variant(
                    name: variant.name,
                    statistics: measured.first { $0.name == variant.name }
                        ?? VariantStatistics(name: variant.name),
                    replicas: Replicas(
                        desired: group?.desired ?? 0,
                        states: states,
                        weightPercent: sum > 0 ? 100 * Double(weight) / Double(sum) : 0,
                        coldStarts: control.coldStarts(ofGroup: name)
                    )
                )
            )
        }
        for gone in measured where !spec.variants.contains(where: { $0.name == gone.name }) {
            variants.append(Variant(name: gone.name, statistics: gone, replicas: nil))
        }
        return Model(
            name: resource.name,
            isGenerative: spec.protocol == .openAI,
            statistics: statistics ?? ModelStatistics(name: resource.name),
            queueDepth: control.queueDepth(of: resource.name),
            variants: variants,
            decisions: control.scaling.map { Self.decisions(resource.name, $0) } ?? [:],
            verdicts: control.rollouts?.controller(of: resource.name)?.verdicts
        )
    }

    private static func decisions(_ model: String, _ scaling: ScalingLoop)
        -> [ScalingHistory.Kind: UInt64]
    {
        guard let index = scaling.plan.index(of: model) else { return [:] }
        var counts: [ScalingHistory.Kind: UInt64] = [:]
        for reason in ScalingReason.possible(scaling.plan.models[index].setup.policy) {
            for direction in ScalingChange.Direction.allCases {
                counts[.init(direction: direction, reason: reason)] = 0
            }
        }
        return counts.merging(scaling.history.counts(of: model)) { $1 }
    }
}
