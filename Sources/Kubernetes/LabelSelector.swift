/// Which objects are meant, by their labels, as a query or a Scale's `status.selector` writes it:
/// `app=chat,tier in (a, b),!old` (Kubernetes, "Labels and Selectors").
package struct LabelSelector: Sendable, Hashable {
    package enum Requirement: Sendable, Hashable {
        case isIn(String, Set<String>)
        /// Holds for objects without the label, too.
        case isNotIn(String, Set<String>)
        case exists(String)
        case isAbsent(String)
    }

    package var requirements: [Requirement]

    /// Parts at most; a Service has a handful.
    static let requirementsMax = 100

    package init(_ requirements: [Requirement]) {
        self.requirements = requirements
    }

    /// Nil where the text is no selector, or empty: that would mean everything.
    package init?(text: String) {
        var requirements: [Requirement] = []
        for part in Self.parts(of: text) {
            guard requirements.count < Self.requirementsMax,
                let requirement = Self.requirement(part)
            else { return nil }
            requirements.append(requirement)
        }
        if requirements.isEmpty { return nil }
        self.init(requirements)
    }

    package func matches(_ labels: [String: String]) -> Bool {
        self.requirements.allSatisfy { requirement in
            switch requirement {
            case .isIn(let key, let values): labels[key].map(values.contains) ?? false
            case .isNotIn(let key, let values): !(labels[key].map(values.contains) ?? false)
            case .exists(let key): labels[key] != nil
            case .isAbsent(let key): labels[key] == nil
            }
        }
    }

    // MARK: Reading

    /// Split at the commas outside of parentheses.
    private static func parts(of text: String) -> [Substring] {
        if text.allSatisfy(\.isWhitespace) { return [] }
        var parts: [Substring] = []
        var start = text.startIndex
        var depth = 0
        for index in text.indices {
            switch text[index] {
            case "(": depth += 1
            case ")": depth -= 1
            case "," where depth == 0:
                parts.append(text[start..<index])
                start = text.index(after: index)
            default: break
            }
        }
        return parts + [text[start...]]
    }

    private static func requirement(_ text: Substring) -> Requirement? {
        let part = self.trimmed(text)
        if let open = part.firstIndex(of: "(") { return self.set(part, open) }
        if let range = part.firstRange(of: "!=") {
            return self.pair(part, range).map { .isNotIn($0, [$1]) }
        }
        if let range = part.firstRange(of: "==") ?? part.firstRange(of: "=") {
            return self.pair(part, range).map { .isIn($0, [$1]) }
        }
        if part.first == "!" {
            let key = self.trimmed(part.dropFirst())
            return self.isKey(key) ? .isAbsent(key) : nil
        }
        return self.isKey(part) ? .exists(part) : nil
    }

    /// `key in (a, b)` or `key notin (a, b)`.
    private static func set(_ part: String, _ open: String.Index) -> Requirement? {
        let words = part[..<open].split(whereSeparator: \.isWhitespace)
        guard words.count == 2, part.last == ")", self.isKey(String(words[0])) else { return nil }
        let inside = part[part.index(after: open)...].dropLast()
        let values = inside.split(separator: ",", omittingEmptySubsequences: false)
            .map { self.trimmed($0) }
        guard values.allSatisfy(self.isValue) else { return nil }
        switch words[1] {
        case "in": return .isIn(String(words[0]), Set(values))
        case "notin": return .isNotIn(String(words[0]), Set(values))
        default: return nil
        }
    }

    private static func pair(_ part: String, _ range: Range<String.Index>) -> (String, String)? {
        let key = self.trimmed(part[..<range.lowerBound])
        let value = self.trimmed(part[range.upperBound...])
        return self.isKey(key) && self.isValue(value) ? (key, value) : nil
    }

    private static func isKey(_ text: String) -> Bool {
        !text.isEmpty && text.allSatisfy { self.isLetter($0) || $0 == "/" }
    }

    private static func isValue(_ text: String) -> Bool { text.allSatisfy(self.isLetter) }

    private static func isLetter(_ character: Character) -> Bool {
        character.isASCII
            && (character.isLetter || character.isNumber || "-_.".contains(character))
    }

    private static func trimmed(_ text: Substring) -> String {
        let start = text.drop { $0.isWhitespace }
        let end = start.reversed().drop { $0.isWhitespace }
        return String(String(end.reversed()))
    }
}
