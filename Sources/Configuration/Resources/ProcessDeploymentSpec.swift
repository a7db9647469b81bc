/// A group of local processes: standalone's stand-in for a Deployment.
package struct ProcessDeploymentSpec: Sendable, Hashable {
    package var replicas: Int
    /// Program and arguments; `$(PORT)`, `$(PORT_name)`, `$(REPLICA)` and `$(VARIABLE)` are
    /// replaced.
    package var command: [String]
    /// Resolved against the file's folder. Variables are replaced here too.
    package var workingDirectory: String
    /// In order: a value may refer to variables before it.
    package var environment: [EnvironmentVariableSpec]
    package var readiness: ProbeSpec
    /// From start to first readiness.
    package var startupTimeout: Duration
    /// From SIGTERM to SIGKILL.
    package var terminationGracePeriod: Duration
    /// How long requests in flight may hold up a stop.
    package var drainTimeout: Duration
    /// Bytes of output kept per replica.
    package var outputLimit: Int

    /// What a `ProcessDeployment` without any field but its command says; its command is empty.
    package static let defaults = ProcessDeploymentSpec(
        Schemas.defaults(of: .processDeployment),
        source: .program
    )

    init(_ record: Record, source: ResourceSource) {
        self.replicas = record.integer("replicas")
        self.command = record.texts("command")
        self.workingDirectory = source.resolve(record.text("workingDirectory"))
        self.environment = record.records("env").map(EnvironmentVariableSpec.init)
        self.readiness = ProbeSpec(record.record("readiness"))
        self.startupTimeout = record.duration("startupTimeout")
        self.terminationGracePeriod = record.duration("terminationGracePeriod")
        self.drainTimeout = record.duration("drainTimeout")
        self.outputLimit = record.integer("outputLimit")
    }
}

package struct EnvironmentVariableSpec: Sendable, Hashable {
    package var name: String
    package var value: String

    init(_ record: Record) {
        self.name = record.text("name")
        self.value = record.text("value")
    }
}
