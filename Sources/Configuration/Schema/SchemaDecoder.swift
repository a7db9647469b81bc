/// Checks nodes against schemas and fills defaults in, collecting every problem.
///
/// A wrong value costs one problem and is replaced (by its default, or by an empty value of its
/// type), so that the rest of its object, and the checks across fields that follow, still run.
struct SchemaDecoder {
    let file: String
    var sink = ProblemSink()

    init(file: String) {
        self.file = file
    }

    /// - Parameter keyPosition: where the name of the value stands, if it has one.
    mutating func decode(
        _ node: SourceNode,
        _ schema: Schema,
        _ path: ConfigurationPath,
        keyPosition: Position? = nil
    ) -> Located? {
        if node.isBroken { return nil }
        let place = keyPosition ?? node.position
        switch schema {
        case .list(let element, let count, let unique):
            return self.decodeList(node, element, count, unique, path)
        case .map(let keys, let values, let maxCount):
            return self.decodeMap(node, keys, values, maxCount, path)
        case .object(let object):
            guard let entries = self.entries(of: node, path) else { return nil }
            return Located(
                .record(self.decodeObject(entries, object, path, at: place)),
                at: node.position
            )
        case .union(let union):
            guard let entries = self.entries(of: node, path) else { return nil }
            return self.decodeUnion(entries, union, path, at: place)
        case .boolean, .integer, .decimal, .duration, .bytes, .percent, .text, .choice:
            return self.decodeScalar(node, schema, path)
        }
    }

    // MARK: Scalars, lists and maps

    private mutating func decodeScalar(
        _ node: SourceNode,
        _ schema: Schema,
        _ path: ConfigurationPath
    ) -> Located? {
        guard case .scalar(let text, let isPlain, let position) = node else {
            self.problem(
                node.position,
                path,
                "expected \(schema.typeName), found \(node.typeName)"
            )
            return nil
        }
        do {
            return Located(
                try ScalarReader.read(text, isPlain: isPlain, as: schema),
                at: position
            )
        } catch {
            self.problem(position, path, error.message, hint: error.hint)
            return nil
        }
    }

    private mutating func decodeList(
        _ node: SourceNode,
        _ schema: Schema,
        _ count: ClosedRange<Int>,
        _ unique: Uniqueness,
        _ path: ConfigurationPath
    ) -> Located? {
        guard case .sequence(let nodes, let position) = node else {
            self.problem(
                node.position,
                path,
                "expected a list, found \(node.typeName)",
                hint: "write `- ` before each element, or `[a, b]`"
            )
            return nil
        }
        if !count.contains(nodes.count) {
            let isFew = nodes.count < count.lowerBound
            self.problem(
                position,
                path,
                nodes.isEmpty ? "is empty" : "has \(nodes.count) elements",
                hint: isFew
                    ? "at least \(count.lowerBound) is needed" : "at most \(count.upperBound) fit"
            )
        }
        var elements: [Located] = []
        for (index, node) in nodes.prefix(count.upperBound).enumerated() {
            let value = self.decode(node, schema, path.index(index))
            elements.append(value ?? Located(Self.placeholder(schema), at: node.position))
        }
        self.checkUnique(elements, unique, path)
        return Located(.list(elements), at: position)
    }

    private mutating func checkUnique(
        _ elements: [Located],
        _ unique: Uniqueness,
        _ path: ConfigurationPath
    ) {
        var firstIndex: [String: Int] = [:]
        for (index, element) in elements.enumerated() {
            var place = path.index(index)
            var located: Located? = element
            switch unique {
            case .none: return
            case .value: break
            case .field(let name):
                guard case .record(let record) = element.value else { continue }
                place = place.field(name)
                located = record.fields[name]
            }
            guard let located, case .text(let text) = located.value, !text.isEmpty else { continue }
            if let first = firstIndex[text] {
                self.problem(
                    located.position ?? element.position,
                    place,
                    "`\(Excerpt.of(text))` is a duplicate",
                    hint: "element \(first) has it already"
                )
            } else {
                firstIndex[text] = index
            }
        }
    }

    private mutating func decodeMap(
        _ node: SourceNode,
        _ keys: TextFormat,
        _ values: Schema,
        _ maxCount: Int,
        _ path: ConfigurationPath
    ) -> Located? {
        guard let source = self.entries(of: node, path) else { return nil }
        if source.count > maxCount {
            self.problem(
                node.position,
                path,
                "has \(source.count) entries",
                hint: "at most \(maxCount) fit"
            )
        }
        var entries: [MapEntry] = []
        for entry in source.prefix(maxCount) {
            let place = path.field(entry.key)
            if let failure = keys.failure(of: entry.key) {
                self.problem(entry.keyPosition, place, failure.message, hint: failure.hint)
            }
            var value: Located?
            if entry.value.isNull {
                self.problem(entry.keyPosition, place, "has no value")
            } else {
                value = self.decode(entry.value, values, place)
            }
            let standIn = Located(Self.placeholder(values), at: entry.value.position)
            entries.append(
                MapEntry(
                    key: entry.key,
                    keyPosition: entry.keyPosition,
                    value: value ?? standIn,
                    isValid: value != nil
                )
            )
        }
        return Located(.map(entries), at: node.position)
    }

    // MARK: Objects

    mutating func entries(
        of node: SourceNode,
        _ path: ConfigurationPath
    ) -> [SourceNode.Entry]? {
        if case .mapping(let entries, _) = node { return entries }
        self.problem(
            node.position,
            path,
            "expected a mapping, found \(node.typeName)",
            hint: "write `name: value`"
        )
        return nil
    }

    /// - Parameter known: fields that others read, such as a union's discriminator.
    mutating func decodeObject(
        _ entries: [SourceNode.Entry],
        _ schema: ObjectSchema,
        _ path: ConfigurationPath,
        at position: Position,
        known: [String] = []
    ) -> Record {
        var record = Record()
        for entry in entries where !known.contains(entry.key) {
            guard let field = schema.field(entry.key) else {
                self.unknownField(entry, schema.fields.map(\.name) + known, path)
                continue
            }
            // A field that was written counts as there, even without a value of use.
            record.keyPositions[field.name] = entry.keyPosition
            if entry.value.isNull { continue }
            record.fields[field.name] = self.decode(
                entry.value,
                field.schema,
                path.field(field.name),
                keyPosition: entry.keyPosition
            )
        }
        let given = Set(record.fields.keys)
        self.checkAlternatives(record, schema, path, at: position)
        for field in schema.fields where !given.contains(field.name) {
            if case .required = field.presence {
                let isWritten = entries.contains { $0.key == field.name && !$0.value.isNull }
                if !isWritten { self.missing(field, path, at: position) }
            } else if let value = SchemaDefaults.value(of: field) {
                record.fields[field.name] = Located(value, at: nil)
            }
        }
        return record
    }

    private mutating func decodeUnion(
        _ entries: [SourceNode.Entry],
        _ union: UnionSchema,
        _ path: ConfigurationPath,
        at position: Position
    ) -> Located {
        let names = union.cases.map(\.name)
        let empty = Located(.record(Record()), at: position)
        guard let entry = entries.first(where: { $0.key == union.discriminator }) else {
            self.problem(
                position,
                path.field(union.discriminator),
                "is missing",
                hint:
                    "write `\(union.discriminator):` and one of "
                    + Words.list(names, conjunction: "or")
            )
            return empty
        }
        let choice = Schema.choice(union.cases.map { Choice($0.name, $0.documentation) })
        let place = path.field(union.discriminator)
        guard
            let value = self.decode(entry.value, choice, place),
            case .text(let name) = value.value,
            let unionCase = union.case(named: name)
        else { return empty }
        var record = self.decodeObject(
            entries,
            unionCase.object,
            path,
            at: position,
            known: [union.discriminator]
        )
        record.fields[union.discriminator] = value
        record.keyPositions[union.discriminator] = entry.keyPosition
        return Located(.record(record), at: position)
    }

    private mutating func checkAlternatives(
        _ record: Record,
        _ schema: ObjectSchema,
        _ path: ConfigurationPath,
        at position: Position
    ) {
        for alternative in schema.alternatives {
            let given = alternative.fields.filter { record.keyPositions[$0] != nil }
            if given.count > 1, let second = given.dropFirst().first {
                self.problem(
                    record.keyPositions[second] ?? position,
                    path.field(second),
                    "\(Words.list(given, conjunction: "and")) exclude each other",
                    hint: "keep one of them"
                )
            } else if given.isEmpty && alternative.isRequired {
                self.problem(
                    position,
                    path,
                    "\(Words.list(alternative.fields, conjunction: "or")) is missing",
                    hint: "add one of them"
                )
            }
        }
    }

    private mutating func unknownField(
        _ entry: SourceNode.Entry,
        _ names: [String],
        _ path: ConfigurationPath
    ) {
        let hint = names.isEmpty ? "no fields belong here" : nil
        self.problem(
            entry.keyPosition,
            path.field(entry.key),
            "unknown field `\(Excerpt.of(entry.key))`",
            hint: Words.suggestion(for: entry.key, among: names) ?? hint
        )
    }

    private mutating func missing(
        _ field: FieldSchema,
        _ path: ConfigurationPath,
        at position: Position
    ) {
        self.problem(
            position,
            path.field(field.name),
            "is missing",
            hint: "write `\(field.name):` and \(field.schema.typeName)"
        )
    }

    /// Stands in for a list element that was wrong, to keep the numbers of those after it.
    private static func placeholder(_ schema: Schema) -> Value {
        switch schema {
        case .object, .union: .record(Record())
        case .list: .list([])
        case .map: .map([])
        case .boolean: .boolean(false)
        case .integer: .integer(0)
        case .decimal: .decimal(0)
        case .duration: .duration(.fixed(.zero))
        case .bytes: .bytes(0)
        case .percent: .percent(.zero)
        case .text, .choice: .text("")
        }
    }

    mutating func problem(
        _ position: Position?,
        _ path: ConfigurationPath,
        _ message: String,
        hint: String? = nil
    ) {
        self.sink.add(
            Problem(
                file: self.file,
                position: position,
                path: path,
                message: message,
                hint: hint
            )
        )
    }
}
