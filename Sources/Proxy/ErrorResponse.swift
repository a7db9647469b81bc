import Core
import EventLoop
import HTTP

/// Answers of the gateway's own that say what went wrong.
enum ErrorResponse {
    /// After which a refused client may try again, where nothing more is known.
    private static let retryAfterNanoseconds: UInt64 = 1_000_000_000

    static func write(
        _ error: ProxyError,
        style: ErrorBody.Style,
        message: String? = nil,
        omitsBody: Bool = false,
        date: Int64,
        keepsAlive: Bool,
        retryAfterNanoseconds: UInt64 = 0,
        into output: ByteBuffer,
        fields: (ByteBuffer) -> Void = { _ in }
    ) {
        let body = ByteBuffer(capacity: 256)
        ErrorBody.write(error, style: style, message: message, into: body)
        HeadWriter.statusLine(error.status, into: output)
        self.writeFields(
            error,
            style: style,
            bodyBytes: body.count,
            date: date,
            retryAfterNanoseconds: retryAfterNanoseconds,
            into: output
        )
        fields(output)
        if !keepsAlive { HeadWriter.connection(keepsAlive: false, into: output) }
        HeadWriter.end(into: output)
        if !omitsBody { output.append(body.readable) }
    }

    /// The fields that every such answer has.
    static func writeFields(
        _ error: ProxyError,
        style: ErrorBody.Style,
        bodyBytes: Int,
        date: Int64,
        retryAfterNanoseconds: UInt64 = 0,
        into output: ByteBuffer
    ) {
        HeadWriter.field("Content-Type", style.contentType, into: output)
        HeadWriter.contentLength(UInt64(bodyBytes), into: output)
        output.append("Date: ")
        HTTPDate.write(secondsSince1970: date, into: output)
        output.append("\r\n")
        if error.needsRetryAfter {
            let wait =
                retryAfterNanoseconds == 0 ? Self.retryAfterNanoseconds : retryAfterNanoseconds
            HeadWriter.field("Retry-After", (wait + 999_999_999) / 1_000_000_000, into: output)
        }
        // RFC 9110, section 11.6.1.
        if error.status == 401 { output.append("WWW-Authenticate: Bearer realm=\"weir\"\r\n") }
    }
}
