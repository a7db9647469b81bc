/// How a request ended.
package enum Outcome: UInt8, Sendable, CaseIterable {
    case ok
    /// A status of 400 or more.
    case httpError
    case cannotConnect
    /// The connection broke, or ended before the answer did.
    case connectionLost
    /// What came is not HTTP.
    case invalidAnswer
    case timedOut
    /// The event stream reported an error.
    case streamError
    /// An event stream ended without `[DONE]` or output.
    case truncatedStream

    package var label: String {
        switch self {
        case .ok: "ok"
        case .httpError: "http-error"
        case .cannotConnect: "cannot-connect"
        case .connectionLost: "connection-lost"
        case .invalidAnswer: "invalid-answer"
        case .timedOut: "timed-out"
        case .streamError: "stream-error"
        case .truncatedStream: "truncated-stream"
        }
    }
}

/// One request and how it went. Times are nanoseconds from the start of the run; 0 where a thing
/// did not happen.
package struct RequestRecord: Equatable, Sendable {
    package var index = 0
    /// When it was to start. In a closed loop, when it did.
    package var scheduled: UInt64 = 0
    /// When the generator took it up; its distance from `scheduled` is the scheduling error.
    package var dispatched: UInt64 = 0
    /// When its first byte was written, on a connection that stood.
    package var sent: UInt64 = 0
    package var firstByte: UInt64 = 0
    package var firstOutput: UInt64 = 0
    package var lastOutput: UInt64 = 0
    package var end: UInt64 = 0
    /// Nanoseconds that its connection took to be made; 0 where one was there.
    package var connect: UInt64 = 0
    package var status: UInt16 = 0
    package var outcome = Outcome.ok
    package var target: UInt8 = 0
    /// Index into the thread's table of variants; 0 for none.
    package var variant: UInt8 = 0
    package var inputTokens: UInt32 = 0
    package var outputTokens: UInt32 = 0
    package var sentBytes: UInt32 = 0
    package var receivedBytes: UInt64 = 0

    package init() {}

    /// Nanoseconds from the scheduled start to the end.
    package var latency: UInt64 { self.end &- min(self.scheduled, self.end) }
    /// Nanoseconds from the first byte sent to the end.
    package var serviceTime: UInt64 { self.sent == 0 ? 0 : self.end &- min(self.sent, self.end) }
    /// Nanoseconds from the scheduled start to the first output; nil without output.
    package var timeToFirstToken: UInt64? {
        self.firstOutput == 0 ? nil : self.firstOutput &- min(self.scheduled, self.firstOutput)
    }
    /// Nanoseconds per output token, the first one excluded; nil below two tokens.
    package var timePerOutputToken: Double? {
        guard self.firstOutput > 0, self.outputTokens > 1 else { return nil }
        return Double(self.lastOutput &- min(self.firstOutput, self.lastOutput))
            / Double(self.outputTokens - 1)
    }
}
