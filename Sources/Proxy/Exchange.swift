import Core
import EventLoop
import HTTP
import Traffic

/// One request and its response, from head to record. The life of a request is this object's:
///
///     receiving → (queued) → connecting → forwarding → responding → finished
///
/// `receiving` lasts until it is known where the request goes; the body is kept meanwhile, within
/// `maxBufferedBody`. Its canonical HTTP/1 head is written when the request arrives and is what
/// every upstream codec works from. Back-pressure: while the upstream has a backlog the client is
/// not read, and the other way round. Exchanges are pooled; `ticket` changes with every use, so that
/// what other threads send to an earlier use finds nobody.
final class Exchange: WheelTimer {
    enum Phase {
        case free
        case receiving
        case queued
        case connecting
        case forwarding
        case responding
        case tunnel
        /// The gateway answers, for as long as the client listens.
        case watching
    }

    /// What the head says about where the request goes.
    enum Target {
        case undecided
        case scanning
        case model
        case fleet(FleetEndpoint)
        /// A call of gRPC that the gateway answers.
        case call
    }

    let worker: Worker
    /// Place in the worker's table.
    var index: Int
    /// Differs for every request this object serves.
    private(set) var ticket: UInt64 = 0
    var phase = Phase.free
    var client = ClientStream.shadow
    var target = Target.undecided

    // The request.
    var method = HTTPMethod.get
    var style = APIStyle.plain
    var acceptsUpgrade = false
    var isChunked = false
    var isRepeatable = false
    var wantsServerTiming = false
    var awaitsContinue = false
    /// Canonical HTTP/1 head as it goes upstream; nil once it can no longer be needed.
    var head: ByteBuffer?
    /// The body as far as it is kept, without framing.
    var body: ByteBuffer?
    /// Bytes at the front of `body` that were handed to the upstream.
    var bodySent = 0
    var bodyTotal: UInt64 = 0
    /// `body` holds all that came so far and may be sent again.
    var isReplayable = true
    var isRequestEnded = false
    var hasSentEnd = false
    // After an upgrade: which directions have ended.
    var hasTunnelClientEnded = false
    var hasTunnelUpstreamEnded = false
    var trailers: [UInt8] = []
    var requestID = RequestID()
    var pathForLog: [UInt8] = []
    var scanner = JSONKeyScanner()
    var scannedBytes = 0
    /// The scanner is on its second way through the body, for the prompt.
    var isHashingPrefix = false
    var prefixHashed = false
    /// Of a request that the recorder wants; nil where it does not.
    var recording: RecordingDraft?
    /// What it has to do with content codings; nil where that is nothing.
    var coded: CodedContent?
    /// What an answer may be compressed with.
    var answerCoding: ContentCoding?
    /// What it is to its tenant; nil without tenants.
    var tenancy: Tenancy?
    /// Of a refusal that knows when it would be none; else 0.
    var retryAfterNanoseconds: UInt64 = 0

    // Where it goes.
    private(set) var model: WorkerModel?
    /// The same object: reading it here counts no references.
    private(set) var unownedModel: Unmanaged<WorkerModel>?
    /// The variant as the snapshot had it that the endpoint was chosen by.
    var variant: VariantRoute?
    /// The variant takes part in a rollout.
    var isTried = false
    /// The variant's; the model owns it.
    var meter: Unmanaged<VariantMeter>?
    /// The variant it must go to; found again by name after a reload.
    var pinned: VariantRoute?
    /// Set when the sticky cookie must be given to the client.
    var setsCookie = false
    /// The request named its variant, which was not left to chance.
    var hasChosenVariant = false
    /// The value of `x-weir-variant`, if there is one.
    var variantField: NameBuffer?
    /// A name the client gave that nothing here has.
    var unknownName: String?
    var affinity = AffinityKey.none
    var endpoint: Endpoint?
    var failedEndpoints: [Endpoint] = []
    /// The replica of the last try once that is over, for the log.
    var lastEndpoint: Endpoint?
    var attempt = 0
    /// A pooled connection turned out to be closed: that try does not count. At most one is.
    var hadStaleConnection = false
    var upstream: UpstreamConnection?
    /// In place of `upstream` where the replica speaks HTTP/2.
    var stream: UpstreamStream?
    var queueHandle: AdmissionHandle?
    /// The queue that the handle is of.
    var queue: ModelShared?

    /// What it is as a call of gRPC; nil where it is none.
    var call: Call?

    // The response.
    var status: UInt16 = 0
    var hasBegunResponse = false
    var observer = ResponseObserver()
    /// How long the replica may be silent, once it has begun to answer.
    var streamIdle = Interval(.zero)
    var isUpstreamPaused = false
    /// While the replica is not read: whether the client goes on.
    var stall = StallWatch()
    var isClientPaused = false
    var responseBytes: UInt64 = 0
    /// During a rollout that asks for it: what the answer says.
    var inspection: AnswerInspection?
    /// During a rollout, of a request that was copied and of its copy.
    var pair: TrialPair?
    var error: ProxyError?
    var isClientGone = false

    // When.
    var arrivedAt = Instant.zero
    var readyAt = Instant.zero
    var queuedAt = Instant.zero
    var admittedAt = Instant.zero
    var connectedAt = Instant.zero
    var sentAt = Instant.zero
    var firstByteAt = Instant.zero
    var totalDeadline = Instant.distantFuture

    init(worker: Worker, index: Int) {
        self.worker = worker
        self.index = index
        super.init()
    }

    var now: Instant { self.worker.loop.now }

    /// Whether it is a mirrored copy.
    var isShadow: Bool { self.client.isShadow }

    /// Makes the object ready for a request.
    func open(_ client: ClientStream) {
        assert(self.phase == .free, "an exchange was taken twice")
        self.ticket &+= 1
        self.phase = .receiving
        self.client = client
        self.arrivedAt = self.now
        if self.observer.kind != .opaque { self.observer.reset(kind: .opaque) }
        self.totalDeadline = .distantFuture
    }

    /// Says which model it asks for.
    @inline(__always)
    func setModel(_ model: consuming WorkerModel) {
        self.unownedModel = .passUnretained(model)
        self.model = model
    }

    /// Hands the model over to the caller.
    @inline(__always)
    func takeModel() -> WorkerModel? {
        self.unownedModel = nil
        return self.model.take()
    }

    /// Forgets the request; the object goes back to its pool.
    func reset() {
        self.phase = .free
        self.client = .shadow
        self.target = .undecided
        self.releaseBuffers()
        self.bodySent = 0
        self.bodyTotal = 0
        self.isReplayable = true
        self.isRequestEnded = false
        self.hasSentEnd = false
        self.hasTunnelClientEnded = false
        self.hasTunnelUpstreamEnded = false
        if !self.trailers.isEmpty { self.trailers = [] }
        if !self.pathForLog.isEmpty { self.pathForLog.removeAll(keepingCapacity: true) }
        self.scannedBytes = 0
        self.isHashingPrefix = false
        self.prefixHashed = false
        if self.model != nil { self.model = nil }
        self.unownedModel = nil
        if self.variant != nil { self.variant = nil }
        self.isTried = false
        self.meter = nil
        if self.pinned != nil { self.pinned = nil }
        self.setsCookie = false
        self.hasChosenVariant = false
        if self.unknownName != nil { self.unknownName = nil }
        if self.variantField != nil { self.variantField = nil }
        self.affinity = .none
        if self.endpoint != nil { self.endpoint = nil }
        if self.lastEndpoint != nil { self.lastEndpoint = nil }
        if !self.failedEndpoints.isEmpty { self.failedEndpoints = [] }
        self.attempt = 0
        self.hadStaleConnection = false
        if self.upstream != nil { self.upstream = nil }
        if self.stream != nil { self.stream = nil }
        if self.call != nil { self.call = nil }
        self.queueHandle = nil
        if self.queue != nil { self.queue = nil }
        self.status = 0
        self.hasBegunResponse = false
        self.isUpstreamPaused = false
        self.isClientPaused = false
        self.responseBytes = 0
        if self.inspection != nil { self.inspection = nil }
        if self.pair != nil { self.pair = nil }
        if self.recording != nil { self.recording = nil }
        if self.tenancy != nil { self.tenancy = nil }
        if let coded = self.coded.take() {
            self.worker.coding.release(coded, &self.worker.buffers)
        }
        self.answerCoding = nil
        self.retryAfterNanoseconds = 0
        self.error = nil
        self.isClientGone = false
        self.acceptsUpgrade = false
        self.awaitsContinue = false
        self.wantsServerTiming = false
        self.readyAt = .zero
        self.queuedAt = .zero
        self.admittedAt = .zero
        self.connectedAt = .zero
        self.sentAt = .zero
        self.firstByteAt = .zero
        self.worker.wheel.arm(self, at: .distantFuture)
    }

    func releaseBuffers() {
        if let head = self.head.take() {
            self.worker.buffers.give(head)
        }
        if let body = self.body.take() {
            self.worker.buffers.give(body)
        }
    }

    /// Sets the deadline of the phase at hand; the request's own deadline still holds.
    @inline(__always)
    func arm(after interval: Interval) {
        self.worker.wheel.arm(self, at: min(self.now + interval, self.totalDeadline))
    }

    override func expired() {
        self.deadlinePassed()
    }

    // MARK: The request body

    /// Takes bytes of the body. They belong to the caller: what is not sent now is copied.
    func requestBody(_ bytes: UnsafeRawBufferPointer) {
        self.bodyTotal += UInt64(bytes.count)
        if self.bodyTotal > self.worker.limits.maxRequestBody {
            return self.fail(ProxyError(.bodyTooLarge))
        }
        // Nobody needs the body of what the gateway answers itself.
        if case .fleet = self.target { return }
        self.awaitsContinue = false
        if let coded = self.coded, coded.decodesForUpstream { return self.codedBody(bytes, coded) }
        switch self.phase {
        case .receiving, .queued, .connecting:
            self.keep(bytes)
            if self.bodyCount >= self.worker.limits.maxBufferedBody, self.phase != .receiving {
                self.pauseClient()
            }
        case .forwarding, .responding:
            self.forward(bytes)
        case .watching:
            break
        case .tunnel, .free:
            assertionFailure("a body in phase \(self.phase)")
        }
    }

    /// Where the client's connection may read the next bytes of a long body itself, because they are
    /// kept in any case: room behind what is kept, for at most `remaining` bytes.
    func roomForBody(remaining: UInt64) -> ByteBuffer? {
        switch self.phase {
        case .receiving, .queued, .connecting: break
        case .forwarding, .responding, .tunnel, .watching, .free: return nil
        }
        if let coded = self.coded, coded.decodesForUpstream { return nil }
        let limit = self.worker.limits.maxBufferedBody + 1
        guard let body = self.body, body.count < limit else { return nil }
        let room = min(Int(clamping: remaining), limit - body.count)
        guard room >= Worker.readSize else { return nil }
        if body.writableCount >= room { return body }
        let larger = self.worker.buffers.takeLarge(body.count + room)
        larger.append(body.readable)
        self.worker.buffers.give(body)
        self.body = larger
        return larger
    }

    /// The next `count` bytes of the body have been read into `roomForBody`.
    func requestBodyRead(_ count: Int) {
        self.bodyTotal += UInt64(count)
        self.awaitsContinue = false
        guard let body = self.body else { preconditionFailure("a body was read into nothing") }
        body.advance(count)
        if self.bodyCount >= self.worker.limits.maxBufferedBody, self.phase != .receiving {
            self.pauseClient()
        }
    }

    func requestEnded(trailers: [UInt8]) {
        self.isRequestEnded = true
        if !trailers.isEmpty { self.trailers = trailers }
    }

    /// Goes on as far as what has arrived allows. Called after each batch of bytes.
    func advance() {
        switch self.phase {
        case .receiving:
            self.route()
        case .forwarding, .responding:
            self.sendRequestBytes()
        case .queued, .connecting, .tunnel, .watching, .free:
            break
        }
    }

    var bodyCount: Int { self.body?.count ?? 0 }

    func keep(_ bytes: UnsafeRawBufferPointer) {
        if self.body == nil {
            self.body =
                bytes.count >= BufferPool.largeBytesMin
                ? self.worker.buffers.takeLarge(bytes.count) : self.worker.buffers.take()
        }
        if let start = bytes.baseAddress { self.body?.append(start, count: bytes.count) }
    }

    /// Sends bytes of a streaming body on, straight from where they were read where possible.
    func forward(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        if self.isReplayable, self.bodyCount + bytes.count > self.worker.limits.maxReplayBody {
            self.isReplayable = false
        }
        if self.isReplayable || self.bodySent < self.bodyCount {
            self.keep(bytes)
            return
        }
        if let body = self.body.take() {
            self.bodySent = 0
            self.worker.buffers.give(body)
        }
        if let upstream = self.upstream {
            upstream.sendBody(start, count: bytes.count)
        } else {
            self.stream?.sendBody(start, count: bytes.count)
        }
    }

    /// Hands what is kept to the upstream, then the end; stops at a backlog.
    func sendRequestBytes() {
        guard let upstream = self.upstream else { return self.sendStreamBytes() }
        if let coded = self.coded, coded.decodesForUpstream { return self.sendDecodedBytes(coded) }
        self.sendKept(upstream)
        self.finishSending(upstream, mayEnd: true)
    }

    /// Hands what is kept to the upstream; stops at a backlog.
    @inline(__always)
    func sendKept(_ upstream: UpstreamConnection) {
        let body = self.body
        let count = body?.count ?? 0
        while self.bodySent < count, !upstream.hasBacklog, !upstream.hasWriteFailed, let body {
            self.bodySent += upstream.sendKeptBody(
                body.readablePointer + self.bodySent,
                count: count - self.bodySent
            )
        }
    }

    /// Hands the end to the upstream behind all that is kept, unless there is more, and sees that it
    /// gets out.
    @inline(__always)
    func finishSending(_ upstream: UpstreamConnection, mayEnd: Bool) {
        if mayEnd, self.bodySent == self.bodyCount, self.isRequestEnded, !self.hasSentEnd {
            self.hasSentEnd = true
            upstream.endRequest(trailers: self.trailers)
        }
        if self.hasSentEnd, upstream.deferFlush() {
            // All of it: nothing is left to be done once it has been sent but to wait.
            self.armForProgress()
            return
        }
        upstream.flush()
        self.armForProgress()
        if upstream.hasBacklog {
            self.pauseClient()
        } else if self.isClientPaused {
            self.resumeClient()
        }
    }

    /// The upstream took all it had been given: go on with what is kept, then with the client.
    func upstreamDrained() {
        if self.phase == .forwarding || self.phase == .responding {
            self.armForProgress()
            self.sendRequestBytes()
        } else if self.phase == .tunnel {
            if self.isClientPaused { self.resumeClient() }
            self.finishTunnelIfDone()
        }
    }

    /// The client took all it had been given: the upstream may be read again.
    func clientDrained() {
        guard self.isUpstreamPaused else { return }
        self.isUpstreamPaused = false
        if self.phase == .responding { self.armForProgress() }
        if let upstream = self.upstream {
            upstream.resumeReading()
        } else {
            self.stream?.resumeReading()
        }
    }

    func pauseClient() {
        if self.isClientPaused { return }
        self.isClientPaused = true
        self.client.pauseBody()
    }

    func resumeClient() {
        self.isClientPaused = false
        self.client.resumeBody()
    }

    /// The upstream has all that there is and the client owes the rest: its own idle timeout runs.
    private var isClientsTurn: Bool {
        !self.isRequestEnded && !self.awaitsContinue
            && (self.upstream?.hasBacklog ?? self.stream?.hasBacklog) == false
    }

    /// Moves the idle deadline of a stream that made progress.
    func armForProgress() {
        if self.phase == .responding {
            // While the client has the turn, the time is its own.
            return self.isUpstreamPaused ? () : self.arm(after: self.streamIdle)
        }
        guard let model = self.unownedModel else { return }
        if self.phase == .forwarding, self.isClientsTurn {
            self.worker.wheel.arm(self, at: self.totalDeadline)
            return
        }
        self.arm(after: model._withUnsafeGuaranteedRef { $0.timeouts.firstByte })
    }
}
