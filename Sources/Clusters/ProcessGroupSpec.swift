import Core

/// How a replica's readiness is asked for.
package struct ReadinessSpec: Hashable, Sendable {
    /// The path of a GET request, starting with `/`. With neither this nor `service` being able to
    /// connect is enough.
    package var path: String?
    /// The name that gRPC's health service is asked for, empty for the server as a whole. It goes
    /// before `path`.
    package var service: String?
    /// From one answer to the next question.
    package var period: Duration = .milliseconds(200)
    /// For connecting and the status line together.
    package var timeout: Duration = .seconds(1)
    /// Good answers in a row that make it ready, at least 1.
    package var successThreshold: Int = 1
    /// Bad answers in a row that make a ready replica unready, at least 1.
    package var failureThreshold: Int = 3

    package init(
        path: String? = nil,
        service: String? = nil,
        period: Duration = .milliseconds(200),
        timeout: Duration = .seconds(1),
        successThreshold: Int = 1,
        failureThreshold: Int = 3
    ) {
        self.path = path
        self.service = service
        self.period = period
        self.timeout = timeout
        self.successThreshold = successThreshold
        self.failureThreshold = failureThreshold
    }

    func validate(_ subject: String) throws(ClusterError) {
        if let path {
            let isPlain = path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
            guard path.hasPrefix("/"), isPlain, path.utf8.count <= 2_048 else {
                throw ClusterError(
                    "\(subject): the readiness path \(quoted(path)) must start with `/` and hold "
                        + "neither spaces nor control characters"
                )
            }
        }
        if let service, service.utf8.count > 256 {
            throw ClusterError("\(subject): the name of a service has at most 256 bytes")
        }
        guard self.period >= .milliseconds(10), self.timeout >= .milliseconds(10) else {
            throw ClusterError("\(subject): readiness period and timeout must be at least 10ms")
        }
        guard self.successThreshold >= 1, self.failureThreshold >= 1 else {
            throw ClusterError("\(subject): readiness thresholds must be at least 1")
        }
    }
}

/// One variable of an environment. Order counts: a value may refer to earlier ones.
package struct EnvironmentVariable: Hashable, Sendable {
    package var name: String
    package var value: String

    package init(name: String, value: String) {
        self.name = name
        self.value = value
    }
}

/// A group of local processes: what `ProcessDeployment` says, in plain values.
package struct ProcessGroupSpec: Hashable, Sendable {
    /// Lower-case letters, digits, `-` and `.`, as Kubernetes names are.
    package var name: String
    /// How many to start with; an unchanged number leaves what `scale` asked for since.
    package var replicas: Int
    /// Program and arguments; `$(PORT)`, `$(PORT_name)`, `$(REPLICA)` and `$(VARIABLE)` are
    /// replaced.
    package var command: [String]
    /// Where it runs; nil: where Weir runs. Substituted as well.
    package var workingDirectory: String?
    package var environment: [EnvironmentVariable]
    package var readiness: ReadinessSpec
    /// From start to first readiness; past it the replica is stopped and started again.
    package var startupTimeout: Duration
    /// From SIGTERM to SIGKILL.
    package var terminationGracePeriod: Duration
    /// How long requests in flight may hold up a stop.
    package var drainDeadline: Duration
    /// Bytes of output kept per replica.
    package var outputLimit: Int
    package var backOff: RestartBackOff

    package init(
        name: String,
        replicas: Int = 1,
        command: [String],
        workingDirectory: String? = nil,
        environment: [EnvironmentVariable] = [],
        readiness: ReadinessSpec = ReadinessSpec(),
        startupTimeout: Duration = .seconds(60),
        terminationGracePeriod: Duration = .seconds(30),
        drainDeadline: Duration = .seconds(30),
        outputLimit: Int = 64 * 1024,
        backOff: RestartBackOff = RestartBackOff()
    ) {
        self.name = name
        self.replicas = replicas
        self.command = command
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.readiness = readiness
        self.startupTimeout = startupTimeout
        self.terminationGracePeriod = terminationGracePeriod
        self.drainDeadline = drainDeadline
        self.outputLimit = outputLimit
        self.backOff = backOff
    }

    /// What makes a running replica outdated when it changes; all else applies to it as it runs.
    func hasSameTemplate(as other: ProcessGroupSpec) -> Bool {
        self.command == other.command && self.workingDirectory == other.workingDirectory
            && self.environment == other.environment
    }

    /// Checks everything that can be known without starting anything.
    package func validate() throws(ClusterError) {
        try validateGroupName(self.name)
        try self.validateCommand()
        try self.readiness.validate(self.name)
        try validateReplicaCount(self.replicas, of: self.name)
        guard self.startupTimeout > .zero else {
            throw ClusterError("\(self.name): startupTimeout must be more than 0")
        }
        guard self.terminationGracePeriod >= .zero, self.drainDeadline >= .zero else {
            throw ClusterError("\(self.name): periods of time cannot be negative")
        }
        guard self.outputLimit >= 0, self.outputLimit <= ClusterLimits.outputBytesMax else {
            throw ClusterError(
                "\(self.name): the output limit must be 0…\(ClusterLimits.outputBytesMax) bytes"
            )
        }
        try self.backOff.validate(self.name)
    }

    private func validateCommand() throws(ClusterError) {
        guard let program = self.command.first, !program.isEmpty else {
            throw ClusterError("\(self.name): the command is empty")
        }
        guard self.command.count <= ClusterLimits.wordsMax,
            self.environment.count <= ClusterLimits.wordsMax
        else {
            throw ClusterError(
                "\(self.name): more than \(ClusterLimits.wordsMax) words or variables"
            )
        }
        let words = self.command + self.environment.map(\.value) + [self.workingDirectory ?? ""]
        for word in words {
            guard !word.utf8.contains(0) else {
                throw ClusterError("\(self.name): \(quoted(word)) contains a NUL byte")
            }
            guard word.utf8.count <= ClusterLimits.wordBytesMax else {
                throw ClusterError(
                    "\(self.name): a word is longer than \(ClusterLimits.wordBytesMax) bytes"
                )
            }
        }
        for variable in self.environment {
            let isPlain = variable.name.utf8.allSatisfy { $0 != 0 && $0 != UInt8(ascii: "=") }
            guard !variable.name.isEmpty, isPlain, variable.name.utf8.count <= 1_024 else {
                throw ClusterError(
                    "\(self.name): \(quoted(variable.name)) cannot name an environment variable"
                )
            }
        }
    }
}

/// Group names end up in file names and in markers, so their alphabet is small.
func validateGroupName(_ name: String) throws(ClusterError) {
    let isPlain = name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."): true
        default: false
        }
    }
    guard isPlain, let first = name.utf8.first, first != UInt8(ascii: "."),
        first != UInt8(ascii: "-"), name.utf8.count <= ClusterLimits.nameBytesMax - 32
    else {
        throw ClusterError(
            "\(quoted(name)) cannot name a group: use lower-case letters, digits, `-` and `.`"
        )
    }
}

func validateReplicaCount(_ count: Int, of group: String) throws(ClusterError) {
    guard count >= 0, count <= ClusterLimits.replicasMax else {
        throw ClusterError(
            "\(group): \(count) replicas asked for; 0…\(ClusterLimits.replicasMax) are possible"
        )
    }
}

/// For messages: bounded, control characters made visible.
func quoted(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars.prefix(120) {
        shown += scalar.value < 0x20 || scalar.value == 0x7F ? "\u{FFFD}" : String(scalar)
    }
    return "`\(shown)\(text.unicodeScalars.count > 120 ? "…" : "")`"
}
