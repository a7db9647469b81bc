/// The reference documentation of all resources, made from their schemas.
package enum ConfigurationReference {
    /// Markdown for `docs/reference/configuration.md`.
    package static func markdown() -> String {
        var text = """
            # Configuration reference

            <!-- Made from the schemas in Sources/Configuration; a test checks that it is current.
            -->

            A configuration is one or more YAML files, each of one or more documents. Every document
            has `apiVersion: \(Schemas.apiVersion)`, a `kind`, `metadata` and a `spec`. Relative
            paths start from the folder of the file they stand in. `weir check -c FILE` finds every
            mistake.

            Durations are written `250ms`, `30s`, `5m`, `1h30m`; sizes `64KiB`, `1MiB`, `10M` or a
            number of bytes; percentages `"5%"`. A field that is not marked *required* may be left
            out: the column *default* says what that means, and `–` that the feature is off or
            unbounded.

            ## Metadata


            """
        text += Self.table(Schemas.metadata.fields)
        for kind in ResourceKind.allCases {
            let schema = Schemas.schema(of: kind)
            text += "\n## \(kind.rawValue)\n\n\(Self.wrapped(schema.documentation))\n"
            text += Self.sections(schema.spec, path: "spec")
        }
        return text
    }

    /// A table of an object's fields, and a section for every object in it.
    private static func sections(_ object: ObjectSchema, path: String) -> String {
        var text = "\n### `\(path)`\n\n" + Self.alternatives(object) + Self.table(object.fields)
        for field in object.fields {
            text += Self.sections(field.schema, path: "\(path).\(field.name)", field.documentation)
        }
        return text
    }

    private static func sections(_ schema: Schema, path: String, _ documentation: String) -> String
    {
        switch schema {
        case .object(let object): return Self.sections(object, path: path)
        case .list(let element, _, _):
            return Self.sections(element, path: path + "[]", documentation)
        case .union(let union): return Self.section(union, path: path)
        case .choice(let choices):
            let lines = choices.map { "* `\($0.name)`: \($0.documentation)\n" }.joined()
            return "\n`\(path)` is one of:\n\n\(lines)"
        case .boolean, .integer, .decimal, .duration, .bytes, .percent, .text, .map: return ""
        }
    }

    private static func section(_ union: UnionSchema, path: String) -> String {
        var text =
            "\n### `\(path)`\n\nThe field `\(union.discriminator)` decides which others there are. "
        text += "\(union.documentation)\n"
        for unionCase in union.cases {
            text +=
                "\n#### `\(union.discriminator): \(unionCase.name)`\n\n\(unionCase.documentation)\n"
            guard !unionCase.object.fields.isEmpty else { continue }
            text += "\n" + Self.alternatives(unionCase.object) + Self.table(unionCase.object.fields)
        }
        return text
    }

    private static func alternatives(_ object: ObjectSchema) -> String {
        object.alternatives.map { alternative in
            let names = Words.list(alternative.fields, conjunction: "and")
            return "\(alternative.isRequired ? "Exactly" : "At most") one of \(names).\n\n"
        }.joined()
    }

    private static func table(_ fields: [FieldSchema]) -> String {
        var text = "| field | type | default | meaning |\n|---|---|---|---|\n"
        for field in fields {
            let restart = field.change == .restart ? " *Needs a restart.*" : ""
            let cells = [
                "`\(field.name)`", Self.type(field.schema), Self.standard(field),
                Self.escaped(field.documentation) + restart,
            ]
            text += "| \(cells.joined(separator: " | ")) |\n"
        }
        return text
    }

    private static func standard(_ field: FieldSchema) -> String {
        switch field.presence {
        case .required: return "*required*"
        case .optional: return "–"
        case .standard("{}"): return ""
        case .standard(let text): return "`\(Self.escaped(text))`"
        }
    }

    private static func type(_ schema: Schema) -> String {
        switch schema {
        case .boolean: return "`true` or `false`"
        case .integer(let range): return "number, \(range.lowerBound) to \(range.upperBound)"
        case .decimal(let range):
            let bounds = [range.lowerBound, range.upperBound].map(NumberText.format)
            return "number, \(bounds[0]) to \(bounds[1])"
        case .duration(let range, let keywords):
            let bounds = [range.lowerBound, range.upperBound].map(DurationText.format)
            let words = keywords.map { ", or `\($0.rawValue)`" }.joined()
            return "duration, \(bounds[0]) to \(bounds[1])\(words)"
        case .bytes(let range):
            return
                "size, \(SizeText.format(range.lowerBound)) to \(SizeText.format(range.upperBound))"
        case .percent(let range): return "percentage, \(range.lowerBound) to \(range.upperBound)"
        case .text(let format): return Self.withoutArticle(format.typeName)
        case .choice(let choices): return choices.map { "`\($0.name)`" }.joined(separator: ", ")
        case .list(let element, let count, _):
            return "list of \(count.lowerBound) to \(count.upperBound): \(Self.type(element))"
        case .map(_, let values, let maxCount):
            return "mapping of at most \(maxCount) names: \(Self.type(values))"
        case .object, .union: return "object, see below"
        }
    }

    private static func withoutArticle(_ text: String) -> String {
        text.hasPrefix("a ")
            ? String(text.dropFirst(2))
            : text.hasPrefix("an ")
                ? String(text.dropFirst(3)) : text
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("|", with: "\\|").replacing("\n", with: " ")
    }

    private static func wrapped(_ text: String, width: Int = 100) -> String {
        var lines: [String] = [""]
        for word in text.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
            let last = lines.count - 1
            if lines[last].isEmpty {
                lines[last] = String(word)
            } else if lines[last].count + 1 + word.count <= width {
                lines[last] += " \(word)"
            } else {
                lines.append(String(word))
            }
        }
        return lines.joined(separator: "\n")
    }
}
