/// Sums over the last seconds in a ring of sixty buckets: constant memory, whatever the load.
///
/// What one tick measured goes into the bucket of its end; a bucket is a sixtieth of the stable
/// window wide, at least one second. A mean over a time is the sum of the buckets in it divided by
/// the seconds they cover, so gaps between samples do not count as zero.
struct LoadWindow: Sendable {
    /// Sums of one bucket.
    struct Sums: Sendable {
        /// arrivals, refused, in-flight seconds, queued seconds, tokens, seconds, ready seconds.
        var values = SIMD8<Double>.zero

        var arrivals: Double { self.values[0] }
        var refused: Double { self.values[1] }
        var inFlightSeconds: Double { self.values[2] }
        var queuedSeconds: Double { self.values[3] }
        var tokens: Double { self.values[4] }
        var seconds: Double { self.values[5] }
        var readySeconds: Double { self.values[6] }

        /// Requests per second; nil where no time was covered.
        var rate: Double? { self.mean(self.arrivals) }
        var tokenRate: Double? { self.mean(self.tokens) }
        /// In flight and queued.
        var load: Double? { self.mean(self.inFlightSeconds + self.queuedSeconds) }

        private func mean(_ sum: Double) -> Double? {
            self.seconds > 0 ? sum / self.seconds : nil
        }
    }

    static let bucketCount = 60
    let bucketSeconds: Double
    private var buckets: [Sums]
    /// The number of the bucket written last, counted from the clock's origin.
    private var newest: Int?

    init(stableSeconds: Double) {
        self.bucketSeconds = max(1, stableSeconds / Double(Self.bucketCount))
        self.buckets = Array(repeating: Sums(), count: Self.bucketCount)
    }

    mutating func add(_ sums: Sums, atSeconds now: Double) {
        let number = Int(now / self.bucketSeconds)
        let newest = self.newest ?? number
        // Buckets passed over are empty; a clock that stands still writes on in its bucket.
        if number > newest {
            for missed in 0..<min(number - newest, Self.bucketCount) {
                self.buckets[(number - missed) % Self.bucketCount] = Sums()
            }
        }
        self.newest = max(number, newest)
        self.buckets[max(number, newest) % Self.bucketCount].values += sums.values
    }

    /// What the last `seconds` before the latest sample hold.
    func sums(overSeconds seconds: Double) -> Sums {
        var total = Sums()
        guard let newest = self.newest else { return total }
        let wanted = max(1, Int((seconds / self.bucketSeconds).rounded()))
        for age in 0..<min(wanted, Self.bucketCount) where age <= newest {
            total.values += self.buckets[(newest - age) % Self.bucketCount].values
        }
        return total
    }
}

/// The load per ready replica over the last minutes, to look up what a request lived through.
struct LoadHistory: Sendable {
    static let bucketSeconds = 2.0
    static let bucketCount = 256
    /// Load of one replica times seconds, and seconds; allocated with the first sample.
    private var loads: [Float] = []
    private var seconds: [Float] = []
    private var newest = 0
    /// When there was last a queue, or no replica: what the times of requests from before say is
    /// not the load's fault.
    private(set) var taintedSeconds: Double?

    mutating func add(load: Double?, seconds: Double, hasQueue: Bool, atSeconds now: Double) {
        if self.loads.isEmpty {
            self.loads = Array(repeating: 0, count: Self.bucketCount)
            self.seconds = self.loads
            self.newest = Int(now / Self.bucketSeconds)
        }
        let number = Int(now / Self.bucketSeconds)
        if number > self.newest {
            for missed in 0..<min(number - self.newest, Self.bucketCount) {
                self.loads[(number - missed) % Self.bucketCount] = 0
                self.seconds[(number - missed) % Self.bucketCount] = 0
            }
            self.newest = number
        }
        if hasQueue || load == nil { self.taintedSeconds = now }
        guard let load else { return }
        self.loads[self.newest % Self.bucketCount] += Float(load * seconds)
        self.seconds[self.newest % Self.bucketCount] += Float(seconds)
    }

    /// Whether requests of the last `seconds` met neither a queue nor a want of replicas.
    func isClean(overSeconds seconds: Double, atSeconds now: Double) -> Bool {
        self.taintedSeconds.map { now - $0 >= seconds } ?? true
    }

    /// The mean load of a replica over the last `seconds`; nil where nothing is known.
    func mean(overSeconds seconds: Double) -> Double? {
        if self.loads.isEmpty { return nil }
        let count = min(max(1, Int((seconds / Self.bucketSeconds).rounded(.up))), Self.bucketCount)
        var load: Float = 0
        var covered: Float = 0
        for age in 0..<min(count, self.newest + 1) {
            load += self.loads[(self.newest - age) % Self.bucketCount]
            covered += self.seconds[(self.newest - age) % Self.bucketCount]
        }
        return covered > 0 ? Double(load / covered) : nil
    }
}
