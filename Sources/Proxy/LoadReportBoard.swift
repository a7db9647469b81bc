import Core
import EventLoop
import Synchronization

/// What replicas say of their load beside their answers (`endpoint-load-metrics`), the latest of
/// each: workers write it down, whoever scales reads it.
///
/// One report per second of each replica is kept; a response without the field costs nothing but
/// the look at one bit.
package final class LoadReportBoard: Sendable {
    package struct Report: Sendable, Equatable {
        /// The field's value.
        package var text: [UInt8]
        package var at: Instant
    }

    /// Replicas; those beyond are not heard.
    package static let replicasMax = 20_000
    /// Longer reports are not kept.
    package static let bytesMax = 2 << 10
    static let nanosecondsBetween: UInt64 = 1_000_000_000

    private let reports = Locked<[String: Report]>([:])
    private let counter = Atomic<UInt64>(0)

    package init() {}

    /// How many reports were written: where it has not changed there is nothing new to read.
    package var count: UInt64 { self.counter.load(ordering: .relaxed) }

    package func put(_ text: [UInt8], of replica: String, at now: Instant) {
        guard text.count <= Self.bytesMax else { return }
        self.reports.withLock { reports in
            guard reports[replica] != nil || reports.count < Self.replicasMax else { return }
            reports[replica] = Report(text: text, at: now)
        }
        self.counter.add(1, ordering: .relaxed)
    }

    /// All reports that are not older than `seconds`; older ones are forgotten.
    package func latest(notOlderThan seconds: Double, at now: Instant) -> [String: Report] {
        self.reports.withLock { reports in
            reports = reports.filter { now.seconds(since: $0.value.at) <= seconds }
            return reports
        }
    }
}

extension Endpoint {
    /// Whether a report of this replica's load is due; the next one is a second later.
    func takesLoadReport(at now: Instant) -> Bool {
        let last = self.reportedAt.load(ordering: .relaxed)
        let next = last &+ LoadReportBoard.nanosecondsBetween
        guard last == 0 || now.nanoseconds >= next else { return false }
        return self.reportedAt.compareExchange(
            expected: last,
            desired: max(1, now.nanoseconds),
            ordering: .relaxed
        ).exchanged
    }
}
