/// Numbers, literals, and what the values of known keys mean.
extension JSONKeyScanner {
    /// Integers above this are not exact in every JSON parser (RFC 8259, section 6).
    static let integerMax = 1 << 53

    enum Literal: UInt8 {
        case `true`, `false`, null

        var text: StaticString {
            switch self {
            case .true: "true"
            case .false: "false"
            case .null: "null"
            }
        }
    }

    // MARK: Numbers

    mutating func beginNumber(_ byte: UInt8, _ index: inout Int) {
        self.number = 0
        self.numberIsInteger = byte != UInt8(ascii: "-")
        self.state = byte == UInt8(ascii: "-") ? .minus : byte == 0x30 ? .zero : .integer
        if self.state == .integer { self.number = Int(byte) - 0x30 }
        index &+= 1
    }

    mutating func scanNumber(_ bytes: RawSpan, _ index: inout Int) {
        let byte = bytes.byte(unchecked: index)
        let isDigit = byte &- 0x30 < 10
        switch self.state {
        case .minus:
            self.move(to: byte == 0x30 ? .zero : .integer, if: isDigit, &index)
        case .point:
            self.move(to: .fraction, if: isDigit, &index)
        case .exponentSign:
            self.move(to: .exponentDigits, if: isDigit, &index)
        case .exponent:
            let isSign = byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
            self.move(to: isSign ? .exponentSign : .exponentDigits, if: isSign || isDigit, &index)
        case .integer, .fraction, .exponentDigits:
            self.skipDigits(bytes, &index)
            while self.state == .integer, self.skipToNextInteger(bytes, &index) {
                self.skipDigits(bytes, &index)
            }
            if index < bytes.byteCount { self.endNumber(bytes.byte(unchecked: index), &index) }
        case .zero:
            self.endNumber(byte, &index)
        case .start, .keyOrEnd, .key, .colon, .value, .valueOrEnd, .afterValue, .end, .string,
            .escape, .unicode, .literal, .failed:
            preconditionFailure("state \(self.state) is not in a number")
        }
    }

    private mutating func move(to state: State, if isAllowed: Bool, _ index: inout Int) {
        guard isAllowed else { return self.fail(.unexpectedByte, at: index) }
        self.state = state
        index &+= 1
    }

    @inline(__always)
    private mutating func skipDigits(_ bytes: RawSpan, _ index: inout Int) {
        let count = bytes.byteCount
        let isCounted = self.state == .integer
        while index < count {
            let digit = bytes.byte(unchecked: index) &- 0x30
            if digit >= 10 { return }
            if isCounted, self.number <= Self.integerMax {
                self.number = self.number &* 10 &+ Int(digit)
            }
            index &+= 1
        }
    }

    /// Goes from one integer of an array straight to the next: `,` and a digit that is no zero.
    /// Prompts of tokens are long runs of these, and the way through the states costs more than the
    /// digits.
    @inline(__always)
    private func skipToNextInteger(_ bytes: RawSpan, _ index: inout Int) -> Bool {
        guard self.depth > 1, index &+ 1 < bytes.byteCount,
            bytes.byte(unchecked: index) == UInt8(ascii: ","),
            bytes.byte(unchecked: index &+ 1) &- 0x31 < 9, !self.isInObject
        else { return false }
        index &+= 2
        return true
    }

    /// A byte that is no digit, after a number that could be over, or a digit after a leading zero.
    private mutating func endNumber(_ byte: UInt8, _ index: inout Int) {
        let isWhole = self.state == .integer || self.state == .zero
        if isWhole, byte == UInt8(ascii: ".") {
            self.numberIsInteger = false
            self.state = .point
            index &+= 1
        } else if self.state != .exponentDigits, byte | 0x20 == UInt8(ascii: "e") {
            self.numberIsInteger = false
            self.state = .exponent
            index &+= 1
        } else {
            // Whatever stands here, the number is over; the byte is judged as what follows a value.
            if self.depth == 1, self.member == .maxTokens, self.numberIsInteger {
                self.maxTokens = self.number <= Self.integerMax ? self.number : nil
            }
            self.valueEnded(index)
        }
    }

    // MARK: Literals

    mutating func beginLiteral(_ literal: Literal, _ index: inout Int) {
        self.literal = literal
        self.literalOffset = 1
        self.state = .literal
        index &+= 1
    }

    mutating func scanLiteral(_ byte: UInt8, _ index: inout Int) {
        let text = self.literal.text
        // Sound: the offset is below the literal's count, or the literal would be over.
        guard unsafe byte == text.utf8Start[self.literalOffset] else {
            return self.fail(.unexpectedByte, at: index)
        }
        self.literalOffset &+= 1
        index &+= 1
        guard self.literalOffset == text.utf8CodeUnitCount else { return }
        if self.depth == 1, self.member == .stream { self.stream = self.literalAsBool }
        self.valueEnded(index)
    }

    private var literalAsBool: Bool? {
        switch self.literal {
        case .true: true
        case .false: false
        case .null: nil
        }
    }

    // MARK: Members

    /// The value of a known key begins with the byte at `index`.
    mutating func memberBegins(_ byte: UInt8, _ index: Int) {
        switch self.member {
        case .other: break
        case .model:
            if byte != UInt8(ascii: "\"") { self.fail(.modelNotString, at: index) }
        case .stream: self.stream = nil
        case .maxTokens: self.maxTokens = nil
        case .prompt:
            self.isHashing = true
            self.hashStart = index
        }
    }

    /// The value of a known key ended before `index`.
    mutating func memberEnded(_ index: Int) {
        switch self.member {
        case .other: break
        case .model: self.seen.insert(.model)
        case .stream: self.seen.insert(.stream)
        case .maxTokens: self.seen.insert(.maxTokens)
        case .prompt:
            self.seen.insert(.prompt)
            self.isHashing = false
            self.hashEnd = index
        }
        self.member = .other
    }

    /// Hashes what belongs to the prompt in the bytes just scanned.
    mutating func hashPrompt(_ bytes: RawSpan) {
        if self.isHashing {
            self.promptHash.update(bytes.extracting(self.hashStart..<bytes.byteCount))
            if self.promptHash.isFull { self.seen.insert(.prompt) }
        } else if self.hashEnd >= 0 {
            self.promptHash.update(bytes.extracting(self.hashStart..<self.hashEnd))
            self.hashEnd = -1
        }
    }
}
