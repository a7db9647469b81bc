import Core
import Rollouts

/// What became of a rollout.
package struct RolloutResult: Sendable {
    package struct Event: Sendable, Equatable {
        /// Since the start of the run.
        package var seconds: Int
        package var kind: String
        package var text: String
    }

    package var canary = ""
    /// Where it stood at the end: `stable` where the new variant was promoted.
    package var phase = ""
    /// The variant that served at the end.
    package var live = ""
    package var events: [Event] = []
    /// Requests that the new variant ended, and those of them that it answered with an error.
    package var canaryRequests = 0
    package var canaryErrors = 0
    /// Seconds from the new variant's first request to the end of the rollout; nil: it had none, or
    /// the run ended before.
    package var exposedSeconds: Int?
}

/// What each request must know of a rollout.
struct Trial {
    /// The model whose requests are shared, and the variant that is tried.
    var whole: Int
    var canary: Int
    var generation: Int32
    var isRunning: Bool
}

/// One rollout under way: the shipped machine, and what it is shown each second.
struct RolloutRun {
    let setup: SimulatedRollout
    /// The model whose requests are shared.
    let whole: Int
    private(set) var machine: RolloutMachine
    private(set) var result = RolloutResult()
    private var hasBegun = false
    private var wasRunning = false
    private var peak = 1
    private var exposedAt: Int?
    private var cells: [Cell: Counts] = [:]
    private var guardrails: [Arm: GuardrailSample] = [:]
    private var latencies: [Arm: LatencyHistogram] = [:]

    private struct Cell: Hashable {
        var arm: Arm
        var replica: Int32
        var generation: Int32
    }

    private struct Counts {
        var requests = 0
        var errors = 0
        var latency = LatencyHistogram()
        var firstToken = LatencyHistogram()

        mutating func add(_ request: EndedRequest) {
            self.requests += 1
            if request.hasFailed {
                self.errors += 1
            } else {
                self.latency.record(nanoseconds: request.latency)
                self.firstToken.record(nanoseconds: request.firstToken)
            }
        }
    }

    /// One that took part; times in nanoseconds.
    struct EndedRequest {
        var arm: Arm
        var replica: Int32
        var generation: Int32
        var hasFailed: Bool
        var latency: UInt64
        var firstToken: UInt64
    }

    /// - Parameter setup: of a world without problems.
    init(_ setup: SimulatedRollout, _ models: [SimulatedModel]) {
        self.setup = setup
        let canary = models[setup.canary]
        self.whole = canary.variantOf ?? setup.canary
        let names = [models[self.whole].name, canary.name]
        let spec = RolloutSpec(
            live: names[0],
            variants: names.map { VariantReference($0) },
            plan: setup.plan
        )
        do throws(RolloutRefusal) {
            self.machine = try RolloutMachine(spec)
        } catch {
            preconditionFailure("a world with a rollout that cannot be: \(error)")
        }
        self.result.canary = canary.name
        self.result.live = names[0]
    }

    var generation: Int { self.machine.status.traffic.generation }
    var stableName: String { self.machine.spec.live.name }

    var trial: Trial {
        Trial(
            whole: self.whole,
            canary: self.setup.canary,
            generation: Int32(truncatingIfNeeded: self.generation),
            isRunning: self.machine.status.isRunning
        )
    }

    // MARK: What requests show

    mutating func record(_ request: EndedRequest) {
        let cell = Cell(arm: request.arm, replica: request.replica, generation: request.generation)
        self.cells[cell, default: Counts()].add(request)
        self.guardrails[request.arm, default: GuardrailSample()].requests += 1
        if request.arm == .canary { self.result.canaryRequests += 1 }
        if request.hasFailed {
            self.guardrails[request.arm, default: GuardrailSample()].errors += 1
            if request.arm == .canary { self.result.canaryErrors += 1 }
            return
        }
        self.latencies[request.arm, default: LatencyHistogram()].record(
            nanoseconds: request.latency
        )
    }

    // MARK: A second

    /// - Parameter variants: replicas, by name.
    mutating func tick(_ variants: [String: VariantObservation], second: Int) {
        let moment = RolloutMoment(
            instant: Instant(nanoseconds: UInt64(second + 1) * World.second),
            wall: second * 1_000
        )
        if !self.hasBegun, Double(second) >= self.setup.startsAt {
            self.hasBegun = true
            do throws(RolloutRefusal) {
                self.note(
                    try self.machine.perform(.start(variant: self.result.canary), at: moment),
                    second
                )
            } catch {
                self.note("refused", "\(error)", second)
            }
        }
        self.note(self.machine.handle(.tick(self.observation(variants)), at: moment), second)
        // Every worker is this world.
        let acknowledged = RolloutEvent.acknowledged(generation: self.generation)
        self.note(self.machine.handle(acknowledged, at: moment), second)
        self.finish(second)
    }

    private mutating func observation(_ variants: [String: VariantObservation])
        -> RolloutObservation
    {
        var observation = RolloutObservation(variants: variants)
        // In an order that is the same in every run.
        let order = self.cells.keys.sorted {
            ($0.arm.rawValue, $0.replica, $0.generation)
                < ($1.arm.rawValue, $1.replica, $1.generation)
        }
        for cell in order {
            guard let counts = self.cells[cell] else { continue }
            var sample = ArmSample(
                arm: cell.arm,
                replica: "\(cell.replica)",
                generation: Int(cell.generation),
                requests: counts.requests
            )
            sample[.error] = counts.errors
            sample.failures = counts.errors
            sample[.latency] = BucketCounts(counts.latency)
            sample[.timeToFirstToken] = BucketCounts(counts.firstToken)
            observation.samples.append(sample)
        }
        for arm in Arm.allCases {
            var own = self.guardrails[arm] ?? GuardrailSample()
            own.latency = BucketCounts(self.latencies[arm] ?? LatencyHistogram())
            switch arm {
            case .canary: observation.canary = own
            case .stable: observation.stable = own
            }
        }
        self.cells = [:]
        self.guardrails = [:]
        self.latencies = [:]
        return observation
    }

    private mutating func note(_ actions: [RolloutAction], _ second: Int) {
        for case .record(let record) in actions {
            self.note(record.kind.rawValue, record.message, second)
        }
    }

    private mutating func note(_ kind: String, _ text: String, _ second: Int) {
        guard self.result.events.count < RolloutPlan.stepsMax * 4 else { return }
        self.result.events.append(.init(seconds: second, kind: kind, text: text))
    }

    private mutating func finish(_ second: Int) {
        let status = self.machine.status
        if self.exposedAt == nil, status.traffic.weight(of: self.result.canary) > 0 {
            self.exposedAt = second
        }
        self.result.phase = status.phase.rawValue
        self.result.live = status.stable.name
        let hasEnded = self.hasBegun && !status.isRunning
        if hasEnded, self.result.exposedSeconds == nil, let exposedAt = self.exposedAt {
            self.result.exposedSeconds = second - exposedAt
        }
    }

    // MARK: What it asks for

    /// How many replicas all requests would need: from what load alone asks for of each arm's
    /// share, the most since the rollout began, as going back must not have to wait for replicas
    /// that were there. Floors have no part in it, or they would hold themselves up.
    mutating func need(stable: Int, canary: Int) -> Int {
        let status = self.machine.status
        if status.isRunning != self.wasRunning {
            self.wasRunning = status.isRunning
            self.peak = 1
        }
        let needed = FullLoad.replicas([
            (status.traffic.weight(of: self.stableName), stable),
            (status.traffic.weight(of: self.result.canary), canary),
        ])
        let need = max(1, status.baselineReplicas, needed ?? 1)
        self.peak = status.isRunning ? max(self.peak, need) : need
        return self.peak
    }

    /// Replicas that a variant must have whatever its load is.
    /// - Parameters:
    ///   - all: how many do all requests.
    ///   - present: how many are wanted of it now.
    ///   - others: how many others there are to be that do the same.
    func floor(of variant: String, forAll all: Int, present: Int, others: Int) -> Int {
        guard let demand = self.machine.capacity.first(where: { $0.variant == variant }) else {
            return 0
        }
        let share = max(demand.share, demand.nextShare ?? 0)
        let count = max(demand.replicasMin, (all * min(share, 100) + 99) / 100)
        return max(demand.mayShrink ? 0 : present, count - others)
    }
}

extension World {
    /// A request has ended while a rollout may be under way.
    func record(_ trial: Trial, _ request: LiveRequest, _ model: ModelState) {
        guard trial.isRunning, model.whole == trial.whole else { return }
        let replica = self.replicas[Int(request.replica)]
        let first = (request.firstAt == 0 ? self.clock : request.firstAt) &- request.started
        self.rollout?.record(
            RolloutRun.EndedRequest(
                arm: model.index == trial.canary ? .canary : .stable,
                replica: Int32(
                    truncatingIfNeeded: replica.ordinal &* UInt64(SimulationLimits.modelsMax)
                        &+ UInt64(model.index)
                ),
                generation: request.plan,
                hasFailed: request.fails,
                latency: self.clock &- request.started,
                firstToken: first
            )
        )
    }

    /// Lets the rollout look at the second that has passed, and does what it says.
    func roll() {
        guard let run = self.rollout else { return }
        let family = self.models[run.whole].family
        let canary = self.models[run.setup.canary]
        let pool = family.filter { $0 != canary.index && self.models[$0].whole == run.whole }
        let peak = self.rollout?.need(
            stable: pool.reduce(0) { $0 + self.models[$1].recommended },
            canary: canary.recommended
        )
        func all(_ index: Int) -> Int {
            min(max(1, self.models[index].setup.replicasMax), peak ?? 1)
        }
        func seen(_ indices: [Int]) -> VariantObservation {
            VariantObservation(
                ready: indices.reduce(0) { $0 + self.models[$1].ready.count },
                replicasForAll: all(indices[0]),
                inFlight: indices.reduce(0) { $0 + self.models[$1].inFlight }
            )
        }
        let second = Int(self.clock / Self.second)
        self.rollout?.tick(
            [run.stableName: seen(pool), canary.setup.name: seen([canary.index])],
            second: second
        )
        self.trial = self.rollout?.trial
        guard let run = self.rollout else { return }
        let traffic = run.machine.status.traffic
        for index in family {
            let model = self.models[index]
            let isFirst = index == run.whole
            let name = index == canary.index ? canary.setup.name : run.stableName
            model.rolloutWeight = isFirst || index == canary.index ? traffic.weight(of: name) : 0
            // What a pool needs may be had by any of it; where it is short the first is asked.
            let others =
                isFirst
                ? pool.filter { $0 != index }.reduce(0) { $0 + self.models[$1].desired } : 0
            let floor = run.floor(
                of: name,
                forAll: isFirst || index == canary.index ? all(index) : 0,
                present: model.desired,
                others: others
            )
            let isOther = !isFirst && index != canary.index
            model.rolloutFloor = isOther ? min(floor, model.desired) : floor
        }
        self.reweigh(self.models[run.whole])
    }
}
