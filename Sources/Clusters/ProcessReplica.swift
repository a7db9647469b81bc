import Core
import EventLoop
import Glibc

/// One replica of a process group: does what its machine says and tells it what happened.
///
/// Everything the machine knows only as words is kept here: the process, its ports, the probe under
/// way, the timer for the machine's deadline, the output.
final class ProcessReplica {
    /// What all replicas of a cluster share.
    struct Surroundings {
        let loop: EventLoop
        let ports: PortAllocator
        let state: StateDirectory
        /// Weir's own environment, which processes inherit.
        let environment: [String: String]
        let bootID: String
    }

    /// What it tells its cluster.
    struct Hooks {
        /// After every event, whatever came of it.
        var stepped: (ProcessReplica) -> Void
        var coldStart: (ProcessReplica, Duration) -> Void
        var line: (ReplicaID, OutputStream, String) -> Void
        var notice: (String) -> Void
    }

    let id: ReplicaID
    let revision: Int
    let spec: ProcessGroupSpec
    private(set) var machine: ProcessReplicaMachine
    private(set) var output: OutputRing
    /// The status last told to the owner of the cluster.
    var reported: ReplicaStatus?

    private let surroundings: Surroundings
    private let hooks: Hooks
    private let portNames: [String]
    private var lease: PortLease?
    private var child: ChildProcess?
    private var childStartTime: UInt64 = 0
    private var probe: ReadinessProbe?
    private var timer: LoopTimer?
    private var clearing: LoopTimer?
    private var lines: [OutputStream: LineSplitter] = [:]

    private static let host = "127.0.0.1"
    /// Pauses between looks at a group that has not ended yet: doubling from the first to the last.
    private static let firstLook = Duration.milliseconds(5)
    private static let longestLook = Duration.milliseconds(500)

    init(
        id: ReplicaID,
        revision: Int,
        spec: ProcessGroupSpec,
        portNames: [String],
        surroundings: Surroundings,
        hooks: Hooks
    ) {
        self.id = id
        self.revision = revision
        self.spec = spec
        self.portNames = portNames
        self.surroundings = surroundings
        self.hooks = hooks
        self.output = OutputRing(capacity: spec.outputLimit)
        self.machine = ProcessReplicaMachine(
            policy: .init(spec),
            now: surroundings.loop.refreshNow()
        )
    }

    var status: ReplicaStatus {
        let ports = self.lease?.ports ?? [:]
        return ReplicaStatus(
            id: self.id,
            state: self.machine.state,
            address: self.child == nil ? nil : self.address,
            namedPorts: self.child == nil ? [:] : ports.filter { !$0.key.isEmpty },
            since: self.machine.since,
            restarts: self.machine.restarts,
            coldStart: self.machine.coldStart,
            lastExit: self.machine.lastExit,
            message: self.machine.message,
            pid: self.child?.pid,
            revision: self.revision,
            trouble: self.machine.trouble,
            isLeaving: self.machine.isLeaving
        )
    }

    /// Lets the machine take an event in and carries out what it answers.
    func step(_ event: ProcessReplicaMachine.Event) {
        let now = self.surroundings.loop.refreshNow()
        var actions = self.machine.handle(event, now: now)[...]
        while let action = actions.popFirst() {
            if let answer = self.perform(action) {
                actions += self.machine.handle(answer, now: now)
            }
        }
        self.armTimer(now)
        self.hooks.stepped(self)
    }

    func update(policy: ProcessReplicaMachine.Policy) {
        self.machine.policy = policy
        self.armTimer(self.surroundings.loop.refreshNow())
    }

    // MARK: Actions

    private func perform(_ action: ProcessReplicaMachine.Action) -> ProcessReplicaMachine.Event? {
        switch action {
        case .spawn: return self.spawn()
        case .probe: self.startProbe()
        case .cancelProbe:
            self.probe?.cancel()
            self.probe = nil
        case .terminate: self.child?.signalGroup(SIGTERM)
        case .kill: self.child?.signalGroup(SIGKILL)
        case .awaitClear: return self.look(pause: Self.firstLook)
        case .releasePorts:
            self.lease?.release()
            self.lease = nil
        case .recordColdStart(let duration): self.hooks.coldStart(self, duration)
        }
        return nil
    }

    private func spawn() -> ProcessReplicaMachine.Event {
        do throws(ClusterError) {
            let lease = try self.surroundings.ports.lease([""] + self.portNames)
            self.lease = lease
            let invocation = try Substitution.resolve(
                self.spec,
                index: self.id.index,
                ports: lease.ports,
                inherited: self.surroundings.environment,
                extra: self.surroundings.state.marker(for: self.id)
            )
            lease.unbind()
            let spawned = try ProcessSpawner.spawn(invocation)
            try self.adopt(spawned)
            return .spawned(pid: spawned.pid)
        } catch {
            return .spawnFailed("cannot start \(self.id): \(error)")
        }
    }

    private func adopt(_ spawned: ProcessSpawner.Spawned) throws(ClusterError) {
        self.record(spawned.pid)
        do throws(SystemError) {
            self.child = try ChildProcess(
                owning: spawned,
                loop: self.surroundings.loop,
                onOutput: { [weak self] in self?.take($1, from: $0) },
                onExit: { [weak self] in self?.exited($0) }
            )
        } catch {
            // Out of descriptors: without a watch on it, it must not run.
            kill(-spawned.pid, SIGKILL)
            var status: Int32 = 0
            while waitpid(spawned.pid, &status, 0) < 0, errno == EINTR {}
            self.surroundings.state.removeRecord(self.id)
            throw ClusterError("its process cannot be watched: \(error)")
        }
    }

    /// Before anything else is done with it: from here on a successor of ours finds it by number as
    /// well as by its marker.
    private func record(_ pid: Int32) {
        self.childStartTime = ProcessTable.entry(pid)?.startTime ?? 0
        let record = ProcessRecord(
            name: ProcessRecord.name(of: self.id),
            pid: pid,
            startTime: self.childStartTime,
            bootID: self.surroundings.bootID
        )
        let code = self.surroundings.state.write(record)
        if code != 0 {
            self.hooks.notice(
                "the process of \(self.id) could not be recorded in "
                    + "\(self.surroundings.state.path): \(errorText(code))"
            )
        }
    }

    private func startProbe() {
        guard let address = self.address else { return }
        let probe = ReadinessProbe(address, spec: self.machine.policy.readiness) { [weak self] in
            self?.probe = nil
            self?.step(.probed($0))
        }
        self.probe = probe
        probe.start(on: self.surroundings.loop)
    }

    private func exited(_ exit: ProcessExit) {
        for stream in [OutputStream.standardOutput, .standardError] {
            self.lines[stream]?.flush { self.hooks.line(self.id, stream, $0) }
        }
        self.step(.exited(exit, output: self.output.tail(lines: 5)))
    }

    /// Sees whether anything of the group is left, and ends what has left the group but carries our
    /// marker. Answers `cleared` at once or looks again later.
    private func look(pause: Duration) -> ProcessReplicaMachine.Event? {
        guard let child = self.child else { preconditionFailure("nothing to clear") }
        let marker = self.surroundings.state.marker(for: self.id)
        if !ProcessTable.hasLiveMember(group: child.pid),
            OrphanReaper.sweep(marker: marker, notBefore: self.childStartTime) == 0
        {
            child.collect()
            self.child = nil
            self.surroundings.state.removeRecord(self.id)
            return .cleared
        }
        let next = min(pause * 2, Self.longestLook)
        self.clearing = self.surroundings.loop.schedule(after: pause) { [weak self] in
            guard let self, let answer = self.look(pause: next) else { return }
            self.step(answer)
        }
        return nil
    }

    // MARK: Helpers

    private var address: ReplicaAddress? {
        self.lease?.ports[""].map { ReplicaAddress(host: Self.host, port: $0) }
    }

    private func take(_ bytes: ArraySlice<UInt8>, from stream: OutputStream) {
        self.output.append(bytes)
        self.lines[stream, default: LineSplitter()].append(bytes) {
            self.hooks.line(self.id, stream, $0)
        }
    }

    private func armTimer(_ now: Instant) {
        self.timer?.cancel()
        self.timer = nil
        guard let deadline = self.machine.deadline else { return }
        // A whole microsecond more: the timer cuts off what it cannot express.
        let delay = (deadline - now) + .microseconds(1)
        self.timer = self.surroundings.loop.schedule(after: delay) { [weak self] in
            self?.step(.tick)
        }
    }
}
