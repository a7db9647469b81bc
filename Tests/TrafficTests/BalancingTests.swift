import Core
import Testing

@testable import Traffic

@Suite struct LeastLoadedTests {
    @Test func choosesTheLeastLoaded() {
        var balancer = LeastLoaded(random: RandomSource(seed: 1))
        let endpoints = FakeEndpoints(loads: [3, 1, 2], limit: 8)
        for _ in 0..<10 { #expect(balancer.pick(endpoints) == .free(1)) }
    }

    @Test func equalLoadsTakeTurns() {
        var balancer = LeastLoaded(random: RandomSource(seed: 7))
        for load in [0, 2] {
            let endpoints = FakeEndpoints(loads: [load, load, load], limit: 8)
            let first = balancer.pick(endpoints).index ?? 0
            for step in 1...9 { #expect(balancer.pick(endpoints) == .free((first + step) % 3)) }
        }
    }

    @Test func workersStartAtDifferentPlaces() {
        let endpoints = FakeEndpoints(loads: Array(repeating: 0, count: 8))
        let firsts = (0..<32).map { worker -> Int in
            var balancer = LeastLoaded(random: RandomSource(seed: UInt64(worker)))
            return balancer.pick(endpoints).index ?? -1
        }
        #expect(Set(firsts).count >= 4)
    }

    @Test(arguments: [1, 2, 5, 16, 17, 100])
    func neverExceedsALimitUnlessAllAreFull(count: Int) {
        let seed = UInt64(count)
        var random = RandomSource(seed: seed)
        var balancer = LeastLoaded(random: random.split())
        var robin = RoundRobin(start: 3)
        let hash = ConsistentHash()
        for round in 0..<2_000 {
            var endpoints = FakeEndpoints(loads: (0..<count).map { _ in random.below(4) })
            endpoints.limits = (0..<count).map { _ in 1 + random.below(3) }
            endpoints.eligible = (0..<count).map { _ in random.chance(60) }
            let eligible = (0..<count).filter { endpoints.eligible[$0] }
            let free = eligible.filter { endpoints.loads[$0] < endpoints.limits[$0] }
            let choices = [
                balancer.pick(endpoints), robin.pick(endpoints),
                hash.pick(keyHash: random.next(), endpoints),
            ]
            for choice in choices {
                switch choice {
                case .free(let index): #expect(free.contains(index), "seed \(seed) \(round)")
                case .saturated(let index):
                    #expect(free.isEmpty && eligible.contains(index), "seed \(seed) \(round)")
                case .none: #expect(eligible.isEmpty, "seed \(seed) \(round)")
                }
            }
        }
    }

    @Test func twoChoicesKeepManyEndpointsEven() {
        var balancer = LeastLoaded(random: RandomSource(seed: 11))
        var endpoints = FakeEndpoints(loads: Array(repeating: 0, count: 64))
        for _ in 0..<6_400 {
            if let index = balancer.pick(endpoints).index { endpoints.loads[index] += 1 }
        }
        // Random placement would reach about 130; two choices stay close to the mean of 100.
        #expect((endpoints.loads.max() ?? 0) <= 106)
    }

    @Test func findsTheOnlyFreeOneAmongMany() {
        var balancer = LeastLoaded(random: RandomSource(seed: 2))
        var endpoints = FakeEndpoints(loads: Array(repeating: 1, count: 500), limit: 1)
        endpoints.loads[321] = 0
        for _ in 0..<20 { #expect(balancer.pick(endpoints) == .free(321)) }
    }

    @Test func emptySetsHaveNoChoice() {
        var balancer = LeastLoaded(random: RandomSource(seed: 1))
        var robin = RoundRobin(start: Int.min)
        let none = FakeEndpoints(loads: [])
        #expect(balancer.pick(none) == .none)
        #expect(robin.pick(none) == .none)
        #expect(ConsistentHash().pick(keyHash: 1, none) == .none)
    }
}

@Suite struct RoundRobinTests {
    @Test func takesTurnsAndSkipsTheFull() {
        var robin = RoundRobin(start: 0)
        var endpoints = FakeEndpoints(loads: [0, 0, 0, 0], limit: 2)
        endpoints.loads[1] = 2
        endpoints.eligible[3] = false
        #expect(
            (0..<4).map { _ in robin.pick(endpoints) } == [.free(0), .free(2), .free(0), .free(2)]
        )
    }

    @Test func takesTurnsAmongTheSaturatedToo() {
        var robin = RoundRobin(start: 0)
        let endpoints = FakeEndpoints(loads: [2, 2], limit: 2)
        #expect(
            (0..<3).map { _ in robin.pick(endpoints) } == [
                .saturated(0), .saturated(1), .saturated(0),
            ]
        )
    }
}

@Suite struct ConsistentHashTests {
    @Test func theSameKeyGoesToTheSamePlaceWhileThereIsRoom() {
        let hash = ConsistentHash(loadFloor: 4)
        let endpoints = FakeEndpoints(loads: Array(repeating: 0, count: 10))
        var counts = Array(repeating: 0, count: 10)
        for key in 0..<10_000 {
            let choice = hash.pick(keyHash: ByteHash.mix(UInt64(key)), endpoints)
            #expect(choice == hash.pick(keyHash: ByteHash.mix(UInt64(key)), endpoints))
            counts[choice.index ?? -1] += 1
        }
        for count in counts { #expect(abs(count - 1_000) < 160, "\(counts)") }
    }

    @Test(arguments: [2, 5, 16])
    func noLoadExceedsTheBound(count: Int) {
        let hash = ConsistentHash()
        var endpoints = FakeEndpoints(loads: Array(repeating: 0, count: count))
        var random = RandomSource(seed: 5)
        for total in 1...400 {
            // Nine in ten requests have the same key.
            let key = random.chance(90) ? 42 : random.next()
            guard case .free(let index) = hash.pick(keyHash: key, endpoints) else {
                Issue.record("no endpoint for request \(total)")
                return
            }
            endpoints.loads[index] += 1
            let bound = (125 * total + 100 * count - 1) / (100 * count)
            #expect(endpoints.loads[index] <= bound)
        }
    }

    @Test func onlyTheKeysOfAnEndpointThatLeavesMove() {
        let hash = ConsistentHash(loadFloor: 1_000)
        let all = FakeEndpoints(loads: Array(repeating: 0, count: 8))
        var fewer = all
        fewer.eligible[5] = false
        for key in 0..<5_000 {
            let before = hash.pick(keyHash: ByteHash.mix(UInt64(key)), all)
            let after = hash.pick(keyHash: ByteHash.mix(UInt64(key)), fewer)
            if before == .free(5) { #expect(after != .free(5)) } else { #expect(after == before) }
        }
    }

    @Test func theOverflowOfOneEndpointScatters() {
        let hash = ConsistentHash()
        var endpoints = FakeEndpoints(loads: Array(repeating: 1, count: 8))
        endpoints.loads[3] = 50
        var overflow: Set<Int> = []
        for key in 0..<200 where hash.pick(keyHash: UInt64(key), endpoints).index != nil {
            if let index = hash.pick(keyHash: ByteHash.mix(UInt64(key)), endpoints).index {
                overflow.insert(index)
            }
        }
        #expect(overflow == [0, 1, 2, 4, 5, 6, 7])
    }
}

@Suite struct PrefixAffinityTests {
    static func prompt(_ text: String) -> PromptHash {
        var hash = PromptHash()
        hash.update(bytes(text).span.bytes)
        return hash
    }

    @Test func aGrowingConversationKeepsItsBaseBeyondOneKibibyte() {
        let affinity = PrefixAffinity(salt: 1)
        let start = String(repeating: "The same beginning. ", count: 60)
        let base = affinity.keys(Self.prompt(start))?[0]
        #expect(base != nil)
        #expect(affinity.keys(Self.prompt(start + "And one more turn."))?[0] == base)
        #expect(affinity.keys(Self.prompt("Another" + start))?[0] != base)
    }

    static func blocks(_ names: Range<Int>) -> String {
        names.map { "block \($0)" + String(repeating: ".", count: 58 - "\($0)".count) }.joined()
    }

    @Test func theBaseChangesOnlyAtPowersOfTwoAndTheLadderGrows() {
        let affinity = PrefixAffinity(salt: 1)
        var changes: [Int] = []
        var rungs: [Int] = []
        var last: PrefixKeys?
        for count in 1...300 {
            guard let keys = affinity.keys(Self.prompt(Self.blocks(0..<count))) else { continue }
            if keys[0] != last?[0] { changes.append(count) }
            if keys.count != last?.count { rungs.append(count) }
            last = keys
        }
        #expect(changes == [1, 2, 4, 8, 16])
        #expect(rungs == [1, 32, 64, 128, 256])
    }

    @Test func shortPromptsHaveAKeyAndNoPromptHasNone() {
        let affinity = PrefixAffinity(salt: 1)
        let high = Self.prompt("\"hi\"")
        #expect(affinity.keys(high) != nil)
        #expect(affinity.keys(high) != affinity.keys(Self.prompt("\"ho\"")))
        #expect(affinity.keys(PromptHash()) == nil)
        #expect(PrefixAffinity(salt: 2).keys(high) != affinity.keys(high))
    }

    @Test func aHotPrefixSpillsToAsFewEndpointsAsCarryIt() throws {
        let affinity = PrefixAffinity(salt: 1)
        let keys = try #require(affinity.keys(Self.prompt(Self.blocks(0..<20))))
        var endpoints = FakeEndpoints(loads: Array(repeating: 0, count: 8), limit: 64)
        var used: [Int] = []
        for _ in 0..<8 {
            let index = try #require(affinity.pick(keys, endpoints).index)
            endpoints.loads[index] += 1
            used.append(index)
        }
        #expect(Set(used.prefix(4)).count == 1, "the floor lets four meet")
        #expect(Set(used).count == 2)
    }

    @Test func conversationsKeepPlacesOfTheirOwnWhenTheirCommonStartIsTooHot() throws {
        let affinity = PrefixAffinity(salt: 1)
        var endpoints = FakeEndpoints(loads: Array(repeating: 5, count: 8), limit: 64)
        let common = Self.blocks(0..<20)
        let start = try #require(affinity.keys(Self.prompt(common)))
        let home = try #require(affinity.pick(start, endpoints).index)
        endpoints.loads[home] = 20
        var places: Set<Int> = []
        for conversation in 0..<40 {
            let first =
                common + Self.blocks(1_000 * (conversation + 1)..<1_000 * (conversation + 1) + 20)
            let grown = first + Self.blocks(0..<10)
            let one = try #require(affinity.keys(Self.prompt(first)))
            let two = try #require(affinity.keys(Self.prompt(grown)))
            let place = affinity.pick(one, endpoints)
            #expect(place == affinity.pick(two, endpoints))
            places.insert(place.index ?? -1)
        }
        #expect(!places.contains(home))
        #expect(places.count >= 6, "\(places)")
    }

    @Test func theLadderKeepsToLimitsAndEligibility() throws {
        let affinity = PrefixAffinity(salt: 1)
        let keys = try #require(affinity.keys(Self.prompt(Self.blocks(0..<300))))
        #expect(keys.count == PrefixKeys.countMax)
        var random = RandomSource(seed: 77)
        for _ in 0..<2_000 {
            var endpoints = FakeEndpoints(loads: (0..<6).map { _ in random.below(4) })
            endpoints.limits = (0..<6).map { _ in 1 + random.below(3) }
            endpoints.eligible = (0..<6).map { _ in random.chance(50) }
            let eligible = (0..<6).filter { endpoints.eligible[$0] }
            let free = eligible.filter { endpoints.loads[$0] < endpoints.limits[$0] }
            switch affinity.pick(keys, endpoints) {
            case .free(let index): #expect(free.contains(index))
            case .saturated(let index): #expect(free.isEmpty && eligible.contains(index))
            case .none: #expect(eligible.isEmpty)
            }
        }
    }

    @Test(arguments: [1, 3, 63, 64, 65, 1000])
    func blocksAreTheSameHoweverThePromptIsCut(piece: Int) {
        let whole = bytes(String(repeating: "0123456789abcdefg", count: 100))
        var expected = PromptHash()
        expected.update(whole.span.bytes)
        var hash = PromptHash()
        var start = 0
        while start < whole.count {
            hash.update(Array(whole[start..<min(start + piece, whole.count)]).span.bytes)
            start += piece
        }
        #expect(hash.blocks == expected.blocks)
        #expect(hash.blocks.count == whole.count / 64)
    }

    @Test func blocksAreBounded() {
        var hash = PromptHash()
        hash.update([UInt8](repeating: 7, count: 100_000).span.bytes)
        #expect(hash.blocks.count == PromptHash.blocksMax)
        #expect(Set(hash.blocks).count == PromptHash.blocksMax, "a chain, not a hash per block")
    }
}
