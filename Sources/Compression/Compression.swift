// Design note
//
// zstd, one whole buffer at a time, with a bound on what comes out. Contexts are kept and used
// again; each object belongs to one thread.

import CZstd
import Core

/// What zstd refused.
package struct CompressionError: Error, Equatable, Sendable, CustomStringConvertible {
    package var description: String

    init(_ description: String) {
        self.description = description
    }

    init(code: Int) {
        self.init(String(cString: ZSTD_getErrorName(code)))
    }
}

/// Compresses buffers.
package final class ZstdCompressor {
    /// The level that costs a few nanoseconds a byte.
    package static let fastLevel: Int32 = 3

    private let context: OpaquePointer
    private let level: Int32

    /// - Parameter level: 1 to 19; more costs more and gives less.
    package init(level: Int32 = fastLevel) {
        precondition((1...19).contains(level), "zstd has the levels 1 to 19")
        guard let context = ZSTD_createCCtx() else { preconditionFailure("no memory for zstd") }
        self.context = context
        self.level = level
    }

    deinit {
        ZSTD_freeCCtx(self.context)
    }

    /// A frame with the size of its content.
    package func compress(_ bytes: [UInt8]) throws(CompressionError) -> [UInt8] {
        var code = 0
        let compressed = [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) {
            code = ZSTD_compressCCtx(
                self.context,
                $0.baseAddress,
                $0.count,
                bytes.withUnsafeBytes(\.baseAddress),
                bytes.count,
                self.level
            )
            $1 = ZSTD_isError(code) == 0 ? code : 0
        }
        if ZSTD_isError(code) != 0 { throw CompressionError(code: code) }
        return compressed
    }
}

/// Brings buffers back.
package final class ZstdDecompressor {
    private let context: OpaquePointer

    package init() {
        guard let context = ZSTD_createDCtx() else { preconditionFailure("no memory for zstd") }
        self.context = context
    }

    deinit {
        ZSTD_freeDCtx(self.context)
    }

    /// The content of one frame.
    /// - Parameter size: of the content; a frame with another one is an error, and no more memory
    ///   than that is taken.
    package func decompress(
        _ bytes: ArraySlice<UInt8>,
        size: Int
    ) throws(CompressionError) -> [UInt8] {
        // libzstd would also decode what zstd was before RFC 8878.
        guard ZstdMagic.begins(bytes) else { throw CompressionError("it is no frame of zstd") }
        var code = 0
        let content = [UInt8](unsafeUninitializedCapacity: max(1, size)) { target, count in
            code = bytes.withUnsafeBytes {
                ZSTD_decompressDCtx(
                    self.context,
                    target.baseAddress,
                    size,
                    $0.baseAddress,
                    $0.count
                )
            }
            count = ZSTD_isError(code) == 0 ? code : 0
        }
        if ZSTD_isError(code) != 0 { throw CompressionError(code: code) }
        guard content.count == size else {
            throw CompressionError("\(content.count) bytes came out where \(size) were announced")
        }
        return content
    }
}
