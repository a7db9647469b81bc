import Core

/// The fields of an HTTP/2 message about to be sent, from parts of HTTP/1 heads: names in lower
/// case, without those that are for one connection (RFC 9113, section 8.2.2).
///
/// Values come from parsed heads or from us, so they hold no line end. Reusable; confined to one
/// thread.
package final class OutgoingFields {
    package struct Entry: Equatable, Sendable {
        /// Offsets into `bytes`.
        package var name: ByteRange
        package var value: ByteRange
        /// Not to be remembered by compression: who watches sizes could guess it
        /// (RFC 7541, section 7.1.3).
        package var isSensitive: Bool
    }

    package let bytes = ByteBuffer(capacity: 1_024)
    package private(set) var entries: [Entry] = []

    package init() {}

    package func removeAll() {
        self.bytes.removeAll()
        self.entries.removeAll(keepingCapacity: true)
    }

    // MARK: Our own

    package func append(_ name: StaticString, _ value: StaticString) {
        self.append(name) { $0.append(value) }
    }

    package func append(_ name: StaticString, _ value: RawSpan) {
        let start = self.bytes.count
        self.bytes.append(name)
        let end = self.bytes.count
        self.bytes.append(value)
        self.close(start, end)
    }

    package func append(_ name: StaticString, _ value: UInt64) {
        self.append(name) { $0.append(decimal: value) }
    }

    private func append(_ name: StaticString, _ write: (ByteBuffer) -> Void) {
        let start = self.bytes.count
        self.bytes.append(name)
        let end = self.bytes.count
        write(self.bytes)
        self.close(start, end)
    }

    private func close(_ start: Int, _ nameEnd: Int, isSensitive: Bool = false) {
        self.entries.append(
            Entry(
                name: ByteRange(start, nameEnd),
                value: ByteRange(nameEnd, self.bytes.count),
                isSensitive: isSensitive
            )
        )
    }

    // MARK: From HTTP/1

    /// Fields that are not taken over from HTTP/1, whatever they say.
    private static let dropped: FieldNameSet = {
        var set = FieldNameSet.hopByHop
        set.insert(.host)
        return set
    }()

    private static let sensitive: FieldNameSet = {
        var set = FieldNameSet()
        for name in [FieldName.authorization, .apiKey, .cookie, .setCookie] { set.insert(name) }
        return set
    }()

    /// Takes the fields of a parsed head over but those in `dropping`.
    package func append(_ fields: [Field], of bytes: RawSpan, dropping: FieldNameSet) {
        for index in fields.indices {
            let field = fields[index]
            if field.isHopByHop || field.name == .host || dropping.contains(field.name) { continue }
            self.append(field.name, bytes.slice(field.nameRange), bytes.slice(field.valueRange))
        }
    }

    /// Takes lines over, each `Name: value` and a line end, as we write them ourselves.
    package func append(lines: RawSpan) {
        var start = 0
        while start < lines.byteCount {
            let end = lines.firstIndex(
                of: ASCII.carriageReturn,
                from: start,
                to: lines.byteCount
            )
            let colon = lines.firstIndex(of: ASCII.colon, from: start, to: end)
            guard colon < end, colon > start else { return assertionFailure("not a field line") }
            let nameRange = ByteRange(start, colon)
            let name = FieldName(lines, nameRange)
            if !Self.dropped.contains(name) {
                let value = lines.trimmed(colon &+ 1, end)
                self.append(name, lines.slice(nameRange), lines.slice(value))
            }
            start = end &+ 2
        }
    }

    private func append(_ known: FieldName, _ name: RawSpan, _ value: RawSpan) {
        let start = self.bytes.count
        if known == .other {
            for index in 0..<name.byteCount {
                let byte = name.byte(at: index)
                self.bytes.append(byte: byte &- 0x41 < 26 ? byte | 0x20 : byte)
            }
        } else {
            self.bytes.append(known.canonical)
        }
        let end = self.bytes.count
        self.bytes.append(value)
        self.close(start, end, isSensitive: Self.sensitive.contains(known))
    }

    /// The pseudo fields and fields of a request, from its parsed HTTP/1 head. The target is in
    /// origin form, or `*`. `Transfer-Encoding` is not needed: frames say where a body ends.
    package func append(request head: RequestHead, _ bytes: RawSpan, scheme: StaticString) {
        self.append(":method", bytes.slice(head.methodRange))
        self.append(":scheme", scheme)
        self.append(":path", bytes.slice(head.targetRange))
        if let authority = head.authorityRange {
            self.append(":authority", bytes.slice(authority))
        }
        var dropping = FieldNameSet()
        dropping.insert(.expect)
        self.append(head.fields, of: bytes, dropping: dropping)
    }
}
