import CNghttp2

/// Knows whether a field block is on its way, by the frames' own heads (RFC 9113, section 4.1).
///
/// nghttp2 does not tell the end of a block that it refuses, nor of one that nobody wants, and
/// whoever waits for it would wait for ever.
struct BlockCursor {
    /// A field block has begun and is not complete.
    private(set) var isInBlock = false
    /// Bytes of the preface, and then of the frame at hand, that have not come yet.
    private var left: Int
    /// The frame's head as far as it has come.
    private var head = InlineArray<9, UInt8>(repeating: 0)
    private var headCount = 0
    /// The frame at hand is the last of its block.
    private var endsBlock = false

    /// - Parameter prefaceBytes: that come before the first frame.
    init(prefaceBytes: Int) { self.left = prefaceBytes }

    /// Takes all that was read, in its order.
    mutating func take(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < bytes.count {
            if self.left > 0 {
                let step = min(self.left, bytes.count - index)
                self.left -= step
                index += step
                if self.left == 0 { self.frameEnds() }
                continue
            }
            self.head[self.headCount] = bytes[index]
            self.headCount += 1
            index += 1
            if self.headCount == self.head.count { self.frameBegins() }
        }
    }

    private mutating func frameBegins() {
        self.headCount = 0
        self.left = Int(self.head[0]) << 16 | Int(self.head[1]) << 8 | Int(self.head[2])
        let type = UInt32(self.head[3])
        if type == NGHTTP2_HEADERS.rawValue || type == NGHTTP2_CONTINUATION.rawValue {
            self.isInBlock = true
            self.endsBlock = self.head[4] & UInt8(NGHTTP2_FLAG_END_HEADERS.rawValue) != 0
        }
        if self.left == 0 { self.frameEnds() }
    }

    private mutating func frameEnds() {
        guard self.endsBlock else { return }
        self.endsBlock = false
        self.isInBlock = false
    }
}
