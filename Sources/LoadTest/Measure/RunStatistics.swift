import Core

/// What part of a run counts: warm-up and cool-down lie outside.
package struct MeasuredWindow: Equatable, Sendable {
    /// Nanoseconds from the start of the run; requests scheduled from the first to before the
    /// second count.
    package var start: UInt64
    package var end: UInt64

    package init(start: UInt64, end: UInt64) {
        self.start = start
        self.end = end
    }

    func contains(_ offset: UInt64) -> Bool { offset >= self.start && offset < self.end }
}

/// One point of the plots over time.
package struct Slice: Sendable {
    /// Requests scheduled, started, ended and failed in it.
    package var scheduled: UInt64 = 0
    package var started: UInt64 = 0
    package var ended: UInt64 = 0
    package var failed: UInt64 = 0
    package var outputTokens: UInt64 = 0
    /// Of the requests scheduled in it; made when there is one.
    package var latency: LatencyHistogram?
    package var timeToFirstToken: LatencyHistogram?

    mutating func merge(_ other: Slice) {
        self.scheduled += other.scheduled
        self.started += other.started
        self.ended += other.ended
        self.failed += other.failed
        self.outputTokens += other.outputTokens
        if let latency = other.latency { self.latency.record(all: latency) }
        if let first = other.timeToFirstToken { self.timeToFirstToken.record(all: first) }
    }
}

extension LatencyHistogram? {
    mutating func record(_ nanoseconds: UInt64) {
        if self == nil { self = LatencyHistogram() }
        self?.record(nanoseconds: nanoseconds)
    }

    mutating func record(all other: LatencyHistogram) {
        if self == nil { self = LatencyHistogram() }
        self?.merge(other)
    }
}

/// The requests of one variant or one target.
package struct GroupStatistics: Sendable {
    package var total: UInt64 = 0
    package var failed: UInt64 = 0
    package var latency = LatencyHistogram()
    package var timeToFirstToken = LatencyHistogram()

    mutating func add(_ record: RequestRecord) {
        self.total += 1
        if record.outcome == .ok {
            self.latency.record(nanoseconds: record.latency)
            if let first = record.timeToFirstToken {
                self.timeToFirstToken.record(nanoseconds: first)
            }
        } else {
            self.failed += 1
        }
    }

    mutating func merge(_ other: GroupStatistics) {
        self.total += other.total
        self.failed += other.failed
        self.latency.merge(other.latency)
        self.timeToFirstToken.merge(other.timeToFirstToken)
    }
}

/// Everything that is kept of a run, or of one thread's part of it. Times of failed requests are
/// not counted in distributions: a server that refuses quickly must not look fast.
package struct RunStatistics: Sendable {
    package let window: MeasuredWindow
    /// Nanoseconds per slice.
    package let sliceWidth: UInt64
    package private(set) var latency = Distribution()
    package private(set) var serviceTime = Distribution()
    package private(set) var timeToFirstToken = Distribution()
    package private(set) var interTokenLatency = Distribution()
    package private(set) var timePerOutputToken = Distribution()
    package private(set) var connect = Distribution()
    /// Scheduling error of every request of the run, measured or not.
    package private(set) var lag = Distribution()

    /// Requests scheduled in the window that ended, and those of them that succeeded and were good.
    package private(set) var total: UInt64 = 0
    package private(set) var succeeded: UInt64 = 0
    package private(set) var good: UInt64 = 0
    /// Successes and their tokens by their *end* in the window: what throughput means.
    package private(set) var succeededInWindow: UInt64 = 0
    package private(set) var outputTokensInWindow: UInt64 = 0
    package private(set) var inputTokens: UInt64 = 0
    package private(set) var outputTokens: UInt64 = 0
    package private(set) var sentBytes: UInt64 = 0
    package private(set) var receivedBytes: UInt64 = 0
    /// Of the whole run, warm-up and cool-down with it.
    package private(set) var ended: UInt64 = 0
    package private(set) var failedOverall: UInt64 = 0
    package private(set) var started: UInt64 = 0
    /// Arrivals that found the backlog full.
    package var dropped: UInt64 = 0
    package var connections: UInt64 = 0
    /// TLS sessions among them that went on from an earlier one.
    package var resumedSessions: UInt64 = 0
    /// Requests sent again because a kept connection turned out to be closed.
    package var resent: UInt64 = 0
    /// Ended by an interruption, and counted nowhere else.
    package var abandoned: UInt64 = 0
    package private(set) var statuses: [UInt16: UInt64] = [:]
    package private(set) var outcomes: [UInt64] = Array(repeating: 0, count: Outcome.allCases.count)
    package private(set) var variants: [String: GroupStatistics] = [:]
    package private(set) var targets: [GroupStatistics]
    package private(set) var slices: [Slice] = []
    /// The last end, in nanoseconds from the start of the run.
    package private(set) var lastEnd: UInt64 = 0

    private let objectives: [Objective]
    /// Index 0 is no variant; kept per thread so that a record needs one byte.
    private var variantNames: [String] = [""]
    private var variantGroups: [GroupStatistics] = [GroupStatistics()]
    /// The status seen last, so that a run of equal ones costs no look-up.
    private var statusRun: (status: UInt16, count: UInt64) = (0, 0)

    package init(
        window: MeasuredWindow,
        objectives: [Objective],
        targetCount: Int,
        sliceWidth: UInt64
    ) {
        self.window = window
        self.objectives = objectives
        self.sliceWidth = max(1, sliceWidth)
        self.targets = Array(repeating: GroupStatistics(), count: targetCount)
    }

    // MARK: Recording

    /// The number for a variant's name; the table is bounded, and past that they share one.
    package mutating func variant(named name: String) -> UInt8 {
        if let known = self.variantNames.firstIndex(of: name) { return UInt8(known) }
        let isFull = self.variantNames.count > LoadLimits.variantsMax
        let stored = isFull ? "(other)" : name
        if isFull, let known = self.variantNames.firstIndex(of: stored) { return UInt8(known) }
        self.variantNames.append(stored)
        self.variantGroups.append(GroupStatistics())
        return UInt8(self.variantNames.count - 1)
    }

    package func variantName(_ index: UInt8) -> String { self.variantNames[Int(index)] }

    /// A request was taken up.
    package mutating func start(scheduled: UInt64, dispatched: UInt64) {
        self.started += 1
        self.lag.record(nanoseconds: dispatched &- min(scheduled, dispatched))
        self.slice(scheduled) { $0.scheduled += 1 }
        self.slice(dispatched) { $0.started += 1 }
    }

    /// A gap between two events with output, of a request scheduled at that time.
    @inline(__always)
    package mutating func outputGap(_ nanoseconds: UInt64, scheduled: UInt64) {
        guard self.window.contains(scheduled) else { return }
        self.interTokenLatency.record(nanoseconds: nanoseconds)
    }

    /// A request ended. Returns whether it was good.
    @discardableResult
    package mutating func end(_ record: RequestRecord) -> Bool {
        let isOK = record.outcome == .ok
        self.ended += 1
        self.lastEnd = max(self.lastEnd, record.end)
        if !isOK { self.failedOverall += 1 }
        self.slice(record.end) {
            $0.ended += 1
            if !isOK { $0.failed += 1 }
            $0.outputTokens += UInt64(record.outputTokens)
        }
        if isOK, self.window.contains(record.end) {
            self.succeededInWindow += 1
            self.outputTokensInWindow += UInt64(record.outputTokens)
        }
        guard self.window.contains(record.scheduled) else { return false }
        self.count(record)
        return isOK ? self.measure(record) : false
    }

    private mutating func count(_ record: RequestRecord) {
        self.total += 1
        self.outcomes[Int(record.outcome.rawValue)] += 1
        self.sentBytes += UInt64(record.sentBytes)
        self.receivedBytes += record.receivedBytes
        self.inputTokens += UInt64(record.inputTokens)
        self.outputTokens += UInt64(record.outputTokens)
        if record.status != 0 {
            if record.status != self.statusRun.status { self.flushStatus() }
            self.statusRun = (record.status, self.statusRun.count + 1)
        }
        self.targets[Int(record.target)].add(record)
        if record.variant != 0 { self.variantGroups[Int(record.variant)].add(record) }
    }

    private mutating func measure(_ record: RequestRecord) -> Bool {
        self.succeeded += 1
        self.latency.record(nanoseconds: record.latency)
        self.serviceTime.record(nanoseconds: record.serviceTime)
        if record.connect > 0 { self.connect.record(nanoseconds: record.connect) }
        if let first = record.timeToFirstToken { self.timeToFirstToken.record(nanoseconds: first) }
        if let each = record.timePerOutputToken {
            self.timePerOutputToken.record(nanoseconds: UInt64(each))
        }
        self.slice(record.scheduled) {
            $0.latency.record(record.latency)
            if let first = record.timeToFirstToken { $0.timeToFirstToken.record(first) }
        }
        let isGood = self.objectives.allSatisfy { $0.isKept(by: record) }
        if isGood { self.good += 1 }
        return isGood
    }

    private mutating func flushStatus() {
        if self.statusRun.count > 0 {
            self.statuses[self.statusRun.status, default: 0] += self.statusRun.count
        }
        self.statusRun = (0, 0)
    }

    /// The last slice takes what comes after it.
    @inline(__always)
    private mutating func slice(_ offset: UInt64, _ change: (inout Slice) -> Void) {
        let index = min(Int(offset / self.sliceWidth), LoadLimits.slicesMax - 1)
        while self.slices.count <= index { self.slices.append(Slice()) }
        change(&self.slices[index])
    }

    // MARK: Adding up

    /// Makes the tables by name complete; call before reading or merging.
    package mutating func finish() {
        self.flushStatus()
        for (index, name) in self.variantNames.enumerated() where index > 0 {
            self.variants[name] = self.variantGroups[index]
        }
    }

    /// Adds another thread's part, finished, of the same run.
    package mutating func merge(_ other: RunStatistics) {
        precondition(self.sliceWidth == other.sliceWidth && self.window == other.window)
        self.latency.merge(other.latency)
        self.serviceTime.merge(other.serviceTime)
        self.timeToFirstToken.merge(other.timeToFirstToken)
        self.interTokenLatency.merge(other.interTokenLatency)
        self.timePerOutputToken.merge(other.timePerOutputToken)
        self.connect.merge(other.connect)
        self.lag.merge(other.lag)
        self.total += other.total
        self.succeeded += other.succeeded
        self.good += other.good
        self.succeededInWindow += other.succeededInWindow
        self.outputTokensInWindow += other.outputTokensInWindow
        self.inputTokens += other.inputTokens
        self.outputTokens += other.outputTokens
        self.sentBytes += other.sentBytes
        self.receivedBytes += other.receivedBytes
        self.ended += other.ended
        self.failedOverall += other.failedOverall
        self.started += other.started
        self.dropped += other.dropped
        self.connections += other.connections
        self.resumedSessions += other.resumedSessions
        self.resent += other.resent
        self.abandoned += other.abandoned
        self.lastEnd = max(self.lastEnd, other.lastEnd)
        self.statuses.merge(other.statuses, uniquingKeysWith: +)
        for index in self.outcomes.indices { self.outcomes[index] += other.outcomes[index] }
        for (name, group) in other.variants {
            self.variants[name, default: GroupStatistics()].merge(group)
        }
        for index in self.targets.indices { self.targets[index].merge(other.targets[index]) }
        while self.slices.count < other.slices.count { self.slices.append(Slice()) }
        for index in other.slices.indices { self.slices[index].merge(other.slices[index]) }
    }

    /// Whether every request that counts was answered that it is wrong: with a status of 4xx that
    /// does not depend on the load (408, 425 and 429 do).
    package var isRefused: Bool {
        let refused = self.statuses.filter { (400..<500).contains($0.key) }
            .filter { ![408, 425, 429].contains($0.key) }
        return self.total > 0 && refused.values.reduce(0, +) == self.total
    }

    package func distribution(_ timing: Threshold.Timing) -> Distribution {
        switch timing {
        case .latency: self.latency
        case .service: self.serviceTime
        case .ttft: self.timeToFirstToken
        case .itl: self.interTokenLatency
        case .tpot: self.timePerOutputToken
        case .connect: self.connect
        case .lag: self.lag
        }
    }
}
