import ArgumentParser
import Configuration
import EventLoop
import Kubernetes

/// How the roles on a cluster are told where they are and what they are for.
struct ClusterFlags: ParsableArguments {
    @Option(
        name: .customLong("kubeconfig"),
        help: "How to reach the cluster; else $KUBECONFIG, else as a pod of it.",
        completion: .file()
    )
    var kubeconfig: String?

    @Option(help: "The context of the kubeconfig, instead of its current one.")
    var context: String?

    @Option(
        name: .customLong("namespace"),
        help: "A namespace to serve; may be repeated. Without one, that of the access."
    )
    var namespaces: [String] = []

    @Flag(name: .customLong("all-namespaces"), help: "Serve all namespaces.")
    var allNamespaces = false

    @Option(help: "The address of metrics, health and the admin API.")
    var admin = "0.0.0.0:9901"

    @Option(
        name: .customLong("admin-token-file"),
        help: "A file with the token for writing to the admin API.",
        completion: .file()
    )
    var adminTokenFile: String?

    @Option(help: "Write the addresses listened on to this file, as JSON, once they are open.")
    var portsFile: String?

    mutating func validate() throws {
        if self.allNamespaces, !self.namespaces.isEmpty {
            throw ValidationError("give either --namespace or --all-namespaces")
        }
    }

    func surroundings() -> AccessSurroundings {
        AccessSurroundings(environment: Output.environment()) { LocalFile.read($0) }
    }

    /// - Throws: what is wrong with the access, and what to do.
    func access(_ surroundings: AccessSurroundings) throws(RuntimeError) -> ClusterAccess {
        do throws(AccessProblem) {
            return try ClusterAccess.discovered(
                surroundings,
                file: self.kubeconfig,
                context: self.context
            )
        } catch {
            throw RuntimeError(description: error.description)
        }
    }

    /// Nil for all.
    func served(_ access: ClusterAccess) -> [String]? {
        if self.allNamespaces { return nil }
        return self.namespaces.isEmpty ? [access.namespace] : self.namespaces
    }

    /// A Gateway of these flags, as a file.
    func gatewayFile(listen: String?) -> ConfigurationFile {
        var text =
            "apiVersion: weir.dev/v1alpha1\nkind: Gateway\nmetadata: {name: default}\nspec:\n"
        if let listen {
            text += "  listeners: [{name: http, address: \(Self.quoted(listen))}]\n"
        }
        text += "  admin:\n    address: \(Self.quoted(self.admin))\n"
        if let file = self.adminTokenFile { text += "    tokenFile: \(Self.quoted(file))\n" }
        return ConfigurationFile(name: "the command line", text: text)
    }

    /// A scalar of YAML whatever it holds.
    private static func quoted(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''")
            + "'"
    }
}
