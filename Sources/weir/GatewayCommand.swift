import ArgumentParser
import Configuration
import EventLoop

/// `weir gateway`: the gateway on a Kubernetes cluster.
struct GatewayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gateway",
        abstract: "Serve the models of a Kubernetes cluster.",
        discussion: """
            Reads Models and EndpointSlices from the API server and goes on with what it knows \
            while that, or the controller, is gone. A variant's pods are those of the Service that \
            has the name of its workload. SIGTERM fails readiness, waits for --drain-delay and \
            drains.

            Examples:
              weir gateway --listen 0.0.0.0:8080 --admin 0.0.0.0:9901
              weir gateway --kubeconfig ~/.kube/config --namespace models
            """
    )

    @OptionGroup var cluster: ClusterFlags

    @Option(help: "The address to serve on.")
    var listen = "0.0.0.0:8080"

    @Option(
        name: [.customShort("c"), .customLong("config")],
        help: "A file with a Gateway resource, instead of --listen and --admin.",
        completion: .file(extensions: ["yaml", "yml"])
    )
    var file: String?

    @Option(
        name: .customLong("drain-delay"),
        help: "Seconds to serve on after SIGTERM, until nobody sends requests here any more."
    )
    var drainDelay = 5.0

    @Option(
        name: .customLong("key-period"),
        help: "Seconds within which tenants' keys in Secrets are read again."
    )
    var keyPeriod = 10.0

    mutating func validate() throws {
        guard self.keyPeriod >= 0.1, self.keyPeriod <= 3_600 else {
            throw ValidationError("--key-period is between 0.1 and 3600 seconds")
        }
        guard self.drainDelay >= 0, self.drainDelay <= 3_600 else {
            throw ValidationError("--drain-delay is between 0 and 3600 seconds")
        }
    }

    mutating func run() throws {
        let runtime = try GatewayRuntime(
            flags: self.cluster,
            file: self.baseFile(),
            drainDelay: .seconds(self.drainDelay),
            keyPeriod: .seconds(self.keyPeriod)
        )
        runtime.run()
    }

    private func baseFile() throws -> ConfigurationFile {
        guard let path = self.file else { return self.cluster.gatewayFile(listen: self.listen) }
        switch ConfigurationFile.read(path: path) {
        case .success(let file): return file
        case .failure(let failure):
            Problems.write([failure.problem])
            throw ExitCode.failure
        }
    }
}
