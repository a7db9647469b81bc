import Core

/// What one model server says of itself in one reading. What it does not say is nil.
package struct ServerMetrics: Sendable, Hashable {
    package var server: ModelServer
    /// Requests being worked on.
    package var running: Double?
    /// Requests waiting inside the server.
    package var waiting: Double?
    /// 0 to 1; of several caches the fullest.
    package var kvCacheUse: Double?
    /// Since the server started.
    package var promptTokensTotal: Double?
    package var generatedTokensTotal: Double?
    /// Tokens, or blocks, that were looked for in the prefix cache and found there, since it
    /// started.
    package var prefixQueriesTotal: Double?
    package var prefixHitsTotal: Double?
    /// Where the server works it out itself, 0 to 1; over what time is the server's choice.
    package var prefixHitRate: Double?
    /// 0 to 1; of several GPUs the busiest.
    package var gpuUse: Double?
    /// In seconds.
    package var timeToFirstToken: BucketHistogram?
    package var latency: BucketHistogram?

    /// Why nothing could be read.
    package enum ReadError: Error, Hashable, Sendable, CustomStringConvertible {
        /// No well-formed sample: perhaps no metrics at all.
        case noMetrics(beginning: String)
        /// Metrics, but none of a server that is known.
        case unknownServer(samples: Int)
        /// OpenMetrics without its end.
        case truncated

        package var description: String {
            switch self {
            case .noMetrics(let beginning): "no metrics, but: \(beginning)"
            case .unknownServer(let samples):
                "\(samples) samples, none of a model server that is known"
            case .truncated: "the metrics end in the middle"
            }
        }
    }

    /// Reads an exposition.
    ///
    /// Which server it is, its metrics' names tell; where there are several servers' the one with
    /// more of them wins, then the order of `ModelServer`.
    /// - Parameter oldestTimestamp: samples that carry an older time, in seconds since 1970, do not
    ///   count.
    package static func read(
        _ bytes: RawSpan,
        format: ExpositionParser.Format = .text,
        oldestTimestamp: Double? = nil
    ) throws(ReadError) -> ServerMetrics {
        var parser = ExpositionParser(format: format)
        var collectors: [MetricCollector?] = Array(
            repeating: nil,
            count: ModelServer.allCases.count
        )
        while let sample = parser.next(bytes) {
            if let oldest = oldestTimestamp, let time = sample.timestamp, time < oldest { continue }
            guard let rules = MetricRule.byHash[MetricRule.hash(of: bytes, sample.name)] else {
                continue
            }
            for rule in rules where rule.isNamed(bytes, sample.name) {
                let index = rule.server.index
                var collector = collectors[index] ?? MetricCollector(server: rule.server)
                // Moved out, so that its arrays are not copied.
                collectors[index] = nil
                collector.take(sample, rule, parser, bytes)
                collectors[index] = collector
            }
        }
        if format == .openMetrics && !parser.hasEnd && parser.samples > 0 { throw .truncated }
        let best = collectors.compactMap { $0 }.max { $0.taken < $1.taken }
        guard let best else {
            if parser.samples > 0 { throw .unknownServer(samples: parser.samples) }
            throw .noMetrics(beginning: Self.beginning(bytes))
        }
        return best.metrics
    }

    /// The first words of what is no exposition, for a message.
    private static func beginning(_ bytes: RawSpan) -> String {
        let text = bytes.string(0..<min(bytes.byteCount, 60))
        let printable = text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }
        return bytes.byteCount == 0 ? "nothing" : String(String.UnicodeScalarView(printable))
    }
}

extension ModelServer {
    fileprivate var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// Gathers the samples of one server.
struct MetricCollector {
    private struct Slot {
        var rank = Int.max
        var value = 0.0
    }

    let server: ModelServer
    /// Samples that a rule named.
    private(set) var taken = 0
    private var slots = [Slot](repeating: Slot(), count: Signal.allCases.count)
    private var firstToken = BucketHistogram()
    private var latency = BucketHistogram()

    init(server: ModelServer) {
        self.server = server
    }

    mutating func take(
        _ sample: ExpositionParser.Sample,
        _ rule: MetricRule,
        _ parser: ExpositionParser,
        _ bytes: RawSpan
    ) {
        self.taken += 1
        if let label = rule.label, !self.matches(label, parser, bytes) { return }
        if self.server == .sgLang, self.isOtherRank(parser, bytes) { return }
        switch rule.signal {
        case .presence: return
        case .firstTokenBucket, .latencyBucket:
            guard let text = parser.label("le", bytes), let bound = Self.bound(text),
                sample.value >= 0
            else { return }
            let scaled = bound * rule.scale
            if rule.signal == .latencyBucket {
                self.latency.add(bound: scaled, count: sample.value)
            } else {
                self.firstToken.add(bound: scaled, count: sample.value)
            }
        default: self.add(sample.value * rule.scale, rule)
        }
    }

    private func matches(
        _ label: (name: String, value: String),
        _ parser: ExpositionParser,
        _ bytes: RawSpan
    ) -> Bool {
        // Paths are templates such as `/v2/models/{model_name}/infer`.
        if label.value.hasPrefix("/") {
            return parser.label(label.name, bytes)?.hasSuffix(label.value) == true
        }
        return parser.has(label.name, label.value, bytes)
    }

    /// Ranks of one model that work on the same requests: each would count them again.
    private func isOtherRank(_ parser: ExpositionParser, _ bytes: RawSpan) -> Bool {
        parser.labels.contains { label in
            ["tp_rank", "pp_rank", "moe_ep_rank"].contains { bytes.holds(label.name, $0) }
                && !bytes.holds(label.value, "0") && !label.value.isEmpty
        }
    }

    private mutating func add(_ value: Double, _ rule: MetricRule) {
        // NaN is also how a gauge says that it was not set.
        guard value.isFinite, value >= 0, rule.rank <= self.slots[rule.signal.rawValue].rank else {
            return
        }
        var slot = self.slots[rule.signal.rawValue]
        if rule.rank < slot.rank {
            slot = Slot(rank: rule.rank, value: value)
        } else {
            slot.value = rule.signal.takesLargest ? max(slot.value, value) : slot.value + value
        }
        self.slots[rule.signal.rawValue] = slot
    }

    private static func bound(_ text: String) -> Double? {
        let bytes = Array(text.utf8)
        // Sound: the bytes are initialised, and the span ends with the call.
        let number = unsafe ExpositionParser.number(bytes.span.bytes, 0..<bytes.count)
        return number.flatMap { $0.isNaN ? nil : $0 }
    }

    private func value(_ signal: Signal) -> Double? {
        let slot = self.slots[signal.rawValue]
        return slot.rank == .max ? nil : slot.value
    }

    /// A share is between 0 and 1; what lies beyond is something else and unknown.
    private func share(_ signal: Signal) -> Double? {
        self.value(signal).flatMap { $0 <= 1 ? $0 : nil }
    }

    var metrics: ServerMetrics {
        var metrics = ServerMetrics(server: self.server)
        metrics.running = self.running
        metrics.waiting = self.value(.waiting)
        metrics.kvCacheUse = self.share(.kvCacheUse) ?? self.blockUse
        metrics.promptTokensTotal = self.value(.promptTokens)
        metrics.generatedTokensTotal = self.value(.generatedTokens)
        metrics.prefixHitsTotal = self.value(.prefixHits)
        metrics.prefixQueriesTotal = self.value(.prefixQueries)
        if metrics.prefixQueriesTotal == nil, metrics.prefixHitsTotal != nil {
            // These count tokens of prompts that were found among all of them.
            metrics.prefixQueriesTotal = metrics.promptTokensTotal
        }
        metrics.prefixHitRate = self.share(.prefixHitRate)
        metrics.gpuUse = self.share(.gpuUse)
        metrics.timeToFirstToken = self.histogram(
            self.firstToken,
            .firstTokenSum,
            .firstTokenCount
        )
        metrics.latency = self.histogram(self.latency, .latencySum, .latencyCount)
        return metrics
    }

    /// What a server says, and what was begun over gRPC and not ended.
    private var running: Double? {
        let begun = self.value(.started).map { max(0, $0 - (self.value(.handled) ?? 0)) }
        guard let running = self.value(.running) else { return begun }
        return running + (begun ?? 0)
    }

    private var blockUse: Double? {
        guard let used = self.value(.kvBlocksUsed), let most = self.value(.kvBlocksMax), most > 0
        else { return nil }
        return min(1, used / most)
    }

    private func histogram(
        _ buckets: BucketHistogram,
        _ sum: Signal,
        _ count: Signal
    ) -> BucketHistogram? {
        guard let total = self.value(count) ?? buckets.buckets.last?.count else { return nil }
        var histogram = buckets
        histogram.count = total
        histogram.sum = self.value(sum) ?? 0
        return histogram
    }
}
