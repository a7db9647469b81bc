import Core

/// Interchangeable variants share one demand and are sized together.
extension ModelAutoscaler {
    /// Each variant's part in the cheapest mix; empty where variants are sized by themselves or
    /// where nothing is known of any.
    mutating func planMix(at now: Double) -> [VariantPart] {
        guard self.setup.isInterchangeable, self.states.count > 1,
            self.setup.policy.hasObjective, let pool = self.pool
        else { return [] }
        let policy = self.setup.policy
        let horizon = self.states.map { $0.horizonSeconds(policy) ?? 0 }.max() ?? 0
        let expected = pool.expected(
            horizonSeconds: horizon,
            isForecasting: self.states[0].horizonSeconds(policy) != nil,
            atSeconds: now
        )
        let correction = self.states.map(\.capability.correction).max() ?? 1
        let rate = expected.rate * correction
        let isIdle = policy.idleAfter.map { now - pool.busyAt >= $0.secondsAsDouble } ?? false
        let demand = isIdle && !pool.hasWork ? 0 : rate
        guard let each = self.ratePerReplica(rate, errors: pool.forecaster) else { return [] }
        let free = Mix.choose(demand: demand, self.options(each, ignoresObstacles: true))
        let counts =
            self.states.contains { $0.supply.isBlocked }
            ? Mix.choose(demand: demand, self.options(each, ignoresObstacles: false)) : free
        let blocked = self.states.firstIndex { $0.supply.isBlocked }
        let capacity = self.states.indices.reduce(0.0) { sum, index in
            sum + each[index] * Double(self.states[index].replicas?.ready ?? 0)
        }
        return self.states.indices.map { index in
            let ready = Double(self.states[index].replicas?.ready ?? 0)
            let standsIn = counts[index] > free[index]
            let isCovered = self.states.indices.contains { other in
                other != index && counts[other] > 0 && (self.states[other].replicas?.ready ?? 0) > 0
            }
            return VariantPart(
                replicas: counts[index],
                reason: .mix(demand: demand, perReplica: each[index]),
                fallback: standsIn
                    ? blocked.map { (self.setup.variants[$0].name, free[index]) } : nil,
                isCovered: isCovered,
                trafficShare: capacity > 0 ? each[index] * ready / capacity : nil
            )
        }
    }

    /// Requests per second and replica that each variant holds the objective at, were it alone.
    /// One that is not known is taken to be worth its cost. Nil: none is known.
    private mutating func ratePerReplica(_ rate: Double, errors: Forecaster) -> [Double]? {
        var each = self.states.map { state -> Double? in
            guard let staffing = state.capability.staffing, rate > 0 else { return nil }
            let count = staffing.replicas(
                rate: rate,
                near: max(1, state.live),
                errors: errors,
                horizonSeconds: state.coldStart.seconds,
                most: ScalingBounds.replicasMax
            )
            // One replica may be far from busy: it can do what the objective lets it do.
            return count > 1 ? rate / Double(count) : max(rate, staffing.rateAtObjective * 0.5)
        }
        let worth = each.indices.compactMap { index in
            each[index].map { $0 / self.setup.variants[index].cost }
        }.min()
        guard let worth else { return nil }
        for index in each.indices where each[index] == nil {
            each[index] = worth * self.setup.variants[index].cost
        }
        return each.map { max(1e-9, $0 ?? 1e-9) }
    }

    private func options(_ each: [Double], ignoresObstacles: Bool) -> [Mix.Option] {
        self.states.indices.map { index in
            let variant = self.setup.variants[index]
            let state = self.states[index]
            var most = variant.isServing ? variant.bounds.maximum : variant.bounds.minimum
            if state.supply.isBlocked && !ignoresObstacles { most = min(most, state.coming) }
            return Mix.Option(
                perReplica: each[index],
                cost: variant.cost,
                least: min(variant.bounds.minimum, most),
                most: most,
                present: state.coming
            )
        }
    }
}

/// What a mix wants of one variant.
struct VariantPart {
    var replicas: Int
    var reason: RecommendationReason
    /// The variant it stands in for, and what it would have without that.
    var fallback: (from: String, before: Int)?
    /// Whether others are ready to take all the work, so that this one may go to zero.
    var isCovered: Bool
    var trafficShare: Double?
}
