import Core

/// Dates as HTTP writes them (IMF-fixdate, RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37
/// GMT`.
package enum HTTPDate {
    /// Bytes of every date.
    package static let byteCount = 29
    /// The years that four digits can write, in seconds since 1970.
    package static let range: ClosedRange<Int64> = -62_167_219_200...253_402_300_799

    /// Appends the date. Times out of `range` become its nearest end.
    package static func write(secondsSince1970: Int64, into buffer: ByteBuffer) {
        let seconds = min(max(secondsSince1970, self.range.lowerBound), self.range.upperBound)
        let (day, second) = self.divide(seconds, by: 86_400)
        let date = self.civil(daysSince1970: day)
        buffer.append(self.weekday(self.divide(day + 4, by: 7).remainder))
        self.write(twoDigits: date.day, into: buffer)
        buffer.append(self.month(date.month))
        self.write(twoDigits: date.year / 100, into: buffer)
        self.write(twoDigits: date.year % 100, into: buffer)
        buffer.append(" ")
        self.write(twoDigits: second / 3600, into: buffer)
        buffer.append(":")
        self.write(twoDigits: second / 60 % 60, into: buffer)
        buffer.append(":")
        self.write(twoDigits: second % 60, into: buffer)
        buffer.append(" GMT")
    }

    /// Division that rounds down, so that times before 1970 work.
    private static func divide(
        _ value: Int64,
        by divisor: Int64
    ) -> (quotient: Int64, remainder: Int64) {
        let remainder = value % divisor
        let positive = remainder < 0 ? remainder + divisor : remainder
        return ((value - positive) / divisor, positive)
    }

    /// The Gregorian date of a day. The year is counted from 1 March, so that the leap day comes
    /// last; the months from March on then have 31, 30, 31, 30, 31 days and again, 153 in five.
    private static func civil(
        daysSince1970: Int64
    ) -> (year: Int64, month: Int64, day: Int64) {
        let daysOf400Years: Int64 = 146_097
        // 1 March 0000 is 719 468 days before 1970.
        let (era, dayOfEra) = self.divide(daysSince1970 + 719_468, by: daysOf400Years)
        let leapDays = dayOfEra / 1460 - dayOfEra / 36_524 + dayOfEra / 146_096
        let yearOfEra = (dayOfEra - leapDays) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, day)
    }

    private static func write(twoDigits value: Int64, into buffer: ByteBuffer) {
        buffer.append(byte: UInt8(0x30 + value / 10))
        buffer.append(byte: UInt8(0x30 + value % 10))
    }

    private static func weekday(_ index: Int64) -> StaticString {
        switch index {
        case 0: "Sun, "
        case 1: "Mon, "
        case 2: "Tue, "
        case 3: "Wed, "
        case 4: "Thu, "
        case 5: "Fri, "
        default: "Sat, "
        }
    }

    private static func month(_ number: Int64) -> StaticString {
        switch number {
        case 1: " Jan "
        case 2: " Feb "
        case 3: " Mar "
        case 4: " Apr "
        case 5: " May "
        case 6: " Jun "
        case 7: " Jul "
        case 8: " Aug "
        case 9: " Sep "
        case 10: " Oct "
        case 11: " Nov "
        default: " Dec "
        }
    }
}
