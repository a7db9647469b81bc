import Core
import Curl
import EventLoop
import Foundation
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

@Suite struct CredentialTests {
    static let key = ObjectKey(namespace: "a", name: "x")

    /// Takes only the token given.
    private static func guarded(
        _ tokens: @escaping () -> Set<String>
    ) -> Scene.Answer {
        { request, response in
            let token = request.fields["authorization"]?.dropFirst("Bearer ".count) ?? ""
            if tokens().contains(String(token)) { return response.respond(item("x", 1)) }
            response.refuse(401, reason: "Unauthorized", message: "Unauthorized")
        }
    }

    private func get(_ scene: Scene) throws -> Result<KubernetesObject, APIError> {
        try scene.result { scene.client.get(.pods, Self.key, completion: $0) }
    }

    // MARK: Files

    /// B.17: the token is rotated on disk; 401 once, then it is read again and the call succeeds.
    @Test func readsARotatedTokenAgainAfter401() throws {
        let folder = try Folder()
        let path = try folder.write("token", "one\n")
        var valid: Set = ["one"]
        let scene = try Scene(
            change: { access, _ in
                access.authentication = .tokenFile(path)
            },
            answer: Self.guarded { valid }
        )
        _ = try self.get(scene).get()
        try folder.write("token", "two\n")
        // Still the old one: the file is read once in 50 s.
        _ = try self.get(scene).get()
        #expect(scene.requests.count == 2)
        valid = ["two"]
        _ = try self.get(scene).get()
        #expect(
            scene.requests.map { $0.fields["authorization"] } == [
                "Bearer one", "Bearer one", "Bearer one", "Bearer two",
            ]
        )
    }

    @Test func givesUpWhereTheNewTokenIsRefusedToo() throws {
        let folder = try Folder()
        let path = try folder.write("token", "one")
        let scene = try Scene(
            change: { access, _ in
                access.authentication = .tokenFile(path)
            },
            answer: Self.guarded { [] }
        )
        let error = try self.get(scene).error
        #expect(error?.status?.isUnauthorized == true)
        #expect(scene.requests.count == 2)
    }

    @Test func doesNotRepeatATokenThatCannotChange() throws {
        let scene = try Scene(
            change: { access, _ in
                access.authentication = .token("one")
            },
            answer: Self.guarded { [] }
        )
        #expect(try self.get(scene).error?.status?.isUnauthorized == true)
        #expect(scene.requests.count == 1)
    }

    @Test func renewsTheTokenOfAWatchToo() throws {
        let folder = try Folder()
        let path = try folder.write("token", "one")
        var valid: Set = ["one"]
        let scene = try Scene(
            change: { access, _ in
                access.authentication = .tokenFile(path)
            },
            answer: Self.guarded { valid }
        )
        _ = try self.get(scene).get()
        try folder.write("token", "two")
        valid = ["two"]
        var ends: [APIError?] = []
        scene.client.watch(
            .pods,
            ListOptions(),
            WatchOptions(),
            handlers: WatchHandlers(onEvent: { _ in }, onEnd: { ends.append($0) })
        )
        try scene.run(until: "the watch to end") { !ends.isEmpty }
        #expect(scene.requests.map { $0.fields["authorization"] }.last == "Bearer two")
        #expect(scene.requests.count == 3)
    }

    @Test func saysWhichFileHasNoToken() throws {
        let folder = try Folder()
        for (name, text) in [("empty", ""), ("odd", "a b"), ("missing", nil as String?)] {
            let path = folder.path(name)
            if let text { try folder.write(name, text) }
            let scene = try Scene(
                change: { access, _ in
                    access.authentication = .tokenFile(path)
                },
                answer: Self.guarded { [] }
            )
            let error = try #require(try self.get(scene).error)
            guard case .credentials(let why) = error.kind else {
                Issue.record("\(error)")
                continue
            }
            #expect(why.contains(path) && error.isWithoutEffect)
            #expect(scene.requests.isEmpty)
        }
    }

    /// A moment without file, as while it is replaced, changes nothing.
    @Test func keepsTheOldTokenWhileTheFileCannotBeRead() throws {
        var isReadable = true
        let state = LoopBoundFlag()
        let surroundings = AccessSurroundings(environment: [:]) { _ in
            state.value
                ? .success(Array("one".utf8)) : .failure(FileProblem(reason: "not now"))
        }
        let scene = try Scene(
            surroundings: surroundings,
            change: { access, _ in access.authentication = .tokenFile("token") },
            answer: Self.guarded { ["one"] }
        )
        _ = try self.get(scene).get()
        isReadable = false
        state.value = isReadable
        _ = try self.get(scene).get()
        #expect(scene.requests.count == 2)
    }

    // MARK: Plugins

    private static func answer(token: String, expires: String? = nil) -> String {
        var status: JSONValue = ["token": .string(token)]
        if let expires { status["expirationTimestamp"] = .string(expires) }
        return
            ([
                "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                "status": status,
            ] as JSONValue).text
    }

    private func scene(
        _ plugin: ExecPlugin,
        _ tokens: @escaping () -> Set<String>
    ) throws -> Scene {
        try Scene(
            surroundings: AccessSurroundings(
                environment: ["PATH": "/usr/bin:/bin", "OWN": "1"],
                read: LocalFile.read
            ),
            change: { access, _ in access.authentication = .plugin(plugin) },
            answer: Self.guarded(tokens)
        )
    }

    /// B.17: what a plugin gives is kept until it expires, or is refused.
    @Test func runsAPluginAgainWhenItsCredentialExpiresOrIsRefused() throws {
        let folder = try Folder()
        // Counts its runs; the token is their number.
        let program = try folder.program(
            "plugin",
            """
            n=$(($(cat "$1" 2>/dev/null || echo 0) + 1)); echo $n >"$1"
            echo '\(Self.answer(token: "TOKEN", expires: "2100-01-01T00:00:00Z"))' \
                | sed "s/TOKEN/$n/"
            """
        )
        var plugin = ExecPlugin(version: .v1, command: program)
        plugin.arguments = [folder.path("count")]
        var valid: Set = ["1"]
        let scene = try self.scene(plugin) { valid }
        _ = try self.get(scene).get()
        _ = try self.get(scene).get()
        #expect(scene.requests.count == 2)
        valid = ["2"]
        _ = try self.get(scene).get()
        #expect(scene.requests.count == 4)
        valid = []
        #expect(try self.get(scene).error?.status?.isUnauthorized == true)
        #expect(scene.requests.map { $0.fields["authorization"] }.last == "Bearer 3")
    }

    @Test func runsAPluginForEachCallOnceItsCredentialHasExpired() throws {
        let folder = try Folder()
        let program = try folder.program(
            "plugin",
            """
            echo x >>"$1"
            echo '\(Self.answer(token: "t", expires: "2001-01-01T00:00:00Z"))'
            """
        )
        var plugin = ExecPlugin(version: .v1, command: program)
        plugin.arguments = [folder.path("count")]
        let scene = try self.scene(plugin) { ["t"] }
        for _ in 0..<3 { _ = try self.get(scene).get() }
        let runs = try String(contentsOfFile: folder.path("count"), encoding: .utf8)
        #expect(runs == "x\nx\nx\n")
    }

    /// B.17: with another client certificate, connections made with the old one are not used.
    @Test(arguments: [("$n", 3), ("same", 1)])
    func anotherCertificateMeansAnotherConnection(certificate: String, accepted: Int) throws {
        let folder = try Folder()
        let text = Self.answer(token: "t", expires: "2001-01-01T00:00:00Z")
            .replacing(
                "\"token\"",
                with: #""clientCertificateData":"CERT","clientKeyData":"k","token""#
            )
        let program = try folder.program(
            "plugin",
            """
            n=$(($(cat "$1" 2>/dev/null || echo 0) + 1)); echo $n >"$1"
            echo '\(text)' | sed "s/CERT/\(certificate)/"
            """
        )
        var plugin = ExecPlugin(version: .v1, command: program)
        plugin.arguments = [folder.path("count")]
        let scene = try self.scene(plugin) { ["t"] }
        for _ in 0..<3 { _ = try self.get(scene).get() }
        #expect(scene.server.counts.accepted == accepted)
    }

    @Test func manyCallsShareOneRun() throws {
        let folder = try Folder()
        let program = try folder.program(
            "plugin",
            "echo x >>\"$1\"\necho '\(Self.answer(token: "t"))'"
        )
        var plugin = ExecPlugin(version: .v1, command: program)
        plugin.arguments = [folder.path("count")]
        let scene = try self.scene(plugin) { ["t"] }
        var ends = 0
        for _ in 0..<20 { scene.client.get(.pods, Self.key) { _ in ends += 1 } }
        try scene.run(until: "all answers") { ends == 20 }
        #expect(try String(contentsOfFile: folder.path("count"), encoding: .utf8) == "x\n")
    }

    @Test func tellsAPluginWhatItNeeds() throws {
        let folder = try Folder()
        let program = try folder.program(
            "plugin",
            """
            printf '%s|%s|%s|%s' "$*" "$OWN" "$MINE" "$KUBERNETES_EXEC_INFO" >"\(folder.path("seen"))"
            echo '\(Self.answer(token: "t"))'
            """
        )
        var plugin = ExecPlugin(version: .v1, command: program)
        plugin.arguments = ["a b", "c"]
        plugin.environment = ["MINE": "2"]
        plugin.cluster = ExecPlugin.ClusterDescription(json: #"{"server":"https://x"}"#)
        let scene = try self.scene(plugin) { ["t"] }
        _ = try self.get(scene).get()
        let seen = try String(contentsOfFile: folder.path("seen"), encoding: .utf8)
        let parts = seen.split(separator: "|").map(String.init)
        #expect(parts[0...2] == ["a b c", "1", "2"])
        #expect(
            try JSONValue(parsing: parts[3]) == [
                "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                "spec": ["interactive": false, "cluster": ["server": "https://x"]],
            ]
        )
    }

    static let failures: [(script: String, words: String)] = [
        ("echo 'log in first' >&2; exit 3", "ended with status 3, saying: log in first"),
        ("kill -9 $$", "signal 9"),
        ("echo nonsense", "no JSON"),
        ("echo '{}'", "no ExecCredential"),
        (
            #"echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1"}'"#,
            "another version"
        ),
        (
            #"echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1"}'"#,
            "no status"
        ),
        ("exec yes secret", "wrote more than"),
    ]

    @Test(arguments: failures.indices)
    func saysWhyAPluginFailed(index: Int) throws {
        let (script, words) = Self.failures[index]
        let folder = try Folder()
        var plugin = ExecPlugin(version: .v1, command: try folder.program("plugin", script))
        plugin.installHint = "get it from example.com"
        let scene = try self.scene(plugin) { [] }
        let error = try #require(try self.get(scene).error)
        guard case .credentials(let why) = error.kind else {
            Issue.record("\(error)")
            return
        }
        #expect(why.contains(words), "\(why)")
        #expect(!why.contains("secret"))
        #expect(scene.requests.isEmpty)
    }

    @Test func endsAPluginThatTakesTooLong() throws {
        let folder = try Folder()
        var plugin = ExecPlugin(
            version: .v1,
            command: try folder.program("plugin", "exec tail -f /dev/null")
        )
        plugin.timeout = .milliseconds(50)
        let scene = try self.scene(plugin) { [] }
        let error = try #require(try self.get(scene).error)
        #expect("\(error)".contains("has not ended within"))
    }

    @Test func saysThatAPluginIsNotThere() throws {
        var plugin = ExecPlugin(version: .v1, command: "weir-no-such-plugin")
        plugin.installHint = "get it from example.com"
        let scene = try self.scene(plugin) { [] }
        let error = try #require(try self.get(scene).error)
        #expect("\(error)".contains("not there"))
        #expect("\(error)".contains("get it from example.com"))
    }
}

/// A flag that a test's surroundings read on the test's own thread.
private final class LoopBoundFlag: @unchecked Sendable {
    // Sound: the loop turns on the test's thread.
    var value = true
}
