import Core

/// Settings of passive ejection.
package struct OutlierPolicy: Equatable, Sendable {
    /// Failures in a row that eject; 0 turns ejection off.
    package var consecutiveErrors: Int
    /// First ejection; the n-th in a row lasts n times as long, at most `ejectForMax`.
    package var ejectFor: Duration
    package var ejectForMax: Duration
    /// Largest share of the endpoints that may be ejected at once, in millionths.
    package var ejectedMaxMillionths: Int

    package init(
        consecutiveErrors: Int = 5,
        ejectFor: Duration = .seconds(30),
        ejectForMax: Duration = .seconds(300),
        ejectedMaxMillionths: Int = 500_000
    ) {
        self.consecutiveErrors = max(consecutiveErrors, 0)
        self.ejectFor = max(ejectFor, .zero)
        self.ejectForMax = max(ejectForMax, self.ejectFor)
        self.ejectedMaxMillionths = min(max(ejectedMaxMillionths, 0), 1_000_000)
    }
}

/// Takes endpoints out of balancing that keep failing, by what their answers show.
///
/// States of an endpoint:
///
///     serving ── consecutiveErrors ──▶ ejected ── time is up ──▶ probing ── success ──▶ serving
///                                         ▲                         │
///                                         └───────── error ─────────┘
///
/// While probing, one request at a time is let through and its end decides. A probe that is never
/// heard of again stops counting after `ejectFor`.
///
/// The share rule, over n endpoints: with one, none is ever ejected, as there is nowhere else to
/// go; with more, `floor(n × share)` may be out (ejected or probing), at least one if the share is
/// above 0, and at least one always stays. An error that would eject beyond that is counted only;
/// the next one asks again.
///
/// How often an endpoint was ejected is forgotten one by one, for each `ejectFor` it has then
/// served.
package struct OutlierDetector: Sendable {
    package enum State: Equatable, Sendable {
        case serving
        case ejected(until: Instant)
        /// `since`: when the probe under way was let through; nil while none is.
        case probing(since: Instant?)
    }

    package enum OnError: Equatable, Sendable {
        case counted
        case ejected(until: Instant)
        /// Should have been ejected, but too many are already.
        case keptByShare
    }

    private struct Record: Sendable {
        var state = State.serving
        var errors = 0
        var timesEjected = 0
        var servingSince = Instant.zero
    }

    package private(set) var policy: OutlierPolicy
    private var records: [Record]
    private var outCount = 0

    package init(count: Int, policy: OutlierPolicy) {
        precondition(count >= 0 && count <= BalancingLimits.endpointsMax, "\(count) endpoints")
        self.policy = policy
        self.records = Array(repeating: Record(), count: count)
    }

    package var count: Int { self.records.count }

    /// How many are ejected or probing.
    package var ejectedCount: Int { self.outCount }

    /// Nothing is known against any endpoint: the owner may skip `admits`.
    package var isQuiet: Bool { self.outCount == 0 }

    package func state(_ endpoint: Int) -> State { self.records[endpoint].state }
    package func consecutiveErrors(_ endpoint: Int) -> Int { self.records[endpoint].errors }

    /// Whether the endpoint may get a request now. Changes nothing; call `willSend` when one goes.
    package func admits(_ endpoint: Int, now: Instant) -> Bool {
        switch self.records[endpoint].state {
        case .serving: return true
        case .ejected(let until): return now >= until
        case .probing(nil): return true
        case .probing(let since?): return now >= since + self.policy.ejectFor
        }
    }

    /// A request goes to the endpoint; one whose ejection is over is being probed from here on.
    package mutating func willSend(_ endpoint: Int, now: Instant) {
        switch self.records[endpoint].state {
        case .serving:
            break
        case .ejected(let until):
            if now >= until { self.records[endpoint].state = .probing(since: now) }
        case .probing:
            self.records[endpoint].state = .probing(since: now)
        }
    }

    /// The endpoint answered well. Answers to requests sent before an ejection do not end it.
    package mutating func recordSuccess(_ endpoint: Int, now: Instant) {
        switch self.records[endpoint].state {
        case .serving, .ejected:
            self.records[endpoint].errors = 0
        case .probing:
            self.records[endpoint].state = .serving
            self.records[endpoint].errors = 0
            self.records[endpoint].servingSince = now
            self.outCount -= 1
        }
        self.checkInvariants()
    }

    /// The endpoint failed in a way that is its own fault.
    package mutating func recordError(_ endpoint: Int, now: Instant) -> OnError {
        guard self.policy.consecutiveErrors > 0 else { return .counted }
        defer { self.checkInvariants() }
        let (errors, overflow) = self.records[endpoint].errors.addingReportingOverflow(1)
        self.records[endpoint].errors = overflow ? .max : errors
        switch self.records[endpoint].state {
        case .ejected:
            return .counted
        case .probing:
            return self.eject(endpoint, now: now)
        case .serving:
            if self.records[endpoint].errors < self.policy.consecutiveErrors { return .counted }
            if self.outCount >= self.outMax { return .keptByShare }
            self.outCount += 1
            return self.eject(endpoint, now: now)
        }
    }

    /// A request ended without telling anything about the endpoint: its client went away.
    package mutating func recordAbandoned(_ endpoint: Int) {
        if case .probing = self.records[endpoint].state {
            self.records[endpoint].state = .probing(since: nil)
        }
    }

    /// A new set of endpoints: `previousIndex` says where each stood before, nil for a new one.
    /// Those that are out stay out, also where the share would now allow fewer.
    package mutating func update(
        count: Int,
        policy: OutlierPolicy,
        previousIndex: (Int) -> Int?
    ) {
        precondition(count >= 0 && count <= BalancingLimits.endpointsMax, "\(count) endpoints")
        let old = self.records
        self.policy = policy
        self.records = (0..<count).map { index in
            guard let previous = previousIndex(index), old.indices.contains(previous) else {
                return Record()
            }
            return old[previous]
        }
        if policy.consecutiveErrors == 0 || count == 1 {
            for index in self.records.indices { self.records[index].state = .serving }
        }
        self.outCount = self.records.count { $0.state != .serving }
    }

    /// How many may be out at once.
    package var outMax: Int {
        let count = self.records.count
        guard count > 1, self.policy.ejectedMaxMillionths > 0 else { return 0 }
        return min(count - 1, max(1, count * self.policy.ejectedMaxMillionths / 1_000_000))
    }

    private mutating func eject(_ endpoint: Int, now: Instant) -> OnError {
        let base = max(self.policy.ejectFor.nanosecondsClamped, 1)
        if case .serving = self.records[endpoint].state {
            let served = now.nanoseconds(since: self.records[endpoint].servingSince)
            let forgiven = Int(clamping: served / UInt64(base))
            let times = self.records[endpoint].timesEjected
            self.records[endpoint].timesEjected = max(0, times - forgiven)
        }
        let times = min(self.records[endpoint].timesEjected + 1, 1_000_000)
        self.records[endpoint].timesEjected = times
        let (product, overflow) = base.multipliedReportingOverflow(by: Int64(times))
        let longest = self.policy.ejectForMax.nanosecondsClamped
        let until = now.advanced(byNanoseconds: overflow ? longest : min(product, longest))
        self.records[endpoint].state = .ejected(until: until)
        self.records[endpoint].errors = 0
        return .ejected(until: until)
    }

    private func checkInvariants() {
        assert(self.outCount == self.records.count { $0.state != .serving }, "lost count")
        assert(self.outCount >= 0, "fewer than none are out")
    }
}
