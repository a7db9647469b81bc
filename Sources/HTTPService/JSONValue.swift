/// A JSON document in memory. Members of objects keep their order; integers are exact.
package indirect enum JSONValue: Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([Member])

    package struct Member: Sendable, Equatable {
        package var name: String
        package var value: JSONValue

        package init(_ name: String, _ value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    // MARK: Looking inside

    /// A member, or null where there is none. Setting null keeps a member of that value; see
    /// `remove`.
    package subscript(_ name: String) -> JSONValue {
        get {
            guard case .object(let members) = self else { return .null }
            return members.first { $0.name == name }?.value ?? .null
        }
        set {
            var members = self.members
            if let index = members.firstIndex(where: { $0.name == name }) {
                members[index].value = newValue
            } else {
                members.append(Member(name, newValue))
            }
            self = .object(members)
        }
    }

    /// An element of an array, or null where there is none.
    package subscript(_ index: Int) -> JSONValue {
        self.elements.indices.contains(index) ? self.elements[index] : .null
    }

    /// What lies at the end of a path of member names.
    package subscript(path names: [String]) -> JSONValue {
        names.reduce(self) { $0[$1] }
    }

    /// Takes a member away, if it is there.
    package mutating func remove(_ name: String) {
        guard case .object(var members) = self else { return }
        members.removeAll { $0.name == name }
        self = .object(members)
    }

    /// The elements of an array; none of anything else.
    package var elements: [JSONValue] {
        if case .array(let elements) = self { elements } else { [] }
    }

    /// The members of an object; none of anything else.
    package var members: [Member] {
        if case .object(let members) = self { members } else { [] }
    }

    package var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    /// A whole number, also where it is written with a fraction of zero.
    package var integer: Int? {
        switch self {
        case .integer(let value): value
        case .number(let value): Int(exactly: value)
        default: nil
        }
    }

    package var number: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    package var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    package var isNull: Bool {
        if case .null = self { true } else { false }
    }

    /// The members whose values are strings, as labels and annotations are.
    package var strings: [String: String] {
        var result: [String: String] = [:]
        for member in self.members {
            if case .string(let value) = member.value { result[member.name] = value }
        }
        return result
    }

    // MARK: Merging

    /// Applies a merge patch (RFC 7396): null removes, objects merge, anything else replaces.
    package func merged(with patch: JSONValue) -> JSONValue {
        guard case .object(let changes) = patch else { return patch }
        var result: JSONValue = .object(self.members)
        for change in changes {
            if change.value.isNull {
                result.remove(change.name)
            } else {
                result[change.name] = result[change.name].merged(with: change.value)
            }
        }
        return result
    }
}

/// Objects are equal whatever the order of their members, and 1 is 1.0.
extension JSONValue: Equatable {
    package static func == (left: JSONValue, right: JSONValue) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.string(let left), .string(let right)): left == right
        case (.array(let left), .array(let right)): left == right
        case (.integer(let left), .integer(let right)): left == right
        case (.integer, .number), (.number, .integer), (.number, .number):
            left.number == right.number
        case (.object(let left), .object(let right)): self.areEqual(left, right)
        default: false
        }
    }

    private static func areEqual(_ left: [Member], _ right: [Member]) -> Bool {
        guard left.count == right.count else { return false }
        // The common case, and the only one in which a name that occurs twice is equal to itself.
        if zip(left, right).allSatisfy({ $0.name == $1.name && $0.value == $1.value }) {
            return true
        }
        let others = Dictionary(right.map { ($0.name, $0.value) }) { first, _ in first }
        return left.allSatisfy { others[$0.name] == $0.value }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByFloatLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(floatLiteral value: Double) { self = .number(value) }
    package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    package init(nilLiteral: ()) { self = .null }

    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(elements.map { Member($0.0, $0.1) })
    }

    /// An object of strings, sorted by name.
    package init(_ strings: [String: String]) {
        self = .object(
            strings.sorted { $0.key < $1.key }.map { Member($0.key, .string($0.value)) }
        )
    }
}
