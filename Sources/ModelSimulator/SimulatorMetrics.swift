import Core

/// Why a generation ended, as vLLM names it.
enum FinishReason: String, CaseIterable, Hashable {
    case stop
    case length
    case abort
}

/// A histogram with fixed bounds, as Prometheus wants it.
struct BoundedHistogram {
    let bounds: [Double]
    private(set) var counts: [UInt64]
    private(set) var sum = 0.0

    init(bounds: [Double]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds out of order")
        self.bounds = bounds
        self.counts = Array(repeating: 0, count: bounds.count + 1)
    }

    mutating func record(_ value: Double) {
        self.counts[self.bounds.firstIndex { value <= $0 } ?? self.bounds.count] += 1
        self.sum += value
    }

    var count: UInt64 { self.counts.reduce(0, +) }
}

/// What the simulator counted, and its text for Prometheus under vLLM's names.
struct SimulatorMetrics {
    var requests: UInt64 = 0
    var failed: UInt64 = 0
    var faults: UInt64 = 0
    var cancelled: UInt64 = 0
    var inferences: UInt64 = 0
    var promptTokens: UInt64 = 0
    var generationTokens: UInt64 = 0
    var finished: [FinishReason: UInt64] = [:]
    var timeToFirstToken = BoundedHistogram(bounds: [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
        40,
        80, 160, 640, 2_560,
    ])
    var interTokenLatency = BoundedHistogram(bounds: [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
        80,
    ])
    var endToEndLatency = BoundedHistogram(bounds: Self.requestBounds)
    var queueTime = BoundedHistogram(bounds: Self.requestBounds)

    private static let requestBounds = [
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1_920,
        7_680,
    ]

    func write(
        to buffer: ByteBuffer,
        engine: BatchingEngine,
        station: ServiceStation,
        model: String
    ) {
        let text = MetricsText(buffer: buffer, model: model)
        text.gauge("vllm:num_requests_running", Double(engine.runningCount + station.runningCount))
        text.gauge("vllm:num_requests_waiting", Double(engine.waitingCount + station.waitingCount))
        text.gauge("vllm:kv_cache_usage_perc", engine.cacheUse)
        text.counter("vllm:num_preemptions_total", engine.totals.preemptions)
        text.counter("vllm:prompt_tokens_total", self.promptTokens)
        text.counter("vllm:generation_tokens_total", self.generationTokens)
        text.counters(
            "vllm:request_success_total",
            label: "finished_reason",
            FinishReason.allCases.map { ($0.rawValue, self.finished[$0] ?? 0) }
        )
        text.histogram("vllm:time_to_first_token_seconds", self.timeToFirstToken)
        text.histogram("vllm:inter_token_latency_seconds", self.interTokenLatency)
        text.histogram("vllm:e2e_request_latency_seconds", self.endToEndLatency)
        text.histogram("vllm:request_queue_time_seconds", self.queueTime)
        text.info(
            "vllm:cache_config_info",
            [
                ("block_size", "\(engine.model.blockTokens)"),
                ("num_gpu_blocks", "\(engine.model.blocks)"),
            ]
        )
        text.counter("weir_simulator_requests_total", self.requests)
        text.counter("weir_simulator_inferences_total", self.inferences)
        text.counter("weir_simulator_failed_total", self.failed)
        text.counter("weir_simulator_faults_total", self.faults)
        text.counter("weir_simulator_cancelled_total", self.cancelled)
    }
}

/// Writes the Prometheus text format, with the model's name on every sample.
private struct MetricsText {
    let buffer: ByteBuffer
    let label: String

    init(buffer: ByteBuffer, model: String) {
        self.buffer = buffer
        self.label = "model_name=\"\(Self.escape(model))\",engine=\"0\""
    }

    func gauge(_ name: StaticString, _ value: Double) {
        self.type(name, "gauge")
        self.buffer.append("\(name){\(self.label)} \(value)\n")
    }

    func counter(_ name: StaticString, _ value: UInt64) {
        self.type(name, "counter")
        self.buffer.append("\(name){\(self.label)} \(value)\n")
    }

    func counters(_ name: StaticString, label: StaticString, _ values: [(String, UInt64)]) {
        self.type(name, "counter")
        for (value, count) in values {
            self.buffer.append("\(name){\(self.label),\(label)=\"\(value)\"} \(count)\n")
        }
    }

    func info(_ name: StaticString, _ labels: [(String, String)]) {
        self.type(name, "gauge")
        let more = labels.map { ",\($0)=\"\(Self.escape($1))\"" }.joined()
        self.buffer.append("\(name){\(self.label)\(more)} 1\n")
    }

    func histogram(_ name: StaticString, _ histogram: BoundedHistogram) {
        self.type(name, "histogram")
        var total: UInt64 = 0
        for (bound, count) in zip(histogram.bounds, histogram.counts) {
            total += count
            self.buffer.append("\(name)_bucket{\(self.label),le=\"\(bound)\"} \(total)\n")
        }
        self.buffer.append("\(name)_bucket{\(self.label),le=\"+Inf\"} \(histogram.count)\n")
        self.buffer.append("\(name)_sum{\(self.label)} \(histogram.sum)\n")
        self.buffer.append("\(name)_count{\(self.label)} \(histogram.count)\n")
    }

    private func type(_ name: StaticString, _ type: StaticString) {
        self.buffer.append("# TYPE \(name) \(type)\n")
    }

    private static func escape(_ value: String) -> String {
        var result = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
