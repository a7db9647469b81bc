import Autoscaling
import HTTPService

/// What a controller writes into a Model's status of what replicas of interchangeable variants can
/// do, as gateways read it.
enum PoolWorths {
    /// Requests per second by variant; those that are not known are left out.
    static func values(in status: JSONValue) -> [String: Double] {
        var values: [String: Double] = [:]
        for variant in status["variants"].elements {
            guard case .string(let name) = variant["name"],
                case .string(let text) = variant["requestsPerReplica"],
                let value = Double(text), value > 0, value.isFinite
            else { continue }
            values[name] = value
        }
        return values
    }

    /// As it is written; nil where nothing is.
    static func text(of variant: String, in status: JSONValue) -> String? {
        for entry in status["variants"].elements where entry["name"] == .string(variant) {
            if case .string(let text) = entry["requestsPerReplica"] { return text }
        }
        return nil
    }
}

extension ScalingDecision {
    /// The first variant that stands in for another one, and why.
    var standIn: (variant: String, why: String)? {
        for variant in self.variants {
            for constraint in variant.constraints {
                if case .fallback = constraint.kind {
                    return (variant.variant, constraint.kind.text)
                }
            }
        }
        return nil
    }
}
