import Core

/// Byte buffers kept for the next message, so that the steady state allocates none.
///
/// Bounded twice: at most `keptMax` buffers, and none is kept above `keptBytesMax`, so that one
/// large body does not pin memory for good.
struct BufferPool {
    private static let keptMax = 256
    private static let keptBytesMax = 32 * 1024
    private static let initialBytes = 2 * 1024

    private var free: [ByteBuffer] = []

    mutating func take() -> ByteBuffer {
        self.free.popLast() ?? ByteBuffer(capacity: Self.initialBytes)
    }

    mutating func give(_ buffer: ByteBuffer) {
        guard self.free.count < Self.keptMax, buffer.capacity <= Self.keptBytesMax else { return }
        buffer.removeAll()
        self.free.append(buffer)
    }
}
