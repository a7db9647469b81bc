import Core
import HTTP
import Synchronization
import Traffic

/// Everything a worker needs to route a request, immutable, replaced as a whole.
///
/// The control side builds one, hands it to every worker, and each acknowledges its generation:
/// from then on no new request of that worker uses older weights or endpoints.
package final class TrafficSnapshot: Sendable {
    package let generation: UInt64
    /// Models by dense index; a removed model leaves a hole until its index is used again.
    package let models: [ModelRoute?]
    package let table: ModelTable
    /// Routes by host and path, for models of protocol HTTP.
    package let routes: HostPathTable
    package let limits: GatewayLimits
    /// Nil: the gateway is open to everybody.
    package let tenants: TenantDirectory?
    /// The models there are, as the end of a sentence: "are a, b". For error messages; made once, for
    /// anybody may ask for a model that is not there.
    package let knownNames: String

    package init(
        generation: UInt64,
        models: [ModelRoute?],
        table: ModelTable,
        routes: HostPathTable = HostPathTable(),
        limits: GatewayLimits,
        tenants: TenantDirectory? = nil
    ) {
        self.generation = generation
        self.models = models
        self.table = table
        self.routes = routes
        self.limits = limits
        self.tenants = tenants
        self.knownNames = Self.sentence(models)
    }

    /// Names shown in an error message, at most.
    private static let shownNamesMax = 20

    static func sentence(_ models: [ModelRoute?]) -> String {
        let names = models.compactMap { $0?.name }.sorted()
        if names.isEmpty { return "are none" }
        let shown = names.prefix(Self.shownNamesMax).joined(separator: ", ")
        let more = names.count - Self.shownNamesMax
        return (names.count == 1 ? "is " : "are ") + shown + (more > 0 ? " and \(more) more" : "")
    }
}

/// Bounds of the gateway as a whole; the defaults are those of the `Gateway` resource.
package struct GatewayLimits: Sendable, Equatable {
    /// Client connections over all workers; one more is answered 503 and closed.
    package var maxConnections = 10_000
    package var maxHeaderBytes = 32 * 1024
    package var maxHeaders = 100
    package var maxTargetBytes = 8 * 1024
    /// Most bytes of one body held to find the model's name or while the request waits.
    package var maxBufferedBody = 1024 * 1024
    /// A body up to this size is kept until its response begins, so that it can be sent again.
    package var maxReplayBody = 64 * 1024
    package var maxRequestBody: UInt64 = 512 * 1024 * 1024
    /// How many times its own size a coded body may become, beyond the first 128 KiB.
    package var maxDecodedRatio = 200
    /// From the first byte of a request head to its last, and from accept to the first request.
    package var headerTimeout = Duration.seconds(10)
    /// From accept to the end of a TLS handshake.
    package var handshakeTimeout = Duration.seconds(10)
    /// TLS handshakes with clients under way at once, per worker.
    package var maxHandshakes = 512
    /// Between requests on a kept connection, and between two reads of a request body.
    package var idleTimeout = Duration.seconds(60)
    /// Idle connections kept per worker and endpoint.
    package var maxIdleUpstreams = 256
    /// Below the 5 s after which common model servers (uvicorn) close an idle connection themselves,
    /// so that few requests meet a connection that is being closed.
    package var upstreamIdleTimeout = Duration.milliseconds(4_500)
    /// For the answer to a PING to a replica; and between two that are sent for timeouts.
    package var upstreamPingTimeout = Duration.seconds(10)

    package init() {}

    /// The timeouts as the request path uses them.
    struct Timeouts {
        let header: Interval
        let handshake: Interval
        let idle: Interval
        let upstreamIdle: Interval
        let upstreamPing: Interval
    }

    var timeouts: Timeouts {
        Timeouts(
            header: Interval(self.headerTimeout),
            handshake: Interval(self.handshakeTimeout),
            idle: Interval(self.idleTimeout),
            upstreamIdle: Interval(self.upstreamIdleTimeout),
            upstreamPing: Interval(self.upstreamPingTimeout)
        )
    }

    var head: HeadLimits {
        HeadLimits(
            maxHeadBytes: self.maxHeaderBytes,
            maxFields: self.maxHeaders,
            maxTargetBytes: min(self.maxTargetBytes, self.maxHeaderBytes)
        )
    }
}

/// What protocol a model's clients speak: decides routing and the shape of errors.
package enum ModelProtocol: Sendable {
    case openAI
    case openInference
    case http
    case grpc
}

/// Where a model's requests may be pinned to a variant by something stable about the client.
package enum StickyKey: Sendable, Equatable {
    /// A request header's value, by its lower-case name.
    case header([UInt8])
    /// A cookie's value, by its name; set by the gateway where the client has none.
    case cookie([UInt8])
}

package enum BalancingPolicy: Sendable {
    case leastLoaded
    case roundRobin
    case prefixAffinity
    case consistentHash
}

/// The settings of one model that the request path reads.
package struct ModelSettings: Sendable {
    package var kind = ModelProtocol.openAI
    package var overrideHeader: [UInt8]?
    package var sticky: StickyKey?
    /// Requests with this header (name in lower case) and value go to the variant with the index.
    package var headerRoute: (name: [UInt8], value: [UInt8], variant: Int)?
    /// Index of the variant that gets copies, and the share of requests copied.
    package var mirror: (variant: Int, share: Double)?
    package var balancing = BalancingPolicy.leastLoaded
    /// For consistent hashing: the lower-case name of the header whose value is the key. Without
    /// one it is the sticky key, else the client's address.
    package var hashHeader: [UInt8]?
    package var queueCapacity = 1_000
    package var queueBytes = 64 * 1024 * 1024
    package var queueTimeout = Duration.seconds(30)
    package var connectTimeout = Duration.seconds(1)
    package var firstByteTimeout = Duration.seconds(60)
    package var requestTimeout = Duration.seconds(300)
    package var streamIdleTimeout = Duration.seconds(60)
    /// Tries of one request in all, the first included.
    package var attempts = 2
    /// Replicas are started by us, so that a request without one is worth keeping.
    package var startsReplicas = false
    /// Share of requests that may be retries, 0...1.
    package var retryBudget = 0.2
    package var outlier = OutlierSettings()
    package var compression = CompressionSettings()

    package init() {}
}

/// The timeouts of `ModelSettings` as the request path uses them.
struct ModelTimeouts: Sendable {
    let queue: Interval
    let connect: Interval
    let firstByte: Interval
    let request: Interval
    let streamIdle: Interval

    init(_ settings: ModelSettings) {
        self.queue = Interval(settings.queueTimeout)
        self.connect = Interval(settings.connectTimeout)
        self.firstByte = Interval(settings.firstByteTimeout)
        self.request = Interval(settings.requestTimeout)
        self.streamIdle = Interval(settings.streamIdleTimeout)
    }
}

/// Passive ejection of replicas that fail.
package struct OutlierSettings: Sendable, Equatable {
    /// Failures in a row that eject; 0 turns ejection off.
    package var consecutiveErrors = 5
    package var ejectFor = Duration.seconds(30)
    /// Largest share of a variant's endpoints that may be ejected, 0...1.
    package var maxEjected = 0.5

    package init() {}
}

package final class VariantRoute: Sendable {
    package let name: String
    /// Share among the variants; 0 means none.
    package let weight: Int
    /// The endpoints that may get new requests now: ready and not draining.
    package let endpoints: [Endpoint]
    /// The variant's part in a rollout; nil where none runs.
    package let trial: TrialArm?
    let nameBytes: [UInt8]

    package init(name: String, weight: Int, endpoints: [Endpoint], trial: TrialArm? = nil) {
        self.name = name
        self.trial = trial
        self.nameBytes = Array(name.utf8)
        self.weight = weight
        self.endpoints = endpoints
    }
}

package final class ModelRoute: Sendable {
    /// Dense and stable across snapshots: workers index their own state by it.
    package let index: Int
    package let name: String
    package let settings: ModelSettings
    package let variants: [VariantRoute]
    /// What all workers share; survives snapshots.
    package let shared: ModelShared
    let nameBytes: [UInt8]
    /// The settings' timeouts, ready to be added to the time.
    let timeouts: ModelTimeouts
    /// The route looks at more of the head than its target.
    let needsHead: Bool

    package init(
        index: Int,
        name: String,
        settings: ModelSettings,
        variants: [VariantRoute],
        shared: ModelShared
    ) {
        self.index = index
        self.name = name
        self.nameBytes = Array(name.utf8)
        self.settings = settings
        self.variants = variants
        self.shared = shared
        self.timeouts = ModelTimeouts(settings)
        self.needsHead =
            settings.overrideHeader != nil || settings.sticky != nil
            || settings.headerRoute != nil
            || settings.balancing == .consistentHash
    }

    /// The index of a variant by the bytes of its name.
    func variant(named name: RawSpan) -> Int? {
        self.variants.firstIndex { variant in
            let bytes = variant.nameBytes
            return bytes.count == name.byteCount && name.isEqual(to: bytes)
        }
    }
}
