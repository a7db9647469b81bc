import Core
import Testing

@testable import Traffic

@Suite struct TenantShareTests {
    private let quota = TenantQuota(requestsPerSecond: 100, tokensPerMinute: 6_000, concurrency: 8)

    private func admitted(_ meter: inout TenantMeter, _ count: Int, at now: Instant) -> Int {
        (0..<count).count { _ in
            if case .admitted = meter.request(tokens: 0, now: now) {
                meter.ended(charged: 0, cost: 0, answer: nil, now: now)
                return true
            }
            return false
        }
    }

    @Test func aPartOfEveryLimit() {
        var meter = TenantMeter(self.quota, share: .init(all: 0.25), now: .zero)
        #expect(self.admitted(&meter, 200, at: .zero) == 25)
        #expect(self.admitted(&meter, 200, at: .zero + .seconds(10)) == 25)
        #expect(meter.concurrencyLimit == 2)
        // What clients are told: the tenant's limit, and what is left of it here.
        let reading = meter.requestReading(now: .zero + .seconds(10))
        #expect(reading?.limit == 100 && reading?.remaining == 0)
        let tokens = meter.tokenReading(now: .zero)
        #expect(tokens?.limit == 6_000 && tokens?.remaining == 1_500)
    }

    /// Shares that move to and fro make nothing out of nothing.
    @Test func movingSharesGivesNothingAway() {
        var meters = [0, 1].map { _ in TenantMeter(self.quota, share: .init(all: 0.5), now: .zero) }
        var total = 0
        for step in 0..<2_000 {
            let now = Instant.zero + .milliseconds(step * 10)
            let isFirst = step % 200 < 100
            let first = isFirst ? 0.95 : 0.05
            // Who shrinks does so first.
            for index in isFirst ? [1, 0] : [0, 1] {
                meters[index].take(.init(all: index == 0 ? first : 1 - first), now: now)
            }
            for index in meters.indices { total += self.admitted(&meters[index], 60, at: now) }
        }
        #expect(total <= 100 * 20 + 100, "\(total) requests in 20 seconds")
        #expect(total >= 90 * 20, "\(total) requests in 20 seconds")
    }

    @Test func placesAreWholeAsTheyWereMeant() {
        for count in 0...8 {
            let share = TenantShare(all: Double(count) / 8)
            let meter = TenantMeter(self.quota, share: share, now: .zero)
            #expect(meter.concurrencyLimit == count)
        }
    }

    @Test func withoutAShareNothingIsAdmitted() {
        var meter = TenantMeter(
            TenantQuota(requestsPerSecond: 100),
            share: .init(all: 0),
            now: .zero
        )
        #expect(
            meter.request(tokens: 0, now: .zero + .seconds(100))
                == .refused(.requests, retryAfterNanoseconds: 1_000_000_000)
        )
        meter.take(.whole, now: .zero + .seconds(100))
        #expect(self.admitted(&meter, 200, at: .zero + .seconds(101)) == 100)
    }

    @Test func aNewLimitIsShared() {
        var meter = TenantMeter(self.quota, share: .init(all: 0.5), now: .zero)
        meter.update(TenantQuota(requestsPerSecond: 10), now: .zero)
        #expect(self.admitted(&meter, 100, at: .zero) == 5)
        #expect(meter.concurrencyLimit == nil)
    }

    @Test func countsWhatWasAskedForInTheLastSecond() {
        var meter = TenantMeter(
            TenantQuota(requestsPerSecond: 3, concurrency: 2),
            now: .zero
        )
        let now = Instant.zero + .milliseconds(1_500)
        for _ in 0..<2 { _ = meter.request(tokens: 50, now: now) }
        for _ in 0..<4 { _ = meter.request(tokens: 50, now: now) }
        // Of the second that runs only what is in flight is told.
        #expect(meter.lately(now: now).requestsPerSecond == 0)
        let demand = meter.lately(now: .zero + .milliseconds(2_100))
        #expect(demand.requestsPerSecond == 6 && demand.tokensPerSecond == 300)
        #expect(demand.tokensPerRequest == 50 && demand.inFlight == 2)
        #expect(demand.atATime == 6)
        let later = meter.lately(now: .zero + .seconds(9))
        #expect(later.requestsPerSecond == 0 && later.atATime == 2)
    }
}
