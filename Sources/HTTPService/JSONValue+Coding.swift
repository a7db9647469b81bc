import Core

extension JSONValue {
    /// Values in one document at most: what is read takes a multiple of its text in memory.
    package static let valuesMax = 2_000_000

    /// Reads a whole document.
    package init(_ bytes: [UInt8], keeping projection: JSONProjection = .everything)
        throws(JSONError)
    {
        var reader = JSONReader()
        self = try reader.document(bytes.span.bytes, keeping: projection)
    }

    /// Reads a whole document. Named, as a bare literal would become a string value.
    package init(parsing text: String) throws(JSONError) {
        try self.init(Array(text.utf8))
    }

    /// The document as compact JSON.
    package var bytes: [UInt8] {
        let buffer = ByteBuffer(capacity: 512)
        var writer = JSONWriter(buffer)
        self.write(to: &writer)
        return buffer.readable.withUnsafeBytes { Array($0) }
    }

    package var text: String { String(decoding: self.bytes, as: UTF8.self) }

    package func write(to writer: inout JSONWriter) {
        switch self {
        case .null: writer.null()
        case .bool(let value): writer.bool(value)
        case .integer(let value): writer.integer(value)
        case .number(let value): writer.number(value)
        case .string(let value): writer.string(value)
        case .array(let elements):
            writer.beginArray()
            for element in elements { element.write(to: &writer) }
            writer.endArray()
        case .object(let members):
            writer.beginObject()
            for member in members {
                writer.key(escaping: member.name)
                member.value.write(to: &writer)
            }
            writer.endObject()
        }
    }
}

/// Builds trees from JSON, leaving out what a projection does not want.
package struct JSONReader {
    private var cursor = JSONCursor()
    private var values = 0
    private let valuesMax: Int

    package init(valuesMax: Int = JSONValue.valuesMax) {
        self.valuesMax = valuesMax
    }

    package mutating func document(
        _ bytes: RawSpan,
        keeping projection: JSONProjection
    ) throws(JSONError) -> JSONValue {
        let value = try self.value(bytes, keeping: projection)
        try self.cursor.end(bytes)
        return value
    }

    /// The value at the cursor's place.
    package mutating func value(
        _ bytes: RawSpan,
        keeping projection: JSONProjection
    ) throws(JSONError) -> JSONValue {
        self.values += 1
        if self.values > self.valuesMax {
            throw self.cursor.error("more than \(self.valuesMax) values")
        }
        switch try self.cursor.peek(bytes) {
        case .null:
            _ = try self.cursor.skipNull(bytes)
            return .null
        case .bool: return .bool(try self.cursor.bool(bytes))
        case .string: return .string(try self.cursor.string(bytes))
        case .number: return try self.number(bytes)
        case .array: return try self.array(bytes, keeping: projection)
        case .object: return try self.object(bytes, keeping: projection)
        }
    }

    private mutating func number(_ bytes: RawSpan) throws(JSONError) -> JSONValue {
        var ahead = self.cursor
        if let integer = try? ahead.integer(bytes) {
            self.cursor = ahead
            return .integer(integer)
        }
        return .number(try self.cursor.number(bytes))
    }

    private mutating func array(
        _ bytes: RawSpan,
        keeping projection: JSONProjection
    ) throws(JSONError) -> JSONValue {
        var elements: [JSONValue] = []
        var reader = self
        try self.cursor.array(bytes) { (cursor) throws(JSONError) in
            reader.cursor = cursor
            elements.append(try reader.value(bytes, keeping: projection))
            cursor = reader.cursor
        }
        self.values = reader.values
        return .array(elements)
    }

    private mutating func object(
        _ bytes: RawSpan,
        keeping projection: JSONProjection
    ) throws(JSONError) -> JSONValue {
        var members: [JSONValue.Member] = []
        var reader = self
        try self.cursor.object(bytes) { (cursor, key) throws(JSONError) in
            let name = try Self.name(bytes, key)
            guard let inner = projection.inside(name) else {
                try cursor.skip(bytes)
                return
            }
            reader.cursor = cursor
            members.append(JSONValue.Member(name, try reader.value(bytes, keeping: inner)))
            cursor = reader.cursor
        }
        self.values = reader.values
        return .object(members)
    }

    /// A key, decoded: `range` lies between its quotes.
    package static func name(_ bytes: RawSpan, _ range: Range<Int>) throws(JSONError) -> String {
        let raw = bytes.extracting(range)
        let hasEscape = raw.withUnsafeBytes { $0.contains(UInt8(ascii: "\\")) }
        guard hasEscape else {
            return raw.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        }
        var cursor = JSONCursor()
        return try cursor.string(bytes.extracting(range.lowerBound - 1..<range.upperBound + 1))
    }
}
