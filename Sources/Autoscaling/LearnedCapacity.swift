import Core

/// What a variant's replicas were found to do, in numbers that outlive the process: the counts of
/// its load curves. Valid for the objectives it was learned at.
package struct LearnedCapacity: Sendable, Equatable {
    /// The counts of one `LoadCurve`; only bins and buckets that have any.
    package struct Curve: Sendable, Equatable {
        package struct Bin: Sendable, Equatable {
            package var index: Int
            /// Requests, their seconds together, and how many kept the limit.
            package var count: Double
            package var sum: Double
            package var good: Double

            package init(index: Int, count: Double, sum: Double, good: Double) {
                self.index = index
                self.count = count
                self.sum = sum
                self.good = good
            }
        }

        package struct Bucket: Sendable, Equatable {
            package var index: Int
            package var count: Double

            package init(index: Int, count: Double) {
                self.index = index
                self.count = count
            }
        }

        package var bins: [Bin] = []
        package var shape: [Bucket] = []

        package static let binsMax = LoadCurve.binCount
        package static let bucketsMax = TimeHistogram.bucketCount

        package init() {}

        /// Whether it could have been learned: what was read from a file may be anything.
        package var isSound: Bool {
            self.bins.allSatisfy { bin in
                bin.index >= 0 && bin.index < Self.binsMax && Self.isCount(bin.count)
                    && Self.isCount(bin.sum) && Self.isCount(bin.good) && bin.good <= bin.count
            }
                && self.shape.allSatisfy { bucket in
                    bucket.index >= 0 && bucket.index < Self.bucketsMax
                        && Self.isCount(bucket.count)
                }
        }

        private static func isCount(_ value: Double) -> Bool {
            value.isFinite && value >= 0 && value <= 1e12
        }
    }

    package var latency = Curve()
    package var firstToken: Curve?
    /// The limits whose keeping was counted, in seconds; nil where there is none.
    package var latencyLimit: Double?
    package var firstTokenLimit: Double?

    package init() {}
}

extension ModelAutoscaler {
    /// What is worth keeping of a variant; nil where too little was learned to be of use.
    package func learned(variant: Int) -> LearnedCapacity? {
        let capability = self.states[variant].capability
        guard capability.latency.total >= Capability.samplesMin else { return nil }
        var learned = LearnedCapacity()
        learned.latency = capability.latency.counted
        learned.firstToken = capability.firstToken?.counted
        learned.latencyLimit = self.setup.objectives.latency?.limit.secondsAsDouble
        learned.firstTokenLimit = self.setup.objectives.timeToFirstToken?.limit.secondsAsDouble
        return learned
    }

    /// Begins with what an earlier run learned so long ago, as far as that has not faded since.
    /// What was learned at other objectives, or cannot be, is left.
    package mutating func recall(_ learned: LearnedCapacity, secondsAgo: Double, variant: Int) {
        let objectives = self.setup.objectives
        guard learned.latencyLimit == objectives.latency?.limit.secondsAsDouble,
            learned.firstTokenLimit == objectives.timeToFirstToken?.limit.secondsAsDouble,
            learned.latency.isSound, learned.firstToken?.isSound ?? true,
            (learned.firstToken != nil) == (objectives.timeToFirstToken != nil)
        else { return }
        let ago = secondsAgo.sane
        self.states[variant].capability.latency = LoadCurve(learned.latency, secondsAgo: ago)
        self.states[variant].capability.firstToken = learned.firstToken.map {
            LoadCurve($0, secondsAgo: ago)
        }
    }
}

extension LoadCurve {
    fileprivate var counted: LearnedCapacity.Curve {
        var curve = LearnedCapacity.Curve()
        for index in 0..<Self.binCount where self.counts[index] > 0 {
            curve.bins.append(
                LearnedCapacity.Curve.Bin(
                    index: index,
                    count: Double(self.counts[index]),
                    sum: Double(self.sums[index]),
                    good: Double(min(self.good[index], self.counts[index]))
                )
            )
        }
        for index in 0..<TimeHistogram.bucketCount where self.shape[index] > 0 {
            curve.shape.append(
                LearnedCapacity.Curve.Bucket(index: index, count: Double(self.shape[index]))
            )
        }
        return curve
    }

    fileprivate init(_ curve: LearnedCapacity.Curve, secondsAgo: Double) {
        self.init()
        for bin in curve.bins {
            self.counts[bin.index] = Float(bin.count)
            self.sums[bin.index] = Float(bin.sum)
            self.good[bin.index] = Float(bin.good)
        }
        for bucket in curve.shape { self.shape[bucket.index] = Float(bucket.count) }
        self.total = self.counts.reduce(0, +)
        // Nobody can tell what has changed meanwhile: all of it fades as what is met does.
        self.metBins = .max
        self.forget(seconds: secondsAgo)
    }
}
