import Core
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Testing

@testable import ModelSimulator

@Suite struct SimulatorFaultTests {
    private static let chat = Bodies.chat(more: ",\"max_tokens\":40")

    private func failure(_ test: SimulatorHarness, _ body: String = Self.chat) throws -> FetchError?
    {
        let result = try test.fetch(
            "/v1/chat/completions",
            method: .post,
            body: Array(body.utf8)
        )
        if case .failure(let error) = result { return error }
        return nil
    }

    @Test func errorsComeInTheShapeOfTheAPI() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"errorRate":1,"errorStatus":503}"#)
        let chat = try test.post("/v1/chat/completions", Self.chat)
        #expect(chat.status == 503)
        #expect(chat.text.contains("\"code\":\"injected_fault\""))
        let infer = try test.post("/v2/models/digits/infer", Bodies.infer)
        #expect(infer.status == 503)
        #expect(infer.text == "{\"error\":\"a fault was injected\"}")
        // Health, metrics and models are spared.
        #expect(try test.get("/health").status == 200)
        #expect(try test.get("/v1/models").status == 200)
        #expect(try test.metric("weir_simulator_faults_total") == 2)
        #expect(try test.fetch("/simulator/faults", method: .delete).get().status == 200)
        #expect(try test.post("/v1/chat/completions", Self.chat).status == 200)
    }

    @Test func theRateIsMet() throws {
        let test = try SimulatorHarness { $0.faults.errorRate = 0.3 }
        var errors = 0
        for _ in 0..<400 {
            if try test.post("/v1/chat/completions", Self.chat).status == 500 { errors += 1 }
        }
        // Five standard deviations either side.
        #expect((74...166).contains(errors))
    }

    @Test func resetsTruncationsAndGarbage() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"resetRate":1}"#)
        guard case .connectionFailed = try self.failure(test) else {
            Issue.record("no reset")
            return
        }
        try test.setFaults(#"{"resetRate":0,"truncateRate":1}"#)
        #expect(try self.failure(test) == .truncated)
        #expect(
            try self.failure(test, Bodies.chat(more: ",\"max_tokens\":40,\"stream\":true"))
                == .truncated
        )
        let cut = try test.fetch(
            "/v2/models/digits/infer",
            method: .post,
            body: Array(Bodies.infer.utf8)
        )
        #expect(throws: FetchError.truncated) { try cut.get() }
        try test.setFaults(#"{"truncateRate":0,"garbageRate":1}"#)
        guard case .invalidResponse = try self.failure(test) else {
            Issue.record("no garbage")
            return
        }
        #expect(try test.metric("vllm:num_requests_running") == 0)
    }

    @Test func hangingRequestsAreCountedWhenTheClientGivesUp() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"hangRate":1}"#)
        let client = try test.client()
        try client.send(Bodies.post("/v1/chat/completions", Self.chat))
        try test.harness.run { try test.metric("weir_simulator_faults_total") == 1 }
        test.harness.settle()
        client.poll()
        #expect(client.received.isEmpty)
        #expect(!client.isEnded)
        client.close()
        try test.harness.run { try test.metric("weir_simulator_cancelled_total") == 1 }
    }

    @Test func extraLatencyDelaysAndCanBeCancelled() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"extraLatencyMilliseconds":30}"#)
        let before = test.harness.loop.refreshNow()
        #expect(try test.post("/v1/chat/completions", Self.chat).status == 200)
        #expect(test.harness.loop.refreshNow().seconds(since: before) >= 0.03)
        try test.setFaults(#"{"extraLatencyMilliseconds":3600000}"#)
        let client = try test.client()
        try client.send(Bodies.post("/v1/chat/completions", Self.chat))
        let seen = test.server.counts.requests
        try test.harness.run { test.server.counts.requests > seen }
        client.close()
        try test.harness.run { try test.metric("weir_simulator_cancelled_total") == 1 }
    }

    @Test func slowdownSlowsTheModel() throws {
        let test = try SimulatorHarness { $0.batching.stepBase = .microseconds(200) }
        try test.setFaults(#"{"slowdown":10}"#)
        let before = test.harness.loop.refreshNow()
        #expect(try test.post("/v1/chat/completions", Self.chat).status == 200)
        #expect(test.harness.loop.refreshNow().seconds(since: before) >= 40 * 0.002)
    }

    @Test func readinessFollowsThePlanAndTheColdStart() throws {
        let test = try SimulatorHarness()
        let paths = ["/health", "/v2/health/ready", "/v2/models/digits/ready"]
        for path in paths { #expect(try test.get(path).status == 200) }
        try test.setFaults(#"{"notReady":true}"#)
        for path in paths { #expect(try test.get(path).status == 503) }
        #expect(try test.get("/v2/health/live").status == 200)
        #expect(try test.post("/v1/chat/completions", Self.chat).status == 200)

        let cold = try SimulatorHarness { $0.coldStart = .milliseconds(300) }
        for path in paths { #expect(try cold.get(path).status == 503) }
        #expect(try cold.get("/v2/health/live").status == 200)
        let early = try cold.post("/v1/chat/completions", Self.chat)
        #expect(early.status == 503)
        #expect(early.text.contains("model_loading"))
        try cold.harness.run(until: "readiness") { try cold.get("/health").status == 200 }
        #expect(try cold.post("/v1/chat/completions", Self.chat).status == 200)
    }

    @Test func crashesAfterItsRequests() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"crash":"abort","crashAfterRequests":2}"#)
        for _ in 0..<2 { #expect(try test.post("/v1/chat/completions", Self.chat).status == 200) }
        #expect(test.crashes.isEmpty)
        _ = try test.post("/v1/chat/completions", Self.chat)
        #expect(test.crashes == [.abort])
    }

    @Test func crashesAtOnceButAnswersFirst() throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"crash":"exit"}"#)
        #expect(test.crashes == [.exit])
    }

    @Test func aCrashEndsTheProcess() async {
        await #expect(processExitsWith: .exitCode(1)) {
            ModelSimulatorServer.endProcess(.exit)
        }
        await #expect(processExitsWith: .signal(6)) {
            ModelSimulatorServer.endProcess(.abort)
        }
    }

    @Test(arguments: [
        "{\"errorRate\":2}", "{\"errorRate\":0.6,\"hangRate\":0.6}", "{\"errorRate\":\"x\"}",
        "{\"errorStatus\":200}", "{\"slowdown\":0}", "{\"crash\":\"boom\"}", "{\"unknown\":1}",
        "[]", "",
        "{\"extraLatencyMilliseconds\":-1}", "{\"extraLatencyMilliseconds\":1e300}",
        "{\"crashAfterRequests\":-1}",
    ])
    func badPlansAreRefusedAndChangeNothing(_ plan: String) throws {
        let test = try SimulatorHarness()
        try test.setFaults(#"{"slowdown":2,"errorStatus":502}"#)
        let before = try test.get("/simulator/faults").text
        #expect(try test.post("/simulator/faults", plan).status == 400)
        #expect(try test.get("/simulator/faults").text == before)
        #expect(before.contains("\"slowdown\":2.0"))
        #expect(before.contains("\"errorStatus\":502"))
    }
}
