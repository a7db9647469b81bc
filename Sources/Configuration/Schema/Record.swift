/// Where something stands in a file; both count from 1, columns in Unicode scalars.
package struct Position: Sendable, Hashable, Comparable {
    package var line: Int
    package var column: Int

    package init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    package static func < (left: Position, right: Position) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}

/// A value that was checked against a `Schema` and has its defaults filled in.
package indirect enum Value: Sendable, Equatable {
    case boolean(Bool)
    case integer(Int)
    case decimal(Double)
    case duration(DurationSetting)
    case bytes(Int)
    case percent(Percent)
    case text(String)
    case list([Located])
    /// In the order of the file.
    case map([MapEntry])
    case record(Record)
}

/// A value with where it stands. Two are equal when their values are, wherever they stand.
package struct Located: Sendable, Equatable {
    package var value: Value
    /// Nil for a default.
    package var position: Position?

    package init(_ value: Value, at position: Position?) {
        self.value = value
        self.position = position
    }

    package static func == (left: Located, right: Located) -> Bool {
        left.value == right.value
    }
}

/// One entry of a map whose keys are names that the user chose.
package struct MapEntry: Sendable, Equatable {
    package var key: String
    package var keyPosition: Position?
    package var value: Located
    /// False where the value was wrong and `value` only stands in for it.
    package var isValid = true

    package static func == (left: MapEntry, right: MapEntry) -> Bool {
        left.key == right.key && left.value == right.value
    }
}

/// The fields of an object, by the names its schema gives them. Absent optional fields are absent.
///
/// The reading methods trap where the schema has no such field or another type: that is our bug,
/// and a test decodes every schema's defaults. A field that was wrong in the file holds its
/// default, or an empty value where it has none, so that the checks after it still see a whole
/// object.
package struct Record: Sendable, Equatable {
    package var fields: [String: Located]
    /// Where each given field's name stands.
    package var keyPositions: [String: Position]

    package init(fields: [String: Located] = [:], keyPositions: [String: Position] = [:]) {
        self.fields = fields
        self.keyPositions = keyPositions
    }

    package static func == (left: Record, right: Record) -> Bool {
        left.fields == right.fields
    }

    package func has(_ name: String) -> Bool { self.fields[name] != nil }

    package func boolean(_ name: String) -> Bool {
        switch self.fields[name]?.value {
        case .boolean(let value): value
        case nil: false
        default: self.mismatch(name)
        }
    }

    package func optionalInteger(_ name: String) -> Int? {
        switch self.fields[name]?.value {
        case .integer(let value): value
        case .bytes(let value): value
        case nil: nil
        default: self.mismatch(name)
        }
    }

    package func integer(_ name: String) -> Int { self.optionalInteger(name) ?? 0 }

    package func optionalDecimal(_ name: String) -> Double? {
        switch self.fields[name]?.value {
        case .decimal(let value): value
        case nil: nil
        default: self.mismatch(name)
        }
    }

    package func decimal(_ name: String) -> Double { self.optionalDecimal(name) ?? 0 }

    package func setting(_ name: String) -> DurationSetting {
        switch self.fields[name]?.value {
        case .duration(let value): value
        case nil: .fixed(.zero)
        default: self.mismatch(name)
        }
    }

    package func optionalDuration(_ name: String) -> Duration? {
        guard self.has(name) else { return nil }
        guard case .fixed(let duration) = self.setting(name) else { self.mismatch(name) }
        return duration
    }

    package func duration(_ name: String) -> Duration { self.optionalDuration(name) ?? .zero }

    package func optionalPercent(_ name: String) -> Percent? {
        switch self.fields[name]?.value {
        case .percent(let value): value
        case nil: nil
        default: self.mismatch(name)
        }
    }

    package func percent(_ name: String) -> Percent { self.optionalPercent(name) ?? .zero }

    package func optionalText(_ name: String) -> String? {
        switch self.fields[name]?.value {
        case .text(let value): value
        case nil: nil
        default: self.mismatch(name)
        }
    }

    package func text(_ name: String) -> String { self.optionalText(name) ?? "" }

    package func optionalRecord(_ name: String) -> Record? {
        switch self.fields[name]?.value {
        case .record(let value): value
        case nil: nil
        default: self.mismatch(name)
        }
    }

    package func record(_ name: String) -> Record { self.optionalRecord(name) ?? Record() }

    package func texts(_ name: String) -> [String] {
        self.elements(name).map { element in
            guard case .text(let text) = element.value else { self.mismatch(name) }
            return text
        }
    }

    package func records(_ name: String) -> [Record] {
        self.elements(name).map { element in
            guard case .record(let record) = element.value else { self.mismatch(name) }
            return record
        }
    }

    package func elements(_ name: String) -> [Located] {
        switch self.fields[name]?.value {
        case .list(let elements): elements
        case nil: []
        default: self.mismatch(name)
        }
    }

    package func entries(_ name: String) -> [MapEntry] {
        switch self.fields[name]?.value {
        case .map(let entries): entries
        case nil: []
        default: self.mismatch(name)
        }
    }

    /// A choice as our enum of the same spellings; the first case where the field was wrong.
    package func choice<Choice: RawRepresentable & CaseIterable>(
        _ name: String,
        as type: Choice.Type = Choice.self
    ) -> Choice where Choice.RawValue == String {
        if let choice = Choice(rawValue: self.text(name)) { return choice }
        guard let first = Choice.allCases.first else { self.mismatch(name) }
        return first
    }

    private func mismatch(_ name: String) -> Never {
        preconditionFailure("the schema gives `\(name)` another type than its reader expects")
    }
}
