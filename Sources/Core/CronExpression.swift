/// When a schedule begins: five fields (minute, hour, day of month, month, day of week), each `*`,
/// numbers, names of months and days, ranges, lists and steps, as cron(8) reads them.
///
/// Every field is the set of its values as bits. A time matches where minute, hour and month do
/// and, as in cron, *either* day field where both are restricted. Reading only; time zones and the
/// search for the next match belong to whoever schedules.
package struct CronExpression: Sendable, Hashable {
    package let text: String
    /// Bits 0 to 59.
    package let minutes: UInt64
    /// Bits 0 to 23.
    package let hours: UInt64
    /// Bits 1 to 31.
    package let daysOfMonth: UInt64
    /// Bits 1 to 12.
    package let months: UInt64
    /// Bits 0 (Sunday) to 6.
    package let daysOfWeek: UInt64
    /// Whether both day fields were given, so that either of them suffices.
    package let anyDayMatches: Bool

    /// What is wrong with a text.
    package struct Failure: Error, Equatable {
        package let message: String
    }

    package init(text: String) throws(Failure) {
        let fields = text.split { $0 == " " || $0 == "\t" }
        guard fields.count == 5 else {
            throw Failure(message: "has \(fields.count) fields instead of 5")
        }
        self.text = text
        self.minutes = try Self.bits(fields[0], Self.minuteField)
        self.hours = try Self.bits(fields[1], Self.hourField)
        self.daysOfMonth = try Self.bits(fields[2], Self.dayField)
        self.months = try Self.bits(fields[3], Self.monthField)
        let week = try Self.bits(fields[4], Self.weekField)
        // 7 is Sunday too.
        self.daysOfWeek = (week | (week >> 7)) & 0x7F
        self.anyDayMatches = !fields[2].hasPrefix("*") && !fields[4].hasPrefix("*")
    }

    private struct Field {
        let name: String
        let range: ClosedRange<Int>
        var names: [String] = []
        var firstName = 0
    }

    private static let minuteField = Field(name: "minute", range: 0...59)
    private static let hourField = Field(name: "hour", range: 0...23)
    private static let dayField = Field(name: "day of month", range: 1...31)
    private static let monthField = Field(
        name: "month",
        range: 1...12,
        names: [
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        firstName: 1
    )
    private static let weekField = Field(
        name: "day of week",
        range: 0...7,
        names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    )

    private static func bits(_ text: Substring, _ field: Field) throws(Failure) -> UInt64 {
        var bits: UInt64 = 0
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            var step = 1
            if parts.count == 2 {
                guard let value = Self.number(parts[1]), value >= 1, value <= 60 else {
                    throw Failure(message: "has a bad step `\(parts[1])` for the \(field.name)")
                }
                step = value
            }
            let range = try Self.range(parts.first ?? "", field, isStepped: parts.count == 2)
            for value in stride(from: range.lowerBound, through: range.upperBound, by: step) {
                bits |= 1 << UInt64(value)
            }
        }
        return bits
    }

    private static func range(
        _ text: Substring,
        _ field: Field,
        isStepped: Bool
    ) throws(Failure) -> ClosedRange<Int> {
        if text == "*" { return field.range }
        let ends = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        let first = try Self.value(ends.first ?? "", field)
        // `5/15` means from 5 on.
        let last =
            ends.count == 2
            ? try Self.value(ends[1], field) : (isStepped ? field.range.upperBound : first)
        guard first <= last else {
            throw Failure(message: "has the range `\(text)` backwards for the \(field.name)")
        }
        return first...last
    }

    private static func value(_ text: Substring, _ field: Field) throws(Failure) -> Int {
        if let index = field.names.firstIndex(of: text.lowercased()) {
            return index + field.firstName
        }
        guard let value = Self.number(text), field.range.contains(value) else {
            throw Failure(
                message:
                    "has `\(text)` for the \(field.name), which is \(field.range.lowerBound) to "
                    + "\(field.range.upperBound)"
            )
        }
        return value
    }

    private static func number(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.count <= 3 else { return nil }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(text)
    }
}
