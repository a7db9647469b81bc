import CZlib
import CZstd
import HTTP

/// Why coded content cannot be read.
package enum DecodingError: Error, Equatable, Sendable {
    /// It is not what its coding says, or ends early.
    case malformed
    /// It needs a larger window, or becomes more, than is allowed.
    case tooLarge
}

/// What one step of a stream did.
package struct CodingProgress: Equatable, Sendable {
    /// Bytes of the input that are used up.
    package var consumed = 0
    /// Bytes that were written.
    package var produced = 0

    package init() {}
}

/// Decodes gzip, member after member, piece by piece. About 44 KiB.
final class GzipDecoder {
    private let stream: UnsafeMutablePointer<z_stream>
    private(set) var isAtEnd = true
    private(set) var mayHaveMore = false
    private var hasMember = false

    init() {
        self.stream = .allocate(capacity: 1)
        self.stream.initialize(to: z_stream())
        // 15: the largest window there is. 16: with gzip's head and no other.
        let code = inflateInit2_(
            self.stream,
            15 + 16,
            zlibVersion(),
            Int32(MemoryLayout<z_stream>.size)
        )
        precondition(code == Z_OK, "no memory for zlib")
    }

    deinit {
        inflateEnd(self.stream)
        self.stream.deallocate()
    }

    func reset() {
        inflateReset(self.stream)
        self.isAtEnd = true
        self.mayHaveMore = false
        self.hasMember = false
    }

    func decode(
        _ input: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(DecodingError) -> CodingProgress {
        let available = uInt(min(input.count, Int(Int32.max)))
        let room = uInt(min(output.count, Int(Int32.max)))
        // zlib does not write to what it reads.
        self.stream.pointee.next_in = UnsafeMutablePointer(
            mutating: input.bindMemory(to: Bytef.self).baseAddress
        )
        self.stream.pointee.avail_in = available
        self.stream.pointee.next_out = output.bindMemory(to: Bytef.self).baseAddress
        self.stream.pointee.avail_out = room
        try self.run()
        self.mayHaveMore = self.stream.pointee.avail_out == 0 && !self.isAtEnd
        var progress = CodingProgress()
        progress.consumed = Int(available - self.stream.pointee.avail_in)
        progress.produced = Int(room - self.stream.pointee.avail_out)
        return progress
    }

    private func run() throws(DecodingError) {
        while self.stream.pointee.avail_out > 0 {
            if self.isAtEnd {
                // Another member, or the first (RFC 1952, section 2.2).
                if self.stream.pointee.avail_in == 0 { return }
                if self.hasMember { inflateReset(self.stream) }
                self.hasMember = true
                self.isAtEnd = false
            }
            // Z_OK, Z_STREAM_END, Z_BUF_ERROR: it can go no further now. Z_NEED_DICT, Z_DATA_ERROR,
            // Z_MEM_ERROR; Z_STREAM_ERROR is ours.
            switch inflate(self.stream, Z_NO_FLUSH) {
            case Z_OK:
                if self.stream.pointee.avail_in == 0 { return }
            case Z_STREAM_END: self.isAtEnd = true
            case Z_BUF_ERROR: return
            case Z_STREAM_ERROR: preconditionFailure("zlib's stream is broken")
            default: throw .malformed
            }
        }
    }
}

/// The four bytes in front of each frame (RFC 8878, sections 3.1.1 and 3.1.2).
enum ZstdMagic {
    static let count = 4

    /// Of a skippable frame, whose first byte has sixteen values.
    static func isSkippable(first byte: UInt8) -> Bool { byte & 0xF0 == 0x50 }

    static func allows(_ byte: UInt8, at place: Int, isSkippable: Bool) -> Bool {
        switch place {
        case 0: isSkippable || byte == 0x28
        case 1: byte == (isSkippable ? 0x2A : 0xB5)
        case 2: byte == (isSkippable ? 0x4D : 0x2F)
        default: byte == (isSkippable ? 0x18 : 0xFD)
        }
    }

    /// The bytes begin with a frame that has content.
    static func begins(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.count >= self.count
            && bytes.prefix(self.count).enumerated().allSatisfy {
                self.allows($0.element, at: $0.offset, isSkippable: false)
            }
    }
}

/// Decodes zstd, frame after frame, piece by piece. A frame's window is taken when its head says
/// how large it is.
///
/// Each frame's magic number is looked at before libzstd sees it: builds of it also decode what
/// zstd was before RFC 8878, by decoders that ignore the bound of the window and whose memory
/// `memoryBytes` would not tell.
final class ZstdStreamDecoder {
    /// 8 MiB: what RFC 9659 has every recipient of `Content-Encoding: zstd` support, and no more.
    static let windowLogMax: Int32 = 23

    private let context: OpaquePointer
    private(set) var isAtEnd = true
    private(set) var mayHaveMore = false
    /// Bytes of the frame that were used up, as far as its magic number goes.
    private var magicBytes = 0
    /// The first of them.
    private var isSkippable = false

    init() {
        guard let context = ZSTD_createDCtx() else { preconditionFailure("no memory for zstd") }
        self.context = context
        let code = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.windowLogMax)
        precondition(ZSTD_isError(code) == 0, "zstd does not know its own parameter")
    }

    deinit {
        ZSTD_freeDCtx(self.context)
    }

    /// Bytes it holds at present.
    var memoryBytes: Int { ZSTD_sizeof_DCtx(self.context) }

    func reset() {
        ZSTD_DCtx_reset(self.context, ZSTD_reset_session_only)
        self.isAtEnd = true
        self.mayHaveMore = false
        self.magicBytes = 0
    }

    func decode(
        _ input: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(DecodingError) -> CodingProgress {
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
        while source.pos < source.size || self.mayHaveMore, target.pos < target.size {
            let start = source.pos
            let step = UnsafeRawBufferPointer(rebasing: input[start...])
            guard self.beginsAsAFrame(step) else { throw .malformed }
            let code = ZSTD_decompressStream(self.context, &target, &source)
            if ZSTD_isError(code) != 0 { throw Self.error(code) }
            self.isAtEnd = code == 0
            self.magicBytes =
                code == 0 ? 0 : min(ZstdMagic.count, self.magicBytes + source.pos - start)
            self.mayHaveMore = code != 0 && target.pos == target.size
        }
        var progress = CodingProgress()
        progress.consumed = source.pos
        progress.produced = target.pos
        return progress
    }

    /// What comes next may go on as a frame, or a skippable one (RFC 8878, section 3.1).
    private func beginsAsAFrame(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes.prefix(ZstdMagic.count - self.magicBytes).enumerated() {
            let place = self.magicBytes + byte.offset
            if place == 0 { self.isSkippable = ZstdMagic.isSkippable(first: byte.element) }
            guard ZstdMagic.allows(byte.element, at: place, isSkippable: self.isSkippable) else {
                return false
            }
        }
        return true
    }

    private static func error(_ code: Int) -> DecodingError {
        switch ZSTD_getErrorCode(code) {
        case ZSTD_error_frameParameter_windowTooLarge: .tooLarge
        default: .malformed
        }
    }
}
