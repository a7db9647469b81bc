import Compression
import Core
import HTTP
import Testing

/// Content in pieces: what was coded comes back, and what is broken or too much does not.
@Suite struct StreamTests {
    /// How a test gives bytes and room.
    enum Steps: CaseIterable {
        case whole, bytes, random
    }

    static let codings: [[ContentCoding]] = [
        [.gzip], [.zstd], [.gzip, .zstd], [.zstd, .gzip], [.gzip, .gzip, .zstd],
    ]

    /// Encodes by random pieces and flushes.
    static func encode(
        _ bytes: [UInt8],
        _ codings: [ContentCoding],
        _ random: inout RandomSource
    ) -> [UInt8] {
        codings.reduce(bytes) { content, coding in
            let encoder = ContentEncoder(coding)
            var result: [UInt8] = []
            var start = 0
            while start < content.count {
                let count = min(content.count - start, 1 + Int(random.next() % 5_000))
                let piece = Array(content[start..<(start + count)])
                let end: ContentEncoder.End = random.next() % 4 == 0 ? .flush : .none
                self.encode(piece, end, with: encoder, into: &result)
                start += count
            }
            self.encode([], .finish, with: encoder, into: &result)
            return result
        }
    }

    static func encode(
        _ bytes: [UInt8],
        _ end: ContentEncoder.End,
        with encoder: ContentEncoder,
        into result: inout [UInt8]
    ) {
        // Small, so that whatever comes takes several rounds.
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 61, alignment: 1)
        defer { scratch.deallocate() }
        bytes.withUnsafeBytes { input in
            encoder.encode(input, end, scratch: scratch) { result += Array($0) }
        }
    }

    struct Decoded {
        var bytes: [UInt8] = []
        var isComplete = false
        var error: DecodingError?
    }

    static func decode(
        _ bytes: [UInt8],
        _ codings: [ContentCoding],
        _ steps: Steps = .whole,
        limits: DecodingLimits = DecodingLimits(),
        seed: UInt64 = 1
    ) -> Decoded {
        let decoder = ContentDecoder(codings, limits: limits)
        var random = RandomSource(seed: seed)
        var result = Decoded()
        var start = 0
        while true {
            let count =
                switch steps {
                case .whole: bytes.count - start
                case .bytes: min(1, bytes.count - start)
                case .random: min(Int(random.next() % 3_000), bytes.count - start)
                }
            let room = steps == .whole ? 32_768 : steps == .bytes ? 1 : 1 + Int(random.next() % 999)
            let output = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 1)
            defer { output.deallocate() }
            // A copy of its own, so that a sanitizer sees a step over its end.
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
            defer { piece.deallocate() }
            piece.copyBytes(from: bytes[start..<(start + count)])
            do throws(DecodingError) {
                let step = try decoder.decode(UnsafeRawBufferPointer(piece), into: output)
                start += step.consumed
                result.bytes += Array(output[..<step.produced])
            } catch {
                result.error = error
                return result
            }
            if start == bytes.count, !decoder.mayHaveMore { break }
        }
        result.isComplete = decoder.isComplete
        return result
    }

    /// Text that compresses about as requests do.
    static func text(_ count: Int, _ random: inout RandomSource) -> [UInt8] {
        let words = ["river ", "weir ", "\"model\": ", "depth ", "{", "}, ", "gauge "]
        var result: [UInt8] = []
        while result.count < count {
            result += Array(words[Int(random.next() % UInt64(words.count))].utf8)
            if random.next() % 5 == 0 { result.append(UInt8(truncatingIfNeeded: random.next())) }
        }
        return Array(result.prefix(count))
    }

    // MARK: There and back

    @Test(arguments: Self.codings, Steps.allCases)
    func whatWasCodedComesBack(codings: [ContentCoding], steps: Steps) {
        for seed in UInt64(1)...6 {
            var random = RandomSource(seed: seed)
            let text = Self.text(Int(random.next() % (steps == .bytes ? 5_000 : 200_000)), &random)
            let coded = Self.encode(text, codings, &random)
            let decoded = Self.decode(coded, codings, steps, seed: seed)
            #expect(decoded.bytes == text, "seed \(seed)")
            #expect(decoded.isComplete && decoded.error == nil, "seed \(seed)")
        }
    }

    /// What gzip 1.12 and Python's zstandard wrote.
    @Test(
        arguments: [
            (ContentCoding.gzip, Self.fromGzip), (.zstd, Self.fromZstd),
        ] as [(ContentCoding, [UInt8])]
    )
    func othersWorkIsRead(coding: ContentCoding, bytes: [UInt8]) {
        let text = Array("Weir lets the river through.".utf8)
        let decoded = Self.decode(bytes, [coding], .bytes)
        #expect(decoded.bytes == text && decoded.isComplete)
        // Members and frames may follow each other (RFC 1952, section 2.2; RFC 8878, section 3.1).
        let twice = Self.decode(bytes + bytes, [coding], .random)
        #expect(twice.bytes == text + text && twice.isComplete)
    }

    static let fromGzip = Self.bytes(
        "1f8b08000000000000030b4fcd2c52c8492d295628c9485528ca2c4b2d02"
            + "b28af24bd333f40037ad7e7c1c000000"
    )
    static let fromZstd = Self.bytes(
        "28b52ffd201ce1000057656972206c6574732074"
            + "6865207269766572207468726f7567682e"
    )

    static func bytes(_ hexadecimal: String) -> [UInt8] {
        var result: [UInt8] = []
        var high: UInt8?
        for digit in hexadecimal {
            let value = UInt8(digit.hexDigitValue ?? 0)
            if let first = high {
                result.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
        return result
    }

    /// After a flush the other side has everything.
    @Test(arguments: ContentCoding.allCases)
    func aFlushHoldsNothingBack(coding: ContentCoding) throws {
        let encoder = ContentEncoder(coding)
        let decoder = ContentDecoder([coding], limits: DecodingLimits())
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1_000, alignment: 1)
        defer { room.deallocate() }
        for number in 0..<50 {
            let event = Array("data: {\"token\": \(number)}\n\n".utf8)
            var coded: [UInt8] = []
            Self.encode(event, .none, with: encoder, into: &coded)
            Self.encode([], .flush, with: encoder, into: &coded)
            let step = try coded.withUnsafeBytes { try decoder.decode($0, into: room) }
            #expect(step.consumed == coded.count)
            #expect(Array(room[..<step.produced]) == event)
        }
    }

    @Test(arguments: ContentCoding.allCases)
    func anEncoderServesOneAnswerAfterTheOther(coding: ContentCoding) {
        var random = RandomSource(seed: 5)
        let encoder = ContentEncoder(coding)
        for _ in 0..<5 {
            let text = Self.text(10_000, &random)
            var cut: [UInt8] = []
            // The first one is never finished: its client has left.
            Self.encode(text, .none, with: encoder, into: &cut)
            encoder.reset()
            var coded: [UInt8] = []
            Self.encode(text, .finish, with: encoder, into: &coded)
            encoder.reset()
            #expect(Self.decode(coded, [coding]).bytes == text)
        }
    }

    // MARK: What is broken

    @Test(arguments: Self.codings)
    func whatEndsEarlyIsNotComplete(codings: [ContentCoding]) {
        var random = RandomSource(seed: 3)
        let text = Self.text(3_000, &random)
        let coded = Self.encode(text, codings, &random)
        for count in 1..<coded.count {
            let decoded = Self.decode(Array(coded.prefix(count)), codings)
            #expect(!decoded.isComplete, "after \(count) of \(coded.count) bytes")
            #expect(text.starts(with: decoded.bytes))
        }
    }

    @Test(arguments: Self.codings)
    func whatFollowsTheEndIsRefused(codings: [ContentCoding]) {
        var random = RandomSource(seed: 4)
        let coded = Self.encode(Self.text(3_000, &random), codings, &random)
        for rest in [Array("garbage".utf8), [0, 0, 0, 0, 0, 0, 0, 0], Array("{\"model\":1}".utf8)] {
            for steps in Steps.allCases {
                let decoded = Self.decode(coded + rest, codings, steps)
                #expect(decoded.error == .malformed)
            }
        }
    }

    /// Flipped bits: an error or other bytes, and never a crash or a loop.
    @Test(arguments: Self.codings)
    func damagedContentEnds(codings: [ContentCoding]) {
        for seed in UInt64(1)...200 {
            var random = RandomSource(seed: seed)
            let text = Self.text(2_000, &random)
            var coded = Self.encode(text, codings, &random)
            let place = Int(random.next() % UInt64(coded.count))
            coded[place] ^= 1 << UInt8(random.next() % 8)
            let decoded = Self.decode(coded, codings, .random, seed: seed)
            if codings.contains(.gzip), decoded.error == nil, decoded.isComplete {
                // gzip has a checksum; what it does not cover is in its head.
                #expect(decoded.bytes == text, "seed \(seed)")
            }
        }
    }

    // MARK: What becomes too much

    @Test(arguments: Self.codings, Steps.allCases)
    func bombsAreCutOff(codings: [ContentCoding], steps: Steps) {
        var random = RandomSource(seed: 1)
        let zeros = [UInt8](repeating: 0, count: 16 << 20)
        let bomb = Self.encode(zeros, codings, &random)
        var limits = DecodingLimits()
        limits.freeBytes = 20_000
        limits.ratioMax = 20
        let decoded = Self.decode(bomb, codings, steps, limits: limits)
        #expect(decoded.error == .tooLarge)
        #expect(decoded.bytes.count <= max(20_000, 20 * bomb.count))
    }

    /// Members without content, coded once more: little in, little out, much between.
    @Test func whatIsLargeBetweenTwoCodingsIsCutOff() {
        var random = RandomSource(seed: 1)
        var empty: [UInt8] = []
        Self.encode([], .finish, with: ContentEncoder(.gzip), into: &empty)
        let many = Array(repeatElement(empty, count: 100_000).joined())
        let bomb = Self.encode(many, [.zstd], &random)
        let decoded = Self.decode(bomb, [.gzip, .zstd])
        #expect(decoded.error == .tooLarge)
        #expect(bomb.count * 200 < many.count)
    }

    @Test func largeWindowsAreRefused() {
        // A frame's magic number, no size, a window of 2^23 bytes or more, and a raw last block.
        for (window, isAllowed) in [(13, true), (14, false), (21, false)] as [(UInt8, Bool)] {
            let frame: [UInt8] = [
                0x28, 0xB5, 0x2F, 0xFD, 0x00, window << 3, 0x09, 0x00, 0x00, 0x41,
            ]
            let decoded = Self.decode(frame, [.zstd])
            #expect(decoded.error == (isAllowed ? nil : .tooLarge))
            #expect(decoded.bytes == (isAllowed ? [0x41] : []))
        }
    }

    /// What zstd was before its format was settled: libzstd decodes it, with windows of any size.
    @Test(arguments: 0x1E...0x27 as ClosedRange<UInt8>, Steps.allCases)
    func formerFormatsAreRefused(version: UInt8, steps: Steps) {
        let former: [UInt8] = [version, 0xB5, 0x2F, 0xFD, 0x00, 0x88, 0x00, 0x00, 0x00, 0x00, 0x00]
        let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x00, 0x09, 0x00, 0x00, 0x41]
        let skippable: [UInt8] = [0x5F, 0x2A, 0x4D, 0x18, 0x02, 0x00, 0x00, 0x00, 0xFD, 0x2F]
        #expect(Self.decode(former, [.zstd], steps).error == .malformed)
        // Also behind one byte that would hide it, and behind frames that are as they should be.
        #expect(Self.decode([0x28] + former, [.zstd], steps).error == .malformed)
        let all = frame + skippable + frame
        let whole = Self.decode(all, [.zstd], steps)
        #expect(whole.bytes == [0x41, 0x41] && whole.error == nil && whole.isComplete)
        #expect(Self.decode(all + former, [.zstd], steps).error == .malformed)
        #expect(Self.decode(skippable + former, [.zstd], steps).error == .malformed)
        #expect(throws: CompressionError.self) {
            try ZstdDecompressor().decompress(former[...], size: 10)
        }
    }

    @Test func aPoolKnowsItsBounds() {
        var pool = CodingPool()
        let encoders = (0..<CodingPool.encodersMax).compactMap { _ in pool.takeEncoder(.gzip) }
        #expect(encoders.count == CodingPool.encodersMax)
        #expect(pool.takeEncoder(.zstd) == nil)
        for encoder in encoders { pool.give(encoder) }
        #expect(pool.encodersInUse == 0)
        let taken = pool.takeEncoder(.gzip)
        #expect(encoders.contains { $0 === taken })
    }

    /// Frames that announce large windows: memory is taken, counted and given back.
    @Test func aPoolCountsWhatDecodersHold() throws {
        var pool = CodingPool()
        let head: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 13 << 3, 0x09, 0x00, 0x00, 0x41]
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 10, alignment: 1)
        defer { room.deallocate() }
        var held: [(ContentDecoder, Int)] = []
        var fits = true
        while fits, held.count < 100 {
            let decoder = pool.takeDecoder([.zstd], limits: DecodingLimits())
            _ = try head.withUnsafeBytes { try decoder.decode($0, into: room) }
            var counted = 0
            fits = pool.count(decoder, counted: &counted)
            #expect(counted >= 8 << 20)
            held.append((decoder, counted))
        }
        #expect((20...32).contains(held.count))
        for (decoder, counted) in held { pool.give(decoder, counted: counted) }
        #expect(pool.decodingBytes == 0)
    }
}
