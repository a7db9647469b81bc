/// Foretells the arrival rate at the time when a replica started now would be ready.
///
/// Five simple forecasters run side by side: the level over three time scales, and two levels with
/// a slope (Holt's linear method). Each one's forecast is kept until its time has come, and the one
/// whose squared error has been the smallest lately is believed. What the rate was against what
/// was foretold is kept for an hour (`errors`): it says how much room is needed above the forecast.
struct Forecaster: Sendable {
    static let bucketSeconds = 5.0
    static let expertCount = 5
    /// A little more than an hour.
    static let errorCount = 732
    /// 32 minutes of forecasts on their way: the longest horizon.
    static let pendingCount = 384
    static let horizonSecondsMax = 1_800.0
    private static let levelTimes = SIMD8<Double>(15, 60, 240, 60, 240, 1, 1, 1)
    private static let slopeTimes = SIMD8<Double>(0, 0, 0, 180, 600, 1, 1, 1)
    private static let lossHalfLife = 1_800.0

    private(set) var levels = SIMD8<Double>.zero
    private(set) var slopes = SIMD8<Double>.zero
    private var losses = SIMD8<Double>.zero
    private(set) var best = 1
    private(set) var bucketsSeen = 0
    /// Forecasts by the bucket they are for; allocated with the first request.
    private var pending: [SIMD8<Float>] = []
    /// Measured rate and the forecast that was believed for it; the newest at `errorNext - 1`.
    private(set) var actual: [Float] = []
    private(set) var believed: [Float] = []
    private(set) var errorNext = 0
    private(set) var errorsKept = 0
    /// The variance of what comes in a bucket around its forecast, as a multiple of its mean: 1
    /// where arrivals are independent, more where they come in clumps.
    private(set) var dispersion = 1.0
    private var bucket = 0
    private var arrivals = 0.0
    private var covered = 0.0

    /// Whether a bucket was closed, so that there is a new forecast.
    mutating func add(
        arrivals: Double,
        seconds: Double,
        atSeconds now: Double,
        horizonSeconds: Double
    ) -> Bool {
        let number = Int(now / Self.bucketSeconds)
        if self.pending.isEmpty {
            guard arrivals > 0 else { return false }
            self.pending = Array(repeating: SIMD8(repeating: -1), count: Self.pendingCount)
            self.bucket = number
        }
        if number == self.bucket {
            self.arrivals += arrivals
            self.covered += seconds
            return false
        }
        // A gap in the samples is no time without requests: the buckets in it do not count.
        if self.covered > 0 { self.close(horizonSeconds) }
        self.clearGap(to: number)
        self.bucket = number
        self.arrivals = arrivals
        self.covered = seconds
        return true
    }

    /// The rate of the bucket that ended last.
    var last: Double? {
        if self.errorsKept == 0 { return nil }
        return Double(self.actual[(self.errorNext - 1 + Self.errorCount) % Self.errorCount])
    }

    /// What was foretold for that bucket.
    var lastBelieved: Double? {
        if self.errorsKept == 0 { return nil }
        return Double(self.believed[(self.errorNext - 1 + Self.errorCount) % Self.errorCount])
    }

    /// By how much the rate exceeded what was foretold, over the last buckets; nil where fewer are
    /// kept.
    func meanError(buckets: Int) -> Double? {
        guard buckets > 0, buckets <= self.errorsKept else { return nil }
        var sum: Float = 0
        for age in 1...buckets {
            let slot = (self.errorNext - age + Self.errorCount) % Self.errorCount
            sum += self.actual[slot] - self.believed[slot]
        }
        return Double(sum) / Double(buckets)
    }

    /// The rate so long ago, over half a minute: the most of that time, the half minute before and
    /// the one after; nil where that is not kept.
    func level(secondsAgo seconds: Double) -> Double? {
        let middle = Int((seconds / Self.bucketSeconds).rounded())
        guard middle >= 9, middle + 9 < self.errorsKept else { return nil }
        var most: Float = 0
        for start in [middle - 9, middle - 3, middle + 3] {
            var sum: Float = 0
            for age in start..<start + 6 {
                sum += self.actual[(self.errorNext - age + Self.errorCount) % Self.errorCount]
            }
            most = max(most, sum / 6)
        }
        return Double(most)
    }

    /// The mean rate over half a minute, so many buckets ago; nil where that is not kept.
    func mean(bucketsAgo buckets: Int) -> Double? {
        guard buckets >= 0, buckets + 6 <= self.errorsKept else { return nil }
        var sum: Float = 0
        for age in (buckets + 1)...(buckets + 6) {
            sum += self.actual[(self.errorNext - age + Self.errorCount) % Self.errorCount]
        }
        return Double(sum / 6)
    }

    private mutating func clearGap(to number: Int) {
        guard number > self.bucket else { return }
        for missed in 0..<min(number - self.bucket, Self.pendingCount) where missed > 0 {
            self.pending[(self.bucket + missed) % Self.pendingCount] = SIMD8(repeating: -1)
        }
    }

    private mutating func close(_ horizonSeconds: Double) {
        let rate = self.arrivals / self.covered
        let slot = self.bucket % Self.pendingCount
        let due = self.pending[slot]
        if due[0] >= 0 { self.score(SIMD8<Double>(due), rate) }
        self.pending[slot] = SIMD8(repeating: -1)
        self.update(rate)
        let horizon = min(max(0, horizonSeconds), Self.horizonSecondsMax)
        let ahead = max(1, Int((horizon / Self.bucketSeconds).rounded()))
        self.pending[(self.bucket + ahead) % Self.pendingCount] = SIMD8<Float>(
            self.forecasts(atSeconds: horizon)
        )
    }

    private mutating func score(_ due: SIMD8<Double>, _ rate: Double) {
        let errors = due - SIMD8(repeating: rate)
        let factor = 1 / (1 + 0.693 * Self.bucketSeconds / Self.lossHalfLife)
        self.losses = self.losses * factor + errors * errors
        let believed = due[self.best]
        for expert in 0..<Self.expertCount
        where self.losses[expert] < self.losses[self.best] * 0.98 {
            self.best = expert
        }
        self.scatter(rate - believed, around: believed)
        if self.actual.isEmpty {
            self.actual = Array(repeating: 0, count: Self.errorCount)
            self.believed = self.actual
        }
        self.actual[self.errorNext] = Float(rate)
        self.believed[self.errorNext] = Float(believed)
        self.errorNext = (self.errorNext + 1) % Self.errorCount
        self.errorsKept = min(self.errorsKept + 1, Self.errorCount)
    }

    private mutating func scatter(_ error: Double, around believed: Double) {
        let ratio = error * error * Self.bucketSeconds / max(believed, 0.05)
        // What is far out is a change of the level and no scatter.
        let bounded = min(ratio, Self.dispersionClip * self.dispersion)
        self.dispersion += Self.dispersionGain * (bounded - self.dispersion)
        self.dispersion = min(max(self.dispersion, 0.5), 50)
    }

    private static let dispersionGain = 0.01
    private static let dispersionClip = 3.0

    private mutating func update(_ rate: Double) {
        self.bucketsSeen += 1
        let seen = Double(self.bucketsSeen) * Self.bucketSeconds
        for expert in 0..<Self.expertCount {
            // While young, a plain mean: the first bucket would else weigh for minutes.
            let time = min(Self.levelTimes[expert], seen)
            let gain = min(1, Self.bucketSeconds / time)
            let before = self.levels[expert]
            let expected = before + self.slopes[expert] * Self.bucketSeconds
            self.levels[expert] = max(0, expected + gain * (rate - expected))
            if Self.slopeTimes[expert] > 0 && seen > Self.slopeTimes[expert] {
                let change = (self.levels[expert] - before) / Self.bucketSeconds
                let slopeGain = Self.bucketSeconds / Self.slopeTimes[expert]
                self.slopes[expert] += slopeGain * (change - self.slopes[expert])
            }
        }
    }

    private func forecasts(atSeconds horizon: Double) -> SIMD8<Double> {
        let ahead = self.levels + self.slopes * SIMD8(repeating: horizon)
        return ahead.clamped(lowerBound: .zero, upperBound: self.levels * 2)
    }

    /// The rate at the horizon, as the best forecaster says.
    func forecast(atSeconds horizon: Double) -> (rate: Double, hasSlope: Bool) {
        let rates = self.forecasts(atSeconds: min(horizon, Self.horizonSecondsMax))
        return (rates[self.best], self.slopes[self.best] != 0)
    }

    /// The ages of the worst error's buckets, where it is far worse than any other among forecasts
    /// between `low` and `high`: what happened once is no pattern. Nil where there is none such.
    func outlier(low: Double, high: Double, horizonSeconds: Double) -> ClosedRange<Int>? {
        let all = 1...Self.errorCount
        guard let worst = self.worst(low, high, outside: nil), let place = worst.age else {
            return nil
        }
        let span = max(2, Int((horizonSeconds / Self.bucketSeconds).rounded(.up)) + 1)
        let episode = (place - span...place + span).clamped(to: all)
        let next = self.worst(low, high, outside: episode)
        return worst.error > Self.outlierRatio * (next?.error ?? 0) ? episode : nil
    }

    private static let outlierRatio: Float = 2

    private func worst(_ low: Double, _ high: Double, outside episode: ClosedRange<Int>?)
        -> (error: Float, age: Int?)?
    {
        var worst: (error: Float, age: Int?) = (0, nil)
        var age = 1
        while age <= self.errorsKept {
            if let episode, episode.contains(age) {
                age = episode.upperBound + 1
                continue
            }
            let slot = (self.errorNext - age + Self.errorCount) % Self.errorCount
            let believed = Double(self.believed[slot])
            let error = self.actual[slot] - self.believed[slot]
            if believed >= low, believed <= high, error > worst.error { worst = (error, age) }
            age += 1
        }
        return worst.age == nil ? nil : worst
    }
}
