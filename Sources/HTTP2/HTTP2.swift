// Design note
//
// nghttp2 behind two classes: bytes in, events out; calls in, bytes out. No sockets, no timers, no
// policy.
//
//   HTTP2Session   one connection, of a server or of a client
//   HTTP2Stream    one request and its response, to be subclassed by whoever speaks for one side
//
// Input: the owner hands what it read to `receive`, with the time. What the peer said comes as
// calls of the session's owner (`HTTP2SessionOwner`) and of its streams, before `receive` returns.
// Field blocks come as HTTP/1 heads, checked as strictly as those (`FieldBlock`), or as the error
// that is wrong with them.
//
// Output: calls on streams and the session only note what is to be sent. `write` composes it, as
// far as the peer's windows and the given limit allow; the owner calls it when the turn ends, and
// again when the socket is writable. Bytes of bodies wait in their stream until then; the owner
// stops the source while `HTTP2Stream.outputCount` is more than it likes and goes on at
// `outputDrained`.
//
// Room for the peer's bodies: each stream has a window of its own, which grows again only by
// `HTTP2Stream.consumed`; that of the connection grows as bytes come, so that no stream that is not
// read holds up the others. What a peer can make us keep is therefore
// `maxConcurrentStreams * streamWindowBytes`.
//
// Limits: `HTTP2Settings`; what a peer may only do so often is counted by `FrameMeter`, and one too
// many is told to the owner by `peerOverdid`, once: the session has said farewell then.
//
// What it does not do: push, upgrades from HTTP/1, deciding what a fault means for a request.

import CNghttp2
import Core
import HTTP

/// What one side announces, and the bounds it keeps.
package struct HTTP2Settings: Sendable {
    /// Streams that the peer may have open at once.
    package var maxConcurrentStreams: UInt32 = 100
    /// Bytes of one body that may come before `consumed` is called. At least 65 535.
    package var streamWindowBytes: Int32 = 128 * 1024
    /// Bytes of all bodies on their way at once. At least 65 535.
    package var connectionWindowBytes: Int32 = 1024 * 1024
    /// Bounds of a decoded field block.
    package var head = HeadLimits()
    /// Of a server: WebSockets by extended CONNECT (RFC 8441) are offered.
    package var offersWebSockets = false

    /// CONTINUATION frames behind one HEADERS frame. A block of 256 KiB takes as many.
    package static let continuationsMax = 16
    /// Settings in one SETTINGS frame.
    package static let settingsPerFrameMax = 16
    /// Answers to PING and SETTINGS that wait because the peer does not read.
    package static let answersWaitingMax = 200
    /// Memory for compressing and decompressing fields, each way.
    package static let headerTableBytes: UInt32 = 4_096

    package init() {}
}

/// Codes of RST_STREAM and GOAWAY (RFC 9113, section 7). Unknown ones mean `internalError`.
public enum HTTP2ErrorCode: UInt32, Sendable {
    case noError, protocolError, internalError, flowControlError, settingsTimeout, streamClosed
    case frameSizeError, refusedStream, cancel, compressionError, connectError, enhanceYourCalm
    case inadequateSecurity, http11Required

    package init(code: UInt32) {
        self = HTTP2ErrorCode(rawValue: code) ?? .internalError
    }
}

/// Whoever has a session: told what concerns it as a whole.
///
/// The session does not hold its owner.
package protocol HTTP2SessionOwner: AnyObject {
    /// Of a server: the peer begins a stream. Nil refuses it (`refusedStream`).
    func beginStream(_ session: HTTP2Session) -> HTTP2Stream?
    /// The peer's settings have come, for the first time or anew.
    func settingsReceived(_ session: HTTP2Session)
    /// The answer to a `ping` has come.
    func pingAnswered(_ session: HTTP2Session)
    /// The peer will take no more streams; those of ours above `lastStream` it has not looked at:
    /// they end with `refusedStream` right after this.
    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode)
    /// The key of an upgrade in place of an extended CONNECT. Asked for only where WebSockets are
    /// offered.
    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey
    /// The peer did too much of something: nothing more that it sends will be looked at.
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse)
}
