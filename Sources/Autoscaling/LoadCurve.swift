/// How a time (latency, or time to first token) depends on the load of a replica, learned online.
///
/// Load is requests in flight and queued per ready replica, in bins a fifth wide. Each bin holds
/// how many requests ended while a replica carried that load, their mean time, and how many kept
/// the objective's limit. Beside it stands one distribution of times relative to their bin's mean:
/// with it the share within the limit can be foretold for a load that was never seen, from the mean
/// time expected there.
///
/// What was learned at a load is forgotten with a half-life while requests meet that load, as new
/// knowledge takes its place. Where none do it is nearly kept: replicas that are never busy do not
/// make it less true what busy ones did, and a capacity that faded would ask for more replicas,
/// which are less busy still.
struct LoadCurve: Sendable {
    /// 2^-3 to 2^10 in quarters of powers of two.
    static let binCount = 52
    static let firstExponent = -3
    static let halfLifeSeconds = 1_800.0
    /// Of what was learned at loads that no request has met since. Where that has become too
    /// hopeful, lower loads say so: more load never helps.
    static let unmetHalfLifeSeconds = 43_200.0

    var counts: [Float]
    /// Of times in seconds.
    var sums: [Float]
    var good: [Float]
    /// Times divided by their bin's mean, in `TimeHistogram`'s buckets.
    var shape: [Float]
    var total: Float = 0
    /// Bins that learned since old knowledge faded last, one bit each.
    var metBins: UInt64 = 0

    init() {
        self.counts = Array(repeating: 0, count: Self.binCount)
        self.sums = Array(repeating: 0, count: Self.binCount)
        self.good = Array(repeating: 0, count: Self.binCount)
        self.shape = Array(repeating: 0, count: TimeHistogram.bucketCount)
    }

    static func bin(of load: Double) -> Int {
        guard load > 0x1p-3 else { return 0 }
        guard load < 0x1p10 else { return Self.binCount - 1 }
        // The exponent and two more bits.
        return Int(truncatingIfNeeded: load.bitPattern >> 50) - (1_023 + Self.firstExponent) * 4
    }

    /// The load that stands for a bin: its middle.
    static func load(ofBin bin: Int) -> Double {
        // The exponent, two bits for the quarter and one more for its middle.
        let halves = UInt64(truncatingIfNeeded: bin * 2 + 1 + (1_023 + Self.firstExponent) * 8)
        return Double(bitPattern: halves << 49)
    }

    /// - Parameter good: how many of the sample's requests kept the limit.
    mutating func learn(_ sample: borrowing TimeHistogram, good: Double, load: Double) {
        guard let mean = sample.meanSeconds else { return }
        let count = Double(sample.count)
        let bin = Self.bin(of: load)
        self.metBins |= 1 << UInt64(bin)
        self.counts[bin] += Float(count)
        self.good[bin] += Float(min(good, count))
        self.total += Float(count)
        self.sums[bin] += Float(mean * count)
        let usual = max(1e-6, Double(self.sums[bin] / self.counts[bin]))
        sample.forEachBucket { bucket, times in
            let lower = bucket == 0 ? 0 : TimeHistogram.upperEdge(ofBucket: bucket - 1)
            let middle = (lower + TimeHistogram.upperEdge(ofBucket: bucket)) / 2
            self.shape[TimeHistogram.bucket(ofSeconds: middle / usual)] += Float(times)
        }
    }

    mutating func forget(seconds: Double) {
        let met = Float(1 / (1 + 0.693 * seconds / Self.halfLifeSeconds))
        let unmet = Float(1 / (1 + 0.693 * seconds / Self.unmetHalfLifeSeconds))
        self.total = 0
        for bin in 0..<Self.binCount {
            let factor = self.metBins & (1 << UInt64(bin)) == 0 ? unmet : met
            self.counts[bin] *= factor
            self.sums[bin] *= factor
            self.good[bin] *= factor
            self.total += self.counts[bin]
        }
        self.metBins = 0
        for bucket in 0..<TimeHistogram.bucketCount { self.shape[bucket] *= met }
    }

    // MARK: Fit

    /// A bin's mean time is mixed with so many requests' worth of what the line says of it.
    private static let timeDoubt: Double = 8
    /// The same for the share within the limit.
    private static let shareDoubt: Double = 40
    /// Loads up to this multiple of the highest one seen are thought about.
    private static let reach: Double = 2

    /// Mean time and share within the limit at each bin's load.
    struct Fit: Sendable {
        /// On a replica, without the wait for a slot.
        var seconds: [Double]
        var waits: [Double]
        var share: [Double]
        /// The highest bin with evidence, and the highest one thought about.
        var seen: Int
        var reach: Int
    }

    /// What replicas did with all their slots taken: requests per second of one, and how many
    /// requests say so.
    struct Full: Sendable {
        var rate: Double
        var count: Double
    }

    /// - Parameter slots: requests that a replica works on at a time. Further ones wait for the
    ///   others, which is arithmetic and not learned.
    func fit(limitSeconds: Double?, slots: Double?, full: Full?) -> Fit? {
        let enough = min(10, self.total / 4)
        guard self.total > 0,
            let first = (0..<Self.binCount).first(where: { self.counts[$0] >= enough }),
            let seen = (0..<Self.binCount).last(where: { self.counts[$0] >= enough })
        else { return nil }
        let highest = Self.load(ofBin: seen) * Self.reach
        var fit = Fit(
            seconds: Array(repeating: 0, count: Self.binCount),
            waits: Array(repeating: 0, count: Self.binCount),
            share: Array(repeating: 0, count: Self.binCount),
            seen: seen,
            reach: Self.bin(of: highest)
        )
        if let slots, highest >= slots { fit.reach = Self.binCount - 1 }
        self.fitTimes(&fit, from: first, slots: slots ?? .infinity, full: full)
        if let limitSeconds { self.fitShares(&fit, limit: limitSeconds) }
        return fit
    }

    /// The shares with the waits of another time's fit.
    func withWaits(of other: Fit, in own: Fit, limitSeconds: Double) -> Fit {
        var fit = own
        fit.waits = other.waits
        self.fitShares(&fit, limit: limitSeconds)
        return fit
    }

    /// Of all that was learned.
    var meanSeconds: Double {
        var sum: Float = 0
        for bin in 0..<Self.binCount { sum += self.sums[bin] }
        return self.total > 0 ? Double(sum / self.total) : 0
    }

    private func fitTimes(
        _ fit: inout Fit,
        from first: Int,
        slots: Double,
        full: Full?
    ) {
        let line = self.line()
        let highest = Self.load(ofBin: fit.seen)
        let fullBin = (first..<Self.binCount).last { Self.load(ofBin: $0) <= slots }
        // More load is never quicker: neighbours that say so are pooled (isotonic regression).
        var pool = Pool()
        for bin in first...(fullBin ?? first) {
            let load = Self.load(ofBin: bin)
            var foretold = line.seconds(atLoad: load)
            if load > highest { foretold *= 1 + Self.unseenRise * (load / highest - 1) }
            var count = Double(self.counts[bin])
            var sum = Double(self.sums[bin])
            if let full, bin == fullBin, full.rate > 0 {
                // Little's law says how long they were on it, whatever they waited before.
                count += full.count
                sum += full.count * slots / full.rate
            }
            let weight = count + Self.timeDoubt
            pool.add((sum + Self.timeDoubt * foretold) / weight, weight: weight, at: bin)
        }
        pool.spread(over: &fit.seconds)
        for bin in 0..<Self.binCount {
            // Past the slots the rate is what it is with all of them taken, and the rest waits.
            let load = Self.load(ofBin: bin)
            let seconds = fit.seconds[bin]
            let rate = min(slots / max(1e-6, seconds), full?.rate ?? .infinity)
            fit.waits[bin] = load > slots ? max(0, load / rate - seconds) : 0
        }
    }

    /// Blocks of bins whose values never fall (pool adjacent violators).
    private struct Pool {
        private struct Block {
            var start: Int
            var value: Double
            var weight: Double
        }

        private var blocks: [Block] = []

        init() { self.blocks.reserveCapacity(LoadCurve.binCount) }

        mutating func add(_ value: Double, weight: Double, at bin: Int) {
            var block = Block(start: bin, value: value, weight: weight)
            while let last = self.blocks.last, last.value > block.value {
                self.blocks.removeLast()
                let both = block.weight + last.weight
                block.value = (block.value * block.weight + last.value * last.weight) / both
                block.weight = both
                block.start = last.start
            }
            self.blocks.append(block)
        }

        /// The first block holds for the bins before it as well, the last one for those after.
        func spread(over bins: inout [Double]) {
            var end = bins.count
            for index in self.blocks.indices.reversed() {
                let start = index == 0 ? 0 : self.blocks[index].start
                for bin in start..<end { bins[bin] = self.blocks[index].value }
                end = start
            }
        }
    }

    /// How a mean time rises with the load, as a straight line: a step of a batch takes longer for
    /// each sequence in it.
    struct Line: Sendable {
        var seconds: Double
        var load: Double
        var slope: Double

        func seconds(atLoad other: Double) -> Double {
            max(self.seconds / 10, self.seconds + self.slope * (other - self.load))
        }
    }

    /// What is believed of the slope before it was seen: a tenth more time for twice the load, as
    /// surely as so many requests at loads that differ twofold would say it.
    private static let slopeBelieved = 0.1
    private static let slopeDoubt = 20.0
    /// How much of the mean time the slope is taken to be steeper, for want of requests at loads
    /// that differ: half a deviation of a request's time.
    private static let slopeCaution = 0.5
    /// Beyond the highest load seen times rise further, by this share for twice that load.
    private static let unseenRise = 0.1

    /// The line through all that was learned, by least squares and a little steeper: loads that
    /// were seen tell of those that were not.
    func line() -> Line {
        var count = 0.0
        var loads = 0.0
        var times = 0.0
        for bin in 0..<Self.binCount where self.counts[bin] > 0 {
            count += Double(self.counts[bin])
            loads += Double(self.counts[bin]) * Self.load(ofBin: bin)
            times += Double(self.sums[bin])
        }
        guard count > 0 else { return Line(seconds: 0, load: 0, slope: 0) }
        let load = loads / count
        let time = times / count
        var square = Self.slopeDoubt * load * load
        var product = Self.slopeDoubt * load * Self.slopeBelieved * time
        for bin in 0..<Self.binCount where self.counts[bin] > 0 {
            let away = Self.load(ofBin: bin) - load
            square += Double(self.counts[bin]) * away * away
            product += (Double(self.sums[bin]) - Double(self.counts[bin]) * time) * away
        }
        let slope = product / square + Self.slopeCaution * time / square.squareRoot()
        return Line(seconds: time, load: load, slope: max(0, slope))
    }

    private func fitShares(_ fit: inout Fit, limit: Double) {
        // More load never helps: neighbours that say so are pooled (isotonic regression).
        var weights: [Double] = Array(repeating: 0, count: Self.binCount)
        var starts: [Int] = Array(repeating: 0, count: Self.binCount)
        var blocks = 0
        let below = self.shapeBelow()
        for bin in 0..<Self.binCount {
            let left = limit - fit.waits[bin]
            let foretold =
                left > 0 ? self.foretoldShare(left / max(1e-6, fit.seconds[bin]), below) : 0
            let isLearned = fit.waits[bin] == 0
            let count = isLearned ? Double(self.counts[bin]) : 0
            let good = isLearned ? Double(self.good[bin]) : 0
            var weight = count + Self.shareDoubt
            var share = (good + Self.shareDoubt * foretold) / weight
            var start = bin
            while blocks > 0, fit.share[blocks - 1] < share {
                blocks -= 1
                let both = weight + weights[blocks]
                share = (share * weight + fit.share[blocks] * weights[blocks]) / both
                weight = both
                start = starts[blocks]
            }
            fit.share[blocks] = share
            weights[blocks] = weight
            starts[blocks] = start
            blocks += 1
        }
        // From the back, as the blocks' values stand where the bins' belong.
        var end = Self.binCount
        for block in stride(from: blocks - 1, through: 0, by: -1) {
            let share = fit.share[block]
            for bin in starts[block]..<end { fit.share[bin] = bin > fit.reach ? 0 : share }
            end = starts[block]
        }
    }

    /// How many times lie in the buckets before each, and in all of them.
    private func shapeBelow() -> [Double] {
        var below: [Double] = Array(repeating: 0, count: TimeHistogram.bucketCount + 1)
        for bucket in 0..<TimeHistogram.bucketCount {
            below[bucket + 1] = below[bucket] + Double(self.shape[bucket])
        }
        return below
    }

    /// The share of times that are at most `ratio` times the mean.
    private func foretoldShare(_ ratio: Double, _ below: [Double]) -> Double {
        let own = TimeHistogram.bucket(ofSeconds: ratio)
        let lower = own == 0 ? 0 : TimeHistogram.upperEdge(ofBucket: own - 1)
        let width = TimeHistogram.upperEdge(ofBucket: own) - lower
        let part = Double(self.shape[own]) * min(1, max(0, (ratio - lower) / width))
        let all = below[TimeHistogram.bucketCount]
        return all > 0 ? (below[own] + part) / all : 0
    }
}
