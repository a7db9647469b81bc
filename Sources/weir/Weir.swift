import ArgumentParser
import Core

@main
struct Weir: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weir",
        abstract: "An inference gateway, autoscaler and canary controller.",
        discussion: """
            Example: weir run -c configs/simulator.yaml
            """,
        version: "weir \(WeirVersion.current)",
        subcommands: [Run.self, Check.self, ModelSimulatorCommand.self, SentinelCommand.self])
}
