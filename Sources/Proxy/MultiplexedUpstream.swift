import Core
import EventLoop
import Glibc
import HTTP
import HTTP2
import Synchronization
import TLS

/// One HTTP/2 connection to a replica: carries as many requests at once as the replica allows.
///
/// States: `connecting` (requests wait in `waiting`) → `open` → closed. An open one takes no more
/// requests once the replica has said GOAWAY, its endpoint has left, or nobody answers; it closes
/// when its last stream has. Output is composed once per turn of the loop, for all streams together.
///
/// **Signs of life.** Servers of gRPC take pings that are not asked for as an attack (their default
/// is one in five minutes), so there is one when the connection was silent for `keepAliveTime`, and
/// one when a request on it has timed out, but not for each of many. Without an answer in
/// `upstreamPingTimeout` all its streams fail, and the next request gets a new connection instead of
/// another timeout.
final class MultiplexedUpstream: Connection, HTTP2SessionOwner {
    enum State {
        case connecting
        case open
    }

    private static let readsPerTurnMax = 16
    /// Composed at once, at most, but for one frame.
    private static let writeBytes = 64 * 1024
    private static let keepAliveTime = Interval(.seconds(300))

    let endpoint: Endpoint
    /// Kept by its connections: another endpoint may have its slot before the last one closes.
    let pool: UpstreamPool
    private(set) var state = State.connecting
    /// Nil before the connection stands.
    private(set) var session: HTTP2Session?
    /// Requests that came before the connection stood.
    private var waiting: [UpstreamStream] = []
    /// No further requests: GOAWAY, or too long a wait.
    private var isWithdrawn = false
    private var isPumping = false
    private var isPinging = false
    private var pingedAt: Instant?
    private var isRemembered = false
    private(set) var hasServed = false
    /// Something has come since its streams of now began, the first of which found it idle.
    private(set) var hasBeenHeard = false
    private var touched: [UpstreamStream] = []
    /// Streams whose head has not been written yet.
    private var unsent: [UpstreamStream] = []
    private let timer = MultiplexedTimer()
    /// For the heads of requests, one at a time.
    let fields = OutgoingFields()

    init(worker: Worker, pool: UpstreamPool, descriptor: Int32) {
        self.endpoint = pool.endpoint
        self.pool = pool
        super.init(worker: worker, descriptor: descriptor)
        self.timer.connection = self
    }

    /// Goes on with a connection on which HTTP/2 was agreed on.
    init(worker: Worker, pool: UpstreamPool, transport: Transport) {
        self.endpoint = pool.endpoint
        self.pool = pool
        super.init(worker: worker, transport: transport)
        self.timer.connection = self
    }

    // MARK: Requests

    /// Whether one more request may be given to it.
    var hasRoom: Bool {
        if self.isWithdrawn || self.isClosed || self.peerClosed { return false }
        guard let session = self.session else {
            return self.waiting.count < Self.waitingMax
        }
        return session.takesRequests
    }

    /// Requests that wait for one connection to stand; more open another one. As many as a server
    /// is taken to allow before it has said a number.
    private static let waitingMax = 100

    var isIdle: Bool { self.waiting.isEmpty && (self.session?.streamCount ?? 0) == 0 }

    /// Gives the connection a request, which is sent at once where `state` is open, and else at
    /// `Exchange.streamReady`.
    func attach(_ exchange: Exchange) -> UpstreamStream {
        if self.isIdle { self.hasBeenHeard = false }
        let stream = UpstreamStream(self, exchange, wasReused: self.hasServed)
        if self.state == .connecting { self.waiting.append(stream) }
        return stream
    }

    /// The request's head was given to the session.
    func began(_ stream: UpstreamStream) {
        self.hasServed = true
        self.unsent.append(stream)
        self.armForLife()
    }

    func cancelled(_ stream: UpstreamStream) {
        if let index = self.waiting.firstIndex(where: { $0 === stream }) {
            self.waiting.remove(at: index)
            // Most often it has waited for too long: the next one tries another connection.
            self.isWithdrawn = true
            if self.waiting.isEmpty { self.close() }
            return
        }
        guard stream.session != nil else { return }
        stream.reset(.cancel)
        self.flushSoon()
    }

    /// A request on it has timed out: is anybody there?
    func probe() {
        guard self.state == .open, !self.isPinging, !self.isClosed else { return }
        let now = self.worker.loop.now
        if let last = self.pingedAt, now < last + self.worker.timeouts.upstreamPing { return }
        self.sendPing()
    }

    // MARK: Connecting

    override func connectFinished(hasInput: Bool) -> Bool {
        guard self.state == .connecting, !self.isHandshaking else { return false }
        let code = Sockets.pendingError(self.transport.descriptor)
        if code != 0 {
            self.fail(.connectFailed(code))
            return true
        }
        if let security = self.endpoint.security {
            self.beginSession(security)
            return true
        }
        self.opened(hasInput: hasInput)
        return true
    }

    private func beginSession(_ security: ClientSecurity) {
        do throws(TLSError) {
            let session = try security.makeSession(
                descriptor: self.transport.descriptor,
                resumes: self.pool.resumption
            )
            session.offer(["h2"])
            self.secure(session, speaksFirst: true)
        } catch {
            self.handshakeFailed(TLSFailure(.malformed, error.description))
        }
    }

    override func handshakeFinished() {
        guard let session = self.transport.session else { return }
        self.worker.stats.tls.upstreamHandshakes[TLSStatistics.Key(session), default: 0] += 1
        guard session.agreesOnHTTP2 else {
            self.pool.hasAgreedOnHTTP2 = false
            return self.fail(.noHTTP2)
        }
        self.opened(hasInput: true)
    }

    override func handshakeFailed(_ failure: TLSFailure) {
        self.worker.stats.tls.upstreamFailures[failure.kind, default: 0] += 1
        // It may be that HTTP/2 was all that was offered: the next connection offers both again.
        self.pool.hasAgreedOnHTTP2 = false
        self.fail(.handshakeFailed(failure.kind))
    }

    /// The connection stands: both sides may say what they allow.
    func opened(hasInput: Bool) {
        self.state = .open
        self.isReadable = hasInput
        Sockets.disableNagle(self.transport.descriptor)
        Sockets.keepAlive(self.transport.descriptor)
        var settings = HTTP2Settings()
        settings.streamWindowBytes = Self.streamWindowBytes
        settings.connectionWindowBytes = Self.connectionWindowBytes
        settings.head = self.worker.headLimits
        self.session = HTTP2Session(.client, settings: settings, owner: self)
        self.flushSoon()
        let waiting = self.waiting
        self.waiting = []
        for stream in waiting { stream.connectionOpened() }
        if self.isClosed { return }
        self.armForLife()
        if hasInput { self.pump() }
    }

    /// Bytes of one answer on their way, at most: what a slow client makes us keep.
    private static let streamWindowBytes: Int32 = 256 * 1024
    /// Bytes of all answers on their way between two reads.
    private static let connectionWindowBytes: Int32 = 4 * 1024 * 1024

    // MARK: Reading

    override func readReady() { self.pump() }

    private func pump() {
        if self.isPumping || self.isClosed || self.session == nil { return }
        self.isPumping = true
        var budget = Self.readsPerTurnMax
        while self.isReadable, !self.isClosed {
            if budget == 0 {
                self.worker.pumpLater(self)
                break
            }
            budget -= 1
            self.readOnce()
        }
        self.isPumping = false
    }

    private func readOnce() {
        guard let session = self.session else { return }
        let result = self.read(into: self.worker.upstreamScratch, count: Worker.readSize)
        switch result {
        case .wouldBlock:
            return
        case .failed(let code):
            return self.fail(.reset(code))
        case .endOfStream:
            return self.isIdle ? self.close() : self.fail(.closedEarly)
        case .bytes(let count):
            self.worker.bytesRead(count)
            self.hasBeenHeard = true
            let bytes = UnsafeRawBufferPointer(start: self.worker.upstreamScratch, count: count)
            let outcome = session.receive(bytes, now: self.worker.loop.now)
            self.endBatch()
            if self.isClosed { return }
            if outcome == .end { return self.sessionEnded() }
            self.armForLife()
            self.flushSoon()
            self.closeIfDone()
        }
    }

    /// A stream has something in the batch of bytes at hand.
    func touch(_ stream: UpstreamStream) {
        if stream.isTouched { return }
        stream.isTouched = true
        self.touched.append(stream)
    }

    private func endBatch() {
        if self.touched.isEmpty { return }
        let touched = self.touched
        self.touched.removeAll(keepingCapacity: true)
        for stream in touched { stream.batchEnded() }
    }

    /// The session will listen to nothing more: what it has to say goes out, and that is all.
    private func sessionEnded() {
        self.composeOutput()
        if !self.isClosed { self.endOfSession() }
    }

    // MARK: Writing

    /// Composes and sends at the end of the turn what there is by then.
    func flushSoon() {
        if self.isClosed || self.session?.wantsOutput != true { return }
        self.deferFlushOfAll()
    }

    override func deferredFlushEnded(isDone: Bool) { self.composeOutput() }

    override func drained() { self.composeOutput() }

    private func composeOutput() {
        guard let session = self.session else { return }
        while !self.isClosed, !self.isWriteBlocked, !self.hasWriteFailed, session.wantsOutput {
            let output = self.compose()
            session.write(into: output, limit: Self.writeBytes, now: self.worker.loop.now)
            if self.isClosed { return }
            let isEmpty = output.isEmpty
            self.flush()
            if isEmpty { break }
        }
        if self.isClosed { return }
        for stream in self.unsent { stream.exchange?.requestSent() }
        self.unsent.removeAll(keepingCapacity: true)
        // It may have said farewell: for what was not HTTP/2, for instance.
        if !session.wantsInput, !session.wantsOutput { return self.endOfSession() }
        self.closeIfDone()
    }

    private func endOfSession() {
        self.isIdle ? self.close() : self.fail(.notHTTP2)
    }

    override func writeFailed() {
        // The server may have answered before it stopped reading: what it sent counts first.
        self.isReadable = true
        self.pump()
        if !self.isClosed { self.fail(.reset(0)) }
    }

    // MARK: The session's owner

    func beginStream(_ session: HTTP2Session) -> HTTP2Stream? { nil }
    func settingsReceived(_ session: HTTP2Session) {}

    func pingAnswered(_ session: HTTP2Session) {
        self.isPinging = false
    }

    func goAwayReceived(_ session: HTTP2Session, lastStream: Int32, _ code: HTTP2ErrorCode) {
        self.withdraw()
    }

    func webSocketKey(_ session: HTTP2Session) -> WebSocketKey { WebSocketKey(high: 0, low: 0) }

    /// `receive` says so too.
    func peerOverdid(_ session: HTTP2Session, _ what: FrameAbuse) {}

    // MARK: Ends

    /// Takes no further requests, and closes behind the last.
    func withdraw() {
        if self.isWithdrawn { return }
        self.isWithdrawn = true
        self.pool.withdrawn(self)
    }

    func streamClosed() {
        if !self.isRemembered, let session = self.transport.session {
            // By now the server's tickets have come.
            self.isRemembered = true
            self.pool.remember(session)
        }
        if self.isIdle { self.armForLife() }
    }

    private func closeIfDone() {
        guard self.isIdle, self.state == .open else { return }
        let isRetired = self.endpoint.isRetired.load(ordering: .relaxed)
        if self.isWithdrawn || isRetired { self.closePolitely() }
    }

    /// Says farewell, as far as there is room for it, and closes.
    func closePolitely() {
        guard let session = self.session, !self.isClosed else { return self.close() }
        session.terminate(.noError)
        if !self.isWriteBlocked, !self.hasWriteFailed {
            session.write(
                into: self.compose(),
                limit: Self.writeBytes,
                now: self.worker.loop.now
            )
            self.flush()
        }
        self.close()
    }

    private func fail(_ failure: UpstreamFailure) {
        var streams = self.waiting
        self.waiting = []
        for stream in self.session?.openStreams ?? [] {
            if let stream = stream as? UpstreamStream { streams.append(stream) }
        }
        // First of all, so that those that are tried again do not come here.
        self.close(reset: self.state != .connecting)
        for stream in streams { stream.connectionFailed(failure) }
    }

    /// The worker ends: whatever is under way has failed.
    func abort() { self.fail(.closedEarly) }

    override func closed() {
        self.worker.wheel.remove(self.timer)
        self.unsent = []
        self.touched = []
        self.session?.close()
        self.pool.closed(self)
    }

    // MARK: Time

    /// Sets the next deadline: of idleness, of a ping's answer, or of silence.
    private func armForLife() {
        // A ping's answer is awaited whatever else comes and goes.
        if self.isPinging { return }
        let interval = self.isIdle ? self.worker.timeouts.upstreamIdle : Self.keepAliveTime
        self.worker.wheel.arm(self.timer, at: self.worker.loop.now + interval)
    }

    private func sendPing() {
        let now = self.worker.loop.now
        self.isPinging = true
        self.pingedAt = now
        self.session?.ping()
        self.flushSoon()
        self.worker.wheel.arm(self.timer, at: now + self.worker.timeouts.upstreamPing)
    }

    fileprivate func timerExpired() {
        guard self.state == .open, !self.isClosed else { return }
        if self.isPinging { return self.isIdle ? self.close() : self.fail(.silent) }
        if self.isIdle { return self.closePolitely() }
        self.sendPing()
    }
}

private final class MultiplexedTimer: WheelTimer {
    unowned(unsafe) var connection: MultiplexedUpstream?

    override func expired() {
        self.connection?.timerExpired()
    }
}
