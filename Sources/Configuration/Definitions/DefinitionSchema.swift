/// A rule in CEL that an API server evaluates, and what it says where the rule does not hold.
struct DefinitionRule: Sendable, Equatable {
    var expression: String
    var message: String
    /// The field of the object that the message is about.
    var field: String?

    init(_ expression: String, _ message: String, field: String? = nil) {
        self.expression = expression
        self.message = message
        self.field = field
    }

    var tree: DefinitionTree {
        var entries: [DefinitionTree.Entry] = [
            .init("rule", .text(self.expression)), .init("message", .text(self.message)),
        ]
        if let field = self.field { entries.add("fieldPath", .text("." + field)) }
        return .mapping(entries)
    }
}

/// Turns a `Schema` into the structural schema of a CustomResourceDefinition.
///
/// What an API server cannot express: rules see no field without a type, so that fractions below 1
/// (`FractionPattern`) are bounded by patterns; lists that are sets know no case.
///
/// Everything that a rule walks over is bounded (`maxItems`, `maxLength`, `maxProperties`): an API
/// server refuses a definition whose rules could cost too much.
struct DefinitionSchema {
    /// Rules of objects, by path from the spec: what the checkers say about several fields.
    let rules: [String: [DefinitionRule]]
    /// Fields that a cluster must not change, by path.
    let fixed: [String: String]

    /// - Parameter path: of the value, such as `spec.variants[]`.
    func tree(
        of schema: Schema,
        _ documentation: String,
        path: String,
        standard: DefinitionTree? = nil
    ) -> DefinitionTree {
        var entries: [DefinitionTree.Entry] = []
        let description = Self.description(schema, documentation)
        if !description.isEmpty { entries.add("description", .text(description)) }
        entries += self.structure(of: schema, path: path)
        if let standard { entries.add("default", standard) }
        var rules = self.rules[path] ?? []
        switch schema {
        case .duration(let range, let keywords): rules.append(Self.durationRule(range, keywords))
        case .object(let object): rules += object.alternatives.map(Self.rule)
        case .union(let union): rules += DefinitionUnion(union).rules
        default: break
        }
        if let message = self.fixed[path] {
            rules.append(DefinitionRule("self == oldSelf", message))
        }
        if !rules.isEmpty {
            entries.add("x-kubernetes-validations", .list(rules.map(\.tree)))
        }
        return .mapping(entries)
    }

    // MARK: Structure

    private func structure(of schema: Schema, path: String) -> [DefinitionTree.Entry] {
        switch schema {
        case .boolean: return [.init("type", .text("boolean"))]
        case .integer(let range): return Self.integer(range)
        case .decimal(let range): return Self.decimal(range)
        case .duration(_, let keywords): return Self.duration(keywords)
        case .bytes(let range): return Self.bytes(range)
        case .percent(let range):
            return Self.text(maxLength: 20, TextPattern.percent(range))
        case .text(let format): return Self.text(format)
        case .choice(let choices):
            return [
                .init("type", .text("string")), .init("enum", .texts(choices.map(\.name))),
            ]
        case .list(let element, let count, let unique):
            return self.list(element, count, unique, path: path)
        case .map(_, let values, let maxCount):
            return [
                .init("type", .text("object")), .init("minProperties", .integer(1)),
                .init("maxProperties", .integer(maxCount)),
                .init("additionalProperties", self.tree(of: values, "", path: path + ".*")),
            ]
        case .object(let object): return self.object(object.fields, path: path)
        case .union(let union):
            let union = DefinitionUnion(union)
            let hidden = union.hidden
            return self.object(union.fields, path: path, amounts: union.amounts)
                + (hidden.isEmpty ? [] : [.init("allOf", .list(hidden))])
        }
    }

    /// - Parameter amounts: fields that are a number, a duration or a percentage.
    func object(
        _ fields: [FieldSchema],
        path: String,
        amounts: [String: [Schema]] = [:]
    ) -> [DefinitionTree.Entry] {
        var entries: [DefinitionTree.Entry] = [.init("type", .text("object"))]
        let required = fields.filter { $0.presence == .required }.map(\.name)
        if !required.isEmpty { entries.add("required", .texts(required)) }
        let properties = fields.map { field in
            if let schemas = amounts[field.name] {
                let description = DefinitionTree.Entry("description", .text(field.documentation))
                let structure = [description] + DefinitionUnion.amount(schemas)
                return DefinitionTree.Entry(field.name, .mapping(structure))
            }
            let tree = self.tree(
                of: field.schema,
                field.documentation,
                path: "\(path).\(field.name)",
                standard: Self.standard(field)
            )
            return DefinitionTree.Entry(field.name, tree)
        }
        if !properties.isEmpty { entries.add("properties", .mapping(properties)) }
        return entries
    }

    private func list(
        _ element: Schema,
        _ count: ClosedRange<Int>,
        _ unique: Uniqueness,
        path: String
    ) -> [DefinitionTree.Entry] {
        var entries: [DefinitionTree.Entry] = [.init("type", .text("array"))]
        if count.lowerBound > 0 { entries.add("minItems", .integer(count.lowerBound)) }
        entries.add("maxItems", .integer(count.upperBound))
        switch unique {
        case .none: entries.add("x-kubernetes-list-type", .text("atomic"))
        case .value: entries.add("x-kubernetes-list-type", .text("set"))
        case .field(let name):
            entries.add("x-kubernetes-list-type", .text("map"))
            entries.add("x-kubernetes-list-map-keys", .texts([name]))
        }
        entries.add("items", self.tree(of: element, "", path: path + "[]"))
        return entries
    }

    private static func integer(_ range: ClosedRange<Int>) -> [DefinitionTree.Entry] {
        let isSmall = range.lowerBound >= Int(Int32.min) && range.upperBound <= Int(Int32.max)
        return [
            .init("type", .text("integer")), .init("format", .text(isSmall ? "int32" : "int64")),
            .init("minimum", .integer(range.lowerBound)),
            .init("maximum", .integer(range.upperBound)),
        ]
    }

    private static func text(_ format: TextFormat) -> [DefinitionTree.Entry] {
        let patterns = TextPattern.pattern(of: format).map { [$0] } ?? []
        var isEmptyAllowed = false
        if case .possiblyEmpty = format { isEmptyAllowed = true }
        return self.text(
            maxLength: format.maxBytes,
            patterns,
            minLength: isEmptyAllowed ? 0 : 1
        )
    }

    /// All patterns must match.
    private static func text(
        maxLength: Int,
        _ patterns: [String],
        minLength: Int = 0
    ) -> [DefinitionTree.Entry] {
        var entries: [DefinitionTree.Entry] = [.init("type", .text("string"))]
        if minLength > 0 { entries.add("minLength", .integer(minLength)) }
        entries.add("maxLength", .integer(maxLength))
        return entries + Self.patterns(patterns)
    }

    static func patterns(_ patterns: [String]) -> [DefinitionTree.Entry] {
        guard let first = patterns.first else { return [] }
        var entries: [DefinitionTree.Entry] = [.init("pattern", .text(first))]
        if patterns.count > 1 {
            let rest = patterns.dropFirst().map { pattern in
                DefinitionTree.mapping([.init("pattern", .text(pattern))])
            }
            entries.add("allOf", .list(rest))
        }
        return entries
    }

    static func duration(_ keywords: [DurationKeyword]) -> [DefinitionTree.Entry] {
        let choices = [TextPattern.duration] + keywords.map(\.rawValue)
        return self.text(maxLength: 64, ["^(\(choices.joined(separator: "|")))$"])
    }

    static func durationRule(
        _ range: ClosedRange<Duration>,
        _ keywords: [DurationKeyword]
    ) -> DefinitionRule {
        let words = keywords.map { "self == '\($0.rawValue)' || " }.joined()
        return DefinitionRule(
            words + DefinitionUnion.condition("self", range),
            "must be \(DefinitionUnion.bounds(range))"
        )
    }

    private static func bytes(_ range: ClosedRange<Int>) -> [DefinitionTree.Entry] {
        [
            .init("x-kubernetes-int-or-string", .truth(true)),
            .init("minimum", .integer(range.lowerBound)),
            .init("maximum", .integer(range.upperBound)), .init("maxLength", .integer(40)),
        ] + Self.patterns(TextPattern.bytes(range))
    }

    /// A whole number, or any other in quotes. A range without a whole number takes a fraction
    /// without quotes as well, which needs a field without a type: there is none for it that is
    /// not a float.
    private static func decimal(_ range: ClosedRange<Double>) -> [DefinitionTree.Entry] {
        let bounds = [range.lowerBound, range.upperBound].map(NumberText.format)
        var patterns = ["^\(DecimalPattern.form)$", "^\(DecimalPattern.atMost(bounds[1]))$"]
        if range.lowerBound > 0 { patterns.append("^\(DecimalPattern.atLeast(bounds[0]))$") }
        var entries: [DefinitionTree.Entry] = []
        if Schema.decimal(range).isFraction {
            entries.add("x-kubernetes-preserve-unknown-fields", .truth(true))
            entries.add("minimum", .literal(bounds[0]))
            entries.add("maximum", .literal(bounds[1]))
            entries.add("maxItems", .integer(0))
            entries.add("maxProperties", .integer(0))
            let others: [DefinitionTree] = [.truth(true), .truth(false), .list([]), .mapping([])]
            entries.add("not", .mapping([.init("enum", .list(others))]))
        } else {
            entries.add("x-kubernetes-int-or-string", .truth(true))
            entries.add("minimum", .integer(Int(range.lowerBound.rounded(.up))))
            entries.add("maximum", .integer(Int(range.upperBound.rounded(.down))))
        }
        entries.add("maxLength", .integer(40))
        return entries + Self.patterns(patterns)
    }

    // MARK: Defaults and rules

    /// What an absent field becomes; nil where it stays absent.
    static func standard(_ field: FieldSchema) -> DefinitionTree? {
        guard case .standard(let text) = field.presence else { return nil }
        if case .object = field.schema, text == "{}" { return .mapping([]) }
        guard let value = SchemaDefaults.value(of: field) else { return nil }
        return DefinitionTree(value)
    }

    private static func rule(_ alternative: Alternative) -> DefinitionRule {
        let given = alternative.fields.map { "has(self.\($0))" }.joined(separator: ", ")
        let names = Words.list(
            alternative.fields,
            conjunction: alternative.isRequired ? "or" : "and"
        )
        if alternative.isRequired {
            return DefinitionRule("[\(given)].exists_one(x, x)", "needs exactly one of \(names)")
        }
        return DefinitionRule(
            "[\(given)].filter(x, x).size() <= 1",
            "\(names) exclude each other: keep one of them"
        )
    }

    // MARK: Descriptions

    /// For `kubectl explain`, which shows no bounds.
    private static func description(_ schema: Schema, _ documentation: String) -> String {
        var text = documentation
        switch schema {
        case .choice(let choices):
            for choice in choices { text += " `\(choice.name)`: \(choice.documentation)" }
        case .integer(let range): text += " \(range.lowerBound) to \(range.upperBound)."
        case .decimal(let range):
            let bounds = [range.lowerBound, range.upperBound].map(NumberText.format)
            text += " A number, \(bounds[0]) to \(bounds[1])"
            text += schema.isFraction ? "." : "; one with a fraction stands in quotes."
        case .duration(let range, let keywords):
            text += " A duration such as `250ms`, `30s`, `5m` or `1h30m`"
            for keyword in keywords { text += ", or `\(keyword.rawValue)` (in quotes)" }
            text += "; \(DefinitionUnion.bounds(range))."
        case .bytes: text += " A size such as `64KiB` or `1MiB`, or a number of bytes."
        case .percent(let range):
            text += " A percentage in quotes, \(range.lowerBound) to \(range.upperBound)."
        case .union(let union):
            text += " \(union.documentation)"
        default: break
        }
        return text.trimmed
    }
}

extension DefinitionTree {
    /// A value as a file would have it.
    init(_ value: Value) {
        switch value {
        case .boolean(let value): self = .truth(value)
        case .integer(let value): self = .integer(value)
        case .decimal(let value): self = .text(NumberText.format(value))
        case .duration(.automatic): self = .text("auto")
        case .duration(.off): self = .text("off")
        case .duration(.fixed(let duration)): self = .text(DurationText.format(duration))
        case .bytes(let size): self = .text(SizeText.format(size))
        case .percent(let percent): self = .text("\(percent)")
        case .text(let text): self = .text(text)
        case .list(let elements): self = .list(elements.map { DefinitionTree($0.value) })
        case .map(let entries):
            self = .mapping(entries.map { .init($0.key, DefinitionTree($0.value.value)) })
        case .record(let record):
            let fields = record.fields.sorted { $0.key < $1.key }
            self = .mapping(fields.map { .init($0.key, DefinitionTree($0.value.value)) })
        }
    }
}

extension String {
    /// Without spaces at its ends.
    fileprivate var trimmed: String {
        String(self.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
