import Core

/// The load mode of NVIDIA Dynamo's planner.
///
/// Source: ai-dynamo/dynamo, planner guide and design, and its consolidation check. Every 5 s, one
/// replica at a time, nothing while a change is under way: up when the estimated time to the first
/// token exceeds the objective, down when it stays below 0.8 of it also with the load of one
/// replica fewer. The estimate is a least-squares line of measured times over load, from 64 samples
/// in 16 buckets; Dynamo's lines are over tokens inside each engine, which a gateway does not see.
package struct DynamoLoad: ReplicaPolicy {
    package static let period = 5.0
    package static let samplesMin = 5
    private static let bucketCount = 16
    private static let perBucket = 4

    private let sla: Double
    private let sensitivity: Double
    private let bounds: ClosedRange<Int>
    private var next = 0.0
    private var sum = (first: 0.0, count: 0, load: 0.0, ticks: 0)
    /// Samples (load per replica, seconds to the first token) by load.
    private var buckets: [[(load: Double, time: Double)]] = Array(repeating: [], count: bucketCount)
    private var loadMax = 1.0

    package init(sla: Double, sensitivity: Double, bounds: ClosedRange<Int>) {
        self.sla = sla
        self.sensitivity = sensitivity
        self.bounds = bounds
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        self.sum.first += seen.firstTokenSum
        self.sum.count += seen.completions
        self.sum.load += seen.inFlightMean + seen.queuedMean
        self.sum.ticks += 1
        guard seen.seconds >= self.next else { return seen.desired }
        self.next = seen.seconds + Self.period
        defer { self.sum = (0, 0, 0, 0) }
        guard seen.ready > 0, self.sum.ticks > 0 else { return max(1, seen.desired) }
        let load = self.sum.load / Double(self.sum.ticks) / Double(seen.ready)
        if self.sum.count > 0 { self.learn(load, self.sum.first / Double(self.sum.count)) }
        if seen.ready != seen.desired { return seen.desired }
        let wanted = seen.desired + self.step(load: load, replicas: seen.ready)
        return min(max(wanted, self.bounds.lowerBound), self.bounds.upperBound)
    }

    private mutating func learn(_ load: Double, _ time: Double) {
        self.loadMax = max(self.loadMax, load)
        let share = load / self.loadMax * Double(Self.bucketCount - 1)
        let bucket = min(max(Int(share), 0), Self.bucketCount - 1)
        self.buckets[bucket].append((load, time))
        if self.buckets[bucket].count > Self.perBucket { self.buckets[bucket].removeFirst() }
    }

    private func step(load: Double, replicas: Int) -> Int {
        guard let line = self.line() else { return 0 }
        if line.at(load) > self.sla { return 1 }
        guard replicas > 1 else { return 0 }
        let consolidated = load * Double(replicas) / Double(replicas - 1)
        let limit = self.sla * self.sensitivity
        return line.at(load) < limit && line.at(consolidated) < limit ? -1 : 0
    }

    private struct Line {
        var intercept: Double
        var slope: Double

        func at(_ load: Double) -> Double { max(0, self.intercept + self.slope * load) }
    }

    private func line() -> Line? {
        let samples = self.buckets.flatMap { $0 }
        guard samples.count >= Self.samplesMin else { return nil }
        let count = Double(samples.count)
        let meanLoad = samples.reduce(0) { $0 + $1.load } / count
        let meanTime = samples.reduce(0) { $0 + $1.time } / count
        var covariance = 0.0
        var variance = 0.0
        for sample in samples {
            covariance += (sample.load - meanLoad) * (sample.time - meanTime)
            variance += (sample.load - meanLoad) * (sample.load - meanLoad)
        }
        let slope = variance > 1e-12 ? max(0, covariance / variance) : 0
        return Line(intercept: meanTime - slope * meanLoad, slope: slope)
    }

    package mutating func wake(_ seen: Observation) -> Int { max(1, seen.desired) }
}
