/// A model as clients see it, and the variants that serve it.
package struct ModelSpec: Sendable, Hashable {
    /// What clients and replicas speak: it decides routing and the shape of errors.
    package enum ModelProtocol: String, Sendable, CaseIterable {
        case openAI = "OpenAI"
        case openInference = "OpenInference"
        case http = "HTTP"
        case grpc = "GRPC"
    }

    package var `protocol`: ModelProtocol
    /// Further names clients may use. `*` makes it the model of every name that no other one has.
    package var aliases: [String]
    /// Only on these hosts, where any are given. `*.example.com` stands for every name below it.
    package var hostnames: [String]
    package var paths: [PathSpec]
    /// At least one.
    package var variants: [VariantSpec]
    /// The variant that should serve; the only one where there is only one. Nil: `weights` decide.
    package var live: String?
    /// A fixed split, in the order of the file. Empty: all to `live`. Variants left out have 0.
    package var weights: [VariantWeight]
    /// In lower case. A request that names a variant in this header goes there.
    package var overrideHeader: String?
    package var sticky: StickySpec?
    package var mirror: MirrorSpec?
    package var loadBalancing: LoadBalancingSpec
    package var concurrency: ConcurrencySpec
    package var queue: QueueSpec
    package var timeouts: TimeoutsSpec
    package var retry: RetrySpec
    package var outlier: OutlierSpec
    package var compression: CompressionSpec
    /// How fixed endpoints are asked whether they are ready. Nil: an open port is enough.
    package var healthCheck: ProbeSpec?
    package var objectives: ObjectivesSpec
    package var scaling: ModelScalingSpec?
    /// The name of a `RolloutPolicy`. Nil: a change of `live` takes effect at once.
    package var rolloutPolicy: String?

    /// The alias that matches every name without a model of its own.
    package static let catchAllAlias = "*"

    /// What a `Model` without any field but its variants says; it has no variants.
    package static let defaults = ModelSpec(Schemas.defaults(of: .model), source: .program)

    package var isCatchAll: Bool { self.aliases.contains(Self.catchAllAlias) }

    /// The weights of `variants`, in their order, as they are without a rollout.
    package var variantWeights: [Int] {
        if self.weights.isEmpty { return self.variants.map { $0.name == self.live ? 100 : 0 } }
        return self.variants.map { variant in
            self.weights.first { $0.variant == variant.name }?.weight ?? 0
        }
    }

    package func variant(named name: String) -> VariantSpec? {
        self.variants.first { $0.name == name }
    }

    init(_ record: Record, source: ResourceSource) {
        let variants = record.records("variants").map { VariantSpec($0, source: source) }
        self.protocol = record.choice("protocol")
        self.aliases = record.texts("aliases")
        self.hostnames = record.texts("hostnames")
        self.paths = record.records("paths").map(PathSpec.init)
        self.variants = variants
        self.weights = record.entries("weights").compactMap(VariantWeight.init)
        let onlyVariant = variants.count == 1 ? variants.first?.name : nil
        self.live = record.optionalText("live") ?? onlyVariant
        self.overrideHeader = record.optionalText("overrideHeader")?.lowercased()
        self.sticky = record.optionalRecord("sticky").flatMap(StickySpec.init)
        self.mirror = record.optionalRecord("mirror").map(MirrorSpec.init)
        self.loadBalancing = LoadBalancingSpec(record.record("loadBalancing"))
        self.concurrency = ConcurrencySpec(record.record("concurrency"))
        self.queue = QueueSpec(record.record("queue"))
        self.timeouts = TimeoutsSpec(record.record("timeouts"))
        self.retry = RetrySpec(record.record("retry"))
        self.outlier = OutlierSpec(record.record("outlier"))
        self.compression = CompressionSpec(record.record("compression"))
        self.healthCheck = record.optionalRecord("healthCheck").map(ProbeSpec.init)
        self.objectives = ObjectivesSpec(record.record("objectives"))
        self.scaling = record.optionalRecord("scaling").map(ModelScalingSpec.init)
        self.rolloutPolicy = record.optionalRecord("rollout").map { $0.text("policy") }
    }
}

/// Which paths belong to a model of protocol HTTP or GRPC.
package struct PathSpec: Sendable, Hashable {
    /// Starts with `/`; matches whole segments.
    package var prefix: String

    init(_ record: Record) {
        self.prefix = record.text("prefix")
    }
}

package struct VariantSpec: Sendable, Hashable {
    package var name: String
    package var backend: Backend
    /// How `https` endpoints are asked; nil where nothing is said about it.
    package var tls: UpstreamTLSSpec?
    /// Variants with the same one are interchangeable; nil: it is so with none.
    package var pool: String?
    package var scaling = VariantScalingSpec()

    /// Where a variant's replicas come from.
    package enum Backend: Sendable, Hashable {
        case workload(WorkloadReference)
        /// Fixed addresses, never scaled.
        case endpoints([EndpointURL])
    }

    package init(name: String, backend: Backend) {
        self.name = name
        self.backend = backend
    }

    init(_ record: Record, source: ResourceSource) {
        self.name = record.text("name")
        self.tls = record.optionalRecord("tls").map { UpstreamTLSSpec($0, source: source) }
        self.pool = record.optionalText("pool")
        self.scaling = record.optionalRecord("scaling").map(VariantScalingSpec.init) ?? self.scaling
        if let reference = record.optionalRecord("workloadRef") {
            self.backend = .workload(WorkloadReference(reference))
        } else {
            self.backend = .endpoints(record.texts("endpoints").compactMap(EndpointURL.init(text:)))
        }
    }
}

/// What scaling is to know of one variant, where it is not as with the others.
package struct VariantScalingSpec: Sendable, Hashable {
    /// What a replica costs against those of the others; more than 0.
    package var cost = 1.0
    /// Nil: 0 in a pool, else the model's.
    package var minReplicas: Int?
    /// Nil: the model's.
    package var maxReplicas: Int?
    /// Units of the model's budget that a replica takes; nil: as the model says.
    package var budgetPerReplica: Int?

    package init() {}

    init(_ record: Record) {
        self.cost = record.decimal("cost")
        self.minReplicas = record.optionalInteger("minReplicas")
        self.maxReplicas = record.optionalInteger("maxReplicas")
        self.budgetPerReplica = record.optionalInteger("budgetPerReplica")
    }
}

/// Whom to trust of the servers at `https` endpoints, and what to show them. Files in PEM,
/// resolved; read again when they change.
package struct UpstreamTLSSpec: Sendable, Hashable {
    /// Nil: the system's authorities.
    package var authority: String?
    package var certificate: String?
    package var key: String?
    /// What the servers' certificates must be for; nil: the host of the endpoint.
    package var serverName: String?
    package var insecureSkipVerify = false

    package init() {}

    init(_ record: Record, source: ResourceSource) {
        self.authority = record.optionalText("ca").map(source.resolve)
        self.certificate = record.optionalText("certificate").map(source.resolve)
        self.key = record.optionalText("key").map(source.resolve)
        self.serverName = record.optionalText("serverName")
        self.insecureSkipVerify = record.boolean("insecureSkipVerify")
    }

    /// Everything that is read.
    package var files: [String] {
        [self.authority, self.certificate, self.key].compactMap { $0 }
    }
}

/// A workload that Weir may resize.
package struct WorkloadReference: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case processDeployment = "ProcessDeployment"
        /// Of `apps/v1`, on a cluster.
        case deployment = "Deployment"
        /// Of `apps/v1`, on a cluster.
        case statefulSet = "StatefulSet"
        /// Of `leaderworkerset.x-k8s.io/v1`, on a cluster.
        case leaderWorkerSet = "LeaderWorkerSet"

        /// Whether it is known to a cluster, and not to this machine.
        package var isOnCluster: Bool { self != .processDeployment }
    }

    package var kind: Kind
    package var name: String
    /// The port its pods listen on; only on a cluster, and always there.
    package var port: Int?

    init(_ record: Record) {
        self.kind = record.choice("kind")
        self.name = record.text("name")
        self.port = record.optionalInteger("port")
    }
}

package struct VariantWeight: Sendable, Hashable {
    package var variant: String
    package var weight: Int

    package init(variant: String, weight: Int) {
        self.variant = variant
        self.weight = weight
    }

    init?(_ entry: MapEntry) {
        guard entry.isValid, case .integer(let weight) = entry.value.value else { return nil }
        self.init(variant: entry.key, weight: weight)
    }
}

/// By what the same client keeps getting the same variant.
package enum StickySpec: Sendable, Hashable {
    /// In lower case.
    case header(String)
    case cookie(String)

    init?(_ record: Record) {
        if let header = record.optionalText("header") {
            self = .header(header.lowercased())
        } else if let cookie = record.optionalText("cookie") {
            self = .cookie(cookie)
        } else {
            return nil
        }
    }
}

/// Copies of a share of the requests, whose answers are thrown away.
package struct MirrorSpec: Sendable, Hashable {
    package var to: String
    package var sample: Percent

    init(_ record: Record) {
        self.to = record.text("to")
        self.sample = record.percent("sample")
    }
}

package struct LoadBalancingSpec: Sendable, Hashable {
    package enum Policy: String, Sendable, CaseIterable {
        case leastLoaded = "LeastLoaded"
        case roundRobin = "RoundRobin"
        case prefixAffinity = "PrefixAffinity"
        case consistentHash = "ConsistentHash"
    }

    package var policy: Policy
    /// For ConsistentHash: the header whose value is hashed, in lower case. Nil: the sticky key,
    /// else the client's address.
    package var header: String?

    init(_ record: Record) {
        self.policy = record.choice("policy")
        self.header = record.optionalText("header")?.lowercased()
    }
}

/// How many requests one replica works on at a time.
package enum ConcurrencySpec: Sendable, Hashable {
    case unlimited
    case perReplica(Int)
    /// Found out from how latency answers to concurrency.
    case adaptive

    init(_ record: Record) {
        if let limit = record.optionalInteger("perReplica") {
            self = .perReplica(limit)
        } else {
            self = record.boolean("adaptive") ? .adaptive : .unlimited
        }
    }
}

package struct QueueSpec: Sendable, Hashable {
    /// Requests that may wait; 0 turns waiting off.
    package var capacity: Int
    /// Bytes of bodies that waiting requests may hold.
    package var maxBytes: Int
    package var timeout: Duration

    init(_ record: Record) {
        self.capacity = record.integer("capacity")
        self.maxBytes = record.integer("maxBytes")
        self.timeout = record.duration("timeout")
    }
}

package struct TimeoutsSpec: Sendable, Hashable {
    package var connect: Duration
    package var firstByte: Duration
    package var request: Duration
    package var streamIdle: Duration

    init(_ record: Record) {
        self.connect = record.duration("connect")
        self.firstByte = record.duration("firstByte")
        self.request = record.duration("request")
        self.streamIdle = record.duration("streamIdle")
    }
}

package struct RetrySpec: Sendable, Hashable {
    /// Tries of one request in all, the first included; 1 turns retries off.
    package var attempts: Int
    /// The share of requests that may be retries.
    package var budget: Percent

    init(_ record: Record) {
        self.attempts = record.integer("attempts")
        self.budget = record.percent("budget")
    }
}

package struct OutlierSpec: Sendable, Hashable {
    /// Failures in a row that eject a replica; 0 turns ejection off.
    package var consecutiveErrors: Int
    package var ejectFor: Duration
    package var maxEjected: Percent

    init(_ record: Record) {
        self.consecutiveErrors = record.integer("consecutiveErrors")
        self.ejectFor = record.duration("ejectFor")
        self.maxEjected = record.percent("maxEjected")
    }
}

/// What is compressed on the way to clients, and decoded on the way to replicas.
package struct CompressionSpec: Sendable, Hashable {
    package enum Requests: String, Sendable, CaseIterable {
        /// They go on as they came.
        case forward = "Forward"
        /// They go on decoded.
        case decode = "Decode"
    }

    package var answers: Bool
    package var streams: Bool
    /// Shorter answers stay as they are.
    package var minBytes: Int
    package var requests: Requests

    init(_ record: Record) {
        self.answers = record.boolean("answers")
        self.streams = record.boolean("streams")
        self.minBytes = record.integer("minBytes")
        self.requests = record.choice("requests")
    }
}

/// A question asked again and again whether a server is ready.
package struct ProbeSpec: Sendable, Hashable {
    /// Of a GET that must be answered with 2xx or 3xx. With neither this nor `service` an open port
    /// is enough.
    package var path: String?
    /// Asked for by gRPC's health service; empty for the server as a whole. Nil: not asked so.
    package var service: String?
    package var period: Duration
    package var timeout: Duration
    /// Good answers in a row that make it ready.
    package var successThreshold: Int
    /// Bad answers in a row that make it unready.
    package var failureThreshold: Int

    init(_ record: Record) {
        self.path = record.optionalText("path")
        self.service = record.optionalRecord("grpc").map { $0.text("service") }
        self.period = record.duration("period")
        self.timeout = record.duration("timeout")
        self.successThreshold = record.integer("successThreshold")
        self.failureThreshold = record.integer("failureThreshold")
    }
}

/// What good service means; used by scaling, rollouts and dashboards.
package struct ObjectivesSpec: Sendable, Hashable {
    package var successRate: Percent?
    package var latency: LatencyObjective?
    package var timeToFirstToken: LatencyObjective?

    init(_ record: Record) {
        self.successRate = record.optionalPercent("successRate")
        self.latency = record.optionalRecord("latency").map(LatencyObjective.init)
        self.timeToFirstToken = record.optionalRecord("timeToFirstToken").map(LatencyObjective.init)
    }
}

package struct LatencyObjective: Sendable, Hashable {
    /// Between 0 and 1.
    package var quantile: Double
    package var below: Duration

    init(_ record: Record) {
        self.quantile = record.decimal("quantile")
        self.below = record.duration("below")
    }
}

package struct ModelScalingSpec: Sendable, Hashable {
    /// The name of a `ScalingPolicy`. Nil: the number of replicas stays as it was set.
    package var policy: String?
    package var minReplicas: Int
    package var maxReplicas: Int
    /// Against the other models of its budget; higher first.
    package var priority: Int
    package var budget: BudgetShareSpec?

    /// Variants of one model that a policy scales.
    package static let variantsMax = 16

    init(_ record: Record) {
        self.policy = record.optionalText("policy")
        self.minReplicas = record.integer("minReplicas")
        self.maxReplicas = record.integer("maxReplicas")
        self.priority = record.integer("priority")
        self.budget = record.optionalRecord("budget").map(BudgetShareSpec.init)
    }
}

/// What a model's replicas take from a `ResourceBudget`.
package struct BudgetShareSpec: Sendable, Hashable {
    /// The budget's name.
    package var name: String
    /// Units of the resource that one replica takes.
    package var perReplica: Int
    /// Its part when there is not enough for all, in proportion to the others.
    package var weight: Int

    init(_ record: Record) {
        self.name = record.text("name")
        self.perReplica = record.integer("perReplica")
        self.weight = record.integer("weight")
    }
}
