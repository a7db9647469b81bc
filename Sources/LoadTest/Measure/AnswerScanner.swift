import Core

/// What a language model's answer has said so far.
package struct AnswerFindings: Equatable, Sendable {
    /// Events that carried output.
    package var outputEvents: UInt32 = 0
    /// From the server's own count.
    package var inputTokens: UInt32?
    package var outputTokens: UInt32?
    /// `data: [DONE]` has come.
    package var isDone = false
    /// An event reported an error.
    package var hasError = false
    /// A line was longer than `LoadLimits.scannedBytesMax`.
    package var isTooLong = false

    package init() {}
}

/// Reads server-sent events (WHATWG HTML, section 9.2) of OpenAI-like APIs as their bytes arrive.
///
/// Each `data:` line is taken as one JSON document, as all such servers write them; lines end with
/// LF or CRLF. An event carries output where one of the members that hold text is a string that is
/// not empty.
package struct EventStreamScanner: Sendable {
    package private(set) var findings = AnswerFindings()
    /// The beginning of a line whose end has not come.
    private var partial: [UInt8] = []

    package init() {}

    package mutating func reset() {
        self.findings = AnswerFindings()
        self.partial.removeAll(keepingCapacity: true)
    }

    /// Calls `output` once for each event that carries output.
    @inline(__always)
    package mutating func scan(_ bytes: RawSpan, output: () -> Void) {
        let count = bytes.byteCount
        var start = 0
        while start < count, !self.findings.isTooLong {
            let end = bytes.loadFirst(of: 0x0A, from: start)
            if end == count {
                self.keep(bytes.extracting(start..<count))
                return
            }
            let before = self.findings.outputEvents
            self.line(bytes.extracting(start..<end))
            if self.findings.outputEvents != before { output() }
            start = end + 1
        }
    }

    private mutating func line(_ bytes: RawSpan) {
        if self.partial.isEmpty { return Self.read(bytes, &self.findings) }
        self.keep(bytes)
        guard !self.findings.isTooLong else { return }
        var findings = self.findings
        Self.read(self.partial.span.bytes, &findings)
        self.findings = findings
        self.partial.removeAll(keepingCapacity: true)
    }

    private mutating func keep(_ bytes: RawSpan) {
        guard self.partial.count + bytes.byteCount <= LoadLimits.scannedBytesMax else {
            self.findings.isTooLong = true
            return
        }
        bytes.withUnsafeBytes { self.partial.append(contentsOf: $0) }
    }

    private static func read(_ line: RawSpan, _ findings: inout AnswerFindings) {
        var end = line.byteCount
        if end > 0, line.load(end - 1) == 0x0D { end -= 1 }
        guard end >= 5, line.matches("data:", at: 0) else { return }
        let start = end > 5 && line.load(5) == 0x20 ? 6 : 5
        let payload = line.extracting(start..<end)
        if payload.byteCount == 6, payload.matches("[DONE]", at: 0) {
            findings.isDone = true
            return
        }
        JSONMembers.read(payload, &findings)
    }
}

/// Finds the members that matter in a JSON document, without building one.
///
/// It goes from string to string and looks at those that a colon follows. Text inside strings is
/// passed over as a whole, so that what a model writes is never taken for a member.
package enum JSONMembers {
    /// Adds what a document of an answer says.
    package static func read(_ bytes: RawSpan, _ findings: inout AnswerFindings) {
        let count = bytes.byteCount
        var index = 0
        var hasOutput = false
        while true {
            index = bytes.loadFirst(of: UInt8(ascii: "\""), from: index)
            guard index < count else { break }
            let start = index + 1
            let end = self.stringEnd(bytes, from: start)
            guard end < count else { break }
            index = self.skipSpace(bytes, from: end + 1)
            guard index < count, bytes.load(index) == UInt8(ascii: ":") else { continue }
            index = self.skipSpace(bytes, from: index + 1)
            guard index < count else { break }
            self.member(bytes, start..<end, valueAt: index, &findings, &hasOutput)
        }
        if hasOutput { findings.outputEvents += 1 }
    }

    @inline(__always)
    private static func member(
        _ bytes: RawSpan,
        _ name: Range<Int>,
        valueAt index: Int,
        _ findings: inout AnswerFindings,
        _ hasOutput: inout Bool
    ) {
        switch bytes.load(index) {
        case UInt8(ascii: "\""):
            guard index + 1 < bytes.byteCount, bytes.load(index + 1) != UInt8(ascii: "\"") else {
                return
            }
            if self.holdsText(bytes, name) { hasOutput = true }
            if bytes.equals("error", name) { findings.hasError = true }
        case UInt8(ascii: "{"):
            if bytes.equals("error", name) { findings.hasError = true }
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            if bytes.equals("completion_tokens", name) || bytes.equals("output_tokens", name) {
                findings.outputTokens = self.number(bytes, index)
            } else if bytes.equals("prompt_tokens", name) || bytes.equals("input_tokens", name) {
                findings.inputTokens = self.number(bytes, index)
            }
        default: break
        }
    }

    /// Chat and completions, reasoning, tool calls, and the responses API's deltas.
    private static func holdsText(_ bytes: RawSpan, _ name: Range<Int>) -> Bool {
        switch name.count {
        case 4: bytes.equals("text", name)
        case 5: bytes.equals("delta", name)
        case 7: bytes.equals("content", name)
        case 9: bytes.equals("reasoning", name) || bytes.equals("arguments", name)
        case 17: bytes.equals("reasoning_content", name)
        default: false
        }
    }

    /// The offset of the closing quote, or the end.
    private static func stringEnd(_ bytes: RawSpan, from start: Int) -> Int {
        var index = start
        while index < bytes.byteCount {
            switch bytes.load(index) {
            case UInt8(ascii: "\""): return index
            case UInt8(ascii: "\\"): index += 2
            default: index += 1
            }
        }
        return bytes.byteCount
    }

    private static func skipSpace(_ bytes: RawSpan, from start: Int) -> Int {
        var index = start
        while index < bytes.byteCount, bytes.load(index) <= 0x20 { index += 1 }
        return index
    }

    /// Digits, saturating.
    private static func number(_ bytes: RawSpan, _ start: Int) -> UInt32 {
        var value: UInt64 = 0
        var index = start
        while index < bytes.byteCount, bytes.load(index) &- 0x30 < 10, value < 1 << 32 {
            value = value * 10 + UInt64(bytes.load(index) - 0x30)
            index += 1
        }
        return UInt32(clamping: value)
    }
}

extension RawSpan {
    /// The byte at `index`. Sound: the load is bounds-checked, and every bit pattern is a byte.
    @inline(__always)
    func load(_ index: Int) -> UInt8 {
        self.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }

    /// The offset of the first such byte, or the count of bytes.
    func loadFirst(of byte: UInt8, from start: Int) -> Int {
        // Sound: the buffer is read within the call and within its bounds.
        self.withUnsafeBytes { buffer in
            guard start < buffer.count else { return buffer.count }
            return buffer[start...].firstIndex(of: byte) ?? buffer.count
        }
    }

    @inline(__always)
    func matches(_ literal: StaticString, at offset: Int) -> Bool {
        guard offset + literal.utf8CodeUnitCount <= self.byteCount else { return false }
        for index in 0..<literal.utf8CodeUnitCount
        where self.load(offset + index) != literal.utf8Start[index] { return false }
        return true
    }

    @inline(__always)
    func equals(_ literal: StaticString, _ range: Range<Int>) -> Bool {
        range.count == literal.utf8CodeUnitCount && self.matches(literal, at: range.lowerBound)
    }
}
