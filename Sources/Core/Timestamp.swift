/// Moments of the wall clock, for stamps that people read; never for a decision.
package enum Timestamp {
    /// Appends `2026-11-21T01:56:33.693Z` (RFC 3339) for nanoseconds since 1970.
    package static func append(_ nanosecondsSince1970: UInt64, to buffer: ByteBuffer) {
        let milliseconds = nanosecondsSince1970 / 1_000_000
        let seconds = milliseconds / 1_000
        let date = Self.date(daysSince1970: seconds / 86_400)
        Self.append(date.year, width: 4, to: buffer)
        buffer.append(byte: UInt8(ascii: "-"))
        Self.append(date.month, width: 2, to: buffer)
        buffer.append(byte: UInt8(ascii: "-"))
        Self.append(date.day, width: 2, to: buffer)
        buffer.append(byte: UInt8(ascii: "T"))
        Self.append(seconds / 3_600 % 24, width: 2, to: buffer)
        buffer.append(byte: UInt8(ascii: ":"))
        Self.append(seconds / 60 % 60, width: 2, to: buffer)
        buffer.append(byte: UInt8(ascii: ":"))
        Self.append(seconds % 60, width: 2, to: buffer)
        buffer.append(byte: UInt8(ascii: "."))
        Self.append(milliseconds % 1_000, width: 3, to: buffer)
        buffer.append(byte: UInt8(ascii: "Z"))
    }

    /// The Gregorian date, counting years from March so that the leap day comes last.
    private static func date(daysSince1970 days: UInt64) -> (
        year: UInt64, month: UInt64, day: UInt64
    ) {
        // 719 468 days lie between 0000-03-01 and 1970-01-01; 146 097 make 400 years.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra =
            (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        // Months from March have 30.6 days on average: 153 days in any five.
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, day)
    }

    private static func append(_ value: UInt64, width: Int, to buffer: ByteBuffer) {
        var limit: UInt64 = 10
        for _ in 1..<width {
            if value < limit { buffer.append(byte: UInt8(ascii: "0")) }
            limit *= 10
        }
        buffer.append(decimal: value)
    }
}
