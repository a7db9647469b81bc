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

/// Decodes zstd, frame after frame, piece by piece. A frame's window is taken when its head says
/// how large it is.
final class ZstdStreamDecoder {
    /// 8 MiB: what RFC 9659 has every recipient of `Content-Encoding: zstd` support, and no more.
    static let windowLogMax: Int32 = 23

    private let context: OpaquePointer
    private(set) var isAtEnd = true
    private(set) var mayHaveMore = false

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
    }

    func decode(
        _ input: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(DecodingError) -> CodingProgress {
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
        while source.pos < source.size || self.mayHaveMore, target.pos < target.size {
            let code = ZSTD_decompressStream(self.context, &target, &source)
            if ZSTD_isError(code) != 0 { throw Self.error(code) }
            self.isAtEnd = code == 0
            self.mayHaveMore = code != 0 && target.pos == target.size
        }
        var progress = CodingProgress()
        progress.consumed = source.pos
        progress.produced = target.pos
        return progress
    }

    private static func error(_ code: Int) -> DecodingError {
        switch ZSTD_getErrorCode(code) {
        case ZSTD_error_frameParameter_windowTooLarge: .tooLarge
        default: .malformed
        }
    }
}
