import Core
import HTTPService
import Traffic

/// What a gateway knows of its tenants, and what was asked of their limits there:
/// `GET /api/v1/tenants`. Neither keys nor hashes.
package struct TenantReport: Sendable, Equatable {
    package struct Tenant: Sendable, Equatable {
        /// `namespace/name`.
        package var name: String
        /// How many of its keys are known.
        package var keys: Int
        package var problems: [KeyProblem]
        /// Nil where no snapshot has the tenant yet.
        package var limits: TenantUse?

        package init(name: String, keys: Int, problems: [KeyProblem] = []) {
            self.name = name
            self.keys = keys
            self.problems = problems
        }
    }

    package var tenants: [Tenant]
    /// Tells one start of the gateway from the next.
    package var run = ""
    /// Of what the controller told last; 0 where it told nothing.
    package var generation = 0
    package var fallback = 0.0

    package static let tenantsMax = 100_000
    package static let problemsMax = 1_000
    private static let runBytesMax = 64

    package init(tenants: [Tenant]) {
        self.tenants = tenants
    }

    package init(_ text: [UInt8]) throws(JSONError) {
        let value = try JSONValue(text)
        self.run = String((value["run"].string ?? "").prefix(Self.runBytesMax))
        let generation = value["generation"].integer ?? 0
        self.generation = min(ShareLease.Grant.generationMax, max(0, generation))
        self.fallback = min(1, max(0, value["fallback"].number ?? 0))
        self.tenants = value["tenants"].elements.prefix(Self.tenantsMax).compactMap {
            guard let name = $0["name"].string, let keys = $0["keys"].integer else { return nil }
            let problems = $0["problems"].elements.prefix(Self.problemsMax).map {
                KeyProblem(
                    reason: $0["reason"].string ?? "",
                    message: $0["message"].string ?? ""
                )
            }
            var tenant = Tenant(name: name, keys: max(0, keys), problems: Array(problems))
            if !$0["limits"].isNull { tenant.limits = TenantUse($0["limits"]) }
            return tenant
        }
    }

    package var value: JSONValue {
        [
            "run": .string(self.run), "generation": .integer(self.generation),
            "fallback": .number(self.fallback),
            "tenants": .array(
                self.tenants.map { tenant in
                    [
                        "name": .string(tenant.name), "keys": .integer(tenant.keys),
                        "problems": .array(
                            tenant.problems.map {
                                ["reason": .string($0.reason), "message": .string($0.message)]
                            }
                        ),
                        "limits": tenant.limits?.value ?? .null,
                    ]
                }
            ),
        ]
    }

    /// What holds of each tenant over several gateways: the keys that all of them know, and what
    /// is wrong at any of them.
    package static func merged(_ reports: [TenantReport]) -> [String: Tenant] {
        var result: [String: Tenant] = [:]
        for tenant in reports.flatMap(\.tenants) {
            guard var known = result[tenant.name] else {
                result[tenant.name] = tenant
                continue
            }
            known.keys = min(known.keys, tenant.keys)
            known.problems += tenant.problems.filter { !known.problems.contains($0) }
            result[tenant.name] = known
        }
        return result
    }
}

/// Why a key of a tenant is not known.
package struct KeyProblem: Sendable, Equatable {
    /// In a word, as a condition and an event have it.
    package var reason: String
    /// In a sentence. Never anything of what a Secret holds.
    package var message: String

    package init(reason: String, message: String) {
        self.reason = reason
        self.message = message
    }

    static func shared(with tenant: String) -> KeyProblem {
        KeyProblem(
            reason: "KeyShared",
            message: "one of its keys is that of tenant \(tenant) too, for whom its requests count"
        )
    }
}
