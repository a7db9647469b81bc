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
    case trials
    case drain
    case tenants
    case wakes
    case budgets
    case decisions
    case explain(model: String)
    case scale(deployment: String)
    case output(replica: String)
    case rollouts
    case rollout(model: String)
    case timeline(model: String)
    case live(model: String)
    case command(Command, model: String)

    /// What may be asked of a rollout by hand.
    enum Command: String {
        case pause
        case promote
        case abort
        case retry
    }

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
        case "/api/v1/trials": self = .trials
        case "/api/v1/drain": self = .drain
        case "/api/v1/tenants": self = .tenants
        case "/api/v1/wakes": self = .wakes
        case "/api/v1/budgets": self = .budgets
        case "/api/v1/decisions": self = .decisions
        case "/api/v1/rollouts": self = .rollouts
        case "/api/v1/reload": self = .reload
        default:
            guard let named = Self.named(path) else { return nil }
            self = named
        }
    }

    /// `/api/v1/COLLECTION/NAME/PART`, or without the last.
    private static func named(_ path: String) -> AdminRoute? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count == 5, path.hasPrefix("/api/v1/rollouts/"), !parts[4].isEmpty {
            return .rollout(model: String(parts[4]))
        }
        guard parts.count == 6, parts[0].isEmpty, parts[1] == "api", parts[2] == "v1",
            !parts[4].isEmpty
        else { return nil }
        switch (parts[3], parts[5]) {
        case ("deployments", "replicas"): return .scale(deployment: String(parts[4]))
        case ("models", "live"): return .live(model: String(parts[4]))
        case ("rollouts", "timeline"): return .timeline(model: String(parts[4]))
        case ("rollouts", let part):
            return Command(rawValue: String(part)).map { .command($0, model: String(parts[4])) }
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
        case .reload, .command: method == .post
        case .scale, .live, .drain: method == .put
        case .tenants: method == .get || method == .head || method == .put
        default: method == .get || method == .head
        }
    }

    /// The value of `Allow` (RFC 9110, section 10.2.1).
    var allowed: StaticString {
        switch self {
        case .reload, .command: "POST"
        case .scale, .live, .drain: "PUT"
        case .tenants: "GET, HEAD, PUT"
        default: "GET, HEAD"
        }
    }
}
