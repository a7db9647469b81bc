/// Where a value sits in its resource: `spec.variants[1].name`.
package struct ConfigurationPath: Sendable, Hashable, CustomStringConvertible {
    package enum Component: Sendable, Hashable {
        case field(String)
        case index(Int)
    }

    package var components: [Component]

    package init(_ components: [Component] = []) {
        self.components = components
    }

    /// Fields given by name: `ConfigurationPath("spec", "live")`.
    package init(_ fields: String...) {
        self.components = fields.map(Component.field)
    }

    package func field(_ name: String) -> ConfigurationPath {
        ConfigurationPath(self.components + [.field(name)])
    }

    package func index(_ index: Int) -> ConfigurationPath {
        ConfigurationPath(self.components + [.index(index)])
    }

    package var isEmpty: Bool { self.components.isEmpty }

    package var description: String {
        var text = ""
        for component in self.components {
            switch component {
            case .index(let index): text += "[\(index)]"
            case .field(let name):
                let isPlain = name.utf8.allSatisfy {
                    HostText.isDigit($0) || HostText.isLetter($0) || $0 == UInt8(ascii: "-")
                        || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "/")
                }
                if isPlain && !name.isEmpty {
                    text += text.isEmpty ? name : ".\(name)"
                } else {
                    text += "[\"\(Excerpt.of(name))\"]"
                }
            }
        }
        return text
    }
}
