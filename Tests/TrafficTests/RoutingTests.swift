import Core
import HTTP
import Testing

@testable import Traffic

@Suite struct ModelTableTests {
    @Test func findsEveryNameAndNoOther() throws {
        let names = (0..<40_000).map { (name: bytes("organisation/model-\($0)"), index: $0 / 4) }
        let table = try ModelTable(names: names)
        #expect(table.count == 40_000)
        for (name, index) in names { #expect(table.lookup(name.span.bytes) == index) }
        for other in [
            "", "organisation/model-", "organisation/model-40000", "Organisation/model-1",
        ] {
            let name = bytes(other)
            #expect(table.lookup(name.span.bytes) == nil)
        }
    }

    @Test func aCatchAllAnswersForTheRest() throws {
        let table = try ModelTable(names: [(bytes("a"), 0)], catchAll: 7)
        let known = bytes("a")
        let unknown = bytes("b")
        #expect(table.lookup(known.span.bytes) == 0)
        #expect(table.lookup(unknown.span.bytes) == 7)
        #expect(table.exact(unknown.span.bytes) == nil)
    }

    @Test func theSameNameForTwoModelsIsRefused() throws {
        #expect(throws: ModelTable.DuplicateName(name: bytes("a"))) {
            try ModelTable(names: [(bytes("a"), 0), (bytes("b"), 1), (bytes("a"), 1)])
        }
        let twice = try ModelTable(names: [(bytes("a"), 3), (bytes("a"), 3)])
        #expect(twice.count == 1)
    }

    @Test func emptyTablesAndEmptyNamesWork() throws {
        let name = bytes("")
        #expect(ModelTable().lookup(name.span.bytes) == nil)
        let table = try ModelTable(names: [(name, 0)])
        #expect(table.lookup(name.span.bytes) == 0)
    }

    @Test(
        arguments: [
            ("a%2Fb", "a/b"), ("plain", "plain"), ("%41%zz", nil), ("%4", nil), ("%", nil),
            ("%2541", "%41"), ("", ""),
        ] as [(String, String?)]
    )
    func decodesEscapesOnce(encoded: String, expected: String?) {
        let input = bytes(encoded)
        let decoded = NameBuffer(percentEncoded: input.span.bytes)
        #expect(decoded.map { text($0.bytes) } == expected)
    }

    @Test func namesAreBounded() {
        let fits = [UInt8](repeating: 97, count: NameBuffer.capacity)
        #expect(NameBuffer(fits.span.bytes)?.count == NameBuffer.capacity)
        #expect(NameBuffer((fits + [97]).span.bytes) == nil)
        #expect(NameBuffer(percentEncoded: (fits + [97]).span.bytes) == nil)
    }
}

@Suite struct HostPathTableTests {
    static let table = try? HostPathTable(routes: [
        .init(host: nil, prefix: bytes("/score"), index: 1),
        .init(host: nil, prefix: bytes("/score/deep/"), index: 2),
        .init(host: bytes("a.example.com"), prefix: bytes("/score"), index: 3),
        .init(host: bytes("*.example.com"), prefix: nil, index: 4),
        .init(host: bytes("*.b.example.com"), prefix: bytes("/only"), index: 5),
        .init(host: bytes("Upper.Example.org"), prefix: bytes("/"), index: 6),
    ])

    @Test(
        arguments: [
            ("x", "/score", 1), ("x", "/score/", 1), ("x", "/score/a", 1), ("x", "/scores", nil),
            ("x", "/score/deep", 2), ("x", "/score/deep/er", 2), ("x", "/score/deeper", 1),
            ("x", "/", nil), ("", "/score", 1), ("x", "/Score", nil), ("x", "", nil),
            ("a.example.com", "/score", 3), ("A.Example.COM:8080", "/score/x", 3),
            ("a.example.com.", "/score", 3), ("a.example.com", "/other", 4),
            ("c.example.com", "/score", 4), ("example.com", "/score", 1),
            ("example.com", "/x", nil),
            ("x.b.example.com", "/only", 5), ("x.b.example.com", "/else", 4),
            ("b.example.com", "/only", 4), ("upper.example.org", "/any", 6),
            ("[::1]:80", "/score", 1),
            ("notexample.com", "/x", nil), (".example.com", "/x", nil),
        ] as [(String, String, Int?)]
    )
    func choosesTheMostSpecial(host: String, path: String, expected: Int?) throws {
        let table = try #require(Self.table)
        let host = bytes(host)
        let path = bytes(path)
        #expect(table.lookup(host: host.span.bytes, path: path.span.bytes) == expected)
    }

    @Test(arguments: ["", "*", "*.", "*example.com", "a.*.b", ".a", "a:80"])
    func refusesHostsThatMeanNothing(host: String) {
        #expect(throws: HostPathTable.Problem.invalidHost(bytes(host))) {
            try HostPathTable(routes: [.init(host: bytes(host), prefix: nil, index: 0)])
        }
    }

    @Test(arguments: ["", "score", String(repeating: "/a", count: 600)])
    func refusesPrefixesThatAreNone(prefix: String) {
        #expect(throws: HostPathTable.Problem.invalidPrefix(bytes(prefix))) {
            try HostPathTable(routes: [.init(host: nil, prefix: bytes(prefix), index: 0)])
        }
    }

    @Test func refusesTheSameRouteForTwoModels() {
        #expect(throws: HostPathTable.Problem.duplicate(host: bytes("a.b"), prefix: bytes("/x"))) {
            try HostPathTable(routes: [
                .init(host: bytes("a.b"), prefix: bytes("/x"), index: 0),
                .init(host: bytes("A.B"), prefix: bytes("/x/"), index: 1),
            ])
        }
    }

    @Test func longAndStrangeInputIsHarmless() throws {
        let table = try #require(Self.table)
        let empty = HostPathTable()
        let longHost = [UInt8](repeating: UInt8(ascii: "."), count: 100_000)
        let longPath = [UInt8](repeating: UInt8(ascii: "/"), count: 100_000)
        #expect(table.lookup(host: longHost.span.bytes, path: longPath.span.bytes) == nil)
        #expect(empty.lookup(host: longHost.span.bytes, path: longPath.span.bytes) == nil)
    }
}

@Suite struct RequestRoutingTests {
    struct Case: Sendable {
        var method: HTTPMethod
        var path: String
        var target: String
        var style: APIStyle
        var operation: RoutingDecision.Operation
        var isRepeatable: Bool

        init(
            _ method: HTTPMethod,
            _ path: String,
            _ target: String,
            _ style: APIStyle,
            _ operation: RoutingDecision.Operation,
            _ isRepeatable: Bool
        ) {
            self.method = method
            self.path = path
            self.target = target
            self.style = style
            self.operation = operation
            self.isRepeatable = isRepeatable
        }
    }

    static let cases: [Case] = [
        Case(.post, "/v1/chat/completions", "body", .openAI, .inference, true),
        Case(.post, "/v1/completions", "body", .openAI, .inference, true),
        Case(.post, "/v1/completions/", "body", .openAI, .inference, true),
        Case(.post, "/v1/embeddings", "body", .openAI, .inference, true),
        Case(.post, "/v1/rerank", "body", .openAI, .inference, true),
        Case(.post, "/v1/messages", "body", .openAI, .inference, true),
        Case(.post, "/v1/responses", "body", .openAI, .storedInference, false),
        Case(.get, "/v1/responses/resp_1", "host", .openAI, .other, true),
        Case(.get, "/v1/chat/completions", "host", .openAI, .other, true),
        Case(.post, "/v1/files", "host", .openAI, .other, false),
        Case(.get, "/v1/models", "fleet openAIModels", .openAI, .metadata, true),
        Case(.head, "/v1/models/", "fleet openAIModels", .openAI, .metadata, true),
        Case(.post, "/v1/models", "host", .openAI, .other, false),
        Case(.get, "/v1/models/m", "name m", .openAI, .metadata, true),
        Case(.get, "/v1/models/org/m", "name org/m", .openAI, .metadata, true),
        Case(.delete, "/v1/models/m", "name m", .openAI, .other, true),
        Case(.post, "/v1/models/m:predict", "name m", .kserveV1, .inference, true),
        Case(.post, "/v1/models/a%2Fb:predict", "encoded a%2Fb", .kserveV1, .inference, true),
        Case(.get, "/v2", "fleet serverMetadata", .openInference, .metadata, true),
        Case(.get, "/v2/", "fleet serverMetadata", .openInference, .metadata, true),
        Case(.get, "/v2/health/live", "fleet live", .openInference, .readiness, true),
        Case(.get, "/v2/health/ready", "fleet ready", .openInference, .readiness, true),
        Case(.post, "/v2/health/ready", "host", .openInference, .other, false),
        Case(.get, "/v2/models", "fleet models", .openInference, .metadata, true),
        Case(
            .post,
            "/v2/repository/index",
            "fleet repositoryIndex",
            .openInference,
            .metadata,
            false
        ),
        Case(.post, "/v2/repository/models/m/load", "host", .openInference, .other, false),
        Case(.get, "/v2/models/m", "name m", .openInference, .metadata, true),
        Case(.get, "/v2/models/m/versions/3", "name m", .openInference, .metadata, true),
        Case(.get, "/v2/models/m/ready", "name m", .openInference, .readiness, true),
        Case(.get, "/v2/models/m/versions/3/ready", "name m", .openInference, .readiness, true),
        Case(.post, "/v2/models/m/infer", "name m", .openInference, .inference, true),
        Case(.post, "/v2/models/m/versions/3/infer", "name m", .openInference, .inference, true),
        Case(.post, "/v2/models/m/generate_stream", "name m", .openInference, .inference, true),
        Case(.post, "/v2/models/m/trace/setting", "name m", .openInference, .other, false),
        Case(.post, "/v2/models/m", "name m", .openInference, .other, false),
        Case(.get, "/v10/models", "host", .plain, .other, true),
        Case(.get, "/v3/models", "host", .plain, .other, true),
        Case(.get, "/", "host", .plain, .other, true),
        Case(.get, "/v", "host", .plain, .other, true),
        Case(.options, "*", "host", .plain, .other, true),
        Case(.post, "/score", "host", .plain, .other, false),
        Case(.post, "", "host", .plain, .other, false),
    ]

    static func describe(_ target: RoutingTarget, _ head: [UInt8]) -> String {
        switch target {
        case .name(let range, let isEncoded):
            (isEncoded ? "encoded " : "name ")
                + String(decoding: head[Int(range.start)..<Int(range.end)], as: UTF8.self)
        case .body: "body"
        case .fleet(let endpoint): "fleet \(endpoint)"
        case .hostAndPath: "host"
        }
    }

    @Test(arguments: cases.indices)
    func readsThePath(index: Int) {
        let row = Self.cases[index]
        let head = bytes("POST " + row.path + "?model=x HTTP/1.1")
        let decision = RequestRouting.decide(
            head.span.bytes,
            path: ByteRange(start: 5, count: UInt32(row.path.utf8.count)),
            method: row.method,
            weirModel: nil,
            gatewayModelName: nil
        )
        #expect(Self.describe(decision.target, head) == row.target, "\(row.path)")
        #expect(decision.style == row.style, "\(row.path)")
        #expect(decision.operation == row.operation, "\(row.path)")
        #expect(decision.isRepeatable == row.isRepeatable, "\(row.path)")
    }

    @Test(arguments: ["/v1/chat/completions", "/v1/models", "/v2/models/m/infer", "/score"])
    func headersWinOverThePath(path: String) {
        let head = bytes(path + "first second")
        let count = UInt32(path.utf8.count)
        let first = ByteRange(start: count, count: 5)
        let second = ByteRange(start: count + 6, count: 6)
        let empty = ByteRange(start: count, count: 0)
        func target(_ weir: ByteRange?, _ gateway: ByteRange?) -> String {
            let decision = RequestRouting.decide(
                head.span.bytes,
                path: ByteRange(start: 0, count: count),
                method: .post,
                weirModel: weir,
                gatewayModelName: gateway
            )
            return Self.describe(decision.target, head)
        }
        #expect(target(first, second) == "name first")
        #expect(target(nil, second) == "name second")
        #expect(target(empty, second) == "name second")
        #expect(target(empty, empty) == target(nil, nil))
    }
}
