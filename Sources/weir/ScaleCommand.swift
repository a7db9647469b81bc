import Admin
import ArgumentParser
import EventLoop
import HTTPService

/// `weir scale`: sets a deployment's number of replicas.
struct Scale: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ask a running Weir for a number of replicas.",
        discussion: """
            The number holds until somebody asks for another, or the configuration changes it. A \
            deployment that a ScalingPolicy scales is refused.

            Example: weir scale digits-v1 3
            """
    )

    @Argument(help: "The ProcessDeployment.")
    var deployment: String

    @Argument(help: "How many replicas it should have.")
    var replicas: Int

    @OptionGroup var admin: AdminWriteOptions

    mutating func validate() throws {
        guard self.replicas >= 0 else {
            throw ValidationError("the number of replicas cannot be negative")
        }
        try ResourceName.check(self.deployment, "deployment")
        _ = try self.admin.client()
    }

    mutating func run() throws {
        let client = try self.admin.client()
        do {
            let answer = try client.put(
                "/api/v1/deployments/\(self.deployment)/replicas",
                json: "{\"replicas\": \(self.replicas)}",
                token: self.admin.token()
            )
            Output.line("\(self.deployment): \(answer["replicas"].cell) replicas wanted")
        } catch let error as AdminClientError {
            Output.error(error.description)
            throw ExitCode.failure
        }
    }
}
