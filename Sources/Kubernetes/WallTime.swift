import Core

/// Moments of the wall clock as the API writes them (RFC 3339).
package enum WallTime {
    /// `2026-01-02T03:04:05.000006Z`, as MicroTime fields are written.
    package static func micro(_ secondsSince1970: Double) -> String {
        let total = Int((max(0, secondsSince1970) * 1e6).rounded())
        return "\(self.text(total / 1_000_000)).\(self.padded(total % 1_000_000, 6))Z"
    }

    /// `2026-01-02T03:04:05Z`, as Time fields are written.
    package static func plain(_ secondsSince1970: Double) -> String {
        self.text(Int(max(0, secondsSince1970))) + "Z"
    }

    /// Reads a time with any fraction and any offset; nil where it is none.
    package static func seconds(rfc3339 text: String) -> Double? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes.count <= 64,
            bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
            bytes[10] | 0x20 == UInt8(ascii: "t"), bytes[13] == UInt8(ascii: ":"),
            bytes[16] == UInt8(ascii: ":"),
            let year = self.digits(bytes[0..<4]), let month = self.digits(bytes[5..<7]),
            let day = self.digits(bytes[8..<10]), let hour = self.digits(bytes[11..<13]),
            let minute = self.digits(bytes[14..<16]), let second = self.digits(bytes[17..<19]),
            (1...12).contains(month), (1...self.days(month, year)).contains(day), hour < 24,
            minute < 60, second < 61
        else { return nil }
        var rest = bytes[19...]
        var fraction = 0.0
        if rest.first == UInt8(ascii: ".") {
            let digits = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
            guard !digits.isEmpty else { return nil }
            fraction = Double("0." + String(decoding: digits, as: UTF8.self)) ?? 0
            rest = rest[digits.endIndex...]
        }
        guard let offset = self.offset(Array(rest)) else { return nil }
        let time = self.daysSince1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60
        return Double(time + second - offset) + fraction
    }

    /// Seconds east of Greenwich.
    private static func offset(_ bytes: [UInt8]) -> Int? {
        if bytes.count == 1, bytes[0] | 0x20 == UInt8(ascii: "z") { return 0 }
        guard bytes.count == 6, bytes[3] == UInt8(ascii: ":"),
            bytes[0] == UInt8(ascii: "+") || bytes[0] == UInt8(ascii: "-"),
            let hours = self.digits(bytes[1..<3]), let minutes = self.digits(bytes[4..<6]),
            hours < 24, minutes < 60
        else { return nil }
        return (bytes[0] == UInt8(ascii: "+") ? 1 : -1) * (hours * 3_600 + minutes * 60)
    }

    private static func digits(_ bytes: ArraySlice<UInt8>) -> Int? {
        var value = 0
        for byte in bytes {
            guard (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        return value
    }

    private static func days(_ month: Int, _ year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Counts years from March, so that the leap day comes last.
    private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
            - 719_468
    }

    private static func text(_ seconds: Int) -> String {
        let shifted = seconds / 86_400 + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra =
            (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let fromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * fromMarch + 2) / 5 + 1
        let month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
        let year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
        let time = [seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60]
        let date = "\(self.padded(year, 4))-\(self.padded(month, 2))-\(self.padded(day, 2))"
        return date + "T" + time.map { self.padded($0, 2) }.joined(separator: ":")
    }

    private static func padded(_ value: Int, _ width: Int) -> String {
        let text = "\(value)"
        return String(repeating: "0", count: max(0, width - text.count)) + text
    }
}
