import ArgumentParser
import Core
import EventLoop
import Glibc
import LoadTest
import Recorder
import Recordings
import Workload

/// `weir load`: puts a known load on a server and reports how it answered.
struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Put a known load on a server and measure how it answers.",
        discussion: """
            Open loop (--rate, --trace): requests start at times fixed beforehand, whatever the \
            answers do, and latency counts from the scheduled start. When this program itself was \
            late, the run is INVALID and the exit code is 4. Closed loop (--connections): each \
            connection sends its next request when the last one was answered.

            latency  from the scheduled start to the last byte of the answer
            service  from the first byte sent on a connection that stands to the last byte
            ttft     from the scheduled start to the first event that carries output
            itl      each gap between successive events that carry output
            connect  what a request's new connection took, with the handshake of https
            tpot     (last output - first output) / (output tokens - 1), per request
            goodput  successful requests per second that met every objective

            Exit codes: 0 fine, 1 the run was not possible, 2 wrong use, 3 a threshold was \
            missed, 4 the generator lagged.

            Example: chat requests at 20/s, fail when the first token takes too long
              weir load http://localhost:8080 --api chat --model river --rate 20 \\
                --threshold 'p95(ttft)<300ms' --threshold 'errors<1%'

            Example: how much can it take, within objectives?
              weir load http://localhost:8080 --api chat --model river --find-goodput \\
                --objective ttft:200ms,tpot:50ms --duration 10s

            Example: one real hour at ten times its speed, as a page to look at
              weir load http://localhost:8080 --api chat --model river \\
                --trace azure-llm-2023-conversation.csv --trace-speed 10 --report load.html

            Example: what a connection-bound client would see
              weir load http://localhost:8080/health --connections 64 --duration 10s
            """
    )

    @Argument(help: "Where requests go: http[s]://HOST:PORT/PATH. Several take turns.")
    var urls: [String] = []
    @OptionGroup(title: "Load") var load: LoadFlags
    @OptionGroup(title: "Trace") var trace: TraceFlags
    @OptionGroup(title: "Requests") var requests: RequestFlags
    @OptionGroup(title: "Connections") var connecting: ConnectionFlags
    @OptionGroup(title: "Judging") var judging: JudgingFlags
    @OptionGroup(title: "Output") var output: OutputFlags

    func run() throws {
        try self.checkCombination()
        do {
            var plan = try self.plan()
            plan.keepsRecords = self.output.needsRecords
            plan.keepsGaps = self.output.output != nil && self.output.format == .vllm
            let thresholds = try self.judging.thresholds()
            try self.output.checkPlaces()
            let session = LoadSession(
                environment: Output.environment(),
                isQuiet: self.output.quiet,
                standardOutputIsTaken: self.output.usesStandardOutput
            )
            var context = ReportContext(
                plan: plan,
                load: self.load.words(plan),
                requests: self.requests.words(plan),
                thresholds: thresholds
            )
            let summary =
                self.judging.findGoodput
                ? try session.search(&plan, &context, self.judging) : try session.run(plan)
            try self.report(summary, context)
            try self.exit(summary, context)
        } catch let error as LoadError {
            throw RuntimeError(description: error.description)
        } catch let error as WorkloadError {
            throw RuntimeError(description: error.description)
        }
    }

    private func checkCombination() throws {
        let isClosed = self.load.connections != nil
        let given = [self.load.rate != nil, isClosed, self.trace.trace != nil].count { $0 }
        if self.urls.isEmpty { throw ValidationError("a URL to send requests to is needed") }
        if given > 1 {
            throw ValidationError("--rate, --connections and --trace exclude each other")
        }
        if given == 0 && !self.judging.findGoodput {
            throw ValidationError("say how much load: --rate, --connections or --trace")
        }
        if self.judging.findGoodput && (isClosed || self.trace.trace != nil) {
            throw ValidationError("--find-goodput varies the rate: leave out the other load")
        }
        if self.judging.findGoodput && self.judging.objective.isEmpty {
            throw ValidationError("--find-goodput needs --objective, such as ttft:200ms")
        }
    }

    private func plan() throws -> LoadPlan {
        var targets: [TargetURL] = []
        for url in self.urls { targets.append(try TargetURL(url)) }
        let (kind, fields) = try self.requests.kind()
        let pattern = try self.pattern()
        var plan = LoadPlan(targets: targets, kind: kind, pattern: pattern)
        plan.fields = fields
        plan.objectives = try self.judging.objectives()
        self.load.apply(to: &plan)
        try self.connecting.apply(to: &plan)
        if let problem = plan.problems.first { throw ValidationError(problem) }
        return plan
    }

    private func pattern() throws -> LoadPattern {
        if let connections = self.load.connections { return .closed(connections: connections) }
        if let path = self.trace.trace {
            return .trace(try self.trace.read(path, duration: self.load.duration, self.load.seed))
        }
        let seconds = self.load.duration?.duration.secondsAsDouble
        let rate = self.load.rate ?? "1"
        let isOpenEnded = !rate.contains("@")
        let duration = seconds ?? (isOpenEnded ? self.load.defaultSeconds : nil)
        return .rate(
            try RateProfile.parse(rate, duration: duration),
            try self.load.arrivalPattern()
        )
    }

    private func report(_ summary: RunSummary, _ context: ReportContext) throws {
        if let path = self.output.output {
            let buffer = ByteBuffer(capacity: 64 << 10)
            switch self.output.format {
            case .native: JSONReport.write(summary, context, to: buffer)
            case .vllm: VLLMReport.write(summary, context, to: buffer)
            case .aiperf: AIPerfReport.write(summary, context, to: buffer)
            }
            try OutputFlags.write(buffer, to: path)
        }
        if let path = self.output.records {
            let buffer = ByteBuffer(capacity: 64 << 10)
            RecordLines.write(summary, to: buffer)
            try OutputFlags.write(buffer, to: path)
        }
        if let path = self.output.histogram {
            let buffer = ByteBuffer(capacity: 64 << 10)
            buffer.append(summary.statistics.latency.percentileText())
            try OutputFlags.write(buffer, to: path)
        }
        if let path = self.output.report {
            let buffer = ByteBuffer(capacity: 64 << 10)
            HTMLReport.write(summary, context, to: buffer)
            try OutputFlags.write(buffer, to: path)
        }
        if !self.output.usesStandardOutput && !self.output.quiet {
            Output.write(TextReport.text(summary, context), to: STDOUT_FILENO)
        }
        if summary.recordsDropped > 0 {
            Output.error("\(summary.recordsDropped) requests are missing in the records: too many")
        }
    }

    private func exit(_ summary: RunSummary, _ context: ReportContext) throws {
        if context.searchFailed && (summary.invalidity == nil || summary.statistics.isRefused) {
            Output.error(context.searchResult ?? "no rate keeps the objectives")
            throw ExitCode(3)
        }
        if let reason = summary.invalidity {
            Output.error("the run is invalid: \(reason)")
            throw ExitCode(4)
        }
        let missed = context.thresholds.filter { !$0.evaluate(summary).isKept }
        if !missed.isEmpty {
            Output.error("missed: \(missed.map(\.description).joined(separator: ", "))")
            throw ExitCode(3)
        }
        if summary.statistics.total == 0 {
            throw RuntimeError(description: "no request counts: make the run longer")
        }
    }
}

/// When requests start.
struct LoadFlags: ParsableArguments {
    @Option(
        help: "Open loop: requests per second. \(RateProfile.grammar): 10..500, 50@10s,200@30s."
    )
    var rate: String?
    @Option(help: "How arrivals scatter around the rate: constant, poisson or gamma.")
    var arrivals = "poisson"
    @Option(help: "Shape of gamma arrivals: below 1 bursty, 1 as poisson, above 1 smooth.")
    var burstiness: Double?
    @Option(help: "Closed loop: connections that are always busy.")
    var connections: Int?
    @Option(help: "Time that counts; of a trace, the part to replay.")
    var duration: TimeArgument?
    @Option(name: .customLong("requests"), help: "Requests that count at most.")
    var requestsMax: Int?
    @Option(help: "Time before the part that counts.") var warmUp = TimeArgument(.zero)
    @Option(help: "Time after it, at the same load.") var coolDown = TimeArgument(.zero)
    @Option(help: "Threads to send from.") var threads = 1
    @Option(help: "Open loop: connections at most.") var maxConnections = 1_024
    @Option(help: "Time for one request.") var timeout = TimeArgument(.seconds(30))
    @Option(help: "Scheduling error (p99) past which the run is invalid.")
    var maxLag = TimeArgument(.milliseconds(10))
    @Option(help: "Seed of arrivals and prompts.") var seed: UInt64 = 1

    /// Without --duration and --requests.
    var defaultSeconds: Double { 10 }

    func arrivalPattern() throws -> ArrivalPattern {
        if let burstiness = self.burstiness {
            guard self.arrivals != "constant", (0.01...1_000).contains(burstiness) else {
                throw ValidationError("--burstiness must be 0.01 to 1000, of gamma arrivals")
            }
            return .gamma(burstiness: burstiness)
        }
        switch self.arrivals {
        case "constant": return .constant
        case "poisson": return .poisson
        case "gamma": throw ValidationError("--arrivals gamma needs --burstiness")
        default:
            throw ValidationError(
                "--arrivals must be constant, poisson or gamma, not \(self.arrivals)"
            )
        }
    }

    func apply(to plan: inout LoadPlan) {
        plan.requestsMax = self.requestsMax
        plan.warmUp = self.warmUp.duration.secondsAsDouble
        plan.coolDown = self.coolDown.duration.secondsAsDouble
        plan.threads = self.threads
        plan.connectionsMax = self.maxConnections
        plan.timeout = self.timeout.duration.secondsAsDouble
        plan.lagMax = self.maxLag.duration.secondsAsDouble
        plan.seed = self.seed
        if !plan.pattern.isOpen {
            plan.duration =
                self.duration?.duration.secondsAsDouble
                ?? (self.requestsMax == nil ? self.defaultSeconds : nil)
        }
    }

    func words(_ plan: LoadPlan) -> String {
        switch plan.pattern {
        case .closed(let connections): "\(connections) connections, closed loop"
        case .rate(_, let pattern): Self.words(rate: self.rate ?? "varied", pattern)
        case .trace: "trace"
        }
    }

    static func words(rate: String, _ pattern: ArrivalPattern) -> String {
        "\(rate) requests/s, \(pattern) arrivals"
    }
}

/// What part of which trace.
struct TraceFlags: ParsableArguments {
    @Option(
        name: [.customLong("trace"), .customLong("replay")],
        help: """
            Open loop: replay a trace (Azure, Mooncake, ServeGen, --records of a run) or traffic \
            that was recorded: a folder or a file of it.
            """
    )
    var trace: String?
    @Option(help: "Of recorded traffic only the requests for this model.") var traceModel: String?
    @Option(help: "Leave out the beginning of the trace.") var traceStart = TimeArgument(.zero)
    @Option(help: "Replay so many times as fast.") var traceSpeed = 1.0
    @Option(help: "Requests per request of the trace: 0.1 keeps a tenth.") var traceScale = 1.0
    @Option(help: "Silence that counts as a hole in the trace; 0 allows any.")
    var maxGap = TimeArgument(.seconds(300))

    func validate() throws {
        guard self.traceSpeed > 0, self.traceSpeed <= 1e6 else {
            throw ValidationError("--trace-speed must be more than 0, up to 1000000")
        }
        guard self.traceScale > 0, self.traceScale <= 1e4 else {
            throw ValidationError("--trace-scale must be more than 0, up to 10000")
        }
    }

    func read(_ path: String, duration: TimeArgument?, _ seed: UInt64) throws -> Trace {
        let gap = self.maxGap.duration.secondsAsDouble
        let trace = try self.read(path, gapMax: gap > 0 ? gap : nil)
        var selection = TraceSelection()
        selection.start = self.traceStart.duration.secondsAsDouble
        selection.duration = duration?.duration.secondsAsDouble
        selection.speed = self.traceSpeed
        selection.scale = self.traceScale
        return try trace.selected(selection, seed: seed)
    }

    private func read(_ path: String, gapMax: Double?) throws(LoadError) -> Trace {
        if RecordingFiles.isRecording(path) {
            do throws(RecordingError) {
                let reader = try RecordingReader([path])
                for problem in reader.problems { Output.error("\(problem): read up to there") }
                var trace = RecordingTrace(gapMax: gapMax, model: self.traceModel)
                try reader.forEach { request throws(RecordingError) in try trace.add(request) }
                return .requests(try trace.finish())
            } catch {
                throw LoadError("\(path): \(error)")
            }
        }
        guard self.traceModel == nil else {
            throw LoadError("--trace-model is for recorded traffic, which \(path) is not")
        }
        let bytes = try LoadFile.read(path)
        do throws(TraceError) {
            return try TraceReader(gapMax: gapMax).read(bytes)
        } catch {
            throw LoadError("\(path): \(error)")
        }
    }
}

/// How a run is judged.
struct JudgingFlags: ParsableArguments {
    @Option(help: "What makes a request good: \(Objective.grammar).")
    var objective: [String] = []
    @Option(help: "Exit 3 unless this holds, such as 'p99(latency)<200ms' or 'errors<1%'.")
    var threshold: [String] = []
    @Flag(help: "Search the highest rate at which enough requests meet the objectives.")
    var findGoodput = false
    @Option(help: "Share of requests that must be good, in percent.") var goodputTarget = 95.0
    @Option(help: "Width of the answer, in percent of it.") var goodputTolerance = 5.0
    @Option(help: "Runs that the search may take.") var goodputProbes = 20

    func validate() throws {
        guard self.goodputTarget > 0, self.goodputTarget <= 100 else {
            throw ValidationError("--goodput-target must be more than 0, up to 100")
        }
        guard self.goodputTolerance >= 0.1, self.goodputTolerance <= 100 else {
            throw ValidationError("--goodput-tolerance must be 0.1 to 100")
        }
        guard (1...100).contains(self.goodputProbes) else {
            throw ValidationError("--goodput-probes must be 1 to 100")
        }
    }

    func objectives() throws -> [Objective] {
        do throws(LoadError) {
            var result: [Objective] = []
            for text in self.objective { result += try Objective.parse(text) }
            return result
        } catch {
            throw ValidationError(error.description)
        }
    }

    func thresholds() throws -> [Threshold] {
        do throws(LoadError) {
            var result: [Threshold] = []
            for text in self.threshold { result.append(try Threshold(text)) }
            return result
        } catch {
            throw ValidationError(error.description)
        }
    }
}

/// Where the results go.
struct OutputFlags: ParsableArguments {
    @Option(help: "Write the result as JSON to this file; - for standard output.")
    var output: String?
    @Option(help: "Keys of that JSON: native, vllm or aiperf.") var format = ReportFormat.native
    @Option(help: "Write one JSON line per request to this file.") var records: String?
    @Option(help: "Write the latencies as HdrHistogram text (.hgrm) to this file.")
    var histogram: String?
    @Option(help: "Write a page with plots (.html) to this file.") var report: String?
    @Flag(help: "No progress and no table.") var quiet = false

    var needsRecords: Bool {
        self.records != nil || (self.output != nil && self.format != .native)
    }

    var usesStandardOutput: Bool {
        [self.output, self.records, self.histogram, self.report].contains("-")
    }

    /// A run of an hour must not end in a file that cannot be written.
    func checkPlaces() throws {
        for path in [self.output, self.records, self.histogram, self.report] {
            guard let path, path != "-" else { continue }
            let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else {
                throw LoadError("cannot write \(path): \(String(cString: strerror(errno)))")
            }
            close(descriptor)
        }
    }

    static func write(_ buffer: ByteBuffer, to path: String) throws {
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC
        let descriptor = path == "-" ? dup(STDOUT_FILENO) : open(path, flags, 0o644)
        guard descriptor >= 0 else {
            throw LoadError("cannot write \(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        while !buffer.isEmpty {
            let count = Glibc.write(descriptor, buffer.readablePointer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw LoadError("cannot write \(path): \(String(cString: strerror(errno)))")
            }
            buffer.consume(count)
        }
    }
}

extension ReportFormat: ExpressibleByArgument {}
