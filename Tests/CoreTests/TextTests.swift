import Testing

@testable import Core

extension ByteBuffer {
    fileprivate var text: String {
        var bytes: [UInt8] = []
        for index in 0..<self.count {
            bytes.append(self.readable.unsafeLoad(fromByteOffset: index, as: UInt8.self))
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

@Suite struct TextTests {
    private static func json(_ bytes: [UInt8]) -> String {
        let buffer = ByteBuffer(capacity: 16)
        buffer.append(jsonString: bytes)
        return buffer.text
    }

    @Test(arguments: [
        ("", "\"\""), ("plain", "\"plain\""), ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ("\n\r\t", "\"\\n\\r\\t\""), ("\u{0}\u{1F}\u{7F}", "\"\\u0000\\u001f\\u007f\""),
        ("é€😀", "\"é€😀\""), ("\"", "\"\\\"\""),
    ])
    func escapesJSON(text: String, expected: String) {
        #expect(Self.json(Array(text.utf8)) == expected)
        let buffer = ByteBuffer(capacity: 0)
        buffer.append(jsonString: text)
        #expect(buffer.text == expected)
    }

    @Test(
        arguments: [
            ([0xFF], 1), ([0xC0, 0x80], 2), ([0xE0, 0x80, 0x80], 3), ([0xED, 0xA0, 0x80], 3),
            ([0xF4, 0x90, 0x80, 0x80], 4), ([0xF5, 0x80, 0x80, 0x80], 4), ([0xC3], 1),
            ([0xE2, 0x82], 2),
            ([0xF0, 0x9F, 0x98], 3), ([0x80], 1),
        ] as [([UInt8], Int)]
    )
    func replacesWhatIsNotUTF8(bytes: [UInt8], count: Int) {
        let replaced = String(repeating: "\u{FFFD}", count: count)
        #expect(Self.json([0x61] + bytes + [0x62]) == "\"a\(replaced)b\"")
    }

    @Test func everyScalarPasses() {
        for value in [UInt32(0x80), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x1_0000, 0x10_FFFF] {
            guard let scalar = Unicode.Scalar(value) else { continue }
            #expect(Self.json(Array(String(scalar).utf8)) == "\"\(scalar)\"")
        }
    }

    @Test(arguments: [
        (UInt64(0), "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"), (951_868_799, "2000-02-29T23:59:59.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"), (1_709_164_800, "2024-02-29T00:00:00.000Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000Z"), (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        (4_107_542_399, "2100-02-28T23:59:59.000Z"),
    ])
    func writesTimestamps(seconds: UInt64, expected: String) {
        let buffer = ByteBuffer(capacity: 16)
        Timestamp.append(seconds * 1_000_000_000, to: buffer)
        #expect(buffer.text == expected)
    }

    @Test func timestampsHaveMilliseconds() {
        let buffer = ByteBuffer(capacity: 16)
        Timestamp.append(1_795_226_193_007_999_999, to: buffer)
        #expect(buffer.text == "2026-11-21T01:56:33.007Z")
    }

    /// Walks twelve hundred years day by day with a calendar of its own.
    @Test func datesFollowTheCalendar() {
        var (year, month, day) = (1970, 1, 1)
        for days in 0..<438_000 {
            if days % 97 == 0 || day == 1 || day >= 28 {
                let buffer = ByteBuffer(capacity: 32)
                // Past the year 2554 nanoseconds do not fit; the calendar repeats every 400 years.
                let nanoseconds = UInt64(days % 146_097) * 86_400_000_000_000
                Timestamp.append(nanoseconds, to: buffer)
                let cycle = year - days / 146_097 * 400
                let parts = [cycle, month, day].map { $0 < 10 ? "0\($0)" : "\($0)" }
                #expect(buffer.text == parts.joined(separator: "-") + "T00:00:00.000Z")
            }
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
            day += 1
            if day > lengths[month - 1] { (month, day) = (month + 1, 1) }
            if month > 12 { (year, month) = (year + 1, 1) }
        }
    }
}
