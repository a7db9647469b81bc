import Foundation
import RolloutTrials
import Rollouts

/// Prints how often the shipped machine rolls back a variant that is the same, and how soon one
/// that is worse. Ends with 1 where a promise is not kept.
///
///     RolloutBench [ROLLOUTS]
@main
struct RolloutBench {
    private static let sameCount = 2_000
    private static let worseCount = 500
    private static let secondsMax = 900
    private static let seed: UInt64 = 42

    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        let count = arguments.first.map { Int($0) ?? 0 } ?? Self.sameCount
        guard count > 0, arguments.count <= 1 else {
            Self.tell("usage: RolloutBench [ROLLOUTS], a number above 0\n")
            exit(2)
        }
        let same = try Self.same(count)
        print()
        let worse = try Self.worse(max(1, count * Self.worseCount / Self.sameCount))
        exit(same && worse ? 0 : 1)
    }

    // MARK: Tables

    private static func same(_ count: Int) throws -> Bool {
        print("Two variants that are the same: how often the new one is rolled back.")
        print("\(count) rollouts a row of 4 minutes at 100 requests/s, seed \(self.seed).")
        print("Metrics: success rate, p95 and median latency. 1 % errors in the mean.\n")
        var table = Table(["traffic", "margins", "alpha", "rolled back", "share", "kept"])
        var isKept = true
        for (alpha, drop, increase, margins) in [
            (0.05, 0.0, 0.0, "none"), (0.01, 0.005, 0.2, "0.5 points, 20 %"),
        ] {
            for (scenario, kind) in Trials.same {
                let plan = Trials.plan(kind, alpha: alpha, maxDrop: drop, maxIncrease: increase)
                let summary = try self.run(scenario, plan, count)
                let share = Double(summary.rolledBack) / Double(count)
                isKept = isKept && share <= alpha
                table.add([
                    scenario.name, margins, self.percent(alpha), "\(summary.rolledBack)",
                    self.percent(share), share <= alpha ? "yes" : "NO",
                ])
            }
        }
        table.print()
        return isKept
    }

    private static func worse(_ count: Int) throws -> Bool {
        print("A new variant that is worse: seconds at 10 % of 100 requests/s until it is rolled")
        print("back. \(count) rollouts a row, alpha 1 % over three metrics, seed \(self.seed).\n")
        var table = Table(["canary", "margin", "median", "p90", "caught", "promised", "kept"])
        var isKept = true
        for row in Trials.worse + Trials.worseWithWiderMargins {
            let summary = try self.run(row.scenario, row.plan, count)
            let median = summary.seconds(quantile: 0.5)
            let isMet = median.map { $0 <= row.target } ?? false
            isKept = isKept && (isMet || !row.isPromised)
            table.add([
                row.scenario.name, row.margin, self.seconds(median),
                self.seconds(summary.seconds(quantile: 0.9)),
                self.percent(Double(summary.rolledBack) / Double(count)),
                row.isPromised ? "\(row.target) s" : "-",
                row.isPromised ? (isMet ? "yes" : "NO") : "-",
            ])
        }
        table.print()
        return isKept
    }

    private static func run(_ scenario: TrialScenario, _ plan: RolloutPlan, _ count: Int) throws
        -> TrialSummary
    {
        defer { self.show("") }
        return try Trials.run(
            scenario,
            plan,
            count: count,
            secondsMax: self.secondsMax,
            seed: self.seed
        ) { done in
            if done % 20 == 0 { self.show("  \(scenario.name): \(done) of \(count)") }
        }
    }

    // MARK: Text

    /// On a terminal one line that is replaced.
    private static func show(_ text: String) {
        if isatty(2) != 0 { self.tell("\r\u{1B}[K\(text)") }
    }

    private static func tell(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }

    private static func percent(_ share: Double) -> String {
        String(format: "%.2f %%", share * 100)
    }

    private static func seconds(_ value: Int?) -> String { value.map { "\($0) s" } ?? "never" }
}

/// Text in columns: the first two to the left, numbers to the right.
private struct Table {
    private var rows: [[String]]

    init(_ head: [String]) {
        self.rows = [head]
    }

    mutating func add(_ row: [String]) { self.rows.append(row) }

    func print() {
        let widths = self.rows[0].indices.map { column in
            self.rows.map { $0[column].count }.max() ?? 0
        }
        for row in self.rows {
            let cells = row.enumerated().map { column, text in
                let padding = String(repeating: " ", count: widths[column] - text.count)
                return column < 2 ? text + padding : padding + text
            }
            Swift.print(cells.joined(separator: "  "))
        }
    }
}
