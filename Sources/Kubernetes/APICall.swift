import Core
import HTTPService

/// How a patch is written (RFC 7396, RFC 6902, and two of Kubernetes' own).
package enum PatchKind: Sendable, Hashable {
    case merge
    case json
    /// Built-in resources only.
    case strategicMerge
    /// Server-side apply: the body holds all fields that `manager` owns.
    case apply(manager: String, force: Bool)

    var contentType: String {
        switch self {
        case .merge: "application/merge-patch+json"
        case .json: "application/json-patch+json"
        case .strategicMerge: "application/strategic-merge-patch+json"
        case .apply: "application/apply-patch+yaml"
        }
    }
}

/// One call to the API server: what is sent and how long it may take.
package struct APICall: Sendable, CustomStringConvertible {
    package var method: String
    /// Absolute, percent-encoded: `/api/v1/pods`.
    package var path: String
    package var query: [(name: String, value: String)] = []
    package var contentType: String?
    package var body: [UInt8] = []
    /// For one try, connection included.
    package var timeout = Duration.seconds(30)
    /// For all tries and the waits between them.
    package var deadline = Duration.seconds(60)
    /// Tries after the first; only where the server asks for it, or nothing was changed for sure.
    package var retriesMax = 10
    /// Goes out without waiting for the client's own rate limit, as leases must.
    package var isUrgent = false
    package var answerBytesMax = 64 << 20

    package init(_ method: String, _ path: String) {
        self.method = method
        self.path = path
    }

    package var description: String { "\(self.method) \(self.path)" }

    package mutating func set(_ body: JSONValue, contentType: String = "application/json") {
        self.body = body.bytes
        self.contentType = contentType
    }

    /// The part of the URL behind host and port.
    var target: String { self.path + PathText.query(self.query) }
}

/// Which objects a list or a watch is about.
package struct ListOptions: Sendable, Hashable {
    package enum VersionMatch: String, Sendable, Hashable {
        case exact = "Exact"
        case notOlderThan = "NotOlderThan"
    }

    /// Nil for all namespaces.
    package var namespace: String?
    package var labelSelector: String?
    package var fieldSelector: String?
    /// Items of a page; 0 for no limit.
    package var limit = 500
    package var continueToken: String?
    /// Nil asks for the newest state there is, `0` for any.
    package var resourceVersion: ResourceVersion?
    package var versionMatch: VersionMatch?

    package init(namespace: String? = nil) {
        self.namespace = namespace
    }

    var query: [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        if self.limit > 0 { query.append(("limit", "\(self.limit)")) }
        if let token = self.continueToken {
            // The token says the version; both are refused.
            query.append(("continue", token))
        } else {
            if let version = self.resourceVersion {
                query.append(("resourceVersion", version.text))
            }
            if let match = self.versionMatch {
                query.append(("resourceVersionMatch", match.rawValue))
            }
        }
        return query + self.selectors
    }

    var selectors: [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        if let selector = self.labelSelector { query.append(("labelSelector", selector)) }
        if let selector = self.fieldSelector { query.append(("fieldSelector", selector)) }
        return query
    }
}

/// Where and how a watch goes on.
package struct WatchOptions: Sendable, Hashable {
    /// Nil: from the present state, which comes first.
    package var resourceVersion: ResourceVersion?
    /// Ask for the present state as events, with a mark at its end.
    package var sendsInitialEvents = false
    /// After which the server ends the stream.
    package var timeout = Duration.seconds(300)
    /// Without a byte; nil for no limit.
    package var idleTimeout: Duration?

    package init() {}

    var query: [(name: String, value: String)] {
        var query: [(name: String, value: String)] = [
            ("watch", "1"), ("allowWatchBookmarks", "true"),
        ]
        if self.sendsInitialEvents {
            query.append(("sendInitialEvents", "true"))
            query.append(("resourceVersionMatch", "NotOlderThan"))
        }
        if let version = self.resourceVersion { query.append(("resourceVersion", version.text)) }
        query.append(("timeoutSeconds", "\(max(1, self.timeout.components.seconds))"))
        return query
    }
}

/// What must hold for an object to be deleted, and what becomes of what it owns.
package struct DeleteOptions: Sendable, Hashable {
    package enum Propagation: String, Sendable, Hashable {
        case background = "Background"
        case foreground = "Foreground"
        case orphan = "Orphan"
    }

    package var propagation: Propagation?
    package var uid: String?
    package var resourceVersion: ResourceVersion?
    /// Seconds; nil for the object's own.
    package var gracePeriodSeconds: Int?

    package init() {}

    var value: JSONValue {
        var options: JSONValue = ["apiVersion": "v1", "kind": "DeleteOptions"]
        self.fill(&options)
        return options
    }

    /// The same, as part of an eviction.
    func fill(_ options: inout JSONValue) {
        if let propagation { options["propagationPolicy"] = .string(propagation.rawValue) }
        if let seconds = self.gracePeriodSeconds {
            options["gracePeriodSeconds"] = .integer(seconds)
        }
        var conditions: JSONValue = [:]
        if let uid { conditions["uid"] = .string(uid) }
        if let version = self.resourceVersion {
            conditions["resourceVersion"] = .string(version.text)
        }
        if !conditions.members.isEmpty { options["preconditions"] = conditions }
    }
}

/// The replicas of something that has a `scale` subresource.
package struct Scale: Sendable, Equatable {
    package var key: ObjectKey
    package var uid: String
    package var resourceVersion: ResourceVersion
    /// Wanted; a scale that leaves it out wants none.
    package var replicas: Int
    /// There now.
    package var currentReplicas: Int
    /// Which pods are meant, as a label selector's text.
    package var selector: String

    package init(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.key = metadata.key
        self.uid = metadata.uid
        self.resourceVersion = metadata.resourceVersion
        self.replicas = object.spec["replicas"].integer ?? 0
        self.currentReplicas = object.status["replicas"].integer ?? 0
        self.selector = object.status["selector"].string ?? ""
    }
}
