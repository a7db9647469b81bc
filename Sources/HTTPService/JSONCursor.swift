import Core

/// Why bytes are not the JSON that was wanted.
package struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    package var message: String
    /// Offset of the byte where it became clear.
    package var offset: Int

    package init(message: String, offset: Int) {
        self.message = message
        self.offset = offset
    }

    package var description: String { "\(self.message) at byte \(self.offset)" }
}

/// Reads JSON from front to back without building a document (RFC 8259).
///
/// The caller says what it expects and gets it, or skips a value, which is checked all the same.
/// The bytes are passed to every call and must be the same ones; the cursor holds a position alone.
/// Limits: `depthMax` levels of nesting. Numbers are read as doubles or as 64-bit integers; strings
/// are decoded, with lone surrogates and bytes that are not UTF-8 turned into U+FFFD.
package struct JSONCursor {
    /// Containers inside one another at most.
    package static let depthMax = 64

    package enum Kind: Sendable {
        case object, array, string, number, bool, null
    }

    package private(set) var offset = 0
    private var depth = 0

    package init() {}

    // MARK: Structure

    /// What the next value is.
    package mutating func peek(_ bytes: RawSpan) throws(JSONError) -> Kind {
        self.skipSpace(bytes)
        switch try self.current(bytes) {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
        default: throw self.error("expected a value")
        }
    }

    /// Calls `body` with each key's bytes as they are written, without quotes and with escapes as
    /// they stand; `body` must consume the value. Returns behind the closing brace.
    package mutating func object(
        _ bytes: RawSpan,
        _ body: (inout JSONCursor, Range<Int>) throws(JSONError) -> Void
    ) throws(JSONError) {
        try self.open(UInt8(ascii: "{"), bytes, "an object")
        if try self.close(UInt8(ascii: "}"), bytes) { return }
        repeat {
            self.skipSpace(bytes)
            let key = try self.rawString(bytes)
            self.skipSpace(bytes)
            try self.expect(UInt8(ascii: ":"), bytes, "expected a colon")
            try body(&self, key)
            self.skipSpace(bytes)
        } while try self.more(bytes, until: UInt8(ascii: "}"))
    }

    /// The same, and passes by what is no object.
    package mutating func objectOrSkip(
        _ bytes: RawSpan,
        _ body: (inout JSONCursor, Range<Int>) throws(JSONError) -> Void
    ) throws(JSONError) {
        if try self.peek(bytes) == .object {
            try self.object(bytes, body)
        } else {
            try self.skip(bytes)
        }
    }

    /// Calls `body` once per element; `body` must consume it. Returns behind the closing bracket.
    package mutating func array(
        _ bytes: RawSpan,
        _ body: (inout JSONCursor) throws(JSONError) -> Void
    ) throws(JSONError) {
        try self.open(UInt8(ascii: "["), bytes, "an array")
        if try self.close(UInt8(ascii: "]"), bytes) { return }
        repeat {
            try body(&self)
            self.skipSpace(bytes)
        } while try self.more(bytes, until: UInt8(ascii: "]"))
    }

    /// Checks that nothing but white space follows.
    package mutating func end(_ bytes: RawSpan) throws(JSONError) {
        self.skipSpace(bytes)
        if self.offset < bytes.byteCount { throw self.error("unexpected text after the value") }
    }

    // MARK: Values

    /// Moves behind the next value and returns where it lies.
    @discardableResult
    package mutating func skip(_ bytes: RawSpan) throws(JSONError) -> Range<Int> {
        let kind = try self.peek(bytes)
        let start = self.offset
        switch kind {
        case .object:
            try self.object(bytes) { (cursor, _) throws(JSONError) in try cursor.skip(bytes) }
        case .array:
            try self.array(bytes) { (cursor) throws(JSONError) in try cursor.skip(bytes) }
        case .string: _ = try self.rawString(bytes)
        case .number: _ = try self.rawNumber(bytes)
        case .bool: _ = try self.bool(bytes)
        case .null: try self.literal("null", bytes)
        }
        return start..<self.offset
    }

    /// A string, decoded.
    package mutating func string(_ bytes: RawSpan) throws(JSONError) -> String {
        self.skipSpace(bytes)
        let range = try self.rawString(bytes)
        return Self.decode(bytes, range)
    }

    package mutating func bool(_ bytes: RawSpan) throws(JSONError) -> Bool {
        self.skipSpace(bytes)
        if try self.current(bytes) == UInt8(ascii: "t") {
            try self.literal("true", bytes)
            return true
        }
        try self.literal("false", bytes)
        return false
    }

    package mutating func number(_ bytes: RawSpan) throws(JSONError) -> Double {
        self.skipSpace(bytes)
        let range = try self.rawNumber(bytes)
        if let small = Self.smallInteger(bytes, range) { return Double(small) }
        let text = String(decoding: JSONText.array(bytes.extracting(range)), as: UTF8.self)
        guard let value = Double(text), value.isFinite else {
            throw JSONError(
                message: "the number \(text.prefix(40)) is too large",
                offset: self.offset
            )
        }
        return value
    }

    /// A number without a fraction that fits into 64 bits. Digits alone are read exactly, also
    /// above 2^53, where doubles have gaps; `1e3` and `2.0` are integers too.
    package mutating func integer(_ bytes: RawSpan) throws(JSONError) -> Int {
        self.skipSpace(bytes)
        var ahead = self
        let range = try ahead.rawNumber(bytes)
        if let exact = Self.exactInteger(bytes, range) {
            self = ahead
            return exact
        }
        let value = try self.number(bytes)
        guard let integer = Int(exactly: value) else { throw self.error("expected an integer") }
        return integer
    }

    /// Consumes `null` if that is next.
    package mutating func skipNull(_ bytes: RawSpan) throws(JSONError) -> Bool {
        guard try self.peek(bytes) == .null else { return false }
        try self.literal("null", bytes)
        return true
    }

    package func error(_ message: String) -> JSONError {
        JSONError(message: message, offset: self.offset)
    }

    // MARK: Helpers

    private mutating func skipSpace(_ bytes: RawSpan) {
        while self.offset < bytes.byteCount {
            switch bytes.byteAt(self.offset) {
            case 0x20, 0x09, 0x0A, 0x0D: self.offset += 1
            default: return
            }
        }
    }

    private func current(_ bytes: RawSpan) throws(JSONError) -> UInt8 {
        guard self.offset < bytes.byteCount else { throw self.error("unexpected end") }
        return bytes.byteAt(self.offset)
    }

    private mutating func expect(
        _ byte: UInt8,
        _ bytes: RawSpan,
        _ message: String
    ) throws(JSONError) {
        guard try self.current(bytes) == byte else { throw self.error(message) }
        self.offset += 1
    }

    private mutating func open(
        _ bracket: UInt8,
        _ bytes: RawSpan,
        _ what: String
    ) throws(JSONError) {
        self.skipSpace(bytes)
        guard try self.current(bytes) == bracket else { throw self.error("expected \(what)") }
        guard self.depth < Self.depthMax else { throw self.error("nested too deep") }
        self.offset += 1
        self.depth += 1
    }

    private mutating func close(_ bracket: UInt8, _ bytes: RawSpan) throws(JSONError) -> Bool {
        self.skipSpace(bytes)
        guard try self.current(bytes) == bracket else { return false }
        self.offset += 1
        self.depth -= 1
        return true
    }

    /// True behind a comma, false behind the bracket.
    private mutating func more(_ bytes: RawSpan, until bracket: UInt8) throws(JSONError) -> Bool {
        if try self.close(bracket, bytes) { return false }
        guard try self.current(bytes) == UInt8(ascii: ",") else {
            throw self.error(
                "expected a comma or the end of the \(bracket == 0x7D ? "object" : "array")"
            )
        }
        self.offset += 1
        return true
    }

    private mutating func literal(_ text: StaticString, _ bytes: RawSpan) throws(JSONError) {
        let count = text.utf8CodeUnitCount
        guard self.offset + count <= bytes.byteCount else { throw self.error("unexpected end") }
        for index in 0..<count {
            guard bytes.byteAt(self.offset + index) == text.utf8Start[index] else {
                throw self.error("expected \(text)")
            }
        }
        self.offset += count
    }

    /// The bytes between the quotes, escapes checked but not decoded.
    private mutating func rawString(_ bytes: RawSpan) throws(JSONError) -> Range<Int> {
        try self.expect(UInt8(ascii: "\""), bytes, "expected a string")
        let start = self.offset
        while self.offset < bytes.byteCount {
            let byte = bytes.byteAt(self.offset)
            if byte == UInt8(ascii: "\"") {
                self.offset += 1
                return start..<(self.offset - 1)
            }
            if byte < 0x20 { throw self.error("a control character in a string") }
            self.offset += 1
            if byte == UInt8(ascii: "\\") { try self.checkEscape(bytes) }
        }
        throw self.error("a string without end")
    }

    private mutating func checkEscape(_ bytes: RawSpan) throws(JSONError) {
        switch try self.current(bytes) {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
            UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            self.offset += 1
        case UInt8(ascii: "u"):
            self.offset += 1
            for _ in 0..<4 {
                guard Self.hexadecimal(try self.current(bytes)) != nil else {
                    throw self.error("a wrong escape in a string")
                }
                self.offset += 1
            }
        default:
            throw self.error("a wrong escape in a string")
        }
    }

    private mutating func rawNumber(_ bytes: RawSpan) throws(JSONError) -> Range<Int> {
        let start = self.offset
        if try self.current(bytes) == UInt8(ascii: "-") { self.offset += 1 }
        if try self.current(bytes) == UInt8(ascii: "0") {
            self.offset += 1
        } else {
            try self.digits(bytes)
        }
        if self.offset < bytes.byteCount, bytes.byteAt(self.offset) == UInt8(ascii: ".") {
            self.offset += 1
            try self.digits(bytes)
        }
        if self.offset < bytes.byteCount, bytes.byteAt(self.offset) | 0x20 == UInt8(ascii: "e") {
            self.offset += 1
            let sign = try self.current(bytes)
            if sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { self.offset += 1 }
            try self.digits(bytes)
        }
        return start..<self.offset
    }

    private mutating func digits(_ bytes: RawSpan) throws(JSONError) {
        let start = self.offset
        while self.offset < bytes.byteCount, (0x30...0x39).contains(bytes.byteAt(self.offset)) {
            self.offset += 1
        }
        if self.offset == start { throw self.error("expected a digit") }
    }

    /// The digits of the range as an integer; nil where there is anything else, or too many.
    private static func exactInteger(_ bytes: RawSpan, _ range: Range<Int>) -> Int? {
        if let small = Self.smallInteger(bytes, range) { return small }
        return Int(String(decoding: JSONText.array(bytes.extracting(range)), as: UTF8.self))
    }

    /// Up to 15 digits without fraction and exponent, the common case, without a `String`.
    private static func smallInteger(_ bytes: RawSpan, _ range: Range<Int>) -> Int? {
        guard range.count <= 15 else { return nil }
        var value = 0
        let isNegative = bytes.byteAt(range.lowerBound) == UInt8(ascii: "-")
        for index in (isNegative ? range.dropFirst() : range) {
            let byte = bytes.byteAt(index)
            guard (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        // A negative zero is a double's business.
        return isNegative ? (value == 0 ? nil : -value) : value
    }

    private static func decode(_ bytes: RawSpan, _ range: Range<Int>) -> String {
        let raw = JSONText.array(bytes.extracting(range))
        guard raw.contains(UInt8(ascii: "\\")) else { return String(decoding: raw, as: UTF8.self) }
        var units: [UInt8] = []
        units.reserveCapacity(raw.count)
        var index = 0
        while index < raw.count {
            if raw[index] == UInt8(ascii: "\\") {
                index = self.decodeEscape(raw, at: index + 1, into: &units)
            } else {
                units.append(raw[index])
                index += 1
            }
        }
        return String(decoding: units, as: UTF8.self)
    }

    /// Decodes what follows a backslash, checked before; returns the index behind it.
    private static func decodeEscape(_ raw: [UInt8], at index: Int, into units: inout [UInt8])
        -> Int
    {
        switch raw[index] {
        case UInt8(ascii: "b"): units.append(0x08)
        case UInt8(ascii: "f"): units.append(0x0C)
        case UInt8(ascii: "n"): units.append(0x0A)
        case UInt8(ascii: "r"): units.append(0x0D)
        case UInt8(ascii: "t"): units.append(0x09)
        case UInt8(ascii: "u"): return self.decodeUnicode(raw, at: index + 1, into: &units)
        case let plain: units.append(plain)
        }
        return index + 1
    }

    private static func decodeUnicode(_ raw: [UInt8], at index: Int, into units: inout [UInt8])
        -> Int
    {
        let first = self.codeUnit(raw, at: index)
        var next = index + 4
        var scalar = Unicode.Scalar(first)
        // A high surrogate followed by an escaped low one.
        if (0xD800...0xDBFF).contains(first), next + 6 <= raw.count,
            raw[next] == UInt8(ascii: "\\"), raw[next + 1] == UInt8(ascii: "u")
        {
            let second = self.codeUnit(raw, at: next + 2)
            if (0xDC00...0xDFFF).contains(second) {
                scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
                next += 6
            }
        }
        units.append(contentsOf: Array(String(scalar ?? "\u{FFFD}").utf8))
        return next
    }

    private static func codeUnit(_ raw: [UInt8], at index: Int) -> UInt32 {
        raw[index..<(index + 4)].reduce(0) { $0 << 4 | UInt32(self.hexadecimal($1) ?? 0) }
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
