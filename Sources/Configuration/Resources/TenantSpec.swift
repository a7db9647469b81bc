/// Who may use the gateway, and how much. None defined: the gateway is open.
package struct TenantSpec: Sendable, Hashable {
    package var keys: [TenantKey]
    /// Models it may use; empty means all.
    package var models: [String]
    /// Higher goes first; negative is shed first.
    package var priority: Int
    package var limits: TenantLimits

    /// What a `Tenant` without any field but its keys says; it has none.
    package static let defaults = TenantSpec(Schemas.defaults(of: .tenant))

    init(_ record: Record) {
        self.keys = record.records("keys").compactMap(TenantKey.init)
        self.models = record.texts("models")
        self.priority = record.integer("priority")
        self.limits = TenantLimits(record.record("limits"))
    }
}

/// A key, never in the clear.
package enum TenantKey: Sendable, Hashable {
    /// The key's hash: 64 hexadecimal digits in lower case.
    case sha256(String)
    /// A Secret on a cluster.
    case secret(name: String, key: String)

    init?(_ record: Record) {
        if let digest = record.optionalText("sha256") {
            self = .sha256(digest.lowercased())
        } else if let reference = record.optionalRecord("secretRef") {
            self = .secret(name: reference.text("name"), key: reference.text("key"))
        } else {
            return nil
        }
    }
}

/// Nil: not limited.
package struct TenantLimits: Sendable, Hashable {
    package var requestsPerSecond: Int?
    package var tokensPerMinute: Int?
    package var concurrency: Int?

    package var isAny: Bool {
        self.requestsPerSecond != nil || self.tokensPerMinute != nil || self.concurrency != nil
    }

    init(_ record: Record) {
        self.requestsPerSecond = record.optionalInteger("requestsPerSecond")
        self.tokensPerMinute = record.optionalInteger("tokensPerMinute")
        self.concurrency = record.optionalInteger("concurrency")
    }
}

/// What autoscaling may share out among models.
package struct ResourceBudgetSpec: Sendable, Hashable {
    /// As Kubernetes names it: `nvidia.com/gpu`.
    package var resource: String
    package var total: Int

    init(_ record: Record) {
        self.resource = record.text("resource")
        self.total = record.integer("total")
    }
}
