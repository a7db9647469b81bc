import Autoscaling
import Clusters
import Configuration
import Core
import EventLoop
import Logging
import Proxy
import Scraping
import Signals

/// What model servers, GPU exporters and Prometheus say, for the scaling loop.
///
/// Asked are those alone that a policy needs: model servers where a target is about the KV cache or
/// the GPUs or requests go by prefix (then the fullness of a cache decides who is stopped), the
/// exporters named where a target is about the GPUs, Prometheus where one is a query.
/// What a replica says of its load beside its answers (ORCA) stands in where its metrics are not
/// asked for or not there, as long as it is no older than a reading may be.
/// Readings that are not there are unknown; what fails is told once in the log.
final class ScrapedSources: ScalingSources {
    /// The name of a replica's further port for metrics, where they are not beside the model.
    static let metricsPort = "metrics"

    private let sources: MetricSources
    private unowned let fleet: any ScalingFleet
    /// Groups whose replicas are asked.
    private var groups: [String] = []
    /// Exporters by the group whose GPUs they may speak of.
    private var exporters: [String: [String]] = [:]
    private var queries: [QueryTarget] = []
    private var targets = MetricTargets()
    private let board: () -> LoadReportBoard?
    /// Reports by replica, and how many had been written when they were read.
    private var reports: [String: (report: LoadReport, at: Instant)] = [:]
    private var reportsRead: UInt64 = 0

    /// - Parameter board: what replicas say beside their answers.
    init(
        loop: EventLoop,
        fleet: any ScalingFleet,
        board: @escaping () -> LoadReportBoard?,
        logger: Logger
    ) {
        self.fleet = fleet
        self.board = board
        self.sources = MetricSources(loop: loop, seed: EventLoop.readClock().nanoseconds)
        self.sources.onChange = { change in
            if let problem = change.problem {
                logger.warning(
                    "a source of metrics does not answer: what it would say is unknown",
                    metadata: ["source": "\(change.target)", "reason": "\(problem)"]
                )
            } else {
                logger.info(
                    "a source of metrics answers again",
                    metadata: ["source": "\(change.target)"]
                )
            }
        }
    }

    func close() { self.sources.close() }

    func follow(_ plan: ScalingPlan) {
        self.groups = []
        self.exporters = [:]
        var queries: [QueryTarget] = []
        for model in plan.models {
            let goals = model.setup.policy.targets
            let usesGPUs = goals.contains { if case .gpuUtilization = $0 { true } else { false } }
            let usesCache = goals.contains { if case .kvCache = $0 { true } else { false } }
            if usesGPUs {
                let urls = model.exporters.map { "\($0)" }
                for variant in model.variants { self.exporters[variant.group] = urls }
            }
            queries += model.queries.map(Self.target)
            guard usesGPUs || usesCache || model.balancesByPrefix else { continue }
            self.groups += model.variants.map(\.group)
        }
        self.queries = queries
        self.refresh()
    }

    func refresh() {
        self.readReports()
        var targets = MetricTargets(queries: self.queries)
        for group in self.groups {
            for replica in self.fleet.group(group)?.replicas ?? [] where replica.state == .ready {
                if let target = Self.target(replica) { targets.servers.append(target) }
            }
        }
        let urls = Set(self.exporters.values.joined())
        targets.exporters = urls.sorted().map { ExporterTarget(id: $0, url: $0) }
        if targets == self.targets { return }
        self.targets = targets
        self.sources.update(targets: targets)
    }

    private func readReports() {
        guard let board = self.board(), board.count != self.reportsRead else { return }
        self.reportsRead = board.count
        let all = board.latest(
            notOlderThan: ServerSample.ageSecondsMax,
            at: self.sources.loop.now
        )
        self.reports = all.compactMapValues { entry in
            LoadReport(String(decoding: entry.text, as: UTF8.self)).map { ($0, entry.at) }
        }
    }

    private static func target(_ replica: ReplicaStatus) -> ServerTarget? {
        guard let address = replica.address else { return nil }
        return ServerTarget(
            id: replica.id.description,
            incarnation: UInt64(replica.restarts) &+ replica.id.serial << 32,
            host: address.host,
            port: replica.namedPorts[Self.metricsPort] ?? address.port
        )
    }

    private static func target(_ query: ScalingPlan.MetricQuery) -> QueryTarget {
        var server = "\(query.server)"
        if server.hasSuffix("/") { server.removeLast() }
        var target = QueryTarget(server: server, query: query.query)
        target.authoritiesFile = query.authoritiesFile
        switch query.credentials {
        case nil: break
        case .token(let file): target.credentials = .token(file: file)
        case .password(let user, let file):
            target.credentials = .password(user: user, file: file)
        }
        return target
    }

    // MARK: Readings

    func servers(ofGroup group: String, at now: Instant) -> [ServerSample] {
        if self.targets.servers.isEmpty && self.reports.isEmpty { return [] }
        return (self.fleet.group(group)?.replicas ?? []).compactMap { replica in
            let id = replica.id.description
            guard let reading = self.sources.server(id, at: now), let metrics = reading.metrics
            else { return self.reported(id, at: now) }
            return ServerSample(
                running: metrics.running,
                waiting: metrics.waiting,
                kvCacheUse: metrics.kvCacheUse,
                prefixHitRate: reading.prefixHitRate,
                promptTokensTotal: metrics.promptTokensTotal,
                generatedTokensTotal: metrics.generatedTokensTotal,
                ageSeconds: reading.ageSeconds
            )
        }
    }

    private func reported(_ replica: String, at now: Instant) -> ServerSample? {
        self.reports[replica].map { report, at in
            ServerSample(
                running: report.running,
                waiting: report.waiting,
                kvCacheUse: report.kvCacheUse,
                ageSeconds: max(0, now.seconds(since: at))
            )
        }
    }

    private func readings(_ group: String, at now: Instant) -> [ServerReading] {
        (self.fleet.group(group)?.replicas ?? []).compactMap {
            self.sources.server($0.id.description, at: now)
        }
    }

    /// What the servers say themselves, else the mean of the GPUs that the exporters know.
    func gpuUtilization(ofGroup group: String, at now: Instant) -> Reading? {
        guard let urls = self.exporters[group] else { return nil }
        let own = self.readings(group, at: now).compactMap { reading in
            reading.metrics?.gpuUse.map { (use: $0, age: reading.ageSeconds) }
        }
        if !own.isEmpty { return Self.mean(own) }
        var uses: [(use: Double, age: Double)] = []
        for url in urls {
            guard let reading = self.sources.exporter(url, at: now) else { continue }
            uses += reading.gpus.compactMap { gpu in
                gpu.use.map { (use: $0, age: reading.ageSeconds) }
            }
        }
        return uses.isEmpty ? nil : Self.mean(uses)
    }

    private static func mean(_ values: [(use: Double, age: Double)]) -> Reading {
        Reading(
            values.reduce(0) { $0 + $1.use } / Double(values.count),
            ageSeconds: values.map(\.age).max() ?? 0
        )
    }

    func metrics(of model: ScalingPlan.Model, at now: Instant) -> [Reading] {
        model.queries.map { query in
            guard let reading = self.sources.query(Self.target(query), at: now) else {
                return Reading(nil)
            }
            return Reading(reading.value, ageSeconds: reading.ageSeconds)
        }
    }

    /// Tokens that its cache has saved lately: how much it is used times how often it helps.
    func cacheValue(of replica: ReplicaID) -> Double {
        guard
            let reading = self.sources.server(replica.description, at: self.sources.loop.now),
            let rate = reading.prefixHitRate, reading.ageSeconds <= ServerSample.ageSecondsMax
        else { return 0 }
        return rate * (reading.rates?.promptTokensPerSecond ?? 1)
    }
}
