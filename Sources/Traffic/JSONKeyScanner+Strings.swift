/// Strings: the ones nobody asked for are skipped, keys of the top level and `model` are decoded.
extension JSONKeyScanner {
    @inline(__always)
    mutating func beginString(isKey: Bool, _ index: inout Int) {
        self.stringIsKey = isKey
        self.state = .string
        index &+= 1
        if self.depth != 1 {
            self.capture = .none
        } else if isKey {
            self.capture = .key
            self.key.removeAll()
        } else {
            self.capture = self.member == .model ? .model : .none
        }
    }

    mutating func scanString(_ bytes: RawSpan, _ index: inout Int) {
        if self.capture == .none {
            self.skipString(bytes, &index)
        } else {
            self.captureString(bytes, &index)
        }
    }

    /// Goes on to the string's end, or to the end of the bytes, or into an escape that is cut.
    private mutating func skipString(_ bytes: RawSpan, _ index: inout Int) {
        let count = bytes.byteCount
        // Most strings are short.
        if index &+ 16 <= count {
            let place = index &+ Lanes.first(Self.specials(bytes.vector(unchecked: index)))
            if place < index &+ 16, bytes.byte(unchecked: place) == UInt8(ascii: "\"") {
                index = place
                return self.stringEnds(&index)
            }
        }
        let near = min(count, index &+ Self.nearBytes)
        guard self.skipSingly(bytes, &index, to: near) else { return }
        while index &+ Self.blockBytes <= count {
            let stop = Self.skipBlock(bytes, &index)
            if stop >= 0 {
                index = stop
                break
            }
        }
        _ = self.skipSingly(bytes, &index, to: count)
    }

    private static let nearBytes = 32
    private static let blockBytes = 64

    /// Passes one special byte after the other until `end`. False when the string is over, or
    /// wrong, or in an escape that is not two bytes, or not here whole.
    private mutating func skipSingly(_ bytes: RawSpan, _ index: inout Int, to end: Int) -> Bool {
        while true {
            index = Self.firstSpecial(bytes, from: index, to: end)
            guard index < end else { return true }
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\"") {
                self.stringEnds(&index)
                return false
            }
            guard byte == UInt8(ascii: "\\") else {
                self.fail(.controlByte, at: index)
                return false
            }
            // An escape of two bytes is the rule; all others go through the states.
            guard Self.isShortEscape(bytes, at: index) else {
                index &+= 1
                self.state = .escape
                return false
            }
            index &+= 2
        }
    }

    /// Passes a block with all its short escapes, and perhaps one byte more that ends the last of
    /// them. Text as models get it has an escape every few dozen bytes: to leave the loop for each
    /// would cost more than the comparing.
    ///
    /// - Returns: -1, or where a byte stands that is not for this loop; `index` stays then.
    @inline(__always)
    private static func skipBlock(_ bytes: RawSpan, _ index: inout Int) -> Int {
        let first = Self.specials(bytes.vector(unchecked: index))
        let second = Self.specials(bytes.vector(unchecked: index &+ 16))
        let third = Self.specials(bytes.vector(unchecked: index &+ 32))
        let fourth = Self.specials(bytes.vector(unchecked: index &+ 48))
        let front: SIMD2<UInt64> = first | second
        let back: SIMD2<UInt64> = third | fourth
        let any: SIMD2<UInt64> = front | back
        if any[0] | any[1] == 0 {
            index &+= Self.blockBytes
            return -1
        }
        // Behind the last escape.
        var passed = index
        var stop = Self.skipEscapes(bytes, at: index, first, &passed)
        if stop < 0 { stop = Self.skipEscapes(bytes, at: index &+ 16, second, &passed) }
        if stop < 0 { stop = Self.skipEscapes(bytes, at: index &+ 32, third, &passed) }
        if stop < 0 { stop = Self.skipEscapes(bytes, at: index &+ 48, fourth, &passed) }
        if stop >= 0 { return stop }
        index = max(index &+ Self.blockBytes, passed)
        return -1
    }

    /// Passes the short escapes among sixteen bytes whose special ones are marked. `passed` is the
    /// end of the last escape, here and before: what it hides is no beginning of another.
    @inline(__always)
    private static func skipEscapes(
        _ bytes: RawSpan,
        at start: Int,
        _ marks: SIMD2<UInt64>,
        _ passed: inout Int
    ) -> Int {
        for half in 0..<2 {
            let base = start &+ half &* 8
            var word = marks[half]
            if passed == base &+ 1 { word &= ~0xFF }
            while word != 0 {
                let shift = word.trailingZeroBitCount & ~7
                let place = base &+ shift &>> 3
                guard Self.isShortEscape(bytes, at: place) else { return place }
                passed = place &+ 2
                // Both its bytes; of one that reaches over, the second goes with the next word.
                word &= ~(0xFFFF &<< UInt64(truncatingIfNeeded: shift))
            }
        }
        return -1
    }

    /// The offset of the first quotation mark, backslash or control byte; `end`, or one past it or
    /// more, where none is before.
    @inline(__always)
    private static func firstSpecial(_ bytes: RawSpan, from start: Int, to end: Int) -> Int {
        let count = bytes.byteCount
        var index = start
        while index < end, index &+ 16 <= count {
            let found = Lanes.first(Self.specials(bytes.vector(unchecked: index)))
            if found < 16 { return index &+ found }
            index &+= 16
        }
        while index < end {
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 0x20 { break }
            index &+= 1
        }
        return index
    }

    @inline(__always)
    private static func specials(_ vector: SIMD16<UInt8>) -> SIMD2<UInt64> {
        let quotes: Lanes.Mask = vector .== SIMD16(repeating: UInt8(ascii: "\""))
        let backslashes: Lanes.Mask = vector .== SIMD16(repeating: UInt8(ascii: "\\"))
        let controls: Lanes.Mask = vector .< SIMD16(repeating: 0x20)
        let both: Lanes.Mask = quotes .| backslashes
        return Lanes.words(both .| controls)
    }

    /// A backslash stands at `index`, and behind it what makes an escape of two bytes.
    @inline(__always)
    private static func isShortEscape(_ bytes: RawSpan, at index: Int) -> Bool {
        bytes.byte(unchecked: index) == UInt8(ascii: "\\") && index &+ 1 < bytes.byteCount
            && Self.isShortEscape(bytes.byte(unchecked: index &+ 1))
    }

    /// What may stand behind a backslash, but for `u`.
    @inline(__always)
    private static func isShortEscape(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "n"), UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "t"),
            UInt8(ascii: "r"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"):
            true
        default:
            false
        }
    }

    private mutating func captureString(_ bytes: RawSpan, _ index: inout Int) {
        if self.capture == .key, self.key.isEmpty, self.takeWholeKey(bytes, &index) { return }
        let count = bytes.byteCount
        while index < count {
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\\") {
                index &+= 1
                self.state = .escape
                return
            }
            if self.highSurrogate != 0 { self.endLoneSurrogate() }
            if byte == UInt8(ascii: "\"") { return self.stringEnds(&index) }
            if byte < 0x20 { return self.fail(.controlByte, at: index) }
            self.keep(byte, at: index)
            if self.state == .failed { return }
            index &+= 1
        }
    }

    /// A key that is here to its end, without escapes, is known without being kept.
    @inline(__always)
    private mutating func takeWholeKey(_ bytes: RawSpan, _ index: inout Int) -> Bool {
        if self.highSurrogate != 0 || self.hasLoneSurrogate { return false }
        let end = Self.firstSpecial(bytes, from: index, to: bytes.byteCount)
        guard end < bytes.byteCount, bytes.byte(unchecked: end) == UInt8(ascii: "\"") else {
            return false
        }
        let member = ShortKey.member(bytes.extracting(index..<end))
        index = end &+ 1
        self.capture = .none
        self.state = .colon
        self.keyIs(member, index)
        return true
    }

    // MARK: Escapes

    mutating func scanEscape(_ byte: UInt8, _ index: inout Int) {
        if byte == UInt8(ascii: "u") {
            self.unicodeValue = 0
            self.unicodeDigits = 0
            self.state = .unicode
            index &+= 1
            return
        }
        guard Self.isShortEscape(byte) else { return self.fail(.invalidEscape, at: index) }
        self.state = .string
        if self.capture != .none {
            if self.highSurrogate != 0 { self.endLoneSurrogate() }
            self.keep(Self.unescaped(byte), at: index)
        }
        index &+= 1
    }

    private static func unescaped(_ byte: UInt8) -> UInt8 {
        switch byte {
        case UInt8(ascii: "b"): 0x08
        case UInt8(ascii: "f"): 0x0C
        case UInt8(ascii: "n"): 0x0A
        case UInt8(ascii: "r"): 0x0D
        case UInt8(ascii: "t"): 0x09
        default: byte
        }
    }

    mutating func scanUnicode(_ byte: UInt8, _ index: inout Int) {
        guard let digit = NameBuffer.hexValue(byte) else {
            return self.fail(.invalidEscape, at: index)
        }
        self.unicodeValue = self.unicodeValue &<< 4 | UInt32(digit)
        self.unicodeDigits &+= 1
        if self.unicodeDigits == 4 {
            self.state = .string
            if self.capture != .none { self.keepUnit(self.unicodeValue, at: index) }
        }
        index &+= 1
    }

    /// Keeps a UTF-16 code unit, joining halves of pairs (RFC 8259, section 7).
    private mutating func keepUnit(_ unit: UInt32, at index: Int) {
        let high = self.highSurrogate
        self.highSurrogate = 0
        switch unit {
        case 0xD800..<0xDC00:
            if high != 0 { self.hasLoneSurrogate = true }
            self.highSurrogate = unit
        case 0xDC00..<0xE000:
            guard high != 0 else {
                self.hasLoneSurrogate = true
                return
            }
            self.keepScalar(0x1_0000 + (high - 0xD800) << 10 + (unit - 0xDC00), at: index)
        default:
            if high != 0 { self.hasLoneSurrogate = true }
            self.keepScalar(unit, at: index)
        }
    }

    private mutating func endLoneSurrogate() {
        self.highSurrogate = 0
        self.hasLoneSurrogate = true
    }

    /// Keeps a scalar as UTF-8.
    private mutating func keepScalar(_ scalar: UInt32, at index: Int) {
        func tail(_ shift: UInt32) -> UInt8 { UInt8(0x80 | (scalar &>> shift) & 0x3F) }
        switch scalar {
        case 0..<0x80:
            self.keep(UInt8(scalar), at: index)
        case 0x80..<0x800:
            self.keep(UInt8(0xC0 | scalar &>> 6), at: index)
            self.keep(tail(0), at: index)
        case 0x800..<0x1_0000:
            self.keep(UInt8(0xE0 | scalar &>> 12), at: index)
            self.keep(tail(6), at: index)
            self.keep(tail(0), at: index)
        default:
            self.keep(UInt8(0xF0 | scalar &>> 18), at: index)
            self.keep(tail(12), at: index)
            self.keep(tail(6), at: index)
            self.keep(tail(0), at: index)
        }
    }

    /// Keeps a decoded byte of a key or of the model's name.
    private mutating func keep(_ byte: UInt8, at index: Int) {
        switch self.capture {
        case .none: break
        case .key: self.key.append(byte)
        case .model: if !self.modelName.append(byte) { self.fail(.modelTooLong, at: index) }
        }
    }

    // MARK: Ends

    private mutating func stringEnds(_ index: inout Int) {
        index &+= 1
        let captured = self.capture
        self.capture = .none
        if self.stringIsKey {
            self.state = .colon
            if captured == .key { self.keyEnds(index) }
            return
        }
        if captured == .model {
            guard !self.hasLoneSurrogate, UTF8Check.isValid(self.modelName.bytes) else {
                return self.fail(.modelNotUnicode, at: index &- 1)
            }
        }
        self.valueEnded(index)
    }

    private mutating func keyEnds(_ index: Int) {
        let member = self.hasLoneSurrogate ? .other : self.key.member
        self.hasLoneSurrogate = false
        self.keyIs(member, index)
    }

    @inline(__always)
    private mutating func keyIs(_ member: Member, _ index: Int) {
        self.member = member
        if member == .other { return }
        if self.member == .model, self.hasModel { self.fail(.duplicateModel, at: index &- 1) }
        if self.member == .prompt, self.seen.contains(.prompt) { self.member = .other }
        if self.member == .prompt, !self.needs.contains(.prompt) { self.member = .other }
    }
}

/// The first bytes of a key, enough to tell those we know apart.
struct ShortKey: Sendable {
    private var storage = InlineArray<24, UInt8>(repeating: 0)
    /// One more than fits stands for "longer".
    private var count = 0

    mutating func removeAll() { self.count = 0 }
    var isEmpty: Bool { self.count == 0 }

    @inline(__always)
    mutating func append(_ byte: UInt8) {
        if self.count < 24 { self.storage[self.count] = byte }
        if self.count <= 24 { self.count &+= 1 }
    }

    var member: JSONKeyScanner.Member {
        if self.count > 24 { return .other }
        // Sound: the span lives only for the comparison.
        let bytes = unsafe self.storage.span.bytes
        return Self.member(bytes.extracting(first: self.count))
    }

    /// What a key means whose decoded bytes these are.
    static func member(_ key: RawSpan) -> JSONKeyScanner.Member {
        switch key.byteCount {
        case 5: key.has("model", at: 0) ? .model : key.has("input", at: 0) ? .prompt : .other
        case 6: key.has("stream", at: 0) ? .stream : key.has("prompt", at: 0) ? .prompt : .other
        case 8: key.has("messages", at: 0) ? .prompt : .other
        case 10: key.has("max_tokens", at: 0) ? .maxTokens : .other
        case 17: key.has("max_output_tokens", at: 0) ? .maxTokens : .other
        case 21: key.has("max_completion_tokens", at: 0) ? .maxTokens : .other
        default: .other
        }
    }
}

/// Well-formed UTF-8 (RFC 3629, section 4): no overlong forms, no surrogates, nothing over
/// U+10FFFF.
enum UTF8Check {
    static func isValid(_ bytes: RawSpan) -> Bool {
        var index = 0
        while index < bytes.byteCount {
            let length = Self.length(bytes, at: index)
            if length == 0 { return false }
            index &+= length
        }
        return true
    }

    /// The length of the well-formed sequence at `index`, or 0.
    private static func length(_ bytes: RawSpan, at index: Int) -> Int {
        let lead = bytes.byte(at: index)
        if lead < 0x80 { return 1 }
        let length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
        guard lead >= 0xC2, lead <= 0xF4, index + length <= bytes.byteCount else { return 0 }
        let second = bytes.byte(at: index + 1)
        let lowest: UInt8 = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80
        let highest: UInt8 = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF
        guard second >= lowest, second <= highest else { return 0 }
        for offset in 2..<max(length, 2) where bytes.byte(at: index + offset) & 0xC0 != 0x80 {
            return 0
        }
        return length
    }
}
