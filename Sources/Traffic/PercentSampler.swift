/// Says yes to an exact share of the times it is asked, evenly spread: of n questions,
/// `floor(n × share)` or one more are answered yes.
///
/// Error diffusion in integers: the share is added up, and each time it reaches one it is a yes.
package struct PercentSampler: Sendable {
    /// Shares are counted in millionths.
    package static let whole = 1_000_000

    package private(set) var millionths: Int
    private var accumulated: Int

    /// `millionths` is clamped to 0...1 000 000. `phase` in the same unit moves the first yes, so
    /// that workers do not sample in step.
    package init(millionths: Int, phase: Int = 0) {
        self.millionths = min(max(millionths, 0), Self.whole)
        self.accumulated = ((phase % Self.whole) + Self.whole) % Self.whole
    }

    /// The share as a fraction 0...1; not a number counts as 0.
    package init(share: Double, phase: Int = 0) {
        let scaled = share.isFinite ? share * Double(Self.whole) + 0.5 : 0
        self.init(
            millionths: Int(min(max(scaled, 0), Double(Self.whole))),
            phase: phase
        )
    }

    /// A new share; what was accumulated stays.
    package mutating func update(millionths: Int) {
        self.millionths = min(max(millionths, 0), Self.whole)
    }

    package mutating func next() -> Bool {
        self.accumulated &+= self.millionths
        guard self.accumulated >= Self.whole else { return false }
        self.accumulated &-= Self.whole
        return true
    }
}

/// Which requests are also sent, as copies whose answers nobody waits for, to another variant.
///
/// Copies never cost the client anything: those beyond the bounds are left out and counted.
package struct MirrorPolicy: Sendable {
    package enum Decision: Equatable, Sendable {
        case copy
        /// Not in the sample.
        case skip
        /// In the sample, but too many copies are under way or the body is not held whole.
        case drop
    }

    package private(set) var sampler: PercentSampler
    /// Copies under way at once.
    package let inFlightMax: Int

    package init(sampler: PercentSampler, inFlightMax: Int = 64) {
        precondition(inFlightMax >= 0, "a limit of \(inFlightMax) copies")
        self.sampler = sampler
        self.inFlightMax = inFlightMax
    }

    /// `hasWholeBody`: the request's body is held in memory from its first to its last byte.
    package mutating func decide(inFlight: Int, hasWholeBody: Bool) -> Decision {
        guard self.sampler.next() else { return .skip }
        return inFlight < self.inFlightMax && hasWholeBody ? .copy : .drop
    }
}
