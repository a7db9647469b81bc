import Core
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import ModelSimulator
import Signals
import Testing

@testable import Scraping

/// The pretend model server, asked as a real one.
@Suite struct RealServerTests {
    private func fetch(
        _ harness: LoopHarness,
        _ address: SocketAddress,
        _ body: String
    ) throws -> FetchResponse {
        var request = FetchRequest(address: address, target: "/v1/completions")
        request.method = .post
        request.fields = [("Content-Type", "application/json")]
        request.body = Array(body.utf8)
        var result: Result<FetchResponse, FetchError>?
        HTTPFetch.start(request, on: harness.loop) { result = $0 }
        try harness.run(until: "an answer") { result != nil }
        return try #require(try result?.get())
    }

    @Test func theSimulatorSpeaksAsVLLM() throws {
        let harness = try LoopHarness()
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let options = ModelSimulatorOptions(address: address)
        let server = try ModelSimulatorServer(loop: harness.loop, options: options)
        defer { server.close() }
        var polls = PollOptions()
        polls.serverPeriod = .milliseconds(20)
        let sources = MetricSources(loop: harness.loop, options: polls, seed: 1)
        defer { sources.close() }
        let target = ServerTarget(
            id: "s",
            host: server.address.host,
            port: server.address.port
        )
        sources.update(targets: MetricTargets(servers: [target]))
        var metrics: ServerMetrics? { sources.server("s", at: harness.loop.now)?.metrics }
        try harness.run(until: "metrics") { metrics != nil }
        #expect(metrics?.server == .vLLM)
        #expect(metrics?.running == 0)
        #expect(metrics?.waiting == 0)
        #expect(metrics?.kvCacheUse == 0)
        #expect(metrics?.generatedTokensTotal == 0)
        let response = try self.fetch(
            harness,
            server.address,
            #"{"model":"simulated-model","prompt":"one two three","max_tokens":5}"#
        )
        #expect(response.status == 200)
        try harness.run(until: "a completed request") { metrics?.latency?.count == 1 }
        #expect((metrics?.generatedTokensTotal ?? 0) > 0)
        #expect((metrics?.promptTokensTotal ?? 0) > 0)
        #expect(metrics?.timeToFirstToken?.count == 1)
        let seconds = try #require(metrics?.latency?.mean)
        #expect(seconds > 0 && seconds < 60)
    }
}
