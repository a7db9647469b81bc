import Core
import GRPC
import HTTP
import HTTP2

/// Answers of the gateway's own to calls of gRPC.
extension ServerStream {
    /// An answer of nothing but a status: head and trailers in one.
    func sendStatus(
        _ status: GRPCStatus,
        _ message: String,
        error: ProxyError,
        exchange: Exchange
    ) {
        let fields = self.beginCall(exchange)
        let lines = self.worker.fieldLines
        lines.removeAll()
        Self.write(status, message, into: lines)
        if error.needsRetryAfter, exchange.retryAfterNanoseconds > 0 {
            // gRFC A6: when the client may send the call again.
            let milliseconds = (exchange.retryAfterNanoseconds + 999_999) / 1_000_000
            HeadWriter.field("grpc-retry-pushback-ms", milliseconds, into: lines)
        }
        fields.append(lines: lines.readable)
        self.respond(fields, endsStream: true)
        self.flushLater()
    }

    /// A whole answer: one message that went well.
    func sendMessage(_ body: ByteBuffer, exchange: Exchange) {
        self.respond(self.beginCall(exchange), endsStream: false)
        self.send(body.readablePointer, count: body.count)
        let lines = self.worker.fieldLines
        lines.removeAll()
        Self.write(.ok, "", into: lines)
        let trailers = OutgoingFields()
        trailers.append(lines: lines.readable)
        self.end(trailers: trailers)
        self.flushLater()
    }

    /// The head of an answer whose messages follow.
    func beginMessages(exchange: Exchange) {
        self.respond(self.beginCall(exchange), endsStream: false)
        self.flushLater()
    }

    private func beginCall(_ exchange: Exchange) -> OutgoingFields {
        self.begin(200)
        let fields = self.worker.fieldList
        fields.append("content-type", "application/grpc")
        let lines = self.worker.fieldLines
        lines.removeAll()
        exchange.writeResponseFields(into: lines)
        fields.append(lines: lines.readable)
        return fields
    }

    /// The lines that end a call.
    static func write(_ status: GRPCStatus, _ message: String, into lines: ByteBuffer) {
        HeadWriter.field("grpc-status", UInt64(status.rawValue), into: lines)
        if message.isEmpty { return }
        lines.append("grpc-message: ")
        GRPCStatusMessage.write(message, into: lines)
        lines.append("\r\n")
    }
}
