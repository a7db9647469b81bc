// Design note
//
// What the workers measure of a rollout. While one runs, the two variants' routes in the snapshot
// carry a `TrialArm`: an exchange that ends finds it at the route it was dispatched by, and with it
// the generation of the weights of that moment. Nothing else of the request path knows; without a
// rollout it costs one look at a nil.
//
//     Exchange ─ TrialOutcome ─▶ TrialRecorder (per worker and model) ─ TrialReport ─▶ Control
//
// A try counts for the variant it was given to. The first one of a request that was given its
// variant by chance is compared; later tries, and requests that chose their variant themselves,
// are for the guardrails alone.
//
// Limits: `TrialRecorder.cellsMax` and `valuesMax`. What does not fit between two collections is
// left out, of both arms alike.

import Core
import Rollouts
import Synchronization

/// One rollout, as all workers share it: how often the new variant has failed in a row.
package final class Trial: Sendable {
    /// Rises from rollout to rollout of a model.
    package let number: Int
    /// Whether answers are looked into: somebody asks for refusals, empty answers and the like.
    package let inspectsAnswers: Bool
    /// Whether some requests go to the old variant once more, to see how much its answers differ
    /// from each other.
    package let repeatsStable: Bool
    private let failuresMax: Int
    private let alarm: @Sendable () -> Void
    private let run = Atomic<Int>(0)
    private let worst = Atomic<Int>(0)

    /// - Parameters:
    ///   - failuresMax: failures in a row of the canary that raise the alarm; 0: none do.
    ///   - alarm: called from a worker's thread, once per run that gets so long.
    package init(
        number: Int,
        inspectsAnswers: Bool,
        repeatsStable: Bool = false,
        failuresMax: Int,
        alarm: @escaping @Sendable () -> Void
    ) {
        self.number = number
        self.inspectsAnswers = inspectsAnswers
        self.repeatsStable = repeatsStable
        self.failuresMax = failuresMax
        self.alarm = alarm
    }

    /// A try at the canary has ended. Workers meet here on failures, and on the success after one.
    func canaryAnswered(isFailure: Bool) {
        guard isFailure else {
            if self.run.load(ordering: .relaxed) != 0 { self.run.store(0, ordering: .relaxed) }
            return
        }
        let run = self.run.add(1, ordering: .relaxed).newValue
        self.worst.max(run, ordering: .relaxed)
        if run == self.failuresMax { self.alarm() }
    }

    /// The longest run of the canary's failures that reached into the time since the last call.
    package func takeLongestRun() -> Int {
        let run = self.run.load(ordering: .relaxed)
        return Swift.max(run, self.worst.exchange(run, ordering: .relaxed))
    }
}

/// A variant's part in a rollout, as long as a snapshot holds.
package struct TrialArm: Sendable {
    package let trial: Trial
    package let arm: Arm
    /// Of the traffic plan that the snapshot's weights are of.
    package let generation: Int

    package init(_ trial: Trial, _ arm: Arm, generation: Int) {
        self.trial = trial
        self.arm = arm
        self.generation = generation
    }
}

/// How one try ended.
struct TrialOutcome {
    /// Bits by the index of the `EventKind`.
    private(set) var events: UInt8 = 0
    /// Worse than the client's fault: what guardrails count.
    var isFailure = false
    /// The request was given its variant by chance, and this is its first try.
    var isCompared = true
    /// A copy: it is in no share of the requests.
    var isCopy = false
    var stratum = 0
    // Nil where there is none: only good answers have a latency.
    var latencyNanoseconds: UInt64?
    var firstTokenNanoseconds: UInt64?
    var perTokenNanoseconds: UInt64?
    var outputTokens: Int?

    mutating func insert(_ kind: EventKind) { self.events |= 1 << UInt8(kind.index) }

    func has(_ kind: EventKind) -> Bool { self.events & (1 << UInt8(kind.index)) != 0 }
}

/// What one worker measured of one model's rollout since it was asked last.
package struct TrialReport: Sendable {
    package var model: String
    /// The trial's number.
    package var trial: Int
    package var samples: [ArmSample] = []
    package var pairs = PairCounts()
    /// Everything the arms answered; the runs of failures are in `Trial`.
    package var canary = GuardrailSample()
    package var stable = GuardrailSample()
    /// Tries that were left out because there were too many between two reports.
    package var dropped = 0
}

/// Gathers outcomes between two collections. One worker's, without locks.
final class TrialRecorder {
    /// Replicas times generations times strata at a time.
    static let cellsMax = 2_048
    /// Values of all kinds together.
    static let valuesMax = 262_144

    private struct Place: Hashable {
        var arm: Arm
        var replica: ObjectIdentifier
        var generation: Int
        var stratum: Int
    }

    private struct Cell {
        /// Kept, so that its identity is nobody else's meanwhile.
        let endpoint: Endpoint
        var requests = 0
        var failures = 0
        var events = Array(repeating: 0, count: EventKind.allCases.count)
        /// Buckets of `LatencyHistogram`, by the index of the `LatencyKind`.
        var values = Array(repeating: [UInt16](), count: LatencyKind.allCases.count)
    }

    private(set) var trial: Trial
    private let model: String
    private var cells: [Place: Cell] = [:]
    private var valueCount = 0
    private var canaryLatencies: [UInt16] = []
    private var stableLatencies: [UInt16] = []
    private var report: TrialReport

    init(_ trial: Trial, model: String) {
        self.trial = trial
        self.model = model
        self.report = TrialReport(model: model, trial: trial.number)
    }

    /// Begins anew for a later rollout; what an earlier one still has under way is nobody's.
    func follow(_ trial: Trial) {
        if trial.number <= self.trial.number { return }
        self.trial = trial
        self.empty()
    }

    private func empty() {
        self.cells = [:]
        self.valueCount = 0
        self.canaryLatencies = []
        self.stableLatencies = []
        self.report = TrialReport(model: self.model, trial: self.trial.number)
    }

    // MARK: Recording

    func record(_ outcome: TrialOutcome, _ arm: TrialArm, at endpoint: Endpoint) {
        guard arm.trial === self.trial else { return }
        self.guardrails(outcome, arm)
        if !outcome.isCompared || outcome.isCopy { return }
        let place = Place(
            arm: arm.arm,
            replica: ObjectIdentifier(endpoint),
            generation: arm.generation,
            stratum: outcome.stratum
        )
        if self.valueCount >= Self.valuesMax
            || self.cells.count >= Self.cellsMax && self.cells[place] == nil
        {
            self.report.dropped += 1
            return
        }
        self.add(outcome, to: &self.cells[place, default: Cell(endpoint: endpoint)])
    }

    private func add(_ outcome: TrialOutcome, to cell: inout Cell) {
        cell.requests += 1
        cell.failures += outcome.isFailure ? 1 : 0
        for kind in EventKind.allCases where outcome.has(kind) { cell.events[kind.index] += 1 }
        self.add(.latency, outcome.latencyNanoseconds, to: &cell)
        self.add(.timeToFirstToken, outcome.firstTokenNanoseconds, to: &cell)
        self.add(.timePerOutputToken, outcome.perTokenNanoseconds, to: &cell)
        let length = outcome.outputTokens.map {
            UInt64(clamping: $0).multipliedReportingOverflow(by: LatencyKind.nanosecondsPerToken)
        }
        self.add(.outputTokens, length.map { $0.overflow ? .max : $0.partialValue }, to: &cell)
    }

    private func add(_ kind: LatencyKind, _ value: UInt64?, to cell: inout Cell) {
        guard let value else { return }
        self.valueCount += 1
        cell.values[kind.index].append(UInt16(LatencyHistogram.bucket(of: value)))
    }

    private func guardrails(_ outcome: TrialOutcome, _ arm: TrialArm) {
        // A client that left did not wait for what would have come.
        if outcome.has(.cancelled) { return }
        let bucket = outcome.latencyNanoseconds.map { UInt16(LatencyHistogram.bucket(of: $0)) }
        switch arm.arm {
        case .canary:
            arm.trial.canaryAnswered(isFailure: outcome.isFailure)
            self.report.canary.requests += 1
            self.report.canary.errors += outcome.isFailure ? 1 : 0
            if let bucket, self.canaryLatencies.count < Self.valuesMax {
                self.canaryLatencies.append(bucket)
            }
        case .stable:
            self.report.stable.requests += 1
            self.report.stable.errors += outcome.isFailure ? 1 : 0
            if let bucket, self.stableLatencies.count < Self.valuesMax {
                self.stableLatencies.append(bucket)
            }
        }
    }

    func record(_ pair: TrialPair, of trial: Trial) {
        guard trial === self.trial, let stable = pair.stable, let copy = pair.copy else { return }
        self.report.pairs.hasBaseline = trial.repeatsStable
        if pair.isBaseline {
            self.report.pairs.addBaseline(stable, copy)
        } else {
            self.report.pairs.add(stable: stable, canary: copy)
        }
    }

    // MARK: Collecting

    /// What was gathered since the last call.
    func take() -> TrialReport {
        var report = self.report
        report.samples = self.cells.map { place, cell in Self.sample(place, cell) }
        report.canary.latency = BucketCounts(buckets: self.canaryLatencies)
        report.stable.latency = BucketCounts(buckets: self.stableLatencies)
        self.empty()
        return report
    }

    private static func sample(_ place: Place, _ cell: Cell) -> ArmSample {
        var sample = ArmSample(
            arm: place.arm,
            replica: cell.endpoint.name,
            generation: place.generation,
            stratum: place.stratum,
            requests: cell.requests
        )
        sample.failures = cell.failures
        for kind in EventKind.allCases { sample[kind] = cell.events[kind.index] }
        for kind in LatencyKind.allCases where !cell.values[kind.index].isEmpty {
            sample[kind] = BucketCounts(buckets: cell.values[kind.index])
        }
        return sample
    }
}

/// The two answers to a request that was copied.
final class TrialPair {
    struct Answer {
        var isFailure: Bool
        var nanoseconds: UInt64
        /// Of what should be equal; nil where nothing can be said.
        var hash: UInt64?
    }

    /// The copy went to the old variant as well.
    let isBaseline: Bool
    var stable: Answer?
    var copy: Answer?

    init(isBaseline: Bool) { self.isBaseline = isBaseline }
}

extension PairCounts {
    /// By so much one answer must be slower than the other to count as that: buckets are as wide.
    static let tolerance = 1.03

    mutating func add(stable: TrialPair.Answer, canary: TrialPair.Answer) {
        self.compared += 1
        if canary.isFailure != stable.isFailure {
            if canary.isFailure { self.canaryBad += 1 } else { self.stableBad += 1 }
        }
        if canary.isFailure || stable.isFailure { return }
        if Double(canary.nanoseconds) > Double(stable.nanoseconds) * Self.tolerance {
            self.canarySlower += 1
        } else if Double(stable.nanoseconds) > Double(canary.nanoseconds) * Self.tolerance {
            self.stableSlower += 1
        }
        if let first = stable.hash, let second = canary.hash, first != second {
            self.different += 1
        }
    }

    /// Two answers of the old variant.
    mutating func addBaseline(_ first: TrialPair.Answer, _ second: TrialPair.Answer) {
        self.baselineCompared += 1
        if first.isFailure || second.isFailure { return }
        if let first = first.hash, let second = second.hash, first != second {
            self.baselineDifferent += 1
        }
    }
}

extension BucketCounts {
    /// Counts buckets in any order.
    init(buckets: [UInt16]) {
        var entries: [Entry] = []
        for bucket in buckets.sorted() {
            if entries.last?.bucket == bucket {
                entries[entries.count - 1].count += 1
            } else {
                entries.append(Entry(bucket: bucket, count: 1))
            }
        }
        self.init(entries)
    }
}
