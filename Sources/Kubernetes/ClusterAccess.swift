import Curl

/// Why it is not known how to reach a cluster: what, where, what to do.
package struct AccessProblem: Error, Sendable, Hashable, CustomStringConvertible {
    /// The file, variable or entry that it is about.
    package var place: String
    package var message: String
    package var hint: String

    package init(place: String, message: String, hint: String) {
        self.place = place
        self.message = message
        self.hint = hint
    }

    package var description: String { "\(self.place): \(self.message): \(self.hint)" }
}

/// Who we say we are.
package enum Authentication: Sendable, Hashable {
    case none
    case token(String)
    /// Read again once it is a minute old, and when the server refuses it.
    case tokenFile(String)
    case basic(user: String, password: String)
    case plugin(ExecPlugin)
}

/// Whom we act for, where we may (`kubectl --as`).
package struct Impersonation: Sendable, Hashable {
    package var user: String
    package var uid: String?
    package var groups: [String] = []
    /// Further attributes, each with its values.
    package var extra: [String: [String]] = [:]

    package init(user: String) {
        self.user = user
    }

    var fields: [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = [("Impersonate-User", self.user)]
        if let uid { fields.append(("Impersonate-Uid", uid)) }
        fields += self.groups.map { ("Impersonate-Group", $0) }
        for (name, values) in self.extra.sorted(by: { $0.key < $1.key }) {
            let field = "Impersonate-Extra-\(PathText.escaped(name))"
            fields += values.map { (field, $0) }
        }
        return fields
    }
}

/// How a cluster is reached: what in-cluster configuration and kubeconfig files come down to.
package struct ClusterAccess: Sendable, Hashable {
    /// `https://host:port` with a path at most; no slash at its end.
    package var server: String
    package var tls = CurlTLS()
    package var proxy = CurlProxy.environment
    package var authentication = Authentication.none
    package var impersonation: Impersonation?
    /// Where objects belong that name no namespace.
    package var namespace = "default"
    package var acceptsCompression = true
    /// Names it to people: a context's name, or `in-cluster`.
    package var name: String

    package init(name: String, server: String) {
        self.name = name
        self.server = server
    }

    /// Takes a server's address, checked.
    init(name: String, server: String, place: String) throws(AccessProblem) {
        let lower = server.prefix(8).lowercased()
        let rest = server.split(separator: "/", omittingEmptySubsequences: false)
        guard lower.hasPrefix("https://") || lower.hasPrefix("http://"), rest.count > 2,
            !rest[2].isEmpty, server.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }),
            !server.contains("?"), !server.contains("#"), !rest[2].contains("@")
        else {
            throw AccessProblem(
                place: place,
                message: "`\(server.prefix(200))` is no address of an API server",
                hint: "write https://HOST:PORT"
            )
        }
        var trimmed = server[...]
        while trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
        self.init(name: name, server: String(trimmed))
    }
}

/// What configuration needs from the machine it runs on.
package struct AccessSurroundings: Sendable {
    package var environment: [String: String]
    /// The bytes of a file, or why it cannot be read, in words.
    package var read: @Sendable (_ path: String) -> Result<[UInt8], FileProblem>

    package init(
        environment: [String: String],
        read: @escaping @Sendable (_ path: String) -> Result<[UInt8], FileProblem>
    ) {
        self.environment = environment
        self.read = read
    }
}

extension ClusterAccess {
    /// Where a pod finds what it needs to talk to its API server.
    package enum ServiceAccount {
        package static let folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    }

    /// Whether this process runs in a pod of a cluster.
    package static func isInCluster(_ surroundings: AccessSurroundings) -> Bool {
        !(surroundings.environment["KUBERNETES_SERVICE_HOST"] ?? "").isEmpty
            && !(surroundings.environment["KUBERNETES_SERVICE_PORT"] ?? "").isEmpty
    }

    /// The access that a pod is given.
    ///
    /// - Parameter folder: where the service account's files are.
    package static func inCluster(
        _ surroundings: AccessSurroundings,
        folder: String = ServiceAccount.folder
    ) throws(AccessProblem) -> ClusterAccess {
        let environment = surroundings.environment
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty,
            let port = environment["KUBERNETES_SERVICE_PORT"], !port.isEmpty
        else {
            throw AccessProblem(
                place: "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT",
                message: "not set: this is no pod of a cluster",
                hint: "run it in a pod, or name a kubeconfig file"
            )
        }
        guard UInt16(port) != nil else {
            throw AccessProblem(
                place: "KUBERNETES_SERVICE_PORT",
                message: "`\(port.prefix(40))` is no port",
                hint: "set it to the API server's port"
            )
        }
        let name = host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
        var access = try ClusterAccess(
            name: "in-cluster",
            server: "https://\(name):\(port)",
            place: "KUBERNETES_SERVICE_HOST"
        )
        let hint = "the pod needs a service account: check automountServiceAccountToken"
        access.authentication = .tokenFile("\(folder)/token")
        _ = try self.file("\(folder)/token", hint, surroundings)
        _ = try self.file("\(folder)/ca.crt", hint, surroundings)
        // Read again for each connection: authorities are replaced on disk.
        access.tls.authorities = .file("\(folder)/ca.crt")
        access.proxy = .none
        if case .success(let bytes) = surroundings.read("\(folder)/namespace") {
            let text = String(decoding: bytes, as: UTF8.self).trimmed
            if !text.isEmpty { access.namespace = text }
        }
        return access
    }

    private static func file(
        _ path: String,
        _ hint: String,
        _ surroundings: AccessSurroundings
    ) throws(AccessProblem) -> [UInt8] {
        switch surroundings.read(path) {
        case .success(let bytes) where !bytes.isEmpty: return bytes
        case .success: throw AccessProblem(place: path, message: "the file is empty", hint: hint)
        case .failure(let problem):
            throw AccessProblem(place: path, message: problem.reason, hint: hint)
        }
    }

    /// What `kubectl` would use: the files of `KUBECONFIG`, else `~/.kube/config`; without any,
    /// the access of the pod that this runs in.
    ///
    /// - Parameters:
    ///   - file: one file instead of those of the environment.
    ///   - context: instead of the current one.
    package static func discovered(
        _ surroundings: AccessSurroundings,
        file: String? = nil,
        context: String? = nil
    ) throws(AccessProblem) -> ClusterAccess {
        if file == nil, context == nil, (surroundings.environment["KUBECONFIG"] ?? "").isEmpty,
            self.isInCluster(surroundings)
        {
            return try self.inCluster(surroundings)
        }
        let config = try KubeConfig.load(surroundings, file: file)
        return try config.access(context: context)
    }
}

extension String {
    /// Without white space at either end.
    var trimmed: String {
        let isSpace = { (character: Character) in character.isWhitespace }
        var text = self.drop(while: isSpace)
        while let last = text.last, isSpace(last) { text.removeLast() }
        return String(text)
    }
}
