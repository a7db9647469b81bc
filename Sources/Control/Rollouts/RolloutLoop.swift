import Core
import Logging
import Rollouts

/// What can be seen of the variants of a model at a tick.
package protocol RolloutWorld: AnyObject {
    /// Ready replicas, requests in flight and the like, by variant.
    func variants(of model: String) -> [String: VariantObservation]
    /// Crashes of a variant's replicas since the controller began to look.
    func crashes(of model: String, variant: String) -> Int
    /// Which arm a replica is of while a template changes in place: the new revision is the
    /// canary. Nil where it is gone.
    func arm(ofReplica replica: String, of model: String) -> Arm?
    /// How long a replica has been ready; nil where that is not known.
    func readySince(_ replica: String, of model: String) -> Instant?
}

/// Where statuses and timelines of rollouts are kept.
package protocol RolloutMemory: AnyObject {
    func status(of model: String) -> RolloutStatus?
    /// Puts a status aside that cannot be used.
    func discard(_ model: String, because reason: String)
    func timeline(of model: String, rollout: Int) -> RolloutTimeline?
    /// The numbers of a model's rollouts whose timelines are kept.
    func rollouts(of model: String, upTo last: Int) -> [Int]
}

/// All models' rollouts: who has a controller, and what each is told.
///
/// It owns no clock and no socket. A model has a controller where its configuration names a rollout
/// policy, or where somebody asked for another live variant by hand.
package final class RolloutLoop {
    private struct Entry {
        let controller: RolloutController
        var spec: RolloutSpec
        /// Since the last tick, from all workers.
        var counts: TrialCounts
        /// The canary's crashes when its rollout began.
        var crashesBefore: (rollout: Int, count: Int)?
    }

    private var entries: [String: Entry] = [:]
    private var activeNames: Set<String> = []
    private unowned let executor: any RolloutExecutor
    private unowned let world: any RolloutWorld
    private let store: any RolloutMemory
    private let logger: Logger

    /// - Parameters:
    ///   - executor: lives longer than the loop, as does the world.
    package init(
        executor: any RolloutExecutor,
        world: any RolloutWorld,
        store: any RolloutMemory,
        logger: Logger
    ) {
        self.executor = executor
        self.world = world
        self.store = store
        self.logger = logger
    }

    // MARK: Configuration

    /// Takes over what a configuration says: `specs` of all models that can have rollouts.
    package func adopt(_ specs: [String: RolloutSpec], at moment: RolloutMoment) {
        self.entries = self.entries.filter { specs[$0.key] != nil }
        self.activeNames = self.activeNames.filter { specs[$0] != nil }
        for (model, spec) in specs {
            guard let entry = self.entries[model] else {
                let stored = self.store.status(of: model)
                if spec.plan != nil || stored != nil { self.create(model, spec, stored, moment) }
                continue
            }
            if entry.spec == spec { continue }
            self.entries[model]?.spec = spec
            entry.controller.handle(.configured(spec), at: moment)
            self.noteActivity(model)
        }
    }

    private func create(
        _ model: String,
        _ spec: RolloutSpec,
        _ stored: RolloutStatus?,
        _ moment: RolloutMoment
    ) {
        do throws(RolloutRefusal) {
            let timeline = stored.flatMap { self.store.timeline(of: model, rollout: $0.rollout) }
            let controller = try RolloutController(
                model: model,
                spec: spec,
                resuming: stored,
                timeline: timeline,
                executor: self.executor,
                at: moment
            )
            self.entries[model] = Entry(
                controller: controller,
                spec: spec,
                counts: TrialCounts(rollout: controller.status.rollout, samples: [])
            )
            // What its status says has to be said once, whatever it is.
            self.activeNames.insert(model)
        } catch {
            if stored != nil {
                self.store.discard(model, because: error.description)
                self.create(model, spec, nil, moment)
            } else {
                self.logger.error(
                    "this model cannot have rollouts",
                    metadata: ["model": "\(model)", "reason": "\(error)"]
                )
            }
        }
    }

    // MARK: What others ask

    package var models: [String] { self.entries.keys.sorted() }

    package func controller(of model: String) -> RolloutController? {
        self.entries[model]?.controller
    }

    package func spec(of model: String) -> RolloutSpec? { self.entries[model]?.spec }

    /// Models that need ticks.
    package var active: [String] { self.activeNames.sorted() }

    package var hasActive: Bool { !self.activeNames.isEmpty }

    /// Looks at who needs ticks, after each event of a model.
    private func noteActivity(_ model: String) {
        if self.entries[model]?.controller.isActive ?? false {
            self.activeNames.insert(model)
        } else {
            self.activeNames.remove(model)
        }
    }

    // MARK: What comes in

    /// - Parameter spec: of the model, which may have no controller yet.
    package func perform(
        _ command: RolloutCommand,
        of model: String,
        _ spec: RolloutSpec,
        at moment: RolloutMoment
    ) throws(RolloutRefusal) {
        if self.entries[model] == nil {
            guard case .start(let variant) = command else {
                throw RolloutRefusal(
                    "no rollout of \(model) was ever started: there is nothing to do"
                )
            }
            guard variant != spec.live.name else {
                throw RolloutRefusal("\(variant) serves already: there is nothing to roll out")
            }
            guard spec.variant(named: variant) != nil else { throw spec.unknown(variant) }
            self.create(model, spec, nil, moment)
        }
        try self.entries[model]?.controller.perform(command, at: moment)
        self.noteActivity(model)
    }

    package func handle(_ event: RolloutEvent, of model: String, at moment: RolloutMoment) {
        self.entries[model]?.controller.handle(event, at: moment)
        self.noteActivity(model)
    }

    /// Takes in what a worker measured, for the next tick.
    /// - Parameter trial: the number of the rollout that counts now.
    package func take(_ report: TrialCounts, of model: String) {
        guard let entry = self.entries[model], entry.controller.status.rollout == report.rollout
        else { return }
        self.entries[model]?.counts.merge(report)
    }

    // MARK: The tick

    /// - Parameter longestRun: failures in a row of a model's canary, over all workers.
    package func tick(
        _ model: String,
        longestRun: Int,
        at moment: RolloutMoment
    ) {
        guard let entry = self.entries[model] else { return }
        let status = entry.controller.status
        let counts = entry.counts
        self.entries[model]?.counts = TrialCounts(rollout: status.rollout, samples: [])
        var observation = RolloutObservation(variants: self.world.variants(of: model))
        observation.samples = counts.samples.compactMap { sample in
            var sample = sample
            if status.isInPlace {
                guard let arm = self.world.arm(ofReplica: sample.replica, of: model) else {
                    return nil
                }
                sample.arm = arm
            }
            sample.readyFor = self.world.readySince(sample.replica, of: model).map {
                moment.instant - $0
            }
            return sample
        }
        observation.pairs = counts.pairs
        observation.stable = counts.stable
        observation.canary = counts.canary
        if status.isInPlace {
            observation.stable = GuardrailSample(.stable, of: observation.samples)
            observation.canary = GuardrailSample(.canary, of: observation.samples)
        }
        observation.canary.consecutiveErrors = longestRun
        if let canary = status.canary {
            observation.canary.crashes = self.crashes(model, canary.name, status.rollout)
        }
        entry.controller.handle(.tick(observation), at: moment)
        self.noteActivity(model)
    }

    private func crashes(_ model: String, _ variant: String, _ rollout: Int) -> Int {
        let now = self.world.crashes(of: model, variant: variant)
        guard let before = self.entries[model]?.crashesBefore, before.rollout == rollout else {
            self.entries[model]?.crashesBefore = (rollout, now)
            return 0
        }
        // A replica that has gone took its count along.
        if now < before.count { self.entries[model]?.crashesBefore?.count = now }
        return max(0, now - before.count)
    }
}

/// What one source measured of one rollout since it was asked last.
package struct TrialCounts: Sendable {
    package var rollout: Int
    package var samples: [ArmSample]
    package var pairs: PairCounts
    package var canary: GuardrailSample
    package var stable: GuardrailSample

    package init(
        rollout: Int,
        samples: [ArmSample],
        pairs: PairCounts = PairCounts(),
        canary: GuardrailSample = GuardrailSample(),
        stable: GuardrailSample = GuardrailSample()
    ) {
        self.rollout = rollout
        self.samples = samples
        self.pairs = pairs
        self.canary = canary
        self.stable = stable
    }
}

extension TrialCounts {
    /// Takes in what another source measured of the same rollout.
    mutating func merge(_ other: TrialCounts) {
        // More than the evidence takes in a tick are dropped here as there.
        let room = Evidence.samplesMax - self.samples.count
        self.samples += other.samples.prefix(max(0, room))
        self.pairs.merge(other.pairs)
        self.canary.merge(other.canary)
        self.stable.merge(other.stable)
    }
}

extension PairCounts {
    mutating func merge(_ other: PairCounts) {
        self.canaryBad += other.canaryBad
        self.stableBad += other.stableBad
        self.canarySlower += other.canarySlower
        self.stableSlower += other.stableSlower
        self.compared += other.compared
        self.different += other.different
        self.baselineCompared += other.baselineCompared
        self.baselineDifferent += other.baselineDifferent
        self.hasBaseline = self.hasBaseline || other.hasBaseline
    }
}

extension GuardrailSample {
    /// What the samples of an arm say; they know nothing of runs.
    init(_ arm: Arm, of samples: [ArmSample]) {
        self.init()
        for sample in samples where sample.arm == arm {
            var part = GuardrailSample()
            part.requests = sample.requests
            part.errors = sample.failures
            part.latency = sample[LatencyKind.latency] ?? BucketCounts()
            self.merge(part)
        }
    }

    mutating func merge(_ other: GuardrailSample) {
        self.requests += other.requests
        self.errors += other.errors
        self.latency = BucketCounts(self.latency.entries + other.latency.entries)
    }
}
