import Configuration
import Traffic

/// What of tenants is not in their resources: keys in Secrets, and this gateway's part of limits.
package struct TenantKeySource {
    /// A request needs a key even where no tenant could be taken over.
    package var areRequired: Bool
    /// Those of one tenant.
    package var inSecrets: (TenantResource) -> [KeyDigest]
    /// What is known of a tenant's keys.
    package var report: (TenantResource) -> TenantReport.Tenant

    /// This gateway's part of a tenant's limits.
    package var share: (TenantResource) -> TenantShare

    package init(
        areRequired: Bool = false,
        inSecrets: @escaping (TenantResource) -> [KeyDigest] = { _ in [] },
        share: @escaping (TenantResource) -> TenantShare = { _ in .whole },
        report: @escaping (TenantResource) -> TenantReport.Tenant = Self.withoutCluster
    ) {
        self.areRequired = areRequired
        self.inSecrets = inSecrets
        self.share = share
        self.report = report
    }

    /// Secrets are a cluster's.
    package static func withoutCluster(_ tenant: TenantResource) -> TenantReport.Tenant {
        let hashes = tenant.spec.keys.count {
            if case .sha256 = $0 { true } else { false }
        }
        let isWhole = hashes == tenant.spec.keys.count
        let message = "`secretRef` is for clusters: give the hash of the key as `sha256`"
        return TenantReport.Tenant(
            name: tenant.key,
            keys: hashes,
            problems: isWhole ? [] : [KeyProblem(reason: "NoCluster", message: message)]
        )
    }
}

extension TenantResource {
    /// `namespace/name`.
    var key: String { "\(self.metadata.namespace)/\(self.name)" }
}
