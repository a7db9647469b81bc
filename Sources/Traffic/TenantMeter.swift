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
}

/// What a tenant uses at the moment, against its quota.
///
/// Requests and tokens are token buckets, full at first: one of a second's requests, one of a
/// minute's tokens. A request is charged with the tokens it may cost when it is admitted, and the
/// difference to what it did cost is settled when it ends, so that the bucket of tokens may be in
/// debt for a while; over any longer time the quota holds. One that wants more than the bucket
/// holds is admitted when it is full. A request that is refused costs nothing.
///
/// Where several gateways share the quota, `share` is the part that is this one's: it admits at
/// that part of the rates, and up to that part of requests at a time. A bucket that shrinks loses
/// what does not fit, one that grows is not given anything, so that moving shares to and fro makes
/// nothing out of nothing.
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

        /// Has another size from now on. What is there stays, as far as it fits.
        mutating func resize(capacity: Double, perSecond: Double, now: Instant) {
            self.refill(now)
            self.capacity = capacity
            self.perSecond = perSecond
            self.level = min(self.level, capacity)
        }

        /// Until there are so many, at most the capacity, in nanoseconds; 0 where there are.
        func wait(for count: Double) -> UInt64 {
            if self.capacity <= 0 { return Self.noRateNanoseconds }
            let missing = min(count, self.capacity) - self.level
            if missing <= 1e-9 * self.capacity { return 0 }
            return UInt64(min((missing / self.perSecond * 1e9).rounded(.up), 1e18))
        }

        /// Without a share: it may be another one with the next second.
        static let noRateNanoseconds: UInt64 = 1_000_000_000

        /// - Parameter limit: the whole of which this is a part.
        func reading(of limit: Int) -> Reading {
            Reading(
                limit: limit,
                remaining: max(0, Int(self.level.rounded(.down))),
                resetNanoseconds: self.wait(for: self.capacity)
            )
        }
    }

    package private(set) var quota: TenantQuota
    package private(set) var share: TenantShare
    private var demand = DemandWindow()
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

    package init(_ quota: TenantQuota, share: TenantShare = .whole, now: Instant) {
        self.quota = TenantQuota()
        self.share = share
        self.meanAnswerTokens = Double(Self.firstAnswerTokens)
        self.update(quota, now: now)
    }

    /// Takes over a new quota: what was used stays used.
    package mutating func update(_ quota: TenantQuota, now: Instant) {
        if quota == self.quota { return }
        self.quota = quota
        Self.update(
            &self.requests,
            capacity: self.requestCapacity,
            seconds: 1,
            now
        )
        Self.update(&self.tokens, capacity: self.tokenCapacity, seconds: 60, now)
    }

    private var requestCapacity: Double? {
        self.quota.requestsPerSecond.map { Double($0) * self.share.requests }
    }

    private var tokenCapacity: Double? {
        self.quota.tokensPerMinute.map { Double($0) * self.share.tokens }
    }

    /// Requests at a time that the share allows; nil is not limited.
    package var concurrencyLimit: Int? {
        // As whole as the share was meant.
        self.quota.concurrency.map {
            Int((Double($0) * self.share.concurrency + 1e-6).rounded(.down))
        }
    }

    /// Takes over another part of the quota.
    package mutating func take(_ share: TenantShare, now: Instant) {
        precondition(share.requests >= 0 && share.tokens >= 0, "a share below nothing")
        precondition(share.concurrency >= 0, "a share below nothing")
        if share == self.share { return }
        self.share = share
        if let capacity = self.requestCapacity {
            self.requests?.resize(capacity: capacity, perSecond: capacity, now: now)
        }
        if let capacity = self.tokenCapacity {
            self.tokens?.resize(capacity: capacity, perSecond: capacity / 60, now: now)
        }
    }

    /// What was asked for lately, whether it was admitted or not.
    package mutating func lately(now: Instant) -> TenantDemand {
        self.demand.reading(inFlight: self.inFlight, now)
    }

    private static func update(
        _ bucket: inout Bucket?,
        capacity: Double?,
        seconds: Double,
        _ now: Instant
    ) {
        guard let capacity else {
            bucket = nil
            return
        }
        precondition(capacity >= 0, "a limit of \(capacity)")
        let full = Bucket(capacity: capacity, perSecond: capacity / seconds, now: now)
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
        self.demand.asked(tokens: tokens, inFlight: self.inFlight, now)
        if let limit = self.concurrencyLimit, self.inFlight >= limit {
            self.demand.refusedAtATime()
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
        self.demand.admitted(inFlight: self.inFlight)
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
        return self.quota.requestsPerSecond.flatMap { self.requests?.reading(of: $0) }
    }

    package mutating func tokenReading(now: Instant) -> Reading? {
        self.tokens?.refill(now)
        return self.quota.tokensPerMinute.flatMap { self.tokens?.reading(of: $0) }
    }
}
