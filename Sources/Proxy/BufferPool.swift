import Core

/// A worker's spare buffers. Connections borrow one for as long as bytes wait, so that an idle
/// connection holds none.
///
/// Long bodies that are kept for a while have their own shelf of a few large ones: made anew, their
/// memory would be fetched from the kernel page by page, which costs more than the body's copying.
/// What is kept is bounded: `keptMax` of `keptBytesMax`, and `largeKeptMax` of `largeBytesMax`.
///
/// The shelf of small ones is plain memory, as a request takes four and gives them back: an array
/// would ask each time whether it is shared.
struct BufferPool: ~Copyable {
    private static let keptMax = 256
    private static let keptBytesMax = 32 * 1024
    private static let initialBytes = 2 * 1024
    private static let largeKeptMax = 16
    private static let largeBytesMax = 1024 * 1024 + 64 * 1024

    /// The first `freeCount` places hold a reference each.
    private let free = UnsafeMutablePointer<Unmanaged<ByteBuffer>>.allocate(capacity: keptMax)
    private var freeCount = 0
    private var large: [ByteBuffer] = []

    deinit {
        for index in 0..<self.freeCount { self.free[index].release() }
        self.free.deallocate()
    }

    @inline(__always)
    mutating func take() -> ByteBuffer {
        if self.freeCount == 0 { return ByteBuffer(capacity: Self.initialBytes) }
        self.freeCount &-= 1
        return self.free[self.freeCount].takeRetainedValue()
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
    @inline(__always)
    mutating func give(_ buffer: consuming ByteBuffer) {
        if buffer.capacity > Self.keptBytesMax { return self.giveLarge(buffer) }
        guard self.freeCount < Self.keptMax else { return }
        buffer.removeAll()
        self.free[self.freeCount] = .passRetained(buffer)
        self.freeCount &+= 1
    }

    private mutating func giveLarge(_ buffer: consuming ByteBuffer) {
        guard self.large.count < Self.largeKeptMax, buffer.capacity <= Self.largeBytesMax else {
            return
        }
        buffer.removeAll()
        self.large.append(buffer)
    }
}
