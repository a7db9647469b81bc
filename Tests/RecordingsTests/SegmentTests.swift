import Core
import Testing

@testable import Recordings

@Suite struct SegmentTests {
    /// A segment of three blocks, whose contents nobody decompresses here.
    private static func segment(isClosed: Bool) -> (bytes: [UInt8], blocks: [SegmentFormat.Block]) {
        var bytes = SegmentFormat.magic
        var blocks: [SegmentFormat.Block] = []
        for number in 1...3 {
            let compressed = [UInt8](repeating: UInt8(number), count: 10 * number)
            let block = SegmentFormat.Block(
                offset: bytes.count,
                compressedBytes: compressed.count,
                bytes: 100 * number,
                requests: number,
                firstArrival: UInt64(number),
                lastArrival: UInt64(number) << 40
            )
            blocks.append(block)
            bytes += SegmentFormat.block(block, compressed: compressed)
        }
        if isClosed { bytes += SegmentFormat.end(of: blocks, at: bytes.count) }
        return (bytes, blocks)
    }

    @Test(arguments: [false, true], [false, true])
    func blocksAreFound(isClosed: Bool, checksums: Bool) throws {
        let (bytes, blocks) = Self.segment(isClosed: isClosed)
        let contents = try SegmentFormat.contents(of: bytes, checksums: checksums)
        #expect(contents.blocks == blocks)
        #expect(contents.isClosed == isClosed)
        #expect(contents.problem == nil)
    }

    /// Cut anywhere: the whole blocks before the cut are there, and where it is torn is said.
    @Test func tornSegmentsAreReadUpToTheTear() throws {
        let (bytes, blocks) = Self.segment(isClosed: true)
        for count in SegmentFormat.headerBytes..<bytes.count {
            let contents = try SegmentFormat.contents(
                of: Array(bytes.prefix(count)),
                checksums: false
            )
            let whole = blocks.filter { $0.content.upperBound <= count }
            #expect(contents.blocks == whole, "cut at \(count)")
            #expect(!contents.isClosed)
            let end = whole.last?.content.upperBound ?? SegmentFormat.headerBytes
            #expect(contents.end == end)
            #expect((contents.problem == nil) == (count == end))
        }
    }

    /// A changed byte is found by a checksum, wherever it is.
    @Test func everyChangedByteIsFound() throws {
        let (bytes, blocks) = Self.segment(isClosed: true)
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 0x40
            guard index >= SegmentFormat.headerBytes else {
                #expect(throws: RecordingError.self) {
                    try SegmentFormat.contents(of: changed, checksums: true)
                }
                continue
            }
            let contents = try SegmentFormat.contents(of: changed, checksums: true)
            #expect(contents.problem != nil || !contents.isClosed, "byte \(index)")
            #expect(contents.blocks == Array(blocks.prefix(contents.blocks.count)))
        }
    }

    @Test(arguments: [[], Array("WEIRREC0".utf8), Array("a,b\n1,2\n".utf8)] as [[UInt8]])
    func otherFilesAreNoRecordings(bytes: [UInt8]) {
        #expect(throws: RecordingError.self) {
            try SegmentFormat.contents(of: bytes, checksums: false)
        }
    }
}
