import Core
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Testing

@testable import ModelSimulator

/// A simulator on a loop that the test drives.
final class SimulatorHarness {
    let harness: LoopHarness
    let server: ModelSimulatorServer
    private let recorded = Crashes()

    init(_ change: (inout ModelSimulatorOptions) -> Void = { _ in }) throws {
        self.harness = try LoopHarness()
        let address = try #require(SocketAddress("127.0.0.1:0"))
        var options = ModelSimulatorOptions(address: address)
        options.models = ["llama", "digits"]
        options.replica = "r1"
        // A microsecond per step: tests of answers need not wait for a model.
        options.batching.stepBase = .microseconds(1)
        options.batching.stepPerSequence = .zero
        options.batching.prefillTokensPerSecond = 1e9
        change(&options)
        let recorded = self.recorded
        self.server = try ModelSimulatorServer(loop: self.harness.loop, options: options) {
            recorded.list.append($0)
        }
    }

    deinit { self.server.close() }

    private final class Crashes {
        var list: [FaultPlan.Crash] = []
    }

    /// Crashes that were asked for; nothing crashed.
    var crashes: [FaultPlan.Crash] { self.recorded.list }

    func client() throws -> RawClient {
        try RawClient(self.harness, to: self.server.address)
    }

    /// One request; the whole answer, or why there is none.
    func fetch(
        _ target: String,
        method: HTTPMethod = .get,
        body: [UInt8] = [],
        fields: [(name: String, value: String)] = []
    ) throws -> Result<FetchResponse, FetchError> {
        var request = FetchRequest(address: self.server.address, target: target)
        request.method = method
        request.body = body
        request.fields = fields
        request.timeout = .seconds(60)
        var result: Result<FetchResponse, FetchError>?
        HTTPFetch.start(request, on: self.harness.loop) { result = $0 }
        try self.harness.run(until: "the answer of \(target)") { result != nil }
        return try #require(result)
    }

    func get(_ target: String) throws -> FetchResponse {
        try self.fetch(target).get()
    }

    func post(_ target: String, _ body: String) throws -> FetchResponse {
        try self.fetch(target, method: .post, body: Array(body.utf8)).get()
    }

    func setFaults(_ plan: String) throws {
        let answer = try self.post("/simulator/faults", plan)
        #expect(answer.status == 200, "\(answer.text)")
    }

    /// A sample of `/metrics` by its name, labels left out.
    func metric(_ name: String, label: String = "") throws -> Double {
        let text = try self.get("/metrics").text
        for line in text.split(separator: "\n") where line.hasPrefix("\(name){") {
            if line.contains(label),
                let value = line.split(separator: " ").last.flatMap({ Double($0) })
            {
                return value
            }
        }
        throw MissingMetric(name: name)
    }

    struct MissingMetric: Error {
        let name: String
    }
}

enum Bodies {
    static func chat(
        model: String = "llama",
        prompt: String = "hello",
        more: String = ""
    ) -> String {
        "{\"model\":\"\(model)\",\"messages\":[{\"role\":\"user\",\"content\":\"\(prompt)\"}]\(more)}"
    }

    static func post(_ target: String, _ body: String) -> String {
        "POST \(target) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    static let infer = """
        {"id":"7","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2.5,3,4]}]}
        """
}
