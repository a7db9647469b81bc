import Testing

@testable import LoadTest

struct PatienceTests {
    /// The lead at each millisecond, for a thread that has waited so long by then for its core.
    private func leads(milliseconds: UInt64, waiting: (UInt64) -> UInt64?) -> [UInt64] {
        var patience = Patience()
        return (1...milliseconds).map { millisecond in
            patience.lead(now: millisecond * 1_000_000) { waiting(millisecond) }
        }
    }

    @Test func looksAtTheClockOnACoreOfItsOwn() {
        // Started late, and then hardly ever interrupted.
        let leads = leads(milliseconds: 1_000) { 900_000_000 + $0 * 50_000 }
        #expect(leads.allSatisfy { $0 == Patience.lead })
    }

    @Test func sleepsWhereOthersWaitAndTriesAgain() {
        let leads = leads(milliseconds: 1_000) { $0 * 500_000 }
        let looking = leads.count { $0 == Patience.lead }
        #expect(leads.allSatisfy { $0 == Patience.lead || $0 == Patience.leadAtRest })
        // A period at first, then one after each rest.
        let cycles = 1_000_000_000 / (Patience.period + Patience.rest) + 1
        #expect(looking >= 20 && looking <= Int(cycles * Patience.period / 1_000_000))
    }

    @Test func looksAgainOnceTheOthersAreGone() {
        let leads = leads(milliseconds: 1_000) { min($0, 300) * 500_000 }
        #expect(leads[250] == Patience.leadAtRest)
        #expect(leads[600...].allSatisfy { $0 == Patience.lead })
    }

    @Test func sleepsWhereTheSystemDoesNotSay() {
        let leads = leads(milliseconds: 1_000) { _ in nil }
        #expect(leads.allSatisfy { $0 == Patience.leadAtRest })
    }

    @Test func asksOncePerPeriod() {
        var patience = Patience()
        var asked = 0
        for microsecond in UInt64(1)...100_000 {
            _ = patience.lead(now: microsecond * 1_000) {
                asked += 1
                return 0
            }
        }
        #expect(asked == 5)
    }

    @Test func knowsHowLongAThreadWaited() throws {
        let core = CoreShare()
        let before = try #require(core.waited)
        core.askForShortSlices()
        let after = try #require(core.waited)
        #expect(after >= before)
    }
}
