import Core
import EventLoop
import HTTP
import HTTP2
import Traffic

/// HTTP/2 on a client's connection: the session, its streams, and the connection's own deadlines.
///
/// The connection reads and writes; what is read goes to the session, which calls streams; what
/// they have to say is composed when the turn ends, for all of them together, or at once where one
/// has much. Streams that go on after a pause do so when the turn ends (`goOn`): the caller may be
/// in the midst of another connection's read.
///
/// A connection is counted once; each stream but the first counts as one more, so that a client gets
/// no more out of the gateway by one connection than by many.
///
/// Deadlines: settings and each field block have to come within the header timeout; a connection
/// without streams is idle; on one with streams that is silent the client is asked for a sign of
/// life. A drain tells first that there will be an end, and takes no more streams when the client
/// must have read that.
final class Multiplexer: HTTP2SessionOwner {
    /// Silence on a connection with streams after which its client is asked whether it is there.
    static let pingInterval = Interval(.seconds(30))
    /// Within this time it answers.
    static let pingTimeout = Interval(.seconds(15))
    /// A client that has not answered has read by then that the gateway goes away.
    static let farewellTime = Interval(.seconds(1))
    /// Bytes composed before they are handed to the socket. With a frame they fit a spare buffer.
    private static let composedBytes = 15 * 1024

    /// What the connection's timer stands for.
    private enum Deadline { case settings, block, idle, ping, answer, farewell }

    /// It ends the multiplexer when it closes.
    unowned(unsafe) let connection: ServerConnection
    let worker: Worker
    let session: HTTP2Session
    /// Streams that count as connections: all but one, which has the connection's place.
    private var places = 0
    private var deadline = Deadline.settings
    private var isFlushing = false
    private var isReceiving = false
    private var isEnded = false
    private var isDraining = false
    /// Streams that got something in this read.
    private var touched: [ServerStream] = []
    /// Streams to go on with when the turn ends.
    private var waiting: [ServerStream] = []
    /// The client did too much of something: its streams are to be ended.
    private var isOverdone = false

    init(_ connection: ServerConnection, _ options: HTTP2Options) {
        self.connection = connection
        self.worker = connection.worker
        self.session = HTTP2Session(.server, settings: options.settings(self.worker.headLimits))
        self.session.owner = self
        self.worker.stats.http2.connections += 1
        self.arm(.settings, after: self.worker.timeouts.header)
        self.flushLater()
    }

    var hasStreams: Bool { self.session.streamCount > 0 }

    // MARK: Bytes

    /// Takes what was read.
    func receive(_ bytes: UnsafeRawBufferPointer) {
        if self.isEnded { return }
        self.isReceiving = true
        let result = self.session.receive(bytes, now: self.worker.loop.now)
        self.isReceiving = false
        if self.isEnded { return self.session.close() }
        self.advanceTouched()
        if self.isEnded { return }
        if self.isOverdone { self.endOverdone() }
        self.moveDeadline()
        if result == .end { self.finishIfDone() }
        self.flushLater()
    }

    private func advanceTouched() {
        if self.touched.isEmpty { return }
        let touched = self.touched
        self.touched.removeAll(keepingCapacity: true)
        for stream in touched { stream.advance() }
    }

    /// What was read in this call is handled together, at its end.
    func touch(_ stream: ServerStream) { self.touched.append(stream) }

    /// Composes and sends as much as the client takes.
    func flush() {
        if self.isFlushing || self.isReceiving || self.isEnded { return }
        self.isFlushing = true
        while self.session.wantsOutput, !self.connection.isWriteBlocked,
            !self.connection.hasWriteFailed
        {
            let output = self.connection.compose()
            self.session.write(
                into: output,
                limit: Self.composedBytes,
                now: self.worker.loop.now
            )
            let isEmpty = output.isEmpty
            self.connection.flush()
            if isEmpty { break }
        }
        self.isFlushing = false
        // Not now: the exchange of one of the streams may be on the stack.
        if self.isOverdone || self.isDone { self.worker.pumpLater(self.connection) }
    }

    func flushLater() {
        if !self.connection.isClosed { self.connection.deferFlushOfAll() }
    }

    /// The socket took everything and is ready for more.
    func drained() {
        self.flush()
    }

    /// At the end of a turn: streams that were paused go on.
    func goOn() {
        if self.isOverdone { self.endOverdone() }
        self.finishIfDone()
        if self.waiting.isEmpty || self.isEnded { return }
        let waiting = self.waiting
        self.waiting.removeAll(keepingCapacity: true)
        for stream in waiting { stream.goOn() }
        self.flushLater()
    }

    func goOnLater(_ stream: ServerStream) {
        self.waiting.append(stream)
        self.worker.pumpLater(self.connection)
    }

    // MARK: Ends

    /// The connection is closing: its requests have nobody any more.
    func end() {
        if self.isEnded { return }
        self.isEnded = true
        for stream in self.session.openStreams { (stream as? ServerStream)?.abandon() }
        self.touched = []
        self.waiting = []
        if !self.isReceiving { self.session.close() }
        self.leavePlaces(but: 0)
    }

    /// Nothing more will come that matters, and nothing is left to be said.
    private var isDone: Bool {
        !self.isEnded && !self.session.wantsInput && !self.session.wantsOutput
    }

    private func finishIfDone() {
        guard self.isDone, !self.isFlushing, !self.isReceiving else { return }
        let connection = self.connection
        self.end()
        connection.finishHTTP2()
    }

    private func endOverdone() {
        self.isOverdone = false
        for stream in self.session.openStreams { (stream as? ServerStream)?.abandon() }
        self.flushLater()
    }

    /// Takes no more streams, in two steps: a client that is about to begin one must not be
    /// surprised (RFC 9113, section 6.8).
    func drain() {
        if self.isDraining || self.isEnded { return }
        self.isDraining = true
        if self.session.streamCount == 0 {
            self.session.goAway()
        } else {
            self.session.announceGoAway()
            self.session.ping()
            self.arm(.farewell, after: Self.farewellTime)
        }
        self.flush()
    }

    // MARK: Deadlines

    private func arm(_ deadline: Deadline, after interval: Interval) {
        self.deadline = deadline
        self.connection.arm(after: interval)
    }

    /// What is waited for after something has come, or a stream has ended.
    private func moveDeadline() {
        if self.isEnded { return }
        switch self.deadline {
        case .settings, .farewell:
            return
        case .block:
            if self.session.isInBlock { return }
        case .idle, .ping, .answer:
            if self.session.isInBlock {
                return self.arm(.block, after: self.worker.timeouts.header)
            }
        }
        if self.session.streamCount == 0 {
            self.arm(.idle, after: self.worker.timeouts.idle)
        } else {
            self.arm(.ping, after: Self.pingInterval)
        }
    }

    func timerExpired() {
        switch self.deadline {
        case .settings, .block:
            self.worker.stats.refused(ProxyError(.requestTimeout))
            self.session.terminate(.enhanceYourCalm)
            for stream in self.session.openStreams { (stream as? ServerStream)?.abandon() }
        case .idle:
            self.session.goAway()
        case .ping:
            self.session.ping()
            self.arm(.answer, after: Self.pingTimeout)
        case .answer:
            self.worker.stats.http2.silences += 1
            return self.connection.abort()
        case .farewell:
            self.session.goAway()
            self.deadline = .ping
            self.moveDeadline()
        }
        self.flush()
    }

    // MARK: The session's owner

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? {
        if self.isEnded { return nil }
        self.worker.stats.http2.streams += 1
        if session.streamCount > 0 {
            let limit = self.worker.limits.maxConnections
            guard self.worker.shared.connectionOpened(limit: limit) else {
                self.worker.stats.http2.refusals += 1
                return nil
            }
            self.places += 1
        }
        return ServerStream(self)
    }

    /// A stream has closed.
    func streamClosed() {
        self.leavePlaces(but: max(0, self.session.streamCount - 1))
        self.moveDeadline()
    }

    private func leavePlaces(but needed: Int) {
        while self.places > needed {
            self.places -= 1
            self.worker.shared.connectionClosed()
        }
    }

    func settingsReceived(_ session: HTTP2Session) {
        if self.deadline == .settings { self.deadline = .idle }
    }

    func pingAnswered(_ session: HTTP2Session) {
        guard self.deadline == .farewell else { return }
        self.session.goAway()
        self.deadline = .ping
    }

    /// A client sends it when it leaves: its streams end first, and it closes.
    func goAwayReceived(
        _ session: HTTP2Session,
        lastStream: Int32,
        _ code: HTTP2ErrorCode
    ) {}

    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey {
        WebSocketKey(high: self.worker.random.next(), low: self.worker.random.next())
    }

    /// Not acted upon here: a stream's exchange may be on the stack.
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) {
        self.worker.stats.http2.abuses[what, default: 0] += 1
        self.isOverdone = true
    }
}
