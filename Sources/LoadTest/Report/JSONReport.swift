import Core
import HTTPService

/// How `--output` writes a run.
package enum ReportFormat: String, Sendable, CaseIterable {
    case native
    case vllm
    case aiperf
}

/// A run as JSON, in this tool's own words. Times are seconds, with the unit in the name.
package enum JSONReport {
    private static let quantiles: [(key: StaticString, value: Double)] = [
        ("p1", 0.01), ("p5", 0.05), ("p10", 0.1), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75),
        ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999),
    ]

    package static func write(
        _ summary: RunSummary,
        _ context: ReportContext,
        to buffer: ByteBuffer
    ) {
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("schema", plain: "weir.load/1")
            json.member("weir_version", WeirVersion.current)
            json.member("started_at_unix_s", summary.startedAt)
            json.member(
                "targets",
                array: { json in for target in context.targets { json.string(target) } }
            )
            json.member("load", context.load)
            json.member("requests", context.requests)
            if let model = context.model { json.member("model", model) }
            json.member("seed", context.seed)
            json.member("open_loop", summary.isOpenLoop)
            json.member("valid", summary.invalidity == nil)
            if let reason = summary.invalidity { json.member("invalid_because", reason) }
            json.member("interrupted", summary.wasInterrupted)
            json.member("measured_s", summary.seconds)
            Self.counts(summary, &json)
            Self.rates(summary, context, &json)
            Self.timings(summary, &json)
            Self.groups(summary, context, &json)
            Self.thresholds(summary, context, &json)
            Self.probes(context, &json)
            Self.series(summary, &json)
        }
        buffer.append(byte: 0x0A)
    }

    private static func counts(_ summary: RunSummary, _ json: inout JSONWriter) {
        let statistics = summary.statistics
        json.member(
            "counts",
            object: { json in
                json.member("requests", statistics.total)
                json.member("succeeded", statistics.succeeded)
                json.member("failed", summary.failed)
                json.member("good", statistics.good)
                json.member("dropped", statistics.dropped)
                json.member("abandoned", statistics.abandoned)
                json.member("connections", statistics.connections)
                json.member("resumed_sessions", statistics.resumedSessions)
                json.member("sent_again", statistics.resent)
                json.member("input_tokens", statistics.inputTokens)
                json.member("output_tokens", statistics.outputTokens)
                json.member("sent_bytes", statistics.sentBytes)
                json.member("received_bytes", statistics.receivedBytes)
                json.member("requests_with_warm_up", statistics.ended)
            }
        )
        json.member(
            "statuses",
            object: { json in
                for (status, count) in statistics.statuses.sorted(by: { $0.key < $1.key }) {
                    json.key(escaping: "\(status)")
                    json.integer(count)
                }
            }
        )
        json.member(
            "outcomes",
            object: { json in
                for outcome in Outcome.allCases {
                    json.key(escaping: outcome.label)
                    json.integer(statistics.outcomes[Int(outcome.rawValue)])
                }
            }
        )
    }

    private static func rates(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        json.member(
            "rates",
            object: { json in
                json.member("offered_per_s", summary.offeredRate)
                json.member("succeeded_per_s", summary.rate)
                json.member("goodput_per_s", summary.goodput)
                json.member("input_tokens_per_s", summary.inputTokenRate)
                json.member("output_tokens_per_s", summary.outputTokenRate)
                json.member("error_share", summary.errorShare)
                json.member("attainment", summary.attainment)
            }
        )
        json.member(
            "objectives",
            array: { json in
                for objective in context.objectives { json.string(objective.description) }
            }
        )
    }

    private static func timings(_ summary: RunSummary, _ json: inout JSONWriter) {
        json.member(
            "timings_s",
            object: { json in
                for (timing, _) in summary.timings {
                    json.key(escaping: timing.rawValue)
                    Self.distribution(summary.statistics.distribution(timing), &json)
                }
            }
        )
    }

    private static func distribution(_ distribution: Distribution, _ json: inout JSONWriter) {
        json.object { json in
            json.member("count", distribution.count)
            json.member("mean", distribution.mean / 1e9)
            json.member("std", distribution.deviation / 1e9)
            json.member("min", Double(distribution.minimum) / 1e9)
            for quantile in Self.quantiles {
                json.member(quantile.key, Double(distribution.quantile(quantile.value)) / 1e9)
            }
            json.member("max", Double(distribution.maximum) / 1e9)
        }
    }

    private static func groups(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        json.member(
            "variants",
            object: { json in
                for (name, group) in summary.statistics.variants.sorted(by: { $0.key < $1.key }) {
                    json.key(escaping: name)
                    Self.group(group, &json)
                }
            }
        )
        json.member(
            "by_target",
            array: { json in
                for group in summary.statistics.targets { Self.group(group, &json) }
            }
        )
    }

    private static func group(_ group: GroupStatistics, _ json: inout JSONWriter) {
        json.object { json in
            json.member("requests", group.total)
            json.member("failed", group.failed)
            for (name, histogram) in [
                ("latency_s", group.latency), ("ttft_s", group.timeToFirstToken),
            ] where histogram.count > 0 {
                json.key(escaping: name)
                json.object { json in
                    json.member("mean", (histogram.mean ?? 0) / 1e9)
                    for quantile in Self.quantiles.prefix(9).suffix(5) {
                        let value = histogram.quantile(quantile.value) ?? 0
                        json.member(quantile.key, Double(value) / 1e9)
                    }
                }
            }
        }
    }

    private static func thresholds(
        _ summary: RunSummary,
        _ context: ReportContext,
        _ json: inout JSONWriter
    ) {
        json.member(
            "thresholds",
            array: { json in
                for threshold in context.thresholds {
                    let (isKept, value) = threshold.evaluate(summary)
                    json.object { json in
                        json.member("threshold", threshold.description)
                        json.member("kept", isKept)
                        if let value { json.member("value", threshold.text(value)) }
                    }
                }
            }
        )
    }

    private static func probes(_ context: ReportContext, _ json: inout JSONWriter) {
        guard !context.probes.isEmpty else { return }
        json.member(
            "goodput_search",
            array: { json in
                for probe in context.probes {
                    json.object { json in
                        json.member("rate_per_s", probe.rate)
                        json.member("requests", probe.requests)
                        json.member("attainment", probe.attainment)
                        json.member("attainment_low", probe.interval.lowerBound)
                        json.member("attainment_high", probe.interval.upperBound)
                        json.member("valid", probe.isValid)
                    }
                }
            }
        )
    }

    private static func series(_ summary: RunSummary, _ json: inout JSONWriter) {
        let statistics = summary.statistics
        let width = Double(statistics.sliceWidth) / 1e9
        json.member(
            "series",
            array: { json in
                for (index, slice) in statistics.slices.enumerated() {
                    json.object { json in
                        json.member("start_s", Double(index) * width)
                        json.member("scheduled", slice.scheduled)
                        json.member("ended", slice.ended)
                        json.member("failed", slice.failed)
                        json.member("output_tokens", slice.outputTokens)
                        for quantile in [Self.quantiles[4], Self.quantiles[8]] {
                            guard let value = slice.latency?.quantile(quantile.value) else {
                                continue
                            }
                            json.key(escaping: "latency_\(quantile.key)_s")
                            json.number(Double(value) / 1e9)
                        }
                    }
                }
            }
        )
    }
}
