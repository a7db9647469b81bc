import Clusters
import Configuration
import Core
import Proxy
import TLS

extension ProcessGroupSpec {
    /// What a `ProcessDeployment` asks of the process cluster.
    init(_ deployment: ProcessDeploymentResource) {
        let spec = deployment.spec
        self.init(
            name: deployment.name,
            replicas: spec.replicas,
            command: spec.command,
            workingDirectory: spec.workingDirectory,
            environment: spec.environment.map { .init(name: $0.name, value: $0.value) },
            readiness: ReadinessSpec(spec.readiness),
            startupTimeout: spec.startupTimeout,
            terminationGracePeriod: spec.terminationGracePeriod,
            drainDeadline: spec.drainTimeout,
            outputLimit: spec.outputLimit
        )
    }
}

extension WorkloadReference {
    /// The name of the group that its replicas are: on a cluster, that of the Service they are
    /// found by, and the port.
    package func group(in namespace: String) -> String {
        if self.kind == .processDeployment { return self.name }
        return "\(namespace)/\(self.name):\(self.port ?? 0)"
    }
}

extension ReadinessSpec {
    init(_ probe: ProbeSpec) {
        self.init(
            path: probe.path,
            service: probe.service,
            period: probe.period,
            timeout: probe.timeout,
            successThreshold: probe.successThreshold,
            failureThreshold: probe.failureThreshold
        )
    }
}

extension FixedGroupSpec {
    /// A variant with fixed addresses. Without a health check an open port is enough.
    init(
        name: String,
        urls: [EndpointURL],
        probe: ProbeSpec?,
        security: (EndpointURL) -> ClientSecurity?
    ) {
        self.init(
            name: name,
            endpoints: urls.map {
                ReplicaAddress(
                    host: $0.host,
                    port: UInt16(clamping: $0.port),
                    security: security($0)
                )
            },
            readiness: probe.map { ReadinessSpec($0) } ?? ReadinessSpec(period: .seconds(2))
        )
    }
}

extension HTTP2Options {
    /// What a listener's settings mean to the gateway.
    package init(_ spec: HTTP2Spec) {
        self.init()
        self.isEnabled = spec.enabled
        self.maxConcurrentStreams = spec.maxConcurrentStreams
        self.streamWindowBytes = spec.initialStreamWindowSize
        self.connectionWindowBytes = spec.initialConnectionWindowSize
        self.maxHeadBytes = spec.maxHeaderListSize
    }
}
