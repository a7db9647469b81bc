import Testing

@testable import Configuration

@Suite struct ModelPoolTests {
    private func model(_ edit: (String) -> String = { $0 }) throws -> ModelSpec {
        let result = ConfigurationLoader.load(
            files: [(name: "pool.yaml", text: edit(BadFile.pooledModel))]
        )
        let configuration = try #require(
            result.configuration,
            "\(Problem.render(result.problems))"
        )
        #expect(!result.hasErrors, "\(Problem.render(result.problems))")
        return try #require(configuration.models.first).spec
    }

    @Test func aPoolOfTwoIsNoProblem() {
        let result = ConfigurationLoader.load(
            files: [(name: "pool.yaml", text: BadFile.pooledModel)]
        )
        #expect(result.problems.isEmpty, "\(Problem.render(result.problems))")
    }

    /// Three small ones fit, though big ones would not.
    @Test func theLeastMayBeOfTheSmallest() throws {
        let budget = """
            ---
            apiVersion: weir.dev/v1alpha1
            kind: ResourceBudget
            metadata: {name: g}
            spec: {resource: gpu, total: 3}

            """
        let spec = try self.model { text in
            text.replacing("name: a}}\n", with: "name: a}, scaling: {budgetPerReplica: 1}}\n")
                .replacing(
                    "maxReplicas: 4",
                    with: "maxReplicas: 4, minReplicas: 3, "
                        + "budget: {name: g, perReplica: 4}"
                ) + budget
        }
        #expect(spec.variants.map(\.scaling.budgetPerReplica) == [1, nil, nil, nil])
    }

    @Test func readsWhatAVariantSaysAndLeavesTheRestToTheModel() throws {
        let spec = try self.model()
        #expect(spec.variants.map(\.pool) == ["one", "one", "two", "two"])
        #expect(spec.variants.map(\.scaling.cost) == [1, 3.5, 1, 1])
        #expect(spec.variants[1].scaling.maxReplicas == nil)
        #expect(spec.scaling?.priority == 0)
    }

    @Test func theFirstOfAPoolStandsForIt() throws {
        let spec = try self.model()
        #expect(spec.interchangeable(with: "big").map(\.name) == ["small", "big"])
        #expect(spec.representative(of: "big2") == "small2")
        #expect(spec.representative(of: "nobody") == "nobody")
        let alone = try self.model { $0.replacing("small, pool: one", with: "small") }
        #expect(alone.interchangeable(with: "small").map(\.name) == ["small"])
        #expect(alone.servingPool() == nil)
    }

    @Test func thePoolOfTheLiveVariantServes() throws {
        #expect(try self.model().servingPool() == "one")
        #expect(try self.model().servingPool(stable: "big2") == "two")
        let split = try self.model {
            $0.replacing("  live: small\n", with: "  weights: {big: 90, small: 0}\n")
        }
        #expect(split.servingPool() == "one")
    }
}
