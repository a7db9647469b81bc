import Testing

@testable import Configuration

/// What an API server makes of the definitions is tested in Tests/Kubernetes.
@Suite struct DefinitionTests {
    private static let folder = Examples.folder.replacing("/configs/", with: "/manifests/crds/")

    /// `weir crds --directory manifests/crds` writes them anew.
    @Test(arguments: CustomResourceDefinitions.kinds)
    func theDefinitionsAreCurrent(kind: ResourceKind) throws {
        let name = try #require(CustomResourceDefinitions.fileName(of: kind))
        let wanted = try #require(CustomResourceDefinitions.yaml(of: kind))
        let found = try ConfigurationFile.read(path: Self.folder + name).get()
        #expect(
            String(decoding: found.bytes, as: UTF8.self) == wanted,
            "run weir crds --directory manifests/crds"
        )
    }

    @Test(arguments: ResourceKind.allCases)
    func kindsOfOneMachineHaveNoDefinition(kind: ResourceKind) {
        let isDefined = CustomResourceDefinitions.yaml(of: kind) != nil
        #expect(isDefined == CustomResourceDefinitions.kinds.contains(kind))
        #expect(isDefined != [.gateway, .processDeployment].contains(kind))
    }

    // MARK: Patterns

    private static func matches(_ pattern: String, _ text: String) throws -> Bool {
        try Regex(pattern).wholeMatch(in: text) != nil
    }

    @Test(arguments: [
        "0", "1", "9", "10", "1000000000", "0.5", "0.9999", "0.001", "99.05", "305.7",
    ])
    func decimalsAreBoundedAsNumbersAre(bound: String) throws {
        let limit = try #require(Double(bound))
        let most = DecimalPattern.atMost(bound)
        let least = DecimalPattern.atLeast(bound)
        let fractions = ["", ".0", ".00", ".5", ".50", ".4999", ".9999", ".99991", ".001", ".05"]
        let wholes = ["0", "1", "8", "9", "10", "11", "99", "100", "305", "304", "306", "999"]
        for whole in wholes + ["00", "009", "1000000000", "0999999999", "10000000000"] {
            for fraction in fractions + [".0009", ".7", ".71", ".06"] {
                let text = whole + fraction
                let number = try #require(Double(text))
                #expect(try Self.matches(DecimalPattern.form, text))
                #expect(try Self.matches(most, text) == (number <= limit), "\(text) <= \(bound)")
                #expect(try Self.matches(least, text) == (number >= limit), "\(text) >= \(bound)")
            }
        }
    }

    @Test(arguments: [
        (TextFormat.label, ["a", "a-b", "0"], ["", "-a", "a-", "A", "a.b"]),
        (.subdomain, ["a.b", "a-1.b"], ["a..b", ".a", "a."]),
        (.modelName, ["*", "org/model:7b", "a[b]"], ["a b", "a*", "a\"", "ä"]),
        (.hostPattern, ["a_b.c", "*.a.b", "10.0.0.1", "1a"], ["a..b", "300.0.0.1", "a.1", "-a"]),
        (.headerName, ["x-user", "x_1"], ["x y", "x:"]),
        (.urlPath, ["/", "/a?b=%20"], ["a", "/a b", "/a#b"]),
        (
            .endpoint, ["http://a:80", "HTTPS://[::1]:1/", "http://10.0.0.1"],
            ["http://a/b", "a:80"]
        ),
        (
            .url, ["http://a/b?c", "https://a.b:65535"],
            ["http://a:65536", "http://a:0", "http:///"]
        ),
        (.cron, ["0 8 * * 1-5", "*/15 0-6,22 1 JAN sun"], ["60 * * * *", "* * * *", "* * * * 8"]),
        (.qualifiedName, ["cpu", "nvidia.com/gpu"], ["nvidia.com/", "/gpu", "a/b/c"]),
    ])
    func aPatternTakesWhatTheFormatTakes(
        format: TextFormat,
        good: [String],
        bad: [String]
    ) throws {
        let pattern = try #require(TextPattern.pattern(of: format))
        for text in good {
            #expect(format.failure(of: text) == nil, "\(text)")
            #expect(try Self.matches(pattern, text), "\(text)")
        }
        for text in bad {
            #expect(format.failure(of: text) != nil, "\(text)")
            #expect(try !Self.matches(pattern, text), "\(text)")
        }
    }

    @Test func textsThatLookLikeSomethingElseAreQuoted() {
        let tree: DefinitionTree = .mapping([
            .init("off", .texts(["off", "Yes", "1.5", "plain", "a: b", ""])),
            .init("empty", .mapping([])), .init("none", .list([])),
            .init("inner", .list([.mapping([.init("a", .integer(1)), .init("b", .truth(true))])])),
        ])
        let wanted = """
            "off":
            - "off"
            - "Yes"
            - "1.5"
            - plain
            - "a: b"
            - ""
            empty: {}
            none: []
            inner:
            - a: 1
              b: true

            """
        #expect(tree.yaml == wanted)
    }
}
