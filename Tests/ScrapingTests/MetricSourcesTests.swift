import Core
import Curl
import EventLoop
import Foundation
import HTTP
import HTTPService
import LoopTestSupport
import Signals
import Testing

@testable import Scraping

/// A server whose answers a test chooses, and sources that ask it, on one loop.
final class Scene {
    let harness: LoopHarness
    let server: HTTPServer
    let sources: MetricSources
    let script: Script

    final class Script {
        var status: UInt16 = 200
        var type: StaticString = "text/plain"
        var body = "vllm:num_requests_running 1\n"
        /// Answers of their own for some paths.
        var bodies: [String: String] = [:]
        var requests: [(path: String, query: String?, authorization: String?)] = []
        var isSilent = false
        var held: [ResponseWriter] = []
    }

    static var options: PollOptions {
        var options = PollOptions()
        options.serverPeriod = .milliseconds(10)
        options.queryPeriod = .milliseconds(10)
        options.timeout = .seconds(10)
        options.backOffMax = .milliseconds(20)
        return options
    }

    init(_ options: PollOptions = Scene.options) throws {
        let harness = try LoopHarness()
        let script = Script()
        let address = try #require(SocketAddress("127.0.0.1:0"))
        self.server = try HTTPServer(loop: harness.loop, address: address) { request, response in
            script.requests.append(
                (request.path, request.query, request.field(named: "authorization"))
            )
            if script.isSilent { return script.held.append(response) }
            let body = script.bodies[request.path] ?? script.body
            response.respond(status: script.status, contentType: script.type, text: body)
        }
        self.sources = MetricSources(loop: harness.loop, options: options, seed: 3)
        self.harness = harness
        self.script = script
    }

    deinit {
        self.sources.close()
        self.server.close()
        self.harness.settle()
    }

    func target(_ id: String = "r", incarnation: UInt64 = 0) -> ServerTarget {
        ServerTarget(
            id: id,
            incarnation: incarnation,
            host: self.server.address.host,
            port: self.server.address.port
        )
    }

    func ask(_ targets: ServerTarget...) {
        self.sources.update(targets: MetricTargets(servers: targets))
    }

    func reading(_ id: String = "r") -> ServerReading? {
        self.sources.server(id, at: self.harness.loop.now)
    }

    func wait(_ what: String, _ condition: () -> Bool) throws {
        try self.harness.run(until: what, condition)
    }
}

@Suite struct MetricSourcesTests {
    @Test func readsAgainAndAgain() throws {
        let scene = try Scene()
        scene.ask(scene.target())
        #expect(scene.reading()?.metrics == nil)
        #expect(scene.reading()?.ageSeconds == .infinity)
        #expect(scene.reading()?.problem == nil)
        for number in 1...3 {
            scene.script.body = "vllm:num_requests_running \(number)\n"
            try scene.wait("reading \(number)") {
                scene.reading()?.metrics?.running == Double(number)
            }
        }
        let reading = try #require(scene.reading())
        #expect(reading.metrics?.server == .vLLM)
        #expect(reading.metrics?.waiting == nil)
        #expect(reading.ageSeconds < 20)
        #expect(reading.problem == nil)
        #expect(scene.server.counts.accepted == 1, "the connection is kept")
        #expect(scene.sources.readings(at: scene.harness.loop.now).servers.count == 1)
    }

    @Test func ratesComeWithTheSecondReading() throws {
        let scene = try Scene()
        scene.script.body = "vllm:generation_tokens_total 100\n"
        scene.ask(scene.target())
        try scene.wait("a reading") { scene.reading()?.metrics != nil }
        scene.script.body = "vllm:generation_tokens_total 400\n"
        try scene.wait("a rate") { (scene.reading()?.rates?.generatedTokensPerSecond ?? 0) > 0 }
        scene.script.body = "vllm:generation_tokens_total 5\n"
        try scene.wait("a new start") { scene.reading()?.metrics?.generatedTokensTotal == 5 }
        #expect(scene.reading()?.rates?.generatedTokensPerSecond ?? 0 == 0)
    }

    /// A reading that cannot be renewed grows old and stays; the problem is told.
    @Test func failingTargetsKeepWhatTheySaid() throws {
        let scene = try Scene()
        var changes: [MetricSourceChange] = []
        scene.sources.onChange = { changes.append($0) }
        scene.ask(scene.target())
        try scene.wait("a reading") { scene.reading()?.metrics != nil }
        scene.script.status = 500
        try scene.wait("a problem") { scene.reading()?.problem != nil }
        #expect(scene.reading()?.problem == "answered with status 500")
        #expect(scene.reading()?.metrics?.running == 1)
        let age = try #require(scene.reading()?.ageSeconds)
        try scene.wait("age") { scene.reading().map { $0.ageSeconds > age + 0.1 } ?? false }
        #expect(changes == [MetricSourceChange(target: "r", problem: "answered with status 500")])
        scene.script.status = 200
        try scene.wait("a recovery") { scene.reading()?.problem == nil }
        #expect(changes.count == 2)
        #expect(changes.last == MetricSourceChange(target: "r", problem: nil))
    }

    @Test(
        arguments: [
            ("", "no metrics, but: nothing"),
            ("[{\"iter\": 1}]", "no metrics, but: [{\"iter\": 1}]"),
            ("go_goroutines 5\n", "1 samples, none of a model server"),
        ]
    )
    func answersWithoutMetricsAreProblems(body: String, words: String) throws {
        let scene = try Scene()
        scene.script.body = body
        scene.ask(scene.target())
        try scene.wait("a problem") { scene.reading()?.problem != nil }
        #expect(scene.reading()?.problem?.contains(words) == true)
        #expect(scene.reading()?.metrics == nil)
    }

    /// TensorRT-LLM has JSON at `/metrics`.
    @Test func looksForMetricsWhereKnownServersHaveThem() throws {
        let scene = try Scene()
        scene.script.bodies["/metrics"] = "[{\"iter\": 1}]"
        scene.script.bodies["/prometheus/metrics"] = "trtllm_num_requests_running 4\n"
        scene.ask(scene.target())
        try scene.wait("a reading") { scene.reading()?.metrics?.running == 4 }
        #expect(scene.script.requests.map(\.path).prefix(2) == ["/metrics", "/prometheus/metrics"])
        let count = scene.script.requests.count
        try scene.wait("more") { scene.script.requests.count > count + 3 }
        #expect(scene.script.requests[count...].allSatisfy { $0.path == "/prometheus/metrics" })
    }

    @Test func asksTheGivenPathAlone() throws {
        let scene = try Scene()
        scene.script.status = 404
        var target = scene.target()
        target.path = "/own/metrics"
        scene.ask(target)
        try scene.wait("some requests") { scene.script.requests.count > 3 }
        #expect(scene.script.requests.allSatisfy { $0.path == "/own/metrics" })
    }

    @Test func targetsComeAndGo() throws {
        let scene = try Scene()
        scene.ask(scene.target("a"), scene.target("b"))
        try scene.wait("both") {
            scene.reading("a")?.metrics != nil && scene.reading("b")?.metrics != nil
        }
        scene.ask(scene.target("b"), scene.target("c"))
        #expect(scene.reading("a") == nil)
        #expect(scene.reading("b")?.metrics != nil, "what stays is not forgotten")
        #expect(scene.reading("c")?.metrics == nil)
        // Another process at the same place.
        scene.ask(scene.target("b", incarnation: 1))
        #expect(scene.reading("b")?.metrics == nil)
        #expect(scene.reading("c") == nil)
        try scene.wait("the new one") { scene.reading("b")?.metrics != nil }
        // The first of two with one name counts.
        var other = scene.target("b", incarnation: 1)
        other.path = "/other"
        scene.ask(scene.target("b", incarnation: 1), other)
        #expect(scene.reading("b")?.metrics != nil)
    }

    @Test func nobodyIsAskedWithoutTargets() throws {
        let scene = try Scene()
        scene.ask(scene.target())
        try scene.wait("a reading") { scene.reading()?.metrics != nil }
        scene.ask()
        // The connection is closed, and nothing is asked any more.
        try scene.wait("the end of the connection") { scene.server.counts.connections == 0 }
        let asked = scene.sources.asked
        let turned = scene.harness.loop.now
        try scene.wait("many periods") { scene.harness.loop.now - turned > .milliseconds(100) }
        #expect(scene.sources.asked == asked)
        scene.ask(scene.target())
        try scene.wait("a reading again") { scene.reading()?.metrics != nil }
    }

    @Test func atMostSoManyQuestionsAtATime() throws {
        var options = Scene.options
        options.concurrencyMax = 3
        let scene = try Scene(options)
        scene.script.isSilent = true
        let targets = (0..<20).map { scene.target("\($0)") }
        scene.sources.update(targets: MetricTargets(servers: targets))
        try scene.wait("three") { scene.script.held.count == 3 }
        let start = scene.harness.loop.now
        try scene.wait("many periods") { scene.harness.loop.now - start > .milliseconds(60) }
        #expect(scene.script.held.count == 3)
        scene.script.isSilent = false
        for writer in scene.script.held { writer.refuse(status: 503, "no") }
        try scene.wait("all") {
            targets.allSatisfy { scene.reading($0.id)?.metrics != nil }
        }
        // Those that go while they wait are not asked.
        scene.script.isSilent = true
        scene.script.held.removeAll()
        try scene.wait("three again") { scene.script.held.count == 3 }
        scene.ask(scene.target("last"))
        scene.script.isSilent = false
        try scene.wait("the last one") { scene.reading("last")?.metrics != nil }
    }

    @Test func aSilentTargetHoldsNobodyUp() throws {
        var options = Scene.options
        options.timeout = .milliseconds(100)
        let scene = try Scene(options)
        let mute = try Scene()
        mute.script.isSilent = true
        let other = mute.server
        // Accepted by the kernel, never answered: that loop is not turned.
        let silent = ServerTarget(id: "mute", host: other.address.host, port: other.address.port)
        scene.ask(silent, scene.target())
        try scene.wait("a timeout") { scene.reading("mute")?.problem != nil }
        #expect(scene.reading("mute")?.problem == "no complete answer in time")
        #expect(scene.reading()?.metrics != nil)
    }

    @Test func hugeAnswersAreRefused() throws {
        var options = Scene.options
        options.answerBytesMax = 1_000
        let scene = try Scene(options)
        scene.script.body = String(repeating: "vllm:num_requests_running 1\n", count: 100)
        scene.ask(scene.target())
        try scene.wait("a problem") { scene.reading()?.problem != nil }
        #expect(scene.reading()?.problem == "the answer has more than 1000 bytes")
    }

    @Test func readsOpenMetricsByItsType() throws {
        let scene = try Scene()
        scene.script.type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        scene.script.body = "vllm:num_requests_running 2\n"
        scene.ask(scene.target())
        try scene.wait("a problem") { scene.reading()?.problem != nil }
        #expect(scene.reading()?.problem == "the metrics end in the middle")
        scene.script.body = "vllm:num_requests_running 2\n# EOF\n"
        try scene.wait("a reading") { scene.reading()?.metrics?.running == 2 }
    }

    // MARK: Others

    @Test func readsGPUs() throws {
        let scene = try Scene()
        scene.script.body = "DCGM_FI_DEV_GPU_UTIL{UUID=\"GPU-a\",pod=\"p\"} 50\n"
        let target = ExporterTarget(id: "node", url: "http://\(scene.server.address)/metrics")
        scene.sources.update(targets: MetricTargets(exporters: [target]))
        var reading: ExporterReading? {
            scene.sources.readings(at: scene.harness.loop.now).exporters["node"]
        }
        #expect(reading?.ageSeconds == .infinity)
        try scene.wait("GPUs") { reading?.gpus.first?.use == 0.5 }
        scene.script.body = "up 1\n"
        try scene.wait("a problem") { reading?.problem == "no metrics of GPUs" }
        #expect(reading?.gpus.count == 1)
        #expect(scene.sources.exporter("node", at: scene.harness.loop.now)?.gpus.count == 1)
    }

    private func answer(_ value: String) -> String {
        "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"\(value)\"]}}"
    }

    @Test func asksPrometheus() throws {
        let scene = try Scene()
        scene.script.body = self.answer("7")
        let target = QueryTarget(server: "http://\(scene.server.address)/prefix/", query: "a > 1")
        scene.sources.update(targets: MetricTargets(queries: [target]))
        var reading: QueryReading? { scene.sources.query(target, at: scene.harness.loop.now) }
        try scene.wait("a value") { reading?.value == 7 }
        #expect(scene.script.requests.first?.path == "/prefix/api/v1/query")
        #expect(scene.script.requests.first?.query == "query=a%20%3E%201")
        #expect(scene.script.requests.first?.authorization == nil)
        // It says that it does not know: the old value is gone.
        scene.script.body = self.answer("NaN")
        try scene.wait("no value") { reading?.value == nil }
        #expect(reading?.problem == "the query gives nan")
        scene.script.body = self.answer("8")
        try scene.wait("a value") { reading?.value == 8 }
        // It cannot be asked: the old value grows old.
        scene.script.status = 503
        scene.script.body = "busy"
        try scene.wait("a problem") { reading?.problem == "answered with status 503" }
        #expect(reading?.value == 8)
    }

    @Test func sendsTheTokenOfTheMoment() throws {
        let scene = try Scene()
        scene.script.body = self.answer("1")
        let file = FileManager.default.temporaryDirectory
            .appending(path: "weir-token-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        let target = QueryTarget(
            server: "http://\(scene.server.address)",
            query: "a",
            credentials: .token(file: file.path)
        )
        scene.sources.update(targets: MetricTargets(queries: [target]))
        try scene.wait("a problem") {
            scene.sources.query(target, at: scene.harness.loop.now)?.problem != nil
        }
        #expect(scene.script.requests.isEmpty)
        let problem = scene.sources.query(target, at: scene.harness.loop.now)?.problem
        #expect(problem?.contains("no token in \(file.path)") == true)
        for token in ["first", "second"] {
            try Data(" \(token)\n".utf8).write(to: file)
            try scene.wait("the token") {
                scene.script.requests.last?.authorization == "Bearer \(token)"
            }
        }
    }

    @Test func sendsNameAndPassword() throws {
        let scene = try Scene()
        scene.script.body = self.answer("1")
        let file = FileManager.default.temporaryDirectory
            .appending(path: "weir-password-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        let target = QueryTarget(
            server: "http://\(scene.server.address)",
            query: "a",
            credentials: .password(user: "Aladdin", file: file.path)
        )
        scene.sources.update(targets: MetricTargets(queries: [target]))
        try scene.wait("a problem") {
            scene.sources.query(target, at: scene.harness.loop.now)?.problem != nil
        }
        #expect(scene.script.requests.isEmpty)
        let problem = scene.sources.query(target, at: scene.harness.loop.now)?.problem
        #expect(problem?.contains("no password in \(file.path)") == true)
        try Data("open sesame\n".utf8).write(to: file)
        try scene.wait("the password") {
            // RFC 7617, section 2.
            scene.script.requests.last?.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        }
    }

    @Test func closingIsFinal() throws {
        let scene = try Scene()
        scene.ask(scene.target())
        try scene.wait("a reading") { scene.reading()?.metrics != nil }
        scene.sources.close()
        scene.ask(scene.target())
        #expect(scene.reading() == nil)
        scene.sources.close()
    }
}
