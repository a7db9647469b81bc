import Core
import HTTPService

/// A program that hands out credentials (`users[].user.exec` of a kubeconfig).
package struct ExecPlugin: Sendable, Hashable {
    package enum Version: String, Sendable, Hashable, CaseIterable {
        case v1 = "client.authentication.k8s.io/v1"
        case v1beta1 = "client.authentication.k8s.io/v1beta1"
    }

    package var version: Version
    package var command: String
    package var arguments: [String] = []
    /// In addition to our own environment.
    package var environment: [String: String] = [:]
    /// What to tell people who lack the program.
    package var installHint = ""
    /// Tells the plugin about the cluster: server, authorities and what else the file says.
    package var cluster: ClusterDescription?
    /// How long it may run.
    package var timeout = Duration.seconds(60)

    /// Bytes of its output at most; of its errors as many are kept as a message bears.
    package static let outputBytesMax = 1 << 20
    package static let errorBytesMax = 2_048

    package init(version: Version, command: String) {
        self.version = version
        self.command = command
    }

    /// What `provideClusterInfo` passes on; JSON, as the plugin reads it.
    package struct ClusterDescription: Sendable, Hashable {
        /// Compact JSON of an object.
        package var json: String

        package init(json: String) {
            self.json = json
        }
    }

    /// The value of `KUBERNETES_EXEC_INFO`. Never interactive: there is nobody to ask.
    package var information: JSONValue {
        var spec: JSONValue = ["interactive": false]
        if let text = self.cluster?.json, let cluster = try? JSONValue(parsing: text) {
            spec["cluster"] = cluster
        }
        return [
            "apiVersion": .string(self.version.rawValue), "kind": "ExecCredential", "spec": spec,
        ]
    }
}

/// What a plugin answered.
package struct ExecCredential: Sendable, Hashable {
    package var token: String?
    /// PEM, both or neither.
    package var certificate: String?
    package var key: String?
    /// Seconds since 1970; nil: until the server refuses it.
    package var expiration: Double?

    /// Reads a plugin's output.
    ///
    /// - Throws: what is wrong with it, in words that quote nothing of it.
    package init(_ output: [UInt8], version: ExecPlugin.Version) throws(FileProblem) {
        let value: JSONValue
        do { value = try JSONValue(output) } catch {
            throw FileProblem(reason: "its output is no JSON: \(error)")
        }
        guard value["kind"].string == "ExecCredential" else {
            throw FileProblem(reason: "its output is no ExecCredential")
        }
        guard let answered = value["apiVersion"].string, answered == version.rawValue else {
            throw FileProblem(
                reason:
                    "it answers in another version than \(version.rawValue), which was asked for"
            )
        }
        let status = value["status"]
        guard !status.isNull else { throw FileProblem(reason: "its output has no status") }
        self.token = status["token"].string.flatMap { $0.isEmpty ? nil : $0 }
        self.certificate = status["clientCertificateData"].string.flatMap { $0.isEmpty ? nil : $0 }
        self.key = status["clientKeyData"].string.flatMap { $0.isEmpty ? nil : $0 }
        guard (self.certificate == nil) == (self.key == nil) else {
            throw FileProblem(reason: "it gives a certificate without key, or a key without one")
        }
        guard self.token != nil || self.certificate != nil else {
            throw FileProblem(reason: "it gives neither a token nor a certificate")
        }
        if let text = status["expirationTimestamp"].string {
            guard let time = WallTime.seconds(rfc3339: text) else {
                throw FileProblem(reason: "its expirationTimestamp is no RFC 3339 time")
            }
            self.expiration = time
        }
    }
}
