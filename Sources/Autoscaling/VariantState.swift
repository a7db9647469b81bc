import Core

/// What the autoscaler keeps about one variant: constant in size, whatever the load.
struct VariantState: Sendable {
    var demand: Demand
    var capability: Capability
    var coldStart: DurationEstimate
    var drain: DurationEstimate
    var supply = Supply()
    var hold = HoldTime()
    var rehearsal = Rehearsal()
    var wantedHigh = MonotoneWindow(keepsLargest: true)
    var wantedLow = MonotoneWindow(keepsLargest: false)
    var upLimit = RateLimit()
    var downLimit = RateLimit()
    var waits: WaitWindow?
    var schedules: [ScheduleTracker]
    var outside: OutsideReadings

    /// The latest that is known of the replicas.
    var replicas: ReplicaCounts?
    var replicasAt: Double?
    var gatewayAt: Double?
    var partialAt: Double?
    let startedAt: Double

    /// Wanted by the latest decision; nil before the first.
    var desired: Int?
    /// What `propose` found, for `conclude`.
    var pending = PendingDecision()
    /// The answer of the last full look at the objective, kept while the forecast stands.
    var sized: (rate: Double, replicas: Int, at: Double)?
    var isForecastNew = true
    /// Whether fewer replicas were wanted than recommended, for bounds or a budget.
    var isLimited = false
    var isBursting = false
    /// What a budget granted when it last gave less than was wanted, and when that was; nil where
    /// it has given all since, or there is none.
    var granted: (most: Int, at: Double)?
    private var surprisedAt = 0.0

    init(_ variant: VariantSetup, _ setup: ModelSetup, at now: Instant) {
        let seconds = now.seconds(since: .zero)
        self.demand = Demand(setup.policy, atSeconds: seconds)
        self.capability = Capability(setup.objectives)
        self.coldStart = DurationEstimate(
            assumedSeconds: variant.assumedColdStart.secondsAsDouble
        )
        self.drain = DurationEstimate(assumedSeconds: variant.assumedDrain.secondsAsDouble)
        self.startedAt = seconds
        self.schedules = []
        self.outside = OutsideReadings()
        self.adopt(setup)
    }

    /// Takes over what a policy says; windows of a new length begin empty.
    mutating func adopt(_ setup: ModelSetup) {
        self.schedules = setup.policy.targets.map { goal in
            if case .schedule(let cron, let duration, _) = goal {
                return ScheduleTracker(cron, durationSeconds: Int64(duration.secondsAsDouble))
            }
            return ScheduleTracker.never
        }
        let stable = setup.policy.stableWindow.secondsAsDouble
        let needsWaits = setup.policy.targets.contains { goal in
            if case .queueWait = goal { true } else { false }
        }
        self.waits = needsWaits ? WaitWindow(seconds: stable) : nil
        self.outside.expect(metrics: setup.policy.metricCount)
    }

    /// The time that a start takes to pay for itself.
    var breakEvenSeconds: Double {
        min(3_600, max(5, self.coldStart.seconds + self.drain.seconds))
    }

    /// How far ahead to look; nil: forecasting is off.
    func horizonSeconds(_ policy: ScalingPolicy) -> Double? {
        switch policy.forecastHorizon {
        case .automatic: self.coldStart.seconds
        case .fixed(let horizon): max(0, horizon.secondsAsDouble)
        case .off: nil
        }
    }

    mutating func observe(
        _ observation: borrowing VariantObservation,
        _ setup: ModelSetup,
        at now: Double
    ) {
        let seconds = observation.seconds
        if let replicas = observation.replicas { self.take(replicas, at: now) }
        for sample in observation.coldStartSeconds { self.coldStart.add(sample) }
        for sample in observation.drainSeconds { self.drain.add(sample) }
        self.outside.take(observation, at: now)
        guard seconds > 0, seconds.isFinite else { return }
        guard let gateway = observation.gateway else { return self.demand.missed(seconds: seconds) }
        self.gatewayAt = now
        if observation.gatewaysMissing > 0 { self.partialAt = now }
        let ready = self.replicas?.ready ?? 0
        let isNew = self.demand.add(
            gateway,
            seconds: seconds,
            ready: Double(ready),
            horizonSeconds: self.horizonSeconds(setup.policy) ?? 0,
            atSeconds: now
        )
        self.isForecastNew = self.isForecastNew || isNew
        self.waits?.add(gateway.queueWait.histogram, oldest: gateway.oldestQueuedSeconds, at: now)
        self.noticeSurprise(ready, at: now)
        self.capability.learn(
            gateway,
            setup.objectives,
            seconds: seconds,
            ready: self.replicas?.ready,
            slots: observation.slotsPerReplica,
            isCalm: now - self.surprisedAt > max(30, 2 * self.coldStart.seconds),
            atSeconds: now
        )
        if let staffing = self.capability.staffing {
            let (judged, met) = self.capability.lately
            self.rehearsal.judge(
                arrived: judged,
                missed: judged - met,
                isSupplied: !self.supply.isBlocked && !self.isLimited,
                staffing
            )
        }
        if isNew { self.rehearse(setup.policy, at: now) }
        self.rehearsal.play()
        self.capability.correct(
            setup.objectives,
            seconds: seconds,
            isSupplied: !self.supply.isBlocked && !self.isLimited
        )
        self.hold.pass(
            seconds: seconds,
            replicas: self.replicas?.total ?? 0,
            breakEven: self.breakEvenSeconds,
            atSeconds: now
        )
    }

    /// Load that outran the forecast, or replicas that are still to come.
    private mutating func noticeSurprise(_ ready: Int, at now: Double) {
        if ready < self.desired ?? 0 || self.isBursting { self.surprisedAt = now }
    }

    private mutating func take(_ replicas: ReplicaCounts, at now: Double) {
        self.replicas = replicas
        self.replicasAt = now
        self.supply.observe(replicas, atSeconds: now)
    }

    /// Ready or on their way.
    var coming: Int { self.replicas.map { $0.ready + $0.starting } ?? 0 }
    /// All but the draining ones.
    var live: Int { self.coming + (self.replicas?.stuck ?? 0) }

    /// Seconds that a replica which is tried again is given.
    var patience: Double { max(30, 2 * self.coldStart.seconds) }

    /// A budget that had no more is asked for more after so long.
    private static let budgetRetrySeconds = 30.0

    /// How many of the replicas wanted of an interchangeable variant are asked for where there are
    /// fewer: those that come, and more where another try is due.
    mutating func worthAsking(for wanted: Int, at now: Double) -> Int {
        var most = wanted
        if self.supply.isBlocked {
            let coming = self.coming
            most = coming
            if wanted > coming {
                most =
                    self.supply.limit(coming: coming, patience: self.patience, atSeconds: now)
                    ?? wanted
            }
        }
        if let granted, now - granted.at < Self.budgetRetrySeconds {
            most = min(most, granted.most)
        }
        return min(wanted, most)
    }

    /// Keeps what a budget said to a number of replicas.
    mutating func note(grant: Int?, of wanted: Int, at now: Double) {
        guard let grant else {
            self.granted = nil
            return
        }
        if wanted > grant {
            self.granted = (max(0, grant), now)
        } else if let granted, wanted > granted.most {
            self.granted = nil
        }
    }

    static let silenceSecondsMax = 10.0

    /// Whether gateway or cluster have been silent for too long to decide anything.
    func isBlind(at now: Double) -> Bool {
        guard let gateway = self.gatewayAt, let replicas = self.replicasAt else { return true }
        return now - gateway > Self.silenceSecondsMax || now - replicas > Self.silenceSecondsMax
    }

    /// Whether some gateways have not been heard lately.
    func isPartial(at now: Double) -> Bool {
        self.partialAt.map { now - $0 <= Self.silenceSecondsMax } ?? false
    }
}

extension ScalingPolicy {
    var metricCount: Int {
        self.targets.count { goal in
            if case .metric = goal { true } else { false }
        }
    }

    var hasObjective: Bool { self.targets.contains(.objective) }
}

/// What `propose` leaves for `conclude`.
struct PendingDecision: Sendable {
    var recommendations: [Recommendation] = []
    var constraints: [AppliedConstraint] = []
    var inputs = DecisionInputs()
    var wanted = 0
    var isBlind = false
    var worth: Double?
    var isCovered = false
    var trafficShare: Double?
}

/// Waits in the queue over the stable window, in six parts of it.
struct WaitWindow: Sendable {
    private static let partCount = 6
    private let partSeconds: Double
    private var parts: [TimeHistogram]
    private var newest = 0
    private var oldest = 0.0

    init(seconds: Double) {
        self.partSeconds = max(1, seconds) / Double(Self.partCount)
        self.parts = Array(repeating: TimeHistogram(), count: Self.partCount)
    }

    mutating func add(_ waits: borrowing TimeHistogram, oldest: Double, at now: Double) {
        let number = Int(now / self.partSeconds)
        for missed in 0..<min(max(0, number - self.newest), Self.partCount) {
            self.parts[(number - missed) % Self.partCount] = TimeHistogram()
        }
        self.newest = max(self.newest, number)
        self.parts[self.newest % Self.partCount].merge(waits)
        self.oldest = oldest.sane
    }

    /// The wait at a quantile, and at least that of the first in the queue; nil where nothing
    /// was measured.
    func quantileSeconds(_ quantile: Double) -> Double? {
        var all = TimeHistogram()
        for part in self.parts { all.merge(part) }
        let measured = all.quantileSeconds(quantile)
        return self.oldest > 0 ? max(measured ?? 0, self.oldest) : measured
    }
}

/// The latest readings of sources other than gateway and cluster.
struct OutsideReadings: Sendable {
    struct Latest: Sendable {
        var value: Double?
        var at: Double?
    }

    var kvCache = Latest()
    var gpu = Latest()
    var metrics: [Latest] = []

    mutating func expect(metrics count: Int) {
        if count != self.metrics.count {
            self.metrics = Array(repeating: Latest(), count: count)
        }
    }

    mutating func take(_ observation: borrowing VariantObservation, at now: Double) {
        var sum = 0.0
        var count = 0.0
        for server in observation.servers where server.ageSeconds <= ServerSample.ageSecondsMax {
            guard let use = server.kvCacheUse, use.isFinite, use >= 0 else { continue }
            sum += min(use, 1)
            count += 1
        }
        if count > 0 { self.kvCache = Latest(value: sum / count, at: now) }
        if let use = observation.gpuUtilization?.usable {
            self.gpu = Latest(value: min(use, 1), at: now)
        }
        for index in self.metrics.indices where index < observation.metrics.count {
            if let value = observation.metrics[index].usable {
                self.metrics[index] = Latest(value: value, at: now)
            }
        }
    }
}
