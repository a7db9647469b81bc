/// A command, directory and environment with everything in it replaced: ready to be started.
package struct Invocation: Equatable, Sendable {
    package var command: [String]
    package var workingDirectory: String?
    /// The whole environment of the process, names unique, in the order they were set.
    package var environment: [EnvironmentVariable]
}

/// Replaces `$(NAME)` in the words of a group's specification.
///
/// `$(PORT)` is the replica's port, `$(PORT_name)` a further one, `$(REPLICA)` its index. Any other
/// name is a variable of the specification's environment (an earlier one, within the environment
/// itself) or, failing that, of Weir's own. `$$` stands for `$`. A `$` that begins neither stays as
/// it is, for the sake of shell commands. Unlike in Kubernetes, an unknown name is an error: a
/// server that was told to listen on `$(PROT)` helps nobody.
package enum Substitution {
    private static let portPrefix = "PORT_"

    /// The names of the ports that the specification asks for; the unnamed one is not among them.
    package static func portNames(in spec: ProcessGroupSpec) throws(ClusterError) -> [String] {
        let words =
            spec.command + spec.environment.map(\.value) + [spec.workingDirectory ?? ""]
        var names: [String] = []
        for word in words {
            for case .reference(let name) in try self.parse(word, subject: spec.name) {
                guard name.hasPrefix(self.portPrefix) else { continue }
                let port = String(name.dropFirst(self.portPrefix.count))
                guard !port.isEmpty else {
                    throw ClusterError("\(spec.name): `$(PORT_)` lacks the name of the port")
                }
                if !names.contains(port) { names.append(port) }
            }
        }
        guard names.count < ClusterLimits.portsMax else {
            throw ClusterError(
                "\(spec.name): asks for \(names.count + 1) ports; "
                    + "\(ClusterLimits.portsMax) are possible"
            )
        }
        return names
    }

    /// - Parameters:
    ///   - ports: the unnamed port under the empty name, the others under theirs.
    ///   - inherited: Weir's own environment, which the process gets as well.
    ///   - extra: set last, whatever the specification says, and first in the result.
    package static func resolve(
        _ spec: ProcessGroupSpec,
        index: Int,
        ports: [String: UInt16],
        inherited: [String: String],
        extra: EnvironmentVariable? = nil
    ) throws(ClusterError) -> Invocation {
        var known: [String: String] = ["REPLICA": String(index)]
        for (name, port) in ports {
            known[name.isEmpty ? "PORT" : self.portPrefix + name] = String(port)
        }
        var scope = Scope(subject: spec.name, known: known, own: [:], inherited: inherited)
        var environment: [(name: String, value: String)] = []
        for variable in spec.environment {
            let isLater = spec.environment.map(\.name)
            let value = try scope.expand(variable.value, definedLater: isLater)
            scope.own[variable.name] = value
            environment.append((variable.name, value))
        }
        var command: [String] = []
        for word in spec.command { command.append(try scope.expand(word)) }
        var directory: String?
        if let template = spec.workingDirectory { directory = try scope.expand(template) }
        return Invocation(
            command: command,
            workingDirectory: directory,
            environment: self.merge(
                [known.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, environment],
                over: inherited,
                first: extra
            )
        )
    }

    /// Later layers win over earlier ones, all over the inherited, `first` over everything.
    private static func merge(
        _ layers: [[(name: String, value: String)]],
        over inherited: [String: String],
        first: EnvironmentVariable?
    ) -> [EnvironmentVariable] {
        var values = inherited
        for layer in layers {
            for (name, value) in layer { values[name] = value }
        }
        if let first { values[first.name] = nil }
        let rest = values.sorted { $0.key < $1.key }
        return (first.map { [$0] } ?? [])
            + rest.map { EnvironmentVariable(name: $0.key, value: $0.value) }
    }

    // MARK: Pieces

    private enum Piece {
        case text(String)
        case reference(String)
    }

    private struct Scope {
        let subject: String
        let known: [String: String]
        var own: [String: String]
        let inherited: [String: String]

        func expand(
            _ word: String,
            definedLater: [String] = []
        ) throws(ClusterError) -> String {
            var result = ""
            for piece in try Substitution.parse(word, subject: self.subject) {
                switch piece {
                case .text(let text): result += text
                case .reference(let name):
                    result += try self.value(of: name, in: word, definedLater: definedLater)
                }
                guard result.utf8.count <= ClusterLimits.wordBytesMax else {
                    throw ClusterError(
                        "\(self.subject): \(quoted(word)) becomes longer than "
                            + "\(ClusterLimits.wordBytesMax) bytes"
                    )
                }
            }
            return result
        }

        private func value(
            of name: String,
            in word: String,
            definedLater: [String]
        ) throws(ClusterError) -> String {
            if let value = self.known[name] ?? self.own[name] ?? self.inherited[name] {
                return value
            }
            if definedLater.contains(name) {
                throw ClusterError(
                    "\(self.subject): \(quoted(word)) refers to \(quoted(name)), which is set only "
                        + "further down: move that entry up"
                )
            }
            let choices = (["PORT", "PORT_name", "REPLICA"] + self.own.keys.sorted())
                .prefix(12).map { "`$(\($0))`" }.joined(separator: ", ")
            throw ClusterError(
                "\(self.subject): \(quoted(word)) refers to \(quoted(name)), which is not set; "
                    + "there are \(choices) and the variables of Weir's own environment "
                    + "(write `$$(` for a literal `$(`)"
            )
        }
    }

    private static func parse(_ word: String, subject: String) throws(ClusterError) -> [Piece] {
        var pieces: [Piece] = []
        var text = ""
        var rest = word[...]
        while let character = rest.popFirst() {
            guard character == "$", let next = rest.first, next == "$" || next == "(" else {
                text.append(character)
                continue
            }
            rest.removeFirst()
            if next == "$" {
                text.append("$")
                continue
            }
            guard let end = rest.firstIndex(of: ")") else {
                throw ClusterError("\(subject): \(quoted(word)) opens `$(` and never closes it")
            }
            pieces += [.text(text), .reference(String(rest[..<end]))]
            text = ""
            rest = rest[rest.index(after: end)...]
        }
        return pieces + [.text(text)]
    }
}
