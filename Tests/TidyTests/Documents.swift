import Foundation

/// Rules of the documents: links lead somewhere, commands exist.
enum Documents {
    /// The targets of the links in a document, with the line of each.
    static func links(in text: String) -> [(target: String, line: Int)] {
        var links: [(target: String, line: Int)] = []
        var isFenced = false
        for (number, line) in text.components(separatedBy: "\n").enumerated() {
            if line.hasPrefix("```") { isFenced.toggle() }
            if isFenced || line.hasPrefix("    ") { continue }
            for match in line.matches(of: self.linkPattern) {
                links.append((String(match.output[1].substring ?? ""), number + 1))
            }
        }
        return links
    }

    private static var linkPattern: Regex<AnyRegexOutput> {
        pattern(#"\]\(([^)\s]+)\)"#)
    }

    /// A pattern of this file: one that does not compile is a mistake here.
    static func pattern(_ text: String) -> Regex<AnyRegexOutput> {
        do {
            return try Regex(text)
        } catch {
            preconditionFailure("\(text): \(error)")
        }
    }

    /// The anchors of a document's headings, made as GitHub makes them.
    static func anchors(in text: String) -> Set<String> {
        var anchors: Set<String> = []
        for line in text.components(separatedBy: "\n") where line.hasPrefix("#") {
            let title = line.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces)
            let kept = title.lowercased().filter {
                $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" || $0 == "_"
            }
            anchors.insert(kept.replacingOccurrences(of: " ", with: "-"))
        }
        return anchors
    }

    /// The parts of a document that show commands: fenced and indented lines, and code in a line.
    static func commands(in text: String) -> [(text: String, line: Int)] {
        var found: [(text: String, line: Int)] = []
        var isFenced = false
        for (number, line) in text.components(separatedBy: "\n").enumerated() {
            if line.hasPrefix("```") {
                isFenced.toggle()
            } else if isFenced || line.hasPrefix("    ") {
                found.append((line, number + 1))
            } else {
                let spans = line.split(separator: "`", omittingEmptySubsequences: false)
                for (index, span) in spans.enumerated() where index % 2 == 1 {
                    found.append((String(span), number + 1))
                }
            }
        }
        return found
    }

    /// The word after `program` wherever a command line begins with it: `weir run`, `make test`.
    static func arguments(of program: String, in text: String) -> [(word: String, line: Int)] {
        let pattern = self.pattern("(?:^|[|;&$]|\\d\\$)\\s*\(program) ([a-z][a-z0-9-]*)")
        return self.commands(in: text).flatMap { command in
            command.text.matches(of: pattern).compactMap { match in
                match.output[1].substring.map { (String($0), command.line) }
            }
        }
    }

    /// Names of types, and of their members, that stand in a document as code: `Exchange.begin`
    /// gives `Exchange` and `begin`.
    static func names(in text: String) -> [String] {
        let pattern = self.pattern(#"^[A-Z][A-Za-z0-9]*(\.[a-z][A-Za-z]*)?$"#)
        return self.commands(in: text).filter { $0.text.wholeMatch(of: pattern) != nil }
            .flatMap { $0.text.split(separator: ".").map(String.init) }
    }

    /// Links that lead nowhere. `read` gives the text of a file, or nil where there is none;
    /// `exists` also knows folders.
    static func brokenLinks(
        path: String,
        text: String,
        exists: (String) -> Bool,
        read: (String) -> String?
    ) -> [Finding] {
        self.links(in: text).compactMap { link in
            if link.target.contains("://") || link.target.hasPrefix("mailto:") { return nil }
            let parts = link.target.split(
                separator: "#",
                maxSplits: 1,
                omittingEmptySubsequences: false
            )
            let file = parts[0].isEmpty ? path : self.resolve(String(parts[0]), from: path)
            guard exists(file) else {
                return Finding(path: path, line: link.line, message: "there is no \(file)")
            }
            guard parts.count == 2 else { return nil }
            let anchor = String(parts[1])
            if self.anchors(in: read(file) ?? "").contains(anchor) { return nil }
            return Finding(path: path, line: link.line, message: "\(file) has no part #\(anchor)")
        }
    }

    /// A relative target as a path from the root of the package.
    static func resolve(_ target: String, from path: String) -> String {
        var parts = path.split(separator: "/").dropLast().map(String.init)
        for part in target.split(separator: "/") {
            switch part {
            case ".": break
            case "..": _ = parts.popLast()
            default: parts.append(String(part))
            }
        }
        return parts.joined(separator: "/")
    }

    static func unknownWords(
        path: String,
        text: String,
        program: String,
        known: Set<String>
    ) -> [Finding] {
        self.arguments(of: program, in: text).compactMap { argument in
            if known.contains(argument.word) { return nil }
            return Finding(
                path: path,
                line: argument.line,
                message: "there is no `\(program) \(argument.word)`"
            )
        }
    }

    // MARK: What there is

    /// Targets that a makefile has by name.
    static func makeTargets(_ makefile: String) -> Set<String> {
        let pattern = self.pattern("^([a-z][a-z0-9-]*):(?!=)")
        return Set(
            makefile.components(separatedBy: "\n").compactMap {
                $0.firstMatch(of: pattern)?.output[1].substring.map(String.init)
            }
        )
    }

    /// The subcommands that the sources of the command line declare.
    static func subcommands(_ sources: [String]) -> Set<String> {
        var names: Set<String> = ["help"]
        let lists = self.pattern(#"subcommands: \[([^\]]*)\]"#)
        let types = self.pattern(#"(\w+)\.self"#)
        for text in sources {
            for list in text.matches(of: lists) {
                for type in (list.output[1].substring ?? "").matches(of: types) {
                    names.insert(self.commandName(String(type.output[1].substring ?? ""), sources))
                }
            }
        }
        return names
    }

    /// What the type says, else its name as ArgumentParser turns it: `FooBar` is `foo-bar`.
    private static func commandName(_ type: String, _ sources: [String]) -> String {
        let declaration = self.pattern(#"struct \#(type): \w+"#)
        let name = self.pattern(#"commandName: "([a-z-]+)""#)
        for text in sources {
            guard let start = text.firstMatch(of: declaration) else { continue }
            let rest = text[start.range.upperBound...]
            let end = rest.range(of: "\n}")?.lowerBound ?? rest.endIndex
            if let match = rest[..<end].firstMatch(of: name) {
                return String(match.output[1].substring ?? "")
            }
        }
        var kebab = ""
        for character in type {
            if character.isUppercase, !kebab.isEmpty { kebab += "-" }
            kebab += character.lowercased()
        }
        return kebab
    }
}
