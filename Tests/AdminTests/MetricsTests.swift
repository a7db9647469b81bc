import Control
import Core
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Proxy
import Telemetry
import Testing

@testable import Admin

@Suite struct ExpositionReaderTests {
    /// The reader that the other tests rely on does find mistakes.
    @Test(arguments: [
        "a 1\n", "# HELP a x\n# TYPE a gauge\na 1\na 2\n", "# TYPE a gauge\na 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n", "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n", "# HELP a x\n# TYPE a gauge\na{1b=\"c\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c\",b=\"d\"} 1\n", "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\n# HELP b x\n# TYPE b gauge\na 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1.0\"} 1\na_sum 1\na_count 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1.0\"} 2\na_bucket{le=\"+Inf\"} 1\n"
            + "a_sum 1\na_count 1\n",
        "# HELP a x\n# TYPE a_total counter\na_total 1\n",
    ])
    func refusesWrongText(text: String) {
        #expect(throws: Exposition.Failure.self) { try Exposition(text) }
    }

    @Test func readsRightText() throws {
        let text = "# HELP a x\n# TYPE a gauge\na{b=\"c\\\"\\\\\\n\"} 1.5\n"
        #expect(try Exposition(text).value("a", ["b": "c\"\\\n"]) == 1.5)
    }
}

@Suite struct MetricsTests {
    private func serving() throws -> AdminFixture {
        let fixture = try AdminFixture(models: Documents.river)
        try fixture.serve(replicas: 2)
        return fixture
    }

    private func metrics(_ fixture: AdminFixture) throws -> Exposition {
        let answer = try fixture.get("/metrics")
        #expect(answer.status == 200)
        #expect(answer.field("content-type") == "text/plain; version=0.0.4; charset=utf-8")
        return try Exposition(answer.text)
    }

    private static let river = ["model": "river"]
    private static let first = ["model": "river", "variant": "v1"]

    @Test(arguments: [
        ("weir_requests_total", "counter"), ("weir_request_duration_seconds", "histogram"),
        ("weir_time_to_first_token_seconds", "histogram"),
        ("weir_time_per_output_token_seconds", "histogram"),
        ("weir_gateway_overhead_seconds", "histogram"), ("weir_queue_wait_seconds", "histogram"),
        ("weir_queue_depth", "gauge"), ("weir_in_flight_requests", "gauge"),
        ("weir_tokens_total", "counter"), ("weir_upstream_errors_total", "counter"),
        ("weir_retries_total", "counter"), ("weir_replicas", "gauge"),
        ("weir_cold_start_seconds", "histogram"), ("weir_rollout_weight_percent", "gauge"),
        ("weir_connections", "gauge"), ("weir_config_generation", "gauge"),
        ("weir_config_errors_total", "counter"), ("weir_bad_requests_total", "counter"),
        ("weir_recorder_requests_total", "counter"),
        ("weir_recorder_written_bytes_total", "counter"),
        ("gen_ai_server_request_duration_seconds", "histogram"),
        ("gen_ai_server_time_to_first_token_seconds", "histogram"),
        ("gen_ai_client_token_usage_total", "counter"),
        ("process_cpu_seconds_total", "counter"), ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"), ("process_max_fds", "gauge"),
        ("process_start_time_seconds", "gauge"), ("process_threads", "gauge"),
    ])
    func hasEveryFamilyFromTheStart(name: String, kind: String) throws {
        let fixture = try AdminFixture(models: Documents.river)
        let family = try self.metrics(fixture).family(name)
        #expect(family?.kind == kind)
        #expect(family?.samples.isEmpty == false)
    }

    @Test func everyVariantStartsAtZero() throws {
        let metrics = try self.metrics(self.serving())
        for variant in ["v1", "v2"] {
            let labels = ["model": "river", "variant": variant]
            let code = labels.merging(["code": "200"]) { $1 }
            #expect(metrics.value("weir_requests_total", code) == 0)
            #expect(metrics.value("weir_request_duration_seconds_count", labels) == 0)
            for kind in UpstreamErrorKind.allCases {
                let error = labels.merging(["kind": kind.rawValue]) { $1 }
                #expect(metrics.value("weir_upstream_errors_total", error) == 0)
            }
        }
        #expect(metrics.value("weir_bad_requests_total", ["reason": "bare-lf"]) == 0)
    }

    @Test func countsWhatWasServed() throws {
        let fixture = try self.serving()
        for _ in 0..<4 { #expect(try fixture.complete(model: "river").status == 200) }
        let metrics = try self.metrics(fixture)
        #expect(metrics.sum("weir_requests_total", ["model": "river", "code": "200"]) == 4)
        #expect(metrics.sum("weir_requests_total", Self.first) == 3, "weights 3 to 1")
        #expect(metrics.sum("weir_request_duration_seconds_count", Self.river) == 4)
        #expect(metrics.sum("weir_request_duration_seconds_sum", Self.river) > 0)
        #expect(metrics.value("weir_gateway_overhead_seconds_count", Self.river) == 4)
        #expect(metrics.sum("weir_tokens_total", ["model": "river", "type": "input"]) == 28)
        #expect(metrics.sum("weir_tokens_total", ["model": "river", "type": "output"]) == 12)
        #expect(metrics.sum("weir_in_flight_requests") == 0)
        #expect(metrics.value("weir_queue_depth", Self.river) == 0)
        let generative = ["gen_ai_request_model": "river"]
        #expect(metrics.sum("gen_ai_server_request_duration_seconds_count", generative) == 4)
        #expect(metrics.sum("weir_network_bytes_total", ["direction": "written"]) > 0)
    }

    @Test func countsWhatWasRefused() throws {
        let fixture = try self.serving()
        #expect(try fixture.complete(model: "lake").status == 404)
        let address = try #require(fixture.control.gateway?.addresses.first?.address)
        let client = try RawClient(fixture.harness, to: address)
        try client.send("GET /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        try client.waitForEnd()
        let metrics = try self.metrics(fixture)
        #expect(metrics.sum("weir_requests_total", ["model": "", "code": "404"]) == 1)
        #expect(
            metrics.value("weir_bad_requests_total", ["reason": "invalid-content-length"]) == 1
        )
    }

    @Test func tellsAboutReplicasAndWeights() throws {
        let metrics = try self.metrics(self.serving())
        let states = Self.first
        #expect(metrics.value("weir_replicas", states.merging(["state": "desired"]) { $1 }) == 1)
        #expect(metrics.value("weir_replicas", states.merging(["state": "ready"]) { $1 }) == 1)
        #expect(metrics.value("weir_replicas", states.merging(["state": "draining"]) { $1 }) == 0)
        #expect(metrics.value("weir_rollout_weight_percent", Self.first) == 75)
        #expect(metrics.sum("weir_rollout_weight_percent", Self.river) == 100)
    }

    @Test func tellsAboutTheConfiguration() throws {
        let fixture = try self.serving()
        fixture.control.refuse("no good")
        let metrics = try self.metrics(fixture)
        #expect(metrics.value("weir_config_errors_total") == 1)
        #expect(metrics.value("weir_config_generation") == 1)
        #expect(metrics.value("weir_build_info", ["version": WeirVersion.current]) == 1)
        fixture.control.apply(fixture.control.configuration)
        #expect(try self.metrics(fixture).value("weir_config_generation") == 2)
    }

    @Test func modelsThatMakeNoTokensAreNotGenerative() throws {
        let fixture = try AdminFixture(
            models: Documents.river.replacing("OpenAI", with: "OpenInference")
        )
        let text = try fixture.get("/metrics").text
        #expect(!text.contains("gen_ai_request_model="))
        #expect(text.contains("weir_tokens_total{model=\"river\""))
    }

    @Test func openMetricsIsForThoseWhoAsk() throws {
        let fixture = try self.serving()
        let answer = try fixture.fetch(
            .get,
            "/metrics",
            fields: [
                (
                    "Accept",
                    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"
                )
            ]
        )
        #expect(
            answer.field("content-type")
                == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
        let metrics = try Exposition(answer.text, openMetrics: true)
        #expect(metrics.family("weir_requests")?.kind == "counter")
        #expect(
            metrics.value(
                "weir_requests_total",
                ["model": "river", "variant": "v1", "code": "200"]
            ) == 0
        )
    }

    @Test(
        arguments: [
            (nil, false), ("", false), ("*/*", false), ("text/plain", false),
            ("application/openmetrics-text", true), ("Application/OpenMetrics-Text ; Q=0.3", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.2", false),
            ("application/openmetrics-text;q=nan", false), (";;;,,,q=", false),
        ] as [(String?, Bool)]
    )
    func formatByAccept(accept: String?, isOpenMetrics: Bool) {
        let format = ExpositionWriter.Format(accept: accept)
        let isOpen = if case .openMetrics = format { true } else { false }
        #expect(isOpen == isOpenMetrics)
    }

    @Test func processFactsAreReal() {
        let facts = ProcessFacts.current()
        #expect(facts.residentBytes > 1 << 20)
        #expect(facts.virtualBytes >= facts.residentBytes)
        #expect(facts.threads >= 1)
        #expect(facts.openDescriptors >= 3)
        #expect(facts.maxDescriptors >= facts.openDescriptors)
        let now = EventLoop.readWallClock()
        #expect(facts.startTime > now - 86_400 && facts.startTime <= now + 1)
    }

    @Test func programNamesDoNotConfuse() {
        var facts = ProcessFacts()
        var fields = (3...52).map { "\($0)" }
        fields[14 - 3] = "150"
        fields[15 - 3] = "50"
        facts.parse(
            stat: "42 (a) b (c) \(fields.joined(separator: " "))\n",
            ticksPerSecond: 100,
            pageBytes: 4096,
            bootTime: 1_000
        )
        #expect(facts.cpuSeconds == 2)
        #expect(facts.threads == 20)
        #expect(facts.startTime == 1_000.22)
        #expect(facts.virtualBytes == 23)
        #expect(facts.residentBytes == 24 * 4096)
        var empty = ProcessFacts()
        empty.parse(stat: "42 (a", ticksPerSecond: 100, pageBytes: 4096, bootTime: 0)
        empty.parse(stat: "42 (a) S 1", ticksPerSecond: 100, pageBytes: 4096, bootTime: 0)
        #expect(empty.cpuSeconds == 0)
        #expect(ProcessFacts.bootTime("cpu 1 2\nbtime 1700000000\nprocesses 1\n") == 1_700_000_000)
        #expect(ProcessFacts.bootTime("cpu 1 2\n") == nil)
    }
}

@Suite struct StatisticsTests {
    private func statistics(requests: UInt64, milliseconds: UInt64) -> GatewayStatistics {
        var variant = VariantStatistics(name: "v1")
        variant.requestsByCode[200] = requests
        for _ in 0..<requests { variant.duration.record(nanoseconds: milliseconds * 1_000_000) }
        var model = ModelStatistics(name: "river")
        model.arrivals = requests
        model.variants = [variant]
        var statistics = GatewayStatistics()
        statistics.models["river"] = model
        return statistics
    }

    @Test func comparesWithTheOldestSampleOfTheWindow() {
        var window = StatisticsWindow()
        let start = Instant(nanoseconds: 50_000_000_000)
        let first = window.add(self.statistics(requests: 10, milliseconds: 1), now: start)
        #expect(first.earlier == nil)
        for second in 1...5 {
            let now = start + .seconds(second)
            let view = window.add(self.statistics(requests: 20, milliseconds: 1), now: now)
            #expect(view.seconds == Double(second))
            #expect(view.earlier?.models["river"]?.arrivals == 10)
        }
        let late = window.add(
            self.statistics(requests: 30, milliseconds: 1),
            now: start + .seconds(12)
        )
        #expect(late.seconds == 10, "samples from before the window are forgotten")
        #expect(late.earlier?.models["river"]?.arrivals == 20)
        let afterAPause = window.add(
            self.statistics(requests: 40, milliseconds: 1),
            now: start + .seconds(100)
        )
        #expect(afterAPause.earlier == nil)
    }

    @Test func keepsFewSamplesHoweverManyAsk() {
        var window = StatisticsWindow()
        var now = Instant(nanoseconds: 1)
        for _ in 0..<1_000 {
            let view = window.add(GatewayStatistics(), now: now)
            #expect(view.seconds <= StatisticsWindow.length.secondsAsDouble)
            now = now + .milliseconds(100)
        }
        #expect(Mirror(reflecting: window).descendant("samples") as? [Any] != nil)
        let kept = (Mirror(reflecting: window).descendant("samples") as? [Any])?.count ?? .max
        #expect(kept <= StatisticsWindow.samplesMax)
    }

    @Test func histogramsBegunAnewCountFromThere() {
        var old = LatencyHistogram()
        for _ in 0..<10 { old.record(nanoseconds: 1_000) }
        var new = LatencyHistogram()
        new.record(nanoseconds: 5_000)
        #expect(new.recent(since: old).count == 1)
        #expect(new.recent(since: nil).count == 1)
        var more = old
        more.record(nanoseconds: 5_000)
        #expect(more.recent(since: old).count == 1)
    }

    @Test func aFirstQuestionHasNoRates() throws {
        let fixture = try AdminFixture(models: Documents.river)
        try fixture.serve(replicas: 2)
        for _ in 0..<4 { #expect(try fixture.complete(model: "river").status == 200) }
        let answer = try JSONValue(fixture.get("/api/v1/statistics").body)
        #expect(answer["windowSeconds"] == .null)
        let model = answer["models"][0]
        #expect(model["requestsPerSecond"] == .null)
        #expect(model["variants"][0]["requests"] == .number(3))
        #expect(model["variants"][0]["errors"] == .number(0))
        guard let median = model["variants"][0]["duration"]["p50"].number else {
            Issue.record("no median")
            return
        }
        #expect(median > 0 && median < 5)
        let later = try JSONValue(fixture.get("/api/v1/statistics").body)
        #expect(later["models"][0]["requestsPerSecond"] == .number(0))
    }
}
