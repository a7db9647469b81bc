import Core
import Simulation
import Workload

/// A comparison as tables for terminals.
package enum SimulationText {
    package static func text(_ report: SimulationReport) -> String {
        var lines = ["", "\(report.title): \(report.summary)"]
        let arrivals = report.rows.first?.runs.runs.first?.arrivals ?? 0
        let seconds = report.rows.first?.runs.runs.first?.measured ?? 0
        lines.append(
            "\(arrivals) requests in \(TimeText.short(nanoseconds: seconds * 1e9)) that count, "
                + "\(report.seeds) \(report.seeds == 1 ? "seed" : "seeds"), "
                + "objective for \(DecimalText.figures(report.target * 100))%"
        )
        lines.append("")
        lines += TextTable.aligned(
            [Self.head] + report.rows.map { Self.cells($0, report) } + Self.bound(report)
        )
        let mixes = report.rows.flatMap { Self.mix($0.runs) }
        if !mixes.isEmpty {
            lines.append("")
            lines += TextTable.aligned([Self.mixHead] + mixes)
        }
        lines += report.rows.flatMap { Self.rollout($0.runs) }
        return lines.joined(separator: "\n") + "\n"
    }

    package static let head = [
        "", "GPU-seconds", "of optimum", "attained", "ttft p50", "ttft p99", "starts/h", "peak",
        "failed", "interrupted",
    ]

    package static func cells(_ row: SimulationReport.Row, _ report: SimulationReport) -> [String] {
        let runs = row.runs
        let optimum = report.optimumSeconds
        let ratio = optimum.map { DecimalText.fixed(runs.gpuSeconds / $0, places: 2) } ?? "-"
        let mark = report.isTuned && !row.hasReached ? " !" : ""
        return [
            runs.name + mark, Self.interval(runs, { $0.gpuSeconds }, scale: 1, places: 0), ratio,
            Self.interval(runs, { $0.attainment }, scale: 100, places: 2) + "%",
            Self.quantile(runs, 0.5), Self.quantile(runs, 0.99),
            DecimalText.fixed(runs.startsPerReplicaHour, places: 2),
            "\(runs.runs.map { $0.models.reduce(0) { $0 + $1.peak } }.max() ?? 0)",
            "\(Self.failed(runs))", "\(runs.interrupted)",
        ]
    }

    package static let mixHead = [
        "variants", "", "cost-seconds", "GPU-seconds", "requests", "starts", "peak",
    ]

    /// One line for each variant of a policy's first run, and one for all of them.
    package static func mix(_ runs: PolicyRuns) -> [[String]] {
        guard let run = runs.runs.first, run.hasCosts else { return [] }
        let served = max(1, run.models.reduce(0) { $0 + $1.served })
        func row(_ names: [String], _ models: [ModelResult]) -> [String] {
            let share = Double(models.reduce(0) { $0 + $1.served }) / Double(served)
            return names + [
                DecimalText.fixed(models.reduce(0) { $0 + $1.costSeconds }, places: 0),
                DecimalText.fixed(models.reduce(0) { $0 + $1.gpuSeconds }, places: 0),
                DecimalText.fixed(share * 100, places: 1) + "%",
                "\(models.reduce(0) { $0 + $1.starts })", "\(models.reduce(0) { $0 + $1.peak })",
            ]
        }
        return run.models.map { row([runs.name, $0.name], [$0]) }
            + [row([runs.name, "all"], run.models)]
    }

    /// Events that say how a rollout ended, and why.
    private static let verdicts = ["failed", "inconclusive", "promoted", "aborted", "refused"]

    /// What became of a policy's rollouts: one line for each run.
    static func rollout(_ runs: PolicyRuns) -> [String] {
        let found = runs.runs.compactMap(\.rollout)
        if found.isEmpty { return [] }
        return [""]
            + found.map { result in
                let exposed = result.exposedSeconds.map { " after \($0) s of its requests" } ?? ""
                let last = result.events.last { Self.verdicts.contains($0.kind) }
                return "\(runs.name): rollout of \(result.canary): \(result.phase)\(exposed), "
                    + "\(result.live) serves; it answered \(result.canaryRequests) requests, "
                    + "\(result.canaryErrors) with an error"
                    + (last.map { "; at \($0.seconds) s: \($0.text)" } ?? "")
            }
    }

    static func bound(_ report: SimulationReport) -> [[String]] {
        var rows: [[String]] = []
        if let runs = report.withoutForesight {
            let row = SimulationReport.Row(runs: runs, isOwn: false, hasReached: true)
            rows.append(Self.cells(row, report))
        }
        guard let optimum = report.optimum else { return rows }
        let runs = PolicyRuns(name: "clairvoyant optimum", runs: optimum.worlds)
        let row = SimulationReport.Row(
            runs: runs,
            isOwn: false,
            hasReached: optimum.attainment >= report.target
        )
        return rows + [Self.cells(row, report)]
    }

    /// The mean with half the width of its 95 % interval.
    private static func interval(
        _ runs: PolicyRuns,
        _ value: (WorldResult) -> Double,
        scale: Double,
        places: Int
    ) -> String {
        let mean = DecimalText.fixed(runs.mean(value) * scale, places: places)
        guard let half = runs.halfWidth(value) else { return mean }
        return mean + "±" + DecimalText.fixed(half * scale, places: places)
    }

    static func failed(_ runs: PolicyRuns) -> UInt64 {
        runs.runs.reduce(0) { sum, run in
            run.models.reduce(sum) { $0 + $1.rejected + $1.timedOut + $1.crashed + $1.failed }
        }
    }

    private static func quantile(_ runs: PolicyRuns, _ quantile: Double) -> String {
        let values = runs.runs.flatMap { run in
            run.models.compactMap { $0.firstTokens.quantile(quantile).map { Double($0) } }
        }
        guard !values.isEmpty else { return "-" }
        let mean = values.reduce(0, +) / Double(values.count)
        return TimeText.short(nanoseconds: mean)
    }

    /// The goals, one line per scenario: how Weir stands beside the best baseline and the optimum.
    package static func goals(_ reports: [SimulationReport]) -> String {
        let rows = self.goalRows(reports)
        let kept = rows.dropFirst().count { $0.last == "kept" }
        return TextTable.aligned(rows).joined(separator: "\n")
            + "\n\n\(kept) of \(rows.count - 1) keep every goal\n"
    }

    static func goalRows(_ reports: [SimulationReport]) -> [[String]] {
        var rows = [
            [
                "", "GPU-seconds", "best baseline", "of it", "goal", "of optimum", "goal",
                "starts/h",
                "goal", "interrupted", "attained", "without foresight", "",
            ]
        ]
        for report in reports {
            for row in report.rows where row.isOwn { rows.append(Self.goal(row, report)) }
        }
        return rows
    }

    private static func goal(_ row: SimulationReport.Row, _ report: SimulationReport) -> [String] {
        let runs = row.runs
        let best = report.bestBaseline
        let ofBest = best.map { runs.gpuSeconds / $0.runs.gpuSeconds }
        let ofOptimum = report.optimumSeconds.map { runs.gpuSeconds / $0 }
        let isKept =
            runs.attainment >= report.target && (ofBest ?? 0) <= 0.8
            && (ofOptimum ?? 0) <= report.optimumGoal && runs.startsPerReplicaHour <= 6
            && runs.interrupted == 0
        return [
            report.title, DecimalText.fixed(runs.gpuSeconds, places: 0),
            best?.runs.name ?? "none reaches it",
            ofBest.map { DecimalText.fixed($0, places: 2) } ?? "-", "0.80",
            ofOptimum.map { DecimalText.fixed($0, places: 2) } ?? "-",
            DecimalText.fixed(report.optimumGoal, places: 2),
            DecimalText.fixed(runs.startsPerReplicaHour, places: 2), "6", "\(runs.interrupted)",
            DecimalText.fixed(runs.attainment * 100, places: 2) + "%",
            report.withoutForesight.map { DecimalText.fixed($0.attainment * 100, places: 2) + "%" }
                ?? "-",
            isKept ? "kept" : "missed",
        ]
    }
}
