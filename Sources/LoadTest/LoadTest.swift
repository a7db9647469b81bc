/// A load generator for HTTP servers, language models first of all.
///
/// Purpose: put a known load on a server and say honestly how it answered. What decides is in
/// values that tests drive without a socket: schedules, prompts, reading of event streams,
/// statistics, thresholds and the goodput search. The engine moves bytes and asks them.
///
///   Schedule/   when requests start: rate profiles, arrival patterns, traces
///   Requests/   what they say: URLs, prompts of given lengths, templates
///   Measure/    what is kept of the answers: event streams, distributions, objectives, thresholds
///   Engine/     one loop and its connections per thread; runs them and adds their results up
///   Report/     table, JSON in three dialects, JSON lines, HdrHistogram text, HTML
///
/// Open loop: requests start at times that a schedule fixed before, whatever the answers do. A
/// latency then counts from the *scheduled* start, so that a stalled server cannot hide behind
/// requests that were never sent (what is known as coordinated omission); the time from the first
/// byte sent is reported beside it. When the generator itself was late the run is invalid and says
/// so. Closed loop: a fixed number of connections, each sending its next request when the last one
/// was answered.
///
/// Definitions, the same in `--help` and docs/load.md:
/// - latency: from the scheduled start to the last byte of the answer.
/// - service time: from the first byte sent, on a connection that stands, to the last byte.
/// - TTFT: from the scheduled start to the first event that carries output.
/// - ITL: each gap between two successive events that carry output, the first event excluded.
/// - TPOT: (time of the last output − time of the first) ÷ (output tokens − 1), per request.
/// - goodput: requests per second that succeeded and met every objective.
///
/// Limits: `LoadLimits`. What it does not do: HTTP/2, redirects, cookies.
package enum LoadLimits {
    /// Servers that one run spreads over.
    package static let targetsMax = 64
    /// Variants told apart; the rest is counted as one.
    package static let variantsMax = 32
    /// Threads of one run.
    package static let threadsMax = 64
    /// Connections of one run.
    package static let connectionsMax = 1_000_000
    /// Arrivals of one thread that may wait for a connection; past it they are dropped and counted.
    package static let backlogMax = 200_000
    /// Points of a plot over time.
    package static let slicesMax = 300
    /// Bytes of one line of an event stream, or of a whole answer that is searched for token
    /// counts.
    package static let scannedBytesMax = 4 << 20
    /// Interim answers (1xx) to one request.
    package static let interimMax = 16
}

/// What the user gave cannot be used, or the run cannot begin; in words.
package struct LoadError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}
