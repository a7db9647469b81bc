import Core

/// The clairvoyant bound of one scenario: the cheapest plan that serves enough requests well, found
/// by dynamic programming and shown to work by being played.
///
/// For some ways to count a replica's capacity, the price of a lost request is searched that makes
/// the played plan just good enough; the cheapest of them is the bound. It is a plan that works, so
/// the true optimum is at most that; it lies below whatever does not know the future but for the
/// slots' coarseness. Worlds are played without faults, with starts of the median length.
package struct Clairvoyant: Sendable {
    package struct Result: Sendable {
        /// As it was played.
        package var gpuSeconds: Double
        package var attainment: Double
        package var penalty: Double
        package var share: Double
        package var worlds: [WorldResult]
    }

    /// Shares of a replica's slots that its capacity is taken for.
    static let shares = [1.15, 1.05, 0.95]
    static let steps = 6
    /// Worlds that a bound takes at most, with the one without foresight.
    package static let playsMax = Self.shares.count * (Self.steps + 1) + 1

    /// Nil where even a plan for all of the demand misses the target.
    package static func solve(
        _ setups: [WorldSetup],
        target: Double,
        by runner: WorldRunner = { $0.run() }
    ) -> Result? {
        let worlds = setups.map(self.calm)
        let series = worlds.map { setup in
            setup.models.map { DemandSeries($0, duration: setup.duration, slot: self.slot(setup)) }
        }
        var best: Result?
        for share in self.shares {
            guard let found = self.search(worlds, series, share, target: target, runner) else {
                continue
            }
            if found.gpuSeconds < best?.gpuSeconds ?? .infinity { best = found }
        }
        return best
    }

    /// What is attained by somebody who sees every need as it arises, asks for it at that moment,
    /// and never lets go: the most that anybody attains who does not have replicas ready for more
    /// than was ever needed. A first burst cannot be met on time, whatever is done about it later.
    package static func withoutForesight(
        _ setups: [WorldSetup],
        by runner: WorldRunner = { $0.run() }
    ) -> [WorldResult] {
        setups.map { setup in
            let world = self.calm(setup)
            let slot = self.slot(setup)
            let policies: [any ReplicaPolicy] = world.models.map { model in
                let demand = DemandSeries(model, duration: setup.duration, slot: slot)
                let capacity = Double(model.concurrency ?? 16) * (self.shares.last ?? 1)
                var highest = model.replicasAtStart
                let counts = demand.concurrency.map { load in
                    highest = max(highest, Int((load / capacity).rounded(.up)))
                    return UInt16(clamping: min(highest, model.replicasMax))
                }
                let plan = CapacityOptimum.Plan(counts: counts, cost: 0, starts: 0)
                return PlayedPlan(plan, slot: slot, lead: 0)
            }
            return runner(World(world, controller: PerModelController(policies)))
        }
    }

    /// The cost of the hard form: every slot's demand covered, in GPU-seconds.
    package static func hard(_ setup: WorldSetup) -> Double {
        let slot = self.slot(setup)
        return setup.models.reduce(0) { sum, model in
            let series = DemandSeries(model, duration: setup.duration, slot: slot)
            let slots = Double(model.concurrency ?? 16)
            let demand = series.concurrency.map { Int(($0 / slots).rounded(.up)) }
            let switching = (model.coldStart.median + model.exit) / slot
            let cost = CapacityOptimum.hardCost(demand, switching: switching) * slot
            return sum + cost * Double(model.gpusPerReplica)
        }
    }

    private static func slot(_ setup: WorldSetup) -> Double {
        max(1, (setup.duration / Double(DemandSeries.slotsMax)).rounded(.up))
    }

    /// The same traffic in a world where nothing goes wrong.
    private static func calm(_ setup: WorldSetup) -> WorldSetup {
        var calm = setup
        calm.pool = GPUPool()
        calm.budget = nil
        calm.outages = []
        for index in calm.models.indices {
            calm.models[index].faults = ReplicaFaults()
            calm.models[index].coldStart = .fixed(setup.models[index].coldStart.median)
        }
        return calm
    }

    private static func search(
        _ worlds: [WorldSetup],
        _ series: [[DemandSeries]],
        _ share: Double,
        target: Double,
        _ runner: WorldRunner
    ) -> Result? {
        // A lost request at this price is never worth it; at the lower one always.
        var high = 12.0
        var low = -6.0
        guard var best = self.play(worlds, series, share, exponent: high, runner) else {
            return nil
        }
        if best.attainment < target { return nil }
        for _ in 0..<self.steps {
            let middle = (low + high) / 2
            guard let result = self.play(worlds, series, share, exponent: middle, runner) else {
                return best
            }
            if result.attainment >= target {
                high = middle
                if result.gpuSeconds < best.gpuSeconds { best = result }
            } else {
                low = middle
            }
        }
        return best
    }

    /// - Parameter exponent: of the price of a lost request, to the base of 2, in seconds of a
    ///   replica.
    private static func play(
        _ worlds: [WorldSetup],
        _ series: [[DemandSeries]],
        _ share: Double,
        exponent: Double,
        _ runner: WorldRunner
    ) -> Result? {
        let penalty = exponential(exponent * 0.6931471805599453)
        var result = Result(
            gpuSeconds: 0,
            attainment: 0,
            penalty: penalty,
            share: share,
            worlds: []
        )
        for (setup, demands) in zip(worlds, series) {
            var world = setup
            var policies: [any ReplicaPolicy] = []
            for index in world.models.indices {
                let model = world.models[index]
                let demand = demands[index]
                let capacity = Double(model.concurrency ?? 16) * share
                let plan = CapacityOptimum.softPlan(
                    demand: demand.concurrency.map { $0 / capacity },
                    weights: demand.arrivals,
                    penalty: penalty / demand.slot,
                    switching: (model.coldStart.median + model.exit) / demand.slot,
                    most: model.replicasMax
                )
                policies.append(
                    PlayedPlan(plan, slot: demand.slot, lead: model.coldStart.median)
                )
                let first = plan.counts.first.map(Int.init) ?? 0
                world.models[index].replicasAtStart = max(model.replicasMin, first)
            }
            let run = runner(World(world, controller: PerModelController(policies)))
            result.worlds.append(run)
            result.gpuSeconds += run.gpuSeconds
        }
        let arrivals = result.worlds.reduce(0) { $0 + $1.arrivals }
        let good = result.worlds.reduce(0) { $0 + $1.good }
        result.attainment = arrivals == 0 ? 1 : Double(good) / Double(arrivals)
        return result
    }
}
