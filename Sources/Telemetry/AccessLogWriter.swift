import Core
import EventLoop
import Glibc
import Synchronization

/// Writes the access log on a thread of its own.
///
/// Workers hand over chunks of whole lines through their `AccessLogSink`; at most `maxChunks` are
/// on their way at a time, and with more a worker drops its lines and counts them, rather than wait
/// for a disk or a reader. A chunk is written whole before the next, so lines of several workers
/// never mix; after a write error its rest is dropped and the next chunk begins on a new line.
///
/// Threads: `make…`, `reopen`, `close` and the counters from any thread; descriptors belong to the
/// writer's thread.
package final class AccessLogWriter: Sendable {
    package struct Options: Sendable {
        package var format: AccessLogEncoder.Format
        /// A file, opened for appending; `-` for standard output.
        package var path: String
        /// The share of requests that is logged, in millionths.
        package var sampleMillionths: Int

        package init(
            format: AccessLogEncoder.Format = .json,
            path: String = AccessLogWriter.standardOutput,
            sampleMillionths: Int = 1_000_000
        ) {
            self.format = format
            self.path = path
            self.sampleMillionths = sampleMillionths
        }
    }

    package static let standardOutput = "-"
    /// Chunks that wait for the writer: with `AccessLogSink.chunkBytes` each, 4 MiB.
    package static let maxChunks = 64
    /// How long `close` waits for a reader that does not read.
    package static let closePatienceMilliseconds: Int32 = 1_000

    package let options: Options
    private let thread: LoopThread
    private let output: AccessLogOutput
    private let waitingChunks = Atomic<Int>(0)
    private let droppedLines = Atomic<UInt64>(0)
    private let writtenLines = Atomic<UInt64>(0)
    private let isClosed = Atomic<Bool>(false)

    /// Opens the file and starts the thread.
    package init(_ options: Options) throws(SystemError) {
        let output = AccessLogOutput(path: options.path)
        try output.open()
        let loop = try EventLoop()
        self.options = options
        self.output = output
        self.thread = LoopThread(name: "weir-accesslog", loop: loop)
    }

    deinit {
        precondition(
            self.isClosed.load(ordering: .relaxed),
            "an access log was dropped without being closed"
        )
    }

    /// Lines that were dropped because the file or its reader was too slow, or a write failed.
    package var dropped: UInt64 { self.droppedLines.load(ordering: .relaxed) }
    /// Lines that were written.
    package var written: UInt64 { self.writtenLines.load(ordering: .relaxed) }

    /// A worker's end; belongs to `loop`.
    package func makeSink(on loop: EventLoop) -> AccessLogSink {
        AccessLogSink(self, loop: loop)
    }

    /// Opens the file anew, as after a rotation. Where that fails, the old one stays in use and
    /// `completion` is told, on the writer's thread.
    package func reopen(_ completion: @escaping @Sendable (SystemError?) -> Void = { _ in }) {
        let isPosted = self.thread.loop.post { [output] in
            do throws(SystemError) {
                try output.open()
                completion(nil)
            } catch {
                completion(error)
            }
        }
        if !isPosted { completion(SystemError("reopen \(self.options.path)", code: EAGAIN)) }
    }

    /// Writes what waits and ends the thread. Sinks must have been flushed before; idempotent.
    package func close() {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        self.output.beginClosing()
        // From inside, so that the chunks before it are written first. The mailbox has room: no
        // more than `maxChunks` and a few reopenings ever wait in it.
        let isPosted = self.thread.loop.post { [output, loop = self.thread.loop] in
            output.close()
            loop.stop()
        }
        if !isPosted { self.thread.loop.stop() }
        self.thread.join()
    }

    // MARK: For sinks

    /// Takes a chunk over, or says no: then its lines are dropped.
    func submit(_ chunk: AccessLogChunk) -> Bool {
        let waiting = self.waitingChunks.add(1, ordering: .relaxed).newValue
        guard waiting <= Self.maxChunks, !self.isClosed.load(ordering: .acquiring) else {
            return self.refuse(chunk)
        }
        let isPosted = self.thread.loop.post { [self] in self.write(chunk) }
        return isPosted ? true : self.refuse(chunk)
    }

    private func refuse(_ chunk: AccessLogChunk) -> Bool {
        self.waitingChunks.subtract(1, ordering: .relaxed)
        self.droppedLines.add(UInt64(chunk.lineCount), ordering: .relaxed)
        return false
    }

    /// On the writer's thread.
    private func write(_ chunk: AccessLogChunk) {
        if self.output.write(chunk.bytes) {
            self.writtenLines.add(UInt64(chunk.lineCount), ordering: .relaxed)
        } else {
            self.droppedLines.add(UInt64(chunk.lineCount), ordering: .relaxed)
        }
        self.waitingChunks.subtract(1, ordering: .relaxed)
    }
}

/// Whole lines on their way from a worker to the writer.
struct AccessLogChunk: @unchecked Sendable {
    // @unchecked: the sink gives its buffer away and takes a new one; one thread has it at a time.
    let bytes: ByteBuffer
    let lineCount: Int
}
