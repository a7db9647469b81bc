import Compression
import Core
import HTTP

/// How a model's requests and answers are coded; the defaults are those of the `Model` resource.
package struct CompressionSettings: Sendable, Equatable {
    /// Answers are compressed for clients that accept it.
    package var answers = true
    /// Event streams too.
    package var streams = false
    /// Shorter answers are not worth it.
    package var answerBytesMin = 1024
    /// Replicas cannot read coded requests: they get them decoded.
    package var decodesRequests = false

    package init() {}
}

/// What coding has cost and saved.
package struct CodingStatistics: Sendable, Equatable {
    /// What became of a request that came coded.
    package enum RequestOutcome: String, Sendable, CaseIterable {
        /// It went on as it came.
        case forwarded
        /// It went on decoded.
        case decoded
        /// It could not be read, or would have become too much.
        case refused
    }

    package var requests: [RequestOutcome: UInt64] = [:]
    /// Answers that the gateway compressed.
    package var answers: [ContentCoding: UInt64] = [:]
    /// Bytes of those before and after.
    package var plainBytes: UInt64 = 0
    package var codedBytes: UInt64 = 0
    /// Answers that went as they are because too many were being compressed.
    package var skipped: UInt64 = 0
    /// Answers that came coded and could not be looked into, wholly or from some byte on.
    package var unreadable: UInt64 = 0

    package init() {}

    package mutating func merge(_ other: CodingStatistics) {
        self.requests.merge(other.requests, uniquingKeysWith: +)
        self.answers.merge(other.answers, uniquingKeysWith: +)
        self.plainBytes += other.plainBytes
        self.codedBytes += other.codedBytes
        self.skipped += other.skipped
        self.unreadable += other.unreadable
    }
}

/// What an exchange has to do with content codings; only those that have have one.
///
/// **Requests** that come coded are decoded for one of two reasons. Where the gateway has to look
/// into a body to route it, `view` holds its beginning, decoded, `maxBufferedBody` of it at most; the
/// body itself goes on as it came. Where the replicas cannot read it (`decodesRequests`), `pending`
/// holds what is not decoded yet, and what is becomes the exchange's body. **Answers** are compressed
/// by `encoder`, or came coded and are read along by `reader`.
final class CodedContent {
    /// Of the request; in the order in which they were applied.
    var codings = ContentCodings.known([])
    var decoder: ContentDecoder?
    /// What the decoder was counted with.
    var decoderBytes = 0
    /// The body goes on decoded, and not all of it is.
    var decodesForUpstream = false
    var view: ByteBuffer?
    /// Coded bytes of the exchange's body that are in `view`.
    var viewedBytes = 0
    var pending: ByteBuffer?
    /// It was counted as forwarded, decoded or refused.
    var isCounted = false

    var encoder: ContentEncoder?
    /// The client gets what there is after each batch.
    var flushesEachBatch = false
    /// There is something that was not flushed.
    var isDirty = false
    var reader: ContentDecoder?
    var readerBytes = 0
    /// What was seen of the answer is nothing, or not all.
    var isUnreadable = false

    /// Nothing of the body is left to be decoded.
    var isDrained: Bool {
        self.pending?.isEmpty ?? true && !(self.decoder?.mayHaveMore ?? false)
    }
}

/// What a worker needs to code: nothing, until somebody does.
final class WorkerCoding {
    static let scratchBytes = 32 * 1024

    var pool = CodingPool()
    var statistics = CodingStatistics()
    let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: WorkerCoding.scratchBytes,
        alignment: 64
    )
    /// For what comes out of the encoder while `scratch` is being read.
    let encoded = UnsafeMutableRawBufferPointer.allocate(
        byteCount: WorkerCoding.scratchBytes,
        alignment: 64
    )
    /// For the heads that are written anew.
    let answerHead = ResponseHead()

    deinit {
        self.scratch.deallocate()
        self.encoded.deallocate()
    }

    /// Takes back what an exchange had.
    func release(_ content: CodedContent, _ buffers: inout BufferPool) {
        self.endDecoding(content)
        if let encoder = content.encoder.take() { self.pool.give(encoder) }
        self.endReading(content)
        if let view = content.view.take() { buffers.give(view) }
        if let pending = content.pending.take() { buffers.give(pending) }
    }

    func endDecoding(_ content: CodedContent) {
        guard let decoder = content.decoder.take() else { return }
        self.pool.give(decoder, counted: content.decoderBytes)
        content.decoderBytes = 0
    }

    func endReading(_ content: CodedContent) {
        guard let reader = content.reader.take() else { return }
        self.pool.give(reader, counted: content.readerBytes)
        content.readerBytes = 0
    }
}
