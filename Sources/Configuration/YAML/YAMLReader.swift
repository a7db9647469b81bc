import Yams

/// Reads the documents of one YAML file into `SourceNode`s, with every problem on the way.
///
/// Yams does the parsing; three things it cannot do by itself are arranged around it, by standing
/// characters that no sane file contains in for others (`Marker`), which keeps every column true:
///
/// * An alias is turned into a plain scalar before parsing and resolved here afterwards, counted.
///   Yams would copy the anchored node, and hashing a mapping's keys then takes time exponential in
///   the nesting of aliases: a file of 1 KB stops the process for hours.
/// * A duplicate key ends Yams's parsing of the file. It is renamed and the file parsed again, so
///   that what follows is checked as well.
/// * A syntax error ends it too. Reading goes on at the next `---`.
///
/// Limits: bytes of a file, documents, depth, nodes (aliases count as often as they are used), and
/// reparses. Merge keys (`<<`) and keys that are not text are refused.
struct YAMLReader {
    struct Limits: Sendable {
        var maxBytes = 4 * 1_024 * 1_024
        var maxDocuments = 10_000
        var maxDepth = 64
        var maxNodes = 500_000
        /// Times that parsing starts again, for a duplicate key or after a syntax error.
        var maxRestarts = 50
    }

    /// Characters that stand in for others while Yams parses: the end of the last plane for private
    /// use, which YAML allows and nobody uses.
    enum Marker {
        /// For the `*` of an alias.
        static let alias: Unicode.Scalar = "\u{10FFFE}"
        /// For the first character of a key that occurs twice; each time another one, as the
        /// renamed keys must differ as well.
        static let duplicates: ClosedRange<UInt32> = 0x10_FE00...0x10_FEFF
        /// None of these may stand in a file.
        static let reserved: ClosedRange<UInt32> = 0x10_FE00...0x10_FFFF
    }

    let file: String
    let limits: Limits
    private let text: String
    private(set) var sink = ProblemSink()
    private(set) var documents: [SourceNode] = []
    private var lineCount = 1
    private var nodeCount = 0
    /// The original first character of each key that was renamed, by where it stands.
    private var renamed: [Position: Unicode.Scalar] = [:]
    private var isExhausted = false

    var problems: [Problem] { self.sink.problems }

    /// - Parameter text: checked by `TextCheck`: valid UTF-8 without control characters.
    init(file: String, text: String, limits: Limits = Limits()) {
        self.file = file
        self.text = text
        self.limits = limits
    }

    mutating func read() {
        if self.text.utf8.count > self.limits.maxBytes {
            self.problem(
                nil,
                "the file has \(self.text.utf8.count) bytes",
                hint: "the largest allowed is \(SizeText.format(self.limits.maxBytes))"
            )
            return
        }
        self.lineCount = self.text.utf8.count { $0 == 0x0A } + 1
        if let failure = TextCheck.failure(in: self.text) {
            self.problem(failure.position, failure.message, hint: failure.hint)
            return
        }
        // To Swift, CR LF is one character, which no line feed is found in.
        var lines = Self.lines(of: AliasMarking.mark(self.text))
        var firstLine = 0
        var restarts = 0
        while firstLine < lines.count, !self.isExhausted {
            if restarts > self.limits.maxRestarts {
                self.problem(
                    Position(line: firstLine + 1, column: 1),
                    "the rest was not read: too many duplicate keys and syntax errors"
                )
                return
            }
            restarts += 1
            let stop = self.parse(lines[firstLine...], lineOffset: firstLine)
            switch stop {
            case .end: return
            case .duplicateKey(let position, let key):
                if !self.renameKey(at: position, in: &lines) {
                    self.problem(position, "`\(Excerpt.of(key))` appears twice in this mapping")
                    firstLine = Self.nextDocument(position, in: lines, after: firstLine)
                }
            case .syntax(let position):
                firstLine = Self.nextDocument(position, in: lines, after: firstLine)
            }
        }
    }

    /// Bytes are compared, not characters: a large file has very many.
    private static func lines(of text: String) -> [String] {
        text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).map { line in
            String(decoding: line.last == 0x0D ? line.dropLast() : line, as: UTF8.self)
        }
    }

    // MARK: Parsing

    private enum Stop {
        case end
        case duplicateKey(Position, String)
        case syntax(Position)
    }

    /// Parses one run of lines. Documents count only if the run needs no second parse.
    private mutating func parse(_ lines: ArraySlice<String>, lineOffset: Int) -> Stop {
        // Yams hands libyaml a pointer into the string; a short one has no memory of its own.
        let text = lines.joined(separator: "\n") + String(repeating: "\n", count: 16)
        var nodes: [Node] = []
        var stop = Stop.end
        var syntaxProblem: (Position, String)?
        // Keeps the anchors of the nodes, which refer to them weakly, until they are converted.
        var parser: Parser?
        do {
            // Without a resolver's regular expressions: the schema decides what a scalar is.
            let made = try Parser(yaml: text, resolver: .basic, encoding: .utf8)
            parser = made
            while let node = try made.nextRoot() {
                if nodes.count >= self.limits.maxDocuments {
                    self.problem(
                        nil,
                        "the file has more than \(self.limits.maxDocuments) documents"
                    )
                    self.isExhausted = true
                    break
                }
                nodes.append(node)
            }
        } catch let error as YamlError {
            let failure = YAMLFailure(error, text: text, lineOffset: lineOffset)
            if let key = failure.duplicateKey {
                return .duplicateKey(failure.position, key)
            }
            syntaxProblem = (failure.position, failure.message)
            stop = .syntax(failure.position)
        } catch {
            syntaxProblem = (Position(line: lineOffset + 1, column: 1), "\(error)")
            stop = .syntax(Position(line: lineOffset + 1, column: 1))
        }
        withExtendedLifetime(parser) {
            for node in nodes where !self.isExhausted { self.convertDocument(node, lineOffset) }
        }
        if let (position, message) = syntaxProblem,
            // A document that was taken up again at its `---` fails in the same place.
            self.problems.last?.position != position
        {
            self.problem(position, message, hint: self.syntaxHint(message, at: position))
        }
        return stop
    }

    private func syntaxHint(_ message: String, at position: Position) -> String? {
        let line = SourceText.line(position.line, of: self.text)
        let indentation = line.prefix { $0 == " " || $0 == "\t" }
        if indentation.contains("\t") { return "indent with spaces; YAML allows no tabs there" }
        return message.contains("alias") ? "put text that begins with `*` in quotes" : nil
    }

    /// The index of the first line from `position` on that begins a document, past `firstLine`.
    private static func nextDocument(
        _ position: Position,
        in lines: [String],
        after firstLine: Int
    ) -> Int {
        var index = max(position.line - 1, firstLine + 1)
        while index < lines.count {
            let text = lines[index]
            if text == "---" || text.hasPrefix("--- ") || text.hasPrefix("---\t")
                || text.hasPrefix("---\r")
            {
                return index
            }
            index += 1
        }
        return lines.count
    }

    /// Puts the marker in place of the first character of the key at `position`.
    private mutating func renameKey(at position: Position, in lines: inout [String]) -> Bool {
        guard position.line >= 1, position.line <= lines.count else { return false }
        var scalars = Array(lines[position.line - 1].unicodeScalars)
        var index = position.column - 1
        if index < scalars.count, scalars[index] == "\"" || scalars[index] == "'" { index += 1 }
        guard index < scalars.count, self.renamed[position] == nil else { return false }
        let original = scalars[index]
        guard NameText.isTokenScalar(original) else { return false }
        guard
            let marker = Unicode.Scalar(
                Marker.duplicates.lowerBound + UInt32(self.renamed.count)
            ), Marker.duplicates.contains(marker.value)
        else { return false }
        scalars[index] = marker
        self.renamed[position] = original
        var line = ""
        line.unicodeScalars.append(contentsOf: scalars)
        lines[position.line - 1] = line
        return true
    }

    // MARK: Converting

    private mutating func convertDocument(_ node: Node, _ lineOffset: Int) {
        var anchors: [String: SourceNode] = [:]
        if let converted = self.convert(node, depth: 0, lineOffset, &anchors), !converted.isNull {
            self.documents.append(converted)
        }
    }

    private mutating func convert(
        _ node: Node,
        depth: Int,
        _ lineOffset: Int,
        _ anchors: inout [String: SourceNode]
    ) -> SourceNode? {
        let position = Self.position(of: node, lineOffset)
        guard depth <= self.limits.maxDepth else {
            self.problem(position, "nested more than \(self.limits.maxDepth) levels deep")
            return nil
        }
        guard self.countNodes(1, at: position) else { return nil }
        var converted: SourceNode?
        switch node {
        case .scalar(let scalar):
            converted = self.convertScalar(scalar, position, anchors)
        case .sequence(let sequence):
            var elements: [SourceNode] = []
            for element in sequence {
                let value = self.convert(element, depth: depth + 1, lineOffset, &anchors)
                if self.isExhausted { return nil }
                elements.append(value ?? .broken(Self.position(of: element, lineOffset)))
            }
            converted = .sequence(elements, position)
        case .mapping(let mapping):
            converted = self.convertMapping(mapping, position, depth, lineOffset, &anchors)
        case .alias:
            // Only Yams's encoder makes these.
            self.problem(position, "an alias was not resolved")
        }
        if let anchor = node.anchor, let converted { anchors[anchor.rawValue] = converted }
        return converted
    }

    private mutating func convertMapping(
        _ mapping: Node.Mapping,
        _ position: Position,
        _ depth: Int,
        _ lineOffset: Int,
        _ anchors: inout [String: SourceNode]
    ) -> SourceNode? {
        var entries: [SourceNode.Entry] = []
        var hidden: [(key: String, position: Position)] = []
        for (keyNode, valueNode) in mapping {
            let keyPosition = Self.position(of: keyNode, lineOffset)
            let value = self.convert(valueNode, depth: depth + 1, lineOffset, &anchors)
            if self.isExhausted { return nil }
            guard case .scalar(let scalar) = keyNode, !Self.isAlias(scalar) else {
                self.problem(keyPosition, "a key must be text", hint: "quote it")
                continue
            }
            if let original = self.renamed[keyPosition] {
                var key = ""
                for part in scalar.string.unicodeScalars {
                    key.unicodeScalars.append(
                        Marker.duplicates.contains(part.value) ? original : part
                    )
                }
                hidden.append((Self.unmarked(key), keyPosition))
                continue
            }
            let key = Self.unmarked(scalar.string)
            if key == "<<" && scalar.style == .plain {
                self.problem(
                    keyPosition,
                    "merge keys are not supported",
                    hint: "write the fields out, or use an alias for a whole value"
                )
                continue
            }
            entries.append(
                SourceNode.Entry(
                    key: key,
                    keyPosition: keyPosition,
                    value: value ?? .broken(keyPosition)
                )
            )
        }
        self.reportDuplicates(entries, hidden)
        return .mapping(entries, position)
    }

    private mutating func reportDuplicates(
        _ entries: [SourceNode.Entry],
        _ hidden: [(key: String, position: Position)]
    ) {
        for duplicate in hidden {
            let others =
                entries.filter { $0.key == duplicate.key }.map(\.keyPosition)
                + hidden.filter { $0.key == duplicate.key }.map(\.position)
            guard let first = others.min(), let last = others.max(), duplicate.position == first
            else { continue }
            self.problem(
                last,
                "`\(Excerpt.of(duplicate.key))` appears twice in this mapping",
                hint: "it is also on line \(first.line); keep one of them"
            )
        }
    }

    private mutating func convertScalar(
        _ scalar: Node.Scalar,
        _ position: Position,
        _ anchors: [String: SourceNode]
    ) -> SourceNode? {
        guard Self.isAlias(scalar) else {
            let isPlain = scalar.style == .plain
            return .scalar(text: Self.unmarked(scalar.string), isPlain: isPlain, position)
        }
        let name = String(scalar.string.unicodeScalars.dropFirst())
        guard name.utf8.allSatisfy(AliasMarking.isNameByte) else {
            self.problem(
                position,
                "`\(Excerpt.of("*" + name))` is not an alias",
                hint: "put text that begins with `*` in quotes"
            )
            return nil
        }
        guard let target = anchors[name] else {
            self.problem(
                position,
                "no anchor `&\(name)` stands before this alias",
                hint: Words.suggestion(for: name, among: Array(anchors.keys))
                    ?? "put text that begins with `*` in quotes"
            )
            return nil
        }
        return self.countNodes(target.nodeCount(upTo: self.limits.maxNodes), at: position)
            ? target : nil
    }

    private mutating func countNodes(_ count: Int, at position: Position) -> Bool {
        self.nodeCount += count
        if self.nodeCount <= self.limits.maxNodes { return true }
        if !self.isExhausted {
            self.problem(
                position,
                "more than \(self.limits.maxNodes) values, aliases included",
                hint: "split the file, or use fewer aliases"
            )
            self.isExhausted = true
        }
        return false
    }

    private static func isAlias(_ scalar: Node.Scalar) -> Bool {
        scalar.style == .plain && scalar.string.unicodeScalars.first == Marker.alias
    }

    /// Text as it stands in the file, with `*` back in its places.
    private static func unmarked(_ text: String) -> String {
        guard text.unicodeScalars.contains(Marker.alias) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            result.unicodeScalars.append(scalar == Marker.alias ? "*" : scalar)
        }
        return result
    }

    private static func position(of node: Node, _ lineOffset: Int) -> Position {
        guard let mark = node.mark else { return Position(line: lineOffset + 1, column: 1) }
        return Position(line: mark.line + lineOffset, column: mark.column)
    }

    private mutating func problem(_ position: Position?, _ message: String, hint: String? = nil) {
        var position = position
        if let line = position?.line, line > self.lineCount {
            // The parser ran past the end, into the lines that were added for it.
            position = Position(line: self.lineCount, column: 1)
        }
        self.sink.add(Problem(file: self.file, position: position, message: message, hint: hint))
    }
}

extension SourceNode {
    /// The nodes of the tree, or some number past `limit`.
    fileprivate func nodeCount(upTo limit: Int) -> Int {
        switch self {
        case .scalar, .broken: return 1
        case .sequence(let elements, _):
            return elements.reduce(1) { $0 > limit ? $0 : $0 + $1.nodeCount(upTo: limit) }
        case .mapping(let entries, _):
            return entries.reduce(1) { $0 > limit ? $0 : $0 + 1 + $1.value.nodeCount(upTo: limit) }
        }
    }
}
