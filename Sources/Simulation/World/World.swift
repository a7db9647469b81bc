import Autoscaling
import Core
import Traffic

/// One run of one policy; see the module's design note. Single use, one owner.
package final class World {
    enum Kind: UInt64 {
        /// A request ends on a replica that does not batch. Index: live request.
        case completion = 0
        /// A run of steps ends. Index, from here on: replica.
        case steps
        case gpusAsked
        case ready
        case crash
        case drainDeadline
        case exited
    }

    static let second: UInt64 = 1_000_000_000
    /// Seconds past the end in which requests that came before it may still end.
    static let settleSeconds = 900.0

    package let setup: WorldSetup
    let models: [ModelState]
    var replicas: [Replica] = []
    var engines: [BatchReplica] = []
    private var freeReplicas: [Int32] = []
    var live: [LiveRequest] = []
    private var freeLive: [Int32] = []
    var events = EventHeap()
    var clock: UInt64 = 0
    /// GPUs in use, and replicas that wait for some, first come first served.
    var gpusUsed = 0
    var waitingForGPUs: [Int32] = []
    var result = WorldResult()
    var rollout: RolloutRun?
    /// What of it concerns each request; read for every one, and new each second.
    var trial: Trial?
    let traits: ControllerTraits
    private var controller: any WorldController
    /// Of the present tick, by model.
    private(set) var observations: [Observation] = []
    private var desired: [Int] = []
    private let end: UInt64
    let warmUp: UInt64
    private var firsts: [Int32] = []
    private var dones: [Int32] = []
    private var isMeasuring = false
    private var hasMeasured = false
    let bucket: Double

    /// - Parameter setup: must have no `problems`.
    package init(_ setup: WorldSetup, controller: any WorldController) {
        precondition(setup.problems.isEmpty, "\(setup.problems)")
        self.setup = setup
        self.controller = controller
        let traits = controller.traits
        self.traits = traits
        self.models = setup.models.enumerated().map { index, model in
            ModelState(
                model,
                index: index,
                seed: setup.seed &+ UInt64(index) &* 0x9E37,
                takesSamples: traits.needsSamples
            )
        }
        self.end = UInt64(setup.duration * 1e9)
        self.warmUp = UInt64(setup.warmUp * 1e9)
        self.bucket = max(1, (setup.duration / Double(SimulationLimits.pointsMax)).rounded(.up))
        self.desired = setup.models.map(\.replicasAtStart)
        self.rollout = setup.rollout.map { RolloutRun($0, setup.models) }
        self.trial = self.rollout?.trial
        self.makeFamilies()
    }

    // MARK: Running

    /// Runs to the end. `progress` is told the share that is done, about once per thousandth, and
    /// returns false to stop early.
    package func run(progress: (Double) -> Bool = { _ in true }) -> WorldResult {
        self.begin()
        var nextTick: UInt64 = 0
        var nextReport: UInt64 = 0
        let settleEnd = self.end + UInt64(Self.settleSeconds * 1e9)
        while self.result.events < SimulationLimits.eventsMax {
            let limit = min(nextTick, self.events.nextTime)
            let model = self.models.count == 1 ? 0 : self.earliestModel()
            let arrival = self.models[model].nextArrival
            if arrival <= limit {
                self.clock = arrival
                self.arrive(model)
            } else if self.events.nextTime <= nextTick {
                let event = self.events.pop()
                self.clock = event.time
                self.handle(event.payload)
            } else {
                self.clock = nextTick
                self.control()
                nextTick += Self.second
                if self.clock >= self.end, self.isSettled || self.clock >= settleEnd { break }
                if self.clock >= nextReport {
                    nextReport = self.clock + max(Self.second, self.end / 1_000)
                    if !progress(min(1, Double(self.clock) / Double(self.end))) {
                        self.result.wasInterrupted = true
                        break
                    }
                }
            }
            self.result.events &+= 1
        }
        return self.finish()
    }

    private var isSettled: Bool {
        self.models.allSatisfy { $0.inFlight == 0 && $0.queued == 0 }
    }

    private func begin() {
        for (index, model) in self.models.enumerated() {
            // A variant's requests are those of its model.
            model.begin(end: model.whole == index ? self.end : 0)
            model.desired = model.setup.replicasAtStart
            for _ in 0..<model.setup.replicasAtStart { self.startWarm(index) }
        }
    }

    private func earliestModel() -> Int {
        var best = 0
        for index in 1..<self.models.count
        where self.models[index].nextArrival < self.models[best].nextArrival {
            best = index
        }
        return best
    }

    private func handle(_ payload: UInt64) {
        let index = Int((payload >> 32) & 0x0FFF_FFFF)
        let generation = UInt32(truncatingIfNeeded: payload)
        let kind = payload >> 60
        if kind == Kind.completion.rawValue {
            if self.live[index].generation == generation { self.complete(Int32(index)) }
            return
        }
        guard self.replicas[index].generation == generation else { return }
        self.result.digest = (self.result.digest ^ self.clock ^ kind) &* 0x0000_0100_0000_01B3
        switch Kind(rawValue: kind) {
        case .steps: self.finishSteps(index)
        case .gpusAsked: self.askForGPUs(index)
        case .ready: self.becomeReady(index)
        case .crash: self.crash(index)
        case .drainDeadline: self.cutOff(index)
        case .exited: self.remove(index)
        case .completion, nil: preconditionFailure("an event of kind \(kind)")
        }
    }

    /// Plans something to happen to a replica as long as it is the same one.
    func plan(_ kind: Kind, replica index: Int, at time: UInt64) {
        let payload =
            kind.rawValue << 60 | UInt64(index) << 32 | UInt64(self.replicas[index].generation)
        self.events.push(time: time, payload: payload)
    }

    // MARK: Requests

    private func arrive(_ index: Int) {
        let model = self.models[index]
        let request = model.buffer[model.position]
        model.advanceArrivals(end: self.end)
        self.result.requests &+= 1
        model.tick.arrivals &+= 1
        model.tick.inputTokens &+= Int(request.input)
        if self.clock >= self.warmUp { model.result.arrivals &+= 1 }
        let slot = self.takeSlot()
        guard slot >= 0, self.fits(request, model) else {
            if slot >= 0 { self.giveBack(slot) }
            self.lose(model, arrival: self.clock, \.rejected)
            return
        }
        // Written as a whole: each field by itself would ask whose the array is.
        var entry = LiveRequest()
        entry.arrival = request.time
        entry.service = request.service
        entry.first = request.first
        entry.input = request.input
        entry.output = request.output
        entry.generation = self.live[Int(slot)].generation
        entry.model = Int32(truncatingIfNeeded: index)
        self.live[Int(slot)] = entry
        self.dispatch(slot, model)
        if model.members.isEmpty, self.isAsleep(model) { self.wake(index) }
    }

    private func fits(_ request: SimulatedRequest, _ model: ModelState) -> Bool {
        guard case .batching(let setup) = model.setup.engine else { return true }
        return Int(request.input) + Int(request.output) <= setup.cacheTokens
    }

    /// Onto a replica, into the queue, or away.
    /// - Parameter model: whose request it is.
    func dispatch(_ slot: Int32, _ model: ModelState) {
        model.touch(self.clock)
        if model.queued == 0 {
            if !model.family.isEmpty {
                if let (variant, place) = self.pick(model) {
                    variant.touch(self.clock)
                    return self.start(slot, variant, place: place)
                }
            } else if let place = model.pick() {
                return self.start(slot, model, place: place)
            }
        }
        let arrival = self.live[Int(slot)].arrival
        let deadline = Instant(nanoseconds: arrival)
            .advanced(byNanoseconds: Int64(model.setup.queueTimeout * 1e9))
        if model.enqueue(slot, deadline: deadline, now: Instant(nanoseconds: self.clock)) {
            self.live[Int(slot)].replica = -1
            self.live[Int(slot)].model = Int32(truncatingIfNeeded: model.index)
        } else {
            self.giveBack(slot)
            self.lose(model, arrival: arrival, \.rejected)
        }
    }

    private func start(_ slot: Int32, _ model: ModelState, place: Int) {
        let index = Int(model.ready.ids[place])
        let load = model.ready.loads[place] &+ 1
        model.ready.loads[place] = load
        model.inFlight &+= 1
        self.replicas[index].inFlight = load
        let position = Int(slot)
        let arrival = self.live[position].arrival
        let wait = self.clock &- arrival
        let seconds = Double(wait) * 1e-9
        model.tick.started &+= 1
        model.tick.waitSum += seconds
        if seconds > model.tick.waitMax { model.tick.waitMax = seconds }
        self.models[model.whole].waits.record(nanoseconds: wait)
        if model.takesSamples { model.samples.wait.histogram.record(seconds: seconds) }
        self.live[position].replica = Int32(truncatingIfNeeded: index)
        self.live[position].model = Int32(truncatingIfNeeded: model.index)
        self.live[position].started = self.clock
        if let trial = self.trial { self.live[position].plan = trial.generation }
        let errorRate = model.setup.faults.errorRate
        self.live[position].fails = errorRate > 0 && model.errors.nextUnit() < errorRate
        switch model.setup.engine {
        case .simple(let slowdown):
            var service = self.live[position].service
            var first = self.live[position].first
            if slowdown > 0 || model.setup.speed != 1 {
                let factor = (1 + slowdown * Double(load &- 1)) / model.setup.speed
                service = UInt64(Double(service) * factor)
                first = UInt64(Double(first) * factor)
            }
            self.live[position].firstAt = self.clock &+ first
            let payload = UInt64(position) << 32 | UInt64(self.live[position].generation)
            self.events.push(time: self.clock &+ service, payload: payload)
        case .batching:
            let hasChanged = self.engines[index].submit(
                slot: slot,
                prompt: Int(self.live[position].input),
                output: Int(self.live[position].output),
                now: self.clock
            )
            if hasChanged { self.planSteps(index) }
        }
    }

    /// Steps carry the time they were planned for as their generation, so that a run that was
    /// shortened or lost leaves no event that counts.
    private func planSteps(_ index: Int) {
        guard let end = self.engines[index].end else { return }
        self.plan(.steps, replica: index, at: end)
    }

    private func finishSteps(_ index: Int) {
        // A shortened run leaves its old event behind.
        guard self.engines[index].end == self.clock else { return }
        self.firsts.removeAll(keepingCapacity: true)
        self.dones.removeAll(keepingCapacity: true)
        self.engines[index].advance(now: self.clock, first: &self.firsts, done: &self.dones)
        self.planSteps(index)
        for slot in self.firsts { self.live[Int(slot)].firstAt = self.clock }
        for position in self.dones.indices { self.complete(self.dones[position]) }
    }

    private func complete(_ slot: Int32) {
        let position = Int(slot)
        let request = self.live[position]
        let model = self.models[Int(request.model)]
        model.touch(self.clock)
        model.inFlight &-= 1
        if let trial = self.trial { self.record(trial, request, model) }
        if request.fails { return self.fail(slot, model) }
        model.tick.completions &+= 1
        model.tick.outputTokens &+= Int(request.output)
        let latency = self.clock &- request.arrival
        let first = (request.firstAt == 0 ? self.clock : request.firstAt) &- request.arrival
        model.tick.latencySum += Double(latency) * 1e-9
        model.tick.firstTokenSum += Double(first) * 1e-9
        let whole = self.models[model.whole]
        whole.firstTokens.record(nanoseconds: first)
        whole.latencies.record(nanoseconds: latency)
        let isGood = first <= model.firstTokenMax && latency <= model.latencyMax
        if isGood { model.tick.good &+= 1 }
        if model.takesSamples { model.sample(first: first, latency: latency) }
        if request.arrival >= self.warmUp {
            model.result.served &+= 1
            whole.result.completed &+= 1
            if isGood { whole.result.good &+= 1 }
        }
        self.result.digest = (self.result.digest ^ self.clock) &* 0x0000_0100_0000_01B3
        self.giveBack(slot)
        self.free(Int(request.replica), model)
    }

    /// A request was answered with an error.
    private func fail(_ slot: Int32, _ model: ModelState) {
        let request = self.live[Int(slot)]
        let whole = self.models[model.whole]
        self.lose(whole, arrival: request.arrival, \.failed)
        if request.arrival >= self.warmUp { model.result.served &+= 1 }
        self.result.digest = (self.result.digest ^ self.clock) &* 0x0000_0100_0000_01B3
        self.giveBack(slot)
        self.free(Int(request.replica), model)
    }

    /// A request has left a replica: the next one may have its slot.
    private func free(_ index: Int, _ model: ModelState) {
        self.replicas[index].inFlight &-= 1
        let replica = self.replicas[index]
        switch replica.state {
        case .ready:
            model.ready.loads[replica.place] = replica.inFlight
            let whole = model.whole == model.index ? model : self.models[model.whole]
            if whole.queued > 0, Int(replica.inFlight) < model.ready.limit,
                model.family.isEmpty && whole === model || self.mayServe(model)
            {
                self.takeFromQueue(whole, by: model, place: replica.place)
            }
        case .draining: if replica.inFlight == 0 { self.exit(index) }
        case .gone, .pending, .starting, .exiting: break
        }
    }

    @discardableResult
    private func takeFromQueue(_ whole: ModelState, by model: ModelState, place: Int) -> Bool {
        whole.touch(self.clock)
        guard let slot = whole.popFirst(now: Instant(nanoseconds: self.clock)) else {
            return false
        }
        model.touch(self.clock)
        self.start(slot, model, place: place)
        return true
    }

    /// Gives what waits to replicas that have become free.
    func pump(_ model: ModelState) {
        let whole = self.models[model.whole]
        if !whole.family.isEmpty {
            while whole.queued > 0, let (variant, place) = self.pick(whole) {
                guard self.takeFromQueue(whole, by: variant, place: place) else { return }
            }
            return
        }
        while model.queued > 0, let place = model.pick() {
            guard self.takeFromQueue(model, by: model, place: place) else { return }
        }
    }

    /// A request ends badly.
    func lose(
        _ model: ModelState,
        arrival: UInt64,
        _ count: WritableKeyPath<ModelResult, UInt64>
    ) {
        model.tick.failures += 1
        if arrival >= self.warmUp { model.result[keyPath: count] += 1 }
    }

    func takeFreeReplica() -> Int? { self.freeReplicas.popLast().map(Int.init) }
    func freeReplica(_ index: Int) { self.freeReplicas.append(Int32(index)) }

    private func takeSlot() -> Int32 {
        if let slot = self.freeLive.popLast() { return slot }
        guard self.live.count < SimulationLimits.liveMax else { return -1 }
        self.live.append(LiveRequest())
        return Int32(truncatingIfNeeded: self.live.count - 1)
    }

    /// The slot is free; events that name it are void.
    func giveBack(_ slot: Int32) {
        self.live[Int(slot)].generation &+= 1
        self.live[Int(slot)].replica = -1
        self.freeLive.append(slot)
    }

    // MARK: Control

    private func control() {
        let seconds = Double(self.clock) / 1e9
        for model in self.models { self.expire(model) }
        self.measure()
        if self.rollout != nil { self.roll() }
        self.observe(seconds)
        self.controller.tick(self.observations, desired: &self.desired)
        for (index, model) in self.models.enumerated() {
            model.recommended = self.controller.recommended(for: index) ?? self.desired[index]
        }
        for index in self.models.indices { self.apply(index) }
        self.reweigh { self.controller.worth(of: $0) }
        for index in self.models.indices { self.record(index, seconds) }
        self.checkBudget()
    }

    private func expire(_ model: ModelState) {
        let now = Instant(nanoseconds: self.clock)
        model.touch(self.clock)
        while let late = model.popExpired(now: now) {
            self.giveBack(late.slot)
            self.lose(model, arrival: late.enqueuedAt.nanoseconds, \.timedOut)
        }
    }

    /// Begins and ends what counts.
    private func measure() {
        if !self.isMeasuring, !self.hasMeasured, self.clock >= self.warmUp {
            self.isMeasuring = true
            for model in self.models {
                model.touch(self.clock)
                model.beginMeasuring()
            }
        }
        if self.isMeasuring, self.clock >= self.end {
            self.isMeasuring = false
            self.hasMeasured = true
            for model in self.models {
                model.touch(self.clock)
                model.endMeasuring()
            }
            self.result.measured = Double(self.clock - self.warmUp) / 1e9
        }
    }

    private func wake(_ index: Int) {
        let model = self.models[index]
        let observation = self.snapshot(model, Double(self.clock) / 1e9)
        self.desired[index] = model.desired
        for variant in model.family { self.desired[variant] = self.models[variant].desired }
        self.controller.wake(model: index, observation, desired: &self.desired)
        if model.family.isEmpty { self.apply(index) }
        for variant in model.family { self.apply(variant) }
    }

    private func apply(_ index: Int) {
        let model = self.models[index]
        // Whoever decides, a rollout has what it needs.
        let least = max(0, model.rolloutFloor)
        let bounded = min(max(self.desired[index], least), SimulationLimits.replicasMax)
        self.desired[index] = bounded
        if bounded != model.desired || bounded != self.supply(model) {
            self.resize(index, to: bounded)
        }
    }

    private func observe(_ seconds: Double) {
        self.observations.removeAll(keepingCapacity: true)
        for (index, model) in self.models.enumerated() {
            var observation = self.snapshot(model, seconds)
            let means = model.takeMeans(self.clock, seconds: self.clock == 0 ? 0 : 1)
            if self.clock > 0 { (observation.inFlightMean, observation.queuedMean, _) = means }
            model.billedMean = means.2
            self.observations.append(observation)
            self.desired[index] = model.desired
            model.tick = Observation(now: Instant(nanoseconds: self.clock))
            if model.takesSamples { model.samples = TimeSamples() }
        }
    }

    private func finish() -> WorldResult {
        for model in self.models {
            model.touch(self.clock)
            if self.isMeasuring { model.endMeasuring() }
            model.result.firstTokens = model.firstTokens
            model.result.latencies = model.latencies
            model.result.waits = model.waits
            model.result.variantOf = model.setup.variantOf
            model.closeSeries()
            self.result.models.append(model.result)
        }
        if self.isMeasuring { self.result.measured = Double(self.clock - self.warmUp) / 1e9 }
        self.result.rollout = self.rollout?.result
        return self.result
    }
}
