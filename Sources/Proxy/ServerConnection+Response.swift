import Core
import EventLoop
import HTTP
import Traffic

/// Writing responses: re-framed canonically, whatever the upstream sent.
extension ServerConnection {
    /// Fields of an upstream's response that are not copied: framing is ours, and so are the names
    /// that the gateway adds itself.
    private static let dropped: FieldNameSet = {
        var set = FieldNameSet()
        for name in [
            FieldName.contentLength, .transferEncoding, .connection, .xWeirVariant, .xRequestID,
        ] {
            set.insert(name)
        }
        return set
    }()

    // MARK: Interim

    /// Tells the client to send its body. HTTP/1.0 has no such thing.
    func sendContinue() {
        if self.isHTTP10 { return }
        self.compose().append("HTTP/1.1 100 Continue\r\n\r\n")
        self.flush()
    }

    func sendInterim(_ head: ResponseHead, _ bytes: RawSpan) {
        if self.isHTTP10 { return }
        let output = self.compose()
        HeadWriter.statusLine(of: head, bytes, into: output)
        HeadWriter.fields(head.fields, of: bytes, dropping: Self.dropped, into: output)
        HeadWriter.end(into: output)
    }

    // MARK: Forwarding

    func sendHead(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        framing: ResponseFraming,
        exchange: Exchange
    ) {
        self.hasBegunResponse = true
        let output = self.compose()
        HeadWriter.statusLine(of: head, bytes, into: output)
        HeadWriter.fields(head.fields, of: bytes, dropping: Self.dropped, into: output)
        exchange.writeResponseFields(into: output)
        switch framing {
        case .none:
            self.writeLengthWithoutBody(head, into: output)
        case .length(let length):
            HeadWriter.contentLength(length, into: output)
        case .chunked, .untilClose:
            if self.isHTTP10 {
                self.keepsAlive = false
            } else {
                self.responseIsChunked = true
                HeadWriter.chunked(into: output)
            }
        case .tunnel:
            preconditionFailure("a tunnel is not a response with a body")
        }
        self.writeConnection(into: output)
        HeadWriter.end(into: output)
    }

    /// HEAD and 304 say how long the body would be; 204 must not (RFC 9110, section 8.6).
    private func writeLengthWithoutBody(_ head: ResponseHead, into output: ByteBuffer) {
        guard head.status != 204, let length = head.contentLength else { return }
        if self.requestMethod == .head || head.status == 304 {
            HeadWriter.contentLength(length, into: output)
        } else {
            HeadWriter.contentLength(0, into: output)
        }
    }

    private func writeConnection(into output: ByteBuffer) {
        if self.worker.isDraining { self.keepsAlive = false }
        if !self.keepsAlive {
            HeadWriter.connection(keepsAlive: false, into: output)
        } else if self.isHTTP10 {
            HeadWriter.connection(keepsAlive: true, into: output)
        }
    }

    func sendBody(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
        if self.responseIsChunked {
            HeadWriter.chunkHeader(bytes.count, into: self.compose())
            self.write(start, count: bytes.count, suffix: "\r\n")
        } else {
            self.write(start, count: bytes.count)
        }
    }

    /// The answer may wait for those of other clients, unless the connection ends with it.
    func endResponse(trailers: [UInt8], requestIsComplete: Bool) {
        if self.responseIsChunked {
            HeadWriter.lastChunk(trailers: trailers, into: self.compose())
        }
        if self.keepsAlive, requestIsComplete, self.deferFlush() { return }
        self.flush()
    }

    /// What was composed goes on its way, with that of others where it is little. True where the
    /// client does not take it.
    @inline(__always)
    func batchEnded() -> Bool {
        if self.deferFlush() { return false }
        self.flush()
        return self.hasBacklog
    }

    /// The response cannot be completed: a reset tells the client that it is not whole.
    func cutResponse() {
        self.keepsAlive = false
        self.detachExchange()
        self.flush()
        self.close(reset: true)
    }

    // MARK: The gateway's own answers

    func sendError(_ error: ProxyError, exchange: Exchange) {
        self.hasBegunResponse = true
        if !exchange.isRequestEnded, !self.canSkipRest { self.keepsAlive = false }
        if self.worker.isDraining { self.keepsAlive = false }
        let output = self.compose()
        ErrorResponse.write(
            error,
            style: exchange.style.errorStyle,
            message: exchange.errorMessage,
            omitsBody: self.requestMethod == .head,
            date: self.worker.date(),
            keepsAlive: self.keepsAlive,
            retryAfterNanoseconds: exchange.retryAfterNanoseconds,
            into: output
        ) { exchange.writeResponseFields(into: $0) }
        self.flush()
    }

    func sendLocal(
        status: UInt16,
        contentType: StaticString,
        body: ByteBuffer,
        exchange: Exchange
    ) {
        self.hasBegunResponse = true
        let output = self.compose()
        HeadWriter.statusLine(status, into: output)
        HeadWriter.field("Content-Type", contentType, into: output)
        HeadWriter.contentLength(UInt64(body.count), into: output)
        self.worker.writeDate(into: output)
        exchange.writeResponseFields(into: output)
        self.writeConnection(into: output)
        HeadWriter.end(into: output)
        if self.requestMethod != .head { output.append(body.readable) }
        self.flush()
    }

    // MARK: Body back-pressure

    /// Our own pause must not count as the client's delay.
    func pauseBody() {
        self.isBodyPaused = true
        self.pauseIdleTimeout()
    }

    /// Reads on at the end of the turn: the caller may be in the midst of another connection's read.
    func resumeBody() {
        guard self.isBodyPaused else { return }
        self.isBodyPaused = false
        self.resumeIdleTimeout()
        self.worker.pumpLater(self)
    }

    // MARK: Tunnels

    func startTunnel(_ head: ResponseHead, _ bytes: RawSpan, exchange: Exchange) {
        self.hasBegunResponse = true
        let output = self.compose()
        HeadWriter.statusLine(of: head, bytes, into: output)
        HeadWriter.fields(head.fields, of: bytes, dropping: Self.dropped, into: output)
        exchange.writeResponseFields(into: output)
        if let upgrade = head.upgrade {
            HeadWriter.upgrade(to: bytes.slice(upgrade), into: output)
        }
        HeadWriter.end(into: output)
        self.flush()
        self.enterTunnel()
    }
}
