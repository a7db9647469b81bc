import Core
import EventLoop
import Recordings
import Synchronization

/// What the recorders of a gateway did since it was started, one after the other.
///
/// Threads: all from any.
package final class RecorderCounters: Sendable {
    fileprivate let writtenRequests = Atomic<UInt64>(0)
    fileprivate let droppedRequests = Atomic<UInt64>(0)
    fileprivate let writtenBytes = Atomic<UInt64>(0)

    package init() {}

    package var written: UInt64 { self.writtenRequests.load(ordering: .relaxed) }
    /// Requests that were lost because the disk was too slow or full.
    package var dropped: UInt64 { self.droppedRequests.load(ordering: .relaxed) }
    /// Of blocks as they lie in files.
    package var bytes: UInt64 { self.writtenBytes.load(ordering: .relaxed) }
}

/// Writes recordings on a thread of its own.
///
/// Threads: everything from any thread; files belong to the recorder's.
package final class TrafficRecorder: Sendable {
    /// Blocks that wait for the thread: with `RecorderSink.blockBytes` each, 8 MiB.
    package static let blocksMax = 32

    /// A segment is at most so much older than it should be where nothing is written.
    private static let agePeriodMax = Duration.seconds(60)

    package let options: RecorderOptions
    private let counters: RecorderCounters
    private let thread: LoopThread
    private let store: SegmentStore
    private let waiting = Atomic<Int>(0)
    private let isClosed = Atomic<Bool>(false)
    private let isFailing = Atomic<Bool>(false)
    private let report: @Sendable (String) -> Void

    /// Opens the folder, mends what a crash has left, and starts the thread.
    /// - Parameter report: told when writing begins to fail, and what was mended; from any thread.
    package init(
        _ options: RecorderOptions,
        counters: RecorderCounters = RecorderCounters(),
        report: @escaping @Sendable (String) -> Void
    ) throws(SystemError) {
        self.options = options
        self.counters = counters
        self.report = report
        self.store = try SegmentStore(options, report: report)
        self.thread = LoopThread(name: "weir-recorder", loop: try EventLoop())
        self.thread.loop.post { [weak self] in self?.watchAge() }
    }

    deinit {
        precondition(
            self.isClosed.load(ordering: .relaxed),
            "a recorder was dropped without being closed"
        )
    }

    package var dropped: UInt64 { self.counters.dropped }
    package var written: UInt64 { self.counters.written }

    /// A worker's end; belongs to `loop`.
    package func makeSink(on loop: EventLoop) -> RecorderSink {
        RecorderSink(self, loop: loop)
    }

    /// Writes what waits, closes the segment and ends the thread. Sinks must have been flushed
    /// before; idempotent.
    package func close() {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        let isPosted = self.thread.loop.post { [self] in
            self.store.close()
            self.thread.loop.stop()
        }
        if !isPosted { self.thread.loop.stop() }
        self.thread.join()
    }

    /// As `close`, without waiting: `completion` runs on `loop`, which must not end before,
    /// once all is written.
    package func close(on loop: EventLoop, _ completion: @escaping @Sendable () -> Void) {
        guard !self.isClosed.exchange(true, ordering: .acquiringAndReleasing) else {
            return completion()
        }
        let isPosted = self.thread.loop.post { [self] in
            self.store.close()
            self.thread.loop.stop()
            loop.post {
                self.thread.join()
                completion()
            }
        }
        precondition(isPosted, "a recorder's mailbox holds more than its sinks may send")
    }

    // MARK: For sinks

    /// Takes a block over, or drops and counts its requests.
    func submit(_ block: RecordingBlock) {
        let waiting = self.waiting.add(1, ordering: .relaxed).newValue
        if waiting <= Self.blocksMax, !self.isClosed.load(ordering: .acquiring),
            self.thread.loop.post({ [self] in self.write(block) })
        {
            return
        }
        self.waiting.subtract(1, ordering: .relaxed)
        self.drop(block)
    }

    private func drop(_ block: RecordingBlock) {
        self.counters.droppedRequests.add(UInt64(block.requestCount), ordering: .relaxed)
    }

    /// Closes a segment that is too old though nothing is written any more.
    private func watchAge() {
        self.store.closeIfOld(self.thread.loop.refreshNow())
        let period = min(self.options.segmentAge, Self.agePeriodMax)
        self.thread.loop.schedule(after: period) { [weak self] in self?.watchAge() }
    }

    /// On the recorder's thread.
    private func write(_ block: RecordingBlock) {
        let now = self.thread.loop.refreshNow()
        let before = self.store.bytesWritten
        let failure = self.store.write(block, at: now)
        self.waiting.subtract(1, ordering: .relaxed)
        guard let failure else {
            let bytes = self.store.bytesWritten - before
            self.counters.writtenBytes.add(bytes, ordering: .relaxed)
            self.counters.writtenRequests.add(UInt64(block.requestCount), ordering: .relaxed)
            if self.isFailing.exchange(false, ordering: .relaxed) { self.report("writes again") }
            return
        }
        self.drop(block)
        if !self.isFailing.exchange(true, ordering: .relaxed) {
            self.report("requests are not recorded: \(failure)")
        }
    }
}
