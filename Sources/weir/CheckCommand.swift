import ArgumentParser
import Configuration
import Glibc

/// `weir check`: says everything that is wrong with configuration files.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check configuration files and report every problem.",
        discussion: """
            Exits with 1 if there is an error, with 0 otherwise; warnings do not count.

            Example: weir check -c configs/digits.yaml
            """
    )

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case text
        case json
    }

    @Option(
        name: [.customShort("c"), .customLong("config")],
        parsing: .upToNextOption,
        help: "Configuration files.",
        completion: .file(extensions: ["yaml", "yml"])
    )
    var files: [String]

    @Option(name: .shortAndLong, help: "How to print: text or json.")
    var output = Format.text

    mutating func run() throws {
        let result = ConfigurationLoader.load(paths: self.files)
        switch self.output {
        case .json: Output.line(Problem.json(result.problems))
        case .text: self.writeText(result)
        }
        if result.hasErrors { throw ExitCode.failure }
    }

    private func writeText(_ result: LoadResult) {
        Problems.write(result.problems)
        guard let configuration = result.configuration else {
            let errors = result.problems.count { $0.severity == .error }
            Output.error("\(errors) \(errors == 1 ? "error" : "errors")")
            return
        }
        Output.line(
            "ok: \(Self.count(configuration.models.count, "model")), "
                + Self.count(configuration.processDeployments.count, "process deployment")
        )
    }

    private static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
}

enum Problems {
    /// Prints problems on stderr, in colour where that is wanted.
    static func write(_ problems: [Problem]) {
        if problems.isEmpty { return }
        let colour = Output.wantsColor(STDERR_FILENO, environment: Output.environment())
        Output.write(Problem.render(problems, colour: colour) + "\n", to: STDERR_FILENO)
    }
}
