@testable import Configuration

extension BadFile {
    // MARK: Models

    static let models: [BadFile] = [
        BadFile(
            "no variants",
            "apiVersion: weir.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec:\n"
                + "  protocol: OpenAI\n  variants: ⟨[]\n",
            path: "spec.variants",
            "is empty",
            hint: "at least 1"
        ),
        BadFile(
            "a duplicate variant",
            Self.model("").replacing("{name: v2,", with: "{name: ⟨v1,"),
            path: "spec.variants[1].name",
            "`v1` is a duplicate",
            hint: "element 0"
        ),
        BadFile(
            "a variant without a backend",
            Self.model("").replacing(
                "- {name: v2, endpoints: [\"http://127.0.0.1:2\"]}",
                with: "- ⟨{name: v2}"
            ),
            path: "spec.variants[1]",
            "`workloadRef` or `endpoints` is missing",
            hint: "add one of them"
        ),
        BadFile(
            "a variant with two backends",
            Self.processes("  command: [run]").replacing(
                "name: p}}]}",
                with: "name: p}, ⟨endpoints: [\"http://h:1\"]}]}"
            ),
            path: "spec.variants[0].endpoints",
            "`workloadRef` and `endpoints` exclude each other"
        ),
        BadFile(
            "live names no variant",
            Self.model("", live: "  live: ⟨v3\n"),
            path: "spec.live",
            "variant `v3` does not exist; there are `v1` and `v2`",
            hint: "define it, or name another one"
        ),
        BadFile(
            "neither live nor weights",
            Self.model("", live: "").replacing("spec:", with: "⟨spec:"),
            path: "spec.live",
            "is missing: nothing says which of 2 variants should serve",
            hint: "write `live: v1`"
        ),
        BadFile(
            "a weight for no variant",
            Self.model("  weights: {v1: 1, ⟨canary: 2}\n"),
            path: "spec.weights.canary",
            "variant `canary` does not exist; there are `v1` and `v2`"
        ),
        BadFile(
            "all weights zero",
            Self.model("  ⟨weights: {v1: 0, v2: 0}\n"),
            path: "spec.weights",
            "all weights are 0"
        ),
        BadFile(
            "no weights in weights",
            Self.model("  ⟨weights: {}\n"),
            path: "spec.weights",
            "is empty"
        ),
        BadFile(
            "a negative weight",
            Self.model("  weights: {v1: ⟨-5, v2: 5}\n"),
            path: "spec.weights.v1",
            "-5 is out of range"
        ),
        BadFile(
            "a weight without a value",
            Self.model("  weights: {⟨v1: , v2: 5}\n"),
            path: "spec.weights.v1",
            "has no value"
        ),
        BadFile(
            "a mirror to no variant",
            Self.model("  mirror: {to: ⟨v9}\n"),
            path: "spec.mirror.to",
            "variant `v9` does not exist"
        ),
        BadFile(
            "a mirror to itself",
            Self.model("  mirror: {to: ⟨v1}\n"),
            path: "spec.mirror.to",
            "`v1` would mirror to itself"
        ),
        BadFile(
            "sticky by two things",
            Self.model("  sticky: {header: x-user, ⟨cookie: c}\n"),
            path: "spec.sticky.cookie",
            "`header` and `cookie` exclude each other"
        ),
        BadFile(
            "sticky by nothing",
            Self.model("  ⟨sticky: {}\n"),
            path: "spec.sticky",
            "`header` or `cookie` is missing"
        ),
        BadFile(
            "a workload that does not exist",
            Self.processes("  command: [run]").replacing("name: p}}", with: "name: ⟨q}}"),
            path: "spec.variants[0].workloadRef.name",
            "ProcessDeployment `q` does not exist; there is `p`"
        ),
        BadFile(
            "a workload of another namespace",
            Self.processes("  command: [run]").replacing(
                "{name: p}",
                with: "{name: p, namespace: x}"
            )
            .replacing("name: p}}", with: "name: ⟨p}}"),
            path: "spec.variants[0].workloadRef.name",
            "ProcessDeployment `p` does not exist; there is none"
        ),
        BadFile(
            "a port for local processes",
            Self.processes("  command: [run]").replacing(
                "name: p}}",
                with: "name: p, ⟨port: 80}}"
            ),
            path: "spec.variants[0].workloadRef.port",
            "`port` is for a cluster"
        ),
        BadFile(
            "a Deployment without a port",
            Self.model("").replacing(
                "endpoints: [\"http://127.0.0.1:2\"]",
                with: "⟨workloadRef: {kind: Deployment, name: d}"
            ),
            path: "spec.variants[1].workloadRef.port",
            "is missing"
        ),
        BadFile(
            "one workload for two variants",
            Self.processes("  command: [run]").replacing(
                "name: p}}]}",
                with:
                    "name: p}}, {name: w, workloadRef: {kind: ProcessDeployment, name: ⟨p}}],"
                    + " live: v}"
            ),
            path: "spec.variants[1].workloadRef.name",
            "ProcessDeployment `p` is a duplicate"
        ),
        BadFile(
            "an alias that is another model's name",
            Self.model("") + "\n---\n" + Self.model("  aliases: [⟨m]\n", name: "n"),
            path: "spec.aliases[0]",
            "the name `m` is a duplicate",
            hint: "model `m` has it already"
        ),
        BadFile(
            "an alias that another model has",
            Self.model("  aliases: [\"*\"]\n") + "\n---\n"
                + Self.model("  aliases: [⟨\"*\"]\n", name: "n"),
            path: "spec.aliases[0]",
            "the name `*` is a duplicate"
        ),
        BadFile(
            "an alias that is the model's own name",
            Self.model("  aliases: [other, ⟨m]\n"),
            path: "spec.aliases[1]",
            "the name `m` is a duplicate"
        ),
        BadFile(
            "an alias with a space",
            Self.model("  aliases: [⟨my model]\n"),
            path: "spec.aliases[0]",
            "`my model` is not a model name"
        ),
        BadFile(
            "paths for a protocol that names models",
            Self.model("  ⟨paths: [{prefix: /x}]\n"),
            path: "spec.paths",
            "`paths` are for the protocols HTTP and GRPC"
        ),
        BadFile(
            "one path for two models",
            Self.model("  paths: [{prefix: /x}]\n").replacing("OpenAI", with: "HTTP") + "\n---\n"
                + Self.model("  paths: [{prefix: ⟨/x}]\n", name: "n").replacing(
                    "OpenAI",
                    with: "HTTP"
                ),
            path: "spec.paths[0].prefix",
            "`/x` is a duplicate on the same host"
        ),
        BadFile(
            "fewer replicas at most than at least",
            Self.processes("  command: [run]").replacing(
                "name: p}}]}",
                with: "name: p}}], scaling: {minReplicas: ⟨5, maxReplicas: 2}}"
            ),
            path: "spec.scaling.minReplicas",
            "minReplicas (5) is more than maxReplicas (2)"
        ),
        BadFile(
            "more variants than a policy scales",
            Self.scaledVariants(17),
            path: "spec.variants[16]",
            "at most 16 variants of a model, and this one has 17",
            hint: "divide them among models"
        ),
        BadFile(
            "a policy that does not exist",
            Self.model("  scaling: {policy: ⟨standard}\n"),
            path: "spec.scaling.policy",
            "ScalingPolicy `standard` does not exist; there is none"
        ),
        BadFile(
            "a rollout policy that does not exist",
            Self.model("  rollout: {policy: ⟨careful}\n"),
            path: "spec.rollout.policy",
            "RolloutPolicy `careful` does not exist"
        ),
        BadFile(
            "a header without a hash",
            Self.model("  loadBalancing: {⟨header: x-key}\n"),
            path: "spec.loadBalancing.header",
            "`header` is for ConsistentHash, not for LeastLoaded"
        ),
        BadFile(
            "a longer connect timeout than the request's",
            Self.model("  timeouts: {connect: ⟨10s, request: 5s}\n"),
            path: "spec.timeouts.connect",
            "is longer than the whole request may take"
        ),
        BadFile(
            "a priority for no budget",
            Self.model("  scaling: {⟨priority: 2}\n"),
            path: "spec.scaling.priority",
            "has no effect: the model has no budget",
            hint: "name a ResourceBudget in `scaling.budget`",
            severity: .warning
        ),
        BadFile(
            "a budget too small for the least",
            "apiVersion: weir.dev/v1alpha1\nkind: ResourceBudget\nmetadata: {name: g}\n"
                + "spec: {resource: nvidia.com/gpu, total: 3}\n---\n"
                + Self.model(
                    "  scaling:\n    minReplicas: ⟨2\n    maxReplicas: 9\n"
                        + "    budget: {name: g, perReplica: 2}\n"
                ),
            path: "spec.scaling.minReplicas",
            "2 replicas take 4 of `nvidia.com/gpu`, and ResourceBudget `g` has 3"
        ),
    ]

    private static func prometheus(_ server: String, _ more: String) -> String {
        "apiVersion: weir.dev/v1alpha1\nkind: ScalingPolicy\nmetadata: {name: s}\nspec:\n"
            + "  targets:\n  - {type: Prometheus, server: \"\(server)\", query: up, value: \"1\", "
            + more + "}\n"
    }

    /// A scaled model with so many variants; the seventeenth is too many.
    private static func scaledVariants(_ count: Int) -> String {
        let header = "apiVersion: weir.dev/v1alpha1\n"
        let deployments = (0..<count).map {
            header + "kind: ProcessDeployment\nmetadata: {name: p\($0)}\n"
                + "spec: {command: [run]}\n---\n"
        }
        let variants = (0..<count).map { index in
            "  - \(index == 16 ? "⟨" : ""){name: v\(index), "
                + "workloadRef: {kind: ProcessDeployment, name: p\(index)}}\n"
        }
        return deployments.joined() + header
            + "kind: ScalingPolicy\nmetadata: {name: s}\n"
            + "spec: {targets: [{type: Concurrency, value: 1}]}\n---\n" + header
            + "kind: Model\nmetadata: {name: m}\nspec:\n  protocol: OpenAI\n  live: v0\n"
            + "  scaling: {policy: s}\n  variants:\n" + variants.joined()
    }

    // MARK: Other kinds

    static let others: [BadFile] = [
        BadFile(
            "an authority for a server without a certificate",
            Self.prometheus("http://p", "caFile: ⟨/ca.pem"),
            path: "spec.targets[0].caFile",
            "a server asked over http:// has no certificate",
            hint: "https://"
        ),
        BadFile(
            "a token that everybody can read",
            Self.prometheus("http://p", "tokenFile: ⟨/token"),
            path: "spec.targets[0].tokenFile",
            "would be sent over http://",
            hint: "https://",
            severity: .warning
        ),
        BadFile(
            "a token and a password",
            Self.prometheus(
                "https://p",
                "tokenFile: /t, ⟨basicAuth: {username: a, passwordFile: /p}"
            ),
            path: "spec.targets[0].basicAuth",
            "`tokenFile` and `basicAuth` exclude each other"
        ),
        BadFile(
            "a duplicate listener name",
            Self.gateway(
                "  listeners:\n  - {name: a, address: \":1\"}\n  - {name: ⟨a, address: \":2\"}\n"
            ),
            path: "spec.listeners[1].name",
            "`a` is a duplicate"
        ),
        BadFile(
            "a duplicate listener address",
            Self.gateway(
                "  listeners:\n  - {name: a, address: \":1\"}\n  - {name: b, address: ⟨\":1\"}\n"
            ),
            path: "spec.listeners[1].address",
            "`:1` is a duplicate",
            hint: "listener `a` listens there already"
        ),
        BadFile(
            "a listener on the admin address",
            Self.gateway("  listeners:\n  - {name: a, address: ⟨\"127.0.0.1:9901\"}\n"),
            path: "spec.listeners[0].address",
            "is a duplicate",
            hint: "the admin API"
        ),
        BadFile(
            "an open admin address without a token",
            Self.gateway("  admin: {address: ⟨\"0.0.0.0:9901\"}\n"),
            path: "spec.admin.address",
            "need a token",
            hint: "tokenFile",
            severity: .warning
        ),
        BadFile(
            "TLS without a key",
            Self.gateway(
                "  listeners: [{name: a, address: \":1\", ⟨tls: {certificate: c.pem}}]\n"
            ),
            path: "spec.listeners[0].tls.key",
            "is missing"
        ),
        BadFile(
            "two questions whether a server is ready",
            Self.model("  healthCheck: {path: /ready, ⟨grpc: {}}\n"),
            path: "spec.healthCheck.grpc",
            "`path` and `grpc` exclude each other"
        ),
        BadFile(
            "no streams at once",
            Self.gateway(
                "  listeners: [{name: a, address: \":1\", http2: {maxConcurrentStreams: ⟨0}}]\n"
            ),
            path: "spec.listeners[0].http2.maxConcurrentStreams",
            "0 is out of range"
        ),
        BadFile(
            "a window that no stream can have",
            Self.gateway(
                "  listeners: [{name: a, address: \":1\", http2: "
                    + "{initialStreamWindowSize: ⟨1KiB}}]\n"
            ),
            path: "spec.listeners[0].http2.initialStreamWindowSize",
            "out of range"
        ),
        BadFile(
            "a window larger than its connection's",
            Self.gateway(
                "  listeners: [{name: a, address: \":1\", ⟨http2: "
                    + "{initialStreamWindowSize: 2MiB}}]\n"
            ),
            path: "spec.listeners[0].http2.initialConnectionWindowSize",
            "is smaller than that of one stream",
            hint: "initialStreamWindowSize",
            severity: .warning
        ),
        BadFile(
            "no command",
            Self.processes("  replicas: 1").replacing(
                "spec:\n  replicas",
                with: "⟨spec:\n  replicas"
            ),
            path: "spec.command",
            "is missing"
        ),
        BadFile(
            "an empty program",
            Self.processes("  command: [⟨\"\", a]"),
            path: "spec.command[0]",
            "the program is empty"
        ),
        BadFile(
            "a misspelt variable",
            Self.processes("  command: [run, ⟨\"$(PROT)\"]"),
            path: "spec.command[1]",
            "there is no variable `$(PROT)`",
            hint: "did you mean `$(PORT)`?"
        ),
        BadFile(
            "a port variable without a name",
            Self.processes("  command: [run, ⟨\"$(PORT_)\"]"),
            path: "spec.command[1]",
            "there is no variable `$(PORT_)`"
        ),
        BadFile(
            "a variable used before it is defined",
            Self.processes(
                "  command: [run]\n  env: [{name: A, value: ⟨$(B)}, {name: B, value: x}]"
            ),
            path: "spec.env[0].value",
            "`$(B)` is used before it is defined",
            hint: "move `B` up"
        ),
        BadFile(
            "a variable that means itself",
            Self.processes("  command: [run]\n  env: [{name: A, value: ⟨$(A)}]"),
            path: "spec.env[0].value",
            "`$(A)` is used before it is defined"
        ),
        BadFile(
            "an unknown variable in the working directory",
            Self.processes("  command: [run]\n  workingDirectory: ⟨models/$(HOME)"),
            path: "spec.workingDirectory",
            "there is no variable `$(HOME)`"
        ),
        BadFile(
            "a variable twice",
            Self.processes("  command: [run]\n  env: [{name: A}, {name: ⟨A}]"),
            path: "spec.env[1].name",
            "`A` is a duplicate"
        ),
        BadFile(
            "a variable name with a dash",
            Self.processes("  command: [run]\n  env: [{name: ⟨A-B}]"),
            path: "spec.env[0].name",
            "`A-B` is not a variable name"
        ),
        BadFile(
            "an unknown target",
            Self.scaling("  targets: [{type: ⟨Concurency, value: 1}]"),
            path: "spec.targets[0].type",
            "`Concurency` is not one of",
            hint: "did you mean `Concurrency`?"
        ),
        BadFile(
            "a target without a type",
            Self.scaling("  targets: [⟨{value: 1}]"),
            path: "spec.targets[0].type",
            "is missing"
        ),
        BadFile(
            "a field of another target",
            Self.scaling("  targets: [{type: Concurrency, value: 1, ⟨cron: \"* * * * *\"}]"),
            path: "spec.targets[0].cron",
            "unknown field `cron`"
        ),
        BadFile(
            "a burst window longer than the stable one",
            Self.scaling(
                "  targets: [{type: Concurrency, value: 1}]\n  windows: {stable: 5s, burst: ⟨6s}"
            ),
            path: "spec.windows.burst",
            "the burst window is longer than the stable one"
        ),
        BadFile(
            "steps that do not rise",
            Self.rollout("  steps: [{weight: 50}, {weight: ⟨25}]"),
            path: "spec.steps[1].weight",
            "the weights of the steps must rise: 25 comes after 50"
        ),
        BadFile(
            "a step that weighs and pauses",
            Self.rollout("  steps: [{weight: 50, ⟨pause: true}]"),
            path: "spec.steps[0].pause",
            "`weight` and `pause` exclude each other"
        ),
        BadFile(
            "a step that does not pause",
            Self.rollout("  steps: [{pause: ⟨false}]"),
            path: "spec.steps[0].pause",
            "a step that does not pause does nothing"
        ),
        BadFile(
            "a pause with a time",
            Self.rollout("  steps: [{pause: true, ⟨hold: 5s}]"),
            path: "spec.steps[0].hold",
            "a pause ends by hand"
        ),
        BadFile(
            "a wait that is held",
            Self.rollout("  steps: [{wait: 5s, ⟨hold: 5s}]"),
            path: "spec.steps[0].hold",
            "only shares and copies are held"
        ),
        BadFile(
            "a header route that is not removed",
            Self.rollout("  steps: [{removeHeaderRoute: ⟨false}]"),
            path: "spec.steps[0].removeHeaderRoute",
            "a step that does not remove the header route does nothing"
        ),
        BadFile(
            "a canary scale that says nothing",
            Self.rollout("  steps: [{canaryScale: {matchWeight: ⟨false}}]"),
            path: "spec.steps[0].canaryScale.matchWeight",
            "says nothing about how many replicas there should be"
        ),
        BadFile(
            "a metric with two bounds",
            Self.rollout(
                "  steps: [{weight: 5}]\n  analysis: {metrics: [{name: custom,"
                    + " server: \"http://p:1\", query: q, below: 1, ⟨above: 2}]}"
            ),
            path: "spec.analysis.metrics[0].above",
            "`below` and `above` exclude each other"
        ),
        BadFile(
            "a tenant of no model",
            Self.tenant("  keys: [{sha256: \"\(Self.hash)\"}]\n  models: [⟨digit]")
                + Self.model(""),
            path: "spec.models[0]",
            "model `digit` does not exist; there is `m`"
        ),
        BadFile(
            "a key of two tenants",
            Self.tenant("  keys: [{sha256: \"\(Self.hash)\"}]")
                + Self.tenant("  keys: [⟨{sha256: \"\(Self.hash.uppercased())\"}]", name: "u")
                + Self.model(""),
            path: "spec.keys[0]",
            "the key is a duplicate",
            hint: "tenant `t` has it already"
        ),
        BadFile(
            "a policy that nobody uses",
            "apiVersion: weir.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: ⟨r}\n"
                + "spec: {steps: [{weight: 5}]}\n---\n" + Self.model(""),
            path: "metadata.name",
            "no model uses RolloutPolicy r",
            severity: .warning
        ),
    ]
}
