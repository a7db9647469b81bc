import Core
import EventLoop
import GRPC
import HTTP
import Telemetry
import Traffic

/// One line per request, where the access log is on and the request is in its sample.
extension Worker {
    func logAccess(_ exchange: Exchange) {
        guard let log = self.accessLog, !exchange.isShadow, log.takesNext() else { return }
        let record = self.record(exchange)
        let path = exchange.pathForLog
        exchange.requestID.withBytes { requestID in
            log.append(record, path: path.span.bytes, requestID: requestID)
        }
    }

    private func record(_ exchange: Exchange) -> AccessLogRecord {
        let now = self.loop.now
        var record = AccessLogRecord()
        record.timeNanoseconds = Telemetry.wallClockNanoseconds()
        record.method = Array(exchange.method.name.description.utf8)
        record.status = exchange.status
        record.callStatus = exchange.callStatus?.name
        record.model = exchange.model?.nameBytes ?? []
        record.variant = exchange.meterName
        record.endpoint = exchange.lastEndpointName
        record.client = exchange.clientName
        record.total = now.nanoseconds(since: exchange.arrivedAt)
        if exchange.admittedAt != .zero { record.queue = exchange.queueNanoseconds }
        if exchange.connectedAt != .zero {
            record.connect = exchange.connectedAt.nanoseconds(since: exchange.admittedAt)
        }
        if exchange.firstByteAt != .zero {
            record.firstByte = exchange.firstByteAt.nanoseconds(since: exchange.arrivedAt)
        }
        if let first = exchange.firstContentAt {
            record.firstToken = first.nanoseconds(since: exchange.arrivedAt)
        }
        record.bytesIn = exchange.bodyTotal
        record.bytesOut = exchange.responseBytes
        if let usage = exchange.observer.usage {
            record.inputTokens = UInt64(clamping: usage.prompt)
            record.outputTokens = UInt64(clamping: usage.completion)
        }
        record.attempts = exchange.attempt
        record.error = exchange.error?.label
        return record
    }
}
