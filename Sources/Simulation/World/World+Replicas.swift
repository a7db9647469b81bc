import Autoscaling
import Core
import Traffic
import Workload

/// The life of replicas: GPUs, loading, serving, draining, going.
extension World {
    /// Those that serve or will: ready, starting or pending.
    func supply(_ model: ModelState) -> Int {
        model.members.reduce(0) { $0 + (self.isSupply(Int($1)) ? 1 : 0) }
    }

    private func isSupply(_ index: Int) -> Bool {
        switch self.replicas[index].state {
        case .pending, .starting, .ready: true
        case .gone, .draining, .exiting: false
        }
    }

    /// Makes or gives up replicas until there are `desired`.
    func resize(_ index: Int, to desired: Int) {
        let model = self.models[index]
        model.touch(self.clock)
        let supply = self.supply(model)
        model.desired = desired
        if desired < supply { self.checkLastReplica(model, desired: desired) }
        if self.traits.victims == .fewestStreams {
            self.follow(index, desired: desired)
        } else if desired > supply {
            self.grow(index, by: desired - supply)
        } else if desired < supply {
            self.shrink(model, by: supply - desired)
        }
    }

    /// Does what Weir's choice of victims says.
    private func follow(_ index: Int, desired: Int) {
        let model = self.models[index]
        let plan = VictimChoice.plan(desired: desired, model.members.compactMap(self.candidate))
        for id in plan.takeBack { self.takeBack(id, model) }
        if !plan.takeBack.isEmpty { self.pump(model) }
        for id in plan.remove { self.giveUp(id, model) }
        self.grow(index, by: plan.start)
    }

    private func candidate(_ id: Int32) -> VictimChoice.Candidate? {
        let replica = self.replicas[Int(id)]
        let state: VictimChoice.Candidate.State
        switch replica.state {
        case .pending: state = .stuck
        case .starting: state = .starting
        case .ready: state = .ready
        case .draining: state = .draining
        case .gone, .exiting: return nil
        }
        let since = replica.state == .ready ? replica.readyAt : replica.createdAt
        let left = replica.drainDeadline > self.clock ? replica.drainDeadline - self.clock : 0
        return VictimChoice.Candidate(
            id: Int(id),
            state: state,
            streams: Int(replica.inFlight),
            ageSeconds: Double(self.clock - since) / 1e9,
            drainSecondsLeft: Double(left) / 1e9
        )
    }

    private func checkLastReplica(_ model: ModelState, desired: Int) {
        // One that is not ready serves nobody: whether to go on asking for it is the policy's
        // affair.
        guard desired == 0, model.ready.count > 0 else { return }
        let whole = self.models[model.whole]
        // A variant without a share may go: nobody waits for it.
        guard model.inFlight > 0 || whole.queued > 0, self.mayServe(model) else { return }
        // Of several variants the last replica of all is meant.
        let others = whole.family.filter { $0 != model.index }
        if others.contains(where: { self.models[$0].ready.count > 0 }) { return }
        self.result.violations.lastReplica += 1
    }

    // MARK: Up

    private func grow(_ index: Int, by count: Int) {
        let model = self.models[index]
        for _ in 0..<count {
            let isWithinBudget =
                self.setup.budget.map {
                    self.committedGPUs + model.setup.gpusPerReplica <= $0
                } ?? true
            guard isWithinBudget, model.members.count < SimulationLimits.replicasMax else {
                model.result.refused += 1
                continue
            }
            self.create(index)
        }
    }

    /// GPUs in use or asked for.
    private var committedGPUs: Int {
        self.models.reduce(0) { $0 + $1.members.count * $1.setup.gpusPerReplica }
    }

    private func takeBack(_ index: Int, _ model: ModelState) {
        guard self.replicas[index].state == .draining else { return }
        // What was planned for the drain is void.
        self.replicas[index].generation &+= 1
        self.replicas[index].drainedAt = 0
        self.replanSteps(index, model)
        self.serve(index, model)
        self.planCrash(index, model)
        model.result.takenBack += 1
    }

    private func create(_ index: Int) {
        let model = self.models[index]
        let id = self.takeReplica()
        var replica = Replica()
        replica.generation = self.replicas[id].generation
        replica.model = Int32(index)
        replica.state = .pending
        replica.createdAt = self.clock
        replica.ordinal = model.ordinal
        model.ordinal += 1
        var random = self.draws(replica, model, purpose: 1)
        replica.isHopeless = random.nextUnit() < self.setup.pool.neverComes
        self.replicas[id] = replica
        model.members.append(Int32(id))
        let delay = self.setup.pool.delay.sample(&random)
        if replica.isHopeless { return }
        if delay == 0 {
            self.askForGPUs(id)
        } else {
            self.plan(.gpusAsked, replica: id, at: self.clock + delay)
        }
    }

    /// The draws of one start do not depend on what a policy does with others.
    private func draws(_ replica: Replica, _ model: ModelState, purpose: UInt64) -> RandomSource {
        var source = RandomSource(
            seed: self.setup.seed &+ UInt64(replica.model) &* 0xA24B_AED4_963E_E407
                &+ replica.ordinal &* 0x9FB2_1C65_1E98_DF25 &+ purpose &* 0xD6E8_FEB8_6659_FD93
        )
        return source.split()
    }

    private func takeReplica() -> Int {
        if let index = self.takeFreeReplica() { return index }
        self.replicas.append(Replica())
        self.engines.append(BatchReplica(setup: BatchingSetup()))
        return self.replicas.count - 1
    }

    func askForGPUs(_ index: Int) {
        self.waitingForGPUs.append(Int32(index))
        self.giveGPUs()
    }

    /// To those that wait, in their order, as long as there are any.
    func giveGPUs() {
        if self.waitingForGPUs.isEmpty { return }
        let available = self.setup.pool.available(at: Double(self.clock) / 1e9)
        var served = 0
        for id in self.waitingForGPUs {
            let model = self.models[Int(self.replicas[Int(id)].model)]
            let needed = model.setup.gpusPerReplica
            if self.gpusUsed + needed > available { break }
            self.gpusUsed += needed
            served += 1
            model.touch(self.clock)
            model.billed += 1
            model.result.starts += 1
            model.result.peak = max(model.result.peak, model.billed)
            self.replicas[Int(id)].holdsGPUs = true
            self.load(Int(id), model, after: 0)
        }
        self.waitingForGPUs.removeFirst(served)
    }

    /// Begins to load, `backOff` nanoseconds from now.
    private func load(_ index: Int, _ model: ModelState, after backOff: UInt64) {
        self.replicas[index].state = .starting
        var random = self.draws(
            self.replicas[index],
            model,
            purpose: 2 + self.replicas[index].attempts
        )
        let time = model.setup.coldStart.sample(&random)
        self.plan(.ready, replica: index, at: self.clock + backOff + time)
    }

    /// The longest wait between failed starts: five minutes, as on Kubernetes.
    private static let backOffMax: UInt64 = 300_000_000_000
    private static let backOffFirst: UInt64 = 10_000_000_000

    func becomeReady(_ index: Int) {
        let replica = self.replicas[index]
        let model = self.models[Int(replica.model)]
        var random = self.draws(replica, model, purpose: 1_000 + replica.attempts)
        if random.nextUnit() < model.setup.faults.startFailure {
            model.tick.failedStarts += 1
            self.replicas[index].attempts += 1
            let shift = min(replica.attempts, 10)
            self.load(index, model, after: min(Self.backOffMax, Self.backOffFirst << shift))
            return
        }
        model.touch(self.clock)
        model.tick.coldStarts.append(Double(self.clock - replica.createdAt) / 1e9)
        self.replicas[index].readyAt = self.clock
        self.replicas[index].attempts = 0
        if case .batching(let setup) = model.setup.engine {
            self.engines[index] = BatchReplica(setup: setup)
        }
        self.serve(index, model)
        self.planCrash(index, model)
        self.pump(model)
    }

    /// A replica that is ready from the beginning.
    func startWarm(_ index: Int) {
        let model = self.models[index]
        let id = self.takeReplica()
        var replica = Replica()
        replica.generation = self.replicas[id].generation
        replica.model = Int32(index)
        replica.holdsGPUs = true
        replica.ordinal = model.ordinal
        model.ordinal += 1
        self.replicas[id] = replica
        model.members.append(Int32(id))
        model.billed += 1
        self.gpusUsed += model.setup.gpusPerReplica
        if case .batching(let setup) = model.setup.engine {
            self.engines[id] = BatchReplica(setup: setup)
        }
        self.serve(id, model)
        self.planCrash(id, model)
    }

    /// Takes requests from now on.
    private func serve(_ index: Int, _ model: ModelState) {
        self.replicas[index].state = .ready
        self.replicas[index].place = model.ready.count
        model.ready.append(Int32(index), load: self.replicas[index].inFlight)
        self.reweigh(self.models[model.whole])
    }

    private func planCrash(_ index: Int, _ model: ModelState) {
        guard let interval = model.setup.faults.crashInterval else { return }
        var random = self.draws(
            self.replicas[index],
            model,
            purpose: 2_000 + self.replicas[index].readyAt
        )
        let seconds = min(interval * random.nextExponential(), 1e7)
        self.plan(.crash, replica: index, at: self.clock + UInt64(seconds * 1e9))
    }

    // MARK: Down

    private func shrink(_ model: ModelState, by count: Int) {
        for index in self.victims(model).prefix(count) { self.giveUp(index, model) }
    }

    private func giveUp(_ index: Int, _ model: ModelState) {
        switch self.replicas[index].state {
        case .pending, .starting:
            model.result.stops += 1
            self.remove(index)
        case .ready: self.drain(index, model)
        case .gone, .draining, .exiting: break
        }
    }

    /// In the order a ReplicaSet takes them: those without GPUs, those that load, then those that
    /// serve; always the youngest first.
    private func victims(_ model: ModelState) -> [Int] {
        let candidates = model.members.map(Int.init).filter(self.isSupply)
        return candidates.sorted { left, right in
            let (a, b) = (self.replicas[left], self.replicas[right])
            if a.state != b.state { return a.state.rawValue < b.state.rawValue }
            let (aTime, bTime) =
                a.state == .ready ? (a.readyAt, b.readyAt) : (a.createdAt, b.createdAt)
            return aTime == bTime ? a.ordinal > b.ordinal : aTime > bTime
        }
    }

    private func drain(_ index: Int, _ model: ModelState) {
        self.leave(index, model)
        self.replicas[index].generation &+= 1
        self.replanSteps(index, model)
        self.replicas[index].state = .draining
        model.result.stops += 1
        let deadline = self.clock + UInt64(model.setup.drainDeadline * 1e9)
        self.replicas[index].drainDeadline = deadline
        self.replicas[index].drainedAt = self.clock
        if self.replicas[index].inFlight == 0 {
            self.exit(index)
        } else {
            self.plan(.drainDeadline, replica: index, at: deadline)
        }
    }

    /// A new generation voids the planned end of steps as well.
    private func replanSteps(_ index: Int, _ model: ModelState) {
        guard case .batching = model.setup.engine, let end = self.engines[index].end else { return }
        self.plan(.steps, replica: index, at: end)
    }

    private func leave(_ index: Int, _ model: ModelState) {
        let place = self.replicas[index].place
        precondition(place >= 0, "a replica leaves that does not serve")
        if let moved = model.ready.remove(at: place) { self.replicas[Int(moved)].place = place }
        self.replicas[index].place = -1
        self.reweigh(self.models[model.whole])
    }

    /// The drain's time is up.
    func cutOff(_ index: Int) {
        let replica = self.replicas[index]
        if self.clock < replica.drainDeadline { self.result.violations.earlyKill += 1 }
        let model = self.models[Int(replica.model)]
        self.drop(index, model, mayRetry: false, \.interrupted)
        self.exit(index)
    }

    /// The process ends; its GPUs are free a little later.
    func exit(_ index: Int) {
        let model = self.models[Int(self.replicas[index].model)]
        self.replicas[index].generation &+= 1
        self.replicas[index].state = .exiting
        let time = UInt64(model.setup.exit * 1e9)
        self.plan(.exited, replica: index, at: self.clock + time)
    }

    /// A replica is gone for good.
    func remove(_ index: Int) {
        let model = self.models[Int(self.replicas[index].model)]
        model.touch(self.clock)
        self.waitingForGPUs.removeAll { Int($0) == index }
        model.members.removeAll { Int($0) == index }
        self.replicas[index].state = .gone
        self.replicas[index].generation &+= 1
        if self.replicas[index].holdsGPUs {
            self.replicas[index].holdsGPUs = false
            if self.replicas[index].drainedAt > 0 {
                let drained = self.clock - self.replicas[index].drainedAt
                model.tick.drains.append(Double(drained) / 1e9)
            }
            model.billed -= 1
            self.gpusUsed -= model.setup.gpusPerReplica
            assert(model.billed >= 0 && self.gpusUsed >= 0, "GPUs were given back twice")
        }
        self.freeReplica(index)
        self.giveGPUs()
    }

    // MARK: Faults

    func crash(_ index: Int) {
        let replica = self.replicas[index]
        let model = self.models[Int(replica.model)]
        guard replica.state == .ready || replica.state == .draining else { return }
        let wasDraining = replica.state == .draining
        model.touch(self.clock)
        model.tick.crashes += 1
        model.result.crashes += 1
        if !wasDraining { self.leave(index, model) }
        self.replicas[index].generation &+= 1
        // The gateway tries again elsewhere what has not begun to answer.
        self.replicas[index].state = .starting
        self.drop(index, model, mayRetry: true, \.crashed)
        self.engines[index].reset()
        if wasDraining {
            self.exit(index)
        } else {
            self.replicas[index].createdAt = self.clock
            self.replicas[index].ordinal = model.ordinal
            model.ordinal += 1
            self.load(index, model, after: 0)
        }
    }

    /// Takes all requests off a replica that is gone.
    private func drop(
        _ index: Int,
        _ model: ModelState,
        mayRetry: Bool,
        _ count: WritableKeyPath<ModelResult, UInt64>
    ) {
        if self.replicas[index].inFlight == 0 { return }
        model.touch(self.clock)
        self.replicas[index].inFlight = 0
        for slot in self.live.indices where Int(self.live[slot].replica) == index {
            model.inFlight -= 1
            self.live[slot].replica = -1
            let firstAt = self.live[slot].firstAt
            let hasBegun = firstAt > 0 && firstAt <= self.clock
            if mayRetry, !hasBegun {
                self.live[slot].generation &+= 1
                self.live[slot].firstAt = 0
                self.dispatch(Int32(slot), self.models[model.whole])
            } else {
                let arrival = self.live[slot].arrival
                self.giveBack(Int32(slot))
                self.lose(self.models[model.whole], arrival: arrival, count)
            }
        }
        self.engines[index].reset()
    }
}
