import Core

/// How many retries there may be: a share of the requests of the last ten seconds, and a few per
/// second besides, so that a model with little traffic can retry at all.
///
/// It bounds what retries add to the load of a fleet that is failing: with 20 %, at most a fifth.
/// Ten buckets of one second, so the window slides in steps of a second and takes constant memory.
/// Each worker has its own; its share of the requests is its share of the budget.
package struct RetryBudget: Sendable {
    package static let bucketCount = 10
    package static let whole = 1_000_000
    package static let millionthsDefault = 200_000

    private static let bucketNanoseconds: UInt64 = 1_000_000_000

    private let millionths: Int
    private let floorPerSecond: Int
    private var requestBuckets = InlineArray<10, Int>(repeating: 0)
    private var retryBuckets = InlineArray<10, Int>(repeating: 0)
    private var currentSecond: UInt64 = 0
    /// Sums over the buckets.
    private(set) var requests = 0
    private(set) var retries = 0

    /// `millionths` of the requests, clamped to 0...1 000 000, and `floorPerSecond` besides. Both
    /// 0: no retries.
    package init(millionths: Int = millionthsDefault, floorPerSecond: Int = 1) {
        self.millionths = min(max(millionths, 0), Self.whole)
        self.floorPerSecond = min(max(floorPerSecond, 0), 1_000)
    }

    /// Counts a request's first try.
    package mutating func recordRequest(now: Instant) {
        let bucket = self.advance(to: now)
        self.requestBuckets[bucket] &+= 1
        self.requests &+= 1
    }

    /// Takes one retry out of the budget, or says that there is none left.
    package mutating func takeRetry(now: Instant) -> Bool {
        let bucket = self.advance(to: now)
        let earned = self.requests.multipliedReportingOverflow(by: self.millionths)
        let fromRequests = earned.overflow ? Int.max / 2 : earned.partialValue / Self.whole
        guard self.retries < fromRequests + self.floorPerSecond * Self.bucketCount else {
            return false
        }
        self.retryBuckets[bucket] &+= 1
        self.retries &+= 1
        return true
    }

    /// Empties the buckets that have left the window; the bucket of `now`. Time that goes backwards
    /// counts as the latest seen.
    private mutating func advance(to now: Instant) -> Int {
        let second = now.nanoseconds / Self.bucketNanoseconds
        if second > self.currentSecond {
            let passed = min(second - self.currentSecond, UInt64(Self.bucketCount))
            for step in 1...passed {
                let stale = Int((self.currentSecond &+ step) % UInt64(Self.bucketCount))
                self.requests &-= self.requestBuckets[stale]
                self.retries &-= self.retryBuckets[stale]
                self.requestBuckets[stale] = 0
                self.retryBuckets[stale] = 0
            }
            self.currentSecond = second
        }
        return Int(self.currentSecond % UInt64(Self.bucketCount))
    }
}

/// Whether another try could end differently, as far as the error itself says.
package enum Retryability: CaseIterable, Sendable {
    case yes, no
    /// Only if the connection had served before: the server may have closed it, idle, while the
    /// request was on its way.
    case onlyIfReused
}

/// What is known about a request whose try has failed.
package struct RetryFacts: Equatable, Sendable {
    package var retryability: Retryability
    /// The method is idempotent, or the request is known to be harmless to repeat
    /// (`RoutingDecision.isRepeatable`).
    package var isRepeatable: Bool
    /// No byte of the request reached the endpoint.
    package var wasNeverSent: Bool
    package var connectionWasReused: Bool
    /// All of the body that has been consumed is still held.
    package var bodyIsReplayable: Bool
    /// A byte of the response, an interim one included, has been passed to the client.
    package var responseHasBegun: Bool
    /// Tries made, the failed one included.
    package var attempts: Int
    /// Tries in all that the model's settings allow, the first included.
    package var attemptsMax: Int

    package init(
        retryability: Retryability,
        isRepeatable: Bool,
        wasNeverSent: Bool,
        connectionWasReused: Bool,
        bodyIsReplayable: Bool,
        responseHasBegun: Bool,
        attempts: Int,
        attemptsMax: Int
    ) {
        self.retryability = retryability
        self.isRepeatable = isRepeatable
        self.wasNeverSent = wasNeverSent
        self.connectionWasReused = connectionWasReused
        self.bodyIsReplayable = bodyIsReplayable
        self.responseHasBegun = responseHasBegun
        self.attempts = attempts
        self.attemptsMax = attemptsMax
    }
}

package enum RetryDecision: Equatable, Sendable {
    /// On an endpoint that has not failed this request.
    case retryElsewhere
    /// On another endpoint if one is eligible, else on the same one with a new connection: only the
    /// connection was stale, nothing is known against the endpoint.
    case retryPreferablyElsewhere
    case giveUp(Reason)

    package enum Reason: CaseIterable, Equatable, Sendable {
        /// The client has seen part of an answer.
        case responseBegun
        /// The error would come again, or the fault is the client's.
        case notRetryable
        /// The endpoint may have acted on the request, and acting twice may matter.
        case notRepeatable
        case bodyGone
        case attemptsExhausted
        case budgetExhausted
    }
}

/// When a failed request is tried again: before any byte of a response has reached the client; when
/// it was never sent or is harmless to repeat; on another endpoint; within the number of tries and
/// the budget.
///
/// RFC 9110, section 9.2.2, forbids a proxy to repeat a non-idempotent request by itself unless it
/// knows its semantics to be idempotent. A `POST` that only computes (`…/infer`, `:predict`,
/// `/v1/chat/completions`) is known to be; `RequestRouting` says which. A request that was sent on
/// a reused connection and got no answer is no exception: the endpoint may have died while it
/// worked.
package enum RetryPolicy {
    /// Decides, and takes from the budget where the answer is to retry. Reasons are looked at in
    /// the order of their cases, so the budget is only asked about what is allowed otherwise.
    package static func decide(
        _ facts: RetryFacts,
        budget: inout RetryBudget,
        now: Instant
    ) -> RetryDecision {
        if let reason = Self.objection(to: facts) { return .giveUp(reason) }
        guard budget.takeRetry(now: now) else { return .giveUp(.budgetExhausted) }
        let onlyConnectionFailed = facts.retryability == .onlyIfReused && !facts.wasNeverSent
        return onlyConnectionFailed ? .retryPreferablyElsewhere : .retryElsewhere
    }

    /// Why the request may not be tried again whatever the budget; nil where it may.
    package static func objection(to facts: RetryFacts) -> RetryDecision.Reason? {
        if facts.responseHasBegun { return .responseBegun }
        switch facts.retryability {
        case .yes: break
        case .no: return .notRetryable
        case .onlyIfReused:
            if !facts.connectionWasReused, !facts.wasNeverSent { return .notRetryable }
        }
        if !facts.wasNeverSent, !facts.isRepeatable { return .notRepeatable }
        if !facts.bodyIsReplayable { return .bodyGone }
        if facts.attempts >= facts.attemptsMax { return .attemptsExhausted }
        return nil
    }
}
