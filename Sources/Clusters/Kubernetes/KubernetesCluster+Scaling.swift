import Autoscaling
import Core
import EventLoop
import HTTPService
import Kubernetes
import Orchestration

extension KubernetesCluster {
    // MARK: What there is

    package var groups: [GroupStatus] {
        self.workloads.keys.sorted().compactMap { self.group($0) }
    }

    /// Nil while nothing is known of the workload: it does not exist, or was not read yet.
    package func group(_ name: String) -> GroupStatus? {
        guard self.isSynced, let workload = self.workloads[name], workload.object != nil else {
            return nil
        }
        return workload.status(now: self.loop.now)
    }

    /// The pods that gateways should send nothing to.
    package var draining: Set<String> {
        self.workloads.values.reduce(into: []) { $0.formUnion($1.draining) }
    }

    /// Why a workload is not written though it is ours; nil where nothing is in the way.
    package func obstruction(of group: String) -> String? {
        guard let workload = self.workloads[group] else { return nil }
        return workload.watch.words(at: self.loop.now) ?? workload.lastProblem
            ?? self.kindProblems[workload.target.kind]
    }

    /// Whether somebody else writes the number too.
    package func hasSecondWriter(_ group: String) -> Bool {
        self.workloads[group].map { !$0.watch.mayWrite(at: self.loop.now) } ?? false
    }

    package func object(of group: String) -> WorkloadObject? { self.workloads[group]?.object }

    package func drained(_ replica: ReplicaID) {}

    // MARK: Pods to replicas

    func update(_ workload: Workload, _ pods: [Pod]) {
        var gone = Set(workload.entries.keys)
        for pod in pods {
            gone.remove(pod.uid)
            self.update(workload, pod)
        }
        for uid in gone {
            guard let entry = workload.entries.removeValue(forKey: uid) else { continue }
            workload.giveBack(entry.status.id.index)
            self.append(.removed(entry.status.id))
        }
    }

    private func update(_ workload: Workload, _ pod: Pod) {
        let now = self.loop.now
        var entry = workload.entries[pod.uid] ?? self.newEntry(workload, pod, now)
        let isNew = workload.entries[pod.uid] == nil
        let condition = PodCondition(
            PodFacts(pod),
            wasReady: entry.wasReady,
            patience: PodCondition.Patience(
                waited: now - entry.seenAt,
                limit: workload.startupLimit,
                setting: "progressDeadlineSeconds"
            )
        )
        entry.wasReady = entry.wasReady || condition.state == .ready
        entry.cost = pod.deletionCost
        let before = entry.status
        entry.status.state = Self.state(condition, isVictim: workload.draining.contains(pod.uid))
        entry.status.isLeaving = entry.status.state.isLeaving
        entry.status.message = condition.words
        entry.status.trouble = condition.obstacle.map { StartTrouble($0.kind) }
        entry.status.restarts = pod.restarts
        entry.status.revision = self.revision(of: pod)
        if !pod.podIP.isEmpty {
            entry.status.address = ReplicaAddress(host: pod.podIP, port: workload.target.port)
            entry.status.namedPorts = pod.metricsPort.map { ["metrics": $0] } ?? [:]
        }
        if entry.status.state != before.state, !isNew { entry.status.since = now }
        workload.entries[pod.uid] = entry
        if isNew || entry.status != before { self.append(.updated(entry.status)) }
        if let obstacle = condition.obstacle, before.trouble == nil {
            self.onNote(
                Note(
                    group: workload.target.group,
                    isWarning: true,
                    reason: Self.reason(obstacle.kind),
                    text: "pod \(pod.key.name): \(obstacle.message)",
                    pod: pod.key
                )
            )
        }
    }

    private func newEntry(_ workload: Workload, _ pod: Pod, _ now: Instant) -> Workload.Entry {
        // A pod that is ready when it is first seen tells by its own times how long it took.
        let took = pod.readySince.map { $0 - pod.createdAt } ?? 0
        let isPlausible = pod.isReady && pod.restarts == 0 && took > 0 && took < 7_200
        let status = ReplicaStatus(
            id: ReplicaID(
                group: workload.target.group,
                index: workload.takeIndex(),
                serial: self.nextSerial
            ),
            state: .pending,
            since: isPlausible
                ? now.advanced(byNanoseconds: -Duration.seconds(took).nanosecondsClamped) : now,
            restarts: 0,
            message: "",
            revision: 1
        )
        self.nextSerial += 1
        return Workload.Entry(key: pod.key, status: status, seenAt: now)
    }

    private static func state(_ condition: PodCondition, isVictim: Bool) -> ReplicaState {
        switch condition.state {
        case .terminating, .ended: .stopping
        case .ready: isVictim ? .draining : .ready
        case .notReady: .notReady
        case .pending, .starting:
            switch condition.obstacle?.kind {
            case .crashLoop: .crashLooping
            case .imageError, .quota, .noCapacity, .startTimeout: .failed
            case nil: condition.state == .pending ? .pending : .starting
            }
        }
    }

    /// Pods are refused before they are made.
    func note(_ failure: CreationFailure, _ workload: Workload) {
        self.onNote(
            Note(
                group: workload.target.group,
                isWarning: true,
                reason: Self.reason(failure.obstacle.kind),
                text: failure.obstacle.message
            )
        )
    }

    private static func reason(_ kind: Obstacle.Kind) -> String {
        switch kind {
        case .noCapacity: "Unschedulable"
        case .quota: "QuotaExceeded"
        case .imageError: "CannotStart"
        case .crashLoop: "CrashLoop"
        case .startTimeout: "StartTimeout"
        }
    }

    // MARK: Numbers

    /// Asks for a number of replicas. It is written as soon as the gateways let go of those that
    /// leave.
    /// - Throws: why it is not ours to write.
    package func scale(_ group: String, to count: Int) throws(ClusterError) {
        guard let workload = self.workloads[group], workload.object != nil else {
            throw ClusterError("\(group) does not exist in the cluster")
        }
        guard (0...ClusterLimits.replicasMax).contains(count) else {
            throw ClusterError(
                "\(group): \(count) replicas are not between 0 and "
                    + "\(ClusterLimits.replicasMax)"
            )
        }
        guard self.mayWrite() else { throw ClusterError("another controller leads") }
        if let words = workload.watch.words(at: self.loop.now) { throw ClusterError(words) }
        workload.wanted = count
        self.reconcile(workload)
        self.deliver()
    }

    /// Looks at everything that is on its way again: deadlines pass without an event.
    package func tick() {
        let now = self.loop.now
        self.findKinds()
        for workload in self.workloads.values {
            if let object = workload.unread { self.readScale(workload, object) }
        }
        for (name, workload) in self.workloads where workload.hasLateReplica(now) {
            self.refresh(name)
        }
        for workload in self.workloads.values
        where !workload.draining.isEmpty
            || (workload.wanted ?? workload.replicas) != workload.replicas
        {
            self.reconcile(workload)
        }
        self.deliver()
    }

    /// Stops writing: another process leads. What was asked for is forgotten; the cluster's own
    /// number is where the next leader begins.
    package func resign() {
        for workload in self.workloads.values {
            workload.wanted = nil
            workload.draining = []
            workload.machine = ScaleDown(drainDeadline: self.options.drainDeadline)
        }
        self.onDraining()
    }

    func observeNumber(_ workload: Workload) {
        guard let object = workload.object else { return }
        let now = self.loop.now
        if workload.isWriting { return }
        // Another controller leads, and the number is its own.
        if !self.mayWrite() { workload.watch.accept(object.replicas) }
        let edit = workload.watch.observe(object.replicas, at: now)
        if workload.watch.isCurrent(object.replicas) { workload.replicas = object.replicas }
        if workload.replicas.map({ $0 > workload.liveCount }) ?? false {
            workload.missingSince = workload.missingSince ?? now
        } else {
            workload.missingSince = nil
        }
        guard let edit else { return }
        workload.wanted = nil
        self.onNote(
            Note(
                group: workload.target.group,
                isWarning: true,
                reason: "SecondWriter",
                text: workload.watch.words(at: now)
                    ?? "somebody set the replicas from \(edit.from) to \(edit.to)"
            )
        )
    }

    /// One step towards the number that is asked for.
    func reconcile(_ workload: Workload) {
        guard !self.isClosed, self.isSynced, self.mayWrite(), let replicas = workload.replicas,
            workload.object != nil, !workload.isWriting
        else { return }
        let now = self.loop.now
        let wanted = workload.watch.mayWrite(at: now) ? workload.wanted ?? replicas : replicas
        let plan = workload.machine.step(
            wanted: wanted,
            replicas: replicas,
            pods: workload.entries.map { uid, entry in
                var pod = self.pod(uid, entry, now)
                pod.ordinal = workload.ordinal(of: entry)
                return pod
            },
            now: now
        )
        self.setDraining(workload, plan.draining)
        for (uid, cost) in plan.costs { self.patch(workload, uid, cost: cost) }
        if let write = plan.write { self.write(workload, write, over: replicas) }
    }

    private func pod(_ uid: String, _ entry: Workload.Entry, _ now: Instant) -> ScaleDown.Pod {
        let state: ScaleDown.Pod.State =
            switch entry.status.state {
            case .stopping: .leaving
            case .ready, .draining: .ready
            case .failed, .crashLooping: .stuck
            case .notReady: .stuck
            case .pending, .starting: .starting
            }
        return ScaleDown.Pod(
            uid: uid,
            state: state,
            streams: self.streams(uid),
            isDrained: self.isDrained(uid),
            deletionCost: entry.cost,
            ageSeconds: now.seconds(since: entry.status.since)
        )
    }

    private func setDraining(_ workload: Workload, _ draining: Set<String>) {
        let changed = workload.draining.symmetricDifference(draining)
        if changed.isEmpty { return }
        workload.draining = draining
        for uid in changed {
            guard let entry = workload.entries[uid] else { continue }
            let state = entry.status.state
            guard state == .ready || state == .draining else { continue }
            let isVictim = draining.contains(uid)
            workload.entries[uid]?.status.state = isVictim ? .draining : .ready
            workload.entries[uid]?.status.isLeaving = isVictim
            workload.entries[uid]?.status.since = self.loop.now
            if let status = workload.entries[uid]?.status { self.append(.updated(status)) }
        }
        self.onDraining()
    }

    // MARK: Calls

    private func patch(_ workload: Workload, _ uid: String, cost: Int?) {
        guard let entry = workload.entries[uid], !entry.isPatching else { return }
        workload.entries[uid]?.isPatching = true
        let value: JSONValue = cost.map { .string("\($0)") } ?? .null
        let patch: JSONValue = [
            "metadata": [
                "uid": .string(uid), "annotations": [Pod.deletionCostAnnotation: value],
            ]
        ]
        self.client.patch(.pods, entry.key, patch) { [weak self, weak workload] result in
            guard let self, let workload else { return }
            workload.entries[uid]?.isPatching = false
            switch result {
            case .success:
                // Known at once: the copy of the pod follows, and says the same.
                workload.entries[uid]?.cost = cost
                self.reconcile(workload)
                self.deliver()
            case .failure(let error):
                // The next tick tries again; a pod that is gone needs nothing.
                if !error.isNotFound, !error.isCancelled {
                    workload.lastProblem = "a pod's deletion cost cannot be set: \(error)"
                }
            }
        }
    }

    private func write(_ workload: Workload, _ write: ScaleDown.Write, over before: Int) {
        let target = workload.target
        guard let resource = self.resources[target.kind] else { return }
        workload.isWriting = true
        self.client.scale(of: resource, target.key) { [weak self, weak workload] result in
            guard let self, let workload else { return }
            switch result {
            case .failure(let error): self.failed(workload, error)
            case .success(let scale):
                // Between the reading and now everything may have become different.
                guard self.mayWrite(), !self.isClosed, scale.uid == workload.object?.uid else {
                    workload.isWriting = false
                    return
                }
                guard scale.replicas == before else {
                    workload.isWriting = false
                    workload.object?.replicas = scale.replicas
                    self.observeNumber(workload)
                    return self.deliver()
                }
                self.put(workload, resource, write, scale)
            }
        }
    }

    private func put(
        _ workload: Workload,
        _ resource: Kubernetes.Resource,
        _ write: ScaleDown.Write,
        _ scale: Scale
    ) {
        self.client.setScale(of: resource, scale, replicas: write.replicas) {
            [weak self, weak workload] result in
            guard let self, let workload else { return }
            switch result {
            case .failure(let error): self.failed(workload, error)
            case .success:
                let now = self.loop.now
                workload.isWriting = false
                workload.lastProblem = nil
                workload.replicas = write.replicas
                workload.watch.wrote(write.replicas, over: scale.replicas, at: now)
                workload.machine.wrote(write, at: now)
                if write.replicas > workload.liveCount {
                    workload.missingSince = workload.missingSince ?? now
                }
                self.reconcile(workload)
                self.deliver()
            }
        }
    }

    /// A conflict is no failure: the copy will show what changed, or the next tick looks again.
    private func failed(_ workload: Workload, _ error: APIError) {
        workload.isWriting = false
        if error.isConflict || error.isCancelled { return }
        workload.lastProblem = "the replicas cannot be written: \(error)"
    }
}
