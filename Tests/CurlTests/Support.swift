import Core
import Curl
import EventLoop
import Foundation
import HTTPService
import LoopTestSupport
import Testing

/// A client and a server on one loop, both closed at the end.
final class Peers {
    let harness: LoopHarness
    let server: HTTPServer
    let client: CurlClient

    init(
        _ options: HTTPServerOptions = HTTPServerOptions(),
        hostConnectionsMax: Int = 0,
        handler: @escaping HTTPServer.Handler = { _, response in response.notFound() }
    ) throws {
        let harness = try LoopHarness()
        let address = try #require(SocketAddress("127.0.0.1:0"))
        self.server = try HTTPServer(
            loop: harness.loop,
            address: address,
            options: options,
            handler: handler
        )
        self.client = CurlClient(loop: harness.loop, hostConnectionsMax: hostConnectionsMax)
        self.harness = harness
    }

    deinit {
        self.client.close()
        self.server.close()
        self.harness.settle()
    }

    func request(_ target: String = "/") -> CurlRequest {
        CurlRequest("http://\(self.server.address)\(target)")
    }

    /// The one result; the completion must not run again.
    func fetch(_ request: CurlRequest) throws -> Result<CurlResponse, CurlError> {
        var results: [Result<CurlResponse, CurlError>] = []
        self.client.fetch(request) { results.append($0) }
        #expect(results.isEmpty, "completed within the call")
        try self.harness.run(until: "an answer from \(request.url)") { !results.isEmpty }
        self.harness.settle()
        #expect(results.count == 1)
        return results[0]
    }

    func failure(_ request: CurlRequest) throws -> CurlError? {
        switch try self.fetch(request) {
        case .success(let response):
            Issue.record("status \(response.status): \(response.text.prefix(200))")
            return nil
        case .failure(let error): return error
        }
    }
}

/// Sees what becomes of a streamed answer.
final class Recorder {
    var head: CurlHead?
    var heads = 0
    var bytes: [UInt8] = []
    var chunks = 0
    var ends: [CurlError?] = []
    /// Called with each chunk, after it was recorded.
    var onChunk: () -> Void = {}

    var text: String { String(decoding: self.bytes, as: UTF8.self) }
    var hasEnded: Bool { !self.ends.isEmpty }

    var stream: CurlStream {
        CurlStream(
            onHead: {
                self.head = $0
                self.heads += 1
                #expect(self.chunks == 0 && !self.hasEnded)
            },
            onData: { bytes in
                #expect(self.heads == 1 && !self.hasEnded)
                bytes.withUnsafeBytes { self.bytes += $0 }
                self.chunks += 1
                self.onChunk()
            },
            onEnd: { self.ends.append($0) }
        )
    }
}

/// A folder that goes when the test ends.
final class Scratch: Sendable {
    let url: URL

    init() throws {
        self.url = FileManager.default.temporaryDirectory
            .appending(path: "weir-curl-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true)
    }

    deinit { self.remove() }

    func remove() { try? FileManager.default.removeItem(at: self.url) }

    func path(_ name: String) -> String { self.url.appending(path: name).path }

    func bytes(_ name: String) throws -> [UInt8] {
        try Array(Data(contentsOf: self.url.appending(path: name)))
    }
}

extension Result {
    var error: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
