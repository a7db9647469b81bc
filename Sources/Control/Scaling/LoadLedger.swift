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
/// have fallen) counts from zero. Only the models that are followed are worked out, and only when
/// somebody asks: until then a report takes the place of the one before it.
///
/// Models that are followed have places, in the order in which they were given: what is kept of
/// them is in arrays by place and is changed where it stands.
package struct LoadLedger {
    /// What one source said of one model.
    private struct Word {
        /// The last, where it is not in the latest report.
        var kept: ModelStatistics?
        /// What was worked out last; nil: nothing yet, or what was said last.
        var counted: ModelStatistics?
        /// Whether what was said last is worked out.
        var isCounted = true
        /// Its place in the latest report; negative: not there.
        var index = -1
        /// Whether the report that is being taken had it already.
        var isTaken = false
    }

    /// One that reports. Its latest report is kept as a whole: to take thousands of statistics out
    /// of it one by one costs more than to work some of them out.
    private final class Source {
        var report: [ModelStatistics] = []
        /// The place of each model in the report; negative: not followed. The next report has
        /// mostly the same order.
        var order: [Int] = []
        /// By place.
        var words: [Word]
        var others: [String: ModelStatistics] = [:]

        init(places: Int) {
            self.words = Array(repeating: Word(), count: places)
        }

        /// What was said last of the model at a place.
        func latest(_ place: Int) -> ModelStatistics? {
            let index = self.words[place].index
            return index >= 0 ? self.report[index] : self.words[place].kept
        }

        /// Whether a report counts on from the one before, for all that can be seen quickly.
        /// Field by field, here and below: a call would take the whole out of its array.
        func goesOn(in next: borrowing [ModelStatistics], at index: Int, _ place: Int) -> Bool {
            let own = self.words[place].index
            if own >= 0 {
                return self.report[own].epoch == next[index].epoch
                    && self.report[own].arrivals <= next[index].arrivals
                    && self.report[own].variants.goOn(in: next[index].variants)
            }
            guard let kept = self.words[place].kept else { return true }
            return kept.epoch == next[index].epoch && kept.arrivals <= next[index].arrivals
                && kept.variants.goOn(in: next[index].variants)
        }

        /// Whether requests wait, or were given up since the report before.
        func presses(in next: borrowing [ModelStatistics], at index: Int, _ place: Int) -> Bool {
            if next[index].queue.count > 0 { return true }
            if next[index].unrouted.isEmpty { return false }
            let before = self.latest(place)?.unrouted.refused ?? 0
            return next[index].unrouted.refused > before
        }

        /// Notes that the next report has a word of the model at a place.
        func say(_ place: Int, at index: Int) {
            if self.words[place].isCounted {
                self.words[place].counted = self.latest(place)
                self.words[place].isCounted = false
            }
            self.words[place].kept = nil
            self.words[place].index = index
        }

        /// Lets go of a report once the next one is noted; what the next one leaves out is kept.
        func turn(_ next: [ModelStatistics], places: [Int]) {
            let (before, order) = (self.report, self.order)
            self.report = next
            self.order = places
            for (index, place) in order.enumerated() where place >= 0 {
                if self.words[place].isTaken { continue }
                self.words[place].kept = before[index]
                self.words[place].index = -1
            }
            for place in places where place >= 0 { self.words[place].isTaken = false }
        }
    }

    private var sources: [Int: Source] = [:]
    private var names: [String] = []
    private var places: [String: Int] = [:]
    /// By place, as is what follows.
    private var limits: [ObjectiveLimits] = []
    private var pending: [ModelDelta] = []
    private var isTouched: [Bool] = []
    /// Whether a report that is not worked out told of a queue, or of requests given up.
    private var isPressed: [Bool] = []

    package init() {}

    /// Follows these models and no others; what is known of them stays. One that was not followed
    /// before begins with what is under way: its end will be reported, its beginning was.
    package mutating func follow(_ models: [(name: String, limits: ObjectiveLimits)]) {
        // By the limits that were in force.
        for place in self.names.indices { self.workOut(place) }
        let before = self.places
        let pending = self.pending
        self.names = models.map(\.name)
        self.places = Dictionary(zip(self.names, self.names.indices)) { first, _ in first }
        self.limits = models.map(\.limits)
        self.pending = Array(repeating: ModelDelta(), count: models.count)
        self.isTouched = Array(repeating: true, count: models.count)
        self.isPressed = Array(repeating: false, count: models.count)
        for source in self.sources.values { self.move(source, before) }
        for (place, name) in self.names.enumerated() {
            if let old = before[name] {
                self.pending[place] = pending[old]
                continue
            }
            for source in self.sources.values {
                guard let model = source.words[place].kept else { continue }
                self.pending[place].addGauges([model], at: 0, before: .nothing)
            }
        }
    }

    private func move(_ source: Source, _ before: [String: Int]) {
        source.turn([], places: [])
        let old = source.words
        for (name, place) in before where self.places[name] == nil {
            if let model = old[place].kept { source.others[name] = model }
        }
        source.words = self.names.map { name in
            if let place = before[name] { return old[place] }
            return Word(kept: source.others.removeValue(forKey: name))
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
        guard let gone = self.sources[source] else { return }
        for place in gone.words.indices {
            self.workOut(place, gone)
            guard let model = gone.latest(place) else { continue }
            self.pending[place].removeGauges(model)
            self.isTouched[place] = true
        }
        self.sources[source] = nil
    }

    package mutating func take(_ load: WorkerLoad) {
        let known = self.sources[load.worker]
        let source = known ?? Source(places: self.names.count)
        if known == nil { self.sources[load.worker] = source }
        var order: [Int] = []
        order.reserveCapacity(load.models.count)
        for index in load.models.indices {
            guard let place = self.place(of: load.models[index].name, at: index, source) else {
                source.others[load.models[index].name] = load.models[index]
                order.append(-1)
                continue
            }
            // Nobody has two words in one report.
            if source.words[place].isTaken {
                order.append(-1)
                continue
            }
            order.append(place)
            self.isTouched[place] = true
            if known == nil {
                self.pending[place].addGauges(load.models, at: index, before: .nothing)
                source.words[place].index = index
            } else {
                self.take(load.models, at: index, place, source)
            }
            source.words[place].isTaken = true
        }
        source.turn(load.models, places: order)
    }

    private mutating func take(
        _ next: borrowing [ModelStatistics],
        at index: Int,
        _ place: Int,
        _ source: Source
    ) {
        if source.presses(in: next, at: index, place) { self.isPressed[place] = true }
        if source.goesOn(in: next, at: index, place) { return source.say(place, at: index) }
        // Counted at once: what comes later would hide that it began anew.
        self.workOut(place, source)
        let before = source.latest(place) ?? .nothing
        self.pending[place].add(next, at: index, before: before, self.limits[place])
        source.words[place].kept = nil
        source.words[place].index = index
    }

    /// Looks where the model's place was in the report before.
    private func place(of name: String, at index: Int, _ source: Source) -> Int? {
        if index < source.order.count {
            let place = source.order[index]
            if place >= 0, self.names[place] == name { return place }
        }
        return self.places[name]
    }

    /// What is new of a model since this was called last. What is under way now stays known.
    package mutating func delta(of model: String) -> ModelDelta {
        guard let place = self.places[model] else { return ModelDelta() }
        self.workOut(place)
        let delta = self.pending[place]
        self.settle(place)
        return delta
    }

    private mutating func workOut(_ place: Int) {
        for source in self.sources.values { self.workOut(place, source) }
    }

    private mutating func workOut(_ place: Int, _ source: Source) {
        if source.words[place].isCounted { return }
        var before: ModelStatistics?
        swap(&before, &source.words[place].counted)
        source.words[place].isCounted = true
        let limits = self.limits[place]
        let index = source.words[place].index
        if index >= 0 {
            self.pending[place].add(source.report, at: index, before: before ?? .nothing, limits)
        } else if let kept = source.words[place].kept {
            self.pending[place].add([kept], at: 0, before: before ?? .nothing, limits)
        }
    }

    // MARK: By place

    /// Whether anything was said of the model since it was settled last.
    package func isTouched(_ place: Int) -> Bool { self.isTouched[place] }

    /// Whether requests wait, or were given up, as far as was said.
    package func hasQueue(_ place: Int) -> Bool {
        self.isPressed[place] || self.pending[place].queued > 0 || self.pending[place].refused > 0
    }

    /// Calls `body` with what is new of a model since it was settled.
    package mutating func withDelta<Result>(
        _ place: Int,
        _ body: (borrowing ModelDelta) -> Result
    ) -> Result {
        self.workOut(place)
        return body(self.pending[place])
    }

    /// Begins to count anew; what is under way stays known.
    package mutating func settle(_ place: Int) {
        self.isTouched[place] = false
        self.isPressed[place] = false
        self.pending[place].forgetCounts()
    }
}

extension ModelStatistics {
    /// What was counted before anything was.
    fileprivate static let nothing = ModelStatistics(name: "")
}

extension [VariantStatistics] {
    /// Whether `later` counts on from here, for all that can be seen quickly.
    fileprivate func goOn(in later: [VariantStatistics]) -> Bool {
        guard self.count <= later.count else { return false }
        for index in self.indices {
            guard self[index].name == later[index].name,
                self[index].duration.count <= later[index].duration.count
            else { return false }
        }
        return true
    }

    /// The place of a variant, which is mostly the same in each report.
    fileprivate func place(of variant: String, near place: Int) -> Int? {
        if place < self.count, self[place].name == variant { return place }
        return self.indices.first { self[$0].name == variant }
    }
}

extension [UInt16: UInt64] {
    /// Answered by the gateway because no replica had room in time.
    fileprivate var refused: UInt64 { (self[429] ?? 0) + (self[503] ?? 0) }
}

extension ModelDelta {
    /// Adds what the word at `index` of a report has counted.
    /// - Parameter before: what the same source said last.
    mutating func add(
        _ report: borrowing [ModelStatistics],
        at index: Int,
        before: borrowing ModelStatistics,
        _ limits: ObjectiveLimits
    ) {
        self.addGauges(report, at: index, before: before)
        if before.epoch != report[index].epoch || before.arrivals > report[index].arrivals {
            // Begun anew: everything it has counted is new.
            self.addCounts(report, at: index, before: .nothing, limits)
        } else {
            self.addCounts(report, at: index, before: before, limits)
        }
    }

    private mutating func addCounts(
        _ report: borrowing [ModelStatistics],
        at index: Int,
        before: borrowing ModelStatistics,
        _ limits: ObjectiveLimits
    ) {
        self.arrivals += report[index].arrivals - before.arrivals
        self.refused += since(report[index].unrouted.refused, before.unrouted.refused)
        self.queuedSeconds += seconds(
            report[index].queue.nanoseconds,
            before.queue.nanoseconds
        )
        self.queueWait.add(report[index].queueWait, since: before.queueWait, limit: nil)
        let variants = report[index].variants
        for place in variants.indices {
            let own = self.index(of: variants[place].name)
            let earlier = before.variants.place(of: variants[place].name, near: place)
            self.variants[own].add(variants, at: place, before: before.variants, earlier, limits)
        }
    }

    /// What is under way does not begin anew with the counters.
    mutating func addGauges(
        _ report: borrowing [ModelStatistics],
        at index: Int,
        before: borrowing ModelStatistics
    ) {
        self.queued += report[index].queue.count - before.queue.count
        let variants = report[index].variants
        for place in variants.indices {
            let own = self.index(of: variants[place].name)
            self.variants[own].inFlight += variants[place].inFlight
            self.variants[own].queued += variants[place].pinnedQueue.count
            guard let earlier = before.variants.place(of: variants[place].name, near: place) else {
                continue
            }
            self.variants[own].inFlight -= before.variants[earlier].inFlight
            self.variants[own].queued -= before.variants[earlier].pinnedQueue.count
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
}

extension VariantStatistics {
    /// What was counted before anything was.
    fileprivate static let nothing = [VariantStatistics(name: "")]
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

    /// - Parameter earlier: its place in `before`; nil: it was not there.
    mutating func add(
        _ variants: borrowing [VariantStatistics],
        at index: Int,
        before: borrowing [VariantStatistics],
        _ earlier: Int?,
        _ limits: ObjectiveLimits
    ) {
        guard let earlier else {
            return self.add(variants, at: index, before: VariantStatistics.nothing, 0, limits)
        }
        self.pinned += since(variants[index].pinnedArrivals, before[earlier].pinnedArrivals)
        let answers = Answers(variants[index].requestsOK, variants[index].otherCodes)
        let answersBefore = Answers(before[earlier].requestsOK, before[earlier].otherCodes)
        self.completions += since(answers.completed, answersBefore.completed)
        // Ended and under way: what replicas were ever given.
        self.dispatched += since(
            answers.all + variants[index].mirrored
                + UInt64(clamping: variants[index].inFlight),
            answersBefore.all + before[earlier].mirrored
                + UInt64(clamping: before[earlier].inFlight)
        )
        self.inFlightSeconds += seconds(
            variants[index].inFlightNanoseconds,
            before[earlier].inFlightNanoseconds
        )
        self.queuedSeconds += seconds(
            variants[index].pinnedQueue.nanoseconds,
            before[earlier].pinnedQueue.nanoseconds
        )
        self.latency.add(
            variants[index].duration,
            since: before[earlier].duration,
            limit: limits.latency
        )
        self.timeToFirstToken.add(
            variants[index].timeToFirstToken,
            since: before[earlier].timeToFirstToken,
            limit: limits.timeToFirstToken
        )
        self.tokensIn += since(variants[index].inputTokens, before[earlier].inputTokens)
        self.tokensOut += since(variants[index].outputTokens, before[earlier].outputTokens)
    }

    private struct Answers {
        var all: UInt64 = 0
        /// To the end; a client that left did not wait for it.
        var completed: UInt64 = 0

        /// - Parameters:
        ///   - successes: answered with status 200.
        ///   - others: by their status.
        init(_ successes: UInt64, _ others: [UInt16: UInt64]) {
            self.all = successes
            self.completed = successes
            for (code, count) in others {
                self.all += count
                if code != 499 { self.completed += count }
            }
        }
    }
}

/// What is new of a counter. One that has fallen while its model's others have not is of a variant
/// that changed places with another of its name: nothing of it is known to be new.
private func since(_ now: UInt64, _ before: UInt64) -> UInt64 {
    now >= before ? now - before : 0
}

/// Counted modulo 2^64, so that the difference is right whatever wrapped around.
private func seconds(_ now: UInt64, _ before: UInt64) -> Double {
    let difference = Double(now &- before) / 1e9
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
        since earlier: LatencyHistogram,
        limit: UInt64?
    ) {
        if histogram.count == earlier.count { return }
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
