import Autoscaling
import Core

/// One workload's way from the replicas it has to those it should have.
///
/// A rise is written at once. A fall goes replica by replica: choose a victim, let the gateways
/// drain it, mark it with a deletion cost so that the ReplicaSet controller takes this one, and
/// only then write the smaller number. Each `step` looks at everything anew and says what should
/// hold now, so that a lost call, a restart or another leader changes nothing but the time it
/// takes.
///
/// A victim is waited for until its drain deadline. One that was given up by a smaller number and
/// is still there after `goneMax` was not taken: it is served again and loses its mark.
package struct ScaleDown: Sendable {
    /// One pod, as observed now.
    package struct Pod: Sendable, Hashable {
        package enum State: Sendable, Hashable {
            case starting
            case stuck
            case ready
            /// Being deleted, or over.
            case leaving
        }

        package var uid: String
        package var state: State
        package var streams: Int
        /// No gateway sends it anything, and nothing is in flight there.
        package var isDrained: Bool
        package var deletionCost: Int?
        package var cacheValue: Double
        package var ageSeconds: Double
        /// Its number in a StatefulSet, which always removes the highest one, whatever the marks
        /// say.
        package var ordinal: Int?

        package init(
            uid: String,
            state: State,
            streams: Int = 0,
            isDrained: Bool = false,
            deletionCost: Int? = nil,
            cacheValue: Double = 0,
            ageSeconds: Double = 0,
            ordinal: Int? = nil
        ) {
            self.uid = uid
            self.state = state
            self.streams = streams
            self.isDrained = isDrained
            self.deletionCost = deletionCost
            self.cacheValue = cacheValue
            self.ageSeconds = ageSeconds
            self.ordinal = ordinal
        }
    }

    package struct Write: Sendable, Hashable {
        package var replicas: Int
        /// Who is to go by it; to be handed back to `wrote`.
        package var victims: Set<String>
    }

    /// What should be done now. Repeated until it is done.
    package struct Plan: Sendable, Hashable {
        /// Pods that get no new requests: all of them, at every step.
        package var draining: Set<String> = []
        /// Deletion costs to set; nil takes the annotation away.
        package var costs: [String: Int?] = [:]
        package var write: Write?
    }

    /// The deletion cost of a victim. A number nobody else would think of: a mark that is found on
    /// a pod that stays is ours, also after a restart, and is taken away.
    package static let mark = -30_817
    /// How long a pod may take to go once the smaller number was written.
    package static let goneMax = Duration.seconds(60)

    private struct Victim: Sendable {
        var since: Instant
        var writtenAt: Instant?
    }

    private var victims: [String: Victim] = [:]
    package let drainDeadline: Duration

    package init(drainDeadline: Duration) {
        self.drainDeadline = drainDeadline
    }

    /// Pods chosen to go.
    package var draining: Set<String> { Set(self.victims.keys) }

    /// - Parameters:
    ///   - wanted: the number there should be.
    ///   - replicas: the number that is written in the cluster now.
    package mutating func step(
        wanted: Int,
        replicas: Int,
        pods: [Pod],
        now: Instant
    ) -> Plan {
        precondition(wanted >= 0 && replicas >= 0, "\(wanted) of \(replicas) replicas")
        let live = pods.filter { $0.state != .leaving }
        self.forget(live, wanted: wanted, replicas: replicas, now: now)
        let open = live.filter { self.victims[$0.uid]?.writtenAt == nil }
        // Surplus pods of a rolling update are not ours to remove, and pods that were never made go
        // without anybody choosing.
        let count = min(replicas, open.count)
        self.choose(open, count: max(0, count - wanted), now: now)
        var plan = Plan()
        plan.draining = self.draining
        let done = open.filter { self.isDone($0, now: now) }
        for pod in live { self.setCost(of: pod, in: done, &plan) }
        let leaving = Self.leaving(done, of: open)
        let target = wanted >= replicas ? wanted : max(wanted, count - leaving.count)
        if target != replicas {
            plan.write = Write(replicas: target, victims: Set(leaving.map(\.uid)))
        }
        return plan
    }

    /// The number was written.
    package mutating func wrote(_ write: Write, at now: Instant) {
        for uid in write.victims where self.victims[uid] != nil {
            self.victims[uid]?.writtenAt = now
        }
    }

    private mutating func forget(_ live: [Pod], wanted: Int, replicas: Int, now: Instant) {
        let present = Set(live.map(\.uid))
        for (uid, victim) in self.victims {
            let isLate = victim.writtenAt.map { now - $0 >= Self.goneMax } ?? false
            // With more wanted again, whoever is not being deleted may stay.
            if !present.contains(uid) || isLate || (victim.writtenAt != nil && wanted > replicas) {
                self.victims[uid] = nil
            }
        }
    }

    private mutating func choose(_ open: [Pod], count: Int, now: Instant) {
        let chosen = open.filter { self.victims[$0.uid] != nil }
        if chosen.count > count {
            // The order of leaving among the chosen: those behind `count` are taken back.
            for pod in Self.order(chosen).dropFirst(count) { self.victims[pod.uid] = nil }
        } else if chosen.count < count {
            let rest = open.filter { self.victims[$0.uid] == nil }
            for pod in Self.order(rest).prefix(count - chosen.count) {
                self.victims[pod.uid] = Victim(since: now)
            }
        }
    }

    /// Who goes first.
    private static func order(_ pods: [Pod]) -> [Pod] {
        if pods.contains(where: { $0.ordinal != nil }) { return self.byOrdinal(pods) }
        let candidates = pods.enumerated().map { index, pod in
            VictimChoice.Candidate(
                id: index,
                state: pod.state == .stuck ? .stuck : pod.state == .starting ? .starting : .ready,
                streams: pod.streams,
                cacheValue: pod.cacheValue,
                ageSeconds: pod.ageSeconds
            )
        }
        return VictimChoice.plan(desired: 0, candidates).remove.map { pods[$0] }
    }

    /// Those that the controller of the pods will take if it is told a smaller number now.
    private static func leaving(_ done: [Pod], of open: [Pod]) -> [Pod] {
        guard open.contains(where: { $0.ordinal != nil }) else {
            return done.filter { $0.state != .ready || $0.deletionCost == self.mark }
        }
        let isDone = Set(done.map(\.uid))
        return self.byOrdinal(open).prefix { isDone.contains($0.uid) }.map { $0 }
    }

    private static func byOrdinal(_ pods: [Pod]) -> [Pod] {
        pods.sorted { ($0.ordinal ?? .max, $0.uid) > ($1.ordinal ?? .max, $1.uid) }
    }

    private func isDone(_ pod: Pod, now: Instant) -> Bool {
        guard let victim = self.victims[pod.uid] else { return false }
        return pod.state != .ready || pod.isDrained || now - victim.since >= self.drainDeadline
    }

    private func setCost(of pod: Pod, in done: [Pod], _ plan: inout Plan) {
        let isWritten = self.victims[pod.uid]?.writtenAt != nil
        let isDone =
            pod.state == .ready && pod.ordinal == nil && done.contains { $0.uid == pod.uid }
        if isDone {
            if pod.deletionCost != Self.mark { plan.costs[pod.uid] = .some(Self.mark) }
        } else if pod.deletionCost == Self.mark, !isWritten {
            plan.costs[pod.uid] = .some(nil)
        }
    }
}
