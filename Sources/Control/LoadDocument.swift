import Core
import HTTPService
import Orchestration
import Proxy

/// What a gateway counted for autoscaling, as JSON: `GET /api/v1/load`.
///
/// Counters only grow (those with nanoseconds modulo 2^64), so that a controller that asks several
/// gateways takes the differences, and loses nothing by a report that it missed. `gateway` is
/// another one after each start. Times are histograms: pairs of a bucket of `LatencyHistogram` and
/// how many it counts.
package struct LoadDocument: Sendable {
    package var gateway: UInt64
    package var at: Instant
    package var models: [ModelStatistics]
    /// On a cluster: requests in flight by the pod's UID, where there are any.
    package var pods: [String: Int] = [:]
    /// On a cluster: groups that nothing can be sent to, and why.
    package var unserved: [String: EndpointGap] = [:]

    package static let podsMax = 100_000
    package static let modelsMax = 100_000
    package static let variantsMax = 1_000
    /// Of anything: more than any gateway counts, and sums of very many stay within 64 bits.
    package static let countMax: UInt64 = 1 << 48

    package init(gateway: UInt64, at: Instant, models: [ModelStatistics]) {
        self.gateway = gateway
        self.at = at
        self.models = models
    }

    /// As a source of a `LoadLedger`; numbers of sources are the ledger's owner's.
    package func load(source: Int) -> WorkerLoad {
        WorkerLoad(
            worker: source,
            at: self.at,
            models: self.models.map { model in
                var model = model
                model.epoch = self.gateway
                return model
            }
        )
    }

    // MARK: Writing

    package func write(to writer: inout JSONWriter) {
        writer.object {
            // Numbers beyond 2^53 are no numbers to many readers.
            $0.member("gateway", "\(self.gateway)")
            $0.member("at", "\(self.at.nanoseconds)")
            $0.member(
                "models",
                array: { writer in
                    for model in self.models { Self.write(model, &writer) }
                }
            )
            if !self.pods.isEmpty { $0.member("pods", object: { self.writePods(&$0) }) }
            if self.unserved.isEmpty { return }
            $0.member("unserved", object: { self.writeUnserved(&$0) })
        }
    }

    private func writePods(_ writer: inout JSONWriter) {
        for (uid, count) in self.pods.sorted(by: { $0.key < $1.key }) {
            writer.key(escaping: uid)
            writer.integer(count)
        }
    }

    private func writeUnserved(_ writer: inout JSONWriter) {
        for (group, gap) in self.unserved.sorted(by: { $0.key < $1.key }) {
            writer.key(escaping: group)
            writer.string(gap.rawValue)
        }
    }

    private static func write(_ model: ModelStatistics, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", model.name)
            $0.member("arrivals", model.arrivals)
            $0.member("unrouted", object: { Self.write(codes: model.unrouted, &$0) })
            $0.member("queued", model.queue.count)
            $0.member("queuedNanoseconds", "\(model.queue.nanoseconds)")
            $0.member("queueWait", array: { model.queueWait.write(to: &$0) })
            $0.member(
                "variants",
                array: { writer in
                    for variant in model.variants { Self.write(variant, &writer) }
                }
            )
        }
    }

    private static func write(_ variant: VariantStatistics, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", variant.name)
            $0.member("requests", object: { Self.write(codes: variant.requestsByCode, &$0) })
            $0.member("mirrored", variant.mirrored)
            $0.member("pinnedArrivals", variant.pinnedArrivals)
            $0.member("pinnedQueued", variant.pinnedQueue.count)
            $0.member("pinnedQueuedNanoseconds", "\(variant.pinnedQueue.nanoseconds)")
            $0.member("inFlight", variant.inFlight)
            $0.member("inFlightNanoseconds", "\(variant.inFlightNanoseconds)")
            $0.member("inputTokens", variant.inputTokens)
            $0.member("outputTokens", variant.outputTokens)
            $0.member("duration", array: { variant.duration.write(to: &$0) })
            $0.member("timeToFirstToken", array: { variant.timeToFirstToken.write(to: &$0) })
        }
    }

    private static func write(codes: [UInt16: UInt64], _ writer: inout JSONWriter) {
        for (code, count) in codes.sorted(by: { $0.key < $1.key }) {
            writer.key(escaping: "\(code)")
            writer.integer(count)
        }
    }

    // MARK: Reading

    /// - Throws: what is wrong with the document and where.
    package init(_ text: [UInt8]) throws(JSONError) {
        self.init(gateway: 0, at: .zero, models: [])
        var cursor = JSONCursor()
        let bytes = text.span.bytes
        var gateway: UInt64?
        var at: UInt64?
        var models: [ModelStatistics] = []
        var pods: [String: Int] = [:]
        var unserved: [String: EndpointGap] = [:]
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(text, key) {
            case "gateway": gateway = try Self.number(&cursor, text)
            case "at": at = try Self.number(&cursor, text)
            case "models":
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    guard models.count < Self.modelsMax else {
                        throw cursor.error("there are more than \(Self.modelsMax) models")
                    }
                    models.append(try Self.model(&cursor, text))
                }
            case "pods": pods = try Self.pods(&cursor, text)
            case "unserved": unserved = try Self.unserved(&cursor, text)
            default: try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
        guard let gateway, let at else { throw cursor.error("`gateway` or `at` is missing") }
        self.gateway = gateway
        self.at = Instant(nanoseconds: at)
        self.models = models
        self.pods = pods
        self.unserved = unserved
    }

    private static func pods(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> [String: Int] {
        var pods: [String: Int] = [:]
        try cursor.object(text.span.bytes) { (cursor, key) throws(JSONError) in
            guard pods.count < Self.podsMax else {
                throw cursor.error("there are more than \(Self.podsMax) pods")
            }
            pods[Self.text(text, key)] = Int(clamping: try Self.count(&cursor, text))
        }
        return pods
    }

    /// A newer gateway may know gaps that we do not: those are left out.
    private static func unserved(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> [String: EndpointGap] {
        let bytes = text.span.bytes
        var gaps: [String: EndpointGap] = [:]
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard gaps.count < Self.podsMax else {
                throw cursor.error("there are more than \(Self.podsMax) groups")
            }
            gaps[Self.text(text, key)] = EndpointGap(rawValue: try cursor.string(bytes))
        }
        return gaps
    }

    private static func model(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> ModelStatistics {
        let bytes = text.span.bytes
        var model = ModelStatistics(name: "")
        var queued = 0
        var nanoseconds: UInt64 = 0
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(text, key) {
            case "name": model.name = try cursor.string(bytes)
            case "arrivals": model.arrivals = try Self.count(&cursor, text)
            case "unrouted": model.unrouted = try Self.codes(&cursor, text)
            case "queued": queued = Int(clamping: try Self.count(&cursor, text))
            case "queuedNanoseconds": nanoseconds = try Self.number(&cursor, text)
            case "queueWait": model.queueWait = try Self.histogram(&cursor, text)
            case "variants":
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    guard model.variants.count < Self.variantsMax else {
                        throw cursor.error("there are more than \(Self.variantsMax) variants")
                    }
                    model.variants.append(try Self.variant(&cursor, text))
                }
            default: try cursor.skip(bytes)
            }
        }
        model.queue = TimedCount(count: queued, nanoseconds: nanoseconds)
        return model
    }

    private static func variant(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> VariantStatistics {
        let bytes = text.span.bytes
        var variant = VariantStatistics(name: "")
        var queued = 0
        var nanoseconds: UInt64 = 0
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(text, key) {
            case "name": variant.name = try cursor.string(bytes)
            case "requests": variant.requestsByCode = try Self.codes(&cursor, text)
            case "mirrored": variant.mirrored = try Self.count(&cursor, text)
            case "pinnedArrivals": variant.pinnedArrivals = try Self.count(&cursor, text)
            case "pinnedQueued": queued = Int(clamping: try Self.count(&cursor, text))
            case "pinnedQueuedNanoseconds": nanoseconds = try Self.number(&cursor, text)
            case "inFlight": variant.inFlight = Int(clamping: try Self.count(&cursor, text))
            case "inFlightNanoseconds":
                variant.inFlightNanoseconds = try Self.number(&cursor, text)
            case "inputTokens": variant.inputTokens = try Self.count(&cursor, text)
            case "outputTokens": variant.outputTokens = try Self.count(&cursor, text)
            case "duration": variant.duration = try Self.histogram(&cursor, text)
            case "timeToFirstToken":
                variant.timeToFirstToken = try Self.histogram(&cursor, text)
            default: try cursor.skip(bytes)
            }
        }
        variant.pinnedQueue = TimedCount(count: queued, nanoseconds: nanoseconds)
        return variant
    }

    private static func codes(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> [UInt16: UInt64] {
        var codes: [UInt16: UInt64] = [:]
        try cursor.object(text.span.bytes) { (cursor, key) throws(JSONError) in
            guard let code = UInt16(Self.text(text, key)), code < 1_000 else {
                throw cursor.error("a status must be a number below 1000")
            }
            codes[code] = try Self.count(&cursor, text)
        }
        return codes
    }

    private static func histogram(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> LatencyHistogram {
        var histogram = LatencyHistogram()
        var bucket: Int?
        var last = -1
        try cursor.array(text.span.bytes) { (cursor) throws(JSONError) in
            let value = try cursor.integer(text.span.bytes)
            if let index = bucket {
                guard value > 0, UInt64(value) <= Self.countMax else {
                    throw cursor.error("a bucket counts \(value)")
                }
                histogram.record(bucket: index, times: UInt64(value))
                bucket = nil
            } else {
                guard (0..<LatencyHistogram.bucketCount).contains(value) else {
                    throw cursor.error("there is no bucket \(value)")
                }
                guard value > last else { throw cursor.error("bucket \(value) after \(last)") }
                bucket = value
                last = value
            }
        }
        if bucket != nil { throw cursor.error("a bucket without its count") }
        return histogram
    }

    private static func count(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> UInt64 {
        let value = try cursor.integer(text.span.bytes)
        guard value >= 0, UInt64(value) <= Self.countMax else {
            throw cursor.error("a count of \(value)")
        }
        return UInt64(value)
    }

    /// A number of 64 bits, written as a string.
    private static func number(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> UInt64 {
        guard let value = UInt64(try cursor.string(text.span.bytes)) else {
            throw cursor.error("expected a whole number of 64 bits, as a string")
        }
        return value
    }

    private static func text(_ bytes: [UInt8], _ range: Range<Int>) -> String {
        String(decoding: bytes[range], as: UTF8.self)
    }
}

extension LatencyHistogram {
    /// Pairs of bucket and count, for those that counted any.
    fileprivate func write(to writer: inout JSONWriter) {
        self.forEachOccupied { bucket, count in
            writer.integer(bucket)
            writer.integer(count)
        }
    }
}
