/// A YAML node with where it stands, aliases resolved and mappings with text keys only.
indirect enum SourceNode: Equatable {
    case scalar(text: String, isPlain: Bool, Position)
    case sequence([SourceNode], Position)
    case mapping([Entry], Position)
    /// What could not be read; the problem has been reported.
    case broken(Position)

    struct Entry: Equatable {
        var key: String
        var keyPosition: Position
        var value: SourceNode
    }

    var position: Position {
        switch self {
        case .scalar(_, _, let position), .sequence(_, let position), .mapping(_, let position),
            .broken(let position):
            position
        }
    }

    var isBroken: Bool {
        if case .broken = self { true } else { false }
    }

    /// An empty value, `~` or `null`, which mean the same as an absent field.
    var isNull: Bool {
        guard case .scalar(let text, let isPlain, _) = self else { return false }
        return PlainScalar(text, isPlain: isPlain) == .null
    }

    var typeName: String {
        switch self {
        case .scalar(let text, let isPlain, _): PlainScalar(text, isPlain: isPlain).typeName
        case .sequence: "a list"
        case .mapping: "a mapping"
        case .broken: "something unreadable"
        }
    }
}
