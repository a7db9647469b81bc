import Core
import Testing

@testable import Autoscaling

@Suite struct BudgetTests {
    typealias Claim = BudgetAllocator.Claim

    private static func claim(
        _ wanted: Int,
        minimum: Int = 0,
        held: Int = 0,
        draining: Int = 0,
        units: Int = 1,
        priority: Int = 0,
        weight: Int = 1
    ) -> Claim {
        Claim(
            unitsPerReplica: units,
            minimum: minimum,
            wanted: wanted,
            held: held,
            draining: draining,
            priority: priority,
            weight: weight
        )
    }

    @Test(arguments: [
        (16, [claim(4), claim(5)], [4, 5]),
        // Max-min: the small one gets all it wants, the others share what is left.
        (12, [claim(2), claim(20), claim(20)], [2, 5, 5]),
        (12, [claim(20, weight: 3), claim(20, weight: 1)], [9, 3]),
        // Minimums of the lowest come before the wishes of the highest.
        (10, [claim(20, priority: 5), claim(20, minimum: 3, priority: -1)], [7, 3]),
        (10, [claim(6, priority: 5), claim(6, priority: 1), claim(6)], [6, 4, 0]),
        // Minimums beyond the total go by priority.
        (3, [claim(2, minimum: 2), claim(2, minimum: 2, priority: 1)], [1, 2]),
        // Replicas of eight units do not fit into what is left.
        (20, [claim(9, units: 8), claim(9, units: 1)], [1, 9]),
        (0, [claim(9)], [0]),
    ])
    func sharesByHand(total: Int, claims: [Claim], expected: [Int]) {
        #expect(BudgetAllocator(total: total).shares(of: claims) == expected)
    }

    @Test func growsOnlyIntoWhatIsFree() {
        let allocator = BudgetAllocator(total: 10)
        let poor = Self.claim(8, priority: 1)
        // The other holds everything and shrinks to two; its units are free once they are gone.
        #expect(allocator.grants(for: [Self.claim(9, held: 10), poor]) == [2, 0])
        #expect(allocator.grants(for: [Self.claim(9, held: 2, draining: 8), poor]) == [2, 0])
        #expect(allocator.grants(for: [Self.claim(9, held: 2, draining: 3), poor]) == [2, 5])
        #expect(allocator.grants(for: [Self.claim(9, held: 2), poor]) == [2, 8])
    }

    @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6, 7, 8])
    func neverExceedsTheTotalHoweverItMoves(seed: UInt64) {
        var random = RandomSource(seed: seed)
        func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }
        for _ in 0..<200 {
            let allocator = BudgetAllocator(total: below(60))
            var claims = (0..<1 + below(8)).map { _ in
                Self.claim(
                    below(20),
                    minimum: below(3),
                    units: 1 + below(4),
                    priority: below(3),
                    weight: 1 + below(5)
                )
            }
            for step in 0..<30 {
                let grants = allocator.grants(for: claims)
                let shares = allocator.shares(of: claims)
                let units = zip(shares, claims).reduce(0) { $0 + $1.0 * $1.1.unitsPerReplica }
                #expect(units <= allocator.total, "seed \(seed) step \(step)")
                for index in claims.indices {
                    #expect(grants[index] <= claims[index].wanted, "seed \(seed)")
                    let change = grants[index] - claims[index].held
                    claims[index].held = grants[index]
                    claims[index].draining += max(0, -change)
                    claims[index].draining -= below(claims[index].draining + 1)
                    if below(4) == 0 { claims[index].wanted = below(20) }
                }
                let used = claims.reduce(0) { $0 + ($1.held + $1.draining) * $1.unitsPerReplica }
                #expect(used <= allocator.total, "seed \(seed) step \(step): \(claims)")
            }
            // Once all have drained, everybody reaches its share.
            for index in claims.indices { claims[index].draining = 0 }
            for _ in 0..<3 {
                let grants = allocator.grants(for: claims)
                for index in claims.indices { claims[index].held = grants[index] }
            }
            #expect(claims.map(\.held) == allocator.shares(of: claims), "seed \(seed)")
        }
    }

    @Test func hugeNumbersDoNotOverflow() {
        let claim = Self.claim(.max, minimum: .max, held: .max, draining: .max, units: .max)
        #expect(BudgetAllocator(total: .max).grants(for: [claim, claim]).count == 2)
    }

    @Test func aGrantLimitsADecision() {
        var rig = Rig([.concurrency(1)], ready: 2)
        rig.run(61, Rig.sample(inFlight: 2))
        rig.seconds += 1
        let observation = VariantObservation(
            seconds: 1,
            gateway: Rig.sample(inFlight: 600),
            replicas: rig.counts
        )
        rig.scaler.observe(observation, variant: 0, at: rig.now)
        let proposal = rig.scaler.propose(at: rig.now)[0]
        #expect(proposal.wanted > 5 && proposal.held == 2)
        let decision = rig.scaler.conclude(grants: [5], at: rig.now).variants[0]
        #expect(decision.desired == 5)
        #expect(decision.constraints.last?.kind == .budget(granted: 5))
    }
}

@Suite struct VictimTests {
    typealias Candidate = VictimChoice.Candidate

    @Test func theIdlestAndColdestGoFirst() {
        let plan = VictimChoice.plan(
            desired: 1,
            [
                Candidate(id: 1, state: .ready, streams: 4, cacheValue: 0, ageSeconds: 90),
                Candidate(id: 2, state: .ready, streams: 1, cacheValue: 9, ageSeconds: 90),
                Candidate(id: 3, state: .ready, streams: 1, cacheValue: 2, ageSeconds: 90),
                Candidate(id: 4, state: .starting, ageSeconds: 5),
                Candidate(id: 5, state: .stuck, ageSeconds: 500),
            ]
        )
        #expect(plan == VictimChoice.Plan(remove: [5, 4, 3, 2]))
    }

    @Test func takesBackDrainingReplicasBeforeStartingNewOnes() {
        let plan = VictimChoice.plan(
            desired: 4,
            [
                Candidate(id: 1, state: .ready),
                Candidate(id: 2, state: .draining, streams: 1, drainSecondsLeft: 20),
                Candidate(id: 3, state: .draining, streams: 7, drainSecondsLeft: 20),
                Candidate(id: 4, state: .draining, streams: 9, drainSecondsLeft: 0.5),
            ]
        )
        #expect(plan == VictimChoice.Plan(takeBack: [3, 2], start: 1))
    }

    @Test(arguments: [UInt64(11), 12, 13])
    func alwaysEndsWithTheNumberWanted(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let states: [Candidate.State] = [.ready, .starting, .stuck, .draining]
        for _ in 0..<500 {
            let candidates = (0..<Int(random.next() % 12)).map { id in
                Candidate(
                    id: id,
                    state: states[Int(random.next() % 4)],
                    streams: Int(random.next() % 3),
                    cacheValue: random.next() % 5 == 0 ? .nan : random.nextUnit(),
                    drainSecondsLeft: random.nextUnit() * 3
                )
            }
            let desired = Int(random.next() % 12)
            let plan = VictimChoice.plan(desired: desired, candidates)
            let staying = candidates.count { $0.state != .draining }
            let after = staying - plan.remove.count + plan.takeBack.count + plan.start
            #expect(after == desired, "seed \(seed)")
            #expect(plan.remove.isEmpty || plan.start + plan.takeBack.count == 0, "seed \(seed)")
            let streams = plan.remove.map { candidates[$0].streams }
            let kept = candidates.filter { $0.state == .ready && !plan.remove.contains($0.id) }
            let gone = candidates.filter { $0.state == .ready && plan.remove.contains($0.id) }
            #expect(streams.count == plan.remove.count)
            if let least = kept.map(\.streams).min(), let most = gone.map(\.streams).max() {
                #expect(most <= least, "seed \(seed)")
            }
        }
    }
}

@Suite struct MixTests {
    private static func option(_ each: Double, _ cost: Double, most: Int, present: Int = 0)
        -> Mix.Option
    {
        Mix.Option(perReplica: each, cost: cost, least: 0, most: most, present: present)
    }

    @Test func fillsWithTheBigAndClosesWithTheSmall() {
        // A big GPU does 10/s for 4, a small one 2/s for 1: 22/s is two big and one small.
        let options = [Self.option(10, 4, most: 9), Self.option(2, 1, most: 9)]
        #expect(Mix.choose(demand: 22, options) == [2, 1])
        #expect(Mix.choose(demand: 3, options) == [0, 2])
        #expect(Mix.choose(demand: 0, options) == [0, 0])
        #expect(Mix.choose(demand: 1_000, options) == [9, 9], "all there is")
    }

    /// A forecast fades towards nothing and meets every size of rounding on its way.
    @Test func nearlyNothingIsNotMoreThanThereIs() {
        let options = [Self.option(4, 1, most: 20), Self.option(6, 1.5, most: 10)]
        var demand = 1.0
        while demand > 1e-15 {
            #expect(Mix.choose(demand: demand, options).reduce(0, +) <= 1, "\(demand)")
            demand *= 0.9
        }
        for count in 1...9 {
            for part in [-1e-12, 0, 1e-12] {
                let counts = Mix.choose(demand: 6 * Double(count) * (1 + part), options)
                #expect(counts.reduce(0, +) < 19, "\(count) \(part): \(counts)")
            }
        }
    }

    @Test func keepsWhatRunsAtTheSameCost() {
        let options = [Self.option(5, 1, most: 9), Self.option(5, 1, most: 9, present: 3)]
        #expect(Mix.choose(demand: 15, options) == [0, 3])
    }

    @Test func fillsUpToTheLeastTogetherWithTheCheapest() {
        let options = [Self.option(10, 4, most: 9), Self.option(2, 1, most: 2)]
        #expect(Mix.choose(demand: 0, leastTogether: 2, options) == [0, 2])
        #expect(Mix.choose(demand: 0, leastTogether: 3, options) == [1, 2])
        #expect(Mix.choose(demand: 9, leastTogether: 1, options) == [1, 0])
        #expect(Mix.choose(demand: 0, leastTogether: 99, options) == [9, 2], "all there is")
        let alike = [Self.option(2, 1, most: 9), Self.option(2, 1, most: 9, present: 2)]
        #expect(Mix.choose(demand: 0, leastTogether: 3, alike) == [1, 2], "what runs stays")
    }

    @Test(arguments: [UInt64(21), 22, 23, 24])
    func isAsCheapAsTryingEverything(seed: UInt64) {
        var random = RandomSource(seed: seed)
        for _ in 0..<300 {
            let options = (0..<3).map { _ in
                Self.option(
                    1 + random.nextUnit() * 9,
                    1 + random.nextUnit() * 4,
                    most: Int(random.next() % 6)
                )
            }
            let demand = random.nextUnit() * 40
            func cost(_ counts: [Int]) -> Double? {
                let served = zip(counts, options).reduce(0) { $0 + Double($1.0) * $1.1.perReplica }
                if served < demand - 1e-9 { return nil }
                return zip(counts, options).reduce(0) { $0 + Double($1.0) * $1.1.cost * 1.05 }
            }
            var best = Double.infinity
            for first in 0...options[0].most {
                for second in 0...options[1].most {
                    for third in 0...options[2].most {
                        best = min(best, cost([first, second, third]) ?? .infinity)
                    }
                }
            }
            let counts = Mix.choose(demand: demand, options)
            if best == .infinity {
                #expect(counts == options.map(\.most), "seed \(seed)")
            } else {
                let own = cost(counts) ?? .infinity
                #expect(own <= best + 1e-6, "seed \(seed): \(own) over \(best)")
            }
        }
    }
}
