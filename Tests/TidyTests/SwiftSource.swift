import Foundation

/// A Swift file with comments and the contents of strings told apart from code.
///
/// Not a parser: it knows comments, string literals of every form with their interpolations, and
/// nothing else, which is what line-based rules need so as not to stumble over a brace in a string.
/// Regular expression literals are not known; the project has none.
struct SwiftSource {
    /// From the root of the package: `Sources/Core/Instant.swift`.
    let path: String
    /// The lines as they are.
    let lines: [String]
    /// The same lines with spaces for every character of a comment and of a string's contents.
    let code: [String]
    /// Zero-based numbers of lines that hold at least a part of a comment.
    let commentLines: Set<Int>
    /// Zero-based numbers of lines on which a block comment begins.
    let blockCommentLines: [Int]

    init(path: String, text: String) {
        self.path = path
        var masker = Masker(Array(text.unicodeScalars))
        masker.run()
        self.lines = text.components(separatedBy: "\n")
        self.code = masker.text.components(separatedBy: "\n")
        self.commentLines = masker.commentLines
        self.blockCommentLines = masker.blockCommentLines
    }

    /// `Sources/Core/Instant.swift` belongs to `Core`.
    var module: String {
        let parts = self.path.split(separator: "/")
        return parts.count > 2 ? String(parts[1]) : ""
    }

    /// Whether a comment that begins with `tidy:` on the line or just above says why a rule does
    /// not hold there.
    func isExcused(_ line: Int) -> Bool {
        [line, line - 1].contains { number in
            guard self.lines.indices.contains(number), self.commentLines.contains(number) else {
                return false
            }
            return self.lines[number].contains("// tidy: ")
        }
    }
}

/// Replaces comments and strings by spaces, keeping every line break.
private struct Masker {
    private let scalars: [Unicode.Scalar]
    private var index = 0
    private var line = 0
    private(set) var commentLines: Set<Int> = []
    private(set) var blockCommentLines: [Int] = []
    private var output = String.UnicodeScalarView()

    init(_ scalars: [Unicode.Scalar]) {
        self.scalars = scalars
    }

    var text: String { String(self.output) }

    mutating func run() {
        self.scanCode(isInterpolation: false)
    }

    private func peek(_ distance: Int = 0) -> Unicode.Scalar? {
        let place = self.index + distance
        return self.scalars.indices.contains(place) ? self.scalars[place] : nil
    }

    private func looking(at text: String) -> Bool {
        text.unicodeScalars.enumerated().allSatisfy { self.peek($0.offset) == $0.element }
    }

    private mutating func take(_ count: Int, shown: Bool) {
        for _ in 0..<count {
            guard let scalar = self.peek() else { return }
            self.output.append(shown || scalar == "\n" ? scalar : " ")
            if scalar == "\n" { self.line += 1 }
            self.index += 1
        }
    }

    /// Code up to the end, or up to the parenthesis that ends an interpolation.
    private mutating func scanCode(isInterpolation: Bool) {
        var depth = 0
        while let scalar = self.peek() {
            if scalar == "/" || scalar == "#" || scalar == "\"", self.scanOther() { continue }
            if isInterpolation, scalar == "(" { depth += 1 }
            if isInterpolation, scalar == ")" {
                if depth == 0 { return self.take(1, shown: true) }
                depth -= 1
            }
            self.take(1, shown: true)
        }
    }

    /// A comment or a string, if one begins here.
    private mutating func scanOther() -> Bool {
        if self.looking(at: "//") {
            self.scanLineComment()
        } else if self.looking(at: "/*") {
            self.scanBlockComment()
        } else if let hashes = self.stringHashes() {
            self.scanString(hashes: hashes)
        } else {
            return false
        }
        return true
    }

    private mutating func scanLineComment() {
        self.commentLines.insert(self.line)
        while let scalar = self.peek(), scalar != "\n" { self.take(1, shown: false) }
    }

    private mutating func scanBlockComment() {
        self.blockCommentLines.append(self.line)
        var depth = 0
        repeat {
            self.commentLines.insert(self.line)
            if self.looking(at: "/*") {
                depth += 1
                self.take(2, shown: false)
            } else if self.looking(at: "*/") {
                depth -= 1
                self.take(2, shown: false)
            } else {
                self.take(1, shown: false)
            }
        } while depth > 0 && self.peek() != nil
    }

    /// The number of `#` before a quote that begins a string here; nil where none begins.
    private func stringHashes() -> Int? {
        var count = 0
        while self.peek(count) == "#" { count += 1 }
        return self.peek(count) == "\"" ? count : nil
    }

    private mutating func scanString(hashes: Int) {
        let marks = String(repeating: "#", count: hashes)
        self.take(hashes, shown: true)
        let quotes = self.looking(at: "\"\"\"") ? "\"\"\"" : "\""
        self.take(quotes.count, shown: true)
        let end = quotes + marks
        let escape = "\\" + marks
        while let scalar = self.peek() {
            let isSpecial = scalar == "\"" || scalar == "\\" || scalar == "\n"
            if !isSpecial {
                self.take(1, shown: false)
            } else if self.looking(at: end) {
                return self.take(end.count, shown: true)
            } else if self.looking(at: escape + "(") {
                self.take(escape.count + 1, shown: true)
                self.scanCode(isInterpolation: true)
            } else if self.looking(at: escape) {
                self.take(escape.count + 1, shown: false)
            } else if quotes.count == 1, scalar == "\n" {
                return  // An unfinished string: the compiler says more about it than we could.
            } else {
                self.take(1, shown: false)
            }
        }
    }
}
