import Configuration
import HTTPService
import Kubernetes

/// One thing that holds of a resource or does not, as its status says it.
struct StatusCondition: Equatable {
    var type: String
    var isTrue: Bool
    /// In a word.
    var reason: String
    /// In a sentence; empty where there is nothing to say.
    var message: String

    /// Whether the resource is gone by; nil where nothing was found wrong with it.
    static func accepted(_ verdict: ResourceKeeper.Verdict?) -> StatusCondition {
        switch verdict {
        case .accepted, nil:
            StatusCondition(type: "Accepted", isTrue: true, reason: "Accepted", message: "")
        case .keptOld(let problems):
            StatusCondition(
                type: "Accepted",
                isTrue: false,
                reason: "Invalid",
                message: "the last good state is in force: " + self.text(problems)
            )
        case .refused(let problems):
            StatusCondition(
                type: "Accepted",
                isTrue: false,
                reason: "Invalid",
                message: self.text(problems)
            )
        }
    }

    private static func text(_ problems: [Problem]) -> String {
        let lines = problems.prefix(10).map { problem in
            let hint = problem.hint.map { ": \($0)" } ?? ""
            return "\(problem.path): \(problem.message)\(hint)"
        }
        return String(lines.joined(separator: "; ").prefix(4_000))
    }

    /// What makes a write worth it.
    var significant: String { "\(self.type) \(self.isTrue) \(self.reason)" }

    /// As it is written. Its time changes with `status` alone.
    /// - Parameter old: the resource's status as it was read.
    func value(old: JSONValue, generation: Int, wallTime: Double) -> JSONValue {
        let status = self.isTrue ? "True" : "False"
        let before = old["conditions"].elements.first { $0["type"].string == self.type }
        let since =
            before?["status"].string == status ? before?["lastTransitionTime"].string : nil
        return [
            "type": .string(self.type), "status": .string(status),
            "observedGeneration": .integer(generation),
            "lastTransitionTime": .string(since ?? WallTime.plain(wallTime)),
            "reason": .string(self.reason), "message": .string(self.words),
        ]
    }

    /// Never empty: Kubernetes 1.20 takes an empty text in an applied list for none at all, and
    /// refuses the whole status.
    private var words: String {
        if !self.message.isEmpty { return self.message }
        return switch self.type {
        case "Accepted": "Weir goes by this resource"
        case "Ready": "a replica answers"
        default: "the replicas follow the load"
        }
    }
}
