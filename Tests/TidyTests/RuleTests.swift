import Testing

/// The rules find what they are made for, and nothing else.
@Suite struct RuleTests {
    private func source(_ text: String, path: String = "Sources/Core/Sample.swift") -> SwiftSource {
        SwiftSource(path: path, text: text)
    }

    // MARK: Masking

    @Test(arguments: [
        ("let a = 1 // {", "let a = 1     "),
        ("let a = \"{\" + b", "let a = \" \" + b"),
        ("let a = \"\\\"{\" + b", "let a = \"   \" + b"),
        ("let a = \"x\\(b(\"{\") + c)y\"", "let a = \" \\(b(\" \") + c) \""),
        ("let a = #\"\"{\"# + b", "let a = #\"  \"# + b"),
        ("let a = #\"\\(b)\"#", "let a = #\"    \"#"),
        ("/* { /* { */ } */ a", "                 " + " a"),
        ("\"\"\"\n { \"x\" }\n \"\"\" }", "\"\"\"\n        \n \"\"\" }"),
        ("let url = \"http://a\" // b", "let url = \"        \"     "),
        ("\"unfinished {\n}", "\"            \n}"),
    ])
    func commentsAndStringsAreMasked(text: String, code: String) {
        #expect(self.source(text).code.joined(separator: "\n") == code)
    }

    @Test func linesSurviveMasking() {
        let text = "a // b\n/* c\nd */ e\n\"\"\"\nf\n\"\"\"\n"
        let source = self.source(text)
        #expect(source.lines.count == source.code.count)
        #expect(source.commentLines == [0, 1, 2])
        #expect(source.blockCommentLines == [1])
    }

    // MARK: Shape

    @Test func longLinesAreFound() {
        let fits = String(repeating: "a", count: 100)
        #expect(Rules.lineLength(self.source(fits)).isEmpty)
        #expect(Rules.lineLength(self.source("\n" + fits + "b")).map(\.line) == [2])
        #expect(Rules.lineLength(self.source("//" + fits)).count == 1)
        #expect(Rules.lineLength(self.source("// tidy: a table\n" + fits + "b")).isEmpty)
    }

    @Test func onlyStringsInTestsMayBeLong() {
        let long = "let a = \"" + String(repeating: "a", count: 100) + "\""
        #expect(Rules.lineLength(self.source(long)).count == 1)
        let path = "Tests/CoreTests/Sample.swift"
        #expect(Rules.lineLength(self.source(long, path: path)).isEmpty)
        let block = "let x = \"\"\"\n\(long)\n\"\"\""
        #expect(Rules.lineLength(self.source(block, path: path)).isEmpty)
        let code = "let a = " + String(repeating: "b + ", count: 30) + "\"c\""
        #expect(Rules.lineLength(self.source(code, path: path)).count == 1)
        let comment = "// " + String(repeating: "a", count: 100)
        #expect(Rules.lineLength(self.source(comment, path: path)).count == 1)
    }

    @Test func longFilesAreFound() {
        let fits = String(repeating: "a\n", count: 800)
        #expect(Rules.fileLength(self.source(fits)).isEmpty)
        #expect(Rules.fileLength(self.source(fits + "a\n")).count == 1)
    }

    @Test(arguments: [
        "func a() {", "    static func a<T>(b: (T) -> Void = { _ in }) rethrows {",
        "package init?(a: Int)\n{", "override deinit {", "subscript(a: Int) -> Int {",
    ])
    func longFunctionsAreFound(head: String) {
        let lines = head.split(separator: "\n").count
        let fits = String(repeating: "    if a { b(\"}\") }\n", count: 70 - lines - 1)
        #expect(Rules.functionLength(self.source("\(head)\n\(fits)}")).isEmpty)
        #expect(Rules.functionLength(self.source("\(head)\n\(fits)\n}")).count == 1)
        let excused = "// tidy: a table\n\(head)\n\(fits)\n}"
        #expect(Rules.functionLength(self.source(excused)).isEmpty)
    }

    @Test func typesAndRequirementsAreNoFunctions() {
        let members = String(repeating: "    var a = { 1 }()\n", count: 100)
        let text = "protocol P {\n    func a()\n}\nstruct S {\n\(members)    func b() {}\n}\n"
        #expect(Rules.functionLength(self.source(text)).isEmpty)
        let found = FunctionScanner.functions(in: self.source(text).code)
        #expect(found.map(\.name) == ["b"])
    }

    @Test func nestedFunctionsAreFoundEachForItself() {
        let text = "func a() {\n    func b() {\n    }\n}\nfunc c() { d() }\n"
        let found = FunctionScanner.functions(in: self.source(text).code)
        #expect(found.map(\.name) == ["a", "b", "c"])
        #expect(found.map(\.lines) == [0..<4, 1..<3, 4..<5])
    }

    @Test func callsOfInitialisersAreNoDeclarations() {
        #expect(FunctionScanner.declaredName("        self.init(a)") == nil)
        #expect(FunctionScanner.declaredName("let a = A.init(b) {") == nil)
        #expect(FunctionScanner.declaredName("    package init() {") == "init")
        #expect(FunctionScanner.declaredName("    @inline(never) func a() {") == "a")
    }

    @Test func blockCommentsAreFound() {
        #expect(Rules.blockComments(self.source("a /* b */")).count == 1)
        #expect(Rules.blockComments(self.source("let accept = \"*/*\" // /*")).isEmpty)
    }

    // MARK: Calls and comments

    @Test(arguments: Rules.bannedInSources)
    func bannedCallsAreFound(call: String) {
        let bad = "let x = 1\nlet a = \(call.hasPrefix(".") ? "Int" : "")\(call))"
        #expect(Rules.bannedCalls(self.source(bad)).contains { $0.line == 2 })
        #expect(Rules.bannedCalls(self.source("// \(call))")).isEmpty)
        #expect(Rules.bannedCalls(self.source("let a = \"\(call))\"")).isEmpty)
        #expect(!Rules.bannedCalls(self.source("// tidy: too far away\n" + bad)).isEmpty)
        let excused = bad.replacing("let x = 1", with: "// tidy: for people alone")
        #expect(Rules.bannedCalls(self.source(excused)).isEmpty)
    }

    @Test func longerNamesAreNotBanned() {
        let good = "HTTPDate(a); nanosleep_(b); notsleep(c); ExpiryDate(d); asleep(e)"
        #expect(Rules.bannedCalls(self.source(good)).isEmpty)
        #expect(Rules.bannedCalls(self.source("let a = \"\\(Date())\"")).count == 1)
    }

    @Test func callsAreAllowedAtHomeOnly() {
        let text = "clock_gettime(CLOCK_MONOTONIC, &time)"
        #expect(Rules.bannedCalls(self.source(text)).count == 1)
        let home = self.source(text, path: "Sources/EventLoop/EventLoop.swift")
        #expect(Rules.bannedCalls(home).isEmpty)
        let other = self.source("getenv(a)", path: "Sources/EventLoop/EventLoop.swift")
        #expect(Rules.bannedCalls(other).count == 1)
    }

    @Test func testsHaveTheirOwnBans() {
        let path = "Tests/CoreTests/Sample.swift"
        let bad = "try await Task.sleep(for: a)"
        #expect(Rules.bannedCalls(self.source(bad, path: path)).count == 1)
        #expect(Rules.bannedCalls(self.source("import XCTest", path: path)).count == 1)
        #expect(Rules.bannedCalls(self.source(".random(in: a, using: &b)", path: path)).isEmpty)
    }

    @Test func uncheckedSendableNeedsAReason() {
        let bare = "\nstruct A: @unchecked Sendable {\n    var a: B\n}"
        #expect(Rules.uncheckedSendable(self.source(bare)).map(\.line) == [2])
        #expect(Rules.uncheckedSendable(self.source("// Locked by b." + bare)).isEmpty)
        let below = bare.replacing("    var a", with: "    // Locked by b.\n    var a")
        #expect(Rules.uncheckedSendable(self.source(below)).isEmpty)
    }

    @Test func leftoversAreFound() {
        let word = "TO" + "DO"
        #expect(Rules.leftovers(path: "a", text: "b\n// \(word): c").map(\.line) == [2])
        #expect(Rules.leftovers(path: "a", text: "// done").isEmpty)
    }

    @Test(arguments: [
        ("cd @work@weir", true), ("path = \"@home@ada@x\"", true), ("@root@.cache", true),
        ("https:@@a.example@home@x", false), ("models@home@x", false), ("$(HOME)@root@x", false),
        ("/v2/models", false), ("network@x", false),
    ])
    func pathsOfOneMachineAreFound(text: String, isBad: Bool) {
        // The sign stands for a slash, so that this file has no such path itself.
        let line = text.replacing("@", with: "/")
        #expect(Rules.machinePaths(path: "a", text: line).isEmpty == !isBad)
    }

    // MARK: Imports

    @Test(arguments: [
        ("Proxy", "Core"), ("Proxy", "CPlatform"), ("Proxy", "Glibc"), ("HTTP", "Core"),
        ("Traffic", "HTTP"), ("Core", "Synchronization"), ("Admin", "Control"), ("weir", "Admin"),
    ])
    func importsUpwardsAreFine(module: String, imported: String) {
        let source = self.source("import \(imported)\n", path: "Sources/\(module)/Sample.swift")
        #expect(Rules.imports(source).isEmpty)
    }

    @Test(arguments: [
        ("Core", "HTTP"), ("HTTP", "Traffic"), ("Core", "Glibc"), ("HTTP", "Foundation"),
        ("Traffic", "CPlatform"), ("Traffic", "EventLoop"), ("EventLoop", "Proxy"),
        ("Clusters", "Control"), ("Control", "Control"), ("ModelSimulator", "weir"),
        ("Telemetry", "HTTPService"), ("Unheard", "Core"),
    ])
    func importsDownwardsAreFound(module: String, imported: String) {
        let text = "@testable package import struct \(imported).A\n"
        let source = self.source(text, path: "Sources/\(module)/Sample.swift")
        #expect(Rules.imports(source).count == 1)
    }

    @Test(arguments: [
        ("import Core", "Core"), ("@preconcurrency import Glibc", "Glibc"),
        ("package import struct HTTP.A", "HTTP"), ("import class Core", "Core"),
        ("let important = 1", nil), ("importer()", nil), ("import", nil),
    ])
    func importsAreRead(line: String, module: String?) {
        #expect(Rules.importedModule(line) == module)
    }
}

/// The rules of documents find what they are made for.
@Suite struct DocumentRuleTests {
    @Test func linksAreRead() {
        let text = "a [b](c.md) [d](e.md#f)\n\n    [code](no.md)\n```\n[code](no.md)\n```\n[g](#h)"
        #expect(Documents.links(in: text).map(\.target) == ["c.md", "e.md#f", "#h"])
        #expect(Documents.links(in: text).map(\.line) == [1, 1, 7])
    }

    @Test func brokenLinksAreFound() {
        let files = ["docs/a.md": "# One thing: `two`", "docs/deep/b.md": "", "README.md": ""]
        func broken(_ text: String, at path: String) -> [Int] {
            Documents.brokenLinks(
                path: path,
                text: text,
                exists: { files[$0] != nil },
                read: { files[$0] }
            ).map(\.line)
        }
        #expect(broken("[x](a.md)\n[x](no.md)", at: "docs/c.md") == [2])
        let deep = "[x](../a.md)\n[x](../../README.md)\n[x](a.md)"
        #expect(broken(deep, at: "docs/deep/b.md") == [3])
        #expect(broken("[x](a.md#one-thing-two)\n[x](a.md#three)", at: "docs/c.md") == [2])
        #expect(broken("# Here\n[x](#here)\n[x](https://a.example/b)", at: "docs/a.md") == [2])
        #expect(broken("[x](#one-thing-two)", at: "docs/a.md").isEmpty)
    }

    @Test func commandsAreRead() {
        let text = """
            Run `weir check -c x` and `make demo KEEP=1`; weir serves.

                weir run -c a.yaml    # weir tells
                curl a | weir get models
            ```yaml
            command: [weir, other]
            weir scale a 2
            ```
            """
        let words = Documents.arguments(of: "weir", in: text)
        #expect(words.map(\.word) == ["check", "run", "get", "scale"])
        #expect(words.map(\.line) == [1, 3, 4, 7])
        #expect(Documents.arguments(of: "make", in: text).map(\.word) == ["demo"])
    }

    @Test func namesAreRead() {
        let text = "`One` and `Two.three`, but no `four`, `Five/six.swift`, `SEVEN 8`, Nine."
        #expect(Documents.names(in: text) == ["One", "Two", "three"])
    }

    @Test func unknownCommandsAreFound() {
        let findings = Documents.unknownWords(
            path: "a.md",
            text: "`weir run` `weir fly`",
            program: "weir",
            known: ["run"]
        )
        #expect(findings.map(\.message) == ["there is no `weir fly`"])
    }

    @Test func targetsOfAMakefileAreRead() {
        let text = ".PHONY: a\nFLAGS := b\nname:=c\ntest: ## run\n\t@x: y\nfuzz-all: test\n"
        #expect(Documents.makeTargets(text) == ["test", "fuzz-all"])
    }

    @Test func subcommandsAreRead() {
        let sources = [
            "struct Weir: P {\n  let c = C(commandName: \"weir\", subcommands: [\n A.self,"
                + "BigOne.self,\n Named.self])\n}\n",
            "struct A: P {\n}\nstruct Named: P {\n  let c = C(commandName: \"other-name\")\n}\n",
        ]
        #expect(Documents.subcommands(sources) == ["help", "a", "big-one", "other-name"])
    }
}
