import Core
import EventLoop
import HTTPService
import LoopTestSupport
import Orchestration
import Testing

@testable import Control

@Suite struct GatewayPollsTests {
    /// A gateway's admin port that answers as a test says, and keeps what was asked.
    private final class FakeGateway {
        let server: HTTPServer
        private(set) var asked: [String] = []
        /// Answers that are held back, by what they were asked for.
        var held: [(target: String, response: ResponseWriter)] = []
        var drained: [String] = []
        var load = LoadDocument(gateway: 7, at: .zero, models: [])
        var isBroken = false

        init(_ harness: LoopHarness) throws {
            var handler: (String, ResponseWriter) -> Void = { _, _ in }
            let address = try #require(SocketAddress("127.0.0.1:0"))
            self.server = try HTTPServer(loop: harness.loop, address: address) {
                request,
                response in
                let query = request.query.map { "?\($0)" } ?? ""
                handler(request.path + query, response)
            }
            handler = { [unowned self] in self.answer($0, $1) }
        }

        deinit { self.server.close() }

        func endpoint(_ name: String) -> PodEndpoint {
            PodEndpoint(
                identity: name,
                name: name,
                address: "127.0.0.1",
                port: self.server.address.port,
                condition: .ready
            )
        }

        private func answer(_ target: String, _ response: ResponseWriter) {
            self.asked.append(target)
            if self.isBroken { return response.refuse(status: 500, "broken") }
            switch target {
            case "/api/v1/load": response.respond { self.load.write(to: &$0) }
            case "/api/v1/drain":
                let answer = DrainAnswer(generation: 1, drained: self.drained)
                response.respond { answer.write(to: &$0) }
            default: self.held.append((target, response))
            }
        }

        func tell(_ answer: WakeAnswer) {
            let response = self.held.removeFirst().response
            response.respond { answer.write(to: &$0) }
        }
    }

    private let harness: LoopHarness
    private let polls: GatewayPolls
    private let gateway: FakeGateway

    init() throws {
        self.harness = try LoopHarness()
        self.polls = GatewayPolls(loop: self.harness.loop, options: .init())
        self.gateway = try FakeGateway(self.harness)
    }

    private func end() {
        self.polls.close()
        self.harness.settle()
    }

    private func poll() throws {
        var isDone = false
        self.polls.poll { isDone = true }
        try self.harness.run(until: "the answers") { isDone }
    }

    @Test func asksEveryGateway() throws {
        defer { self.end() }
        let other = try FakeGateway(self.harness)
        self.gateway.load.pods = ["u1": 2]
        other.load.pods = ["u1": 3, "u2": 1]
        var sources: Set<Int> = []
        self.polls.onLoad = { sources.insert($1) }
        self.polls.update([self.gateway.endpoint("a"), other.endpoint("b")])
        try self.poll()
        #expect(sources == [0, 1])
        #expect(self.polls.streams("u1") == 5 && self.polls.streams("u2") == 1)
        #expect(self.polls.roll.isHeard(at: self.harness.loop.now))
        // What a gateway had in flight goes with it.
        var gone: [Int] = []
        self.polls.onGone = { gone.append($0) }
        self.polls.update([other.endpoint("b")])
        #expect(gone == [0] && self.polls.streams("u1") == 3)
    }

    @Test func tellsOfAGatewayThatAnswersBadly() throws {
        defer { self.end() }
        var problems: [String] = []
        self.polls.onProblem = { problems.append("\($0): \($1)") }
        self.gateway.isBroken = true
        self.polls.update([self.gateway.endpoint("a")])
        try self.poll()
        #expect(problems.contains("a: it answers 500"))
        #expect(self.polls.roll.missing(at: self.harness.loop.now) == 1)
    }

    /// Between a wake and its being heard lies no other question.
    @Test func hearsOfWakesWithoutAsking() throws {
        defer { self.end() }
        var wakes: [WakeLog.Wake] = []
        self.polls.onWake = { wakes.append($0) }
        self.polls.update([self.gateway.endpoint("a")])
        try self.poll()
        try self.harness.run(until: "the question") { self.gateway.held.count == 1 }
        #expect(self.gateway.held[0].target == "/api/v1/wakes?after=0&seconds=20")
        let asked = self.gateway.asked.count
        let chat = WakeLog.Wake(model: "chat", variant: nil)
        self.gateway.tell(WakeAnswer(last: 4, wakes: [chat]))
        try self.harness.run(until: "the wake") { !wakes.isEmpty }
        #expect(wakes == [chat])
        // And the next one is waited for at once.
        try self.harness.run(until: "the next question") { self.gateway.held.count == 1 }
        #expect(self.gateway.asked.dropFirst(asked) == ["/api/v1/wakes?after=4&seconds=20"])
        self.polls.rest()
        self.harness.settle()
        #expect(wakes.count == 1)
    }

    @Test func aPodIsDrainedOnceEveryGatewayLetGo() throws {
        defer { self.end() }
        let slow = try FakeGateway(self.harness)
        self.polls.update([self.gateway.endpoint("a"), slow.endpoint("b")])
        self.gateway.drained = ["u1"]
        #expect(!self.polls.isDrained("u1"))
        self.polls.drain(["u1"])
        try self.harness.run(until: "the drain to be told") {
            self.gateway.asked.contains("/api/v1/drain") && slow.asked.contains("/api/v1/drain")
        }
        self.harness.settle()
        #expect(!self.polls.isDrained("u1"))
        slow.drained = ["u1"]
        var isDrained = false
        self.polls.onDrained = { isDrained = true }
        try self.poll()
        try self.harness.run(until: "the drain") { isDrained }
        #expect(self.polls.isDrained("u1") && !self.polls.isDrained("u2"))
        // Taken back, and asked for again: nothing of before counts.
        self.polls.drain([])
        #expect(!self.polls.isDrained("u1"))
    }

    @Test func aGapIsOneThatEveryGatewaySees() throws {
        defer { self.end() }
        self.gateway.load.unserved = ["g": .serviceMissing]
        self.polls.update([self.gateway.endpoint("a")])
        try self.poll()
        // It may be over in a moment; EndpointGapsTests say when it is believed.
        #expect(self.polls.gap(ofGroup: "g") == nil)
    }
}
