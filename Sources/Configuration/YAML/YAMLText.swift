import Yams

/// Finds what YAML forbids in a text before a parser sees it, so that it gets a place.
///
/// YAML 1.1 has more line breaks than the line feed: a lone carriage return, U+0085, U+2028 and
/// U+2029. They are refused as well, although YAML allows them. Editors, and everything else that
/// counts lines here, go by line feeds: problems would point to other lines than people see, and a
/// comment could end where nobody sees it end.
enum TextCheck {
    struct Failure {
        var position: Position
        var message: String
        var hint: String?
    }

    static func failure(in text: String) -> Failure? {
        var line = 1
        var column = 1
        var followsReturn = false
        for scalar in text.unicodeScalars {
            if followsReturn, scalar != "\n" { return Self.loneReturn(line, column - 1) }
            if let problem = Self.problem(scalar) {
                return Failure(
                    position: Position(line: line, column: column),
                    message: problem.message,
                    hint: problem.hint
                )
            }
            followsReturn = scalar == "\r"
            if scalar == "\n" {
                line += 1
                column = 1
            } else {
                column += 1
            }
        }
        return followsReturn ? Self.loneReturn(line, column - 1) : nil
    }

    private static func loneReturn(_ line: Int, _ column: Int) -> Failure {
        Failure(
            position: Position(line: line, column: column),
            message: "a carriage return without a line feed",
            hint: "end lines with LF or CR LF"
        )
    }

    /// Whether a scalar may stand in a file as it is, not only as an escape.
    static func allows(_ scalar: Unicode.Scalar) -> Bool { self.problem(scalar) == nil }

    private static func problem(_ scalar: Unicode.Scalar) -> (message: String, hint: String?)? {
        switch scalar.value {
        case 0x85, 0x2028, 0x2029:
            let code = QuotedText.hexadecimal(scalar, digits: 4)
            return ("the line break U+\(code)", "use a line feed, or `\\u\(code)` in double quotes")
        case 0x09, 0x0A, 0x0D, 0x20...0x7E, 0xA0...0xD7FF, 0xE000...0xFEFE,
            0xFF00...0xFFFC, 0x10000..<YAMLReader.Marker.reserved.lowerBound:
            return nil
        case 0xFEFF:
            return ("a byte order mark in the middle", "remove it")
        case 0xFFFD:
            return ("not valid UTF-8", "save the file as UTF-8")
        default:
            let code = String(scalar.value, radix: 16, uppercase: true)
            return ("the character U+\(code) is not allowed in YAML", "remove it or escape it")
        }
    }
}

/// Text as a YAML scalar in double quotes.
enum QuotedText {
    /// Escapes what `TextCheck` would refuse, so that any text can be read again.
    static func yaml(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where TextCheck.allows(scalar): result.unicodeScalars.append(scalar)
            case _ where scalar.value <= 0xFFFF:
                result += "\\u" + self.hexadecimal(scalar, digits: 4)
            default: result += "\\U" + self.hexadecimal(scalar, digits: 8)
            }
        }
        return result + "\""
    }

    static func hexadecimal(_ scalar: Unicode.Scalar, digits: Int) -> String {
        let code = String(scalar.value, radix: 16)
        return String(repeating: "0", count: max(0, digits - code.count)) + code
    }
}

/// Puts `YAMLReader.Marker.alias` in place of every `*` that could begin an alias.
///
/// It does not know quotes or comments, so it also marks a few that begin none; the reader puts
/// those back. What matters is that it misses none.
enum AliasMarking {
    /// libyaml's: `a-z A-Z 0-9 _ -`.
    static func isNameByte(_ byte: UInt8) -> Bool {
        HostText.isLetter(byte) || HostText.isDigit(byte) || byte == UInt8(ascii: "_")
            || byte == UInt8(ascii: "-")
    }

    static func mark(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "*")) else { return text }
        var result = ""
        result.reserveCapacity(text.utf8.count)
        let scalars = Array(text.unicodeScalars)
        for (index, scalar) in scalars.enumerated() {
            let next = index + 1 < scalars.count ? scalars[index + 1] : "\n"
            // libyaml takes an alias wherever a token may begin, which may be right after a quote
            // or bracket; only the character after tells.
            let isAlias = scalar == "*" && next.isASCII && Self.isNameByte(UInt8(next.value))
            result.unicodeScalars.append(isAlias ? YAMLReader.Marker.alias : scalar)
        }
        return result
    }
}

extension NameText {
    /// Whether a character may begin a key and be replaced without changing how the line is parsed.
    static func isTokenScalar(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII
            && (HostText.isLetter(UInt8(scalar.value)) || HostText.isDigit(UInt8(scalar.value)))
    }
}

/// One line of a text, by its number from 1.
enum SourceText {
    /// Bytes of a line that a problem keeps.
    static let maxLineBytes = 2_000

    /// All lines, each of at most `maxLineBytes`.
    static func lines(of text: String) -> [String] {
        text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).map { line in
            let bytes = line.last == 0x0D ? line.dropLast() : line
            return String(decoding: bytes.prefix(Self.maxLineBytes), as: UTF8.self)
        }
    }

    static func line(_ number: Int, of text: String) -> String {
        var rest = text[...].utf8
        for _ in 1..<max(number, 1) {
            guard let end = rest.firstIndex(of: 0x0A) else { return "" }
            rest = rest[rest.index(after: end)...]
        }
        let end = rest.firstIndex { $0 == 0x0A || $0 == 0x0D } ?? rest.endIndex
        return String(decoding: rest[..<end].prefix(Self.maxLineBytes), as: UTF8.self)
    }
}

/// An error of Yams in our words.
struct YAMLFailure {
    var position: Position
    var message: String
    /// Set where parsing stopped at a key that its mapping has already.
    var duplicateKey: String?

    init(_ error: YamlError, text: String, lineOffset: Int) {
        func place(_ mark: Mark) -> Position {
            Position(line: mark.line + lineOffset, column: mark.column)
        }
        self.position = Position(line: lineOffset + 1, column: 1)
        switch error {
        case .scanner(let context, let problem, let mark, _),
            .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            self.position = place(mark)
            self.message = Self.sentence(context, problem, lineOffset)
        case .duplicatedKeysInMapping(let duplicates, let context):
            self.position = place(context.mark)
            self.message = "a key appears twice"
            self.duplicateKey = duplicates.first ?? ""
        case .reader(let problem, _, _, _): self.message = "not valid YAML: \(problem)"
        case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
            self.message = "not valid YAML"
        }
    }

    private static func sentence(
        _ context: YamlError.Context?,
        _ problem: String,
        _ lineOffset: Int
    ) -> String {
        guard let context else { return "not valid YAML: \(problem)" }
        return
            "not valid YAML: \(problem) \(context.text) from line \(context.mark.line + lineOffset)"
    }
}
