// Design note
//
// One model's rollouts: the machine that decides, and who does what it says.
//
//     events, commands ─▶ RolloutMachine ─ actions ─▶ store the status, then RolloutExecutor
//
// It knows no cluster, gateway or file: those are behind `RolloutExecutor`, so that processes on
// this machine and Deployments on a cluster are driven by the same code. The status is stored
// before anything is done that follows from it; a status that cannot be stored because somebody
// else has written another is thrown away with all that would have followed, and the machine goes
// on from what was stored last.
//
// Threads. One control loop's alone. Limits: those of the machine, and of `RolloutTimeline`. Not
// done here: what is seen (the owner passes it in), and when there is a tick.

import Core
import Rollouts

/// Does what a rollout needs. Every call must be harmless when made twice.
package protocol RolloutExecutor: AnyObject {
    /// Keeps the status so that it outlives us, then calls `completion` with whether it is kept,
    /// now or later, exactly once. `false` means that somebody else has written meanwhile.
    func store(
        _ status: RolloutStatus,
        of model: String,
        completion: @escaping (_ isStored: Bool) -> Void
    )
    /// Brings weights, header route and copies to every gateway. Once all use them, the owner tells
    /// the controller `acknowledged`.
    func apply(_ plan: TrafficPlan, of model: String)
    /// Sees to it that the variants named have at least these replicas, until told otherwise.
    func ensure(_ demands: [CapacityDemand], of model: String)
    /// Gives a variant's workload the template of this revision again.
    func rollBackTemplate(_ variant: VariantReference, of model: String)
    /// Calls a webhook and tells the controller what it answered.
    func call(_ webhook: WebhookCall, of model: String)
    /// Measures a custom metric of the plan and tells the controller.
    func measure(_ metric: Int, number: Int, of model: String)
    /// Keeps what a rollout looked like, for reports; losing it harms nobody.
    func keep(_ timeline: RolloutTimeline)
    /// Passes an entry of the history on to whoever looks at a log.
    func announce(_ record: RolloutRecord, of model: String)
}

/// See the design note at the top of this file.
package final class RolloutController {
    package let model: String
    package private(set) var machine: RolloutMachine
    /// Of the rollout under way, or of the last one.
    package private(set) var timeline: RolloutTimeline?
    /// Rollouts that passed, failed or were inconclusive since we began.
    package private(set) var verdicts: [Verdict: UInt64] = [:]

    private unowned let executor: any RolloutExecutor
    /// What must wait until the status is stored.
    private var waiting: [RolloutAction] = []
    private var isStoring = false
    private var stored: RolloutStatus?
    private var storedAt: Instant?
    private var now: RolloutMoment

    /// How often a status is stored whose change has no consequences.
    package static let storePeriod = Duration.seconds(5)

    /// - Parameters:
    ///   - stored: the status of an earlier controller.
    ///   - executor: lives longer than this.
    /// - Throws: where the specification or the stored status makes no sense.
    package init(
        model: String,
        spec: RolloutSpec,
        resuming stored: RolloutStatus?,
        timeline: RolloutTimeline? = nil,
        executor: any RolloutExecutor,
        at moment: RolloutMoment
    ) throws(RolloutRefusal) {
        self.model = model
        self.machine = try RolloutMachine(spec, resuming: stored)
        self.timeline = timeline
        self.stored = stored
        self.executor = executor
        self.now = moment
    }

    package var status: RolloutStatus { self.machine.status }

    /// Whether what is stored, or what others see of it, may be older than `status`.
    package var isStoringStatus: Bool { self.isStoring }

    /// Whether it needs ticks: a rollout runs, replicas wait to go, or somebody has to be told.
    package var isActive: Bool {
        let status = self.machine.status
        return status.isRunning || !status.retiring.isEmpty || !status.isAcknowledged
            || !status.notices.isEmpty || self.isStoring
    }

    // MARK: Events

    package func handle(_ event: RolloutEvent, at moment: RolloutMoment) {
        self.now = moment
        let before = self.machine.status
        let actions = self.machine.handle(event, at: moment)
        self.count(actions)
        // Before anything is stored: the point that decided is kept with the decision.
        if case .tick(let observation) = event { self.note(observation, before) }
        self.proceed(actions)
    }

    /// - Throws: why the command cannot be followed; then nothing has changed.
    package func perform(_ command: RolloutCommand, at moment: RolloutMoment)
        throws(RolloutRefusal)
    {
        self.now = moment
        let actions = try self.machine.perform(command, at: moment)
        self.count(actions)
        self.proceed(actions)
    }

    private func count(_ actions: [RolloutAction]) {
        for case .record(let record) in actions { self.count(record) }
    }

    private func proceed(_ actions: [RolloutAction]) {
        self.waiting += actions
        if !self.isStoring { self.advance() }
    }

    /// Stores, then acts; or acts at once where nothing follows from the status.
    private func advance() {
        guard self.needsStoring else {
            let actions = self.waiting
            self.waiting = []
            return self.act(actions)
        }
        let actions = self.waiting
        let status = self.machine.status
        self.waiting = []
        self.isStoring = true
        self.executor.store(status, of: self.model) { [self] isStored in
            self.isStoring = false
            if isStored {
                if let timeline = self.timeline { self.executor.keep(timeline) }
                self.stored = status
                self.storedAt = self.now.instant
                self.act(actions)
            } else {
                self.restart()
            }
            if !self.waiting.isEmpty { self.advance() }
        }
    }

    private var needsStoring: Bool {
        let follows = self.waiting.contains { if case .measure = $0 { false } else { true } }
        if follows { return true }
        guard let storedAt = self.storedAt else { return self.machine.status.isRunning }
        return self.machine.status.isRunning
            && self.now.instant >= storedAt + Self.storePeriod
    }

    /// Goes on from what is stored.
    private func restart() {
        self.waiting = []
        let spec = self.machine.spec
        // Both were good before.
        if let machine = try? RolloutMachine(spec, resuming: self.stored) { self.machine = machine }
    }

    /// Takes over what somebody else has stored.
    package func adopt(_ status: RolloutStatus) throws(RolloutRefusal) {
        self.machine = try RolloutMachine(self.machine.spec, resuming: status)
        self.stored = status
        self.waiting = []
    }

    private func act(_ actions: [RolloutAction]) {
        for action in actions {
            switch action {
            case .setTraffic(let plan): self.executor.apply(plan, of: self.model)
            case .setCapacity(let demands): self.executor.ensure(demands, of: self.model)
            case .record(let record): self.executor.announce(record, of: self.model)
            case .callWebhook(let call): self.executor.call(call, of: self.model)
            case .measure(let metric, let number):
                self.executor.measure(metric, number: number, of: self.model)
            case .rollBackTemplate(let variant):
                self.executor.rollBackTemplate(variant, of: self.model)
            }
        }
    }

    // MARK: What people see

    private func count(_ record: RolloutRecord) {
        switch record.kind {
        case .promoted: self.verdicts[.pass, default: 0] += 1
        case .failed: self.verdicts[.fail, default: 0] += 1
        case .inconclusive: self.verdicts[.inconclusive, default: 0] += 1
        case .started:
            if let timeline = self.timeline { self.executor.keep(timeline) }
            self.timeline = RolloutTimeline(
                model: self.model,
                rollout: record.rollout,
                stable: record.stable,
                canary: record.canary ?? record.stable,
                at: record.at
            )
        case .stepBegan, .weightChanged, .paused, .resumed, .rollingBack, .rolledBack, .promoting,
            .superseded, .aborted, .retried, .retired, .webhook, .configuration, .inPlace, .dryRun:
            break
        }
        if record.rollout == self.timeline?.rollout { self.timeline?.append(record) }
    }

    /// What a tick decided is always shown, however short after the last point.
    private func note(_ observation: RolloutObservation, _ before: RolloutStatus) {
        let status = self.machine.status
        guard before.isRunning || status.isRunning else { return }
        let isDecision = before.phase != status.phase
        self.timeline?.add(observation, status, at: self.now.wall, isDecision: isDecision)
    }
}
