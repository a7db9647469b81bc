import Core
import EventLoop
import HTTP
import HTTP2
import Traffic

/// A client's request on HTTP/2: what `ServerConnection` is for one on HTTP/1.
///
/// The head comes as one of HTTP/1 and is parsed as such, so that the exchange and everything
/// behind it know no difference. Bytes that come while the exchange takes none are kept here; the
/// client gets room for more only as they are handed on, so there are never more than
/// `HTTP2Settings.streamWindowBytes`.
final class ServerStream: HTTP2Stream {
    /// Outlives its streams: it ends them.
    private unowned(unsafe) let multiplexer: Multiplexer
    private(set) var exchange: Exchange?
    private(set) var requestMethod = HTTPMethod.get
    /// An extended CONNECT, which is an upgrade behind us.
    private(set) var isWebSocket = false
    private var isTunnel = false
    private(set) var hasBegunResponse = false
    private var isBodyPaused = false
    private var hasEndReceived = false
    private var hasHandedEnd = false
    private var isTouched = false
    private var isWaiting = false
    /// Bytes of the body that came while it was paused.
    private var input: ByteBuffer?
    /// Trailers that came meanwhile.
    private var trailers: [UInt8] = []
    /// Bytes that were handed on, for which the client has not got room again.
    private var owed = 0
    private var timer: StreamTimer?
    /// Once the exchange is over: whether the client takes the rest.
    private var stall = StallWatch()

    init(_ multiplexer: Multiplexer) {
        self.multiplexer = multiplexer
        super.init()
    }

    var connection: ServerConnection { self.multiplexer.connection }
    var worker: Worker { self.multiplexer.worker }

    // MARK: The request

    override func headReceived(_ block: FieldBlock, endsStream: Bool) {
        let worker = self.worker
        let head = worker.requestHead
        let source = block.head
        let bytes = UnsafeRawBufferPointer(start: source.readablePointer, count: source.count)
        head.reset()
        switch head.parse(bytes.bytes, limits: Self.limits(worker)) {
        case .needMore:
            preconditionFailure("a head that was composed has no end")
        case .invalid(let error):
            return self.refuse(ProxyError(error))
        case .complete:
            break
        }
        self.requestMethod = head.method
        self.isWebSocket = block.isWebSocket
        self.hasEndReceived = endsStream
        let exchange = worker.takeExchange(isShadow: false).takeUnretainedValue()
        self.exchange = exchange
        exchange.begin(head, bytes.bytes, from: .http2(.passUnretained(self)))
        if self.exchange == nil { return }
        self.touch()
        if !endsStream { self.arm(after: worker.timeouts.idle) }
    }

    /// The block was bounded before it was written as HTTP/1, which takes a little more.
    private static func limits(_ worker: Worker) -> HeadLimits {
        HeadLimits(
            maxHeadBytes: HeadLimits.maxHeadBytesCeiling,
            maxFields: worker.headLimits.maxFields + 8,
            maxTargetBytes: worker.headLimits.maxTargetBytes
        )
    }

    override func blockRefused(_ error: FieldBlockError) {
        let detail = ProxyError.Detail(label: error.label, message: error.message)
        let refusal = ProxyError(error.isExcess ? .headersTooLarge : .badRequest, detail: detail)
        if let exchange = self.exchange {
            // In place of trailers.
            self.exchange = nil
            self.worker.stats.refused(refusal)
            exchange.clientGone()
        } else if error.isExcess {
            self.refuse(refusal)
        } else {
            self.worker.stats.refused(refusal)
        }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange = self.exchange else { return self.consumed(bytes.count) }
        if !self.mayHand || self.input != nil {
            let input = self.input ?? self.worker.buffers.take()
            self.input = input
            if let start = bytes.baseAddress { input.append(start, count: bytes.count) }
            return
        }
        self.arm(after: self.worker.timeouts.idle)
        self.hand(bytes, to: exchange)
        self.touch()
    }

    /// What a WebSocket's client sends has to wait until there is one.
    private var mayHand: Bool { !self.isBodyPaused && (!self.isWebSocket || self.isTunnel) }

    private func hand(_ bytes: UnsafeRawBufferPointer, to exchange: Exchange) {
        self.owed += bytes.count
        if self.isTunnel {
            exchange.tunnelFromClient(bytes)
        } else if !exchange.isRequestEnded {
            exchange.requestBody(bytes)
        }
        self.settle()
    }

    /// Gives the client room for what was handed on, unless it is to wait.
    private func settle() {
        if self.isBodyPaused || self.owed == 0 { return }
        let owed = self.owed
        self.owed = 0
        self.consumed(owed)
    }

    override func trailersReceived(_ lines: [UInt8]) { self.trailers = lines }

    override func endReceived() {
        self.hasEndReceived = true
        if self.exchange == nil { return }
        if self.input == nil, self.mayHand { self.handEnd() }
        self.touch()
    }

    private func handEnd() {
        guard let exchange = self.exchange, !self.hasHandedEnd else { return }
        self.hasHandedEnd = true
        self.disarm()
        if self.isTunnel {
            exchange.tunnelClientEnded()
        } else if !exchange.isRequestEnded {
            exchange.requestEnded(trailers: self.trailers)
        }
    }

    private func touch() {
        if self.isTouched { return }
        self.isTouched = true
        self.multiplexer.touch(self)
    }

    /// All that came in one read was handed on.
    func advance() {
        self.isTouched = false
        self.exchange?.advance()
    }

    // MARK: Pauses

    func pauseBody() {
        self.isBodyPaused = true
        // Our own pause must not count as the client's delay.
        if !self.isTunnel { self.disarm() }
    }

    func resumeBody() {
        guard self.isBodyPaused else { return }
        self.isBodyPaused = false
        if self.mayHand, !self.hasEndReceived, !self.isTunnel {
            self.arm(after: self.worker.timeouts.idle)
        }
        self.goOnLater()
    }

    private func goOnLater() {
        if self.isWaiting { return }
        self.isWaiting = true
        self.multiplexer.goOnLater(self)
    }

    /// At the end of the turn: hands on what was kept, and reads the answer again.
    func goOn() {
        self.isWaiting = false
        if self.outputCount == 0 { self.exchange?.clientDrained() }
        guard let exchange = self.exchange, self.mayHand else { return }
        if let input = self.input.take() {
            self.hand(
                UnsafeRawBufferPointer(start: input.readablePointer, count: input.count),
                to: exchange
            )
            self.worker.buffers.give(input)
        } else {
            self.settle()
        }
        if self.hasEndReceived { self.handEnd() }
        self.exchange?.advance()
    }

    override func outputDrained() {
        if self.exchange != nil { self.goOnLater() }
    }

    // MARK: Ends

    override func closed(_ code: HTTP2ErrorCode) {
        self.abandon()
        self.multiplexer.streamClosed()
    }

    /// The client has left, or is left.
    func abandon() {
        if let timer = self.timer.take() { self.worker.wheel.remove(timer) }
        if let input = self.input.take() { self.worker.buffers.give(input) }
        if let exchange = self.exchange {
            self.exchange = nil
            exchange.clientGone()
        }
    }

    func detachExchange() { self.exchange = nil }

    /// The response is complete, as far as the exchange knows.
    func exchangeFinished() {
        self.exchange = nil
        if let input = self.input.take() { self.worker.buffers.give(input) }
        if self.session == nil { return }
        // The client may stop sending once it has the answer (RFC 9113, section 8.1).
        if !self.hasEndReceived { self.resetsAfterEnd = true }
        if self.owed > 0 { self.consumed(self.owed) }
        self.owed = 0
        if self.outputCount > 0 {
            self.stall.begin(self.backlog)
            self.arm(after: self.worker.timeouts.idle)
        } else {
            self.disarm()
        }
        self.multiplexer.flushLater()
    }

    /// Answers what no exchange has begun for.
    private func refuse(_ error: ProxyError) {
        self.worker.stats.refused(error)
        let body = ByteBuffer(capacity: 256)
        ErrorBody.write(error, style: .plain, into: body)
        self.begin(error.status)
        let lines = self.worker.fieldLines
        lines.removeAll()
        ErrorResponse.writeFields(
            error,
            style: .plain,
            bodyBytes: body.count,
            date: self.worker.date(),
            into: lines
        )
        self.finishHead(lines, body: body)
        self.exchangeFinished()
    }

    // MARK: Deadlines

    private func arm(after interval: Interval) {
        if self.timer == nil { self.timer = StreamTimer(self) }
        if let timer = self.timer {
            self.worker.wheel.arm(timer, at: self.worker.loop.now + interval)
        }
    }

    private func disarm() {
        if let timer = self.timer { self.worker.wheel.arm(timer, at: .distantFuture) }
    }

    var backlog: Backlog {
        var backlog = Backlog(bytes: self.outputCount)
        if self.hasRoom, let session = self.session {
            backlog.framesSent = session.dataFramesSent
            backlog.bytesAhead = self.connection.output?.count ?? 0
        }
        return backlog
    }

    /// The client owes the rest of its body, or leaves no room for the rest of its answer.
    func timerExpired() {
        if let exchange = self.exchange {
            // Once a call is being answered both sides may be silent: its model's timeouts decide.
            let isChat = exchange.call != nil && exchange.hasBegunResponse
            if !self.hasEndReceived, !self.isTunnel, !isChat {
                exchange.fail(ProxyError(.requestTimeout))
            }
            return
        }
        guard self.outputCount > 0 else { return }
        guard self.stall.isStalled(self.backlog) else {
            return self.arm(after: self.worker.timeouts.idle)
        }
        self.reset(.cancel)
        self.multiplexer.flushLater()
    }

    // MARK: The response

    /// From this size on what a stream has to send is sent at once.
    private static let sentAtOnceBytes = 16 * 1024

    /// Fields of an upstream's response that are not copied.
    private static let dropped: FieldNameSet = {
        var set = FieldNameSet()
        for name in [FieldName.contentLength, .xWeirVariant, .xRequestID] { set.insert(name) }
        return set
    }()

    /// Starts a head; its fields follow, then `finishHead`.
    func begin(_ status: UInt16) {
        self.hasBegunResponse = true
        let fields = self.worker.fieldList
        fields.removeAll()
        fields.append(":status", UInt64(status))
    }

    func flushLater() { self.multiplexer.flushLater() }

    private func finishHead(_ lines: ByteBuffer, body: ByteBuffer) {
        let fields = self.worker.fieldList
        fields.append(lines: lines.readable)
        let hasBody = !body.isEmpty && self.requestMethod != .head
        self.respond(fields, endsStream: !hasBody)
        if hasBody {
            self.send(body.readablePointer, count: body.count)
            self.end()
        }
        self.multiplexer.flushLater()
    }

    func sendContinue() {
        let fields = self.worker.fieldList
        fields.removeAll()
        fields.append(":status", "100")
        self.inform(fields)
        self.multiplexer.flushLater()
    }

    func sendInterim(_ head: ResponseHead, _ bytes: RawSpan) {
        let fields = self.worker.fieldList
        fields.removeAll()
        fields.append(":status", UInt64(head.status))
        fields.append(head.fields, of: bytes, dropping: Self.dropped)
        self.inform(fields)
        self.multiplexer.flushLater()
    }

    func sendHead(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        framing: ResponseFraming,
        exchange: Exchange
    ) {
        // A success would tell the client that its WebSocket is open.
        let isMistaken = self.isWebSocket && (200..<300).contains(head.status)
        self.begin(isMistaken ? 502 : head.status)
        let fields = self.worker.fieldList
        fields.append(head.fields, of: bytes, dropping: Self.dropped)
        let lines = self.worker.fieldLines
        lines.removeAll()
        exchange.writeResponseFields(into: lines)
        fields.append(lines: lines.readable)
        var endsStream = false
        switch framing {
        case .none:
            endsStream = true
            if head.status != 204, let length = head.contentLength {
                fields.append(
                    "content-length",
                    self.requestMethod == .head || head.status == 304 ? length : 0
                )
            }
        case .length(let length):
            endsStream = length == 0
            fields.append("content-length", length)
        case .chunked, .untilClose:
            break
        case .tunnel:
            preconditionFailure("a tunnel is not a response with a body")
        }
        self.respond(fields, endsStream: endsStream)
    }

    func sendBody(_ bytes: UnsafeRawBufferPointer) {
        if let start = bytes.baseAddress { self.send(start, count: bytes.count) }
    }

    func batchEnded() -> Bool {
        if self.outputCount < Self.sentAtOnceBytes {
            self.multiplexer.flushLater()
            return false
        }
        self.multiplexer.flush()
        return self.outputCount > 0
    }

    func endResponse(trailers: [UInt8]) {
        if trailers.isEmpty {
            self.end()
        } else {
            let fields = OutgoingFields()
            fields.append(lines: trailers.span.bytes)
            self.end(trailers: fields)
        }
    }

    /// The response cannot be completed. A reset would overtake what waits to be composed.
    func cutResponse(_ code: HTTP2ErrorCode) {
        self.detachExchange()
        self.multiplexer.flush()
        self.reset(code)
        self.multiplexer.flushLater()
    }

    func sendError(_ error: ProxyError, exchange: Exchange) {
        let body = ByteBuffer(capacity: 256)
        let style = exchange.style.errorStyle
        ErrorBody.write(error, style: style, message: exchange.errorMessage, into: body)
        self.begin(error.status)
        let lines = self.worker.fieldLines
        lines.removeAll()
        ErrorResponse.writeFields(
            error,
            style: style,
            bodyBytes: body.count,
            date: self.worker.date(),
            retryAfterNanoseconds: exchange.retryAfterNanoseconds,
            into: lines
        )
        exchange.writeResponseFields(into: lines)
        self.finishHead(lines, body: body)
    }

    func sendLocal(
        status: UInt16,
        contentType: StaticString,
        body: ByteBuffer,
        exchange: Exchange
    ) {
        self.begin(status)
        let lines = self.worker.fieldLines
        lines.removeAll()
        HeadWriter.field("Content-Type", contentType, into: lines)
        HeadWriter.contentLength(UInt64(body.count), into: lines)
        self.worker.writeDate(into: lines)
        exchange.writeResponseFields(into: lines)
        self.finishHead(lines, body: body)
    }

    // MARK: Tunnels

    /// The upstream has switched: 200 says the same here (RFC 8441, section 5).
    func startTunnel(_ head: ResponseHead, _ bytes: RawSpan, exchange: Exchange) {
        self.isTunnel = true
        self.disarm()
        self.begin(200)
        let fields = self.worker.fieldList
        let kept = head.fields.filter {
            !bytes.slice($0.nameRange).isEqualIgnoringCase(to: Self.acceptName)
        }
        fields.append(kept, of: bytes, dropping: Self.dropped)
        let lines = self.worker.fieldLines
        lines.removeAll()
        exchange.writeResponseFields(into: lines)
        fields.append(lines: lines.readable)
        self.respond(fields, endsStream: false)
        self.multiplexer.flushLater()
        // What came while the upstream was asked, or the end.
        if self.input != nil || self.hasEndReceived { self.goOnLater() }
    }

    private static let acceptName = Array("sec-websocket-accept".utf8)

    func endOutput() {
        self.end()
        self.multiplexer.flushLater()
    }
}

/// The deadline of a stream.
private final class StreamTimer: WheelTimer {
    /// It removes its timer before it goes.
    private unowned(unsafe) let stream: ServerStream

    init(_ stream: ServerStream) {
        self.stream = stream
        super.init()
    }

    override func expired() { self.stream.timerExpired() }
}
