/// The chained hashes of a prompt's first blocks: the n-th depends on all bytes up to the end of
/// block n, so two prompts that agree in the n-th hash agree in their first n blocks.
///
/// Bytes are those of the JSON value as the client wrote them, in any pieces. Blocks are of 64
/// bytes, about 16 tokens, as other routers have them. What does not fill a block is not part of
/// the chain.
package struct PromptHash: Sendable {
    package static let blockBytes = 64
    package static let blocksMax = 256

    private static let seed: UInt64 = 0x7072_6F6D_7074_2D30

    /// Hash n covers the first n + 1 blocks.
    package private(set) var blocks: [UInt64] = []
    private var partial = InlineArray<64, UInt8>(repeating: 0)
    private var partialCount = 0

    package init() {}

    /// As many blocks are known as are kept: further bytes change nothing.
    package var isFull: Bool { self.blocks.count == Self.blocksMax }
    /// Bytes that are taken before it is full.
    var missingBytes: Int {
        (Self.blocksMax - self.blocks.count) * Self.blockBytes - self.partialCount
    }

    /// The hash of all that is known of the prompt: of its last full block, or, where it has none,
    /// of the few bytes there are. Nil without any.
    package var last: UInt64? { self.key(depth: Self.blocksMax) }

    /// The hash of the first `depth` blocks or fewer.
    package func key(depth: Int) -> UInt64? {
        let count = min(depth, self.blocks.count)
        if count > 0 { return self.blocks[count - 1] }
        guard self.partialCount > 0 else { return nil }
        // Sound: the span lives only for the call and is cut to what was written.
        return unsafe ByteHash.hash(
            self.partial.span.bytes.extracting(0..<self.partialCount),
            seed: Self.seed
        )
    }

    /// Takes the next bytes; those behind block `blocksMax` are ignored.
    package mutating func update(_ bytes: RawSpan) {
        var index = 0
        let count = bytes.byteCount
        while index < count, self.blocks.count < Self.blocksMax {
            if self.partialCount == 0, index &+ Self.blockBytes <= count {
                self.append(block: bytes.extracting(index..<(index &+ Self.blockBytes)))
                index &+= Self.blockBytes
                continue
            }
            self.partial[self.partialCount] = bytes.byte(unchecked: index)
            self.partialCount &+= 1
            index &+= 1
            if self.partialCount == Self.blockBytes {
                let block = self.partial
                self.partialCount = 0
                // Sound: the span lives only for the call, of a copy that nothing writes to.
                unsafe self.append(block: block.span.bytes)
            }
        }
    }

    package mutating func removeAll() {
        if !self.blocks.isEmpty { self.blocks.removeAll(keepingCapacity: true) }
        self.partialCount = 0
    }

    private mutating func append(block: RawSpan) {
        self.blocks.append(ByteHash.hash(block, seed: self.blocks.last ?? Self.seed))
    }
}
