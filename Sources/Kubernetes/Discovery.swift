import HTTPService

/// How a server names a kind, and what it can do with it.
package struct DiscoveredResource: Sendable, Equatable {
    package var resource: Resource
    /// Whether it has a scale subresource.
    package var isScalable: Bool
}

extension KubernetesClient {
    /// Asks how a kind is called, in the version that the server prefers.
    ///
    /// The result is nil where the server knows the group and has no such kind, and `NotFound`
    /// where it does not know the group.
    package func discover(
        group: String,
        kind: String,
        completion: @escaping Completion<DiscoveredResource?>
    ) {
        let root = "/apis/\(PathText.escaped(group))"
        self.sendForObject(APICall("GET", root)) { [weak self] result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let found):
                let version =
                    found[path: "preferredVersion", "version"].string
                    ?? found["versions"].elements.first?["version"].string
                guard let self, let version else { return completion(.success(nil)) }
                let call = APICall("GET", "\(root)/\(PathText.escaped(version))")
                self.sendForObject(call) { result in
                    completion(
                        result.map { DiscoveredResource($0, group: group, version, kind: kind) }
                    )
                }
            }
        }
    }
}

extension DiscoveredResource {
    /// From an `APIResourceList`; nil where the kind is not in it.
    init?(_ list: KubernetesObject, group: String, _ version: String, kind: String) {
        let entries = list["resources"].elements
        // Subresources have the kind of what they are written as, and a slash in the name.
        let found = entries.first {
            $0["kind"].string == kind && !($0["name"].string ?? "/").contains("/")
        }
        guard let plural = found?["name"].string else { return nil }
        self.resource = Resource(
            group: group,
            version: version,
            kind: kind,
            plural: plural,
            isNamespaced: found?["namespaced"].bool ?? true
        )
        self.isScalable = entries.contains { $0["name"].string == "\(plural)/scale" }
    }
}
