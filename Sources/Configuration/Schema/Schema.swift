/// The shape of a value: its type, its bounds and what it means, as data.
///
/// One tree per kind of resource (`Schemas`) drives reading, checking, defaults and the reference
/// documentation; definitions for a cluster can be generated from the same trees. What spans
/// several fields or resources (a weight's variant must exist) is in the checkers, not here.
package indirect enum Schema: Sendable, Equatable {
    case boolean
    case integer(ClosedRange<Int>)
    /// A number with a fraction, written as a number or in quotes.
    case decimal(ClosedRange<Double>)
    /// `keywords` may stand instead of a duration.
    case duration(ClosedRange<Duration>, keywords: [DurationKeyword])
    case bytes(ClosedRange<Int>)
    case percent(ClosedRange<Percent>)
    case text(TextFormat)
    case choice([Choice])
    case list(of: Schema, count: ClosedRange<Int>, unique: Uniqueness)
    /// Keys are names that the user chooses.
    case map(keys: TextFormat, values: Schema, maxCount: Int)
    case object(ObjectSchema)
    case union(UnionSchema)
}

package enum DurationKeyword: String, Sendable {
    case auto
    case off
}

/// One value of an enumeration, and what it means.
package struct Choice: Sendable, Equatable {
    package var name: String
    package var documentation: String

    package init(_ name: String, _ documentation: String) {
        self.name = name
        self.documentation = documentation
    }
}

/// What tells the elements of a list apart.
package enum Uniqueness: Sendable, Equatable {
    case none
    /// Equal texts are duplicates.
    case value
    /// Equal texts in this field are duplicates.
    case field(String)
}

/// An object with named fields; any other field is a mistake.
package struct ObjectSchema: Sendable, Equatable {
    package var fields: [FieldSchema]
    package var alternatives: [Alternative]

    package init(_ fields: [FieldSchema], alternatives: [Alternative] = []) {
        self.fields = fields
        self.alternatives = alternatives
    }

    package func field(_ name: String) -> FieldSchema? {
        self.fields.first { $0.name == name }
    }
}

/// Fields that exclude each other.
package struct Alternative: Sendable, Equatable {
    package var fields: [String]
    /// Whether one of them must be there.
    package var isRequired: Bool

    package static func exactlyOne(_ fields: String...) -> Alternative {
        Alternative(fields: fields, isRequired: true)
    }

    package static func atMostOne(_ fields: String...) -> Alternative {
        Alternative(fields: fields, isRequired: false)
    }
}

/// An object whose fields depend on the value of one of them.
package struct UnionSchema: Sendable, Equatable {
    /// The field that decides.
    package var discriminator: String
    package var documentation: String
    package var cases: [UnionCase]

    package func `case`(named name: String) -> UnionCase? {
        self.cases.first { $0.name == name }
    }
}

package struct UnionCase: Sendable, Equatable {
    package var name: String
    package var documentation: String
    /// The fields besides the discriminator.
    package var object: ObjectSchema
}

package struct FieldSchema: Sendable, Equatable {
    package var name: String
    package var schema: Schema
    package var presence: Presence
    package var documentation: String
    package var change: ChangeEffect

    package enum Presence: Sendable, Equatable {
        case required
        /// Absent means that the feature is off or unbounded.
        case optional
        /// What an absent field means, as it would be written in a file.
        case standard(String)
    }
}

/// What a running Weir can do about a changed field.
package enum ChangeEffect: Sendable, Equatable {
    case live
    case restart
}

/// The schema of one kind of resource.
package struct ResourceSchema: Sendable, Equatable {
    package var kind: ResourceKind
    package var documentation: String
    package var spec: ObjectSchema
    /// Whether a resource may leave out `spec`.
    package var isSpecOptional: Bool
}

func field(
    _ name: String,
    _ schema: Schema,
    _ presence: FieldSchema.Presence,
    _ documentation: String,
    change: ChangeEffect = .live
) -> FieldSchema {
    FieldSchema(
        name: name,
        schema: schema,
        presence: presence,
        documentation: documentation,
        change: change
    )
}

extension Schema {
    static func duration(_ range: ClosedRange<Duration>) -> Schema {
        .duration(range, keywords: [])
    }

    static func object(_ fields: [FieldSchema], _ alternatives: [Alternative] = []) -> Schema {
        .object(ObjectSchema(fields, alternatives: alternatives))
    }

    static func list(
        _ element: Schema,
        _ count: ClosedRange<Int>,
        unique: Uniqueness = .none
    ) -> Schema {
        .list(of: element, count: count, unique: unique)
    }

    /// A word for people: what the field wants.
    package var typeName: String {
        switch self {
        case .boolean: "true or false"
        case .integer: "a whole number"
        case .decimal: "a number"
        case .duration: "a duration"
        case .bytes: "a size"
        case .percent: "a percentage"
        case .text(let format): format.typeName
        case .choice: "one of a few words"
        case .list: "a list"
        case .map, .object, .union: "a mapping"
        }
    }
}
