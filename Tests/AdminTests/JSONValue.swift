import HTTPService

/// A JSON document in memory, for looking into answers.
enum JSONValue: Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(_ bytes: [UInt8]) throws(JSONError) {
        var cursor = JSONCursor()
        self = try Self.read(&cursor, bytes)
        try cursor.end(bytes.span.bytes)
    }

    /// Null where there is no such member.
    subscript(_ name: String) -> JSONValue {
        if case .object(let members) = self { members[name] ?? .null } else { .null }
    }

    /// Null where there is no such element.
    subscript(_ index: Int) -> JSONValue {
        if case .array(let elements) = self, index < elements.count {
            elements[index]
        } else {
            .null
        }
    }

    var count: Int {
        if case .array(let elements) = self { elements.count } else { 0 }
    }

    private static func read(_ cursor: inout JSONCursor, _ all: [UInt8]) throws(JSONError) -> Self {
        let bytes = all.span.bytes
        switch try cursor.peek(bytes) {
        case .null:
            _ = try cursor.skipNull(bytes)
            return .null
        case .bool: return .bool(try cursor.bool(bytes))
        case .number: return .number(try cursor.number(bytes))
        case .string: return .string(try cursor.string(bytes))
        case .array:
            var elements: [JSONValue] = []
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                elements.append(try Self.read(&cursor, all))
            }
            return .array(elements)
        case .object:
            var members: [String: JSONValue] = [:]
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                let name = String(decoding: all[key], as: UTF8.self)
                members[name] = try Self.read(&cursor, all)
            }
            return .object(members)
        }
    }
}
