import Core
import Traffic

/// How blocks lie in a file.
///
///     header   "WEIRREC1"
///     block    "RBLK", compressed bytes, bytes before, requests (4 bytes each), first and last
///              arrival (8 bytes each), checksum of these numbers and the compressed bytes
///              (8 bytes), compressed bytes
///     index    "RIDX", entries (4 bytes), for each the offset (8 bytes) and the numbers of its
///              block's header again, checksum (8 bytes)
///     trailer  offset of the index (8 bytes), "WEIRREND"
///
/// Numbers have their lowest byte first. Index and trailer are written when the segment is closed.
package enum SegmentFormat {
    package static let magic = Array("WEIRREC1".utf8)
    package static let headerBytes = 8
    package static let blockHeaderBytes = 4 + 3 * 4 + 3 * 8
    package static let trailerBytes = 16
    /// Blocks of one segment.
    package static let blocksMax = 1 << 16
    /// Compressed bytes of one block: what zstd makes of the largest at worst.
    package static let compressedBytesMax = RecordingBlock.Limits.bytes + (64 << 10)

    private static let blockMark = Array("RBLK".utf8)
    private static let indexMark = Array("RIDX".utf8)
    private static let endMark = Array("WEIRREND".utf8)
    private static let indexEntryBytes = 8 + 3 * 4 + 2 * 8

    /// Where a block lies and what is in it.
    package struct Block: Equatable, Sendable {
        /// Of its header, from the beginning of the file.
        package var offset: Int
        package var compressedBytes: Int
        package var bytes: Int
        package var requests: Int
        /// Microseconds since 1970.
        package var firstArrival: UInt64
        package var lastArrival: UInt64

        package init(
            offset: Int,
            compressedBytes: Int,
            bytes: Int,
            requests: Int,
            firstArrival: UInt64,
            lastArrival: UInt64
        ) {
            self.offset = offset
            self.compressedBytes = compressedBytes
            self.bytes = bytes
            self.requests = requests
            self.firstArrival = firstArrival
            self.lastArrival = lastArrival
        }

        /// Where its compressed bytes lie.
        package var content: Range<Int> {
            let start = self.offset + SegmentFormat.blockHeaderBytes
            return start..<start + self.compressedBytes
        }
    }

    // MARK: Writing

    /// The header of a block and its compressed bytes.
    package static func block(_ block: Block, compressed: [UInt8]) -> [UInt8] {
        precondition(block.compressedBytes == compressed.count)
        var bytes = Self.blockMark
        Self.append(numbersOf: block, to: &bytes)
        let seed = Self.checksum(bytes[...])
        Self.append(Self.checksum(compressed[...], seed: seed), to: &bytes)
        bytes += compressed
        return bytes
    }

    /// Index and trailer of a segment that ends at `offset`.
    package static func end(of blocks: [Block], at offset: Int) -> [UInt8] {
        var bytes = Self.indexMark
        Self.append(UInt32(blocks.count), to: &bytes)
        for block in blocks {
            Self.append(UInt64(block.offset), to: &bytes)
            Self.append(numbersOf: block, to: &bytes)
        }
        Self.append(Self.checksum(bytes[...]), to: &bytes)
        Self.append(UInt64(offset), to: &bytes)
        return bytes + Self.endMark
    }

    private static func append(numbersOf block: Block, to bytes: inout [UInt8]) {
        Self.append(UInt32(block.compressedBytes), to: &bytes)
        Self.append(UInt32(block.bytes), to: &bytes)
        Self.append(UInt32(block.requests), to: &bytes)
        Self.append(block.firstArrival, to: &bytes)
        Self.append(block.lastArrival, to: &bytes)
    }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    // MARK: Reading

    /// What is in a segment.
    package struct Contents: Equatable, Sendable {
        package var blocks: [Block]
        /// It has been closed: its index is there and right.
        package var isClosed: Bool
        /// Where its last whole block ends.
        package var end: Int
        /// Why nothing behind `end` can be read; nil where nothing is there, or only an index.
        package var problem: RecordingError?

        package init(blocks: [Block] = [], isClosed: Bool = false, end: Int = headerBytes) {
            self.blocks = blocks
            self.isClosed = isClosed
            self.end = end
        }
    }

    /// Finds the blocks of a segment: by its index where it was closed, else one after the other up
    /// to where it is torn.
    /// - Parameter checksums: compute those of the blocks, too, instead of trusting the index.
    package static func contents(
        of bytes: [UInt8],
        checksums: Bool
    ) throws(RecordingError) -> Contents {
        guard bytes.starts(with: Self.magic) else {
            throw RecordingError("this is no recording: it does not begin with WEIRREC1")
        }
        let index = Self.index(of: bytes)
        if let index, !checksums {
            let end = index.blocks.last.map(\.content.upperBound) ?? Self.headerBytes
            return Contents(blocks: index.blocks, isClosed: true, end: end)
        }
        var contents = Contents()
        contents.isClosed = index != nil
        let limit = index?.offset ?? bytes.count
        while contents.end < limit {
            do throws(RecordingError) {
                let block = try Self.block(of: bytes, at: contents.end)
                guard contents.blocks.count < Self.blocksMax else {
                    throw RecordingError("more than \(Self.blocksMax) blocks", at: contents.end)
                }
                contents.blocks.append(block)
                contents.end = block.content.upperBound
            } catch {
                contents.problem = error
                break
            }
        }
        if let index, contents.problem == nil, index.blocks != contents.blocks {
            contents.isClosed = false
            contents.problem = RecordingError("the index names other blocks", at: index.offset)
        }
        return contents
    }

    private static func block(of bytes: [UInt8], at offset: Int) throws(RecordingError) -> Block {
        guard bytes.count - offset >= Self.blockHeaderBytes else {
            throw RecordingError("the header of a block is torn", at: offset)
        }
        guard bytes[offset...].starts(with: Self.blockMark) else {
            throw RecordingError("no block begins here", at: offset)
        }
        let block = try Self.numbers(of: bytes, at: offset + 4, offset: offset)
        guard block.content.upperBound <= bytes.count else {
            throw RecordingError("a block is torn", at: offset)
        }
        let end = offset + Self.blockHeaderBytes - 8
        let seed = Self.checksum(bytes[offset..<end])
        guard
            Self.number(bytes, end, UInt64.self)
                == Self.checksum(bytes[block.content], seed: seed)
        else {
            throw RecordingError("a block's checksum is wrong", at: offset)
        }
        return block
    }

    private static func numbers(
        of bytes: [UInt8],
        at place: Int,
        offset: Int
    ) throws(RecordingError) -> Block {
        let block = Block(
            offset: offset,
            compressedBytes: Int(Self.number(bytes, place, UInt32.self)),
            bytes: Int(Self.number(bytes, place + 4, UInt32.self)),
            requests: Int(Self.number(bytes, place + 8, UInt32.self)),
            firstArrival: Self.number(bytes, place + 12, UInt64.self),
            lastArrival: Self.number(bytes, place + 20, UInt64.self)
        )
        guard block.compressedBytes <= Self.compressedBytesMax,
            block.bytes <= RecordingBlock.Limits.bytes,
            (1...RecordingBlock.Limits.requests).contains(block.requests)
        else { throw RecordingError("a block of sizes that none has", at: place) }
        return block
    }

    /// The index of a closed segment; nil where there is none, or it is not whole.
    private static func index(of bytes: [UInt8]) -> (offset: Int, blocks: [Block])? {
        guard bytes.count >= Self.headerBytes + Self.trailerBytes,
            bytes.suffix(8).elementsEqual(Self.endMark)
        else { return nil }
        let trailer = bytes.count - Self.trailerBytes
        let place = Self.number(bytes, trailer, UInt64.self)
        // The smallest index has 16 bytes, and there may not even be room for that.
        guard place >= UInt64(Self.headerBytes), place <= UInt64(max(0, trailer - 16)) else {
            return nil
        }
        let offset = Int(place)
        guard bytes[offset...].starts(with: Self.indexMark) else { return nil }
        let count = Int(Self.number(bytes, offset + 4, UInt32.self))
        guard count <= Self.blocksMax,
            offset + 8 + count * Self.indexEntryBytes + 8 == trailer,
            Self.number(bytes, trailer - 8, UInt64.self)
                == Self.checksum(bytes[offset..<trailer - 8])
        else { return nil }
        var blocks: [Block] = []
        var end = Self.headerBytes
        for entry in 0..<count {
            let start = offset + 8 + entry * Self.indexEntryBytes
            let place = Self.number(bytes, start, UInt64.self)
            guard place == UInt64(end) else { return nil }
            guard let block = try? Self.numbers(of: bytes, at: start + 8, offset: end) else {
                return nil
            }
            blocks.append(block)
            end = block.content.upperBound
        }
        return end == offset ? (offset, blocks) : nil
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>, seed: UInt64 = 0) -> UInt64 {
        // Sound: the span lives only for the call, of a slice that nothing writes to.
        unsafe ByteHash.hash(bytes.span.bytes, seed: seed)
    }

    private static func number<Number: FixedWidthInteger>(
        _ bytes: [UInt8],
        _ offset: Int,
        _: Number.Type
    ) -> Number {
        var value: Number = 0
        for index in 0..<Number.bitWidth / 8 {
            value |= Number(truncatingIfNeeded: bytes[offset + index]) << (8 * index)
        }
        return value
    }
}
