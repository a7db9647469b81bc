import Core
import HTTPService

/// Which models requests wait for at a gateway: what the controller hears at once instead of with
/// its next question about loads.
///
/// Each entry has a number; whoever has heard of all up to some number asks for those after it.
/// Entries are forgotten after `keptFor`: by then the loads have told.
package struct WakeLog: Sendable {
    package struct Wake: Sendable, Hashable {
        package var model: String
        /// The variant that the request must go to; nil where any will do.
        package var variant: String?

        package init(model: String, variant: String?) {
            self.model = model
            self.variant = variant
        }
    }

    private struct Entry {
        var wake: Wake
        var number: Int
        var at: Instant
    }

    /// Entries at most; the oldest go.
    package static let entriesMax = 10_000
    /// The same again within this time is not told again: one request stands for thousands.
    package static let quietFor = Duration.seconds(1)
    package static let keptFor = Duration.seconds(10)

    private var entries: [Entry] = []
    private var lastTold: [Wake: Instant] = [:]
    /// The number of the newest entry; 0 before the first.
    package private(set) var last = 0

    package init() {}

    /// A request waits.
    /// - Returns: whether that is news.
    package mutating func note(_ wake: Wake, at now: Instant) -> Bool {
        if let told = self.lastTold[wake], now - told < Self.quietFor { return false }
        self.forget(at: now)
        if self.entries.count >= Self.entriesMax { self.drop(1) }
        self.last += 1
        self.lastTold[wake] = now
        self.entries.append(Entry(wake: wake, number: self.last, at: now))
        return true
    }

    /// What came after a number. A number that was never given out is another run's: then all.
    package mutating func wakes(after number: Int, at now: Instant) -> [Wake] {
        self.forget(at: now)
        let start = number > self.last ? 0 : number
        return self.entries.filter { $0.number > start }.map(\.wake)
    }

    private mutating func forget(at now: Instant) {
        self.drop(self.entries.prefix { now - $0.at >= Self.keptFor }.count)
    }

    private mutating func drop(_ count: Int) {
        for entry in self.entries.prefix(count) where self.lastTold[entry.wake] == entry.at {
            self.lastTold[entry.wake] = nil
        }
        self.entries.removeFirst(count)
    }
}

/// `GET /api/v1/wakes?after=NUMBER&seconds=NUMBER`.
package struct WakeQuestion: Sendable, Equatable {
    /// The number that the last answer named; 0 for the first question.
    package var after: Int
    /// How long to wait for something to say.
    package var seconds: Int

    package static let secondsMax = 60

    package init(after: Int, seconds: Int) {
        self.after = after
        self.seconds = seconds
    }

    /// Nil where it makes no sense.
    package init?(query: String?) {
        var after = 0
        var seconds = 0
        for pair in (query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, let number = Int(parts[1]), number >= 0 else { return nil }
            switch parts[0] {
            case "after": after = number
            case "seconds": seconds = number
            default: return nil
            }
        }
        guard (1...Self.secondsMax).contains(seconds) else { return nil }
        self.init(after: after, seconds: seconds)
    }

    package var target: String { "/api/v1/wakes?after=\(self.after)&seconds=\(self.seconds)" }
}

/// The answer: nothing, where the time passed without a wake.
package struct WakeAnswer: Sendable, Equatable {
    /// What to ask for next time. Begins anew with each start of the gateway.
    package var last: Int
    package var wakes: [WakeLog.Wake]

    package init(last: Int, wakes: [WakeLog.Wake]) {
        self.last = last
        self.wakes = wakes
    }

    package func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member("last", self.last)
            $0.member("wakes", array: { for wake in self.wakes { Self.write(wake, &$0) } })
        }
    }

    private static func write(_ wake: WakeLog.Wake, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("model", wake.model)
            if let variant = wake.variant { $0.member("variant", variant) }
        }
    }

    /// - Throws: what is wrong with the document and where.
    package init(_ text: [UInt8]) throws(JSONError) {
        let bytes = text.span.bytes
        var cursor = JSONCursor()
        var last: Int?
        var wakes: [WakeLog.Wake] = []
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch String(decoding: text[key], as: UTF8.self) {
            case "last": last = try cursor.integer(bytes)
            case "wakes":
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    guard wakes.count < WakeLog.entriesMax else {
                        throw cursor.error("there are more than \(WakeLog.entriesMax) wakes")
                    }
                    wakes.append(try Self.wake(&cursor, text))
                }
            default: try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
        guard let last, last >= 0 else { throw cursor.error("`last` is missing, or below 0") }
        self.init(last: last, wakes: wakes)
    }

    private static func wake(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> WakeLog.Wake {
        let bytes = text.span.bytes
        var model: String?
        var variant: String?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch String(decoding: text[key], as: UTF8.self) {
            case "model": model = try cursor.string(bytes)
            case "variant": variant = try cursor.string(bytes)
            default: try cursor.skip(bytes)
            }
        }
        guard let model else { throw cursor.error("a wake without `model`") }
        return WakeLog.Wake(model: model, variant: variant)
    }
}
