import Core

/// How arrivals scatter around the rate.
package enum ArrivalPattern: Equatable, Sendable, CustomStringConvertible {
    /// Evenly spaced.
    case constant
    /// Independent arrivals: exponential gaps.
    case poisson
    /// Gamma-distributed gaps with this shape: 1 is Poisson, less is burstier, more is smoother.
    case gamma(burstiness: Double)

    /// A gap with mean 1.
    mutating func gap(_ random: inout RandomSource) -> Double {
        switch self {
        case .constant: 1
        case .poisson: random.nextExponential()
        case .gamma(let shape): random.nextGamma(shape: shape) / shape
        }
    }

    package var description: String {
        switch self {
        case .constant: "constant"
        case .poisson: "poisson"
        case .gamma(let burstiness): "gamma, burstiness \(burstiness)"
        }
    }
}

/// One request of a schedule.
package struct Arrival: Equatable, Sendable {
    /// Counts from 0 over the whole schedule, whatever thread sends it.
    package var index: Int
    /// Nanoseconds from the start of the run.
    package var offset: UInt64
    /// Which request of the trace it is; nil without a trace of requests.
    package var traceIndex: Int?

    package init(index: Int, offset: UInt64, traceIndex: Int?) {
        self.index = index
        self.offset = offset
        self.traceIndex = traceIndex
    }
}

/// A sequence of arrivals in order of time. The same seed gives the same sequence.
package struct ArrivalSchedule: Sendable {
    // One of the three. Each where it stands: taken out of an enum it would be copied with each
    // arrival.
    private var rate: RateArrivals?
    private var trace: TraceArrivals?
    private var windows: WindowArrivals?
    private var index = 0

    /// Arrivals at the rates of a profile.
    package init(_ profile: RateProfile, pattern: ArrivalPattern, seed: UInt64) {
        self.rate = RateArrivals(profile, pattern: pattern, seed: seed)
    }

    /// The requests of a trace at their times.
    package init(_ trace: RequestTrace) {
        self.trace = TraceArrivals(trace)
    }

    /// Arrivals drawn from windows of rates.
    package init(_ windows: WindowTrace, seed: UInt64) {
        self.windows = WindowArrivals(windows, seed: seed)
    }

    /// The next arrival; nil at the end.
    package mutating func next() -> Arrival? {
        var traceIndex: Int?
        let offset: UInt64?
        if self.windows != nil {
            offset = self.windows?.next()
        } else if self.rate != nil {
            offset = self.rate?.next()
        } else {
            let request = self.trace?.next()
            offset = request?.0
            traceIndex = request?.1
        }
        guard let offset else { return nil }
        defer { self.index += 1 }
        return Arrival(index: self.index, offset: offset, traceIndex: traceIndex)
    }
}

/// Maps a process of rate 1 onto the profile through the inverse of its integral, so that a pattern
/// keeps its character in a ramp.
struct RateArrivals: Sendable {
    private let segments: [RateProfile.Segment]
    private var pattern: ArrivalPattern
    private var random: RandomSource
    private var segment = 0
    /// Seconds and expected arrivals before the segment at hand.
    private var segmentTime = 0.0
    private var segmentCount = 0.0
    /// Where the process of rate 1 stands.
    private var position = 0.0

    init(_ profile: RateProfile, pattern: ArrivalPattern, seed: UInt64) {
        self.segments = profile.segments
        self.pattern = pattern
        self.random = RandomSource(seed: seed)
        // Evenly spaced arrivals begin at the start; random ones after a first gap.
        if pattern != .constant { self.position = self.pattern.gap(&self.random) }
    }

    mutating func next() -> UInt64? {
        while self.segment < self.segments.count {
            let current = self.segments[self.segment]
            let within = self.position - self.segmentCount
            if within < current.count {
                let seconds = self.segmentTime + current.time(ofCount: within)
                self.position += self.pattern.gap(&self.random)
                return UInt64(seconds * 1e9)
            }
            self.segmentCount += current.count
            self.segmentTime += current.duration
            self.segment += 1
        }
        return nil
    }
}

struct TraceArrivals: Sendable {
    private let trace: RequestTrace
    private var position = 0

    init(_ trace: RequestTrace) { self.trace = trace }

    mutating func next() -> (UInt64, Int)? {
        guard self.position < self.trace.requests.count else { return nil }
        defer { self.position += 1 }
        return (self.trace.requests[self.position].offset, self.position)
    }
}

/// Draws the arrivals of each window: gamma gaps with the window's variation, scaled to fill it.
struct WindowArrivals: Sendable {
    private let trace: WindowTrace
    private var random: RandomSource
    private var window = 0
    private var offsets: [UInt64] = []
    private var position = 0

    init(_ trace: WindowTrace, seed: UInt64) {
        self.trace = trace
        self.random = RandomSource(seed: seed)
    }

    mutating func next() -> UInt64? {
        while self.position == self.offsets.count {
            guard self.window < self.trace.windows.count else { return nil }
            self.draw(self.trace.windows[self.window])
            self.window += 1
        }
        defer { self.position += 1 }
        return self.offsets[self.position]
    }

    private mutating func draw(_ window: TraceWindow) {
        self.offsets.removeAll(keepingCapacity: true)
        self.position = 0
        let expected = window.rate * window.duration
        let count = min(Int(expected.rounded(.up)), WorkloadLimits.windowArrivalsMax)
        guard expected > 0, count > 0 else { return }
        // The coefficient of variation of a gamma distribution is 1/√shape.
        let variation = max(window.variation, 0.01)
        let shape = 1 / (variation * variation)
        var time = 0.0
        var times: [Double] = []
        times.reserveCapacity(count)
        for _ in 0..<count {
            time += self.random.nextGamma(shape: shape)
            times.append(time)
        }
        // One more gap, so that the last arrival is not always at the very end.
        time += self.random.nextGamma(shape: shape)
        let scale = time > 0 ? window.duration / time : 0
        for time in times { self.offsets.append(UInt64((window.start + time * scale) * 1e9)) }
    }
}
