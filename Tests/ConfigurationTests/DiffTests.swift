import Testing

@testable import Configuration

@Suite struct DiffTests {
    private static func load(_ text: String) throws -> Configuration {
        let result = ConfigurationLoader.load(files: [(name: "c.yaml", text: text)])
        return try #require(result.configuration, "\(Problem.render(result.problems))")
    }

    @Test func equalConfigurationsDoNotDiffer() throws {
        let old = try Self.load(BadFile.model(""))
        let new = try Self.load("# moved\n\n" + BadFile.model("  queue: {capacity: 1000}\n"))
        #expect(old == new)
        #expect(ConfigurationDiff(from: old, to: new).isEmpty)
    }

    @Test func weightsChangeWhileRunning() throws {
        let old = try Self.load(BadFile.model("  weights: {v1: 90, v2: 10}\n"))
        let new = try Self.load(
            BadFile.model("  weights: {v1: 50, v2: 50}\n  queue: {capacity: 5}\n")
        )
        let diff = ConfigurationDiff(from: old, to: new)
        #expect(diff.models.changed == ["m"])
        #expect(diff.fields.map(\.path.description) == ["spec.weights", "spec.queue.capacity"])
        #expect(diff.needingRestart == [])
        #expect(!diff.isGatewayChanged)
    }

    @Test func addressesAndWorkersNeedARestart() throws {
        let old = try Self.load(
            BadFile.gateway(
                "  listeners: [{name: a, address: \":1\"}, {name: b, address: \":2\"}]\n"
                    + "  workers: 1\n"
            )
        )
        let new = try Self.load(
            BadFile.gateway(
                "  listeners: [{name: a, address: \":3\"}, {name: c, address: \":2\"}]\n"
                    + "  workers: 2\n"
                    + "  limits: {maxHeaders: 50}\n  admin: {address: \"127.0.0.1:1\"}\n"
            )
        )
        let diff = ConfigurationDiff(from: old, to: new)
        #expect(diff.listeners.added == ["c"])
        #expect(diff.listeners.removed == ["b"])
        #expect(diff.listeners.changed == ["a"])
        #expect(
            diff.needingRestart.map(\.path.description) == [
                "spec.listeners", "spec.admin.address", "spec.workers",
            ]
        )
        let live = diff.fields.filter { !$0.needsRestart }.map(\.path.description)
        #expect(live == ["spec.limits.maxHeaders"])
    }

    @Test func noGatewayIsAGatewayOfDefaults() throws {
        let old = try Self.load(BadFile.model(""))
        let new = try Self.load(BadFile.model("") + "\n---\n" + BadFile.gateway("  workers: 0\n"))
        #expect(ConfigurationDiff(from: old, to: new).isEmpty)
    }

    @Test func resourcesComeAndGo() throws {
        let old = try Self.load(BadFile.processes("  command: [run]"))
        let new = try Self.load(
            BadFile.model("", name: "n") + "\n---\n"
                + BadFile.model("", name: "o").replacing(
                    "{name: o}",
                    with: "{name: o, namespace: x}"
                )
        )
        let diff = ConfigurationDiff(from: old, to: new)
        #expect(diff.models.added == ["n", "x/o"])
        #expect(diff.models.removed == ["m"])
        #expect(diff.processDeployments.removed == ["p"])
        #expect(diff.fields == [])
    }

    @Test(arguments: Examples.names)
    func whatIsWrittenReadsTheSame(name: String) throws {
        let configuration = try Examples.load(name)
        let text = ConfigurationWriter.yaml(configuration)
        let result = ConfigurationLoader.load(files: [(name: Examples.folder + name, text: text)])
        Examples.expectNoProblem(result)
        #expect(result.configuration == configuration)
        if let again = result.configuration {
            #expect(ConfigurationDiff(from: configuration, to: again).isEmpty)
            #expect(ConfigurationWriter.yaml(again) == text)
        }
    }

    /// What may stand in a file as an escape only is written as one.
    @Test func oddCharactersAreWrittenToBeReadAgain() throws {
        let configuration = try Self.load(
            #"""
            apiVersion: weir.dev/v1alpha1
            kind: ProcessDeployment
            metadata: {name: p}
            spec:
              command: [a, "\x7f\u0085\u2028\u2029\ufeff\u0001\u009f\U0010fe00\U0001f600\r\n\t\"\\"]
            """#
        )
        let text = ConfigurationWriter.yaml(configuration)
        #expect(
            configuration.processDeployments.first?.spec.command.last?.unicodeScalars.count == 14
        )
        #expect(text.contains(#"\u0085\u2028\u2029\ufeff"#))
        #expect(try Self.load(text) == configuration)
    }

    @Test func writesOneResource() throws {
        let configuration = try Self.load(BadFile.model(""))
        let id = ResourceID(kind: .model, namespace: "default", name: "m")
        let text = try #require(ConfigurationWriter.yaml(id, of: configuration))
        #expect(text.contains("kind: Model\nmetadata:\n  name: \"m\""))
        #expect(
            ConfigurationWriter.yaml(.gateway, of: configuration)?.contains("workers: 0") == true
        )
    }
}
