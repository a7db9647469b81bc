import Core
import EventLoop
import GRPC
import HTTP
import HTTP2
import Traffic

/// The way back: the response's head, body and end, and the end of the exchange.
extension Exchange {
    // MARK: From the upstream

    func interimResponse(_ head: ResponseHead, _ bytes: RawSpan) {
        if head.status == 100 { self.awaitsContinue = false }
        self.armForProgress()
        self.client.sendInterim(head, bytes)
    }

    func responseHead(_ head: ResponseHead, _ bytes: RawSpan, framing: ResponseFraming) {
        guard let model = self.unownedModel else { return }
        let now = self.now
        self.firstByteAt = now
        self.phase = .responding
        self.status = head.status
        self.hasBegunResponse = true
        self.streamIdle = model._withUnsafeGuaranteedRef { model in
            if let call = self.call {
                self.noteAnswer(of: call, head, bytes)
            } else if head.status >= 500 || model.isWatching {
                model.noteResponse(head.status, of: self.endpoint, variant: self.variant, now: now)
            }
            return model.timeouts.streamIdle
        }
        if head.contains(.endpointLoadMetrics) { self.noteLoadReport(head, bytes) }
        if self.isTried, let arm = self.variant?.trial { self.beginInspection(arm, head, bytes) }
        if self.isRequestEnded, self.hasSentEnd { self.releaseBuffers() }
        self.isReplayable = false
        self.observer.reset(kind: self.observedKind(head, bytes))
        if self.observer.kind == .eventStream, let upstream = self.upstream {
            Sockets.delayAcknowledgements(upstream.descriptor)
        }
        self.arm(after: self.streamIdle)
        if self.answerCoding != nil || self.method == .get || self.method == .head,
            let model = self.model
        {
            return self.sendNegotiatedHead(head, bytes, framing: framing, model)
        }
        self.sendHead(head, bytes, framing: framing)
    }

    @inline(__always)
    func sendHead(_ head: ResponseHead, _ bytes: RawSpan, framing: ResponseFraming) {
        self.client.sendHead(head, bytes, framing: framing, exchange: self)
    }

    private func noteLoadReport(_ head: ResponseHead, _ bytes: RawSpan) {
        guard let endpoint = self.endpoint, let field = head.first(.endpointLoadMetrics),
            endpoint.takesLoadReport(at: self.now)
        else { return }
        let value = bytes.slice(field.valueRange)
        // Sound: bounds-checked, and every bit pattern is a byte.
        let text = value.byteOffsets.map { value.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        self.worker.shared.loadReports.put(text, of: endpoint.name, at: self.now)
    }

    /// What the answer's bytes are looked at for: events of a stream, or usage in a JSON answer.
    private func observedKind(_ head: ResponseHead, _ bytes: RawSpan) -> ResponseObserver.Kind {
        guard self.style == .openAI, head.status == 200, let field = head.first(.contentType)
        else { return .opaque }
        let type = bytes.slice(field.valueRange)
        let isStream = type.hasPrefix("text/event-stream")
        guard isStream || type.hasPrefix("application/json"), self.canRead(head, bytes) else {
            return .opaque
        }
        return isStream ? .eventStream : .json
    }

    func responseBody(_ bytes: UnsafeRawBufferPointer) {
        self.responseBytes += UInt64(bytes.count)
        if let coded = self.coded { return self.codedAnswer(bytes, coded) }
        self.observe(bytes)
        self.client.sendBody(bytes)
    }

    /// Looks at an answer's bytes as they were before any coding.
    @inline(__always)
    func observe(_ bytes: UnsafeRawBufferPointer) {
        self.observer.observe(bytes.bytes, now: self.now)
        if let inspection = self.inspection { inspection.take(bytes) }
        if let call = self.call { call.answers.observe(bytes.bytes, now: self.now) }
    }

    /// All bytes of one read were handled: what was composed goes out in one write.
    func upstreamBatchEnded() {
        if let coded = self.coded { self.flushCodedAnswer(coded) }
        if self.phase == .responding, !self.isUpstreamPaused { self.arm(after: self.streamIdle) }
        if self.client.batchEnded() { self.clientBlocked() }
    }

    /// The client does not take what it is sent: the upstream is not read until it has, for which
    /// there is a time.
    func clientBlocked() {
        guard !self.isUpstreamPaused else { return }
        if let upstream = self.upstream {
            upstream.pauseReading()
        } else if let stream = self.stream {
            stream.pauseReading()
        } else {
            return
        }
        self.isUpstreamPaused = true
        guard self.phase == .responding else { return }
        self.stall.begin(self.client.backlog)
        self.arm(after: self.worker.timeouts.idle)
    }

    /// The time has passed in which the client was to take something of the answer.
    func lookForStall() {
        guard self.stall.isStalled(self.client.backlog) else {
            return self.arm(after: self.worker.timeouts.idle)
        }
        self.error = ProxyError(.clientGone)
        self.cancelUpstream()
        self.finish { self.client.cutResponse(.cancel) }
    }

    /// The response is complete. The upstream connection that it came on, if that carried nothing
    /// else, is given back before anybody else can want it.
    func upstreamFinished(
        trailers: [UInt8],
        _ connection: UpstreamConnection? = nil,
        canReuse: Bool = false
    ) {
        self.upstream = nil
        if self.stream != nil { self.stream = nil }
        connection?.requestEnded(canReuse: canReuse)
        if let call = self.call { self.noteEnd(of: call, trailers) }
        if self.attempt > 1 { self.model?.statistics.retries[.success, default: 0] += 1 }
        if let coded = self.coded { self.endCodedAnswer(coded) }
        self.finish {
            self.client.endResponse(trailers: trailers, requestIsComplete: self.isRequestEnded)
        }
    }

    // MARK: Failure

    /// Ends the exchange with an error: an answer where none has begun, a cut where one has.
    func fail(_ error: ProxyError) {
        if self.phase == .free { return }
        self.error = error
        self.leaveQueue()
        self.cancelUpstream()
        if let call = self.call { return self.fail(call, error) }
        if self.hasBegunResponse {
            self.finish { self.client.cutResponse() }
            return
        }
        self.status = error.status
        self.finish { self.client.sendError(error, exchange: self) }
    }

    /// The client left: the replica must not work for nobody.
    func clientGone() {
        if self.phase == .free { return }
        self.error = ProxyError(.clientGone)
        self.isClientGone = true
        if !self.hasBegunResponse { self.status = 499 }
        if let endpoint = self.endpoint, !self.hasBegunResponse {
            self.model?.noteAbandoned(endpoint, variant: self.variant)
        }
        self.leaveQueue()
        self.cancelUpstream()
        self.finish {}
    }

    /// Answers from the gateway itself.
    func answer(json body: ByteBuffer) {
        self.status = 200
        self.finish {
            self.client.sendLocal(
                status: 200,
                contentType: "application/json",
                body: body,
                exchange: self
            )
        }
    }

    // MARK: The end

    /// Records, frees the slot, lets the client's side go on, and returns to the pool.
    func finish(_ conclude: () -> Void) {
        let isComplete = self.isRequestEnded
        self.count(self.now)
        if self.tenancy != nil { self.settleTenant(self.now) }
        self.worker.logAccess(self)
        if let recording = self.recording.take() { self.worker.record(self, recording) }
        let client = self.client
        let isClientGone = self.isClientGone
        // Taken over rather than read and then forgotten: that would count references.
        let endpoint = self.endpoint.take()
        // A client that has the whole answer may count on the slot being free.
        endpoint?.release()
        conclude()
        self.meter?._withUnsafeGuaranteedRef { $0.statistics.ended(at: self.now) }
        let model = self.takeModel()
        self.worker.giveExchange(self)
        if endpoint != nil, let model { self.worker.slotReleased(model) }
        if isClientGone { return }
        client.exchangeFinished(requestIsComplete: isComplete)
    }

    // MARK: Tunnels

    func upgradeAccepted(_ head: ResponseHead, _ bytes: RawSpan) {
        if self.isShadow { return self.cancelUpstream() }
        self.status = 101
        self.hasBegunResponse = true
        self.phase = .tunnel
        self.firstByteAt = self.now
        self.releaseBuffers()
        // A tunnel lives until one side ends it; its time is not the request's.
        self.totalDeadline = .distantFuture
        self.worker.wheel.arm(self, at: .distantFuture)
        if let upstream = self.upstream { Sockets.keepAlive(upstream.descriptor) }
        self.client.startTunnel(head, bytes, exchange: self)
        // It was not read while the request waited for its turn.
        if self.isClientPaused { self.resumeClient() }
    }

    func tunnelFromClient(_ bytes: UnsafeRawBufferPointer) {
        guard let upstream = self.upstream, let start = bytes.baseAddress else { return }
        upstream.write(start, count: bytes.count)
        upstream.flush()
        if upstream.hasBacklog { self.pauseClient() }
    }

    func tunnelFromUpstream(_ bytes: UnsafeRawBufferPointer) {
        self.responseBytes += UInt64(bytes.count)
        self.client.sendTunnelled(bytes)
    }

    /// One direction ended: pass the end on; the other goes on until it ends too.
    func tunnelClientEnded() {
        if self.hasTunnelClientEnded { return }
        self.hasTunnelClientEnded = true
        self.upstream?.endAfterOutput()
        self.finishTunnelIfDone()
    }

    func tunnelUpstreamEnded() {
        if self.hasTunnelUpstreamEnded { return }
        self.hasTunnelUpstreamEnded = true
        self.client.endAfterOutput()
        self.finishTunnelIfDone()
    }

    /// Both directions have ended, and the upstream has taken what the client sent last. What the
    /// client has not taken yet its connection looks after.
    func finishTunnelIfDone() {
        guard self.hasTunnelClientEnded, self.hasTunnelUpstreamEnded else { return }
        guard let upstream = self.upstream else { return self.finishTunnel() }
        if upstream.hasBacklog { return }
        self.upstream = nil
        upstream.end()
        self.finishTunnel()
    }

    func finishTunnel() {
        self.cancelUpstream()
        self.finish { self.client.endTunnel() }
    }
}
