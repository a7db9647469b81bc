import Autoscaling
import Core
import Kubernetes
import Orchestration

/// One workload of a `KubernetesCluster`: what is known of it, and how far its number is.
final class Workload {
    struct Entry {
        var key: ObjectKey
        var status: ReplicaStatus
        /// When it was first seen.
        var seenAt: Instant
        var cost: Int?
        var wasReady = false
        /// A patch of its cost is under way.
        var isPatching = false
    }

    /// What Kubernetes gives a pod of a Deployment unless it says otherwise.
    private static let startupLimit = Duration.seconds(600)

    let target: WorkloadTarget
    var object: KubernetesCluster.WorkloadObject?
    /// Read by an informer, while its scale is asked for.
    var unread: KubernetesCluster.WorkloadObject?
    /// Its scale is being read.
    var isReading = false
    /// Of its pods, where they are not known by their owners.
    var selector: LabelSelector?
    /// The pods that the selector matches.
    var selected: Set<ObjectKey> = []
    var machine: ScaleDown
    var watch = WriterWatch()
    /// The number that was asked for; nil to leave the one there is.
    var wanted: Int?
    /// By UID.
    var entries: [String: Entry] = [:]
    var draining: Set<String> = []
    var isWriting = false
    /// The number the cluster has as far as we know: ours, until the copy shows it.
    var replicas: Int?
    /// Why the last write did not work.
    var lastProblem: String?
    /// Since when replicas are asked for that no pod exists for.
    var missingSince: Instant?
    private var freeIndices: [Int] = []
    private var nextIndex = 0

    init(_ target: WorkloadTarget, drainDeadline: Duration) {
        self.target = target
        self.machine = ScaleDown(drainDeadline: drainDeadline)
    }

    /// The object is another one, or gone.
    func forgetNumbers() {
        let rivals = self.watch.rivals
        self.watch = WriterWatch()
        self.watch.rivals = rivals
        self.replicas = nil
        self.wanted = nil
        self.machine = ScaleDown(drainDeadline: self.machine.drainDeadline)
    }

    /// The number at the end of the name of a pod, where the highest one goes first.
    func ordinal(of entry: Entry) -> Int? {
        guard self.target.kind.isOrdered else { return nil }
        return entry.key.name.split(separator: "-").last.flatMap { Int($0) }
    }

    /// How long a pod may take to become ready.
    var startupLimit: Duration { self.object?.startupLimit ?? Self.startupLimit }

    /// Whether a replica has been starting for longer than it may, and that was not noticed yet.
    func hasLateReplica(_ now: Instant) -> Bool {
        self.entries.values.contains { entry in
            (entry.status.state == .pending || entry.status.state == .starting)
                && entry.status.trouble == nil && now - entry.seenAt >= self.startupLimit
        }
    }

    func takeIndex() -> Int {
        if let free = self.freeIndices.popLast() { return free }
        self.nextIndex += 1
        return self.nextIndex - 1
    }

    func giveBack(_ index: Int) { self.freeIndices.append(index) }

    /// The number of the revision that new pods are of.
    var revision: Int { self.object.flatMap { Int($0.revision) } ?? 1 }

    /// Pods that are not on their way out.
    var liveCount: Int { self.entries.values.count { !$0.status.isLeaving || self.isVictim($0) } }

    private func isVictim(_ entry: Entry) -> Bool { entry.status.state == .draining }

    // MARK: What there is

    func status(now: Instant) -> GroupStatus {
        let replicas = self.replicas ?? 0
        var statuses = self.entries.values.map(\.status).sorted { $0.id < $1.id }
        let present = statuses.count { $0.state != .stopping }
        // Asked for and not made yet, or refused: they count, so that nobody asks again.
        for place in 0..<max(0, min(replicas, ClusterLimits.replicasMax) - present) {
            statuses.append(self.missing(place, now: now))
        }
        var status = GroupStatus(
            name: self.target.group,
            desired: self.wanted ?? replicas,
            replicas: statuses,
            coldStarts: ColdStarts()
        )
        status.takeable = self.draining.count
        status.revision = self.revision
        return status
    }

    private func missing(_ place: Int, now: Instant) -> ReplicaStatus {
        let failure = self.object?.failure.map {
            CreationFailure(reason: $0.reason, message: $0.message).obstacle
        }
        return ReplicaStatus(
            id: ReplicaID(group: self.target.group, index: -1 - place, serial: 0),
            state: failure == nil ? .pending : .failed,
            since: self.missingSince ?? now,
            restarts: 0,
            message: failure?.message ?? "the pod is not made yet",
            revision: 1,
            trouble: failure.map { StartTrouble($0.kind) }
        )
    }
}

extension StartTrouble {
    init(_ kind: Obstacle.Kind) {
        switch kind {
        case .noCapacity: self = .noRoom
        case .quota: self = .refusedByQuota
        case .imageError: self = .cannotStart
        case .crashLoop: self = .crashes
        case .startTimeout: self = .tooSlow
        }
    }
}
