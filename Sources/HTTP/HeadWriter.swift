import Core

/// Writes HTTP/1.1 messages, canonically: one space where one is due, CRLF, lower-case hexadecimal.
///
/// Values come from parsed heads or from us, so they hold no line end; helpers that take bytes from
/// elsewhere say so and check.
package enum HeadWriter {
    // MARK: First lines

    /// `METHOD target HTTP/1.1` in origin form (`*` for a server-wide OPTIONS), from a parsed head
    /// and its bytes. Not for CONNECT, which the gateway refuses.
    package static func requestLine(
        of head: RequestHead,
        _ bytes: RawSpan,
        into buffer: ByteBuffer
    ) {
        precondition(head.targetForm != .authority, "CONNECT is not forwarded")
        buffer.append(bytes.slice(head.methodRange))
        buffer.append(byte: ASCII.space)
        if !head.pathRange.isEmpty {
            buffer.append(bytes.slice(head.pathRange))
        } else if head.targetForm == .asterisk {
            buffer.append(byte: UInt8(ascii: "*"))
        } else {
            // RFC 9112, section 3.2.4: OPTIONS for an absolute target without path and query is for
            // the whole server; for other methods the path is `/`.
            let isServerWide = head.method == .options && head.queryRange == nil
            buffer.append(byte: UInt8(ascii: isServerWide ? "*" : "/"))
        }
        if let query = head.queryRange {
            buffer.append(byte: UInt8(ascii: "?"))
            buffer.append(bytes.slice(query))
        }
        buffer.append(" HTTP/1.1\r\n")
    }

    /// `METHOD target HTTP/1.1` for a request of our own. The target holds visible ASCII only.
    package static func requestLine(
        _ method: HTTPMethod,
        target: RawSpan,
        into buffer: ByteBuffer
    ) {
        precondition(method != .other, "a method without a name")
        let end = target.firstNonTarget(from: 0, to: target.byteCount)
        precondition(end == target.byteCount && end > 0, "not a request target")
        buffer.append(method.name)
        buffer.append(byte: ASCII.space)
        buffer.append(target)
        buffer.append(" HTTP/1.1\r\n")
    }

    /// The status line with the usual reason phrase; for a status without one the phrase is empty.
    package static func statusLine(_ status: UInt16, into buffer: ByteBuffer) {
        precondition((100...599).contains(status), "a status of \(status)")
        if let literal = StatusLine.literal(status) {
            buffer.append(literal)
        } else {
            self.customStatusLine(status, into: buffer)
        }
    }

    private static func customStatusLine(_ status: UInt16, into buffer: ByteBuffer) {
        buffer.append("HTTP/1.1 ")
        buffer.append(decimal: UInt64(status))
        buffer.append(" \r\n")
    }

    /// The status line of a response to forward, with the upstream's own reason phrase if it has
    /// one.
    package static func statusLine(
        of head: ResponseHead,
        _ bytes: RawSpan,
        into buffer: ByteBuffer
    ) {
        if head.reasonRange.isEmpty {
            self.statusLine(head.status, into: buffer)
            return
        }
        buffer.append("HTTP/1.1 ")
        // Status, space, reason and line end stand as they were checked.
        buffer.append(bytes.extracting(head.statusStart..<(head.reasonRange.upper &+ 2)))
    }

    // MARK: Fields

    /// Copies field lines but hop-by-hop ones and those in `dropping`, in their order. Neighbours
    /// that are canonical already go in one copy.
    package static func fields(
        _ fields: [Field],
        of bytes: RawSpan,
        dropping: FieldNameSet,
        into buffer: ByteBuffer
    ) {
        var runStart = 0
        var runEnd = 0
        // By the index: an iterator would hold the array.
        for index in fields.indices {
            let field = fields[index]
            let isKept = !field.isHopByHop && !dropping.contains(field.name)
            if isKept && field.isCanonical {
                // The line starts where the canonical one before it ended, or a new run begins.
                if runEnd == 0 { runStart = field.nameRange.lower }
                runEnd = field.valueRange.upper &+ 2
                continue
            }
            if runEnd > 0 {
                buffer.append(bytes.extracting(runStart..<runEnd))
                runEnd = 0
            }
            if isKept { self.field(field, of: bytes, into: buffer) }
        }
        if runEnd > 0 { buffer.append(bytes.extracting(runStart..<runEnd)) }
    }

    /// One field line of a parsed head, as `name: value`.
    package static func field(_ field: Field, of bytes: RawSpan, into buffer: ByteBuffer) {
        buffer.append(bytes.slice(field.nameRange))
        buffer.append(": ")
        buffer.append(bytes.slice(field.valueRange))
        buffer.append("\r\n")
    }

    /// A field of our own. A value with a control byte would be a way to smuggle a line in and is a
    /// mistake of the caller: see `isValidValue`.
    package static func field(_ name: StaticString, _ value: RawSpan, into buffer: ByteBuffer) {
        precondition(self.isValidValue(value), "a control byte in the value of \(name)")
        buffer.append(name)
        buffer.append(": ")
        buffer.append(value)
        buffer.append("\r\n")
    }

    /// A field of our own with a value that is fixed.
    package static func field(
        _ name: StaticString,
        _ value: StaticString,
        into buffer: ByteBuffer
    ) {
        buffer.append(name)
        buffer.append(": ")
        buffer.append(value)
        buffer.append("\r\n")
    }

    /// A field of our own with a number.
    package static func field(_ name: StaticString, _ value: UInt64, into buffer: ByteBuffer) {
        buffer.append(name)
        buffer.append(": ")
        buffer.append(decimal: value)
        buffer.append("\r\n")
    }

    /// Whether bytes may stand in a field value: no control byte but HTAB (RFC 9110, section 5.5).
    package static func isValidValue(_ value: RawSpan) -> Bool {
        var index = 0
        while true {
            index = value.firstControl(from: index, to: value.byteCount)
            if index == value.byteCount { return true }
            if value.byte(at: index) != ASCII.tab { return false }
            index += 1
        }
    }

    /// The Host field for the next hop: the target's authority, which wins over the client's own
    /// Host (RFC 9112, section 3.2.2), so drop that one when copying fields. `fallback`, a valid
    /// authority, is for HTTP/1.0 clients that named none.
    package static func host(
        of head: RequestHead,
        _ bytes: RawSpan,
        fallback: RawSpan,
        into buffer: ByteBuffer
    ) {
        guard let authority = head.authorityRange else {
            self.field("Host", fallback, into: buffer)
            return
        }
        buffer.append("Host: ")
        buffer.append(bytes.slice(authority))
        buffer.append("\r\n")
    }

    package static func contentLength(_ length: UInt64, into buffer: ByteBuffer) {
        buffer.append("Content-Length: ")
        buffer.append(decimal: length)
        buffer.append("\r\n")
    }

    package static func chunked(into buffer: ByteBuffer) {
        buffer.append("Transfer-Encoding: chunked\r\n")
    }

    package static func connection(keepsAlive: Bool, into buffer: ByteBuffer) {
        buffer.append(keepsAlive ? "Connection: keep-alive\r\n" : "Connection: close\r\n")
    }

    /// The two fields of a switch of protocols, on the request and on the 101 (RFC 9110, section
    /// 7.8).
    package static func upgrade(to protocols: RawSpan, into buffer: ByteBuffer) {
        buffer.append("Connection: Upgrade\r\n")
        self.field("Upgrade", protocols, into: buffer)
    }

    /// The empty line behind the fields.
    package static func end(into buffer: ByteBuffer) {
        buffer.append("\r\n")
    }

    // MARK: Chunks

    /// Bytes that `chunkHeader` and `chunkEnd` add to a chunk at most.
    package static let maxChunkOverheadBytes = 16 + 2 + 2

    /// Opens a chunk of `count` bytes, more than none: an empty one would end the body.
    package static func chunkHeader(_ count: Int, into buffer: ByteBuffer) {
        precondition(count > 0, "a chunk of \(count) bytes")
        buffer.append(hexadecimal: UInt64(count))
        buffer.append("\r\n")
    }

    package static func chunkEnd(into buffer: ByteBuffer) {
        buffer.append("\r\n")
    }

    /// The last chunk, the trailer lines as `BodyDecoder.trailers` gives them, and the empty line.
    package static func lastChunk(trailers: [UInt8] = [], into buffer: ByteBuffer) {
        if trailers.isEmpty {
            buffer.append("0\r\n\r\n")
            return
        }
        buffer.append("0\r\n")
        buffer.append(trailers)
        buffer.append("\r\n")
    }
}
