import HTTPService
import Testing
import Traffic

@testable import Control

@Suite struct ShareDocumentTests {
    private let message = ShareLedger.Message(
        generation: 7,
        fallback: 0.5,
        shares: [
            .init("ns/a", .requests): 0.25, .init("ns/a", .concurrency): 1.000_000_000_1,
            .init("b/c", .tokens): 0,
        ]
    )

    @Test func messagesAreReadAsTheyAreWritten() throws {
        let grant = try ShareLease.Grant(try JSONValue(self.message.value.bytes))
        #expect(grant.generation == 7 && grant.fallback == 0.5)
        let first = ShareLease.firstFraction
        #expect(
            grant.shares == [
                "ns/a": TenantShare(requests: 0.25, tokens: first, concurrency: 1),
                "b/c": TenantShare(requests: first, tokens: 0, concurrency: first),
            ]
        )
    }

    @Test(
        arguments: [
            #"{"generation":9007199254740993,"fallback":1,"shares":[]}"#,
            #"{"generation":9223372036854775807,"fallback":1,"shares":[]}"#,
            #"{}"#, #"{"generation":0,"fallback":1,"shares":[]}"#,
            #"{"generation":1,"fallback":2,"shares":[]}"#, #"{"generation":1,"fallback":1}"#,
            #"{"generation":1,"fallback":1,"shares":[{"requests":1}]}"#,
            #"{"generation":1,"fallback":1,"shares":[{"tenant":"a","tokens":-1}]}"#,
            #"{"generation":1,"fallback":1,"shares":[{"tenant":"a","concurrency":"all"}]}"#,
        ]
    )
    func refusesWhatMakesNoSense(_ text: String) throws {
        let value = try JSONValue(parsing: text)
        #expect(throws: ShareProblem.self) { try ShareLease.Grant(value) }
    }

    @Test func reportsTellWhatWasAskedFor() throws {
        var demand = TenantDemand()
        demand.requestsPerSecond = 40
        demand.tokensPerSecond = 800
        demand.atATime = 9
        demand.inFlight = 3
        let quota = TenantQuota(requestsPerSecond: 10, tokensPerMinute: 600)
        let use = TenantUse((quota, TenantShare(all: 0.5), demand))
        #expect(use.reports[.requests] == .init(share: 0.5, asked: 40, grain: 1))
        // Per minute, as the limit is.
        #expect(use.reports[.tokens] == .init(share: 0.5, asked: 48_000, grain: 1_200))
        #expect(use.reports[.concurrency] == nil)
        var report = TenantReport(tenants: [.init(name: "ns/a", keys: 1)])
        report.tenants[0].limits = use
        report.run = "5f"
        report.generation = 4
        report.fallback = 0.25
        #expect(try TenantReport(report.value.bytes) == report)
        let most = #"{"generation":9223372036854775807,"tenants":[]}"#
        let generation = try TenantReport(Array(most.utf8)).generation
        #expect(generation == ShareLease.Grant.generationMax)
    }
}
