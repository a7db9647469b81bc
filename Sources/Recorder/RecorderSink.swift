import Core
import EventLoop
import Recordings

/// A worker's end of the recorder; belongs to one loop.
package final class RecorderSink {
    /// A block is handed over once it holds about this many bytes.
    package static let blockBytes = 256 << 10
    /// The longest a request waits for others: what a crash may lose.
    package static let flushDelay = Duration.seconds(5)

    private let recorder: TrafficRecorder
    private let loop: EventLoop
    private var block = RecordingBlock()
    private var timer: LoopTimer?
    private var sampler = 500_000

    init(_ recorder: TrafficRecorder, loop: EventLoop) {
        self.recorder = recorder
        self.loop = loop
    }

    deinit {
        assert(self.block.requestCount == 0, "a recorder's sink was dropped with requests in it")
        self.timer?.cancel()
    }

    /// Whether the next request belongs to the sample: exact over any run of requests.
    package func takesNext() -> Bool {
        self.sampler += self.recorder.options.sampleMillionths
        if self.sampler < 1_000_000 { return false }
        self.sampler -= 1_000_000
        return true
    }

    /// Adds a request that `takesNext` wanted.
    package func append(_ request: RecordedRequest) {
        self.loop.assertOnLoop()
        self.block.append(request)
        if self.block.isFull || self.block.byteCount >= Self.blockBytes {
            self.flush()
        } else if self.timer == nil {
            self.timer = self.loop.schedule(after: Self.flushDelay) { [weak self] in self?.flush() }
        }
    }

    /// Hands over what there is. To be called before the worker ends.
    package func flush() {
        self.timer?.cancel()
        self.timer = nil
        if self.block.requestCount == 0 { return }
        self.recorder.submit(self.block)
        self.block = RecordingBlock()
    }
}
