import Core
import EventLoop
import Glibc
import HTTP

/// One client's connection; see the design note in HTTPService.swift. Confined to its loop.
final class ServerConnection: IOHandler {
    enum Phase {
        case head
        case body
        case responding
        /// Our side is shut down or about to be; what still comes is thrown away.
        case closing
        case closed
    }

    /// Bytes asked of the kernel at once.
    private static let readBytes = 16 << 10
    /// Reads in a row before other connections get a turn.
    private static let readsPerTurn = 16
    /// Refills by a handler in a row before other connections get a turn.
    private static let flushesPerTurn = 16
    /// What an idle connection keeps of its buffers.
    private static let idleBufferBytes = 16 << 10
    /// What a closing connection still reads.
    private static let discardBytesMax = 1 << 20

    let server: HTTPServer
    let peer: SocketAddress?
    let head = RequestHead()
    /// What came and was not consumed: further requests lie behind the one at hand.
    let input = ByteBuffer(capacity: 4 << 10)
    let output = ByteBuffer(capacity: 4 << 10)
    /// Where the head's and the body's bytes are; the input itself but for chunked requests.
    private(set) var headStore: ByteBuffer
    private(set) var bodyStore: ByteBuffer
    private(set) var bodyRange = 0..<0
    private(set) var phase = Phase.head

    /// Counts exchanges, so that a writer knows whether it is its turn.
    private(set) var exchange: UInt64 = 0
    var response = ResponseState()

    private var chunks: ChunkedRequest?
    private var headBytes = 0
    private var bodyBytes = 0
    private var hasContinued = false
    private var mayRead = true
    private var isPumping = false
    private var isHandling = false
    private var isFlushing = false
    private var isResuming = false
    private var hasSeenEnd = false
    private var closesAfterResponse = false
    private var isShutDown = false
    private var discarded = 0
    private let timer = ConnectionTimer()

    init(server: HTTPServer, peer: SocketAddress?) {
        self.server = server
        self.peer = peer
        self.headStore = self.input
        self.bodyStore = self.input
        super.init()
    }

    func start(_ descriptor: Int32) {
        Sockets.disableNagle(descriptor)
        self.timer.connection = self
        self.register(
            descriptor: descriptor,
            on: self.server.loop,
            interest: [.read, .write],
            edgeTriggered: true
        )
        self.arm(self.server.options.idleTimeout)
        self.pump()
    }

    var isClosed: Bool { self.phase == .closed }

    override func ready(_ events: IOEvents) {
        if events.contains(.write) && !self.output.isEmpty { self.flush() }
        if events.contains(.read) {
            self.mayRead = true
            self.pump()
        }
    }

    // MARK: Reading

    /// Reads and serves until the kernel or the work at hand has no more.
    private func pump() {
        if self.isPumping || self.isClosed { return }
        self.isPumping = true
        var reads = 0
        self.serveInput()
        while self.mayRead && !self.isClosed && !self.isPaused {
            if reads == Self.readsPerTurn {
                self.resumeLater()
                break
            }
            reads += 1
            self.readOnce()
            self.serveInput()
        }
        self.isPumping = false
        if !self.isClosed { self.flush() }
    }

    /// Enough is read ahead of the answer at hand.
    private var isPaused: Bool {
        self.phase == .responding && self.input.count >= self.server.options.pipelineBytesMax
    }

    private func resumeLater() {
        if self.isResuming { return }
        let box = LoopBound(self, loop: self.server.loop)
        self.isResuming = self.server.loop.post {
            box.value.isResuming = false
            box.value.pump()
        }
        // A full mailbox means a stuck loop; the connection cannot be left waiting for ever.
        if !self.isResuming { self.close(reset: true) }
    }

    private func readOnce() {
        self.input.reserve(Self.readBytes)
        let result = Sockets.read(
            self.descriptor,
            into: self.input.writablePointer,
            count: self.input.writableCount
        )
        switch result {
        case .bytes(let count): self.input.advance(count)
        case .wouldBlock: self.mayRead = false
        case .endOfStream:
            self.mayRead = false
            self.hasSeenEnd = true
        case .failed:
            self.mayRead = false
            self.close(reset: true)
        }
    }

    private func serveInput() {
        var goesOn = true
        while goesOn {
            switch self.phase {
            case .head: goesOn = self.readHead()
            case .body: goesOn = self.readBody()
            case .responding: goesOn = false
            case .closing:
                self.discard()
                goesOn = false
            case .closed: return
            }
        }
        if self.hasSeenEnd { self.endOfInput() }
    }

    /// The client will send nothing more: whatever is incomplete now stays so.
    private func endOfInput() {
        switch self.phase {
        case .head where !self.output.isEmpty: self.startClosing()
        case .head, .body, .responding: self.close(reset: false)
        case .closing where self.output.isEmpty: self.close(reset: false)
        case .closing, .closed: return
        }
    }

    private func readHead() -> Bool {
        if self.input.isEmpty { return false }
        let input = self.input
        switch self.head.parse(input.readable, limits: self.server.options.headLimits) {
        case .needMore:
            if self.timer.purpose != .head {
                self.arm(self.server.options.headTimeout, purpose: .head)
            }
            return false
        case .invalid(let error):
            self.refuse(status: error.status, message: error.message)
            return true
        case .complete(let count):
            self.headBytes = count
            return self.startBody()
        }
    }

    private func startBody() -> Bool {
        self.hasContinued = false
        self.chunks = nil
        let limit =
            self.server.contentLimit.map { $0(HTTPRequest(self)) }
            ?? self.server.options.bodyBytesMax
        switch self.head.framing {
        case .none: self.bodyBytes = 0
        case .length(let length):
            guard length <= UInt64(limit) else {
                self.refuse(status: 413, message: "the content is too large")
                return true
            }
            self.bodyBytes = Int(length)
        case .chunked:
            // The head moves out of the way, so that chunks can be consumed as they come.
            self.headStore = ByteBuffer(capacity: self.headBytes)
            self.headStore.append(self.input.readablePointer, count: self.headBytes)
            self.input.consume(self.headBytes)
            self.headBytes = 0
            self.chunks = ChunkedRequest(bodyBytesMax: limit)
        }
        self.phase = .body
        return true
    }

    private func readBody() -> Bool {
        if self.chunks != nil { return self.readChunks() }
        if self.input.count >= self.headBytes + self.bodyBytes {
            self.bodyRange = self.headBytes..<(self.headBytes + self.bodyBytes)
            self.handle(consuming: self.headBytes + self.bodyBytes)
            return true
        }
        self.awaitBody()
        return false
    }

    private func readChunks() -> Bool {
        guard let chunks = self.chunks else { return false }
        let input = self.input
        let (outcome, consumed) = chunks.read(input.readable)
        self.input.consume(consumed)
        switch outcome {
        case .needMore:
            self.awaitBody()
            return false
        case .invalid(let error):
            self.refuse(status: error.status, message: error.message)
            return true
        case .complete:
            self.bodyStore = chunks.content
            self.bodyRange = 0..<chunks.content.count
            self.handle(consuming: 0)
            return true
        }
    }

    private func awaitBody() {
        if self.head.expectsContinue && !self.hasContinued {
            self.hasContinued = true
            self.output.append("HTTP/1.1 100 Continue\r\n\r\n" as StaticString)
        }
        self.arm(self.server.options.stallTimeout, purpose: .stall)
    }

    private func discard() {
        self.discarded += self.input.count
        self.input.removeAll()
        if self.discarded > Self.discardBytesMax { self.close(reset: true) }
    }

    // MARK: Exchanges

    private func handle(consuming count: Int) {
        self.phase = .responding
        self.timer.disarm(on: self.server.wheel)
        self.server.counts.requests += 1
        self.closesAfterResponse = !self.head.keepsAlive || self.server.isStopping
        self.response.begin(for: self.head, closes: self.closesAfterResponse)
        self.isHandling = true
        self.server.handler?(HTTPRequest(self), ResponseWriter(self, exchange: self.exchange))
        self.isHandling = false
        if self.isClosed { return }
        self.input.consume(count)
        self.headStore = self.input
        self.bodyStore = self.input
        self.bodyRange = 0..<0
        self.chunks = nil
        if self.response.isComplete { self.finishExchange() }
    }

    /// The response is complete: the next request, or the end.
    func responseEnded() {
        if self.isHandling { return }
        self.finishExchange()
        self.pump()
    }

    private func finishExchange() {
        assert(self.phase == .responding, "finished an exchange in phase \(self.phase)")
        self.exchange &+= 1
        let closes = self.response.mustClose || self.closesAfterResponse
        self.response.reset()
        self.head.reset()
        if closes || self.server.isStopping { return self.startClosing() }
        self.phase = .head
        self.input.shrink(to: Self.idleBufferBytes)
        self.output.shrink(to: Self.idleBufferBytes)
        self.arm(self.server.options.idleTimeout)
    }

    /// Answers what is no acceptable request and ends the connection.
    private func refuse(status: UInt16, message: StaticString) {
        self.server.counts.refused += 1
        self.response.begin(for: self.head, closes: true)
        let body = ByteBuffer(capacity: 128)
        var writer = JSONWriter(body)
        writer.object { json in
            json.member("error", plain: message)
        }
        self.writeHead(status: status, contentType: "application/json", length: body.count)
        self.output.append(body.readable)
        self.exchange &+= 1
        self.response.reset()
        self.startClosing()
    }

    private func startClosing() {
        self.phase = .closing
        self.arm(self.server.options.lingerTimeout, purpose: .linger)
    }

    func stopSoon() {
        self.closesAfterResponse = true
        if !self.response.hasHead { self.response.mustClose = true }
        if self.phase == .head && self.input.isEmpty { self.startClosing() }
        self.flush()
    }

    // MARK: Writing

    /// Sends what the kernel takes. Within a pump it waits for the end, so that a burst of answers
    /// is one write.
    func flushUnlessPumping() {
        if !self.isPumping { self.flush() }
    }

    /// Sends what the kernel takes, and lets the handler refill what it waited to write. Handlers
    /// that write from `onWritable` come back here: the loop is in the outermost call alone.
    func flush() {
        if self.isFlushing || self.isClosed { return }
        self.isFlushing = true
        var rounds = 0
        while self.send() {
            self.tellWritable()
            if self.isClosed || self.output.isEmpty { break }
            rounds += 1
            if rounds == Self.flushesPerTurn {
                self.resumeLater()
                break
            }
        }
        self.isFlushing = false
        if !self.isClosed && self.output.isEmpty { self.drained() }
    }

    /// True once all is sent; false when the kernel takes no more or the client has gone.
    private func send() -> Bool {
        var moved = false
        while !self.output.isEmpty {
            let result = Sockets.write(
                self.descriptor,
                from: self.output.readablePointer,
                count: self.output.count
            )
            switch result {
            case .bytes(let count):
                self.output.consume(count)
                moved = true
            case .wouldBlock:
                if moved || self.timer.purpose != .stall {
                    self.arm(self.server.options.stallTimeout, purpose: .stall)
                }
                self.tellWritable()
                return false
            case .endOfStream, .failed:
                self.close(reset: true)
                return false
            }
        }
        return true
    }

    /// Nothing is unsent.
    private func drained() {
        switch self.phase {
        case .closing:
            if self.hasSeenEnd { return self.close(reset: false) }
            if !self.isShutDown {
                self.isShutDown = true
                Sockets.shutdownWriting(self.descriptor)
                self.arm(self.server.options.lingerTimeout, purpose: .linger)
            }
        case .responding:
            if self.timer.purpose == .stall { self.timer.disarm(on: self.server.wheel) }
        case .head:
            if self.timer.purpose == .stall { self.arm(self.server.options.idleTimeout) }
        case .body, .closed: break
        }
    }

    private func tellWritable() {
        guard self.response.isBlocked,
            self.output.count <= self.server.options.unsentBytesLow
        else { return }
        self.response.isBlocked = false
        self.response.onWritable?()
    }

    // MARK: The end

    /// Idempotent. Tells the handler if its answer was not complete.
    func close(reset: Bool) {
        if self.isClosed { return }
        let wasAnswering = self.phase == .responding && !self.response.isComplete
        self.phase = .closed
        self.exchange &+= 1
        self.server.wheel.remove(self.timer)
        self.timer.connection = nil
        self.deregister()
        if reset { Sockets.resetOnClose(self.descriptor) }
        Sockets.close(self.descriptor)
        let onClose = self.response.onClose
        self.response.reset()
        if wasAnswering {
            self.server.counts.abandoned += 1
            onClose?()
        }
        self.server.remove(self)
    }

    fileprivate func timedOut(_ purpose: ConnectionTimer.Purpose) {
        switch purpose {
        case .idle, .linger: self.close(reset: false)
        case .stall where self.phase != .body:
            self.close(reset: true)
        case .head, .stall:
            self.refuse(status: 408, message: "the request took too long")
            self.flush()
        }
    }

    private func arm(_ delay: Duration, purpose: ConnectionTimer.Purpose = .idle) {
        self.timer.purpose = purpose
        self.server.wheel.arm(self.timer, at: self.server.loop.now + delay)
    }
}

/// A connection's one deadline, and what it is for.
private final class ConnectionTimer: WheelTimer {
    enum Purpose { case idle, head, stall, linger }

    weak var connection: ServerConnection?
    var purpose = Purpose.idle

    func disarm(on wheel: TimerWheel) {
        self.purpose = .idle
        wheel.arm(self, at: .distantFuture)
    }

    override func expired() {
        self.connection?.timedOut(self.purpose)
    }
}

/// The content of a chunked request while it comes in.
private final class ChunkedRequest {
    enum Outcome {
        case needMore
        case complete
        case invalid(BodyError)
    }

    let content = ByteBuffer(capacity: 4 << 10)
    private var decoder: BodyDecoder

    init(bodyBytesMax: Int) {
        let limits = BodyLimits(maxBodyBytes: UInt64(bodyBytesMax))
        self.decoder = BodyDecoder(RequestFraming.chunked, limits: limits)
    }

    /// Takes what it can from the front and says how much.
    func read(_ bytes: RawSpan) -> (Outcome, consumed: Int) {
        var offset = 0
        while true {
            switch self.decoder.next(bytes.extracting(offset..<bytes.byteCount)) {
            case .data(let range, let consumed):
                let start = offset + range.lowerBound
                self.content.append(bytes.extracting(start..<(offset + range.upperBound)))
                offset += consumed
            case .needMore(let consumed): return (.needMore, offset + consumed)
            case .end(let consumed): return (.complete, offset + consumed)
            case .invalid(let error): return (.invalid(error), offset)
            }
        }
    }
}
