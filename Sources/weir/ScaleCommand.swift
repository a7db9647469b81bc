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

    @Option(
        help: "File with the admin token, for admin addresses that are not loopback.",
        completion: .file()
    )
    var tokenFile: String?

    @OptionGroup var admin: AdminOptions

    mutating func validate() throws {
        guard self.replicas >= 0 else {
            throw ValidationError("the number of replicas cannot be negative")
        }
        // A name from the configuration: nothing that means something in a path.
        let isName = self.deployment.utf8.allSatisfy { byte in
            (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
        }
        guard isName, !self.deployment.isEmpty, self.deployment.utf8.count <= 253 else {
            throw ValidationError("`\(self.deployment)` is no name of a deployment")
        }
        _ = try self.admin.client()
    }

    mutating func run() throws {
        let client = try self.admin.client()
        do {
            let answer = try client.put(
                "/api/v1/deployments/\(self.deployment)/replicas",
                json: "{\"replicas\": \(self.replicas)}",
                token: self.token()
            )
            Output.line("\(self.deployment): \(answer["replicas"].cell) replicas wanted")
        } catch let error as AdminClientError {
            Output.error(error.description)
            throw ExitCode.failure
        }
    }

    private func token() throws(AdminClientError) -> String? {
        guard let path = self.tokenFile else { return nil }
        do {
            return String(decoding: try TokenFile.read(path), as: UTF8.self)
        } catch {
            throw AdminClientError(description: error.description)
        }
    }
}
