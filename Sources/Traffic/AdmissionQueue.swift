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

/// The requests of one model that wait for a slot: first in, first out, bounded by count and bytes,
/// each with a deadline.
///
/// Entries live in slots of one array and are linked twice, by arrival and by deadline. Taking the
/// first, removing any one and expiring cost O(1) each; so does entering, as long as deadlines come
/// in the order of arrival, as they do with one timeout for all. A deadline earlier than those
/// before it is sorted in from the back, at worst over all entries.
///
/// Shared by workers: the owner holds one mutex around it. Priorities and fair shares will be
/// several arrival lists in here; deadlines, bounds and handles stay as they are.
package struct AdmissionQueue<Ticket> {
    package struct Entry {
        package let ticket: Ticket
        package let bytes: Int
        package let enqueuedAt: Instant
        package let deadline: Instant
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

    package init(limits: AdmissionLimits) {
        self.limits = limits
    }

    package var isEmpty: Bool { self.count == 0 }

    /// When the first of those that wait gives up; nil where nobody waits.
    package var nextDeadline: Instant? {
        self.expiries.first < 0 ? nil : self.entry(self.expiries.first).deadline
    }

    /// How long the first in line has waited, in nanoseconds; 0 where nobody waits.
    package func oldestWaitNanoseconds(now: Instant) -> UInt64 {
        guard self.arrivals.first >= 0 else { return 0 }
        return now.nanoseconds(since: self.entry(self.arrivals.first).enqueuedAt)
    }

    /// Enters the line. `bytes`, not negative, is what the ticket holds in memory.
    package mutating func enqueue(
        _ ticket: Ticket,
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
            deadline: deadline
        )
        self.arrivals.insert(slot, after: self.arrivals.last)
        self.insertByDeadline(slot, deadline)
        self.count += 1
        self.bytes += bytes
        return .queued(AdmissionHandle(slot: slot, generation: self.slots[index].generation))
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
        var slot = self.arrivals.first
        var looked = 0
        while slot >= 0, looked < lookahead {
            let entry = self.entry(slot)
            if entry.deadline > now, accepts(entry.ticket) { return self.take(slot) }
            slot = self.arrivals.next(slot)
            looked += 1
        }
        return nil
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

    private mutating func takeSlot() -> Int32 {
        if let slot = self.free.popLast() { return slot }
        self.slots.append(Slot())
        return Int32(self.slots.count - 1)
    }

    private mutating func take(_ slot: Int32) -> Entry {
        let entry = self.entry(slot)
        self.arrivals.remove(slot)
        self.expiries.remove(slot)
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

/// A doubly linked list of slot numbers; -1 stands for none.
private struct SlotList: Sendable {
    private struct Link: Sendable {
        var previous: Int32 = -1
        var next: Int32 = -1
    }

    private(set) var first: Int32 = -1
    private(set) var last: Int32 = -1
    private var links: [Link] = []

    func next(_ slot: Int32) -> Int32 { self.links[Int(slot)].next }
    func previous(_ slot: Int32) -> Int32 { self.links[Int(slot)].previous }

    /// Links a slot that is in no list in behind `after`, at the front where that is -1.
    mutating func insert(_ slot: Int32, after: Int32) {
        while self.links.count <= Int(slot) { self.links.append(Link()) }
        let next = after < 0 ? self.first : self.links[Int(after)].next
        self.links[Int(slot)] = Link(previous: after, next: next)
        if after < 0 { self.first = slot } else { self.links[Int(after)].next = slot }
        if next < 0 { self.last = slot } else { self.links[Int(next)].previous = slot }
    }

    mutating func remove(_ slot: Int32) {
        let old = self.links[Int(slot)]
        assert(old.previous >= 0 || self.first == slot, "slot \(slot) is not in the list")
        if old.previous < 0 {
            self.first = old.next
        } else {
            self.links[Int(old.previous)].next = old.next
        }
        if old.next < 0 {
            self.last = old.previous
        } else {
            self.links[Int(old.next)].previous = old.previous
        }
        self.links[Int(slot)] = Link()
    }
}

extension AdmissionQueue: Sendable where Ticket: Sendable {}
extension AdmissionQueue.Slot: Sendable where Ticket: Sendable {}
extension AdmissionQueue.Entry: Sendable where Ticket: Sendable {}
