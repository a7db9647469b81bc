import HTTPService

/// Printing.
extension JSONValue {
    /// As a cell of a table: strings bare, what is not known as a dash.
    var cell: String {
        switch self {
        case .null: "-"
        case .bool(let value): value ? "yes" : "no"
        case .integer(let value): "\(value)"
        case .number(let value): Self.text(of: value)
        case .string(let value): value.isEmpty ? "-" : value
        case .array(let elements): elements.map(\.cell).joined(separator: ",")
        case .object: "…"
        }
    }

    /// Indented JSON, without a line feed at the end.
    func json(indent: String = "") -> String {
        let inner = indent + "  "
        switch self {
        case .array(let elements) where !elements.isEmpty:
            let lines = elements.map { inner + $0.json(indent: inner) }
            return "[\n" + lines.joined(separator: ",\n") + "\n\(indent)]"
        case .object(let members) where !members.isEmpty:
            let lines = members.map { member in
                "\(inner)\(Self.quoted(member.name)): \(member.value.json(indent: inner))"
            }
            return "{\n" + lines.joined(separator: ",\n") + "\n\(indent)}"
        default: return self.scalar
        }
    }

    /// Block-style YAML, with a line feed at the end.
    func yaml(indent: String = "") -> String {
        switch self {
        case .array(let elements) where !elements.isEmpty:
            elements.map { element in
                // The first line of the element goes behind its dash.
                let text = element.yaml(indent: indent + "  ")
                return "\(indent)- \(text.drop { $0 == " " })"
            }.joined()
        case .object(let members) where !members.isEmpty:
            members.map { member in
                let key = "\(indent)\(Self.plainOrQuoted(member.name)):"
                return member.value.isNested
                    ? "\(key)\n\(member.value.yaml(indent: indent + "  "))"
                    : "\(key) \(member.value.yaml())"
            }.joined()
        case .string(let value): Self.plainOrQuoted(value) + "\n"
        default: self.scalar + "\n"
        }
    }

    private var isNested: Bool {
        switch self {
        case .array(let elements): !elements.isEmpty
        case .object(let members): !members.isEmpty
        case .null, .bool, .integer, .number, .string: false
        }
    }

    private var scalar: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .integer(let value): "\(value)"
        case .number(let value): Self.text(of: value)
        case .string(let value): Self.quoted(value)
        case .array: "[]"
        case .object: "{}"
        }
    }

    /// Whole numbers without a fraction.
    private static func text(of value: Double) -> String {
        if let whole = Int64(exactly: value) { return "\(whole)" }
        return "\(value)"
    }

    /// Words that cannot be taken for anything else stay bare; the rest is quoted as in JSON, which
    /// YAML reads too.
    private static func plainOrQuoted(_ text: String) -> String {
        let words: Set = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        let isWord =
            text.utf8.first.map { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A } ?? false
        let isPlain = text.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
                || byte == UInt8(ascii: ".")
        }
        return isWord && isPlain && !words.contains(text.lowercased()) ? text : self.quoted(text)
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            case let other where other.value < 0x20 || other.value == 0x7F:
                let digits = String(other.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
