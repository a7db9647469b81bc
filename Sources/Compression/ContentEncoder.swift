import CZlib
import CZstd
import HTTP

/// Codes content piece by piece. One object serves one answer after the other.
///
/// Both codings are set for speed and for little memory, since there is one for each answer under
/// way: windows of 64 KiB (zstd) and 32 KiB (gzip), some 400 and 270 KiB in all.
package final class ContentEncoder {
    package enum End: Sendable {
        /// What came so far may be held back, for more to be compressed with.
        case none
        /// What came so far can be decoded.
        case flush
        /// Nothing more comes.
        case finish
    }

    private enum Handle {
        case gzip(UnsafeMutablePointer<z_stream>)
        case zstd(OpaquePointer)
    }

    /// gzip's level: a third slower than the fastest, a tenth smaller.
    private static let gzipLevel: Int32 = 4
    private static let zstdLevel: Int32 = 1
    private static let zstdWindowLog: Int32 = 16

    package let coding: ContentCoding
    private let handle: Handle

    package init(_ coding: ContentCoding) {
        self.coding = coding
        switch coding {
        case .gzip: self.handle = .gzip(Self.makeGzip())
        case .zstd: self.handle = .zstd(Self.makeZstd())
        }
    }

    deinit {
        switch self.handle {
        case .gzip(let stream):
            deflateEnd(stream)
            stream.deallocate()
        case .zstd(let context):
            ZSTD_freeCCtx(context)
        }
    }

    private static func makeGzip() -> UnsafeMutablePointer<z_stream> {
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        let code = deflateInit2_(
            stream,
            self.gzipLevel,
            Z_DEFLATED,
            15 + 16,
            8,
            Z_DEFAULT_STRATEGY,
            zlibVersion(),
            Int32(MemoryLayout<z_stream>.size)
        )
        precondition(code == Z_OK, "no memory for zlib")
        return stream
    }

    private static func makeZstd() -> OpaquePointer {
        guard let context = ZSTD_createCCtx() else { preconditionFailure("no memory for zstd") }
        for (parameter, value) in [
            (ZSTD_c_compressionLevel, self.zstdLevel), (ZSTD_c_windowLog, self.zstdWindowLog),
        ] {
            let code = ZSTD_CCtx_setParameter(context, parameter, value)
            precondition(ZSTD_isError(code) == 0, "zstd does not know its own parameter")
        }
        return context
    }

    /// Makes it ready for other content.
    package func reset() {
        switch self.handle {
        case .gzip(let stream): deflateReset(stream)
        case .zstd(let context): ZSTD_CCtx_reset(context, ZSTD_reset_session_only)
        }
    }

    /// Codes `input` and hands what comes of it to `emit`, in pieces of the size of `scratch` at
    /// most, which belong to it for that call alone.
    package func encode(
        _ input: UnsafeRawBufferPointer,
        _ end: End,
        scratch: UnsafeMutableRawBufferPointer,
        emit: (UnsafeRawBufferPointer) -> Void
    ) {
        switch self.handle {
        case .gzip(let stream): Self.encodeGzip(stream, input, end, scratch, emit)
        case .zstd(let context): Self.encodeZstd(context, input, end, scratch, emit)
        }
    }

    private static func encodeGzip(
        _ stream: UnsafeMutablePointer<z_stream>,
        _ input: UnsafeRawBufferPointer,
        _ end: End,
        _ scratch: UnsafeMutableRawBufferPointer,
        _ emit: (UnsafeRawBufferPointer) -> Void
    ) {
        let mode =
            switch end {
            case .none: Z_NO_FLUSH
            case .flush: Z_SYNC_FLUSH
            case .finish: Z_FINISH
            }
        // zlib does not write to what it reads.
        stream.pointee.next_in = UnsafeMutablePointer(
            mutating: input.bindMemory(to: Bytef.self).baseAddress
        )
        precondition(input.count <= Int(Int32.max), "a piece of \(input.count) bytes")
        stream.pointee.avail_in = uInt(input.count)
        repeat {
            stream.pointee.next_out = scratch.bindMemory(to: Bytef.self).baseAddress
            stream.pointee.avail_out = uInt(scratch.count)
            // Z_OK, Z_STREAM_END, Z_BUF_ERROR: there was nothing left to do.
            let code = deflate(stream, mode)
            precondition(code != Z_STREAM_ERROR, "zlib's stream is broken")
            let made = scratch.count - Int(stream.pointee.avail_out)
            if made > 0 { emit(UnsafeRawBufferPointer(rebasing: scratch[..<made])) }
        } while stream.pointee.avail_out == 0
    }

    private static func encodeZstd(
        _ context: OpaquePointer,
        _ input: UnsafeRawBufferPointer,
        _ end: End,
        _ scratch: UnsafeMutableRawBufferPointer,
        _ emit: (UnsafeRawBufferPointer) -> Void
    ) {
        let mode =
            switch end {
            case .none: ZSTD_e_continue
            case .flush: ZSTD_e_flush
            case .finish: ZSTD_e_end
            }
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        while true {
            var target = ZSTD_outBuffer(dst: scratch.baseAddress, size: scratch.count, pos: 0)
            let code = ZSTD_compressStream2(context, &target, &source, mode)
            precondition(ZSTD_isError(code) == 0, "zstd cannot compress")
            if target.pos > 0 { emit(UnsafeRawBufferPointer(rebasing: scratch[..<target.pos])) }
            let isDone = end == .none ? source.pos == source.size : code == 0
            if isDone { return }
        }
    }
}
