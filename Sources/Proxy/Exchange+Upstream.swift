import Core
import EventLoop
import Glibc
import HTTP
import TLS
import Traffic

/// Getting a slot, a connection, and the request onto it; and what happens when that fails.
extension Exchange {
    // MARK: Admission

    /// Takes a slot on a replica, or waits in the model's queue for one.
    func admit(_ model: WorkerModel) {
        // Its prompt or another try took longer than the model was there.
        if model.isGone { return self.fail(ProxyError(.unknownModel)) }
        self.readyAt = self.now
        if let pinned = self.pinned, self.attempt == 0 { model.notePinned(to: pinned) }
        if model.route.shared.mayBypassQueue {
            if let choice = self.pick(model) { return self.dispatch(choice, model) }
        }
        self.enqueue(model)
    }

    func pick(_ model: WorkerModel) -> EndpointChoice? {
        model.pick(
            pinned: self.pinned,
            excluding: self.failedEndpoints,
            key: self.affinity,
            now: self.now
        )
    }

    private func enqueue(_ model: WorkerModel) {
        let shared = model.route.shared
        let waiter = Waiter(
            exchange: LoopBound(self, loop: self.worker.loop),
            ticket: self.ticket,
            worker: self.worker.handle,
            pinned: self.pinned,
            excluded: self.failedEndpoints,
            affinity: self.affinity
        )
        let bytes = self.bodyCount + (self.head?.count ?? 0)
        let deadline = self.now + model.route.timeouts.queue
        let (handle, shed) = shared.enqueue(
            waiter,
            claim: self.tenancy?.claim ?? .common,
            bytes: bytes,
            deadline: deadline,
            now: self.now
        )
        guard let handle else { return self.fail(ProxyError(.queueFull)) }
        self.phase = .queued
        self.queuedAt = self.now
        self.queueHandle = handle
        self.queue = shared
        model.noteQueued(pinned: self.pinned, now: self.now)
        self.arm(after: model.route.timeouts.queue)
        if model.needsWake(pinned: self.pinned) { shared.wake(self.pinned?.name) }
        // The body waits with its client: what is counted for the queue is all there is.
        self.pauseClient()
        self.armForExclusion()
        // A slot may have been released between the attempt and the wait.
        self.worker.pumpQueue(model)
        // Last: answering them may make their connections ask for the next.
        for waiter in shed { self.worker.turnOut(waiter) { $0.shed() } }
    }

    /// A request whose only replica failed waits for another, but not for ever: after a while the
    /// failed one may be tried again.
    private func armForExclusion() {
        if self.failedEndpoints.isEmpty { return }
        self.arm(after: Self.exclusionTime)
    }

    private static let exclusionTime = Interval(.seconds(1))

    /// The request had to make room in the queue for one of a higher priority.
    func shed() {
        guard self.phase == .queued else { return }
        self.hasLeftQueue()
        self.tenancy?.tenant.shared.count(.shed)
        let message: StaticString = "Too many requests of higher priority: try again later."
        self.fail(ProxyError(.queueFull, detail: .init(label: "shed", message: message)))
    }

    /// The model left the configuration while the request waited.
    func modelRemoved() {
        guard self.phase == .queued else { return }
        self.hasLeftQueue()
        self.fail(ProxyError(.unknownModel))
    }

    /// A slot came free and this exchange was first in line.
    func granted(_ choice: consuming EndpointChoice) {
        self.hasLeftQueue()
        if let model = self.model { self.dispatch(choice, model) }
    }

    func leaveQueue() {
        guard let handle = self.queueHandle else { return }
        self.hasLeftQueue()
        // Not the model's of now: another one may have taken its index.
        self.queue?.remove(handle)
    }

    private func hasLeftQueue() {
        if self.queueHandle == nil { return }
        self.queueHandle = nil
        self.model?.noteUnqueued(pinned: self.pinned, now: self.now)
    }

    // MARK: Mirroring

    /// Becomes a copy of a request that is being sent, bound for the replica chosen. Its answer is
    /// thrown away and its failures touch nobody.
    func beginShadow(of original: Exchange, _ model: WorkerModel, _ choice: EndpointChoice) {
        self.open(.shadow)
        self.method = original.method
        self.isChunked = original.isChunked
        self.isRepeatable = original.isRepeatable
        self.style = original.style
        self.requestID = original.requestID
        if let call = original.call { self.call = Call(call.method, deadline: call.deadline) }
        self.setModel(model)
        self.totalDeadline = self.arrivedAt + model.timeouts.request
        self.head = self.worker.buffers.take()
        if let head = original.head { self.head?.append(head.readable) }
        if let body = original.body {
            let copy = self.worker.buffers.take()
            copy.append(body.readable)
            self.body = copy
        }
        self.trailers = original.trailers
        self.isRequestEnded = true
        self.readyAt = self.now
        self.dispatch(choice, model)
    }

    // MARK: Dispatch

    /// The model is handed on, here and below: to read it from `self` each time would count
    /// references each time.
    private func dispatch(_ choice: consuming EndpointChoice, _ model: WorkerModel) {
        if self.admittedAt == .zero {
            self.admittedAt = self.now
            if !self.isShadow {
                model.statistics.queueWait.record(nanoseconds: self.queueNanoseconds)
            }
        }
        self.meter?._withUnsafeGuaranteedRef { $0.statistics.ended(at: self.now) }
        let meter = model.unownedMeter(model.meterIndex(of: choice))
        meter._withUnsafeGuaranteedRef { $0.statistics.began(at: self.now) }
        self.meter = meter
        self.variant = choice.route
        self.isTried = choice.route.trial != nil
        self.endpoint = choice.endpoint
        self.attempt += 1
        self.worker.mirrorIfAsked(self)
        self.connect(choice.endpoint, model)
    }

    private func connect(_ endpoint: Endpoint, _ model: WorkerModel) {
        self.phase = .connecting
        let pool = self.worker.pool(for: endpoint)
        if endpoint.wire != .http1 || self.call != nil {
            if pool.isMultiplexed(for: self) { return self.connectStream(pool, model) }
            if !endpoint.takesCalls { return self.failForLackOfCalls() }
        }
        // After a failure a new connection: the next idle one may be as stale.
        if self.attempt == 1, let connection = pool.takeIdle() {
            let unowned = Unmanaged.passUnretained(connection)
            self.upstream = consume connection
            return unowned._withUnsafeGuaranteedRef {
                $0.attach(self)
                self.upstreamReady($0, model)
            }
        }
        do throws(SystemError) {
            let connection = try pool.connect()
            self.upstream = connection
            connection.attach(self)
            self.arm(after: model.timeouts.connect)
        } catch {
            self.tryFailed(
                .connect,
                ProxyError(.connectFailed),
                wasNeverSent: true,
                isOurs: Self.isShortage(error.code)
            )
        }
    }

    /// Errors of a connect that say something about this machine, not about the replica.
    static func isShortage(_ code: Int32) -> Bool {
        [EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL, EAGAIN].contains(code)
    }

    /// The connection is there: the request goes out.
    func upstreamReady() {
        guard let upstream = self.upstream, let model = self.model else { return }
        self.upstreamReady(upstream, model)
    }

    private func upstreamReady(_ upstream: UpstreamConnection, _ model: WorkerModel) {
        if self.head == nil { return }
        self.connectedAt = self.now
        self.phase = .forwarding
        self.bodySent = 0
        self.hasSentEnd = false
        self.arm(after: model.timeouts.firstByte)
        if self.isRequestEnded, !self.isChunked, upstream.sendWhole(self) {
            self.bodySent = self.bodyCount
            self.hasSentEnd = true
            return
        }
        if let head = self.head { upstream.sendHead(head, isChunked: self.isChunked) }
        self.sendRequestBytes()
        if !upstream.isFlushDeferred, self.phase != .free { self.requestSent() }
    }

    /// The request, or what there was of it, was handed to the socket.
    func requestSent() {
        self.sentAt = EventLoop.readClock()
    }

    // MARK: Failure

    func upstreamFailed(_ context: UpstreamFailureContext) {
        self.upstream = nil
        if self.phase == .tunnel {
            self.finishTunnel()
            return
        }
        let (kind, error) = Self.describe(context)
        self.tryFailed(
            kind,
            error,
            wasNeverSent: context.wasConnecting,
            wasReused: context.wasReused,
            hadResponseBytes: context.hadResponseBytes,
            isOurs: context.isShortage || context.isCancelled
        )
    }

    static func describe(
        _ context: UpstreamFailureContext
    ) -> (UpstreamErrorKind, ProxyError) {
        switch context.failure {
        case .connectFailed: (.connect, ProxyError(.connectFailed))
        case .handshakeFailed(let kind):
            (.handshake, ProxyError(.connectFailed, detail: kind.upstreamDetail))
        case .reset, .closedEarly, .resetStream, .silent: (.reset, ProxyError(.upstreamReset))
        case .truncated: (.truncated, ProxyError(.upstreamTruncated))
        case .invalidResponse, .invalidBody, .tooManyInterim, .unexpectedUpgrade, .unsolicited,
            .invalidBlock, .notHTTP2:
            (.invalidResponse, ProxyError(.upstreamInvalid))
        case .noHTTP2: (.handshake, ProxyError(.connectFailed, detail: Self.noHTTP2))
        }
    }

    /// One try failed: count it, let the outlier detector know, and try again where allowed.
    func tryFailed(
        _ kind: UpstreamErrorKind,
        _ error: ProxyError,
        wasNeverSent: Bool,
        wasReused: Bool = false,
        hadResponseBytes: Bool = false,
        isOurs: Bool = false,
        wasUnprocessed: Bool = false
    ) {
        guard let model = self.model, let endpoint = self.endpoint else {
            return self.fail(error)
        }
        self.meter?._withUnsafeGuaranteedRef { $0.statistics.upstreamErrors[kind, default: 0] += 1 }
        // A kept connection that its server closes as the request arrives is nobody's failure.
        let wasStale = wasReused && !hadResponseBytes && kind == .reset
        if !wasStale, !isOurs { self.noteFailure(model, endpoint) }
        if self.attempt > 1 { model.statistics.retries[.failure, default: 0] += 1 }
        let facts = self.retryFacts(
            error,
            wasNeverSent: wasNeverSent,
            wasReused: wasReused,
            hadResponseBytes: hadResponseBytes,
            isRepeatable: self.isRepeatable || wasUnprocessed
        )
        let decision = model.decideRetry(facts, now: self.now)
        self.releaseEndpoint()
        switch decision {
        case .retryElsewhere:
            // The only replica failed and nobody will start another: waiting would not help.
            guard model.route.settings.startsReplicas || self.hasAlternative(to: endpoint, model)
            else {
                return self.fail(error)
            }
            self.failedEndpoints.append(endpoint)
            if !isOurs { self.recordFailedTry(kind, at: endpoint) }
            self.retry()
        case .retryPreferablyElsewhere:
            self.hadStaleConnection = true
            if self.hasAlternative(to: endpoint, model) { self.failedEndpoints.append(endpoint) }
            self.retry()
        case .giveUp(let reason):
            if reason == .budgetExhausted {
                model.statistics.retries[.budgetExhausted, default: 0] += 1
            }
            self.fail(error)
        }
    }

    /// Tells the outlier detector; requests that wait get their chance when an ejection is over.
    private func noteFailure(_ model: WorkerModel, _ endpoint: Endpoint) {
        let until = model.noteFailure(of: endpoint, variant: self.variant, now: self.now)
        if let until { self.worker.pumpQueue(model, at: until) }
    }

    /// Its body is here as it goes upstream, whole.
    var mayBeCopied: Bool {
        self.isRequestEnded && self.isReplayable && self.coded?.decodesForUpstream != true
    }

    /// Whether a failure now could be followed by another try.
    var mayBeRepeated: Bool {
        self.isRepeatable && self.isReplayable && self.isRequestEnded && self.head != nil
            && !self.isShadow
    }

    private func hasAlternative(to endpoint: Endpoint, _ model: WorkerModel) -> Bool {
        model.hasAlternative(
            to: self.failedEndpoints + [endpoint],
            pinned: self.pinned,
            now: self.now
        )
    }

    private func retry() {
        self.phase = .receiving
        self.bodySent = 0
        self.hasSentEnd = false
        self.call?.resetStatus = nil
        self.variant = nil
        if let model = self.model { self.admit(model) }
    }

    private func retryFacts(
        _ error: ProxyError,
        wasNeverSent: Bool,
        wasReused: Bool,
        hadResponseBytes: Bool,
        isRepeatable: Bool
    ) -> RetryFacts {
        // A reset says that the replica went away, not that it refused: repeating is safe where the
        // request only computes, whatever the connection's history. Of a reused connection it says
        // less: the same replica may well answer on another.
        let retryability: Retryability =
            switch error.retryable {
            case .yes: .yes
            case .onlyIfReused: isRepeatable && !wasReused ? .yes : .onlyIfReused
            case .no: .no
            }
        return RetryFacts(
            retryability: hadResponseBytes || self.isShadow || self.acceptsUpgrade
                ? .no : retryability,
            isRepeatable: isRepeatable,
            wasNeverSent: wasNeverSent,
            connectionWasReused: wasReused,
            bodyIsReplayable: self.isReplayable && self.head != nil,
            responseHasBegun: self.hasBegunResponse,
            attempts: self.attempt,
            // A stale connection was no try at a replica.
            attemptsMax: (self.model?.route.settings.attempts ?? 1)
                + (self.hadStaleConnection || wasReused ? 1 : 0)
        )
    }

    func releaseEndpoint() {
        guard let endpoint = self.endpoint else { return }
        self.endpoint = nil
        self.lastEndpoint = endpoint
        endpoint.release()
        if let model = self.model { self.worker.slotReleased(model) }
    }

    // MARK: Deadlines

    func deadlinePassed() {
        if let call = self.call, self.phase != .free, self.now >= call.deadline {
            return self.deadlinePassed(of: call)
        }
        if self.now >= self.totalDeadline, self.phase != .free, self.phase != .queued {
            return self.timeOut(.requestTimeout, ProxyError(.upstreamTimeout))
        }
        switch self.phase {
        case .free, .receiving, .tunnel, .watching:
            break
        case .queued:
            self.leaveQueue()
            if !self.failedEndpoints.isEmpty, self.now < self.totalDeadline, let model = self.model
            {
                self.failedEndpoints = []
                self.phase = .receiving
                return self.admit(model)
            }
            self.fail(ProxyError(self.model?.hasEndpoints == true ? .queueTimeout : .noReplica))
        case .connecting:
            self.cancelUpstream()
            self.tryFailed(.connectTimeout, ProxyError(.connectTimeout), wasNeverSent: true)
        case .forwarding:
            self.timeOut(.firstByteTimeout, ProxyError(.firstByteTimeout))
        case .responding where self.isUpstreamPaused:
            // Whatever comes of it is not the replica's fault.
            self.lookForStall()
        case .responding:
            self.timeOut(.streamIdleTimeout, ProxyError(.streamIdleTimeout))
        }
    }

    /// A replica took too long. Its work is cancelled, and not tried again: the next replica would
    /// be asked for the same slow answer.
    private func timeOut(_ kind: UpstreamErrorKind, _ error: ProxyError) {
        self.leaveQueue()
        self.stream?.connection.probe()
        if let model = self.model, let endpoint = self.endpoint {
            self.meter?._withUnsafeGuaranteedRef {
                $0.statistics.upstreamErrors[kind, default: 0] += 1
            }
            // While the client has the turn, the time is its own.
            if self.isRequestEnded, !self.isUpstreamPaused { self.noteFailure(model, endpoint) }
        }
        self.fail(error)
    }

    func cancelUpstream() {
        guard let upstream = self.upstream else { return self.cancelStream() }
        self.upstream = nil
        upstream.cancel()
    }
}
