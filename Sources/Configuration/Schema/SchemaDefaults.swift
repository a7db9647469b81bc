/// Decodes the defaults that schemas give as text.
enum SchemaDefaults {
    /// A record of an object's defaults.
    static func record(of schema: ObjectSchema) -> Record {
        var record = Record()
        for field in schema.fields {
            if let value = Self.value(of: field) {
                record.fields[field.name] = Located(value, at: nil)
            }
        }
        return record
    }

    /// What an absent field means; nil where it is required or optional.
    static func value(of field: FieldSchema) -> Value? {
        guard case .standard(let text) = field.presence else { return nil }
        switch field.schema {
        case .object(let object) where text == "{}": return .record(Self.record(of: object))
        case .map where text == "{}": return .map([])
        case .list where text == "[]": return .list([])
        case .list, .object, .map, .union: return Self.composed(text, field)
        case .boolean, .integer, .decimal, .duration, .bytes, .percent, .text, .choice:
            return Self.scalar(text, field)
        }
    }

    private static func scalar(_ text: String, _ field: FieldSchema) -> Value {
        let isQuoted = text.hasPrefix("\"") && text.hasSuffix("\"") && text.count >= 2
        let bare = isQuoted ? String(text.dropFirst().dropLast()) : text
        do {
            return try ScalarReader.read(bare, isPlain: !isQuoted, as: field.schema)
        } catch {
            preconditionFailure("the default of `\(field.name)`: \(error.message)")
        }
    }

    private static func composed(_ text: String, _ field: FieldSchema) -> Value {
        var reader = YAMLReader(file: "default", text: text)
        reader.read()
        var decoder = SchemaDecoder(file: "default")
        guard
            let node = reader.documents.first, reader.problems.isEmpty,
            let value = decoder.decode(node, field.schema, ConfigurationPath(field.name)),
            decoder.sink.problems.isEmpty
        else { preconditionFailure("the default of `\(field.name)` does not fit its schema") }
        return value.value.withoutPositions
    }
}

extension Value {
    /// The same value as it would be if nobody had written it.
    var withoutPositions: Value {
        switch self {
        case .list(let elements):
            return .list(elements.map { Located($0.value.withoutPositions, at: nil) })
        case .map(let entries):
            return .map(
                entries.map {
                    let value = Located($0.value.value.withoutPositions, at: nil)
                    return MapEntry(key: $0.key, keyPosition: nil, value: value)
                }
            )
        case .record(let record):
            let fields = record.fields.mapValues { Located($0.value.withoutPositions, at: nil) }
            return .record(Record(fields: fields))
        case .boolean, .integer, .decimal, .duration, .bytes, .percent, .text: return self
        }
    }
}
