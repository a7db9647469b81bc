import Core
import EventLoop
import HTTP
import TLS
import Traffic

/// A client's HTTP/1 connection: reads requests one at a time, writes their responses in order.
///
/// States: `head` (between requests or inside a head) → `body` (request body arriving) → `waiting`
/// (request complete, response under way) → `head` again, or → `lingering` (response done, rest of
/// the request discarded so that our close does not destroy it), or → `tunnel` (after 101). A short
/// rest of a request that was refused early is skipped instead (`skipping`), and the connection kept.
/// An idle connection holds no buffer: bytes are read into the worker's scratch memory and only what
/// is left over is kept, up to `Worker.readSize` plus one head.
final class ServerConnection: Connection {
    enum State {
        case head
        case body
        case waiting
        case skipping
        case lingering
        case tunnel
        /// The client speaks HTTP/2: `multiplexer` has what comes.
        case http2
    }

    /// Most bytes discarded while lingering; a client that sends more gets a reset.
    private static let lingerBytesMax = 1024 * 1024
    private static let lingerTime = Interval(.seconds(2))
    /// A rest of a refused request's body up to this size is read and thrown away.
    private static let skippedBytesMax: UInt64 = 64 * 1024
    /// Reads in one go before other connections get their turn.
    private static let readsPerTurnMax = 16
    /// Pipelined bytes read ahead while a response is under way.
    private static let readAheadMax = 16 * 1024
    /// How long a half-closed client is trusted to be listening before it is probed.
    private static let halfCloseGrace = Interval(.milliseconds(100))

    let peer: SocketAddress?
    /// The client as upstreams are told of it; made for the first request.
    private lazy var hop = self.peer.flatMap {
        ForwardedHop(
            clientAddress: Array($0.host.utf8),
            isSecure: self.transport.session != nil,
            clientSubject: self.clientSubject
        )
    }
    /// The same object, once it is made: reading it here counts no references.
    private var unownedHop: Unmanaged<ForwardedHop>?
    /// Of the certificate that the client has shown; empty without one.
    private var clientSubject: [UInt8] = []
    /// Counts towards the limit on handshakes.
    private var isGreeting = false
    private(set) var state = State.head
    private var input: ByteBuffer?
    /// Own parser while a head arrives in pieces; a head in one piece uses the worker's.
    private var parser: RequestHead?
    private var decoder = BodyDecoder(RequestFraming.none)
    /// The request at hand, which the worker owns: reading it here counts no references.
    private var unownedExchange: Unmanaged<Exchange>?
    private(set) var exchange: Exchange? {
        get { self.unownedExchange?.takeUnretainedValue() }
        set { self.unownedExchange = newValue.map { .passUnretained($0) } }
    }
    private var isPumping = false
    /// The exchange asked to stop reading the body.
    var isBodyPaused = false
    var keepsAlive = true
    private(set) var isHTTP10 = false
    private(set) var requestMethod = HTTPMethod.get
    var responseIsChunked = false
    var hasBegunResponse = false
    private var hasServed = false
    private var lingered = 0
    /// FIN was read: nothing more will come than what `input` holds.
    private var hasReadEnd = false
    /// Bytes that waited to be written when the timer last looked.
    private var backlogSeen = -1
    private var skipLimit: UInt64 = 0
    private var expectsContinue = false
    /// Counts towards the connection limit; one that is over it does not.
    private let isCounted: Bool
    private let timer: ConnectionTimer
    private var multiplexer: Multiplexer?
    private let http2: HTTP2Options

    init(
        worker: Worker,
        descriptor: Int32,
        peer: SocketAddress?,
        http2: HTTP2Options = HTTP2Options(),
        isCounted: Bool = true
    ) {
        self.peer = peer
        self.http2 = http2
        self.isCounted = isCounted
        self.timer = ConnectionTimer()
        super.init(worker: worker, descriptor: descriptor)
        self.timer.connection = self
    }

    /// Begins to serve: the first head must arrive within the header timeout, after a handshake
    /// where there is a session.
    func open(_ session: TLSSession?) {
        self.start()
        if let session {
            self.secure(session, speaksFirst: false)
            self.isGreeting = true
            self.worker.clientHandshakes += 1
            self.arm(after: self.worker.timeouts.handshake)
        } else {
            self.arm(after: self.worker.timeouts.header)
        }
        self.worker.stats.clientConnections += 1
        self.worker.stats.connectionsAccepted += 1
    }

    /// Serves nobody: says that there are too many connections, and ends politely.
    func turnAway() {
        self.start()
        self.worker.stats.clientConnections += 1
        self.worker.stats.turningAway += 1
        self.refuse(ProxyError(.tooManyConnections))
    }

    func arm(after interval: Interval) {
        self.worker.wheel.arm(self.timer, at: self.worker.loop.now + interval)
    }

    private func disarm() {
        self.worker.wheel.arm(self.timer, at: .distantFuture)
    }

    func pauseIdleTimeout() {
        if self.state == .body { self.disarm() }
    }

    func resumeIdleTimeout() {
        if self.state == .body { self.arm(after: self.worker.timeouts.idle) }
    }

    @inline(__always)
    private func serves(_ exchange: Exchange) -> Bool {
        self.unownedExchange?.toOpaque() == Unmanaged.passUnretained(exchange).toOpaque()
    }

    /// Writes what an upstream is told of the client.
    @inline(__always)
    func writeHop(_ head: RequestHead, _ bytes: RawSpan, into output: ByteBuffer) {
        if self.unownedHop == nil { self.unownedHop = self.hop.map { .passUnretained($0) } }
        self.unownedHop?._withUnsafeGuaranteedRef {
            $0.write(for: head, bytes, trustsClient: self.worker.trustsForwarded, into: output)
        }
    }

    // MARK: TLS

    private func greetingEnded() {
        if !self.isGreeting { return }
        self.isGreeting = false
        self.worker.clientHandshakes -= 1
    }

    override func handshakeFinished() {
        self.greetingEnded()
        guard let session = self.transport.session else { return }
        do throws(TLSFailure) {
            let now = Int64(EventLoop.readWallClock())
            self.clientSubject = try session.peerSubject(now: now) ?? []
        } catch {
            return self.handshakeFailed(error)
        }
        self.worker.stats.tls.handshakes[TLSStatistics.Key(session), default: 0] += 1
        if session.usesKernel { self.worker.stats.tls.kernelSessions += 1 }
        self.arm(after: self.worker.timeouts.header)
        if session.agreesOnHTTP2 { self.beginHTTP2() }
    }

    override func handshakeFailed(_ failure: TLSFailure) {
        self.greetingEnded()
        self.worker.stats.tls.failures[failure.kind, default: 0] += 1
        if failure.kind == .closed { return self.close(reset: true) }
        self.dropSession()
        // What the session has not read is still there, and nobody will tell of it again.
        self.isReadable = true
        if failure.kind == .plainHTTP { return self.refuse(Self.plainHTTP) }
        // OpenSSL has told the client why; a reset would destroy that.
        self.finishConnection(requestIsComplete: false)
    }

    private static let plainHTTP = ProxyError(
        .badRequest,
        detail: ProxyError.Detail(
            label: "plain-http",
            message: "this port speaks TLS: write https:// instead of http://"
        )
    )

    // MARK: Reading

    override func readReady() {
        self.pump()
    }

    /// Reads and handles what there is until the socket is empty or nothing more is wanted.
    func pump() {
        if self.isPumping || self.isClosed { return }
        self.isPumping = true
        if self.state == .http2 { self.multiplexer?.goOn() }
        self.handleInput()
        var budget = Self.readsPerTurnMax
        while self.isReadable, !self.isClosed, self.wantsBytes {
            if budget == 0 {
                self.worker.pumpLater(self)
                break
            }
            budget -= 1
            self.readOnce()
        }
        self.isPumping = false
        if !self.isClosed { self.lookForTheEnd() }
    }

    /// What the end of reading means now that all that was read is handled.
    private func lookForTheEnd() {
        if self.hasReadEnd, self.state == .tunnel {
            // It may have come before the upgrade was accepted.
            if self.input == nil { self.exchange?.tunnelClientEnded() }
        } else if self.hasReadEnd, self.unownedExchange == nil || self.state == .body {
            if !self.hasBacklog { self.handleEndOfStream() }
        } else if self.unownedExchange != nil, self.peerClosed, self.isReadable || self.hasReadEnd {
            self.clientMayBeGone()
        }
        // Nobody reads now, so nobody would meet the error of a client that has reset.
        if !self.isClosed, self.isReadable, self.unownedExchange != nil, !self.wantsBytes,
            Sockets.pendingError(self.transport.descriptor) != 0
        {
            self.clientGone()
        }
    }

    private var wantsBytes: Bool {
        switch self.state {
        // A client that does not read its answers gets no further ones composed.
        case .head: !self.hasBacklog
        // There is a bound to what can be kept of it, and room for answers comes this way.
        case .skipping, .lingering, .http2: true
        case .body, .tunnel: !self.isBodyPaused
        case .waiting: (self.input?.count ?? 0) < Self.readAheadMax
        }
    }

    private func readOnce() {
        if self.state == .body, self.input == nil, let remaining = self.decoder.remainingLength,
            remaining >= UInt64(Worker.readSize), let exchange = self.exchange,
            let room = exchange.roomForBody(remaining: remaining)
        {
            return self.readBody(into: room, atMost: Int(clamping: remaining), exchange)
        }
        if let input = self.input, self.state != .lingering {
            input.reserve(Worker.readSize / 4)
            let result = self.read(into: input.writablePointer, count: input.writableCount)
            if case .bytes(let count) = result {
                self.worker.bytesRead(count)
                input.advance(count)
                self.handleInput()
            } else {
                self.handleEnd(result)
            }
            return
        }
        let result = self.read(into: self.worker.scratch, count: Worker.readSize)
        if case .bytes(let count) = result {
            self.worker.bytesRead(count)
            self.handleScratch(count)
        } else {
            self.handleEnd(result)
        }
    }

    /// A long body that is kept is read to where it is kept.
    private func readBody(into room: ByteBuffer, atMost remaining: Int, _ exchange: Exchange) {
        let result = self.read(
            into: room.writablePointer,
            count: min(room.writableCount, remaining)
        )
        guard case .bytes(let count) = result else { return self.handleEnd(result) }
        self.worker.bytesRead(count)
        self.decoder.skip(count)
        exchange.requestBodyRead(count)
        if self.decoder.isDone {
            self.requestEnded(exchange, trailers: [])
        } else if !self.isBodyPaused {
            self.resumeIdleTimeout()
        }
        exchange.advance()
    }

    /// Bytes straight from the socket in the worker's scratch memory; the rest is kept.
    private func handleScratch(_ count: Int) {
        let bytes = UnsafeRawBufferPointer(start: self.worker.scratch, count: count)
        let consumed = self.handle(bytes)
        if self.isClosed || consumed == count { return }
        let input = self.worker.buffers.take()
        input.append(self.worker.scratch + consumed, count: count - consumed)
        self.input = input
    }

    /// Bytes kept from earlier reads.
    private func handleInput() {
        guard let input = self.input, !self.isClosed else { return }
        let bytes = UnsafeRawBufferPointer(start: input.readablePointer, count: input.count)
        let consumed = self.handle(bytes)
        // A refusal ends reading: what was left has been given back.
        if self.isClosed || self.input !== input { return }
        input.consume(consumed)
        if input.isEmpty {
            self.input = nil
            self.worker.buffers.give(input)
        }
    }

    /// Feeds bytes through the states; returns how many were used up.
    private func handle(_ bytes: UnsafeRawBufferPointer) -> Int {
        var offset = 0
        while !self.isClosed {
            let before = offset
            let stateBefore = self.state
            switch self.state {
            case .head:
                if offset == bytes.count || self.hasBacklog { return offset }
                offset += self.handleHead(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            case .body:
                if self.isBodyPaused { return offset }
                offset += self.handleBody(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            case .waiting:
                return offset
            case .skipping:
                offset += self.skipBody(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            case .lingering:
                self.discard(bytes.count - offset)
                return bytes.count
            case .tunnel:
                if self.isBodyPaused || offset == bytes.count { return offset }
                self.exchange?.tunnelFromClient(
                    UnsafeRawBufferPointer(rebasing: bytes[offset...])
                )
                return bytes.count
            case .http2:
                self.multiplexer?.receive(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
                return bytes.count
            }
            if offset == before, self.state == stateBefore { return offset }
        }
        return offset
    }

    private func handleHead(_ bytes: UnsafeRawBufferPointer) -> Int {
        if let parser = self.parser { return self.parseHead(parser, bytes) }
        return self.worker.unownedRequestHead._withUnsafeGuaranteedRef { head in
            head.reset()
            return self.parseHead(head, bytes)
        }
    }

    private func parseHead(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> Int {
        switch head.parse(bytes.bytes, limits: self.worker.headLimits) {
        case .needMore:
            if self.parser == nil {
                // Parsed again from the start by a parser of its own, once.
                self.parser = RequestHead()
                if self.hasServed { self.arm(after: self.worker.timeouts.header) }
            }
            return 0
        case .complete(let count):
            if self.parser != nil { self.parser = nil }
            self.begin(
                head,
                UnsafeRawBufferPointer(rebasing: bytes[..<count]),
                hasMore: bytes.count > count
            )
            return count
        case .invalid(.http2Preface)
        where !self.hasServed && self.transport.session == nil && self.http2.isEnabled:
            self.parser = nil
            self.beginHTTP2()
            return 0
        case .invalid(let error):
            self.parser = nil
            self.refuse(ProxyError(error))
            return 0
        }
    }

    /// The client speaks HTTP/2, as it has agreed on or as its first bytes say: nothing of them has
    /// been used up.
    private func beginHTTP2() {
        self.hasServed = true
        self.state = .http2
        self.multiplexer = Multiplexer(self, self.http2)
    }

    /// The session has ended, and has said so.
    func finishHTTP2() {
        if !self.isClosed { self.finishConnection(requestIsComplete: false) }
    }

    private func begin(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer, hasMore: Bool) {
        self.hasServed = true
        self.hasBegunResponse = false
        self.responseIsChunked = false
        self.isHTTP10 = head.minorVersion == 0
        self.expectsContinue = head.expectsContinue
        self.requestMethod = head.method
        self.keepsAlive = head.keepsAlive && !self.worker.isDraining
        self.decoder.reset(head.framing)
        self.isBodyPaused = false
        self.state = self.decoder.isDone ? .waiting : .body
        self.disarm()
        let exchange = self.worker.takeExchange(isShadow: false)
        self.unownedExchange = exchange
        exchange._withUnsafeGuaranteedRef { exchange in
            exchange.begin(head, bytes.bytes, from: .http1(.passUnretained(self)))
            // What came with the head belongs to the first write upstream; else go ahead now.
            if self.serves(exchange), self.state == .waiting || !hasMore { exchange.advance() }
        }
        if self.state == .body { self.arm(after: self.worker.timeouts.idle) }
    }

    private func handleBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let exchange = self.unownedExchange else { preconditionFailure("a body for nobody") }
        return exchange._withUnsafeGuaranteedRef { self.handleBody(bytes, $0) }
    }

    @inline(__always)
    private func handleBody(_ bytes: UnsafeRawBufferPointer, _ exchange: Exchange) -> Int {
        var offset = 0
        var advance = false
        decoding: while self.state == .body {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            switch self.decoder.next(rest.bytes) {
            case .data(let range, let consumed):
                offset += consumed
                exchange.requestBody(UnsafeRawBufferPointer(rebasing: rest[range]))
                advance = true
                if !self.serves(exchange) { return offset }
                // Of a given length: what ends in chunks says so by itself.
                if self.decoder.isDone { self.requestEnded(exchange, trailers: []) }
            case .needMore(let consumed):
                offset += consumed
                // The head may not have been sent yet: it does not wait for the first whole chunk.
                advance = true
                break decoding
            case .end(let consumed):
                offset += consumed
                self.requestEnded(exchange, trailers: self.decoder.trailers)
                advance = true
            case .invalid(let error):
                exchange.fail(ProxyError(requestBody: error))
                return offset
            }
        }
        if !self.isBodyPaused { self.resumeIdleTimeout() }
        if advance, self.serves(exchange) { exchange.advance() }
        return offset
    }

    private func requestEnded(_ exchange: Exchange, trailers: [UInt8]) {
        self.state = .waiting
        self.disarm()
        exchange.requestEnded(trailers: trailers)
    }

    /// The rest of a request that was answered before it was complete.
    private func skipBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        switch self.decoder.next(bytes.bytes) {
        case .data(_, let consumed), .needMore(let consumed):
            if self.decoder.bodyBytes > self.skipLimit { self.close(reset: true) }
            return consumed
        case .end(let consumed):
            self.awaitNextRequest()
            return consumed
        case .invalid:
            self.close(reset: true)
            return bytes.count
        }
    }

    /// Whether what is left of the request is short enough to be skipped, and surely on its way.
    var canSkipRest: Bool {
        guard self.state == .body, !self.expectsContinue else { return false }
        return (self.decoder.remainingLength ?? .max) <= Self.skippedBytesMax
    }

    private func discard(_ count: Int) {
        self.lingered += count
        if self.lingered > Self.lingerBytesMax { self.close(reset: true) }
    }

    // MARK: Ends

    private func handleEnd(_ result: IOResult) {
        switch result {
        case .wouldBlock, .bytes:
            return
        case .failed:
            self.clientGone()
        case .endOfStream:
            self.handleEndOfStream()
        }
    }

    private func handleEndOfStream() {
        self.hasReadEnd = true
        if self.isFlushDeferred { self.flush() }
        switch self.state {
        case .head, .skipping, .lingering:
            // Between requests this is the usual end; inside a head there is nobody to answer. What
            // waits to be written is for a client that has only finished sending.
            if self.output == nil { self.close() } else { self.linger() }
        case .body:
            self.clientGone()
        case .tunnel where self.transport.session?.isTruncated == true:
            // Nobody knows if this was the client's end or somebody's between.
            self.clientGone()
        case .tunnel:
            self.exchange?.tunnelClientEnded()
        case .waiting:
            self.clientMayBeGone()
        case .http2:
            if self.output == nil, self.multiplexer?.hasStreams == false {
                self.close()
            } else {
                self.clientGone()
            }
        }
    }

    /// The client sent FIN while its response is under way: half-closed, or gone? A write tells, so
    /// after a grace an interim response is sent, which a living client must skip
    /// (RFC 9110, section 15.2) and a dead one's kernel answers with a reset.
    private func clientMayBeGone() {
        guard self.state == .waiting else { return }
        if self.timer.deadline == .distantFuture { self.arm(after: Self.halfCloseGrace) }
    }

    private func probeHalfClosedClient() {
        if self.hasBegunResponse { return }
        if self.isHTTP10 {
            self.clientGone()
            return
        }
        self.compose().append("HTTP/1.1 102 Processing\r\n\r\n")
        self.flush()
    }

    private func clientGone() {
        if let exchange = self.exchange {
            self.exchange = nil
            exchange.clientGone()
        }
        self.close(reset: true)
    }

    override func writeFailed() {
        self.clientGone()
    }

    override func closed() {
        self.greetingEnded()
        self.multiplexer?.end()
        self.worker.wheel.remove(self.timer)
        if let input = self.input.take() {
            self.worker.buffers.give(input)
        }
        self.worker.stats.clientConnections -= 1
        if self.isCounted {
            self.worker.shared.connectionClosed()
        } else {
            self.worker.stats.turningAway -= 1
        }
        assert(self.exchange == nil, "closed under a request")
    }

    /// The connection's deadline has passed: what it means depends on the state.
    func timerExpired() {
        if self.unownedExchange == nil, let count = self.output?.count, count != self.backlogSeen {
            // A slow reader that reads.
            self.backlogSeen = count
            self.arm(after: self.worker.timeouts.idle)
            return
        }
        if self.isHandshaking {
            self.worker.stats.tls.failures[.timeout, default: 0] += 1
            return self.close(reset: true)
        }
        switch self.state {
        case .head:
            if self.parser != nil || self.input != nil {
                self.refuse(ProxyError(.requestTimeout))
            } else {
                self.close()
            }
        case .body:
            self.exchange?.fail(ProxyError(.requestTimeout))
        case .waiting:
            self.probeHalfClosedClient()
        case .skipping, .lingering:
            self.close()
        case .tunnel:
            break
        case .http2:
            self.backlogSeen = -1
            // What it was sent has not moved for as long as that.
            if self.output != nil { self.clientGone() } else { self.multiplexer?.timerExpired() }
        }
    }

    /// Answers what is not a request, and closes.
    private func refuse(_ error: ProxyError) {
        self.worker.stats.refused(error)
        self.keepsAlive = false
        ErrorResponse.write(
            error,
            style: .plain,
            date: self.worker.date(),
            keepsAlive: false,
            into: self.compose()
        )
        self.flush()
        self.finishConnection(requestIsComplete: false)
    }

    /// Ends the connection politely: the response first, then FIN, then what the client still sends
    /// is read for a moment, so that no reset overtakes the response (RFC 9112, section 9.6).
    private func finishConnection(requestIsComplete: Bool) {
        if requestIsComplete, self.input == nil, self.output == nil, !self.isReadable {
            self.close()
            return
        }
        self.linger()
        if let input = self.input.take() {
            self.worker.buffers.give(input)
        }
        if self.output == nil { self.finishWriting() }
        if self.peerClosed, self.output == nil { self.close() }
    }

    /// Reads on for a moment; first the answer must get out, however slowly it is read.
    private func linger() {
        self.state = .lingering
        self.lingered = 0
        self.backlogSeen = -1
        self.arm(after: self.output == nil ? Self.lingerTime : self.worker.timeouts.idle)
        if self.isReadable { self.worker.pumpLater(self) }
    }

    override func deferredFlushEnded(isDone: Bool) {
        if let multiplexer = self.multiplexer { return multiplexer.flush() }
        if !isDone { self.exchange?.clientBlocked() }
    }

    override func drained() {
        switch self.state {
        case .lingering:
            self.finishWriting()
            self.arm(after: Self.lingerTime)
            if self.peerClosed { self.close() }
        case .head:
            self.arm(after: self.worker.timeouts.idle)
            self.worker.pumpLater(self)
        case .body, .skipping, .waiting, .tunnel:
            self.exchange?.clientDrained()
        case .http2:
            self.multiplexer?.drained()
        }
    }

    // MARK: The end of an exchange

    func detachExchange() {
        self.exchange = nil
    }

    /// The response is written: on to the next request, or to the end of the connection.
    func exchangeFinished(requestIsComplete: Bool) {
        self.unownedExchange = nil
        if self.isClosed { return }
        if !requestIsComplete, self.keepsAlive, self.canSkipRest {
            self.state = .skipping
            self.skipLimit = self.decoder.bodyBytes + Self.skippedBytesMax
            self.arm(after: Self.lingerTime)
            self.worker.pumpLater(self)
            return
        }
        guard requestIsComplete, self.keepsAlive, self.state != .tunnel else {
            self.finishConnection(requestIsComplete: requestIsComplete)
            return
        }
        self.awaitNextRequest()
        // What was pipelined is handled at the end of the turn: the caller may be reading.
        if self.input != nil || self.isReadable || self.hasReadEnd {
            self.worker.pumpLater(self)
        }
    }

    private func awaitNextRequest() {
        self.state = .head
        self.backlogSeen = -1
        self.arm(after: self.worker.timeouts.idle)
    }

    func enterTunnel() {
        self.state = .tunnel
        self.disarm()
        if self.input != nil || self.hasReadEnd { self.worker.pumpLater(self) }
    }

    /// Both directions of the tunnel are done.
    func endTunnel() {
        self.keepsAlive = false
    }

    /// Closes if nothing is under way; a running request closes it when done.
    func drain() {
        self.keepsAlive = false
        self.multiplexer?.drain()
        if self.state == .head, self.parser == nil, self.input == nil { self.close() }
    }

    /// Ends at once, whatever is under way.
    func abort() {
        self.clientGone()
    }
}

/// The deadline of a client connection.
final class ConnectionTimer: WheelTimer {
    unowned(unsafe) var connection: ServerConnection?

    override func expired() {
        self.connection?.timerExpired()
    }
}
