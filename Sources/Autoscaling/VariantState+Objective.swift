import Core

/// The recommendation of the `Objective` target.
extension VariantState {
    /// A full look at the objective is taken this often, and whenever the forecast moves.
    static let sizeSeconds = 15.0
    static let sizeChange = 0.1
    private static let spare = 0.04
    /// What a replica is given while nothing is known: half its slots, or so many requests.
    private static let carefulShare = 0.5
    private static let carefulLoad = 2.0

    private static let sureSamples: Float = 1_000
    /// Requests whose time on a replica is known, from which on leaps are no guess.
    private static let sureEnds = 100.0
    /// Of times, before plans are rehearsed with them.
    private static let rehearsedSamples: Float = 200

    mutating func objective(_ setup: ModelSetup, _ context: Context) -> Answer {
        if setup.objectives.isEmpty { return (nil, .unknown(.objective, silentSeconds: nil)) }
        guard let staffing = self.currentStaffing(setup, context) else {
            return self.careful(setup, context)
        }
        // Plans that have been rehearsed make up for the model's errors by themselves.
        let correction = self.rehearsal.isReady ? 1 : self.capability.correction
        let rate = context.expected.rate * correction
        // Some hundred requests are no ground for leaps.
        let isSure =
            self.capability.latency.total >= Self.sureSamples
            || self.capability.requestsEnded >= Self.sureEnds
        let most = isSure ? ScalingBounds.replicasMax : max(4, 2 * context.ready)
        let young = self.rehearsal.youngRate(
            expected: rate,
            missAllowed: staffing.missAllowed
        )
        var enough = self.size(staffing, rate, context, most: most)
        if young > 0, !context.isIdle, !staffing.isOutOfReach {
            enough = max(enough, min(most, (young / staffing.rateAtObjective).replicasRoundedUp))
        }
        let backlog = self.backlog(staffing, setup, rate: rate, enough: enough)
        let extra = Int(min(backlog.rounded(), Double(most - min(enough, most))))
        let perReplica = enough > 0 ? rate / Double(enough) : staffing.rateAtObjective
        if staffing.isOutOfReach {
            return (
                enough + extra,
                .objectiveOutOfReach(
                    attainment: staffing.bestShare,
                    rate: rate,
                    perReplica: perReplica
                )
            )
        }
        let standing = context.isIdle ? 0 : max(young, self.rehearsal.standingRate)
        if enough > 0, standing > 1.2 * rate,
            (standing / staffing.rateAtObjective).replicasRoundedUp >= enough
        {
            return (
                enough + extra,
                .objectiveStanding(
                    rate: rate,
                    readyFor: standing,
                    perReplica: standing / Double(enough),
                    backlog: backlog
                )
            )
        }
        return (
            enough + extra,
            .objective(rate: rate, perReplica: perReplica, backlog: backlog)
        )
    }

    /// Lets the plans play the bucket that has just ended.
    mutating func rehearse(_ policy: ScalingPolicy, at now: Double) {
        guard policy.hasObjective, let last = self.demand.forecaster.last else { return }
        self.rehearsal.note(
            self.demand.forecaster,
            rate: last,
            coldStartSeconds: self.coldStart.seconds
        )
        guard let staffing = self.capability.staffing,
            self.capability.latency.total >= Self.rehearsedSamples
        else { return }
        let expected = self.demand.expected(
            horizonSeconds: self.horizonSeconds(policy) ?? 0,
            isForecasting: self.horizonSeconds(policy) != nil,
            burst: self.demand.burst,
            atSeconds: now
        )
        self.rehearsal.begin(
            self.demand.forecaster,
            rate: last,
            forecast: expected.rate,
            staffing,
            coldStartSeconds: self.coldStart.seconds,
            holdSeconds: self.hold.seconds(breakEven: self.breakEvenSeconds),
            present: self.desired ?? self.live,
            atSeconds: now
        )
    }

    /// The curves, fitted anew when a full look is due.
    private mutating func currentStaffing(_ setup: ModelSetup, _ context: Context) -> Staffing? {
        let age = self.sized.map { context.now - $0.at } ?? .infinity
        if self.capability.staffing == nil || age >= Self.sizeSeconds {
            self.capability.refit(setup.objectives)
        }
        return self.capability.staffing
    }

    private mutating func size(
        _ staffing: Staffing,
        _ rate: Double,
        _ context: Context,
        most: Int
    ) -> Int {
        if self.rehearsal.isReady {
            let wanted = self.rehearsal.replicas(
                rate: rate,
                load: context.burst.load ?? 0,
                present: self.desired ?? self.live,
                staffing
            )
            if self.sized.map({ context.now - $0.at >= Self.sizeSeconds }) ?? true {
                self.sized = (rate, wanted, context.now)
            }
            return min(wanted, most)
        }
        let now = context.now
        if let sized, now - sized.at < Self.sizeSeconds,
            abs(rate - sized.rate) <= Self.sizeChange * sized.rate
        {
            return sized.replicas
        }
        let near = self.sized?.replicas ?? max(1, self.live)
        let errors = self.demand.forecaster
        let horizon = self.coldStart.seconds
        var replicas = staffing.replicas(
            rate: rate,
            near: near,
            errors: errors,
            horizonSeconds: horizon,
            most: most
        )
        if let desired, replicas < desired {
            // Fewer must do with a little to spare, or the next breath brings the replica back.
            let spared = rate * (1 + Self.spare)
            let enough = staffing.replicas(
                rate: spared,
                near: desired,
                errors: errors,
                horizonSeconds: horizon,
                most: most
            )
            replicas = min(desired, max(replicas, enough))
        }
        self.sized = (rate, replicas, now)
        return replicas
    }

    /// Replicas beyond `enough` that clear what will have piled up when they are ready.
    private func backlog(_ staffing: Staffing, _ setup: ModelSetup, rate: Double, enough: Int)
        -> Double
    {
        let capacity = staffing.rateAtObjective
        guard capacity > 0 else { return 0 }
        let horizon = max(5, self.coldStart.seconds)
        let supply = Double(self.coming) * capacity
        let later = self.demand.work + (rate - supply) * horizon
        let excess = later - Double(max(enough, self.coming)) * staffing.loadAtObjective
        if excess <= 0 { return 0 }
        return excess / (capacity * horizon)
    }

    /// Before enough is known: a careful concurrency, and no leaps while no answer has come.
    ///
    /// Once requests have ended, Little's law says how long each is on a replica, so that what
    /// comes tells of the need and the queue does not: it swells without saying how much is needed.
    private func careful(_ setup: ModelSetup, _ context: Context) -> Answer {
        let slots = self.capability.slots
        let target = slots.map { max(1, $0 * Self.carefulShare) } ?? Self.carefulLoad
        var load = max(context.stable.load ?? 0, context.burst.load ?? 0)
        let samples = Int(self.capability.latency.total)
        var most = max(4, 2 * context.ready)
        var replicas = (load * context.growth / target).replicasRoundedUp
        if let slots, let seconds = self.capability.secondsOnReplica {
            let quantile = max(
                setup.objectives.latency?.quantile ?? 0,
                setup.objectives.timeToFirstToken?.quantile ?? 0
            )
            let young = self.rehearsal.youngRate(
                expected: context.expected.rate,
                missAllowed: max(1e-4, 1 - quantile)
            )
            let rate = max(context.expected.rate, context.isIdle ? 0 : young)
            let offered = rate * seconds
            let needed = (offered + 2 * offered.squareRoot()) / slots
            let waiting = max(0, self.demand.work - Double(self.coming) * slots)
            let clearing = waiting * seconds / (slots * max(30, self.coldStart.seconds))
            if self.capability.requestsEnded >= Self.sureEnds { most = ScalingBounds.replicasMax }
            load = offered
            replicas = (needed + clearing).replicasRoundedUp
        }
        replicas = min(replicas, most)
        return (replicas, .objectiveLearning(load: load, target: target, samples: samples))
    }
}
