import Core
import EventLoop
import Synchronization
import Testing
import Traffic

@testable import Proxy

/// How one worker spreads requests and takes endpoints out that fail.
@Suite struct VariantBalanceTests {
    private let now = Instant(nanoseconds: 1_000_000_000)

    private func endpoints(_ count: Int, limit: Int = .max) throws -> [Endpoint] {
        let address = try #require(SocketAddress("127.0.0.1:1"))
        return (0..<count).map {
            Endpoint(slot: $0, name: "e\($0)", address: address, limit: limit)
        }
    }

    private func balance(_ endpoints: [Endpoint], errors: Int = 2) -> VariantBalance {
        var settings = OutlierSettings()
        settings.consecutiveErrors = errors
        settings.ejectFor = .seconds(10)
        var random = RandomSource(seed: 7)
        return VariantBalance(endpoints: endpoints, settings: settings, random: &random)
    }

    @Test func anEndpointThatFailsInARowIsEjectedUntilItsTimeIsUp() throws {
        let endpoints = try self.endpoints(2)
        let balance = self.balance(endpoints)
        let outcome1 = balance.recordError(of: endpoints[0], now: self.now)
        #expect(outcome1 == nil)
        let ejected = balance.recordError(of: endpoints[0], now: self.now)
        let until = try #require(ejected)
        #expect(until == self.now + .seconds(10))
        #expect(!balance.view(excluding: [], now: self.now).isEligible(0))
        #expect(balance.view(excluding: [], now: until).isEligible(0))
    }

    @Test func aSuccessBetweenFailuresForgivesThem() throws {
        let endpoints = try self.endpoints(2)
        let balance = self.balance(endpoints)
        let outcome2 = balance.recordError(of: endpoints[0], now: self.now)
        #expect(outcome2 == nil)
        balance.recordSuccess(of: endpoints[0], now: self.now)
        let outcome3 = balance.recordError(of: endpoints[0], now: self.now)
        #expect(outcome3 == nil)
    }

    @Test func theOnlyEndpointIsNeverEjected() throws {
        let endpoints = try self.endpoints(1)
        let balance = self.balance(endpoints)
        for _ in 0..<10 {
            let outcome4 = balance.recordError(of: endpoints[0], now: self.now)
            #expect(outcome4 == nil)
        }
        #expect(balance.view(excluding: [], now: self.now).isEligible(0))
    }

    @Test func theEndpointThatIsLeftServesAlthoughItIsEjected() throws {
        let endpoints = try self.endpoints(2)
        let balance = self.balance(endpoints, errors: 1)
        let outcome5 = balance.recordError(of: endpoints[0], now: self.now)
        #expect(outcome5 != nil)
        balance.adopt([endpoints[0]], settings: OutlierSettings())
        #expect(balance.view(excluding: [], now: self.now).isEligible(0))
    }

    @Test func retiredAndExcludedEndpointsAreNotEligible() throws {
        let endpoints = try self.endpoints(3)
        let balance = self.balance(endpoints)
        endpoints[0].isRetired.store(true, ordering: .relaxed)
        let view = balance.view(excluding: [endpoints[1]], now: self.now)
        #expect((0..<3).map { view.isEligible($0) } == [false, false, true])
    }

    @Test func aSlotIsTakenUpToTheLimit() throws {
        let endpoint = try #require(try self.endpoints(1, limit: 2).first)
        let taken = (0..<3).map { _ in endpoint.tryAcquire() }
        #expect(taken == [true, true, false])
        endpoint.release()
        let again = endpoint.tryAcquire()
        #expect(again)
    }
}
