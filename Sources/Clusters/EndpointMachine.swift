import Core

/// What is known of a fixed address: where it is, whether it is ready, whether it is leaving.
///
/// ```
/// watching ──drain──▶ draining ──drained, deadline──▶ gone
///     ▲──takeBack────────┘
/// ```
///
/// It neither looks names up nor probes: very many endpoints may have the same name and address, so
/// that is done once for all of them (`NameWatch`, `HealthWatch`), and each is told what changed. A
/// failed lookup leaves the address there is; a new address starts anew.
package struct EndpointMachine: Sendable, Equatable {
    package enum Event: Sendable, Equatable {
        /// It was made, or its deadline has passed.
        case tick
        /// The numeric address of the name.
        case resolved(String)
        case notResolved(String)
        case health(HealthVerdict)
        case drain
        case drained
        case takeBack
        case kill
    }

    package enum Phase: Sendable, Equatable {
        case watching
        case draining(until: Instant)
        case gone
    }

    /// Nil: it is ready whenever its address is known.
    package var readiness: ReadinessSpec?
    package var drainDeadline: Duration
    package private(set) var phase = Phase.watching
    package private(set) var state = ReplicaState.pending
    package private(set) var since: Instant
    package private(set) var message = ""
    package private(set) var host: String?
    private var isHealthy = false
    private var wasReady = false

    /// - Parameter numericHost: the address, where no name has to be looked up.
    package init(
        numericHost: String?,
        readiness: ReadinessSpec?,
        drainDeadline: Duration,
        now: Instant
    ) {
        self.host = numericHost
        self.readiness = readiness
        self.drainDeadline = drainDeadline
        self.since = now
    }

    package var isGone: Bool { self.phase == .gone }

    package var deadline: Instant? {
        if case .draining(let until) = self.phase { until } else { nil }
    }

    package mutating func handle(_ event: Event, now: Instant) {
        if self.phase == .gone { return }
        self.transition(event, now)
        if self.readiness == nil, self.host != nil { self.wasReady = true }
        let state = self.currentState
        if state != self.state {
            self.state = state
            self.since = now
        }
    }

    // MARK: Transitions

    private mutating func transition(_ event: Event, _ now: Instant) {
        switch event {
        case .tick:
            if case .draining(let until) = self.phase, now >= until { self.phase = .gone }
        case .resolved(let host):
            if host == self.host { return }
            self.host = host
            self.message = ""
            self.isHealthy = false
        case .notResolved(let reason):
            if self.host == nil { self.message = reason }
        case .health(let verdict):
            self.isHealthy = verdict.isReady
            self.message = verdict.isReady ? "" : verdict.failure ?? ""
            if verdict.isReady { self.wasReady = true }
        case .drain:
            guard case .watching = self.phase else { return }
            self.phase = self.wasReady ? .draining(until: now + self.drainDeadline) : .gone
        case .drained:
            if case .draining = self.phase { self.phase = .gone }
        case .takeBack: self.phase = .watching
        case .kill: self.phase = .gone
        }
    }

    private var currentState: ReplicaState {
        switch self.phase {
        case .draining: .draining
        case .gone: .stopping
        case .watching: self.isReady ? .ready : self.wasReady ? .notReady : .pending
        }
    }

    private var isReady: Bool {
        self.host != nil && (self.readiness == nil || self.isHealthy)
    }
}

/// What the probes of an address come to.
package struct HealthVerdict: Sendable, Equatable {
    package var isReady: Bool
    /// Why the last probe failed, if it did.
    package var failure: String?
}

/// Probes one address: when, and what the answers come to. The second probe comes after a part of
/// the period that differs from address to address, so that very many addresses that were made
/// known at once are not all asked at the same moment ever after.
package struct HealthWatch: Sendable, Equatable {
    package let readiness: ReadinessSpec
    package private(set) var dueAt: Instant
    /// Nil before the first answer.
    package private(set) var verdict: HealthVerdict?
    package private(set) var tally: ProbeTally
    private var isProbing = false
    /// Of the period, 0 to 1; nil once the probes are spread.
    private var firstPart: Double?

    /// - Parameters:
    ///   - tally: what earlier probes, asked in another way, came to.
    ///   - phase: any number, different for different addresses.
    package init(_ readiness: ReadinessSpec, tally: ProbeTally, phase: UInt64, now: Instant) {
        self.readiness = readiness
        self.tally = tally
        self.dueAt = now
        self.firstPart = 0.5 + 0.5 * Double(phase >> 11) * 0x1p-53
    }

    /// When `begin` is to be called; nil while a probe is under way.
    package var deadline: Instant? { self.isProbing ? nil : self.dueAt }

    /// Whether to probe now.
    package mutating func begin(now: Instant) -> Bool {
        guard !self.isProbing, now >= self.dueAt else { return false }
        self.isProbing = true
        return true
    }

    /// Takes an answer in. True where it says something new.
    package mutating func note(_ result: ProbeResult, now: Instant) -> Bool {
        self.isProbing = false
        self.dueAt = now + self.readiness.period * (self.firstPart.take() ?? 1)
        self.tally.note(result, by: self.readiness)
        let isReady = self.tally.isReady
        let failure = isReady ? nil : self.tally.lastFailure
        let verdict = HealthVerdict(isReady: isReady, failure: failure)
        defer { self.verdict = verdict }
        return verdict != self.verdict
    }
}

/// Looks one name up, again and again, because names move.
package struct NameWatch: Sendable, Equatable {
    package static let period = Duration.seconds(30)
    /// After a failure.
    package static let retryPeriod = Duration.seconds(2)

    /// The last address, or why there has never been one; nil before the first answer.
    package private(set) var answer: NameResolver.Answer?
    private var dueAt: Instant
    private var isAsking = false

    package init(now: Instant) {
        self.dueAt = now
    }

    /// When `begin` is to be called; nil while it is being looked up.
    package var deadline: Instant? { self.isAsking ? nil : self.dueAt }

    /// Whether to look it up now.
    package mutating func begin(now: Instant) -> Bool {
        guard !self.isAsking, now >= self.dueAt else { return false }
        self.isAsking = true
        return true
    }

    /// Takes an answer in. True where it says something new.
    package mutating func note(_ answer: NameResolver.Answer, now: Instant) -> Bool {
        self.isAsking = false
        let isNew: Bool
        switch answer {
        case .address:
            self.dueAt = now + Self.period
            isNew = answer != self.answer
        case .failure:
            self.dueAt = now + Self.retryPeriod
            // What has been found once is kept.
            if case .address = self.answer { return false }
            isNew = answer != self.answer
        }
        self.answer = answer
        return isNew
    }
}
