import Testing

@testable import Configuration

/// A file with one mistake, and what must be said about it.
struct BadFile: Sendable, CustomTestStringConvertible {
    var name: String
    var text: String
    var line: Int
    var column: Int
    var path: String
    var message: String
    var hint: String?
    var severity = Problem.Severity.error

    var testDescription: String { self.name }

    /// - Parameter marked: where `⟨` stands in it, the problem is expected; it is taken out.
    init(
        _ name: String,
        _ marked: String,
        path: String,
        _ message: String,
        hint: String? = nil,
        severity: Problem.Severity = .error
    ) {
        var text = ""
        var place = (line: 0, column: 0)
        var line = 1
        var column = 1
        for scalar in marked.unicodeScalars {
            if scalar == "⟨" {
                place = (line, column)
                continue
            }
            text.unicodeScalars.append(scalar)
            (line, column) = scalar == "\n" ? (line + 1, 1) : (line, column + 1)
        }
        self.name = name
        self.text = text
        self.line = place.line
        self.column = place.column
        self.path = path
        self.message = message
        self.hint = hint
        self.severity = severity
    }
}

extension BadFile {
    static func head(_ kind: String, _ name: String) -> String {
        "apiVersion: weir.dev/v1alpha1\nkind: \(kind)\nmetadata: {name: \(name)}\n"
    }

    static func gateway(_ spec: String) -> String {
        "apiVersion: weir.dev/v1alpha1\nkind: Gateway\nmetadata: {name: default}\nspec:\n" + spec
    }

    /// A model with the variants v1 and v2.
    static func model(_ rest: String, name: String = "m", live: String = "  live: v1\n") -> String {
        """
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: \(name)}
        spec:
          protocol: OpenAI
          variants:
          - {name: v1, endpoints: ["http://127.0.0.1:1"]}
          - {name: v2, endpoints: ["http://127.0.0.1:2"]}
        \(live)\(rest)
        """
    }

    /// A ProcessDeployment that a model uses.
    static func processes(_ spec: String) -> String {
        """
        apiVersion: weir.dev/v1alpha1
        kind: ProcessDeployment
        metadata: {name: p}
        spec:
        \(spec)
        ---
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: m}
        spec: {protocol: HTTP,
          variants: [{name: v, workloadRef: {kind: ProcessDeployment, name: p}}]}
        """
    }

    static func scaling(_ spec: String) -> String {
        """
        apiVersion: weir.dev/v1alpha1
        kind: ScalingPolicy
        metadata: {name: s}
        spec:
        \(spec)
        ---
        \(Self.model("  scaling: {policy: s, maxReplicas: 2}\n"))
        """
    }

    static func rollout(_ spec: String) -> String {
        Self.head("RolloutPolicy", "r") + "spec:\n\(spec)\n---\n"
            + Self.model("  rollout: {policy: r}\n")
    }

    static func tenant(_ spec: String, name: String = "t") -> String {
        Self.head("Tenant", name) + "spec:\n\(spec)\n---\n"
    }

    static let hash = String(repeating: "0a", count: 32)

    static let all =
        Self.documents + Self.types + Self.values + Self.models + Self.others
        + Self.pools

    // MARK: Documents and YAML

    static let documents: [BadFile] = [
        BadFile("an empty file", "", path: "", "the file holds no resources"),
        BadFile("comments only", "# nothing\n", path: "", "the file holds no resources"),
        BadFile("a list", "⟨- a\n", path: "", "expected a mapping, found a list"),
        BadFile("text", "⟨hello\n", path: "", "expected a mapping, found text"),
        BadFile(
            "no version",
            "⟨kind: Gateway\nmetadata: {name: g}\n",
            path: "apiVersion",
            "is missing",
            hint: "weir.dev/v1alpha1"
        ),
        BadFile(
            "another version",
            "apiVersion: ⟨weir.dev/v2\nkind: Gateway\nmetadata: {name: g}\n",
            path: "apiVersion",
            "`weir.dev/v2` is not a version that Weir knows",
            hint: "write `weir.dev/v1alpha1`"
        ),
        BadFile(
            "no kind",
            "⟨apiVersion: weir.dev/v1alpha1\nmetadata: {name: g}\n",
            path: "kind",
            "is missing",
            hint: "Gateway"
        ),
        BadFile(
            "a misspelt kind",
            "apiVersion: weir.dev/v1alpha1\nkind: ⟨Modle\nmetadata: {name: g}\n",
            path: "kind",
            "there is no kind `Modle`",
            hint: "did you mean `Model`?"
        ),
        BadFile(
            "a kind that is a list",
            "apiVersion: weir.dev/v1alpha1\nkind: ⟨[Model]\nmetadata: {name: g}\n",
            path: "kind",
            "expected a kind, found a list"
        ),
        BadFile(
            "no metadata",
            "⟨apiVersion: weir.dev/v1alpha1\nkind: Gateway\n",
            path: "metadata",
            "is missing"
        ),
        BadFile(
            "no name",
            "apiVersion: weir.dev/v1alpha1\nkind: Gateway\n⟨metadata: {}\n",
            path: "metadata.name",
            "is missing",
            hint: "write `name:` and a name"
        ),
        BadFile(
            "a name in capitals",
            "apiVersion: weir.dev/v1alpha1\nkind: Gateway\nmetadata:\n  name: ⟨My_Gateway\n",
            path: "metadata.name",
            "`My_Gateway` is not a name",
            hint: "lower-case letters"
        ),
        BadFile(
            "an unknown top-level field",
            "apiVersion: weir.dev/v1alpha1\nkind: Gateway\nmetadata: {name: g}\n⟨specs: {}\n",
            path: "specs",
            "unknown field `specs`",
            hint: "did you mean `spec`?"
        ),
        BadFile(
            "no spec",
            "⟨apiVersion: weir.dev/v1alpha1\nkind: Tenant\nmetadata: {name: t}\n",
            path: "spec",
            "is missing"
        ),
        BadFile(
            "an unclosed bracket",
            Self.gateway("  listeners: [\n  workers: 1\n⟨"),
            path: "",
            "not valid YAML"
        ),
        BadFile(
            "a tab for indentation",
            Self.head("Gateway", "g") + "spec:\n⟨\tworkers: 1\n",
            path: "",
            "not valid YAML",
            hint: "indent with spaces"
        ),
        BadFile(
            "a duplicate key",
            Self.gateway("  workers: 1\n  limits: {}\n  ⟨workers: 2\n"),
            path: "",
            "`workers` appears twice in this mapping",
            hint: "it is also on line 5"
        ),
        BadFile(
            "a duplicate quoted key",
            Self.gateway("  \"workers\": 1\n  ⟨'workers': 2\n"),
            path: "",
            "`workers` appears twice in this mapping"
        ),
        BadFile(
            "a control character",
            "apiVersion: \"weir\u{7}⟨\"\n".replacing("\u{7}⟨", with: "⟨\u{7}"),
            path: "",
            "the character U+7 is not allowed in YAML"
        ),
        BadFile(
            "a lone carriage return",
            Self.gateway("  workers: 1 # one⟨\r  limits: {}\n"),
            path: "",
            "a carriage return without a line feed",
            hint: "end lines with LF or CR LF"
        ),
        BadFile(
            "a line break that editors do not show",
            Self.gateway("  workers: 1 # one⟨\u{2028}  limits: {}\n"),
            path: "",
            "the line break U+2028",
            hint: "in double quotes"
        ),
        BadFile(
            "an undefined alias",
            Self.gateway("  workers: ⟨*count\n"),
            path: "",
            "no anchor `&count` stands before this alias"
        ),
        BadFile(
            "an alias inside its own anchor",
            Self.gateway("  listeners: &all [⟨*all]\n"),
            path: "",
            "no anchor `&all` stands before this alias"
        ),
        BadFile(
            "a merge key",
            Self.head("Gateway", "&m g") + "spec: {⟨<<: *m}\n",
            path: "",
            "merge keys are not supported"
        ),
        BadFile(
            "a key that is a list",
            Self.gateway("  ? ⟨[a]\n  : 1\n"),
            path: "",
            "a key must be text"
        ),
        BadFile(
            "a star without quotes",
            Self.model("").replacing("  live: v1\n", with: "  live: v1\n  aliases: [*⟨]\n"),
            path: "",
            "not valid YAML",
            hint: "in quotes"
        ),
        BadFile(
            "a second Gateway",
            Self.gateway("  workers: 1\n") + "---\n⟨" + Self.gateway("  workers: 1\n"),
            path: "",
            "there is a second Gateway",
            hint: "line 1"
        ),
        BadFile(
            "a second model of the same name",
            Self.model("") + "\n---\n"
                + Self.model("").replacing("{name: m}", with: "{name: ⟨m}"),
            path: "metadata.name",
            "Model m is a duplicate",
            hint: "line 1"
        ),
    ]

    // MARK: Types

    static let types: [BadFile] = [
        BadFile(
            "text for a number",
            Self.gateway("  workers: ⟨many\n"),
            path: "spec.workers",
            "expected a whole number, found `many`"
        ),
        BadFile(
            "a quoted number",
            Self.gateway("  workers: ⟨\"4\"\n"),
            path: "spec.workers",
            "expected a whole number, found text",
            hint: "remove the quotes"
        ),
        BadFile(
            "a fraction",
            Self.gateway("  workers: ⟨1.5\n"),
            path: "spec.workers",
            "expected a whole number, found `1.5`"
        ),
        BadFile(
            "a number out of range",
            Self.gateway("  workers: ⟨-1\n"),
            path: "spec.workers",
            "-1 is out of range",
            hint: "write 0 to 1024"
        ),
        BadFile(
            "a number past every integer",
            Self.gateway("  workers: ⟨99999999999999999999\n"),
            path: "spec.workers",
            "out of range"
        ),
        BadFile(
            "a list for a number",
            Self.gateway("  workers: ⟨[1]\n"),
            path: "spec.workers",
            "expected a whole number, found a list"
        ),
        BadFile(
            "a mapping for a list",
            Self.gateway("  listeners: ⟨{name: http}\n"),
            path: "spec.listeners",
            "expected a list, found a mapping",
            hint: "`- `"
        ),
        BadFile(
            "text for a mapping",
            Self.gateway("  limits: ⟨none\n"),
            path: "spec.limits",
            "expected a mapping, found text"
        ),
        BadFile(
            "an empty list",
            Self.gateway("  listeners: ⟨[]\n"),
            path: "spec.listeners",
            "is empty",
            hint: "at least 1 is needed"
        ),
        BadFile(
            "a number for text",
            Self.processes("  command: [run, ⟨8080]"),
            path: "spec.command[1]",
            "expected text, found a number",
            hint: "put it in quotes: `\"8080\"`"
        ),
        BadFile(
            "a truth value for text",
            Self.processes("  command: [run]\n  env: [{name: A, value: ⟨true}]"),
            path: "spec.env[0].value",
            "expected text, found a truth value",
            hint: "\"true\""
        ),
        BadFile(
            "yes for true",
            Self.scaling(
                "  targets: [{type: Objective}, {type: Concurrency, value: 1}]\n  dryRun: ⟨yes"
            )
            .replacing("{type: Objective}, ", with: ""),
            path: "spec.dryRun",
            "expected true or false, found `yes`",
            hint: "write `true`"
        ),
        BadFile(
            "an unknown field with a near name",
            Self.gateway("  limits: {⟨maxConnection: 5}\n"),
            path: "spec.limits.maxConnection",
            "unknown field `maxConnection`",
            hint: "did you mean `maxConnections`?"
        ),
        BadFile(
            "an unknown field without a near name",
            Self.gateway("  accessLog: {⟨colour: red}\n"),
            path: "spec.accessLog.colour",
            "unknown field `colour`",
            hint: "there is `format`, `path` and `sample`"
        ),
        BadFile(
            "a missing required field",
            Self.gateway("  listeners:\n  - ⟨address: \"127.0.0.1:1\"\n"),
            path: "spec.listeners[0].name",
            "is missing",
            hint: "write `name:` and a name"
        ),
    ]

    // MARK: Values

    static let values: [BadFile] = [
        BadFile(
            "a duration without a unit",
            Self.gateway("  drainTimeout: ⟨30\n"),
            path: "spec.drainTimeout",
            "`30` is not a duration",
            hint: "add a unit: `30s` or `30ms`"
        ),
        BadFile(
            "a duration with an unknown unit",
            Self.gateway("  drainTimeout: ⟨3days\n"),
            path: "spec.drainTimeout",
            "`3days` is not a duration",
            hint: "`250ms`, `30s`"
        ),
        BadFile(
            "a negative duration",
            Self.gateway("  drainTimeout: ⟨-3s\n"),
            path: "spec.drainTimeout",
            "`-3s` is not a duration"
        ),
        BadFile(
            "a duration out of range",
            Self.gateway("  drainTimeout: ⟨48h\n"),
            path: "spec.drainTimeout",
            "`48h` is out of range",
            hint: "write 1ms to 24h"
        ),
        BadFile(
            "a word that is no keyword",
            Self.scaling(
                "  targets: [{type: Concurrency, value: 1}]\n  forecast: {horizon: ⟨automatic}"
            ),
            path: "spec.forecast.horizon",
            "`automatic` is not a duration",
            hint: "`auto`, `off`"
        ),
        BadFile(
            "a bad size",
            Self.gateway("  limits: {maxBufferedBody: ⟨1 meg}\n"),
            path: "spec.limits.maxBufferedBody",
            "`1 meg` is not a size",
            hint: "`64KiB`"
        ),
        BadFile(
            "a size out of range",
            Self.gateway("  limits: {maxHeaderBytes: ⟨1GiB}\n"),
            path: "spec.limits.maxHeaderBytes",
            "`1GiB` is out of range",
            hint: "write 1KiB to 16MiB"
        ),
        BadFile(
            "a percentage without its sign",
            Self.gateway("  accessLog: {sample: ⟨5}\n"),
            path: "spec.accessLog.sample",
            "`5` is not a percentage",
            hint: "write `\"5%\"`"
        ),
        BadFile(
            "a percentage past the whole",
            Self.gateway("  accessLog: {sample: ⟨\"101%\"}\n"),
            path: "spec.accessLog.sample",
            "`101%` is out of range",
            hint: "write 0% to 100%"
        ),
        BadFile(
            "an address without a port",
            Self.gateway("  admin: {address: ⟨localhost}\n"),
            path: "spec.admin.address",
            "`localhost` is not an address",
            hint: "`127.0.0.1:8080`"
        ),
        BadFile(
            "a port past 65535",
            Self.gateway("  admin: {address: ⟨\"127.0.0.1:65536\"}\n"),
            path: "spec.admin.address",
            "is not an address",
            hint: "ports end at 65535"
        ),
        BadFile(
            "an IPv4 address with a number past 255",
            Self.gateway("  admin: {address: ⟨\"127.0.0.256:1\"}\n"),
            path: "spec.admin.address",
            "is not an address"
        ),
        BadFile(
            "an IPv6 address without brackets",
            Self.gateway("  admin: {address: ⟨\"::1:80\"}\n"),
            path: "spec.admin.address",
            "is not an address"
        ),
        BadFile(
            "a URL without a scheme",
            Self.model("").replacing("\"http://127.0.0.1:2\"", with: "⟨\"127.0.0.1:2\""),
            path: "spec.variants[1].endpoints[0]",
            "`127.0.0.1:2` is not a URL",
            hint: "write `http://host:port`"
        ),
        BadFile(
            "an endpoint with a path",
            Self.model("").replacing("\"http://127.0.0.1:2\"", with: "⟨\"http://127.0.0.1:2/a\""),
            path: "spec.variants[1].endpoints[0]",
            "is not a URL",
            hint: "without a path"
        ),
        BadFile(
            "a URL with user information",
            Self.gateway("  tracing: {endpoint: ⟨\"http://me:secret@host:1/\"}\n"),
            path: "spec.tracing.endpoint",
            "is not a URL"
        ),
        BadFile(
            "a cron expression with four fields",
            Self.scaling(
                "  targets: [{type: Schedule, cron: ⟨\"0 8 * *\", duration: 1h, replicas: 1}]"
            ),
            path: "spec.targets[0].cron",
            "has 4 fields instead of 5",
            hint: "0 8 * * 1-5"
        ),
        BadFile(
            "a cron expression with hour 24",
            Self.scaling(
                "  targets: [{type: Schedule, cron: ⟨\"0 24 * * *\", duration: 1h, replicas: 1}]"
            ),
            path: "spec.targets[0].cron",
            "has `24` for the hour, which is 0 to 23"
        ),
        BadFile(
            "an unknown choice",
            Self.model("").replacing("OpenAI", with: "⟨OpenAi"),
            path: "spec.protocol",
            "`OpenAi` is not one of `OpenAI`, `OpenInference`, `HTTP` and `GRPC`",
            hint: "did you mean `OpenAI`?"
        ),
        BadFile(
            "a quantile past 1",
            Self.model("  objectives: {latency: {quantile: ⟨95, below: 1s}}\n"),
            path: "spec.objectives.latency.quantile",
            "95 is out of range"
        ),
        BadFile(
            "a header name with a space",
            Self.model("  overrideHeader: ⟨x weir\n"),
            path: "spec.overrideHeader",
            "`x weir` is not a header name"
        ),
        BadFile(
            "a readiness path without a slash",
            Self.processes("  command: [run]\n  readiness: {path: ⟨health}"),
            path: "spec.readiness.path",
            "`health` is not a URL path",
            hint: "begin with `/`"
        ),
        BadFile(
            "a hash that is too short",
            Self.tenant("  keys: [{sha256: ⟨\"0a0b\"}]") + Self.model(""),
            path: "spec.keys[0].sha256",
            "`0a0b` is not a SHA-256 hash",
            hint: "sha256sum"
        ),
    ]
}
