import Core

/// Turns a record into one line, without allocating.
///
/// JSON: `time`, `method`, `path`, `status`, `grpc_status`, `model`, `variant`, `endpoint`,
/// `request_id`, `client`, `error`, `attempts`, durations in milliseconds (`queue_ms`,
/// `connect_ms`, `first_byte_ms`, `first_token_ms`, `total_ms`), `bytes_in`, `bytes_out`,
/// `input_tokens`, `output_tokens`. What does not apply is left out. Text: the same for people,
/// names before values.
package struct AccessLogEncoder: Sendable {
    package enum Format: Sendable {
        case json
        case text
    }

    /// A path or name is cut to this many bytes.
    package static let maxTextBytes = 2_048

    package let format: Format

    package init(format: Format) {
        self.format = format
    }

    /// Appends one line with its line feed.
    ///
    /// - Parameter path: the request's path without its query, which may hold secrets.
    package func append(
        _ record: AccessLogRecord,
        path: RawSpan,
        requestID: RawSpan,
        to buffer: ByteBuffer
    ) {
        switch self.format {
        case .json: self.appendJSON(record, path, requestID, buffer)
        case .text: self.appendText(record, path, requestID, buffer)
        }
        buffer.append(byte: UInt8(ascii: "\n"))
    }

    // MARK: JSON

    private func appendJSON(
        _ record: AccessLogRecord,
        _ path: RawSpan,
        _ requestID: RawSpan,
        _ buffer: ByteBuffer
    ) {
        buffer.append("{\"time\":\"" as StaticString)
        Timestamp.append(record.timeNanoseconds, to: buffer)
        buffer.append("\"" as StaticString)
        Self.member(",\"method\":", record.method.span.bytes, buffer)
        Self.member(",\"path\":", path, buffer)
        buffer.append(",\"status\":" as StaticString)
        buffer.append(decimal: UInt64(record.status))
        Self.constant(",\"grpc_status\":\"", record.callStatus, "\"", buffer)
        Self.member(",\"model\":", record.model.span.bytes, buffer)
        Self.member(",\"variant\":", record.variant.span.bytes, buffer)
        Self.member(",\"endpoint\":", record.endpoint.span.bytes, buffer)
        Self.member(",\"request_id\":", requestID, buffer)
        Self.member(",\"client\":", record.client.span.bytes, buffer)
        Self.constant(",\"error\":\"", record.error, "\"", buffer)
        if record.attempts > 1 { Self.member(",\"attempts\":", UInt64(record.attempts), buffer) }
        Self.milliseconds(",\"queue_ms\":", record.queue, buffer)
        Self.milliseconds(",\"connect_ms\":", record.connect, buffer)
        Self.milliseconds(",\"first_byte_ms\":", record.firstByte, buffer)
        Self.milliseconds(",\"first_token_ms\":", record.firstToken, buffer)
        Self.milliseconds(",\"total_ms\":", record.total, buffer)
        Self.member(",\"bytes_in\":", record.bytesIn, buffer)
        Self.member(",\"bytes_out\":", record.bytesOut, buffer)
        Self.member(",\"input_tokens\":", record.inputTokens, buffer)
        Self.member(",\"output_tokens\":", record.outputTokens, buffer)
        buffer.append(byte: UInt8(ascii: "}"))
    }

    private static func member(_ name: StaticString, _ text: RawSpan, _ buffer: ByteBuffer) {
        if text.byteCount == 0 { return }
        buffer.append(name)
        buffer.append(jsonString: text.extracting(first: Self.maxTextBytes))
    }

    private static func member(_ name: StaticString, _ value: UInt64?, _ buffer: ByteBuffer) {
        guard let value else { return }
        buffer.append(name)
        buffer.append(decimal: value)
    }

    /// A text of our own, which needs no escapes.
    private static func constant(
        _ name: StaticString,
        _ text: StaticString?,
        _ end: StaticString,
        _ buffer: ByteBuffer
    ) {
        guard let text else { return }
        buffer.append(name)
        buffer.append(text)
        buffer.append(end)
    }

    /// With three digits after the point: microseconds.
    private static func milliseconds(
        _ name: StaticString,
        _ nanoseconds: UInt64?,
        _ buffer: ByteBuffer
    ) {
        guard let nanoseconds else { return }
        buffer.append(name)
        buffer.append(decimal: nanoseconds / 1_000_000)
        buffer.append(byte: UInt8(ascii: "."))
        let microseconds = nanoseconds / 1_000 % 1_000
        if microseconds < 100 { buffer.append(byte: UInt8(ascii: "0")) }
        if microseconds < 10 { buffer.append(byte: UInt8(ascii: "0")) }
        buffer.append(decimal: microseconds)
    }

    // MARK: Text

    private func appendText(
        _ record: AccessLogRecord,
        _ path: RawSpan,
        _ requestID: RawSpan,
        _ buffer: ByteBuffer
    ) {
        Timestamp.append(record.timeNanoseconds, to: buffer)
        buffer.append(byte: UInt8(ascii: " "))
        Self.word("", record.client.span.bytes, buffer)
        Self.word("", record.method.span.bytes, buffer)
        Self.word("", path, buffer)
        buffer.append(decimal: UInt64(record.status))
        Self.milliseconds(" total_ms=", record.total, buffer)
        buffer.append(byte: UInt8(ascii: " "))
        Self.word("model=", record.model.span.bytes, buffer)
        Self.word("variant=", record.variant.span.bytes, buffer)
        Self.word("endpoint=", record.endpoint.span.bytes, buffer)
        Self.member("in=", record.bytesIn, buffer)
        Self.member(" out=", record.bytesOut, buffer)
        Self.milliseconds(" queue_ms=", record.queue, buffer)
        Self.milliseconds(" first_byte_ms=", record.firstByte, buffer)
        Self.milliseconds(" first_token_ms=", record.firstToken, buffer)
        Self.member(" output_tokens=", record.outputTokens, buffer)
        Self.constant(" grpc_status=", record.callStatus, "", buffer)
        Self.constant(" error=", record.error, "", buffer)
        buffer.append(byte: UInt8(ascii: " "))
        buffer.append("id=" as StaticString)
        Self.visible(requestID, buffer)
    }

    /// A word and a space; `-` where there is none, so that columns stay in their places.
    private static func word(_ name: StaticString, _ text: RawSpan, _ buffer: ByteBuffer) {
        buffer.append(name)
        Self.visible(text, buffer)
        buffer.append(byte: UInt8(ascii: " "))
    }

    /// Visible ASCII as it is and `?` for all else: a line stays a line, whatever a client sends.
    private static func visible(_ text: RawSpan, _ buffer: ByteBuffer) {
        if text.byteCount == 0 { buffer.append(byte: UInt8(ascii: "-")) }
        for index in 0..<min(text.byteCount, Self.maxTextBytes) {
            // Sound: bounds-checked, and every bit pattern is a byte.
            let byte = text.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            buffer.append(byte: byte > 0x20 && byte < 0x7F ? byte : UInt8(ascii: "?"))
        }
    }
}
