import Core
import Testing

@testable import Configuration

/// What a cache remembers must never show: loading with it gives what loading afresh gives.
@Suite struct CacheTests {
    private static let steps = 300
    private static let names = ["a.yaml", "b.yaml", "c.yaml"]
    /// Texts that a file may have: models of its own, clashing ones, and some with mistakes.
    private static let texts = [
        BadFile.model(""),
        BadFile.model("", name: "other"),
        BadFile.model("", live: "  live: v9\n"),
        BadFile.model("  queue: {capacity: many}\n"),
        "apiVersion: weir.dev/v1alpha1\nkind: ScalingPolicy\nmetadata: {name: unused}\nspec: {}\n",
        "not: [yaml",
        "",
    ]

    @Test(arguments: [1, 2, 3] as [UInt64])
    func loadingWithACacheIsLoadingAfresh(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let cache = ConfigurationCache()
        var files = Self.names.map { ConfigurationFile(name: $0, text: Self.texts[0]) }
        for step in 0..<Self.steps {
            let file = Int(random.next() % UInt64(files.count))
            let text = Self.texts[Int(random.next() % UInt64(Self.texts.count))]
            files[file].bytes = Array(text.utf8)
            let given = Array(files.prefix(1 + Int(random.next() % UInt64(files.count))))
            let cached = ConfigurationLoader.load(given, cache: cache)
            let fresh = ConfigurationLoader.load(given)
            #expect(cached.configuration == fresh.configuration, "seed \(seed), step \(step)")
            let problems = (Problem.render(cached.problems), Problem.render(fresh.problems))
            #expect(problems.0 == problems.1, "seed \(seed), step \(step)")
        }
    }

    @Test func aFileThatCannotBeReadIsToldEachTime() {
        let cache = ConfigurationCache()
        let files = [ConfigurationFile(name: "a.yaml", text: Self.texts[0])]
        let lost = Problem(file: "b.yaml", position: nil, message: "cannot be read: gone")
        for _ in 0..<2 {
            let result = ConfigurationLoader.load(files, unreadable: [lost], cache: cache)
            #expect(result.hasErrors)
            #expect(result.problems.map(\.message) == [lost.message])
        }
        #expect(!ConfigurationLoader.load(files, cache: cache).hasErrors)
    }
}
