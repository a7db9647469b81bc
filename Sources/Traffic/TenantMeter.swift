import Core

/// How much a tenant may use; nil is not limited.
package struct TenantQuota: Equatable, Sendable {
    package var requestsPerSecond: Int?
    package var tokensPerMinute: Int?
    package var concurrency: Int?

    package init(
        requestsPerSecond: Int? = nil,
        tokensPerMinute: Int? = nil,
        concurrency: Int? = nil
    ) {
        self.requestsPerSecond = requestsPerSecond
        self.tokensPerMinute = tokensPerMinute
        self.concurrency = concurrency
    }

    package var isUnlimited: Bool {
        self.requestsPerSecond == nil && self.tokensPerMinute == nil && self.concurrency == nil
    }
}

/// What a tenant uses at the moment, against its quota.
///
/// Requests and tokens are token buckets, full at first: one of a second's requests, one of a
/// minute's tokens. A request is charged with the tokens it may cost when it is admitted, and the
/// difference to what it did cost is settled when it ends, so that the bucket of tokens may be in
/// debt for a while; over any longer time the quota holds. One that wants more than the bucket
/// holds is admitted when it is full. A request that is refused costs nothing.
///
/// Time is a parameter; one mutex around it where several threads use it.
package struct TenantMeter: Sendable {
    /// A debt of tokens is never more than this many minutes of the quota: a server that counts
    /// wildly must not lock a tenant out for days.
    package static let debtMinutesMax = 10.0

    package enum Limit: UInt8, CaseIterable, Sendable {
        case requests, tokens, concurrency
    }

    package enum OnRequest: Equatable, Sendable {
        case admitted
        /// Not before so many nanoseconds; for concurrency nobody knows, and it is a guess.
        case refused(Limit, retryAfterNanoseconds: UInt64)
    }

    /// One limit as it is told to clients.
    package struct Reading: Equatable, Sendable {
        package var limit: Int
        package var remaining: Int
        /// Until nothing of the limit is used.
        package var resetNanoseconds: UInt64
    }

    private struct Bucket: Sendable {
        var capacity: Double
        var perSecond: Double
        var level: Double
        var at: Instant

        init(capacity: Double, perSecond: Double, now: Instant) {
            self.capacity = capacity
            self.perSecond = perSecond
            self.level = capacity
            self.at = now
        }

        mutating func refill(_ now: Instant) {
            let seconds = Double(now.nanoseconds(since: self.at)) / 1e9
            self.at = max(self.at, now)
            self.level = min(self.capacity, self.level + seconds * self.perSecond)
        }

        /// Until there are so many, at most the capacity, in nanoseconds; 0 where there are.
        func wait(for count: Double) -> UInt64 {
            let missing = min(count, self.capacity) - self.level
            if missing <= 1e-9 * self.capacity { return 0 }
            return UInt64(min((missing / self.perSecond * 1e9).rounded(.up), 1e18))
        }

        var reading: Reading {
            Reading(
                limit: Int(self.capacity),
                remaining: max(0, Int(self.level.rounded(.down))),
                resetNanoseconds: self.wait(for: self.capacity)
            )
        }
    }

    package private(set) var quota: TenantQuota
    /// Requests that were admitted and have not ended.
    package private(set) var inFlight = 0
    private var requests: Bucket?
    private var tokens: Bucket?
    /// Of answers, to guess the next one by: exponentially weighted.
    private var meanAnswerTokens: Double

    /// Tokens an answer is taken to have before the first was seen.
    package static let firstAnswerTokens = 256
    private static let answerWeight = 1.0 / 16
    private static let concurrencyRetryNanoseconds: UInt64 = 1_000_000_000

    package init(_ quota: TenantQuota, now: Instant) {
        self.quota = TenantQuota()
        self.meanAnswerTokens = Double(Self.firstAnswerTokens)
        self.update(quota, now: now)
    }

    /// Takes over a new quota: what was used stays used.
    package mutating func update(_ quota: TenantQuota, now: Instant) {
        if quota == self.quota { return }
        self.quota = quota
        Self.update(
            &self.requests,
            capacity: quota.requestsPerSecond,
            seconds: 1,
            now
        )
        Self.update(&self.tokens, capacity: quota.tokensPerMinute, seconds: 60, now)
    }

    private static func update(
        _ bucket: inout Bucket?,
        capacity: Int?,
        seconds: Double,
        _ now: Instant
    ) {
        guard let capacity else {
            bucket = nil
            return
        }
        precondition(capacity > 0, "a limit of \(capacity)")
        let full = Bucket(
            capacity: Double(capacity),
            perSecond: Double(capacity) / seconds,
            now: now
        )
        guard var old = bucket else {
            bucket = full
            return
        }
        old.refill(now)
        let used = old.capacity - old.level
        bucket = full
        bucket?.level = max(
            full.capacity - used,
            -full.perSecond * 60 * Self.debtMinutesMax
        )
    }

    /// Tokens that the answer to a request is charged with where the request sets no limit.
    package var expectedAnswerTokens: Int { Int(self.meanAnswerTokens.rounded(.up)) }

    /// Whether a request that may cost so many tokens is admitted now.
    package mutating func request(tokens: Int, now: Instant) -> OnRequest {
        precondition(tokens >= 0, "a request of \(tokens) tokens")
        self.requests?.refill(now)
        self.tokens?.refill(now)
        if let limit = self.quota.concurrency, self.inFlight >= limit {
            let wait = Self.concurrencyRetryNanoseconds
            return .refused(.concurrency, retryAfterNanoseconds: wait)
        }
        if let wait = self.requests?.wait(for: 1), wait > 0 {
            return .refused(.requests, retryAfterNanoseconds: wait)
        }
        if let wait = self.tokens?.wait(for: Double(max(1, tokens))), wait > 0 {
            return .refused(.tokens, retryAfterNanoseconds: wait)
        }
        self.requests?.level -= 1
        self.tokens?.level -= Double(tokens)
        self.inFlight += 1
        return .admitted
    }

    /// An admitted request has ended.
    /// - Parameter charged: what it was admitted with.
    /// - Parameter cost: what it did cost, all in all.
    /// - Parameter answer: of these, what its answer had; nil where that is not known.
    package mutating func ended(charged: Int, cost: Int, answer: Int?, now: Instant) {
        precondition(self.inFlight > 0, "more requests ended than were admitted")
        self.inFlight -= 1
        if let answer {
            let difference = Double(min(max(0, answer), 1_000_000)) - self.meanAnswerTokens
            self.meanAnswerTokens += Self.answerWeight * difference
        }
        guard var bucket = self.tokens else { return }
        bucket.refill(now)
        let level = bucket.level - (Double(max(0, cost)) - Double(charged))
        let floor = -bucket.perSecond * 60 * Self.debtMinutesMax
        bucket.level = min(bucket.capacity, max(floor, level))
        self.tokens = bucket
    }

    /// How much of requests per second is left; nil where that is not limited.
    package mutating func requestReading(now: Instant) -> Reading? {
        self.requests?.refill(now)
        return self.requests?.reading
    }

    package mutating func tokenReading(now: Instant) -> Reading? {
        self.tokens?.refill(now)
        return self.tokens?.reading
    }
}
