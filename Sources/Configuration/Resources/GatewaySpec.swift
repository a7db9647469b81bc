/// Process-wide settings. Every field has a default: `GatewaySpec.defaults`.
package struct GatewaySpec: Sendable, Hashable {
    package var listeners: [ListenerSpec]
    package var admin: AdminSpec
    /// Event loops that serve; 0 is one per core.
    package var workers: Int
    package var limits: GatewayLimitsSpec
    package var upstream: UpstreamSpec
    /// Nil: no access log.
    package var accessLog: AccessLogSpec?
    /// Nil: traffic is not recorded.
    package var recorder: RecorderSpec?
    /// Where there are tenants: replicas are sent the keys of requests all the same.
    package var forwardCredentials: Bool
    /// Nil: no spans are sent; `traceparent` is passed on all the same.
    package var tracing: TracingSpec?
    /// How long streams may run on after SIGTERM.
    package var drainTimeout: Duration
    /// What must survive a restart of a standalone Weir; resolved against the file's folder.
    package var stateDirectory: String

    /// What a `Gateway` without any field says; paths start from the working directory.
    package static let defaults = GatewaySpec(Schemas.defaults(of: .gateway), source: .program)

    init(_ record: Record, source: ResourceSource) {
        self.listeners = record.records("listeners").map { ListenerSpec($0, source: source) }
        self.admin = AdminSpec(record.record("admin"), source: source)
        self.workers = record.integer("workers")
        self.limits = GatewayLimitsSpec(record.record("limits"))
        self.upstream = UpstreamSpec(record.record("upstream"))
        self.accessLog = record.optionalRecord("accessLog").map {
            AccessLogSpec($0, source: source)
        }
        self.recorder = record.optionalRecord("recorder").map { RecorderSpec($0, source: source) }
        self.forwardCredentials = record.boolean("forwardCredentials")
        self.tracing = record.optionalRecord("tracing").map(TracingSpec.init)
        self.drainTimeout = record.duration("drainTimeout")
        self.stateDirectory = source.resolve(record.text("stateDirectory"))
    }
}

package struct ListenerSpec: Sendable, Hashable {
    package var name: String
    package var address: ListenAddress
    /// Nil: plain text.
    package var tls: TLSSpec?
    package var http2: HTTP2Spec

    init(_ record: Record, source: ResourceSource) {
        self.name = record.text("name")
        self.address = record.address("address")
        self.tls = record.optionalRecord("tls").map { TLSSpec($0, source: source) }
        self.http2 = HTTP2Spec(record.record("http2"))
    }
}

/// How a listener speaks HTTP/2; sizes in bytes.
package struct HTTP2Spec: Sendable, Hashable {
    package var enabled: Bool
    package var maxConcurrentStreams: Int
    package var initialStreamWindowSize: Int
    package var initialConnectionWindowSize: Int
    /// Nil: as many bytes as a head of HTTP/1 may have.
    package var maxHeaderListSize: Int?

    init(_ record: Record) {
        self.enabled = record.boolean("enabled")
        self.maxConcurrentStreams = record.integer("maxConcurrentStreams")
        self.initialStreamWindowSize = record.integer("initialStreamWindowSize")
        self.initialConnectionWindowSize = record.integer("initialConnectionWindowSize")
        self.maxHeaderListSize = record.optionalInteger("maxHeaderListSize")
    }
}

/// Files in PEM, resolved; read again when they change.
package struct TLSSpec: Sendable, Hashable {
    /// The first one is for clients that ask for no name, or for one that nobody has.
    package var certificates: [CertificateSpec]
    /// Given: clients show a certificate that this authority signed.
    package var clientCA: String?
    package var clientCertificate: ClientCertificate
    package var minimumVersion: MinimumVersion
    /// The kernel encrypts, where it can.
    package var kernel: Bool

    package enum ClientCertificate: String, Sendable, CaseIterable {
        case required = "Required"
        case optional = "Optional"
    }

    package enum MinimumVersion: String, Sendable, CaseIterable {
        case tls12 = "1.2"
        case tls13 = "1.3"
    }

    init(_ record: Record, source: ResourceSource) {
        self.certificates =
            [CertificateSpec(record, source: source)]
            + record.records("certificates").map { CertificateSpec($0, source: source) }
        self.clientCA = record.optionalText("clientCA").map(source.resolve)
        self.clientCertificate = record.choice("clientCertificate")
        self.minimumVersion = record.choice("minimumVersion")
        self.kernel = record.boolean("kernel")
    }

    /// Everything that is read.
    package var files: [String] {
        self.certificates.flatMap(\.files) + [self.clientCA].compactMap { $0 }
    }
}

/// A certificate with its chain and its key, and the answer of the OCSP responder that belongs to
/// it.
package struct CertificateSpec: Sendable, Hashable {
    package var certificate: String
    package var key: String
    package var ocspStaple: String?

    init(_ record: Record, source: ResourceSource) {
        self.certificate = source.resolve(record.text("certificate"))
        self.key = source.resolve(record.text("key"))
        self.ocspStaple = record.optionalText("ocspStaple").map(source.resolve)
    }

    package var files: [String] { [self.certificate, self.key, self.ocspStaple].compactMap { $0 } }
}

package struct AdminSpec: Sendable, Hashable {
    package var address: ListenAddress
    /// The file with the token that writes need where the address is not loopback; resolved.
    package var tokenFile: String?

    init(_ record: Record, source: ResourceSource) {
        self.address = record.address("address")
        self.tokenFile = record.optionalText("tokenFile").map(source.resolve)
    }
}

/// The bounds of the data listeners; sizes in bytes.
package struct GatewayLimitsSpec: Sendable, Hashable {
    package var maxConnections: Int
    package var maxHeaderBytes: Int
    package var maxHeaders: Int
    package var maxTargetBytes: Int
    package var maxBufferedBody: Int
    package var maxRetryBody: Int
    package var maxRequestBody: Int
    /// How many times its own size a coded body may become.
    package var maxDecodedRatio: Int
    package var headerTimeout: Duration
    package var idleTimeout: Duration
    package var handshakeTimeout: Duration
    package var maxHandshakes: Int

    init(_ record: Record) {
        self.maxConnections = record.integer("maxConnections")
        self.maxHeaderBytes = record.integer("maxHeaderBytes")
        self.maxHeaders = record.integer("maxHeaders")
        self.maxTargetBytes = record.integer("maxTargetBytes")
        self.maxBufferedBody = record.integer("maxBufferedBody")
        self.maxRetryBody = record.integer("maxRetryBody")
        self.maxRequestBody = record.integer("maxRequestBody")
        self.maxDecodedRatio = record.integer("maxDecodedRatio")
        self.headerTimeout = record.duration("headerTimeout")
        self.idleTimeout = record.duration("idleTimeout")
        self.handshakeTimeout = record.duration("handshakeTimeout")
        self.maxHandshakes = record.integer("maxHandshakes")
    }
}

/// Kept connections to replicas, per worker and endpoint.
package struct UpstreamSpec: Sendable, Hashable {
    package var maxIdleConnections: Int
    package var idleTimeout: Duration

    init(_ record: Record) {
        self.maxIdleConnections = record.integer("maxIdleConnections")
        self.idleTimeout = record.duration("idleTimeout")
    }
}

package struct AccessLogSpec: Sendable, Hashable {
    package enum Format: String, Sendable, CaseIterable {
        case json
        case text
    }

    package var format: Format
    /// `-` for standard output, else a resolved path.
    package var path: String
    package var sample: Percent

    package static let standardOutput = "-"

    init(_ record: Record, source: ResourceSource) {
        self.format = record.choice("format")
        let path = record.text("path")
        self.path = path == Self.standardOutput ? path : source.resolve(path)
        self.sample = record.percent("sample")
    }
}

package struct RecorderSpec: Sendable, Hashable {
    /// A folder, resolved.
    package var path: String
    package var sample: Percent
    /// Of one file, before the next one is begun.
    package var maxSegmentBytes: Int
    package var maxSegmentAge: Duration
    /// Of all files together; the oldest go.
    package var maxBytes: Int

    init(_ record: Record, source: ResourceSource) {
        self.path = source.resolve(record.text("path"))
        self.sample = record.percent("sample")
        self.maxSegmentBytes = record.integer("maxSegmentBytes")
        self.maxSegmentAge = record.duration("maxSegmentAge")
        self.maxBytes = record.integer("maxBytes")
    }
}

package struct TracingSpec: Sendable, Hashable {
    /// The OTLP/HTTP receiver; nil only in a spec that failed its checks.
    package var endpoint: EndpointURL?
    package var sample: Percent

    init(_ record: Record) {
        self.endpoint = EndpointURL(text: record.text("endpoint"))
        self.sample = record.percent("sample")
    }
}

extension Record {
    /// A checked address; port 0 of the loopback where the field was wrong.
    func address(_ name: String) -> ListenAddress {
        ListenAddress(text: self.text(name)) ?? ListenAddress(host: "127.0.0.1", port: 0)
    }
}
