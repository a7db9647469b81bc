/// The model servers whose metrics are known by name.
package enum ModelServer: String, Sendable, CaseIterable {
    case vLLM
    case sgLang = "SGLang"
    case tgi = "TGI"
    case tensorRT = "TensorRT-LLM"
    case triton = "Triton"
    case mlServer = "MLServer"
    case llamaCpp = "llama.cpp"

    /// Where it has its metrics unless told otherwise.
    package var defaultPath: String { self == .tensorRT ? "/prometheus/metrics" : "/metrics" }

    /// The port beside that of requests; nil where it is the same.
    package var defaultPort: UInt16? {
        switch self {
        case .triton: 8_002
        case .mlServer: 8_082
        case .vLLM, .sgLang, .tgi, .tensorRT, .llamaCpp: nil
        }
    }
}

/// What a metric says.
enum Signal: Int, CaseIterable {
    case running, started, handled, waiting
    case kvCacheUse, kvBlocksUsed, kvBlocksMax
    case promptTokens, generatedTokens
    case prefixQueries, prefixHits, prefixHitRate
    case gpuUse
    case firstTokenBucket, firstTokenSum, firstTokenCount
    case latencyBucket, latencySum, latencyCount
    /// Tells which server it is and nothing else.
    case presence

    /// Where several series say it, their largest is meant: a full cache is not made up for by an
    /// empty one beside it. Everything else adds up.
    var takesLargest: Bool {
        switch self {
        case .kvCacheUse, .prefixHitRate, .gpuUse: true
        default: false
        }
    }
}

/// One metric of one server.
struct MetricRule: Sendable {
    let server: ModelServer
    let signal: Signal
    /// Canonical: `_` in place of `:`.
    let name: String
    /// A label that must have this value, or end in it.
    var label: (name: String, value: String)?
    /// Lower ones win where a server has several names for the same, old and new.
    var rank = 0
    /// Turns the value, or a histogram's bounds, into requests, shares and seconds.
    var scale = 1.0

    /// All rules by the hash of their canonical names.
    static let byHash: [UInt64: [MetricRule]] = {
        var table: [UInt64: [MetricRule]] = [:]
        for rule in Self.all { table[Self.hash(of: rule.name), default: []].append(rule) }
        return table
    }()

    // FNV-1a.
    private static let offsetBasis: UInt64 = 0xCBF2_9CE4_8422_2325
    private static let prime: UInt64 = 0x100_0000_01B3

    static func hash(of name: String) -> UInt64 {
        name.utf8.reduce(self.offsetBasis) { ($0 ^ UInt64($1)) &* self.prime }
    }

    /// Of the canonical form: colons, which some collectors replace, count as underscores.
    static func hash(of bytes: RawSpan, _ range: Range<Int>) -> UInt64 {
        var hash = self.offsetBasis
        for index in range {
            let byte = bytes.byte(at: index)
            let canonical = byte == UInt8(ascii: ":") ? UInt8(ascii: "_") : byte
            hash = (hash ^ UInt64(canonical)) &* self.prime
        }
        return hash
    }

    func isNamed(_ bytes: RawSpan, _ range: Range<Int>) -> Bool {
        guard self.name.utf8.count == range.count else { return false }
        var index = range.lowerBound
        for byte in self.name.utf8 {
            let other = bytes.byte(at: index)
            if byte != other, byte != UInt8(ascii: "_") || other != UInt8(ascii: ":") {
                return false
            }
            index += 1
        }
        return true
    }
}

// MARK: - The table; docs/reference/signals.md shows it

extension MetricRule {
    static let all: [MetricRule] =
        vLLM("vllm_") + vLLM("ray_vllm_") + sgLang + tgi + tensorRT + triton + mlServer + llamaCpp

    /// Versions 0.4 to 0.2x; with another prefix under Ray.
    private static func vLLM(_ prefix: String) -> [MetricRule] {
        let rules = RuleMaker(.vLLM, prefix: prefix)
        return [
            rules.make(.running, "num_requests_running"),
            rules.make(.waiting, "num_requests_waiting"),
            // Of the first engine: out of GPU memory until there is room again.
            rules.make(.waiting, "num_requests_swapped"),
            rules.make(.kvCacheUse, "kv_cache_usage_perc"),
            rules.make(.kvCacheUse, "gpu_cache_usage_perc", rank: 1),
            rules.make(.promptTokens, "prompt_tokens_total"),
            rules.make(.generatedTokens, "generation_tokens_total"),
            rules.make(.prefixQueries, "prefix_cache_queries_total"),
            rules.make(.prefixQueries, "gpu_prefix_cache_queries_total", rank: 1),
            rules.make(.prefixHits, "prefix_cache_hits_total"),
            rules.make(.prefixHits, "gpu_prefix_cache_hits_total", rank: 1),
            rules.make(.prefixHitRate, "gpu_prefix_cache_hit_rate"),
        ] + rules.firstToken("time_to_first_token_seconds")
            + rules.latency("e2e_request_latency_seconds")
    }

    private static let sgLang: [MetricRule] = {
        let rules = RuleMaker(.sgLang, prefix: "sglang_")
        return [
            rules.make(.running, "num_running_reqs"),
            rules.make(.waiting, "num_queue_reqs"),
            rules.make(.kvCacheUse, "token_usage"),
            rules.make(.promptTokens, "prompt_tokens_total"),
            rules.make(.generatedTokens, "generation_tokens_total"),
            rules.make(.prefixHits, "cached_tokens_total"),
            rules.make(.prefixHitRate, "cache_hit_rate"),
        ] + rules.firstToken("time_to_first_token_seconds")
            + rules.latency("e2e_request_latency_seconds")
    }()

    private static let tgi: [MetricRule] = {
        let rules = RuleMaker(.tgi, prefix: "tgi_")
        return [
            rules.make(.running, "batch_current_size"),
            rules.make(.waiting, "queue_size"),
            rules.make(.promptTokens, "request_input_length_sum"),
            rules.make(.generatedTokens, "request_generated_tokens_sum"),
            rules.make(.presence, "request_count"),
        ] + rules.latency("request_duration")
    }()

    /// `trtllm-serve`; its `/metrics` is JSON, these are at `/prometheus/metrics`.
    private static let tensorRT: [MetricRule] = {
        let rules = RuleMaker(.tensorRT, prefix: "trtllm_")
        return [
            rules.make(.running, "num_requests_running"),
            rules.make(.waiting, "num_requests_waiting"),
            rules.make(.kvCacheUse, "kv_cache_utilization"),
            rules.make(.promptTokens, "prompt_tokens_total"),
            rules.make(.generatedTokens, "generation_tokens_total"),
            rules.make(.prefixHits, "prompt_cached_tokens_total"),
            rules.make(.prefixHitRate, "kv_cache_hit_rate"),
            rules.make(.presence, "request_success_total"),
        ] + rules.firstToken("time_to_first_token_seconds")
            + rules.latency("e2e_request_latency_seconds")
    }()

    /// Any backend, and what the TensorRT-LLM backend adds, which says it better.
    private static let triton: [MetricRule] = {
        let rules = RuleMaker(.triton, prefix: "nv_")
        let requests = "trt_llm_request_metrics"
        let blocks = "trt_llm_kv_cache_block_metrics"
        return [
            rules.make(.presence, "inference_request_success"),
            rules.make(.waiting, "inference_pending_request_count", rank: 1),
            rules.make(.waiting, requests, ("request_type", "waiting")),
            rules.make(.running, requests, ("request_type", "scheduled")),
            rules.make(.kvCacheUse, blocks, ("kv_cache_block_type", "fraction")),
            rules.make(.kvBlocksUsed, blocks, ("kv_cache_block_type", "used")),
            rules.make(.kvBlocksMax, blocks, ("kv_cache_block_type", "max")),
            rules.make(.promptTokens, "llm_input_token_len_sum"),
            rules.make(.generatedTokens, "llm_output_token_len_sum"),
            rules.make(.gpuUse, "gpu_utilization"),
        ] + rules.firstToken("inference_first_response_histogram_ms", scale: 1e-3)
    }()

    /// Its queue metrics are histograms of past lengths: how many wait now is not said.
    private static let mlServer: [MetricRule] = {
        let rules = RuleMaker(.mlServer, prefix: "")
        let call = ("grpc_method", "ModelInfer")
        return [
            rules.make(.presence, "model_infer_request_success_total"),
            rules.make(.running, "rest_server_requests_in_progress"),
            rules.make(.started, "grpc_server_started_total", call),
            rules.make(.handled, "grpc_server_handled_total", call),
        ] + rules.latency("rest_server_request_duration_seconds", ("path", "/infer"))
    }()

    private static let llamaCpp: [MetricRule] = {
        let rules = RuleMaker(.llamaCpp, prefix: "llamacpp_")
        return [
            rules.make(.running, "requests_processing"),
            rules.make(.waiting, "requests_deferred"),
            rules.make(.kvCacheUse, "kv_cache_usage_ratio"),
            rules.make(.promptTokens, "prompt_tokens_total"),
            rules.make(.generatedTokens, "tokens_predicted_total"),
        ]
    }()
}

/// Writes down the rules of one server.
private struct RuleMaker {
    typealias Label = (name: String, value: String)

    let server: ModelServer
    let prefix: String

    init(_ server: ModelServer, prefix: String) {
        self.server = server
        self.prefix = prefix
    }

    func make(
        _ signal: Signal,
        _ name: String,
        _ label: Label? = nil,
        rank: Int = 0,
        scale: Double = 1
    ) -> MetricRule {
        MetricRule(
            server: self.server,
            signal: signal,
            name: self.prefix + name,
            label: label,
            rank: rank,
            scale: scale
        )
    }

    func firstToken(_ name: String, scale: Double = 1) -> [MetricRule] {
        [
            self.make(.firstTokenBucket, name + "_bucket", scale: scale),
            self.make(.firstTokenSum, name + "_sum", scale: scale),
            self.make(.firstTokenCount, name + "_count"),
        ]
    }

    func latency(_ name: String, _ label: Label? = nil) -> [MetricRule] {
        [
            self.make(.latencyBucket, name + "_bucket", label),
            self.make(.latencySum, name + "_sum", label),
            self.make(.latencyCount, name + "_count", label),
        ]
    }
}
