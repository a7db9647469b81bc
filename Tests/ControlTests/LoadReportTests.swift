import Autoscaling
import Clusters
import Core
import EventLoop
import Logging
import Proxy
import Testing

@testable import Control

/// What replicas say of their load beside their answers reaches the autoscaler, and grows old.
@Suite struct LoadReportTests {
    @Test func aReportStandsInForMetricsThatNobodyAsksFor() throws {
        let loop = try EventLoop()
        let fleet = FakeFleet(["river-main"])
        fleet.have(2, ready: 2, in: "river-main")
        let board = LoadReportBoard()
        let sources = ScrapedSources(
            loop: loop,
            fleet: fleet,
            board: { board },
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        defer { sources.close() }
        sources.refresh()
        #expect(sources.servers(ofGroup: "river-main", at: loop.now).isEmpty)

        let names = try #require(fleet.group("river-main")).replicas.map(\.id.description)
        let text = "TEXT named_metrics.kv_cache_usage_perc=0.5,named_metrics.num_requests_waiting=3"
        board.put(Array(text.utf8), of: names[0], at: loop.now)
        board.put(Array("nonsense".utf8), of: names[1], at: loop.now)
        sources.refresh()
        let samples = sources.servers(ofGroup: "river-main", at: loop.now)
        #expect(samples.map(\.kvCacheUse) == [0.5])
        #expect(samples.map(\.waiting) == [3])
        #expect(samples.map(\.ageSeconds) == [0])

        let later = sources.servers(ofGroup: "river-main", at: loop.now + .seconds(20))
        #expect(later.allSatisfy { $0.ageSeconds > ServerSample.ageSecondsMax })
    }
}
