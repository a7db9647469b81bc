import Admin
import ArgumentParser
import Configuration
import Control
import Core
import EventLoop
import Glibc

/// `weir run`: gateway and controller in one process.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve models: gateway and controller in one process.",
        discussion: """
            Replicas run as local processes. The configuration is read again when a file changes \
            and on SIGHUP; one with mistakes leaves the old one in force. SIGTERM and SIGINT \
            drain: a second one ends at once.

            Examples:
              weir run -c configs/simulator.yaml
              weir run --upstream http://127.0.0.1:8000 --upstream http://127.0.0.1:8001
            """
    )

    @Option(
        name: [.customShort("c"), .customLong("config")],
        parsing: .upToNextOption,
        help: "Configuration files.",
        completion: .file(extensions: ["yaml", "yml"])
    )
    var files: [String] = []

    @Option(
        name: .customLong("upstream"),
        parsing: .upToNextOption,
        help: "Serve whatever model these servers have, without a file."
    )
    var upstreams: [String] = []

    @Option(help: "With --upstream: the address to listen on.")
    var listen: String?

    @Option(help: "With --upstream: the address of metrics, health and the admin API.")
    var admin: String?

    @Option(help: "Write the addresses listened on to this file, as JSON, once they are open.")
    var portsFile: String?

    mutating func validate() throws {
        if self.files.isEmpty == self.upstreams.isEmpty {
            throw ValidationError("give either configuration files (-c) or servers (--upstream)")
        }
    }

    mutating func run() throws {
        let source =
            self.files.isEmpty
            ? ConfigurationSource.upstreams(self.upstreams, listen: self.listen, admin: self.admin)
            : ConfigurationSource.files(self.files)
        let cache = ConfigurationCache()
        let result = source.load(cache: cache)
        guard let configuration = result.configuration else {
            Output.error("the configuration has mistakes:")
            Problems.write(result.problems)
            throw ExitCode.failure
        }
        Problems.write(result.problems)
        do {
            let runtime = try Runtime(
                source: source,
                configuration: configuration,
                cache: cache,
                portsFile: self.portsFile
            )
            runtime.run()
        } catch let error as RuntimeError {
            Output.error(error.description)
            throw ExitCode.failure
        }
    }
}

/// Where a configuration comes from, so that it can be read again.
enum ConfigurationSource {
    case files([String])
    case upstreams([String], listen: String?, admin: String?)

    func load(cache: ConfigurationCache) -> LoadResult {
        switch self {
        case .files(let paths): ConfigurationLoader.load(paths: paths, cache: cache)
        case .upstreams(let urls, let listen, let admin):
            Configuration.serving(upstreams: urls, listen: listen, admin: admin)
        }
    }

    var watchedPaths: [String] {
        switch self {
        case .files(let paths): paths
        case .upstreams: []
        }
    }
}
