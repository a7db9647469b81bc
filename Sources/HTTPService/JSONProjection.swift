/// Which members of a document are read; the others are skipped without being built.
///
/// Arrays are looked through: a path goes on in each of their elements.
package indirect enum JSONProjection: Sendable, Hashable {
    case everything
    /// Only the members named, each with what is kept inside.
    case only([String: JSONProjection])
    /// All but the members named; what is given for a name is kept of it, nil for nothing.
    case allBut([String: JSONProjection?])

    /// Keeps exactly the members at these paths, such as `status.phase`. A part in brackets is
    /// taken as it stands: `metadata.annotations[example.com/key]`.
    package static func paths(_ paths: [String]) -> JSONProjection {
        JSONProjection.only([:]).adding(paths)
    }

    /// The same, and what is at these paths. Only for what names what it keeps.
    package func adding(_ paths: [String]) -> JSONProjection {
        paths.reduce(self) { $0.adding(Self.parts(of: $1)[...]) }
    }

    /// What is kept of a member, nil where it is left out.
    package func inside(_ name: String) -> JSONProjection? {
        switch self {
        case .everything: .everything
        case .only(let members): members[name]
        case .allBut(let members):
            if let rule = members[name] { rule } else { .everything }
        }
    }

    private func adding(_ parts: ArraySlice<String>) -> JSONProjection {
        guard let first = parts.first else { return .everything }
        guard case .only(var members) = self else { return self }
        members[first] = (members[first] ?? .only([:])).adding(parts.dropFirst())
        return .only(members)
    }

    private static func parts(of path: String) -> [String] {
        var parts: [String] = []
        var current = ""
        var isBracketed = false
        for character in path {
            switch character {
            case "[", "]":
                isBracketed = character == "["
                if !current.isEmpty { parts.append(current) }
                current = ""
            case "." where !isBracketed:
                if !current.isEmpty { parts.append(current) }
                current = ""
            default: current.append(character)
            }
        }
        return current.isEmpty ? parts : parts + [current]
    }
}
