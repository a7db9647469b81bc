/// The trailer section of a chunked body, read byte by byte: trailers are rare and short.
///
/// Lines are collected in the canonical form in which they are forwarded. A line whose name may not
/// come as a trailer is checked like any other and dropped (RFC 9110, section 6.5.1).
struct TrailerSection: Sendable {
    /// Finished lines, and while a line is being read its part so far.
    private(set) var lines: [UInt8] = []
    private(set) var isDone = false
    private var state = State.lineStart
    private var lineStart = 0
    private var nameEnd = 0
    private var byteCount = 0
    private var fieldCount = 0

    private enum State { case lineStart, name, beforeValue, value, valueEnd, sectionEnd }

    /// Whether any byte of it has been read.
    var hasBegun: Bool { self.byteCount > 0 }

    mutating func step(_ byte: UInt8, limits: BodyLimits) -> BodyError? {
        self.byteCount += 1
        if self.byteCount > limits.maxTrailerBytes { return .trailersTooLarge }
        switch self.state {
        case .lineStart: return self.startLine(byte, limits: limits)
        case .name: return self.stepName(byte)
        case .beforeValue:
            if ASCII.isWhitespace(byte) { return nil }
            self.state = .value
            return self.stepValue(byte)
        case .value: return self.stepValue(byte)
        case .valueEnd:
            guard byte == ASCII.lineFeed else { return .bareCarriageReturn }
            self.finishLine()
            self.state = .lineStart
        case .sectionEnd:
            guard byte == ASCII.lineFeed else { return .bareCarriageReturn }
            self.isDone = true
        }
        return nil
    }

    private mutating func startLine(_ byte: UInt8, limits: BodyLimits) -> BodyError? {
        if byte == ASCII.carriageReturn {
            self.state = .sectionEnd
            return nil
        }
        self.fieldCount += 1
        if self.fieldCount > limits.maxTrailers { return .tooManyTrailers }
        self.lineStart = self.lines.count
        self.state = .name
        // A colon or whitespace here is refused too: a name has at least one byte.
        guard ASCII.isToken(byte) else {
            return byte == ASCII.lineFeed ? .bareLineFeed : .invalidTrailer
        }
        self.lines.append(byte)
        return nil
    }

    private mutating func stepName(_ byte: UInt8) -> BodyError? {
        if ASCII.isToken(byte) {
            self.lines.append(byte)
            return nil
        }
        guard byte == ASCII.colon else {
            return byte == ASCII.lineFeed ? .bareLineFeed : .invalidTrailer
        }
        self.nameEnd = self.lines.count
        self.lines.append(ASCII.colon)
        self.lines.append(ASCII.space)
        self.state = .beforeValue
        return nil
    }

    private mutating func stepValue(_ byte: UInt8) -> BodyError? {
        if byte == ASCII.carriageReturn {
            self.state = .valueEnd
            return nil
        }
        guard ASCII.isFieldContent(byte) else {
            return byte == ASCII.lineFeed ? .bareLineFeed : .invalidTrailer
        }
        self.lines.append(byte)
        return nil
    }

    private mutating func finishLine() {
        let valueStart = self.nameEnd + 2
        while self.lines.count > valueStart, let last = self.lines.last, ASCII.isWhitespace(last) {
            self.lines.removeLast()
        }
        if self.isForbidden() {
            self.lines.removeSubrange(self.lineStart...)
        } else {
            self.lines.append(ASCII.carriageReturn)
            self.lines.append(ASCII.lineFeed)
        }
    }

    private func isForbidden() -> Bool {
        let bytes = unsafe self.lines.span.bytes  // Sound: a byte has no padding to expose.
        return Self.isForbidden(bytes, ByteRange(self.lineStart, self.nameEnd))
    }

    /// Known names by the set; `If-` for conditions and `X-Weir-` for the gateway's own by prefix.
    static func isForbidden(_ bytes: RawSpan, _ nameRange: ByteRange) -> Bool {
        let name = FieldName(bytes, nameRange)
        if name != .other { return FieldNameSet.forbiddenInTrailers.contains(name) }
        return self.hasPrefix("if-", bytes, nameRange)
            || self.hasPrefix("x-weir-", bytes, nameRange)
    }

    private static func hasPrefix(
        _ prefix: StaticString,
        _ bytes: RawSpan,
        _ range: ByteRange
    ) -> Bool {
        let count = prefix.utf8CodeUnitCount
        guard Int(range.count) >= count else { return false }
        return bytes.equalsIgnoringCase(prefix, ByteRange(range.lower, range.lower + count))
    }
}
