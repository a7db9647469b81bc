import Core

/// The gateways there are, and who of them was heard.
///
/// What a gateway did not report is unknown, not zero. While a few are missing, the others speak
/// for all and decisions allow for it; where half or more are missing nobody was heard.
package struct GatewayRoll: Sendable {
    package struct Gateway: Sendable, Hashable {
        /// Names it in a `LoadLedger`; never used again.
        package var source: Int
        package var endpoint: PodEndpoint
        package var since: Instant
        package var answeredAt: Instant?
    }

    /// Gateways at most; the rest are left out and count as missing.
    package static let gatewaysMax = 500
    /// An answer older than this is none.
    package static let ageMax = Duration.milliseconds(2_500)

    private var byIdentity: [String: Gateway] = [:]
    private var nextSource = 0
    private var leftOut = 0

    package init() {}

    package var gateways: [Gateway] { self.byIdentity.values.sorted { $0.source < $1.source } }

    package var count: Int { self.byIdentity.count + self.leftOut }

    /// The gateways' Service has these endpoints now.
    /// - Returns: the sources of those that are gone.
    package mutating func update(_ endpoints: [PodEndpoint], at now: Instant) -> [Int] {
        var rest = self.byIdentity
        self.leftOut = 0
        for endpoint in endpoints {
            if rest.removeValue(forKey: endpoint.identity) != nil {
                self.byIdentity[endpoint.identity]?.endpoint = endpoint
            } else if self.byIdentity.count - rest.count < Self.gatewaysMax {
                self.byIdentity[endpoint.identity] = Gateway(
                    source: self.nextSource,
                    endpoint: endpoint,
                    since: now
                )
                self.nextSource += 1
            } else {
                self.leftOut += 1
            }
        }
        for identity in rest.keys { self.byIdentity[identity] = nil }
        return rest.values.map(\.source).sorted()
    }

    package mutating func answered(_ identity: String, at now: Instant) {
        self.byIdentity[identity]?.answeredAt = now
    }

    /// Gateways that take requests, or may, and have not answered lately. One that is ending, or
    /// has not begun, takes none.
    package func missing(at now: Instant) -> Int {
        self.byIdentity.values.count { gateway in
            let isExpected =
                gateway.endpoint.condition == .ready
                || gateway.endpoint.condition == .notReady && gateway.answeredAt != nil
            return isExpected && !Self.isFresh(gateway, now)
        } + self.leftOut
    }

    /// Whether what was heard may be taken for all.
    package func isHeard(at now: Instant) -> Bool {
        let heard = self.byIdentity.values.count { Self.isFresh($0, now) }
        return heard > 0 && heard > self.missing(at: now)
    }

    private static func isFresh(_ gateway: Gateway, _ now: Instant) -> Bool {
        gateway.answeredAt.map { now - $0 <= self.ageMax } ?? false
    }
}
