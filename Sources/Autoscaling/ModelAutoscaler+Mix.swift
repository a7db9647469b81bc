import Core

/// Interchangeable variants share one demand and are sized together.
extension ModelAutoscaler {
    /// The interchangeable variants, by index.
    var members: [Int] {
        self.setup.variants.indices.filter { self.setup.variants[$0].isInterchangeable }
    }

    /// How far ahead the pool looks: the longest of its cold starts, as any may be what is missing.
    /// Nil: forecasting is off.
    func pooledHorizon(_ policy: ScalingPolicy) -> Double? {
        self.members.compactMap { self.states[$0].horizonSeconds(policy) }.max()
    }

    /// Which interchangeable variant is to have the first replica: the cheapest of those whose
    /// replicas come, or of all where none comes. Nil where no variants are interchangeable.
    package var starter: Int? {
        guard self.setup.isInterchangeable else { return nil }
        let able = self.members.filter { self.setup.variants[$0].bounds.maximum > 0 }
        let open = able.filter { !self.states[$0].supply.isBlocked }
        return (open.isEmpty ? able : open).min {
            self.setup.variants[$0].cost < self.setup.variants[$1].cost
        }
    }

    /// Each variant's part in the cheapest mix; nil for those that are sized by themselves.
    mutating func planMix(at now: Double) -> [VariantPart?] {
        var parts: [VariantPart?] = Array(repeating: nil, count: self.states.count)
        guard self.setup.isInterchangeable, self.setup.policy.hasObjective, let pool = self.pool
        else { return parts }
        let policy = self.setup.policy
        let members = self.members
        let horizon = self.pooledHorizon(policy)
        let expected = pool.expected(
            horizonSeconds: horizon ?? 0,
            isForecasting: horizon != nil,
            burst: pool.burst,
            atSeconds: now
        )
        let correction = members.map { self.states[$0].capability.correction }.max() ?? 1
        let rate = expected.rate * correction
        let isIdle = policy.idleAfter.map { now - pool.busyAt >= $0.secondsAsDouble } ?? false
        let mayRest = isIdle && !pool.hasWork
        // While it may not go to zero one of all is kept, and not one of each.
        let isThere = members.contains { self.states[$0].live > 0 }
        let least = max(self.setup.pooledMinimum, isThere && !mayRest ? 1 : 0)
        guard let rated = self.rate(rate, errors: pool.forecaster, at: now) else {
            for (index, count) in zip(members, self.leasts(members, at: now)) {
                parts[index] = self.unlearnedPart(index, least: count, at: now)
            }
            return parts
        }
        let each = rated.each
        let demand = mayRest ? 0 : rated.rate
        let (free, counts) = self.counts(each, members, demand: demand, least: least, at: now)
        let ready = members.map { Double(self.states[$0].replicas?.ready ?? 0) }
        let capacity = zip(each, ready).reduce(0) { $0 + $1.0 * $1.1 }
        let leasts = self.leastParts(counts, members)
        for (place, index) in members.enumerated() {
            // What the others carry of it once they are as many as wanted, or no more than there
            // are.
            let others = members.indices.reduce(0.0) { sum, other in
                sum + (other == place ? 0 : each[other] * min(ready[other], Double(counts[other])))
            }
            parts[index] = VariantPart(
                replicas: counts[place],
                least: leasts[place],
                reason: .mix(demand: demand, perReplica: each[place]),
                fallback: counts[place] > free[place]
                    ? self.absent(besides: index).map { ($0, free[place]) } : nil,
                isCovered: members.indices.contains { other in
                    other != place && counts[other] > 0 && ready[other] > 0
                },
                kept: (max(0, demand - others) / each[place]).replicasRoundedUp,
                since: self.pooledSince,
                worth: each[place],
                trafficShare: capacity > 0 ? each[place] * ready[place] / capacity : nil
            )
        }
        return parts
    }

    /// The cheapest mix, without what keeps replicas from coming and with it.
    private mutating func counts(
        _ each: [Double],
        _ members: [Int],
        demand: Double,
        least: Int,
        at now: Double
    ) -> (free: [Int], counts: [Int]) {
        let options = self.options(each, members)
        let free = Mix.choose(demand: demand, leastTogether: least, options)
        guard members.contains(where: self.isShort) else { return (free, free) }
        let sure = Mix.choose(
            demand: demand,
            leastTogether: least,
            self.certain(options, members)
        )
        return (free, self.tried(sure, members, wanted: free, at: now))
    }

    // MARK: Before anything is known

    /// A variant's part while nothing is known of any: it is sized by itself, for the requests that
    /// it gets.
    private func unlearnedPart(_ index: Int, least: Int, at now: Double) -> VariantPart {
        let starter = self.starter
        let isNeeded = least > 0 || self.states[index].demand.hasWork
        return VariantPart(
            replicas: nil,
            least: least,
            reason: .minimum,
            fallback: isNeeded && starter == index
                ? self.absent(besides: index).map { ($0, 0) } : nil,
            isCovered: starter.map {
                $0 != index && (self.states[$0].replicas?.ready ?? 0) > 0
            } ?? false,
            kept: 0,
            since: self.pooledSince,
            worth: nil,
            trafficShare: nil
        )
    }

    /// How many of the replicas that each is to have are the least of all together, the cheapest
    /// first, and no fewer than its own least.
    private func leastParts(_ counts: [Int], _ members: [Int]) -> [Int] {
        let variants = members.map { self.setup.variants[$0] }
        var parts = zip(counts, variants).map { min($0, $1.bounds.minimum) }
        var rest = self.setup.pooledMinimum - parts.reduce(0, +)
        let order = members.indices.sorted { left, right in
            let costs = (variants[left].cost, variants[right].cost)
            return costs.0 != costs.1 ? costs.0 < costs.1 : left < right
        }
        for place in order where rest > 0 {
            let more = min(rest, counts[place] - parts[place])
            parts[place] += more
            rest -= more
        }
        return parts
    }

    /// The parts of the least that all are to have together, the cheapest first.
    private mutating func leasts(_ members: [Int], at now: Double) -> [Int] {
        let together = self.setup.pooledMinimum
        return self.counts(members.map { _ in 1 }, members, demand: 0, least: together, at: now)
            .counts
    }

    // MARK: What does not come

    /// Whether it gets no more replicas for now: they do not come, or the budget has no more.
    private func isShort(_ index: Int) -> Bool {
        self.states[index].supply.isBlocked || self.states[index].granted != nil
    }

    /// The first of the others that gets no more replicas, and why where they do not come.
    private func absent(besides index: Int) -> Absence? {
        let other = self.members.first { $0 != index && self.isShort($0) }
        return other.map { other in
            Absence(
                variant: self.setup.variants[other].name,
                obstacle: self.states[other].supply.obstacle
            )
        }
    }

    // MARK: Options

    /// The rate to be ready for, and requests per second and replica that each member holds the
    /// objective at, were it alone: those found last while the forecast stands. Nil: nothing is
    /// known.
    private mutating func rate(_ rate: Double, errors: Forecaster, at now: Double)
        -> (rate: Double, each: [Double])?
    {
        if let rated, now - rated.at < VariantState.sizeSeconds,
            abs(rate - rated.rate) <= VariantState.sizeChange * rated.rate
        {
            return (rated.rate, rated.each)
        }
        let each = self.ratePerReplica(rate, errors: errors)
        self.rated = each.map { (rate, $0, now) }
        return each.map { (rate, $0) }
    }

    /// One that is not known is taken to be worth its cost. Nil: none is known.
    private func ratePerReplica(_ rate: Double, errors: Forecaster) -> [Double]? {
        let members = self.members
        // What each does, and what it counts as.
        var plain = members.map { index -> Double? in
            let state = self.states[index]
            guard let staffing = state.capability.staffing else { return nil }
            if rate <= 0 || self.isFar(staffing) { return staffing.rateAtObjective }
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
        let costs = members.map { self.setup.variants[$0].cost }
        let worth = plain.indices.compactMap { place in
            plain[place].map { $0 / costs[place] }
        }.min()
        guard let worth else { return nil }
        for place in plain.indices where plain[place] == nil { plain[place] = worth * costs[place] }
        return members.indices.map { place in
            max(1e-9, (plain[place] ?? 0) * self.shareOfWorth(members[place]))
        }
    }

    /// A load that others could have been lightened to.
    private static let lightLoad = 2.0
    /// What a replica that cannot hold the objective counts as, against what it does.
    private static let hopelessShare = 0.01

    /// Below this share of requests within the objective a variant is far from holding it.
    private static let farShare = 0.75

    private func isFar(_ staffing: Staffing) -> Bool {
        staffing.isOutOfReach && staffing.bestShare < Self.farShare
    }

    /// What a replica counts as against what it does: less where it is far from the objective at
    /// every load it was seen with. If that was never light, lightening it may help; else others
    /// are better for the objective, as long as one of them is not known to be as bad.
    private func shareOfWorth(_ index: Int) -> Double {
        guard let staffing = self.states[index].capability.staffing, self.isFar(staffing) else {
            return 1
        }
        func lightest(_ index: Int) -> Double {
            self.states[index].capability.latency.lightestLoad ?? .infinity
        }
        let load = lightest(index)
        if load > Self.lightLoad { return Self.lightLoad / load }
        let hasBetter = self.members.contains { other in
            let isBad = self.states[other].capability.staffing.map(self.isFar) ?? false
            return other != index && !(isBad && lightest(other) <= Self.lightLoad)
        }
        return hasBetter ? Self.hopelessShare : 1
    }

    /// What each member could have, whatever stands in the way.
    private func options(_ each: [Double], _ members: [Int]) -> [Mix.Option] {
        members.indices.map { place in
            let variant = self.setup.variants[members[place]]
            let most = variant.isServing ? variant.bounds.maximum : variant.bounds.minimum
            return Mix.Option(
                perReplica: each[place],
                cost: variant.cost,
                least: min(variant.bounds.minimum, most),
                most: most,
                present: self.states[members[place]].coming
            )
        }
    }

    /// The same with what is there for sure where replicas are short.
    private func certain(_ options: [Mix.Option], _ members: [Int]) -> [Mix.Option] {
        var options = options
        for (place, index) in members.enumerated() {
            let state = self.states[index]
            if let granted = state.granted {
                options[place].most = min(options[place].most, granted.most)
            }
            if state.supply.isBlocked {
                options[place].most = min(options[place].most, state.replicas?.ready ?? 0)
            }
            options[place].least = min(options[place].least, options[place].most)
        }
        return options
    }

    /// Adds what is on its way and what is to be tried of those that are short, as far as it is
    /// wanted. It comes on top of what the others are to have: they go when it has come.
    private mutating func tried(
        _ counts: [Int],
        _ members: [Int],
        wanted: [Int],
        at now: Double
    ) -> [Int] {
        var counts = counts
        for (place, index) in members.enumerated() where wanted[place] > counts[place] {
            let most = self.states[index].worthAsking(for: wanted[place], at: now)
            counts[place] = max(counts[place], min(wanted[place], most))
        }
        return counts
    }
}

/// Why others stand in for a variant.
struct Absence {
    var variant: String
    /// Nil: a budget has no more of it.
    var obstacle: Obstacle?
}

/// What a mix wants of one variant.
struct VariantPart {
    /// Nil: what it wants by itself.
    var replicas: Int?
    /// Its part of what all are to have at least.
    var least: Int
    var reason: RecommendationReason
    /// The variant it stands in for, and what it would have without that.
    var fallback: (from: Absence, before: Int)?
    /// Whether others are ready to take all the work, so that this one may go to zero.
    var isCovered: Bool
    /// So many of those that are there are needed until the others are ready.
    var kept: Int
    /// When the demand of all together began to be measured.
    var since: Double
    /// Requests per second that one replica holds the objective at; nil: nothing is known.
    var worth: Double?
    var trafficShare: Double?
}

extension LoadCurve {
    /// The lowest load of which enough is known; nil where nothing is.
    var lightestLoad: Double? {
        let enough = min(10, self.total / 4)
        guard self.total > 0 else { return nil }
        return (0..<Self.binCount).first { self.counts[$0] >= enough }.map(Self.load(ofBin:))
    }
}
