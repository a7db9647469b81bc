import Core

// Design note
//
// Asks others for what the autoscaler cannot see itself: model servers and GPU exporters for their
// metrics, Prometheus for the results of queries. Module Signals says what the answers mean; this
// one asks, again and again, and keeps the last answer with its age.
//
//   control loop ──update(targets)──▸ MetricSources ──one per target──▸ Poll ──▸ CurlClient
//                ◂──readings(at:)───
//
// Each target is asked once per period, with jitter so that thousands of them spread; one that
// fails is asked ever more rarely, up to `PollOptions.backOffMax`. Targets come and go with
// `update`; one that stays keeps what is known of it. Without targets there is no timer, no
// connection and no libcurl.
//
// A reading that grows old keeps growing old: how old is too old, the reader decides. An answer
// that cannot be read changes nothing but the problem that is told beside the reading.
//
// Limits: `PollOptions`, `MetricTargets.targetsMax`. Not done: service discovery (the targets are
// given), storing series.

/// How targets are asked.
package struct PollOptions: Sendable, Hashable {
    /// Between two questions to a model server or a GPU exporter.
    package var serverPeriod = Duration.seconds(1)
    /// Between two questions to Prometheus, which itself scrapes every 15 s or so.
    package var queryPeriod = Duration.seconds(5)
    /// For one answer, connection included.
    package var timeout = Duration.seconds(2)
    /// Periods are longer or shorter by up to this share, 0 to 1.
    package var jitter = 0.1
    /// A failing target is asked after 1, 2, 4 … periods, up to this.
    package var backOffMax = Duration.seconds(30)
    /// Questions under way at a time; further ones wait.
    package var concurrencyMax = 64
    /// Connections kept from one question to the next; targets beyond are connected to each time.
    package var idleConnectionsMax = 1_024
    /// Bytes of one answer.
    package var answerBytesMax = 8 << 20

    package init() {}
}

/// One model server to ask.
package struct ServerTarget: Sendable, Hashable {
    /// Names the replica; unique among the servers.
    package var id: String
    /// Another number means another process at the same place: what was known is forgotten.
    package var incarnation: UInt64
    /// A numeric address or a name, IPv6 without brackets.
    package var host: String
    package var port: UInt16
    package var isTLS = false
    /// Nil: `/metrics`, then where else a known server has them.
    package var path: String?

    package init(id: String, incarnation: UInt64 = 0, host: String, port: UInt16) {
        self.id = id
        self.incarnation = incarnation
        self.host = host
        self.port = port
    }

    func url(path: String) -> String {
        let host = self.host.contains(":") ? "[\(self.host)]" : self.host
        return "\(self.isTLS ? "https" : "http")://\(host):\(self.port)\(path)"
    }
}

/// One DCGM exporter to ask.
package struct ExporterTarget: Sendable, Hashable {
    /// Names it; unique among the exporters.
    package var id: String
    /// The whole URL, such as `http://10.0.0.7:9400/metrics`.
    package var url: String

    package init(id: String, url: String) {
        self.id = id
        self.url = url
    }
}

/// One PromQL query, asked as an instant query.
package struct QueryTarget: Sendable, Hashable {
    /// Prometheus' URL, with its path prefix if it has one, without `/api/v1/query`.
    package var server: String
    package var query: String
    /// Certificates in PEM of who may sign the server's; nil for the system's authorities.
    package var authoritiesFile: String?
    package var credentials: Credentials?

    /// What is sent to be let in. The files are read for each question: secrets are replaced while
    /// they are used.
    package enum Credentials: Sendable, Hashable {
        case token(file: String)
        case password(user: String, file: String)
    }

    package init(server: String, query: String, credentials: Credentials? = nil) {
        self.server = server
        self.query = query
        self.credentials = credentials
    }
}

/// Whom to ask.
package struct MetricTargets: Sendable, Hashable {
    /// Targets of each kind; those beyond are not asked.
    package static let targetsMax = 20_000

    package var servers: [ServerTarget]
    package var exporters: [ExporterTarget]
    package var queries: [QueryTarget]

    package init(
        servers: [ServerTarget] = [],
        exporters: [ExporterTarget] = [],
        queries: [QueryTarget] = []
    ) {
        self.servers = servers
        self.exporters = exporters
        self.queries = queries
    }
}
