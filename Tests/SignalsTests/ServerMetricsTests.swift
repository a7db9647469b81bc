import Core
import Foundation
import Testing

@testable import Signals

private func read(
    _ text: String,
    format: ExpositionParser.Format = .text,
    oldest: Double? = nil
) throws -> ServerMetrics {
    let bytes = Array(text.utf8)
    return try ServerMetrics.read(bytes.span.bytes, format: format, oldestTimestamp: oldest)
}

/// Expositions as the servers write them, cut to what matters and to some of what does not.
enum Expositions {
    static let vLLM = """
        # HELP vllm:num_requests_running Number of requests in model execution batches.
        # TYPE vllm:num_requests_running gauge
        vllm:num_requests_running{engine="0",model_name="m"} 8.0
        vllm:num_requests_running{engine="1",model_name="m"} 4.0
        vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
        vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
        vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3.0
        vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.75
        vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
        vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
        vllm:prefix_cache_hits_total{engine="0",model_name="m"} 250.0
        vllm:prompt_tokens_total{engine="0",model_name="m"} 12345.0
        vllm:prompt_tokens_created{engine="0",model_name="m"} 1.76e+09
        vllm:generation_tokens_total{engine="0",model_name="m"} 678.0
        vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 5.0
        vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="m"} 9.0
        vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 10.0
        vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 10.0
        vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 4.5
        vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2.0
        vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 2.0
        vllm:e2e_request_latency_seconds_sum{engine="0",model_name="m"} 7.0

        """
    static let oldVLLM = """
        vllm:num_requests_running{model_name="m"} 2.0
        vllm:num_requests_swapped{model_name="m"} 1.0
        vllm:num_requests_waiting{model_name="m"} 5.0
        vllm:gpu_cache_usage_perc{model_name="m"} 0.9
        vllm:cpu_cache_usage_perc{model_name="m"} 0.1
        vllm:gpu_prefix_cache_hit_rate{model_name="m"} -1.0
        vllm:prompt_tokens_total{model_name="m"} 10.0

        """
    static let sgLang = """
        sglang:prompt_tokens_total{model_name="m"} 8.128902e+06
        sglang:generation_tokens_total{model_name="m"} 7.557572e+06
        sglang:cached_tokens_total{model_name="m"} 4064451.0
        sglang:token_usage{model_name="m",tp_rank="0"} 0.28
        sglang:token_usage{model_name="m",tp_rank="1"} 0.28
        sglang:cache_hit_rate{model_name="m",tp_rank="0"} 0.0075
        sglang:num_running_reqs{model_name="m",tp_rank="0",pp_rank="0"} 162
        sglang:num_running_reqs{model_name="m",tp_rank="1",pp_rank="0"} 162
        sglang:num_queue_reqs{model_name="m",tp_rank="0"} 2826

        """
    static let tgi = """
        # TYPE tgi_queue_size gauge
        tgi_queue_size 7
        tgi_batch_current_size 4
        tgi_batch_current_max_tokens 4096
        tgi_request_count 44
        tgi_request_input_length_sum 1000
        tgi_request_generated_tokens_sum 8123
        tgi_request_generated_tokens_count 44
        tgi_request_duration_bucket{le="0.5"} 40
        tgi_request_duration_bucket{le="+Inf"} 44
        tgi_request_duration_sum 12.5
        tgi_request_duration_count 44

        """
    static let tensorRT = """
        trtllm_num_requests_running{model_name="m",engine_type="trtllm"} 6.0
        trtllm_num_requests_waiting{model_name="m",engine_type="trtllm"} 1.0
        trtllm_kv_cache_utilization{model_name="m",engine_type="trtllm"} 0.62
        trtllm_kv_cache_hit_rate{model_name="m",engine_type="trtllm"} 0.4
        trtllm_prompt_tokens_total{model_name="m",engine_type="trtllm"} 100.0
        trtllm_prompt_cached_tokens_total{model_name="m",engine_type="trtllm"} 40.0
        trtllm_generation_tokens_total{model_name="m",engine_type="trtllm"} 55.0

        """
    static let triton = """
        nv_inference_request_success{model="a",version="1"} 10
        nv_inference_request_success{model="b",version="1"} 20
        nv_inference_pending_request_count{model="a",version="1"} 2
        nv_inference_pending_request_count{model="b",version="1"} 5
        nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
        nv_gpu_utilization{gpu_uuid="GPU-2"} 0.5
        nv_inference_first_response_histogram_ms_bucket{model="a",version="1",le="100"} 3
        nv_inference_first_response_histogram_ms_bucket{model="a",version="1",le="+Inf"} 4
        nv_inference_first_response_histogram_ms_sum{model="a",version="1"} 500
        nv_inference_first_response_histogram_ms_count{model="a",version="1"} 4

        """
    static let tritonTensorRT =
        triton + """
            nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
            nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 8
            nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="t",version="1"} 10
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="t",version="1"} 40

            """
    static let mlServer = """
        model_infer_request_success_total{model="echo",version="v1"} 4.0
        model_infer_request_failure_total{model="echo",version="v1"} 0.0
        parallel_request_queue_bucket{le="1.0"} 3.0
        rest_server_requests_in_progress{app_name="mlserver",method="POST"} 2.0
        rest_server_requests_in_progress{app_name="mlserver",method="GET"} 1.0
        grpc_server_started_total{grpc_method="ModelInfer",grpc_type="UNARY"} 10.0
        grpc_server_started_total{grpc_method="ServerReady",grpc_type="UNARY"} 99.0
        grpc_server_handled_total{code="OK",grpc_method="ModelInfer",grpc_type="UNARY"} 6.0
        grpc_server_handled_total{code="INTERNAL",grpc_method="ModelInfer"} 1.0
        rest_server_request_duration_seconds_count{path="/v2/models/{model_name}/infer"} 4.0
        rest_server_request_duration_seconds_count{path="/v2/health/ready"} 900.0
        rest_server_request_duration_seconds_sum{path="/v2/models/{model_name}/infer"} 0.5

        """
    /// MLServer 1.7.1 after one request, but for what every Python process tells.
    static let realMLServer = """
        # TYPE model_infer_request_success_total counter
        model_infer_request_success_total{model="echo",version="None"} 1.0
        # TYPE model_infer_request_success_created gauge
        model_infer_request_success_created{model="echo",version="None"} 1.7952382165978303e+09
        # TYPE model_infer_request_duration summary
        model_infer_request_duration_count{model="echo",version="None"} 1.0
        # TYPE grpc_server_handled_total counter
        # TYPE grpc_server_started_total counter
        # TYPE rest_server_requests_in_progress gauge
        rest_server_requests_in_progress{app_name="mlserver",method="POST"} 0.0
        # TYPE rest_server_request_duration_seconds histogram
        rest_server_request_duration_seconds_bucket{app_name="mlserver",le="0.005",method="POST",path="/v2/models/{model_name}/infer",status_code="200"} 0.0
        rest_server_request_duration_seconds_bucket{app_name="mlserver",le="0.01",method="POST",path="/v2/models/{model_name}/infer",status_code="200"} 1.0
        rest_server_request_duration_seconds_bucket{app_name="mlserver",le="+Inf",method="POST",path="/v2/models/{model_name}/infer",status_code="200"} 1.0
        rest_server_request_duration_seconds_count{app_name="mlserver",method="POST",path="/v2/models/{model_name}/infer",status_code="200"} 1.0
        rest_server_request_duration_seconds_sum{app_name="mlserver",method="POST",path="/v2/models/{model_name}/infer",status_code="200"} 0.006972903998757829

        """
    static let llamaCpp = """
        # HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
        # TYPE llamacpp:prompt_tokens_total counter
        llamacpp:prompt_tokens_total 96641
        llamacpp:tokens_predicted_total 23210
        llamacpp:requests_processing 1
        llamacpp:requests_deferred 0

        """
}

@Suite struct ServerMetricsTests {
    @Test func readsVLLM() throws {
        let metrics = try read(Expositions.vLLM)
        #expect(metrics.server == .vLLM)
        #expect(metrics.running == 12)
        #expect(metrics.waiting == 3)
        #expect(metrics.kvCacheUse == 0.75)
        #expect(metrics.promptTokensTotal == 12_345)
        #expect(metrics.generatedTokensTotal == 678)
        #expect(metrics.prefixQueriesTotal == 1_000)
        #expect(metrics.prefixHitsTotal == 250)
        #expect(metrics.timeToFirstToken?.buckets.map(\.count) == [5, 9, 10])
        #expect(metrics.timeToFirstToken?.sum == 4.5)
        #expect(metrics.latency?.mean == 3.5)
        #expect(metrics.gpuUse == nil)
    }

    /// The first engine's names; a rate of -1 says that there is none.
    @Test func readsOldVLLM() throws {
        let metrics = try read(Expositions.oldVLLM)
        #expect(metrics.running == 2)
        #expect(metrics.waiting == 6)
        #expect(metrics.kvCacheUse == 0.9)
        #expect(metrics.prefixHitRate == nil)
        #expect(metrics.generatedTokensTotal == nil)
        #expect(metrics.timeToFirstToken == nil)
    }

    /// Versions in between have both names: the new one counts, once.
    @Test func newNamesWinOverOldOnes() throws {
        let both = [
            "vllm:gpu_cache_usage_perc 0.9\n", "vllm:kv_cache_usage_perc 0.4\n",
            "vllm:gpu_prefix_cache_hits_total 7\n", "vllm:prefix_cache_hits_total 5\n",
        ]
        for text in [both.joined(), both.reversed().joined()] {
            let metrics = try read(text)
            #expect(metrics.kvCacheUse == 0.4)
            #expect(metrics.prefixHitsTotal == 5)
        }
    }

    @Test(arguments: ["ray_vllm_", "ray_vllm:", "vllm_", "vllm:"])
    func collectorsMayRenameColons(prefix: String) throws {
        let metrics = try read("\(prefix)num_requests_running 3\n")
        #expect(metrics.server == .vLLM)
        #expect(metrics.running == 3)
    }

    @Test func readsSGLang() throws {
        let metrics = try read(Expositions.sgLang)
        #expect(metrics.server == .sgLang)
        #expect(metrics.running == 162, "ranks of one model work on the same requests")
        #expect(metrics.waiting == 2_826)
        #expect(metrics.kvCacheUse == 0.28)
        #expect(metrics.promptTokensTotal == 8_128_902)
        #expect(metrics.prefixQueriesTotal == 8_128_902)
        #expect(metrics.prefixHitRate == 0.0075)
    }

    @Test func readsTGI() throws {
        let metrics = try read(Expositions.tgi)
        #expect(metrics.server == .tgi)
        #expect(metrics.running == 4)
        #expect(metrics.waiting == 7)
        #expect(metrics.kvCacheUse == nil)
        #expect(metrics.promptTokensTotal == 1_000)
        #expect(metrics.generatedTokensTotal == 8_123)
        #expect(metrics.latency?.count == 44)
    }

    @Test func readsTensorRT() throws {
        let metrics = try read(Expositions.tensorRT)
        #expect(metrics.server == .tensorRT)
        #expect(metrics.running == 6)
        #expect(metrics.waiting == 1)
        #expect(metrics.kvCacheUse == 0.62)
        #expect(metrics.prefixHitRate == 0.4)
        #expect(metrics.prefixQueriesTotal == 100)
    }

    @Test func readsTriton() throws {
        let metrics = try read(Expositions.triton)
        #expect(metrics.server == .triton)
        #expect(metrics.waiting == 7)
        #expect(metrics.running == nil)
        #expect(metrics.gpuUse == 0.5)
        #expect(metrics.timeToFirstToken?.buckets.map(\.bound) == [0.1, .infinity])
        #expect(metrics.timeToFirstToken?.mean == 0.125)
    }

    /// The backend's own queue counts, not that of all models, which has the same requests.
    @Test func readsTritonWithTensorRT() throws {
        let metrics = try read(Expositions.tritonTensorRT)
        #expect(metrics.waiting == 3)
        #expect(metrics.running == 8)
        #expect(metrics.kvCacheUse == 0.25)
        let fraction = #"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.3"#
        #expect(try read(Expositions.tritonTensorRT + fraction + "\n").kvCacheUse == 0.3)
    }

    @Test func readsMLServer() throws {
        let metrics = try read(Expositions.mlServer)
        #expect(metrics.server == .mlServer)
        #expect(metrics.running == 6)
        #expect(metrics.waiting == nil)
        #expect(metrics.latency?.count == 4)
    }

    @Test func readsARealMLServer() throws {
        let metrics = try read(Expositions.realMLServer)
        #expect(metrics.server == .mlServer)
        #expect(metrics.running == 0)
        #expect(metrics.waiting == nil)
        #expect(metrics.kvCacheUse == nil)
        #expect(metrics.latency?.count == 1)
        let quantile = try #require(metrics.latency?.quantile(0.5))
        #expect(abs(quantile - 0.0075) < 1e-12)
    }

    @Test func readsLlamaCpp() throws {
        let metrics = try read(Expositions.llamaCpp)
        #expect(metrics.server == .llamaCpp)
        #expect(metrics.running == 1)
        #expect(metrics.waiting == 0)
        #expect(metrics.kvCacheUse == nil, "versions since the cache is unified do not say")
        #expect(try read("llamacpp:kv_cache_usage_ratio 0.5\n").kvCacheUse == 0.5)
    }

    /// Each line of the table is found by its name and belongs to its server.
    @Test func everyRuleIsReached() throws {
        #expect(MetricRule.all.count > 80)
        for rule in MetricRule.all {
            let label = rule.label.map { "{\($0.name)=\"\($0.value)\",le=\"1\"}" } ?? "{le=\"1\"}"
            let metrics = try read("\(rule.name)\(label) 1\n")
            #expect(metrics.server == rule.server, "\(rule.name)")
            let empty = ServerMetrics(server: rule.server)
            let saysNothingAlone: Set<Signal> = [
                .presence, .handled, .firstTokenSum, .latencySum, .kvBlocksUsed, .kvBlocksMax,
            ]
            #expect((metrics == empty) == saysNothingAlone.contains(rule.signal), "\(rule.name)")
        }
    }

    /// Whoever wonders where a number comes from looks there.
    @Test func theReferenceNamesEveryMetric() throws {
        let page = URL(filePath: #filePath)
            .appending(path: "../../../docs/reference/signals.md").standardizedFileURL
        let text = try String(contentsOf: page, encoding: .utf8)
            .replacingOccurrences(of: ":", with: "_")
        for rule in MetricRule.all where !rule.name.hasPrefix("ray_") {
            var name = rule.name
            for suffix in ["_bucket", "_sum", "_count"] where name.hasSuffix(suffix) {
                // Histograms are named as a whole, but for those of which the sum alone counts.
                if !text.contains("`\(name)") { name.removeLast(suffix.count) }
            }
            let isNamed = text.contains("`\(name)")
            #expect(isNamed, "the reference does not name \(rule.name)")
        }
    }

    /// A reading that cannot be is unknown, and hides no other.
    @Test(arguments: ["NaN", "-1", "+Inf", "-Inf", "2"])
    func impossibleValuesAreUnknown(value: String) throws {
        let metrics = try read(
            "vllm:kv_cache_usage_perc \(value)\nvllm:num_requests_running 1\n"
        )
        #expect(metrics.kvCacheUse == nil)
        #expect(metrics.running == 1)
        if value != "2" {
            let other = try read(
                "vllm:num_requests_waiting \(value)\nvllm:num_requests_running 1\n"
            )
            #expect(other.waiting == nil)
        }
    }

    @Test func samplesFromThePastDoNotCount() throws {
        let text = "vllm:num_requests_running 1 1000000\nvllm:num_requests_waiting 2 2000000\n"
        let metrics = try read(text, oldest: 1_500)
        #expect(metrics.running == nil)
        #expect(metrics.waiting == 2)
    }

    @Test func theServerWithMoreMetricsWins() throws {
        #expect(try read(Expositions.vLLM + "tgi_queue_size 1\n").server == .vLLM)
        #expect(try read("tgi_queue_size 1\n" + Expositions.llamaCpp).server == .llamaCpp)
    }

    @Test func saysWhatItReadInstead() {
        #expect(throws: ServerMetrics.ReadError.unknownServer(samples: 2)) {
            try read("process_cpu_seconds_total 1\ngo_goroutines 2\n")
        }
        #expect(throws: ServerMetrics.ReadError.noMetrics(beginning: "[{\"a\": 1}]")) {
            try read("[{\"a\": 1}]")
        }
        #expect(throws: ServerMetrics.ReadError.noMetrics(beginning: "nothing")) { try read("") }
        #expect(throws: ServerMetrics.ReadError.noMetrics(beginning: "a b")) { try read("a\u{1}b") }
        #expect(throws: ServerMetrics.ReadError.truncated) {
            try read("vllm:num_requests_running 1\n", format: .openMetrics)
        }
    }
}
