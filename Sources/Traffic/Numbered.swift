import Core

// What counts its endpoints and requests by numbers, such as a simulation: generic code is not
// specialised for another module, and unspecialised it would ask the runtime for types at every
// step, which takes several times as long as what it does.

/// Endpoints that differ in nothing but their load.
private struct EqualEndpoints: BalancedEndpoints {
    let loads: [Int32]
    let limit: Int

    var count: Int { self.loads.count }
    func inFlight(_ index: Int) -> Int { Int(self.loads[index]) }
    func limit(_ index: Int) -> Int { self.limit }
    func isEligible(_ index: Int) -> Bool { true }
    func identity(_ index: Int) -> UInt64 { UInt64(index) }
}

extension LeastLoaded {
    /// Chooses among endpoints that are all eligible, and alike.
    /// - Parameters:
    ///   - loads: requests in flight, by endpoint.
    ///   - limit: most of them on each; `Int.max` for no limit.
    package mutating func pick(loads: [Int32], limit: Int) -> BalancerChoice {
        self.pick(EqualEndpoints(loads: loads, limit: limit))
    }
}

/// An `AdmissionQueue` whose tickets are numbers.
package struct NumberedQueue: Sendable {
    private var queue: AdmissionQueue<Int32>

    package init(limits: AdmissionLimits) {
        self.queue = AdmissionQueue(limits: limits)
    }

    /// False where the queue is full.
    package mutating func enqueue(_ ticket: Int32, deadline: Instant, now: Instant) -> Bool {
        switch self.queue.enqueue(ticket, bytes: 0, deadline: deadline, now: now) {
        case .queued: true
        case .full: false
        }
    }

    /// See `AdmissionQueue.popFirst`.
    package mutating func popFirst(now: Instant) -> Int32? { self.queue.popFirst(now: now)?.ticket }

    /// See `AdmissionQueue.popExpired`; with when it came.
    package mutating func popExpired(now: Instant) -> (ticket: Int32, enqueuedAt: Instant)? {
        self.queue.popExpired(now: now).map { ($0.ticket, $0.enqueuedAt) }
    }

    /// See `AdmissionQueue.oldestWaitNanoseconds`.
    package func oldestWaitNanoseconds(now: Instant) -> UInt64 {
        self.queue.oldestWaitNanoseconds(now: now)
    }
}
