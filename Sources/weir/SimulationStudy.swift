import Dispatch
import Reports
import Simulation
import Synchronization

/// Runs many worlds on all cores, and shows how it gets on.
struct SimulationStudy {
    let scenarios: [(Scenario, Delay)]
    /// How many of the scenarios in a row differ in nothing but the cold start.
    let coldStarts: Int
    let seeds: [UInt64]
    let target: Double
    let own: [PolicyChoice]
    let progress: ProgressStyle

    /// How a long run shows how it gets on.
    enum ProgressStyle {
        case none
        /// On a terminal.
        case bar
        /// Into a log: a line for each tenth.
        case lines
    }

    private enum Job: Sendable {
        case run(PolicyChoice, isOwn: Bool)
        case sweep(Baseline)
        case tune(Baseline)
        case optimum
    }

    private enum Outcome: Sendable {
        case row(SimulationReport.Row)
        case optimum(Clairvoyant.Result?, withoutForesight: PolicyRuns)
    }

    /// What baselines may know of the first scenario.
    var context: BaselineContext {
        let setup = self.scenarios[0].0.make(self.seeds[0], self.scenarios[0].1)
        return BaselineContext(setup.models[0])
    }

    /// Each policy as it is, or over its knob.
    func run(_ baselines: [Baseline], sweeps: Bool, withOptimum: Bool) -> [SimulationReport] {
        var jobs = self.own.map { Job.run($0, isOwn: true) }
        jobs += baselines.map { sweeps ? .sweep($0) : .run(.baseline($0), isOwn: false) }
        if withOptimum { jobs.append(.optimum) }
        return self.reports(jobs, isTuned: false)
    }

    /// Weir as it is, each baseline tuned to the target.
    func compare(_ baselines: [Baseline], withOptimum: Bool) -> [SimulationReport] {
        var jobs = self.own.map { Job.run($0, isOwn: true) } + baselines.map { Job.tune($0) }
        if withOptimum { jobs.append(.optimum) }
        return self.reports(jobs, isTuned: true)
    }

    /// A job on one scenario, and what it is expected to take.
    private struct Part: Sendable {
        var index: Int
        var job: Job
        var setups: [WorldSetup]
        /// Of all its worlds, in requests.
        var cost: Double
    }

    private func reports(_ jobs: [Job], isTuned: Bool) -> [SimulationReport] {
        let count = self.scenarios.count * jobs.count
        let target = self.target
        let meter = SimulationMeter(style: self.progress)
        // The long ones first, so that none of them is left for a single core at the end.
        let parts = self.parts(jobs, meter).sorted { $0.cost > $1.cost }
        let outcomes = Mutex<[Outcome?]>(Array(repeating: nil, count: count))
        meter.begin(cost: parts.reduce(0) { $0 + $1.cost })
        DispatchQueue.concurrentPerform(iterations: count) { index in
            let part = parts[index]
            var left = part.cost
            let outcome = Self.perform(part.job, part.setups, target: target) { world in
                let result = meter.run(world)
                let done = min(left, Self.cost(part.job, world.setup, requests: result.requests))
                left -= done
                meter.advance(done)
                return result
            }
            outcomes.withLock { $0[part.index] = outcome }
            meter.advance(left)
        }
        meter.finish()
        let found = outcomes.withLock { $0 }
        return self.scenarios.enumerated().map { index, entry in
            let own = found[(index * jobs.count)..<((index + 1) * jobs.count)].compactMap { $0 }
            return self.report(entry.0, entry.1, own, isTuned: isTuned)
        }
    }

    private func report(
        _ scenario: Scenario,
        _ coldStart: Delay,
        _ outcomes: [Outcome],
        isTuned: Bool
    ) -> SimulationReport {
        let seconds = Int(coldStart.median.rounded())
        let hasSeveral = self.scenarios.count > 1
        var report = SimulationReport(
            title: hasSeveral ? "\(scenario.name) \(seconds)s" : scenario.name,
            summary: "\(scenario.summary), cold start \(seconds) s",
            isBursty: scenario.character == .bursty,
            target: self.target,
            seeds: self.seeds.count
        )
        report.isTuned = isTuned
        for outcome in outcomes {
            switch outcome {
            case .row(let row): report.rows.append(row)
            case .optimum(let result, let runs):
                report.optimum = result
                report.withoutForesight = runs
            }
        }
        return report
    }

    // MARK: Parts

    private func parts(_ jobs: [Job], _ meter: SimulationMeter) -> [Part] {
        let drawn = self.drawn(meter, runs: jobs.reduce(0) { $0 + Self.worlds($1, nil) })
        var parts: [Part] = []
        for (place, (scenario, coldStart)) in self.scenarios.enumerated() {
            let setups = self.seeds.enumerated().map { index, seed in
                var setup = scenario.make(seed, coldStart)
                drawn[place / self.coldStarts][index].use(&setup)
                return setup
            }
            let requests = drawn[place / self.coldStarts].map(\.count)
            for (index, job) in jobs.enumerated() {
                let each = zip(setups, requests).reduce(0) {
                    $0 + Self.cost(job, $1.0, requests: $1.1)
                }
                let worlds = Double(Self.worlds(job, setups.first))
                parts.append(
                    Part(
                        index: place * jobs.count + index,
                        job: job,
                        setups: setups,
                        cost: each * worlds
                    )
                )
            }
        }
        return parts
    }

    /// Requests that are drawn beforehand and kept, of all scenarios and seeds: 200 MB of them.
    private static let drawnMax = 6_000_000
    /// Where fewer worlds need them, each draws its own.
    private static let drawnWorldsMin = 3

    /// The requests of a scenario with one seed, which all its worlds share.
    private struct Drawn: Sendable {
        /// By model; empty where every world draws its own.
        var streams: [RequestStream] = []
        /// How many there are, or are guessed to be.
        var count: UInt64

        func use(_ setup: inout WorldSetup) {
            for (index, stream) in self.streams.enumerated() {
                setup.models[index].requests = stream
            }
        }
    }

    /// By scenario and seed.
    private func drawn(_ meter: SimulationMeter, runs: Int) -> [[Drawn]] {
        var left = Self.drawnMax
        return stride(from: 0, to: self.scenarios.count, by: self.coldStarts).map { place in
            let (scenario, coldStart) = self.scenarios[place]
            return self.seeds.map { seed in
                let setup = scenario.make(seed, coldStart)
                var drawn = Drawn(count: UInt64(setup.duration * Self.rateGuessed))
                guard runs * self.coldStarts >= Self.drawnWorldsMin, left > 0 else { return drawn }
                var streams = setup.models.map(\.requests)
                var count = 0
                let end = UInt64(setup.duration * 1e9)
                for index in streams.indices {
                    let own = meter.measure {
                        streams[index].drawAll(until: end, most: left - count)
                    }
                    guard let own else { return drawn }
                    count += own
                }
                left -= count
                drawn = Drawn(streams: streams, count: UInt64(count))
                return drawn
            }
        }
    }

    /// Requests per second where they are not known.
    private static let rateGuessed = 10.0
    /// What a tick takes, as so many requests: of Weir's own policy, and of others.
    private static let ownTickCost = 20.0
    private static let tickCost = 2.0
    /// The same of a second of a plan, for each count of replicas that it chooses from.
    private static let planCost = 0.01

    /// What one world takes, in requests.
    private static func cost(_ job: Job, _ setup: WorldSetup, requests: UInt64) -> Double {
        let ticks = setup.duration * Double(setup.models.count)
        return switch job {
        case .run(_, isOwn: true): Double(requests) + ticks * self.ownTickCost
        case .run, .sweep, .tune: Double(requests) + ticks * self.tickCost
        case .optimum:
            Double(requests) + ticks * self.tickCost
                + ticks * self.planCost * Double(setup.models.first?.replicasMax ?? 0)
        }
    }

    /// How many worlds a job takes for each seed, about; nil: of any setup.
    private static func worlds(_ job: Job, _ setup: WorldSetup?) -> Int {
        switch job {
        case .run: 1
        case .sweep(let baseline):
            setup.map { KnobSweep.pointCount(baseline, $0, isTuned: false) } ?? 4
        case .tune(let baseline):
            setup.map { KnobSweep.pointCount(baseline, $0, isTuned: true) } ?? 4
        case .optimum: Clairvoyant.playsMax
        }
    }

    private static func perform(
        _ job: Job,
        _ setups: [WorldSetup],
        target: Double,
        by runner: WorldRunner
    ) -> Outcome {
        switch job {
        case .run(let choice, let isOwn):
            let runs = PolicyRuns(
                name: choice.name,
                runs: setups.map { choice.run($0, by: runner) }
            )
            return .row(
                SimulationReport.Row(
                    runs: runs,
                    isOwn: isOwn,
                    hasReached: runs.attainment >= target
                )
            )
        case .sweep(let baseline):
            return .row(self.row(KnobSweep.all(baseline, setups, by: runner), baseline, target))
        case .tune(let baseline):
            let tuned = KnobSweep.tuned(baseline, setups, target: target, by: runner)
            return .row(self.row(tuned, baseline, target))
        case .optimum:
            return .optimum(
                Clairvoyant.solve(setups, target: target, by: runner),
                withoutForesight: PolicyRuns(
                    name: "highest need so far",
                    runs: Clairvoyant.withoutForesight(setups, by: runner)
                )
            )
        }
    }

    /// The cheapest that reaches the target; else the one that comes nearest.
    private static func row(
        _ sweep: KnobSweep,
        _ baseline: Baseline,
        _ target: Double
    ) -> SimulationReport.Row {
        let best = sweep.best(target: target)
        let nearest = sweep.points.max { $0.runs.attainment < $1.runs.attainment }
        let runs = (best ?? nearest)?.runs ?? PolicyRuns(name: baseline.description, runs: [])
        return SimulationReport.Row(
            runs: runs,
            isOwn: false,
            sweep: sweep,
            hasReached: best != nil
        )
    }
}
