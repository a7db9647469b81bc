import ArgumentParser
import Autoscaling
import Configuration
import Core
import Glibc
import LoadTest
import Simulation
import Workload

/// What arrives.
struct SimulatedTrafficFlags: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: "Built-in traffic: diurnal, bursty, flash, on-off, constant or all."
    )
    var scenario: [String] = []
    @Option(help: "Requests per second. \(RateProfile.grammar).") var rate: String?
    @Option(help: "How arrivals scatter around the rate: constant, poisson or gamma.")
    var arrivals = "poisson"
    @Option(help: "Coefficient of variation of the gaps of gamma arrivals; above 1 is bursty.")
    var variation: Double?
    @Option(help: "How long, where the rate does not say; of a trace, the part to play.")
    var duration: TimeArgument?
    @Option(help: "Time at the beginning that does not count.") var warmUp: TimeArgument?
    @Option(help: "Prompt tokens where the trace has none: \(LengthDistribution.grammar).")
    var inputTokens = "256"
    @Option(help: "Tokens of an answer, likewise.") var outputTokens = "128"

    @Option(parsing: .upToNextOption, help: "Further traces, each compared by itself.")
    var also: [String] = []
    @Option(help: "Scale traces to so many requests per second on average.")
    var meanRate: Double?

    func validate() throws {
        if let rate = self.meanRate, !(rate > 0 && rate <= 1e6) {
            throw ValidationError("--mean-rate must be more than 0, up to 1000000")
        }
        guard LengthDistribution(self.inputTokens) != nil,
            LengthDistribution(self.outputTokens) != nil
        else {
            throw ValidationError(
                "--input-tokens and --output-tokens must be \(LengthDistribution.grammar)"
            )
        }
    }

    /// Every traffic with every cold start.
    func scenarios(
        _ trace: TraceFlags,
        _ replicas: SimulatedReplicaFlags,
        sharing: SharedBudget? = nil
    ) throws -> [(Scenario, Delay)] {
        var found: [Scenario] = []
        for name in self.scenario {
            if name == "all" {
                found += Scenario.builtIn
            } else if let known = Scenario.builtIn.first(where: { $0.name == name }) {
                found.append(known)
            } else {
                let names = Scenario.builtIn.map(\.name).joined(separator: ", ")
                throw ValidationError("--scenario \(name) is none of \(names), all")
            }
        }
        for path in [trace.trace].compactMap({ $0 }) + self.also {
            let read = try trace.read(path, duration: self.duration, 1)
            found.append(try self.traced(try self.scaled(read), path, replicas))
        }
        if let rate = self.rate { found.append(try self.rated(rate, replicas)) }
        guard !found.isEmpty else {
            throw ValidationError("say what arrives: --trace, --scenario or --rate")
        }
        let delays = try replicas.coldStarts()
        let adapted = found.map { replicas.adapt($0, warmUp: self.warmUp, sharing: sharing) }
        return adapted.flatMap { scenario in delays.map { (scenario, $0) } }
    }

    private func shape(_ replicas: SimulatedReplicaFlags) throws -> RequestShape {
        var shape = Scenario.shape
        if let service = try replicas.serviceTime() { shape.service = service }
        shape.firstTokenShare = replicas.firstTokenShare
        shape.input = LengthDistribution(self.inputTokens) ?? shape.input
        shape.output = LengthDistribution(self.outputTokens) ?? shape.output
        return shape
    }

    private func scaled(_ trace: Trace) throws -> Trace {
        guard let wanted = self.meanRate else { return trace }
        let count: Double =
            switch trace {
            case .requests(let trace): Double(trace.requests.count)
            case .windows(let trace): trace.windows.reduce(0) { $0 + $1.rate * $1.duration }
            }
        var selection = TraceSelection()
        selection.scale = wanted * max(trace.duration, 1e-3) / count
        return try trace.selected(selection, seed: 1)
    }

    private func traced(
        _ trace: Trace,
        _ path: String,
        _ replicas: SimulatedReplicaFlags
    ) throws -> Scenario {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        var shape = try self.shape(replicas)
        switch trace {
        case .requests(let requests):
            if replicas.service == nil { shape.service = Scenario.tokenService }
            return Scenario.requests(name, requests, shape: shape)
        case .windows(let windows):
            return Scenario.windows(name, windows, shape: shape)
        }
    }

    private func rated(_ rate: String, _ replicas: SimulatedReplicaFlags) throws -> Scenario {
        let seconds = self.duration?.duration.secondsAsDouble
        let profile = try RateProfile.parse(
            rate,
            duration: seconds ?? (rate.contains("@") ? nil : 3_600)
        )
        return Scenario.rate(
            "rate \(rate)",
            profile,
            pattern: try self.pattern(),
            shape: try self.shape(replicas)
        )
    }

    private func pattern() throws -> ArrivalPattern {
        if let variation = self.variation {
            guard (0.05...20).contains(variation) else {
                throw ValidationError("--variation must be 0.05 to 20, not \(variation)")
            }
            return .gamma(burstiness: 1 / (variation * variation))
        }
        switch self.arrivals {
        case "constant": return .constant
        case "poisson": return .poisson
        case "gamma": throw ValidationError("--arrivals gamma needs --variation")
        default:
            throw ValidationError(
                "--arrivals must be constant, poisson or gamma, not \(self.arrivals)"
            )
        }
    }
}

/// What serves it, and what goes wrong.
struct SimulatedReplicaFlags: ParsableArguments {
    @Option(help: "Requests that a replica works on at a time; 0 for no limit. Default: 8.")
    var concurrency: Int?
    @Option(
        help: """
            Seconds in service: fixed:S, exponential:MEAN, lognormal:MEDIAN,SIGMA or \
            tokens:BASE,INPUT,OUTPUT. Default: lognormal:5,0.5; with a trace of tokens \
            tokens:0.05,0.000125,0.025.
            """
    )
    var service: String?
    @Option(help: "The share of it after which the first token is there.")
    var firstTokenShare = 0.04
    @Flag(help: "Replicas batch continuously, with a KV cache; service times come from tokens.")
    var batching = false
    @Option(help: "Good service: ttft:TIME, latency:TIME or both. Default: ttft:2s.")
    var objective: String?
    @Option(help: "From a start to ready: \(Delay.grammar); several joined by spaces or commas.")
    var coldStart = "60s"
    @Option(help: "From the last request to the GPUs being free.") var exitTime = TimeArgument(
        .seconds(2)
    )
    @Option(help: "What still runs so long after a drain began is cut off.")
    var drainDeadline = TimeArgument(.seconds(300))
    @Option(help: "How long a request waits at most.") var queueTimeout = TimeArgument(
        .seconds(300)
    )
    @Option(help: "Replicas at least. Default: 0.") var minReplicas: Int?
    @Option(help: "Replicas at most. Default: 64.") var maxReplicas: Int?
    @Option(help: "Replicas at the beginning. Default: 2.") var replicas: Int?
    @Option(help: "GPUs that a replica takes.") var gpusPerReplica = 1
    @Option(help: "GPUs there are. Default: enough.") var gpus: Int?
    @Option(help: "From asking for GPUs to having them: \(Delay.grammar).") var gpuDelay = "0"
    @Option(help: "Share of the starts whose GPUs never come.") var gpuNever = 0.0
    @Option(help: "Mean time between crashes of a replica. Default: none.")
    var crashEvery: TimeArgument?
    @Option(help: "Share of the starts that fail and are tried again.") var startFailure = 0.0
    @Option(help: "When the servers' own metrics are gone: FROM..TO, such as 10m..12m.")
    var outage: [String] = []

    func validate() throws {
        guard (0...65_536).contains(self.concurrency ?? 8) else {
            throw ValidationError("--concurrency must be 0 to 65536")
        }
        guard (0...1).contains(self.firstTokenShare) else {
            throw ValidationError("--first-token-share must be 0 to 1")
        }
        guard (0...1).contains(self.gpuNever), (0..<1).contains(self.startFailure) else {
            throw ValidationError("--gpu-never and --start-failure must be shares below 1")
        }
        _ = try self.serviceTime()
        _ = try self.coldStarts()
        _ = try self.objectives()
        _ = try self.outages()
        if Delay(self.gpuDelay) == nil {
            throw ValidationError("--gpu-delay must be \(Delay.grammar), not \(self.gpuDelay)")
        }
    }

    func coldStarts() throws -> [Delay] {
        // A comma may also stand inside one delay.
        if let one = Delay(self.coldStart) { return [one] }
        let parts = self.coldStart.split { $0 == "," || $0 == " " }
        let delays = parts.compactMap { Delay(String($0)) }
        guard !delays.isEmpty, delays.count == parts.count else {
            throw ValidationError("--cold-start must be \(Delay.grammar), not \(self.coldStart)")
        }
        return delays
    }

    func serviceTime() throws -> ServiceTime? {
        guard let text = self.service else { return nil }
        let parts = text.split(separator: ":", maxSplits: 1)
        let numbers = (parts.count == 2 ? parts[1] : "").split(separator: ",").compactMap {
            TimeText.seconds($0) ?? Double(String($0))
        }
        let isUsable = numbers.allSatisfy { $0 >= 0 && $0 <= 1e6 }
        switch (parts.first.map(String.init) ?? "", numbers.count) {
        case ("fixed", 1) where isUsable: return .fixed(numbers[0])
        case ("exponential", 1) where isUsable: return .exponential(mean: numbers[0])
        case ("lognormal", 2) where isUsable && numbers[0] > 0 && numbers[1] <= 5:
            return .logNormal(median: numbers[0], sigma: numbers[1])
        case ("tokens", 3) where isUsable:
            return .perToken(base: numbers[0], input: numbers[1], output: numbers[2])
        default:
            throw ValidationError(
                "--service must be fixed:S, exponential:MEAN, lognormal:MEDIAN,SIGMA or "
                    + "tokens:BASE,INPUT,OUTPUT, not \(text)"
            )
        }
    }

    func objectives() throws -> ServiceObjective {
        var result = ServiceObjective()
        for part in (self.objective ?? "ttft:2s").split(separator: ",") {
            let halves = part.split(separator: ":")
            guard halves.count == 2, let seconds = TimeText.seconds(halves[1]), seconds > 0 else {
                throw ValidationError("--objective must be ttft:TIME,latency:TIME, not \(part)")
            }
            switch halves[0] {
            case "ttft": result.firstToken = seconds
            case "latency", "e2e": result.latency = seconds
            default: throw ValidationError("--objective knows ttft and latency, not \(halves[0])")
            }
        }
        return result
    }

    func outages() throws -> [Period] {
        try self.outage.map { text in
            let dots = Array(text)
            guard
                let at = dots.indices.dropLast().first(where: {
                    dots[$0] == "." && dots[$0 + 1] == "."
                }),
                let from = TimeText.seconds(String(dots[..<at])),
                let to = TimeText.seconds(String(dots[(at + 2)...])), from < to
            else {
                throw ValidationError("--outage must be FROM..TO, such as 10m..12m, not \(text)")
            }
            return Period(from: from, to: to)
        }
    }

    /// What a Model in a policy's file says, where no flag says otherwise.
    func merged(with own: OwnPolicy?) -> SimulatedReplicaFlags {
        var result = self
        guard let own else { return result }
        result.concurrency = self.concurrency ?? own.concurrency
        result.minReplicas = self.minReplicas ?? own.minReplicas
        result.maxReplicas = self.maxReplicas ?? own.maxReplicas
        result.objective = self.objective ?? own.objective
        return result
    }

    /// The scenario with these replicas.
    func adapt(_ scenario: Scenario, warmUp: TimeArgument?, sharing: SharedBudget?) -> Scenario {
        let flags = self
        let make = scenario.make
        var result = scenario
        result.make = { seed, coldStart in
            var setup = make(seed, coldStart)
            for index in setup.models.indices { flags.apply(to: &setup.models[index]) }
            if let sharing { flags.share(sharing, &setup) { make($0, coldStart) } }
            setup.pool.total = flags.gpus ?? sharing?.total
            setup.pool.delay = Delay(flags.gpuDelay) ?? .fixed(0)
            setup.pool.neverComes = flags.gpuNever
            setup.outages = (try? flags.outages()) ?? []
            if let warmUp { setup.warmUp = warmUp.duration.secondsAsDouble }
            return setup
        }
        return result
    }

    /// Gives each model that shares the budget a copy of the traffic, drawn from a seed of its own.
    private func share(
        _ sharing: SharedBudget,
        _ setup: inout WorldSetup,
        _ make: (UInt64) -> WorldSetup
    ) {
        guard let first = setup.models.first else { return }
        setup.budget = sharing.total
        setup.models = sharing.members.enumerated().map { index, member in
            var model = first
            if index > 0 {
                model.requests = make(setup.seed &+ UInt64(index) << 32).models[0].requests
            }
            model.name = member.name
            model.concurrency = self.concurrency ?? member.concurrency ?? first.concurrency
            if self.objective == nil { model.objective = member.objective ?? first.objective }
            model.replicasMin = self.minReplicas ?? member.minReplicas
            model.replicasMax = max(model.replicasMin, self.maxReplicas ?? member.maxReplicas)
            let start = sharing.replicasAtStart(self.replicas ?? first.replicasAtStart)
            model.replicasAtStart = min(max(start, model.replicasMin), model.replicasMax)
            model.gpusPerReplica = member.units
            model.weight = member.weight
            model.priority = member.priority
            return model
        }
    }

    private func apply(to model: inout SimulatedModel) {
        if let concurrency = self.concurrency {
            model.concurrency = concurrency == 0 ? nil : concurrency
        }
        if self.batching {
            model.engine = .batching(BatchingSetup())
            if self.concurrency == nil { model.concurrency = 64 }
        }
        if let objective = try? self.objectives() { model.objective = objective }
        model.exit = self.exitTime.duration.secondsAsDouble
        model.drainDeadline = self.drainDeadline.duration.secondsAsDouble
        model.queueTimeout = self.queueTimeout.duration.secondsAsDouble
        model.replicasMin = self.minReplicas ?? model.replicasMin
        model.replicasMax = max(model.replicasMin, self.maxReplicas ?? model.replicasMax)
        let start = self.replicas ?? model.replicasAtStart
        model.replicasAtStart = min(max(start, model.replicasMin), model.replicasMax)
        model.gpusPerReplica = self.gpusPerReplica
        model.faults.crashInterval = self.crashEvery?.duration.secondsAsDouble
        model.faults.startFailure = self.startFailure
    }
}
