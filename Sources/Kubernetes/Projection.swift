/// Which members of a document are read; the others are skipped without being built.
///
/// Arrays are looked through: a path goes on in each of their elements.
package indirect enum Projection: Sendable, Hashable {
    case everything
    /// Only the members named, each with what is kept inside.
    case only([String: Projection])
    /// All but the members named; what is given for a name is kept of it, nil for nothing.
    case allBut([String: Projection?])

    /// Everything but `metadata.managedFields` and the last applied manifest, which nobody here
    /// reads and which make up half of most objects.
    package static let withoutBookkeeping: Projection = .allBut([
        "metadata": .some(
            .allBut([
                "managedFields": .none,
                "annotations": .some(
                    .allBut(["kubectl.kubernetes.io/last-applied-configuration": .none])
                ),
            ])
        )
    ])

    /// Keeps exactly the members at these paths, such as `status.phase`. A part in brackets is
    /// taken as it stands: `metadata.annotations[example.com/key]`.
    package static func paths(_ paths: [String]) -> Projection {
        Projection.only([:]).adding(paths)
    }

    /// The same, and what is at these paths. Only for what names what it keeps.
    func adding(_ paths: [String]) -> Projection {
        paths.reduce(self) { $0.adding(Self.parts(of: $1)[...]) }
    }

    /// What is kept of a member, nil where it is left out.
    func inside(_ name: String) -> Projection? {
        switch self {
        case .everything: .everything
        case .only(let members): members[name]
        case .allBut(let members):
            if let rule = members[name] { rule } else { .everything }
        }
    }

    private func adding(_ parts: ArraySlice<String>) -> Projection {
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
