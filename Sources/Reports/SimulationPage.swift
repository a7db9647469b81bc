import Core
import HTTPService
import Simulation
import Workload

/// A comparison as one self-contained page.
package enum SimulationPage {
    package static func write(
        _ reports: [SimulationReport],
        startedAt: Double,
        to buffer: ByteBuffer
    ) {
        let data = ByteBuffer(capacity: 256 << 10)
        var json = JSONWriter(data)
        json.object { json in
            json.member("title", "Scaling policies, simulated")
            json.member("subtitle", Self.subtitle(reports))
            json.member("startedAt", startedAt)
            json.member(
                "tiles",
                array: { json in if reports.count == 1 { Self.tiles(reports[0], &json) } }
            )
            json.member(
                "charts",
                array: { json in for report in reports { Self.charts(report, &json) } }
            )
            if reports.contains(where: \.isTuned) {
                json.member(
                    "summary",
                    array: { json in
                        HTMLPage.table("Goals", SimulationText.goalRows(reports), &json)
                    }
                )
            }
            json.member("tables", array: { json in Self.tables(reports, &json) })
        }
        HTMLPage.write(data, to: buffer)
    }

    private static func subtitle(_ reports: [SimulationReport]) -> String {
        guard reports.count == 1, let report = reports.first else {
            return "\(reports.count) scenarios, the same requests for every policy"
        }
        return "\(report.title) · \(report.summary) · \(report.seeds) "
            + (report.seeds == 1 ? "seed" : "seeds")
    }

    // MARK: Figures

    private static func tiles(_ report: SimulationReport, _ json: inout JSONWriter) {
        func tile(_ name: String, _ value: String, _ note: String, isBad: Bool = false) {
            json.object { json in
                json.member("name", name)
                json.member("value", value)
                json.member("note", note)
                json.member("bad", isBad)
            }
        }
        if let run = report.rows.first?.runs.runs.first {
            tile("requests", "\(run.arrivals)", "in \(Self.hours(run.measured))")
        }
        for row in report.rows where row.isOwn {
            let ratio = report.optimumSeconds.map { row.runs.gpuSeconds / $0 }
            tile(
                row.runs.name,
                Self.gpuHours(row.runs.gpuSeconds),
                ratio.map { "\(DecimalText.fixed($0, places: 2)) of the optimum" } ?? "GPU-hours"
            )
            tile(
                "\(row.runs.name), attained",
                DecimalText.fixed(row.runs.attainment * 100, places: 2) + "%",
                "of \(DecimalText.figures(report.target * 100))% wanted",
                isBad: row.runs.attainment < report.target
            )
        }
        if let best = report.bestBaseline {
            tile("cheapest other", Self.gpuHours(best.runs.gpuSeconds), best.runs.name)
        }
        if let optimum = report.optimumSeconds {
            tile("clairvoyant", Self.gpuHours(optimum), "knows the future")
        }
    }

    private static func gpuHours(_ seconds: Double) -> String {
        DecimalText.figures(seconds / 3_600) + " GPU-h"
    }

    private static func hours(_ seconds: Double) -> String {
        seconds < 7_200
            ? "\(DecimalText.figures(seconds / 60)) min"
            : "\(DecimalText.figures(seconds / 3_600)) h"
    }

    private static func tables(_ reports: [SimulationReport], _ json: inout JSONWriter) {
        for report in reports {
            let rows = report.rows.map { SimulationText.cells($0, report) }
            HTMLPage.table(
                report.title,
                [SimulationText.head] + rows + SimulationText.bound(report),
                &json
            )
            let mixes = report.rows.flatMap { SimulationText.mix($0.runs) }
            if !mixes.isEmpty {
                HTMLPage.table(
                    "\(report.title): variants",
                    [SimulationText.mixHead] + mixes,
                    &json
                )
            }
        }
    }

    // MARK: Plots

    private struct Series {
        var name: String
        var color: String
        /// Of its own; else those of the chart.
        var x: [Double]?
        var y: [Double]
    }

    /// Policies that are drawn over time: Weir's and the cheapest others.
    private static let shownMax = 6
    private static let colors = ["a", "b", "c", "e", "f", "g"]

    private static func charts(_ report: SimulationReport, _ json: inout JSONWriter) {
        let shown = Self.shown(report)
        guard let points = shown.first?.runs.runs.first?.models.first?.series else { return }
        let times = points.map(\.time)
        func overTime(_ title: String, _ unit: String, _ series: [Series], isStep: Bool = false) {
            Self.chart(
                "\(report.title): \(title)",
                unit,
                "time",
                times,
                series,
                isStep: isStep,
                &json
            )
        }
        overTime(
            "load",
            "",
            [
                Series(name: "arrivals/s", color: "a", y: Self.sum(shown[0], \.rate)),
                Series(name: "in flight", color: "d", y: Self.sum(shown[0], \.inFlight)),
            ]
        )
        var replicas = shown.enumerated().map { index, row in
            Series(
                name: row.runs.name,
                color: Self.colors[index % Self.colors.count],
                y: Self.sum(row, \.billed)
            )
        }
        if let run = report.optimum?.worlds.first, let model = run.models.first {
            replicas.append(Series(name: "optimum", color: "d", y: model.series.map(\.billed)))
        }
        overTime("replicas that are billed", "", replicas, isStep: true)
        let mix = Self.variants(shown[0])
        if !mix.isEmpty {
            overTime("replicas of \(shown[0].runs.name) by variant", "", mix, isStep: true)
        }
        Self.pareto(report, &json)
        overTime(
            "requests that missed the objective",
            "/s",
            shown.enumerated().map { index, row in
                Series(
                    name: row.runs.name,
                    color: Self.colors[index % Self.colors.count],
                    y: Self.sum(row, \.missed)
                )
            }
        )
    }

    /// The replicas of each variant, where there are several.
    private static func variants(_ row: SimulationReport.Row) -> [Series] {
        guard let run = row.runs.runs.first, run.hasCosts else { return [] }
        return run.models.prefix(Self.colors.count).enumerated().map { index, model in
            Series(
                name: model.name,
                color: Self.colors[index],
                y: model.series.map(\.billed)
            )
        }
    }

    private static func shown(_ report: SimulationReport) -> [SimulationReport.Row] {
        let own = report.rows.filter(\.isOwn)
        let others = report.rows.filter { !$0.isOwn }.sorted { left, right in
            if left.hasReached != right.hasReached { return left.hasReached }
            return left.runs.gpuSeconds < right.runs.gpuSeconds
        }
        return Array((own + others).prefix(Self.shownMax))
    }

    /// Over all models of the first run.
    private static func sum(
        _ row: SimulationReport.Row,
        _ value: KeyPath<SeriesPoint, Double>
    ) -> [Double] {
        guard let models = row.runs.runs.first?.models, let first = models.first else { return [] }
        return first.series.indices.map { index in
            models.reduce(0) { sum, model in
                sum + (index < model.series.count ? model.series[index][keyPath: value] : 0)
            }
        }
    }

    /// GPU-hours against attainment, of each policy those settings that no other one of it beats in
    /// both; the upper left corner is best.
    private static func pareto(_ report: SimulationReport, _ json: inout JSONWriter) {
        var series: [Series] = []
        for (index, row) in Self.shown(report).enumerated() {
            let points = row.sweep?.points.map(\.runs) ?? [row.runs]
            let sorted = Self.front(points)
            series.append(
                Series(
                    name: row.sweep?.name ?? row.runs.name,
                    color: Self.colors[index % Self.colors.count],
                    x: sorted.map { $0.gpuSeconds / 3_600 },
                    y: sorted.map { $0.attainment * 100 }
                )
            )
        }
        if let optimum = report.optimum, let seconds = report.optimumSeconds {
            series.append(
                Series(
                    name: "optimum",
                    color: "d",
                    x: [seconds / 3_600],
                    y: [optimum.attainment * 100]
                )
            )
        }
        Self.chart(
            "\(report.title): GPU-hours against attainment",
            "%",
            "GPU-hours",
            [],
            series,
            floor: 90,
            &json
        )
    }

    private static func front(_ points: [PolicyRuns]) -> [PolicyRuns] {
        var best = -1.0
        return points.sorted { $0.gpuSeconds < $1.gpuSeconds }.filter { point in
            guard point.attainment > best else { return false }
            best = point.attainment
            return true
        }
    }

    private static func chart(
        _ title: String,
        _ unit: String,
        _ axis: String,
        _ x: [Double],
        _ series: [Series],
        isStep: Bool = false,
        floor: Double = 0,
        _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("title", title)
            json.member("unit", unit)
            json.member("axis", axis)
            json.member("step", isStep)
            json.member("floor", floor)
            json.member("x", array: { json in for value in x { json.number(value) } })
            json.member(
                "series",
                array: { json in
                    for one in series {
                        json.object { json in
                            json.member("name", one.name)
                            json.member("color", one.color)
                            if let own = one.x {
                                json.member(
                                    "x",
                                    array: { json in for value in own { json.number(value) } }
                                )
                            }
                            json.member(
                                "y",
                                array: { json in for value in one.y { json.number(value) } }
                            )
                        }
                    }
                }
            )
        }
    }
}
