import ArgumentParser
import EventLoop
import Glibc
import HTTPService

/// `weir get`: tables from a running Weir.
struct Get: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show models, replicas, rollouts, decisions and more of a running Weir.",
        discussion: """
            Examples:
              weir get models
              weir get replicas --watch
              weir get decisions
              weir get rollouts
              weir get replicas -o json --admin 127.0.0.1:9901
            """
    )

    enum Resource: String, ExpressibleByArgument, CaseIterable {
        case models
        case replicas
        case deployments
        case budgets
        case decisions
        case rollouts
    }

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
        case yaml
    }

    @Argument(help: "What to show: models, replicas, deployments, rollouts or decisions.")
    var resource: Resource

    @Option(name: .shortAndLong, help: "How to print: table, json or yaml.")
    var output = Format.table

    @Flag(name: .shortAndLong, help: "Show it again and again, until interrupted.")
    var watch = false

    @Option(help: "With --watch: seconds from one time to the next.")
    var interval = 2.0

    @OptionGroup var admin: AdminOptions

    /// Longest time between two looks, in seconds.
    private static let intervalMax = 3_600.0

    mutating func validate() throws {
        guard self.interval >= 0.1, self.interval <= Self.intervalMax else {
            throw ValidationError("--interval must be between 0.1 and \(Int(Self.intervalMax))")
        }
        _ = try self.admin.client()
    }

    mutating func run() throws {
        let client = try self.admin.client()
        do {
            try self.show(client)
            while self.watch {
                try Self.wait(.seconds(self.interval))
                try self.show(client)
            }
        } catch let error as AdminClientError {
            Output.error(error.description)
            throw ExitCode.failure
        } catch let error as SystemError {
            Output.error(error.description)
            throw ExitCode.failure
        }
    }

    private func show(_ client: AdminClient) throws {
        let document = try client.get("/api/v1/\(self.resource.rawValue)")
        let text =
            switch self.output {
            case .json: document.json()
            case .yaml: (self.watch ? "---\n" : "") + String(document.yaml().dropLast())
            case .table: self.table(document).text
            }
        // Home and erase below: the old picture goes without a flicker.
        let isPicture = self.watch && self.output == .table && isatty(STDOUT_FILENO) == 1
        Output.line(isPicture ? "\u{1B}[H\u{1B}[J\(text)" : text)
    }

    static func wait(_ duration: Duration) throws(SystemError) {
        let loop = try EventLoop()
        var isOver = false
        loop.schedule(after: duration) { isOver = true }
        while !isOver { loop.turn(mayBlock: true) }
    }

    // MARK: Tables

    private func table(_ document: JSONValue) -> Table {
        switch self.resource {
        case .models: Self.models(document)
        case .replicas: Self.replicas(document)
        case .deployments: Self.deployments(document)
        case .budgets: Self.budgets(document)
        case .decisions: DecisionTable.table(document["decisions"].elements)
        case .rollouts: RolloutText.rollouts(document["rollouts"].elements)
        }
    }

    private static func models(_ document: JSONValue) -> Table {
        var table = Table([
            .init(title: "MODEL"), .init(title: "PROTOCOL"), .init(title: "VARIANT"),
            .init(title: "WEIGHT", isNumber: true), .init(title: "READY", isNumber: true),
            .init(title: "DESIRED", isNumber: true), .init(title: "QUEUE", isNumber: true),
        ])
        for model in document["models"].elements {
            for variant in model["variants"].elements {
                let replicas = variant["replicas"]
                table.add(
                    [
                        model["name"], model["protocol"], variant["name"], variant["weight"],
                        replicas["ready"], replicas["desired"], model["queueDepth"],
                    ].map(\.cell)
                )
            }
        }
        return table
    }

    private static func replicas(_ document: JSONValue) -> Table {
        var table = Table([
            .init(title: "REPLICA"), .init(title: "MODEL"), .init(title: "VARIANT"),
            .init(title: "STATE"), .init(title: "FOR", isNumber: true), .init(title: "ADDRESS"),
            .init(title: "PID", isNumber: true), .init(title: "IN FLIGHT", isNumber: true),
            .init(title: "RESTARTS", isNumber: true), .init(title: "COLD START", isNumber: true),
            .init(title: "MESSAGE"),
        ])
        for replica in document["replicas"].elements {
            table.add([
                replica["id"].cell, replica["model"].cell, replica["variant"].cell,
                replica["state"].cell, Self.time(replica["stateSeconds"]),
                replica["address"].cell, replica["pid"].cell, replica["inFlight"].cell,
                replica["restarts"].cell, Self.time(replica["coldStartSeconds"]),
                replica["message"].cell,
            ])
        }
        return table
    }

    private static func deployments(_ document: JSONValue) -> Table {
        var table = Table([
            .init(title: "DEPLOYMENT"), .init(title: "READY", isNumber: true),
            .init(title: "DESIRED", isNumber: true), .init(title: "COLD START", isNumber: true),
        ])
        for deployment in document["deployments"].elements {
            let replicas = deployment["replicas"]
            table.add([
                deployment["name"].cell, replicas["ready"].cell, replicas["desired"].cell,
                Self.time(deployment["coldStartSeconds"]),
            ])
        }
        return table
    }

    private static func budgets(_ document: JSONValue) -> Table {
        var table = Table([
            .init(title: "BUDGET"), .init(title: "RESOURCE"), .init(title: "USED", isNumber: true),
            .init(title: "WANTED", isNumber: true), .init(title: "AVAILABLE", isNumber: true),
            .init(title: "TOTAL", isNumber: true), .init(title: "QUOTA", isNumber: true),
            .init(title: "NODES HAVE", isNumber: true), .init(title: "POOLS"),
        ])
        for budget in document["budgets"].elements {
            let pools = budget["pools"].elements.map { pool in
                let name = pool["name"].cell
                return "\(name.isEmpty ? "-" : name) \(pool["used"].cell)/"
                    + "\(pool["allocatable"].cell)"
            }
            table.add([
                budget["name"].cell, budget["resource"].cell, budget["used"].cell,
                budget["wanted"].cell, budget["available"].cell, budget["total"].cell,
                budget["quota"].cell, budget["allocatable"].cell,
                pools.isEmpty ? "-" : pools.joined(separator: ", "),
            ])
        }
        return table
    }

    /// Seconds for people: 340ms, 2.1s, 7m, 3h, 4d.
    private static func time(_ value: JSONValue) -> String {
        guard let seconds = value.number, seconds >= 0, seconds < 1e12 else { return "-" }
        switch seconds {
        case ..<1: return "\(Int(seconds * 1_000))ms"
        case ..<10: return "\((seconds * 10).rounded() / 10)s"
        case ..<120: return "\(Int(seconds))s"
        case ..<7_200: return "\(Int(seconds / 60))m"
        case ..<172_800: return "\(Int(seconds / 3_600))h"
        default: return "\(Int(seconds / 86_400))d"
        }
    }
}
