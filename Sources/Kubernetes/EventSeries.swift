import Core
import HTTPService

/// An object that an event is about, or that names itself in one.
package struct ObjectReference: Hashable, Sendable {
    package var apiVersion: String
    package var kind: String
    package var namespace: String
    package var name: String
    package var uid: String
    package var version: ResourceVersion

    package init(
        apiVersion: String,
        kind: String,
        namespace: String,
        name: String,
        uid: String = "",
        version: ResourceVersion = ResourceVersion("")
    ) {
        self.apiVersion = apiVersion
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.version = version
    }

    package init(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.init(
            apiVersion: object.apiVersion,
            kind: object.kind,
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            version: metadata.resourceVersion
        )
    }

    var value: JSONValue {
        var value: JSONValue = [
            "apiVersion": .string(self.apiVersion), "kind": .string(self.kind),
            "name": .string(self.name),
        ]
        if !self.namespace.isEmpty { value["namespace"] = .string(self.namespace) }
        if !self.uid.isEmpty { value["uid"] = .string(self.uid) }
        if !self.version.isEmpty { value["resourceVersion"] = .string(self.version.text) }
        return value
    }

    /// The same object, in whatever version.
    var withoutVersion: ObjectReference {
        var reference = self
        reference.version = ResourceVersion("")
        return reference
    }
}

/// Something that happened to an object, for people to read.
package struct EventNote: Sendable, Hashable {
    package var isWarning: Bool
    /// CamelCase, why: `ScaledUp`.
    package var reason: String
    /// CamelCase, what was done or tried: `Scale`.
    package var action: String
    /// A sentence.
    package var note: String
    package var regarding: ObjectReference
    package var related: ObjectReference?

    package init(
        isWarning: Bool = false,
        reason: String,
        action: String,
        note: String,
        regarding: ObjectReference,
        related: ObjectReference? = nil
    ) {
        self.isWarning = isWarning
        self.reason = reason
        self.action = action
        self.note = note
        self.regarding = regarding
        self.related = related
    }
}

/// The bounds of what is told.
package struct EventOptions: Sendable, Hashable {
    /// `weir.dev/controller`.
    package var controller: String
    /// This process, at most 128 bytes.
    package var instance: String
    /// Events of one object: at once, and then per second in the long run.
    package var burst = 25.0
    package var perSecond = 1.0 / 300
    /// A series that is silent for so long has ended.
    package var seriesEnd = Duration.seconds(360)
    /// A series that goes on is written so often.
    package var refresh = Duration.seconds(1_800)
    /// Series and sources that are remembered.
    package var seriesMax = 4_096
    package var sourcesMax = 4_096
    /// Writes that wait; more are dropped, and counted.
    package var queueMax = 1_000
    package var triesMax = 12
    package var retryAfter = Duration.seconds(10)

    package init(controller: String, instance: String) {
        self.controller = controller
        self.instance = instance
    }
}

/// Joins events that repeat into series and holds back floods, as `events.k8s.io/v1` asks for.
///
/// The first occurrence becomes an event; the second one makes it a series; further ones are
/// written every `refresh`, and at the end of the series. A value: told the time.
package struct EventSeries: Sendable {
    /// What is to be written.
    package enum Write: Sendable, Equatable {
        case create(KubernetesObject)
        /// A merge patch of an event that was created.
        case patch(ObjectKey, JSONValue)
    }

    private struct Key: Hashable {
        var isWarning: Bool
        var action: String
        var reason: String
        var regarding: ObjectReference
        var related: ObjectReference?
    }

    private struct Series {
        var event: KubernetesObject
        var count = 1
        var writtenCount = 1
        var lastSeen: Instant
        var lastSeenWall: Double
        var lastWrite: Instant
    }

    package static let noteBytesMax = 1_024
    package static let wordBytesMax = 128

    package let options: EventOptions
    private var series: [Key: Series] = [:]
    private var sources: [ObjectReference: TokenBucket] = [:]
    /// Events that were held back.
    package private(set) var suppressed = 0

    package init(_ options: EventOptions) {
        self.options = options
    }

    package var seriesCount: Int { self.series.count }

    /// Something has happened. Nil where there is nothing to write now.
    ///
    /// - Parameters:
    ///   - wallTime: seconds since 1970.
    ///   - random: makes the event's name unique.
    package mutating func record(
        _ note: EventNote,
        now: Instant,
        wallTime: Double,
        random: inout RandomSource
    ) -> Write? {
        let key = Key(
            isWarning: note.isWarning,
            action: note.action,
            reason: note.reason,
            regarding: note.regarding.withoutVersion,
            related: note.related?.withoutVersion
        )
        if var series = self.series[key], now - series.lastSeen < self.options.seriesEnd {
            series.count += 1
            series.lastSeen = now
            series.lastSeenWall = wallTime
            let isDue = series.count == 2 || now - series.lastWrite >= self.options.refresh
            let write = isDue ? self.patch(&series, now) : nil
            self.series[key] = series
            return write
        }
        guard self.isAllowed(note.regarding.withoutVersion, now), self.makeRoom(now) else {
            self.suppressed += 1
            return nil
        }
        let event = self.event(note, wallTime, random.next())
        self.series[key] = Series(
            event: event,
            lastSeen: now,
            lastSeenWall: wallTime,
            lastWrite: now
        )
        return .create(event)
    }

    /// Ends series that have been silent: what is still to be written of them. To be called every
    /// minute or so.
    package mutating func expire(now: Instant) -> [Write] {
        var writes: [Write] = []
        for (key, old) in self.series where now - old.lastSeen >= self.options.seriesEnd {
            var series = old
            if series.count > series.writtenCount { writes.append(self.patch(&series, now)) }
            self.series[key] = nil
        }
        return writes
    }

    /// The event of a patch is gone (the server keeps them for an hour): what to create instead.
    package func replacement(of key: ObjectKey) -> Write? {
        for series in self.series.values where series.event.key == key {
            var event = series.event
            event["series"] = self.seriesValue(series)
            return .create(event)
        }
        return nil
    }

    // MARK: Helpers

    private func patch(_ series: inout Series, _ now: Instant) -> Write {
        series.lastWrite = now
        series.writtenCount = series.count
        return .patch(series.event.key, ["series": self.seriesValue(series)])
    }

    private func seriesValue(_ series: Series) -> JSONValue {
        [
            "count": .integer(series.count),
            "lastObservedTime": .string(WallTime.micro(series.lastSeenWall)),
        ]
    }

    private func event(_ note: EventNote, _ wallTime: Double, _ unique: UInt64) -> KubernetesObject
    {
        let namespace = note.regarding.namespace.isEmpty ? "default" : note.regarding.namespace
        let suffix = String(unique, radix: 16)
        let name = "\(note.regarding.name.prefix(200)).\(suffix)"
        var event = KubernetesObject(.events, namespace: namespace, name: name)
        event["eventTime"] = .string(WallTime.micro(wallTime))
        event["reportingController"] = .string(self.options.controller)
        event["reportingInstance"] = .string(Self.clip(self.options.instance, Self.wordBytesMax))
        event["action"] = .string(Self.clip(note.action, Self.wordBytesMax))
        event["reason"] = .string(Self.clip(note.reason, Self.wordBytesMax))
        event["type"] = note.isWarning ? "Warning" : "Normal"
        event["note"] = .string(Self.clip(note.note, Self.noteBytesMax))
        event["regarding"] = note.regarding.value
        if let related = note.related { event["related"] = related.value }
        return event
    }

    /// At most that many bytes, whole characters.
    static func clip(_ text: String, _ bytesMax: Int) -> String {
        if text.utf8.count <= bytesMax { return text }
        var result = ""
        var count = 3
        for character in text {
            count += character.utf8.count
            if count > bytesMax { break }
            result.append(character)
        }
        return result + "…"
    }

    private mutating func isAllowed(_ source: ObjectReference, _ now: Instant) -> Bool {
        if self.sources[source] == nil, self.sources.count >= self.options.sourcesMax {
            // Those that are full again need not be remembered.
            self.sources = self.sources.filter { !$0.value.isFull(now: now) }
            if self.sources.count >= self.options.sourcesMax { return false }
        }
        return self.sources[
            source,
            default: TokenBucket(
                perSecond: self.options.perSecond,
                burst: self.options.burst,
                now: now
            )
        ].take(now: now) == nil
    }

    private mutating func makeRoom(_ now: Instant) -> Bool {
        if self.series.count < self.options.seriesMax { return true }
        self.series = self.series.filter { now - $0.value.lastSeen < self.options.seriesEnd }
        if self.series.count < self.options.seriesMax { return true }
        guard let oldest = self.series.min(by: { $0.value.lastSeen < $1.value.lastSeen }) else {
            return false
        }
        self.series[oldest.key] = nil
        return true
    }
}
