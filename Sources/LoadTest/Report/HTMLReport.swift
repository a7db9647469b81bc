import Core
import HTTPService
import Reports
import Workload

/// A run as one self-contained page: figures, tables and plots, light and dark, nothing loaded from
/// anywhere.
///
/// The figures stand in the page as JSON, and its script draws them as SVG. Whatever comes from
/// outside goes into the page as text, never as markup.
package enum HTMLReport {
    package static func write(
        _ summary: RunSummary,
        _ context: ReportContext,
        to buffer: ByteBuffer
    ) {
        let data = ByteBuffer(capacity: 64 << 10)
        var json = JSONWriter(data)
        Self.document(summary, context, &json)
        HTMLPage.write(data, to: buffer)
    }

    private static func document(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("title", "Load on \(context.targets.joined(separator: ", "))")
            json.member("subtitle", "\(context.requests) · \(context.load) · seed \(context.seed)")
            json.member("startedAt", summary.startedAt)
            if let reason = summary.invalidity { json.member("invalid", reason) }
            if let result = context.searchResult { json.member("search", result) }
            json.member("tiles", array: { json in Self.tiles(summary, context, &json) })
            json.member("tables", array: { json in Self.tables(summary, context, &json) })
            json.member("charts", array: { json in Self.charts(summary, context, &json) })
        }
    }

    // MARK: Figures

    private static func tiles(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        let statistics = summary.statistics
        func tile(_ name: String, _ value: String, _ note: String, isBad: Bool = false) {
            json.object { json in
                json.member("name", name)
                json.member("value", value)
                json.member("note", note)
                json.member("bad", isBad)
            }
        }
        let offered =
            summary.isOpenLoop
            ? "of \(DecimalText.figures(summary.offeredRate)) offered" : "closed loop"
        tile("throughput", "\(DecimalText.figures(summary.rate))/s", offered)
        let latency = statistics.latency
        tile(
            "latency, median",
            TimeText.short(nanoseconds: Double(latency.quantile(0.5))),
            "p99 \(TimeText.short(nanoseconds: Double(latency.quantile(0.99))))"
        )
        if statistics.timeToFirstToken.count > 0 {
            let first = statistics.timeToFirstToken
            tile(
                "first token, median",
                TimeText.short(nanoseconds: Double(first.quantile(0.5))),
                "p99 \(TimeText.short(nanoseconds: Double(first.quantile(0.99))))"
            )
            tile("output tokens", "\(DecimalText.figures(summary.outputTokenRate))/s", "generated")
        }
        tile(
            "errors",
            DecimalText.fixed(summary.errorShare * 100, places: 2) + "%",
            "\(summary.failed) of \(statistics.total)",
            isBad: summary.failed > 0
        )
        if !context.objectives.isEmpty {
            tile(
                "goodput",
                "\(DecimalText.figures(summary.goodput))/s",
                "\(DecimalText.fixed(summary.attainment * 100, places: 1))% meet "
                    + context.objectives.map(\.description).joined(separator: ", ")
            )
        }
        if summary.isOpenLoop {
            tile(
                "generator late, p99",
                TimeText.short(nanoseconds: Double(summary.lag)),
                "scheduling error",
                isBad: summary.invalidity != nil
            )
        }
    }

    private static func tables(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        HTMLPage.table("Times", Self.timingRows(summary), &json)
        var groups = summary.statistics.variants.sorted { $0.key < $1.key }
            .map { ("variant \($0.key)", $0.value) }
        if summary.statistics.targets.count > 1 {
            groups += zip(context.targets, summary.statistics.targets).map { ($0, $1) }
        }
        if !groups.isEmpty { HTMLPage.table("Breakdown", Self.groupRows(groups), &json) }
        HTMLPage.table("Answers", Self.answerRows(summary), &json)
        if !context.thresholds.isEmpty {
            let rows = context.thresholds.map { threshold in
                let (isKept, value) = threshold.evaluate(summary)
                let text = value.map { threshold.text($0) } ?? "-"
                return [threshold.description, text, isKept ? "kept" : "missed"]
            }
            HTMLPage.table("Thresholds", [["", "measured", ""]] + rows, &json)
        }
    }

    private static func timingRows(_ summary: RunSummary) -> [[String]] {
        let quantiles = [0.5, 0.9, 0.95, 0.99, 0.999]
        return [["", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"]]
            + summary.timings.map { timing, title in
                let distribution = summary.statistics.distribution(timing)
                let values =
                    [distribution.mean] + quantiles.map { Double(distribution.quantile($0)) }
                    + [Double(distribution.maximum)]
                return [title] + values.map { TimeText.short(nanoseconds: $0) }
            }
    }

    private static func groupRows(_ groups: [(String, GroupStatistics)]) -> [[String]] {
        [["", "requests", "failed", "p50", "p95", "p99"]]
            + groups.map { name, group in
                let quantiles = [0.5, 0.95, 0.99].map { group.latency.quantile($0) }
                return [name, "\(group.total)", "\(group.failed)"]
                    + quantiles.map { $0.map { TimeText.short(nanoseconds: Double($0)) } ?? "-" }
            }
    }

    private static func answerRows(_ summary: RunSummary) -> [[String]] {
        let statistics = summary.statistics
        let statuses = statistics.statuses.sorted { $0.key < $1.key }
            .map { ["status \($0.key)", "\($0.value)"] }
        let failures = Outcome.allCases
            .filter { $0 != .ok && statistics.outcomes[Int($0.rawValue)] > 0 }
            .map { [$0.label, "\(statistics.outcomes[Int($0.rawValue)])"] }
        return [["", "requests"]] + statuses + failures
    }

    // MARK: Plots

    private struct Series {
        var name: String
        var color: String
        var values: [Double?]
    }

    private static func charts(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        let statistics = summary.statistics
        let slices = statistics.slices
        let width = Double(statistics.sliceWidth) / 1e9
        func overTime(_ title: String, _ unit: String, _ series: [Series]) {
            let times = slices.indices.map { Double($0) * width }
            Self.chart(title, unit, "time", times, series, statistics.window, &json)
        }
        func perSecond(_ value: KeyPath<Slice, UInt64>) -> [Double?] {
            slices.map { Double($0[keyPath: value]) / width }
        }
        func quantile(_ value: KeyPath<Slice, LatencyHistogram?>, _ quantile: Double) -> [Double?] {
            slices.map { $0[keyPath: value]?.quantile(quantile).map { Double($0) / 1e9 } }
        }
        func band(_ value: KeyPath<Slice, LatencyHistogram?>) -> [Series] {
            [
                Series(name: "p50", color: "a", values: quantile(value, 0.5)),
                Series(name: "p95", color: "b", values: quantile(value, 0.95)),
                Series(name: "p99", color: "c", values: quantile(value, 0.99)),
            ]
        }
        let ended = Series(name: "answered", color: "a", values: perSecond(\.ended))
        let scheduled = Series(name: "scheduled", color: "d", values: perSecond(\.scheduled))
        overTime("Rate", "/s", summary.isOpenLoop ? [scheduled, ended] : [ended])
        overTime("Latency over time", "s", band(\.latency))
        Self.quantiles(summary, &json)
        overTime(
            "In flight",
            "",
            [Series(name: "requests", color: "a", values: Self.inFlight(slices))]
        )
        if statistics.timeToFirstToken.count > 0 {
            overTime("Time to first token", "s", band(\.timeToFirstToken))
            overTime(
                "Output tokens",
                "/s",
                [Series(name: "tokens", color: "a", values: perSecond(\.outputTokens))]
            )
        }
        if statistics.failedOverall > 0 {
            overTime(
                "Errors",
                "/s",
                [Series(name: "failed", color: "c", values: perSecond(\.failed))]
            )
        }
        if !context.probes.isEmpty { Self.probes(context, &json) }
    }

    /// At the end of each slice.
    private static func inFlight(_ slices: [Slice]) -> [Double?] {
        var count: Int64 = 0
        return slices.map {
            count += Int64($0.started) - Int64($0.ended)
            return Double(max(0, count))
        }
    }

    /// One chart whose series have the quantiles as their common x.
    private static func quantiles(_ summary: RunSummary, _ json: inout JSONWriter) {
        let shown: [(Threshold.Timing, String, String)] = [
            (.latency, "latency", "a"), (.service, "service", "d"), (.ttft, "first token", "b"),
            (.itl, "inter-token", "c"),
        ]
        let present = shown.filter { summary.statistics.distribution($0.0).count > 0 }
        guard !present.isEmpty else { return }
        let points = summary.statistics.latency.spectrum().map(\.quantile)
        let series = present.map { timing, name, color in
            let distribution = summary.statistics.distribution(timing)
            return Series(
                name: name,
                color: color,
                values: points.map { Double(distribution.quantile($0)) / 1e9 }
            )
        }
        Self.chart("Quantiles", "s", "quantile", points, series, nil, &json)
    }

    private static func probes(_ context: ReportContext, _ json: inout JSONWriter) {
        // Where the generator was late, what was good says nothing of the server.
        let sorted = context.probes.filter(\.isValid).sorted { $0.rate < $1.rate }
        if sorted.isEmpty { return }
        let series = [
            Series(name: "good", color: "a", values: sorted.map { $0.attainment * 100 }),
            Series(
                name: "95% low",
                color: "d",
                values: sorted.map { $0.interval.lowerBound * 100 }
            ),
            Series(
                name: "95% high",
                color: "d",
                values: sorted.map { $0.interval.upperBound * 100 }
            ),
        ]
        Self.chart("Goodput search", "%", "rate", sorted.map(\.rate), series, nil, &json)
    }

    private static func chart(
        _ title: String,
        _ unit: String,
        _ axis: String,
        _ x: [Double],
        _ series: [Series],
        _ window: MeasuredWindow?,
        _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("title", title)
            json.member("unit", unit)
            json.member("axis", axis)
            json.member("x", array: { json in for value in x { json.number(value) } })
            if let window {
                json.member("from", Double(window.start) / 1e9)
                if window.end != .max { json.member("to", Double(window.end) / 1e9) }
            }
            json.member(
                "series",
                array: { json in
                    for one in series {
                        json.object { json in
                            json.member("name", one.name)
                            json.member("color", one.color)
                            json.member(
                                "y",
                                array: { json in
                                    for value in one.values {
                                        if let value { json.number(value) } else { json.null() }
                                    }
                                }
                            )
                        }
                    }
                }
            )
        }
    }
}
