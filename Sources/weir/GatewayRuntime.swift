import Admin
import ArgumentParser
import Configuration
import Control
import Core
import EventLoop
import Glibc
import Kubernetes
import Logging
import Proxy
import Telemetry

/// `weir gateway`, put together.
final class GatewayRuntime {
    private let loop: EventLoop
    private let client: KubernetesClient
    private let role: GatewayRole
    private let admin: AdminServer
    private let accessLog: AccessLogWriter?
    private let logger: Logger
    private let drainDelay: Duration
    private var signals: SignalSource?
    private var delayTimer: LoopTimer?
    private var isLeaving = false

    /// - Parameter keyPeriod: within which tenants' keys in Secrets are read again.
    init(
        flags: ClusterFlags,
        file: ConfigurationFile,
        drainDelay: Duration,
        keyPeriod: Duration
    ) throws {
        let cluster = try ClusterRuntime(
            flags,
            file,
            settings: "the gateway's settings",
            component: "gateway"
        )
        self.drainDelay = drainDelay
        self.loop = cluster.loop
        self.client = cluster.client
        self.logger = cluster.logger
        self.role = GatewayRole(
            client: cluster.client,
            namespaces: cluster.namespaces,
            base: cluster.base,
            baseFiles: [file],
            keyPeriod: keyPeriod,
            logger: cluster.logger
        )
        do {
            self.accessLog = try Runtime.accessLog(cluster.base)
            self.admin = AdminServer(control: self.role.control, reload: { .unchanged })
            self.admin.slices = self.role.slices
            self.admin.wakes = self.role.wakes
            self.admin.follower = self.role.rollouts
            self.admin.shares = self.role.shares
            try self.open(cluster.base, portsFile: flags.portsFile)
        } catch let error as SystemError {
            throw RuntimeError(description: Runtime.advice(error))
        }
        self.logger.info(
            "gateway of a cluster",
            metadata: [
                "server": "\(cluster.access.server)", "access": "\(cluster.access.name)",
            ]
        )
    }

    private func open(_ base: Configuration, portsFile: String?) throws {
        var options = try Runtime.gatewayOptions(base)
        options.accessLog = self.accessLog
        try self.role.control.startGateway(
            options,
            certificates: Runtime.certificates(base, self.loop, self.logger)
        )
        let spec = base.gateway.spec.admin
        try self.admin.start(on: Runtime.address(spec.address), tokenFile: spec.tokenFile)
        guard let portsFile else { return }
        var addresses = (self.role.control.gateway?.addresses ?? []).map {
            ($0.name, "\($0.address)")
        }
        addresses.append(("admin", "\(self.admin.address)"))
        try PortsFile.write(addresses, to: portsFile)
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
        if number == SIGHUP {
            self.accessLog?.reopen()
            self.role.control.certificates?.reload()
            self.role.control.upstreams.reload()
            return
        }
        if self.isLeaving {
            self.logger.warning("second signal: ending at once")
            _exit(128 + number)
        }
        self.isLeaving = true
        self.role.leave()
        self.logger.info("leaving", metadata: ["delay": "\(self.drainDelay)"])
        self.delayTimer = self.loop.schedule(after: self.drainDelay) { [unowned self] in
            self.drain()
        }
    }

    private func drain() {
        let deadline = self.role.control.configuration.gateway.spec.drainTimeout
        self.role.control.shutDown(within: deadline) { [unowned self] in
            self.role.stop()
            self.client.close()
            self.admin.stop()
            self.accessLog?.close()
            self.logger.info("stopped")
            self.loop.stop()
        }
    }
}
