/// A document of a cluster's: mappings in their order, lists, texts, and what is written bare.
indirect enum DefinitionTree: Sendable, Equatable {
    case text(String)
    /// A number or a truth value.
    case literal(String)
    case list([DefinitionTree])
    case mapping([Entry])

    struct Entry: Sendable, Equatable {
        var name: String
        var value: DefinitionTree

        init(_ name: String, _ value: DefinitionTree) {
            self.name = name
            self.value = value
        }
    }

    static func integer(_ value: Int) -> DefinitionTree { .literal(String(value)) }
    static func truth(_ value: Bool) -> DefinitionTree { .literal(value ? "true" : "false") }
    static func texts(_ texts: [String]) -> DefinitionTree { .list(texts.map { .text($0) }) }

    /// One document as YAML that every reader of YAML 1.1 or 1.2 understands alike.
    var yaml: String {
        var text = ""
        self.write(indentation: "", &text)
        return text
    }

    private func write(indentation: String, _ text: inout String) {
        switch self {
        case .mapping(let entries):
            for entry in entries {
                text += "\(indentation)\(Self.scalar(entry.name)):"
                entry.value.writeValue(indentation: indentation, &text)
            }
        case .list(let elements):
            for element in elements {
                text += "\(indentation)-"
                element.writeElement(indentation: indentation, &text)
            }
        case .text, .literal: text += "\(indentation)\(self.inline)\n"
        }
    }

    private func writeValue(indentation: String, _ text: inout String) {
        guard self.isBlock else {
            text += " \(self.inline)\n"
            return
        }
        text += "\n"
        // Elements of a list may stand below the first letter of its name.
        if case .list = self {
            self.write(indentation: indentation, &text)
        } else {
            self.write(indentation: indentation + "  ", &text)
        }
    }

    private func writeElement(indentation: String, _ text: inout String) {
        guard self.isBlock else {
            text += " \(self.inline)\n"
            return
        }
        // The first line of the element stands behind the dash.
        var inner = ""
        self.write(indentation: indentation + "  ", &inner)
        text += " " + inner.dropFirst(indentation.utf8.count + 2)
    }

    private var isBlock: Bool {
        switch self {
        case .mapping(let entries): !entries.isEmpty
        case .list(let elements): !elements.isEmpty
        case .text, .literal: false
        }
    }

    private var inline: String {
        switch self {
        case .text(let text): Self.scalar(text)
        case .literal(let text): text
        case .list: "[]"
        case .mapping: "{}"
        }
    }

    /// Without quotes where nobody could take it for anything but this text.
    private static func scalar(_ text: String) -> String {
        let isWord =
            text.utf8.allSatisfy {
                HostText.isLetter($0) || HostText.isDigit($0) || $0 == UInt8(ascii: "-")
                    || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "/")
            } && (text.utf8.first.map(HostText.isLetter) ?? false)
        let isAmbiguous = [
            "y", "n", "yes", "no", "on", "off", "true", "false", "null",
        ].contains(text.lowercased())
        return isWord && !isAmbiguous ? text : QuotedText.yaml(text)
    }
}

extension [DefinitionTree.Entry] {
    mutating func add(_ name: String, _ value: DefinitionTree) {
        self.append(DefinitionTree.Entry(name, value))
    }

    subscript(name: String) -> DefinitionTree? {
        self.first { $0.name == name }?.value
    }
}
