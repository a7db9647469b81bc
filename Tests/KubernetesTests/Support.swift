import Core
import Curl
import EventLoop
import Foundation
import HTTP
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

/// A request as the scripted server saw it.
struct SeenRequest {
    var method: String
    var path: String
    var query: [String: String]
    var fields: [String: String]
    var body: [UInt8]

    var json: JSONValue { (try? JSONValue(self.body)) ?? .null }
    var isWatch: Bool { self.query["watch"] == "1" }

    init(_ request: borrowing HTTPRequest) {
        self.method = "\(request.method.name)"
        self.path = request.path
        self.query = [:]
        for pair in (request.query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count > 1 ? String(parts[1]) : ""
            self.query[String(parts[0])] = value.removingPercentEncoding ?? value
        }
        self.fields = [:]
        let names: [StaticString] = [
            "authorization", "user-agent", "content-type", "accept", "impersonate-user",
            "impersonate-group", "impersonate-uid",
        ]
        for name in names {
            if let value = request.field(named: name) { self.fields["\(name)"] = value }
        }
        self.body = request.body
    }
}

/// An API server that answers as a test says, with a client, on one loop.
final class Scene {
    typealias Answer = (SeenRequest, ResponseWriter) -> Void

    let harness: LoopHarness
    let server: HTTPServer
    let client: KubernetesClient
    private let state: State

    /// What the server's handler shares with the test.
    final class State {
        var requests: [SeenRequest] = []
        var answer: Answer

        init(_ answer: @escaping Answer) {
            self.answer = answer
        }
    }

    var requests: [SeenRequest] { self.state.requests }
    var answer: Answer {
        get { self.state.answer }
        set { self.state.answer = newValue }
    }

    init(
        surroundings: AccessSurroundings? = nil,
        change: (inout ClusterAccess, inout ClientOptions) -> Void = { _, _ in },
        answer: @escaping Answer
    ) throws {
        let harness = try LoopHarness()
        let state = State(answer)
        let address = try #require(SocketAddress("127.0.0.1:0"))
        self.server = try HTTPServer(loop: harness.loop, address: address) { request, response in
            let seen = SeenRequest(request)
            state.requests.append(seen)
            state.answer(seen, response)
        }
        var access = ClusterAccess(name: "test", server: "http://\(self.server.address)")
        access.proxy = .none
        var options = ClientOptions()
        options.backoff = Self.quick
        options.seed = 1
        change(&access, &options)
        self.client = KubernetesClient(
            loop: harness.loop,
            access: access,
            surroundings: surroundings
                ?? AccessSurroundings(environment: [:], read: LocalFile.read),
            options: options
        )
        self.harness = harness
        self.state = state
    }

    deinit {
        self.client.close()
        self.server.close()
        self.harness.settle()
    }

    /// Waits that a test need not wait for.
    static var quick: BackoffPolicy {
        var policy = BackoffPolicy()
        policy.first = .milliseconds(1)
        policy.longest = .milliseconds(1)
        return policy
    }

    /// The one result of a call; its completion must not run within the call, nor again.
    func result<Value>(
        _ what: String = "an answer",
        _ body: (@escaping KubernetesClient.Completion<Value>) -> Void
    ) throws -> Result<Value, APIError> {
        var results: [Result<Value, APIError>] = []
        body { results.append($0) }
        #expect(results.isEmpty, "completed within the call")
        try self.harness.run(until: what) { !results.isEmpty }
        self.harness.settle()
        #expect(results.count == 1)
        return results[0]
    }

    func run(until what: String, _ condition: () throws -> Bool) throws {
        try self.harness.run(until: what, condition)
    }
}

extension ResponseWriter {
    func respond(_ value: JSONValue, status: UInt16 = 200, retryAfter: String? = nil) {
        let bytes = value.bytes
        self.respond(
            status: status,
            contentType: "application/json",
            fields: { buffer in
                if let retryAfter { ResponseFields.add("Retry-After", retryAfter, to: buffer) }
            },
            body: bytes.span.bytes
        )
    }

    func refuse(_ code: Int, reason: String = "", message: String = "", retryAfter: String? = nil) {
        self.respond(
            [
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": .string(reason), "message": .string(message), "code": .integer(code),
            ],
            status: UInt16(code),
            retryAfter: retryAfter
        )
    }

    /// Begins a watch's answer.
    func beginWatch() {
        self.writeHead(contentType: "application/json")
        self.flushHead()
    }

    func event(_ type: String, _ object: JSONValue) {
        self.write((["type": .string(type), "object": object] as JSONValue).text + "\n")
    }

    func bookmark(_ version: Int, ends: Bool = false) {
        var metadata: JSONValue = ["resourceVersion": .string("\(version)")]
        if ends { metadata["annotations"] = ["k8s.io/initial-events-end": "true"] }
        self.event("BOOKMARK", ["kind": "Pod", "apiVersion": "v1", "metadata": metadata])
    }
}

/// A small object, enough to be told apart.
func item(_ name: String, _ version: Int, value: Int = 0) -> JSONValue {
    [
        "metadata": [
            "name": .string(name), "namespace": "a", "resourceVersion": .string("\(version)"),
            "uid": .string("u-\(name)"),
        ],
        "spec": ["value": .integer(value)],
    ]
}

func page(_ items: [JSONValue], _ version: Int, continueToken: String = "") -> JSONValue {
    [
        "kind": "PodList", "apiVersion": "v1",
        "metadata": [
            "resourceVersion": .string("\(version)"), "continue": .string(continueToken),
        ],
        "items": .array(items),
    ]
}

/// A folder that goes when the test ends.
final class Folder {
    let url: URL

    init() throws {
        self.url = FileManager.default.temporaryDirectory
            .appending(path: "weir-kubernetes-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: self.url) }

    func path(_ name: String) -> String { self.url.appending(path: name).path }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: self.path(name), atomically: true, encoding: .utf8)
        return self.path(name)
    }

    /// A program, as a shell script. A process of its own writes it: a file that this one has open
    /// for writing may be inherited by what another test starts at that moment, and cannot be run
    /// then (ETXTBSY).
    func program(_ name: String, _ script: String) throws -> String {
        let source = try self.write(name + ".sh", "#!/bin/sh\n\(script)\n")
        let path = self.path(name)
        let install = try Process.run(
            URL(fileURLWithPath: "/usr/bin/install"),
            arguments: ["-m", "755", source, path]
        )
        install.waitUntilExit()
        try #require(install.terminationStatus == 0)
        return path
    }
}

extension Result {
    var error: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
