import Core

/// The value of `grpc-timeout`: one to eight digits and a unit (`PROTOCOL-HTTP2.md`, "Requests").
package enum GRPCTimeout {
    package static let digitsMax = 8

    /// Units with the nanoseconds that each has, the finest first.
    private static let units: [(letter: UInt8, nanoseconds: UInt64)] = [
        (UInt8(ascii: "n"), 1), (UInt8(ascii: "u"), 1_000), (UInt8(ascii: "m"), 1_000_000),
        (UInt8(ascii: "S"), 1_000_000_000), (UInt8(ascii: "M"), 60_000_000_000),
        (UInt8(ascii: "H"), 3_600_000_000_000),
    ]
    private static let whole: UInt64 = 100_000_000

    /// Nanoseconds, saturating at `UInt64.max`; nil where the value is not of that form. Nothing
    /// else is taken: no sign, no space, no fraction.
    package static func parse(_ value: RawSpan) -> UInt64? {
        let count = value.byteCount
        guard count >= 2, count <= self.digitsMax + 1 else { return nil }
        let letter = value.byte(at: count - 1)
        guard let unit = self.units.first(where: { $0.letter == letter }) else { return nil }
        var number: UInt64 = 0
        for index in 0..<(count - 1) {
            let digit = value.byte(at: index) &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            number = number * 10 + UInt64(digit)
        }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit.nanoseconds)
        return overflow ? .max : product
    }

    /// Appends the value for `nanoseconds` in the finest unit that has room for it. Rounded down,
    /// so that the next server never has longer than the one before it.
    package static func write(nanoseconds: UInt64, into output: ByteBuffer) {
        for unit in self.units where nanoseconds / unit.nanoseconds < self.whole {
            output.append(decimal: nanoseconds / unit.nanoseconds)
            return output.append(byte: unit.letter)
        }
        // 2⁶⁴ ns are 5 124 095 hours: the last unit has room for all.
        preconditionFailure("a timeout of \(nanoseconds) ns")
    }
}
