import Testing

@testable import Configuration

/// The files of `configs/`, beside the sources of the package.
enum Examples {
    static let folder: String = {
        let parts = "\(#filePath)".split(separator: "/").dropLast(3)
        return "/" + parts.joined(separator: "/") + "/configs/"
    }()
    static let names = [
        "digits.yaml", "simulator.yaml", "static.yaml", "canary.yaml", "autoscaling.yaml",
        "digits-autoscaling.yaml", "digits-rollouts.yaml", "full-reference.yaml",
        "grpc.yaml", "pool.yaml",
    ]

    static func load(_ name: String) throws -> Configuration {
        let result = ConfigurationLoader.load(paths: [self.folder + name])
        self.expectNoProblem(result)
        return try #require(result.configuration)
    }

    /// A policy to choose instead may be there without being in use.
    static func expectNoProblem(_ result: LoadResult) {
        let problems = result.problems.filter {
            $0.severity == .error || !$0.message.hasPrefix("no model uses RolloutPolicy")
        }
        #expect(problems == [], "\(Problem.render(problems))")
    }
}

@Suite struct ExampleTests {
    @Test(arguments: Examples.names)
    func everyExampleLoadsWithoutAProblem(name: String) throws {
        let configuration = try Examples.load(name)
        #expect(!configuration.models.isEmpty)
    }
}
