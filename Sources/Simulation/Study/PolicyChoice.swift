import Autoscaling
import Core

/// Runs a world that is ready to: where whoever asked for many of them counts and measures them.
package typealias WorldRunner = (World) -> WorldResult

/// A policy that is to be simulated.
package enum PolicyChoice: Sendable {
    /// Weir's own; `quantile` of the objectives.
    case weir(name: String, ScalingPolicy, quantile: Double)
    case baseline(Baseline)

    package var name: String {
        switch self {
        case .weir(let name, _, _): name
        case .baseline(let baseline): baseline.description
        }
    }

    /// Why it cannot be run in this world; nil where it can.
    package func problem(in setup: WorldSetup) -> String? {
        guard case .weir(let name, let policy, _) = self,
            setup.models.contains(where: { $0.variantOf != nil && $0.isInterchangeable }),
            !policy.targets.contains(.objective)
        else { return nil }
        return "policy \(name) has no Objective target, so nothing says what a replica of each "
            + "interchangeable variant is worth"
    }

    /// One that decides for all models of the world.
    package func controller(_ setup: WorldSetup) -> any WorldController {
        switch self {
        case .weir(_, let policy, let quantile):
            return WeirController(
                setup,
                policies: setup.models.map { _ in policy },
                quantile: quantile
            )
        case .baseline(let baseline):
            return PerModelController(
                setup.models.map { baseline.policy(BaselineContext($0)) }
            )
        }
    }

    package func run(_ setup: WorldSetup, by runner: WorldRunner = { $0.run() }) -> WorldResult {
        runner(World(setup, controller: self.controller(setup)))
    }
}

/// Some runs of one policy, with different seeds.
package struct PolicyRuns: Sendable {
    package var name: String
    package var runs: [WorldResult]

    package init(name: String, runs: [WorldResult]) {
        self.name = name
        self.runs = runs
    }

    package var gpuSeconds: Double { self.mean(\.gpuSeconds) }
    package var startsPerReplicaHour: Double { self.mean(\.startsPerReplicaHour) }
    package var interrupted: UInt64 { self.runs.reduce(0) { $0 + $1.interrupted } }

    /// Of the requests of all runs.
    package var attainment: Double {
        let arrivals = self.runs.reduce(0) { $0 + $1.arrivals }
        let good = self.runs.reduce(0) { $0 + $1.good }
        return arrivals == 0 ? 1 : Double(good) / Double(arrivals)
    }

    package func mean(_ value: (WorldResult) -> Double) -> Double {
        self.runs.isEmpty ? 0 : self.runs.map(value).reduce(0, +) / Double(self.runs.count)
    }

    /// Half the width of the interval that holds the mean with a confidence of 95 % (Student's t);
    /// nil with fewer than two runs.
    package func halfWidth(_ value: (WorldResult) -> Double) -> Double? {
        let count = self.runs.count
        if count < 2 { return nil }
        let mean = self.mean(value)
        let squares = self.runs.reduce(0) { $0 + (value($1) - mean) * (value($1) - mean) }
        let deviation = (squares / Double(count - 1)).squareRoot()
        return Self.student(degrees: count - 1) * deviation / Double(count).squareRoot()
    }

    /// The 97.5 % quantile of Student's t.
    static func student(degrees: Int) -> Double {
        let table = [
            12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179,
            2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
            2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
        ]
        return degrees <= table.count ? table[max(1, degrees) - 1] : 1.96
    }
}

/// One policy with its main knob at several values, each run on the same worlds.
package struct KnobSweep: Sendable {
    package struct Point: Sendable {
        package var value: Double
        package var runs: PolicyRuns
    }

    package var name: String
    package var knob: String
    /// In the order of the knob's values that lead from most replicas to fewest.
    package var points: [Point] = []

    package init(name: String, knob: String) {
        self.name = name
        self.knob = knob
    }

    /// Values that tuning looks at between the last good and the first bad one.
    package static let refinements = 2

    /// How many values `all` and `tuned` look at, about.
    package static func pointCount(_ baseline: Baseline, _ setup: WorldSetup, isTuned: Bool)
        -> Int
    {
        guard let first = setup.models.first else { return 0 }
        let range = baseline.kind.knobRange(BaselineContext(first))
        let count = range.values.count
        if !isTuned { return range.isCount ? count / max(1, count / 24) : count }
        return Int.bitWidth - count.leadingZeroBitCount + (range.isCount ? 0 : self.refinements)
    }

    /// The cheapest that reaches the attainment.
    package func best(target: Double) -> Point? {
        self.points.filter { $0.runs.attainment >= target }
            .min { $0.runs.gpuSeconds < $1.runs.gpuSeconds }
    }

    /// All values of the knob.
    package static func all(
        _ baseline: Baseline,
        _ setups: [WorldSetup],
        by runner: WorldRunner = { $0.run() }
    ) -> KnobSweep {
        var sweep = KnobSweep(name: baseline.kind.rawValue, knob: baseline.kind.knob)
        guard let first = setups.first?.models.first else { return sweep }
        let range = baseline.kind.knobRange(BaselineContext(first))
        let step = range.isCount ? max(1, range.values.count / 24) : 1
        for index in stride(from: 0, to: range.values.count, by: step) {
            sweep.points.append(self.point(baseline, range.values[index], setups, runner))
        }
        return sweep
    }

    /// Searches the value that costs least and still reaches `target`: by halving, as larger values
    /// mean fewer replicas, then between the last good and the first bad one.
    package static func tuned(
        _ baseline: Baseline,
        _ setups: [WorldSetup],
        target: Double,
        refinements: Int = KnobSweep.refinements,
        by runner: WorldRunner = { $0.run() }
    ) -> KnobSweep {
        var sweep = KnobSweep(name: baseline.kind.rawValue, knob: baseline.kind.knob)
        guard let first = setups.first?.models.first else { return sweep }
        let range = baseline.kind.knobRange(BaselineContext(first))
        var low = -1
        var high = range.values.count
        while high - low > 1 {
            let middle = (low + high) / 2
            let point = self.point(baseline, range.values[middle], setups, runner)
            sweep.points.append(point)
            if point.runs.attainment >= target { low = middle } else { high = middle }
        }
        if !range.isCount, low >= 0, high < range.values.count {
            var good = range.values[low]
            var bad = range.values[high]
            for _ in 0..<refinements {
                let point = self.point(baseline, (good + bad) / 2, setups, runner)
                sweep.points.append(point)
                if point.runs.attainment >= target {
                    good = point.value
                } else {
                    bad = point.value
                }
            }
        }
        sweep.points.sort { baseline.kind == .fixed ? $0.value > $1.value : $0.value < $1.value }
        return sweep
    }

    private static func point(
        _ baseline: Baseline,
        _ value: Double,
        _ setups: [WorldSetup],
        _ runner: WorldRunner
    ) -> Point {
        var chosen = baseline
        chosen.values[baseline.kind.knob] = value
        let choice = PolicyChoice.baseline(chosen)
        return Point(
            value: value,
            runs: PolicyRuns(
                name: chosen.description,
                runs: setups.map { choice.run($0, by: runner) }
            )
        )
    }
}
