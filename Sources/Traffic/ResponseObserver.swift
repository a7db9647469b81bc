import Core

/// Tokens as a model server counts them at the end of an answer.
package struct TokenUsage: Equatable, Sendable {
    /// `prompt_tokens` or `input_tokens`.
    package var prompt: Int
    /// `completion_tokens` or `output_tokens`.
    package var completion: Int

    package init(prompt: Int, completion: Int) {
        self.prompt = prompt
        self.completion = completion
    }
}

/// Watches the bytes of a response body as they pass, in any pieces, and never alters them: when
/// the first token came, how many events there were, how many tokens the server counted.
///
/// An event stream (`text/event-stream`, WHATWG HTML, section 9.2) is looked at by lines. Each line
/// that begins with `data:` counts as an event; inference servers write one such line per event. A
/// **content event** is a data line that carries output:
///
/// * OpenAI's chunks do if `content`, `text`, `reasoning`, `reasoning_content`, `refusal`,
///   `arguments` or `delta` is a string that is not empty; a chunk that only says the role, the
///   reason for the end or the usage does not;
/// * events with a `type` (OpenAI's responses, Anthropic's messages) do by the same keys;
/// * `[DONE]` and empty data never do; data of any other kind always does.
///
/// Only the lines before the first content event are looked into; later ones are counted by their
/// beginning, every data line but `[DONE]` as content. Lines end with LF, CR LF or CR.
///
/// Usage is found in streams and in plain JSON alike: the last `"usage":{…}` among the bytes.
/// Quoted in a string it would be written `\"usage\"` and does not match.
///
/// Memory is bounded: a line's first `lineBytesMax` bytes until the first token, `usageBytesMax` of
/// a usage object.
package struct ResponseObserver: Sendable {
    package enum Kind: UInt8, Sendable {
        /// `text/event-stream`
        case eventStream
        /// `application/json`
        case json
        /// Anything else: nothing is looked for.
        case opaque
    }

    /// Most bytes of a line that are looked into for content; a longer one counts as content.
    package static let lineBytesMax = 16 * 1024
    /// Most bytes of a usage object; a longer one is ignored.
    package static let usageBytesMax = 1024

    package private(set) var kind: Kind
    /// Data lines, `[DONE]` aside.
    package private(set) var events = 0
    /// Content events: about the number of output tokens of a stream.
    package private(set) var contentEvents = 0
    /// When the piece with the first content event passed; of plain JSON, nil.
    package private(set) var firstContentAt: Instant?
    /// When the piece with the last content event passed.
    package private(set) var lastContentAt: Instant?
    /// The stream said `[DONE]`.
    package private(set) var isDone = false
    /// What the server counted; nil as long as it has not said.
    package var usage: TokenUsage? { self.finder.usage }

    /// The same as `usage`, read in place: the property copies the observer.
    package mutating func finalUsage() -> TokenUsage? { self.finder.usage }

    private var finder = UsageFinder()
    /// The beginning of a line whose end has not come yet.
    private var pending: [UInt8] = []
    private var pendingIsCut = false
    private var lastWasReturn = false

    package init(kind: Kind = .opaque) {
        self.kind = kind
    }

    /// Starts anew for another response, keeping memory.
    package mutating func reset(kind: Kind) {
        self.kind = kind
        self.events = 0
        self.contentEvents = 0
        self.firstContentAt = nil
        self.lastContentAt = nil
        self.isDone = false
        self.finder.reset()
        if !self.pending.isEmpty { self.pending.removeAll(keepingCapacity: true) }
        self.pendingIsCut = false
        self.lastWasReturn = false
    }

    /// Takes the next bytes of the body, without its framing, at the time they passed.
    package mutating func observe(_ bytes: RawSpan, now: Instant) {
        switch self.kind {
        case .opaque:
            break
        case .json:
            self.finder.scan(bytes)
        case .eventStream:
            self.finder.scan(bytes)
            self.scanLines(bytes, now)
        }
    }

    // MARK: Lines

    private mutating func scanLines(_ bytes: RawSpan, _ now: Instant) {
        let count = bytes.byteCount
        var start = 0
        if self.lastWasReturn, count > 0 {
            self.lastWasReturn = false
            if bytes.byte(unchecked: 0) == UInt8(ascii: "\n") { start = 1 }
        }
        while start < count {
            let end = Self.lineEnd(bytes, from: start)
            if end == count { return self.hold(bytes.extracting(start..<count)) }
            self.lineEnds(bytes.extracting(start..<end), now)
            start = end &+ 1
            if bytes.byte(unchecked: end) == UInt8(ascii: "\r") {
                if start == count {
                    self.lastWasReturn = true
                } else if bytes.byte(unchecked: start) == UInt8(ascii: "\n") {
                    start &+= 1
                }
            }
        }
    }

    /// The offset of the first LF or CR, or the count of bytes.
    private static func lineEnd(_ bytes: RawSpan, from start: Int) -> Int {
        let count = bytes.byteCount
        var index = start
        while index &+ 64 <= count, !Self.hasLineEnd(bytes, inBlockAt: index) { index &+= 64 }
        while index &+ 16 <= count {
            let vector = bytes.vector(unchecked: index)
            let feeds: SIMD2<UInt64> = Lanes.equal(vector, UInt8(ascii: "\n"))
            let returns: SIMD2<UInt64> = Lanes.equal(vector, UInt8(ascii: "\r"))
            let found = Lanes.first(feeds | returns)
            if found < 16 { return index &+ found }
            index &+= 16
        }
        while index < count {
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
            index &+= 1
        }
        return index
    }

    /// Whether LF or CR is among the 64 bytes at `index`.
    @inline(__always)
    private static func hasLineEnd(_ bytes: RawSpan, inBlockAt index: Int) -> Bool {
        let feed = UInt8(ascii: "\n")
        let back = UInt8(ascii: "\r")
        let first = bytes.vector(unchecked: index)
        let second = bytes.vector(unchecked: index &+ 16)
        let third = bytes.vector(unchecked: index &+ 32)
        let fourth = bytes.vector(unchecked: index &+ 48)
        let one: SIMD2<UInt64> = Lanes.equal(first, feed) | Lanes.equal(first, back)
        let two: SIMD2<UInt64> = Lanes.equal(second, feed) | Lanes.equal(second, back)
        let three: SIMD2<UInt64> = Lanes.equal(third, feed) | Lanes.equal(third, back)
        let four: SIMD2<UInt64> = Lanes.equal(fourth, feed) | Lanes.equal(fourth, back)
        let front: SIMD2<UInt64> = one | two
        let rest: SIMD2<UInt64> = three | four
        let any: SIMD2<UInt64> = front | rest
        return any[0] | any[1] != 0
    }

    /// Keeps the beginning of a line: all of it while its content matters, else enough to know it.
    private mutating func hold(_ bytes: RawSpan) {
        let limit = self.firstContentAt == nil ? Self.lineBytesMax : Self.prefixBytes
        let room = limit - self.pending.count
        if bytes.byteCount > max(room, 0) { self.pendingIsCut = true }
        for index in 0..<min(bytes.byteCount, max(room, 0)) {
            self.pending.append(bytes.byte(unchecked: index))
        }
    }

    /// Enough of a line to tell `data: [DONE]` from other data.
    private static let prefixBytes = 16

    private mutating func lineEnds(_ rest: RawSpan, _ now: Instant) {
        if self.pending.isEmpty {
            // In one piece or in several, a line that is too long is not looked into.
            return self.line(rest, isCut: rest.byteCount > Self.lineBytesMax, now)
        }
        self.hold(rest)
        // Swapped out and back: a copy would cost an allocation.
        var line: [UInt8] = []
        swap(&line, &self.pending)
        let isCut = self.pendingIsCut
        self.pendingIsCut = false
        // Sound: the array outlives the call, and nothing writes to it.
        unsafe self.line(line.span.bytes, isCut: isCut, now)
        line.removeAll(keepingCapacity: true)
        swap(&line, &self.pending)
    }

    private mutating func line(_ line: RawSpan, isCut: Bool, _ now: Instant) {
        guard line.has("data:", at: 0) else { return }
        var start = 5
        if line.byteCount > start, line.byte(at: start) == UInt8(ascii: " ") { start = 6 }
        let data = line.extracting(start..<line.byteCount)
        if data.isEqual(to: "[DONE]") {
            self.isDone = true
            return
        }
        self.events &+= 1
        if data.isEmpty { return }
        if self.firstContentAt == nil {
            guard isCut || EventContent.isContent(data) else { return }
            self.firstContentAt = now
        }
        self.contentEvents &+= 1
        self.lastContentAt = now
    }
}

/// Whether the data of an event carries output, by looking for a few keys with a text that is not
/// empty. Reads a byte at a time: only the first events of a stream come here.
enum EventContent {
    static func isContent(_ data: RawSpan) -> Bool {
        var isKnown = false
        var index = 0
        while index < data.byteCount {
            guard data.byte(unchecked: index) == UInt8(ascii: "\"") else {
                index &+= 1
                continue
            }
            let end = Self.stringEnd(data, from: index &+ 1)
            let name = data.extracting((index &+ 1)..<max(end, index &+ 1))
            index = end &+ 1
            guard let value = Self.valueStart(data, afterKey: index) else { continue }
            if Self.isTextKey(name), Self.isText(data, at: value) { return true }
            if Self.isEnvelopeKey(name) { isKnown = true }
        }
        return !isKnown
    }

    /// Keys of chunks whose shape we know: without one, data of any kind is output.
    private static func isEnvelopeKey(_ name: RawSpan) -> Bool {
        switch name.byteCount {
        case 4: name.isEqual(to: "type")
        case 5: name.isEqual(to: "delta")
        case 7: name.isEqual(to: "choices")
        default: false
        }
    }

    private static func isTextKey(_ name: RawSpan) -> Bool {
        switch name.byteCount {
        case 4: name.isEqual(to: "text")
        case 5: name.isEqual(to: "delta")
        case 7: name.isEqual(to: "content") || name.isEqual(to: "refusal")
        case 8: name.isEqual(to: "thinking")
        case 9: name.isEqual(to: "reasoning") || name.isEqual(to: "arguments")
        case 12: name.isEqual(to: "partial_json")
        case 17: name.isEqual(to: "reasoning_content")
        default: false
        }
    }

    /// A string that is not empty starts at `index`.
    private static func isText(_ data: RawSpan, at index: Int) -> Bool {
        data.has("\"", at: index) && index + 1 < data.byteCount && !data.has("\"", at: index + 1)
    }

    /// The offset of the quotation mark that ends the string, or the count of bytes.
    private static func stringEnd(_ data: RawSpan, from start: Int) -> Int {
        var index = start
        while index < data.byteCount {
            let byte = data.byte(unchecked: index)
            if byte == UInt8(ascii: "\"") { return index }
            index &+= byte == UInt8(ascii: "\\") ? 2 : 1
        }
        return data.byteCount
    }

    /// Where the value of the key that ended before `index` starts; nil if that was no key.
    private static func valueStart(_ data: RawSpan, afterKey index: Int) -> Int? {
        var index = Self.skipSpace(data, from: index)
        guard data.has(":", at: index) else { return nil }
        index = Self.skipSpace(data, from: index + 1)
        return index < data.byteCount ? index : nil
    }

    private static func skipSpace(_ data: RawSpan, from start: Int) -> Int {
        var index = start
        while index < data.byteCount, data.byte(unchecked: index) <= 0x20 { index &+= 1 }
        return index
    }
}
