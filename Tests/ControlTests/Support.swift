import Clusters
import Configuration
import Control
import Core
import EventLoop
import Foundation
import HTTPService
import Logging
import LoopTestSupport
import Proxy
import Testing

/// A folder of its own, removed with the object.
final class TemporaryFolder {
    let path: String

    init() throws {
        self.path = NSTemporaryDirectory() + "/weir-control-" + UUID().uuidString
        try FileManager.default.createDirectory(
            atPath: self.path,
            withIntermediateDirectories: true
        )
    }

    deinit { try? FileManager.default.removeItem(atPath: self.path) }

    func file(_ name: String) -> String { self.path + "/" + name }

    func makeFolder(_ name: String) throws {
        try FileManager.default.createDirectory(
            atPath: self.file(name),
            withIntermediateDirectories: true
        )
    }

    /// Writes a file in place.
    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: self.file(name), atomically: false, encoding: .utf8)
    }
}

enum Documents {
    static func load(_ text: String) throws -> Configuration {
        let result = ConfigurationLoader.load(files: [(name: "test.yaml", text: text)])
        return try #require(result.configuration, "\(Problem.render(result.problems))")
    }

    static let header = "apiVersion: weir.dev/v1alpha1\n"

    /// A model; `spec` holds lines of YAML that are indented by two spaces.
    static func model(_ name: String, protocol kind: String = "OpenAI", _ spec: String) -> String {
        self.header + "kind: Model\nmetadata: {name: \(name)}\nspec:\n  protocol: \(kind)\n"
            + spec.split(separator: "\n").map { "  \($0)\n" }.joined() + "---\n"
    }

    /// A model with one variant at these addresses.
    static func fixed(
        _ name: String,
        at addresses: [String],
        protocol kind: String = "OpenAI",
        _ spec: String = ""
    ) -> String {
        let urls = addresses.map { "\"http://\($0)\"" }.joined(separator: ", ")
        return self.model(
            name,
            protocol: kind,
            "variants: [{name: main, endpoints: [\(urls)]}]\n" + spec
        )
    }
}

/// A control plane on the test's loop; the gateway's workers have threads of their own.
final class ControlRig {
    let harness: LoopHarness
    let control: ControlPlane
    private var isStopped = false

    init(
        _ harness: LoopHarness,
        _ configuration: Configuration,
        processes: ProcessCluster? = nil
    ) throws {
        self.harness = harness
        self.control = ControlPlane(
            loop: harness.loop,
            configuration: configuration,
            processes: processes,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        var options = Gateway.Options()
        options.listeners = [("http", try #require(SocketAddress("127.0.0.1:0")))]
        options.workers = 2
        try self.control.startGateway(options)
        self.control.startReplicas()
    }

    deinit {
        // A test that failed half-way.
        if !self.isStopped { self.control.gateway?.stop() }
    }

    var address: SocketAddress? { self.control.gateway?.addresses.first?.address }

    var endpoints: [String] {
        let models = (self.control.snapshot?.models ?? []).compactMap { $0 }
        return models.flatMap(\.variants).flatMap(\.endpoints).map { "\($0.address)" }
    }

    /// Until every worker knows these endpoints and no others.
    func awaitEndpoints(_ addresses: [String]) throws {
        try self.harness.run(until: "\(addresses) to be in force") {
            self.endpoints.sorted() == addresses.sorted()
                && self.control.gateway?.acknowledgedGeneration == self.control.generation
        }
    }

    func client() throws -> RawClient {
        try RawClient(self.harness, to: try #require(self.address))
    }

    /// Sends a request, and returns the status line when it has come.
    func get(_ path: String) throws -> String {
        let client = try self.client()
        try client.send("GET \(path) HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        try client.waitForEnd()
        return String(client.text.prefix { $0 != "\r\n" })
    }

    /// Ends everything; what is under way is cut off after the deadline.
    func stop(within deadline: Duration = .zero) throws {
        var isDone = false
        self.control.shutDown(within: deadline) { isDone = true }
        try self.harness.run(until: "the end") { isDone }
        try self.stopped()
    }

    /// Forgets what is left once the control plane was shut down.
    func stopped() throws {
        self.isStopped = true
        self.control.endpoints.shutdown(within: .zero) {}
        self.harness.settle()
    }
}

/// A model server on the test's loop that answers when told to.
final class HeldServer {
    private(set) var server: HTTPServer?
    /// Requests that wait for an answer.
    private(set) var held: [ResponseWriter] = []
    private(set) var requests = 0
    var holds = true

    init(_ harness: LoopHarness) throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        self.server = try HTTPServer(loop: harness.loop, address: address) {
            [unowned self] request, response in
            if request.hasPath("/health") {
                return response.respond(contentType: "text/plain", text: "well")
            }
            self.requests += 1
            if self.holds { self.held.append(response) } else { Self.answer(response) }
        }
    }

    var address: String { self.server.map { "\($0.address)" } ?? "closed" }

    func answerAll() {
        for response in self.held { Self.answer(response) }
        self.held = []
    }

    func close() {
        self.held = []
        self.server?.close()
        self.server = nil
    }

    private static func answer(_ response: ResponseWriter) {
        response.respond(contentType: "text/plain", text: "water")
    }
}
