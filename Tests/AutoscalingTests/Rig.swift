import Core

@testable import Autoscaling

/// One variant's autoscaler, fed tick by tick with what a test says.
struct Rig {
    var scaler: ModelAutoscaler
    var seconds = 1_000.0
    var ready: Int
    var starting = 0
    var draining = 0
    var stuck = 0
    var obstacle: Obstacle?

    init(
        _ targets: [ScalingGoal],
        minimum: Int = 0,
        maximum: Int = 100,
        ready: Int = 1,
        objectives: Objectives = Objectives(),
        coldStart: Double = 20,
        drain: Double = 10,
        edit: (inout ScalingPolicy) -> Void = { _ in }
    ) {
        var policy = ScalingPolicy(targets: targets)
        policy.forecastHorizon = .off
        policy.scaleDown.stabilization = .fixed(.zero)
        edit(&policy)
        let variant = VariantSetup(
            name: "v1",
            bounds: ScalingBounds(minimum: minimum, maximum: maximum),
            assumedColdStart: .seconds(coldStart),
            assumedDrain: .seconds(drain)
        )
        let setup = ModelSetup(
            name: "m",
            policy: policy,
            objectives: objectives,
            variants: [variant]
        )
        self.scaler = ModelAutoscaler(setup, at: Instant(nanoseconds: 1_000_000_000_000))
        self.ready = ready
    }

    var now: Instant { Instant(nanoseconds: UInt64(self.seconds * 1e9)) }

    var counts: ReplicaCounts {
        ReplicaCounts(
            ready: self.ready,
            startingAges: Array(repeating: 5, count: self.starting),
            draining: self.draining,
            stuck: self.stuck,
            obstacle: self.obstacle
        )
    }

    /// A steady load: so many in flight and queued, and arrivals in the second.
    static func sample(inFlight: Int = 0, queued: Int = 0, arrivals: Int = 0) -> GatewaySample {
        GatewaySample(
            arrivals: arrivals,
            inFlightSeconds: Double(inFlight),
            queuedSeconds: Double(queued),
            inFlight: inFlight,
            queued: queued
        )
    }

    /// A second passes.
    @discardableResult
    mutating func tick(
        _ sample: GatewaySample? = Rig.sample(),
        wallClock: WallClock? = nil,
        edit: (inout VariantObservation) -> Void = { _ in }
    ) -> VariantDecision {
        self.seconds += 1
        var observation = VariantObservation(
            seconds: 1,
            gateway: sample,
            replicas: self.counts
        )
        edit(&observation)
        self.scaler.observe(observation, variant: 0, at: self.now)
        return self.scaler.decide(at: self.now, wallClock: wallClock).variants[0]
    }

    /// Ticks for so many seconds, replicas following what is decided at once.
    @discardableResult
    mutating func run(
        _ seconds: Int,
        _ sample: GatewaySample = Rig.sample(),
        edit: (inout VariantObservation) -> Void = { _ in }
    ) -> VariantDecision {
        var last = self.tick(sample, edit: edit)
        for _ in 1..<max(2, seconds) {
            self.obey(last)
            last = self.tick(sample, edit: edit)
        }
        self.obey(last)
        return last
    }

    mutating func obey(_ decision: VariantDecision) {
        if let count = decision.replicasToSet { self.ready = count }
    }
}

/// A fleet in which every replica works on `slots` requests at a time, each taking `service`
/// seconds; the rest wait in one line. Time passes in ticks of a second.
struct Fleet {
    var slots = 8
    var service = 1.0
    var coldStart = 20.0
    var random: RandomSource
    var ready: Int
    /// Seconds until each starting replica is ready.
    var starting: [Double] = []
    var queue = 0.0
    var busy = 0.0
    var good = 0.0
    var total = 0.0
    var replicaSeconds = 0.0
    var changes = 0
    let limit: Double

    init(ready: Int, limit: Double, seed: UInt64) {
        self.ready = ready
        self.limit = limit
        self.random = RandomSource(seed: seed)
    }

    var live: Int { self.ready + self.starting.count }

    /// Arrivals in a second at a rate: about as many as independent ones, with their variance (a
    /// sum of twelve uniform numbers is nearly normal).
    mutating func arrivals(_ rate: Double) -> Int {
        var normal = -6.0
        for _ in 0..<12 { normal += self.random.nextUnit() }
        return max(0, Int((rate + normal * rate.squareRoot()).rounded()))
    }

    mutating func step(rate: Double) -> VariantObservation {
        var cold: [Double] = []
        self.starting = self.starting.compactMap { left in
            if left > 1 { return left - 1 }
            cold.append(self.coldStart)
            return nil
        }
        self.ready += cold.count
        let arrived = self.arrivals(rate)
        let perSecond = Double(self.ready * self.slots) / self.service
        self.queue += Double(arrived)
        let done = min(self.queue, perSecond)
        self.queue -= done
        self.busy = done * self.service
        let wait = perSecond > 0 ? self.queue / perSecond : 60
        let latency = self.service + wait
        var histogram = TimeHistogram()
        let completions = Int(done.rounded())
        histogram.record(seconds: latency, times: completions)
        let isGood = latency <= self.limit
        self.total += Double(completions)
        self.good += isGood ? Double(completions) : 0
        self.replicaSeconds += Double(self.live)
        let sample = GatewaySample(
            arrivals: arrived,
            completions: completions,
            inFlightSeconds: self.busy,
            queuedSeconds: self.queue,
            inFlight: Int(self.busy.rounded()),
            queued: Int(self.queue.rounded()),
            latency: TimeSample(histogram, within: isGood ? UInt64(completions) : 0)
        )
        return VariantObservation(
            seconds: 1,
            gateway: sample,
            replicas: ReplicaCounts(
                ready: self.ready,
                startingAges: self.starting.map { self.coldStart - $0 }
            ),
            coldStartSeconds: cold,
            slotsPerReplica: Double(self.slots)
        )
    }

    mutating func scale(to count: Int) {
        if count != self.live { self.changes += 1 }
        while self.live < count { self.starting.append(self.coldStart) }
        while self.live > count {
            if self.starting.isEmpty { self.ready -= 1 } else { self.starting.removeLast() }
        }
    }

    /// Lets the fleet follow the autoscaler for so many seconds.
    mutating func run(
        _ seconds: Int,
        _ scaler: inout ModelAutoscaler,
        from start: Double,
        rate: (Double) -> Double
    ) {
        for second in 1...seconds {
            let observation = self.step(rate: rate(Double(second)))
            let now = Instant(nanoseconds: UInt64((start + Double(second)) * 1e9))
            scaler.observe(observation, variant: 0, at: now)
            if let count = scaler.decide(at: now).variants[0].replicasToSet {
                self.scale(to: count)
            }
        }
    }
}
