import Autoscaling
import Core
import Traffic

/// The ready replicas of a model.
struct ReadyReplicas: Sendable {
    /// Their IDs and loads, in the same order.
    private(set) var ids: [Int32] = []
    var loads: [Int32] = []
    let limit: Int

    init(limit: Int) {
        self.limit = limit
    }

    var count: Int { self.ids.count }

    mutating func append(_ id: Int32, load: Int32) {
        self.ids.append(id)
        self.loads.append(load)
    }

    /// Takes one out; the last one moves into its place and is returned, where it was another.
    mutating func remove(at index: Int) -> Int32? {
        let last = self.ids.removeLast()
        let load = self.loads.removeLast()
        if index == self.ids.count { return nil }
        self.ids[index] = last
        self.loads[index] = load
        return last
    }
}

/// A model in a world: what waits, what runs, what was counted.
final class ModelState {
    let setup: SimulatedModel
    /// Its place in the world, and that of the model whose requests it serves: its own, but for a
    /// variant.
    let index: Int
    let whole: Int
    /// Of a model with several variants: their places, itself first, and who gets the next request.
    var family: [Int] = []
    var picker = WeightedPicker(weights: [])
    var errors: RandomSource
    /// What a replica is worth, as the policy says.
    var worth: Double?
    /// Its share of the model's requests in percent and its floor, by a rollout; nil: none runs.
    var rolloutWeight: Int?
    var rolloutFloor = 0
    /// How many replicas its load alone asked for in the last tick.
    var recommended = 0
    var requests: RequestStream
    var buffer: [SimulatedRequest] = []
    var position = 0
    /// The time of the next arrival; `UInt64.max` at the end.
    var nextArrival: UInt64 = .max

    var ready: ReadyReplicas
    private var balancer: LeastLoaded
    private var queue: NumberedQueue
    /// Requests in the queue. Kept beside it, as every event asks.
    private(set) var queued = 0
    /// Replicas that exist, in the order of their making.
    var members: [Int32] = []
    var desired = 0
    /// Starts so far, for the draw of the next cold start.
    var ordinal: UInt64 = 0

    var inFlight = 0
    /// Replicas that hold GPUs.
    var billed = 0
    private var touched: UInt64 = 0
    private(set) var inFlightIntegral: UInt64 = 0
    private(set) var queueIntegral: UInt64 = 0
    private(set) var billedIntegral: UInt64 = 0
    /// The integrals at the last tick, and at the beginning of what counts.
    private var lastInFlight: UInt64 = 0
    private var lastQueue: UInt64 = 0
    private var lastBilled: UInt64 = 0

    /// What the current tick has counted.
    var tick: Observation
    var samples = TimeSamples()
    let takesSamples: Bool
    var billedMean = 0.0
    private var billedAtStart: UInt64 = 0
    private var point = SeriesPoint()
    var result = ModelResult()
    var firstTokens = LatencyHistogram()
    var latencies = LatencyHistogram()
    var waits = LatencyHistogram()
    /// Nanoseconds; `UInt64.max` for no objective.
    let firstTokenMax: UInt64
    let latencyMax: UInt64

    init(_ setup: SimulatedModel, index: Int, seed: UInt64, takesSamples: Bool) {
        self.setup = setup
        self.index = index
        self.whole = setup.variantOf ?? index
        self.errors = RandomSource(seed: seed &+ 0xE4404)
        self.takesSamples = takesSamples
        self.requests = setup.requests
        self.ready = ReadyReplicas(limit: setup.concurrency ?? .max)
        self.balancer = LeastLoaded(random: RandomSource(seed: seed))
        self.queue = NumberedQueue(limits: setup.queue)
        self.tick = Observation(now: .zero)
        self.firstTokenMax = setup.objective.firstToken.map { UInt64($0 * 1e9) } ?? .max
        self.latencyMax = setup.objective.latency.map { UInt64($0 * 1e9) } ?? .max
        self.result.name = setup.name
    }

    /// The place of the ready replica that the gateway's balancer would choose; nil where none has
    /// a slot.
    func pick() -> Int? {
        let choice = self.balancer.pick(loads: self.ready.loads, limit: self.ready.limit)
        guard case .free(let place) = choice else { return nil }
        return place
    }

    /// Brings the integrals up to `now`; before any change of what they are over.
    @inline(__always)
    func touch(_ now: UInt64) {
        let passed = now &- self.touched
        self.inFlightIntegral &+= passed &* UInt64(truncatingIfNeeded: self.inFlight)
        self.queueIntegral &+= passed &* UInt64(truncatingIfNeeded: self.queued)
        self.billedIntegral &+= passed &* UInt64(truncatingIfNeeded: self.billed)
        self.touched = now
    }

    // MARK: The queue

    /// Whether there was room.
    func enqueue(_ slot: Int32, deadline: Instant, now: Instant) -> Bool {
        guard self.queue.enqueue(slot, deadline: deadline, now: now) else { return false }
        self.queued += 1
        return true
    }

    /// The first in line; nil where nobody waits.
    func popFirst(now: Instant) -> Int32? {
        guard self.queued > 0, let slot = self.queue.popFirst(now: now) else { return nil }
        self.queued -= 1
        return slot
    }

    /// One whose time is over, and when it came.
    func popExpired(now: Instant) -> (slot: Int32, enqueuedAt: Instant)? {
        guard self.queued > 0, let entry = self.queue.popExpired(now: now) else { return nil }
        self.queued -= 1
        return (entry.ticket, entry.enqueuedAt)
    }

    /// How long the first in line has waited, in nanoseconds.
    func oldestWaitNanoseconds(now: Instant) -> UInt64 {
        self.queued > 0 ? self.queue.oldestWaitNanoseconds(now: now) : 0
    }

    /// Moves on to the next arrival.
    @inline(__always)
    func advanceArrivals(end: UInt64) {
        self.position &+= 1
        if self.position >= self.buffer.count { self.refill() }
        guard self.position < self.buffer.count else {
            self.nextArrival = .max
            return
        }
        let time = self.buffer[self.position].time
        self.nextArrival = time < end ? time : .max
    }

    /// Requests that are drawn at a time.
    private static let bufferCount = 1_024

    private func refill() {
        self.requests.refill(&self.buffer, count: Self.bufferCount)
        self.position = 0
    }

    func begin(end: UInt64) {
        self.position = -1
        self.advanceArrivals(end: end)
    }

    func sample(first: UInt64, latency: UInt64) {
        self.samples.firstToken.histogram.record(seconds: Double(first) * 1e-9)
        if first <= self.firstTokenMax { self.samples.firstToken.within? += 1 }
        self.samples.latency.histogram.record(seconds: Double(latency) * 1e-9)
        if latency <= self.latencyMax { self.samples.latency.within? += 1 }
    }

    // MARK: Measuring

    func beginMeasuring() {
        self.billedAtStart = self.billedIntegral
        self.result.starts = 0
        self.result.stops = 0
        self.result.takenBack = 0
        self.result.peak = self.billed
    }

    func endMeasuring() {
        self.result.replicaSeconds = Double(self.billedIntegral - self.billedAtStart) / 1e9
        self.result.gpuSeconds = self.result.replicaSeconds * Double(self.setup.gpusPerReplica)
        self.result.costSeconds = self.result.replicaSeconds * self.setup.cost
        self.counted = (self.result.starts, self.result.stops, self.result.takenBack)
    }

    /// Starts, stops and those taken back, at the end of what counts.
    private var counted: (Int, Int, Int)?

    /// Adds a tick to the plots, whose points are `bucket` seconds long.
    func addToSeries(_ tick: borrowing Observation, _ seconds: Double, bucket: Double) {
        let start = (max(0, seconds - 1) / bucket).rounded(.down) * bucket
        if self.point.ticks > 0, start > self.point.time { self.closePoint() }
        if self.point.ticks == 0 { self.point.time = start }
        self.point.ready += Double(tick.ready)
        self.point.billed += self.billedMean
        self.point.desired += Double(self.desired)
        self.point.inFlight += tick.inFlightMean
        self.point.queued += tick.queuedMean
        self.point.rate += Double(tick.arrivals)
        self.point.missed += Double(tick.completions - tick.good + tick.failures)
        self.point.ticks += 1
    }

    private func closePoint() {
        let ticks = self.point.ticks
        var mean = SeriesPoint()
        mean.time = self.point.time
        mean.ready = self.point.ready / ticks
        mean.billed = self.point.billed / ticks
        mean.desired = self.point.desired / ticks
        mean.inFlight = self.point.inFlight / ticks
        mean.queued = self.point.queued / ticks
        mean.rate = self.point.rate / ticks
        mean.missed = self.point.missed / ticks
        self.result.series.append(mean)
        self.point = SeriesPoint()
    }

    func closeSeries() {
        if self.point.ticks > 0 { self.closePoint() }
        if let counted = self.counted {
            (self.result.starts, self.result.stops, self.result.takenBack) = counted
        }
    }

    /// The means of the tick that ends now: in flight, queued, billed.
    func takeMeans(_ now: UInt64, seconds: Double) -> (Double, Double, Double) {
        self.touch(now)
        let span = max(seconds, 1e-9) * 1e9
        let means = (
            Double(self.inFlightIntegral &- self.lastInFlight) / span,
            Double(self.queueIntegral &- self.lastQueue) / span,
            Double(self.billedIntegral &- self.lastBilled) / span
        )
        self.lastInFlight = self.inFlightIntegral
        self.lastQueue = self.queueIntegral
        self.lastBilled = self.billedIntegral
        return means
    }
}

/// A replica in a world.
struct Replica: Sendable {
    enum State: UInt8, Sendable {
        case gone
        /// Without GPUs: asked for and not there yet.
        case pending
        /// With GPUs, loading.
        case starting
        case ready
        /// Finishing what it has.
        case draining
        /// Its process ends; the GPUs are still its own.
        case exiting
    }

    var model: Int32 = 0
    var state = State.gone
    var generation: UInt32 = 0
    var createdAt: UInt64 = 0
    /// When its drain began; 0 where it never did.
    var drainedAt: UInt64 = 0
    var readyAt: UInt64 = 0
    var drainDeadline: UInt64 = 0
    var inFlight: Int32 = 0
    /// Its place in `ReadyReplicas`.
    var place = -1
    /// Which start of the model it is; and how often it failed.
    var ordinal: UInt64 = 0
    var attempts: UInt64 = 0
    /// Requests GPUs that never come.
    var isHopeless = false
    var holdsGPUs = false
}

/// A request under way.
struct LiveRequest: Sendable {
    var arrival: UInt64 = 0
    var service: UInt64 = 0
    var first: UInt64 = 0
    /// When it came to its replica, and when its first token is or was there.
    var started: UInt64 = 0
    var firstAt: UInt64 = 0
    var input: UInt32 = 0
    var output: UInt32 = 0
    var generation: UInt32 = 0
    var replica: Int32 = -1
    /// Whose replica has it; while it waits, whose request it is.
    var model: Int32 = 0
    /// The generation of a rollout's shares under which it was sent.
    var plan: Int32 = 0
    var fails = false
}
