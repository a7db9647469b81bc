import Compression
import Testing

@Suite struct CompressionTests {
    @Test(arguments: [0, 1, 1_000, 1_000_000])
    func whatIsCompressedComesBack(count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let compressed = try ZstdCompressor().compress(bytes)
        #expect(try ZstdDecompressor().decompress(compressed[...], size: count) == bytes)
    }

    @Test func otherSizesAndBrokenFramesAreErrors() throws {
        let compressed = try ZstdCompressor().compress([UInt8](repeating: 1, count: 1_000))
        let decompressor = ZstdDecompressor()
        for size in [0, 999, 1_001] {
            #expect(throws: CompressionError.self) {
                try decompressor.decompress(compressed[...], size: size)
            }
        }
        #expect(throws: CompressionError.self) {
            try decompressor.decompress(compressed.dropLast(), size: 1_000)
        }
        #expect(throws: CompressionError.self) {
            try decompressor.decompress([1, 2, 3, 4], size: 1_000)
        }
    }
}
