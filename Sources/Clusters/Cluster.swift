// Design note
//
// A cluster runs the replicas of groups (workloads), watches them, and tells its owner what it saw.
// It decides nothing about how many replicas there should be: that number comes from outside by
// `scale`. Three kinds exist behind one seam: processes on this machine (`ProcessCluster`), fixed
// addresses that somebody else runs (`StaticCluster`), and later the pods of a Kubernetes cluster.
//
// Everything here belongs to one control loop's thread; nothing locks. What decides is pure and
// takes `now` (`ProcessReplicaMachine`, `GroupPlan`, `ProbeTally`, `RestartBackOff`); the
// classes around it only do what these say.
//
// A replica that is to go is drained first: its state becomes `draining`, and the owner answers
// with `drained(_:)` once no request is in flight and no worker can send it another. The drain
// deadline bounds the wait. Until the replica has been told to end, a rise of the number takes it
// back.
//
// Limits: `ClusterLimits`. Not done here: placing replicas by resources, several machines, log
// files.

import Core
import TLS

/// Names one replica for as long as it lives. A restart keeps it; a successor at the same index has
/// another `serial`.
package struct ReplicaID: Hashable, Sendable, CustomStringConvertible, Comparable {
    /// The group (workload) it belongs to.
    package let group: String
    /// The place within the group, from 0. Freed with the replica and then given out again.
    package let index: Int
    /// Distinguishes replicas that held the same index one after the other.
    package let serial: UInt64

    package init(group: String, index: Int, serial: UInt64) {
        self.group = group
        self.index = index
        self.serial = serial
    }

    package var description: String { "\(self.group)-\(self.index)" }

    package static func < (left: ReplicaID, right: ReplicaID) -> Bool {
        (left.group, left.index, left.serial) < (right.group, right.index, right.serial)
    }
}

/// What a replica is doing, as far as those care who send it requests or count it.
package enum ReplicaState: String, Hashable, Sendable, CaseIterable {
    /// Exists on paper: waits to be started, or to be started again after a first failure.
    case pending
    /// Runs and was not ready yet.
    case starting
    /// Takes requests.
    case ready
    /// Was ready and fails its readiness check now.
    case notReady
    /// Gets no new request; what is in flight may finish.
    case draining
    /// Was told to end.
    case stopping
    /// Ended several times in a row; waits before the next start.
    case crashLooping
    /// Cannot be started at all; `message` says why. Tried again, ever more rarely.
    case failed

    /// Whether requests may be sent to it.
    package var takesRequests: Bool { self == .ready }

    /// Whether it is on its way out.
    package var isLeaving: Bool { self == .draining || self == .stopping }
}

/// Where a replica answers. `host` is a numeric address once `isResolved`, else a name.
package struct ReplicaAddress: Hashable, Sendable, CustomStringConvertible {
    package let host: String
    package let port: UInt16
    /// Nil: plain text.
    package let security: ClientSecurity?

    package init(host: String, port: UInt16, security: ClientSecurity? = nil) {
        self.host = host
        self.port = port
        self.security = security
    }

    package var description: String {
        self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}

/// What is known of one replica.
package struct ReplicaStatus: Equatable, Sendable {
    package let id: ReplicaID
    package var state: ReplicaState
    /// Absent while there is nothing to connect to.
    package var address: ReplicaAddress?
    /// Further named ports, such as `grpc`, on the same host.
    package var namedPorts: [String: UInt16] = [:]
    /// When `state` was entered.
    package var since: Instant
    /// How often it was started again.
    package var restarts: Int
    /// From its start to its first readiness, of its last start that got so far.
    package var coldStart: Duration?
    /// Why it last ended, in words; absent while it never did.
    package var lastExit: String?
    /// Why it is in this state, in words; empty when there is nothing to say.
    package var message: String
    /// The operating system's process number; absent where the cluster has no such thing.
    package var pid: Int32?
    /// Which template of the group it was made from; rises with every change of it.
    package var revision: Int
    /// Why it is not ready yet and will not be soon; nil once it is, and while it may still come.
    package var trouble: StartTrouble?
    /// Whether it is on its way out for good, by all that is known now. `state` alone does not
    /// tell: a replica that is stopped may be started again.
    package var isLeaving = false

    package init(
        id: ReplicaID,
        state: ReplicaState,
        address: ReplicaAddress? = nil,
        namedPorts: [String: UInt16] = [:],
        since: Instant,
        restarts: Int,
        coldStart: Duration? = nil,
        lastExit: String? = nil,
        message: String,
        pid: Int32? = nil,
        revision: Int,
        trouble: StartTrouble? = nil,
        isLeaving: Bool = false
    ) {
        self.id = id
        self.state = state
        self.address = address
        self.namedPorts = namedPorts
        self.since = since
        self.restarts = restarts
        self.coldStart = coldStart
        self.lastExit = lastExit
        self.message = message
        self.pid = pid
        self.revision = revision
        self.trouble = trouble
        self.isLeaving = isLeaving
    }
}

/// Why a replica does not become ready.
package enum StartTrouble: String, Hashable, Sendable, CaseIterable {
    /// There is nothing to run: no such program, no such folder, no port.
    case cannotStart
    /// It ended several times in a row before or soon after it was ready.
    case crashes
    /// It was not ready within its start-up time.
    case tooSlow
    /// No machine has what it needs.
    case noRoom
    /// A quota refuses it.
    case refusedByQuota
}

/// What a group is asked to be and what is measured of it.
package struct GroupStatus: Equatable, Sendable {
    package let name: String
    /// The number of replicas asked for.
    package var desired: Int
    package var replicas: [ReplicaStatus]
    /// Cold starts measured lately, over restarts of Weir as well.
    package var coldStarts: ColdStarts
    /// Draining replicas that are taken back, in place of new ones, if more are asked for now.
    package var takeable = 0
    /// It is asked for no more; what is left of it drains.
    package var isRemoved = false
    /// Of the template that new replicas are made from.
    package var revision = 1

    package init(name: String, desired: Int, replicas: [ReplicaStatus], coldStarts: ColdStarts) {
        self.name = name
        self.desired = desired
        self.replicas = replicas
        self.coldStarts = coldStarts
    }

    package func count(_ state: ReplicaState) -> Int {
        self.replicas.count { $0.state == state }
    }
}

/// One thing that happened to one replica.
package enum ReplicaChange: Equatable, Sendable {
    /// New, or anything in its status differs.
    case updated(ReplicaStatus)
    /// It is gone; its identity is not used again.
    case removed(ReplicaID)

    package var id: ReplicaID {
        switch self {
        case .updated(let status): status.id
        case .removed(let id): id
        }
    }
}

/// Runs groups of replicas. Confined to its control loop's thread.
package protocol Cluster: AnyObject {
    /// What describes a group to this kind of cluster.
    associatedtype Workload: Sendable

    /// Called after each change, once the cluster is consistent again: it may be called into from
    /// there. Changes made by such calls are delivered after the one at hand.
    var onChange: ((ReplicaChange) -> Void)? { get set }

    /// How many requests a replica has in flight, for choosing whom to stop. The owner knows.
    var inFlight: (ReplicaID) -> Int { get set }

    /// How useful what a replica has in its cache is, for the same choice; 0 where nobody knows.
    var cacheValue: (ReplicaID) -> Double { get set }

    /// Creates the group or changes it. A changed template replaces the replicas one by one.
    func apply(_ workload: Workload) throws(ClusterError)

    /// Drains and stops all replicas of the group, then forgets it. Unknown names are ignored.
    func remove(group: String)

    /// Asks for `count` replicas of the group.
    func scale(_ group: String, to count: Int) throws(ClusterError)

    /// The owner's half of the drain handshake: nothing is in flight to the replica and nobody will
    /// send it more. Ignored for replicas that are not draining.
    func drained(_ replica: ReplicaID)

    /// All groups by name, each with its replicas by index.
    var groups: [GroupStatus] { get }

    func group(_ name: String) -> GroupStatus?

    /// The last output of a replica, as far as it is kept; nil where there is none to be had.
    func output(of replica: ReplicaID) -> String?

    /// Drains and stops everything; at the latest after `deadline` by force. Calls `completion`
    /// once nothing is left, which may be before it returns. To be called once; from then on
    /// `apply` and `scale` are refused.
    func shutdown(within deadline: Duration, completion: @escaping () -> Void)

    /// Ends everything at once, by force, with or without a shutdown under way, and does not wait
    /// for it. From then on `apply` and `scale` are refused.
    func killEverything()
}

/// The bounds of a cluster, each checked where it could be passed.
package enum ClusterLimits {
    /// Groups in one cluster.
    package static let groupsMax = 1_000
    /// Groups of fixed addresses: as many as a configuration can have variants.
    package static let fixedGroupsMax = 320_000
    /// Replicas of one group.
    package static let replicasMax = 1_000
    /// Bytes of a group's name.
    package static let nameBytesMax = 253
    /// Words of a command, and entries of an environment.
    package static let wordsMax = 1_000
    /// Bytes of one word or value after substitution.
    package static let wordBytesMax = 128 * 1024
    /// Ports of one replica, the unnamed one included.
    package static let portsMax = 16
    /// Bytes kept of a replica's output, at most.
    package static let outputBytesMax = 16 * 1024 * 1024
    /// Bytes of a line of output handed on; longer lines are broken.
    package static let lineBytesMax = 8 * 1024
    /// Bytes read of the answer to a readiness probe.
    package static let probeAnswerBytesMax = 4 * 1024
    /// Cold starts kept per group.
    package static let coldStartsMax = 64
}

/// What a cluster refuses, said so that a person can act on it.
package struct ClusterError: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}
