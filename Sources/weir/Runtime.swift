import Admin
import Clusters
import Configuration
import Control
import Core
import EventLoop
import Glibc
import HTTPService
import Logging
import Proxy
import TLS
import Telemetry

/// Why `weir run` cannot start, in words.
struct RuntimeError: Error, CustomStringConvertible {
    let description: String
}

/// `weir run`, put together: one control loop, the clusters, the gateway and the admin server.
final class Runtime {
    private let source: ConfigurationSource
    /// Of the files as they were read last.
    private let cache: ConfigurationCache
    private let loop: EventLoop
    private let control: ControlPlane
    private let logger: Logger
    private let portsFile: String?
    private let accessLog: AccessLogWriter?
    private var admin: AdminServer?
    private var signals: SignalSource?
    private var watcher: FileWatcher?

    static let handledSignals = [SIGTERM, SIGINT, SIGHUP]

    init(
        source: ConfigurationSource,
        configuration: Configuration,
        cache: ConfigurationCache,
        portsFile: String?
    ) throws {
        Self.prepareProcess()
        self.source = source
        self.cache = cache
        self.portsFile = portsFile
        self.logger = Logger(label: "weir")
        do {
            self.loop = try EventLoop()
            let processes = try Self.processes(configuration, self.loop)
            self.control = ControlPlane(
                loop: self.loop,
                configuration: configuration,
                processes: processes,
                logger: self.logger,
                stateDirectory: configuration.gateway.spec.stateDirectory
            )
            self.accessLog = try Self.accessLog(configuration)
            try self.open(configuration)
        } catch let error as SystemError {
            throw RuntimeError(description: Self.advice(error))
        } catch let error as ClusterError {
            throw RuntimeError(description: error.description)
        }
        self.warnOfWhatIsMissing(configuration)
    }

    /// What every role does first: before any thread starts, so that all of them leave signals to
    /// the control loop.
    static func prepareProcess() {
        SignalSource.block(Self.handledSignals)
        signal(SIGPIPE, SIG_IGN)
        Self.raiseDescriptorLimit()
        LoggingSystem.bootstrap {
            LineLogHandler(
                label: $0,
                format: isatty(STDERR_FILENO) == 1 ? .text(colour: false) : .json
            )
        }
    }

    /// Opens everything that listens; what was opened before a failure ends with the process.
    private func open(_ configuration: Configuration) throws {
        do {
            var options = try Self.gatewayOptions(configuration)
            options.accessLog = self.accessLog
            try self.control.startGateway(
                options,
                certificates: Self.certificates(configuration, self.loop, self.logger)
            )
            try self.startAdmin(configuration)
            try self.writePortsFile()
        } catch {
            self.accessLog?.close()
            throw error
        }
    }

    /// What a configuration may say and this version does not do yet.
    private func warnOfWhatIsMissing(_ configuration: Configuration) {
        let spec = configuration.gateway.spec
        if spec.tracing != nil { self.warnMissing("Gateway", "tracing") }
        for tenant in configuration.tenants {
            let hasSecret = tenant.spec.keys.contains {
                if case .secret = $0 { true } else { false }
            }
            if !hasSecret { continue }
            self.logger.warning(
                "a key in a Secret opens nothing without a cluster: give its hash as `sha256`",
                metadata: ["resource": "Tenant \(tenant.name)"]
            )
        }
        for model in configuration.models {
            let name = "Model \(model.name)"
            if model.spec.concurrency == .adaptive {
                self.warnMissing(name, "concurrency.adaptive")
            }
            for variant in model.spec.variants {
                guard case .workload(let reference) = variant.backend,
                    reference.kind == .deployment
                else { continue }
                self.warnMissing(name, "workloadRef of kind Deployment")
            }
        }
    }

    private func warnMissing(_ resource: String, _ field: String) {
        self.logger.warning(
            "not done by this version: the setting has no effect",
            metadata: ["resource": "\(resource)", "field": "\(field)"]
        )
    }

    /// As many descriptors as we may: each connection takes one, each request's replica another.
    static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    static func advice(_ error: SystemError) -> String {
        error.code == EADDRINUSE
            ? "\(error): another program has the address: stop it or choose another in `listeners`"
            : error.description
    }

    /// The process cluster, if the configuration has process deployments.
    private static func processes(
        _ configuration: Configuration,
        _ loop: EventLoop
    ) throws(ClusterError) -> ProcessCluster? {
        let directory = configuration.gateway.spec.stateDirectory
        var options = ProcessCluster.Options(
            stateDirectory: directory,
            environment: Self.childEnvironment(),
            seed: EventLoop.readClock().nanoseconds
        )
        options.sentinelCommand = ["/proc/self/exe", "sentinel", "--state-directory", directory]
        return try ProcessCluster(loop: loop, options: options)
    }

    /// Our own, with our own folder as the last of PATH, so that a command `weir` is this one where
    /// none is installed.
    private static func childEnvironment() -> [String: String] {
        var environment = Output.environment()
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { readlink("/proc/self/exe", $0, bytes.count) } ?? 0
        }
        let path = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        if let slash = path.lastIndex(of: "/") {
            environment["PATH"] =
                environment["PATH", default: "/usr/bin:/bin"] + ":" + path[..<slash]
        }
        return environment
    }

    static func gatewayOptions(_ configuration: Configuration) throws -> Gateway.Options {
        let spec = configuration.gateway.spec
        var options = Gateway.Options()
        options.workers =
            spec.workers > 0 ? spec.workers : max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        options.seed = EventLoop.readClock().nanoseconds
        for listener in spec.listeners {
            options.listeners.append((listener.name, try self.address(listener.address)))
            options.http2[listener.name] = HTTP2Options(listener.http2)
        }
        return options
    }

    static func certificates(
        _ configuration: Configuration,
        _ loop: EventLoop,
        _ logger: Logger
    ) throws(RuntimeError) -> ListenerCertificates {
        do throws(TLSError) {
            return try ListenerCertificates(
                loop: loop,
                listeners: configuration.gateway.spec.listeners,
                logger: logger
            )
        } catch {
            throw RuntimeError(description: error.description)
        }
    }

    static func accessLog(
        _ configuration: Configuration
    ) throws(SystemError) -> AccessLogWriter? {
        guard let spec = configuration.gateway.spec.accessLog else { return nil }
        let format: AccessLogEncoder.Format =
            switch spec.format {
            case .json: .json
            case .text: .text
            }
        return try AccessLogWriter(
            .init(format: format, path: spec.path, sampleMillionths: spec.sample.millionths)
        )
    }

    static func address(_ address: ListenAddress) throws -> SocketAddress {
        guard let socket = SocketAddress(host: address.host, port: UInt16(clamping: address.port))
        else {
            throw RuntimeError(
                description: "`\(address)` is no numeric address: use one such as 127.0.0.1:8080"
            )
        }
        return socket
    }

    private func startAdmin(_ configuration: Configuration) throws {
        let spec = configuration.gateway.spec.admin
        let server = AdminServer(
            control: self.control,
            reload: { [unowned self] in self.reload() }
        )
        try server.start(on: Self.address(spec.address), tokenFile: spec.tokenFile)
        self.admin = server
        self.logger.info("admin", metadata: ["address": "\(server.address)"])
    }

    private func writePortsFile() throws(RuntimeError) {
        guard let path = self.portsFile else { return }
        var addresses = (self.control.gateway?.addresses ?? []).map { ($0.name, "\($0.address)") }
        if let admin = self.admin { addresses.append(("admin", "\(admin.address)")) }
        try PortsFile.write(addresses, to: path)
    }

    // MARK: Running

    /// Serves until a signal ends it.
    func run() {
        self.signals = SignalSource(loop: self.loop, signals: Self.handledSignals) {
            [unowned self] in self.received($0)
        }
        if !self.source.watchedPaths.isEmpty {
            self.watcher = FileWatcher(loop: self.loop, paths: self.source.watchedPaths) {
                [unowned self] in self.reload()
            }
        }
        self.control.startReplicas()
        self.loop.run()
        self.watcher?.stop()
        self.signals?.stop()
    }

    private func received(_ number: Int32) {
        switch number {
        case SIGHUP:
            self.accessLog?.reopen()
            self.control.certificates?.reload()
            self.control.upstreams.reload()
            self.reload()
        default:
            if self.control.isDraining {
                self.logger.warning("second signal: ending at once")
                self.control.killReplicas()
                _exit(128 + number)
            }
            self.shutDown()
        }
    }

    private func shutDown() {
        let deadline = self.control.configuration.gateway.spec.drainTimeout
        self.control.shutDown(within: deadline) { [unowned self] in
            self.admin?.stop()
            self.accessLog?.close()
            self.logger.info("stopped")
            self.loop.stop()
        }
    }

    /// Reads the configuration again. What is wrong with it is reported and changes nothing.
    @discardableResult
    private func reload() -> ReloadResult {
        if self.control.isDraining { return .refused("draining") }
        let result = self.source.load(cache: self.cache)
        guard let configuration = result.configuration else {
            let text = Problem.render(result.problems)
            self.control.refuse(text)
            return .refused(text)
        }
        if configuration == self.control.configuration {
            self.control.confirm()
            return .unchanged
        }
        let diff = ConfigurationDiff(from: self.control.configuration, to: configuration)
        self.control.apply(configuration)
        self.warnOfWhatIsMissing(configuration)
        self.logger.info(
            "configuration reloaded",
            metadata: ["generation": "\(self.control.configurationGeneration)"]
        )
        for change in diff.needingRestart {
            self.logger.warning(
                "takes effect after a restart",
                metadata: ["resource": "\(change.resource)", "field": "\(change.path)"]
            )
        }
        return .applied
    }
}
