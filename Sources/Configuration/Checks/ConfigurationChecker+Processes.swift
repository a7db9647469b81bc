extension ConfigurationChecker {
    mutating func checkProcessDeployments() {
        for deployment in self.set.processDeployments {
            self.checkCommand(of: deployment)
            self.checkVariables(of: deployment)
        }
    }

    private mutating func checkCommand(of deployment: Loaded<ProcessDeploymentSpec>) {
        // A wrong element is empty too, but it has been reported and was not written as empty.
        guard let program = deployment.origin.spec.elements("command").first else { return }
        guard program.value == .text(""), program.position != nil else { return }
        self.report(
            deployment.origin,
            ConfigurationPath("spec", "command").index(0),
            "the program is empty",
            hint: "write for example `[mlserver, start, .]`"
        )
    }

    private mutating func checkVariables(of deployment: Loaded<ProcessDeploymentSpec>) {
        let spec = ConfigurationPath("spec")
        var names: [String] = []
        for (index, variable) in deployment.spec.environment.enumerated() {
            let path = spec.field("env").index(index).field("value")
            self.checkReferences(in: variable.value, names, deployment, path)
            if !variable.name.isEmpty { names.append(variable.name) }
        }
        for (index, argument) in deployment.spec.command.enumerated() {
            let path = spec.field("command").index(index)
            self.checkReferences(in: argument, names, deployment, path)
        }
        let directory = deployment.origin.spec.text("workingDirectory")
        self.checkReferences(in: directory, names, deployment, spec.field("workingDirectory"))
    }

    /// - Parameter names: the variables that may be referred to.
    private mutating func checkReferences(
        in text: String,
        _ names: [String],
        _ deployment: Loaded<ProcessDeploymentSpec>,
        _ path: ConfigurationPath
    ) {
        for name in VariableReferences.names(in: text) {
            if VariableReferences.isBuiltIn(name) || names.contains(name) { continue }
            let isLater = deployment.spec.environment.contains { $0.name == name }
            let candidates = names + VariableReferences.builtIn
            self.report(
                deployment.origin,
                path,
                isLater
                    ? "`$(\(name))` is used before it is defined"
                    : "there is no variable `$(\(Excerpt.of(name)))`",
                hint: isLater
                    ? "move `\(name)` up in `env`"
                    : Words.nearest(to: name, among: candidates).map { "did you mean `$(\($0))`?" }
                        ?? "use `$(PORT)`, `$(PORT_name)`, `$(REPLICA)` or a variable of `env`; "
                        + "`$$(…)` keeps the text"
            )
        }
    }
}

/// `$(NAME)` in commands and environments, as Kubernetes replaces it.
package enum VariableReferences {
    /// What every replica has, besides `PORT_` and a name of the user's choice.
    package static let builtIn = ["PORT", "REPLICA"]
    private static let portPrefix = "PORT_"

    package static func isBuiltIn(_ name: String) -> Bool {
        if Self.builtIn.contains(name) { return true }
        guard name.hasPrefix(Self.portPrefix), name.utf8.count > Self.portPrefix.utf8.count else {
            return false
        }
        return NameText.isEnvironmentName(name)
    }

    /// The names referred to, in order. `$$` stands for `$` and refers to nothing, and so does a
    /// `$(` that is never closed.
    package static func names(in text: String) -> [String] {
        var names: [String] = []
        var rest = text[...].utf8
        while let dollar = rest.firstIndex(of: UInt8(ascii: "$")) {
            rest = rest[rest.index(after: dollar)...]
            guard let next = rest.first else { break }
            if next == UInt8(ascii: "$") {
                rest = rest.dropFirst()
            } else if next == UInt8(ascii: "(") {
                guard let close = rest.firstIndex(of: UInt8(ascii: ")")) else { break }
                names.append(String(rest[rest.index(after: rest.startIndex)..<close]) ?? "")
                rest = rest[rest.index(after: close)...]
            }
        }
        return names
    }
}
