import Core
import Simulation
import Workload

/// A policy that does what a closure says, and shows what it saw.
struct Scripted: WorldController {
    var traits = ControllerTraits()
    var decide: (Observation) -> Int
    var onWake: (Observation) -> Int = { max(1, $0.desired) }

    init(_ decide: @escaping (Observation) -> Int) {
        self.decide = decide
    }

    mutating func tick(_ observations: [Observation], desired: inout [Int]) {
        for index in observations.indices { desired[index] = self.decide(observations[index]) }
    }

    mutating func wake(model: Int, _ seen: Observation, desired: inout [Int]) {
        desired[model] = self.onWake(seen)
    }
}

enum Worlds {
    /// Requests at these seconds, each in service for so long.
    static func requests(at times: [Double], service: Double) -> RequestStream {
        let trace = RequestTrace(
            requests: times.map {
                TraceRequest(
                    offset: UInt64($0 * 1e9),
                    inputTokens: 0,
                    outputTokens: 0,
                    blocks: 0..<0
                )
            }
        )
        return RequestStream(
            ArrivalSchedule(trace),
            trace: trace,
            shape: RequestShape(service: .fixed(service)),
            seed: 1
        )
    }

    static func poisson(
        rate: Double,
        duration: Double,
        service: ServiceTime = .logNormal(median: 1, sigma: 0.5),
        seed: UInt64 = 1
    ) -> RequestStream {
        RequestStream(
            ArrivalSchedule(
                RateProfile(rate: rate, duration: duration),
                pattern: .poisson,
                seed: seed
            ),
            trace: nil,
            shape: RequestShape(service: service, firstTokenShare: 0.1),
            seed: seed
        )
    }

    static func model(_ requests: RequestStream, concurrency: Int? = 1) -> SimulatedModel {
        var model = SimulatedModel(name: "m", requests: requests)
        model.concurrency = concurrency
        model.coldStart = .fixed(10)
        model.exit = 2
        model.objective = ServiceObjective(latency: 3)
        return model
    }

    static func run(
        _ model: SimulatedModel,
        duration: Double,
        change: (inout WorldSetup) -> Void = { _ in },
        _ decide: @escaping (Observation) -> Int
    ) -> WorldResult {
        var setup = WorldSetup(models: [model], duration: duration)
        change(&setup)
        return World(setup, controller: Scripted(decide)).run()
    }
}
