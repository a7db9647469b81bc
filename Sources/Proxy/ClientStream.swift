import Core
import EventLoop
import HTTP
import HTTP2

/// The client's side of an exchange, whatever protocol it speaks.
///
/// An enum, so that dispatch is static. A shadow has no client: it is a mirrored copy whose answer
/// is thrown away.
enum ClientStream {
    // Not counted: a connection or stream ends its exchange before it is closed, and lives to the
    // end of the turn in which it does.
    case http1(Unmanaged<ServerConnection>)
    case http2(Unmanaged<ServerStream>)
    case shadow

    var isShadow: Bool {
        if case .shadow = self { true } else { false }
    }

    /// Calls the one of two that there is, without holding it.
    @inline(__always)
    private func call(
        _ http1: (ServerConnection) -> Void,
        _ http2: (ServerStream) -> Void
    ) {
        switch self {
        case .http1(let connection): connection._withUnsafeGuaranteedRef { http1($0) }
        case .http2(let stream): stream._withUnsafeGuaranteedRef { http2($0) }
        case .shadow: break
        }
    }

    /// The connection, for what belongs to that.
    var connection: ServerConnection? {
        switch self {
        case .http1(let connection): connection.takeUnretainedValue()
        case .http2(let stream): stream._withUnsafeGuaranteedRef { $0.connection }
        case .shadow: nil
        }
    }

    /// The client's stream on HTTP/2.
    var stream: ServerStream? {
        if case .http2(let stream) = self { stream.takeUnretainedValue() } else { nil }
    }

    /// Calls `body` with the connection, if there is one, without holding it.
    @inline(__always)
    func withConnection(_ body: (ServerConnection) -> Void) {
        self.call({ body($0) }, { body($0.connection) })
    }

    // MARK: The request's body

    @inline(__always)
    func pauseBody() { self.call({ $0.pauseBody() }, { $0.pauseBody() }) }

    @inline(__always)
    func resumeBody() { self.call({ $0.resumeBody() }, { $0.resumeBody() }) }

    func sendContinue() { self.call({ $0.sendContinue() }, { $0.sendContinue() }) }

    // MARK: The response

    func sendInterim(_ head: ResponseHead, _ bytes: RawSpan) {
        switch self {
        case .http1(let connection):
            connection._withUnsafeGuaranteedRef { $0.sendInterim(head, bytes) }
        case .http2(let stream):
            stream._withUnsafeGuaranteedRef { $0.sendInterim(head, bytes) }
        case .shadow: break
        }
    }

    @inline(__always)
    func sendHead(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        framing: ResponseFraming,
        exchange: Exchange
    ) {
        switch self {
        case .http1(let connection):
            connection._withUnsafeGuaranteedRef {
                $0.sendHead(head, bytes, framing: framing, exchange: exchange)
            }
        case .http2(let stream):
            stream._withUnsafeGuaranteedRef {
                $0.sendHead(head, bytes, framing: framing, exchange: exchange)
            }
        case .shadow: break
        }
    }

    @inline(__always)
    func sendBody(_ bytes: UnsafeRawBufferPointer) {
        self.call({ $0.sendBody(bytes) }, { $0.sendBody(bytes) })
    }

    /// What was given goes on its way. True where the client does not take it: then it is told to
    /// the exchange when it has.
    @inline(__always)
    func batchEnded() -> Bool {
        switch self {
        case .http1(let connection): connection._withUnsafeGuaranteedRef { $0.batchEnded() }
        case .http2(let stream): stream._withUnsafeGuaranteedRef { $0.batchEnded() }
        case .shadow: false
        }
    }

    @inline(__always)
    func endResponse(trailers: [UInt8], requestIsComplete: Bool) {
        self.call(
            { $0.endResponse(trailers: trailers, requestIsComplete: requestIsComplete) },
            { $0.endResponse(trailers: trailers) }
        )
    }

    /// Ends an answer that cannot be completed, on HTTP/2 with a code that says why.
    func cutResponse(_ code: HTTP2ErrorCode = .internalError) {
        self.call({ $0.cutResponse() }, { $0.cutResponse(code) })
    }

    /// What was given and has not been taken.
    var backlog: Backlog {
        switch self {
        case .http1(let connection):
            connection._withUnsafeGuaranteedRef { Backlog(bytes: $0.output?.count ?? 0) }
        case .http2(let stream):
            stream._withUnsafeGuaranteedRef { $0.backlog }
        case .shadow: Backlog()
        }
    }

    func sendError(_ error: ProxyError, exchange: Exchange) {
        self.call(
            { $0.sendError(error, exchange: exchange) },
            { $0.sendError(error, exchange: exchange) }
        )
    }

    func sendLocal(
        status: UInt16,
        contentType: StaticString,
        body: ByteBuffer,
        exchange: Exchange
    ) {
        self.call(
            {
                $0.sendLocal(
                    status: status,
                    contentType: contentType,
                    body: body,
                    exchange: exchange
                )
            },
            {
                $0.sendLocal(
                    status: status,
                    contentType: contentType,
                    body: body,
                    exchange: exchange
                )
            }
        )
    }

    @inline(__always)
    func exchangeFinished(requestIsComplete: Bool) {
        self.call(
            { $0.exchangeFinished(requestIsComplete: requestIsComplete) },
            { $0.exchangeFinished() }
        )
    }

    // MARK: Tunnels

    func startTunnel(_ head: ResponseHead, _ bytes: RawSpan, exchange: Exchange) {
        switch self {
        case .http1(let connection):
            connection._withUnsafeGuaranteedRef {
                Sockets.keepAlive($0.descriptor)
                $0.startTunnel(head, bytes, exchange: exchange)
            }
        case .http2(let stream):
            stream._withUnsafeGuaranteedRef { $0.startTunnel(head, bytes, exchange: exchange) }
        case .shadow: break
        }
    }

    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        self.call({ $0.write(start, count: bytes.count) }, { $0.sendBody(bytes) })
    }

    func endAfterOutput() { self.call({ $0.endAfterOutput() }, { $0.endOutput() }) }

    func endTunnel() { self.call({ $0.endTunnel() }, { $0.endOutput() }) }
}
