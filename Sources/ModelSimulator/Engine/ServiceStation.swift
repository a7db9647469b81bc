import Core

/// How long one request is in service where there is no batching to model.
package enum ServiceTime: Hashable, Sendable {
    case fixed(Duration)
    /// Log-normal: half of the requests take longer than `median`; `sigma` 0.5 is a usual spread.
    case logNormal(median: Duration, sigma: Double)

    fileprivate func sample(_ random: inout RandomSource) -> Int64 {
        switch self {
        case .fixed(let duration):
            return max(0, duration.nanosecondsClamped)
        case .logNormal(let median, let sigma):
            let nanoseconds =
                Double(max(0, median.nanosecondsClamped)) * random.nextLogNormal(sigma: sigma)
            return Int64(min(nanoseconds.rounded(), 86_400e9))
        }
    }
}

/// A queue before some identical servers, as a value: a classifier with a few worker threads.
///
/// First come, first served. Time is a parameter; the same seed and calls give the same events.
/// Limits: `servers` at a time, `waitingMax` in the queue.
package struct ServiceStation: Sendable {
    package let serviceTime: ServiceTime
    package let servers: Int
    package let waitingMax: Int
    /// Multiplies service times that start from now on.
    package var slowdown: Double = 1
    package private(set) var totals = EngineTotals()
    private var inService: [(id: SequenceID, end: Instant)] = []
    private var waiting: [(id: SequenceID, arrival: Instant)] = []
    private var random: RandomSource

    package init(serviceTime: ServiceTime, servers: Int, waitingMax: Int, seed: UInt64) {
        precondition(servers >= 1, "\(servers) servers")
        precondition(waitingMax >= 0, "a queue of \(waitingMax)")
        self.serviceTime = serviceTime
        self.servers = servers
        self.waitingMax = waitingMax
        self.random = RandomSource(seed: seed)
    }

    package var runningCount: Int { self.inService.count }
    package var waitingCount: Int { self.waiting.count }

    /// The next completion; nil while nothing is in service.
    package var nextEventTime: Instant? { self.inService.map(\.end).min() }

    /// Starts the request or queues it. Bring the station up to `now` first.
    package mutating func submit(_ id: SequenceID, now: Instant) -> OnSubmit {
        let isLive =
            self.inService.contains { $0.id == id } || self.waiting.contains { $0.id == id }
        if isLive { return self.reject(.duplicate) }
        if self.inService.count < self.servers {
            self.start(id, at: now)
        } else if self.waiting.count < self.waitingMax {
            self.waiting.append((id, now))
        } else {
            return self.reject(.queueFull)
        }
        self.totals.accepted += 1
        return .accepted
    }

    /// Takes the request out; a server that had it turns to the next one at `now`.
    @discardableResult
    package mutating func cancel(_ id: SequenceID, now: Instant) -> Bool {
        if let index = self.waiting.firstIndex(where: { $0.id == id }) {
            self.waiting.remove(at: index)
        } else if let index = self.inService.firstIndex(where: { $0.id == id }) {
            self.inService.remove(at: index)
            self.startNext(at: now)
        } else {
            return false
        }
        self.totals.cancelled += 1
        return true
    }

    /// Plays everything up to and including `now`: one `finished` per completion, in order.
    package mutating func advance(to now: Instant) -> [EngineEvent] {
        var events: [EngineEvent] = []
        while let index = self.indexOfNext, self.inService[index].end <= now {
            let (id, end) = self.inService.remove(at: index)
            events.append(EngineEvent(at: end, id: id, kind: .finished))
            self.totals.finished += 1
            self.startNext(at: end)
        }
        return events
    }

    private var indexOfNext: Int? {
        self.inService.indices.min { self.inService[$0].end < self.inService[$1].end }
    }

    private mutating func startNext(at time: Instant) {
        if self.waiting.isEmpty { return }
        self.start(self.waiting.removeFirst().id, at: time)
    }

    private mutating func start(_ id: SequenceID, at time: Instant) {
        assert(self.inService.count < self.servers, "more in service than servers")
        let sample = Double(self.serviceTime.sample(&self.random)) * self.slowdown
        let nanoseconds = Int64(min(max(0, sample.rounded()), 86_400e9))
        self.totals.steps += 1
        self.totals.busyNanoseconds &+= UInt64(nanoseconds)
        self.inService.append((id, time.advanced(byNanoseconds: nanoseconds)))
    }

    private mutating func reject(_ reason: RejectReason) -> OnSubmit {
        self.totals.rejected += 1
        return .rejected(reason)
    }
}
