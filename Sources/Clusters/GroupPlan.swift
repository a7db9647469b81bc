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
        /// On its way out, but not told yet.
        package var canBeTakenBack: Bool
        package var inFlight: Int

        package init(
            id: ReplicaID,
            isCurrent: Bool = true,
            isReady: Bool = true,
            isLeaving: Bool = false,
            canBeTakenBack: Bool = false,
            inFlight: Int = 0
        ) {
            self.id = id
            self.isCurrent = isCurrent
            self.isReady = isReady
            self.isLeaving = isLeaving
            self.canBeTakenBack = canBeTakenBack
            self.inFlight = inFlight
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
            let retakable = replicas.filter { $0.canBeTakenBack && $0.isCurrent }
            self.takeBack = Self.victims(retakable, count: retakable.count).suffix(missing).map(
                \.self
            )
            let room = desired + Self.surgeMax - staying.count - self.takeBack.count
            let rest = missing - self.takeBack.count
            self.create = outdated.isEmpty ? rest : max(0, min(rest, room))
        }
        let ready = current.count { $0.isReady && !self.drain.contains($0.id) }
        let allowed = max(0, desired - ready)
        self.drain += Self.victims(outdated, count: max(0, outdated.count - allowed))
    }

    /// Whom to stop first: those that are not ready, then those with the fewest requests in flight,
    /// then the newest.
    package static func victims(_ candidates: [Candidate], count: Int) -> [ReplicaID] {
        let sorted = candidates.sorted { left, right in
            if left.isReady != right.isReady { return !left.isReady }
            if left.inFlight != right.inFlight { return left.inFlight < right.inFlight }
            return left.id.serial > right.id.serial
        }
        return sorted.prefix(count).map(\.id)
    }
}
