/// How many replicas hold the objectives at a forecast rate.
///
/// The question is put to a fluid model of one replica, built from the learned curves: carrying a
/// load `n` (requests in flight and queued) it completes `n / W(n)` requests per second (Little's
/// law), and a share `A(n)` of those that come meanwhile keep their objective. The last hour's
/// forecast errors are played through `N` such replicas around the new forecast, and `N` is enough
/// if the share of requests within the objectives comes out high enough. So the room above the
/// forecast is neither a guess nor a constant: it is what bursts and the blindness of a cold start
/// have needed here. Errors are scaled with the square root of the rate, as for independent
/// arrivals (square-root staffing), and only those made at a similar rate count.
struct Staffing: Sendable {
    /// Load of one replica at each grid point; point 0 is no load.
    static let points = LoadCurve.binCount + 1
    private var loads: [Double]
    /// Requests per second completed there; never falls.
    private var rates: [Double]
    /// The share within the objectives, relative to what is required of each; see `slack`.
    private var latencyShare: [Double]
    private var firstTokenShare: [Double]
    private(set) var latencyRequired: Double?
    private(set) var firstTokenRequired: Double?
    /// The highest load at which both objectives hold.
    private(set) var loadAtObjective: Double
    /// Requests per second there.
    private(set) var rateAtObjective: Double
    /// Whether not even light load keeps the objectives, and the share that does.
    private(set) var bestShare: Double
    /// The load from which on more of it does not bring more requests per second.
    private var knee = 0.0
    let isOutOfReach: Bool

    /// - Parameters:
    ///   - latency: gives the rates; its share counts where `latencyObjective` is there.
    ///   - firstToken: the fit of times to first token, where there is an objective for them.
    init(
        latency: LoadCurve.Fit,
        firstToken: LoadCurve.Fit?,
        latencyQuantile: Double?,
        firstTokenQuantile: Double?,
        samples: Double
    ) {
        self.loads = Array(repeating: 0, count: Self.points)
        self.rates = Array(repeating: 0, count: Self.points)
        self.latencyShare = Array(repeating: 1, count: Self.points)
        self.firstTokenShare = Array(repeating: 1, count: Self.points)
        for bin in 0..<LoadCurve.binCount {
            let load = LoadCurve.load(ofBin: bin)
            self.loads[bin + 1] = load
            let rate = load / max(1e-6, latency.seconds[bin] + latency.waits[bin])
            // What was never seen is not hoped to do more than twice the load of what was.
            self.rates[bin + 1] =
                bin > latency.reach ? self.rates[bin] : max(self.rates[bin], rate)
            self.latencyShare[bin + 1] = latency.share[bin]
            if let firstToken { self.firstTokenShare[bin + 1] = firstToken.share[bin] }
        }
        self.latencyShare[0] = self.latencyShare[1]
        self.firstTokenShare[0] = self.firstTokenShare[1]
        self.latencyRequired = latencyQuantile.map {
            Self.required($0, best: latency.share[0], samples: samples)
        }
        let firstBest = firstToken?.share[0] ?? 1
        let firstQuantile = firstToken == nil ? nil : firstTokenQuantile
        self.firstTokenRequired = firstQuantile.map {
            Self.required($0, best: firstBest, samples: samples)
        }
        self.bestShare = min(latencyQuantile == nil ? 1 : latency.share[0], firstBest)
        self.isOutOfReach =
            (latencyQuantile.map { latency.share[0] < $0 } ?? false)
            || (firstQuantile.map { firstBest < $0 } ?? false)
        self.loadAtObjective = 0
        self.rateAtObjective = 0
        self.findLimit()
    }

    /// Where not even light load keeps the quantile, what it keeps less half of what the quantile
    /// lets miss: more replicas than that buys nothing. What a few samples say of light load is
    /// believed within two standard errors.
    static func required(_ quantile: Double, best: Double, samples: Double) -> Double {
        let share = min(max(best, 0.02), 0.98)
        let doubt = 2 * (share * (1 - share) / max(1, samples)).squareRoot()
        return min(quantile, best - max(0.5 * (1 - quantile), doubt))
    }

    private mutating func findLimit() {
        let top = 0.98 * self.rates[Self.points - 1]
        for point in 0..<Self.points where self.rates[point] >= top {
            self.knee = self.loads[point]
            break
        }
        var limit = 1
        for point in 1..<Self.points {
            let holds =
                (self.latencyRequired.map { self.latencyShare[point] >= $0 } ?? true)
                && (self.firstTokenRequired.map { self.firstTokenShare[point] >= $0 } ?? true)
            if !holds { break }
            limit = point
        }
        self.loadAtObjective = self.loads[limit]
        self.rateAtObjective = self.rates[limit]
    }

    /// Whether both objectives hold at a load per replica.
    func holds(atLoad load: Double) -> Bool { load <= self.loadAtObjective }

    // MARK: Playing errors through

    /// Points of `load + seconds · rate(load)`: what load and arrivals add up to in one step.
    func stepTable(_ seconds: Double) -> [Double] {
        var table = [Double](repeating: 0, count: Self.points)
        for point in 0..<Self.points {
            table[point] = self.loads[point] + seconds * self.rates[point]
        }
        return table
    }

    /// The place of `sum` in a step table: the point below and the share of the way to the next.
    private static func place(_ sum: Double, in table: [Double])
        -> (point: Int, part: Double)
    {
        var low = 0
        var high = Self.points - 1
        if sum >= table[high] { return (high, 0) }
        while high - low > 1 {
            let middle = (low + high) / 2
            if table[middle] <= sum { low = middle } else { high = middle }
        }
        let width = table[high] - table[low]
        return (low, width > 0 ? max(0, (sum - table[low]) / width) : 0)
    }

    /// The load of a replica a step after `load`, with so many requests arriving at it meanwhile.
    func step(_ load: Double, arriving: Double, _ table: [Double]) -> Double {
        let sum = load + arriving
        return self.load(Self.place(sum, in: table), sum: sum, table)
    }

    /// The share of requests that may miss their objective; the smaller of two.
    var missAllowed: Double {
        max(1e-4, 1 - max(self.latencyRequired ?? 0, self.firstTokenRequired ?? 0))
    }

    /// How many requests miss that come while the load goes from one to the other, for each one
    /// that may miss.
    func missUse(from load: Double, to after: Double) -> Double {
        // Up to the knee a load is settled well within a bucket. Past it a queue grows or shrinks
        // all the time, and requests meet what it is on average.
        let met = after > self.knee ? (max(load, self.knee) + after) / 2 : after
        let (point, part) = self.place(ofLoad: met)
        let next = min(point + 1, Self.points - 1)
        var worst = 0.0
        if let required = self.latencyRequired {
            let share = self.latencyShare[point]
            let kept = share + part * (self.latencyShare[next] - share)
            worst = (1 - kept) / max(1e-4, 1 - required)
        }
        if let required = self.firstTokenRequired {
            let share = self.firstTokenShare[point]
            let kept = share + part * (self.firstTokenShare[next] - share)
            worst = max(worst, (1 - kept) / max(1e-4, 1 - required))
        }
        return worst
    }

    private static func similar(_ rate: Double) -> (low: Double, high: Double) {
        (rate / 2 - 0.02, rate * 2 + 0.02)
    }

    /// Whether `replicas` hold the objectives at `rate`, judged by the errors of `forecaster`.
    /// - Parameter ignored: ages of buckets that do not count.
    func suffices(
        _ replicas: Int,
        rate: Double,
        errors forecaster: borrowing Forecaster,
        ignored: ClosedRange<Int>? = nil
    ) -> Bool {
        if replicas <= 0 { return rate <= 0 }
        let step = Forecaster.bucketSeconds
        let table = self.stepTable(step)
        let each = 1 / Double(replicas)
        var load = self.settled(rate * each, table, step)
        var tally = Tally()
        tally.count(self, self.place(ofLoad: load), weight: rate)
        // A forecast is something like this one if it was within a factor of two.
        let (low, high) = Self.similar(rate)
        for age in stride(from: forecaster.errorsKept, to: 0, by: -1) {
            if let ignored, ignored.contains(age) { continue }
            let slot = (forecaster.errorNext - age + Forecaster.errorCount) % Forecaster.errorCount
            let believed = Double(forecaster.believed[slot])
            if believed < low || believed > high { continue }
            let error = Double(forecaster.actual[slot]) - believed
            let scale = min(1.5, (rate / max(believed, 1e-4)).squareRoot())
            let arriving = max(0, rate + error * scale)
            let sum = load + step * arriving * each
            let after = self.load(Self.place(sum, in: table), sum: sum, table)
            // Up to the knee a load is settled well within a bucket. Past it a queue grows or
            // shrinks all the time, and requests meet what it is on average.
            let met = after > self.knee ? (max(load, self.knee) + after) / 2 : after
            load = after
            tally.count(self, self.place(ofLoad: met), weight: arriving)
        }
        return tally.holds(self)
    }

    private func settled(_ arriving: Double, _ table: [Double], _ step: Double)
        -> Double
    {
        for point in 1..<Self.points where self.rates[point] >= arriving {
            let width = self.rates[point] - self.rates[point - 1]
            let part = width > 0 ? (arriving - self.rates[point - 1]) / width : 0
            return self.loads[point - 1] + part * (self.loads[point] - self.loads[point - 1])
        }
        return self.loads[Self.points - 1]
    }

    private func place(ofLoad load: Double) -> (point: Int, part: Double) {
        // Point 0 is no load, the others are the middles of the bins.
        let bin = LoadCurve.bin(of: load)
        let point = min(load >= LoadCurve.load(ofBin: bin) ? bin + 1 : bin, Self.points - 2)
        let width = self.loads[point + 1] - self.loads[point]
        return (point, min(1, max(0, (load - self.loads[point]) / width)))
    }

    private func load(
        _ place: (point: Int, part: Double),
        sum: Double,
        _ table: [Double]
    ) -> Double {
        let last = Self.points - 1
        if place.point == last { return self.loads[last] + sum - table[last] }
        let next = self.loads[place.point + 1]
        return self.loads[place.point] + place.part * (next - self.loads[place.point])
    }

    /// Requests, and those within each objective.
    private struct Tally {
        var all = 0.0
        var latency = 0.0
        var firstToken = 0.0

        mutating func count(
            _ staffing: borrowing Staffing,
            _ place: (point: Int, part: Double),
            weight: Double
        ) {
            self.all += weight
            let next = min(place.point + 1, Staffing.points - 1)
            let (latency, latencyNext) = (
                staffing.latencyShare[place.point], staffing.latencyShare[next]
            )
            self.latency += weight * (latency + place.part * (latencyNext - latency))
            let (token, tokenNext) = (
                staffing.firstTokenShare[place.point], staffing.firstTokenShare[next]
            )
            self.firstToken += weight * (token + place.part * (tokenNext - token))
        }

        func holds(_ staffing: borrowing Staffing) -> Bool {
            if self.all <= 0 { return true }
            if let required = staffing.latencyRequired, self.latency < required * self.all {
                return false
            }
            if let required = staffing.firstTokenRequired, self.firstToken < required * self.all {
                return false
            }
            return true
        }
    }

    /// The fewest replicas that suffice.
    /// - Parameter near: where to look first: what sufficed the last time.
    func replicas(
        rate: Double,
        near: Int,
        errors: borrowing Forecaster,
        horizonSeconds: Double,
        most: Int
    ) -> Int {
        if rate <= 0 { return 0 }
        let (low, high) = Self.similar(rate)
        let once = errors.outlier(low: low, high: high, horizonSeconds: horizonSeconds)
        var enough = max(1, min(near, most))
        var tooFew = 0
        while !self.suffices(enough, rate: rate, errors: errors, ignored: once) {
            tooFew = enough
            if enough >= most { return most }
            enough = min(most, max(enough + 1, enough + enough / 4))
        }
        if tooFew == 0 {
            // Down by one is the usual answer; from far off, halve the way.
            var step = 1
            while enough > 1 {
                let fewer = max(1, enough - step)
                if !self.suffices(fewer, rate: rate, errors: errors, ignored: once) {
                    tooFew = fewer
                    break
                }
                enough = fewer
                step *= 2
            }
        }
        while enough - tooFew > 1 {
            let middle = (enough + tooFew) / 2
            if self.suffices(middle, rate: rate, errors: errors, ignored: once) {
                enough = middle
            } else {
                tooFew = middle
            }
        }
        return enough
    }
}
