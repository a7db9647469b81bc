/// The EndpointSlices of many Services, and the endpoints that they make.
///
/// A Service has any number of slices; an endpoint that moves from one to another is in both for a
/// while, and a pod with addresses of both families is in slices of both. Endpoints are told apart
/// by their pod, and by address where there is no pod.
package struct EndpointTable: Sendable {
    /// Endpoints of one Service at most; the rest are left out and counted.
    package static let endpointsMax = 10_000
    /// A slice has 1 000 at most by the API's own rule.
    package static let sliceEndpointsMax = 1_000

    private var slices: [String: EndpointSlice] = [:]
    /// Keys of slices by Service.
    private var keys: [String: Set<String>] = [:]

    package init() {}

    package var sliceCount: Int { self.slices.count }

    package func hasService(_ service: String) -> Bool { self.keys[service] != nil }

    /// Services whose endpoints may differ from before.
    package mutating func put(_ slice: EndpointSlice) -> Set<String> {
        if self.slices[slice.key] == slice { return [] }
        var changed = self.remove(slice.key)
        self.slices[slice.key] = slice
        if slice.service.isEmpty { return changed }
        self.keys[slice.service, default: []].insert(slice.key)
        changed.insert(slice.service)
        return changed
    }

    @discardableResult
    package mutating func remove(_ key: String) -> Set<String> {
        guard let slice = self.slices.removeValue(forKey: key), !slice.service.isEmpty else {
            return []
        }
        self.keys[slice.service]?.remove(key)
        if self.keys[slice.service]?.isEmpty == true { self.keys[slice.service] = nil }
        return [slice.service]
    }

    /// The endpoints of a Service, each once, by identity.
    package func endpoints(of service: String, port: PortChoice) -> [PodEndpoint] {
        var found: [String: (endpoint: PodEndpoint, family: EndpointSlice.Family)] = [:]
        // By key, so that the same slices give the same table whatever their order of arrival.
        for key in (self.keys[service] ?? []).sorted() {
            guard let slice = self.slices[key], slice.family != .fqdn,
                let number = port.number(in: slice.ports), let port = UInt16(exactly: number),
                port > 0
            else { continue }
            for endpoint in slice.endpoints.prefix(Self.sliceEndpointsMax) {
                guard let address = endpoint.addresses.first else { continue }
                let identity = endpoint.podUID.isEmpty ? "\(address):\(port)" : endpoint.podUID
                let new = PodEndpoint(
                    identity: identity,
                    name: endpoint.podName.isEmpty ? address : endpoint.podName,
                    address: address,
                    port: port,
                    condition: endpoint.condition
                )
                guard let known = found[identity] else {
                    if found.count < Self.endpointsMax { found[identity] = (new, slice.family) }
                    continue
                }
                found[identity] = Self.merged(known, (new, slice.family))
            }
        }
        return found.values.map(\.endpoint).sorted { $0.identity < $1.identity }
    }

    private typealias Entry = (endpoint: PodEndpoint, family: EndpointSlice.Family)

    /// The same pod in two slices. IPv4 is used where there are both; the condition is the one that
    /// loses no request.
    private static func merged(_ left: Entry, _ right: Entry) -> Entry {
        var result = left.family == .ipv6 && right.family == .ipv4 ? right : left
        result.endpoint.condition = max(left.endpoint.condition, right.endpoint.condition)
        return result
    }
}
