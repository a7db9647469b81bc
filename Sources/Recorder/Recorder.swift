// Design note
//
// Writes recordings of traffic beside the request path, and reads them.
//
//     worker: RecorderSink ─ RecordingBlock ─▶ TrafficRecorder (a thread) ─▶ SegmentStore ─▶ files
//
// A worker pays for encoding a request, some fifty bytes, and for nothing else: no lock, no system
// call. Blocks that the thread cannot take in time are dropped and counted; a disk that is full or
// slow costs records, never requests. Files are bounded in number and size: the oldest go.
//
// A crash loses what the workers have not handed over (`RecorderSink.flushDelay`) and at most the
// block that was being written: the segment is cut there, and closed, at the next start.

import Core
import EventLoop

/// How recordings are kept.
package struct RecorderOptions: Sendable, Equatable {
    /// The folder; made where it is missing.
    package var folder: String
    /// The share of requests that is recorded, in millionths.
    package var sampleMillionths = 1_000_000
    /// A segment that has so many bytes is closed.
    package var segmentBytes = 64 << 20
    /// So is one that is so old.
    package var segmentAge = Duration.seconds(3_600)
    /// All segments of the folder together; the oldest are removed.
    package var totalBytes = 4 << 30

    package init(folder: String) {
        self.folder = folder
    }
}
