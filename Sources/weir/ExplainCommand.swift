import ArgumentParser
import EventLoop
import HTTPService

/// `weir explain`: why a model has the replicas and the weights it has.
struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say why a model has the replicas and the weights it has.",
        discussion: """
            Shows the shares of the variants and what a rollout makes of them; what was measured, \
            what each target of the ScalingPolicy recommends, which limits changed \
            that, and what was decided; then the last changes.

            Examples:
              weir explain digits
              weir explain digits -o json
            """
    )

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case text
        case json
        case yaml
    }

    @Argument(help: "The model.")
    var model: String

    @Option(name: .shortAndLong, help: "How to print: text, json or yaml.")
    var output = Format.text

    @OptionGroup var admin: AdminOptions

    mutating func validate() throws {
        _ = try self.admin.client()
        try ResourceName.check(self.model, "model")
    }

    mutating func run() throws {
        do {
            let document = try self.admin.client().get("/api/v1/models/\(self.model)/explain")
            switch self.output {
            case .json: Output.line(document.json())
            case .yaml: Output.line(String(document.yaml().dropLast()))
            case .text: Output.line(Explanation(document).text)
            }
        } catch let error as AdminClientError {
            Output.error(error.description)
            throw ExitCode.failure
        }
    }
}

/// The document of `explain` as words and tables.
struct Explanation {
    let document: JSONValue

    /// Changes shown, the latest last.
    private static let changesMax = 10

    init(_ document: JSONValue) {
        self.document = document
    }

    var text: String {
        var blocks = [self.headline, self.weights]
        if self.document["scaled"] == .bool(true) {
            blocks += self.document["variants"].elements.map(Self.variant)
        }
        if let changes = self.changes { blocks.append(changes) }
        return blocks.joined(separator: "\n\n")
    }

    private var headline: String {
        let name = self.document["model"].cell
        guard self.document["scaled"] == .bool(true) else {
            let counts = self.document["variants"].elements.map {
                "\($0["name"].cell): \($0["replicas"]["desired"].cell) replicas wanted, "
                    + "\($0["replicas"]["ready"].cell) ready"
            }
            return "\(name) is not scaled: \(self.document["why"].cell).\n"
                + counts.map { "  \($0)" }.joined(separator: "\n")
        }
        let dryRun =
            self.document["dryRun"] == .bool(true) ? " (dry run: nothing is written)" : ""
        return "\(name) is scaled by ScalingPolicy \(self.document["policy"].cell)\(dryRun)."
    }

    /// The shares, and why they are so.
    private var weights: String {
        let shares = self.document["variants"].elements.map {
            "\($0["name"].cell) \($0["weight"].cell)"
        }
        return "Weights: \(shares.joined(separator: ", ")).\n"
            + "  Because: \(self.document["whyWeights"].cell)."
    }

    // MARK: A variant

    private static func variant(_ variant: JSONValue) -> String {
        let name = variant["name"].cell
        let decision = variant["decision"]
        let replicas = variant["replicas"]
        guard decision != .null else {
            return "\(name): \(replicas["desired"].cell) replicas wanted, "
                + "\(replicas["ready"].cell) ready; nothing was decided about it."
        }
        var blocks = [
            "\(name): \(decision["desired"].cell) replicas wanted, "
                + "\(replicas["ready"].cell) ready (\(decision["outcome"].cell)).\n"
                + "  Because: \(decision["text"].cell)."
        ]
        if case .string(let why) = variant["notComing"] {
            blocks.append("  A replica does not come: \(why).")
        }
        if case .string(let why) = variant["obstruction"] {
            blocks.append("  Nothing is written: \(why).")
        }
        blocks.append(Self.inputs(decision["inputs"]))
        blocks.append(Self.recommendations(decision["recommendations"].elements))
        let constraints = decision["constraints"].elements
        if !constraints.isEmpty { blocks.append(Self.constraints(constraints)) }
        return blocks.joined(separator: "\n\n")
    }

    /// What was measured, without what is not known.
    private static func inputs(_ inputs: JSONValue) -> String {
        let rows: [(String, String, String)] = [
            ("replicas ready", "ready", ""), ("starting", "starting", ""),
            ("draining", "draining", ""), ("not coming", "stuck", ""),
            ("requests in flight", "inFlight", ""), ("requests queued", "queued", ""),
            ("requests, stable window", "requestsPerSecond", "/s"),
            ("requests, burst window", "burstRequestsPerSecond", "/s"),
            ("requests expected when a start is ready", "forecastRequestsPerSecond", "/s"),
            ("what a replica can do at the objective", "capacityRequestsPerSecond", "/s"),
            ("cold start", "coldStartSeconds", " s"), ("drain", "drainSeconds", " s"),
        ]
        var table = Table([.init(title: "MEASURED"), .init(title: "VALUE", isNumber: true)])
        for (title, key, unit) in rows {
            guard let value = inputs[key].number else { continue }
            table.add([title, Self.number(value) + unit])
        }
        if let attainment = inputs["attainment"].number {
            table.add(["requests within the objectives", Self.number(100 * attainment) + " %"])
        }
        return Self.indented(table.text)
    }

    private static func recommendations(_ recommendations: [JSONValue]) -> String {
        var table = Table([
            .init(title: "TARGET"), .init(title: "REPLICAS", isNumber: true), .init(title: ""),
            .init(title: "BECAUSE"),
        ])
        for recommendation in recommendations {
            let won = recommendation["won"] == .bool(true)
            table.add([
                recommendation["target"].cell, recommendation["replicas"].cell, won ? "wins" : "",
                recommendation["text"].cell,
            ])
        }
        return Self.indented(table.text)
    }

    private static func constraints(_ constraints: [JSONValue]) -> String {
        var table = Table([
            .init(title: "FROM", isNumber: true), .init(title: "TO", isNumber: true),
            .init(title: "LIMIT"),
        ])
        for constraint in constraints {
            table.add([
                constraint["before"].cell, constraint["after"].cell, constraint["text"].cell,
            ])
        }
        return Self.indented(table.text)
    }

    private var changes: String? {
        let changes = self.document["changes"].elements.suffix(Self.changesMax)
        if changes.isEmpty { return nil }
        return "Last changes:\n" + Self.indented(DecisionTable.table(Array(changes)).text)
    }

    // MARK: Text

    private static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }
            .joined(separator: "\n")
    }

    static func number(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "?" }
        let digits = value.magnitude >= 100 ? 1.0 : value.magnitude >= 10 ? 10 : 100
        let text = "\((value * digits).rounded() / digits)"
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }
}

/// Changes of replicas as a table.
enum DecisionTable {
    static func table(_ changes: [JSONValue]) -> Table {
        var table = Table([
            .init(title: "TIME"), .init(title: "MODEL"), .init(title: "VARIANT"),
            .init(title: "FROM", isNumber: true), .init(title: "TO", isNumber: true),
            .init(title: "REASON"), .init(title: "BECAUSE"),
        ])
        for change in changes {
            let isDryRun = change["dryRun"] == .bool(true)
            table.add([
                LocalTime.text(change["time"].number), change["model"].cell,
                change["variant"].cell, change["from"].cell, change["to"].cell,
                change["reason"].cell + (isDryRun ? " (dry run)" : ""), change["text"].cell,
            ])
        }
        return table
    }
}
