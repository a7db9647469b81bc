import Core
import Testing

@testable import Orchestration

@Suite struct GatewayRollTests {
    private func at(_ seconds: Double) -> Instant { .zero + .seconds(1_000 + seconds) }

    private func gateway(_ name: String, _ condition: EndpointCondition = .ready) -> PodEndpoint {
        PodEndpoint(
            identity: name,
            name: name,
            address: "10.0.0.1",
            port: 9_901,
            condition: condition
        )
    }

    @Test func hearsNobodyWhereNobodyIs() {
        let roll = GatewayRoll()
        #expect(!roll.isHeard(at: self.at(0)))
        #expect(roll.missing(at: self.at(0)) == 0)
    }

    @Test func givesEachGatewayASourceOfItsOwn() {
        var roll = GatewayRoll()
        #expect(roll.update([self.gateway("a"), self.gateway("b")], at: self.at(0)) == [])
        #expect(roll.update([self.gateway("b"), self.gateway("c")], at: self.at(1)) == [0])
        #expect(roll.gateways.map(\.endpoint.identity) == ["b", "c"])
        #expect(roll.gateways.map(\.source) == [1, 2])
        // Back again it is another one.
        #expect(roll.update([self.gateway("a")], at: self.at(2)) == [1, 2])
        #expect(roll.gateways.map(\.source) == [3])
    }

    /// Of `count` gateways `heard` answered: the others are missing, and with half of them missing
    /// nobody was heard.
    @Test(arguments: 1...6)
    func toleratesAMinority(_ count: Int) {
        for heard in 0...count {
            var roll = GatewayRoll()
            _ = roll.update((0..<count).map { self.gateway("\($0)") }, at: self.at(0))
            for name in 0..<heard { roll.answered("\(name)", at: self.at(1)) }
            #expect(roll.missing(at: self.at(2)) == count - heard)
            #expect(roll.isHeard(at: self.at(2)) == (heard > count - heard))
        }
    }

    @Test func anAnswerGrowsOld() {
        var roll = GatewayRoll()
        _ = roll.update([self.gateway("a")], at: self.at(0))
        roll.answered("a", at: self.at(0))
        #expect(roll.isHeard(at: self.at(2.5)))
        #expect(!roll.isHeard(at: self.at(2.6)))
        #expect(roll.missing(at: self.at(2.6)) == 1)
    }

    @Test func expectsNothingOfGatewaysThatEndOrBegin() {
        var roll = GatewayRoll()
        _ = roll.update(
            [self.gateway("a"), self.gateway("b", .terminating), self.gateway("c", .notReady)],
            at: self.at(0)
        )
        roll.answered("a", at: self.at(0))
        #expect(roll.missing(at: self.at(1)) == 0)
        #expect(roll.isHeard(at: self.at(1)))
        // One that has served and is not ready now may still have requests.
        roll.answered("c", at: self.at(1))
        #expect(roll.missing(at: self.at(9)) == 2)
    }

    @Test func countsThoseBeyondTheLimitAsMissing() {
        var roll = GatewayRoll()
        let most = GatewayRoll.gatewaysMax
        _ = roll.update((0..<most + 3).map { self.gateway("\($0)") }, at: self.at(0))
        #expect(roll.gateways.count == most)
        for index in 0..<most { roll.answered("\(index)", at: self.at(0)) }
        #expect(roll.missing(at: self.at(0)) == 3)
        #expect(roll.count == most + 3)
    }
}
