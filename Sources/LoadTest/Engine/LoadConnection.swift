import Core
import EventLoop
import Glibc
import HTTP
import TLS
import Workload

/// One connection to a target, with at most one request on it.
///
/// It is edge-triggered: what is there is read at once, and what the kernel does not take is kept
/// until it says that it does. Bytes are read into the worker's buffer and parsed there; only a
/// head that is not complete is kept.
final class LoadConnection: IOHandler {
    enum State { case connecting, securing, idle, busy, closed }

    /// Where it stands in the worker's list.
    var slot = 0
    let target: Int
    private(set) var state = State.connecting
    private unowned let worker: LoadWorker
    private var transport: Transport
    private let opened: Instant
    private let output = ByteBuffer(capacity: 1 << 10)
    private let pending = ByteBuffer(capacity: 16)
    private let head = ResponseHead()
    private var decoder: BodyDecoder?
    private var answer = AnswerReader()
    private var record = RequestRecord()
    private var gaps: [UInt64] = []
    private var work: Work?
    private var interim = 0
    /// Nanoseconds it took to connect, with the handshake of TLS, until the first request takes
    /// them.
    private var connectTime: UInt64 = 0
    private var servedCount = 0
    private let timer = RequestTimer()

    /// A request that is due.
    struct Work {
        var arrival: Arrival
        /// Nanoseconds from the start of the run.
        var dispatched: UInt64
        /// How often it was sent before, each time on a kept connection that had been closed.
        var resends = 0
    }

    /// When a server closes all that it keeps, a request may meet several of them; one sent on a
    /// new connection is never sent again.
    private static let resendsMax = 16
    private static let readBytes = 64 << 10

    init(worker: LoadWorker, target: Int, descriptor: Int32, now: Instant) {
        self.worker = worker
        self.target = target
        self.transport = Transport(descriptor: descriptor)
        self.opened = now
        super.init()
        self.timer.connection = self
        self.register(
            descriptor: descriptor,
            on: worker.loop,
            interest: .all,
            edgeTriggered: true
        )
        worker.wheel.arm(self.timer, at: now + worker.timeout)
    }

    // MARK: Requests

    /// Sends a request; the connection must be idle.
    func start(_ work: Work, now: Instant) {
        assert(self.state == .idle, "a request on a connection that is \(self.state)")
        self.state = .busy
        self.work = work
        self.record = RequestRecord()
        self.record.index = work.arrival.index
        self.record.scheduled = work.arrival.offset
        self.record.dispatched = work.dispatched
        self.record.target = UInt8(truncatingIfNeeded: self.target)
        self.record.connect = self.connectTime
        self.connectTime = 0
        self.head.reset()
        self.decoder = nil
        self.interim = 0
        self.answer.reset()
        let before = self.output.count
        let written = self.worker.writer.write(work.arrival, target: self.target, to: self.output)
        self.record.inputTokens = written.inputTokens
        self.record.sentBytes = UInt32(clamping: self.output.count - before)
        self.record.sent = self.worker.offset(now)
        self.worker.wheel.arm(self.timer, at: self.worker.deadline(work))
        self.send()
    }

    private func send() {
        while !self.output.isEmpty {
            let result = self.transport.write(
                from: self.output.readablePointer,
                count: self.output.count
            )
            switch result {
            case .bytes(let count): self.output.consume(count)
            case .wouldBlock: return
            case .endOfStream, .failed:
                // The server may have answered before it closed: the read that follows tells.
                self.output.removeAll()
            }
        }
        self.output.shrink(to: 64 << 10)
    }

    // MARK: Events

    override func ready(_ events: IOEvents) {
        if self.state == .connecting {
            guard self.finishConnecting(events) else { return }
        }
        if let session = self.transport.session {
            if events.contains(.closed) { session.endIsNear() }
            if events.contains(.read) { session.becameReadable() }
            if self.state == .securing { return self.handshake(session) }
        }
        if !self.output.isEmpty { self.send() }
        if events.contains(.read) || events.contains(.closed) {
            self.receive(untilEnd: events.contains(.closed))
        }
    }

    private func finishConnecting(_ events: IOEvents) -> Bool {
        let code = Sockets.pendingError(self.descriptor)
        if code != 0 {
            self.close()
            self.worker.connectFailed(target: self.target, code: code)
            return false
        }
        guard events.contains(.write) else { return false }
        do throws(TLSError) {
            if let session = try self.worker.makeSession(
                target: self.target,
                descriptor: self.descriptor
            ) {
                self.transport.secure(session)
                self.state = .securing
                return true
            }
        } catch {
            self.securingFailed(TLSFailure(.malformed, error.description))
            return false
        }
        self.connected()
        return true
    }

    private func connected() {
        let now = self.worker.loop.refreshNow()
        self.connectTime = max(1, now.nanoseconds(since: self.opened))
        self.state = .idle
        self.worker.connected(self, now: now)
    }

    private func handshake(_ session: TLSSession) {
        switch session.handshake() {
        case .wantsMore: return
        case .failed(let failure): return self.securingFailed(failure)
        case .done: if session.isResumed { self.worker.sessionResumed() }
        }
        self.connected()
        // What came behind the handshake was read with it: the kernel does not tell of it again.
        if self.state != .closed { self.receive(untilEnd: false) }
    }

    private func securingFailed(_ failure: TLSFailure) {
        self.worker.securityFailed(failure, target: self.target)
        self.close()
        self.worker.connectFailed(target: self.target, code: nil)
    }

    private func receive(untilEnd: Bool) {
        while self.state != .closed {
            let buffer = self.pending.isEmpty ? self.worker.input : self.pending
            buffer.reserve(Self.readBytes)
            let wanted = buffer.writableCount
            let (result, hasMore) = self.transport.read(
                into: buffer.writablePointer,
                count: wanted
            )
            switch result {
            case .bytes(let count):
                buffer.advance(count)
                let now = self.worker.loop.refreshNow()
                self.take(buffer, now)
                self.keepRest(of: buffer)
                if !hasMore && !untilEnd { return }
            case .wouldBlock: return
            case .endOfStream:
                let isCut = self.transport.session?.isTruncated ?? false
                return self.lost(isCut ? ECONNRESET : nil)
            case .failed(let code):
                if let failure = self.transport.session?.failure {
                    self.worker.securityFailed(failure, target: self.target)
                }
                return self.lost(code)
            }
        }
    }

    private func keepRest(of buffer: ByteBuffer) {
        if buffer === self.pending {
            self.pending.shrink(to: 16)
            return
        }
        if !buffer.isEmpty && self.state != .closed { self.pending.append(buffer.readable) }
        buffer.removeAll()
    }

    /// Consumes what can be understood of the bytes.
    private func take(_ buffer: ByteBuffer, _ now: Instant) {
        while self.state != .closed && !buffer.isEmpty {
            guard self.state == .busy else { return self.close() }
            if self.record.firstByte == 0 { self.record.firstByte = self.worker.offset(now) }
            if self.decoder == nil {
                guard self.takeHead(buffer, now) else { return }
            }
            if !self.takeBody(buffer, now) { return }
        }
    }

    /// True when the head is complete and a body may follow.
    private func takeHead(_ buffer: ByteBuffer, _ now: Instant) -> Bool {
        switch self.head.parse(buffer.readable, limits: LoadWorker.headLimits) {
        case .needMore: return false
        case .invalid:
            self.fail(.invalidAnswer, now)
            return false
        case .complete(let count):
            if self.head.isInformational {
                self.interim += 1
                buffer.consume(count)
                self.head.reset()
                guard self.interim <= LoadLimits.interimMax else {
                    self.fail(.invalidAnswer, now)
                    return false
                }
                return !buffer.isEmpty && self.takeHead(buffer, now)
            }
            self.readHead(buffer.readable)
            self.decoder = BodyDecoder(self.head.framing(requestMethod: self.worker.writer.method))
            self.record.receivedBytes += UInt64(count)
            buffer.consume(count)
            // Without a body, or with none yet, the end is found here.
            if buffer.isEmpty { _ = self.takeBody(buffer, now) }
            return true
        }
    }

    private func readHead(_ bytes: RawSpan) {
        self.record.status = self.head.status
        if let field = self.head.first(.xWeirVariant) {
            self.record.variant = self.worker.variant(bytes.slice(field.valueRange))
        }
        if self.worker.readsAnswers {
            var isStream = false
            if let field = self.head.first(.contentType) {
                isStream = bytes.slice(field.valueRange).matches("text/event-stream", at: 0)
            }
            self.answer.begin(isStream: isStream, isError: self.head.status >= 400)
        }
    }

    /// True when the answer has ended or more can be read from the buffer.
    private func takeBody(_ buffer: ByteBuffer, _ now: Instant) -> Bool {
        while self.state == .busy, self.decoder != nil {
            guard let step = self.decoder?.next(buffer.readable) else { return true }
            switch step {
            case .data(let range, let consumed):
                self.record.receivedBytes += UInt64(range.count)
                if self.worker.readsAnswers { self.takeAnswer(buffer, range, now) }
                buffer.consume(consumed)
                // The end of a body of known length shows without another byte.
                if buffer.isEmpty && self.decoder?.isDone == false { return false }
            case .needMore(let consumed):
                buffer.consume(consumed)
                return false
            case .end(let consumed):
                buffer.consume(consumed)
                self.complete(now)
            case .invalid: self.fail(.invalidAnswer, now)
            }
        }
        return true
    }

    private func takeAnswer(_ buffer: ByteBuffer, _ range: Range<Int>, _ now: Instant) {
        let bytes = buffer.readable
        let offset = self.worker.offset(now)
        self.answer.take(bytes.extracting(range)) {
            if self.record.firstOutput == 0 {
                self.record.firstOutput = offset
            } else {
                let gap = offset - self.record.lastOutput
                self.worker.outputGap(gap, self.record.scheduled)
                if self.worker.keepsGaps { self.gaps.append(gap) }
            }
            self.record.lastOutput = offset
        }
    }

    // MARK: Ends

    private func complete(_ now: Instant) {
        let outcome = self.answer.finish(&self.record, status: self.head.status)
        let keepsAlive =
            self.head.keepsAlive && self.output.isEmpty && self.worker.keepsConnections
        self.servedCount += 1
        if self.servedCount == 1, let session = self.transport.session {
            self.worker.remember(session, target: self.target)
        }
        self.decoder = nil
        self.work = nil
        self.state = keepsAlive ? .idle : .busy
        if !keepsAlive { self.close() }
        self.report(outcome, now, keeps: keepsAlive)
        if self.state == .idle { self.worker.becameIdle(self, now: now) }
    }

    /// The connection broke or ended.
    private func lost(_ code: Int32?) {
        let now = self.worker.loop.refreshNow()
        guard self.state == .busy else { return self.close() }
        if var decoder = self.decoder {
            switch decoder.finishAtEOF() {
            case .complete where code == nil:
                self.decoder = decoder
                return self.complete(now)
            case .complete, .truncated: return self.fail(.connectionLost, now)
            }
        }
        // A server may close a kept connection while the next request is on its way to it.
        if self.servedCount > 0, self.record.firstByte == 0, var work = self.work,
            work.resends < Self.resendsMax
        {
            work.resends += 1
            self.work = nil
            self.close()
            return self.worker.resend(work, target: self.target, now: now)
        }
        self.fail(.connectionLost, now)
    }

    func timedOut() {
        let now = self.worker.loop.refreshNow()
        switch self.state {
        case .busy: self.fail(.timedOut, now)
        case .connecting, .securing:
            self.close()
            self.worker.connectFailed(target: self.target, code: nil)
        case .idle, .closed: break
        }
    }

    private func fail(_ outcome: Outcome, _ now: Instant) {
        guard self.work != nil else { return self.close() }
        _ = self.answer.finish(&self.record, status: self.head.status)
        self.work = nil
        self.decoder = nil
        self.close()
        self.report(outcome, now, keeps: false)
    }

    private func report(_ outcome: Outcome, _ now: Instant, keeps: Bool) {
        self.record.outcome = outcome
        self.record.end = self.worker.offset(now)
        self.worker.ended(self.record, gaps: self.gaps, on: self.target, keeps: keeps)
        if !self.gaps.isEmpty { self.gaps.removeAll(keepingCapacity: true) }
    }

    /// Idempotent. What was under way is not reported.
    func close() {
        guard self.state != .closed else { return }
        self.state = .closed
        self.worker.wheel.remove(self.timer)
        self.deregister()
        self.transport.close()
        self.worker.closed(self)
    }
}

/// The deadline of what a connection does.
private final class RequestTimer: WheelTimer {
    unowned(unsafe) var connection: LoadConnection?

    override func expired() {
        self.connection?.timedOut()
    }
}

/// Reads the body of one answer, as a stream of events or as a whole.
struct AnswerReader {
    private enum Mode { case ignored, stream, whole }

    private var mode = Mode.ignored
    private var scanner = EventStreamScanner()
    private var whole: [UInt8] = []

    mutating func reset() {
        guard self.mode != .ignored else { return }
        self.mode = .ignored
        self.scanner.reset()
        self.whole.removeAll(keepingCapacity: true)
    }

    mutating func begin(isStream: Bool, isError: Bool) {
        self.mode = isError ? .ignored : isStream ? .stream : .whole
    }

    @inline(__always)
    mutating func take(_ bytes: RawSpan, output: () -> Void) {
        switch self.mode {
        case .ignored: break
        case .stream: self.scanner.scan(bytes, output: output)
        case .whole:
            guard self.whole.count + bytes.byteCount <= LoadLimits.scannedBytesMax else { return }
            bytes.withUnsafeBytes { self.whole.append(contentsOf: $0) }
        }
    }

    /// Puts the token counts into the record and says how the request ended.
    mutating func finish(_ record: inout RequestRecord, status: UInt16) -> Outcome {
        var findings = self.scanner.findings
        if self.mode == .whole { JSONMembers.read(self.whole.span.bytes, &findings) }
        if self.mode != .ignored {
            record.outputTokens = findings.outputTokens ?? findings.outputEvents
            if let input = findings.inputTokens { record.inputTokens = input }
        }
        if status >= 400 { return .httpError }
        guard self.mode == .stream else { return .ok }
        if findings.hasError { return .streamError }
        if findings.isTooLong { return .invalidAnswer }
        return findings.isDone ? .ok : .truncatedStream
    }
}
