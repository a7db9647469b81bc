import Core
import HTTP

// Design note
//
// HTTP/1.1 for control surfaces: the admin API, the pretend model server, probes. One loop, one
// thread, no locks. The wire rules are module HTTP's; this module owns sockets, buffers and
// deadlines.
//
//   HTTPServer ──accepts──▸ ServerConnection ──hands──▸ handler(HTTPRequest, ResponseWriter)
//   HTTPFetch: one request out, one bounded answer back.
//   JSONWriter, JSONCursor: what both speak.
//
// A connection serves one request at a time. Its states:
//
//   head ──complete──▸ body ──complete──▸ responding ──end──▸ head …
//     └───────── refused, too large, timed out ─────────▸ closing ──▸ closed
//
// A request reaches the handler whole: head and body. While it is answered the connection goes on
// reading up to `pipelineBytesMax`, so that a client that leaves is noticed at once and the
// handler's `onClose` runs. A client that closes its sending side counts as gone unless its answer
// is complete by then. The handler may answer at once or keep the writer and answer later; a writer
// that outlives its exchange does nothing.
//
// Closing is done in two steps (shut down writing, read what is still under way, close), so that
// the last answer is not lost to a reset (RFC 9112, section 9.6).
//
// What it does not do: TLS, HTTP/2, upgrades, streaming request bodies, compression.

/// Limits and timeouts of an `HTTPServer`.
package struct HTTPServerOptions: Sendable {
    package var headLimits = HeadLimits()
    /// Bytes of a request's content; more is answered 413.
    package var bodyBytesMax = 8 << 20
    /// Connections at a time; the next ones are answered 503 and closed.
    package var connectionsMax = 4_096
    /// Bytes of further requests read while one is answered; then reading pauses.
    package var pipelineBytesMax = 64 << 10
    /// `ResponseWriter.write` says no from this many unsent bytes on.
    package var unsentBytesHigh = 256 << 10
    /// `onWritable` runs when no more than this are unsent.
    package var unsentBytesLow = 64 << 10
    /// A handler that writes on regardless loses the connection at this many unsent bytes.
    package var unsentBytesMax = 64 << 20
    /// Between requests.
    package var idleTimeout: Duration = .seconds(60)
    /// From the first byte of a head to its last.
    package var headTimeout: Duration = .seconds(10)
    /// Without a byte of a body, or without a byte taken by the client.
    package var stallTimeout: Duration = .seconds(30)
    /// For the client's end of a connection that we ended.
    package var lingerTimeout: Duration = .seconds(1)
    /// Listen with SO_REUSEPORT, so that other loops can share the address.
    package var reusePort = false

    package init() {}
}

/// Counts of an `HTTPServer` since its start, and what is open now.
package struct HTTPServerCounts: Hashable, Sendable {
    package var connections = 0
    package var accepted: UInt64 = 0
    package var requests: UInt64 = 0
    /// Heads and bodies that were refused before a handler saw them.
    package var refused: UInt64 = 0
    /// Connections answered 503 for `connectionsMax`.
    package var turnedAway: UInt64 = 0
    /// Exchanges whose client was gone before the answer was complete.
    package var abandoned: UInt64 = 0
}
