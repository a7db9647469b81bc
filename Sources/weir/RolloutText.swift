import Core
import Glibc
import HTTPService
import Rollouts

/// Rollouts as text.
enum RolloutText {
    static func headline(_ document: JSONValue) -> String {
        "\(document["model"].cell): \(document["reason"].cell)"
    }

    /// Everything about the rollout under way, or the last one.
    static func status(_ document: JSONValue) -> String {
        var blocks = [self.headline(document)]
        if case .object(let weights) = document["weights"] {
            let shares = weights.map { "\($0.name) \($0.value.cell) %" }.joined(separator: ", ")
            let route = document["headerRoute"].cell
            blocks.append(
                "  shares: \(shares)" + (route == "-" ? "" : "; with \(route) all to the new one")
            )
        }
        let metrics = document["metrics"].elements
        if !metrics.isEmpty { blocks.append(self.indented(self.metrics(metrics).text)) }
        return blocks.joined(separator: "\n")
    }

    static func metrics(_ reports: [JSONValue]) -> Table {
        var table = Table([
            .init(title: "METRIC"), .init(title: "VERDICT"),
            .init(title: "EVIDENCE", isNumber: true), .init(title: "ENOUGH", isNumber: true),
            .init(title: "STABLE", isNumber: true), .init(title: "CANARY", isNumber: true),
            .init(title: "REQUESTS", isNumber: true), .init(title: "STILL NEEDS, OR WHY"),
        ])
        for report in reports {
            table.add([
                report["name"].cell,
                report["verdict"].cell + (report["dryRun"] == .bool(true) ? " (dry run)" : ""),
                self.evidence(report["evidence"]), self.evidence(report["threshold"]),
                self.number(report["stable"]), self.number(report["canary"]),
                "\(report["stableRequests"].cell)/\(report["canaryRequests"].cell)",
                report["reason"].cell,
            ])
        }
        return table
    }

    static func history(_ records: [JSONValue]) -> Table {
        var table = Table([
            .init(title: "TIME"), .init(title: "ROLLOUT", isNumber: true), .init(title: "EVENT"),
            .init(title: "STEP", isNumber: true), .init(title: "CANARY"),
            .init(title: "WEIGHT", isNumber: true), .init(title: "BECAUSE"),
        ])
        for record in records {
            table.add([
                LocalTime.text(record["time"].number), record["rollout"].cell,
                record["event"].cell, record["step"].cell, record["canary"].cell,
                record["weight"].cell, record["message"].cell,
            ])
        }
        return table
    }

    static func rollouts(_ rollouts: [JSONValue]) -> Table {
        var table = Table([
            .init(title: "MODEL"), .init(title: "STATE"), .init(title: "STABLE"),
            .init(title: "CANARY"), .init(title: "WEIGHT", isNumber: true),
            .init(title: "STEP", isNumber: true), .init(title: "BECAUSE"),
        ])
        for rollout in rollouts {
            let runs = rollout["canary"] != .null
            table.add([
                rollout["model"].cell, rollout["state"].cell, rollout["stable"].cell,
                rollout["canary"].cell, runs ? rollout["weight"].cell : "-",
                runs ? "\(rollout["step"].cell)/\(rollout["stepCount"].cell)" : "-",
                rollout["reason"].cell,
            ])
        }
        return table
    }

    static func number(_ value: JSONValue) -> String {
        guard let number = value.number else { return "-" }
        if number >= 1e6 { return "very large" }
        if number > 0, number < 0.01 { return "\((number * 1e4).rounded() / 1e4)" }
        return Explanation.number(number)
    }

    /// Beyond a million only the power of ten says anything.
    static func evidence(_ value: JSONValue) -> String {
        guard let number = value.number, number >= 1e6 else { return self.number(value) }
        return MetricReport.text(evidence: number)
    }

    static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }
            .joined(separator: "\n")
    }
}

/// Shows a rollout while it runs: in place on a terminal, else a line whenever something happened.
struct RolloutWatcher {
    private var shownID = -1.0
    private var rollout: JSONValue?
    private var isTerminal = isatty(STDOUT_FILENO) == 1

    mutating func show(_ document: JSONValue) {
        // What happened before this rollout is not asked about.
        let current = document["rollout"]
        if self.rollout == nil { self.rollout = current }
        let isOver = RolloutExit.code(document) != RolloutExit.underWay
        if self.isTerminal, !isOver {
            let picture = RolloutText.status(document)
            Output.write("\u{1B}[H\u{1B}[J\(picture)\n", to: STDOUT_FILENO)
            return
        }
        for record in document["history"].elements {
            guard let id = record["id"].number, id > self.shownID,
                (record["rollout"].number ?? 0) >= (self.rollout?.number ?? 0)
            else { continue }
            self.shownID = id
            Output.line(
                "\(LocalTime.text(record["time"].number))  \(record["event"].cell)  "
                    + "\(record["message"].cell)"
            )
        }
        if isOver { Output.line(RolloutText.status(document)) }
    }
}
