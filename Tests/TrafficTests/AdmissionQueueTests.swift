import Core
import Testing

@testable import Traffic

@Suite struct AdmissionQueueTests {
    typealias Queue = AdmissionQueue<Int>

    static func enter(
        _ queue: inout Queue,
        _ ticket: Int,
        bytes: Int = 1,
        deadline: Int = 1_000,
        now: Int = 0
    ) -> AdmissionHandle? {
        let result = queue.enqueue(
            ticket,
            bytes: bytes,
            deadline: .milliseconds(deadline),
            now: .milliseconds(now)
        )
        if case .queued(let handle) = result { return handle }
        return nil
    }

    @Test func firstInIsFirstOut() {
        var queue = Queue(limits: AdmissionLimits())
        for ticket in 0..<5 { _ = Self.enter(&queue, ticket) }
        #expect((0..<6).map { _ in queue.popFirst(now: .zero)?.ticket } == [0, 1, 2, 3, 4, nil])
        #expect(queue.isEmpty && queue.bytes == 0)
    }

    @Test func countAndBytesAreBounded() {
        var queue = Queue(limits: AdmissionLimits(countMax: 2, bytesMax: 10))
        #expect(queue.enqueue(0, bytes: 11, deadline: .seconds(1), now: .zero) == .full(.bytes))
        #expect(Self.enter(&queue, 1, bytes: 10) != nil)
        #expect(queue.enqueue(2, bytes: 1, deadline: .seconds(1), now: .zero) == .full(.bytes))
        #expect(Self.enter(&queue, 3, bytes: 0) != nil)
        #expect(queue.enqueue(4, bytes: 0, deadline: .seconds(1), now: .zero) == .full(.count))
        queue.limits = AdmissionLimits(countMax: 1, bytesMax: 10)
        #expect(queue.count == 2, "nobody is sent away")
        var closed = Queue(limits: AdmissionLimits(countMax: 0))
        #expect(closed.enqueue(1, bytes: 0, deadline: .seconds(1), now: .zero) == .full(.count))
    }

    @Test func aHandleWorksOnceAndOnlyForItsEntry() throws {
        var queue = Queue(limits: AdmissionLimits())
        let handle = try #require(Self.enter(&queue, 1))
        #expect(queue.contains(handle))
        #expect(queue.remove(handle)?.ticket == 1)
        #expect(queue.remove(handle) == nil)
        let next = try #require(Self.enter(&queue, 2))
        #expect(next != handle, "the slot is used again")
        #expect(queue.remove(handle) == nil)
        #expect(queue.count == 1)
        #expect(queue.popFirst(now: .zero)?.ticket == 2)
        #expect(!queue.contains(next))
    }

    @Test func expiredEntriesAreNotServedAndLeaveInOrderOfDeadline() {
        var queue = Queue(limits: AdmissionLimits())
        _ = Self.enter(&queue, 1, deadline: 30)
        _ = Self.enter(&queue, 2, deadline: 10)
        _ = Self.enter(&queue, 3, deadline: 20)
        _ = Self.enter(&queue, 4, deadline: 99)
        #expect(queue.nextDeadline == .milliseconds(10))
        #expect(queue.popExpired(now: .milliseconds(9)) == nil)
        #expect(queue.popFirst(now: .milliseconds(30))?.ticket == 4)
        #expect(
            (0..<4).map { _ in queue.popExpired(now: .milliseconds(30))?.ticket } == [2, 3, 1, nil]
        )
        #expect(queue.nextDeadline == nil)
    }

    @Test func oneThatCannotBeServedLetsOthersPass() {
        var queue = Queue(limits: AdmissionLimits())
        for ticket in 0..<4 { _ = Self.enter(&queue, ticket) }
        #expect(queue.popFirst(now: .zero, where: { $0 > 1 })?.ticket == 2)
        #expect(queue.popFirst(now: .zero, lookahead: 2, where: { $0 > 1 }) == nil)
        #expect(queue.popFirst(now: .zero)?.ticket == 0)
    }

    @Test func tellsHowLongTheFirstHasWaited() {
        var queue = Queue(limits: AdmissionLimits())
        #expect(queue.oldestWaitNanoseconds(now: .seconds(9)) == 0)
        _ = Self.enter(&queue, 1, now: 5)
        _ = Self.enter(&queue, 2, now: 8)
        #expect(queue.oldestWaitNanoseconds(now: .milliseconds(10)) == 5_000_000)
        let entry = queue.popFirst(now: .milliseconds(10))
        #expect(entry?.enqueuedAt == .milliseconds(5))
        #expect(queue.oldestWaitNanoseconds(now: .milliseconds(10)) == 2_000_000)
    }

    /// The same behaviour, written as simply as possible.
    struct Oracle {
        struct Entry { var ticket: Int, bytes: Int, deadline: Int }
        var entries: [Entry] = []
        var bytes: Int { self.entries.reduce(0) { $0 + $1.bytes } }

        mutating func take(_ index: Int?) -> Int? {
            index.map { self.entries.remove(at: $0).ticket }
        }
        mutating func popFirst(_ now: Int) -> Int? {
            self.take(self.entries.firstIndex { $0.deadline > now })
        }
        mutating func popExpired(_ now: Int) -> Int? {
            guard let earliest = self.entries.map(\.deadline).min(), earliest <= now else {
                return nil
            }
            return self.take(self.entries.firstIndex { $0.deadline == earliest })
        }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func agreesWithTheOracleOverRandomOperations(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var queue = Queue(limits: AdmissionLimits(countMax: 20, bytesMax: 100))
        var oracle = Oracle()
        var handles: [(handle: AdmissionHandle, ticket: Int)] = []
        var now = 0
        for step in 0..<5_000 {
            let note: Comment = "seed \(seed), step \(step)"
            switch random.below(10) {
            case 0...4:
                let size = random.below(15)
                let deadline = now + (random.chance(70) ? 50 : random.below(100))
                let fits = oracle.entries.count < 20 && oracle.bytes + size <= 100
                let handle = Self.enter(&queue, step, bytes: size, deadline: deadline, now: now)
                #expect((handle != nil) == fits, note)
                if let handle {
                    handles.append((handle, step))
                    oracle.entries.append(.init(ticket: step, bytes: size, deadline: deadline))
                }
            case 5, 6:
                #expect(
                    queue.popFirst(now: .milliseconds(now))?.ticket == oracle.popFirst(now),
                    note
                )
            case 7:
                #expect(
                    queue.popExpired(now: .milliseconds(now))?.ticket == oracle.popExpired(now),
                    note
                )
            case 8:
                guard !handles.isEmpty else { continue }
                let (handle, ticket) = handles[random.below(handles.count)]
                let index = oracle.entries.firstIndex { $0.ticket == ticket }
                #expect(queue.contains(handle) == (index != nil), note)
                #expect(queue.remove(handle)?.ticket == oracle.take(index), note)
            default:
                now += random.below(20)
            }
            #expect(queue.count == oracle.entries.count && queue.bytes == oracle.bytes, note)
            #expect(
                queue.nextDeadline
                    == oracle.entries.map(\.deadline).min().map(Instant.milliseconds),
                note
            )
        }
    }
}
