import ArgumentParser
import Core
import EventLoop
import Glibc
import ModelSimulator

/// `weir model-simulator`: runs a pretend model server until SIGINT or SIGTERM.
struct ModelSimulatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model-simulator",
        abstract: "A pretend model server with the timing of a real one.",
        discussion: """
            Serves OpenAI's chat, completions, responses and embeddings APIs (with and without \
            streaming) and the Open Inference Protocol, with vLLM's metrics under /metrics. Time \
            passes as in a continuously batching engine: prefill by prompt tokens, decoding by \
            batch size, a bounded KV cache. Faults can be set here and, while it runs, at \
            /simulator/faults.

            Example: two replicas of one model, the second one slower
              weir model-simulator --port 9001 --model llama &
              weir model-simulator --port 9002 --model llama --slowdown 1.3 &

            Example: watch an answer come token by token
              curl -N localhost:9001/v1/completions \\
                -d '{"model": "llama", "stream": true, "prompt": "hi"}'

            Example: make a running one hang on a tenth of its requests
              curl localhost:9001/simulator/faults -d '{"hangRate": 0.1}'
            """
    )

    @Option(help: "Port to listen on; 0 lets the system choose and prints it.")
    var port: UInt16 = 8000
    @Option(help: "Address to listen on.")
    var host = "127.0.0.1"
    @Option(name: .customLong("model"), help: "Model name to serve; may be repeated.")
    var models: [String] = []
    @Option(help: "Write the address listened on to this file, as JSON.")
    var portsFile: String?
    @Option(help: "Name of this replica in x-simulator-replica (default: its port).")
    var replica: String?
    @Option(help: "Seed of everything random.")
    var seed: UInt64 = 1
    @OptionGroup(title: "Text generation") var engine: EngineFlags
    @OptionGroup(title: "Open Inference") var station: StationFlags
    @OptionGroup(title: "Faults") var faults: FaultFlags
    @OptionGroup(title: "Benchmarks") var benchmark: BenchmarkFlags
    @Option(help: "Time for requests at hand after SIGINT or SIGTERM.")
    var grace = TimeArgument(.seconds(30))

    func validate() throws {
        let problems = try self.options().problems
        if !problems.isEmpty { throw ValidationError(problems.joined(separator: "; ")) }
    }

    func run() throws {
        let options = try self.options()
        let signals = TerminationSignals()
        let process: ModelSimulatorProcess
        do throws(SystemError) {
            process = try ModelSimulatorProcess(options: options)
        } catch {
            Output.error("\(error): choose another --port or --host")
            throw ExitCode.failure
        }
        if let portsFile = self.portsFile {
            try PortsFile.write([("http", "\(process.address)")], to: portsFile)
        }
        print("model simulator listening on http://\(process.address)")
        fflush(nil)
        signals.waitForFirst()
        process.stop(within: self.grace.duration)
        process.wait()
    }

    private func options() throws -> ModelSimulatorOptions {
        guard let address = SocketAddress(host: self.host, port: self.port) else {
            throw ValidationError("--host must be a numeric address or localhost, not \(self.host)")
        }
        var options = ModelSimulatorOptions(address: address)
        if !self.models.isEmpty { options.models = self.models }
        options.replica = self.replica
        options.seed = self.seed
        self.engine.apply(to: &options)
        self.station.apply(to: &options)
        self.faults.apply(to: &options)
        self.benchmark.apply(to: &options)
        return options
    }
}

/// The flags of the batching engine.
struct EngineFlags: ParsableArguments {
    @Option(help: "Prompt tokens read per second.") var prefillRate = 20_000.0
    @Option(help: "Time of a decoding step whatever the batch.")
    var stepTime = TimeArgument(.milliseconds(8))
    @Option(help: "What each sequence adds to a step.")
    var stepTimePerSequence = TimeArgument(.microseconds(100))
    @Option(help: "Sequences in one batch at most.") var batch = 64
    @Option(help: "Tokens computed in one step at most.") var stepTokens = 2_048
    @Option(help: "Tokens that fit into the KV cache.") var kvTokens = 131_072
    @Option(help: "Requests that may wait; the next one is answered 503.") var queue = 1_024
    @Option(help: "Log-normal spread of step times (sigma).") var jitter = 0.0
    @Option(help: "Tokens of an answer that nothing limits (median).") var outputTokens = 128
    @Option(help: "Log-normal spread of answer lengths (sigma).") var outputSpread = 0.0
    @Option(help: "Time until the model is loaded; readiness says 503 before.")
    var coldStart = TimeArgument(.zero)

    func apply(to options: inout ModelSimulatorOptions) {
        options.batching.prefillTokensPerSecond = self.prefillRate
        options.batching.stepBase = self.stepTime.duration
        options.batching.stepPerSequence = self.stepTimePerSequence.duration
        options.batching.batchMax = self.batch
        options.batching.stepTokensMax = self.stepTokens
        options.batching.blocks = self.kvTokens / options.batching.blockTokens
        options.batching.waitingMax = self.queue
        options.batching.jitter = self.jitter
        options.outputTokens = self.outputTokens
        options.outputTokensSpread = self.outputSpread
        options.coldStart = self.coldStart.duration
    }
}

/// The flags of Open Inference requests.
struct StationFlags: ParsableArguments {
    @Option(help: "Time one request takes (median).") var serviceTime = TimeArgument(.zero)
    @Option(help: "Log-normal spread of it (sigma); 0 is exact.") var serviceSpread = 0.0
    @Option(help: "Requests served at a time.") var servers = 1

    func apply(to options: inout ModelSimulatorOptions) {
        options.serviceTime =
            self.serviceSpread == 0
            ? .fixed(self.serviceTime.duration)
            : .logNormal(median: self.serviceTime.duration, sigma: self.serviceSpread)
        options.servers = self.servers
    }

    func validate() throws {
        if !(0...3).contains(self.serviceSpread) {
            throw ValidationError("--service-spread must be 0 to 3, not \(self.serviceSpread)")
        }
    }
}

/// The flags of the fault plan.
struct FaultFlags: ParsableArguments {
    @Option(help: "Share of requests answered with an error, 0 to 1.") var errorRate = 0.0
    @Option(help: "Status of those errors.") var errorStatus = 500
    @Option(help: "Share of requests never answered.") var hangRate = 0.0
    @Option(help: "Share of requests whose connection is reset.") var resetRate = 0.0
    @Option(help: "Share of answers cut off in the middle.") var truncateRate = 0.0
    @Option(help: "Share of answers that are not HTTP.") var garbageRate = 0.0
    @Option(help: "Time added before every answer.") var extraLatency = TimeArgument(.zero)
    @Option(help: "Factor on all model times.") var slowdown = 1.0
    @Option(help: "How to crash: exit or abort.") var crash: FaultPlan.Crash?
    @Option(help: "Requests taken before the crash.") var crashAfter = 0

    func apply(to options: inout ModelSimulatorOptions) {
        options.faults.errorRate = self.errorRate
        options.faults.errorStatus = self.errorStatus
        options.faults.hangRate = self.hangRate
        options.faults.resetRate = self.resetRate
        options.faults.truncateRate = self.truncateRate
        options.faults.garbageRate = self.garbageRate
        options.faults.extraLatency = self.extraLatency.duration
        options.faults.slowdown = self.slowdown
        options.faults.crash = self.crash ?? .none
        options.faults.crashAfterRequests = self.crashAfter
    }
}

/// The flags of a backend for benchmarks.
struct BenchmarkFlags: ParsableArguments {
    @Flag(help: "Answer every POST at once, without reading it.") var instant = false
    @Option(help: "Bytes of text in such an answer.") var responseSize = 256
    @Option(help: "Threads for such answers.") var threads = 1

    func apply(to options: inout ModelSimulatorOptions) {
        options.instant = self.instant
        options.responseBytes = self.responseSize
        options.threads = self.threads
    }
}

extension FaultPlan.Crash: ExpressibleByArgument {}

/// A time span on the command line: `250ms`, `1.5s`, `2m`, `100us`, or 0.
struct TimeArgument: ExpressibleByArgument, CustomStringConvertible {
    let duration: Duration

    init(_ duration: Duration) {
        self.duration = duration
    }

    init?(argument: String) {
        if argument == "0" {
            self.duration = .zero
            return
        }
        let units: [(String, Double)] = [
            ("us", 1e-6), ("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3_600),
        ]
        for (suffix, seconds) in units where argument.hasSuffix(suffix) {
            guard let value = Double(argument.dropLast(suffix.count)) else { continue }
            let total = value * seconds
            guard total >= 0 && total <= 86_400 * 365 else { return nil }
            self.duration = .nanoseconds(Int64((total * 1e9).rounded()))
            return
        }
        return nil
    }

    var description: String {
        let nanoseconds = self.duration.nanosecondsClamped
        if nanoseconds % 1_000_000_000 == 0 { return "\(nanoseconds / 1_000_000_000)s" }
        if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
        return "\(nanoseconds / 1_000)us"
    }

    var defaultValueDescription: String { self.description }
}

/// SIGINT and SIGTERM, waited for instead of being killed by. Make it before any thread.
private struct TerminationSignals {
    private let set: sigset_t

    init() {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &set, nil)
        self.set = set
    }

    /// Returns after the first one; the second one ends the process at once.
    func waitForFirst() {
        var set = self.set
        var number: Int32 = 0
        sigwait(&set, &number)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }
}
