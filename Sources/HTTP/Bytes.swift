/// A run of bytes inside a head, as offsets from the head's first byte.
package struct ByteRange: Equatable, Sendable {
    /// Offset of the first byte.
    package var start: UInt32
    /// Number of bytes; 0 for an empty run.
    package var count: UInt32

    package init(start: UInt32, count: UInt32) {
        self.start = start
        self.count = count
    }

    @inline(__always)
    init(_ start: Int, _ end: Int) {
        self.start = UInt32(truncatingIfNeeded: start)
        self.count = UInt32(truncatingIfNeeded: end &- start)
    }

    /// Offset just behind the last byte.
    package var end: UInt32 { self.start &+ self.count }
    package var isEmpty: Bool { self.count == 0 }

    @inline(__always) var lower: Int { Int(self.start) }
    @inline(__always) var upper: Int { Int(self.start &+ self.count) }

    /// The same run for APIs that take offsets as `Int`.
    package var indices: Range<Int> { self.lower..<self.upper }
}

/// Names for the bytes that HTTP's grammar is made of.
enum ASCII {
    static let tab: UInt8 = 0x09
    static let lineFeed: UInt8 = 0x0A
    static let carriageReturn: UInt8 = 0x0D
    static let space: UInt8 = 0x20
    static let colon: UInt8 = 0x3A
    static let comma: UInt8 = 0x2C
    static let delete: UInt8 = 0x7F

    /// tchar of RFC 9110, section 5.6.2. Two masks and a shift instead of a table: no memory, no
    /// lazily initialised global.
    @inline(__always)
    static func isToken(_ byte: UInt8) -> Bool {
        // ! # $ % & ' * + - . 0-9   and   A-Z ^ _ ` a-z | ~
        let low: UInt64 = 0x03FF_6CFA_0000_0000
        let high: UInt64 = 0x57FF_FFFF_C7FF_FFFE
        let mask = byte < 64 ? low : high
        return byte < 128 && (mask &>> UInt64(byte & 63)) & 1 == 1
    }

    @inline(__always)
    static func isWhitespace(_ byte: UInt8) -> Bool { byte == space || byte == tab }

    /// field-vchar, obs-text, SP or HTAB (RFC 9110, section 5.5).
    @inline(__always)
    static func isFieldContent(_ byte: UInt8) -> Bool {
        (byte >= 0x20 && byte != delete) || byte == tab
    }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    /// The value of a hexadecimal digit of either case.
    @inline(__always)
    static func hexValue(_ byte: UInt8) -> UInt8? {
        if byte &- 0x30 < 10 { return byte &- 0x30 }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter &+ 10 : nil
    }
}

/// Looking at eight bytes at once. Each function sets the top bit of some bytes of a word; the
/// lowest one set is exact, bits above it may be false alarms caused by its borrow.
enum Word {
    static let ones: UInt64 = 0x0101_0101_0101_0101
    static let tops: UInt64 = 0x8080_8080_8080_8080

    /// Bytes below `limit`, which is at most 128.
    @inline(__always)
    static func below(_ limit: UInt8, _ word: UInt64) -> UInt64 {
        (word &- ones &* UInt64(limit)) & ~word & tops
    }

    /// The word with `A` to `Z` in lower case, every other byte as it was.
    @inline(__always)
    static func lowercased(_ word: UInt64) -> UInt64 {
        let low = word & ~tops
        let fromA = low &+ ones &* UInt64(0x80 - 0x41)
        let aboveZ = low &+ ones &* UInt64(0x80 - 0x5B)
        return word | (fromA & ~aboveZ & ~word & tops) &>> 2
    }

    @inline(__always)
    static func equal(_ byte: UInt8, _ word: UInt64) -> UInt64 {
        let difference = word ^ (ones &* UInt64(byte))
        return (difference &- ones) & ~difference & tops
    }
}

/// Looking at sixteen bytes at once. The types are written out because the compiler makes sixteen
/// scalar operations of the overloads that take a scalar.
enum Block {
    typealias Mask = SIMDMask<SIMD16<Int8>>

    @inline(__always)
    static func below(_ limit: UInt8, _ block: SIMD16<UInt8>) -> Mask {
        block .< SIMD16<UInt8>(repeating: limit)
    }

    @inline(__always)
    static func above(_ limit: UInt8, _ block: SIMD16<UInt8>) -> Mask {
        block .> SIMD16<UInt8>(repeating: limit)
    }

    @inline(__always)
    static func equal(_ byte: UInt8, _ block: SIMD16<UInt8>) -> Mask {
        block .== SIMD16<UInt8>(repeating: byte)
    }

    /// The index of the first match, or 16.
    @inline(__always)
    static func first(_ matches: Mask) -> Int {
        // Sound: both types are sixteen plain bytes, and a match sets all bits of its byte.
        let words = unsafe unsafeBitCast(matches, to: SIMD2<UInt64>.self)
        if words[0] != 0 { return words[0].littleEndian.trailingZeroBitCount &>> 3 }
        if words[1] != 0 { return 8 &+ words[1].littleEndian.trailingZeroBitCount &>> 3 }
        return 16
    }
}

extension RawSpan {
    // Why there is unsafe code in this extension: a raw span has no other way to read a byte. The
    // loads below are of integers, for which every bit pattern is a value, and they check bounds.

    @inline(__always)
    func byte(at offset: Int) -> UInt8 {
        unsafe self.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// The eight bytes at `offset`, the first one lowest.
    @inline(__always)
    func word(at offset: Int) -> UInt64 {
        UInt64(
            littleEndian: unsafe self.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
        )
    }

    /// The sixteen bytes at `offset`.
    @inline(__always)
    func block(at offset: Int) -> SIMD16<UInt8> {
        unsafe self.unsafeLoadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self)
    }

    /// The bytes of `range`.
    @_lifetime(copy self)
    package func slice(_ range: ByteRange) -> RawSpan {
        self.extracting(range.indices)
    }

    /// Whether all bytes equal `literal`, which is ASCII, letter case counting.
    package func equals(_ literal: StaticString) -> Bool {
        self.equals(literal, ByteRange(0, self.byteCount))
    }

    /// Whether the bytes of `range` equal `literal`, which is ASCII, letter case counting.
    package func equals(_ literal: StaticString, _ range: ByteRange) -> Bool {
        let start = range.lower
        let count = Int(range.count)
        guard count == literal.utf8CodeUnitCount else { return false }
        // Sound: every load below ends at or before the literal's own count.
        let expected = unsafe UnsafeRawPointer(literal.utf8Start)
        if count < 8 {
            for offset in 0..<count {
                let other = unsafe expected.load(fromByteOffset: offset, as: UInt8.self)
                if self.byte(at: start &+ offset) != other { return false }
            }
            return true
        }
        var offset = 0
        while true {
            let other = unsafe expected.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if self.word(at: start &+ offset) != UInt64(littleEndian: other) { return false }
            if offset == count &- 8 { return true }
            // The last word may overlap the one before.
            offset = min(offset &+ 8, count &- 8)
        }
    }

    /// Whether the bytes of `range` equal `literal` but for the case of letters. `literal` is lower
    /// case: letters, digits and hyphens.
    package func equalsIgnoringCase(_ literal: StaticString, _ range: ByteRange) -> Bool {
        let start = range.lower
        let count = Int(range.count)
        guard count == literal.utf8CodeUnitCount else { return false }
        // Sound: every load below ends at or before the literal's own count.
        let expected = unsafe UnsafeRawPointer(literal.utf8Start)
        var offset = 0
        while offset &+ 8 <= count {
            let word = Word.lowercased(self.word(at: start &+ offset))
            let other = unsafe expected.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if word != UInt64(littleEndian: other) { return false }
            offset &+= 8
        }
        while offset < count {
            let byte = self.byte(at: start &+ offset)
            let folded = byte &- 0x41 < 26 ? byte | 0x20 : byte
            let other = unsafe expected.load(fromByteOffset: offset, as: UInt8.self)
            if folded != other { return false }
            offset &+= 1
        }
        return true
    }

    /// Whether the bytes of `range`, which are visible ASCII, equal `literal` but for the case of
    /// letters. `literal` has two bytes or more, lower case letters, digits and hyphens. Setting
    /// bit 5 turns into one of those only itself and upper case, among visible bytes: no false
    /// match.
    @inline(__always)
    func folds(to literal: StaticString, _ range: ByteRange) -> Bool {
        let start = range.lower
        let count = Int(range.count)
        guard count == literal.utf8CodeUnitCount else { return false }
        // Sound: every load below ends at or before the literal's own count.
        let expected = unsafe UnsafeRawPointer(literal.utf8Start)
        if count < 8 { return unsafe self.foldsShort(expected, start: start, count: count) }
        var offset = 0
        while true {
            let word = self.word(at: start &+ offset) | 0x2020_2020_2020_2020
            let other = unsafe expected.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if word != UInt64(littleEndian: other) { return false }
            if offset == count &- 8 { return true }
            // The last word may overlap the one before.
            offset = min(offset &+ 8, count &- 8)
        }
    }

    @inline(__always)
    private func foldsShort(_ expected: UnsafeRawPointer, start: Int, count: Int) -> Bool {
        for offset in 0..<count {
            let other = unsafe expected.load(fromByteOffset: offset, as: UInt8.self)
            if self.byte(at: start &+ offset) | 0x20 != other { return false }
        }
        return true
    }

    /// Whether two runs of this span are the same but for the case of letters.
    func areEqualIgnoringCase(_ left: ByteRange, _ right: ByteRange) -> Bool {
        guard left.count == right.count else { return false }
        for index in 0..<Int(left.count) {
            let one = self.byte(at: left.lower &+ index)
            let two = self.byte(at: right.lower &+ index)
            if one == two { continue }
            guard one | 0x20 == two | 0x20, (one | 0x20) &- 0x61 < 26 else { return false }
        }
        return true
    }

    /// The offset of the first `byte` from `start` on and before `end`, or `end`.
    @inline(__always)
    func firstIndex(of byte: UInt8, from start: Int, to end: Int) -> Int {
        var index = start
        while index &+ 8 <= end {
            let hits = Word.equal(byte, self.word(at: index))
            if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 3 }
            index &+= 8
        }
        while index < end, self.byte(at: index) != byte { index &+= 1 }
        return index
    }

    /// The run without the spaces and tabs at both its ends.
    @inline(__always)
    func trimmed(_ start: Int, _ end: Int) -> ByteRange {
        var start = start
        var end = end
        while start < end, ASCII.isWhitespace(self.byte(at: start)) { start &+= 1 }
        while end > start, ASCII.isWhitespace(self.byte(at: end &- 1)) { end &-= 1 }
        return ByteRange(start, end)
    }
}
