import Core

/// An object whose fields depend on one of them, as one object with the fields of all cases and
/// rules about which belong to which.
struct DefinitionUnion {
    private let union: UnionSchema

    init(_ union: UnionSchema) {
        self.union = union
    }

    private var names: [String] {
        var names: [String] = []
        for unionCase in self.union.cases {
            for field in unionCase.object.fields where !names.contains(field.name) {
                names.append(field.name)
            }
        }
        return names
    }

    /// The cases that have a field, with it.
    private func owners(of name: String) -> [(unionCase: String, field: FieldSchema)] {
        self.union.cases.compactMap { unionCase in
            unionCase.object.field(name).map { (unionCase.name, $0) }
        }
    }

    // MARK: Fields

    var fields: [FieldSchema] {
        let choices = self.union.cases.map { Choice($0.name, $0.documentation) }
        let discriminator = FieldSchema(
            name: self.union.discriminator,
            schema: .choice(choices),
            presence: .required,
            documentation: self.union.documentation,
            change: .live
        )
        return [discriminator] + self.names.compactMap(self.merged)
    }

    private func merged(_ name: String) -> FieldSchema? {
        let owners = self.owners(of: name)
        guard var field = owners.first?.field else { return nil }
        let isEverywhere = owners.count == self.union.cases.count
        let presences = owners.map(\.field.presence)
        // A default would appear in the cases that do not know the field.
        if !isEverywhere || presences.contains(where: { $0 != field.presence }) {
            field.presence = .optional
        }
        let documentations = owners.map(\.field.documentation)
        field.documentation = documentations.dropFirst().reduce(documentations[0]) { text, next in
            text.contains(next) ? text : "\(text) \(next)"
        }
        if !isEverywhere {
            let cases = Words.list(owners.map(\.unionCase), conjunction: "and", limit: 20)
            field.documentation += " For \(cases)."
        }
        field.schema = Self.merged(owners.map(\.field.schema))
        return field
    }

    /// What any of the cases takes; `rules` narrow it down. The first schema stands in where they
    /// have no type in common (`amounts`).
    private static func merged(_ schemas: [Schema]) -> Schema {
        guard let first = schemas.first else { preconditionFailure("a field without an owner") }
        if schemas.allSatisfy({ $0 == first }) { return first }
        var widest = Percent.zero
        for schema in schemas {
            guard case .percent(let range) = schema else { return first }
            widest = max(widest, range.upperBound)
        }
        return .percent(.zero...widest)
    }

    /// Fields that are a number, a duration or a percentage, by case: what they may be.
    var amounts: [String: [Schema]] {
        var amounts: [String: [Schema]] = [:]
        for name in self.names {
            var schemas: [Schema] = []
            for owner in self.owners(of: name) where !schemas.contains(owner.field.schema) {
                schemas.append(owner.field.schema)
            }
            let isMixed = schemas.contains { schema in
                if case .percent = schema { false } else { true }
            }
            if schemas.count > 1, isMixed { amounts[name] = schemas }
        }
        return amounts
    }

    /// The structure of a field that has one of several types without a name in common.
    static func amount(_ schemas: [Schema]) -> [DefinitionTree.Entry] {
        var forms: [String] = []
        var bounds: [String] = []
        var entries: [DefinitionTree.Entry] = [
            .init("x-kubernetes-int-or-string", .truth(true))
        ]
        for schema in schemas {
            switch schema {
            case .decimal(let range):
                let ends = [range.lowerBound, range.upperBound].map(NumberText.format)
                forms.append(DecimalPattern.form)
                bounds.append("^\(DecimalPattern.atMost(ends[1]))$|[a-z%]$")
                if range.lowerBound > 0 {
                    bounds.append("^\(DecimalPattern.atLeast(ends[0]))$|[a-z%]$")
                }
                entries.add("minimum", .integer(Int(range.lowerBound.rounded(.up))))
                entries.add("maximum", .integer(Int(range.upperBound.rounded(.down))))
            case .percent(let range):
                forms.append("[0-9]+(\\.[0-9]{1,4}0*)?%")
                bounds.append(TextPattern.percent(range)[1] + "|[^%]$")
            case .duration: forms.append(TextPattern.duration)
            default: preconditionFailure("no amount: \(schema.typeName)")
            }
        }
        entries.add("maxLength", .integer(64))
        let form = "^(\(forms.joined(separator: "|")))$"
        return entries + DefinitionSchema.patterns([form] + bounds)
    }

    // MARK: Rules

    var rules: [DefinitionRule] {
        self.names.flatMap { self.belonging($0) + self.values($0) }
            + self.union.cases.flatMap(self.alternatives)
    }

    private func belonging(_ name: String) -> [DefinitionRule] {
        let owners = self.owners(of: name)
        var rules: [DefinitionRule] = []
        // No rule sees a field without a type: see `hidden`.
        if self.isHidden(name) { return [] }
        if owners.count < self.union.cases.count {
            let cases = Words.list(owners.map(\.unionCase), conjunction: "and", limit: 20)
            rules.append(
                DefinitionRule(
                    "!has(self.\(name)) || \(self.isOne(of: owners.map(\.unionCase)))",
                    "`\(name)` is for \(cases)",
                    field: name
                )
            )
        }
        let requiring = owners.filter { $0.field.presence == .required }.map(\.unionCase)
        if !requiring.isEmpty, requiring.count < self.union.cases.count {
            rules.append(
                DefinitionRule(
                    "has(self.\(name)) || !(\(self.isOne(of: requiring)))",
                    "`\(name)` is missing",
                    field: name
                )
            )
        }
        return rules
    }

    private func isHidden(_ name: String) -> Bool {
        self.owners(of: name).contains { $0.field.schema.isFraction }
    }

    /// Which cases fields without a type belong to, as a schema: `allOf` of the object.
    var hidden: [DefinitionTree] {
        self.names.filter(self.isHidden).map { name in
            let owners = self.owners(of: name)
            precondition(
                owners.allSatisfy { $0.field.presence != .required },
                "a required field without a type"
            )
            let cases: DefinitionTree = .mapping([
                .init("enum", .texts(owners.map(\.unionCase)))
            ])
            let discriminator: DefinitionTree = .mapping([.init(self.union.discriminator, cases)])
            let absent: DefinitionTree = .mapping([.init("required", .texts([name]))])
            return .mapping([
                .init(
                    "anyOf",
                    .list([
                        .mapping([.init("properties", discriminator)]),
                        .mapping([.init("not", absent)]),
                    ])
                )
            ])
        }
    }

    /// Where cases want different values of a field.
    private func values(_ name: String) -> [DefinitionRule] {
        let owners = self.owners(of: name)
        let schemas = owners.map(\.field.schema)
        guard let first = schemas.first, schemas.contains(where: { $0 != first }) else { return [] }
        // A case that takes all that the field's own schema takes needs no rule.
        let widest = self.amounts[name] == nil ? Self.merged(schemas) : nil
        var told: [Schema] = []
        var rules: [DefinitionRule] = []
        for schema in schemas where schema != widest && !told.contains(schema) {
            told.append(schema)
            let cases = owners.filter { $0.field.schema == schema }.map(\.unionCase)
            let (condition, meaning) = Self.condition(
                "self.\(name)",
                schema,
                isAmount: widest == nil
            )
            rules.append(
                DefinitionRule(
                    "!has(self.\(name)) || !(\(self.isOne(of: cases))) || (\(condition))",
                    "`\(name)` of \(Words.list(cases, conjunction: "and", limit: 20)) \(meaning)",
                    field: name
                )
            )
        }
        return rules
    }

    private func alternatives(_ unionCase: UnionCase) -> [DefinitionRule] {
        unionCase.object.alternatives.map { alternative in
            let given = alternative.fields.map { "has(self.\($0))" }.joined(separator: ", ")
            let count = "[\(given)].filter(x, x).size()"
            let names = Words.list(alternative.fields, conjunction: "or")
            let wanted = alternative.isRequired ? "\(count) == 1" : "\(count) <= 1"
            return DefinitionRule(
                "!(\(self.isOne(of: [unionCase.name]))) || \(wanted)",
                "`\(unionCase.name)` needs \(alternative.isRequired ? "exactly" : "at most") one "
                    + "of \(names)"
            )
        }
    }

    private func isOne(of names: [String]) -> String {
        let field = "self.\(self.union.discriminator)"
        if names.count == 1 { return "\(field) == '\(names[0])'" }
        return "\(field) in [\(names.map { "'\($0)'" }.joined(separator: ", "))]"
    }

    /// A condition on a field of no one type (`amounts`), or on one that is a wider percentage.
    private static func condition(
        _ value: String,
        _ schema: Schema,
        isAmount: Bool
    ) -> (String, String) {
        switch schema {
        case .decimal:
            // What its pattern allows and does not end in a unit is a number within the bounds.
            let isText = ["s", "m", "h", "%"].map { "\(value).endsWith('\($0)')" }
            return (
                "type(\(value)) == int || !(\(isText.joined(separator: " || ")))",
                "must be a number"
            )
        case .duration(let range, _):
            let isDuration =
                ["== '0'", ".endsWith('s')", ".endsWith('m')", ".endsWith('h')"]
                .map { $0.hasPrefix(".") ? value + $0 : "\(value) \($0)" }
            return (
                "type(\(value)) == string && (\(isDuration.joined(separator: " || "))) && "
                    + self.condition(value, range),
                "must be a duration, \(self.bounds(range))"
            )
        case .percent(let range):
            // Of an amount the field's own patterns hold the bounds.
            let pattern = TextPattern.percent(range)[1].replacing("\\", with: "\\\\")
            return (
                isAmount
                    ? "type(\(value)) == string && \(value).endsWith('%')"
                    : "\(value).matches('\(pattern)')",
                "must be a percentage, \(range.lowerBound) to \(range.upperBound)"
            )
        default: preconditionFailure("no rule for a \(schema.typeName) of a union")
        }
    }

    static func condition(_ value: String, _ range: ClosedRange<Duration>) -> String {
        let lower = DurationText.format(range.lowerBound)
        let upper = DurationText.format(range.upperBound)
        let most = "duration(\(value)) <= duration('\(upper)')"
        return range.lowerBound == .zero
            ? most : "duration(\(value)) >= duration('\(lower)') && \(most)"
    }

    static func bounds(_ range: ClosedRange<Duration>) -> String {
        let upper = DurationText.format(range.upperBound)
        return range.lowerBound == .zero
            ? "at most \(upper)" : "\(DurationText.format(range.lowerBound)) to \(upper)"
    }
}

extension Schema {
    /// A number between 0 and 1, without a whole number in its range.
    var isFraction: Bool {
        guard case .decimal(let range) = self else { return false }
        return range.lowerBound > 0 && range.upperBound < 1
    }
}
