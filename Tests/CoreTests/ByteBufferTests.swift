import Core
import Testing

@Suite struct ByteBufferTests {
    private func contents(_ buffer: ByteBuffer) -> [UInt8] {
        buffer.readable.withUnsafeBytes { Array($0) }
    }

    @Test func writesAndConsumes() {
        let buffer = ByteBuffer(capacity: 4)
        buffer.append("abc" as StaticString)
        buffer.append(byte: 0x64)
        buffer.append([0x65, 0x66])
        #expect(self.contents(buffer) == Array("abcdef".utf8))
        buffer.consume(2)
        #expect(self.contents(buffer) == Array("cdef".utf8))
        buffer.truncate(to: 1)
        #expect(self.contents(buffer) == Array("c".utf8))
        buffer.consume(1)
        #expect(buffer.isEmpty && buffer.readerIndex == 0)
    }

    @Test(arguments: [0, 1, 9, 10, 15, 16, 255, 256, 4_096, UInt64(Int64.max), .max])
    func numbersAreWrittenInDigits(value: UInt64) {
        let buffer = ByteBuffer(capacity: 0)
        buffer.append(decimal: value)
        buffer.append(byte: 0x20)
        buffer.append(hexadecimal: value)
        let text = String(decoding: self.contents(buffer), as: UTF8.self)
        #expect(text == "\(value) \(String(value, radix: 16))")
    }

    /// Short numbers have a way of their own, up to 9 999.
    @Test func everyShortNumberIsWrittenInDigits() {
        let buffer = ByteBuffer(capacity: 16)
        var wrong: [UInt64] = []
        for value in (0...10_100 as ClosedRange<UInt64>) {
            buffer.removeAll()
            buffer.append(decimal: value)
            buffer.append(byte: 0x20)
            buffer.append(hexadecimal: value)
            let text = String(decoding: self.contents(buffer), as: UTF8.self)
            if text != "\(value) \(String(value, radix: 16))" { wrong.append(value) }
        }
        #expect(wrong.isEmpty)
    }

    /// One digit more and one less, at each length.
    @Test(arguments: 0..<64)
    func numbersOfEveryLengthAreWrittenInDigits(shift: Int) {
        let power: UInt64 = 1 << UInt64(shift)
        for value in [power - 1, power, power + 1] { self.numbersAreWrittenInDigits(value: value) }
    }

    @Test func roomIsFoundBeforeMemory() {
        let buffer = ByteBuffer(capacity: 64)
        buffer.append([UInt8](repeating: 1, count: 60))
        buffer.consume(59)
        buffer.reserve(60)
        #expect(buffer.capacity == 64, "the readable byte moves to the front, nothing is allocated")
        #expect(buffer.readerIndex == 0 && self.contents(buffer) == [1])
        buffer.reserve(64)
        #expect(buffer.capacity == 128, "it doubles")
        buffer.reserve(10_000)
        #expect(buffer.capacity == 10_001, "or grows to what is asked for")
    }

    @Test func memoryIsGivenBackOnlyWhenEmpty() {
        let buffer = ByteBuffer(capacity: 1_000)
        buffer.append([1])
        buffer.shrink(to: 100)
        #expect(buffer.capacity == 1_000)
        buffer.consume(1)
        buffer.shrink(to: 100)
        #expect(buffer.capacity == 100)
        buffer.shrink(to: 0)
        #expect(buffer.capacity == 16)
        buffer.append([UInt8](repeating: 7, count: 17))
        #expect(self.contents(buffer) == [UInt8](repeating: 7, count: 17))
    }

    @Test func aSpanOfTheBufferItselfMayBeAppended() {
        let buffer = ByteBuffer(capacity: 64)
        buffer.append([1, 2, 3])
        buffer.append(buffer.readable)
        #expect(self.contents(buffer) == [1, 2, 3, 1, 2, 3])
    }

    @Test func whatASystemCallWroteIsReadable() {
        let buffer = ByteBuffer(capacity: 32)
        buffer.append([9])
        buffer.reserve(3)
        buffer.writablePointer.copyMemory(from: [5, 6, 7] as [UInt8], byteCount: 3)
        buffer.advance(2)
        #expect(self.contents(buffer) == [9, 5, 6])
        #expect(buffer.readablePointer.load(as: UInt8.self) == 9)
    }

    /// Random operations against an array that does the same.
    @Test(arguments: 1...20)
    func behavesLikeAnArray(seed: Int) {
        var random = RandomSource(seed: UInt64(seed))
        let buffer = ByteBuffer(capacity: Int.random(in: 0...40, using: &random))
        var oracle: [UInt8] = []
        for step in 0..<2_000 {
            self.operate(buffer, &oracle, &random)
            #expect(buffer.count == oracle.count, "seed \(seed), step \(step)")
            #expect(self.contents(buffer) == oracle, "seed \(seed), step \(step)")
            #expect(buffer.writerIndex <= buffer.capacity)
            #expect(buffer.writableCount == buffer.capacity - buffer.writerIndex)
            #expect(buffer.isEmpty == oracle.isEmpty)
        }
    }

    private func operate(
        _ buffer: ByteBuffer,
        _ oracle: inout [UInt8],
        _ random: inout RandomSource
    ) {
        let count = Int.random(in: 0...60, using: &random)
        let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
        let part = Int.random(in: 0...oracle.count, using: &random)
        switch Int.random(in: 0..<12, using: &random) {
        case 0, 1:
            buffer.append(bytes)
            oracle += bytes
        case 2:
            bytes.withUnsafeBytes { buffer.append($0.baseAddress, count: $0.count) }
            oracle += bytes
        case 3:
            buffer.append(byte: 3)
            oracle.append(3)
        case 4:
            let value = random.next() >> UInt64.random(in: 0...63, using: &random)
            buffer.append(decimal: value)
            oracle += "\(value)".utf8
        case 5:
            buffer.append("grüße" as String)
            oracle += "grüße".utf8
        case 6, 7, 8:
            buffer.consume(part)
            oracle.removeFirst(part)
        case 9:
            buffer.truncate(to: part)
            oracle.removeLast(oracle.count - part)
        case 10:
            buffer.reserve(count)
        default:
            if count == 0 { buffer.removeAll() }
            if count == 0 { oracle = [] }
            buffer.shrink(to: count)
        }
    }
}

/// What only our own mistakes could cause ends the program.
@Suite struct ByteBufferPreconditionTests {
    @Test func consumingMoreThanThereIsTraps() async {
        await #expect(processExitsWith: .failure) {
            let buffer = ByteBuffer(capacity: 8)
            buffer.append([1, 2])
            buffer.consume(3)
        }
    }

    @Test func keepingMoreThanThereIsTraps() async {
        await #expect(processExitsWith: .failure) {
            let buffer = ByteBuffer(capacity: 8)
            buffer.append([1, 2])
            buffer.truncate(to: 3)
        }
    }

    @Test func advancingPastTheCapacityTraps() async {
        await #expect(processExitsWith: .failure) {
            let buffer = ByteBuffer(capacity: 16)
            buffer.advance(17)
        }
    }

    @Test func reservingBeyondReasonTraps() async {
        await #expect(processExitsWith: .failure) {
            let buffer = ByteBuffer(capacity: 16)
            buffer.append([UInt8](repeating: 0, count: 16))
            buffer.reserve(Int.max)
        }
    }
}

@Suite struct PaddedHexadecimalTests {
    @Test(arguments: [0, 1, 0x9A, 0xABCD_EF01_2345_6789, .max, 0x0A0B_0C0D_0E0F_0090])
    func writesSixteenDigits(_ value: UInt64) {
        let buffer = ByteBuffer(capacity: 16)
        buffer.append(paddedHexadecimal: value)
        let digits = String(value, radix: 16)
        let expected = String(repeating: "0", count: 16 - digits.count) + digits
        let written = (0..<buffer.count).map {
            buffer.readable.unsafeLoad(fromByteOffset: $0, as: UInt8.self)
        }
        #expect(String(decoding: written, as: UTF8.self) == expected)
    }
}
