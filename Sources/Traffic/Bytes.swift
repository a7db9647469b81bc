/// Reading bytes in a span. Why there is unsafe code here: a raw span has no safe way to read a
/// byte. All loads are of integers and vectors of integers, for which every bit pattern is a value.
extension RawSpan {
    /// The byte at `offset`, which is checked against the bounds.
    @inline(__always)
    func byte(at offset: Int) -> UInt8 {
        unsafe self.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// The byte at an offset that the caller has compared with `byteCount` just before.
    @inline(__always)
    func byte(unchecked offset: Int) -> UInt8 {
        assert(offset >= 0 && offset < self.byteCount, "offset \(offset) of \(self.byteCount)")
        return unsafe self.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
    }

    /// The eight bytes at `offset`, the first one lowest; checked against the bounds.
    @inline(__always)
    func word(at offset: Int) -> UInt64 {
        UInt64(
            littleEndian: unsafe self.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
        )
    }

    /// Sixteen bytes at an offset that the caller has compared with `byteCount` just before.
    @inline(__always)
    func vector(unchecked offset: Int) -> SIMD16<UInt8> {
        assert(offset >= 0 && offset + 16 <= self.byteCount, "offset \(offset)")
        return unsafe self.unsafeLoadUnaligned(
            fromUncheckedByteOffset: offset,
            as: SIMD16<UInt8>.self
        )
    }

    /// Whether the bytes from `offset` on begin with `literal`; false where too few are left.
    @inline(__always)
    func has(_ literal: StaticString, at offset: Int) -> Bool {
        let count = literal.utf8CodeUnitCount
        guard offset >= 0, count <= self.byteCount &- offset else { return false }
        // Sound: every load ends at or before the literal's own count.
        let expected = unsafe UnsafeRawPointer(literal.utf8Start)
        if count < 8 {
            for index in 0..<count {
                let other = unsafe expected.load(fromByteOffset: index, as: UInt8.self)
                if self.byte(unchecked: offset &+ index) != other { return false }
            }
            return true
        }
        var index = 0
        while true {
            let other = unsafe expected.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            if self.word(at: offset &+ index) != UInt64(littleEndian: other) { return false }
            if index == count &- 8 { return true }
            // The last word may overlap the one before.
            index = min(index &+ 8, count &- 8)
        }
    }

    /// Whether all bytes equal `literal`.
    func isEqual(to literal: StaticString) -> Bool {
        self.byteCount == literal.utf8CodeUnitCount && self.has(literal, at: 0)
    }

    /// Whether both spans hold the same bytes.
    func isEqual(to other: RawSpan) -> Bool {
        let count = self.byteCount
        guard count == other.byteCount else { return false }
        var index = 0
        while index &+ 8 <= count {
            if self.word(at: index) != other.word(at: index) { return false }
            index &+= 8
        }
        while index < count {
            if self.byte(unchecked: index) != other.byte(unchecked: index) { return false }
            index &+= 1
        }
        return true
    }
}

/// Comparing sixteen bytes at once. A match sets all bits of its byte.
enum Lanes {
    typealias Mask = SIMDMask<SIMD16<Int8>>

    /// The comparison as two words, the first byte lowest. Sound: both types are sixteen plain
    /// bytes.
    @inline(__always)
    static func words(_ mask: Mask) -> SIMD2<UInt64> {
        unsafe unsafeBitCast(mask, to: SIMD2<UInt64>.self)
    }

    /// The index of the first match, or 16.
    @inline(__always)
    static func first(_ words: SIMD2<UInt64>) -> Int {
        if words[0] != 0 { return words[0].trailingZeroBitCount &>> 3 }
        if words[1] != 0 { return 8 &+ words[1].trailingZeroBitCount &>> 3 }
        return 16
    }

    @inline(__always)
    static func equal(_ vector: SIMD16<UInt8>, _ byte: UInt8) -> SIMD2<UInt64> {
        Self.words(vector .== SIMD16(repeating: byte))
    }
}

/// At most `capacity` bytes held in place: a model's name as a request gives it.
package struct NameBuffer: Sendable {
    package static let capacity = 256

    package private(set) var count = 0
    private var storage = InlineArray<256, UInt8>(repeating: 0)

    package init() {}

    /// The bytes of `name`, or nil where they are more than `capacity`.
    package init?(_ name: RawSpan) {
        guard name.byteCount <= Self.capacity else { return nil }
        for index in name.byteOffsets { _ = self.append(name.byte(at: index)) }
    }

    /// The bytes of a URL's path with percent escapes decoded once (RFC 3986, section 2.1), or nil
    /// where an escape is malformed or the result longer than `capacity`.
    package init?(percentEncoded name: RawSpan) {
        var index = 0
        while index < name.byteCount {
            var byte = name.byte(at: index)
            if byte == UInt8(ascii: "%") {
                guard index + 2 < name.byteCount,
                    let high = Self.hexValue(name.byte(at: index + 1)),
                    let low = Self.hexValue(name.byte(at: index + 2))
                else { return nil }
                byte = high << 4 | low
                index += 2
            }
            guard self.append(byte) else { return nil }
            index += 1
        }
    }

    package var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            // Sound: the span borrows this value and is cut to the bytes that were written.
            let span = unsafe self.storage.span.bytes.extracting(0..<self.count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// False where there is no room.
    mutating func append(_ byte: UInt8) -> Bool {
        guard self.count < Self.capacity else { return false }
        self.storage[self.count] = byte
        self.count &+= 1
        return true
    }

    mutating func removeAll() { self.count = 0 }

    /// The value of a hexadecimal digit of either case.
    @inline(__always)
    static func hexValue(_ byte: UInt8) -> UInt8? {
        if byte &- 0x30 < 10 { return byte &- 0x30 }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter &+ 10 : nil
    }
}
