import Core
import EventLoop
import HTTP

/// Answers of the gateway's own that say what went wrong.
enum ErrorResponse {
    /// Seconds after which a refused client may try again.
    private static let retryAfterSeconds: UInt64 = 1

    static func write(
        _ error: ProxyError,
        style: ErrorBody.Style,
        message: String? = nil,
        omitsBody: Bool = false,
        date: Int64,
        keepsAlive: Bool,
        into output: ByteBuffer,
        fields: (ByteBuffer) -> Void = { _ in }
    ) {
        let body = ByteBuffer(capacity: 256)
        ErrorBody.write(error, style: style, message: message, into: body)
        HeadWriter.statusLine(error.status, into: output)
        HeadWriter.field("Content-Type", style.contentType, into: output)
        HeadWriter.contentLength(UInt64(body.count), into: output)
        output.append("Date: ")
        HTTPDate.write(secondsSince1970: date, into: output)
        output.append("\r\n")
        if error.needsRetryAfter {
            HeadWriter.field("Retry-After", self.retryAfterSeconds, into: output)
        }
        fields(output)
        if !keepsAlive { HeadWriter.connection(keepsAlive: false, into: output) }
        HeadWriter.end(into: output)
        if !omitsBody { output.append(body.readable) }
    }
}
