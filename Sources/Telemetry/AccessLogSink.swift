import Core
import EventLoop

/// A worker's end of the access log; belongs to one loop.
///
/// Lines gather in a chunk, which goes to the writer when it is full or `flushDelay` after its
/// first line. A line costs the worker its encoding and nothing else: no lock, no system call.
package final class AccessLogSink {
    /// A chunk is handed over once it holds this many bytes.
    package static let chunkBytes = 64 * 1_024
    /// The longest a line waits for more.
    package static let flushDelay = Duration.milliseconds(200)

    private let writer: AccessLogWriter
    private let loop: EventLoop
    private let encoder: AccessLogEncoder
    private var buffer: ByteBuffer
    private var lineCount = 0
    private var timer: LoopTimer?
    private var sampler: Int

    init(_ writer: AccessLogWriter, loop: EventLoop) {
        self.writer = writer
        self.loop = loop
        self.encoder = AccessLogEncoder(format: writer.options.format)
        self.buffer = ByteBuffer(capacity: Self.chunkBytes)
        // Begins in the middle, so that workers with little traffic log their share of it too.
        self.sampler = 500_000
    }

    deinit {
        assert(self.lineCount == 0, "an access log's sink was dropped with lines in it")
        self.timer?.cancel()
    }

    /// Whether the next request belongs to the sample: exact over any run of requests.
    package func takesNext() -> Bool {
        self.sampler += self.writer.options.sampleMillionths
        if self.sampler < 1_000_000 { return false }
        self.sampler -= 1_000_000
        return true
    }

    /// Adds a line for a request that `takesNext` wanted.
    ///
    /// - Parameter path: without its query, which may hold secrets.
    package func append(_ record: AccessLogRecord, path: RawSpan, requestID: RawSpan) {
        self.loop.assertOnLoop()
        self.encoder.append(record, path: path, requestID: requestID, to: self.buffer)
        self.lineCount += 1
        if self.buffer.count >= Self.chunkBytes {
            self.flush()
        } else if self.timer == nil {
            self.timer = self.loop.schedule(after: Self.flushDelay) { [weak self] in self?.flush() }
        }
    }

    /// Hands over what there is. To be called before the worker ends.
    package func flush() {
        self.timer?.cancel()
        self.timer = nil
        if self.lineCount == 0 { return }
        let chunk = AccessLogChunk(bytes: self.buffer, lineCount: self.lineCount)
        self.lineCount = 0
        if self.writer.submit(chunk) {
            self.buffer = ByteBuffer(capacity: Self.chunkBytes)
        } else {
            self.buffer.removeAll()
        }
    }
}
