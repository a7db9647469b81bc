import Core

// A model to which nothing happens need not be decided about each second. It rests: its owner asks
// once how long the number of its replicas cannot change by itself, leaves it alone for so long,
// and when something happens, or the time is over, has it catch up on the seconds that it missed.
// To catch up is to observe each of them, as it would have been observed: whatever is learned,
// decays or runs out has then done so, and every later decision is the one it would have been.
extension ModelAutoscaler {
    /// Whether the latest decision stands for the next `seconds` if nothing comes, nothing is under
    /// way and no replica changes.
    ///
    /// To be asked after `conclude`. False says only that this is not certain.
    package func mayRest(
        forSeconds seconds: Int,
        wallClock: WallClock?,
        at now: Instant
    ) -> Bool {
        guard self.pool == nil else { return false }
        let time = now.seconds(since: .zero)
        return self.states.indices.allSatisfy { index in
            self.states[index].mayRest(
                self.setup,
                self.setup.variants[index],
                forSeconds: seconds,
                wallClock: wallClock,
                at: time
            )
        }
    }

    /// Makes up for a second in which it rested: nothing came, and the replicas were these.
    /// - Parameter idle: with an empty sample of the gateway.
    package mutating func rest(
        _ idle: borrowing VariantObservation,
        variant: Int,
        at now: Instant
    ) {
        let seconds = now.seconds(since: .zero)
        self.states[variant].observe(idle, self.setup, at: seconds)
        self.states[variant].rest(self.setup, at: seconds)
        if variant == self.states.count - 1 { self.skipDecision() }
    }
}

extension VariantState {
    /// See `ModelAutoscaler.mayRest`.
    func mayRest(
        _ setup: ModelSetup,
        _ variant: VariantSetup,
        forSeconds seconds: Int,
        wallClock: WallClock?,
        at now: Double
    ) -> Bool {
        guard let desired = self.desired, let replicas = self.replicas,
            replicas.ready == desired, replicas.total == desired,
            !self.pending.isBlind, !self.isBursting, !self.supply.isBlocked,
            !self.demand.hasWork, self.demand.stable.values.hasNoLoad,
            self.waits?.isEmpty ?? true,
            desired == self.least(variant, setup.policy, forSeconds: seconds, at: now)
        else { return false }
        // From zero nothing that follows requests rises before one comes.
        let idle = setup.policy.idleAfter?.secondsAsDouble ?? .infinity
        let isAsleep = desired == 0 && now - self.demand.busyAt >= idle
        return zip(setup.policy.targets, self.pending.recommendations).allSatisfy { goal, own in
            (own.replicas.map { $0 <= desired } ?? false)
                && self.staysLow(goal, setup, isAsleep: isAsleep)
        } && self.keepsSchedules(setup.policy, wallClock, forSeconds: seconds)
    }

    /// The number that bounds keep, whatever is recommended less, for the next `seconds`.
    private func least(
        _ variant: VariantSetup,
        _ policy: ScalingPolicy,
        forSeconds seconds: Int,
        at now: Double
    ) -> Int {
        let bounds = variant.bounds
        let least = max(bounds.minimum, min(variant.floor, bounds.maximum))
        guard least == 0, bounds.maximum > 0, variant.isServing, self.desired != 0 else {
            return least
        }
        guard let idle = policy.idleAfter?.secondsAsDouble else { return 1 }
        return now + Double(seconds) < self.demand.busyAt + idle ? 1 : 0
    }

    /// Whether what a target recommends cannot rise as long as nothing comes.
    private func staysLow(_ goal: ScalingGoal, _ setup: ModelSetup, isAsleep: Bool) -> Bool {
        switch goal {
        case .concurrency, .tokenRate, .queueWait, .schedule: true
        case .requestRate: isAsleep || self.demand.isQuiet
        case .objective:
            isAsleep || self.demand.isQuiet
                || self.capability.staffing == nil && !self.demand.isFloored
        // These are told by others.
        case .kvCache, .gpuUtilization: isAsleep
        case .metric: false
        }
    }

    private func keepsSchedules(
        _ policy: ScalingPolicy,
        _ wallClock: WallClock?,
        forSeconds seconds: Int
    ) -> Bool {
        for (index, goal) in policy.targets.enumerated() {
            guard case .schedule = goal else { continue }
            guard var clock = wallClock else { return false }
            let lead = Int64(min(self.horizonSeconds(policy) ?? 0, 86_400))
            var tracker = self.schedules[index]
            let state = tracker.state(clock, leadSeconds: lead)
            for _ in 0...seconds {
                clock.secondsSince1970 += 1
                guard tracker.state(clock, leadSeconds: lead) == state else { return false }
            }
        }
        return true
    }

    /// What a decision would have left behind.
    mutating func rest(_ setup: ModelSetup, at now: Double) {
        guard let desired = self.desired else { return }
        self.wantedLow.add(desired, atSeconds: now)
        self.wantedHigh.add(desired, atSeconds: now)
        if setup.policy.hasObjective, self.capability.staffing != nil {
            _ = self.objective(setup, self.context(setup.policy, wallClock: nil, at: now))
        }
    }
}

extension Demand {
    /// Whether yesterday's or last week's rate may raise what is expected.
    var isFloored: Bool {
        let believed = self.seasonal.isBelieved
        return believed.day || believed.week
    }

    /// Whether there has been nothing for so long that no forecast remembers anything.
    var isQuiet: Bool { !self.isFloored && self.forecaster.isQuiet }
}

extension Forecaster {
    private static let quietRate = 1e-3

    /// Whether the forecasts are next to nothing, and were right for as long as errors are kept.
    var isQuiet: Bool {
        guard self.levels.max() < Self.quietRate else { return false }
        let quiet = Float(Self.quietRate)
        for index in 0..<self.errorsKept
        where self.actual[index] > quiet || self.believed[index] > quiet {
            return false
        }
        return true
    }
}

extension WaitWindow {
    var isEmpty: Bool { self.quantileSeconds(0.5) == nil }
}

extension SIMD8<Double> {
    /// Whether sums of a window count time alone; see `LoadWindow.Sums`.
    fileprivate var hasNoLoad: Bool {
        self[0] + self[1] + self[2] + self[3] + self[4] == 0
    }
}
