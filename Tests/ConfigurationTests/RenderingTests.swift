import Testing

@testable import Configuration

@Suite struct RenderingTests {
    private static let problem = Problem(
        file: "a.yaml",
        position: Position(line: 12, column: 5),
        path: ConfigurationPath("spec", "live"),
        message: "variant `v3` does not exist",
        hint: "there are v1, v2",
        sourceLine: "\tab\tlive: v3"
    )

    @Test func showsPlaceLineCaretAndHint() {
        #expect(
            Self.problem.rendered() == """
                a.yaml:12:5: error: spec.live: variant `v3` does not exist
                  12 | \tab\tlive: v3
                     | \t  \t^
                  hint: there are v1, v2

                """
        )
    }

    @Test func coloursOnlyWhenAsked() {
        #expect(!Self.problem.rendered().contains("\u{1B}"))
        #expect(Self.problem.rendered(colour: true).contains("\u{1B}[1;31merror\u{1B}[0m"))
    }

    @Test func cutsLongLinesAroundTheCaret() {
        var problem = Self.problem
        problem.sourceLine =
            String(repeating: "a", count: 500) + "X" + String(repeating: "b", count: 500)
        problem.position = Position(line: 1, column: 501)
        let lines = problem.rendered().split(separator: "\n")
        let source = Array(lines[1])
        let caret = Array(lines[2])
        #expect(source.count < 140)
        #expect(caret.firstIndex(of: "^").map { source[$0] } == "X")
    }

    @Test func aCaretPastTheEndStaysThere() {
        var problem = Self.problem
        problem.sourceLine = "ab"
        problem.position = Position(line: 1, column: 99)
        #expect(problem.rendered().contains("    |   ^\n"))
    }

    @Test func controlCharactersDoNotReachTheTerminal() {
        var problem = Self.problem
        problem.sourceLine = "a\u{1B}[31m"
        #expect(!problem.rendered().contains("\u{1B}"))
        let result = ConfigurationLoader.load(files: [
            (name: "x\u{1B}.yaml", text: BadFile.gateway("  \"\\e[31m\": 1\n  workers: \"\\e\"\n"))
        ])
        #expect(result.problems.count == 2)
        #expect(!Problem.render(result.problems).contains("\u{1B}"))
    }

    @Test func writesJSON() {
        var problem = Self.problem
        problem.message = "\"quoted\" \\ \n\u{1}é"
        problem.hint = nil
        #expect(
            Problem.json([problem]) == "[{\"severity\":\"error\",\"file\":\"a.yaml\",\"line\":12,"
                + "\"column\":5,\"path\":\"spec.live\","
                + "\"message\":\"\\\"quoted\\\" \\\\ \\n\\u0001é\","
                + "\"hint\":null}]\n"
        )
    }

    @Test func pathsQuoteOddNames() {
        let path = ConfigurationPath("spec").field("weights").field("a.b").index(2).field("")
        #expect(path.description == "spec.weights[\"a.b\"][2][\"\"]")
    }
}
