/// The time of day, which only schedules and the seasonal forecast look at.
package struct WallClock: Sendable, Hashable {
    /// Since 1970, without leap seconds.
    package var secondsSince1970: Int64
    /// What the local time is ahead of UTC, daylight saving included.
    package var utcOffsetSeconds: Int

    package init(secondsSince1970: Int64, utcOffsetSeconds: Int = 0) {
        self.secondsSince1970 = secondsSince1970
        self.utcOffsetSeconds = utcOffsetSeconds
    }

    /// Seconds since 1970 as the local clock shows them.
    var localSeconds: Int64 {
        // Far outside of any calendar the sum could overflow.
        self.secondsSince1970.addingReportingOverflow(Int64(self.utcOffsetSeconds)).partialValue
    }
}
