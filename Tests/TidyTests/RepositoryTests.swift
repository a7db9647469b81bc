import Foundation
import Testing

/// The files of the project, beside the sources of this test.
struct Repository {
    static let root = URL(fileURLWithPath: "\(#filePath)").deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: self.root.appendingPathComponent(path).path)
    }

    static func read(_ path: String) -> String? {
        try? String(contentsOf: self.root.appendingPathComponent(path), encoding: .utf8)
    }

    static func text(_ path: String) throws -> String {
        try String(contentsOf: self.root.appendingPathComponent(path), encoding: .utf8)
    }

    /// The files below a folder that end like this, by their paths from the root.
    static func files(below folder: String, ending suffixes: [String]) -> [String] {
        let start = self.root.appendingPathComponent(folder)
        guard let walk = FileManager.default.enumerator(atPath: start.path) else { return [] }
        return walk.compactMap { $0 as? String }
            .filter { name in
                let isHidden = name.split(separator: "/").contains { $0.hasPrefix(".") }
                return !isHidden && suffixes.contains { name.hasSuffix($0) }
            }
            .map { "\(folder)/\($0)" }.sorted()
    }

    static func folders(in folder: String) -> [String] {
        let start = self.root.appendingPathComponent(folder)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: start.path)) ?? []
        return names.filter { !self.files(below: "\(folder)/\($0)", ending: [".swift"]).isEmpty }
            .sorted()
    }

    static func sources(in folders: [String]) throws -> [SwiftSource] {
        try folders.flatMap { self.files(below: $0, ending: [".swift"]) }
            .map { SwiftSource(path: $0, text: try self.text($0)) }
    }

    static let documents = ["README.md"] + files(below: "docs", ending: [".md"])
    /// Everything that people read or write by hand.
    static let texts =
        ["README.md", "Makefile", "Package.swift"] + documents.dropFirst()
        + ["Sources", "Tests", "Fuzz", "configs", "scripts"].flatMap {
            files(below: $0, ending: [".swift", ".h", ".py", ".md", ".yaml", ".sh", ".ini"])
        }
}

@Suite struct RepositoryTests {
    private func expectNone(_ findings: [Finding]) {
        let shown = findings.map(\.description).joined(separator: "\n")
        #expect(findings.isEmpty, "\(findings.count) findings:\n\(shown)")
    }

    /// Were the files not found, nothing could be wrong with them.
    @Test func thereAreFilesToCheck() throws {
        #expect(try Repository.sources(in: ["Sources"]).count > 100)
        #expect(try Repository.sources(in: ["Tests"]).count > 50)
        #expect(Repository.documents.count > 3)
        #expect(Repository.texts.count > 150)
        #expect(Repository.folders(in: "Tests").contains("TidyTests"))
    }

    /// Comments here still wait to be wrapped; take the folder out once they are.
    private static let unwrapped = "Sources/Proxy/"

    @Test func sourcesKeepTheRules() throws {
        for source in try Repository.sources(in: ["Sources"]) {
            if !source.path.hasPrefix(Self.unwrapped) { self.expectNone(Rules.lineLength(source)) }
            self.expectNone(
                Rules.fileLength(source) + Rules.functionLength(source)
                    + Rules.blockComments(source) + Rules.bannedCalls(source)
                    + Rules.uncheckedSendable(source) + Rules.imports(source)
            )
        }
    }

    @Test func testsKeepTheRules() throws {
        for source in try Repository.sources(in: ["Tests", "Fuzz"]) {
            self.expectNone(
                Rules.lineLength(source) + Rules.fileLength(source) + Rules.functionLength(source)
                    + Rules.blockComments(source) + Rules.bannedCalls(source)
                    + Rules.uncheckedSendable(source)
            )
        }
    }

    @Test func nothingIsLeftOver() throws {
        for path in Repository.texts {
            let text = try Repository.text(path)
            self.expectNone(
                Rules.leftovers(path: path, text: text) + Rules.machinePaths(path: path, text: text)
            )
        }
    }

    @Test func everyModuleIsInTheListOfModules() {
        let modules = Repository.folders(in: "Sources")
        #expect(Set(modules) == Set(Rules.modules), "a module was added, renamed or removed")
    }

    @Test func theTourNamesEveryModule() throws {
        let tour = try Repository.text("docs/source-tour.md")
        for module in Rules.modules {
            #expect(tour.contains("`\(module)`"), "docs/source-tour.md does not name \(module)")
        }
    }

    /// The types and files that a document names in the code's own writing are there.
    @Test func theTourNamesWhatThereIs() throws {
        let code = try Repository.sources(in: ["Sources", "Tests"])
            .flatMap(\.lines).joined(separator: "\n")
        let tour = try Repository.text("docs/source-tour.md")
        let names = Documents.names(in: tour)
        #expect(names.count > 30)
        for name in names { #expect(code.contains(name), "there is no \(name)") }
    }

    @Test func everyTestTargetIsBuilt() throws {
        let package = try Repository.text("Package.swift")
        for name in Repository.folders(in: "Tests") {
            #expect(package.contains("\"\(name)\""), "Package.swift does not know Tests/\(name)")
        }
        for module in Rules.modules where module != "weir" {
            #expect(Repository.exists("Tests/\(module)Tests"), "\(module) has no tests")
        }
    }

    @Test func everyExampleIsTested() throws {
        let tests = try Repository.text("Tests/ConfigurationTests/ExampleTests.swift")
        let examples = Repository.files(below: "configs", ending: [".yaml", ".yml"])
        #expect(!examples.isEmpty)
        for path in examples {
            let name = path.split(separator: "/").last.map(String.init) ?? path
            #expect(tests.contains("\"\(name)\""), "no test loads \(path)")
        }
    }

    @Test(arguments: Repository.documents)
    func linksLeadSomewhere(path: String) throws {
        self.expectNone(
            Documents.brokenLinks(
                path: path,
                text: try Repository.text(path),
                exists: Repository.exists,
                read: Repository.read
            )
        )
    }

    @Test(arguments: Repository.documents)
    func documentsNameWhatThereIs(path: String) throws {
        let commands = Documents.subcommands(
            try Repository.files(below: "Sources/weir", ending: [".swift"]).map(Repository.text)
        )
        let targets = Documents.makeTargets(try Repository.text("Makefile"))
        #expect(commands.count > 4 && targets.count > 4)
        let text = try Repository.text(path)
        self.expectNone(
            Documents.unknownWords(path: path, text: text, program: "weir", known: commands)
                + Documents.unknownWords(path: path, text: text, program: "make", known: targets)
        )
    }
}
