import Core

/// W3C Trace Context, `traceparent` (https://www.w3.org/TR/trace-context/, section 3.2).
package enum TraceParent {
    private static let byteCount = 55

    /// Version 00, lower-case hexadecimal, and neither identifier all zeros.
    package static func isValid(_ value: RawSpan) -> Bool {
        guard value.byteCount == self.byteCount else { return false }
        var traceID: UInt8 = 0
        var parentID: UInt8 = 0
        for index in 0..<self.byteCount {
            let byte = value.byte(at: index)
            if index == 2 || index == 35 || index == 52 {
                if byte != UInt8(ascii: "-") { return false }
                continue
            }
            guard byte &- 48 < 10 || byte &- 97 < 6 else { return false }
            if index < 2, byte != 48 { return false }
            if index > 2, index < 35 { traceID |= byte ^ 48 }
            if index > 35, index < 52 { parentID |= byte ^ 48 }
        }
        return traceID != 0 && parentID != 0
    }

    /// Writes a new trace, not sampled.
    package static func start(random: inout RandomSource, into output: ByteBuffer) {
        output.append("00-")
        output.append(paddedHexadecimal: random.next() | 1)
        output.append(paddedHexadecimal: random.next())
        output.append("-")
        output.append(paddedHexadecimal: random.next() | 1)
        output.append("-00")
    }
}
