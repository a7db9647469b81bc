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
    mutating func take(_ head: RequestHead, _ bytes: RawSpan, random: inout RandomSource) {
        if head.contains(.xRequestID), let field = head.first(.xRequestID),
            Self.isUsable(bytes.slice(field.valueRange))
        {
            let value = bytes.slice(field.valueRange)
            self.given = value.withUnsafeBytes { Array($0) }
            return
        }
        if !self.given.isEmpty { self.given = [] }
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

    /// Inlined, so that it is read where it is: a copy would count references.
    @inline(__always)
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
