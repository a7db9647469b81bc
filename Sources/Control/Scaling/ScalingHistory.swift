import Autoscaling

/// A change of a number of replicas, as it was made (or, in a dry run, would have been).
package struct ScalingChange: Sendable, Hashable {
    package enum Direction: String, Sendable, CaseIterable {
        case up
        case down
    }

    package var model: String
    package var variant: String
    package var group: String
    package var from: Int
    package var to: Int
    package var reason: ScalingReason
    /// For people.
    package var text: String
    package var isDryRun: Bool
    /// Since 1970.
    package var wallSeconds: Double

    package var direction: Direction { self.to > self.from ? .up : .down }
}

/// The last changes of all models, oldest first, and how many there ever were of each kind.
package struct ScalingHistory: Sendable {
    package static let capacity = 1_024

    package struct Kind: Sendable, Hashable {
        package var direction: ScalingChange.Direction
        package var reason: ScalingReason

        package init(direction: ScalingChange.Direction, reason: ScalingReason) {
            self.direction = direction
            self.reason = reason
        }
    }

    private var ring: [ScalingChange] = []
    private var next = 0
    private var counts: [String: [Kind: UInt64]] = [:]

    package init() {}

    package var changes: [ScalingChange] {
        Array(self.ring[self.next...] + self.ring[..<self.next])
    }

    package func counts(of model: String) -> [Kind: UInt64] { self.counts[model] ?? [:] }

    package mutating func append(_ change: ScalingChange) {
        let kind = Kind(direction: change.direction, reason: change.reason)
        self.counts[change.model, default: [:]][kind, default: 0] += 1
        if self.ring.count < Self.capacity {
            self.ring.append(change)
        } else {
            self.ring[self.next] = change
            self.next = (self.next + 1) % Self.capacity
        }
    }

    package mutating func forget(except names: (String) -> Bool) {
        self.counts = self.counts.filter { names($0.key) }
    }
}
