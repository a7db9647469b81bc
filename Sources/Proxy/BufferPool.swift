import Core

/// A worker's spare buffers. Connections borrow one for as long as bytes wait, so that an idle
/// connection holds none.
///
/// Long bodies that are kept for a while have their own shelf of a few large ones: made anew, their
/// memory would be fetched from the kernel page by page, which costs more than the body's copying.
/// What is kept is bounded: `keptMax` of `keptBytesMax`, and `largeKeptMax` of `largeBytesMax`.
struct BufferPool {
    private static let keptMax = 256
    private static let keptBytesMax = 32 * 1024
    private static let initialBytes = 2 * 1024
    private static let largeKeptMax = 16
    private static let largeBytesMax = 1024 * 1024 + 64 * 1024

    private var free: [ByteBuffer] = []
    private var large: [ByteBuffer] = []

    mutating func take() -> ByteBuffer {
        self.free.popLast() ?? ByteBuffer(capacity: Self.initialBytes)
    }

    /// From this size on a body belongs into a large buffer.
    static var largeBytesMin: Int { self.keptBytesMax + 1 }

    /// A buffer with room for `count` bytes. They are all of one size, so that each serves every body;
    /// memory that no body has reached yet is none.
    mutating func takeLarge(_ count: Int) -> ByteBuffer {
        guard count <= Self.largeBytesMax else { return ByteBuffer(capacity: count) }
        return self.large.popLast() ?? ByteBuffer(capacity: Self.largeBytesMax)
    }

    /// Takes the caller's reference over, as `take` hands one out: none is counted on the way.
    mutating func give(_ buffer: consuming ByteBuffer) {
        if buffer.capacity > Self.keptBytesMax {
            guard self.large.count < Self.largeKeptMax, buffer.capacity <= Self.largeBytesMax else {
                return
            }
            buffer.removeAll()
            self.large.append(buffer)
            return
        }
        guard self.free.count < Self.keptMax else { return }
        buffer.removeAll()
        self.free.append(buffer)
    }
}
