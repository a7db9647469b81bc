import Core

/// The two sides of a comparison.
package enum Arm: String, Sendable, Codable, CaseIterable {
    case stable
    case canary
}

/// Bad things that are counted, each at most once per request.
package enum EventKind: String, Sendable, Codable, CaseIterable {
    /// Every failure that counts against the success rate.
    case error
    case timeout
    /// The client left before the answer was complete.
    case cancelled
    /// The model declined to answer (`finish_reason` or the `refusal` field).
    case refused
    /// No valid JSON where the request asked for JSON.
    case invalidJSON
    case emptyOutput
    /// Cut off by the token limit.
    case truncatedOutput
}

/// What has a distribution.
package enum LatencyKind: String, Sendable, Codable, CaseIterable {
    /// First byte of the request to the last byte of a successful response.
    case latency
    case timeToFirstToken
    case timePerOutputToken
    /// Tokens of the output, one counted as a microsecond.
    case outputTokens

    /// The value of one unit of the measured thing in a histogram.
    package static let nanosecondsPerToken: UInt64 = 1_000
}

/// Prompts of like length, which are compared with each other only.
package enum PromptStratum {
    /// Upper ends in tokens of all strata but the last.
    package static let tokenLimits = [256, 2_048, 16_384]
    package static let count = 4
    /// Where the length is known in bytes only.
    package static let bytesPerToken = 4

    /// The stratum of a prompt; unknown lengths, like prompts of no text, count as short.
    package static func index(tokens: Int?) -> Int {
        guard let tokens else { return 0 }
        return self.tokenLimits.firstIndex { tokens < $0 } ?? self.count - 1
    }
}

/// What one replica's requests that ended within the tick have shown, as far as they were
/// dispatched under the same weights and have prompts of the same stratum.
package struct ArmSample: Sendable, Equatable {
    package var arm: Arm
    package var replica: String
    /// How long the replica has been ready; nil: longer than any warm-up.
    package var readyFor: Duration?
    /// The generation of the traffic plan under which the requests were dispatched.
    package var generation: Int
    /// 0 ..< `PromptStratum.count`; others are clamped.
    package var stratum: Int
    package var requests: Int
    /// Of the requests, those that count for guardrails.
    package var failures = 0
    private var events: [Int]
    private var distributions: [BucketCounts?]

    package init(
        arm: Arm,
        replica: String,
        readyFor: Duration? = nil,
        generation: Int,
        stratum: Int = 0,
        requests: Int
    ) {
        self.arm = arm
        self.replica = replica
        self.readyFor = readyFor
        self.generation = generation
        self.stratum = min(max(stratum, 0), PromptStratum.count - 1)
        self.requests = max(requests, 0)
        self.events = Array(repeating: 0, count: EventKind.allCases.count)
        self.distributions = Array(repeating: nil, count: LatencyKind.allCases.count)
    }

    /// At most `requests`, at least 0.
    package subscript(kind: EventKind) -> Int {
        get { min(self.events[kind.index], self.requests) }
        set { self.events[kind.index] = max(newValue, 0) }
    }

    package subscript(kind: LatencyKind) -> BucketCounts? {
        get { self.distributions[kind.index] }
        set { self.distributions[kind.index] = newValue }
    }
}

extension EventKind {
    /// 0 ..< `allCases.count`.
    package var index: Int {
        switch self {
        case .error: 0
        case .timeout: 1
        case .cancelled: 2
        case .refused: 3
        case .invalidJSON: 4
        case .emptyOutput: 5
        case .truncatedOutput: 6
        }
    }
}

extension LatencyKind {
    /// 0 ..< `allCases.count`.
    package var index: Int {
        switch self {
        case .latency: 0
        case .timeToFirstToken: 1
        case .timePerOutputToken: 2
        case .outputTokens: 3
        }
    }
}

/// Requests that both arms answered, the canary a copy, within the tick.
package struct PairCounts: Sendable, Equatable {
    /// The canary's answer was bad, the stable arm's was not; and the other way round.
    package var canaryBad = 0
    package var stableBad = 0
    /// Both good, and one took longer than the other by more than the metric's margin allows.
    package var canarySlower = 0
    package var stableSlower = 0
    /// Answers that should be equal: how many were compared, and how many differed.
    package var compared = 0
    package var different = 0
    /// The same between two answers of the stable arm: how much differs without any change.
    package var baselineCompared = 0
    package var baselineDifferent = 0
    /// Whether the stable arm is asked twice: then nothing is said before it was.
    package var hasBaseline = false

    package init() {}
}

/// What the guardrails look at: everything the canary answered within the tick, warm-up included.
package struct GuardrailSample: Sendable, Equatable {
    package var requests = 0
    package var errors = 0
    /// The longest run of failures without a success between them that reached into the tick.
    package var consecutiveErrors = 0
    /// Crashes of the arm's replicas since the rollout began.
    package var crashes = 0
    /// Successful responses' times to the last byte.
    package var latency = BucketCounts()

    package init() {}
}
