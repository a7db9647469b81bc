import Core
import Testing

@testable import Traffic

/// Priorities, turns between flows, and who makes room.
@Suite struct AdmissionFairnessTests {
    typealias Queue = AdmissionQueue<Int>

    private func enter(
        _ queue: inout Queue,
        _ ticket: Int,
        _ claim: AdmissionClaim,
        bytes: Int = 1
    ) -> Bool {
        let result = queue.enqueue(
            ticket,
            claim: claim,
            bytes: bytes,
            deadline: .seconds(1_000),
            now: .zero
        )
        if case .queued = result { return true }
        return false
    }

    private func drain(_ queue: inout Queue) -> [Int] {
        var tickets: [Int] = []
        while let entry = queue.popFirst(now: .zero) { tickets.append(entry.ticket) }
        return tickets
    }

    @Test func higherPrioritiesGoFirst() {
        var queue = Queue(limits: AdmissionLimits())
        for (ticket, priority) in [0, 5, -1, 5, 0, 7].enumerated() {
            #expect(self.enter(&queue, ticket, AdmissionClaim(priority: priority)))
        }
        #expect(self.drain(&queue) == [5, 1, 3, 0, 4, 2])
    }

    @Test func flowsTakeTurnsByWorkAndNotByNumber() {
        var queue = Queue(limits: AdmissionLimits())
        // Flow 1 asks for little at a time, flow 2 for four times as much.
        for ticket in 0..<8 {
            #expect(self.enter(&queue, 100 + ticket, AdmissionClaim(flow: 1, work: 10)))
        }
        for ticket in 0..<2 {
            #expect(self.enter(&queue, 200 + ticket, AdmissionClaim(flow: 2, work: 40)))
        }
        #expect(
            self.drain(&queue) == [100, 200, 101, 102, 103, 104, 201, 105, 106, 107]
        )
    }

    @Test func whoWasIdleIsOwedNothing() {
        var queue = Queue(limits: AdmissionLimits())
        for ticket in 0..<50 {
            #expect(self.enter(&queue, ticket, AdmissionClaim(flow: 1, work: 10)))
        }
        for _ in 0..<40 { _ = queue.popFirst(now: .zero) }
        for ticket in 100..<110 {
            #expect(self.enter(&queue, ticket, AdmissionClaim(flow: 2, work: 10)))
        }
        let order = self.drain(&queue)
        // In turns from now on, rather than all of flow 2 first.
        for length in stride(from: 2, through: 20, by: 2) {
            let served = order.prefix(length).count { $0 >= 100 }
            #expect(abs(served - length / 2) <= 1)
        }
    }

    @Test func leavingAndComingBackGainsNothing() {
        var queue = Queue(limits: AdmissionLimits())
        #expect(self.enter(&queue, 0, AdmissionClaim(flow: 1, work: 1_000)))
        #expect(self.enter(&queue, 1, AdmissionClaim(flow: 2, work: 10)))
        #expect(queue.popFirst(now: .zero)?.ticket == 0)
        // Flow 1 has nobody in line now, and comes again.
        #expect(self.enter(&queue, 2, AdmissionClaim(flow: 1, work: 10)))
        for ticket in 3..<50 {
            #expect(self.enter(&queue, ticket, AdmissionClaim(flow: 2, work: 10)))
        }
        #expect(self.drain(&queue).last == 2)
    }

    @Test func whatCostMoreThanEstimatedIsChargedLater() {
        var queue = Queue(limits: AdmissionLimits())
        let greedy = AdmissionClaim(flow: 1, work: 1)
        #expect(self.enter(&queue, 0, greedy))
        #expect(self.enter(&queue, 10, AdmissionClaim(flow: 2, work: 1)))
        #expect(queue.popFirst(now: .zero)?.ticket == 0)
        queue.settle(greedy, by: 99)
        #expect(self.enter(&queue, 1, greedy))
        for ticket in 11..<60 {
            #expect(self.enter(&queue, ticket, AdmissionClaim(flow: 2, work: 1)))
        }
        #expect(self.drain(&queue).last == 1)
        // And what cost less comes back; a claim that nobody knows is no error.
        queue.settle(greedy, by: -99)
        queue.settle(AdmissionClaim(priority: 9), by: 5)
    }

    @Test func negativePrioritiesMakeRoom() {
        var queue = Queue(limits: AdmissionLimits(countMax: 4, bytesMax: 100))
        let low = AdmissionClaim(priority: -1, flow: 1)
        let lowest = AdmissionClaim(priority: -2, flow: 2)
        let normal = AdmissionClaim(priority: 0, flow: 3)
        #expect(self.enter(&queue, 1, low, bytes: 10))
        #expect(self.enter(&queue, 2, lowest, bytes: 10))
        #expect(self.enter(&queue, 3, lowest, bytes: 10))
        #expect(self.enter(&queue, 4, normal, bytes: 60))
        #expect(!self.enter(&queue, 5, normal))
        // The lowest first, and of them the latest.
        #expect(queue.shed(for: normal, bytes: 1).map(\.ticket) == [3])
        #expect(queue.shed(for: normal, bytes: 25).map(\.ticket) == [2])
        #expect(self.enter(&queue, 6, normal, bytes: 25))
        // Nobody of the same priority, nobody of none below zero, nor all in vain.
        #expect(queue.shed(for: low, bytes: 50).isEmpty)
        #expect(queue.shed(for: AdmissionClaim(priority: 9), bytes: 50).isEmpty)
        #expect(queue.shed(for: AdmissionClaim(priority: 9), bytes: 101).isEmpty)
        #expect(self.drain(&queue) == [4, 6, 1])
    }

    /// Any operations: the queue and a slow one that is obviously right agree in every step.
    @Test(arguments: 1...40) func agreesWithASlowQueue(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var queue = Queue(limits: AdmissionLimits(countMax: 12, bytesMax: 60))
        var oracle = SlowQueue(countMax: 12, bytesMax: 60)
        var handles: [Int: AdmissionHandle] = [:]
        for ticket in 0..<600 {
            let claim = AdmissionClaim(
                priority: Int(random.next() % 4) - 2,
                flow: random.next() % 4,
                work: Int(random.next() % 20) + 1
            )
            switch random.next() % 8 {
            case 0...3:
                let bytes = Int(random.next() % 12)
                let result = queue.enqueue(
                    ticket,
                    claim: claim,
                    bytes: bytes,
                    deadline: .seconds(1),
                    now: .zero
                )
                if case .queued(let handle) = result { handles[ticket] = handle }
                let wasTaken = oracle.enter(ticket, claim, bytes)
                #expect((handles[ticket] != nil) == wasTaken, "seed \(seed)")
            case 4, 5:
                let modulus = Int(random.next() % 3) + 1
                let left = queue.popFirst(now: .zero) { $0 % modulus == 0 }?.ticket
                #expect(left == oracle.pop { $0 % modulus == 0 }, "seed \(seed), \(ticket)")
            case 6:
                let bytes = Int(random.next() % 30)
                let shed = queue.shed(for: claim, bytes: bytes).map(\.ticket)
                #expect(shed == oracle.shed(claim, bytes), "seed \(seed), \(ticket)")
            default:
                let gone = Int(random.next() % UInt64(ticket + 1))
                if let handle = handles[gone] {
                    #expect((queue.remove(handle) != nil) == oracle.remove(gone), "seed \(seed)")
                }
                let difference = Int(random.next() % 20) - 10
                queue.settle(claim, by: difference)
                oracle.settle(claim, difference)
            }
            #expect(queue.count == oracle.entries.count && queue.bytes == oracle.bytes)
        }
    }

    /// While two flows wait, what was served of them differs by no more than two entries' work.
    @Test(arguments: 1...20) func servesFlowsAlike(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var queue = Queue(limits: AdmissionLimits(countMax: 1_000))
        let workMax = 100
        var served = [0, 0, 0]
        // Flows of few large and of many small entries; all of them always wait.
        let sizes = [1, 10, workMax]
        var ticket = 0
        for _ in 0..<2_000 {
            for flow in 0..<3 {
                let work = Int(random.next() % UInt64(sizes[flow])) + 1
                if queue.count < 900 {
                    let claim = AdmissionClaim(flow: UInt64(flow), work: work)
                    #expect(self.enter(&queue, ticket, claim))
                    ticket += 1
                }
            }
            guard let entry = queue.popFirst(now: .zero) else { break }
            served[Int(entry.claim.flow)] += entry.claim.work
            let waits = queue.count > 300
            if waits {
                let spread = (served.max() ?? 0) - (served.min() ?? 0)
                #expect(spread <= 2 * workMax, "seed \(seed): \(served)")
            }
        }
    }
}

/// The same by looking at all entries each time.
private struct SlowQueue {
    struct Entry {
        var ticket: Int
        var claim: AdmissionClaim
        var bytes: Int
    }

    let countMax: Int
    let bytesMax: Int
    var entries: [Entry] = []
    /// By priority: the virtual time, and the tags of flows.
    private var times: [Int: Int] = [:]
    private var tags: [Int: [UInt64: Int]] = [:]

    init(countMax: Int, bytesMax: Int) {
        self.countMax = countMax
        self.bytesMax = bytesMax
    }

    var bytes: Int { self.entries.reduce(0) { $0 + $1.bytes } }

    private func waits(_ claim: AdmissionClaim) -> Bool {
        self.entries.contains {
            $0.claim.priority == claim.priority && $0.claim.flow == claim.flow
        }
    }

    mutating func enter(_ ticket: Int, _ claim: AdmissionClaim, _ bytes: Int) -> Bool {
        guard self.entries.count < self.countMax, self.bytes + bytes <= self.bytesMax else {
            return false
        }
        if !self.waits(claim) {
            let tag = self.tags[claim.priority]?[claim.flow] ?? 0
            self.tags[claim.priority, default: [:]][claim.flow] = max(
                tag,
                self.times[claim.priority] ?? 0
            )
        }
        self.entries.append(Entry(ticket: ticket, claim: claim, bytes: bytes))
        return true
    }

    mutating func pop(_ accepts: (Int) -> Bool) -> Int? {
        let order = self.entries.indices.sorted { left, right in
            self.rank(left) < self.rank(right)
        }
        guard let index = order.first(where: { accepts(self.entries[$0].ticket) }) else {
            return nil
        }
        let entry = self.entries.remove(at: index)
        let (priority, flow) = (entry.claim.priority, entry.claim.flow)
        let tag = self.tags[priority]?[flow] ?? 0
        self.times[priority] = max(self.times[priority] ?? 0, tag)
        self.tags[priority]?[flow] = tag + entry.claim.work
        return entry.ticket
    }

    private func rank(_ index: Int) -> (Int, Int, UInt64, Int) {
        let claim = self.entries[index].claim
        let tag = self.tags[claim.priority]?[claim.flow] ?? 0
        return (-claim.priority, tag, claim.flow, self.entries[index].ticket)
    }

    mutating func shed(_ claim: AdmissionClaim, _ bytes: Int) -> [Int] {
        let limit = min(0, claim.priority)
        let kept = self.entries.filter { $0.claim.priority >= limit }
        guard kept.count < self.countMax,
            kept.reduce(0, { $0 + $1.bytes }) + bytes <= self.bytesMax
        else { return [] }
        var shed: [Int] = []
        while self.entries.count >= self.countMax || self.bytes + bytes > self.bytesMax {
            let lowest = self.entries.map(\.claim.priority).min() ?? 0
            guard let index = self.entries.lastIndex(where: { $0.claim.priority == lowest }) else {
                break
            }
            shed.append(self.entries.remove(at: index).ticket)
        }
        return shed
    }

    mutating func remove(_ ticket: Int) -> Bool {
        guard let index = self.entries.firstIndex(where: { $0.ticket == ticket }) else {
            return false
        }
        self.entries.remove(at: index)
        return true
    }

    mutating func settle(_ claim: AdmissionClaim, _ difference: Int) {
        guard self.tags[claim.priority] != nil else { return }
        let time = self.times[claim.priority] ?? 0
        var tag = self.tags[claim.priority]?[claim.flow] ?? 0
        // Of who is away, only what lies ahead is remembered.
        if !self.waits(claim), tag <= time { tag = time }
        self.tags[claim.priority]?[claim.flow] = max(0, tag + difference)
    }
}
