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
        self.append(digitsOf: value, radix: 10)
    }

    /// Lower-case hexadecimal digits without prefix or padding, as chunk sizes are written.
    package func append(hexadecimal value: UInt64) {
        self.append(digitsOf: value, radix: 16)
    }

    /// Sixteen lower-case hexadecimal digits, leading zeros included.
    package func append(paddedHexadecimal value: UInt64) {
        self.reserve(16)
        let high = Self.digits(UInt32(truncatingIfNeeded: value &>> 32))
        let low = Self.digits(UInt32(truncatingIfNeeded: value))
        unsafe self.base.storeBytes(of: high, toByteOffset: self.writerIndex, as: UInt64.self)
        unsafe self.base.storeBytes(of: low, toByteOffset: self.writerIndex + 8, as: UInt64.self)
        self.writerIndex &+= 16
    }

    /// Eight digits at once: the nibbles are spread over the bytes of a word, the first one lowest,
    /// and those above nine get the distance from `9` to `a` added.
    private static func digits(_ value: UInt32) -> UInt64 {
        var word = UInt64(value)
        word = (word & 0xFFFF) &<< 32 | word &>> 16
        word = (word & 0xFF_0000_00FF) &<< 16 | (word & 0xFF00_0000_FF00) &>> 8
        word = (word & 0x000F_000F_000F_000F) &<< 8 | (word & 0x00F0_00F0_00F0_00F0) &>> 4
        let letters = ((word &+ 0x0606_0606_0606_0606) &>> 4) & 0x0101_0101_0101_0101
        return (word &+ 0x3030_3030_3030_3030 &+ letters &* 0x27).littleEndian
    }

    /// Inlined, so that the compiler divides by a constant: by multiplication or a shift.
    @inline(__always)
    private func append(digitsOf value: UInt64, radix: UInt64) {
        var width = 1
        var rest = value / radix
        while rest > 0 {
            width += 1
            rest /= radix
        }
        self.reserve(width)
        rest = value
        var position = self.writerIndex + width
        repeat {
            position -= 1
            let digit = UInt8(truncatingIfNeeded: rest % radix)
            unsafe self.base.storeBytes(
                of: digit < 10 ? 48 + digit : 87 + digit,
                toByteOffset: position,
                as: UInt8.self
            )
            rest /= radix
        } while rest > 0
        self.writerIndex += width
    }
}
