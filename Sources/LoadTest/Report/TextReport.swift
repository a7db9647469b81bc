import Core
import Reports
import Workload

/// The table at the end of a run, for people.
package enum TextReport {
    package static func text(_ summary: RunSummary, _ context: ReportContext) -> String {
        var lines = ["", "target    \(context.targets.joined(separator: ", "))"]
        lines.append("requests  \(context.requests)")
        lines.append(
            "load      \(context.load), measured \(DecimalText.figures(summary.seconds)) s, "
                + "seed \(context.seed)"
        )
        lines.append("")
        lines += self.timings(summary)
        lines.append("")
        lines += self.counts(summary, context)
        lines += self.breakdown(summary)
        lines += self.thresholds(summary, context)
        if summary.wasInterrupted {
            lines += ["", "interrupted: what was under way is not counted"]
        }
        if let reason = summary.invalidity { lines += ["", "INVALID: \(reason)"] }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func timings(_ summary: RunSummary) -> [String] {
        var rows = [["", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"]]
        for (timing, title) in summary.timings {
            let distribution = summary.statistics.distribution(timing)
            let quantiles = [0.5, 0.9, 0.95, 0.99, 0.999].map { Double(distribution.quantile($0)) }
            let values = [distribution.mean] + quantiles + [Double(distribution.maximum)]
            rows.append([title] + values.map { TimeText.short(nanoseconds: $0) })
        }
        return TextTable.aligned(rows)
    }

    private static func counts(_ summary: RunSummary, _ context: ReportContext) -> [String] {
        let statistics = summary.statistics
        var rows = [
            [
                "requests",
                "\(statistics.total) (\(statistics.succeeded) ok, \(summary.failed) failed: "
                    + "\(DecimalText.fixed(summary.errorShare * 100, places: 2))%)",
            ],
            ["throughput", "\(DecimalText.figures(summary.rate)) requests/s"],
        ]
        if summary.isOpenLoop {
            rows.append(["offered", "\(DecimalText.figures(summary.offeredRate)) requests/s"])
        }
        if statistics.outputTokens > 0 {
            rows.append(
                [
                    "tokens",
                    "\(statistics.inputTokens) in, \(statistics.outputTokens) out, "
                        + "\(DecimalText.figures(summary.outputTokenRate)) out/s",
                ]
            )
        }
        if !context.objectives.isEmpty {
            let attainment = DecimalText.fixed(summary.attainment * 100, places: 2)
            let names = context.objectives.map(\.description).joined(separator: ", ")
            rows.append(
                [
                    "goodput",
                    "\(DecimalText.figures(summary.goodput)) requests/s, "
                        + "\(attainment)% meet \(names)",
                ]
            )
        }
        rows.append(
            [
                "bytes",
                "\(ByteText.short(statistics.sentBytes)) sent, "
                    + "\(ByteText.short(statistics.receivedBytes)) received",
            ]
        )
        let again = statistics.resent > 0 ? ", \(statistics.resent) requests sent again" : ""
        let resumed =
            statistics.resumedSessions > 0
            ? ", \(statistics.resumedSessions) with a session resumed" : ""
        rows.append(["connections", "\(statistics.connections) made\(resumed)\(again)"])
        return TextTable.aligned(rows, numbersFrom: .max)
    }

    private static func breakdown(_ summary: RunSummary) -> [String] {
        let statistics = summary.statistics
        var lines: [String] = []
        if !statistics.statuses.isEmpty {
            let text = statistics.statuses.sorted { $0.key < $1.key }
                .map { "\($0.key) × \($0.value)" }.joined(separator: ", ")
            lines.append("status       \(text)")
        }
        let failures = Outcome.allCases.filter {
            $0 != .ok && statistics.outcomes[Int($0.rawValue)] > 0
        }
        if !failures.isEmpty {
            let text = failures.map { "\($0.label) × \(statistics.outcomes[Int($0.rawValue)])" }
            lines.append("failures     \(text.joined(separator: ", "))")
        }
        for (target, problem) in summary.securityFailures.sorted(by: { $0.key < $1.key }) {
            lines.append("tls          target \(target + 1): \(problem.failure) × \(problem.count)")
        }
        var groups = statistics.variants.sorted { $0.key < $1.key }
            .map { ("variant \($0.key)", $0.value) }
        if statistics.targets.count > 1 {
            groups += statistics.targets.enumerated().map { ("target \($0 + 1)", $1) }
        }
        if !groups.isEmpty {
            var rows = [["", "requests", "failed", "p50", "p95", "p99"]]
            for (name, group) in groups {
                let quantiles = [0.5, 0.95, 0.99].map { group.latency.quantile($0) }
                rows.append(
                    [name, "\(group.total)", "\(group.failed)"]
                        + quantiles.map {
                            $0.map { TimeText.short(nanoseconds: Double($0)) } ?? "-"
                        }
                )
            }
            lines += [""] + TextTable.aligned(rows)
        }
        return lines
    }

    private static func thresholds(_ summary: RunSummary, _ context: ReportContext) -> [String] {
        if context.thresholds.isEmpty { return [] }
        return [""]
            + context.thresholds.map { threshold in
                let (isKept, value) = threshold.evaluate(summary)
                let text = value.map { threshold.text($0) } ?? "nothing measured"
                return "\(isKept ? "kept  " : "MISSED") \(threshold)  (\(text))"
            }
    }
}

/// Numbers of bytes as people read them.
enum ByteText {
    static func short(_ bytes: UInt64) -> String {
        let value = Double(bytes)
        return switch value {
        case ..<1e3: "\(bytes) B"
        case ..<1e6: DecimalText.figures(value / 1e3) + " kB"
        case ..<1e9: DecimalText.figures(value / 1e6) + " MB"
        default: DecimalText.figures(value / 1e9) + " GB"
        }
    }
}
