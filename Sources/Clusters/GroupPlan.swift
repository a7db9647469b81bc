import Autoscaling

/// Decides which replicas of one group to create, drain and take back.
///
/// Pure: it is asked again after every change, and once a plan is carried out the next is empty
/// until something happens. A changed template replaces one replica at a time: one more than
/// desired may exist, and an outdated one leaves only when a new one is ready in its place.
package struct GroupPlan: Equatable, Sendable {
    /// More replicas than desired while outdated ones are replaced.
    package static let surgeMax = 1

    package struct Candidate: Sendable {
        package var id: ReplicaID
        /// Made from the group's present template.
        package var isCurrent: Bool
        package var isReady: Bool
        /// On its way out for good.
        package var isLeaving: Bool
        /// Not ready, and not soon.
        package var isStuck: Bool
        /// On its way out, but not told yet: seconds until it is. Nil: not so.
        package var drainSecondsLeft: Double?
        package var inFlight: Int
        package var cacheValue: Double

        package init(
            id: ReplicaID,
            isCurrent: Bool = true,
            isReady: Bool = true,
            isLeaving: Bool = false,
            isStuck: Bool = false,
            drainSecondsLeft: Double? = nil,
            inFlight: Int = 0,
            cacheValue: Double = 0
        ) {
            self.id = id
            self.isCurrent = isCurrent
            self.isReady = isReady
            self.isLeaving = isLeaving
            self.isStuck = isStuck
            self.drainSecondsLeft = drainSecondsLeft
            self.inFlight = inFlight
            self.cacheValue = cacheValue
        }
    }

    package private(set) var create = 0
    package private(set) var drain: [ReplicaID] = []
    package private(set) var takeBack: [ReplicaID] = []

    package var isEmpty: Bool { self.create == 0 && self.drain.isEmpty && self.takeBack.isEmpty }

    /// - Parameter desired: at least 0.
    package init(desired: Int, replicas: [Candidate]) {
        precondition(desired >= 0, "\(desired) replicas desired")
        let staying = replicas.filter { !$0.isLeaving }
        let current = staying.filter(\.isCurrent)
        let outdated = staying.filter { !$0.isCurrent }
        if current.count > desired {
            self.drain = Self.victims(current, count: current.count - desired)
        } else {
            let missing = desired - current.count
            self.takeBack = Self.takenBack(replicas.filter(\.isCurrent), missing: missing)
            let room = desired + Self.surgeMax - staying.count - self.takeBack.count
            let rest = missing - self.takeBack.count
            self.create = outdated.isEmpty ? rest : max(0, min(rest, room))
        }
        let ready = current.count { $0.isReady && !self.drain.contains($0.id) }
        let allowed = max(0, desired - ready)
        self.drain += Self.victims(outdated, count: max(0, outdated.count - allowed))
    }

    /// Whom to stop first: those that are not ready, then those with the fewest requests in flight,
    /// then those with the least useful cache, then the newest (`VictimChoice`).
    package static func victims(_ candidates: [Candidate], count: Int) -> [ReplicaID] {
        let staying = candidates.map { candidate in
            var staying = candidate
            staying.drainSecondsLeft = nil
            return staying
        }
        let plan = VictimChoice.plan(
            desired: max(0, staying.count - count),
            self.choices(staying)
        )
        return plan.remove.map { candidates[$0].id }
    }

    /// The most useful ones of those that drain and still have some time to.
    private static func takenBack(_ candidates: [Candidate], missing: Int) -> [ReplicaID] {
        let draining = candidates.filter { $0.drainSecondsLeft != nil }
        let plan = VictimChoice.plan(
            desired: missing,
            self.choices(draining),
            drainMarginSeconds: Self.drainMarginSeconds
        )
        return plan.takeBack.map { draining[$0].id }
    }

    /// A replica that is about to be stopped is not given new requests.
    package static let drainMarginSeconds = 0.1

    private static func choices(_ candidates: [Candidate]) -> [VictimChoice.Candidate] {
        candidates.enumerated().map { index, candidate in
            let state: VictimChoice.Candidate.State =
                if candidate.drainSecondsLeft != nil {
                    .draining
                } else if candidate.isReady {
                    .ready
                } else {
                    candidate.isStuck ? .stuck : .starting
                }
            return VictimChoice.Candidate(
                id: index,
                state: state,
                streams: candidate.inFlight,
                cacheValue: candidate.cacheValue,
                // Only the order counts.
                ageSeconds: -Double(candidate.id.serial),
                drainSecondsLeft: candidate.drainSecondsLeft ?? .infinity
            )
        }
    }
}
