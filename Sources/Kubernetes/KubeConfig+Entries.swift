import Curl
import Foundation
import HTTPService

/// Reads one entry of a kubeconfig.
struct EntryReader {
    private let entry: KubeConfig.Entry
    private let what: String
    private let surroundings: AccessSurroundings

    init(entry: KubeConfig.Entry, what: String, _ surroundings: AccessSurroundings) {
        self.entry = entry
        self.what = what
        self.surroundings = surroundings
    }

    // MARK: Clusters

    func cluster(named name: String) throws(AccessProblem) -> ClusterAccess {
        guard let server = try self.text("server") else {
            throw self.problem("server", "it is missing", "write https://HOST:PORT")
        }
        var access = try ClusterAccess(name: name, server: server, place: self.place("server"))
        access.tls.acceptsAnyCertificate = try self.flag("insecure-skip-tls-verify")
        access.tls.authorities = try self.material("certificate-authority")
        if access.tls.acceptsAnyCertificate, access.tls.authorities != nil {
            throw self.problem(
                "insecure-skip-tls-verify",
                "it contradicts certificate-authority",
                "remove one of the two"
            )
        }
        access.tls.serverName = try self.text("tls-server-name")
        access.acceptsCompression = try !self.flag("disable-compression")
        if let proxy = try self.text("proxy-url") {
            let known = ["http://", "https://", "socks5://", "socks5h://"]
            guard known.contains(where: { proxy.lowercased().hasPrefix($0) }) else {
                throw self.problem(
                    "proxy-url",
                    "its scheme is not known",
                    "write http://, https:// or socks5:// in front"
                )
            }
            access.proxy = .url(proxy)
        }
        return access
    }

    // MARK: Users

    func user(into access: inout ClusterAccess, cluster: EntryReader) throws(AccessProblem) {
        access.tls.certificate = try self.material("client-certificate")
        access.tls.key = try self.material("client-key")
        if (access.tls.certificate == nil) != (access.tls.key == nil) {
            throw self.problem(
                "client-certificate",
                "a certificate and its key belong together",
                "give client-certificate and client-key, or neither"
            )
        }
        if !self.entry.value["auth-provider"].isNull {
            throw self.problem(
                "auth-provider",
                "it is not supported any more, as in kubectl since 1.26",
                "use the provider's exec plugin"
            )
        }
        access.authentication = try self.authentication(cluster)
        access.impersonation = try self.impersonation()
    }

    /// A file of tokens before a token, as in client-go; either before a plugin.
    private func authentication(_ cluster: EntryReader) throws(AccessProblem) -> Authentication {
        if let path = try self.text("tokenFile") {
            let full = self.relative(path)
            _ = try self.bytes(full, "tokenFile")
            return .tokenFile(full)
        }
        if let token = try self.text("token") {
            return .token(try self.checked(token, "token"))
        }
        if let user = try self.text("username") {
            let password = try self.text("password") ?? ""
            if user.contains(":") {
                throw self.problem("username", "it has a colon", "basic authentication forbids it")
            }
            return .basic(user: user, password: password)
        }
        let exec = self.entry.value["exec"]
        return exec.isNull ? .none : .plugin(try self.plugin(exec, cluster))
    }

    private func impersonation() throws(AccessProblem) -> Impersonation? {
        guard let user = try self.text("as") else { return nil }
        var result = Impersonation(user: user)
        result.uid = try self.text("as-uid")
        result.groups = self.entry.value["as-groups"].elements.compactMap(\.string)
        for member in self.entry.value["as-user-extra"].members {
            result.extra[member.name] = member.value.elements.compactMap(\.string)
        }
        return result
    }

    private func plugin(
        _ exec: JSONValue,
        _ cluster: EntryReader
    ) throws(AccessProblem) -> ExecPlugin {
        let versionText = exec["apiVersion"].string ?? ""
        guard let version = ExecPlugin.Version(rawValue: versionText) else {
            throw self.problem(
                "exec.apiVersion",
                "`\(versionText.prefix(100))` is not supported",
                "use \(ExecPlugin.Version.v1.rawValue)"
            )
        }
        guard let command = exec["command"].string, !command.isEmpty else {
            throw self.problem("exec.command", "it is missing", "name the program to run")
        }
        if exec["interactiveMode"].string == "Always" {
            throw self.problem(
                "exec.interactiveMode",
                "the plugin wants to ask somebody, and there is nobody",
                "use credentials that need no terminal"
            )
        }
        // A path with a slash is relative to the file, a bare name is looked for on PATH.
        let isBare = !command.contains("/")
        var plugin = ExecPlugin(
            version: version,
            command: isBare ? command : self.relative(command)
        )
        plugin.arguments = exec["args"].elements.compactMap(\.string)
        for variable in exec["env"].elements {
            if let name = variable["name"].string, !name.isEmpty {
                plugin.environment[name] = variable["value"].string ?? ""
            }
        }
        plugin.installHint = exec["installHint"].string ?? ""
        if exec["provideClusterInfo"].bool ?? false {
            plugin.cluster = try cluster.description()
        }
        return plugin
    }

    /// The cluster as a plugin gets it: authorities as data, its own settings from the extension.
    private func description() throws(AccessProblem) -> ExecPlugin.ClusterDescription {
        let cluster = self.entry.value
        var result: JSONValue = [:]
        for name in [
            "server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data",
            "proxy-url", "disable-compression",
        ] where !cluster[name].isNull {
            result[name] = cluster[name]
        }
        if result["certificate-authority-data"].isNull,
            let path = cluster["certificate-authority"].string, !path.isEmpty
        {
            let bytes = try self.bytes(self.relative(path), "certificate-authority")
            result["certificate-authority-data"] = .string(Data(bytes).base64EncodedString())
        }
        for item in cluster["extensions"].elements
        where item["name"].string == "client.authentication.k8s.io/exec" {
            result["config"] = item["extension"]
        }
        return ExecPlugin.ClusterDescription(json: result.text)
    }

    // MARK: Values

    /// A text; nil where it is absent or empty. YAML reads some texts as numbers.
    private func text(_ name: String) throws(AccessProblem) -> String? {
        switch self.entry.value[name] {
        case .null: return nil
        case .string(let text): return text.isEmpty ? nil : text
        case .integer, .number, .bool:
            throw self.problem(name, "it is not a text", "put it into quotes")
        case .array, .object: throw self.problem(name, "it is not a text", "write a text")
        }
    }

    private func flag(_ name: String) throws(AccessProblem) -> Bool {
        switch self.entry.value[name] {
        case .null: return false
        case .bool(let value): return value
        default: throw self.problem(name, "it is neither true nor false", "write true or false")
        }
    }

    /// Inline data, which win, or a file.
    private func material(_ name: String) throws(AccessProblem) -> CurlMaterial? {
        if let text = try self.text("\(name)-data") {
            let clean = text.filter { !$0.isWhitespace }
            guard let data = Data(base64Encoded: clean), !data.isEmpty else {
                throw self.problem("\(name)-data", "it is not base64", "encode the PEM file")
            }
            return .data(Array(data))
        }
        guard let path = try self.text(name) else { return nil }
        let full = self.relative(path)
        _ = try self.bytes(full, name)
        return .file(full)
    }

    /// A secret that goes into a field of the request; never shown.
    private func checked(_ secret: String, _ name: String) throws(AccessProblem) -> String {
        guard secret.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw self.problem(name, "it has characters that no token has", "copy it again")
        }
        return secret
    }

    private func bytes(_ path: String, _ name: String) throws(AccessProblem) -> [UInt8] {
        switch self.surroundings.read(path) {
        case .success(let bytes): return bytes
        case .failure(let problem):
            throw self.problem(name, "\(path): \(problem.reason)", "give a file that can be read")
        }
    }

    /// Relative to the file that names it.
    private func relative(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        let folder = self.entry.file.split(separator: "/", omittingEmptySubsequences: false)
            .dropLast().joined(separator: "/")
        return folder.isEmpty && !self.entry.file.hasPrefix("/") ? path : "\(folder)/\(path)"
    }

    private func place(_ name: String) -> String { "\(self.entry.file): \(self.what): \(name)" }

    private func problem(_ name: String, _ message: String, _ hint: String) -> AccessProblem {
        AccessProblem(place: self.place(name), message: message, hint: hint)
    }
}
