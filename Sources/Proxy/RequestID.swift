import Core
import HTTP

/// The `x-request-id` of a request: the client's own where it is usable, else 128 random bits.
struct RequestID {
    /// A client's identifier is taken over up to this size; longer ones are replaced.
    static let bytesMax = 64

    private var high: UInt64 = 0
    private var low: UInt64 = 0
    /// The client's own; empty where it gave none, which costs nothing.
    private var given: [UInt8] = []

    init() {}

    /// Takes the client's identifier if it is made of visible ASCII only, else makes one.
    init(_ head: RequestHead, _ bytes: RawSpan, random: inout RandomSource) {
        if head.contains(.xRequestID), let field = head.first(.xRequestID),
            Self.isUsable(bytes.slice(field.valueRange))
        {
            let value = bytes.slice(field.valueRange)
            self.given = value.withUnsafeBytes { Array($0) }
            return
        }
        self.high = random.next()
        self.low = random.next()
    }

    private static func isUsable(_ value: RawSpan) -> Bool {
        guard value.byteCount > 0, value.byteCount <= self.bytesMax else { return false }
        for index in 0..<value.byteCount {
            let byte = value.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            if byte < 0x21 || byte > 0x7E { return false }
        }
        return true
    }

    func write(into output: ByteBuffer) {
        if self.given.isEmpty {
            output.append(paddedHexadecimal: self.high)
            output.append(paddedHexadecimal: self.low)
        } else {
            output.append(self.given)
        }
    }

    func withBytes(_ body: (RawSpan) -> Void) {
        let buffer = ByteBuffer(capacity: Self.bytesMax)
        self.write(into: buffer)
        body(buffer.readable)
    }
}

/// W3C Trace Context, `traceparent` (https://www.w3.org/TR/trace-context/, section 3.2).
enum TraceParent {
    private static let byteCount = 55

    /// Version 00, lower-case hexadecimal, and neither identifier all zeros.
    static func isValid(_ value: RawSpan) -> Bool {
        guard value.byteCount == self.byteCount else { return false }
        var traceID: UInt8 = 0
        var parentID: UInt8 = 0
        for index in 0..<self.byteCount {
            let byte = value.unsafeLoad(fromByteOffset: index, as: UInt8.self)
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

    /// A new trace, not sampled.
    static func start(random: inout RandomSource, into output: ByteBuffer) {
        output.append("00-")
        output.append(paddedHexadecimal: random.next() | 1)
        output.append(paddedHexadecimal: random.next())
        output.append("-")
        output.append(paddedHexadecimal: random.next() | 1)
        output.append("-00")
    }
}
