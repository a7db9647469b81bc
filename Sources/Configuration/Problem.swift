/// One mistake in a configuration: where it is, what is wrong, and what to do.
package struct Problem: Sendable, Hashable {
    package enum Severity: String, Sendable {
        /// The configuration cannot be used.
        case error
        /// It can, but probably does not mean what was wanted.
        case warning
    }

    package var severity: Severity
    /// As it was named to the loader.
    package var file: String
    /// Nil where the whole file is meant.
    package var position: Position?
    package var path: ConfigurationPath
    package var message: String
    package var hint: String?
    /// The line of the file that `position` points into.
    package var sourceLine: String?

    package init(
        severity: Severity = .error,
        file: String,
        position: Position?,
        path: ConfigurationPath = ConfigurationPath(),
        message: String,
        hint: String? = nil,
        sourceLine: String? = nil
    ) {
        self.severity = severity
        self.file = file
        self.position = position
        self.path = path
        self.message = message
        self.hint = hint
        self.sourceLine = sourceLine
    }
}

/// Collects problems, of each file at most `maxPerFile`.
struct ProblemSink {
    /// More are counted, not kept: nobody reads them, and a hostile file must not fill memory.
    static let maxPerFile = 200

    private(set) var problems: [Problem] = []
    private var dropped: [String: Int] = [:]
    private var counts: [String: Int] = [:]

    mutating func add(_ problem: Problem) {
        let count = self.counts[problem.file, default: 0]
        if count >= Self.maxPerFile {
            self.dropped[problem.file, default: 0] += 1
            return
        }
        self.counts[problem.file] = count + 1
        self.problems.append(problem)
    }

    /// Takes over what another one collected, and what it had to leave out.
    mutating func add(_ other: ProblemSink) {
        for problem in other.problems { self.add(problem) }
        for (file, count) in other.dropped { self.dropped[file, default: 0] += count }
    }

    /// In the order of `files`, then from top to bottom; what was left out is said at the end.
    func sorted(files: [String]) -> [Problem] {
        var order: [String: Int] = [:]
        for (index, file) in files.enumerated() where order[file] == nil { order[file] = index }
        let start = Position(line: 0, column: 0)
        var sorted = self.problems.enumerated().sorted { left, right in
            let leftKey = (order[left.element.file] ?? .max, left.element.position ?? start)
            let rightKey = (order[right.element.file] ?? .max, right.element.position ?? start)
            // Equal places keep the order in which they were found.
            return leftKey == rightKey ? left.offset < right.offset : leftKey < rightKey
        }.map(\.element)
        for (file, count) in self.dropped.sorted(by: { $0.key < $1.key }) {
            sorted.append(
                Problem(file: file, position: nil, message: "\(count) more problems were left out")
            )
        }
        return sorted
    }
}
