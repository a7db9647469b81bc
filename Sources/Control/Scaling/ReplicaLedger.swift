import Autoscaling
import Clusters
import Core

/// Follows replicas through their lives: how long starts and drains take, and what a group has.
///
/// A start counts from when it was asked for to readiness. A process that was started again by
/// itself counts from that start.
package struct ReplicaLedger {
    private struct Life {
        var askedAt: Instant
        /// Which start was counted last; nil: none yet.
        var countedStart: Int?
        var drainingSince: Instant?
        var restarts = 0
        /// When its last start began.
        var startedAt: Instant
    }

    private var lives: [ReplicaID: Life] = [:]
    /// Whose measurements are kept: those that somebody fetches.
    private var followed: Set<String> = []
    private var starts: [String: [Double]] = [:]
    private var drains: [String: [Double]] = [:]

    /// Measurements kept for somebody to fetch, per group.
    private static let pendingMax = 64
    /// A replica that has been failing its readiness check for so long will not come back soon.
    private static let notReadySecondsMax = 30.0
    /// One for which there is no room is waited for so long: that it waits is what makes an
    /// autoscaler of nodes bring one, which takes minutes. What leaves makes room, too.
    private static let noRoomSecondsMax = 600.0
    /// The same where another variant can do the work: it is cheaper to start that one and to go
    /// back than to let requests wait for a node.
    package static let noRoomSecondsOfPool = 120.0

    package init() {}

    /// Keeps what is measured of these groups and of no others. Lives of all replicas are known, so
    /// that a group that is followed later begins with the times of those under way.
    package mutating func follow(_ groups: Set<String>) {
        self.followed = groups
        self.starts = self.starts.filter { groups.contains($0.key) }
        self.drains = self.drains.filter { groups.contains($0.key) }
    }

    package mutating func note(_ change: ReplicaChange, at now: Instant) {
        switch change {
        case .updated(let status): self.update(status, at: now)
        case .removed(let id):
            guard let life = self.lives.removeValue(forKey: id) else { return }
            if let since = life.drainingSince {
                self.add(now.seconds(since: since), to: \.drains, of: id.group)
            }
        }
    }

    private mutating func update(_ status: ReplicaStatus, at now: Instant) {
        var life = self.lives[status.id] ?? Life(askedAt: status.since, startedAt: status.since)
        if status.restarts != life.restarts {
            life.restarts = status.restarts
            life.startedAt = now
        }
        if status.state == .ready, life.countedStart != status.restarts {
            life.countedStart = status.restarts
            let seconds =
                status.restarts == 0
                ? now.seconds(since: life.askedAt)
                : status.coldStart?.secondsAsDouble ?? now.seconds(since: life.startedAt)
            self.add(seconds, to: \.starts, of: status.id.group)
        }
        if status.isLeaving {
            // One that was never ready has no streams to wait for.
            if life.drainingSince == nil, status.state == .draining { life.drainingSince = now }
        } else {
            life.drainingSince = nil
        }
        self.lives[status.id] = life
    }

    private mutating func add(
        _ seconds: Double,
        to list: WritableKeyPath<ReplicaLedger, [String: [Double]]>,
        of group: String
    ) {
        guard self.followed.contains(group) else { return }
        var values = self[keyPath: list][group] ?? []
        if values.count >= Self.pendingMax { values.removeFirst() }
        values.append(seconds)
        self[keyPath: list][group] = values
    }

    /// Seconds from asking for a replica to its readiness, measured since this was called last.
    package mutating func takeStarts(of group: String) -> [Double] {
        self.starts.removeValue(forKey: group) ?? []
    }

    /// Seconds from draining to the end.
    package mutating func takeDrains(of group: String) -> [Double] {
        self.drains.removeValue(forKey: group) ?? []
    }

    // MARK: What there is

    /// - Parameter isInterchangeable: another variant can do what it does.
    package func counts(
        _ group: GroupStatus,
        isInterchangeable: Bool = false,
        at now: Instant
    ) -> ReplicaCounts {
        let patience = isInterchangeable ? Self.noRoomSecondsOfPool : Self.noRoomSecondsMax
        var counts = ReplicaCounts(ready: 0)
        for replica in group.replicas {
            if replica.isLeaving {
                counts.draining += 1
            } else if replica.state == .ready {
                counts.ready += 1
            } else if let obstacle = self.obstacle(replica, patience, at: now) {
                counts.stuck += 1
                counts.obstacle = Self.worse(counts.obstacle, obstacle)
            } else {
                counts.startingAges.append(self.startingSeconds(replica, at: now))
            }
        }
        return counts
    }

    private func startingSeconds(_ replica: ReplicaStatus, at now: Instant) -> Double {
        guard let life = self.lives[replica.id] else { return now.seconds(since: replica.since) }
        return now.seconds(since: life.restarts == 0 ? life.askedAt : life.startedAt)
    }

    private func obstacle(_ replica: ReplicaStatus, _ patience: Double, at now: Instant)
        -> Obstacle?
    {
        let message = replica.message.isEmpty ? replica.lastExit ?? "" : replica.message
        if let trouble = replica.trouble {
            let waited = now.seconds(since: replica.since)
            if trouble == .noRoom, waited < patience { return nil }
            return Obstacle(Self.kind(of: trouble), message: message)
        }
        guard replica.state == .notReady,
            now.seconds(since: replica.since) > Self.notReadySecondsMax
        else { return nil }
        return Obstacle(.startTimeout, message: message)
    }

    private static func kind(of trouble: StartTrouble) -> Obstacle.Kind {
        switch trouble {
        case .cannotStart: .imageError
        case .crashes: .crashLoop
        case .tooSlow: .startTimeout
        case .noRoom: .noCapacity
        case .refusedByQuota: .quota
        }
    }

    private static func worse(_ left: Obstacle?, _ right: Obstacle) -> Obstacle {
        guard let left else { return right }
        return self.rank(left.kind) >= self.rank(right.kind) ? left : right
    }

    private static func rank(_ kind: Obstacle.Kind) -> Int {
        switch kind {
        case .imageError: 4
        case .crashLoop: 3
        case .startTimeout: 2
        case .quota: 1
        case .noCapacity: 0
        }
    }
}
