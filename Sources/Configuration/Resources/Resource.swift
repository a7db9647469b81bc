/// One resource of a kind: who it is, what is wanted, and where that was written.
///
/// Two are equal when metadata and spec are, wherever they were written.
package struct Resource<Spec: Sendable & Equatable>: Sendable, Equatable {
    package var metadata: Metadata
    package var spec: Spec
    package var source: ResourceSource

    package init(metadata: Metadata, spec: Spec, source: ResourceSource = .program) {
        self.metadata = metadata
        self.spec = spec
        self.source = source
    }

    package var name: String { self.metadata.name }

    package static func == (left: Resource, right: Resource) -> Bool {
        left.metadata == right.metadata && left.spec == right.spec
    }
}

package typealias GatewayResource = Resource<GatewaySpec>
package typealias ModelResource = Resource<ModelSpec>
package typealias ProcessDeploymentResource = Resource<ProcessDeploymentSpec>
package typealias ScalingPolicyResource = Resource<ScalingPolicySpec>
package typealias RolloutPolicyResource = Resource<RolloutPolicySpec>
package typealias TenantResource = Resource<TenantSpec>
package typealias ResourceBudgetResource = Resource<ResourceBudgetSpec>

/// The kinds of resources, spelled as in `kind:`.
package enum ResourceKind: String, Sendable, CaseIterable {
    case gateway = "Gateway"
    case model = "Model"
    case processDeployment = "ProcessDeployment"
    case scalingPolicy = "ScalingPolicy"
    case rolloutPolicy = "RolloutPolicy"
    case tenant = "Tenant"
    case resourceBudget = "ResourceBudget"
}

/// Metadata in the shape of Kubernetes.
package struct Metadata: Sendable, Hashable {
    /// A DNS-1123 subdomain, at most 253 bytes.
    package var name: String
    package var namespace: String
    package var labels: [String: String]
    package var annotations: [String: String]

    package static let defaultNamespace = "default"

    package init(
        name: String,
        namespace: String = Metadata.defaultNamespace,
        labels: [String: String] = [:],
        annotations: [String: String] = [:]
    ) {
        self.name = name
        self.namespace = namespace
        self.labels = labels
        self.annotations = annotations
    }

    init(_ record: Record) {
        self.init(
            name: record.text("name"),
            namespace: record.text("namespace"),
            labels: Self.texts(record.entries("labels")),
            annotations: Self.texts(record.entries("annotations"))
        )
    }

    private static func texts(_ entries: [MapEntry]) -> [String: String] {
        var texts: [String: String] = [:]
        for entry in entries {
            if case .text(let text) = entry.value.value { texts[entry.key] = text }
        }
        return texts
    }
}

/// Where a resource was written.
package struct ResourceSource: Sendable, Hashable {
    /// The file as it was named to the loader.
    package var file: String
    /// The line its document begins on.
    package var line: Int
    /// The folder that its relative paths start from; empty is the working directory.
    package var baseDirectory: String

    package init(file: String, line: Int) {
        self.file = file
        self.line = line
        self.baseDirectory = FilePathText.directory(of: file)
    }

    /// Made by a program instead of a file.
    package static let program = ResourceSource(file: "", line: 0)

    /// The path from the process's working directory (or absolute).
    package func resolve(_ path: String) -> String {
        FilePathText.join(self.baseDirectory, path)
    }
}

/// File paths as text; nothing is asked of the file system.
enum FilePathText {
    static func directory(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "" }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    static func join(_ base: String, _ path: String) -> String {
        if path.hasPrefix("/") { return path }
        var tail = path[...]
        while tail.hasPrefix("./") { tail = tail.dropFirst(2) }
        if tail == "." || tail.isEmpty { return base.isEmpty ? "." : base }
        if base.isEmpty { return String(tail) }
        return base.hasSuffix("/") ? base + tail : "\(base)/\(tail)"
    }
}
