import Core
import EventLoop
import HTTPService

// Design note
//
// A pretend model server: the OpenAI and Open Inference APIs over a model of a GPU's time instead
// of a GPU. Clients, gateways and autoscalers cannot tell it from the real thing by its wire
// format, its metrics or its timing under load; the text it generates is nonsense, but the same for
// the same prompt.
//
//   Engine/            what takes time, as values: BatchingEngine, ServiceStation, FaultPlan (pure)
//   Simulator          one loop's state: engine, jobs, faults, counters; plays the engine in real
//   time Simulator+OpenAI   /v1/…: reads requests, starts jobs
//   Simulator+OpenInference   /v2/…
//   Simulator+Control  health, metrics, faults, raw answers
//   OpenAI…, Infer…    reading requests and writing answers
//
// A client that goes away cancels its sequence: the engine frees its memory at once, and
// `weir_simulator_cancelled_total` counts it. Everything runs on one loop; `--instant` may use
// several, each with its own state, because it has no model to share.
//
// What it does not do: tool calls, images, log-probabilities, several choices per request.

/// What a pretend model server is like. Every field has a default.
package struct ModelSimulatorOptions: Sendable {
    /// Where to listen; port 0 lets the kernel choose.
    package var address: SocketAddress
    /// Names it serves, the first one as its own in metrics. At least one.
    package var models: [String] = ["simulated-model"]
    /// Names this replica in `x-simulator-replica`; the port if nil.
    package var replica: String?
    /// How text generation and embeddings take time.
    package var batching = BatchingModel()
    /// How Open Inference requests take time.
    package var serviceTime = ServiceTime.fixed(.zero)
    /// Open Inference requests served at a time, 1 to 65536.
    package var servers = 1
    /// Open Inference requests that may wait, 0 to 1 000 000.
    package var serviceWaitingMax = 1_024
    /// Tokens that a generation has by itself before it stops, 1 to 1 000 000: the median.
    package var outputTokens = 128
    /// Sigma of the log-normal spread around it, 0 to 3; 0 is exact.
    package var outputTokensSpread = 0.0
    /// Numbers in an embedding unless the request says otherwise, 1 to `embeddingSizeMax`.
    package var embeddingSize = 64
    /// From the start until it is ready: readiness and inference say 503 until then.
    package var coldStart = Duration.zero
    package var faults = FaultPlan()
    /// Makes jitter, spread and faults repeatable.
    package var seed: UInt64 = 1
    /// Answer every POST at once with a fixed answer, without reading it: a backend for benchmarks.
    package var instant = false
    /// Bytes of that answer's text, 0 to `responseBytesMax`.
    package var responseBytes = 256
    /// Loops that share the address, 1 to 64; more than 1 needs `instant`.
    package var threads = 1
    package var server = HTTPServerOptions()

    package static let embeddingSizeMax = 4_096
    package static let responseBytesMax = 16 << 20

    package init(address: SocketAddress) {
        self.address = address
    }

    /// What is wrong, in words for people; empty where it can be used.
    package var problems: [String] {
        var found = self.batching.problems + self.faults.problems
        func require(_ holds: Bool, _ message: String) {
            if !holds { found.append(message) }
        }
        require(!self.models.isEmpty, "a model name is needed")
        require(self.models.allSatisfy { !$0.isEmpty }, "a model name must not be empty")
        require((1...65_536).contains(self.servers), "servers must be 1 to 65536")
        require(
            (0...1_000_000).contains(self.serviceWaitingMax),
            "the queue for Open Inference must be 0 to 1000000"
        )
        require((1...1_000_000).contains(self.outputTokens), "output tokens must be 1 to 1000000")
        require((0...3).contains(self.outputTokensSpread), "the output spread must be 0 to 3")
        require(
            (1...Self.embeddingSizeMax).contains(self.embeddingSize),
            "the embedding size must be 1 to \(Self.embeddingSizeMax)"
        )
        require(self.coldStart >= .zero, "the cold start must not be negative")
        require(
            (0...Self.responseBytesMax).contains(self.responseBytes),
            "the response size must be 0 to \(Self.responseBytesMax)"
        )
        require((1...64).contains(self.threads), "threads must be 1 to 64")
        require(self.threads == 1 || self.instant, "several threads need instant answers")
        return found
    }
}
