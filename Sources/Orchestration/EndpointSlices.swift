/// What an EndpointSlice says (`discovery.k8s.io/v1` or `v1beta1`), as far as routing needs it.
///
/// Zones, nodes and hints are left out on purpose: replicas are chosen by their load.
package struct EndpointSlice: Sendable, Hashable {
    package enum Family: String, Sendable, Hashable, CaseIterable {
        case ipv4 = "IPv4"
        case ipv6 = "IPv6"
        /// Names: deprecated, and no pod has one.
        case fqdn = "FQDN"
    }

    package struct Port: Sendable, Hashable {
        /// Empty for the one port of a Service that has no name for it.
        package var name: String
        /// Nil means all ports.
        package var number: Int?
        package var isTCP: Bool

        package init(name: String = "", number: Int?, isTCP: Bool = true) {
            self.name = name
            self.number = number
            self.isTCP = isTCP
        }
    }

    package struct Endpoint: Sendable, Hashable {
        /// Of one pod; only the first counts.
        package var addresses: [String]
        /// Nil means as `serving`.
        package var ready: Bool?
        /// Nil means that it serves.
        package var serving: Bool?
        /// Nil means that it stays.
        package var terminating: Bool?
        /// The pod behind it: the same one in every slice and family. Empty where there is none.
        package var podUID: String
        package var podName: String

        package init(
            addresses: [String],
            ready: Bool? = nil,
            serving: Bool? = nil,
            terminating: Bool? = nil,
            podUID: String = "",
            podName: String = ""
        ) {
            self.addresses = addresses
            self.ready = ready
            self.serving = serving
            self.terminating = terminating
            self.podUID = podUID
            self.podName = podName
        }

        /// The conditions with their defaults. One that serves while it terminates finishes what it
        /// has; nothing new goes there, not even where nobody else is left: it would be cut off.
        package var condition: EndpointCondition {
            if self.terminating ?? false { return .terminating }
            let isReady = self.ready ?? self.serving ?? true
            return isReady ? .ready : .notReady
        }
    }

    /// `namespace/name` of the slice.
    package var key: String
    /// `namespace/name` of the Service it belongs to; empty where its label is missing.
    package var service: String
    package var family: Family
    package var ports: [Port]
    package var endpoints: [Endpoint]

    package init(
        key: String,
        service: String,
        family: Family = .ipv4,
        ports: [Port] = [],
        endpoints: [Endpoint] = []
    ) {
        self.key = key
        self.service = service
        self.family = family
        self.ports = ports
        self.endpoints = endpoints
    }
}

/// Whether an endpoint gets requests. The larger one wins where two slices speak of the same
/// endpoint: one is newer than the other and nobody knows which, and a request to a pod that ends
/// is lost, while one fewer replica for a moment costs nothing.
package enum EndpointCondition: Int, Sendable, Hashable, Comparable, CaseIterable {
    case notReady
    case ready
    case terminating

    package static func < (left: EndpointCondition, right: EndpointCondition) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// Which port of the pods requests go to.
package enum PortChoice: Sendable, Hashable {
    /// The only one, else the one named `http`, else the first.
    case automatic
    case number(Int)
    case name(String)

    /// The number of the port in a slice; nil where the slice has none of that name.
    package func number(in ports: [EndpointSlice.Port]) -> Int? {
        let usable = ports.filter { $0.isTCP }
        switch self {
        case .automatic:
            let named = usable.first { $0.name == "http" }
            return (named ?? usable.first)?.number
        case .number(let number):
            // Pods answer at every port they listen on, whether the Service lists it or not.
            return number
        case .name(let name):
            return usable.first { $0.name == name }?.number
        }
    }
}

/// One pod that a Service sends to, over all its slices.
package struct PodEndpoint: Sendable, Hashable {
    /// The pod's UID, else the address: the same as long as it is the same endpoint.
    package var identity: String
    /// The pod's name, else the address.
    package var name: String
    /// Numeric.
    package var address: String
    package var port: UInt16
    package var condition: EndpointCondition

    package init(
        identity: String,
        name: String,
        address: String,
        port: UInt16,
        condition: EndpointCondition
    ) {
        self.identity = identity
        self.name = name
        self.address = address
        self.port = port
        self.condition = condition
    }
}
