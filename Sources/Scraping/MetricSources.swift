import Core
import Curl
import EventLoop
import Signals

/// What a model server said last, and how long ago.
package struct ServerReading: Sendable {
    /// Nil: it has not answered yet, or never readably.
    package var metrics: ServerMetrics?
    /// What happened between its last two answers.
    package var rates: ServerTracker.Rates?
    /// 0 to 1; see `ServerTracker.prefixHitRate`.
    package var prefixHitRate: Double?
    /// Since the last readable answer was asked for; infinite where there is none.
    package var ageSeconds: Double
    /// What is wrong now; nil while its last answer was good.
    package var problem: String?
}

package struct ExporterReading: Sendable {
    package var gpus: [GPUReading]
    package var ageSeconds: Double
    package var problem: String?
}

package struct QueryReading: Sendable {
    /// Nil: unknown.
    package var value: Double?
    package var ageSeconds: Double
    package var problem: String?
}

/// What all targets said last, by their names.
package struct MetricReadings: Sendable {
    package var servers: [String: ServerReading] = [:]
    package var exporters: [String: ExporterReading] = [:]
    package var queries: [QueryTarget: QueryReading] = [:]
}

/// A target began to fail, fails otherwise, or is well again.
package struct MetricSourceChange: Sendable, Hashable {
    /// A server's or exporter's name, or the query.
    package var target: String
    /// Nil: it is well again.
    package var problem: String?
}

/// Asks model servers, GPU exporters and Prometheus, and keeps what they said. See the design note
/// in Scraping.swift. All calls belong to the loop's thread; end it with `close`.
package final class MetricSources {
    package let loop: EventLoop
    package let options: PollOptions
    /// Called when a target begins to fail or is well again. Must not call back into here.
    package var onChange: (MetricSourceChange) -> Void = { _ in }
    /// Questions asked since the start.
    package private(set) var asked: UInt64 = 0

    var random: RandomSource
    private var servers: [String: ServerSource] = [:]
    private var exporters: [String: ExporterSource] = [:]
    private var queries: [QueryTarget: QuerySource] = [:]
    /// Made with the first question.
    private var client: CurlClient?
    private var running = 0
    private var waiting: [Poll] = []
    private var waitingHead = 0
    private var isClosed = false

    /// - Parameter seed: spreads the targets over time.
    package init(loop: EventLoop, options: PollOptions = PollOptions(), seed: UInt64) {
        loop.assertOnLoop()
        self.loop = loop
        self.options = options
        self.random = RandomSource(seed: seed)
    }

    deinit {
        precondition(self.isClosed, "metric sources were dropped without being closed")
    }

    /// Asks these targets from now on and no others.
    package func update(targets: MetricTargets) {
        self.loop.assertOnLoop()
        if self.isClosed { return }
        let most = MetricTargets.targetsMax
        self.match(&self.servers, targets.servers.prefix(most)) { $0.id }
        self.match(&self.exporters, targets.exporters.prefix(most)) { $0.id }
        self.match(&self.queries, targets.queries.prefix(most)) { $0 }
        if self.servers.isEmpty, self.exporters.isEmpty, self.queries.isEmpty {
            // Nobody is asked any more: connections may go.
            self.client?.close()
            self.client = nil
        }
    }

    /// What is known of every target.
    package func readings(at now: Instant) -> MetricReadings {
        MetricReadings(
            servers: self.servers.mapValues { $0.reading(at: now) },
            exporters: self.exporters.mapValues { $0.reading(at: now) },
            queries: self.queries.mapValues { $0.reading(at: now) }
        )
    }

    /// The same of one server; nil where it is not asked.
    package func server(_ id: String, at now: Instant) -> ServerReading? {
        self.servers[id]?.reading(at: now)
    }

    /// The same of one GPU exporter.
    package func exporter(_ id: String, at now: Instant) -> ExporterReading? {
        self.exporters[id]?.reading(at: now)
    }

    /// The same of one query.
    package func query(_ target: QueryTarget, at now: Instant) -> QueryReading? {
        self.queries[target]?.reading(at: now)
    }

    /// Ends everything; nothing is known any more. Idempotent.
    package func close() {
        self.loop.assertOnLoop()
        self.update(targets: MetricTargets())
        self.isClosed = true
    }

    // MARK: Targets

    /// Brings the sources to what the targets say. The first of several with one name counts.
    private func match<Key: Hashable, Source: TargetSource>(
        _ sources: inout [Key: Source],
        _ targets: ArraySlice<Source.Target>,
        _ key: (Source.Target) -> Key
    ) {
        var wanted: [Key: Source.Target] = [:]
        for target in targets where wanted[key(target)] == nil { wanted[key(target)] = target }
        for (name, source) in sources where wanted[name] != source.target {
            source.poll.end()
            sources[name] = nil
        }
        for target in targets {
            let name = key(target)
            guard sources[name] == nil, let target = wanted[name] else { continue }
            let source = Source(target, self)
            sources[name] = source
            source.poll.start()
        }
    }

    // MARK: For polls

    func problemChanged(_ poll: Poll) {
        self.onChange(MetricSourceChange(target: poll.name, problem: poll.problem))
    }

    /// Asks now, or as soon as fewer than `concurrencyMax` questions are under way.
    func enqueue(_ poll: Poll) {
        self.waiting.append(poll)
        self.askNext()
    }

    private func askNext() {
        while self.running < self.options.concurrencyMax, self.waitingHead < self.waiting.count {
            let poll = self.waiting[self.waitingHead]
            self.waitingHead += 1
            if self.waitingHead == self.waiting.count {
                self.waiting.removeAll(keepingCapacity: true)
                self.waitingHead = 0
            }
            if poll.hasEnded || self.isClosed { continue }
            self.running += 1
            self.asked += 1
            poll.ask(self.liveClient()) { [weak self] in
                self?.running -= 1
                self?.askNext()
            }
        }
    }

    private func liveClient() -> CurlClient {
        if let client = self.client { return client }
        let client = CurlClient(
            loop: self.loop,
            idleConnectionsMax: self.options.idleConnectionsMax
        )
        self.client = client
        return client
    }

    /// A request within the limits of the options.
    func request(_ url: String) -> CurlRequest {
        var request = CurlRequest(url)
        request.connectTimeout = self.options.timeout
        request.totalTimeout = self.options.timeout
        request.responseBytesMax = self.options.answerBytesMax
        request.allowsHTTP2 = false
        return request
    }
}
