import Core
import Testing

@testable import Telemetry

extension ByteBuffer {
    var bytes: [UInt8] {
        self.readable.withUnsafeBytes { Array($0) }
    }
    var text: String { String(decoding: self.bytes, as: UTF8.self) }
}

@Suite struct ExpositionTests {
    private static func write(
        _ format: ExpositionWriter.Format,
        _ body: (inout ExpositionWriter) -> Void
    ) -> String {
        let buffer = ByteBuffer(capacity: 256)
        var writer = ExpositionWriter(into: buffer, format: format)
        body(&writer)
        writer.end()
        return buffer.text
    }

    private static func requests(_ writer: inout ExpositionWriter) {
        writer.begin("weir_requests_total", .counter, help: "Requests by code.")
        writer.sample([("model", "m"), ("code", "200")], UInt64(7))
        writer.sample([("model", "m"), ("code", "503")], UInt64(0))
        writer.begin("weir_queue_depth", .gauge, help: "Waiting requests.")
        writer.sample([], 2.5)
    }

    @Test func writesPrometheusText() {
        #expect(
            Self.write(.text, Self.requests) == """
                # HELP weir_requests_total Requests by code.
                # TYPE weir_requests_total counter
                weir_requests_total{model="m",code="200"} 7
                weir_requests_total{model="m",code="503"} 0
                # HELP weir_queue_depth Waiting requests.
                # TYPE weir_queue_depth gauge
                weir_queue_depth 2.5

                """
        )
    }

    @Test func writesOpenMetrics() {
        #expect(
            Self.write(.openMetrics, Self.requests) == """
                # HELP weir_requests Requests by code.
                # TYPE weir_requests counter
                weir_requests_total{model="m",code="200"} 7
                weir_requests_total{model="m",code="503"} 0
                # HELP weir_queue_depth Waiting requests.
                # TYPE weir_queue_depth gauge
                weir_queue_depth 2.5
                # EOF

                """
        )
    }

    @Test func escapesLabelsAndHelp() {
        let text = Self.write(.text) { writer in
            writer.begin("a", .gauge, help: "a \\ b\nc")
            writer.sample([("l", "q\"b\\s\nn é")], UInt64(1))
        }
        #expect(text.contains("# HELP a a \\\\ b\\nc\n"))
        #expect(text.contains("a{l=\"q\\\"b\\\\s\\nn é\"} 1\n"))
    }

    @Test(arguments: [
        (1.0, "1.0"), (0.1, "0.1"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"),
        (-2.5, "-2.5"),
    ])
    func writesNumbers(value: Double, expected: String) {
        #expect(ExpositionWriter.text(of: value) == expected)
    }

    @Test func writesHistograms() {
        var histogram = LatencyHistogram()
        for milliseconds in [1, 2, 3, 400, 5_000] as [UInt64] {
            histogram.record(nanoseconds: milliseconds * 1_000_000)
        }
        let text = Self.write(.openMetrics) { writer in
            writer.begin("weir_request_duration_seconds", .histogram, help: "Time.")
            writer.sample(
                [("model", "m")],
                histogram,
                HistogramBoundaries(seconds: [0.01, 0.5, 1])
            )
        }
        #expect(
            text == """
                # HELP weir_request_duration_seconds Time.
                # TYPE weir_request_duration_seconds histogram
                weir_request_duration_seconds_bucket{model="m",le="0.01"} 3
                weir_request_duration_seconds_bucket{model="m",le="0.5"} 4
                weir_request_duration_seconds_bucket{model="m",le="1.0"} 4
                weir_request_duration_seconds_bucket{model="m",le="+Inf"} 5
                weir_request_duration_seconds_sum{model="m"} 5.406
                weir_request_duration_seconds_count{model="m"} 5
                # EOF

                """
        )
    }

    @Test func bucketsNeverFall() {
        var random = RandomSource(seed: 3)
        for boundaries in [
            HistogramBoundaries.requests, .overhead, .tokens, .coldStarts,
        ] {
            var histogram = LatencyHistogram()
            for _ in 0..<2_000 {
                histogram.record(nanoseconds: random.next() >> (random.next() % 64))
            }
            let counts = histogram.cumulativeCounts(atNanoseconds: boundaries.nanoseconds)
            #expect(counts == counts.sorted())
            #expect((counts.last ?? 0) <= histogram.count)
        }
    }

    @Test func anEmptyHistogramIsThere() {
        let text = Self.write(.text) { writer in
            writer.begin("h", .histogram, help: "h")
            writer.sample([], LatencyHistogram(), HistogramBoundaries(seconds: [1]))
        }
        #expect(
            text.hasSuffix(
                "h_bucket{le=\"1.0\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0.0\nh_count 0\n"
            )
        )
    }

    @Test func misuseTraps() async {
        await #expect(processExitsWith: .failure) {
            var writer = ExpositionWriter(into: ByteBuffer(capacity: 16), format: .text)
            writer.begin("a", .gauge, help: "")
            writer.begin("a", .gauge, help: "")
        }
        await #expect(processExitsWith: .failure) {
            var writer = ExpositionWriter(into: ByteBuffer(capacity: 16), format: .text)
            writer.begin("requests", .counter, help: "")
        }
        await #expect(processExitsWith: .failure) {
            var writer = ExpositionWriter(into: ByteBuffer(capacity: 16), format: .text)
            writer.begin("a b", .gauge, help: "")
        }
    }
}
