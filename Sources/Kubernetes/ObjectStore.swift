import Core

/// What has changed in a copy.
package enum ObjectChange<Value> {
    case added(ObjectKey, Value)
    case modified(ObjectKey, old: Value, new: Value)
    /// As it was last seen; it may have changed further before it went.
    case deleted(ObjectKey, Value)

    package var key: ObjectKey {
        switch self {
        case .added(let key, _), .modified(let key, _, _), .deleted(let key, _): key
        }
    }
}

/// A copy of a collection, by name.
///
/// A new state is taken over object by object: each is marked with the state's number, and what
/// has an older one at its end is gone. So there is never a second copy in memory.
package struct ObjectStore<Value> {
    private struct Entry {
        var value: Value
        var version: ResourceVersion
        var state: UInt32
    }

    private var entries: [ObjectKey: Entry] = [:]
    private var state: UInt32 = 0

    package init() {}

    package var count: Int { self.entries.count }
    package subscript(_ key: ObjectKey) -> Value? { self.entries[key]?.value }
    package func version(of key: ObjectKey) -> ResourceVersion? { self.entries[key]?.version }
    package var keys: [ObjectKey] { Array(self.entries.keys) }

    package func forEach(_ body: (ObjectKey, Value) -> Void) {
        for (key, entry) in self.entries { body(key, entry.value) }
    }

    /// A new state begins.
    package mutating func beginState() {
        self.state &+= 1
    }

    /// Whether the object is there in exactly this version; if so, it belongs to the new state.
    package mutating func confirm(_ key: ObjectKey, _ version: ResourceVersion) -> Bool {
        guard let index = self.entries.index(forKey: key),
            self.entries.values[index].version == version, !version.isEmpty
        else { return false }
        self.entries.values[index].state = self.state
        return true
    }

    /// The object cannot be read now: it stays as it was.
    package mutating func keep(_ key: ObjectKey) {
        guard let index = self.entries.index(forKey: key) else { return }
        self.entries.values[index].state = self.state
    }

    package mutating func put(
        _ key: ObjectKey,
        _ value: Value,
        _ version: ResourceVersion
    ) -> ObjectChange<Value> {
        let entry = Entry(value: value, version: version, state: self.state)
        if let old = self.entries.updateValue(entry, forKey: key) {
            return .modified(key, old: old.value, new: value)
        }
        return .added(key, value)
    }

    package mutating func remove(_ key: ObjectKey) -> ObjectChange<Value>? {
        self.entries.removeValue(forKey: key).map { .deleted(key, $0.value) }
    }

    /// The new state is complete: takes out what it did not name.
    package mutating func finishState() -> [ObjectChange<Value>] {
        let gone = self.entries.filter { $0.value.state != self.state }.keys.sorted()
        return gone.compactMap { self.remove($0) }
    }
}

/// Knows of own writes until the copy has caught up with them, so that nobody decides by what was
/// there before (read-your-writes).
///
/// A write is seen when its version comes by. It may have come already, before the answer to the
/// write: the last `recentMax` versions are remembered. A complete state that was asked for after
/// the write has seen it too. Whoever waits longer than `patience` is told to go on: an event may
/// have been lost with a stream.
package struct WriteTracker: Sendable {
    package static let recentMax = 4_096
    package static let writesMax = 10_000
    package static let patience = Duration.seconds(60)

    private struct Write: Sendable {
        var version: ResourceVersion
        var at: Instant
    }

    private let comparesVersions: Bool
    private var writes: [ObjectKey: Write] = [:]
    private var recent: Set<ResourceVersion> = []
    private var recentOrder: [ResourceVersion] = []
    private var oldest = 0
    private var stateBegan = Instant.zero

    /// - Parameter comparesVersions: whether the server promises versions that grow (from
    ///   Kubernetes 1.35 on); a later one counts as seen too.
    package init(comparesVersions: Bool = false) {
        self.comparesVersions = comparesVersions
    }

    /// A write was answered with this version.
    package mutating func wrote(_ key: ObjectKey, _ version: ResourceVersion, now: Instant) {
        if self.recent.contains(version) || version.isEmpty { return }
        if self.writes.count >= Self.writesMax {
            self.writes = self.writes.filter { now - $0.value.at < Self.patience }
            // Full of younger ones: the new one is not waited for.
            if self.writes.count >= Self.writesMax { return }
        }
        self.writes[key] = Write(version: version, at: now)
    }

    /// An event or an item of a list has come by.
    package mutating func saw(_ key: ObjectKey, _ version: ResourceVersion) {
        self.remember(version)
        guard let write = self.writes[key] else { return }
        let isLater = self.comparesVersions && version.isAtLeast(write.version) == true
        if write.version == version || isLater { self.writes[key] = nil }
    }

    package mutating func sawDeletion(_ key: ObjectKey, _ version: ResourceVersion) {
        self.remember(version)
        self.writes[key] = nil
    }

    /// A state is being asked for that will be no older than this moment.
    package mutating func beganState(now: Instant) {
        self.stateBegan = now
    }

    /// That state is complete.
    package mutating func finishedState() {
        let began = self.stateBegan
        self.writes = self.writes.filter { $0.value.at >= began }
    }

    /// Whether the copy of this object has caught up with what was written here.
    package func isCurrent(_ key: ObjectKey, now: Instant) -> Bool {
        guard let write = self.writes[key] else { return true }
        return now - write.at > Self.patience
    }

    private mutating func remember(_ version: ResourceVersion) {
        guard self.recent.insert(version).inserted else { return }
        if self.recentOrder.count < Self.recentMax {
            self.recentOrder.append(version)
        } else {
            self.recent.remove(self.recentOrder[self.oldest])
            self.recentOrder[self.oldest] = version
            self.oldest = (self.oldest + 1) % Self.recentMax
        }
    }
}
