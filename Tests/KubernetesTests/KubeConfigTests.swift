import Core
import Curl
import Foundation
import HTTPService
import Kubernetes
import Testing

@Suite struct KubeConfigTests {
    /// Surroundings with these files and nothing else.
    static func surroundings(
        _ files: [String: String],
        _ environment: [String: String] = [:]
    ) -> AccessSurroundings {
        AccessSurroundings(environment: environment) { path in
            files[path].map { .success(Array($0.utf8)) }
                ?? .failure(FileProblem(reason: "No such file or directory"))
        }
    }

    static func access(
        _ text: String,
        files: [String: String] = [:],
        context: String? = nil
    ) throws -> ClusterAccess {
        let all = files.merging(["/k/config": text]) { $1 }
        return try KubeConfig.load(self.surroundings(all), file: "/k/config")
            .access(context: context)
    }

    /// A file with one cluster and one user, whose bodies are given.
    static func config(cluster: String = "server: https://h:1", user: String = "{}") -> String {
        """
        apiVersion: v1
        kind: Config
        current-context: c
        clusters: [{name: k, cluster: {\(cluster)}}]
        users: [{name: u, user: \(user)}]
        contexts: [{name: c, context: {cluster: k, user: u}}]
        """
    }

    static func problem(_ body: () throws -> Void) -> AccessProblem? {
        do {
            try body()
            return nil
        } catch {
            return error as? AccessProblem
        }
    }

    // MARK: What is read

    @Test func readsWhatKubectlWrites() throws {
        let pem = "-----BEGIN CERTIFICATE-----\nx\n"
        let data = Data(pem.utf8).base64EncodedString()
        let text = """
            apiVersion: v1
            clusters:
            - cluster:
                certificate-authority-data: \(data)
                server: https://10.0.0.1:6443/
                tls-server-name: kubernetes.default
                proxy-url: socks5://proxy:1080
                disable-compression: true
              name: kind
            contexts:
            - context:
                cluster: kind
                namespace: models
                user: admin
              name: kind-admin
            current-context: kind-admin
            kind: Config
            preferences: {}
            users:
            - name: admin
              user:
                client-certificate-data: \(data)
                client-key-data: \(data)
                as: jane
                as-uid: "7"
                as-groups: [a, b]
                as-user-extra: {scopes: [x, y]}
            """
        let access = try Self.access(text)
        #expect(access.server == "https://10.0.0.1:6443" && access.name == "kind-admin")
        #expect(access.namespace == "models" && !access.acceptsCompression)
        #expect(access.tls.authorities == .data(Array(pem.utf8)))
        #expect(access.tls.certificate == .data(Array(pem.utf8)))
        #expect(access.tls.serverName == "kubernetes.default")
        #expect(!access.tls.acceptsAnyCertificate)
        #expect(access.proxy == .url("socks5://proxy:1080"))
        #expect(access.authentication == .none)
        #expect(access.impersonation?.user == "jane" && access.impersonation?.uid == "7")
        #expect(access.impersonation?.groups == ["a", "b"])
        #expect(access.impersonation?.extra == ["scopes": ["x", "y"]])
    }

    @Test func pathsAreRelativeToTheirFile() throws {
        let text = Self.config(
            cluster: "server: https://h:1, certificate-authority: pki/ca.pem",
            user: "{client-certificate: c.pem, client-key: /abs/k.pem}"
        )
        let files = ["/k/pki/ca.pem": "x", "/k/c.pem": "x", "/abs/k.pem": "x"]
        let access = try Self.access(text, files: files)
        #expect(access.tls.authorities == .file("/k/pki/ca.pem"))
        #expect(access.tls.certificate == .file("/k/c.pem"))
        #expect(access.tls.key == .file("/abs/k.pem"))
    }

    @Test func dataWinOverFiles() throws {
        let data = Data("x".utf8).base64EncodedString()
        let text = Self.config(
            cluster: "server: https://h:1, certificate-authority: no.pem, "
                + "certificate-authority-data: \(data)"
        )
        #expect(try Self.access(text).tls.authorities == .data([120]))
    }

    static let users: [(String, Authentication)] = [
        ("{}", .none), ("{token: t}", .token("t")),
        ("{token: t, tokenFile: f}", .tokenFile("/k/f")),
        ("{username: u, password: p}", .basic(user: "u", password: "p")),
        ("{token: t, username: u, password: p}", .token("t")),
        ("{token: t, exec: {}}", .token("t")),
    ]

    @Test(arguments: users.indices)
    func choosesHowToAuthenticate(index: Int) throws {
        let (user, expected) = Self.users[index]
        let access = try Self.access(Self.config(user: user), files: ["/k/f": "t"])
        #expect(access.authentication == expected)
    }

    @Test func readsPlugins() throws {
        let user = """
            {exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: ./bin/get-token,
              args: [--cluster, x], env: [{name: A, value: b}], installHint: go get it,
              interactiveMode: IfAvailable, provideClusterInfo: true}}
            """
        let text = Self.config(
            cluster: """
                server: https://h:1, certificate-authority: ca.pem, extensions: [
                  {name: client.authentication.k8s.io/exec, extension: {audience: me}}]
                """,
            user: user
        )
        let access = try Self.access(text, files: ["/k/ca.pem": "x"])
        guard case .plugin(let plugin) = access.authentication else {
            Issue.record("\(access.authentication)")
            return
        }
        #expect(plugin.version == .v1beta1 && plugin.command == "/k/./bin/get-token")
        #expect(plugin.arguments == ["--cluster", "x"] && plugin.environment == ["A": "b"])
        #expect(plugin.installHint == "go get it")
        let information = plugin.information
        #expect(information["apiVersion"] == "client.authentication.k8s.io/v1beta1")
        #expect(
            information["spec"]["cluster"] == [
                "server": "https://h:1", "certificate-authority-data": "eA==",
                "config": ["audience": "me"],
            ]
        )
    }

    @Test func insecureOnlyWhenAsked() throws {
        #expect(try !Self.access(Self.config()).tls.acceptsAnyCertificate)
        let text = Self.config(cluster: "server: https://h:1, insecure-skip-tls-verify: true")
        #expect(try Self.access(text).tls.acceptsAnyCertificate)
    }

    // MARK: Merging

    @Test func theFirstFileWinsForEachName() throws {
        let first = """
            current-context: one
            contexts: [{name: one, context: {cluster: k, user: u}}]
            users: [{name: u, user: {token: first}}]
            """
        let second = """
            current-context: two
            contexts: [{name: one, context: {cluster: no}}, {name: two, context: {cluster: k}}]
            clusters: [{name: k, cluster: {server: "https://h:1", certificate-authority: ca.pem}}]
            users: [{name: u, user: {token: second}}]
            """
        let surroundings = Self.surroundings(
            ["/1/a": first, "/2/b": second, "/2/ca.pem": "x"],
            ["KUBECONFIG": "/no/file:/1/a::/2/b"]
        )
        let config = try KubeConfig.load(surroundings)
        #expect(config.contextNames == ["one", "two"])
        let access = try config.access()
        #expect(access.name == "one" && access.authentication == .token("first"))
        // Relative to the file that says so.
        #expect(access.tls.authorities == .file("/2/ca.pem"))
        #expect(try config.access(context: "two").authentication == .none)
    }

    @Test func looksWhereKubectlLooks() throws {
        let files = ["/h/.kube/config": Self.config()]
        let home = Self.surroundings(files, ["HOME": "/h"])
        #expect(try ClusterAccess.discovered(home).server == "https://h:1")
        let nowhere = Self.surroundings([:], ["HOME": "/h"])
        let problem = Self.problem { _ = try ClusterAccess.discovered(nowhere) }
        #expect(problem?.place == "/h/.kube/config")
    }

    // MARK: What is wrong

    static let broken: [(text: String, words: [String])] = [
        ("a: [", ["/k/config", "not a kubeconfig"]),
        ("- a", ["/k/config", "not a mapping"]),
        ("a: &x 1\nb: *x", ["/k/config:2", "alias"]),
        ("", ["no current-context"]),
        ("clusters: {}", ["clusters", "not a list"]),
        ("users: [{user: {}}]", ["users[0]", "no name"]),
        ("current-context: z", ["no context is called `z`"]),
        (
            "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]",
            ["context `c`", "cluster `k` is not described"]
        ),
        (
            config().replacing("user: u}", with: "user: other}"),
            ["user `other` is not described"]
        ),
        (config(cluster: ""), ["cluster `k`: server", "missing"]),
        (config(cluster: "server: h:1"), ["server", "no address"]),
        (config(cluster: "server: \"https://a:b@h:1\""), ["server", "no address"]),
        (
            config(cluster: "server: https://h:1, certificate-authority: no.pem"),
            ["certificate-authority", "/k/no.pem", "No such file"]
        ),
        (
            config(cluster: "server: https://h:1, certificate-authority-data: '!'"),
            ["certificate-authority-data", "not base64"]
        ),
        (
            config(
                cluster: "server: https://h:1, certificate-authority-data: eA==, "
                    + "insecure-skip-tls-verify: true"
            ),
            ["insecure-skip-tls-verify", "contradicts"]
        ),
        (
            config(cluster: "server: https://h:1, insecure-skip-tls-verify: maybe"),
            ["insecure-skip-tls-verify", "neither true nor false"]
        ),
        (config(cluster: "server: https://h:1, proxy-url: 'ftp://x'"), ["proxy-url", "scheme"]),
        (config(user: "{token: 12345}"), ["user `u`: token", "quotes"]),
        (config(user: "{token: \"a b\"}"), ["token", "characters"]),
        (config(user: "{tokenFile: none.txt}"), ["tokenFile", "/k/none.txt"]),
        (config(user: "{username: 'a:b'}"), ["username", "colon"]),
        (
            config(user: "{client-certificate-data: eA==}"),
            ["client-certificate", "belong together"]
        ),
        (config(user: "{auth-provider: {name: gcp}}"), ["auth-provider", "exec plugin"]),
        (config(user: "{exec: {command: x}}"), ["exec.apiVersion"]),
        (
            config(user: "{exec: {apiVersion: client.authentication.k8s.io/v1}}"),
            ["exec.command", "missing"]
        ),
        (
            config(
                user: "{exec: {apiVersion: client.authentication.k8s.io/v1, command: x, "
                    + "interactiveMode: Always}}"
            ),
            ["exec.interactiveMode", "nobody"]
        ),
    ]

    @Test(arguments: broken.indices)
    func saysWhatIsWrongAndWhere(index: Int) throws {
        let (text, words) = Self.broken[index]
        let problem = try #require(Self.problem { _ = try Self.access(text) })
        for word in words { #expect("\(problem)".contains(word), "\(problem)") }
        #expect(!problem.hint.isEmpty && !problem.place.isEmpty)
        #expect(!"\(problem)".contains("12345"))
    }

    /// An asterisk that is no alias does no harm.
    @Test func takesAsterisksInValues() throws {
        let text = Self.config(user: "{token: \"*abc\"}") + "\nnote: a*b # *c\n"
        #expect(try Self.access(text).authentication == .token("*abc"))
    }

    // MARK: In a cluster

    private static let pod = [
        "/sa/token": "t\n", "/sa/ca.crt": "x", "/sa/namespace": "models\n",
    ]

    /// B.17: IPv6 addresses get their brackets.
    @Test(arguments: [
        ("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443"),
        ("[fd00::1]", "https://[fd00::1]:443"), ("kubernetes", "https://kubernetes:443"),
    ])
    func findsItsClusterFromWithin(host: String, server: String) throws {
        let surroundings = Self.surroundings(
            Self.pod,
            ["KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"]
        )
        let access = try ClusterAccess.inCluster(surroundings, folder: "/sa")
        #expect(access.server == server && access.namespace == "models")
        #expect(access.authentication == .tokenFile("/sa/token"))
        #expect(access.tls.authorities == .file("/sa/ca.crt"))
        #expect(!access.tls.acceptsAnyCertificate)
    }

    @Test func saysWhatAPodLacks() {
        let environment = ["KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "443"]
        for (missing, expected) in [("/sa/token", "/sa/token"), ("/sa/ca.crt", "/sa/ca.crt")] {
            let files = Self.pod.filter { $0.key != missing }
            let problem = Self.problem {
                let surroundings = Self.surroundings(files, environment)
                _ = try ClusterAccess.inCluster(surroundings, folder: "/sa")
            }
            #expect(problem?.place == expected)
        }
        let nowhere = Self.problem {
            _ = try ClusterAccess.inCluster(Self.surroundings(Self.pod), folder: "/sa")
        }
        #expect(nowhere?.message.contains("no pod") == true)
        let port = Self.problem {
            let odd = environment.merging(["KUBERNETES_SERVICE_PORT": "x"]) { $1 }
            _ = try ClusterAccess.inCluster(Self.surroundings(Self.pod, odd), folder: "/sa")
        }
        #expect(port?.place == "KUBERNETES_SERVICE_PORT")
    }
}
