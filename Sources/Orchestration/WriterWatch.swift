import Core

/// Notices that somebody else writes a workload's number of replicas, and makes room.
///
/// Two writers with different opinions would take turns for ever. A number that we did not write is
/// taken as it is and left alone for a while, longer each time; while an autoscaler of somebody
/// else's aims at the workload, nothing is written at all.
package struct WriterWatch: Sendable {
    package struct Edit: Sendable, Hashable {
        package var from: Int
        package var to: Int
    }

    /// After a first foreign edit; doubled with each further one.
    package static let holdFirst = Duration.seconds(30)
    package static let holdMax = Duration.seconds(600)
    /// Without a foreign edit for so long, the next one is the first again.
    package static let calmAfter = Duration.seconds(1_800)
    /// For so long a number from before our write may still be reported.
    package static let staleMax = Duration.seconds(10)

    /// The objects that aim at the same workload: `HorizontalPodAutoscaler a/b`.
    package var rivals: Set<String> = []
    package private(set) var lastEdit: Edit?
    private var known: Int?
    /// What was there before our writes of late, until the last of them was seen: several may be
    /// under way, and the news of each comes in its own time.
    private var stale: [(replicas: Int, until: Instant)] = []
    private static let staleCountMax = 16
    private var hold = Duration.zero
    private var heldUntil = Instant.zero
    private var editedAt: Instant?

    package init() {}

    /// What the cluster reports now.
    /// - Returns: an edit of somebody else's, once.
    package mutating func observe(_ replicas: Int, at now: Instant) -> Edit? {
        guard let known = self.known else {
            self.known = replicas
            return nil
        }
        if replicas == known {
            self.stale = []
            return nil
        }
        if self.stale.contains(where: { $0.replicas == replicas && now < $0.until }) { return nil }
        self.stale = []
        self.known = replicas
        let isCalm = self.editedAt.map { now - $0 > Self.calmAfter } ?? true
        self.hold = isCalm ? Self.holdFirst : min(self.hold * 2, Self.holdMax)
        self.heldUntil = now + self.hold
        self.editedAt = now
        let edit = Edit(from: known, to: replicas)
        self.lastEdit = edit
        return edit
    }

    /// The cluster reports a number while we do not write: whoever does has the right to.
    package mutating func accept(_ replicas: Int) {
        self.known = replicas
        self.stale = []
    }

    /// Whether a reported number is not one from before our last write.
    package func isCurrent(_ replicas: Int) -> Bool { replicas == self.known }

    /// We wrote a number.
    package mutating func wrote(_ replicas: Int, over before: Int, at now: Instant) {
        self.known = replicas
        self.stale.removeAll { $0.replicas == replicas || $0.until <= now }
        if before == replicas { return }
        if self.stale.count == Self.staleCountMax { self.stale.removeFirst() }
        self.stale.append((before, now + Self.staleMax))
    }

    package func mayWrite(at now: Instant) -> Bool {
        self.rivals.isEmpty && now >= self.heldUntil
    }

    /// Why nothing is written; nil while we may. The same words for as long as it is the same.
    package func words(at now: Instant) -> String? {
        if !self.rivals.isEmpty {
            let names = self.rivals.sorted().joined(separator: ", ")
            return "\(names) scales the same workload: remove it, or the model's `scaling`"
        }
        guard now < self.heldUntil, let edit = self.lastEdit else { return nil }
        return "somebody else set the replicas from \(edit.from) to \(edit.to): Weir leaves them "
            + "alone for \(self.hold.components.seconds) s; set `dryRun: true` in the policy to "
            + "scale by hand"
    }
}
