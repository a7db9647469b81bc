import Workload

/// What a report says about a run besides its figures.
package struct ReportContext: Sendable {
    package var targets: [String]
    /// The load in words: `poisson 200/s`, `16 connections`.
    package var load: String
    /// The requests in words: `chat llama, streamed`.
    package var requests: String
    package var model: String?
    package var seed: UInt64
    /// Requests per second that were asked for; nil in a closed loop and for traces.
    package var requestRate: Double?
    package var burstiness: Double?
    package var connectionsMax: Int
    package var objectives: [Objective]
    package var thresholds: [Threshold]
    package var probes: [GoodputSearch.Probe] = []
    package var searchResult: String?
    /// Whether no rate that was tried kept the objectives.
    package var searchFailed = false

    package init(
        plan: LoadPlan,
        load: String,
        requests: String,
        thresholds: [Threshold]
    ) {
        self.targets = plan.targets.map(\.description)
        self.load = load
        self.requests = requests
        self.thresholds = thresholds
        self.seed = plan.seed
        self.objectives = plan.objectives
        switch plan.kind {
        case .chat(let generation), .completions(let generation): self.model = generation.model
        case .infer(let infer): self.model = infer.model
        case .http: self.model = nil
        }
        switch plan.pattern {
        case .rate(let profile, let pattern):
            self.requestRate = profile.count / profile.duration
            self.connectionsMax = plan.connectionsMax
            if case .gamma(let burstiness) = pattern { self.burstiness = burstiness }
            if pattern == .poisson { self.burstiness = 1 }
        case .trace: self.connectionsMax = plan.connectionsMax
        case .closed(let connections): self.connectionsMax = connections
        }
    }
}

extension RunSummary {
    /// The distributions that have something to say, with their names.
    package var timings: [(timing: Threshold.Timing, title: String)] {
        let all: [(Threshold.Timing, String)] = [
            (.latency, self.isOpenLoop ? "latency from schedule" : "latency"),
            (.service, "service time"), (.ttft, "time to first token"),
            (.itl, "inter-token latency"), (.tpot, "time per output token"),
            (.connect, "connect"), (.lag, "scheduling error"),
        ]
        return all.filter {
            self.statistics.distribution($0.0).count > 0 && ($0.0 != .lag || self.isOpenLoop)
        }
    }
}
