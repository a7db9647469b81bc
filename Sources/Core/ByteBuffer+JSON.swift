/// Text from outside as JSON.
extension ByteBuffer {
    /// Appends `bytes` as a JSON string with its quotes (RFC 8259, section 7).
    ///
    /// Quotes, backslashes and control characters are escaped, as is DEL, which terminals act on.
    /// What is not UTF-8 becomes U+FFFD, byte by byte, so that the result is valid whatever came
    /// in.
    package func append(jsonString bytes: RawSpan) {
        let count = bytes.byteCount
        self.reserve(count + 2)
        self.append(byte: UInt8(ascii: "\""))
        var index = 0
        var runStart = 0
        while index < count {
            let byte = bytes.byte(at: index)
            if byte >= 0x80 {
                let length = UTF8Sequence.length(in: bytes, at: index)
                if length > 0 {
                    index += length
                    continue
                }
            } else if byte >= 0x20, byte != 0x22, byte != 0x5C, byte != 0x7F {
                index += 1
                continue
            }
            self.append(bytes.extracting(runStart..<index))
            self.append(jsonEscapeOf: byte)
            index += 1
            runStart = index
        }
        self.append(bytes.extracting(runStart..<count))
        self.append(byte: UInt8(ascii: "\""))
    }

    /// Appends a JSON string with its quotes.
    package func append(jsonString text: String) {
        // Sound: the bytes of text are initialised, and the span ends with the call.
        unsafe self.append(jsonString: text.utf8Span.span.bytes)
    }

    /// Appends a JSON string with its quotes.
    package func append(jsonString bytes: [UInt8]) {
        // Sound: bytes are initialised, and the span ends with the call.
        unsafe self.append(jsonString: bytes.span.bytes)
    }

    private func append(jsonEscapeOf byte: UInt8) {
        switch byte {
        case 0x22: self.append("\\\"" as StaticString)
        case 0x5C: self.append("\\\\" as StaticString)
        case 0x0A: self.append("\\n" as StaticString)
        case 0x0D: self.append("\\r" as StaticString)
        case 0x09: self.append("\\t" as StaticString)
        case 0x80...: self.append("\u{FFFD}" as StaticString)
        default:
            self.append(byte < 0x10 ? "\\u000" : "\\u00" as StaticString)
            self.append(hexadecimal: UInt64(byte))
        }
    }
}

/// Well-formed UTF-8 (Unicode 3.9, table 3-7).
private enum UTF8Sequence {
    /// The bytes of the sequence that begins at `index` with a byte past ASCII; 0 where it is not
    /// well-formed.
    static func length(in bytes: RawSpan, at index: Int) -> Int {
        let lead = bytes.byte(at: index)
        let length: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch lead {
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xE1...0xEC, 0xEE...0xEF: length = 3
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF1...0xF3: length = 4
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        default: return 0
        }
        guard index + length <= bytes.byteCount else { return 0 }
        guard second.contains(bytes.byte(at: index + 1)) else { return 0 }
        for offset in 2..<max(length, 2) where bytes.byte(at: index + offset) & 0xC0 != 0x80 {
            return 0
        }
        return length
    }
}

extension RawSpan {
    fileprivate func byte(at index: Int) -> UInt8 {
        // Sound: bounds-checked, and every bit pattern is a byte.
        unsafe self.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }
}
