import Core
import EventLoop
import GRPC
import HTTP
import HTTP2
import Traffic

/// The way to replicas that speak HTTP/2: what `Exchange+Upstream` does, on a stream.
extension Exchange {
    static let noHTTP2 = ProxyError.Detail(
        label: "no-http2",
        message: "The model server does not speak HTTP/2, which gRPC needs."
    )

    func connectStream(_ pool: UpstreamPool, _ model: WorkerModel) {
        do throws(SystemError) {
            let stream = try pool.openStream(for: self)
            self.stream = stream
            if stream.connection.state == .open { return self.streamReady() }
            self.arm(after: model.route.timeouts.connect)
        } catch {
            self.tryFailed(
                .connect,
                ProxyError(.connectFailed),
                wasNeverSent: true,
                isOurs: Self.isShortage(error.code)
            )
        }
    }

    /// The connection that was made for it has become one of many.
    func adopt(_ stream: UpstreamStream) {
        self.upstream = nil
        self.stream = stream
    }

    /// The connection stands: the request goes out.
    func streamReady() {
        guard let stream = self.stream, let model = self.model, let head = self.head else { return }
        self.connectedAt = self.now
        self.phase = .forwarding
        self.bodySent = 0
        self.hasSentEnd = false
        self.arm(after: model.route.timeouts.firstByte)
        if self.awaitsContinue {
            // Not passed on: the replica has room for the beginning of a body in any case.
            self.awaitsContinue = false
            self.client.sendContinue()
        }
        let endsStream =
            self.isRequestEnded && self.bodyCount == 0 && self.trailers.isEmpty
            && self.coded?.decodesForUpstream != true
        let fields = stream.connection.fields
        fields.removeAll()
        self.appendFields(of: head, to: fields)
        guard stream.begin(fields, isHead: self.method == .head, endsStream: endsStream) else {
            self.stream = nil
            return self.streamRefused()
        }
        stream.connection.began(stream)
        if endsStream {
            self.hasSentEnd = true
            self.armForProgress()
            stream.connection.flushSoon()
        } else {
            self.sendStreamBytes()
        }
    }

    /// What the canonical head says, for HTTP/2.
    private func appendFields(of head: ByteBuffer, to fields: OutgoingFields) {
        let lookup = self.worker.lookupHead
        lookup.reset()
        let bytes = UnsafeRawBufferPointer(start: head.readablePointer, count: head.count).bytes
        guard case .complete = lookup.parse(bytes, limits: Self.canonicalLimits) else {
            return assertionFailure("our own head does not parse")
        }
        let isSecure = self.endpoint?.security != nil
        fields.append(request: lookup, bytes, scheme: isSecure ? "https" : "http")
        // Trailers are passed on, and gRPC insists on being told so.
        fields.append("te", "trailers")
        if let call = self.call { self.appendTimeLeft(call, to: fields) }
    }

    /// Hands what is kept to the stream, then the end; stops at a backlog.
    func sendStreamBytes() {
        guard let stream = self.stream else { return }
        if let coded = self.coded, coded.decodesForUpstream {
            return self.sendDecodedBytes(coded, to: stream)
        }
        self.sendKept(to: stream)
        self.finishSending(to: stream, mayEnd: true)
    }

    func sendKept(to stream: UpstreamStream) {
        let count = self.bodyCount
        while self.bodySent < count, !stream.hasBacklog, let body = self.body {
            let slice = min(count - self.bodySent, UpstreamStream.backlogBytes)
            stream.sendBody(body.readablePointer + self.bodySent, count: slice)
            self.bodySent += slice
        }
    }

    func finishSending(to stream: UpstreamStream, mayEnd: Bool) {
        if mayEnd, self.bodySent == self.bodyCount, self.isRequestEnded, !self.hasSentEnd {
            self.hasSentEnd = true
            stream.endRequest(trailers: self.trailerFields)
        }
        stream.connection.flushSoon()
        self.armForProgress()
        if stream.hasBacklog {
            self.pauseClient()
        } else if self.isClientPaused {
            self.resumeClient()
        }
    }

    private var trailerFields: OutgoingFields? {
        if self.trailers.isEmpty { return nil }
        let fields = OutgoingFields()
        let lines = self.trailers
        fields.append(lines: lines.span.bytes)
        return fields
    }

    func cancelStream() {
        self.stream.take()?.cancel()
    }

    // MARK: Failure

    /// The replica has not looked at the request: whatever it asks for, it may be sent again.
    func streamRefused() {
        self.stream = nil
        self.tryFailed(
            .reset,
            ProxyError(.upstreamReset),
            wasNeverSent: false,
            wasReused: true,
            wasUnprocessed: true
        )
    }

    func streamFailed(_ failure: UpstreamFailure, _ facts: UpstreamStream.Facts) {
        self.stream = nil
        if let call = self.call {
            if case .resetStream(let code) = failure {
                call.resetStatus = GRPCStatus(resetCode: code.rawValue)
            } else {
                call.resetStatus = nil
            }
        }
        var context = UpstreamFailureContext(
            failure: failure,
            wasReused: facts.wasStale && failure.mayBeOfIdleness,
            hadResponseBytes: facts.hadResponseBytes,
            wasConnecting: facts.wasNeverSent
        )
        // So servers of gRPC end a call whose deadline passes there first.
        if self.call?.resetStatus == .cancelled { context.isCancelled = true }
        self.upstreamFailed(context)
    }
}
