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
        subcommands: [
            Run.self, GatewayCommand.self, ControllerCommand.self, Check.self, CRDs.self, Get.self,
            Explain.self, RolloutGroup.self, Scale.self, LoadCommand.self,
            SimulateCommand.self, RecordingsGroup.self, ModelSimulatorCommand.self, KeyCommand.self,
            Completion.self, SentinelCommand.self,
        ]
    )
}

extension Weir {
    /// As ArgumentParser's own, but with our conventions: errors as `weir: …`, 2 for wrong use.
    static func main() {
        do {
            var command = try Self.parseAsRoot()
            try command.run()
        } catch let error as RuntimeError {
            Output.error(error.description)
            Self.exit(withError: ExitCode.failure)
        } catch {
            let isUsage = Self.exitCode(for: error) == ExitCode.validationFailure
            guard isUsage else { Self.exit(withError: error) }
            let message = Self.fullMessage(for: error)
            let text = message.hasPrefix("Error: ") ? String(message.dropFirst(7)) : message
            Output.error(text)
            Self.exit(withError: ExitCode.usage)
        }
    }
}
