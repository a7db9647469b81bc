import Core
import EventLoop
import Glibc

/// Groups of processes on this machine.
///
/// Every replica leads a session of its own, so that one number reaches all of its processes. A
/// process that leaves the session is found by the marker in its environment once the replica ends.
/// Programs that put themselves in the background (fork and exit) count as ended at once.
///
/// What happens when Weir dies is described at `OrphanReaper` and `Sentinel`.
package final class ProcessCluster: Cluster {
    package struct Options: Sendable {
        /// Where to keep what must survive; made if missing. One Weir at a time.
        package var stateDirectory: String
        package var portRange: ClosedRange<UInt16> = PortAllocator.defaultRange
        /// Weir's own environment, which processes inherit.
        package var environment: [String: String]
        /// For choosing the first port.
        package var seed: UInt64
        /// What to execute as the sentinel: a program that calls `Sentinel.run` with the state
        /// directory. Empty: none, and orphans of a killed Weir live until its next start.
        package var sentinelCommand: [String] = []

        package init(stateDirectory: String, environment: [String: String], seed: UInt64) {
            self.stateDirectory = stateDirectory
            self.environment = environment
            self.seed = seed
        }
    }

    package var onChange: ((ReplicaChange) -> Void)?
    package var inFlight: (ReplicaID) -> Int = { _ in 0 }
    package var cacheValue: (ReplicaID) -> Double = { _ in 0 }
    /// Each line a replica writes, without its end. It must not call into the cluster.
    package var onOutput: ((ReplicaID, OutputStream, String) -> Void)?
    /// What is worth a line in the log and is no change of a replica. As `onOutput`.
    package var onNotice: ((String) -> Void)?
    /// What a predecessor had left running and was ended at the start.
    package let reaped: OrphanReaper.Report

    private final class Group {
        var spec: ProcessGroupSpec
        var revision = 1
        var desired: Int
        var isRemoved = false
        var portNames: [String]
        var replicas: [ProcessReplica] = []
        var coldStarts: ColdStarts

        init(_ spec: ProcessGroupSpec, portNames: [String], coldStarts: ColdStarts) {
            self.spec = spec
            self.desired = spec.replicas
            self.portNames = portNames
            self.coldStarts = coldStarts
        }
    }

    /// A replica without a process is gone as soon as it is drained, which makes room for the next
    /// one: planning goes on, but not for ever.
    private static let planRoundsMax = 8

    private let loop: EventLoop
    private let surroundings: ProcessReplica.Surroundings
    private var sentinel: SentinelProcess?
    private var groupsByName: [String: Group] = [:]
    private var nextSerial: UInt64 = 1
    private var pendingChanges: [ReplicaChange] = []
    private var changeDepth = 0
    private var isDelivering = false
    private var shutdownCompletion: (() -> Void)?
    private var shutdownTimer: LoopTimer?
    private var wasShutDown = false
    private var isClosed = false

    /// Locks the state directory, ends a predecessor's orphans and starts the sentinel. Blocks for
    /// as long as that takes.
    package init(loop: EventLoop, options: Options) throws(ClusterError) {
        let state = try StateDirectory(options.stateDirectory)
        self.reaped = OrphanReaper.reap(state)
        if !options.sentinelCommand.isEmpty {
            self.sentinel = try SentinelProcess(
                command: options.sentinelCommand,
                environment: options.environment
            )
        }
        var random = RandomSource(seed: options.seed)
        self.loop = loop
        self.surroundings = ProcessReplica.Surroundings(
            loop: loop,
            ports: PortAllocator(range: options.portRange, random: &random),
            state: state,
            environment: options.environment,
            bootID: ProcessTable.bootID()
        )
    }

    deinit {
        precondition(
            self.groupsByName.values.allSatisfy(\.replicas.isEmpty),
            "a cluster was dropped with replicas: shut it down first"
        )
    }

    // MARK: Cluster

    package func apply(_ workload: ProcessGroupSpec) throws(ClusterError) {
        self.loop.assertOnLoop()
        try self.checkOpen()
        let portNames = try self.check(workload)
        let isNew = self.groupsByName[workload.name] == nil
        guard !isNew || self.groupsByName.count < ClusterLimits.groupsMax else {
            throw ClusterError(
                "\(workload.name): there are \(ClusterLimits.groupsMax) groups already"
            )
        }
        self.change {
            if let group = self.groupsByName[workload.name] {
                self.update(group, to: workload, portNames: portNames)
            } else {
                let coldStarts = self.surroundings.state.coldStarts(of: workload.name)
                self.groupsByName[workload.name] = Group(
                    workload,
                    portNames: portNames,
                    coldStarts: coldStarts
                )
            }
            self.plan(workload.name)
        }
    }

    package func remove(group name: String) {
        self.loop.assertOnLoop()
        guard let group = self.groupsByName[name] else { return }
        self.change {
            group.isRemoved = true
            group.desired = 0
            self.plan(name)
        }
    }

    package func scale(_ name: String, to count: Int) throws(ClusterError) {
        self.loop.assertOnLoop()
        try self.checkOpen()
        try validateReplicaCount(count, of: name)
        guard let group = self.groupsByName[name], !group.isRemoved else {
            let names = self.groupsByName.keys.sorted().prefix(20).joined(separator: ", ")
            throw ClusterError(
                "there is no group \(quoted(name)); "
                    + (names.isEmpty ? "there are none" : "there are \(names)")
            )
        }
        self.change {
            group.desired = count
            self.plan(name)
        }
    }

    package func drained(_ id: ReplicaID) {
        self.loop.assertOnLoop()
        self.change { self.replica(id)?.step(.drained) }
    }

    package var groups: [GroupStatus] {
        self.groupsByName.keys.sorted().compactMap { self.group($0) }
    }

    package func group(_ name: String) -> GroupStatus? {
        guard let group = self.groupsByName[name] else { return nil }
        var status = GroupStatus(
            name: name,
            desired: group.desired,
            replicas: group.replicas.sorted { $0.id < $1.id }.map(\.status),
            coldStarts: group.coldStarts
        )
        status.isRemoved = group.isRemoved
        status.revision = group.revision
        status.takeable = group.replicas.count {
            guard $0.revision == group.revision, let ends = $0.machine.drainEnds else {
                return false
            }
            return (ends - self.loop.now).secondsAsDouble > GroupPlan.drainMarginSeconds
        }
        return status
    }

    package func output(of id: ReplicaID) -> String? {
        self.replica(id)?.output.text
    }

    package func shutdown(within deadline: Duration, completion: @escaping () -> Void) {
        self.loop.assertOnLoop()
        precondition(!self.wasShutDown, "shut down twice")
        self.wasShutDown = true
        self.shutdownCompletion = completion
        // Held strongly: the cluster lives until it is empty.
        self.shutdownTimer = self.loop.schedule(after: deadline) { self.killEverything() }
        self.close()
        self.change {
            for name in self.groupsByName.keys { self.plan(name) }
        }
        self.finishIfEmpty()
    }

    package func killEverything() {
        self.loop.assertOnLoop()
        self.close()
        self.change {
            for group in self.groupsByName.values {
                for replica in group.replicas { replica.step(.kill) }
            }
        }
    }

    /// From now on nothing is started and nothing started again.
    private func close() {
        self.isClosed = true
        for group in self.groupsByName.values { group.desired = 0 }
    }

    // MARK: Groups

    private func checkOpen() throws(ClusterError) {
        if self.isClosed { throw ClusterError("Weir is shutting down") }
    }

    /// All that can be known to be wrong before a start; the names of the ports it takes.
    private func check(_ spec: ProcessGroupSpec) throws(ClusterError) -> [String] {
        try spec.validate()
        let names = try Substitution.portNames(in: spec)
        let ports = Dictionary(uniqueKeysWithValues: ([""] + names).map { ($0, UInt16(1)) })
        _ = try Substitution.resolve(
            spec,
            index: 0,
            ports: ports,
            inherited: self.surroundings.environment
        )
        return names
    }

    private func update(_ group: Group, to spec: ProcessGroupSpec, portNames: [String]) {
        if !spec.hasSameTemplate(as: group.spec) { group.revision += 1 }
        if group.isRemoved || spec.replicas != group.spec.replicas {
            group.desired = spec.replicas
        }
        group.isRemoved = false
        group.spec = spec
        group.portNames = portNames
        for replica in group.replicas where replica.revision == group.revision {
            replica.update(policy: .init(spec))
        }
    }

    /// Brings a group closer to what it should be, as far as that goes at this moment.
    private func plan(_ name: String) {
        guard let group = self.groupsByName[name] else { return }
        for _ in 0..<Self.planRoundsMax {
            let plan = GroupPlan(
                desired: group.desired,
                replicas: group.replicas.map { self.candidate($0, in: group) }
            )
            if plan.isEmpty { break }
            for id in plan.takeBack { self.replica(id)?.step(.takeBack) }
            for id in plan.drain { self.replica(id)?.step(.drain) }
            for _ in 0..<plan.create { self.create(in: group) }
        }
        if group.isRemoved, group.replicas.isEmpty { self.groupsByName[name] = nil }
    }

    private func candidate(_ replica: ProcessReplica, in group: Group) -> GroupPlan.Candidate {
        GroupPlan.Candidate(
            id: replica.id,
            isCurrent: replica.revision == group.revision,
            isReady: replica.machine.isReady,
            isLeaving: replica.machine.isLeaving,
            isStuck: replica.machine.trouble != nil,
            drainSecondsLeft: replica.machine.drainEnds.map {
                ($0 - self.loop.now).secondsAsDouble
            },
            inFlight: self.inFlight(replica.id),
            cacheValue: self.cacheValue(replica.id)
        )
    }

    private func create(in group: Group) {
        let taken = Set(group.replicas.map(\.id.index))
        var index = 0
        while taken.contains(index) { index += 1 }
        let id = ReplicaID(group: group.spec.name, index: index, serial: self.nextSerial)
        self.nextSerial += 1
        let replica = ProcessReplica(
            id: id,
            revision: group.revision,
            spec: group.spec,
            portNames: group.portNames,
            surroundings: self.surroundings,
            hooks: self.hooks
        )
        group.replicas.append(replica)
        replica.step(.tick)
    }

    private var hooks: ProcessReplica.Hooks {
        ProcessReplica.Hooks(
            stepped: { [weak self] in self?.stepped($0) },
            coldStart: { [weak self] in self?.keep(coldStart: $1, of: $0) },
            line: { [weak self] in self?.onOutput?($0, $1, $2) },
            notice: { [weak self] in self?.onNotice?($0) }
        )
    }

    private func replica(_ id: ReplicaID) -> ProcessReplica? {
        self.groupsByName[id.group]?.replicas.first { $0.id == id }
    }

    // MARK: What replicas tell

    private func stepped(_ replica: ProcessReplica) {
        self.change {
            if replica.machine.isGone {
                self.groupsByName[replica.id.group]?.replicas.removeAll { $0 === replica }
                self.pendingChanges.append(.removed(replica.id))
            } else {
                let status = replica.status
                guard status != replica.reported else { return }
                replica.reported = status
                self.pendingChanges.append(.updated(status))
            }
            // A step within a plan is part of it; any other may call for a new one.
            if self.changeDepth == 1 { self.plan(replica.id.group) }
        }
        if replica.machine.isGone { self.finishIfEmpty() }
    }

    private func keep(coldStart: Duration, of replica: ProcessReplica) {
        guard let group = self.groupsByName[replica.id.group] else { return }
        group.coldStarts.add(coldStart)
        let code = self.surroundings.state.save(group.coldStarts, of: replica.id.group)
        if code != 0 {
            self.onNotice?(
                "the cold starts of \(replica.id.group) are not kept: \(errorText(code))"
            )
        }
    }

    /// Makes changes, and tells of them once the outermost is made.
    private func change(_ body: () -> Void) {
        self.changeDepth += 1
        body()
        self.changeDepth -= 1
        guard self.changeDepth == 0, !self.isDelivering else { return }
        self.isDelivering = true
        while !self.pendingChanges.isEmpty {
            let changes = self.pendingChanges
            self.pendingChanges = []
            for change in changes { self.onChange?(change) }
        }
        self.isDelivering = false
    }

    private func finishIfEmpty() {
        guard let completion = self.shutdownCompletion,
            self.groupsByName.values.allSatisfy(\.replicas.isEmpty)
        else { return }
        self.shutdownCompletion = nil
        self.shutdownTimer?.cancel()
        self.shutdownTimer = nil
        self.sentinel?.dismiss()
        self.sentinel = nil
        self.surroundings.state.close()
        completion()
    }
}
