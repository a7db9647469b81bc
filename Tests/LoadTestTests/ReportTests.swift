import Core
import Testing

@testable import LoadTest
@testable import Workload

@Suite("Reports")
struct ReportTests {
    private func sample(target: String = "http://localhost/") throws -> (RunSummary, ReportContext)
    {
        var plan = LoadPlan(
            targets: [try TargetURL(target)],
            kind: .chat(GenerationPlan(model: "</script><b>\"m\"")),
            pattern: .rate(RateProfile(rate: 10, duration: 10), .poisson)
        )
        plan.objectives = try Objective.parse("ttft:100ms")
        var statistics = RunStatistics(
            window: plan.window,
            objectives: plan.objectives,
            targetCount: 1,
            sliceWidth: plan.sliceWidth
        )
        let variant = statistics.variant(named: "<canary>")
        var records: [RequestRecord] = []
        for index in 0..<100 {
            let made = record(at: UInt64(index * 100), took: UInt64(100 + index)) {
                $0.index = index
                $0.firstByte = $0.sent + 1_000_000
                $0.firstOutput = $0.sent + 50_000_000
                $0.lastOutput = $0.end
                $0.outputTokens = 10
                $0.inputTokens = 20
                $0.variant = variant
                if index == 99 { $0.outcome = .timedOut }
            }
            statistics.start(scheduled: made.scheduled, dispatched: made.dispatched)
            statistics.outputGap(5_000_000, scheduled: made.scheduled)
            statistics.end(made)
            records.append(made)
        }
        statistics.finish()
        var summary = RunSummary(statistics: statistics)
        summary.records = records
        summary.recordVariants = ["", "<canary>"]
        summary.gaps = records.map { _ in [5_000_000] }
        let thresholds = [try Threshold("p99(latency)<1ms"), try Threshold("errors<5%")]
        let context = ReportContext(
            plan: plan,
            load: "poisson 10/s",
            requests: "chat </script>",
            thresholds: thresholds
        )
        return (summary, context)
    }

    private func written(_ write: (ByteBuffer) -> Void) -> String {
        let buffer = ByteBuffer(capacity: 64)
        write(buffer)
        return text(buffer)
    }

    @Test func nativeJSONIsValid() throws {
        let (summary, context) = try self.sample()
        let found = try keys(ofJSON: self.written { JSONReport.write(summary, context, to: $0) })
        #expect(found.first == "schema")
        for key in ["valid", "counts", "rates", "timings_s", "variants", "thresholds", "series"] {
            #expect(found.contains(key), "\(key)")
        }
    }

    @Test func vllmKeysAreThere() throws {
        let (summary, context) = try self.sample()
        let json = self.written { VLLMReport.write(summary, context, to: $0) }
        let found = try keys(ofJSON: json)
        for key in [
            "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
            "request_throughput", "request_goodput", "output_throughput", "total_token_throughput",
            "input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "errors",
            "mean_ttft_ms", "median_tpot_ms", "std_itl_ms", "p99_e2el_ms",
        ] { #expect(found.contains(key), "\(key)") }
        #expect(json.contains("\"itls\":[[0.005],"))
        #expect(json.contains("\"median_ttft_ms\":50"))
    }

    @Test func aiperfKeysAreThere() throws {
        let (summary, context) = try self.sample()
        let json = self.written { AIPerfReport.write(summary, context, to: $0) }
        let found = try keys(ofJSON: json)
        for key in [
            "schema_version", "request_throughput", "request_latency", "request_count",
            "time_to_first_token", "inter_token_latency", "output_token_throughput",
            "output_sequence_length", "input_sequence_length", "goodput", "error_request_count",
        ] { #expect(found.contains(key), "\(key)") }
    }

    @Test func recordsCanBeReplayed() throws {
        let (summary, _) = try self.sample()
        let lines = self.written { RecordLines.write(summary, to: $0) }
        #expect(lines.split(separator: "\n").count == 100)
        for line in lines.split(separator: "\n") { try keys(ofJSON: String(line)) }
        guard case .requests(let trace) = try TraceReader(gapMax: nil).read(Array(lines.utf8))
        else {
            Issue.record("not requests")
            return
        }
        #expect(trace.requests.map(\.offset) == summary.records.map(\.scheduled))
        #expect(trace.requests.allSatisfy { $0.inputTokens == 20 && $0.outputTokens == 10 })
    }

    @Test func pageCannotBeBrokenOutOf() throws {
        let (summary, context) = try self.sample()
        let page = self.written { HTMLReport.write(summary, context, to: $0) }
        let parts = page.split(separator: "<script", omittingEmptySubsequences: false)
        #expect(parts.count == 3)
        let data = try #require(page.split(separator: "id=\"data\">").last)
        let json = try #require(data.firstRange(of: "</script>")).lowerBound
        #expect(try keys(ofJSON: String(data[..<json])).contains("charts"))
        #expect(!page.contains("<canary>"))
        #expect(!page.contains("src=") && !page.contains("@import"))
    }

    @Test func tableSaysWhatWasMissed() throws {
        var (summary, context) = try self.sample()
        var table = TextReport.text(summary, context)
        #expect(table.contains("MISSED p99(latency)<1ms"))
        #expect(table.contains("kept   errors<5%"))
        #expect(table.contains("100 (99 ok, 1 failed: 1.00%)"))
        #expect(table.contains("variant <canary>"))
        #expect(!table.split(separator: "\n").contains { $0.hasSuffix(" ") })
        #expect(!table.contains("INVALID"))
        summary.statistics.dropped = 5
        table = TextReport.text(summary, context)
        #expect(table.contains("INVALID: 5 requests were never sent"))
    }

    @Test func histogramHasItsSpectrum() throws {
        let (summary, _) = try self.sample()
        let text = summary.statistics.latency.percentileText()
        #expect(text.contains("Percentile") && text.contains("#[Mean"))
        #expect(text.contains("Total count    =           99]"))
    }

    @Test func emptyRunCanBeReported() throws {
        let (sample, context) = try self.sample()
        let summary = RunSummary(
            statistics: RunStatistics(
                window: sample.statistics.window,
                objectives: [],
                targetCount: 1,
                sliceWidth: 1_000_000_000
            )
        )
        #expect(TextReport.text(summary, context).contains("0 (0 ok"))
        try keys(ofJSON: self.written { JSONReport.write(summary, context, to: $0) })
        try keys(ofJSON: self.written { VLLMReport.write(summary, context, to: $0) })
        try keys(ofJSON: self.written { AIPerfReport.write(summary, context, to: $0) })
        #expect(self.written { HTMLReport.write(summary, context, to: $0) }.contains("charts"))
    }
}
