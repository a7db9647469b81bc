import Core
import HTTPService

/// A run with the keys of `vllm bench serve`'s result file: arrays in seconds, figures in
/// milliseconds.
package enum VLLMReport {
    package static func write(
        _ summary: RunSummary,
        _ context: ReportContext,
        to buffer: ByteBuffer
    ) {
        let statistics = summary.statistics
        let records = summary.records.indices.filter {
            statistics.window.contains(summary.records[$0].scheduled)
        }
        var json = JSONWriter(buffer)
        json.object { json in
            json.key("date")
            var date = [UInt8]()
            let stamp = ByteBuffer(capacity: 32)
            Timestamp.append(UInt64(max(0, summary.startedAt) * 1e9), to: stamp)
            stamp.readable.withUnsafeBytes { date = Array($0) }
            json.string(String(decoding: date, as: UTF8.self))
            json.member("backend", plain: "openai")
            json.member("model_id", context.model ?? "")
            json.member("tokenizer_id", context.model ?? "")
            json.member("num_prompts", statistics.total)
            if let rate = context.requestRate {
                json.member("request_rate", rate)
            } else {
                json.member("request_rate", plain: "inf")
            }
            if let burstiness = context.burstiness { json.member("burstiness", burstiness) }
            json.member("max_concurrency", context.connectionsMax)
            json.member("duration", summary.seconds)
            json.member("completed", statistics.succeeded)
            json.member("failed", summary.failed)
            json.member("total_input_tokens", statistics.inputTokens)
            json.member("total_output_tokens", statistics.outputTokens)
            json.member("request_throughput", summary.rate)
            if !context.objectives.isEmpty { json.member("request_goodput", summary.goodput) }
            json.member("output_throughput", summary.outputTokenRate)
            json.member(
                "total_token_throughput",
                summary.outputTokenRate + summary.inputTokenRate
            )
            Self.arrays(summary, records, &json)
            Self.figures(summary, &json)
        }
        buffer.append(byte: 0x0A)
    }

    private static func arrays(_ summary: RunSummary, _ indices: [Int], _ json: inout JSONWriter) {
        func array(_ name: StaticString, _ value: (RequestRecord) -> Double) {
            json.member(
                name,
                array: { json in
                    for index in indices { json.number(value(summary.records[index])) }
                }
            )
        }
        func counts(_ name: StaticString, _ value: (RequestRecord) -> UInt32) {
            json.member(
                name,
                array: { json in
                    for index in indices { json.integer(value(summary.records[index])) }
                }
            )
        }
        counts("input_lens") { $0.inputTokens }
        counts("output_lens") { $0.outputTokens }
        array("ttfts") { Double($0.timeToFirstToken ?? 0) / 1e9 }
        json.member(
            "itls",
            array: { json in
                for index in indices {
                    json.array { json in
                        guard index < summary.gaps.count else { return }
                        for gap in summary.gaps[index] { json.number(Double(gap) / 1e9) }
                    }
                }
            }
        )
        array("latencies") { Double($0.serviceTime) / 1e9 }
        array("start_times") { Double($0.sent) / 1e9 }
        array("queue_times") { Double($0.sent &- min($0.scheduled, $0.sent)) / 1e9 }
        json.member(
            "errors",
            array: { json in
                for index in indices {
                    let outcome = summary.records[index].outcome
                    json.string(outcome == .ok ? "" : outcome.label)
                }
            }
        )
    }

    private static func figures(_ summary: RunSummary, _ json: inout JSONWriter) {
        let metrics: [(String, Threshold.Timing)] = [
            ("ttft", .ttft), ("tpot", .tpot), ("itl", .itl), ("e2el", .service),
            ("e2el_including_client_queue", .latency),
        ]
        for (name, timing) in metrics {
            let distribution = summary.statistics.distribution(timing)
            func figure(_ prefix: String, _ nanoseconds: Double) {
                json.key(escaping: "\(prefix)_\(name)_ms")
                json.number(nanoseconds / 1e6)
            }
            figure("mean", distribution.mean)
            figure("median", Double(distribution.quantile(0.5)))
            figure("std", distribution.deviation)
            figure("p50", Double(distribution.quantile(0.5)))
            figure("p90", Double(distribution.quantile(0.9)))
            figure("p95", Double(distribution.quantile(0.95)))
            figure("p99", Double(distribution.quantile(0.99)))
        }
    }
}

/// A run with the keys of aiperf's `profile_export_aiperf.json`.
package enum AIPerfReport {
    package static func write(
        _ summary: RunSummary,
        _ context: ReportContext,
        to buffer: ByteBuffer
    ) {
        let statistics = summary.statistics
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("schema_version", plain: "1.4")
            Self.single("request_throughput", "requests/sec", summary.rate, &json)
            Self.single("request_count", "requests", Double(statistics.succeeded), &json)
            Self.single("error_request_count", "requests", Double(summary.failed), &json)
            if !context.objectives.isEmpty {
                Self.single("goodput", "requests/sec", summary.goodput, &json)
                Self.single("good_request_count", "requests", Double(statistics.good), &json)
            }
            Self.single("output_token_throughput", "tokens/sec", summary.outputTokenRate, &json)
            Self.single("benchmark_duration", "sec", summary.seconds, &json)
            Self.times("request_latency", statistics.serviceTime, &json)
            Self.times("time_to_first_token", statistics.timeToFirstToken, &json)
            Self.times("inter_token_latency", statistics.timePerOutputToken, &json)
            Self.times("inter_chunk_latency", statistics.interTokenLatency, &json)
            let good = summary.records.filter {
                $0.outcome == .ok && statistics.window.contains($0.scheduled)
            }
            Self.lengths("input_sequence_length", good.map { Double($0.inputTokens) }, &json)
            Self.lengths("output_sequence_length", good.map { Double($0.outputTokens) }, &json)
        }
        buffer.append(byte: 0x0A)
    }

    private static let percents: [(key: StaticString, value: Double)] = [
        ("p1", 0.01), ("p5", 0.05), ("p10", 0.1), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75),
        ("p90", 0.9), ("p95", 0.95), ("p99", 0.99),
    ]

    private static func single(
        _ name: StaticString,
        _ unit: StaticString,
        _ value: Double,
        _ json: inout JSONWriter
    ) {
        json.member(
            name,
            object: { json in
                json.member("unit", plain: unit)
                json.member("avg", value)
            }
        )
    }

    private static func times(
        _ name: StaticString,
        _ distribution: Distribution,
        _ json: inout JSONWriter
    ) {
        guard distribution.count > 0 else { return }
        json.member(
            name,
            object: { json in
                json.member("unit", plain: "ms")
                json.member("avg", distribution.mean / 1e6)
                json.member("min", Double(distribution.minimum) / 1e6)
                json.member("max", Double(distribution.maximum) / 1e6)
                json.member("count", distribution.count)
                for percent in Self.percents {
                    json.member(percent.key, Double(distribution.quantile(percent.value)) / 1e6)
                }
                json.member("std", distribution.deviation / 1e6)
            }
        )
    }

    private static func lengths(
        _ name: StaticString,
        _ values: [Double],
        _ json: inout JSONWriter
    ) {
        let sorted = values.sorted()
        guard let first = sorted.first, let last = sorted.last, last > 0 else { return }
        let mean = sorted.reduce(0, +) / Double(sorted.count)
        let variance =
            sorted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(sorted.count)
        json.member(
            name,
            object: { json in
                json.member("unit", plain: "tokens")
                json.member("avg", mean)
                json.member("min", first)
                json.member("max", last)
                json.member("count", sorted.count)
                for percent in Self.percents {
                    let rank = Int((percent.value * Double(sorted.count)).rounded(.up)) - 1
                    json.member(percent.key, sorted[max(0, rank)])
                }
                json.member("std", variance.squareRoot())
            }
        )
    }
}

/// One JSON document per line and request. `weir load --trace` reads them again.
package enum RecordLines {
    package static func write(_ summary: RunSummary, to buffer: ByteBuffer) {
        let order = summary.records.indices.sorted {
            summary.records[$0].scheduled < summary.records[$1].scheduled
        }
        for index in order {
            let record = summary.records[index]
            var json = JSONWriter(buffer)
            json.object { json in
                json.member("index", record.index)
                json.member("scheduled_s", Double(record.scheduled) / 1e9)
                json.member("measured", summary.statistics.window.contains(record.scheduled))
                json.member("outcome", record.outcome.label)
                if record.status > 0 { json.member("status", record.status) }
                json.member("target", record.target)
                if record.variant > 0 {
                    json.member("variant", summary.recordVariants[Int(record.variant)])
                }
                json.member("latency_s", Double(record.latency) / 1e9)
                Self.times(record, &json)
                json.member("input_tokens", record.inputTokens)
                json.member("output_tokens", record.outputTokens)
                json.member("sent_bytes", record.sentBytes)
                json.member("received_bytes", record.receivedBytes)
            }
            buffer.append(byte: 0x0A)
        }
    }

    private static func times(_ record: RequestRecord, _ json: inout JSONWriter) {
        json.member(
            "lag_s",
            Double(record.dispatched &- min(record.scheduled, record.dispatched)) / 1e9
        )
        if record.connect > 0 { json.member("connect_s", Double(record.connect) / 1e9) }
        if record.sent > 0 { json.member("service_s", Double(record.serviceTime) / 1e9) }
        if record.firstByte > 0 {
            json.member(
                "first_byte_s",
                Double(record.firstByte &- min(record.scheduled, record.firstByte)) / 1e9
            )
        }
        if let first = record.timeToFirstToken { json.member("ttft_s", Double(first) / 1e9) }
        if let each = record.timePerOutputToken { json.member("tpot_s", each / 1e9) }
    }
}
