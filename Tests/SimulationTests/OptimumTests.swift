import Core
import Testing

@testable import Simulation

@Suite("Clairvoyant optimum")
struct OptimumTests {
    /// The least cost over every plan there is.
    private func bruteForce(
        _ demand: [Double],
        _ weights: [Double],
        penalty: Double,
        switching: Double,
        most: Int
    ) -> Double {
        var best = Double.infinity
        var plan = Array(repeating: 0, count: demand.count)
        while true {
            var cost = 0.0
            var previous = 0
            for (slot, count) in plan.enumerated() {
                cost += Double(count) + switching * Double(max(0, count - previous))
                let missing = max(0, demand[slot] - Double(count))
                if missing > 0 { cost += penalty * weights[slot] * missing / demand[slot] }
                previous = count
            }
            best = min(best, cost)
            guard let index = plan.indices.first(where: { plan[$0] < most }) else { return best }
            for lower in 0..<index { plan[lower] = 0 }
            plan[index] += 1
        }
    }

    @Test(arguments: 1...60)
    func hardFormByLevelsEqualsEveryPlan(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let demand = (0..<(2 + Int(random.next() % 6))).map { _ in Int(random.next() % 4) }
        let switching = [0.5, 1, 2.5, 4, 7][Int(random.next() % 5)]
        let least = self.bruteForce(
            demand.map(Double.init),
            demand.map { _ in 1 },
            penalty: 1e9,
            switching: switching,
            most: 3
        )
        #expect(CapacityOptimum.hardCost(demand, switching: switching) == least, "seed \(seed)")
    }

    @Test(arguments: 1...60)
    func softFormEqualsEveryPlan(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let count = 2 + Int(random.next() % 6)
        let demand = (0..<count).map { _ in random.nextUnit() * 3.5 }
        let weights = (0..<count).map { _ in Double(random.next() % 20) }
        let switching = random.nextUnit() * 6
        let penalty = random.nextUnit() * 2
        let plan = CapacityOptimum.softPlan(
            demand: demand,
            weights: weights,
            penalty: penalty,
            switching: switching,
            most: 3
        )
        let least = self.bruteForce(
            demand,
            weights,
            penalty: penalty,
            switching: switching,
            most: 3
        )
        #expect((plan.cost - least).magnitude < 1e-9, "seed \(seed)")
        #expect(plan.counts.count == count)
    }

    @Test(arguments: 1...20)
    func formsAgreeOnLongSeries(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let demand = (0..<500).map { _ in Int(random.next() % 7) }
        let switching = random.nextUnit() * 20
        let plan = CapacityOptimum.softPlan(
            demand: demand.map(Double.init),
            weights: demand.map { _ in 1 },
            penalty: 1e9,
            switching: switching,
            most: 6
        )
        let cost = CapacityOptimum.hardCost(demand, switching: switching)
        #expect((plan.cost - cost).magnitude < 1e-6, "seed \(seed)")
        #expect(zip(plan.counts, demand).allSatisfy { Int($0) >= $1 })
    }

    @Test func demandIsWhatWouldBeInService() {
        // 2.5 s from 1.5 on, and 1 s from 2 on.
        let model = Worlds.model(Worlds.requests(at: [1.5, 2], service: 2.5))
        let series = DemandSeries(model, duration: 6, slot: 1)
        #expect(series.concurrency == [0, 0.5, 2, 2, 0.5, 0])
        #expect(series.arrivals == [0, 1, 1, 0, 0, 0])
    }

    @Test func planIsPlayedEarlyEnough() {
        let plan = CapacityOptimum.Plan(counts: [0, 0, 0, 2, 2, 1, 1, 0, 0, 0], cost: 0, starts: 2)
        var played = PlayedPlan(plan, slot: 1, lead: 2)
        let wanted = (0..<10).map {
            played.desiredReplicas(
                Observation(now: Instant(nanoseconds: UInt64($0) * 1_000_000_000))
            )
        }
        #expect(wanted == [0, 2, 2, 2, 2, 1, 1, 0, 0, 0])
    }

    @Test func boundReachesItsTargetBelowTheBaselines() throws {
        let setup = Scenario.flash.make(3, .fixed(60))
        let bound = try #require(Clairvoyant.solve([setup], target: 0.99))
        #expect(bound.attainment >= 0.99)
        let kpa = KnobSweep.tuned(Baseline(.kpa), [setup], target: 0.99)
        let best = try #require(kpa.best(target: 0.99))
        #expect(bound.gpuSeconds < best.runs.gpuSeconds)
        // No plan can do with less than the work there is.
        let work = DemandSeries(setup.models[0], duration: setup.duration, slot: 1)
        let counted = work.concurrency.dropFirst(Int(setup.warmUp)).reduce(0, +)
        #expect(bound.gpuSeconds > counted / 8 * 0.98)
    }
}
