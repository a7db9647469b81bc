import Core

/// What a variant's replicas can do, learned from what they did.
struct Capability: Sendable {
    var latency = LoadCurve()
    var firstToken: LoadCurve?
    private var history = LoadHistory()
    private(set) var slots: Double?
    private(set) var staffing: Staffing?
    /// Requests, and those that met the objectives, with a half-life of five minutes.
    private var judged = 0.0
    private var met = 0.0
    /// Those of the last sample.
    private(set) var lately = (judged: 0.0, met: 0.0)
    private var calmJudged = 0.0
    private var calmMet = 0.0
    /// By how much the forecast rate is multiplied, so that the share of requests within the
    /// objectives comes out as asked for.
    private(set) var correction = 1.0
    private var forgottenAt: Double?
    private var fullCompletions = 0.0
    private var fullSeconds = 0.0
    private var fullSince: Double?
    /// Whether slots were full since old knowledge faded last.
    private var wasFull = false
    /// Request-seconds on replicas and requests that ended, with the half-life of the curves.
    private var busySeconds = 0.0
    private var ended = 0.0
    /// Whether a time was learned since old ones were forgotten last.
    private var hasLearned = false

    static let samplesMin: Float = 50
    /// What was once known is not given up for want of requests that met no queue.
    private static let samplesLeft: Float = 10
    private static let endedMin = 30.0
    private static let judgeHalfLife = 300.0
    private static let correctionRange = 1.0...1.3
    /// Seconds for the correction to change by its gain at full error.
    private static let correctionSeconds = 60.0
    private static let correctionGain = 0.04

    init(_ objectives: Objectives) {
        if objectives.timeToFirstToken != nil { self.firstToken = LoadCurve() }
    }

    /// The share of requests within the objectives lately.
    var attainment: Double? { self.judged >= 1 ? self.met / self.judged : nil }

    /// - Parameter isCalm: whether what was asked for is there and no burst is going on, so that
    ///   misses tell of the capacity and not of a start that took its time.
    mutating func learn(
        _ sample: borrowing GatewaySample,
        _ objectives: Objectives,
        seconds: Double,
        ready: Int?,
        slots: Double?,
        isCalm: Bool,
        atSeconds now: Double
    ) {
        if let slots, slots.isFinite, slots >= 1 { self.slots = slots }
        guard let ready else { return }
        let working = sample.inFlightSeconds.sane / seconds
        let waiting = max(sample.queuedSeconds.sane / seconds, Double(sample.queued))
        self.history.add(
            load: ready > 0 ? working / Double(ready) : nil,
            seconds: seconds,
            hasQueue: waiting > 0.01,
            atSeconds: now
        )
        self.judge(sample, objectives, seconds: seconds, isCalm: isCalm)
        self.learnTimes(sample, objectives, seconds: seconds, atSeconds: now)
        self.busySeconds += sample.inFlightSeconds.sane
        self.ended += Double(max(0, sample.completions))
        self.learnFullRate(
            sample,
            working: working,
            ready: ready,
            seconds: seconds,
            atSeconds: now
        )
        self.forget(atSeconds: now)
    }

    /// Times of requests that lived through a queue say more about the queue than about the load of
    /// a replica: they are left out, and the wait is worked out from the rest.
    private mutating func learnTimes(
        _ sample: borrowing GatewaySample,
        _ objectives: Objectives,
        seconds: Double,
        atSeconds now: Double
    ) {
        // A first token may be told of when the whole answer is there: what it met lies further
        // back than its own time.
        let long = self.pastSeconds(sample.latency.histogram, atSeconds: now)
        if let load = self.lived(
            sample.latency.histogram,
            seconds: seconds,
            pastSeconds: long,
            atSeconds: now
        ) {
            var good = Double(sample.latency.count)
            if let limit = objectives.latency?.limit { good = sample.latency.count(within: limit) }
            self.latency.learn(sample.latency.histogram, good: good, load: load)
            self.hasLearned = true
        }
        guard let limit = objectives.timeToFirstToken?.limit else { return }
        let own = self.pastSeconds(sample.timeToFirstToken.histogram, atSeconds: now)
        if let load = self.lived(
            sample.timeToFirstToken.histogram,
            seconds: seconds,
            pastSeconds: max(own, long),
            atSeconds: now
        ) {
            self.firstToken?.learn(
                sample.timeToFirstToken.histogram,
                good: sample.timeToFirstToken.count(within: limit),
                load: load
            )
        }
    }

    /// How far back requests with these times came; 0 where there was no queue they could have met.
    private func pastSeconds(_ times: borrowing TimeHistogram, atSeconds now: Double) -> Double {
        if self.history.taintedSeconds == nil { return 0 }
        return times.quantileSeconds(0.99) ?? 0
    }

    /// The load that requests with these times lived through; nil where some met a queue.
    private func lived(
        _ times: borrowing TimeHistogram,
        seconds: Double,
        pastSeconds: Double,
        atSeconds now: Double
    ) -> Double? {
        guard let mean = times.meanSeconds,
            self.history.isClean(overSeconds: max(seconds, pastSeconds * 1.2), atSeconds: now)
        else { return nil }
        return self.history.mean(overSeconds: max(seconds, mean))
    }

    /// Counts what replicas do with all their slots taken, once requests have filled them for as
    /// long as they take.
    private mutating func learnFullRate(
        _ sample: borrowing GatewaySample,
        working: Double,
        ready: Int,
        seconds: Double,
        atSeconds now: Double
    ) {
        guard let slots = self.slots, ready > 0, working >= 0.97 * slots * Double(ready) else {
            self.fullSince = nil
            return
        }
        let since = self.fullSince ?? now
        self.fullSince = since
        let mean = self.latency.total > 0 ? self.latency.meanSeconds : nil
        guard now - since > (mean ?? 10) else { return }
        self.fullCompletions += Double(max(0, sample.completions))
        self.fullSeconds += Double(ready) * seconds
        self.wasFull = true
    }

    /// What replicas with all slots taken were seen to do; nil where too little was seen.
    private var full: LoadCurve.Full? {
        guard self.fullCompletions >= Self.endedMin, self.fullSeconds > 0 else { return nil }
        return LoadCurve.Full(
            rate: self.fullCompletions / self.fullSeconds,
            count: self.fullCompletions
        )
    }

    /// How long a request is on a replica, by Little's law: it holds in a queue as well, where the
    /// times of requests say more about the queue. Nil where too few have ended.
    var secondsOnReplica: Double? {
        self.ended >= Self.endedMin && self.busySeconds > 0 ? self.busySeconds / self.ended : nil
    }

    /// Requests that have ended, as far as they are not forgotten.
    var requestsEnded: Double { self.ended }

    private mutating func judge(
        _ sample: borrowing GatewaySample,
        _ objectives: Objectives,
        seconds: Double,
        isCalm: Bool
    ) {
        let factor = 1 / (1 + 0.693 * seconds / Self.judgeHalfLife)
        self.judged *= factor
        self.met *= factor
        self.calmJudged *= factor
        self.calmMet *= factor
        var all = Double(max(0, sample.refused))
        var good = all
        if let latency = objectives.latency {
            all += Double(sample.latency.count)
            good = sample.latency.count(within: latency.limit)
        }
        if let first = objectives.timeToFirstToken {
            let count = Double(sample.timeToFirstToken.count)
            let share = sample.timeToFirstToken.count(within: first.limit)
            if objectives.latency == nil {
                (all, good) = (all + count, share)
            } else {
                // The worse of the two counts.
                good = min(good, max(0, Double(sample.latency.count) - (count - share)))
            }
        } else if objectives.latency == nil {
            all = 0
        }
        self.judged += all
        self.met += min(good, all)
        self.lately = (all, min(good, all))
        if isCalm {
            self.calmJudged += all
            self.calmMet += min(good, all)
        }
    }

    private mutating func forget(atSeconds now: Double) {
        guard let last = self.forgottenAt else {
            self.forgottenAt = now
            return
        }
        guard now - last >= 15 else { return }
        self.forgottenAt = now
        let factor = 1 / (1 + 0.693 * (now - last) / LoadCurve.halfLifeSeconds)
        let unmet = 1 / (1 + 0.693 * (now - last) / LoadCurve.unmetHalfLifeSeconds)
        self.fullCompletions *= self.wasFull ? factor : unmet
        self.fullSeconds *= self.wasFull ? factor : unmet
        self.wasFull = false
        self.busySeconds *= factor
        self.ended *= factor
        // Where every request met a queue nothing new was learned of times, and what is old is the
        // best there is.
        guard self.hasLearned else { return }
        self.hasLearned = false
        self.latency.forget(seconds: now - last)
        self.firstToken?.forget(seconds: now - last)
    }

    /// Fits the curves anew.
    mutating func refit(_ objectives: Objectives) {
        let least = self.staffing == nil ? Self.samplesMin : Self.samplesLeft
        guard self.latency.total >= least else {
            self.staffing = nil
            return
        }
        let latencyLimit = objectives.latency?.limit.secondsAsDouble
        guard
            let fit = self.latency.fit(
                limitSeconds: latencyLimit,
                slots: self.slots,
                full: self.full
            )
        else {
            self.staffing = nil
            return
        }
        let firstLimit = objectives.timeToFirstToken?.limit.secondsAsDouble
        // Little's law tells of whole requests.
        var full = self.full
        full?.count = 0
        var firstFit = self.firstToken?.fit(
            limitSeconds: firstLimit,
            slots: self.slots,
            full: full
        )
        if let limit = firstLimit, let own = firstFit {
            // What waits for a slot waits for whole requests, not for first tokens.
            firstFit = self.firstToken?.withWaits(of: fit, in: own, limitSeconds: limit)
        }
        self.staffing = Staffing(
            latency: fit,
            firstToken: firstFit,
            latencyQuantile: objectives.latency?.quantile,
            firstTokenQuantile: objectives.timeToFirstToken?.quantile,
            samples: Double(self.latency.total)
        )
    }

    /// Moves the correction towards what the objectives ask for.
    mutating func correct(_ objectives: Objectives, seconds: Double, isSupplied: Bool) {
        guard self.calmJudged >= 30, let staffing else { return }
        let attainment = self.calmMet / self.calmJudged
        let quantile = max(
            objectives.latency?.quantile ?? 0,
            objectives.timeToFirstToken?.quantile ?? 0
        )
        let required = max(0, min(quantile, staffing.bestShare - 0.5 * (1 - quantile)))
        let error = (required - attainment) / max(1e-3, 1 - quantile)
        // Without the replicas asked for a miss says nothing about the number asked for.
        if error > 0 && !isSupplied { return }
        let change =
            Self.correctionGain * min(3, max(-1, error)) * seconds / Self.correctionSeconds
        self.correction = min(
            max(self.correction + change, Self.correctionRange.lowerBound),
            Self.correctionRange.upperBound
        )
    }
}
