import Core

/// Why requests cannot reach a workload's pods though it may have some.
package enum EndpointGap: String, Sendable, Hashable, CaseIterable {
    /// There is no Service of its name, or it selects nothing.
    case serviceMissing = "ServiceMissing"
    /// Its Service has no endpoint.
    case noEndpoint = "NoEndpoint"
}

/// What the gateways say about groups that they cannot send anything to.
///
/// Slices follow pods, and gateways follow slices, so a gap is believed only where every gateway
/// that was heard sees it, and has for `settledAfter`.
package struct EndpointGaps: Sendable {
    package static let settledAfter = Duration.seconds(5)

    /// By source, then by group.
    private var seen: [Int: [String: EndpointGap]] = [:]
    private var agreed: [String: (gap: EndpointGap, since: Instant)] = [:]

    package init() {}

    /// A gateway has said what it cannot reach: all of it.
    package mutating func take(_ gaps: [String: EndpointGap], from source: Int, at now: Instant) {
        if self.seen[source] == gaps { return }
        self.seen[source] = gaps
        self.agree(at: now)
    }

    /// A gateway is gone.
    package mutating func forget(source: Int, at now: Instant) {
        guard self.seen.removeValue(forKey: source) != nil else { return }
        self.agree(at: now)
    }

    package func gap(of group: String, at now: Instant) -> EndpointGap? {
        guard let entry = self.agreed[group], now - entry.since >= Self.settledAfter else {
            return nil
        }
        return entry.gap
    }

    private mutating func agree(at now: Instant) {
        guard let (first, gaps) = self.seen.min(by: { $0.value.count < $1.value.count }) else {
            self.agreed = [:]
            return
        }
        var agreed: [String: (gap: EndpointGap, since: Instant)] = [:]
        for (group, gap) in gaps {
            let isShared = self.seen.allSatisfy { $0.key == first || $0.value[group] == gap }
            guard isShared else { continue }
            let known = self.agreed[group]
            agreed[group] = known?.gap == gap ? known : (gap, now)
        }
        self.agreed = agreed
    }
}
