import Core
import Testing

@testable import Autoscaling

/// Three variants, of which the first two are interchangeable; replicas do what the autoscaler
/// says at once, but for those of which a test says that they do not come.
private struct Pool {
    static let names = ["small", "big", "canary"]
    var scaler: ModelAutoscaler
    var fleets: [Fleet]
    var absent: [Obstacle?] = [nil, nil, nil]
    var last: [VariantDecision] = []
    private var second = 0

    init(
        minimum: Int = 0,
        idleAfter: Duration? = .seconds(60),
        ready: [Int] = [0, 0, 0],
        stabilization: AutomaticDuration = .fixed(.seconds(10))
    ) {
        var policy = ScalingPolicy()
        policy.idleAfter = idleAfter
        policy.scaleDown.stabilization = stabilization
        let costs = [1.0, 1.5, 1]
        let variants = Self.names.indices.map { index in
            VariantSetup(
                name: Self.names[index],
                bounds: ScalingBounds(minimum: 0, maximum: index == 0 ? 20 : 10),
                cost: costs[index],
                assumedColdStart: .seconds(5),
                assumedDrain: .seconds(5),
                isServing: index < 2,
                isInterchangeable: index < 2
            )
        }
        let objective = TimeObjective(quantile: 0.99, below: .seconds(3))
        let setup = ModelSetup(
            name: "m",
            policy: policy,
            objectives: Objectives(latency: objective),
            variants: variants,
            pooledMinimum: minimum
        )
        self.scaler = ModelAutoscaler(setup, at: Instant(nanoseconds: 0))
        self.fleets = ready.indices.map { Fleet(ready: ready[$0], limit: 3, seed: UInt64($0)) }
        self.fleets[1].slots = 16
    }

    /// So many seconds of a load that is divided among ready replicas by their slots.
    mutating func run(_ seconds: Int, rate: Double, grants: [Int?] = []) {
        for _ in 0..<seconds {
            self.second += 1
            let now = Instant(nanoseconds: UInt64(self.second) * 1_000_000_000)
            let capacity = self.fleets[..<2].reduce(0) { $0 + $1.ready * $1.slots }
            for index in self.fleets.indices {
                let share = Double(self.fleets[index].ready * self.fleets[index].slots)
                let own = index < 2 ? rate * share / Double(max(1, capacity)) : 0
                var seen = self.fleets[index].step(rate: own)
                if let obstacle = self.absent[index], index < self.last.count {
                    seen.replicas?.stuck = max(
                        0,
                        self.last[index].desired - self.fleets[index].live
                    )
                    seen.replicas?.obstacle = obstacle
                }
                self.scaler.observe(seen, variant: index, at: now)
            }
            _ = self.scaler.propose(at: now)
            self.last = self.scaler.conclude(grants: grants, at: now).variants
            for index in self.fleets.indices {
                guard let count = self.last[index].replicasToSet else { continue }
                let live = self.fleets[index].live
                if self.absent[index] == nil || count < live {
                    self.fleets[index].scale(to: count)
                }
            }
        }
    }

    var live: [Int] { self.fleets.map(\.live) }

    /// The fewest replicas of a variant, and for how many seconds the other one was asked for.
    mutating func least(of variant: Int, in seconds: Int, rate: Double, grants: [Int?] = [])
        -> (least: Int, asked: Int)
    {
        var result = (least: Int.max, asked: 0)
        for _ in 0..<seconds {
            self.run(1, rate: rate, grants: grants)
            result.least = min(result.least, self.live[variant])
            if self.last[1 - variant].desired > self.live[1 - variant] { result.asked += 1 }
        }
        return result
    }

    func fallback(_ variant: Int) -> AppliedConstraint.Kind? {
        self.last[variant].constraints.map(\.kind).first { kind in
            if case .fallback = kind { true } else { false }
        }
    }
}

@Suite struct PoolTests {
    @Test func startsWithTheCheapestThatComes() {
        var pool = Pool()
        #expect(pool.scaler.starter == 0)
        pool.absent[0] = Obstacle(.crashLoop, message: "exit code 1")
        pool.run(1, rate: 0)
        // One was asked for and is stuck.
        _ = pool.scaler.requestArrived(variant: 0, at: Instant(nanoseconds: 2_000_000_000))
        pool.run(1, rate: 0)
        pool.run(1, rate: 0)
        #expect(pool.scaler.starter == 1)
        pool.absent[1] = Obstacle(.quota)
        _ = pool.scaler.requestArrived(variant: 1, at: Instant(nanoseconds: 3_000_000_000))
        pool.run(2, rate: 0)
        #expect(pool.scaler.starter == 0, "where none comes the cheapest is tried on")
    }

    @Test func withoutAPoolThereIsNobodyToStart() {
        var setup = Pool().scaler.setup
        setup.variants[1].isInterchangeable = false
        #expect(!setup.isInterchangeable)
        #expect(ModelAutoscaler(setup, at: .zero).starter == nil)
    }

    /// Knowing nothing at all, and with the only one that was asked for stuck.
    @Test func standsInBeforeAnythingIsKnown() throws {
        var pool = Pool(minimum: 2)
        pool.absent[0] = Obstacle(.noCapacity, message: "no node has a free GPU")
        pool.run(90, rate: 0)
        #expect(pool.live[1] == 2, "\(pool.live)")
        let why = try #require(pool.fallback(1))
        #expect(why.text.contains("stands in for small"))
        #expect(why.text.contains("no node has a free GPU"))
    }

    @Test func keepsTheLeastTogetherAndNotOfEach() {
        var pool = Pool(minimum: 3, idleAfter: nil)
        pool.run(120, rate: 0)
        #expect(pool.live == [3, 0, 0])
        pool.run(900, rate: 20)
        pool.run(300, rate: 0)
        #expect(pool.live[0] + pool.live[1] == 3, "\(pool.live)")
    }

    /// Two variants that each think that the other one is enough would leave nobody.
    @Test func keepsOneWhileItMayNotGoToZero() {
        var pool = Pool(idleAfter: .seconds(600), ready: [2, 1, 0])
        pool.run(900, rate: 30)
        pool.run(500, rate: 0)
        #expect(pool.live[0] + pool.live[1] == 1, "\(pool.live): idle for less than ten minutes")
        pool.run(200, rate: 0)
        #expect(pool.live == [0, 0, 0])
    }

    @Test func aVariantOutsideOfThePoolIsSizedByItself() {
        var pool = Pool(ready: [4, 2, 0])
        pool.run(900, rate: 60)
        #expect(pool.last[0].worth != nil && pool.last[1].worth != nil)
        #expect(pool.last[2].worth == nil && pool.last[2].trafficShare == nil)
        #expect(pool.last[2].desired == 0)
        let shares = pool.last[..<2].compactMap(\.trafficShare).reduce(0, +)
        #expect(abs(shares - 1) < 1e-9)
    }

    /// The dear one stands in while the cheap one does not come, and goes when it has come.
    @Test func goesBackWhenWhatWasMissingHasCome() throws {
        var pool = Pool(ready: [4, 2, 0])
        pool.run(1_200, rate: 60)
        let usual = pool.live
        #expect(usual[1] >= 3, "big ones do twice as much for half as much again: \(usual)")
        pool.absent[1] = Obstacle(.noCapacity, message: "no GPU")
        pool.fleets[1].scale(to: 0)
        pool.run(900, rate: 60)
        #expect(pool.live[1] == 0 && pool.live[0] >= 6, "\(pool.live)")
        #expect(
            pool.fallback(0) == .fallback(from: "big", Obstacle(.noCapacity, message: "no GPU"))
        )
        // Another try of the big one comes on top of what serves.
        let (serving, tries) = pool.least(of: 0, in: 300, rate: 60)
        #expect(serving >= 6 && tries > 0, "\(serving) small ones, \(tries) s of tries")
        pool.absent[1] = nil
        pool.run(900, rate: 60)
        #expect(pool.live[1] >= 3 && pool.live[0] <= usual[0] + 1, "\(pool.live), was \(usual)")
        #expect(pool.fallback(0) == nil)
    }

    /// Big ones take two minutes to start, and going back to them costs nobody a replica before.
    @Test func thoseThatStandInStayUntilTheOthersAreReady() {
        var pool = Pool(ready: [4, 2, 0])
        pool.fleets[1].coldStart = 120
        pool.run(1_200, rate: 60)
        pool.absent[1] = Obstacle(.noCapacity)
        pool.fleets[1].scale(to: 0)
        pool.run(900, rate: 60)
        #expect(pool.live[0] >= 6 && pool.live[1] == 0, "\(pool.live)")
        pool.absent[1] = nil
        var slots = Int.max
        var isTold = false
        for _ in 0..<900 {
            pool.run(1, rate: 60)
            slots = min(slots, pool.fleets.reduce(0) { $0 + $1.ready * $1.slots })
            isTold = isTold || pool.last[0].constraints.contains { $0.kind == .othersNotReady }
        }
        #expect(slots >= 60, "60 requests of a second each come in a second")
        #expect(isTold)
        #expect(pool.fleets[1].ready >= 3 && pool.live[0] <= 2, "\(pool.live)")
    }

    /// What others of higher priority must not take.
    @Test func theLeastOfAllIsAMinimumInABudget() {
        var pool = Pool(minimum: 3, ready: [4, 2, 0])
        pool.run(900, rate: 60)
        #expect(pool.last[0].worth != nil)
        let now = Instant(nanoseconds: 901_000_000_000)
        #expect(pool.scaler.propose(at: now).map(\.minimum).reduce(0, +) == 3)
        var setup = pool.scaler.setup
        setup.variants[1].bounds = ScalingBounds(minimum: 2, maximum: 10)
        pool.scaler.reconfigure(setup, at: now)
        let minimums = pool.scaler.propose(at: now).map(\.minimum)
        #expect(minimums[1] >= 2 && minimums.reduce(0, +) == 3, "\(minimums)")
    }

    /// Variants that become a pool have a demand of which nothing was measured yet.
    @Test func aNewPoolTakesNothingAwayBeforeItsWindowIsFull() {
        var pool = Pool(idleAfter: nil, ready: [4, 2, 0], stabilization: .off)
        var setup = pool.scaler.setup
        let interchangeable = setup
        setup.variants[1].isInterchangeable = false
        pool.scaler.reconfigure(setup, at: Instant(nanoseconds: 0))
        pool.run(900, rate: 60)
        let before = pool.live
        pool.scaler.reconfigure(interchangeable, at: Instant(nanoseconds: 900_000_000_000))
        for _ in 0..<50 {
            pool.run(1, rate: 60)
            #expect(pool.live[0] >= before[0] && pool.live[1] >= before[1], "\(pool.live)")
        }
    }

    /// A budget that has no more of one is no reason to miss the objective.
    @Test func takesAnotherOneWhereABudgetIsShort() {
        var pool = Pool(ready: [4, 2, 0], stabilization: .off)
        pool.run(1_200, rate: 60)
        #expect(pool.live[1] >= 3, "\(pool.live)")
        pool.run(600, rate: 60, grants: [nil, 1, nil])
        #expect(pool.live[1] <= 1 && pool.live[0] >= 4, "\(pool.live)")
        // Asking the budget for more now and then costs nobody a replica.
        let (serving, _) = pool.least(of: 0, in: 120, rate: 60, grants: [nil, 1, nil])
        #expect(serving >= 4, "\(serving)")
        let isTold = pool.scaler.log.changes.contains { decision in
            decision.variants[0].constraints.contains { $0.kind == .fallback(from: "big", nil) }
        }
        #expect(isTold)
        pool.run(300, rate: 60, grants: [nil, 10, nil])
        #expect(pool.live[1] >= 3, "\(pool.live): the budget has more again")
    }
}
