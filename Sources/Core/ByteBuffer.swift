/// A growable run of bytes with a reading and a writing end, owned by one thread.
///
/// This file is one of the few with unsafe code in a pure module: it owns raw memory so that
/// sockets can read straight into it and heads be written into it without bounds checks per byte.
/// Every access is checked once per call against `capacity`; nothing hands out memory that outlives
/// the buffer, but for `readablePointer` and `writablePointer`, which the shell uses around one
/// system call.
///
/// It grows by doubling up to whatever the caller reserves: the caller keeps the limit.
///
/// Public only because the compiler inlines no method of a `package` type into another module.
@safe
public final class ByteBuffer {
    // Set by this class alone; `internal` is for the methods that other modules inline.
    @usableFromInline package internal(set) var capacity: Int
    @usableFromInline package internal(set) var readerIndex = 0
    @usableFromInline package internal(set) var writerIndex = 0
    @usableFromInline var base: UnsafeMutableRawPointer

    package init(capacity: Int) {
        precondition(capacity >= 0, "a capacity of \(capacity)")
        self.capacity = max(capacity, 16)
        unsafe self.base = UnsafeMutableRawPointer.allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit {
        unsafe self.base.deallocate()
    }

    // MARK: Sizes

    @inlinable
    package var count: Int { self.writerIndex &- self.readerIndex }
    @inlinable
    package var isEmpty: Bool { self.writerIndex == self.readerIndex }
    @inlinable
    package var writableCount: Int { self.capacity &- self.writerIndex }

    /// Makes room for `count` more bytes, moving the readable ones to the front first.
    @inlinable
    package func reserve(_ count: Int) {
        if self.writableCount >= count { return }
        self.makeRoom(count)
    }

    // It releases no object, so that callers need not hold what they use before and after.
    @_effects(releasenone) @inline(never) @usableFromInline
    func makeRoom(_ count: Int) {
        precondition(count >= 0 && count <= Int(Int32.max), "cannot reserve \(count) bytes")
        let readable = self.count
        if self.capacity >= readable + count {
            unsafe self.base.copyMemory(
                from: UnsafeRawPointer(self.base) + self.readerIndex,
                byteCount: readable
            )
        } else {
            let larger = max(self.capacity * 2, readable + count)
            let memory = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
            unsafe memory.copyMemory(
                from: UnsafeRawPointer(self.base) + self.readerIndex,
                byteCount: readable
            )
            unsafe self.base.deallocate()
            unsafe self.base = memory
            self.capacity = larger
        }
        self.readerIndex = 0
        self.writerIndex = readable
    }

    // MARK: Reading

    /// The bytes that were written and not yet consumed.
    @inlinable
    package var readable: RawSpan {
        @_lifetime(borrow self)
        get {
            // Sound: the span borrows the buffer, and nothing moves the memory during a borrow
            // because every mutating call needs the same reference and this class is
            // single-threaded.
            let span = unsafe RawSpan(
                _unsafeStart: UnsafeRawPointer(self.base) + self.readerIndex,
                byteCount: self.count
            )
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// For the shell's system calls: valid until the next call that writes or reserves.
    @inlinable
    package var readablePointer: UnsafeMutableRawPointer {
        unsafe self.base + self.readerIndex
    }

    /// For the shell's system calls: `writableCount` bytes, valid until the next call that writes.
    @inlinable
    package var writablePointer: UnsafeMutableRawPointer {
        unsafe self.base + self.writerIndex
    }

    /// Drops `count` bytes from the front.
    package func consume(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "consumed \(count) of \(self.count) bytes")
        self.readerIndex &+= count
        if self.readerIndex == self.writerIndex {
            self.readerIndex = 0
            self.writerIndex = 0
        }
    }

    package func removeAll() {
        self.readerIndex = 0
        self.writerIndex = 0
    }

    /// Drops what was written after the first `count` readable bytes.
    package func truncate(to count: Int) {
        precondition(
            count >= 0 && count <= self.count,
            "cannot keep \(count) of \(self.count) bytes"
        )
        self.writerIndex = self.readerIndex + count
    }

    /// Gives memory beyond `capacity` back; only where nothing is readable.
    package func shrink(to capacity: Int) {
        guard self.isEmpty, self.capacity > capacity else { return }
        unsafe self.base.deallocate()
        self.capacity = max(capacity, 16)
        unsafe self.base = UnsafeMutableRawPointer.allocate(byteCount: self.capacity, alignment: 16)
        self.removeAll()
    }

    // MARK: Writing

    /// Says that `count` bytes were put at `writablePointer`.
    package func advance(_ count: Int) {
        precondition(count >= 0 && count <= self.writableCount, "advanced past the capacity")
        self.writerIndex &+= count
    }

    @inlinable
    package func append(_ bytes: RawSpan) {
        let count = bytes.byteCount
        if count == 0 { return }
        self.reserve(count)
        // Sound: the destination was reserved just now and cannot overlap a span of other memory;
        // memmove semantics cover a span of this very buffer that did not move.
        unsafe bytes.withUnsafeBytes { source in
            if let start = source.baseAddress {
                unsafe (self.base + self.writerIndex).copyMemory(from: start, byteCount: count)
            }
        }
        self.writerIndex &+= count
    }

    @inlinable
    package func append(_ pointer: UnsafeRawPointer?, count: Int) {
        guard let pointer = unsafe pointer, count > 0 else { return }
        self.reserve(count)
        unsafe (self.base + self.writerIndex).copyMemory(from: pointer, byteCount: count)
        self.writerIndex &+= count
    }

    /// Appends what is readable here to another buffer.
    @inlinable
    package func copy(to other: ByteBuffer) {
        unsafe other.append(self.readablePointer, count: self.count)
    }

    package func append(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe self.append($0.baseAddress, count: $0.count) }
    }

    /// Inlined, so that a literal's length is known where it is written and no call is made.
    @inlinable @inline(__always)
    package func append(_ literal: StaticString) {
        let count = literal.utf8CodeUnitCount
        self.reserve(count)
        unsafe (self.base + self.writerIndex).copyMemory(from: literal.utf8Start, byteCount: count)
        self.writerIndex &+= count
    }

    /// Not for literals: they would become strings, with a copy and reference counts each.
    @_disfavoredOverload
    package func append(_ string: String) {
        var string = string
        string.withUTF8 { unsafe self.append($0.baseAddress, count: $0.count) }
    }

    @inlinable
    package func append(byte: UInt8) {
        self.reserve(1)
        unsafe self.base.storeBytes(of: byte, toByteOffset: self.writerIndex, as: UInt8.self)
        self.writerIndex &+= 1
    }

    /// Decimal digits without sign or padding.
    package func append(decimal value: UInt64) {
        if value >= 10_000 { return self.append(longDecimal: value) }
        // Most are lengths of up to four digits: divided all at once, by multiplications.
        let small = UInt32(truncatingIfNeeded: value)
        let hundreds = (small &* 5_243) &>> 19
        let rest = small &- hundreds &* 100
        let thousands = (hundreds &* 103) &>> 10
        let tens = (rest &* 103) &>> 10
        let digits =
            (thousands | (hundreds &- thousands &* 10) &<< 8 | tens &<< 16
                | (rest &- tens &* 10) &<< 24) &+ 0x3030_3030
        let width = 1 &+ (small >= 10 ? 1 : 0) &+ (small >= 100 ? 1 : 0) &+ (small >= 1_000 ? 1 : 0)
        self.reserve(4)
        let text = (digits &>> UInt32(truncatingIfNeeded: 32 &- 8 &* width)).littleEndian
        unsafe self.base.storeBytes(of: text, toByteOffset: self.writerIndex, as: UInt32.self)
        self.writerIndex &+= width
    }

    /// Lower-case hexadecimal digits without prefix or padding, as chunk sizes are written.
    package func append(hexadecimal value: UInt64) {
        let width = max(1, (67 &- value.leadingZeroBitCount) &>> 2)
        self.storeHexadecimal(value &<< UInt64(truncatingIfNeeded: 64 &- 4 &* width))
        self.writerIndex &+= width
    }

    /// Sixteen lower-case hexadecimal digits, leading zeros included.
    package func append(paddedHexadecimal value: UInt64) {
        self.storeHexadecimal(value)
        self.writerIndex &+= 16
    }

    /// Puts all sixteen digits behind what is written, without saying so.
    @inline(__always)
    private func storeHexadecimal(_ value: UInt64) {
        self.reserve(16)
        let word = value.bigEndian
        let nibbles: UInt64 = 0x0F0F_0F0F_0F0F_0F0F
        // Sound: the types are plain bytes, eight of them or sixteen.
        var digits = SIMD16<UInt8>()
        digits.evenHalf = unsafe unsafeBitCast((word &>> 4) & nibbles, to: SIMD8<UInt8>.self)
        digits.oddHalf = unsafe unsafeBitCast(word & nibbles, to: SIMD8<UInt8>.self)
        // Those above nine get the distance from `9` to `a` added.
        let isLetter: SIMDMask<SIMD16<Int8>> = digits .> SIMD16<UInt8>(repeating: 9)
        let letters = unsafe unsafeBitCast(isLetter, to: SIMD16<UInt8>.self)
        let text = digits &+ SIMD16<UInt8>(repeating: 48) &+ letters & SIMD16<UInt8>(repeating: 39)
        unsafe self.base.storeBytes(
            of: text,
            toByteOffset: self.writerIndex,
            as: SIMD16<UInt8>.self
        )
    }

    /// A length of five digits or more.
    private func append(longDecimal value: UInt64) {
        var width = 1
        var rest = value / 10
        while rest > 0 {
            width += 1
            rest /= 10
        }
        self.reserve(width)
        rest = value
        var position = self.writerIndex + width
        repeat {
            position -= 1
            unsafe self.base.storeBytes(
                of: 48 + UInt8(truncatingIfNeeded: rest % 10),
                toByteOffset: position,
                as: UInt8.self
            )
            rest /= 10
        } while rest > 0
        self.writerIndex += width
    }
}
