import HTTPService
import Traffic

/// What the controller tells a gateway of tenants' limits: `PUT /api/v1/tenants`.
extension ShareLease.Grant {
    package static let tenantsMax = 100_000

    /// - Throws: what is missing, or beyond its range.
    package init(_ value: JSONValue) throws(ShareProblem) {
        guard let generation = value["generation"].integer,
            (1...Self.generationMax).contains(generation)
        else {
            throw ShareProblem("`generation` must be a number from 1 to \(Self.generationMax)")
        }
        guard let fallback = value["fallback"].number, (0...1).contains(fallback) else {
            throw ShareProblem("`fallback` must be a part of 1")
        }
        guard case .array(let entries) = value["shares"], entries.count <= Self.tenantsMax else {
            throw ShareProblem("`shares` must be a list of at most \(Self.tenantsMax)")
        }
        var shares: [String: TenantShare] = [:]
        for entry in entries {
            guard let tenant = entry["tenant"].string, !tenant.isEmpty else {
                throw ShareProblem("`tenant` is missing from a share")
            }
            shares[tenant] = TenantShare(
                requests: try Self.part("requests", of: entry),
                tokens: try Self.part("tokens", of: entry),
                concurrency: try Self.part("concurrency", of: entry)
            )
        }
        self.init(generation: generation, fallback: fallback, shares: shares)
    }

    /// A limit that the controller does not know is not shared out: nothing beyond the first part.
    private static func part(
        _ name: String,
        of entry: JSONValue
    ) throws(ShareProblem) -> Double {
        if entry[name].isNull { return ShareLease.firstFraction }
        guard let part = entry[name].number, (0...1).contains(part) else {
            throw ShareProblem("`\(name)` must be a part of 1")
        }
        return part
    }
}

package struct ShareProblem: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

extension ShareLedger.Message {
    /// As a gateway reads it.
    var value: JSONValue {
        var tenants: [String: JSONValue] = [:]
        for (limit, share) in self.shares {
            var entry = tenants[limit.tenant] ?? ["tenant": .string(limit.tenant)]
            entry[limit.kind.rawValue] = .number(min(1, max(0, share)))
            tenants[limit.tenant] = entry
        }
        return [
            "generation": .integer(self.generation),
            "fallback": .number(min(1, max(0, self.fallback))),
            "shares": .array(tenants.keys.sorted().compactMap { tenants[$0] }),
        ]
    }
}
