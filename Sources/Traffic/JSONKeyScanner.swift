/// What is wrong with a JSON body.
package struct JSONProblem: Error, Equatable, Sendable {
    package enum Kind: UInt8, CaseIterable, Sendable {
        /// The body's first value is not an object.
        case notAnObject
        /// A byte that JSON's grammar does not allow there (RFC 8259).
        case unexpectedByte
        /// A byte below 0x20 inside a string.
        case controlByte
        /// A backslash before something that cannot be escaped.
        case invalidEscape
        /// The body ends inside the document.
        case truncated
        /// Something follows the document.
        case trailingBytes
        /// More containers inside each other than `JSONKeyScanner.depthMax`.
        case tooDeep
        /// `model` is not a string.
        case modelNotString
        /// `model` stands there twice.
        case duplicateModel
        /// `model` is longer than `NameBuffer.capacity`.
        case modelTooLong
        /// `model` is not valid UTF-8, or has half of a surrogate pair.
        case modelNotUnicode
    }

    package var kind: Kind
    /// Bytes of the body before the one where it showed.
    package var offset: Int

    package init(_ kind: Kind, offset: Int) {
        self.kind = kind
        self.offset = offset
    }

    /// A sentence for people.
    package var message: StaticString {
        switch self.kind {
        case .notAnObject: "the body is not a JSON object"
        case .unexpectedByte: "the body is not valid JSON"
        case .controlByte: "a JSON string holds a control character"
        case .invalidEscape: "a JSON string holds an invalid escape"
        case .truncated: "the JSON body ends early"
        case .trailingBytes: "something follows the JSON body"
        case .tooDeep: "the JSON body is nested too deeply"
        case .modelNotString: "`model` is not a string"
        case .duplicateModel: "`model` is given twice"
        case .modelTooLong: "`model` is too long"
        case .modelNotUnicode: "`model` is not valid Unicode"
        }
    }
}

/// Finds a few top-level keys of a JSON object in one pass over its bytes, as they arrive in any
/// pieces, without building a document and without keeping the bytes.
///
/// The grammar of RFC 8259 is checked throughout, so that what the gateway reads is what a strict
/// server reads. Two things it leaves to the server: UTF-8 outside of `model`, and lone surrogates
/// outside of `model`. A byte order mark is refused, as the RFC allows.
///
/// `model` twice is refused: parsers differ in which one counts, and a request must not be
/// authorised for one model and served by another. Duplicates of the other keys are harmless: the
/// last one wins, but for the prompt, where the first is hashed. For the refusal to be complete the
/// whole body has to be fed, also after `.found`; with `stopsEarly` it is not, and the caller
/// accepts that the rest of the body, and a duplicate in it, goes unseen.
///
/// Inside strings that nobody asked for, 64 bytes at a time are compared. A scanner is reused by
/// `reset`: after its first prompt it allocates nothing. It cannot be copied, for it is large.
package struct JSONKeyScanner: ~Copyable, Sendable {
    /// Which keys to look for.
    package struct Needs: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let model = Needs(rawValue: 1)
        package static let stream = Needs(rawValue: 2)
        /// `max_tokens`, `max_completion_tokens` or `max_output_tokens`.
        package static let maxTokens = Needs(rawValue: 4)
        /// The hash chain of `prompt`, `messages` or `input`.
        package static let prompt = Needs(rawValue: 8)
    }

    package enum OnScan: Equatable, Sendable {
        /// Not all that is needed has been seen.
        case needMore
        /// All that is needed has been seen; the document goes on.
        case found
        /// The document is over. What has not been seen is not in it.
        case complete
        /// Final: further bytes get the same answer.
        case invalid(JSONProblem)
    }

    /// Objects and arrays inside each other.
    package static let depthMax = 512

    /// The value of `stream`, if it is `true` or `false`.
    package internal(set) var stream: Bool?
    /// The value of the token limit, if it is an integer from 0 to 2^53.
    package internal(set) var maxTokens: Int?
    package var hasModel: Bool { self.seen.contains(.model) }
    /// The decoded value of `model`; empty before `hasModel`.
    package var model: NameBuffer { self.hasModel ? self.modelName : NameBuffer() }
    /// Looks at the decoded value of `model` in place, where there is one: reading it through
    /// `model` copies all that it might hold.
    package mutating func withModel<Result>(_ body: (RawSpan) -> Result?) -> Result? {
        self.hasModel ? body(self.modelName.bytes) : nil
    }
    /// The hashes of the prompt's first blocks, complete as soon as `.prompt` has been found: at
    /// its end, or when there are as many as are kept.
    package var prompt: PromptHash { self.promptHash }

    enum State: UInt8 {
        case start, keyOrEnd, key, colon, value, valueOrEnd, afterValue, end
        case string, escape, unicode
        case minus, zero, integer, point, fraction, exponent, exponentSign, exponentDigits
        case literal
        case failed

        /// Whether it is one of the first eight, in which white space means nothing.
        var isBetweenTokens: Bool { self.rawValue <= Self.end.rawValue }
    }

    /// What a top-level key means to us.
    enum Member: UInt8 {
        case other, model, stream, maxTokens, prompt
    }

    /// Where the bytes of the string at hand go.
    enum Capture: UInt8 {
        case none, key, model
    }

    private(set) var needs: Needs
    private(set) var stopsEarly: Bool
    var seen: Needs = []
    var state = State.start
    var member = Member.other
    var capture = Capture.none
    var stringIsKey = false
    var depth = 0
    /// One bit per container that is open: 1 for an object.
    var containers = InlineArray<8, UInt64>(repeating: 0)
    /// Bytes of earlier calls.
    var consumed = 0
    var problem: JSONProblem?

    var key = ShortKey()
    var modelName = NameBuffer()
    /// A key or a model with half of a surrogate pair.
    var hasLoneSurrogate = false
    var highSurrogate: UInt32 = 0
    var unicodeValue: UInt32 = 0
    var unicodeDigits = 0
    var literal = Literal.true
    var literalOffset = 0
    var number = 0
    var numberIsInteger = false

    var promptHash = PromptHash()
    var isHashing = false
    /// Where in the bytes at hand the part of the prompt begins that is not yet hashed.
    var hashStart = 0
    /// Where in the bytes at hand the prompt ended; -1 if it did not.
    var hashEnd = -1

    package init(needs: Needs = .model, stopsEarly: Bool = false) {
        self.needs = needs
        self.stopsEarly = stopsEarly
    }

    /// Starts anew for another body, keeping memory.
    package mutating func reset(needs: Needs = .model, stopsEarly: Bool = false) {
        self.needs = needs
        self.stopsEarly = stopsEarly
        self.seen = []
        self.stream = nil
        self.maxTokens = nil
        self.state = .start
        self.member = .other
        self.capture = .none
        self.stringIsKey = false
        // Bits of containers and digits of numbers are set before they are read.
        self.depth = 0
        self.consumed = 0
        self.problem = nil
        self.key.removeAll()
        self.modelName.removeAll()
        self.hasLoneSurrogate = false
        self.highSurrogate = 0
        self.promptHash.removeAll()
        self.isHashing = false
        self.hashStart = 0
        self.hashEnd = -1
    }

    /// Takes the next bytes of the body. With `stopsEarly`, what follows the last key that is
    /// needed is not looked at, and of a long prompt only the part that is hashed.
    package mutating func scan(_ bytes: RawSpan) -> OnScan {
        if let problem = self.problem { return .invalid(problem) }
        let count = bytes.byteCount
        let boundsPrompt = self.stopsEarly && self.needs.contains(.prompt)
        var start = 0
        while start < count, !(self.stopsEarly && self.isSatisfied) {
            var piece = bytes.extracting(start..<count)
            if boundsPrompt, self.isHashing, !self.promptHash.isFull {
                // A string is passed in one go, and the end of the hash may lie inside it.
                piece = piece.extracting(first: self.promptHash.missingBytes)
            }
            start &+= self.scan(piece, untilPrompt: boundsPrompt && !self.isHashing)
            if let problem = self.problem { return .invalid(problem) }
        }
        self.consumed += count - start
        return self.status
    }

    /// Takes a piece; with `untilPrompt` only up to the first byte of the prompt. Returns how many
    /// bytes were taken.
    private mutating func scan(_ bytes: RawSpan, untilPrompt: Bool) -> Int {
        self.hashStart = 0
        var index = 0
        let count = bytes.byteCount
        let mayStop = self.stopsEarly || untilPrompt
        while index < count {
            if mayStop, self.stopsEarly && self.isSatisfied || untilPrompt && self.isHashing {
                break
            }
            self.step(bytes, &index)
            if self.state == .failed { return index }
        }
        self.hashPrompt(bytes.extracting(first: index))
        self.consumed += index
        return index
    }

    /// Says that the body is over.
    package mutating func finish() -> OnScan {
        if let problem = self.problem { return .invalid(problem) }
        if self.state == .end || (self.stopsEarly && self.isSatisfied) { return .complete }
        self.fail(.truncated, at: 0)
        return self.status
    }

    private var isSatisfied: Bool { self.needs.isSubset(of: self.seen) }

    private var status: OnScan {
        if let problem = self.problem { return .invalid(problem) }
        if self.state == .end { return .complete }
        return self.isSatisfied ? .found : .needMore
    }

    // MARK: Grammar

    /// Takes one byte, or a run of them.
    @inline(__always)
    private mutating func step(_ bytes: RawSpan, _ index: inout Int) {
        switch self.state {
        case .string:
            self.scanString(bytes, &index)
        case .escape:
            self.scanEscape(bytes.byte(unchecked: index), &index)
        case .unicode:
            self.scanUnicode(bytes.byte(unchecked: index), &index)
        case .integer, .fraction, .exponentDigits, .zero, .minus, .point, .exponent, .exponentSign:
            self.scanNumber(bytes, &index)
        case .literal:
            self.scanLiteral(bytes.byte(unchecked: index), &index)
        case .failed:
            break
        case .start, .keyOrEnd, .key, .colon, .value, .valueOrEnd, .afterValue, .end:
            self.scanStructure(bytes, &index)
            self.skipSpace(bytes, &index)
        }
    }

    /// Most writers put one space behind a colon or a comma, or none: it is passed without going
    /// round through the states. Not inside a token, where it would mean something.
    @inline(__always)
    private mutating func skipSpace(_ bytes: RawSpan, _ index: inout Int) {
        if index < bytes.byteCount, bytes.byte(unchecked: index) == 0x20, self.state.isBetweenTokens
        {
            index &+= 1
        }
    }

    /// Between tokens.
    @inline(__always)
    private mutating func scanStructure(_ bytes: RawSpan, _ index: inout Int) {
        let byte = bytes.byte(unchecked: index)
        if byte <= 0x20 {
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else {
                return self.fail(.unexpectedByte, at: index)
            }
            index &+= 1
            return
        }
        switch self.state {
        case .start:
            guard byte == UInt8(ascii: "{") else { return self.fail(.notAnObject, at: index) }
            self.open(isObject: true, &index)
        case .keyOrEnd where byte == UInt8(ascii: "}"), .valueOrEnd where byte == UInt8(ascii: "]"):
            self.close(&index)
        case .keyOrEnd, .key:
            guard byte == UInt8(ascii: "\"") else { return self.fail(.unexpectedByte, at: index) }
            self.takeKey(bytes, &index)
        case .colon:
            guard byte == UInt8(ascii: ":") else { return self.fail(.unexpectedByte, at: index) }
            self.state = .value
            index &+= 1
        case .value, .valueOrEnd:
            self.beginValue(bytes, &index)
        case .afterValue:
            self.continueContainer(byte, &index)
        case .end:
            self.fail(.trailingBytes, at: index)
        case .string, .escape, .unicode, .minus, .zero, .integer, .point, .fraction, .exponent,
            .exponentSign, .exponentDigits, .literal, .failed:
            preconditionFailure("state \(self.state) is not between tokens")
        }
    }

    /// A key as far as it is here, and the colon if that follows at once: to go round through the
    /// states for each would cost more than most keys do.
    @inline(__always)
    private mutating func takeKey(_ bytes: RawSpan, _ index: inout Int) {
        self.beginString(isKey: true, &index)
        let count = bytes.byteCount
        guard index < count else { return }
        self.scanString(bytes, &index)
        guard self.state == .colon, index < count,
            bytes.byte(unchecked: index) == UInt8(ascii: ":")
        else { return }
        self.state = .value
        index &+= 1
    }

    @inline(__always)
    private mutating func continueContainer(_ byte: UInt8, _ index: inout Int) {
        let isObject = self.isInObject
        if byte == UInt8(ascii: ",") {
            self.state = isObject ? .key : .value
            index &+= 1
        } else if byte == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
            self.close(&index)
        } else {
            self.fail(.unexpectedByte, at: index)
        }
    }

    @inline(__always)
    private mutating func beginValue(_ bytes: RawSpan, _ index: inout Int) {
        let byte = bytes.byte(unchecked: index)
        if self.depth == 1, self.member != .other { self.memberBegins(byte, index) }
        if self.state == .failed { return }
        switch byte {
        case UInt8(ascii: "\""):
            self.beginString(isKey: false, &index)
            // Of a prompt, only what is hashed may be wanted: that is for the caller to see.
            if !self.isHashing, index < bytes.byteCount { self.scanString(bytes, &index) }
        case UInt8(ascii: "{"):
            self.open(isObject: true, &index)
        case UInt8(ascii: "["):
            self.open(isObject: false, &index)
        case UInt8(ascii: "-"), 0x30...0x39:
            self.beginNumber(byte, &index)
        case UInt8(ascii: "t"):
            self.beginLiteral(.true, &index)
        case UInt8(ascii: "f"):
            self.beginLiteral(.false, &index)
        case UInt8(ascii: "n"):
            self.beginLiteral(.null, &index)
        default:
            self.fail(.unexpectedByte, at: index)
        }
    }

    /// A value has ended before `index`.
    @inline(__always)
    mutating func valueEnded(_ index: Int) {
        self.state = .afterValue
        if self.depth == 1, self.member != .other { self.memberEnded(index) }
    }

    // MARK: Containers

    var isInObject: Bool {
        let bit = self.depth &- 1
        return self.containers[bit &>> 6] &>> UInt64(bit & 63) & 1 == 1
    }

    private mutating func open(isObject: Bool, _ index: inout Int) {
        guard self.depth < Self.depthMax else { return self.fail(.tooDeep, at: index) }
        let mask: UInt64 = 1 &<< UInt64(self.depth & 63)
        if isObject {
            self.containers[self.depth &>> 6] |= mask
        } else {
            self.containers[self.depth &>> 6] &= ~mask
        }
        self.depth &+= 1
        self.state = isObject ? .keyOrEnd : .valueOrEnd
        index &+= 1
    }

    private mutating func close(_ index: inout Int) {
        assert(self.depth > 0, "closed more containers than were opened")
        self.depth &-= 1
        index &+= 1
        if self.depth == 0 {
            self.state = .end
        } else {
            self.valueEnded(index)
        }
    }

    mutating func fail(_ kind: JSONProblem.Kind, at index: Int) {
        self.state = .failed
        self.problem = JSONProblem(kind, offset: self.consumed + index)
    }
}
