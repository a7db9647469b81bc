import ArgumentParser

/// `weir completion`: a script that lets a shell complete `weir`.
struct Completion: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a completion script for a shell.",
        discussion: """
            Examples:
              source <(weir completion bash)
              weir completion zsh > "${fpath[1]}/_weir"
              weir completion fish > ~/.config/fish/completions/weir.fish
            """
    )

    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash
        case zsh
        case fish
    }

    @Argument(help: "The shell: bash, zsh or fish.")
    var shell: Shell

    mutating func run() throws {
        let kind: CompletionShell =
            switch self.shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        Output.line(Weir.completionScript(for: kind))
    }
}
