import HTTPService
import Traffic

/// What a gateway goes by of one tenant's limits and what was asked for there, by kind.
package struct TenantUse: Sendable, Equatable {
    package var reports: [ShareLedger.Limit.Kind: ShareLedger.Report]

    /// - Parameter use: as the tenant's meter has it.
    package init(_ use: (quota: TenantQuota, share: TenantShare, demand: TenantDemand)) {
        self.reports = [:]
        let (quota, share, demand) = use
        if quota.requestsPerSecond != nil {
            self.reports[.requests] = ShareLedger.Report(
                share: share.requests,
                asked: demand.requestsPerSecond,
                grain: 1
            )
        }
        if quota.tokensPerMinute != nil {
            self.reports[.tokens] = ShareLedger.Report(
                share: share.tokens,
                asked: demand.tokensPerSecond * 60,
                grain: demand.tokensPerRequest * 60
            )
        }
        if quota.concurrency != nil {
            self.reports[.concurrency] = ShareLedger.Report(
                share: share.concurrency,
                asked: demand.atATime,
                inUse: Double(demand.inFlight)
            )
        }
    }

    /// What is missing is 0; numbers that no gateway can mean are taken as the nearest one.
    init(_ value: JSONValue) {
        self.reports = [:]
        for kind in ShareLedger.Limit.Kind.allCases {
            let entry = value[kind.rawValue]
            if entry.isNull { continue }
            self.reports[kind] = ShareLedger.Report(
                share: min(1, max(0, entry["share"].number ?? 0)),
                asked: min(1e12, max(0, entry["asked"].number ?? 0)),
                grain: min(1e12, max(0, entry["grain"].number ?? 0)),
                inUse: min(1e12, max(0, entry["inUse"].number ?? 0))
            )
        }
    }

    var value: JSONValue {
        var value: JSONValue = [:]
        for (kind, report) in self.reports {
            value[kind.rawValue] = [
                "share": .number(report.share), "asked": .number(report.asked),
                "grain": .number(report.grain), "inUse": .number(report.inUse),
            ]
        }
        return value
    }
}
