import Core
import HTTP

/// The `x-request-id` of a request: the client's own where it is usable, else 128 random bits.
struct RequestID {
    /// A client's identifier is taken over up to this size; longer ones are replaced.
    static let bytesMax = 64

    private var inline: InlineArray<64, UInt8> = .init(repeating: 0)
    private var count = 0

    init() {}

    /// Takes the client's identifier if it is made of visible ASCII only, else makes one.
    init(_ head: RequestHead, _ bytes: RawSpan, random: inout RandomSource) {
        if let field = head.first(.xRequestID) {
            let value = bytes.slice(field.valueRange)
            if Self.isUsable(value) {
                for index in 0..<value.byteCount {
                    self.inline[index] = value.unsafeLoad(fromByteOffset: index, as: UInt8.self)
                }
                self.count = value.byteCount
                return
            }
        }
        self.append(hexadecimal: random.next())
        self.append(hexadecimal: random.next())
    }

    private static func isUsable(_ value: RawSpan) -> Bool {
        guard value.byteCount > 0, value.byteCount <= self.bytesMax else { return false }
        for index in 0..<value.byteCount {
            let byte = value.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            if byte < 0x21 || byte > 0x7E { return false }
        }
        return true
    }

    private mutating func append(hexadecimal value: UInt64) {
        for shift in stride(from: 60, through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: (value >> UInt64(shift)) & 15)
            self.inline[self.count] = digit < 10 ? 48 + digit : 87 + digit
            self.count += 1
        }
    }

    func write(into output: ByteBuffer) {
        withUnsafeBytes(of: self.inline) { output.append($0.baseAddress, count: self.count) }
    }

    func withBytes(_ body: (RawSpan) -> Void) {
        withUnsafeBytes(of: self.inline) { body($0.bytes.extracting(0..<self.count)) }
    }
}
