import Core
import Testing

@testable import Traffic

/// What a simulation uses decides as what the gateway uses.
@Suite("Numbered")
struct NumberedTests {
    @Test(arguments: [1 as UInt64, 2, 3])
    func choosesAsAmongEndpointsThatAreAlike(_ seed: UInt64) {
        var random = RandomSource(seed: seed)
        for _ in 0..<500 {
            // Below and above the number up to which all are compared.
            let count = Int(random.next() % 40)
            let limit = [3, 6, Int.max][Int(random.next() % 3)]
            let loads = (0..<count).map { _ in Int32(random.next() % 6) }
            let own = RandomSource(seed: random.next())
            var (plain, numbered) = (LeastLoaded(random: own), LeastLoaded(random: own))
            for _ in 0..<3 {
                let expected = plain.pick(FakeEndpoints(loads: loads.map(Int.init), limit: limit))
                let found = numbered.pick(loads: loads, limit: limit)
                #expect(found == expected, "seed \(seed): \(loads), limit \(limit)")
            }
        }
    }

    @Test(arguments: [1 as UInt64, 2, 3])
    func queuesAsTheQueueOfTheGateway(_ seed: UInt64) {
        var random = RandomSource(seed: seed)
        let limits = AdmissionLimits(countMax: 20, bytesMax: .max)
        var plain = AdmissionQueue<Int32>(limits: limits)
        var numbered = NumberedQueue(limits: limits)
        var now = Instant.zero
        var refused = 0
        for ticket in 0..<2_000 as Range<Int32> {
            now = now + .milliseconds(Int64(random.next() % 20))
            let deadline = now + .milliseconds(300)
            switch random.next() % 5 {
            case 0...2:
                let outcome = plain.enqueue(ticket, bytes: 0, deadline: deadline, now: now)
                let isIn = numbered.enqueue(ticket, deadline: deadline, now: now)
                #expect(isIn == (outcome != .full(.count)), "seed \(seed)")
                if !isIn { refused += 1 }
            case 3:
                #expect(numbered.popFirst(now: now) == plain.popFirst(now: now)?.ticket)
            default:
                let (expected, found) = (plain.popExpired(now: now), numbered.popExpired(now: now))
                #expect(found?.ticket == expected?.ticket, "seed \(seed)")
                #expect(found?.enqueuedAt == expected?.enqueuedAt, "seed \(seed)")
            }
            #expect(
                numbered.oldestWaitNanoseconds(now: now) == plain.oldestWaitNanoseconds(now: now)
            )
        }
        #expect(refused > 0, "seed \(seed): the queue was never full")
    }
}
