import ArgumentParser
import Kubernetes

/// `weir controller`: the controller on a Kubernetes cluster.
struct ControllerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "Resize the models' workloads of a Kubernetes cluster.",
        discussion: """
            Asks every gateway each second for what it counted and sets the replicas of the \
            models' workloads through the API server. Several may run: the one that holds the \
            lease acts.

            Examples:
              weir controller --gateway-service weir-gateway
              weir controller --kubeconfig ~/.kube/config --namespace models \
            --gateway-service weir-system/weir-gateway
            """
    )

    @OptionGroup var cluster: ClusterFlags

    @Option(
        name: .customLong("gateway-service"),
        help: "The Service of the gateways: NAME, or NAMESPACE/NAME."
    )
    var gatewayService = "weir-gateway"

    @Option(
        name: .customLong("gateway-admin-port"),
        help: "The port of the gateways' admin API, where their Service has none named `admin`."
    )
    var gatewayPort: Int?

    @Option(
        name: .customLong("gateway-token-file"),
        help: "A file with the token for the gateways' admin API.",
        completion: .file()
    )
    var gatewayTokenFile: String?

    @Option(help: "The Lease that says who leads: NAME, or NAMESPACE/NAME.")
    var lease = "weir-controller"

    @Option(
        name: .customLong("drain-deadline"),
        help: "Seconds that a replica may take to finish its requests before it is taken away."
    )
    var drainDeadline = 30.0

    @Option(
        name: .customLong("lease-duration"),
        help: "Seconds until another controller may take over from one that is silent."
    )
    var leaseDuration = 15.0

    @Option(
        name: .customLong("renew-deadline"),
        help: "Seconds after which a leader that cannot renew the lease stops writing."
    )
    var renewDeadline = 10.0

    @Option(name: .customLong("retry-period"), help: "Seconds between tries to get the lease.")
    var retryPeriod = 2.0

    mutating func validate() throws {
        if let port = self.gatewayPort, !(1...65_535).contains(port) {
            throw ValidationError("--gateway-admin-port is between 1 and 65535")
        }
        guard self.drainDeadline >= 0, self.drainDeadline <= 86_400 else {
            throw ValidationError("--drain-deadline is between 0 and 86400 seconds")
        }
        try self.checkLease()
        _ = try Self.key(self.gatewayService, "--gateway-service", "default")
        _ = try Self.key(self.lease, "--lease", "default")
    }

    private func checkLease() throws {
        let times = [self.leaseDuration, self.renewDeadline, self.retryPeriod]
        guard times.allSatisfy({ $0 > 0 && $0 <= 3_600 }) else {
            throw ValidationError("the times of the lease are between 0 and 3600 seconds")
        }
        var election = LeaderElectionOptions(identity: "weir")
        self.setTimes(of: &election)
        if let problem = election.problem { throw ValidationError("the lease: \(problem)") }
    }

    func setTimes(of election: inout LeaderElectionOptions) {
        election.leaseDuration = .seconds(self.leaseDuration)
        election.renewDeadline = .seconds(self.renewDeadline)
        election.retryPeriod = .seconds(self.retryPeriod)
    }

    mutating func run() throws {
        let runtime = try ControllerRuntime(self)
        runtime.run()
    }

    /// - Parameter namespace: where a name without one belongs.
    static func key(
        _ text: String,
        _ option: String,
        _ namespace: String
    ) throws -> ObjectKey {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, !parts.contains(where: \.isEmpty) else {
            throw ValidationError("\(option) is NAME or NAMESPACE/NAME, not `\(text)`")
        }
        return parts.count == 1
            ? ObjectKey(namespace: namespace, name: text)
            : ObjectKey(namespace: String(parts[0]), name: String(parts[1]))
    }
}
