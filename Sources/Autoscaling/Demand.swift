import Core

/// What came, and what will come: the load of one variant, or of all interchangeable ones.
struct Demand: Sendable {
    var window: LoadWindow
    var forecaster = Forecaster()
    var seasonal = Seasonal()
    /// When there was last something to do.
    private(set) var busyAt: Double
    private(set) var inFlight = 0
    private(set) var queued = 0
    private let stableSeconds: Double
    private let burstSeconds: Double

    init(_ policy: ScalingPolicy, atSeconds now: Double) {
        self.stableSeconds = min(3_600, max(1, policy.stableWindow.secondsAsDouble))
        self.burstSeconds = min(self.stableSeconds, max(1, policy.burstWindow.secondsAsDouble))
        self.window = LoadWindow(stableSeconds: self.stableSeconds)
        self.busyAt = now
    }

    /// Whether the forecast changed.
    mutating func add(
        _ sample: borrowing GatewaySample,
        seconds: Double,
        ready: Double,
        horizonSeconds: Double,
        atSeconds now: Double
    ) -> Bool {
        var sums = LoadWindow.Sums()
        sums.values[0] = Double(max(0, sample.arrivals))
        sums.values[1] = Double(max(0, sample.refused))
        sums.values[2] = sample.inFlightSeconds.sane
        sums.values[3] = sample.queuedSeconds.sane
        sums.values[4] = sample.tokensIn.sane + sample.tokensOut.sane
        sums.values[5] = seconds
        sums.values[6] = ready * seconds
        self.window.add(sums, atSeconds: now)
        self.inFlight = max(0, sample.inFlight)
        self.queued = max(0, sample.queued)
        if sample.arrivals > 0 || self.inFlight + self.queued > 0 { self.busyAt = now }
        let forecast = self.forecaster.forecast(atSeconds: horizonSeconds).rate
        self.seasonal.add(
            arrivals: sums.arrivals,
            seconds: seconds,
            forecast: forecast,
            atSeconds: now
        )
        return self.forecaster.add(
            arrivals: sums.arrivals,
            seconds: seconds,
            atSeconds: now,
            horizonSeconds: horizonSeconds
        )
    }

    /// A request waits that no sample has told of yet; the next one counts it.
    mutating func wake(atSeconds now: Double) {
        self.busyAt = now
        self.queued = max(1, self.queued)
    }

    /// A time of which nothing is known is not a time without requests.
    mutating func missed(seconds: Double) { self.busyAt += seconds }

    var hasWork: Bool { self.inFlight + self.queued > 0 }
    var work: Double { Double(self.inFlight + self.queued) }
    var stable: LoadWindow.Sums { self.window.sums(overSeconds: self.stableSeconds) }
    var burst: LoadWindow.Sums { self.window.sums(overSeconds: self.burstSeconds) }

    /// The expected rate at the horizon.
    struct Expected {
        var rate: Double
        var method: ForecastMethod
    }

    /// The forecast, or what a burst brings right now where that is plainly more.
    /// - Parameter now: what `burst` is.
    func expected(
        horizonSeconds: Double,
        isForecasting: Bool,
        burst now: LoadWindow.Sums,
        atSeconds time: Double
    ) -> Expected {
        let burstRate = now.rate ?? 0
        guard isForecasting, self.forecaster.bucketsSeen > 0 else {
            return Expected(rate: max(self.stable.rate ?? 0, burstRate), method: .persistence)
        }
        let forecast = self.forecaster.forecast(atSeconds: horizonSeconds)
        // What so many requests could be by chance alone does not count: three deviations, with at
        // least twice the variance of independent arrivals.
        let scatter = max(2, self.forecaster.dispersion)
        let doubt = 3 * (scatter * max(now.arrivals, 1)).squareRoot() / max(now.seconds, 1)
        if burstRate - doubt > forecast.rate * 1.1 {
            return Expected(rate: burstRate - doubt / 2, method: .burst)
        }
        let floor = self.seasonal.floor(atSeconds: time + horizonSeconds)
        if floor > forecast.rate { return Expected(rate: floor, method: .seasonal) }
        return Expected(rate: forecast.rate, method: forecast.hasSlope ? .slope : .persistence)
    }
}

extension Double {
    /// 0 in place of what cannot be: negative, infinite, no number.
    var sane: Double { self.isFinite && self > 0 ? min(self, 1e15) : 0 }

    /// Rounded up to replicas, within what an `Int` holds.
    var replicasRoundedUp: Int {
        guard self.isFinite else { return self > 0 ? ScalingBounds.replicasMax : 0 }
        // A hair above a whole number is rounding, not need.
        return Int(min(max(0, (self - 1e-9).rounded(.up)), Double(ScalingBounds.replicasMax)))
    }
}
