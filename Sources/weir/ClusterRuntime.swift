import ArgumentParser
import Configuration
import Core
import EventLoop
import Kubernetes
import Logging

/// What both roles on a cluster begin with: their settings, and the way to the API server.
struct ClusterRuntime {
    let logger: Logger
    /// The role's own settings, and where they come from.
    let base: Configuration
    let file: ConfigurationFile
    let access: ClusterAccess
    let loop: EventLoop
    let client: KubernetesClient
    /// Nil for all namespaces.
    let namespaces: [String]?

    /// - Parameters:
    ///   - component: names the role to the server.
    ///   - settings: what `file` is, for people.
    init(
        _ flags: ClusterFlags,
        _ file: ConfigurationFile,
        settings: String,
        component: String
    ) throws {
        Runtime.prepareProcess()
        self.logger = Logger(label: "weir")
        let result = ConfigurationLoader.load([file])
        guard let base = result.configuration else {
            Output.error("\(settings) have mistakes:")
            Problems.write(result.problems)
            throw ExitCode.failure
        }
        let surroundings = flags.surroundings()
        let access = try flags.access(surroundings)
        do throws(SystemError) {
            self.loop = try EventLoop()
        } catch {
            throw RuntimeError(description: Runtime.advice(error))
        }
        var options = ClientOptions()
        options.component = component
        options.seed = EventLoop.readClock().nanoseconds
        self.client = KubernetesClient(
            loop: self.loop,
            access: access,
            surroundings: surroundings,
            options: options
        )
        self.base = base
        self.file = file
        self.access = access
        self.namespaces = flags.served(access)
    }
}
