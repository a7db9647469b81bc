import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes
import Proxy
import Rollouts

/// The rollouts of a cluster as a gateway has them: it goes by the weights that the controller has
/// written into the Models, says which ones all workers use, and keeps what they measure until the
/// controller fetches it. While nobody writes, what was written last holds.
///
/// Limits: `partsMax` seconds of measurements. On the control loop's thread.
package final class RolloutFollower: TrafficSource {
    /// Parts kept for a controller that is late.
    package static let partsMax = 20
    private static let period = Duration.seconds(1)

    private unowned let control: ControlPlane
    private let slices: SliceCluster
    private var published: [String: RolloutPublication.Traffic] = [:]
    private var trials: [String: Trial] = [:]
    /// Generations that every worker goes by.
    private var acknowledgedGenerations: [String: Int] = [:]
    private var parts: [TrialDocument.Part] = []
    private var lastPart = 0
    private var open: [String: TrialCounts] = [:]
    private var timer: LoopTimer?
    private var leader: LeaderPlace?

    init(_ control: ControlPlane, slices: SliceCluster) {
        self.control = control
        self.slices = slices
    }

    deinit {
        self.timer?.cancel()
    }

    // MARK: What the controller says

    /// A controller that leads has asked something.
    package func heard(ofLeader identity: String) {
        let now = self.control.loop.now
        self.leader = LeaderPlace(identity, at: now) ?? self.leader
    }

    /// Why nothing can be asked of rollouts here.
    var elsewhere: String { LeaderPlace.textOfGateway(self.leader, at: self.control.loop.now) }

    /// What is written of all models now.
    func take(_ statuses: [String: JSONValue]) {
        let published = statuses.compactMapValues {
            RolloutPublication.traffic(in: $0["rollout"])
        }
        if published == self.published { return }
        self.published = published
        self.follow()
        self.control.publishSoon()
    }

    /// What is written of one model now.
    func take(_ model: String, _ status: JSONValue) {
        let traffic = RolloutPublication.traffic(in: status["rollout"])
        if traffic == self.published[model] { return }
        self.published[model] = traffic
        self.follow()
        self.control.publishSoon()
    }

    private func follow() {
        for model in self.trials.keys where self.published[model]?.trial == nil {
            self.trials[model] = nil
        }
        for (model, traffic) in self.published {
            guard let trial = traffic.trial, self.trials[model]?.number != trial.number else {
                continue
            }
            let bound = LoopBound(Weak(self), loop: self.control.loop)
            let loop = self.control.loop
            self.trials[model] = Trial(
                number: trial.number,
                inspectsAnswers: trial.inspectsAnswers,
                repeatsStable: trial.repeatsStable,
                failuresMax: trial.consecutiveErrors
            ) {
                loop.post { bound.value.object?.collect() }
            }
        }
        self.schedule()
    }

    /// Measures while anything is tried.
    private func schedule() {
        if self.trials.isEmpty {
            self.timer?.cancel()
            self.timer = nil
        } else if self.timer == nil {
            self.timer = self.control.loop.scheduleRepeating(every: Self.period) { [weak self] in
                self?.collect()
            }
        }
    }

    // MARK: TrafficSource

    package func traffic(of model: String) -> SnapshotBuilder.Traffic? {
        guard let traffic = self.published[model],
            let resource = self.control.configuration.models.first(where: { $0.name == model }),
            resource.spec.weights.isEmpty,
            // Somebody has taken a variant away and the controller has not said what follows.
            traffic.plan.weights.allSatisfy({ resource.spec.variant(named: $0.variant) != nil })
        else { return nil }
        return SnapshotBuilder.Traffic(
            traffic.plan,
            canary: traffic.canary,
            trial: self.trials[model]
        )
    }

    package var generations: [String: Int] {
        self.published.reduce(into: [:]) { result, entry in
            if self.traffic(of: entry.key) != nil {
                result[entry.key] = entry.value.plan.generation
            }
        }
    }

    package func acknowledged(_ generations: [String: Int]) {
        self.acknowledgedGenerations = generations
    }

    // MARK: What the workers measure

    private func collect() {
        guard let gateway = self.control.gateway else { return }
        var waiting = gateway.workerCount
        gateway.collectTrials { [weak self] reports in
            guard let self else { return }
            for report in reports { self.add(report) }
            waiting -= 1
            if waiting == 0 { self.finishPart() }
        }
    }

    private func add(_ report: TrialReport) {
        let counts = TrialCounts(
            rollout: report.trial,
            samples: report.samples,
            pairs: report.pairs,
            canary: report.canary,
            stable: report.stable
        )
        guard let before = self.open[report.model], before.rollout >= counts.rollout else {
            self.open[report.model] = counts
            return
        }
        if before.rollout == counts.rollout { self.open[report.model]?.merge(counts) }
    }

    private func finishPart() {
        let names = self.open.keys.sorted()
        let models = names.compactMap { name -> TrialDocument.Model? in
            guard let counts = self.open[name] else { return nil }
            let run = self.trials[name].map { $0.takeLongestRun() } ?? 0
            return TrialDocument.Model(name, counts, run: run) { [slices] in
                slices.identity(of: $0)
            }
        }
        self.open = [:]
        if models.isEmpty { return }
        self.lastPart += 1
        self.parts.append(TrialDocument.Part(number: self.lastPart, models: models))
        if self.parts.count > Self.partsMax { self.parts.removeFirst() }
    }

    /// - Parameter number: of the last part that the controller has; nil: it wants what comes.
    package func document(after number: Int?) -> TrialDocument {
        TrialDocument(
            gateway: "\(self.control.identity)",
            last: self.lastPart,
            traffic: self.acknowledgedGenerations,
            parts: number.map { number in self.parts.filter { $0.number > number } } ?? []
        )
    }
}
