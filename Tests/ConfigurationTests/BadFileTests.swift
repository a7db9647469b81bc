import Testing

@testable import Configuration

@Suite struct BadFileTests {
    @Test(arguments: BadFile.all)
    func saysWhatIsWrongAndWhere(bad: BadFile) throws {
        let result = ConfigurationLoader.load(files: [(name: "bad.yaml", text: bad.text)])
        let report = Problem.render(result.problems)
        let matching = result.problems.filter { $0.message.contains(bad.message) }
        let problem = try #require(matching.first, "\(report)")
        #expect(problem.path.description == bad.path)
        #expect(problem.severity == bad.severity)
        #expect(result.hasErrors == (bad.severity == .error))
        if bad.line > 0 {
            let place = "\(problem.position?.line ?? 0):\(problem.position?.column ?? 0)"
            #expect(place == "\(bad.line):\(bad.column)", "\(report)")
        }
        if let hint = bad.hint { #expect(problem.hint?.contains(hint) == true, "\(report)") }
        // One mistake is told once.
        #expect(result.problems.filter { $0.severity == .error }.count <= 1, "\(report)")
        #expect(matching.count == 1, "\(report)")
    }

    /// How lines end makes no difference to what is said, nor to where.
    @Test(arguments: BadFile.all)
    func saysTheSameOfLinesThatEndInCRLF(bad: BadFile) {
        let text = bad.text.replacing("\n", with: "\r\n")
        let expected = ConfigurationLoader.load(files: [(name: "bad.yaml", text: bad.text)])
        let result = ConfigurationLoader.load(files: [(name: "bad.yaml", text: text)])
        #expect(result.problems == expected.problems)
    }

    @Test func theTableHasUniqueNames() {
        let names = BadFile.all.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.count >= 100)
    }
}
