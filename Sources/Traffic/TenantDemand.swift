import Core

/// What clients asked of a tenant's limits in the last whole second, admitted or not.
package struct TenantDemand: Sendable, Equatable {
    package var requestsPerSecond = 0.0
    /// As estimated when they came.
    package var tokensPerSecond = 0.0
    /// The most that were in flight, and those that were refused beside them.
    package var atATime = 0.0
    package var inFlight = 0

    /// Of a request, on average.
    package var tokensPerRequest: Double {
        self.requestsPerSecond > 0 ? self.tokensPerSecond / self.requestsPerSecond : 0
    }

    package init() {}
}

/// Counts by seconds: the one that runs, and the one before it.
struct DemandWindow: Sendable {
    private struct Second {
        var requests = 0
        var tokens = 0.0
        var peak = 0
        var refused = 0
    }

    private var second: UInt64 = 0
    private var now = Second()
    private var before = Second()

    private mutating func turn(_ inFlight: Int, _ time: Instant) {
        let second = time.nanoseconds / 1_000_000_000
        if second <= self.second { return }
        // What began earlier is still in flight.
        let idle = Second(peak: inFlight)
        self.before = second == self.second + 1 ? self.now : idle
        self.now = idle
        self.second = second
    }

    /// - Parameter inFlight: without this request.
    mutating func asked(tokens: Int, inFlight: Int, _ time: Instant) {
        self.turn(inFlight, time)
        self.now.requests += 1
        self.now.tokens += Double(tokens)
    }

    /// The last one that asked is in flight.
    mutating func admitted(inFlight: Int) { self.now.peak = max(self.now.peak, inFlight) }

    /// The last one that asked was refused for want of a place.
    mutating func refusedAtATime() { self.now.refused += 1 }

    mutating func reading(inFlight: Int, _ time: Instant) -> TenantDemand {
        self.turn(inFlight, time)
        var demand = TenantDemand()
        demand.requestsPerSecond = Double(self.before.requests)
        demand.tokensPerSecond = self.before.tokens
        demand.atATime = Double(
            max(self.before.peak + self.before.refused, self.now.peak + self.now.refused, inFlight)
        )
        demand.inFlight = inFlight
        return demand
    }
}
