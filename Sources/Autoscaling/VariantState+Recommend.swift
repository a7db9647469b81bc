import Core

/// The recommendations of a policy's targets, each with its reason.
extension VariantState {
    /// What a tick's recommendations share.
    struct Context {
        var now: Double
        var stable: LoadWindow.Sums
        var burst: LoadWindow.Sums
        var expected: Demand.Expected
        /// By how much the forecast lies above what is measured; at least 1.
        var growth: Double
        var ready: Int
        var wallClock: WallClock?
        /// Idle for as long as it takes to go to zero.
        var isIdle: Bool
    }

    func context(_ policy: ScalingPolicy, wallClock: WallClock?, at now: Double) -> Context {
        let stable = self.demand.stable
        let burst = self.demand.burst
        let horizon = self.horizonSeconds(policy)
        let expected = self.demand.expected(
            horizonSeconds: horizon ?? 0,
            isForecasting: horizon != nil,
            burst: burst,
            atSeconds: now
        )
        let rate = stable.rate ?? 0
        // Concurrency, tokens and readings follow the rate; a forecast may double them at most.
        let growth = rate > 0 ? min(2, max(1, expected.rate / rate)) : 1
        let idle = policy.idleAfter.map { now - self.demand.busyAt >= $0.secondsAsDouble }
        return Context(
            now: now,
            stable: stable,
            burst: burst,
            expected: expected,
            growth: horizon == nil ? 1 : growth,
            ready: self.replicas?.ready ?? 0,
            wallClock: wallClock,
            isIdle: (idle ?? false) && !self.demand.hasWork
        )
    }

    mutating func recommend(_ setup: ModelSetup, _ context: Context) -> [Recommendation] {
        var result: [Recommendation] = []
        result.reserveCapacity(setup.policy.targets.count + 1)
        var metric = 0
        for (index, goal) in setup.policy.targets.prefix(ScalingPolicy.targetsMax).enumerated() {
            var (replicas, reason) = self.answer(goal, index, metric, setup, context)
            if case .metric = goal { metric += 1 }
            if context.isIdle, replicas != nil, goal.followsRequests { replicas = 0 }
            let source = Recommendation.Source.target(index)
            result.append(Recommendation(source: source, replicas: replicas, reason: reason))
        }
        return result
    }

    typealias Answer = (Int?, RecommendationReason)

    private mutating func answer(
        _ goal: ScalingGoal,
        _ index: Int,
        _ metric: Int,
        _ setup: ModelSetup,
        _ context: Context
    ) -> Answer {
        switch goal {
        case .concurrency(let target):
            let load = self.bursting(context, context.stable.load, context.burst.load)
            return Self.perReplica(.concurrency, load, target, context)
        case .requestRate(let target):
            let measured = self.bursting(context, context.stable.rate, context.burst.rate)
            let rate = measured.map { max($0, context.expected.rate) / context.growth }
            return Self.perReplica(.requestRate, rate, target, context)
        case .tokenRate(let target):
            let measured = self.bursting(
                context,
                context.stable.tokenRate,
                context.burst.tokenRate
            )
            return Self.perReplica(.tokenRate, measured, target, context)
        case .queueWait(let quantile, let limit):
            return self.queueWait(quantile, limit.secondsAsDouble, context)
        case .objective:
            return self.objective(setup, context)
        case .kvCache(let target):
            return self.utilization(.kvCache, self.outside.kvCache, target, context)
        case .gpuUtilization(let target):
            return self.utilization(.gpuUtilization, self.outside.gpu, target, context)
        case .metric(_, let target):
            let latest = self.outside.metrics[metric]
            guard let value = self.fresh(latest, Reading.ageSecondsMax, context.now) else {
                return self.silent(.metric, latest, context)
            }
            return Self.perReplica(.metric, value, target, context)
        case .schedule(_, _, let replicas):
            return self.schedule(index, replicas, setup.policy, context)
        }
    }

    /// The mean over the stable window, or over the burst window where that is more than twice it.
    private func bursting(_ context: Context, _ stable: Double?, _ burst: Double?) -> Double? {
        guard let stable else { return burst }
        guard let burst, burst > 2 * stable else { return stable }
        return burst
    }

    private static func perReplica(
        _ kind: ScalingGoalKind,
        _ measured: Double?,
        _ target: Double,
        _ context: Context
    ) -> Answer {
        guard let measured, measured.isFinite, target > 0 else {
            return (nil, .unknown(kind, silentSeconds: nil))
        }
        let demand = measured * context.growth
        return (
            (demand / target).replicasRoundedUp,
            .perReplica(kind, measured: demand, target: target)
        )
    }

    private func fresh(_ latest: OutsideReadings.Latest, _ age: Double, _ now: Double) -> Double? {
        guard let at = latest.at, now - at <= age else { return nil }
        return latest.value
    }

    private func silent(
        _ kind: ScalingGoalKind,
        _ latest: OutsideReadings.Latest,
        _ context: Context
    ) -> Answer {
        (nil, .unknown(kind, silentSeconds: context.now - (latest.at ?? self.startedAt)))
    }

    /// Changes of less than a tenth are noise.
    private static let utilizationTolerance = 0.1 + 1e-9

    private func utilization(
        _ kind: ScalingGoalKind,
        _ latest: OutsideReadings.Latest,
        _ target: Double,
        _ context: Context
    ) -> Answer {
        // Nobody can be asked where nothing runs.
        if context.ready == 0 {
            return (
                self.live == 0 ? 0 : nil,
                .utilization(kind, measured: 0, target: target, ready: 0)
            )
        }
        guard target > 0, let value = self.fresh(latest, ServerSample.ageSecondsMax, context.now)
        else { return self.silent(kind, latest, context) }
        let ratio = value / target
        let reason = RecommendationReason.utilization(
            kind,
            measured: value,
            target: target,
            ready: context.ready
        )
        if abs(ratio - 1) <= Self.utilizationTolerance { return (context.ready, reason) }
        return ((Double(context.ready) * ratio).replicasRoundedUp, reason)
    }

    private func queueWait(_ quantile: Double, _ limit: Double, _ context: Context) -> Answer {
        guard let working = context.stable.inFlightMean, let load = context.stable.load else {
            return (nil, .unknown(.queueWait, silentSeconds: nil))
        }
        let wait = self.waits?.quantileSeconds(quantile) ?? 0
        // What a replica works on at a time: the gateway's limit, else what it does now.
        let ready = Double(max(1, context.ready))
        guard let slots = self.capability.slots ?? (working > 0 ? working / ready : nil) else {
            let reason = RecommendationReason.queueWait(seconds: wait, limit: limit, demand: load)
            return (load > 0 ? max(1, self.live) : 0, reason)
        }
        var demand = working * context.growth
        if wait > limit {
            // Those that wait want slots too, on top of what is there.
            let present = max(load, context.burst.load ?? 0)
            demand = max(present * context.growth, ready * slots * 1.1)
        } else if self.capability.slots == nil {
            demand = max(demand, ready * slots)
        }
        // Room for bursts by the square root: what independent arrivals need to hardly ever wait.
        let room = wait > limit ? 0 : demand.squareRoot()
        let reason = RecommendationReason.queueWait(
            seconds: wait,
            limit: limit,
            demand: (demand + room) / slots
        )
        if self.capability.slots == nil && wait <= limit {
            // Without limits nobody waits here, and waits cannot say whether fewer would do.
            return (load > 0 ? max(1, self.live) : 0, reason)
        }
        return (((demand + room) / slots).replicasRoundedUp, reason)
    }

    private mutating func schedule(
        _ index: Int,
        _ replicas: Int,
        _ policy: ScalingPolicy,
        _ context: Context
    ) -> Answer {
        guard let clock = context.wallClock else {
            return (nil, .unknown(.schedule, silentSeconds: nil))
        }
        let lead = min(self.horizonSeconds(policy) ?? 0, 86_400)
        switch self.schedules[index].state(clock, leadSeconds: Int64(lead)) {
        case .on: return (replicas, .schedule(isAhead: false))
        case .ahead: return (replicas, .schedule(isAhead: true))
        case .off: return (0, .scheduleOff)
        }
    }
}

extension ScalingGoal {
    /// Whether it measures requests, so that it wants nothing once the model is idle.
    var followsRequests: Bool {
        switch self {
        case .concurrency, .queueWait, .objective, .requestRate, .tokenRate, .kvCache,
            .gpuUtilization:
            true
        case .metric, .schedule: false
        }
    }
}

extension LoadWindow.Sums {
    var inFlightMean: Double? { self.seconds > 0 ? self.inFlightSeconds / self.seconds : nil }
}
