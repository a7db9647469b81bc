/// A point on the monotonic clock, in nanoseconds since an arbitrary origin (boot, on Linux).
///
/// Every decision takes one as `now`; only the event loop reads the clock.
package struct Instant: Comparable, Hashable, Sendable {
    package var nanoseconds: UInt64

    @inlinable
    package init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    package static let zero = Instant(nanoseconds: 0)
    /// Later than any time that will be reached: "never".
    package static let distantFuture = Instant(nanoseconds: .max)

    @inlinable
    package static func < (left: Instant, right: Instant) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// The nanoseconds since `earlier`, or 0 where `earlier` lies in the future.
    @inlinable
    package func nanoseconds(since earlier: Instant) -> UInt64 {
        self.nanoseconds > earlier.nanoseconds ? self.nanoseconds &- earlier.nanoseconds : 0
    }

    /// The seconds since `earlier`, or 0 where `earlier` lies in the future.
    @inlinable
    package func seconds(since earlier: Instant) -> Double {
        Double(self.nanoseconds(since: earlier)) / 1e9
    }

    /// Saturates at `distantFuture` and at zero.
    @inlinable
    package func advanced(byNanoseconds delta: Int64) -> Instant {
        if delta >= 0 {
            let (sum, overflow) = self.nanoseconds.addingReportingOverflow(UInt64(delta))
            return overflow ? .distantFuture : Instant(nanoseconds: sum)
        }
        let magnitude = delta.magnitude
        return Instant(nanoseconds: self.nanoseconds > magnitude ? self.nanoseconds - magnitude : 0)
    }

    package static func + (instant: Instant, duration: Duration) -> Instant {
        instant.advanced(byNanoseconds: duration.nanosecondsClamped)
    }

    package static func - (later: Instant, earlier: Instant) -> Duration {
        .nanoseconds(Int64(clamping: later.nanoseconds(since: earlier)))
    }
}

extension Duration {
    /// The whole duration in nanoseconds, saturating at the range of `Int64` (292 years).
    package var nanosecondsClamped: Int64 {
        let (seconds, attoseconds) = self.components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, sumOverflow) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return sumOverflow ? (seconds < 0 ? .min : .max) : sum
    }

    /// The duration in seconds, rounded to the nearest double.
    package var secondsAsDouble: Double {
        let (seconds, attoseconds) = self.components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
