import Core
import Curl
import EventLoop
import Foundation
import Signals

/// A target, how it is asked, and what it said last.
protocol TargetSource: PollAsker {
    associatedtype Target: Hashable

    var target: Target { get }
    var poll: Poll { get }

    init(_ target: Target, _ sources: MetricSources)
}

/// Seconds since a moment; infinite for none.
private func age(of moment: Instant?, at now: Instant) -> Double {
    moment.map { now.seconds(since: $0) } ?? .infinity
}

extension CurlResponse {
    /// What keeps an answer from being read before it is looked at.
    fileprivate var problem: String? {
        self.status == 200 ? nil : "answered with status \(self.status)"
    }

    fileprivate var expositionFormat: ExpositionParser.Format {
        ExpositionParser.Format(contentType: self.head.field("content-type"))
    }
}

/// A model server.
final class ServerSource: TargetSource {
    /// Samples that carry an older time do not count.
    private static let sampleAgeMax = 60.0
    /// Asked for metrics in the two formats there are; the first is preferred by all.
    static let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4"

    let target: ServerTarget
    let poll: Poll
    private var tracker = ServerTracker()
    private var paths: [String]
    /// The path asked now; another one is tried until one has answered.
    private var path = 0

    init(_ target: ServerTarget, _ sources: MetricSources) {
        self.target = target
        self.paths = target.path.map { [$0] } ?? Self.defaultPaths
        self.poll = Poll(sources, name: target.id, period: sources.options.serverPeriod)
        self.poll.asker = self
    }

    private static let defaultPaths = ModelServer.allCases.reduce(into: [String]()) {
        if !$0.contains($1.defaultPath) { $0.append($1.defaultPath) }
    }

    func request(_ sources: MetricSources) -> Result<CurlRequest, CurlError> {
        var request = sources.request(self.target.url(path: self.paths[self.path]))
        request.fields = [("Accept", Self.accept)]
        return .success(request)
    }

    func accept(_ response: CurlResponse, _ askedAt: Instant) -> String? {
        let problem = response.problem ?? self.read(response, askedAt)
        if problem != nil, !self.poll.hasAnswered {
            self.path = (self.path + 1) % self.paths.count
        }
        return problem
    }

    private func read(_ response: CurlResponse, _ askedAt: Instant) -> String? {
        do throws(ServerMetrics.ReadError) {
            let metrics = try ServerMetrics.read(
                response.body.span.bytes,
                format: response.expositionFormat,
                oldestTimestamp: EventLoop.readWallClock() - Self.sampleAgeMax
            )
            self.tracker.take(metrics, at: askedAt)
            return nil
        } catch {
            return "\(error)"
        }
    }

    func reading(at now: Instant) -> ServerReading {
        let latest = self.tracker.latest
        return ServerReading(
            metrics: latest,
            rates: self.tracker.rates,
            prefixHitRate: self.tracker.prefixHitRate,
            ageSeconds: age(of: latest == nil ? nil : self.tracker.latestAt, at: now),
            problem: self.poll.problem
        )
    }
}

/// A DCGM exporter.
final class ExporterSource: TargetSource {
    let target: ExporterTarget
    let poll: Poll
    private var gpus: [GPUReading] = []
    private var readAt: Instant?

    init(_ target: ExporterTarget, _ sources: MetricSources) {
        self.target = target
        self.poll = Poll(sources, name: target.id, period: sources.options.serverPeriod)
        self.poll.asker = self
    }

    func request(_ sources: MetricSources) -> Result<CurlRequest, CurlError> {
        var request = sources.request(self.target.url)
        request.fields = [("Accept", ServerSource.accept)]
        return .success(request)
    }

    func accept(_ response: CurlResponse, _ askedAt: Instant) -> String? {
        if let problem = response.problem { return problem }
        let gpus = GPUReading.read(
            response.body.span.bytes,
            format: response.expositionFormat
        )
        if gpus.isEmpty { return "no metrics of GPUs" }
        self.gpus = gpus
        self.readAt = askedAt
        return nil
    }

    func reading(at now: Instant) -> ExporterReading {
        ExporterReading(
            gpus: self.gpus,
            ageSeconds: age(of: self.readAt, at: now),
            problem: self.poll.problem
        )
    }
}

/// A PromQL query.
final class QuerySource: TargetSource {
    /// Bytes of a token or a password.
    private static let secretBytesMax = 16 << 10

    let target: QueryTarget
    let poll: Poll
    private var value: Double?
    private var readAt: Instant?

    init(_ target: QueryTarget, _ sources: MetricSources) {
        self.target = target
        self.poll = Poll(sources, name: target.query, period: sources.options.queryPeriod)
        self.poll.asker = self
    }

    func request(_ sources: MetricSources) -> Result<CurlRequest, CurlError> {
        var request = sources.request(QueryURL.make(self.target))
        request.fields = [("Accept", "application/json")]
        request.tls.authorities = self.target.authoritiesFile.map { .file($0) }
        return Self.authorized(request, self.target.credentials)
    }

    private static func authorized(
        _ request: CurlRequest,
        _ credentials: QueryTarget.Credentials?
    ) -> Result<CurlRequest, CurlError> {
        var request = request
        switch credentials {
        case nil: break
        case .token(let path):
            guard let token = Self.secret(path) else {
                return .failure(.invalidRequest("there is no token in \(path)"))
            }
            request.fields.append(("Authorization", "Bearer \(token)"))
        case .password(let user, let path):
            guard let password = Self.secret(path) else {
                return .failure(.invalidRequest("there is no password in \(path)"))
            }
            // RFC 7617, section 2.
            let pair = Data("\(user):\(password)".utf8).base64EncodedString()
            request.fields.append(("Authorization", "Basic \(pair)"))
        }
        return .success(request)
    }

    private static func secret(_ path: String) -> String? {
        guard let data = FileManager.default.contents(atPath: path),
            data.count <= Self.secretBytesMax
        else { return nil }
        let text = String(decoding: data, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? nil : text
    }

    func accept(_ response: CurlResponse, _ askedAt: Instant) -> String? {
        switch QueryAnswer.read(status: response.status, response.body) {
        case .value(let value):
            self.value = value
            self.readAt = askedAt
            return nil
        case .unknown(let why):
            // Prometheus was asked and has no number: the last one does not hold any more.
            if response.status == 200 {
                self.value = nil
                self.readAt = askedAt
            }
            return why
        }
    }

    func reading(at now: Instant) -> QueryReading {
        QueryReading(
            value: self.value,
            ageSeconds: age(of: self.readAt, at: now),
            problem: self.poll.problem
        )
    }
}
