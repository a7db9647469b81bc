import Foundation

/// One place where the text breaks a rule.
struct Finding: Hashable, CustomStringConvertible {
    let path: String
    /// From 1; 0 for the file as a whole.
    let line: Int
    let message: String

    var description: String { "\(self.path):\(self.line): \(self.message)" }
}

/// The rules of the code that a machine can check. Each takes text and returns what breaks it.
///
/// Any of them may be broken where a comment beginning with `tidy:`, on the line or just above it,
/// says why.
enum Rules {
    static let lineColumnsMax = 100
    static let fileLinesMax = 800
    static let functionLinesMax = 70

    // MARK: Shape

    /// Lines fit 100 columns. In tests the inside of a string does not count: bytes to be parsed
    /// cannot be broken.
    static func lineLength(_ source: SwiftSource) -> [Finding] {
        source.lines.enumerated().compactMap { number, line in
            guard line.utf8.count > self.lineColumnsMax, line.count > self.lineColumnsMax,
                !source.isExcused(number)
            else { return nil }
            var counted = line.count
            if source.path.hasPrefix("Tests/"), !source.commentLines.contains(number) {
                counted -= zip(line, source.code[number]).count { $0 != " " && $1 == " " }
            }
            if counted <= self.lineColumnsMax { return nil }
            return Finding(
                path: source.path,
                line: number + 1,
                message: "\(line.count) columns, at most \(self.lineColumnsMax) are allowed"
            )
        }
    }

    static func fileLength(_ source: SwiftSource) -> [Finding] {
        let count = source.lines.last == "" ? source.lines.count - 1 : source.lines.count
        if count <= self.fileLinesMax { return [] }
        return [Finding(path: source.path, line: 0, message: "\(count) lines: split the file")]
    }

    /// Functions, initialisers and the like, from the line of their name to their last brace.
    static func functionLength(_ source: SwiftSource) -> [Finding] {
        FunctionScanner.functions(in: source.code).compactMap { function in
            let count = function.lines.count
            guard count > self.functionLinesMax, !source.isExcused(function.lines.lowerBound) else {
                return nil
            }
            return Finding(
                path: source.path,
                line: function.lines.lowerBound + 1,
                message: "\(function.name) has \(count) lines, at most \(self.functionLinesMax)"
            )
        }
    }

    static func blockComments(_ source: SwiftSource) -> [Finding] {
        source.blockCommentLines.map {
            Finding(path: source.path, line: $0 + 1, message: "a block comment: use //")
        }
    }

    // MARK: Calls and comments

    /// Calls by which time, randomness or the environment would slip into a decision.
    static let bannedInSources = [
        "ContinuousClock(", "SuspendingClock(", "Date(", "DispatchTime.now", ".random(",
        ".randomElement(", ".shuffled(", "SystemRandomNumberGenerator(", "sleep(",
        "getenv(", "clock_gettime(", "gettimeofday(", "try!", "fatalError(", "Task.detached",
        "testOnly_",
    ]
    /// Tests wait for conditions and repeat from a seed.
    static let bannedInTests = [
        "ContinuousClock(", "SuspendingClock(", "DispatchTime.now", "sleep(", "try!",
        "import XCTest",
    ]
    /// Where a banned call is at home.
    static let allowed: [String: Set<String>] = [
        // The loop is what gives everybody else the time.
        "Sources/EventLoop/EventLoop.swift": ["clock_gettime("]
    ]

    static func bannedCalls(_ source: SwiftSource) -> [Finding] {
        let isProgram = source.path.hasPrefix("Sources/")
        let calls = isProgram ? self.bannedInSources : self.bannedInTests
        let allowed = self.allowed[source.path] ?? []
        return source.code.enumerated().flatMap { number, line -> [Finding] in
            if source.isExcused(number) { return [] }
            return calls.filter { !allowed.contains($0) && self.calls($0, in: line) }.map {
                Finding(path: source.path, line: number + 1, message: "`\($0)` is not allowed here")
            }
        }
    }

    /// Whether the call stands there by itself, not as the end of a longer name.
    private static func calls(_ call: String, in line: String) -> Bool {
        var rest = line[...]
        while let range = rest.range(of: call) {
            if call.hasPrefix(".") || range.lowerBound == line.startIndex { return true }
            let before = line[line.index(before: range.lowerBound)]
            if !before.isLetter, !before.isNumber, before != "_" { return true }
            rest = rest[range.upperBound...]
        }
        return false
    }

    /// Sendability that the compiler does not check is argued for beside it.
    static func uncheckedSendable(_ source: SwiftSource) -> [Finding] {
        source.code.enumerated().compactMap { number, line in
            guard line.contains("@unchecked Sendable") else { return nil }
            let hasComment = (number - 1...number + 1).contains { source.commentLines.contains($0) }
            if hasComment { return nil }
            return Finding(
                path: source.path,
                line: number + 1,
                message: "`@unchecked Sendable` without a comment that says why it is sound"
            )
        }
    }

    /// Work that is left over belongs into the tracker.
    static func leftovers(path: String, text: String) -> [Finding] {
        let words = ["TO" + "DO", "FIX" + "ME", "XX" + "X:"]
        return self.lines(path, text) { line in
            words.first { line.contains($0) }.map { "`\($0)` stands here" }
        }
    }

    /// Paths of somebody's machine.
    static func machinePaths(path: String, text: String) -> [Finding] {
        let roots = ["work", "home", "root", "Users"].map { "/" + $0 + "/" }
        return self.lines(path, text) { line in
            roots.first { root in
                guard let range = line.range(of: root) else { return false }
                // `models/home/x` and `https://example.com/home/` are no absolute paths.
                guard range.lowerBound > line.startIndex else { return true }
                let before = line[line.index(before: range.lowerBound)]
                return !before.isLetter && !before.isNumber && !"._-)}*".contains(before)
            }.map { "a path below `\($0)` holds on one machine only" }
        }
    }

    private static func lines(
        _ path: String,
        _ text: String,
        _ check: (String) -> String?
    ) -> [Finding] {
        text.components(separatedBy: "\n").enumerated().compactMap { number, line in
            check(line).map { Finding(path: path, line: number + 1, message: $0) }
        }
    }

    // MARK: Imports

    /// Our modules; each may import those before it.
    static let modules = [
        "Core", "HTTP", "GRPC", "Traffic", "Autoscaling", "Orchestration", "Rollouts", "Signals",
        "Workload", "Recordings", "Simulation", "Configuration", "EventLoop", "TLS", "HTTP2",
        "Telemetry",
        "HTTPService", "Curl", "Digests", "Compression", "Recorder", "Kubernetes", "Scraping",
        "Reports",
        "Proxy", "Clusters", "Control", "Admin", "LoadTest", "ModelSimulator", "weir",
    ]
    static let pureModules: Set<String> = [
        "Core", "HTTP", "GRPC", "Traffic", "Autoscaling", "Orchestration", "Rollouts", "Signals",
        "Workload", "Recordings", "Simulation",
    ]
    /// What a pure module may import beside the pure modules before it.
    static let pureImports: Set<String> = ["Synchronization"]

    static func imports(_ source: SwiftSource) -> [Finding] {
        guard source.path.hasPrefix("Sources/") else { return [] }
        guard let own = self.modules.firstIndex(of: source.module) else {
            return [
                Finding(
                    path: source.path,
                    line: 0,
                    message: "the module \(source.module) is not in the list of modules"
                )
            ]
        }
        return source.code.enumerated().compactMap { number, line in
            guard let name = self.importedModule(line), !source.isExcused(number) else {
                return nil
            }
            return self.objection(to: name, in: source.module, at: own).map {
                Finding(path: source.path, line: number + 1, message: $0)
            }
        }
    }

    private static func objection(to name: String, in module: String, at own: Int) -> String? {
        let isPure = self.pureModules.contains(module)
        if let other = self.modules.firstIndex(of: name) {
            if other >= own { return "\(module) must not import \(name), which stands below it" }
            if isPure, !self.pureModules.contains(name) {
                return "\(module) is pure and \(name) is not"
            }
        } else if isPure, !self.pureImports.contains(name) {
            return "\(module) is pure: it must not import \(name)"
        }
        return nil
    }

    /// `@testable import struct Core.Instant` imports Core.
    static func importedModule(_ line: String) -> String? {
        var words = line.split(separator: " ")
        let attributes: Set<Substring> = [
            "public", "package", "internal", "private", "fileprivate",
        ]
        while let first = words.first, first.hasPrefix("@") || attributes.contains(first) {
            words.removeFirst()
        }
        guard words.first == "import", words.count > 1 else { return nil }
        let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let"]
        let name = kinds.contains(words[1]) ? words.dropFirst(2).first : words[1]
        return name.flatMap { $0.split(separator: ".").first.map(String.init) }
    }
}

/// Finds functions by their keywords and braces.
enum FunctionScanner {
    struct Function: Equatable {
        let name: String
        /// Zero-based, from the line of the keyword to that of the closing brace.
        let lines: Range<Int>
    }

    /// A function whose body is open, and the depth outside of it.
    private struct Open {
        let name: String
        let line: Int
        let depth: Int
    }

    static func functions(in code: [String]) -> [Function] {
        var found: [Function] = []
        var open: [Open] = []
        // A name was seen; its body has not begun. Parentheses say where a default value's do not.
        var pending: (name: String, line: Int)?
        var depth = 0
        var parentheses = 0
        for (number, line) in code.enumerated() {
            if pending == nil || parentheses == 0, let name = self.declaredName(line) {
                pending = (name, number)
                parentheses = 0
            }
            for character in line {
                switch character {
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{":
                    if let declared = pending, parentheses == 0 {
                        open.append(Open(name: declared.name, line: declared.line, depth: depth))
                        pending = nil
                    }
                    depth += 1
                case "}":
                    depth -= 1
                    // The end of a protocol: its last requirement has no body.
                    if parentheses == 0 { pending = nil }
                    if let last = open.last, last.depth == depth {
                        open.removeLast()
                        found.append(Function(name: last.name, lines: last.line..<number + 1))
                    }
                default: break
                }
            }
        }
        return found.sorted { $0.lines.lowerBound < $1.lines.lowerBound }
    }

    /// The name of what a line declares, where it declares a function.
    static func declaredName(_ line: String) -> String? {
        let words = line.split { $0 == " " || $0 == "(" || $0 == "<" || $0 == "{" }
        for (index, word) in words.enumerated() {
            if word == "func" { return words.dropFirst(index + 1).first.map(String.init) }
            if word == "init" || word == "init?" || word == "deinit" || word == "subscript" {
                // `self.init(…)` and `= .init(…)` are calls.
                let isFirst = words[..<index].allSatisfy(self.isModifier)
                return isFirst ? String(word) : nil
            }
        }
        return nil
    }

    private static func isModifier(_ word: Substring) -> Bool {
        let modifiers: Set<Substring> = [
            "public", "package", "internal", "private", "fileprivate", "override", "convenience",
            "required", "static", "final", "isolated", "nonisolated", "borrowing", "consuming",
        ]
        return word.hasPrefix("@") || modifiers.contains(word)
    }
}
