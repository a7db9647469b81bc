import Core

/// What part of each of a tenant's limits one gateway may use: 1 is all of it.
package struct TenantShare: Sendable, Hashable {
    package var requests: Double
    package var tokens: Double
    package var concurrency: Double

    package static let whole = TenantShare(all: 1)

    package init(requests: Double, tokens: Double, concurrency: Double) {
        self.requests = requests
        self.tokens = tokens
        self.concurrency = concurrency
    }

    package init(all fraction: Double) {
        self.init(requests: fraction, tokens: fraction, concurrency: fraction)
    }

    /// Each part at most so much.
    package func capped(at fraction: Double) -> TenantShare {
        TenantShare(
            requests: min(self.requests, fraction),
            tokens: min(self.tokens, fraction),
            concurrency: min(self.concurrency, fraction)
        )
    }
}

/// The parts of limits that a gateway was given, for how long they hold, and what holds then.
///
/// A gateway that was never told anything uses `firstFraction`. What it was told holds for
/// `leaseSeconds`; after that no part is more than the fallback, an equal part for every gateway;
/// after `growthLeases` times as long every part is the fallback. By then whoever hands out shares
/// has taken what is missing from the others, or these have fallen back too. One that is leaving
/// does not grow any more.
package struct ShareLease: Sendable, Equatable {
    package static let leaseSeconds = 5.0
    package static let growthLeases = 3.0
    /// Of a limit: two gateways may begin at the same time, and the whole is exceeded by a tenth.
    package static let firstFraction = 0.05

    /// What was told last.
    package struct Grant: Sendable, Equatable {
        /// What JSON holds exactly (RFC 8259, section 6).
        package static let generationMax = 1 << 53

        /// Rises with everything that is told; at most `generationMax`.
        package var generation: Int
        /// The part of every limit that is each gateway's without a controller.
        package var fallback: Double
        /// By tenants.
        package var shares: [String: TenantShare]

        package init(generation: Int, fallback: Double, shares: [String: TenantShare]) {
            self.generation = generation
            self.fallback = fallback
            self.shares = shares
        }
    }

    package private(set) var grant: Grant?
    private var receivedAt = Instant.zero
    package var isLeaving = false

    package init() {}

    package var generation: Int { self.grant?.generation ?? 0 }

    /// - Returns: false where it is older than what is known, and was not taken over.
    package mutating func take(_ grant: Grant, at now: Instant) -> Bool {
        if grant.generation <= self.generation { return false }
        self.grant = grant
        self.receivedAt = now
        return true
    }

    package func share(of tenant: String, at now: Instant) -> TenantShare {
        let first = TenantShare(all: Self.firstFraction)
        guard let grant = self.grant else { return first }
        let own = grant.shares[tenant] ?? first
        let age = now.seconds(since: self.receivedAt)
        if age < Self.leaseSeconds { return own }
        if age < Self.leaseSeconds * Self.growthLeases || self.isLeaving {
            return own.capped(at: grant.fallback)
        }
        return TenantShare(all: grant.fallback)
    }
}
