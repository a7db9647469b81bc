import ArgumentParser
import Clusters

/// What `weir run` starts beside itself; see `Sentinel`. Not for people.
struct SentinelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sentinel",
        abstract: "End what a killed weir left running.",
        shouldDisplay: false
    )

    @Option var stateDirectory: String

    mutating func run() throws {
        throw ExitCode(Sentinel.run(stateDirectory: self.stateDirectory))
    }
}
