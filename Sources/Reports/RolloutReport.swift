import Core
import HTTPService

/// One rollout as people read it: over time, and what came of it.
package struct RolloutReport: Sendable, Equatable {
    package struct Arm: Sendable, Equatable {
        package var requests: Int
        package var errors: Int
        /// Of good answers in seconds.
        package var p50: Double?
        package var p95: Double?

        package init(requests: Int, errors: Int, p50: Double?, p95: Double?) {
            self.requests = requests
            self.errors = errors
            self.p50 = p50
            self.p95 = p95
        }
    }

    package struct Point: Sendable, Equatable {
        /// Since 1970.
        package var seconds: Double
        /// The new variant's share in percent.
        package var weight: Double
        package var stable: Arm
        package var canary: Arm
        /// E-values, in the order of `metrics`.
        package var evidence: [Double]

        package init(
            seconds: Double,
            weight: Double,
            stable: Arm,
            canary: Arm,
            evidence: [Double]
        ) {
            self.seconds = seconds
            self.weight = weight
            self.stable = stable
            self.canary = canary
            self.evidence = evidence
        }
    }

    package struct Metric: Sendable, Equatable {
        package var name: String
        /// The e-value that is enough; 0 for metrics that have none.
        package var threshold: Double

        package init(name: String, threshold: Double) {
            self.name = name
            self.threshold = threshold
        }
    }

    package struct Event: Sendable, Equatable {
        package var seconds: Double
        package var kind: String
        package var message: String
        package var weight: Double

        package init(seconds: Double, kind: String, message: String, weight: Double) {
            self.seconds = seconds
            self.kind = kind
            self.message = message
            self.weight = weight
        }
    }

    package var model: String
    package var rollout: Int
    package var stable: String
    package var canary: String
    package var startedAt: Double
    package var metrics: [Metric] = []
    package var points: [Point] = []
    package var events: [Event] = []
    /// The metrics as they were when the rollout ended: rows of cells, the first one the titles.
    package var verdicts: [[String]] = []

    package init(model: String, rollout: Int, stable: String, canary: String, startedAt: Double) {
        self.model = model
        self.rollout = rollout
        self.stable = stable
        self.canary = canary
        self.startedAt = startedAt
    }

    /// What came of it, in words.
    package var outcome: String {
        let ends: [String: String] = [
            "promoted": "live", "rolledBack": "rolled back", "superseded": "superseded",
        ]
        return self.events.last { ends[$0.kind] != nil }.flatMap { ends[$0.kind] } ?? "under way"
    }

    /// From the first event to the one that ended it, or to the last one.
    package var seconds: Double {
        let end = self.events.last { ["promoted", "rolledBack"].contains($0.kind) }
        return max(0, (end?.seconds ?? self.points.last?.seconds ?? 0) - self.startedAt)
    }
}

/// The report as a page.
package struct RolloutPage {
    private let report: RolloutReport

    package init(_ report: RolloutReport) {
        self.report = report
    }

    package func write(to buffer: ByteBuffer) {
        let data = ByteBuffer(capacity: 256 << 10)
        var writer = JSONWriter(data)
        writer.object { self.write(&$0) }
        HTMLPage.write(data, to: buffer)
    }

    private func write(_ writer: inout JSONWriter) {
        let report = self.report
        writer.member("title", "\(report.model): \(report.stable) → \(report.canary)")
        writer.member("subtitle", "rollout \(report.rollout) · \(report.outcome)")
        writer.member("startedAt", report.startedAt)
        writer.member("tiles", array: { self.writeTiles(&$0) })
        writer.member("charts", array: { self.writeCharts(&$0) })
        writer.member("tables", array: { self.writeTables(&$0) })
    }

    // MARK: Tiles

    private func writeTiles(_ writer: inout JSONWriter) {
        let report = self.report
        let isBad = report.outcome == "rolled back"
        let because = report.events.last { $0.kind == "failed" }?.message ?? ""
        Self.tile(&writer, "Outcome", report.outcome, because, isBad: isBad)
        Self.tile(&writer, "Took", Self.seconds(report.seconds), "from start to end")
        let most = report.points.map(\.weight).max() ?? 0
        Self.tile(&writer, "Largest share", "\(Int(most)) %", "of the new variant")
        for (name, arm) in [
            (report.stable, \RolloutReport.Point.stable), (report.canary, \.canary),
        ] {
            let requests = report.points.reduce(0) { $0 + $1[keyPath: arm].requests }
            let errors = report.points.reduce(0) { $0 + $1[keyPath: arm].errors }
            Self.tile(
                &writer,
                "Answered by \(name)",
                "\(requests)",
                "\(errors) failed",
                isBad: errors > 0
            )
        }
    }

    private static func tile(
        _ writer: inout JSONWriter,
        _ name: String,
        _ value: String,
        _ note: String,
        isBad: Bool = false
    ) {
        writer.object {
            $0.member("name", name)
            $0.member("value", value)
            $0.member("note", note)
            $0.member("bad", isBad)
        }
    }

    private static func seconds(_ seconds: Double) -> String {
        seconds >= 120 ? "\(Int((seconds / 60).rounded())) min" : "\(Int(seconds.rounded())) s"
    }

    // MARK: Charts

    private static let colors = ["a", "b", "e", "f", "g", "c", "d"]

    private func writeCharts(_ writer: inout JSONWriter) {
        let report = self.report
        let points = report.points
        self.chart(&writer, "Share of the requests", " %", isStep: true) {
            [
                (report.canary, "b", points.map { $0.weight }),
                (report.stable, "a", points.map { 100 - $0.weight }),
            ]
        }
        self.chart(&writer, "Evidence against the new variant, in percent of what is enough", " %")
        {
            let statistical = report.metrics.enumerated().filter { $1.threshold > 1 }
            return statistical.enumerated().map { place, metric in
                let values = points.map {
                    Self.progress($0.evidence, metric.offset, metric.element)
                }
                return (metric.element.name, Self.colors[place % Self.colors.count], values)
            }
        }
        self.chart(&writer, "Latency of good answers, p95", "s") {
            [
                (report.canary, "b", points.map(\.canary.p95)),
                (report.stable, "a", points.map(\.stable.p95)),
            ]
        }
        self.chart(&writer, "Latency of good answers, p50", "s") {
            [
                (report.canary, "b", points.map(\.canary.p50)),
                (report.stable, "a", points.map(\.stable.p50)),
            ]
        }
        self.chart(&writer, "Failed answers", " %") {
            [
                (report.canary, "b", points.map { Self.share($0.canary) }),
                (report.stable, "a", points.map { Self.share($0.stable) }),
            ]
        }
        self.chart(&writer, "Answers", "") {
            [
                (report.canary, "b", points.map { Double($0.canary.requests) }),
                (report.stable, "a", points.map { Double($0.stable.requests) }),
            ]
        }
    }

    /// The e-value's logarithm in percent of its threshold's: wealth below 1 is no evidence.
    private static func progress(
        _ evidence: [Double],
        _ index: Int,
        _ metric: RolloutReport.Metric
    ) -> Double? {
        guard evidence.indices.contains(index), metric.threshold > 1 else { return nil }
        let wealth = max(1, evidence[index])
        let percent = 100 * naturalLogarithm(wealth) / naturalLogarithm(metric.threshold)
        // What rounding makes of 1 is no evidence.
        return min(200, (percent * 100).rounded() / 100)
    }

    private static func share(_ arm: RolloutReport.Arm) -> Double? {
        arm.requests > 0 ? 100 * Double(arm.errors) / Double(arm.requests) : nil
    }

    private func chart(
        _ writer: inout JSONWriter,
        _ title: String,
        _ unit: String,
        isStep: Bool = false,
        _ series: () -> [(name: String, color: String, values: [Double?])]
    ) {
        let series = series()
        if series.isEmpty { return }
        writer.object {
            $0.member("title", title)
            $0.member("unit", unit)
            $0.member("axis", plain: "time")
            $0.member("step", isStep)
            $0.member(
                "x",
                array: { writer in
                    for point in self.report.points {
                        writer.number(max(0, point.seconds - self.report.startedAt))
                    }
                }
            )
            $0.member(
                "series",
                array: { writer in
                    for one in series { Self.write(one.name, one.color, one.values, &writer) }
                }
            )
        }
    }

    private static func write(
        _ name: String,
        _ color: String,
        _ values: [Double?],
        _ writer: inout JSONWriter
    ) {
        writer.object {
            $0.member("name", name)
            $0.member("color", color)
            $0.member(
                "y",
                array: { writer in
                    for value in values {
                        if let value { writer.number(value) } else { writer.null() }
                    }
                }
            )
        }
    }

    // MARK: Tables

    private func writeTables(_ writer: inout JSONWriter) {
        if self.report.verdicts.count > 1 {
            HTMLPage.table("Metrics at the end", self.report.verdicts, &writer)
        }
        var rows = [["After", "Event", "Share", "Because"]]
        for event in self.report.events {
            let seconds = event.seconds - self.report.startedAt
            rows.append([
                "\((seconds * 10).rounded() / 10) s", event.kind, "\(Int(event.weight)) %",
                event.message,
            ])
        }
        HTMLPage.table("What happened", rows, &writer)
    }
}
