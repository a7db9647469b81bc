/// A point on the monotonic clock, in nanoseconds since an arbitrary origin (boot, on Linux).
///
/// Every decision takes one as `now`; only the event loop reads the clock.
///
/// Public only because the compiler inlines no method of a `package` type into another module.
public struct Instant: Comparable, Hashable, Sendable {
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    @inlinable
    public static var zero: Instant { Instant(nanoseconds: 0) }
    /// Later than any time that will be reached: "never".
    @inlinable
    public static var distantFuture: Instant { Instant(nanoseconds: .max) }

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// The nanoseconds since `earlier`, or 0 where `earlier` lies in the future.
    @inlinable
    public func nanoseconds(since earlier: Instant) -> UInt64 {
        self.nanoseconds > earlier.nanoseconds ? self.nanoseconds &- earlier.nanoseconds : 0
    }

    /// The seconds since `earlier`, or 0 where `earlier` lies in the future.
    @inlinable
    public func seconds(since earlier: Instant) -> Double {
        Double(self.nanoseconds(since: earlier)) / 1e9
    }

    /// Saturates at `distantFuture` and at zero.
    @inlinable
    public func advanced(byNanoseconds delta: Int64) -> Instant {
        if delta >= 0 {
            let (sum, overflow) = self.nanoseconds.addingReportingOverflow(UInt64(delta))
            return overflow ? .distantFuture : Instant(nanoseconds: sum)
        }
        let magnitude = delta.magnitude
        return Instant(nanoseconds: self.nanoseconds > magnitude ? self.nanoseconds - magnitude : 0)
    }

    @inlinable
    public static func + (instant: Instant, duration: Duration) -> Instant {
        instant.advanced(byNanoseconds: duration.nanosecondsClamped)
    }

    @inlinable
    public static func - (later: Instant, earlier: Instant) -> Duration {
        .nanoseconds(Int64(clamping: later.nanoseconds(since: earlier)))
    }
}

/// A length of time as the request path adds it to an instant: converted once from the `Duration`
/// that it is configured as, whose 128 bits are slow to take apart.
public struct Interval: Hashable, Sendable {
    @usableFromInline let nanoseconds: Int64

    package init(_ duration: Duration) {
        self.nanoseconds = duration.nanosecondsClamped
    }

    @inlinable
    public static func + (instant: Instant, interval: Interval) -> Instant {
        instant.advanced(byNanoseconds: interval.nanoseconds)
    }
}

extension Duration {
    /// The whole duration in nanoseconds, saturating at the range of `Int64` (292 years).
    public var nanosecondsClamped: Int64 {
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
