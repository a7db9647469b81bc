import Core
import Workload

/// How long a request is in service on a replica that batches nothing.
package enum ServiceTime: Hashable, Sendable {
    /// Seconds.
    case fixed(Double)
    /// Seconds, the mean.
    case exponential(mean: Double)
    /// Seconds; `sigma` is the deviation of the logarithm.
    case logNormal(median: Double, sigma: Double)
    /// Seconds for the request, each prompt token and each token of the answer.
    case perToken(base: Double, input: Double, output: Double)
}

/// What a request of a model asks for.
package struct RequestShape: Hashable, Sendable {
    package var service: ServiceTime
    /// The share of the service time after which the first token is there; not used with
    /// `ServiceTime.perToken`, whose first token comes after the prompt.
    package var firstTokenShare: Double = 1
    /// Lengths where the trace brings none.
    package var input: LengthDistribution
    package var output: LengthDistribution

    package init(
        service: ServiceTime,
        firstTokenShare: Double = 1,
        input: LengthDistribution = .fixed(256),
        output: LengthDistribution = .fixed(128)
    ) {
        self.service = service
        self.firstTokenShare = firstTokenShare
        self.input = input
        self.output = output
    }
}

/// A request as the world meets it.
package struct SimulatedRequest: Equatable, Sendable {
    /// Nanoseconds from the start of the run.
    package var time: UInt64
    /// Nanoseconds in service where nothing slows it down, and until its first token.
    package var service: UInt64
    package var first: UInt64
    package var input: UInt32
    package var output: UInt32
}

/// The requests of one model in order of time. What they ask for is drawn with the arrivals, so
/// that it does not depend on what a policy does.
package struct RequestStream: Sendable {
    private var schedule: ArrivalSchedule
    private let trace: RequestTrace?
    private let shape: RequestShape
    private let hasLengths: Bool
    private var random: RandomSource
    /// What was drawn beforehand and is still to come, in place of all of the above.
    private var drawn: [SimulatedRequest]?

    package init(
        _ schedule: ArrivalSchedule,
        trace: RequestTrace?,
        shape: RequestShape,
        seed: UInt64
    ) {
        self.schedule = schedule
        self.trace = trace
        self.shape = shape
        self.hasLengths =
            trace?.requests.contains { $0.inputTokens > 0 || $0.outputTokens > 0 } ?? false
        self.random = RandomSource(seed: seed ^ 0x5EED_0F5E_971C_E000)
    }

    /// Draws the requests of the first `end` nanoseconds, so that copies of this stream share them:
    /// to draw them takes about as long as to simulate them. Left as it is where there are more
    /// than `most`.
    /// - Returns: how many there are; nil where there are too many.
    package mutating func drawAll(until end: UInt64, most: Int) -> Int? {
        if let drawn { return drawn.count }
        var rest = self
        var all: [SimulatedRequest] = []
        while all.count <= most {
            guard let arrival = rest.schedule.next(), arrival.offset < end else {
                self.drawn = all
                return all.count
            }
            all.append(rest.request(arrival))
        }
        return nil
    }

    /// Replaces what is in `buffer` by the next requests, at most `count` unless they were drawn
    /// before; by none at the end.
    package mutating func refill(_ buffer: inout [SimulatedRequest], count: Int) {
        if let drawn {
            buffer = drawn
            self.drawn = []
            return
        }
        buffer.removeAll(keepingCapacity: true)
        for _ in 0..<count {
            guard let arrival = self.schedule.next() else { return }
            buffer.append(self.request(arrival))
        }
    }

    private mutating func request(_ arrival: Arrival) -> SimulatedRequest {
        var result = SimulatedRequest(
            time: arrival.offset,
            service: 0,
            first: 0,
            input: 0,
            output: 0
        )
        if self.hasLengths, let index = arrival.traceIndex, let trace = self.trace {
            result.input = trace.requests[index].inputTokens
            result.output = trace.requests[index].outputTokens
        } else {
            result.input = UInt32(self.shape.input.sample(&self.random))
            result.output = UInt32(self.shape.output.sample(&self.random))
        }
        let seconds: Double
        switch self.shape.service {
        case .fixed(let value): seconds = value
        case .exponential(let mean): seconds = mean * self.random.nextExponential()
        case .logNormal(let median, let sigma):
            seconds = median * self.random.nextLogNormal(sigma: sigma)
        case .perToken(let base, let input, let output):
            let first = base + input * Double(result.input)
            result.first = UInt64(first * 1e9)
            result.service = UInt64((first + output * Double(result.output)) * 1e9)
            return result
        }
        result.service = UInt64(min(seconds, 1e6) * 1e9)
        result.first = UInt64(Double(result.service) * self.shape.firstTokenShare)
        return result
    }
}
