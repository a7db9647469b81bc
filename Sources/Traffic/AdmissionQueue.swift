import Core

/// Names an entry of one queue. A handle of an entry that has left is recognised and does nothing.
package struct AdmissionHandle: Hashable, Sendable {
    fileprivate let slot: Int32
    fileprivate let generation: UInt32
}

/// Bounds of a queue.
package struct AdmissionLimits: Equatable, Sendable {
    /// Entries at once.
    package var countMax: Int
    /// Sum of the entries' bytes: what they hold in memory while they wait.
    package var bytesMax: Int

    package init(countMax: Int = 1_000, bytesMax: Int = 64 * 1024 * 1024) {
        precondition(countMax >= 0 && countMax <= Int(Int32.max), "\(countMax) entries")
        precondition(bytesMax >= 0, "\(bytesMax) bytes")
        self.countMax = countMax
        self.bytesMax = bytesMax
    }
}

package enum OnEnqueue: Equatable, Sendable {
    case queued(AdmissionHandle)
    case full(Bound)

    package enum Bound: Equatable, Sendable {
        case count, bytes
    }
}

/// What an entry may claim of a queue.
package struct AdmissionClaim: Hashable, Sendable {
    /// Higher goes first. Entries of negative priority make room for higher ones when it is full.
    package var priority: Int
    /// Whose it is: flows of one priority take turns by work.
    package var flow: UInt64
    /// What serving it costs, estimated: at least 1.
    package var work: Int

    package init(priority: Int = 0, flow: UInt64 = 0, work: Int = 1) {
        self.priority = priority
        self.flow = flow
        self.work = max(1, work)
    }

    /// Of everybody, where nobody is told from others: first in, first out.
    package static let common = AdmissionClaim()
}

/// The requests of one model that wait for a slot: bounded by count and bytes, with deadlines.
///
/// Higher priorities go first, strictly. Among those of one priority flows take turns by work, not
/// by number: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with which the virtual
/// token counter of Sheng et al. (OSDI 2024) agrees in what it promises: while two flows wait, the
/// work that was served of them differs by no more than twice the largest entry, and who was idle
/// is owed nothing. The entries of one flow are first in, first out, and so is a queue of one flow.
///
/// Entries live in slots of one array and are linked three times, by arrival, by deadline and in
/// their flow. Entering, leaving and expiring cost O(1), as long as deadlines come in the order of
/// arrival, as they do with one timeout for all; taking the first costs O(flows that wait).
///
/// Shared by workers: the owner holds one mutex around it.
package struct AdmissionQueue<Ticket> {
    package struct Entry {
        package let ticket: Ticket
        package let bytes: Int
        package let enqueuedAt: Instant
        package let deadline: Instant
        package let claim: AdmissionClaim
    }

    fileprivate struct Slot {
        var entry: Entry?
        var generation: UInt32 = 0
    }

    /// New limits hold for those who come; nobody who waits is sent away.
    package var limits: AdmissionLimits
    package private(set) var count = 0
    package private(set) var bytes = 0
    private var slots: [Slot] = []
    private var free: [Int32] = []
    private var arrivals = SlotList()
    private var expiries = SlotList()
    private var flowLinks = SlotLinks()
    /// By priority, the highest first; one that was used once stays.
    private var bands: [AdmissionBand] = []

    package init(limits: AdmissionLimits) {
        self.limits = limits
    }

    package var isEmpty: Bool { self.count == 0 }

    /// When the first of those that wait gives up; nil where nobody waits.
    package var nextDeadline: Instant? {
        self.expiries.first < 0 ? nil : self.entry(self.expiries.first).deadline
    }

    /// How long whoever came first has waited, in nanoseconds; 0 where nobody waits.
    package func oldestWaitNanoseconds(now: Instant) -> UInt64 {
        guard self.arrivals.first >= 0 else { return 0 }
        return now.nanoseconds(since: self.entry(self.arrivals.first).enqueuedAt)
    }

    /// Enters the line. `bytes`, not negative, is what the ticket holds in memory.
    package mutating func enqueue(
        _ ticket: Ticket,
        claim: AdmissionClaim = .common,
        bytes: Int,
        deadline: Instant,
        now: Instant
    ) -> OnEnqueue {
        precondition(bytes >= 0, "a ticket of \(bytes) bytes")
        if self.count >= self.limits.countMax { return .full(.count) }
        if bytes > self.limits.bytesMax - self.bytes { return .full(.bytes) }
        let slot = self.takeSlot()
        let index = Int(slot)
        self.slots[index].entry = Entry(
            ticket: ticket,
            bytes: bytes,
            enqueuedAt: now,
            deadline: deadline,
            claim: claim
        )
        self.arrivals.insert(slot, after: self.arrivals.last)
        self.insertByDeadline(slot, deadline)
        let band = self.band(of: claim.priority)
        self.bands[band].enter(slot, claim.flow, bytes: bytes, &self.flowLinks)
        self.count += 1
        self.bytes += bytes
        return .queued(AdmissionHandle(slot: slot, generation: self.slots[index].generation))
    }

    /// Takes out entries of negative priorities below that of a claim, the lowest and in it the
    /// latest first, until so many bytes would be taken. Empty where all would not be enough.
    package mutating func shed(for claim: AdmissionClaim, bytes: Int) -> [Entry] {
        guard self.limits.countMax > 0, bytes <= self.limits.bytesMax else { return [] }
        let lower = self.bands.filter { $0.priority < 0 && $0.priority < claim.priority }
        let sheddableBytes = lower.reduce(0) { $0 + $1.bytes }
        let sheddableCount = lower.reduce(0) { $0 + $1.count }
        guard self.count - sheddableCount < self.limits.countMax,
            bytes <= self.limits.bytesMax - (self.bytes - sheddableBytes)
        else { return [] }
        var shed: [Entry] = []
        while self.count >= self.limits.countMax || bytes > self.limits.bytesMax - self.bytes {
            guard let slot = self.latestOfLowest(below: claim.priority) else { break }
            shed.append(self.take(slot))
        }
        return shed
    }

    private func latestOfLowest(below priority: Int) -> Int32? {
        for band in self.bands.reversed() where band.priority < min(0, priority) && band.count > 0 {
            // Arrivals are looked through from the back: shedding is rare, and the line bounded.
            var slot = self.arrivals.last
            while slot >= 0, self.entry(slot).claim.priority != band.priority {
                slot = self.arrivals.previous(slot)
            }
            if slot >= 0 { return slot }
        }
        return nil
    }

    /// Takes the first whose deadline has not passed. Those whose deadline has stay for
    /// `popExpired`.
    package mutating func popFirst(now: Instant) -> Entry? {
        self.popFirst(now: now, where: { _ in true })
    }

    /// Takes the first in line that `accepts`: one that is bound to a variant may have to let
    /// others pass. Looks at no more than `lookahead` entries.
    package mutating func popFirst(
        now: Instant,
        lookahead: Int = .max,
        where accepts: (Ticket) -> Bool
    ) -> Entry? {
        var left = lookahead
        for band in self.bands.indices where self.bands[band].count > 0 {
            // Whoever is next; the others are put in order only where nobody of his may be taken.
            let next = self.bands[band].next
            if let slot = self.first(in: band, next, now, &left, accepts) {
                return self.serve(slot, band, next)
            }
            if self.bands[band].flows.count > 1, left > 0 {
                for flow in self.bands[band].inOrder where flow != next {
                    if let slot = self.first(in: band, flow, now, &left, accepts) {
                        return self.serve(slot, band, flow)
                    }
                }
            }
        }
        return nil
    }

    /// The first of a flow that may be taken.
    private func first(
        in band: Int,
        _ flow: Int,
        _ now: Instant,
        _ left: inout Int,
        _ accepts: (Ticket) -> Bool
    ) -> Int32? {
        var slot = self.bands[band].flows[flow].line.first
        while slot >= 0, left > 0 {
            let entry = self.entry(slot)
            if entry.deadline > now, accepts(entry.ticket) { return slot }
            slot = self.flowLinks.next(slot)
            left -= 1
        }
        return nil
    }

    private mutating func serve(_ slot: Int32, _ band: Int, _ flow: Int) -> Entry {
        self.bands[band].charge(flow, work: self.entry(slot).claim.work)
        return self.take(slot)
    }

    /// Corrects what was charged for an entry that was served, by what it cost more than estimated.
    package mutating func settle(_ claim: AdmissionClaim, by difference: Int) {
        guard let band = self.bands.firstIndex(where: { $0.priority == claim.priority }) else {
            return
        }
        self.bands[band].settle(claim.flow, by: difference)
    }

    /// Takes one whose deadline has passed, the earliest first; nil where there is none. Call it
    /// until it returns nil.
    package mutating func popExpired(now: Instant) -> Entry? {
        guard let deadline = self.nextDeadline, deadline <= now else { return nil }
        return self.take(self.expiries.first)
    }

    /// Takes the entry out of the line: its client went away. Nil where it has left already.
    @discardableResult
    package mutating func remove(_ handle: AdmissionHandle) -> Entry? {
        self.contains(handle) ? self.take(handle.slot) : nil
    }

    package func contains(_ handle: AdmissionHandle) -> Bool {
        let index = Int(handle.slot)
        guard self.slots.indices.contains(index) else { return false }
        return self.slots[index].generation == handle.generation && self.slots[index].entry != nil
    }

    // MARK: Lists

    private func entry(_ slot: Int32) -> Entry {
        guard let entry = self.slots[Int(slot)].entry else {
            preconditionFailure("slot \(slot) is linked and empty")
        }
        return entry
    }

    private mutating func band(of priority: Int) -> Int {
        let place = self.bands.firstIndex { $0.priority <= priority } ?? self.bands.count
        if place == self.bands.count || self.bands[place].priority != priority {
            self.bands.insert(AdmissionBand(priority: priority), at: place)
        }
        return place
    }

    private mutating func takeSlot() -> Int32 {
        if let slot = self.free.popLast() { return slot }
        self.slots.append(Slot())
        return Int32(self.slots.count - 1)
    }

    private mutating func take(_ slot: Int32) -> Entry {
        let entry = self.entry(slot)
        self.arrivals.remove(slot)
        self.expiries.remove(slot)
        let band = self.band(of: entry.claim.priority)
        self.bands[band].leave(slot, entry.claim.flow, bytes: entry.bytes, &self.flowLinks)
        self.slots[Int(slot)].entry = nil
        self.slots[Int(slot)].generation &+= 1
        self.free.append(slot)
        self.count -= 1
        self.bytes -= entry.bytes
        assert(self.count >= 0 && self.bytes >= 0, "the queue lost count")
        return entry
    }

    private mutating func insertByDeadline(_ slot: Int32, _ deadline: Instant) {
        var after = self.expiries.last
        while after >= 0, self.entry(after).deadline > deadline {
            after = self.expiries.previous(after)
        }
        self.expiries.insert(slot, after: after)
    }
}

extension AdmissionQueue: Sendable where Ticket: Sendable {}
extension AdmissionQueue.Slot: Sendable where Ticket: Sendable {}
extension AdmissionQueue.Entry: Sendable where Ticket: Sendable {}
