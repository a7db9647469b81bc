import Core

/// How one process ended.
package enum ProcessExit: Hashable, Sendable, CustomStringConvertible {
    case code(Int32)
    case signal(Int32)

    package var description: String {
        switch self {
        case .code(let code): "exited with code \(code)"
        case .signal(let number): "was ended by \(signalName(number))"
        }
    }
}

/// What a readiness probe found.
package enum ProbeResult: Hashable, Sendable {
    case good
    /// Why not, in words.
    case bad(String)
}

/// The life of one process replica: decides when to start, probe, signal and give up.
///
/// ```
/// waiting ──tick──▶ spawning ──spawned──▶ running ──drain──▶ draining ──drained──▶ terminating
///    ▲                  │                    │  ▲──takeBack────┘  │                    │  │ grace
///    │◀──spawnFailed────┘                    │ exited             │ exited             │  ▼
///    │                                       ▼                    ▼            exited  │ killing
///    └────────────cleared (restart)────── clearing ◀─────────────────────────────────┴──┘
///                                            └──cleared (end)──▶ gone
/// ```
///
/// `clearing` is the time between the end of the process itself and the end of the last process of
/// its group: until then its ports may be taken, so nothing is started in its place. A process that
/// ends by itself takes its group with it at once; one that was asked to end leaves the rest of its
/// group the rest of the grace period.
///
/// Events that cannot matter in a phase are dropped there: they are answers that crossed with a
/// decision. It owns nothing and is copyable, so that tests can branch from any state.
package struct ProcessReplicaMachine: Sendable, Equatable {
    /// The parts of the group's specification that decide; may change while the replica runs.
    package struct Policy: Sendable, Equatable {
        package var readiness: ReadinessSpec
        package var startupTimeout: Duration
        package var terminationGracePeriod: Duration
        package var drainDeadline: Duration
        package var backOff: RestartBackOff

        package init(_ spec: ProcessGroupSpec) {
            self.readiness = spec.readiness
            self.startupTimeout = spec.startupTimeout
            self.terminationGracePeriod = spec.terminationGracePeriod
            self.drainDeadline = spec.drainDeadline
            self.backOff = spec.backOff
        }
    }

    package enum Event: Sendable, Equatable {
        /// Time has passed; call at `deadline`. Early and late calls do no harm.
        case tick
        case spawned(pid: Int32)
        /// Nothing was started; why, in words.
        case spawnFailed(String)
        case probed(ProbeResult)
        /// The process ended; `output` holds its last lines.
        case exited(ProcessExit, output: String)
        /// No process of its group is left and its end was collected.
        case cleared
        /// The replica is surplus: end it once nothing is in flight.
        case drain
        case drained
        /// It is not surplus after all.
        case takeBack
        /// End it without waiting for requests in flight.
        case stop
        /// End it by force.
        case kill
    }

    package enum Action: Sendable, Equatable {
        /// Take ports, start the process, answer `spawned` or `spawnFailed`.
        case spawn
        /// Ask for readiness, answer `probed`.
        case probe
        /// Forget the probe under way: no answer is wanted.
        case cancelProbe
        /// SIGTERM to the whole group.
        case terminate
        /// SIGKILL to the whole group.
        case kill
        /// Watch for the end of the whole group, then answer `cleared`.
        case awaitClear
        case releasePorts
        /// The measured time from start to first readiness.
        case recordColdStart(Duration)
    }

    /// What follows once the process and its group are gone.
    package enum Ending: Sendable, Equatable {
        case restart
        case end
    }

    package enum Phase: Sendable, Equatable {
        case waiting(until: Instant)
        case spawning(Ending)
        case running
        case draining(until: Instant)
        case terminating(Ending, killAt: Instant)
        case killing(Ending)
        /// `killAt` is nil once the group was killed.
        case clearing(Ending, killAt: Instant?)
        case gone
    }

    /// One run of the process.
    package struct Life: Sendable, Equatable {
        let pid: Int32
        let spawnedAt: Instant
        var readyAt: Instant?
        var tally = ProbeTally()
        var probeAt: Instant
        var isProbing = false
    }

    package private(set) var phase: Phase
    package private(set) var life: Life?
    package var policy: Policy
    package private(set) var state: ReplicaState = .pending
    package private(set) var since: Instant
    /// Lives that ended badly, or could not begin, in a row.
    package private(set) var failures = 0
    package private(set) var spawns = 0
    package private(set) var coldStart: Duration?
    package private(set) var lastExit: String?
    package private(set) var message = ""
    private var couldNotSpawn = false
    /// It was given up for not being ready in time, and has not been ready since.
    private var wasTooSlow = false

    /// A replica that wants to start at `now`: give it a `tick`.
    package init(policy: Policy, now: Instant) {
        self.policy = policy
        self.phase = .waiting(until: now)
        self.since = now
    }

    /// Takes in what happened and returns what to do, in order.
    package mutating func handle(_ event: Event, now: Instant) -> [Action] {
        let actions = self.transition(event, now: now)
        let state = self.currentState
        if state != self.state {
            self.state = state
            self.since = now
        }
        self.checkInvariants()
        return actions
    }

    // MARK: What others ask

    /// When it wants the next `tick`; nil: never, something else has to happen first.
    package var deadline: Instant? {
        switch self.phase {
        case .waiting(let until): until
        case .running: self.runningDeadline
        case .draining(let until): min(until, self.runningDeadline ?? until)
        case .terminating(_, let killAt): killAt
        case .clearing(_, let killAt): killAt
        case .spawning, .killing, .gone: nil
        }
    }

    package var isGone: Bool { self.phase == .gone }

    /// Whether it will end for good, by all that is known now.
    package var isLeaving: Bool {
        switch self.phase {
        case .draining, .gone: true
        case .waiting, .running: false
        case .spawning(let ending), .terminating(let ending, _), .killing(let ending),
            .clearing(let ending, _):
            ending == .end
        }
    }

    package var canBeTakenBack: Bool { self.drainEnds != nil }

    /// When it is stopped whatever runs on it; nil unless it is draining.
    package var drainEnds: Instant? {
        if case .draining(let until) = self.phase { return until }
        return nil
    }

    /// Why it will not be ready soon. A life that is under way has to show first that it is better
    /// than those before it.
    package var trouble: StartTrouble? {
        if self.life?.readyAt != nil { return nil }
        if self.couldNotSpawn { return .cannotStart }
        if self.wasTooSlow { return .tooSlow }
        return self.failures >= self.policy.backOff.crashLoopAfter ? .crashes : nil
    }

    /// Whether it runs and was ready at the last look, draining or not.
    package var isReady: Bool {
        switch self.phase {
        case .running, .draining: self.life?.tally.isReady ?? false
        case .waiting, .spawning, .terminating, .killing, .clearing, .gone: false
        }
    }

    package var restarts: Int { max(0, self.spawns - 1) }

    // MARK: Transitions

    private mutating func transition(_ event: Event, now: Instant) -> [Action] {
        switch event {
        case .tick: self.tick(now)
        case .spawned(let pid): self.spawned(pid, now)
        case .spawnFailed(let reason): self.spawnFailed(reason, now)
        case .probed(let result): self.probed(result, now)
        case .exited(let exit, let output): self.exited(exit, output, now)
        case .cleared: self.cleared(now)
        case .drain: self.drain(now)
        case .drained: self.canBeTakenBack ? self.beginTermination(.end, now) : []
        case .takeBack: self.takeBack()
        case .stop: self.stop(now)
        case .kill: self.kill()
        }
    }

    private mutating func tick(_ now: Instant) -> [Action] {
        switch self.phase {
        case .waiting(let until):
            guard now >= until else { return [] }
            self.phase = .spawning(.restart)
            return [.spawn]
        case .running:
            return self.tickRunning(now)
        case .draining(let until):
            return now >= until ? self.beginTermination(.end, now) : self.tickRunning(now)
        case .terminating(let ending, let killAt):
            guard now >= killAt else { return [] }
            self.phase = .killing(ending)
            return [.kill]
        case .clearing(let ending, let killAt):
            guard let killAt, now >= killAt else { return [] }
            self.phase = .clearing(ending, killAt: nil)
            return [.kill]
        case .spawning, .killing, .gone:
            return []
        }
    }

    private mutating func tickRunning(_ now: Instant) -> [Action] {
        guard let life = self.life else { preconditionFailure("a running replica without a life") }
        if life.readyAt == nil, now >= life.spawnedAt + self.policy.startupTimeout {
            let limit = describe(self.policy.startupTimeout)
            var reason = "was not ready within its start-up time of \(limit)"
            if let failure = life.tally.lastFailure { reason += " (\(failure))" }
            self.wasTooSlow = true
            self.fail(reason, now)
            return self.beginTermination(.restart, now)
        }
        guard !life.isProbing, now >= life.probeAt else { return [] }
        self.life?.isProbing = true
        return [.probe]
    }

    private mutating func spawned(_ pid: Int32, _ now: Instant) -> [Action] {
        guard case .spawning(let ending) = self.phase else {
            preconditionFailure("a process was started that nobody asked for, in \(self.phase)")
        }
        self.spawns += 1
        self.couldNotSpawn = false
        self.message = ""
        let firstProbe = now + self.policy.readiness.period
        self.life = Life(pid: pid, spawnedAt: now, probeAt: firstProbe)
        self.phase = .running
        return ending == .end ? self.beginTermination(.end, now) : []
    }

    private mutating func spawnFailed(_ reason: String, _ now: Instant) -> [Action] {
        guard case .spawning(let ending) = self.phase else {
            preconditionFailure("a start failed that nobody asked for, in \(self.phase)")
        }
        if ending == .end {
            self.phase = .gone
            return [.releasePorts]
        }
        self.failures += 1
        self.couldNotSpawn = true
        self.message = reason
        self.phase = .waiting(until: now + self.backOffDelay)
        return [.releasePorts]
    }

    private mutating func probed(_ result: ProbeResult, _ now: Instant) -> [Action] {
        switch self.phase {
        case .running, .draining: break
        case .waiting, .spawning, .terminating, .killing, .clearing, .gone: return []
        }
        guard var life = self.life, life.isProbing else { return [] }
        life.isProbing = false
        life.probeAt = now + self.policy.readiness.period
        life.tally.note(result, by: self.policy.readiness)
        var actions: [Action] = []
        if life.tally.isReady, life.readyAt == nil {
            life.readyAt = now
            self.wasTooSlow = false
            let coldStart = now - life.spawnedAt
            self.coldStart = coldStart
            actions = [.recordColdStart(coldStart)]
        }
        if life.readyAt != nil {
            self.message =
                life.tally.isReady ? "" : life.tally.lastFailure ?? "its readiness check fails"
        }
        self.life = life
        return actions
    }

    private mutating func exited(
        _ exit: ProcessExit,
        _ output: String,
        _ now: Instant
    ) -> [Action] {
        switch self.phase {
        case .running, .draining:
            let isSurplus = self.canBeTakenBack
            let age = describe(now - (self.life?.spawnedAt ?? now))
            self.fail("\(exit) after \(age)" + (output.isEmpty ? "" : "; it said: \(output)"), now)
            self.phase = .clearing(isSurplus ? .end : .restart, killAt: nil)
            return [.cancelProbe, .kill, .awaitClear]
        case .terminating(let ending, let killAt):
            self.noteExpectedExit(exit, ending)
            self.phase = .clearing(ending, killAt: killAt)
            return [.awaitClear]
        case .killing(let ending):
            self.noteExpectedExit(exit, ending)
            self.phase = .clearing(ending, killAt: nil)
            return [.awaitClear]
        case .waiting, .spawning, .clearing, .gone:
            preconditionFailure("a process ended that does not exist, in \(self.phase)")
        }
    }

    private mutating func cleared(_ now: Instant) -> [Action] {
        guard case .clearing(let ending, _) = self.phase else {
            preconditionFailure("a group is gone that nobody waited for, in \(self.phase)")
        }
        self.life = nil
        switch ending {
        case .end:
            self.phase = .gone
        case .restart:
            let delay = self.backOffDelay
            self.phase = .waiting(until: now + delay)
            self.message += "; starts again in \(describe(delay))"
        }
        return [.releasePorts]
    }

    // MARK: Wishes of the owner

    private mutating func drain(_ now: Instant) -> [Action] {
        // One that was never ready has never had a request.
        if case .running = self.phase, self.life?.readyAt != nil {
            self.phase = .draining(until: now + self.policy.drainDeadline)
            return []
        }
        return self.canBeTakenBack ? [] : self.stop(now)
    }

    private mutating func takeBack() -> [Action] {
        switch self.phase {
        case .draining: self.phase = .running
        case .spawning: self.phase = .spawning(.restart)
        case .waiting, .running, .terminating, .killing, .clearing, .gone: break
        }
        return []
    }

    private mutating func stop(_ now: Instant) -> [Action] {
        switch self.phase {
        case .waiting: self.phase = .gone
        case .running, .draining: return self.beginTermination(.end, now)
        case .spawning: self.phase = .spawning(.end)
        case .terminating(_, let killAt): self.phase = .terminating(.end, killAt: killAt)
        case .killing: self.phase = .killing(.end)
        case .clearing(_, let killAt): self.phase = .clearing(.end, killAt: killAt)
        case .gone: break
        }
        return []
    }

    private mutating func kill() -> [Action] {
        switch self.phase {
        case .waiting:
            self.phase = .gone
            return []
        case .spawning:
            self.phase = .spawning(.end)
            return []
        case .running, .draining:
            self.phase = .killing(.end)
            return [.cancelProbe, .kill]
        case .terminating, .killing:
            self.phase = .killing(.end)
            return [.kill]
        case .clearing:
            self.phase = .clearing(.end, killAt: nil)
            return [.kill]
        case .gone:
            return []
        }
    }

    // MARK: Helpers

    private mutating func beginTermination(_ ending: Ending, _ now: Instant) -> [Action] {
        self.phase = .terminating(ending, killAt: now + self.policy.terminationGracePeriod)
        self.life?.isProbing = false
        return [.cancelProbe, .terminate]
    }

    /// Counts a life that ended badly. One that was healthy for long forgives what was before it.
    private mutating func fail(_ reason: String, _ now: Instant) {
        if let readyAt = self.life?.readyAt, now - readyAt >= self.policy.backOff.healthyAfter {
            self.failures = 0
        }
        self.failures += 1
        self.lastExit = reason
        self.message = reason
    }

    /// Keeps the reason of a restart: that it then ended by our signal explains nothing.
    private mutating func noteExpectedExit(_ exit: ProcessExit, _ ending: Ending) {
        if ending == .end { self.lastExit = "\(exit) when told to stop" }
    }

    private var backOffDelay: Duration {
        self.policy.backOff.delay(afterFailures: self.failures)
    }

    private var runningDeadline: Instant? {
        guard let life = self.life else { return nil }
        let probe = life.isProbing ? nil : life.probeAt
        let startup = life.readyAt == nil ? life.spawnedAt + self.policy.startupTimeout : nil
        switch (probe, startup) {
        case (let probe?, let startup?): return min(probe, startup)
        case (let probe, let startup): return probe ?? startup
        }
    }

    private var currentState: ReplicaState {
        switch self.phase {
        case .waiting, .spawning: self.waitingState
        case .running:
            self.life?.readyAt == nil ? .starting : self.isReady ? .ready : .notReady
        case .draining: .draining
        case .terminating, .killing, .gone: .stopping
        case .clearing(let ending, let killAt):
            ending == .restart && killAt == nil ? self.waitingState : .stopping
        }
    }

    private var waitingState: ReplicaState {
        if self.couldNotSpawn { return .failed }
        return self.failures >= self.policy.backOff.crashLoopAfter ? .crashLooping : .pending
    }

    private func checkInvariants() {
        switch self.phase {
        case .waiting, .spawning, .gone:
            assert(self.life == nil, "a replica without a process has a life")
        case .running, .draining, .terminating, .killing, .clearing:
            assert(self.life != nil, "a replica with a process has no life")
        }
        if case .draining = self.phase {
            assert(self.life?.readyAt != nil, "one that was never ready has nothing to drain")
        }
    }
}

/// Counts a replica's good and bad answers in a row.
package struct ProbeTally: Sendable, Equatable {
    package private(set) var isReady = false
    package private(set) var lastFailure: String?
    private var streak = 0

    package init() {}

    /// Takes an answer in; the thresholds are in `readiness`.
    package mutating func note(_ result: ProbeResult, by readiness: ReadinessSpec) {
        switch result {
        case .good:
            self.lastFailure = nil
            self.streak = self.isReady ? 0 : self.streak + 1
            if self.streak >= readiness.successThreshold { self.flip() }
        case .bad(let reason):
            self.lastFailure = reason
            self.streak = self.isReady ? self.streak + 1 : 0
            if self.streak >= readiness.failureThreshold { self.flip() }
        }
    }

    private mutating func flip() {
        self.isReady.toggle()
        self.streak = 0
    }
}
