import Core
import HTTP

/// Where a response stands; part of its connection.
struct ResponseState {
    enum Coding { case length(remaining: Int), chunked, untilClose, none }

    var coding = Coding.none
    var hasHead = false
    var isComplete = false
    /// The handler was told to wait, and is owed an `onWritable`.
    var isBlocked = false
    /// The connection cannot be used after this response.
    var mustClose = false
    var suppressesBody = false
    var allowsChunked = true
    /// HTTP/1.0 clients need to be told (RFC 9112, section 9.3).
    var announcesKeepAlive = false
    var onClose: (() -> Void)?
    var onWritable: (() -> Void)?

    mutating func begin(for head: RequestHead, closes: Bool) {
        self = ResponseState()
        self.suppressesBody = head.method == .head
        self.allowsChunked = head.minorVersion >= 1
        self.announcesKeepAlive = head.minorVersion == 0
        self.mustClose = closes
    }

    mutating func reset() { self = ResponseState() }
}

/// Answers one request. Keep it to answer later; on the loop's thread.
///
/// Once the response is complete or the client gone, every call does nothing: `isOpen` tells.
package struct ResponseWriter {
    private let connection: ServerConnection
    private let exchange: UInt64

    init(_ connection: ServerConnection, exchange: UInt64) {
        self.connection = connection
        self.exchange = exchange
    }

    /// Whether this response can still be written to.
    package var isOpen: Bool {
        self.connection.exchange == self.exchange && !self.connection.response.isComplete
    }

    package var hasHead: Bool { self.isOpen && self.connection.response.hasHead }

    /// Runs `body` if the client goes away before the response is complete; at once if it has.
    /// It is dropped when the response is complete. One at a time.
    package func onClose(_ body: @escaping () -> Void) {
        if self.connection.isClosed { return body() }
        if self.isOpen { self.connection.response.onClose = body }
    }

    /// Runs `body` each time that there is room again after `write` said no. One at a time.
    package func onWritable(_ body: @escaping () -> Void) {
        if self.isOpen { self.connection.response.onWritable = body }
    }

    // MARK: Whole responses

    /// Head and content in one.
    package func respond(
        status: UInt16 = 200,
        contentType: StaticString,
        fields: (ByteBuffer) -> Void = { _ in },
        body: RawSpan
    ) {
        guard self.isOpen else { return }
        precondition(!self.connection.response.hasHead, "two heads for one response")
        self.connection.writeHead(
            status: status,
            contentType: contentType,
            length: body.byteCount,
            fields: fields
        )
        self.connection.writeBody(body)
        self.connection.endResponse()
    }

    package func respond(status: UInt16 = 200, contentType: StaticString, text: String) {
        var text = text
        text.withUTF8 {
            // Sound: the span does not outlive the call that lends the bytes.
            let bytes = RawSpan(_unsafeBytes: UnsafeRawBufferPointer($0))
            self.respond(status: status, contentType: contentType, body: bytes)
        }
    }

    /// A JSON document that `body` writes.
    package func respond(
        status: UInt16 = 200,
        fields: (ByteBuffer) -> Void = { _ in },
        json body: (inout JSONWriter) -> Void
    ) {
        let buffer = ByteBuffer(capacity: 512)
        var writer = JSONWriter(buffer)
        body(&writer)
        self.respond(
            status: status,
            contentType: "application/json",
            fields: fields,
            body: buffer.readable
        )
    }

    /// `{"error": message}` with that status.
    package func refuse(status: UInt16, _ message: String) {
        self.respond(status: status) { $0.object { $0.member("error", message) } }
    }

    package func notFound() {
        self.refuse(status: 404, "there is nothing at this path")
    }

    /// 405 with the methods there are, such as `GET, HEAD`.
    package func methodNotAllowed(allow: StaticString) {
        self.respond(
            status: 405,
            fields: { ResponseFields.add("Allow", allow, to: $0) },
            json: { $0.object { $0.member("error", plain: "this method is not allowed here") } }
        )
    }

    // MARK: Streamed responses

    /// Begins a response. With `contentLength`, exactly so many bytes must follow; without, it is
    /// chunked, or for HTTP/1.0 ends with the connection. `fields` appends further field lines,
    /// each with its line end. Sent with the first content or at the end.
    package func writeHead(
        status: UInt16 = 200,
        contentType: StaticString,
        contentLength: Int? = nil,
        fields: (ByteBuffer) -> Void = { _ in }
    ) {
        guard self.isOpen, !self.connection.response.hasHead else { return }
        self.connection.writeHead(
            status: status,
            contentType: contentType,
            length: contentLength,
            fields: fields
        )
    }

    /// Sends content. False when the client does not keep up: stop until `onWritable`.
    @discardableResult
    package func write(_ bytes: RawSpan) -> Bool {
        guard self.isOpen else { return false }
        self.connection.writeBody(bytes)
        if self.isOpen { self.connection.flushUnlessPumping() }
        return self.isWritable
    }

    @discardableResult
    package func write(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 {
            // Sound: the span does not outlive the call that lends the bytes.
            self.write(RawSpan(_unsafeBytes: UnsafeRawBufferPointer($0)))
        }
    }

    /// Sends the head without content, so that the client sees it now.
    package func flushHead() {
        if self.hasHead { self.connection.flushUnlessPumping() }
    }

    package var isWritable: Bool {
        self.isOpen && !self.connection.response.isBlocked
    }

    /// Completes the response. Content that `contentLength` promised and that did not come cuts the
    /// connection: the client must not take it for complete.
    package func end() {
        guard self.isOpen else { return }
        self.connection.endResponse()
    }

    // MARK: Rude ends

    /// Cuts the connection: what is unsent is lost and the client sees a reset. `onClose` does not
    /// run.
    package func abort() {
        guard self.isOpen else { return }
        self.connection.response.onClose = nil
        self.connection.close(reset: true)
    }

    /// Sends what is written so far, if the socket takes it, and ends the connection in the middle
    /// of the response. `onClose` does not run.
    package func cutShort() {
        guard self.isOpen else { return }
        self.connection.cutShort()
    }

    /// Appends bytes outside any framing. For servers that pretend to be broken.
    package func writeRaw(_ text: StaticString) {
        guard self.isOpen else { return }
        self.connection.output.append(text)
    }
}

/// Field lines for responses.
package enum ResponseFields {
    package static func add(_ name: StaticString, _ value: StaticString, to buffer: ByteBuffer) {
        buffer.append(name)
        buffer.append(": " as StaticString)
        buffer.append(value)
        buffer.append("\r\n" as StaticString)
    }

    /// Line ends and control characters in `value` become spaces: it cannot start another field.
    package static func add(_ name: StaticString, _ value: String, to buffer: ByteBuffer) {
        buffer.append(name)
        buffer.append(": " as StaticString)
        for byte in value.utf8 { buffer.append(byte: byte < 0x20 || byte == 0x7F ? 0x20 : byte) }
        buffer.append("\r\n" as StaticString)
    }
}

extension ServerConnection {
    /// Appends a response head. `length` nil: chunked, or until the connection closes.
    func writeHead(
        status: UInt16,
        contentType: StaticString,
        length: Int?,
        fields: (ByteBuffer) -> Void = { _ in }
    ) {
        self.response.hasHead = true
        let output = self.output
        HeadWriter.statusLine(status, into: output)
        output.append("Date: " as StaticString)
        self.server.clock.append(to: output)
        output.append("\r\n" as StaticString)
        // RFC 9110, section 8.6: none of these may have content, nor say that they do.
        let hasNoContent = status == 204 || status == 304 || status < 200
        if hasNoContent {
            self.response.coding = .length(remaining: 0)
            self.response.suppressesBody = true
        } else {
            if contentType.utf8CodeUnitCount > 0 {
                ResponseFields.add("Content-Type", contentType, to: output)
            }
            self.writeFraming(length)
        }
        fields(output)
        if self.response.mustClose {
            ResponseFields.add("Connection", "close", to: output)
        } else if self.response.announcesKeepAlive {
            ResponseFields.add("Connection", "keep-alive", to: output)
        }
        output.append("\r\n" as StaticString)
    }

    private func writeFraming(_ length: Int?) {
        if let length {
            precondition(length >= 0, "a content length of \(length)")
            self.response.coding = .length(remaining: length)
            self.output.append("Content-Length: " as StaticString)
            self.output.append(decimal: UInt64(length))
            self.output.append("\r\n" as StaticString)
        } else if self.response.allowsChunked {
            self.response.coding = .chunked
            ResponseFields.add("Transfer-Encoding", "chunked", to: self.output)
        } else {
            self.response.coding = .untilClose
            self.response.mustClose = true
        }
    }

    /// Appends content in the response's framing; nothing is sent yet.
    func writeBody(_ bytes: RawSpan) {
        precondition(self.response.hasHead, "content before the head")
        if bytes.byteCount == 0 { return }
        if case .length(let remaining) = self.response.coding, !self.response.suppressesBody {
            precondition(bytes.byteCount <= remaining, "more content than the head promised")
            self.response.coding = .length(remaining: remaining - bytes.byteCount)
        }
        if self.response.suppressesBody { return }
        if case .chunked = self.response.coding {
            self.output.append(hexadecimal: UInt64(bytes.byteCount))
            self.output.append("\r\n" as StaticString)
            self.output.append(bytes)
            self.output.append("\r\n" as StaticString)
        } else {
            self.output.append(bytes)
        }
        self.checkUnsent()
    }

    private func checkUnsent() {
        if self.output.count >= self.server.options.unsentBytesHigh {
            self.response.isBlocked = true
        }
        if self.output.count > self.server.options.unsentBytesMax {
            // The handler did not listen to back-pressure; memory is worth more than this answer.
            self.close(reset: true)
        }
    }

    func endResponse() {
        precondition(self.response.hasHead, "a response ended before its head")
        if !self.response.suppressesBody {
            switch self.response.coding {
            case .length(let remaining) where remaining > 0: return self.cutShort()
            case .chunked: self.output.append("0\r\n\r\n" as StaticString)
            case .length, .untilClose, .none: break
            }
        }
        self.response.isComplete = true
        self.response.onClose = nil
        self.response.onWritable = nil
        self.responseEnded()
    }

    func cutShort() {
        self.response.onClose = nil
        self.flush()
        self.close(reset: false)
    }
}
