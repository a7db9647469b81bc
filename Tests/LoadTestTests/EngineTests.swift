import Core
import EventLoop
import ModelSimulator
import Testing

@testable import LoadTest
@testable import Workload

/// A simulator on threads of its own.
final class Server {
    let process: ModelSimulatorProcess
    var url: String { "http://\(self.process.address)" }

    init(_ change: (inout ModelSimulatorOptions) -> Void = { _ in }) throws {
        var options = ModelSimulatorOptions(address: try #require(SocketAddress("127.0.0.1:0")))
        options.models = ["llama"]
        options.batching.stepBase = .microseconds(50)
        options.batching.stepPerSequence = .zero
        options.batching.prefillTokensPerSecond = 1e9
        change(&options)
        self.process = try ModelSimulatorProcess(options: options)
    }

    deinit {
        self.process.stopNow()
        self.process.wait()
    }

    func plan(_ pattern: LoadPattern) throws -> LoadPlan {
        try self.plan(.http(.ping), path: "/health", pattern)
    }

    func plan(
        _ kind: RequestKind,
        path: String,
        _ pattern: LoadPattern
    ) throws -> LoadPlan {
        var plan = LoadPlan(targets: [try TargetURL(self.url + path)], kind: kind, pattern: pattern)
        plan.lagMax = 60
        plan.keepsRecords = true
        return plan
    }
}

extension FixedRequest {
    static var ping: FixedRequest { FixedRequest() }
}

func rate(_ rate: Double, _ seconds: Double) -> LoadPattern {
    .rate(RateProfile(rate: rate, duration: seconds), .constant)
}

func chat(_ change: (inout GenerationPlan) -> Void = { _ in }) -> RequestKind {
    var plan = GenerationPlan(model: "llama")
    plan.inputTokens = .fixed(20)
    plan.outputTokens = .fixed(8)
    change(&plan)
    return .chat(plan)
}

@Suite("Engine")
struct EngineTests {
    @Test func sendsEveryArrivalOnce() throws {
        let server = try Server()
        var plan = try server.plan(rate(400, 0.5))
        plan.threads = 3
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 200)
        #expect(summary.statistics.succeeded == 200)
        #expect(summary.statistics.statuses == [200: 200])
        #expect(summary.records.map(\.index).sorted() == Array(0..<200))
        #expect(summary.offeredRate == 400)
        #expect(summary.records.allSatisfy { $0.dispatched >= $0.scheduled && $0.end > $0.sent })
    }

    /// A search makes many runs in one process.
    @Test func aRunThatEndedIsLetGo() throws {
        let server = try Server()
        var plan = try server.plan(.closed(connections: 2))
        plan.requestsMax = 10
        plan.threads = 2
        var run: LoadRun? = try LoadRun(plan)
        weak let remains = run
        #expect(try run?.run().statistics.total == 10)
        run?.interrupt()
        run = nil
        #expect(remains == nil)
    }

    @Test func warmUpAndCoolDownAreAdded() throws {
        let server = try Server()
        var plan = try server.plan(rate(100, 0.3))
        plan.warmUp = 0.2
        plan.coolDown = 0.1
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 30)
        #expect(summary.statistics.ended == 60)
        #expect(summary.seconds == 0.3)
    }

    @Test(arguments: [1, 2])
    func closedLoopEndsWithItsRequests(threads: Int) throws {
        let server = try Server()
        var plan = try server.plan(.closed(connections: 5))
        plan.requestsMax = 777
        plan.threads = threads
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 777)
        #expect(summary.statistics.connections == 5)
        #expect(summary.rate > 0)
        #expect(summary.invalidity == nil)
    }

    @Test func closedLoopEndsWithItsTime() throws {
        let server = try Server()
        var plan = try server.plan(.closed(connections: 2))
        // Long enough for one answer on a machine that has much else to do.
        plan.duration = 1
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.succeeded > 0)
        #expect(summary.statistics.succeeded == summary.statistics.total)
        #expect(summary.records.allSatisfy { $0.scheduled < 1_000_000_000 })
    }

    @Test func streamsAreTimed() throws {
        let server = try Server { $0.batching.stepBase = .milliseconds(2) }
        var plan = try server.plan(chat(), path: "", rate(50, 0.4))
        plan.keepsGaps = true
        plan.objectives = [Objective(metric: .timeToFirstToken, bound: 600_000)]
        let summary = try LoadRun(plan).run()
        let statistics = summary.statistics
        #expect(statistics.succeeded == 20)
        #expect(statistics.outputTokens == 160)
        #expect(statistics.good == 20)
        #expect(statistics.timeToFirstToken.count == 20)
        #expect(statistics.timePerOutputToken.count == 20)
        #expect(statistics.interTokenLatency.count == 140)
        #expect(summary.gaps.allSatisfy { $0.count == 7 })
        // How far apart is up to the machine: a busy one reads several tokens at once.
        #expect(
            summary.records.allSatisfy {
                0 < $0.firstOutput && $0.firstOutput <= $0.lastOutput && $0.lastOutput <= $0.end
            }
        )
    }

    @Test func wholeAnswersGiveTheirTokens() throws {
        let server = try Server()
        let summary = try LoadRun(
            server.plan(chat { $0.streams = false }, path: "", rate(50, 0.2))
        ).run()
        #expect(summary.statistics.outputTokens == 80)
        #expect(summary.statistics.inputTokens > 0)
        #expect(summary.statistics.timeToFirstToken.count == 0)
    }

    @Test func inferRequestsAreUnderstood() throws {
        let server = try Server()
        let tensor = try #require(InferPlan.Tensor("x:INT64:2x2"))
        let kind = RequestKind.infer(InferPlan(model: "llama", inputs: [tensor]))
        let summary = try LoadRun(server.plan(kind, path: "", rate(50, 0.2))).run()
        #expect(summary.statistics.statuses == [200: 10])
    }

    /// The point of an open loop: a stalled server shows in latencies, although only one request
    /// at a time can reach it.
    @Test func latencyCountsFromTheSchedule() throws {
        let server = try Server { $0.faults.extraLatency = .milliseconds(20) }
        var plan = try server.plan(chat { $0.streams = false }, path: "", rate(200, 0.2))
        plan.connectionsMax = 1
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 40)
        // The last of 40 requests waits for 39 others, 20 ms each, but came only 200 ms late.
        #expect(summary.statistics.latency.maximum > 500_000_000)
        #expect(
            summary.statistics.serviceTime.quantile(0.5) < summary.statistics.latency.quantile(0.5)
        )
        #expect(summary.statistics.connections == 1)
    }

    @Test func lateGeneratorIsInvalid() throws {
        let server = try Server()
        var plan = try server.plan(rate(1_000, 0.1))
        plan.lagMax = 0
        #expect(try LoadRun(plan).run().invalidity != nil)
    }

    @Test(arguments: [
        ("error", Outcome.httpError), ("reset", .connectionLost), ("truncate", .connectionLost),
        ("garbage", .invalidAnswer), ("hang", .timedOut),
    ])
    func failuresHaveNames(_ fault: String, outcome: Outcome) throws {
        let server = try Server {
            switch fault {
            case "error": $0.faults.errorRate = 1
            case "reset": $0.faults.resetRate = 1
            case "truncate": $0.faults.truncateRate = 1
            case "garbage": $0.faults.garbageRate = 1
            default: $0.faults.hangRate = 1
            }
        }
        var plan = try server.plan(chat(), path: "", rate(50, 0.1))
        plan.timeout = fault == "hang" ? 0.1 : 30
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 5)
        #expect(summary.statistics.succeeded == 0)
        #expect(summary.records.map(\.outcome) == Array(repeating: outcome, count: 5))
        #expect(summary.statistics.latency.count == 0)
    }

    @Test func closedLoopGoesOnAfterFailures() throws {
        let server = try Server { $0.faults.resetRate = 0.5 }
        var plan = try server.plan(chat(), path: "", .closed(connections: 4))
        plan.requestsMax = 20
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.total == 20)
        #expect(summary.failed > 0 && summary.failed < 20)
    }

    @Test func targetsTakeTurns() throws {
        let one = try Server()
        let two = try Server()
        var plan = try one.plan(rate(100, 0.2))
        plan.targets.append(try TargetURL(two.url + "/health"))
        let summary = try LoadRun(plan).run()
        #expect(summary.statistics.targets.map(\.total) == [10, 10])
    }

    @Test func replaysATrace() throws {
        let server = try Server()
        let requests = (0..<10).map {
            TraceRequest(
                offset: UInt64($0) * 20_000_000,
                inputTokens: 30,
                outputTokens: UInt32($0 + 1),
                blocks: 0..<0
            )
        }
        let trace = Trace.requests(RequestTrace(requests: requests))
        let summary = try LoadRun(server.plan(chat(), path: "", .trace(trace))).run()
        #expect(summary.statistics.total == 10)
        #expect(summary.statistics.outputTokens == 55)
        #expect(summary.records.map(\.scheduled).sorted() == requests.map(\.offset))
    }

    @Test func interruptionGivesUpWhatIsUnderWay() throws {
        let server = try Server { $0.faults.hangRate = 1 }
        let plan = try server.plan(chat(), path: "", rate(100, 60))
        let run = try LoadRun(plan)
        let summary = try run.run(progressEvery: .milliseconds(5)) { progress in
            if progress.started >= 3 { run.interrupt() }
        }
        #expect(summary.wasInterrupted)
        #expect(summary.statistics.total == 0)
        #expect(summary.statistics.abandoned >= 3)
    }

    @Test func refusedConnectionIsSaidBeforeTheRun() throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let listener = try Sockets.listen(on: address)
        let bound = try #require(Sockets.localAddress(of: listener))
        Sockets.close(listener)
        let plan = LoadPlan(
            targets: [try TargetURL("http://\(bound)/")],
            kind: .http(.ping),
            pattern: rate(1, 1)
        )
        let error = #expect(throws: LoadError.self) { try LoadRun(plan) }
        #expect(error?.description.contains("Connection refused") == true)
    }

    @Test func serverThatGoesAwayIsCounted() throws {
        var server: Server? = try Server()
        let plan = try #require(try server?.plan(rate(200, 1)))
        let run = try LoadRun(plan)
        let summary = try run.run(progressEvery: .milliseconds(5)) { progress in
            if progress.ended >= 20 { server = nil }
        }
        #expect(summary.statistics.total == 200)
        #expect(summary.statistics.succeeded >= 20)
        #expect(summary.statistics.outcomes[Int(Outcome.cannotConnect.rawValue)] > 0)
    }

    @Test func plansAreChecked() throws {
        let url = try TargetURL("http://localhost/")
        var plan = LoadPlan(targets: [], kind: .http(.ping), pattern: rate(1, 1))
        #expect(!plan.problems.isEmpty)
        plan.targets = Array(repeating: url, count: LoadLimits.targetsMax + 1)
        #expect(!plan.problems.isEmpty)
        plan.targets = [url]
        #expect(plan.problems.isEmpty)
        plan.threads = 0
        #expect(!plan.problems.isEmpty)
        plan.threads = 1
        plan.pattern = .closed(connections: 1)
        #expect(!plan.problems.isEmpty)
        plan.requestsMax = 5
        #expect(plan.problems.isEmpty)
    }
}
