import Autoscaling
import Core
import HTTPService

/// What a later run of Weir should know of scaling: how many replicas there were, how long drains
/// took, and what replicas were found to do. Cold starts are kept by the clusters.
///
/// Replicas are taken up again only for a short time after they were written down: what was right
/// an hour ago is no better than what the configuration says.
package struct ScalingMemory: Sendable, Equatable {
    package struct Group: Sendable, Equatable {
        package var replicas: Int
        package var drainSeconds: [Double]
        /// Nil: too little was learned to be of use.
        package var capacity: LearnedCapacity?

        package init(
            replicas: Int,
            drainSeconds: [Double] = [],
            capacity: LearnedCapacity? = nil
        ) {
            self.replicas = replicas
            self.drainSeconds = drainSeconds
            self.capacity = capacity
        }
    }

    /// What is wrong with a memory that was read.
    package struct Damage: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    package static let version = 1
    package static let drainsMax = 32
    package static let groupsMax = 100_000
    package static let bytesMax = 16 << 20
    /// How long the numbers of replicas hold.
    package static let replicasHoldSeconds = 600.0

    /// Seconds since 1970.
    package var savedAt: Double
    /// How old it was when it was read, in seconds.
    package var ageSeconds = 0.0
    package var groups: [String: Group] = [:]

    package init(savedAt: Double) {
        self.savedAt = savedAt
    }

    /// The replicas that a group had not long ago.
    package func replicas(of group: String, wallSeconds: Double) -> Int? {
        let age = wallSeconds - self.savedAt
        guard age >= 0, age <= Self.replicasHoldSeconds else { return nil }
        return self.groups[group]?.replicas
    }

    // MARK: As text

    package var text: String {
        let buffer = ByteBuffer(capacity: 4 << 10)
        var writer = JSONWriter(buffer)
        self.write(to: &writer)
        return buffer.readable.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    package func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member("version", Self.version)
            $0.member("savedAt", self.savedAt)
            $0.key("groups")
            $0.object { writer in
                for (name, group) in self.groups.sorted(by: { $0.key < $1.key }) {
                    writer.key(escaping: name)
                    writer.object {
                        $0.member("replicas", group.replicas)
                        $0.member(
                            "drainSeconds",
                            array: { writer in
                                for seconds in group.drainSeconds { writer.number(seconds) }
                            }
                        )
                        if let capacity = group.capacity {
                            $0.key("capacity")
                            capacity.write(to: &$0)
                        }
                    }
                }
            }
        }
    }

    /// - Throws: what is wrong with it, for people.
    package init(_ text: [UInt8]) throws(Damage) {
        self.savedAt = 0
        do throws(JSONError) {
            try self.read(text)
        } catch {
            throw Damage(description: "\(error)")
        }
    }

    private mutating func read(_ text: [UInt8]) throws(JSONError) {
        var cursor = JSONCursor()
        let bytes = text.span.bytes
        var version: Int?
        var savedAt: Double?
        var groups: [String: Group] = [:]
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(text, key) {
            case "version": version = try cursor.integer(bytes)
            case "savedAt": savedAt = try cursor.number(bytes)
            case "groups": groups = try Self.groups(&cursor, text)
            default: _ = try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
        guard version == Self.version else {
            throw cursor.error("it is of version \(version ?? 0), not \(Self.version)")
        }
        guard let savedAt, savedAt.isFinite else { throw cursor.error("`savedAt` is missing") }
        self.savedAt = savedAt
        self.groups = groups
    }

    private static func groups(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> [String: Group] {
        let bytes = text.span.bytes
        var groups: [String: Group] = [:]
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard groups.count < Self.groupsMax else {
                throw cursor.error("there are more than \(Self.groupsMax) groups")
            }
            groups[Self.text(text, key)] = try Self.group(&cursor, text)
        }
        return groups
    }

    private static func group(
        _ cursor: inout JSONCursor,
        _ text: [UInt8]
    ) throws(JSONError) -> Group {
        let bytes = text.span.bytes
        var group = Group(replicas: 0)
        try cursor.object(bytes) { (cursor, member) throws(JSONError) in
            switch Self.text(text, member) {
            case "replicas": group.replicas = try cursor.integer(bytes)
            case "capacity": group.capacity = try LearnedCapacity(&cursor, text)
            case "drainSeconds":
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    let seconds = try cursor.number(bytes)
                    guard seconds.isFinite, seconds >= 0 else {
                        throw cursor.error("a drain of \(seconds) seconds")
                    }
                    if group.drainSeconds.count < Self.drainsMax {
                        group.drainSeconds.append(seconds)
                    }
                }
            default: _ = try cursor.skip(bytes)
            }
        }
        guard group.replicas >= 0 else { throw cursor.error("\(group.replicas) replicas") }
        return group
    }

    /// Names of groups need no escapes.
    private static func text(_ bytes: [UInt8], _ range: Range<Int>) -> String {
        String(decoding: bytes[range], as: UTF8.self)
    }
}
