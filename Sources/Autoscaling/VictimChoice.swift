/// Which replicas go when there are too many, and which come back when there are too few again.
package enum VictimChoice {
    /// What is known of one replica.
    package struct Candidate: Sendable, Hashable {
        package enum State: Sendable, Hashable {
            case starting
            case stuck
            case ready
            case draining
        }

        /// The caller's name for it.
        package var id: Int
        package var state: State
        /// Requests in flight.
        package var streams: Int
        /// How useful its prefix cache is: hits per second, or any measure that grows with it.
        package var cacheValue: Double
        /// Seconds since it became ready or, before that, since it was asked for.
        package var ageSeconds: Double
        /// Seconds until it is stopped whatever runs on it. Only for draining ones.
        package var drainSecondsLeft: Double

        package init(
            id: Int,
            state: State,
            streams: Int = 0,
            cacheValue: Double = 0,
            ageSeconds: Double = 0,
            drainSecondsLeft: Double = .infinity
        ) {
            self.id = id
            self.state = state
            self.streams = streams
            self.cacheValue = cacheValue
            self.ageSeconds = ageSeconds
            self.drainSecondsLeft = drainSecondsLeft
        }
    }

    /// What is to happen to single replicas so that `desired` stay.
    package struct Plan: Sendable, Hashable {
        /// Replicas to drain (or, where they are not ready yet, to stop), the first one first.
        package var remove: [Int] = []
        /// Draining replicas to give traffic again.
        package var takeBack: [Int] = []
        /// Replicas to start.
        package var start = 0
    }

    /// - Parameter drainMarginSeconds: a draining replica with less time left is not taken back.
    package static func plan(
        desired: Int,
        _ candidates: [Candidate],
        drainMarginSeconds: Double = 1
    ) -> Plan {
        let staying = candidates.filter { $0.state != .draining }
        var plan = Plan()
        if staying.count > desired {
            let order = staying.sorted(by: Self.goesBefore)
            plan.remove = order.prefix(staying.count - max(0, desired)).map(\.id)
        } else if staying.count < desired {
            let back = candidates.filter {
                $0.state == .draining && $0.drainSecondsLeft > drainMarginSeconds
            }
            // The one with the warmest cache and the most streams is the most useful one.
            let order = back.sorted { Self.goesBefore($1, $0) }
            plan.takeBack = order.prefix(desired - staying.count).map(\.id)
            plan.start = desired - staying.count - plan.takeBack.count
        }
        return plan
    }

    /// Stuck and starting replicas go first (the youngest first), then ready ones with the fewest
    /// streams, the least useful cache and, last, the youngest.
    static func goesBefore(_ left: Candidate, _ right: Candidate) -> Bool {
        let ranks = (Self.rank(left.state), Self.rank(right.state))
        if ranks.0 != ranks.1 { return ranks.0 < ranks.1 }
        if left.streams != right.streams { return left.streams < right.streams }
        let values = (Self.clean(left.cacheValue), Self.clean(right.cacheValue))
        if values.0 != values.1 { return values.0 < values.1 }
        let ages = (Self.clean(left.ageSeconds), Self.clean(right.ageSeconds))
        if ages.0 != ages.1 { return ages.0 < ages.1 }
        return left.id < right.id
    }

    private static func rank(_ state: Candidate.State) -> Int {
        switch state {
        case .stuck: 0
        case .starting: 1
        case .ready: 2
        case .draining: 3
        }
    }

    /// Comparisons with NaN would make no order.
    private static func clean(_ value: Double) -> Double { value.isNaN ? 0 : value }
}
