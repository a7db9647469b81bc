/// Variable-length integers: 7 bits a byte, the lowest first (LEB128; DWARF 5, section 7.6).
enum Varint {
    static let bytesMax = 10

    static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// Small differences of either sign become small numbers.
    static func zigzag(_ value: Int64) -> UInt64 {
        UInt64(bitPattern: (value << 1) ^ (value >> 63))
    }

    static func unzigzag(_ value: UInt64) -> Int64 {
        Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }
}

/// Takes numbers and bytes off a block, and never more than there is.
struct VarintReader {
    private let content: [UInt8]
    private var offset = 0

    init(_ bytes: [UInt8]) {
        self.content = bytes
    }

    var isAtEnd: Bool { self.offset == self.content.count }

    func error(_ message: String) -> RecordingError {
        RecordingError("the block does not hold what it says: \(message)")
    }

    mutating func next() throws(RecordingError) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<Varint.bytesMax {
            guard self.offset < self.content.count else { throw self.error("it ends in a number") }
            let byte = self.content[self.offset]
            self.offset += 1
            // The tenth byte has room for the highest bit alone.
            if index == Varint.bytesMax - 1, byte > 1 { throw self.error("a number is too large") }
            value |= UInt64(byte & 0x7F) << UInt64(7 * index)
            if byte < 0x80 { return value }
        }
        throw self.error("a number is too long")
    }

    /// A number of at most `limit`.
    mutating func count(_ limit: Int, _ what: String) throws(RecordingError) -> Int {
        let value = try self.next()
        guard value <= UInt64(limit) else { throw self.error("\(value) \(what)") }
        return Int(value)
    }

    /// Eight bytes, the lowest first.
    mutating func fixed() throws(RecordingError) -> UInt64 {
        var value: UInt64 = 0
        for (index, byte) in try self.bytes(8).enumerated() {
            value |= UInt64(byte) << UInt64(8 * index)
        }
        return value
    }

    mutating func bytes(_ count: Int) throws(RecordingError) -> [UInt8] {
        guard count <= self.content.count - self.offset else {
            throw self.error("it ends too early")
        }
        defer { self.offset += count }
        return Array(self.content[self.offset..<self.offset + count])
    }
}
