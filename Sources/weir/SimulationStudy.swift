import Dispatch
import Glibc
import Reports
import Simulation
import Synchronization

/// Runs many worlds on all cores, and shows how it gets on.
struct SimulationStudy {
    let scenarios: [(Scenario, Delay)]
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

    private func reports(_ jobs: [Job], isTuned: Bool) -> [SimulationReport] {
        let count = self.scenarios.count * jobs.count
        let scenarios = self.scenarios
        let seeds = self.seeds
        let target = self.target
        let outcomes = Mutex<[Outcome?]>(Array(repeating: nil, count: count))
        let progress = SimulationProgress(total: count, style: self.progress)
        DispatchQueue.concurrentPerform(iterations: count) { index in
            let (scenario, coldStart) = scenarios[index / jobs.count]
            let setups = seeds.map { scenario.make($0, coldStart) }
            let outcome = Self.perform(jobs[index % jobs.count], setups, target: target)
            outcomes.withLock { $0[index] = outcome }
            progress.advance()
        }
        progress.finish()
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

    private static func perform(_ job: Job, _ setups: [WorldSetup], target: Double) -> Outcome {
        switch job {
        case .run(let choice, let isOwn):
            let runs = PolicyRuns(name: choice.name, runs: setups.map { choice.run($0) })
            return .row(
                SimulationReport.Row(
                    runs: runs,
                    isOwn: isOwn,
                    hasReached: runs.attainment >= target
                )
            )
        case .sweep(let baseline):
            return .row(self.row(KnobSweep.all(baseline, setups), baseline, target))
        case .tune(let baseline):
            return .row(
                self.row(KnobSweep.tuned(baseline, setups, target: target), baseline, target)
            )
        case .optimum:
            return .optimum(
                Clairvoyant.solve(setups, target: target),
                withoutForesight: PolicyRuns(
                    name: "highest need so far",
                    runs: Clairvoyant.withoutForesight(setups)
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

/// How far the whole is, as parts of it get done on any thread.
private final class SimulationProgress: Sendable {
    private let total: Int
    private let style: SimulationStudy.ProgressStyle
    private let done = Mutex(0)
    /// Fewer parts are done before anybody wonders.
    private static let linesFrom = 20

    init(total: Int, style: SimulationStudy.ProgressStyle) {
        self.total = total
        self.style = style
        if style == .bar { self.show(0) }
    }

    func advance() {
        // Written under the lock, so that the bar never goes back.
        self.done.withLock { count in
            count += 1
            switch self.style {
            case .none: break
            case .bar: self.show(count)
            case .lines:
                guard self.total >= Self.linesFrom,
                    count * 10 / self.total > (count - 1) * 10 / self.total
                else { break }
                Output.write("\(count) of \(self.total) runs\n", to: STDERR_FILENO)
            }
        }
    }

    func finish() {
        if self.style == .bar { Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
    }

    private func show(_ count: Int) {
        let width = 30
        let filled = self.total > 0 ? count * width / self.total : width
        let bar =
            String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled)
        Output.write("\r\u{1B}[K[\(bar)] \(count) of \(self.total)", to: STDERR_FILENO)
    }
}
