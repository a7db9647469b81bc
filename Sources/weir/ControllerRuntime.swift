import Admin
import ArgumentParser
import Clusters
import Configuration
import Control
import Core
import EventLoop
import Glibc
import Kubernetes
import Logging

/// `weir controller`, put together.
final class ControllerRuntime {
    private let loop: EventLoop
    private let client: KubernetesClient
    private let role: ControllerRole
    private let admin: AdminServer
    private let logger: Logger
    private var signals: SignalSource?
    private var isLeaving = false

    init(_ command: ControllerCommand) throws {
        let flags = command.cluster
        let cluster = try ClusterRuntime(
            flags,
            flags.gatewayFile(listen: nil),
            settings: "the settings",
            component: "controller"
        )
        self.loop = cluster.loop
        self.client = cluster.client
        self.logger = cluster.logger
        let options = try Self.options(command, cluster)
        self.role = ControllerRole(
            client: cluster.client,
            options: options,
            base: cluster.base,
            baseFiles: [cluster.file],
            logger: cluster.logger
        )
        self.admin = AdminServer(control: self.role.control, reload: { .unchanged })
        let spec = cluster.base.gateway.spec.admin
        let address = try Runtime.address(spec.address)
        do throws(SystemError) {
            try self.admin.start(on: address, tokenFile: spec.tokenFile)
        } catch {
            throw RuntimeError(description: Runtime.advice(error))
        }
        if let portsFile = flags.portsFile {
            try PortsFile.write([("admin", "\(self.admin.address)")], to: portsFile)
        }
        self.logger.info(
            "controller of a cluster",
            metadata: [
                "server": "\(cluster.access.server)", "access": "\(cluster.access.name)",
                "admin": "\(self.admin.address)", "identity": "\(options.identity)",
            ]
        )
    }

    private static func options(
        _ command: ControllerCommand,
        _ cluster: ClusterRuntime
    ) throws -> ControllerRole.Options {
        let namespace = cluster.access.namespace
        var options = ControllerRole.Options(
            gatewayService: try ControllerCommand.key(
                command.gatewayService,
                "--gateway-service",
                namespace
            ),
            lease: try ControllerCommand.key(command.lease, "--lease", namespace),
            identity: Self.identity()
        )
        command.setTimes(of: &options.election)
        options.namespaces = cluster.namespaces
        options.gatewayPort = command.gatewayPort
        options.gatewayTokenFile = command.gatewayTokenFile
        options.drainDeadline = .seconds(command.drainDeadline)
        return options
    }

    /// The host's name and something that no other process has.
    private static func identity() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        let isKnown = gethostname(&buffer, buffer.count - 1) == 0
        let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let host = isKnown ? String(decoding: bytes, as: UTF8.self) : "weir"
        let uuid = readFile("/proc/sys/kernel/random/uuid", limit: 64) ?? []
        let text = String(decoding: uuid, as: UTF8.self).prefix { !$0.isWhitespace }
        // Without the kernel's, the time and the process: nobody else on this host has both.
        let unique = text.isEmpty ? "\(EventLoop.readWallClock())-\(getpid())" : String(text)
        return "\(host.prefix(64))_\(unique)"
    }

    func run() {
        self.signals = SignalSource(loop: self.loop, signals: Runtime.handledSignals) {
            [unowned self] in self.received($0)
        }
        self.role.start()
        self.loop.run()
        self.signals?.stop()
    }

    private func received(_ number: Int32) {
        if number == SIGHUP { return }
        if self.isLeaving {
            self.logger.warning("second signal: ending at once")
            _exit(128 + number)
        }
        self.isLeaving = true
        self.role.control.unreadiness = "leaving"
        self.role.stop { [unowned self] in
            self.client.close()
            self.admin.stop()
            self.logger.info("stopped")
            self.loop.stop()
        }
    }
}
