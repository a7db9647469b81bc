import Core
import Workload

/// A traffic that policies are compared on, with everything around it.
package struct Scenario: Sendable {
    /// What kind of traffic it is, for the goals.
    package enum Character: String, Sendable {
        case diurnal
        case bursty
    }

    package var name: String
    package var character: Character
    package var summary: String
    package var make: @Sendable (_ seed: UInt64, _ coldStart: Delay) -> WorldSetup

    package init(
        name: String,
        character: Character,
        summary: String,
        make: @escaping @Sendable (_ seed: UInt64, _ coldStart: Delay) -> WorldSetup
    ) {
        self.name = name
        self.character = character
        self.summary = summary
        self.make = make
    }
}

extension Scenario {
    /// The service of the built-in scenarios: some seconds of streaming, eight at a time, and a
    /// first token within two seconds. A replica does about 1.5 requests per second.
    package static func model(_ name: String, requests: RequestStream, coldStart: Delay)
        -> SimulatedModel
    {
        var model = SimulatedModel(name: name, requests: requests)
        model.concurrency = 8
        model.objective = ServiceObjective(firstToken: 2)
        model.coldStart = coldStart
        model.replicasMin = 0
        model.replicasMax = 64
        model.replicasAtStart = 2
        return model
    }

    package static let shape = RequestShape(
        service: .logNormal(median: 5, sigma: 0.5),
        firstTokenShare: 0.04
    )

    private static func world(
        _ segments: [RateProfile.Segment],
        _ pattern: ArrivalPattern,
        _ seed: UInt64,
        _ coldStart: Delay,
        warmUp: Double
    ) -> WorldSetup {
        let profile = RateProfile(segments)
        let stream = RequestStream(
            ArrivalSchedule(profile, pattern: pattern, seed: seed),
            trace: nil,
            shape: Self.shape,
            seed: seed
        )
        var setup = WorldSetup(
            models: [Self.model("model", requests: stream, coldStart: coldStart)],
            duration: profile.duration
        )
        setup.seed = seed
        setup.warmUp = warmUp
        return setup
    }

    /// A day of a sine between a tenth and all of 12 requests per second, in pieces of 5 minutes.
    package static let diurnal = Scenario(
        name: "diurnal",
        character: .diurnal,
        summary: "24 h, 1 to 12 requests/s as a sine"
    ) { seed, coldStart in
        func rate(_ seconds: Double) -> Double {
            6.5 - 5.5 * cosine(seconds / 86_400)
        }
        let segments = (0..<288).map { index in
            RateProfile.Segment(
                start: rate(Double(index) * 300),
                end: rate(Double(index + 1) * 300),
                duration: 300
            )
        }
        return Self.world(segments, .poisson, seed, coldStart, warmUp: 1_800)
    }

    /// Levels that change every few minutes, and bursts within them.
    package static let bursty = Scenario(
        name: "bursty",
        character: .bursty,
        summary: "4 h, levels of 2 to 16 requests/s, gaps with a variation of 3"
    ) { seed, coldStart in
        var random = RandomSource(seed: seed ^ 0xB0B)
        var segments: [RateProfile.Segment] = []
        var time = 0.0
        while time < 14_400 {
            let length = min(120 + 480 * random.nextUnit(), 14_400 - time)
            let rate = min(16, max(2, 6 * random.nextLogNormal(sigma: 0.6)))
            segments.append(.init(start: rate, end: rate, duration: max(1, length)))
            time += max(1, length)
        }
        return Self.world(segments, .gamma(burstiness: 1.0 / 9), seed, coldStart, warmUp: 1_200)
    }

    /// Twice, five times as many within two minutes.
    package static let flash = Scenario(
        name: "flash",
        character: .bursty,
        summary: "3 h, 3 requests/s, twice to 15 within 2 minutes"
    ) { seed, coldStart in
        let segments: [RateProfile.Segment] = [
            .init(start: 3, end: 3, duration: 3_600), .init(start: 3, end: 15, duration: 120),
            .init(start: 15, end: 15, duration: 900), .init(start: 15, end: 3, duration: 900),
            .init(start: 3, end: 3, duration: 2_400), .init(start: 3, end: 15, duration: 120),
            .init(start: 15, end: 15, duration: 600), .init(start: 15, end: 3, duration: 600),
            .init(start: 3, end: 3, duration: 1_560),
        ]
        return Self.world(segments, .poisson, seed, coldStart, warmUp: 1_200)
    }

    /// Ten minutes of work, ten of almost none.
    package static let onOff = Scenario(
        name: "on-off",
        character: .bursty,
        summary: "4 h, 10 minutes of 8 requests/s, 10 of 0.5"
    ) { seed, coldStart in
        var segments: [RateProfile.Segment] = []
        for _ in 0..<12 {
            segments.append(.init(start: 8, end: 8, duration: 600))
            segments.append(.init(start: 0.5, end: 0.5, duration: 600))
        }
        return Self.world(segments, .poisson, seed, coldStart, warmUp: 1_200)
    }

    /// The same all the time: nothing should change.
    package static let constant = Scenario(
        name: "constant",
        character: .diurnal,
        summary: "4 h, 8 requests/s"
    ) { seed, coldStart in
        Self.world(
            [.init(start: 8, end: 8, duration: 14_400)],
            .poisson,
            seed,
            coldStart,
            warmUp: 1_200
        )
    }

    package static let builtIn = [Self.diurnal, .bursty, .flash, .onOff, .constant]

    /// A prompt at 8 000 tokens per second and an answer at 40 each: what each of some gets from a
    /// GPU.
    package static let tokenService = ServiceTime.perToken(
        base: 0.05,
        input: 0.000_125,
        output: 0.025
    )

    /// A trace of requests, whose lengths make the service times.
    package static func requests(
        _ name: String,
        _ trace: RequestTrace,
        shape: RequestShape = RequestShape(service: Scenario.tokenService)
    ) -> Scenario {
        Scenario(
            name: name,
            character: .bursty,
            summary: "a trace of \(Int((trace.duration / 60).rounded())) minutes"
        ) { seed, coldStart in
            let stream = RequestStream(
                ArrivalSchedule(trace),
                trace: trace,
                shape: shape,
                seed: seed
            )
            return self.world(stream, max(60, trace.duration.rounded(.up)), seed, coldStart)
        }
    }

    /// Rates per window, drawn anew for each seed.
    package static func windows(
        _ name: String,
        _ trace: WindowTrace,
        shape: RequestShape = Scenario.shape
    ) -> Scenario {
        Scenario(
            name: name,
            character: .diurnal,
            summary: "a trace of rates over \(Int((trace.duration / 3_600).rounded())) h"
        ) { seed, coldStart in
            let stream = RequestStream(
                ArrivalSchedule(trace, seed: seed),
                trace: nil,
                shape: shape,
                seed: seed
            )
            return self.world(stream, max(60, trace.duration), seed, coldStart)
        }
    }

    /// A rate over time.
    package static func rate(
        _ name: String,
        _ profile: RateProfile,
        pattern: ArrivalPattern,
        shape: RequestShape = Scenario.shape
    ) -> Scenario {
        Scenario(
            name: name,
            character: pattern == .poisson || pattern == .constant ? .diurnal : .bursty,
            summary: "\(Int((profile.duration / 60).rounded())) minutes, \(pattern) arrivals"
        ) { seed, coldStart in
            let stream = RequestStream(
                ArrivalSchedule(profile, pattern: pattern, seed: seed),
                trace: nil,
                shape: shape,
                seed: seed
            )
            return self.world(stream, max(1, profile.duration), seed, coldStart)
        }
    }

    /// The first quarter, at most half an hour, does not count.
    private static func world(
        _ stream: RequestStream,
        _ duration: Double,
        _ seed: UInt64,
        _ coldStart: Delay
    ) -> WorldSetup {
        let model = Self.model("model", requests: stream, coldStart: coldStart)
        var setup = WorldSetup(models: [model], duration: duration)
        setup.seed = seed
        setup.warmUp = min(1_800, (duration / 4).rounded(.down))
        return setup
    }
}

/// The cosine of so many full turns.
private func cosine(_ turns: Double) -> Double {
    // Folded to a quarter turn around 0, where Taylor's series needs few terms.
    var part = turns - turns.rounded()
    var sign = 1.0
    if part.magnitude > 0.25 {
        part = 0.5 - part.magnitude
        sign = -1
    }
    let square = (part * 6.283185307179586) * (part * 6.283185307179586)
    var term = 1.0
    var sum = 1.0
    for index in 1...10 {
        term *= -square / Double((2 * index - 1) * (2 * index))
        sum += term
    }
    return sign * sum
}
