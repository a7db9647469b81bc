/// Writes a configuration as YAML, with every default: what Weir made of the files.
///
/// Read again from the same folder it gives an equal configuration.
package enum ConfigurationWriter {
    package static func yaml(_ configuration: Configuration) -> String {
        configuration.documents.sorted { $0.key < $1.key }.map { id, root in
            Self.document(id, root)
        }.joined(separator: "---\n")
    }

    /// One resource; nil where there is none of that name.
    package static func yaml(_ id: ResourceID, of configuration: Configuration) -> String? {
        configuration.documents[id].map { Self.document(id, $0) }
    }

    private static func document(_ id: ResourceID, _ root: Record) -> String {
        let metadata = root.record("metadata")
        var text = "apiVersion: \(Schemas.apiVersion)\nkind: \(id.kind.rawValue)\nmetadata:\n"
        Self.write(metadata, order: Schemas.metadata.fields.map(\.name), 1, &text)
        text += "spec:"
        let spec = root.record("spec")
        let order = Schemas.schema(of: id.kind).spec.fields.map(\.name)
        if spec.fields.isEmpty {
            text += " {}\n"
        } else {
            text += "\n"
            Self.write(spec, order: order, 1, &text)
        }
        return text
    }

    /// Known fields in their order, then the others by name.
    private static func write(
        _ record: Record,
        order: [String],
        _ depth: Int,
        _ text: inout String
    ) {
        let rest = record.fields.keys.filter { !order.contains($0) }.sorted()
        for name in order + rest {
            guard let located = record.fields[name] else { continue }
            Self.write(name, located.value, depth, &text)
        }
    }

    private static func write(_ name: String, _ value: Value, _ depth: Int, _ text: inout String) {
        let indentation = String(repeating: "  ", count: depth)
        text += "\(indentation)\(Self.key(name)):"
        switch value {
        case .record(let record) where !record.fields.isEmpty:
            text += "\n"
            Self.write(record, order: [], depth + 1, &text)
        case .list(let elements) where !elements.isEmpty:
            text += "\n"
            for element in elements { text += "\(indentation)- \(Self.inline(element.value))\n" }
        default: text += " \(Self.inline(value))\n"
        }
    }

    private static func inline(_ value: Value) -> String {
        switch value {
        case .boolean(let value): return value ? "true" : "false"
        case .integer(let value): return String(value)
        case .decimal(let value): return "\"\(NumberText.format(value))\""
        case .duration(.automatic): return "auto"
        case .duration(.off): return "\"off\""
        case .duration(.fixed(let duration)): return DurationText.format(duration)
        case .bytes(let size): return SizeText.format(size)
        case .percent(let percent): return "\"\(percent)\""
        case .text(let text): return QuotedText.yaml(text)
        case .list(let elements):
            return "[" + elements.map { Self.inline($0.value) }.joined(separator: ", ") + "]"
        case .map(let entries):
            let pairs = entries.map { "\(Self.key($0.key)): \(Self.inline($0.value.value))" }
            return "{" + pairs.joined(separator: ", ") + "}"
        case .record(let record):
            let pairs = record.fields.sorted { $0.key < $1.key }.map {
                "\(Self.key($0.key)): \(Self.inline($0.value.value))"
            }
            return "{" + pairs.joined(separator: ", ") + "}"
        }
    }

    /// Field names and names of the user's, which may look like numbers or truth values.
    private static func key(_ name: String) -> String {
        let isWord = name.utf8.allSatisfy { HostText.isLetter($0) } && !name.isEmpty
        return isWord && PlainScalar(name, isPlain: true) == .text ? name : QuotedText.yaml(name)
    }
}
