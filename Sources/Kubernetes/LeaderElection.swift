import Core
import HTTPService

// Design note
//
// Decides who of several processes leads, by a Lease object that the leader renews, as client-go's
// leader election does. Asks nothing itself and reads no clock.
//
//   follower ──lease free or expired, we took it──▸ leader ──not renewed in time, or lost──▸ ended
//       ▲                                               └──release──▸ released
//       └──held by another: wait a period──┘
//
// Whether the holder is gone is judged by the local monotonic time since the record was last seen
// to change, never by the times inside it: clocks of other machines may be wrong by hours.
//
// Safety. A leader counts from the moment at which its last successful renewal was *sent*; others
// count from when they saw the change, which is later. It stops `renewDeadline` after that moment,
// which is `leaseDuration - renewDeadline` before anybody can take over, however long requests
// take. `mayWrite` compares with the time given, so that a process which was stopped for a minute
// does not write first and notice afterwards. It is no fencing all the same: a write on its way
// may arrive late, so what matters is written with the version that was read.

/// The times of an election, and who takes part.
package struct LeaderElectionOptions: Sendable, Hashable {
    /// Names this process among all that ever take part: `host_uuid`.
    package var identity: String
    package var leaseDuration = Duration.seconds(15)
    package var renewDeadline = Duration.seconds(10)
    package var retryPeriod = Duration.seconds(2)
    /// Periods last up to this share longer, at random.
    package var jitter = 1.2

    package init(identity: String) {
        self.identity = identity
    }

    /// What is wrong with the times; nil where nothing is.
    package var problem: String? {
        if self.identity.isEmpty { return "the identity is empty" }
        if self.leaseDuration <= self.renewDeadline {
            return "leaseDuration must be longer than renewDeadline"
        }
        if self.renewDeadline.secondsAsDouble <= self.retryPeriod.secondsAsDouble * self.jitter {
            return "renewDeadline must be longer than retryPeriod × \(self.jitter)"
        }
        if self.retryPeriod < .milliseconds(1) { return "retryPeriod is too short" }
        if self.leaseDuration < .seconds(1) { return "leaseDuration is shorter than a second" }
        return nil
    }
}

/// A Lease as it was read. Times stay texts: nothing is decided by them.
package struct LeaseRecord: Sendable, Hashable {
    /// Empty where nobody holds it.
    package var holder = ""
    package var durationSeconds = 0
    package var acquireTime = ""
    package var renewTime = ""
    package var transitions = 0
    package var version = ResourceVersion("")

    package init() {}

    package init(_ object: KubernetesObject) {
        let spec = object.spec
        self.holder = spec["holderIdentity"].string ?? ""
        self.durationSeconds = spec["leaseDurationSeconds"].integer ?? 0
        self.acquireTime = spec["acquireTime"].string ?? ""
        self.renewTime = spec["renewTime"].string ?? ""
        self.transitions = spec["leaseTransitions"].integer ?? 0
        self.version = object.metadata.resourceVersion
    }
}

/// Takes part in an election; see the note above.
package struct LeaderElection: Sendable {
    /// What to do next.
    package enum Step: Sendable, Equatable {
        /// Read the lease.
        case read
        /// Make it, held by us; fails where it has been made meanwhile.
        case create(LeaseRecord)
        /// Write it in place of the version that the record names; fails where that has changed.
        case write(LeaseRecord)
        case wait(Duration)
        case nothing
    }

    /// What the answer of a step changes.
    package enum Outcome: Sendable, Equatable {
        case none
        /// From now on we lead.
        case began
        /// Not any more: stop all writers. Why, in words.
        case ended(String)
        /// Another process leads, newly seen; empty for nobody.
        case follows(String)
    }

    private enum Phase: Equatable {
        case idle(notBefore: Instant)
        case reading
        case creating(LeaseRecord, sent: Instant)
        case writing(LeaseRecord, sent: Instant)
        case releasing
        case over
    }

    package let options: LeaderElectionOptions
    private var phase = Phase.idle(notBefore: .zero)
    /// The lease as it was last seen to be, and when it was seen to change.
    private var observed: LeaseRecord?
    private var observedAt = Instant.zero
    /// When the last renewal that succeeded was sent; nil where we do not lead.
    private var renewedAt: Instant?
    /// Read before the next write: the last one met another version.
    private var mustRead = true
    private var isAbsent = false

    /// - Parameter options: without a `problem`.
    package init(_ options: LeaderElectionOptions) {
        precondition(options.problem == nil, "\(options.problem ?? "")")
        self.options = options
    }

    package var isLeader: Bool { self.renewedAt != nil }
    /// Who holds the lease as far as is known.
    package var holder: String { self.observed?.holder ?? "" }

    /// Whether writing is safe at this moment. Ask with the time of this very moment.
    package func mayWrite(now: Instant) -> Bool {
        guard let renewedAt = self.renewedAt else { return false }
        return now - renewedAt < self.options.renewDeadline
    }

    /// When the lead ends unless it is renewed before.
    package var deadline: Instant? { self.renewedAt.map { $0 + self.options.renewDeadline } }

    // MARK: Asking

    /// What to do now. To be called after every input, and when a wait is over.
    ///
    /// - Parameter wallTime: seconds since 1970, for the times that people read.
    package mutating func next(now: Instant, wallTime: Double) -> Step {
        guard case .idle(let notBefore) = self.phase else { return .nothing }
        if notBefore > now { return .wait(notBefore - now) }
        if self.isAbsent {
            let record = self.ownRecord(after: nil, wallTime: wallTime)
            self.phase = .creating(record, sent: now)
            return .create(record)
        }
        guard let observed = self.observed, !self.mustRead else {
            self.phase = .reading
            return .read
        }
        let record = self.ownRecord(after: observed, wallTime: wallTime)
        self.phase = .writing(record, sent: now)
        return .write(record)
    }

    private func ownRecord(after old: LeaseRecord?, wallTime: Double) -> LeaseRecord {
        var record = LeaseRecord()
        record.holder = self.options.identity
        record.durationSeconds = Int(self.options.leaseDuration.secondsAsDouble.rounded(.up))
        record.renewTime = WallTime.micro(wallTime)
        record.version = old?.version ?? ResourceVersion("")
        if let old, old.holder == self.options.identity {
            record.acquireTime = old.acquireTime.isEmpty ? record.renewTime : old.acquireTime
            record.transitions = old.transitions
        } else {
            record.acquireTime = record.renewTime
            record.transitions = old.map { $0.transitions + 1 } ?? 0
        }
        return record
    }

    // MARK: Answers

    /// The lease was read; nil where there is none.
    package mutating func received(
        _ record: LeaseRecord?,
        now: Instant,
        random: inout RandomSource
    ) -> Outcome {
        guard self.phase == .reading else { return .none }
        self.mustRead = false
        guard let record else {
            self.isAbsent = true
            self.observed = nil
            self.phase = .idle(notBefore: now)
            return self.renewedAt == nil ? .none : self.lose("the lease has been deleted")
        }
        self.isAbsent = false
        let before = self.holder
        if self.observed != record {
            self.observed = record
            self.observedAt = now
        }
        if record.holder == self.options.identity {
            self.phase = .idle(notBefore: now)
            return .none
        }
        if self.renewedAt != nil {
            self.waitPeriod(now, &random)
            return self.lose("`\(record.holder)` holds the lease")
        }
        let isFree = record.holder.isEmpty || now - self.observedAt >= self.expiry(of: record)
        if isFree {
            self.phase = .idle(notBefore: now)
        } else {
            self.mustRead = true
            self.waitPeriod(now, &random)
        }
        return before == record.holder ? .none : .follows(record.holder)
    }

    /// How long a holder is left alone: what it asked for, if that is longer than ours.
    private func expiry(of record: LeaseRecord) -> Duration {
        max(self.options.leaseDuration, .seconds(min(max(0, record.durationSeconds), 3_600)))
    }

    /// A write, or the making of the lease, was taken; the version is the new one.
    package mutating func wrote(
        _ version: ResourceVersion,
        now: Instant,
        random: inout RandomSource
    ) -> Outcome {
        switch self.phase {
        case .creating(var record, let sent), .writing(var record, let sent):
            record.version = version
            self.observed = record
            self.observedAt = now
            self.isAbsent = false
            let wasLeader = self.renewedAt != nil
            // Too late to be told in time: others may be about to take over.
            guard now - sent < self.options.renewDeadline else {
                self.mustRead = true
                self.phase = .idle(notBefore: now)
                return wasLeader ? self.lose("the renewal was answered too late") : .none
            }
            self.renewedAt = sent
            self.phase = .idle(notBefore: now + self.options.retryPeriod)
            return wasLeader ? .none : .began
        case .idle, .reading, .releasing, .over: return .none
        }
    }

    /// A step failed.
    ///
    /// - Parameter isConflict: somebody else was faster, for sure.
    package mutating func failed(
        isConflict: Bool,
        now: Instant,
        random: inout RandomSource
    ) -> Outcome {
        switch self.phase {
        case .reading, .creating, .writing: break
        case .idle, .releasing, .over: return .none
        }
        self.mustRead = true
        self.isAbsent = false
        if self.renewedAt != nil, isConflict {
            // See at once who it is.
            self.phase = .idle(notBefore: now)
        } else {
            self.waitPeriod(now, &random)
        }
        return self.check(now: now)
    }

    /// Notices that the lead has ended. To be called at `deadline` at the latest.
    package mutating func check(now: Instant) -> Outcome {
        guard let deadline = self.deadline, now >= deadline else { return .none }
        return self.lose("it could not be renewed within \(self.options.renewDeadline)")
    }

    /// Leaves. Where we lead, the answer is what to write, so that others need not wait; writers
    /// must have stopped before. Nothing else is asked for afterwards.
    package mutating func release(now: Instant, wallTime: Double) -> LeaseRecord? {
        defer {
            self.renewedAt = nil
            self.phase = .over
        }
        guard self.mayWrite(now: now), var record = self.observed else { return nil }
        // A renewal may be under way: the version is then another one, and this is refused. The
        // lease ends by itself in that case.
        record.holder = ""
        record.durationSeconds = 1
        record.renewTime = WallTime.micro(wallTime)
        record.acquireTime = record.renewTime
        return record
    }

    private mutating func lose(_ why: String) -> Outcome {
        self.renewedAt = nil
        self.mustRead = true
        return .ended(why)
    }

    private mutating func waitPeriod(_ now: Instant, _ random: inout RandomSource) {
        let period = self.options.retryPeriod.secondsAsDouble
        // As wait.JitterUntil(…, 1.2): up to 1.2 periods more. A leader cannot afford that.
        let jitter = self.renewedAt == nil ? self.options.jitter : 0.1
        self.phase = .idle(
            notBefore: now + .seconds(period * (1 + jitter * random.nextUnit()))
        )
    }
}
