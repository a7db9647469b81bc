/// A kind of object as the API server's paths and bodies name it.
package struct Resource: Hashable, Sendable, CustomStringConvertible {
    /// Empty for the core group.
    package var group: String
    package var version: String
    package var kind: String
    /// As in the path: `deployments`.
    package var plural: String
    package var isNamespaced: Bool

    package init(
        group: String,
        version: String,
        kind: String,
        plural: String,
        isNamespaced: Bool = true
    ) {
        self.group = group
        self.version = version
        self.kind = kind
        self.plural = plural
        self.isNamespaced = isNamespaced
    }

    /// `apps/v1`, or `v1` for the core group.
    package var apiVersion: String {
        self.group.isEmpty ? self.version : "\(self.group)/\(self.version)"
    }

    /// `deployments.apps`, as `kubectl` and RBAC errors name it.
    package var description: String {
        self.group.isEmpty ? self.plural : "\(self.plural).\(self.group)"
    }

    /// The path of the collection, or of one object and its subresource.
    ///
    /// - Parameter namespace: nil for all namespaces, or where there are none.
    package func path(
        namespace: String? = nil,
        name: String? = nil,
        subresource: String? = nil
    ) -> String {
        var path = self.group.isEmpty ? "/api/" : "/apis/\(PathText.escaped(self.group))/"
        path += PathText.escaped(self.version)
        if self.isNamespaced, let namespace { path += "/namespaces/\(PathText.escaped(namespace))" }
        path += "/\(PathText.escaped(self.plural))"
        if let name { path += "/\(PathText.escaped(name))" }
        if let subresource { path += "/\(PathText.escaped(subresource))" }
        return path
    }
}

extension Resource {
    package static let pods = Resource(
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods"
    )
    package static let services = Resource(
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services"
    )
    package static let secrets = Resource(
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets"
    )
    package static let configMaps = Resource(
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps"
    )
    package static let namespaces = Resource(
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        isNamespaced: false
    )
    package static let nodes = Resource(
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        isNamespaced: false
    )
    package static let resourceQuotas = Resource(
        group: "",
        version: "v1",
        kind: "ResourceQuota",
        plural: "resourcequotas"
    )
    package static let deployments = Resource(
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments"
    )
    package static let replicaSets = Resource(
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets"
    )
    package static let statefulSets = Resource(
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets"
    )
    package static let endpointSlices = Resource(
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices"
    )
    package static let leases = Resource(
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases"
    )
    package static let events = Resource(
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events"
    )
    /// Of the version that all servers have: targets are the same in each.
    package static let horizontalPodAutoscalers = Resource(
        group: "autoscaling",
        version: "v1",
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers"
    )
    package static let customResourceDefinitions = Resource(
        group: "apiextensions.k8s.io",
        version: "v1",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        isNamespaced: false
    )
}

/// Percent-encoding (RFC 3986, section 2) for parts of paths and queries.
enum PathText {
    static func escaped(_ text: String) -> String {
        if text.utf8.allSatisfy(self.isUnreserved) { return text }
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in text.utf8 {
            if self.isUnreserved(byte) {
                result.append(byte)
            } else {
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    static func query(_ items: [(name: String, value: String)]) -> String {
        if items.isEmpty { return "" }
        let pairs = items.map { "\(self.escaped($0.name))=\(self.escaped($0.value))" }
        return "?" + pairs.joined(separator: "&")
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122: true
        default: byte == 45 || byte == 46 || byte == 95 || byte == 126
        }
    }
}
