import Core
import EventLoop

/// What Weir tells about itself: metrics as text, one line per request, and logs.
///
/// Three parts, independent of each other and of what is measured:
///
/// * `ExpositionWriter` writes metrics as Prometheus and OpenMetrics read them. It keeps no
///   registry: whoever answers a scrape walks the merged statistics and writes them.
/// * `AccessLogEncoder`, `AccessLogSink` and `AccessLogWriter` take a line from a worker to a file
///   without the worker ever waiting for a disk or a pipe. What does not fit is dropped and
///   counted.
/// * `LineLogHandler` is where swift-log's messages go.
///
/// Limits: an access-log line (`AccessLogEncoder.maxTextBytes` per text), the bytes on their way to
/// the file (`AccessLogWriter.maxChunks` × `AccessLogSink.chunkBytes`), a log line
/// (`LineLogHandler.maxLineBytes`).
package enum Telemetry {
    /// The wall clock in nanoseconds since 1970.
    package static func wallClockNanoseconds() -> UInt64 {
        UInt64(max(0, EventLoop.readWallClock()) * 1e9)
    }
}
