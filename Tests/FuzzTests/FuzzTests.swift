import Foundation
import FuzzInvariants
import TestSupport
import Testing

/// What is fuzzed, without the fuzzer: seeds, damaged seeds, and what fuzzing found.
@Suite struct FuzzTests {
    private static let findings = URL(filePath: #filePath)
        .appending(path: "../../../Fuzz/FailCases").standardizedFileURL

    @Test(arguments: FuzzTarget.all)
    func seedsKeepTheInvariants(target: FuzzTarget) {
        let seeds = target.seeds()
        #expect(seeds.count > 5)
        for (index, seed) in seeds.enumerated() {
            let violation = target.violation(seed)
            #expect(violation == nil, "seed \(index) of \(target)")
            #expect(!seed.isEmpty, "seed \(index) of \(target)")
        }
    }

    @Test(arguments: FuzzTarget.all)
    func damagedSeedsKeepTheInvariants(target: FuzzTarget) {
        var mutator = Mutator(seed: 11)
        let seeds = target.seeds()
        for number in 0..<max(300, seeds.count) {
            let input = mutator.mutate(seeds[number % seeds.count])
            let violation = target.violation(input)
            #expect(violation == nil, "input \(number) of \(target): \(input)")
        }
    }

    /// What fuzzing found once must not come back.
    @Test(arguments: FuzzTarget.all)
    func storedFindingsKeepTheInvariants(target: FuzzTarget) throws {
        let directory = Self.findings.appending(path: target.name)
        // A parser without findings has no directory.
        guard FileManager.default.fileExists(atPath: directory.path) else { return }
        for file in try FileManager.default.contentsOfDirectory(
            at: directory,
            includingPropertiesForKeys: nil
        ) {
            let input = try Array(Data(contentsOf: file))
            let violation = target.violation(input)
            #expect(violation == nil, "\(file.lastPathComponent)")
        }
    }

    /// A finding in a folder of another name would never be replayed.
    @Test func everyFindingBelongsToATarget() throws {
        guard FileManager.default.fileExists(atPath: Self.findings.path) else { return }
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.findings.path)
        #expect(Set(names).subtracting(FuzzTarget.all.map(\.name)).isEmpty)
    }

    @Test func namesAreUnique() {
        #expect(Set(FuzzTarget.all.map(\.name)).count == FuzzTarget.all.count)
        #expect(FuzzTarget.named("Trailers")?.name == "Trailers")
        #expect(FuzzTarget.named("trailers") == nil)
    }
}
