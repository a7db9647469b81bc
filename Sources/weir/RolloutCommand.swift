import Admin
import ArgumentParser
import Core
import EventLoop
import HTTPService

/// `weir rollout`: starts, watches and steers a model's move from one variant to another.
struct RolloutGroup: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollout",
        abstract: "Move a model to another variant step by step, and watch or steer that.",
        discussion: """
            Exit codes of `status`, `start --watch`, `promote --watch` and `retry --watch`: 0 the \
            wanted variant is live, 2 it was rolled back, 3 the rollout waits for somebody, 4 it \
            is under way (without --watch), 1 an error.

            Examples:
              weir rollout start digits v2 --watch
              weir rollout status digits
              weir rollout promote digits --full
              weir rollout report digits --output digits.html
            """,
        subcommands: [
            RolloutStart.self, RolloutStatusCommand.self, RolloutPause.self, RolloutPromote.self,
            RolloutAbort.self, RolloutRetry.self, RolloutHistory.self, RolloutReportCommand.self,
        ]
    )
}

/// What all rollout commands ask for.
struct RolloutOptions: ParsableArguments {
    @Argument(help: "The model.")
    var model: String

    @OptionGroup var admin: AdminWriteOptions

    mutating func validate() throws {
        _ = try self.admin.client()
        try ResourceName.check(self.model, "model")
    }

    func client() throws -> RolloutClient {
        RolloutClient(
            admin: try self.admin.client(),
            model: self.model,
            token: try self.admin.token()
        )
    }
}

/// The admin API as far as it is about one model's rollouts.
struct RolloutClient {
    let admin: AdminClient
    let model: String
    let token: String?

    func status() throws -> JSONValue { try self.admin.get("/api/v1/rollouts/\(self.model)") }

    func start(_ variant: String) throws -> JSONValue {
        try self.admin.put(
            "/api/v1/models/\(self.model)/live",
            json: "{\"variant\": \"\(variant)\"}",
            token: self.token
        )
    }

    func perform(_ verb: String, json: String = "{}") throws -> JSONValue {
        try self.admin.post(
            "/api/v1/rollouts/\(self.model)/\(verb)",
            json: json,
            token: self.token
        )
    }

    func timeline(_ rollout: Int?) throws -> JSONValue {
        let query = rollout.map { "?rollout=\($0)" } ?? ""
        return try self.admin.get("/api/v1/rollouts/\(self.model)/timeline\(query)")
    }
}

/// What a rollout command says with its exit code.
enum RolloutExit {
    static let live = ExitCode.success
    static let rolledBack = ExitCode(2)
    static let paused = ExitCode(3)
    static let underWay = ExitCode(4)

    static func code(_ document: JSONValue) -> ExitCode {
        switch document["state"] {
        case .string("live"): self.live
        case .string("rolledBack"): self.rolledBack
        case .string("paused") where document["waitsForSomebody"] == .bool(true): self.paused
        default: self.underWay
        }
    }

    /// Runs a command; what goes wrong is said and ends with 1.
    static func reporting(_ body: () throws -> ExitCode) throws {
        let code: ExitCode
        do {
            code = try body()
        } catch let error as AdminClientError {
            Output.error(error.description)
            throw ExitCode.failure
        } catch let error as SystemError {
            Output.error(error.description)
            throw ExitCode.failure
        }
        if code != .success { throw code }
    }
}

// MARK: Commands

struct RolloutStart: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Start a rollout to a variant.",
        discussion: """
            The same as changing `live`, without a change of a file: what was asked for by hand \
            holds until the file names another variant than before.

            Example: weir rollout start digits v2 --watch
            """
    )

    @OptionGroup var options: RolloutOptions

    @Argument(help: "The variant that should serve.")
    var variant: String

    @OptionGroup var watching: WatchOptions

    mutating func validate() throws {
        try ResourceName.check(self.variant, "variant")
    }

    mutating func run() throws {
        try RolloutExit.reporting {
            let client = try self.options.client()
            let document = try client.start(self.variant)
            Output.line(RolloutText.headline(document))
            return try self.watching.follow(client, wanted: self.variant)
        }
    }
}

struct RolloutStatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Say where a model's rollout stands, and what its evidence still needs.",
        discussion: """
            Exit codes: 0 live, 2 rolled back, 3 paused until somebody decides, 4 under way \
            (without --watch), 1 an error.

            Examples:
              weir rollout status digits
              weir rollout status digits --watch
            """
    )

    @OptionGroup var options: RolloutOptions

    @Option(name: .shortAndLong, help: "How to print: table, json or yaml.")
    var output = Get.Format.table

    @OptionGroup var watching: WatchOptions

    mutating func run() throws {
        try RolloutExit.reporting {
            let client = try self.options.client()
            if self.watching.watch { return try self.watching.follow(client) }
            let document = try client.status()
            switch self.output {
            case .json: Output.line(document.json())
            case .yaml: Output.line(String(document.yaml().dropLast()))
            case .table: Output.line(RolloutText.status(document))
            }
            return RolloutExit.code(document)
        }
    }
}

struct RolloutPause: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Hold a rollout where it is until somebody promotes it.",
        discussion: "Example: weir rollout pause digits"
    )

    @OptionGroup var options: RolloutOptions

    mutating func run() throws {
        try RolloutExit.reporting {
            Output.line(RolloutText.headline(try self.options.client().perform("pause")))
            return .success
        }
    }
}

struct RolloutPromote: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "promote",
        abstract: "End a pause or the rest of a step; with --full go to the end.",
        discussion: """
            Without --full the next step begins; a pause by hand is just ended. With it there are \
            no further steps, but still no more traffic than there are replicas for.

            Example: weir rollout promote digits --full --watch
            """
    )

    @OptionGroup var options: RolloutOptions

    @Flag(help: "Skip all remaining steps.")
    var full = false

    @OptionGroup var watching: WatchOptions

    mutating func run() throws {
        try RolloutExit.reporting {
            let client = try self.options.client()
            let json = "{\"full\": \(self.full)}"
            Output.line(RolloutText.headline(try client.perform("promote", json: json)))
            return try self.watching.follow(client)
        }
    }
}

struct RolloutAbort: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "abort",
        abstract: "Roll back to the old variant.",
        discussion: "Example: weir rollout abort digits"
    )

    @OptionGroup var options: RolloutOptions

    mutating func run() throws {
        try RolloutExit.reporting {
            Output.line(RolloutText.headline(try self.options.client().perform("abort")))
            return .success
        }
    }
}

struct RolloutRetry: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Start again what was rolled back.",
        discussion: "Example: weir rollout retry digits --watch"
    )

    @OptionGroup var options: RolloutOptions
    @OptionGroup var watching: WatchOptions

    mutating func run() throws {
        try RolloutExit.reporting {
            let client = try self.options.client()
            Output.line(RolloutText.headline(try client.perform("retry")))
            return try self.watching.follow(client)
        }
    }
}

struct RolloutHistory: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "history",
        abstract: "Show what happened in a model's rollouts, the latest last.",
        discussion: """
            Examples:
              weir rollout history digits
              weir rollout history digits -o json
            """
    )

    @OptionGroup var options: RolloutOptions

    @Option(name: .shortAndLong, help: "How to print: table, json or yaml.")
    var output = Get.Format.table

    mutating func run() throws {
        try RolloutExit.reporting {
            let document = try self.options.client().status()["history"]
            switch self.output {
            case .json: Output.line(document.json())
            case .yaml: Output.line(String(document.yaml().dropLast()))
            case .table: Output.line(RolloutText.history(document.elements).text)
            }
            return .success
        }
    }
}

/// `--watch` and how long.
struct WatchOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Wait for the end, and say what happens until then.")
    var watch = false

    @Option(help: "With --watch: give up after so many seconds, with exit code 1.")
    var timeout: Double?

    /// Between two looks, in seconds.
    private static let period = 0.5
    /// A Weir that does not answer for so long is gone; one that restarts is not.
    private static let silenceSecondsMax = 30.0

    mutating func validate() throws {
        if let timeout = self.timeout, !(timeout > 0 && timeout <= 1e7) {
            throw ValidationError("--timeout must be above 0")
        }
    }

    /// The exit code: of what the rollout came to, or of where it stands now.
    /// - Parameter wanted: the variant that should be live; another one is as good as a rollback.
    func follow(_ client: RolloutClient, wanted: String? = nil) throws -> ExitCode {
        guard self.watch else { return .success }
        var watcher = RolloutWatcher()
        let began = EventLoop.readClock()
        var heardAt = began
        while true {
            do {
                let document = try client.status()
                heardAt = EventLoop.readClock()
                watcher.show(document)
                let code = RolloutExit.code(document)
                if code == RolloutExit.live, let wanted, document["stable"] != .string(wanted) {
                    return RolloutExit.rolledBack
                }
                if code != RolloutExit.underWay { return code }
            } catch let error as AdminClientError where error.isSilence {
                if EventLoop.readClock().seconds(since: heardAt) > Self.silenceSecondsMax {
                    throw error
                }
            }
            if let timeout = self.timeout, EventLoop.readClock().seconds(since: began) > timeout {
                throw AdminClientError(
                    description: "the rollout of \(client.model) is not over after \(timeout) s: "
                        + "see `weir rollout status \(client.model)`"
                )
            }
            try Get.wait(.seconds(Self.period))
        }
    }
}
