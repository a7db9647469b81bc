import Core
import EventLoop
import Recordings
import Synchronization

/// Writes recordings on a thread of its own.
///
/// Threads: everything from any thread; files belong to the recorder's.
package final class TrafficRecorder: Sendable {
    /// Blocks that wait for the thread: with `RecorderSink.blockBytes` each, 8 MiB.
    package static let blocksMax = 32

    package let options: RecorderOptions
    private let thread: LoopThread
    private let store: SegmentStore
    private let waiting = Atomic<Int>(0)
    private let droppedRequests = Atomic<UInt64>(0)
    private let writtenRequests = Atomic<UInt64>(0)
    private let isClosed = Atomic<Bool>(false)
    private let isFailing = Atomic<Bool>(false)
    private let report: @Sendable (String) -> Void

    /// Opens the folder, mends what a crash has left, and starts the thread.
    /// - Parameter report: told when writing begins to fail, and what was mended; from any thread.
    package init(
        _ options: RecorderOptions,
        report: @escaping @Sendable (String) -> Void
    ) throws(SystemError) {
        self.options = options
        self.report = report
        self.store = try SegmentStore(options, report: report)
        self.thread = LoopThread(name: "weir-recorder", loop: try EventLoop())
    }

    deinit {
        precondition(
            self.isClosed.load(ordering: .relaxed),
            "a recorder was dropped without being closed"
        )
    }

    /// Requests that were lost because the disk was too slow or full.
    package var dropped: UInt64 { self.droppedRequests.load(ordering: .relaxed) }
    package var written: UInt64 { self.writtenRequests.load(ordering: .relaxed) }

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
        self.droppedRequests.add(UInt64(block.requestCount), ordering: .relaxed)
    }

    /// On the recorder's thread.
    private func write(_ block: RecordingBlock) {
        let now = self.thread.loop.refreshNow()
        let failure = self.store.write(block, at: now)
        self.waiting.subtract(1, ordering: .relaxed)
        guard let failure else {
            self.writtenRequests.add(UInt64(block.requestCount), ordering: .relaxed)
            if self.isFailing.exchange(false, ordering: .relaxed) { self.report("writes again") }
            return
        }
        self.drop(block)
        if !self.isFailing.exchange(true, ordering: .relaxed) {
            self.report("requests are not recorded: \(failure)")
        }
    }
}
