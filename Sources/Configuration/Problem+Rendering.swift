extension Problem {
    /// `file:line:column: error: path: message`, the source line with a caret, and the hint.
    ///
    /// - Parameter colour: with ANSI sequences; only for a terminal that wants them.
    package func rendered(colour: Bool = false) -> String {
        let paint = Paint(isOn: colour)
        var place = Excerpt.of(self.file, limit: 4_096)
        if let position { place += ":\(position.line):\(position.column)" }
        let subject = self.path.isEmpty ? "" : "\(self.path): "
        let label = paint(self.severity.rawValue, self.severity == .error ? "1;31" : "1;33")
        var text = "\(paint(place, "1")): \(label): \(paint(subject + self.message, "1"))\n"
        if let snippet = self.snippet(paint) { text += snippet }
        if let hint { text += "  \(paint("hint", "1;36")): \(hint)\n" }
        return text
    }

    /// Problems one after the other, as `weir check` prints them.
    package static func render(_ problems: [Problem], colour: Bool = false) -> String {
        problems.map { $0.rendered(colour: colour) }.joined(separator: "\n")
    }

    /// Columns of a line that are shown around the caret.
    private static let maxLineColumns = 120

    private func snippet(_ paint: Paint) -> String? {
        guard let position, let sourceLine else { return nil }
        let scalars = Array(sourceLine.unicodeScalars)
        // A long line is cut around the caret, which may stand one past its end.
        let caret = min(position.column - 1, scalars.count)
        let first = max(
            0,
            min(caret - Self.maxLineColumns / 2, scalars.count - Self.maxLineColumns)
        )
        let last = min(scalars.count, first + Self.maxLineColumns)
        var line = ""
        var pad = ""
        for index in first..<last {
            let scalar = scalars[index]
            // Tabs stay, so that the caret lines up; other control characters must not reach a
            // terminal.
            let isControl = scalar.value < 0x20 || scalar.value == 0x7F
            line.unicodeScalars.append(isControl && scalar != "\t" ? "·" : scalar)
            if index < caret { pad += scalar == "\t" ? "\t" : " " }
        }
        let number = String(position.line)
        let gutter = String(repeating: " ", count: number.count)
        return "  \(number) | \(line)\n  \(gutter) | \(pad)\(paint("^", "1;32"))\n"
    }

    private struct Paint {
        var isOn: Bool

        func callAsFunction(_ text: String, _ code: String) -> String {
            self.isOn ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
        }
    }
}

extension Problem {
    /// `{"severity":…,"file":…,"line":…,"column":…,"path":…,"message":…,"hint":…}`; what is not
    /// known is null.
    package var json: String {
        let members: [(String, String)] = [
            ("severity", JSONText.string(self.severity.rawValue)),
            ("file", JSONText.string(self.file)),
            ("line", self.position.map { String($0.line) } ?? "null"),
            ("column", self.position.map { String($0.column) } ?? "null"),
            ("path", JSONText.string(self.path.description)),
            ("message", JSONText.string(self.message)),
            ("hint", self.hint.map(JSONText.string) ?? "null"),
        ]
        return "{" + members.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
    }

    /// A JSON array of problems.
    package static func json(_ problems: [Problem]) -> String {
        "[" + problems.map(\.json).joined(separator: ",\n ") + "]\n"
    }
}

/// JSON strings (RFC 8259 7).
enum JSONText {
    static func string(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
