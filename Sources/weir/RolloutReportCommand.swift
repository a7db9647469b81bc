import ArgumentParser
import Core
import Glibc
import HTTPService
import Reports

/// `weir rollout report`: one rollout as a page.
struct RolloutReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Write a rollout's shares, evidence and latencies over time as an HTML page.",
        discussion: """
            The page needs nothing but a browser. The last rollouts of each model are kept.

            Examples:
              weir rollout report digits --output digits.html
              weir rollout report digits --rollout 3 --output digits-3.html
            """
    )

    @OptionGroup var options: RolloutOptions

    @Option(help: "Its number; else the last one.")
    var rollout: Int?

    @Option(name: .shortAndLong, help: "The file to write.", completion: .file())
    var output: String

    mutating func run() throws {
        try RolloutExit.reporting {
            let document = try self.options.client().timeline(self.rollout)
            let report = RolloutReport(document)
            let buffer = ByteBuffer(capacity: 256 << 10)
            RolloutPage(report).write(to: buffer)
            try Self.write(buffer, to: self.output)
            let points = "\(report.points.count) points"
            Output.line("rollout \(report.rollout): \(report.outcome), \(points) in \(self.output)")
            return .success
        }
    }

    private static func write(_ buffer: ByteBuffer, to path: String) throws(AdminClientError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw AdminClientError(
                description: "cannot write \(path): \(String(cString: strerror(errno)))"
            )
        }
        let text = buffer.readable.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        Output.write(text, to: descriptor)
        close(descriptor)
    }
}

extension RolloutReport {
    /// From what the admin API says of a timeline.
    init(_ document: JSONValue) {
        func text(_ value: JSONValue) -> String {
            if case .string(let text) = value { text } else { "" }
        }
        self.init(
            model: text(document["model"]),
            rollout: Int(document["rollout"].number ?? 0),
            stable: text(document["stable"]),
            canary: text(document["canary"]),
            startedAt: document["startedAt"].number ?? 0
        )
        self.metrics = document["metrics"].elements.map {
            Metric(name: text($0["name"]), threshold: $0["threshold"].number ?? 0)
        }
        self.points = document["points"].elements.map { point in
            Point(
                seconds: point["time"].number ?? 0,
                weight: point["weight"].number ?? 0,
                stable: Arm(point["stable"]),
                canary: Arm(point["canary"]),
                evidence: point["values"].elements.map { $0["evidence"].number ?? 0 }
            )
        }
        let history = document["history"].elements
        self.events = history.map {
            Event(
                seconds: $0["time"].number ?? 0,
                kind: text($0["event"]),
                message: text($0["message"]),
                weight: $0["weight"].number ?? 0
            )
        }
        let reports = history.last { !$0["metrics"].elements.isEmpty }?["metrics"].elements ?? []
        let table = RolloutText.metrics(reports)
        self.verdicts = [table.columns.map(\.title.capitalizedWord)] + table.rows
    }
}

extension RolloutReport.Arm {
    init(_ value: JSONValue) {
        self.init(
            requests: Int(value["requests"].number ?? 0),
            errors: Int(value["errors"].number ?? 0),
            p50: value["p50"].number,
            p95: value["p95"].number
        )
    }
}

extension String {
    /// `STILL NEEDS` as `Still needs`.
    fileprivate var capitalizedWord: String {
        self.prefix(1).uppercased() + self.dropFirst().lowercased()
    }
}
