import Core

/// Watches one fixed address: when to look its name up, when to probe it, whether it is ready.
///
/// ```
/// watching ──drain──▶ draining ──drained, deadline──▶ gone
///     ▲──takeBack────────┘
/// ```
///
/// Within `watching` and `draining` it is looked up again every `lookupPeriod`, because names move;
/// a new address starts anew. A failed lookup leaves the address there is.
package struct EndpointMachine: Sendable, Equatable {
    package static let lookupPeriod = Duration.seconds(30)
    /// After a failed lookup.
    package static let lookupRetry = Duration.seconds(2)

    package enum Event: Sendable, Equatable {
        case tick
        /// The numeric address of the name.
        case resolved(String)
        case notResolved(String)
        case probed(ProbeResult)
        case drain
        case drained
        case takeBack
        case kill
    }

    package enum Action: Sendable, Equatable {
        case resolve
        case probe
        case cancelProbe
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
    private let isNumeric: Bool
    private var tally = ProbeTally()
    private var wasReady = false
    private var probeAt: Instant
    private var isProbing = false
    private var resolveAt: Instant
    private var isResolving = false

    /// - Parameter numericHost: the address, where no name has to be looked up.
    package init(
        numericHost: String?,
        readiness: ReadinessSpec?,
        drainDeadline: Duration,
        now: Instant
    ) {
        self.host = numericHost
        self.isNumeric = numericHost != nil
        self.readiness = readiness
        self.drainDeadline = drainDeadline
        self.since = now
        self.probeAt = now
        self.resolveAt = now
    }

    package var isGone: Bool { self.phase == .gone }

    package var deadline: Instant? {
        let probe = self.isProbing || self.host == nil || self.readiness == nil ? nil : self.probeAt
        let resolve = self.isNumeric || self.isResolving ? nil : self.resolveAt
        switch self.phase {
        case .watching: return [probe, resolve].compactMap(\.self).min()
        case .draining(let until): return [probe, resolve, until].compactMap(\.self).min()
        case .gone: return nil
        }
    }

    package mutating func handle(_ event: Event, now: Instant) -> [Action] {
        if self.phase == .gone { return [] }
        let actions = self.transition(event, now)
        let state = self.currentState
        if state != self.state {
            self.state = state
            self.since = now
        }
        return actions
    }

    // MARK: Transitions

    private mutating func transition(_ event: Event, _ now: Instant) -> [Action] {
        switch event {
        case .tick: return self.tick(now)
        case .resolved(let host): return self.resolved(host, now)
        case .notResolved(let reason):
            self.isResolving = false
            self.resolveAt = now + Self.lookupRetry
            if self.host == nil { self.message = reason }
        case .probed(let result): self.probed(result, now)
        case .drain:
            if !self.wasReady { return self.end() }
            guard case .watching = self.phase else { return [] }
            self.phase = .draining(until: now + self.drainDeadline)
        case .drained:
            if case .draining = self.phase { return self.end() }
        case .takeBack: self.phase = .watching
        case .kill: return self.end()
        }
        return []
    }

    private mutating func tick(_ now: Instant) -> [Action] {
        if case .draining(let until) = self.phase, now >= until { return self.end() }
        var actions: [Action] = []
        if !self.isNumeric, !self.isResolving, now >= self.resolveAt {
            self.isResolving = true
            actions.append(.resolve)
        }
        if self.readiness == nil, self.host != nil { self.wasReady = true }
        if self.readiness != nil, self.host != nil, !self.isProbing, now >= self.probeAt {
            self.isProbing = true
            actions.append(.probe)
        }
        return actions
    }

    private mutating func resolved(_ host: String, _ now: Instant) -> [Action] {
        self.isResolving = false
        self.resolveAt = now + Self.lookupPeriod
        if host == self.host { return [] }
        self.host = host
        self.message = ""
        self.tally = ProbeTally()
        self.wasReady = self.wasReady || self.readiness == nil
        self.probeAt = now
        defer { self.isProbing = false }
        return self.isProbing ? [.cancelProbe] : []
    }

    private mutating func probed(_ result: ProbeResult, _ now: Instant) {
        guard self.isProbing, let readiness = self.readiness else { return }
        self.isProbing = false
        self.probeAt = now + readiness.period
        self.tally.note(result, by: readiness)
        self.message = self.tally.isReady ? "" : self.tally.lastFailure ?? ""
        if self.tally.isReady { self.wasReady = true }
    }

    private mutating func end() -> [Action] {
        self.phase = .gone
        return [.cancelProbe]
    }

    private var currentState: ReplicaState {
        switch self.phase {
        case .draining: .draining
        case .gone: .stopping
        case .watching: self.isReady ? .ready : self.wasReady ? .notReady : .pending
        }
    }

    private var isReady: Bool {
        self.host != nil && (self.readiness == nil || self.tally.isReady)
    }
}
