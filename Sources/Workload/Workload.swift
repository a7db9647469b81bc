/// What arrives at a server, and when: for the load generator, which sends it, and the simulation,
/// which pretends.
///
/// Purpose: rates over time, patterns of arrival around them, lengths of prompts and answers, and
/// traces as values. An `ArrivalSchedule` gives the arrivals of a run one after the other; the same
/// seed gives the same ones everywhere, as the elementary functions are our own and not those of a
/// C library. Reading a trace's file is the load generator's (`TraceReader`).
///
/// Limits: `WorkloadLimits`. What it does not do: closed loops, which have no schedule.
package enum WorkloadLimits {
    /// Requests per second that a schedule may ask for.
    package static let rateMax = 10_000_000.0
    /// A run, a trace or a segment lasts at most that long: 30 days.
    package static let durationMaxSeconds = 2_592_000.0
    /// Requests of a trace that is kept in memory.
    package static let traceRequestsMax = 20_000_000
    /// Arrivals in one window of a trace of rates.
    package static let windowArrivalsMax = 20_000_000
    /// Tokens of a prompt.
    package static let promptTokensMax = 2_000_000
}

/// What the user gave describes no load, in words.
package struct WorkloadError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}
