import Admin
import Clusters
import Configuration
import Control
import Core
import EventLoop
import HTTP
import HTTPService
import Logging
import LoopTestSupport
import Proxy
import Testing

/// What a test that cannot be set up says.
struct FixtureError: Error, CustomStringConvertible {
    let description: String
}

/// A control plane with an admin server on one loop, and model servers that answer anything.
final class AdminFixture {
    let harness: LoopHarness
    let control: ControlPlane
    let admin: AdminServer
    private let upstream: HTTPServer
    var reloads: [ReloadResult] = []

    static let loopback = "127.0.0.1:0"

    /// `models` are documents in which `UPSTREAM` stands for the model server's address.
    init(
        models: String,
        admin address: String = AdminFixture.loopback,
        tokenFile: String? = nil
    ) throws {
        let harness = try LoopHarness()
        self.harness = harness
        self.upstream = try HTTPServer(loop: harness.loop, address: Self.socket(Self.loopback)) {
            _,
            response in
            response.respond(contentType: "application/json", text: Self.completion)
        }
        let text = models.replacing("UPSTREAM", with: "\(self.upstream.address)")
        let result = ConfigurationLoader.load(files: [(name: "test.yaml", text: text)])
        guard let configuration = result.configuration else {
            self.upstream.close()
            throw FixtureError(description: "\(result.problems)")
        }
        self.control = ControlPlane(
            loop: harness.loop,
            configuration: configuration,
            processes: nil,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        var results: () -> ReloadResult = { .unchanged }
        self.admin = AdminServer(control: self.control) { results() }
        results = { [unowned self] in self.reloads.isEmpty ? .unchanged : self.reloads.removeFirst()
        }
        do {
            try self.admin.start(on: Self.socket(address), tokenFile: tokenFile)
        } catch {
            self.upstream.close()
            throw error
        }
    }

    deinit {
        self.control.gateway?.stop()
        self.control.endpoints.shutdown(within: .zero) {}
        self.admin.stop()
        self.upstream.close()
        self.harness.settle()
    }

    static func socket(_ text: String) throws -> SocketAddress {
        guard let address = SocketAddress(text) else {
            throw FixtureError(description: "\(text) is no address")
        }
        return address
    }

    /// What the model server answers.
    private static let completion = """
        {"object": "chat.completion", "choices": [{"message": {"content": "four"}}], \
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
        """

    /// Opens the gateway's listener and waits until its endpoints are ready.
    func serve(replicas: Int) throws {
        var options = Gateway.Options()
        options.listeners = [("http", try Self.socket(Self.loopback))]
        try self.control.startGateway(options)
        self.control.startReplicas()
        try self.harness.run(until: "\(replicas) ready replicas in force") {
            let ready = self.control.groups.reduce(0) { $0 + $1.count(.ready) }
            let routed = (self.control.snapshot?.models ?? []).reduce(0) {
                $0 + ($1?.variants.reduce(0) { $0 + $1.endpoints.count } ?? 0)
            }
            return ready == replicas && routed == replicas
                && self.control.gateway?.acknowledgedGeneration == self.control.generation
        }
    }

    // MARK: Asking

    func fetch(
        _ method: HTTPMethod,
        _ target: String,
        body: String? = nil,
        fields: [(String, String)] = [],
        at address: SocketAddress? = nil
    ) throws -> FetchResponse {
        let port = self.admin.address.port
        let reachable = SocketAddress(host: "127.0.0.1", port: port) ?? self.admin.address
        var request = FetchRequest(address: address ?? reachable, target: target)
        request.method = method
        request.fields = fields.map { (name: $0.0, value: $0.1) }
        if let body {
            request.body = Array(body.utf8)
            if !fields.contains(where: { $0.0 == "Content-Type" }) {
                request.fields.append(("Content-Type", "application/json"))
            }
        }
        var result: Result<FetchResponse, FetchError>?
        HTTPFetch.start(request, on: self.harness.loop) { result = $0 }
        try self.harness.run(until: "the answer to \(target)") { result != nil }
        guard let result else { throw FixtureError(description: "no answer") }
        return try result.get()
    }

    func get(_ target: String) throws -> FetchResponse { try self.fetch(.get, target) }

    /// Sends bytes as they are and returns all of the answer; the request must ask for the end.
    func raw(_ text: String) throws -> String {
        let client = try RawClient(self.harness, to: self.admin.address)
        try client.send(text)
        try client.waitForEnd()
        return client.text
    }

    /// One request through the gateway.
    func complete(model: String) throws -> FetchResponse {
        let address = self.control.gateway?.addresses.first?.address
        return try self.fetch(
            .post,
            "/v1/chat/completions",
            body: #"{"model": "\#(model)", "messages": []}"#,
            at: address
        )
    }
}

/// Documents for tests.
enum Documents {
    static let river = """
        apiVersion: weir.dev/v1alpha1
        kind: Model
        metadata: {name: river}
        spec:
          protocol: OpenAI
          aliases: [stream]
          variants:
          - {name: v1, endpoints: ["http://UPSTREAM"]}
          - {name: v2, endpoints: ["http://UPSTREAM"]}
          weights: {v1: 3, v2: 1}
        """
}
