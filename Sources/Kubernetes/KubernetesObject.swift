import HTTPService

/// The server's stamp of one state of one object, or of a whole collection.
///
/// Opaque: only equality means something. Servers from Kubernetes 1.35 on promise that versions of
/// one resource are decimal numbers that grow; `isKnownAfter` is for whoever may rely on that.
package struct ResourceVersion: Hashable, Sendable, CustomStringConvertible {
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package var isEmpty: Bool { self.text.isEmpty }
    package var description: String { self.text }

    /// Whether both are decimal numbers and this one is larger or equal; nil where that cannot be
    /// said.
    package func isAtLeast(_ other: ResourceVersion) -> Bool? {
        guard let own = UInt64(self.text), let other = UInt64(other.text) else { return nil }
        return own >= other
    }
}

/// Names an object among those of its resource.
package struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Empty where the resource has no namespaces.
    package var namespace: String
    package var name: String

    package init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    package var description: String {
        self.namespace.isEmpty ? self.name : "\(self.namespace)/\(self.name)"
    }

    package static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        (left.namespace, left.name) < (right.namespace, right.name)
    }
}

/// An object that another one belongs to.
package struct OwnerReference: Hashable, Sendable {
    package var apiVersion: String
    package var kind: String
    package var name: String
    package var uid: String
    package var isController: Bool
}

/// An object of the API as it was read, with views of what all objects have.
package struct KubernetesObject: Sendable, Equatable {
    package var value: JSONValue

    package init(_ value: JSONValue) {
        self.value = value
    }

    /// A new object, to be created or applied.
    package init(_ resource: Resource, namespace: String? = nil, name: String) {
        var metadata: JSONValue = ["name": .string(name)]
        if resource.isNamespaced, let namespace { metadata["namespace"] = .string(namespace) }
        self.value = [
            "apiVersion": .string(resource.apiVersion), "kind": .string(resource.kind),
            "metadata": metadata,
        ]
    }

    package subscript(_ name: String) -> JSONValue {
        get { self.value[name] }
        set { self.value[name] = newValue }
    }

    package subscript(path names: String...) -> JSONValue { self.value[path: names] }

    package var apiVersion: String { self.value["apiVersion"].string ?? "" }
    package var kind: String { self.value["kind"].string ?? "" }
    package var spec: JSONValue { self.value["spec"] }
    package var status: JSONValue { self.value["status"] }
    package var metadata: ObjectMeta { ObjectMeta(value: self.value["metadata"]) }
    package var key: ObjectKey { self.metadata.key }
}

/// What every object says of itself.
package struct ObjectMeta: Sendable, Equatable {
    package let value: JSONValue

    package var name: String { self.value["name"].string ?? "" }
    package var namespace: String { self.value["namespace"].string ?? "" }
    package var uid: String { self.value["uid"].string ?? "" }
    package var generation: Int { self.value["generation"].integer ?? 0 }
    package var labels: [String: String] { self.value["labels"].strings }
    package var annotations: [String: String] { self.value["annotations"].strings }
    package var finalizers: [String] { self.value["finalizers"].elements.compactMap(\.string) }
    /// Set once somebody has asked for its deletion.
    package var deletionTimestamp: String? { self.value["deletionTimestamp"].string }
    package var creationTimestamp: String? { self.value["creationTimestamp"].string }
    package var key: ObjectKey { ObjectKey(namespace: self.namespace, name: self.name) }

    package var resourceVersion: ResourceVersion {
        ResourceVersion(self.value["resourceVersion"].string ?? "")
    }

    package var owners: [OwnerReference] {
        self.value["ownerReferences"].elements.map { owner in
            OwnerReference(
                apiVersion: owner["apiVersion"].string ?? "",
                kind: owner["kind"].string ?? "",
                name: owner["name"].string ?? "",
                uid: owner["uid"].string ?? "",
                isController: owner["controller"].bool ?? false
            )
        }
    }

    /// The owner that manages it, if there is one.
    package var controller: OwnerReference? { self.owners.first(where: \.isController) }
}

/// One page of a list.
package struct ObjectList: Sendable {
    package var items: [KubernetesObject]
    /// Of the collection: where a watch goes on.
    package var resourceVersion: ResourceVersion
    /// Asks for the next page; nil on the last one.
    package var continueToken: String?
    /// How many are left, where the server says so.
    package var remaining: Int?
}
