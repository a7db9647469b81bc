import Core

/// Writes one JSON value into a `ByteBuffer`, piece by piece, with the commas put in.
///
/// Strings are escaped as RFC 8259, section 7, asks; bytes that are not UTF-8 become U+FFFD, so
/// that the result is valid JSON whatever a client sent. Numbers that JSON lacks (infinities, NaN)
/// become `null`. It does not check that objects and arrays are closed: debug builds do.
package struct JSONWriter {
    package let buffer: ByteBuffer
    private var needsComma = false
    private var depth = 0

    package init(_ buffer: ByteBuffer) {
        self.buffer = buffer
    }

    // MARK: Containers

    package mutating func beginObject() { self.begin(UInt8(ascii: "{")) }
    package mutating func endObject() { self.end(UInt8(ascii: "}")) }
    package mutating func beginArray() { self.begin(UInt8(ascii: "[")) }
    package mutating func endArray() { self.end(UInt8(ascii: "]")) }

    package mutating func object(_ body: (inout JSONWriter) -> Void) {
        self.beginObject()
        body(&self)
        self.endObject()
    }

    package mutating func array(_ body: (inout JSONWriter) -> Void) {
        self.beginArray()
        body(&self)
        self.endArray()
    }

    // MARK: Keys

    /// A key that needs no escaping.
    package mutating func key(_ name: StaticString) {
        self.separate()
        self.buffer.append(byte: UInt8(ascii: "\""))
        self.buffer.append(name)
        self.buffer.append("\":" as StaticString)
        self.needsComma = false
    }

    package mutating func key(escaping name: String) {
        self.string(name)
        self.buffer.append(byte: UInt8(ascii: ":"))
        self.needsComma = false
    }

    // MARK: Values

    package mutating func string(_ value: String) {
        self.separate()
        self.buffer.append(jsonString: value)
    }

    /// A string of bytes from outside that should be UTF-8.
    package mutating func string(bytes: RawSpan) {
        self.string(String(decoding: JSONText.array(bytes), as: UTF8.self))
    }

    /// A string that needs no escaping.
    package mutating func string(plain value: StaticString) {
        self.separate()
        self.buffer.append(byte: UInt8(ascii: "\""))
        self.buffer.append(value)
        self.buffer.append(byte: UInt8(ascii: "\""))
    }

    package mutating func integer(_ value: some BinaryInteger) {
        self.separate()
        let wide = Int64(clamping: value)
        if wide < 0 { self.buffer.append(byte: UInt8(ascii: "-")) }
        self.buffer.append(decimal: wide < 0 ? wide.magnitude : UInt64(clamping: value))
    }

    package mutating func number(_ value: Double) {
        guard value.isFinite else { return self.null() }
        self.separate()
        // Swift's shortest round-trip form is a JSON number: "1.0", "5e-324".
        self.buffer.append("\(value)")
    }

    package mutating func bool(_ value: Bool) {
        self.separate()
        self.buffer.append(value ? "true" : "false" as StaticString)
    }

    package mutating func null() {
        self.separate()
        self.buffer.append("null" as StaticString)
    }

    /// Bytes that are a JSON value already.
    package mutating func raw(_ json: RawSpan) {
        self.separate()
        self.buffer.append(json)
    }

    // MARK: Key and value together

    package mutating func member(_ name: StaticString, _ value: String) {
        self.key(name)
        self.string(value)
    }

    package mutating func member(_ name: StaticString, plain value: StaticString) {
        self.key(name)
        self.string(plain: value)
    }

    package mutating func member(_ name: StaticString, _ value: some BinaryInteger) {
        self.key(name)
        self.integer(value)
    }

    package mutating func member(_ name: StaticString, _ value: Double) {
        self.key(name)
        self.number(value)
    }

    package mutating func member(_ name: StaticString, _ value: Bool) {
        self.key(name)
        self.bool(value)
    }

    package mutating func memberNull(_ name: StaticString) {
        self.key(name)
        self.null()
    }

    package mutating func member(_ name: StaticString, object body: (inout JSONWriter) -> Void) {
        self.key(name)
        self.object(body)
    }

    package mutating func member(_ name: StaticString, array body: (inout JSONWriter) -> Void) {
        self.key(name)
        self.array(body)
    }

    // MARK: Helpers

    private mutating func separate() {
        if self.needsComma { self.buffer.append(byte: UInt8(ascii: ",")) }
        self.needsComma = true
    }

    private mutating func begin(_ bracket: UInt8) {
        self.separate()
        self.buffer.append(byte: bracket)
        self.needsComma = false
        self.depth += 1
    }

    private mutating func end(_ bracket: UInt8) {
        assert(self.depth > 0, "closed a JSON container that was not open")
        self.depth -= 1
        self.buffer.append(byte: bracket)
        self.needsComma = true
    }
}

/// Copying shared by the writer and the reader.
enum JSONText {
    static func array(_ bytes: RawSpan) -> [UInt8] {
        bytes.withUnsafeBytes { Array($0) }
    }
}

extension RawSpan {
    /// The byte at `index`, which must be inside.
    @inline(__always)
    func byteAt(_ index: Int) -> UInt8 {
        precondition(index >= 0 && index < self.byteCount, "byte \(index) of \(self.byteCount)")
        return self.unsafeLoad(fromUncheckedByteOffset: index, as: UInt8.self)
    }
}
