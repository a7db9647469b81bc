import Testing

@testable import Configuration

private func load(_ text: String) -> LoadResult {
    ConfigurationLoader.load(files: [(name: "c.yaml", text: text)])
}

@Suite struct LoadingTests {
    @Test func tenMistakesGiveTenProblemsInOrder() {
        let text = """
            apiVersion: weir.dev/v1alpha1
            kind: Gateway
            metadata: {name: default}
            spec:
              workers: many
              limit: {}
              drainTimeout: 30
              drainTimeout: 40
            ---
            apiVersion: weir.dev/v1alpha1
            kind: Model
            metadata: {name: Digits}
            spec:
              protocol: OpenAPI
              variants:
              - {name: v1, endpoints: ["localhost:80"]}
              - {name: v2, workloadRef: {kind: ProcessDeployment, name: none}}
              live: v3
              mirror: {to: v1, sample: 5}
              queue: {timeout: 1 minute}
            """
        let result = load(text)
        let found = result.problems.map { "\($0.position?.line ?? 0) \($0.path)" }
        #expect(
            found == [
                "5 spec.workers", "6 spec.limit", "8 ", "8 spec.drainTimeout", "12 metadata.name",
                "14 spec.protocol", "16 spec.variants[0].endpoints[0]",
                "17 spec.variants[1].workloadRef.name", "18 spec.live", "19 spec.mirror.sample",
                "20 spec.queue.timeout",
            ],
            "\(Problem.render(result.problems))"
        )
        #expect(result.configuration == nil)
    }

    @Test func everyDuplicateKeyIsFound() {
        let result = load(
            """
            apiVersion: weir.dev/v1alpha1
            kind: Gateway
            metadata: {name: a, name: b, name: c}
            spec: {workers: 1, workers: 2, limits: {maxHeaders: 9, maxHeaders: 10}}
            """
        )
        let messages = result.problems.filter { $0.message.contains("appears twice") }
        #expect(messages.count == 3, "\(Problem.render(result.problems))")
        #expect(messages.map { $0.position?.column } == [30, 20, 56])
    }

    @Test func readingGoesOnAfterASyntaxError() {
        let result = load(
            """
            kind: Gatewya
            ---
            a: [1
            ---
            kind: Modle
            ---
            b: }
            ---
            kind: Tenent
            """
        )
        let kinds = result.problems.filter { $0.path.description == "kind" }.map {
            $0.position?.line
        }
        #expect(kinds == [1, 5, 9], "\(Problem.render(result.problems))")
        #expect(result.problems.filter { $0.message.contains("not valid YAML") }.count == 2)
    }

    @Test func aliasesStandForTheirValues() throws {
        let text = BadFile.processes(
            "  command: [run, &x hello, *x]\n  env: &e [{name: A, value: \"2 * *y\"}]"
        )
        let result = load(text)
        let configuration = try #require(result.configuration, "\(Problem.render(result.problems))")
        let spec = try #require(configuration.processDeployment("p")).spec
        #expect(spec.command == ["run", "hello", "hello"])
        #expect(spec.environment.map(\.value) == ["2 * *y"])
    }

    /// The classic: ten levels of ten aliases, and a key that would have to be hashed.
    @Test(arguments: [
        "x: {*a9}", "x: *a9", "? *a9\n: 1", "*a9 : 1", "? [*a9]\n: 1", "x: {{k: *a9}: 1}",
    ])
    func aliasesDoNotMultiply(tail: String) {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...9 {
            let aliases = [String](repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        let result = load(text + tail + "\n")
        #expect(result.hasErrors)
        let isBounded = result.problems.contains { $0.message.contains("more than 500000 values") }
        #expect(isBounded, "\(Problem.render(result.problems))")
    }

    @Test func depthIsBounded() {
        for depth in [65, 800, 5_000] {
            let text =
                "a: " + String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            let result = load(text)
            let message = depth < 900 ? "levels deep" : "not valid YAML"
            #expect(result.problems.contains { $0.message.contains(message) }, "depth \(depth)")
        }
        let dashes = load(String(repeating: "- ", count: 20_000))
        #expect(dashes.hasErrors)
    }

    @Test func sizeIsBounded() {
        let result = load(String(repeating: "# comment\n", count: 500_000))
        #expect(result.problems.map(\.message) == ["the file has 5000000 bytes"])
    }

    @Test func documentsAreBounded() {
        let result = load(String(repeating: "---\na\n", count: 10_001))
        #expect(result.problems.contains { $0.message == "the file has more than 10000 documents" })
        #expect(result.problems.count <= ProblemSink.maxPerFile + 1)
    }

    @Test func syntaxErrorsAreBounded() {
        let result = load(String(repeating: "---\na: [\n", count: 5_000))
        #expect(result.problems.contains { $0.message.contains("the rest was not read") })
    }

    @Test func problemsAreBounded() {
        var text = BadFile.gateway("")
        for index in 0..<1_000 { text += "  unknown\(index): 1\n" }
        let result = load(text)
        #expect(result.problems.count == ProblemSink.maxPerFile + 1)
        #expect(result.problems.last?.message == "800 more problems were left out")
    }

    @Test(
        arguments: [
            ([0x61, 0x0A, 0x62, 0xFF, 0x63], 2, 2), ([0xC3, 0xA9, 0xC3], 1, 2),
            ([0xED, 0xA0, 0x80], 1, 1), ([0xC0, 0x80], 1, 1), ([0xF5, 0x80, 0x80, 0x80], 1, 1),
        ] as [([UInt8], Int, Int)]
    )
    func invalidUTF8HasAPlace(bytes: [UInt8], line: Int, column: Int) {
        let result = ConfigurationLoader.load([ConfigurationFile(name: "c.yaml", bytes: bytes)])
        #expect(result.problems.map(\.message) == ["not valid UTF-8"])
        #expect(result.problems.first?.position == Position(line: line, column: column))
    }

    @Test func byteOrderMarkAndCarriageReturnsAreFine() {
        let text = BadFile.gateway("  workers: 3\n").replacing("\n", with: "\r\n")
        let result = load("\u{FEFF}" + text)
        #expect(result.problems == [], "\(Problem.render(result.problems))")
        #expect(result.configuration?.gateway.spec.workers == 3)
    }

    @Test func severalFilesMakeOneConfiguration() throws {
        let result = ConfigurationLoader.load(files: [
            (name: "a/one.yaml", text: BadFile.model("  rollout: {policy: r}\n")),
            (
                name: "b/two.yaml",
                text: "apiVersion: weir.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: r}\n"
                    + "spec: {steps: [{weight: 5}]}\n"
            ),
        ])
        let configuration = try #require(result.configuration, "\(Problem.render(result.problems))")
        #expect(configuration.rolloutPolicy("r")?.source.baseDirectory == "b")
        #expect(configuration.model("m")?.source == ResourceSource(file: "a/one.yaml", line: 1))
    }

    @Test func duplicatesAcrossFilesNameTheOther() {
        let result = ConfigurationLoader.load(files: [
            (name: "one.yaml", text: BadFile.model("")),
            (name: "two.yaml", text: BadFile.model("")),
        ])
        #expect(result.problems.map(\.file) == ["two.yaml"])
        #expect(result.problems.first?.hint == "the first is in one.yaml, line 1")
    }

    @Test func aFileThatCannotBeReadIsAProblem() {
        let result = ConfigurationLoader.load(paths: ["/nonexistent/weir.yaml", Examples.folder])
        #expect(result.problems.map(\.file) == ["/nonexistent/weir.yaml", Examples.folder])
        #expect(result.problems[0].message == "cannot be read: No such file or directory")
        #expect(result.problems[1].message == "cannot be read: Is a directory")
        #expect(result.hasErrors)
    }

    @Test func nullMeansAbsent() throws {
        let result = load(BadFile.gateway("  workers: ~\n  limits:\n  accessLog: null\n"))
        let spec = try #require(result.configuration, "\(Problem.render(result.problems))").gateway
            .spec
        #expect(spec == GatewaySpec.defaults)
    }

    @Test func onlyOneVariantIsLiveByItself() throws {
        let configuration = try #require(load(BadFile.processes("  command: [run]")).configuration)
        let model = try #require(configuration.model("m")).spec
        #expect(model.live == "v")
        #expect(model.variantWeights == [100])
    }

    @Test func weightsFollowTheVariants() throws {
        let configuration = try #require(load(BadFile.model("  weights: {v2: 3}\n")).configuration)
        #expect(configuration.model("m")?.spec.variantWeights == [0, 3])
    }

    @Test func upstreamsMakeAConfiguration() throws {
        let result = Configuration.serving(upstreams: ["http://h:1", "http://h:2"], listen: ":0")
        let configuration = try #require(result.configuration, "\(Problem.render(result.problems))")
        let model = try #require(configuration.catchAllModel)
        #expect(configuration.gateway.spec.listeners.map(\.address.port) == [0])
        #expect(model.spec.variantWeights == [100])
        guard case .endpoints(let endpoints) = model.spec.variants[0].backend else {
            Issue.record("not endpoints")
            return
        }
        #expect(endpoints.map(\.description) == ["http://h:1", "http://h:2"])
    }

    @Test(arguments: [[], ["h:1"], ["http://h:1\"]\nkind: x"], ["http://h:1", "http://h:1"]])
    func badUpstreamsAreProblems(upstreams: [String]) {
        let result = Configuration.serving(upstreams: upstreams)
        #expect(result.hasErrors)
        #expect(result.problems.allSatisfy { $0.file == "--upstream" })
    }

    /// `kubectl get -o yaml`, and the JSON of an API server, are documents like any other.
    @Test func aResourceThatAClusterKeepsIsTheSame() throws {
        let spec = """
            {"protocol": "OpenAI", "variants": [{"name": "v", "endpoints": ["http://h:1"]}]}
            """
        let large = String(repeating: "x", count: 200_000)
        let stored = """
            {"apiVersion": "weir.dev/v1alpha1", "kind": "Model", "metadata": {"name": "m",
             "namespace": "default", "uid": "5d0e", "generation": 3, "resourceVersion": "81",
             "creationTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["example.com/x"],
             "deletionTimestamp": null, "ownerReferences": [{"kind": "X", "controller": true}],
             "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {".": {}}}}],
             "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "\(large)"}},
             "spec": \(spec), "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            """
        let written = """
            {"apiVersion": "weir.dev/v1alpha1", "kind": "Model", "metadata": {"name": "m"},
             "spec": \(spec)}
            """
        let kept = ConfigurationLoader.load(files: [(name: "stored", text: stored)])
        #expect(kept.problems == [], "\(Problem.render(kept.problems))")
        let own = ConfigurationLoader.load(files: [(name: "written", text: written)])
        let model = try #require(kept.configuration?.models.first)
        #expect(model.spec == own.configuration?.models.first?.spec)
        #expect(model.metadata.annotations.count == 1)
    }
}
