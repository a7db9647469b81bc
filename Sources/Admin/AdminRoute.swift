import HTTP

/// What there is at the admin port, by path.
enum AdminRoute: Equatable {
    case dashboard
    case health
    case readiness
    case metrics
    case statistics
    case models
    case deployments
    case replicas
    case listeners
    case snapshot
    case reload
    case load
    case decisions
    case explain(model: String)
    case scale(deployment: String)
    case output(replica: String)

    /// Nil where there is nothing. Names in paths are DNS names: nothing is percent-decoded.
    init?(path: String) {
        switch path {
        case "/": self = .dashboard
        case "/healthz": self = .health
        case "/readyz": self = .readiness
        case "/metrics": self = .metrics
        case "/api/v1/statistics": self = .statistics
        case "/api/v1/models": self = .models
        case "/api/v1/deployments": self = .deployments
        case "/api/v1/replicas": self = .replicas
        case "/api/v1/listeners": self = .listeners
        case "/api/v1/snapshot": self = .snapshot
        case "/api/v1/load": self = .load
        case "/api/v1/decisions": self = .decisions
        case "/api/v1/reload": self = .reload
        default:
            guard let named = Self.named(path) else { return nil }
            self = named
        }
    }

    /// `/api/v1/COLLECTION/NAME/PART`
    private static func named(_ path: String) -> AdminRoute? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0].isEmpty, parts[1] == "api", parts[2] == "v1",
            !parts[4].isEmpty
        else { return nil }
        switch (parts[3], parts[5]) {
        case ("deployments", "replicas"): return .scale(deployment: String(parts[4]))
        case ("models", "explain"): return .explain(model: String(parts[4]))
        case ("replicas", "output"): return .output(replica: String(parts[4]))
        default: return nil
        }
    }

    /// Reading it needs the token where there is one: a replica may print what others must not see.
    var isSecret: Bool {
        if case .output = self { true } else { false }
    }

    func allows(_ method: HTTPMethod) -> Bool {
        switch self {
        case .reload: method == .post
        case .scale: method == .put
        default: method == .get || method == .head
        }
    }

    /// The value of `Allow` (RFC 9110, section 10.2.1).
    var allowed: StaticString {
        switch self {
        case .reload: "POST"
        case .scale: "PUT"
        default: "GET, HEAD"
        }
    }
}
