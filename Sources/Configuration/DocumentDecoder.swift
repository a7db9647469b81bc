/// A resource as it was read: the checked tree with positions, and what it is.
struct LoadedResource: Sendable {
    var kind: ResourceKind
    /// The fields `metadata` and `spec`.
    var root: Record
    var position: Position
    var source: ResourceSource

    var metadata: Metadata { Metadata(self.root.record("metadata")) }
    var spec: Record { self.root.record("spec") }

    /// Where the value at `path` stands, or the nearest thing around it that was written.
    func position(of path: ConfigurationPath, isKey: Bool = false) -> Position {
        var found = self.position
        var value = Value.record(self.root)
        var name: Position?
        for (depth, component) in path.components.enumerated() {
            let isLast = depth == path.components.count - 1
            // What is missing, or a default, is missed where the name of what holds it stands.
            guard let step = Self.step(value, component), let position = step.value.position else {
                return name ?? found
            }
            found = isKey && isLast ? step.key ?? position : position
            name = step.key
            value = step.value.value
        }
        return found
    }

    private static func step(
        _ value: Value,
        _ component: ConfigurationPath.Component
    ) -> (value: Located, key: Position?)? {
        switch (value, component) {
        case (.record(let record), .field(let name)):
            guard let located = record.fields[name] else { return nil }
            return (located, record.keyPositions[name])
        case (.map(let entries), .field(let name)):
            guard let entry = entries.first(where: { $0.key == name }) else { return nil }
            return (entry.value, entry.keyPosition)
        case (.list(let elements), .index(let index)):
            guard elements.indices.contains(index) else { return nil }
            return (elements[index], nil)
        default: return nil
        }
    }
}

/// Decodes one document: which kind it is, and that kind's schema.
struct DocumentDecoder {
    private var decoder: SchemaDecoder

    init(file: String) {
        self.decoder = SchemaDecoder(file: file)
    }

    var sink: ProblemSink { self.decoder.sink }

    private static let fieldNames = ["apiVersion", "kind", "metadata", "spec"]
    /// What a cluster adds to the metadata of what it keeps; it says nothing about what is wanted.
    private static let keptByCluster: Set = [
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
        "generateName", "generation", "managedFields", "ownerReferences", "resourceVersion",
        "selfLink", "uid",
    ]

    mutating func decode(_ document: SourceNode) -> LoadedResource? {
        let top = ConfigurationPath()
        guard let entries = self.decoder.entries(of: document, top) else { return nil }
        self.checkVersion(entries, document.position)
        // A status that came along from a cluster is none of ours to read.
        for entry in entries where !Self.fieldNames.contains(entry.key) && entry.key != "status" {
            self.decoder.problem(
                entry.keyPosition,
                top.field(entry.key),
                "unknown field `\(Excerpt.of(entry.key))`",
                hint: Words.suggestion(for: entry.key, among: Self.fieldNames)
            )
        }
        guard let kind = self.kind(entries, document.position) else { return nil }
        let schema = Schemas.schema(of: kind)
        var root = Record()
        root.fields["metadata"] = self.part(
            "metadata",
            Schemas.metadata,
            entries,
            document,
            isRequired: true
        )
        root.fields["spec"] = self.part(
            "spec",
            schema.spec,
            entries,
            document,
            isRequired: !schema.isSpecOptional
        )
        for entry in entries { root.keyPositions[entry.key] = entry.keyPosition }
        return LoadedResource(
            kind: kind,
            root: root,
            position: document.position,
            source: ResourceSource(file: self.decoder.file, line: document.position.line)
        )
    }

    private mutating func checkVersion(_ entries: [SourceNode.Entry], _ position: Position) {
        let path = ConfigurationPath("apiVersion")
        guard let entry = entries.first(where: { $0.key == "apiVersion" }) else {
            self.decoder.problem(
                position,
                path,
                "is missing",
                hint: "write `apiVersion: \(Schemas.apiVersion)`"
            )
            return
        }
        guard case .scalar(Schemas.apiVersion, _, _) = entry.value else {
            var found = entry.value.typeName
            if case .scalar(let text, _, _) = entry.value { found = "`\(Excerpt.of(text))`" }
            self.decoder.problem(
                entry.value.position,
                path,
                "\(found) is not a version that Weir knows",
                hint: "write `\(Schemas.apiVersion)`"
            )
            return
        }
    }

    private mutating func kind(
        _ entries: [SourceNode.Entry],
        _ position: Position
    ) -> ResourceKind? {
        let path = ConfigurationPath("kind")
        let names = ResourceKind.allCases.map(\.rawValue)
        guard let entry = entries.first(where: { $0.key == "kind" }), !entry.value.isNull else {
            self.decoder.problem(
                position,
                path,
                "is missing",
                hint: "write one of \(Words.list(names, conjunction: "or"))"
            )
            return nil
        }
        guard case .scalar(let text, _, let place) = entry.value else {
            self.decoder.problem(
                entry.value.position,
                path,
                "expected a kind, found \(entry.value.typeName)"
            )
            return nil
        }
        if let kind = ResourceKind(rawValue: text) { return kind }
        self.decoder.problem(
            place,
            path,
            "there is no kind `\(Excerpt.of(text))`",
            hint: Words.suggestion(for: text, among: names)
        )
        return nil
    }

    private mutating func part(
        _ name: String,
        _ schema: ObjectSchema,
        _ entries: [SourceNode.Entry],
        _ document: SourceNode,
        isRequired: Bool
    ) -> Located {
        let path = ConfigurationPath(name)
        guard let entry = entries.first(where: { $0.key == name }), !entry.value.isNull else {
            if isRequired {
                let first = schema.fields.first?.name ?? ""
                self.decoder.problem(
                    document.position,
                    path,
                    "is missing",
                    hint: "write `\(name):` with `\(first)` in it"
                )
            }
            return Located(.record(SchemaDefaults.record(of: schema)), at: nil)
        }
        guard !entry.value.isBroken, let inner = self.decoder.entries(of: entry.value, path) else {
            return Located(.record(SchemaDefaults.record(of: schema)), at: entry.value.position)
        }
        let isMetadata = name == "metadata"
        let entries = inner.filter { !isMetadata || !Self.keptByCluster.contains($0.key) }
        // What is missing in it is said where its name stands, not at its first field.
        let record = self.decoder.decodeObject(entries, schema, path, at: entry.keyPosition)
        return Located(.record(record), at: entry.value.position)
    }
}

/// Finds the place of the first byte that is not UTF-8.
enum UTF8Check {
    static func firstInvalid(in bytes: [UInt8]) -> Position? {
        var line = 1
        var column = 1
        var decoder = UTF8()
        var iterator = bytes.makeIterator()
        while true {
            switch decoder.decode(&iterator) {
            case .scalarValue("\n"):
                line += 1
                column = 1
            case .scalarValue: column += 1
            case .emptyInput: return nil
            case .error: return Position(line: line, column: column)
            }
        }
    }
}
