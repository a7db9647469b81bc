import Core
import EventLoop
import Glibc
import HTTP
import HTTP2
import TLS

/// One HTTP/1 connection to a replica: carries one request at a time, idles in its pool between.
///
/// States: `connecting` → `idle` ⇄ `head` (request sent or being sent, response head awaited) →
/// `body` → `idle`, or `tunnel` after 101. Bytes on an idle connection, in either sense of the word
/// unexpected, end it: nobody may smuggle a response to the next request.
final class UpstreamConnection: Connection {
    enum State {
        case connecting
        case idle
        case head
        case body
        case tunnel
    }

    /// Interim responses to one request; a server that sends more is broken.
    private static let interimMax = 16
    private static let readsPerTurnMax = 16

    let endpoint: Endpoint
    /// Kept by its connections: another endpoint may have its slot before the last one closes.
    let pool: UpstreamPool
    private(set) var state = State.connecting
    /// The request at hand, which the worker owns: reading it here counts no references.
    private var unownedExchange: Unmanaged<Exchange>?
    private(set) var exchange: Exchange? {
        get { self.unownedExchange?.takeUnretainedValue() }
        set { self.unownedExchange = newValue.map { .passUnretained($0) } }
    }
    /// Requests sent before the one at hand: 0 on a fresh connection.
    private(set) var requestsBefore = 0
    /// When it last became idle; the pool drops the oldest.
    var idleSince = Instant.zero
    private var input: ByteBuffer?
    private var parser: ResponseHead?
    private var decoder = BodyDecoder(RequestFraming.none)
    private var isPaused = false
    private var isPumping = false
    private var requestIsChunked = false
    private var hasEndedRequest = false
    private var keepsAlive = true
    private var interimCount = 0
    /// Any byte of the response has come.
    private(set) var hasResponseBytes = false

    init(worker: Worker, pool: UpstreamPool, descriptor: Int32) {
        self.endpoint = pool.endpoint
        self.pool = pool
        super.init(worker: worker, descriptor: descriptor)
    }

    @inline(__always)
    private func serves(_ exchange: Exchange) -> Bool {
        self.unownedExchange?.toOpaque() == Unmanaged.passUnretained(exchange).toOpaque()
    }

    // MARK: The request

    /// Gives the connection to an exchange, which sends once `exchange.upstreamReady` is called.
    func attach(_ exchange: Exchange) {
        assert(self.unownedExchange == nil, "a connection carries one request at a time")
        self.unownedExchange = .passUnretained(exchange)
    }

    override func connectFinished(hasInput: Bool) -> Bool {
        guard self.state == .connecting else { return false }
        let code = Sockets.pendingError(self.transport.descriptor)
        if code != 0 {
            self.fail(.connectFailed(code))
            return true
        }
        if let security = self.endpoint.security {
            self.beginSession(security)
            return true
        }
        self.connected(hasInput: hasInput)
        return true
    }

    private func beginSession(_ security: ClientSecurity) {
        do throws(TLSError) {
            let session = try security.makeSession(
                descriptor: self.transport.descriptor,
                resumes: self.pool.resumption
            )
            if self.endpoint.wire == .negotiated { session.offer(["h2", "http/1.1"]) }
            self.secure(session, speaksFirst: true)
        } catch {
            self.handshakeFailed(TLSFailure(.malformed, error.description))
        }
    }

    override func handshakeFinished() {
        guard let session = self.transport.session else { return }
        self.worker.stats.tls.upstreamHandshakes[TLSStatistics.Key(session), default: 0] += 1
        if session.agreesOnHTTP2 { return self.pool.multiplex(self) }
        self.connected(hasInput: false)
    }

    override func handshakeFailed(_ failure: TLSFailure) {
        self.worker.stats.tls.upstreamFailures[failure.kind, default: 0] += 1
        self.fail(.handshakeFailed(failure.kind))
    }

    /// The server is there to be asked.
    private func connected(hasInput: Bool) {
        self.state = .idle
        self.isReadable = hasInput
        // A server that speaks first answers nobody, and one that has closed already never will.
        if hasInput { self.pump() }
        if self.isClosed { return }
        guard let exchange = self.exchange else { return self.pool.put(self) }
        exchange.upstreamReady()
    }

    /// Starts the request: its canonical head, then (in the same write where small) its body.
    func sendHead(_ head: ByteBuffer, isChunked: Bool) {
        self.begin(isChunked: isChunked)
        self.compose().append(head.readablePointer, count: head.count)
    }

    /// Starts and ends a request that is here whole, unless it is too long to wait for the end of the
    /// turn: then nothing has happened.
    @inline(__always)
    func sendWhole(_ exchange: Exchange) -> Bool {
        let count = (exchange.head?.count ?? 0) + (exchange.body?.count ?? 0)
        guard count <= Self.deferredBytesMax, self.output == nil else { return false }
        self.begin(isChunked: false)
        self.hasEndedRequest = true
        let output = self.worker.buffers.take()
        output.reserve(count)
        exchange.head?.copy(to: output)
        exchange.body?.copy(to: output)
        self.output = output
        self.deferFlushOfAll()
        return true
    }

    private func begin(isChunked: Bool) {
        precondition(self.state == .idle, "a request on a connection that is not idle")
        self.state = .head
        self.requestIsChunked = isChunked
        self.hasEndedRequest = false
        self.keepsAlive = true
        self.interimCount = 0
        self.hasResponseBytes = false
        self.isPaused = false
    }

    func sendBody(_ pointer: UnsafeRawPointer, count: Int) {
        if count == 0 { return }
        if self.requestIsChunked {
            let output = self.compose()
            output.append(hexadecimal: UInt64(count))
            output.append("\r\n")
            self.write(pointer, count: count, suffix: "\r\n")
        } else {
            self.write(pointer, count: count)
        }
    }

    /// Sends from a body that is kept: the number of bytes that need not be offered again. A long one
    /// is written from where it is; the rest of what the socket does not take stays there.
    func sendKeptBody(_ pointer: UnsafeRawPointer, count: Int) -> Int {
        if self.requestIsChunked || count <= Self.copyThreshold {
            let slice = min(count, Self.chunkBytesMax)
            self.sendBody(pointer, count: slice)
            return slice
        }
        return self.writePart(pointer, count: count)
    }

    /// A kept body goes out in chunks of this size or less.
    private static let chunkBytesMax = 64 * 1024

    func endRequest(trailers: [UInt8]) {
        self.hasEndedRequest = true
        guard self.requestIsChunked else { return }
        let output = self.compose()
        output.append("0\r\n")
        output.append(trailers)
        output.append("\r\n")
    }

    override func deferredFlushEnded(isDone: Bool) {
        self.unownedExchange?._withUnsafeGuaranteedRef { $0.requestSent() }
    }

    override func drained() {
        self.exchange?.upstreamDrained()
    }

    // MARK: The response

    func pauseReading() {
        self.isPaused = true
    }

    func resumeReading() {
        guard self.isPaused else { return }
        self.isPaused = false
        self.pump()
    }

    override func readReady() {
        self.pump()
    }

    func pump() {
        if self.isPumping || self.isClosed { return }
        self.isPumping = true
        self.handleInput()
        var budget = Self.readsPerTurnMax
        while self.isReadable, !self.isClosed, !self.isPaused {
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
        if let input = self.input {
            input.reserve(Worker.readSize / 4)
            let result = self.read(into: input.writablePointer, count: input.writableCount)
            guard case .bytes(let count) = result else { return self.handleEnd(result) }
            self.worker.bytesRead(count)
            input.advance(count)
            self.handleInput()
            return
        }
        let result = self.read(into: self.worker.upstreamScratch, count: Worker.readSize)
        guard case .bytes(let count) = result else { return self.handleEnd(result) }
        self.worker.bytesRead(count)
        let bytes = UnsafeRawBufferPointer(start: self.worker.upstreamScratch, count: count)
        let consumed = self.handle(bytes)
        if self.isClosed || consumed == count { return }
        let input = self.worker.buffers.take()
        input.append(self.worker.upstreamScratch + consumed, count: count - consumed)
        self.input = input
    }

    private func handleInput() {
        guard let input = self.input, !self.isClosed else { return }
        let bytes = UnsafeRawBufferPointer(start: input.readablePointer, count: input.count)
        let consumed = self.handle(bytes)
        if self.isClosed { return }
        input.consume(consumed)
        if input.isEmpty {
            self.input = nil
            self.worker.buffers.give(input)
        }
    }

    private func handle(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let exchange = self.unownedExchange, self.state != .connecting, self.state != .idle
        else {
            // A response nobody asked for.
            if !bytes.isEmpty { self.fail(.unsolicited) }
            return bytes.count
        }
        return exchange._withUnsafeGuaranteedRef { self.handle(bytes, $0) }
    }

    @inline(__always)
    private func handle(_ bytes: UnsafeRawBufferPointer, _ exchange: Exchange) -> Int {
        if self.isFlushDeferred, self.state == .head, self.output != nil {
            // Not one byte of the request is out: whatever this is, it is not its answer.
            self.fail(.closedEarly)
            return bytes.count
        }
        self.hasResponseBytes = true
        var offset = 0
        loop: while !self.isClosed, self.serves(exchange) {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            switch self.state {
            case .head:
                guard let consumed = self.handleHead(rest, exchange) else { break loop }
                offset += consumed
            case .body:
                guard let consumed = self.handleBody(rest, exchange) else { break loop }
                offset += consumed
            case .tunnel:
                if rest.isEmpty || self.isPaused { break loop }
                exchange.tunnelFromUpstream(rest)
                offset = bytes.count
            case .connecting, .idle:
                break loop
            }
        }
        if self.serves(exchange) { exchange.upstreamBatchEnded() }
        return self.finishBatch(bytes, offset, exchange)
    }

    /// Bytes behind the end of a response make the connection unfit for another one.
    private func finishBatch(
        _ bytes: UnsafeRawBufferPointer,
        _ offset: Int,
        _ exchange: Exchange
    ) -> Int {
        if self.isClosed { return bytes.count }
        if self.unownedExchange == nil, offset < bytes.count {
            self.close()
            return bytes.count
        }
        return offset
    }

    /// Nil when more bytes are needed.
    private func handleHead(_ bytes: UnsafeRawBufferPointer, _ exchange: Exchange) -> Int? {
        if let parser = self.parser { return self.parseHead(parser, bytes, exchange) }
        return self.worker.unownedResponseHead._withUnsafeGuaranteedRef { head in
            head.reset()
            return self.parseHead(head, bytes, exchange)
        }
    }

    private func parseHead(
        _ head: ResponseHead,
        _ bytes: UnsafeRawBufferPointer,
        _ exchange: Exchange
    ) -> Int? {
        switch head.parse(bytes.bytes, limits: self.worker.headLimits) {
        case .needMore:
            if self.parser == nil { self.parser = ResponseHead() }
            return nil
        case .complete(let count):
            if count == bytes.count, self.holdsHead(head, exchange) { return nil }
            if self.parser != nil { self.parser = nil }
            let headBytes = UnsafeRawBufferPointer(rebasing: bytes[..<count])
            self.handle(head, headBytes, exchange, hasMore: count < bytes.count)
            return count
        case .invalid(let error):
            self.parser = nil
            self.fail(.invalidResponse(error))
            return nil
        }
    }

    /// A head whose body has not begun is kept back while the request may still be sent elsewhere: a
    /// replica that dies between the two would otherwise cost the client its answer. Its bytes stay
    /// in `input` and are read again with the first of the body.
    private func holdsHead(_ head: ResponseHead, _ exchange: Exchange) -> Bool {
        guard exchange.mayBeRepeated, head.status >= 200,
            case .length(let length) = head.framing(requestMethod: exchange.method), length > 0
        else { return false }
        self.parser = ResponseHead()
        self.hasResponseBytes = false
        return true
    }

    private func handle(
        _ head: ResponseHead,
        _ bytes: UnsafeRawBufferPointer,
        _ exchange: Exchange,
        hasMore: Bool
    ) {
        if head.status < 200, head.status != 101 {
            self.interimCount += 1
            if self.interimCount > Self.interimMax { return self.fail(.tooManyInterim) }
            exchange.interimResponse(head, bytes.bytes)
            return
        }
        let framing = head.framing(requestMethod: exchange.method)
        switch framing {
        case .tunnel:
            guard exchange.acceptsUpgrade else { return self.fail(.unexpectedUpgrade) }
            self.state = .tunnel
            exchange.upgradeAccepted(head, bytes.bytes)
        case .none, .length, .chunked, .untilClose:
            self.keepsAlive = head.keepsAlive
            if case .untilClose = framing { self.keepsAlive = false }
            self.decoder.reset(framing)
            self.state = .body
            exchange.responseHead(head, bytes.bytes, framing: framing)
            if self.serves(exchange), self.decoder.isDone {
                self.finishResponse(exchange, trailers: [], hasMore: hasMore)
            }
        }
    }

    /// Nil when more bytes are needed or wanted later.
    private func handleBody(_ bytes: UnsafeRawBufferPointer, _ exchange: Exchange) -> Int? {
        if bytes.isEmpty { return nil }
        switch self.decoder.next(bytes.bytes) {
        case .data(let range, let consumed):
            exchange.responseBody(UnsafeRawBufferPointer(rebasing: bytes[range]))
            if self.serves(exchange), self.decoder.isDone {
                self.finishResponse(exchange, trailers: [], hasMore: consumed < bytes.count)
            }
            return consumed
        case .needMore(let consumed):
            return consumed == 0 ? nil : consumed
        case .end(let consumed):
            self.finishResponse(
                exchange,
                trailers: self.decoder.trailers,
                hasMore: consumed < bytes.count
            )
            return consumed
        case .invalid(let error):
            self.fail(.invalidBody(error))
            return nil
        }
    }

    /// The response is complete: the connection goes back to the pool before the exchange ends, so
    /// that whoever waits for the slot finds it. Not where `hasMore` bytes came behind it: whoever
    /// waits would take them for an answer.
    private func finishResponse(_ exchange: Exchange, trailers: [UInt8], hasMore: Bool) {
        let canReuse =
            self.keepsAlive && self.hasEndedRequest && self.output == nil && !self.peerClosed
            && !hasMore && !self.isReadable && !self.hasWriteFailed
        self.unownedExchange = nil
        self.state = .idle
        self.requestsBefore += 1
        if self.requestsBefore == 1, let session = self.transport.session {
            self.pool.remember(session)
        }
        exchange.upstreamFinished(trailers: trailers, self, canReuse: canReuse)
    }

    /// A response is over: the next request may have the connection, or nobody.
    @inline(__always)
    func requestEnded(canReuse: Bool) {
        if self.isClosed { return }
        if canReuse { self.pool.put(self) } else { self.close() }
    }

    // MARK: Ends

    private func handleEnd(_ result: IOResult) {
        switch result {
        case .wouldBlock, .bytes:
            return
        case .failed(let code):
            self.fail(.reset(code))
        case .endOfStream:
            self.handleEndOfStream()
        }
    }

    private func handleEndOfStream() {
        guard let exchange = self.exchange else { return self.close() }
        switch self.state {
        case .body:
            switch self.decoder.finishAtEOF() {
            // Where the end of the body is that of the connection, it must be the server's own.
            case .complete where self.transport.session?.isTruncated == true:
                self.fail(.truncated)
            case .complete: self.finishResponse(exchange, trailers: [], hasMore: false)
            case .truncated: self.fail(.truncated)
            }
        case .tunnel where self.transport.session?.isTruncated == true:
            self.fail(.truncated)
        case .tunnel:
            exchange.tunnelUpstreamEnded()
        case .connecting, .idle, .head:
            self.fail(.closedEarly)
        }
    }

    override func writeFailed() {
        // The server may have answered before it stopped reading: what it sent counts first.
        let served = self.unownedExchange?.toOpaque()
        if self.state == .head || self.state == .body {
            self.isPaused = false
            self.isReadable = true
            self.pump()
        }
        if !self.isClosed, self.unownedExchange?.toOpaque() == served { self.fail(.reset(0)) }
    }

    private func fail(_ failure: UpstreamFailure) {
        let exchange = self.exchange
        self.exchange = nil
        let context = UpstreamFailureContext(
            failure: failure,
            wasReused: self.requestsBefore > 0,
            hadResponseBytes: self.hasResponseBytes,
            wasConnecting: self.state == .connecting || self.state == .idle
        )
        self.close(reset: self.state != .connecting)
        exchange?.upstreamFailed(context)
    }

    /// The worker ends: whatever is under way has failed.
    func abort() {
        self.fail(.closedEarly)
    }

    /// The exchange goes on with another connection.
    func takeExchange() -> Exchange? {
        self.exchange.take()
    }

    /// The exchange has no more use for it: a request under way is cancelled by closing.
    func cancel() {
        self.exchange = nil
        self.close(reset: true)
    }

    /// The exchange has no more use for it, and nothing of it may be lost.
    func end() {
        self.exchange = nil
        self.close()
    }

    override func closed() {
        if let input = self.input.take() {
            self.worker.buffers.give(input)
        }
        self.pool.closed(self)
    }
}

/// How an upstream connection let its request down.
enum UpstreamFailure {
    case connectFailed(Int32)
    case handshakeFailed(TLSFailure.Kind)
    case reset(Int32)
    case closedEarly
    case truncated
    case invalidResponse(ResponseError)
    case invalidBody(BodyError)
    case tooManyInterim
    case unexpectedUpgrade
    case unsolicited
    /// A stream was reset by the server, or by us for what the server did.
    case resetStream(HTTP2ErrorCode)
    case invalidBlock(FieldBlockError)
    /// The server has agreed on another protocol, or on none.
    case noHTTP2
    /// What came is not HTTP/2, or breaks its rules.
    case notHTTP2
    /// Not even a ping was answered.
    case silent

    /// Whether the server may have closed the connection while it was idle: not who resets one
    /// stream of several, or does not answer a ping.
    var mayBeOfIdleness: Bool {
        switch self {
        case .closedEarly, .reset: true
        case .connectFailed, .handshakeFailed, .truncated, .invalidResponse, .invalidBody,
            .tooManyInterim, .unexpectedUpgrade, .unsolicited, .resetStream, .invalidBlock,
            .noHTTP2, .notHTTP2, .silent:
            false
        }
    }
}

struct UpstreamFailureContext {
    let failure: UpstreamFailure
    /// The connection had carried a request before: its server may have closed it meanwhile.
    let wasReused: Bool
    let hadResponseBytes: Bool
    /// Nothing of the request can have arrived.
    let wasConnecting: Bool
    /// The call was taken back: that says nothing about the replica either.
    var isCancelled = false

    /// This machine has no address or memory left: that says nothing about the replica.
    var isShortage: Bool {
        guard case .connectFailed(let code) = self.failure else { return false }
        return code == EADDRNOTAVAIL || code == ENOBUFS || code == ENOMEM
    }
}
