import Core
import HTTPService

extension KubernetesClient {
    // MARK: Reading

    /// Reads one object.
    @discardableResult
    package func get(
        _ resource: Resource,
        _ key: ObjectKey,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        self.sendForObject(APICall("GET", resource.path(of: key)), completion: completion)
    }

    /// Reads one page of a list.
    ///
    /// - Parameter projection: what is kept of each item.
    @discardableResult
    package func list(
        _ resource: Resource,
        _ options: ListOptions,
        keeping projection: JSONProjection = .everything,
        completion: @escaping Completion<ObjectList>
    ) -> APIHandle {
        var call = APICall("GET", resource.path(namespace: options.namespace))
        call.query = options.query
        return self.send(call) { [call] result in
            completion(
                result.flatMap { bytes in
                    do {
                        return .success(try ObjectList(bytes, keeping: projection))
                    } catch {
                        return .failure(APIError(.malformed("\(error)"), call: call.description))
                    }
                }
            )
        }
    }

    /// Reads a whole list, page by page. Where the server forgets the rest meanwhile, it begins
    /// anew, once, without pages.
    package func listAll(
        _ resource: Resource,
        _ options: ListOptions,
        keeping projection: JSONProjection = .everything,
        completion: @escaping Completion<ObjectList>
    ) {
        ListWalk(client: self, resource: resource, options: options, projection, completion).next()
    }

    /// Watches a collection.
    @discardableResult
    package func watch(
        _ resource: Resource,
        _ list: ListOptions,
        _ options: WatchOptions,
        keeping projection: JSONProjection = .everything,
        handlers: WatchHandlers
    ) -> APIHandle {
        var call = APICall("GET", resource.path(namespace: list.namespace))
        call.query = options.query + list.selectors
        // The server ends the stream; this is for one that has forgotten.
        call.timeout = options.timeout + .seconds(30)
        return self.begin(
            ActiveCall(
                call,
                client: self,
                sink: .watch(handlers, projection, idleTimeout: options.idleTimeout)
            )
        )
    }

    // MARK: Writing

    /// Creates an object in the namespace that it names.
    @discardableResult
    package func create(
        _ resource: Resource,
        _ object: KubernetesObject,
        namespace: String? = nil,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        let own = object.metadata.namespace
        let place = namespace ?? (own.isEmpty ? self.access.namespace : own)
        var call = APICall("POST", resource.path(namespace: place))
        call.set(object.value)
        return self.sendForObject(call, completion: completion)
    }

    /// Replaces an object, or its `subresource`. The version inside is compared by the server: a
    /// `Conflict` means that somebody has written since it was read.
    @discardableResult
    package func update(
        _ resource: Resource,
        _ object: KubernetesObject,
        subresource: String? = nil,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        var call = APICall("PUT", resource.path(of: object.key, subresource: subresource))
        call.set(object.value)
        return self.sendForObject(call, completion: completion)
    }

    /// Patches an object, or its `subresource`.
    @discardableResult
    package func patch(
        _ resource: Resource,
        _ key: ObjectKey,
        _ patch: JSONValue,
        as kind: PatchKind = .merge,
        subresource: String? = nil,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        var call = APICall("PATCH", resource.path(of: key, subresource: subresource))
        call.set(patch, contentType: kind.contentType)
        if case .apply(let manager, let force) = kind {
            call.query.append(("fieldManager", manager))
            if force { call.query.append(("force", "true")) }
        }
        return self.sendForObject(call, completion: completion)
    }

    /// Server-side apply: makes the fields of `object` so and ours, and gives up those that we
    /// owned and that it leaves out.
    ///
    /// - Parameter manager: who owns the fields; at most 128 characters.
    @discardableResult
    package func apply(
        _ resource: Resource,
        _ object: KubernetesObject,
        manager: String,
        force: Bool,
        subresource: String? = nil,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        self.patch(
            resource,
            object.key,
            object.value,
            as: .apply(manager: manager, force: force),
            subresource: subresource,
            completion: completion
        )
    }

    /// Deletes an object; the answer is the object or a `Status`.
    @discardableResult
    package func delete(
        _ resource: Resource,
        _ key: ObjectKey,
        _ options: DeleteOptions = DeleteOptions(),
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        var call = APICall("DELETE", resource.path(of: key))
        call.set(options.value)
        return self.sendForObject(call, completion: completion)
    }

    /// Asks for a pod to go, as far as its disruption budget allows; 429 where it does not now.
    @discardableResult
    package func evict(
        pod key: ObjectKey,
        _ options: DeleteOptions = DeleteOptions(),
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        var eviction: JSONValue = [
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": ["name": .string(key.name), "namespace": .string(key.namespace)],
        ]
        var inner: JSONValue = [:]
        options.fill(&inner)
        if !inner.members.isEmpty { eviction["deleteOptions"] = inner }
        var call = APICall("POST", Resource.pods.path(of: key, subresource: "eviction"))
        // A budget that refuses is an answer, not a failure to be waited out.
        call.retriesMax = 0
        call.set(eviction)
        return self.sendForObject(call, completion: completion)
    }

    // MARK: Scale

    /// Reads how many replicas are wanted and there.
    @discardableResult
    package func scale(
        of resource: Resource,
        _ key: ObjectKey,
        completion: @escaping Completion<Scale>
    ) -> APIHandle {
        let call = APICall("GET", resource.path(of: key, subresource: "scale"))
        return self.sendForObject(call) { completion($0.map(Scale.init)) }
    }

    /// Sets the replicas, if nobody has changed the object since `scale` was read: `Conflict` means
    /// to read and decide again.
    @discardableResult
    package func setScale(
        of resource: Resource,
        _ scale: Scale,
        replicas: Int,
        completion: @escaping Completion<Scale>
    ) -> APIHandle {
        var call = APICall("PUT", resource.path(of: scale.key, subresource: "scale"))
        call.set([
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": [
                "name": .string(scale.key.name), "namespace": .string(scale.key.namespace),
                "uid": .string(scale.uid), "resourceVersion": .string(scale.resourceVersion.text),
            ],
            "spec": ["replicas": .integer(replicas)],
        ])
        return self.sendForObject(call) { completion($0.map(Scale.init)) }
    }
}

extension Resource {
    /// The path of one object or its subresource.
    package func path(of key: ObjectKey, subresource: String? = nil) -> String {
        self.path(
            namespace: key.namespace.isEmpty ? nil : key.namespace,
            name: key.name,
            subresource: subresource
        )
    }
}

extension ObjectList {
    init(_ bytes: [UInt8], keeping projection: JSONProjection) throws {
        let rules: [String: JSONProjection] = [
            "metadata": .everything, "items": projection, "kind": .everything,
            "apiVersion": .everything,
        ]
        let value = try JSONValue(bytes, keeping: .only(rules))
        let metadata = value["metadata"]
        guard let version = metadata["resourceVersion"].string else {
            throw FileProblem(reason: "a list without a resourceVersion")
        }
        switch value["items"] {
        case .array(let items): self.items = items.map(KubernetesObject.init)
        // Some servers write an empty list as null.
        case .null: self.items = []
        default: throw FileProblem(reason: "a list without items")
        }
        self.resourceVersion = ResourceVersion(version)
        self.continueToken = metadata["continue"].string.flatMap { $0.isEmpty ? nil : $0 }
        self.remaining = metadata["remainingItemCount"].integer
    }
}

/// Reads the pages of a list one after the other.
private final class ListWalk {
    private let client: KubernetesClient
    private let resource: Resource
    private var options: ListOptions
    private let first: ListOptions
    private let projection: JSONProjection
    private let completion: KubernetesClient.Completion<ObjectList>
    private var items: [KubernetesObject] = []
    private var hasRestarted = false

    init(
        client: KubernetesClient,
        resource: Resource,
        options: ListOptions,
        _ projection: JSONProjection,
        _ completion: @escaping KubernetesClient.Completion<ObjectList>
    ) {
        self.client = client
        self.resource = resource
        self.options = options
        self.first = options
        self.projection = projection
        self.completion = completion
    }

    func next() {
        self.client.list(self.resource, self.options, keeping: self.projection) { result in
            switch result {
            case .success(let page): self.take(page)
            case .failure(let error): self.take(error)
            }
        }
    }

    private func take(_ page: ObjectList) {
        self.items += page.items
        guard let token = page.continueToken else {
            var whole = page
            whole.items = self.items
            return self.completion(.success(whole))
        }
        self.options.continueToken = token
        self.next()
    }

    private func take(_ error: APIError) {
        let isExpired = error.status?.isExpired ?? false
        guard isExpired, self.options.continueToken != nil, !self.hasRestarted else {
            return self.completion(.failure(error))
        }
        self.hasRestarted = true
        self.items = []
        self.options = self.first
        self.options.limit = 0
        self.next()
    }
}
