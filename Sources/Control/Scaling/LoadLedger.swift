import Autoscaling
import Core
import Proxy

/// What happened to one model since somebody asked last, over all sources.
package struct ModelDelta: Sendable {
    package var arrivals: UInt64 = 0
    /// Given up for want of capacity: the queue was full, or its time over.
    package var refused: UInt64 = 0
    /// Of requests that any variant may serve.
    package var queuedSeconds = 0.0
    package var queued = 0
    package var queueWait = TimeSample()
    package var variants: [VariantDelta] = []

    package init() {}
}

package struct VariantDelta: Sendable {
    package var name: String
    /// Requests that may go to this variant only, those refused included.
    package var pinned: UInt64 = 0
    /// Requests that were given to a replica, pinned ones included.
    package var dispatched: UInt64 = 0
    package var completions: UInt64 = 0
    package var inFlightSeconds = 0.0
    package var inFlight = 0
    /// Of the pinned ones.
    package var queuedSeconds = 0.0
    package var queued = 0
    package var latency = TimeSample()
    package var timeToFirstToken = TimeSample()
    package var tokensIn: UInt64 = 0
    package var tokensOut: UInt64 = 0

    package init(name: String) {
        self.name = name
    }
}

/// The limits at which a model's times are counted exactly.
package struct ObjectiveLimits: Sendable, Equatable {
    var latency: UInt64?
    var timeToFirstToken: UInt64?

    package init(_ objectives: Objectives = Objectives()) {
        self.latency = objectives.latency.map { UInt64(clamping: $0.limit.nanosecondsClamped) }
        self.timeToFirstToken = objectives.timeToFirstToken.map {
            UInt64(clamping: $0.limit.nanosecondsClamped)
        }
    }
}

/// Turns cumulative counters of several sources (workers, and gateways elsewhere) into what is new.
///
/// A report that comes late or not at all loses nothing: the next one has counted on. A source's
/// first report is where counting starts; a model that begins anew (another epoch, or counters that
/// have fallen) counts from zero. Only the models that are followed are worked out.
///
/// Models that are followed have places, in the order in which they were given: what is kept of
/// them is in arrays by place and is changed where it stands.
package struct LoadLedger {
    /// What one source said last.
    private final class Source {
        /// By place; nil: nothing yet.
        var followed: [ModelStatistics?]
        var others: [String: ModelStatistics] = [:]

        init(places: Int) {
            self.followed = Array(repeating: nil, count: places)
        }
    }

    private var sources: [Int: Source] = [:]
    private var names: [String] = []
    private var places: [String: Int] = [:]
    /// By place, as is what follows.
    private var limits: [ObjectiveLimits] = []
    private var pending: [ModelDelta] = []
    private var isTouched: [Bool] = []

    package init() {}

    /// Follows these models and no others; what is known of them stays. One that was not followed
    /// before begins with what is under way: its end will be reported, its beginning was.
    package mutating func follow(_ models: [(name: String, limits: ObjectiveLimits)]) {
        let before = self.places
        let pending = self.pending
        self.names = models.map(\.name)
        self.places = Dictionary(zip(self.names, self.names.indices)) { first, _ in first }
        self.limits = models.map(\.limits)
        self.pending = Array(repeating: ModelDelta(), count: models.count)
        self.isTouched = Array(repeating: true, count: models.count)
        for source in self.sources.values { self.move(source, before) }
        for (place, name) in self.names.enumerated() {
            if let old = before[name] {
                self.pending[place] = pending[old]
                continue
            }
            for source in self.sources.values {
                guard let model = source.followed[place] else { continue }
                self.pending[place].addGauges(model, before: nil)
            }
        }
    }

    private func move(_ source: Source, _ before: [String: Int]) {
        let old = source.followed
        for (name, place) in before where self.places[name] == nil {
            if let model = old[place] { source.others[name] = model }
        }
        source.followed = self.names.map { name in
            before[name].map { old[$0] } ?? source.others.removeValue(forKey: name)
        }
    }

    /// Forgets models that exist no more.
    package mutating func forget(except names: (String) -> Bool) {
        for source in self.sources.values {
            source.others = source.others.filter { names($0.key) }
        }
    }

    /// A source is gone, and with it what was under way there.
    package mutating func forget(source: Int) {
        guard let gone = self.sources.removeValue(forKey: source) else { return }
        for (place, model) in gone.followed.enumerated() {
            guard let model else { continue }
            self.pending[place].removeGauges(model)
            self.isTouched[place] = true
        }
    }

    package mutating func take(_ load: WorkerLoad) {
        let known = self.sources[load.worker]
        let source = known ?? Source(places: self.names.count)
        if known == nil { self.sources[load.worker] = source }
        for model in load.models {
            guard let place = self.places[model.name] else {
                source.others[model.name] = model
                continue
            }
            self.isTouched[place] = true
            if known == nil {
                self.pending[place].addGauges(model, before: nil)
            } else {
                self.pending[place].add(
                    model,
                    before: source.followed[place],
                    self.limits[place]
                )
            }
            source.followed[place] = model
        }
    }

    /// What is new of a model since this was called last. What is under way now stays known.
    package mutating func delta(of model: String) -> ModelDelta {
        guard let place = self.places[model] else { return ModelDelta() }
        let delta = self.pending[place]
        self.settle(place)
        return delta
    }

    // MARK: By place

    /// Whether anything was said of the model since it was settled last.
    package func isTouched(_ place: Int) -> Bool { self.isTouched[place] }

    /// Whether requests wait, or were given up, as far as was said.
    package func hasQueue(_ place: Int) -> Bool {
        self.pending[place].queued > 0 || self.pending[place].refused > 0
    }

    /// Calls `body` with what is new of a model since it was settled.
    package func withDelta<Result>(
        _ place: Int,
        _ body: (borrowing ModelDelta) -> Result
    ) -> Result {
        body(self.pending[place])
    }

    /// Begins to count anew; what is under way stays known.
    package mutating func settle(_ place: Int) {
        self.isTouched[place] = false
        self.pending[place].forgetCounts()
    }
}

extension ModelDelta {
    /// - Parameter before: what the same source said last.
    mutating func add(
        _ now: ModelStatistics,
        before: ModelStatistics?,
        _ limits: ObjectiveLimits
    ) {
        self.addGauges(now, before: before)
        // Begun anew: everything it has counted is new.
        var before = before
        if let known = before, known.epoch != now.epoch || known.arrivals > now.arrivals {
            before = nil
        }
        self.arrivals += now.arrivals - (before?.arrivals ?? 0)
        self.refused += since(Self.refused(now), before.map(Self.refused))
        self.queuedSeconds += seconds(now.queue.nanoseconds, before?.queue.nanoseconds)
        self.queueWait.add(now.queueWait, since: before?.queueWait, limit: nil)
        for variant in now.variants {
            let earlier = before?.variants.first { $0.name == variant.name }
            let index = self.index(of: variant.name)
            self.variants[index].add(variant, before: earlier, limits)
        }
    }

    /// What is under way does not begin anew with the counters.
    mutating func addGauges(_ now: ModelStatistics, before: ModelStatistics?) {
        self.queued += now.queue.count - (before?.queue.count ?? 0)
        for variant in now.variants {
            let earlier = before?.variants.first { $0.name == variant.name }
            let index = self.index(of: variant.name)
            self.variants[index].inFlight += variant.inFlight - (earlier?.inFlight ?? 0)
            self.variants[index].queued +=
                variant.pinnedQueue.count - (earlier?.pinnedQueue.count ?? 0)
        }
    }

    /// What was under way at a source that is gone.
    mutating func removeGauges(_ last: ModelStatistics) {
        self.queued -= last.queue.count
        for variant in last.variants {
            let index = self.index(of: variant.name)
            self.variants[index].inFlight -= variant.inFlight
            self.variants[index].queued -= variant.pinnedQueue.count
        }
    }

    mutating func forgetCounts() {
        self.arrivals = 0
        self.refused = 0
        self.queuedSeconds = 0
        self.queueWait.clear()
        for index in self.variants.indices { self.variants[index].forgetCounts() }
    }

    private mutating func index(of name: String) -> Int {
        if let index = self.variants.firstIndex(where: { $0.name == name }) { return index }
        self.variants.append(VariantDelta(name: name))
        return self.variants.count - 1
    }

    /// Answered by the gateway because no replica had room in time.
    private static func refused(_ model: ModelStatistics) -> UInt64 {
        (model.unrouted[429] ?? 0) + (model.unrouted[503] ?? 0)
    }
}

extension VariantDelta {
    mutating func forgetCounts() {
        self.pinned = 0
        self.dispatched = 0
        self.completions = 0
        self.inFlightSeconds = 0
        self.queuedSeconds = 0
        self.latency.clear()
        self.timeToFirstToken.clear()
        self.tokensIn = 0
        self.tokensOut = 0
    }

    mutating func add(
        _ now: VariantStatistics,
        before: VariantStatistics?,
        _ limits: ObjectiveLimits
    ) {
        self.pinned += since(now.pinnedArrivals, before?.pinnedArrivals)
        self.completions += since(Self.completions(now), before.map(Self.completions))
        self.dispatched += since(Self.dispatched(now), before.map(Self.dispatched))
        self.inFlightSeconds += seconds(now.inFlightNanoseconds, before?.inFlightNanoseconds)
        self.queuedSeconds += seconds(
            now.pinnedQueue.nanoseconds,
            before?.pinnedQueue.nanoseconds
        )
        self.latency.add(now.duration, since: before?.duration, limit: limits.latency)
        self.timeToFirstToken.add(
            now.timeToFirstToken,
            since: before?.timeToFirstToken,
            limit: limits.timeToFirstToken
        )
        self.tokensIn += since(now.inputTokens, before?.inputTokens)
        self.tokensOut += since(now.outputTokens, before?.outputTokens)
    }

    /// Answered to the end; a client that left did not wait for it.
    private static func completions(_ variant: VariantStatistics) -> UInt64 {
        variant.requestsByCode.reduce(0) { $1.key == 499 ? $0 : $0 + $1.value }
    }

    /// Ended and under way: what replicas were ever given.
    private static func dispatched(_ variant: VariantStatistics) -> UInt64 {
        variant.requestsByCode.values.reduce(0, +) + variant.mirrored
            + UInt64(clamping: variant.inFlight)
    }
}

/// What is new of a counter. One that has fallen while its model's others have not is of a variant
/// that changed places with another of its name: nothing of it is known to be new.
private func since(_ now: UInt64, _ before: UInt64?) -> UInt64 {
    guard let before, before <= now else { return before == nil ? now : 0 }
    return now - before
}

/// Counted modulo 2^64, so that the difference is right whatever wrapped around.
private func seconds(_ now: UInt64, _ before: UInt64?) -> Double {
    let difference = Double(now &- (before ?? 0)) / 1e9
    // A century of request-seconds within one report is none: counters that do not belong together.
    return difference < 3.2e9 ? difference : 0
}

extension TimeSample {
    /// Without copying what is empty already.
    mutating func clear() {
        if self.count > 0 { self = TimeSample() }
        self.within = nil
    }

    /// Adds what was recorded since `earlier`; `limit` is in nanoseconds.
    mutating func add(
        _ histogram: LatencyHistogram,
        since earlier: LatencyHistogram?,
        limit: UInt64?
    ) {
        if histogram.count == earlier?.count ?? 0 { return }
        var within: UInt64 = 0
        var recorded = TimeHistogram()
        histogram.forEachBucket(since: earlier) { nanoseconds, times in
            recorded.record(seconds: Double(nanoseconds) / 1e9, times: Int(clamping: times))
            if let limit, nanoseconds <= limit { within += times }
        }
        if recorded.isEmpty { return }
        self.merge(TimeSample(recorded, within: limit == nil ? nil : within))
    }
}
