import Core
import Curl
import EventLoop
import Foundation
import LoopTestSupport
import Testing

/// nginx with HTTP/2, in another process. It serves `/small` and `/big`, and says with which
/// protocol and on which of its connections.
private final class HTTP2Peer {
    static let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }
    static let bigBytes = 8_000_000

    let url: String
    private let scratch: Scratch
    private let process = Process()

    init(_ certificates: Certificates, _ harness: LoopHarness) throws {
        self.scratch = try Scratch()
        try "small".write(toFile: self.scratch.path("small"), atomically: true, encoding: .utf8)
        try Data(repeating: 7, count: Self.bigBytes)
            .write(to: self.scratch.url.appending(path: "big"))
        let port = try Self.freePort()
        self.url = "https://127.0.0.1:\(port)/"
        try """
        daemon off; master_process off; pid \(self.scratch.path("pid"));
        error_log \(self.scratch.path("log"));
        events {}
        http {
          access_log off;
          client_body_temp_path \(self.scratch.path("body"));
          server {
            listen 127.0.0.1:\(port) ssl http2;
            ssl_certificate \(certificates.path("server.pem"));
            ssl_certificate_key \(certificates.path("server.key"));
            root \(self.scratch.url.path);
            add_header x-protocol $server_protocol;
            add_header x-connection $connection;
          }
        }
        """.write(toFile: self.scratch.path("conf"), atomically: true, encoding: .utf8)
        self.process.executableURL = URL(filePath: try #require(Self.program))
        self.process.arguments = ["-e", self.scratch.path("log"), "-c", self.scratch.path("conf")]
        self.process.standardError = FileHandle.nullDevice
        try self.process.run()
        let address = try #require(SocketAddress("127.0.0.1:\(port)"))
        do {
            try harness.run(until: "nginx") { Self.listens(address) }
        } catch {
            Issue.record("nginx says: \(self.log)")
            throw error
        }
    }

    deinit {
        kill(self.process.processIdentifier, SIGKILL)
        self.process.waitUntilExit()
    }

    private var log: String {
        (try? String(contentsOfFile: self.scratch.path("log"), encoding: .utf8)) ?? "nothing"
    }

    /// nginx cannot be given port 0.
    private static func freePort() throws -> UInt16 {
        let any = try #require(SocketAddress("127.0.0.1:0"))
        let descriptor = try Sockets.listen(on: any, reusePort: false)
        defer { Sockets.close(descriptor) }
        return try #require(Sockets.localAddress(of: descriptor)).port
    }

    private static func listens(_ address: SocketAddress) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Sockets.close(descriptor) }
        return address.withSockaddr { connect(descriptor, $0, $1) } == 0
    }

    func request(_ path: String) -> CurlRequest {
        var request = CurlRequest(self.url + path)
        request.tls.acceptsAnyCertificate = true
        return request
    }
}

@Suite(.enabled(if: HTTP2Peer.program != nil, "nginx is not installed"))
struct CurlHTTP2Tests {
    @Test func requestsShareOneConnection() throws {
        let peers = try Peers()
        let peer = try HTTP2Peer(try Certificates.shared.get(), peers.harness)
        var heads: [CurlHead] = []
        for _ in 0..<50 {
            peers.client.fetch(peer.request("small")) { result in
                if case .success(let response) = result { heads.append(response.head) }
            }
        }
        try peers.harness.run(until: "50 answers") { heads.count == 50 }
        #expect(heads.allSatisfy { $0.status == 200 && $0.field("x-protocol") == "HTTP/2.0" })
        #expect(Set(heads.map { $0.field("x-connection") }).count == 1)
        var old = peer.request("small")
        old.allowsHTTP2 = false
        #expect(try peers.fetch(old).get().head.field("x-protocol") == "HTTP/1.1")
    }

    /// A stream rests and ends by itself; the connection and its other streams go on.
    @Test func streamsRestAndAreCancelledOneByOne() throws {
        let peers = try Peers()
        let peer = try HTTP2Peer(try Certificates.shared.get(), peers.harness)
        let resting = Recorder()
        let cancelled = Recorder()
        let transfer = peers.client.stream(peer.request("big"), resting.stream)
        resting.onChunk = { transfer.pause() }
        let other = peers.client.stream(peer.request("big"), cancelled.stream)
        cancelled.onChunk = { other.cancel() }
        try peers.harness.run(until: "both") { resting.chunks == 1 && cancelled.hasEnded }
        let response = try peers.fetch(peer.request("small")).get()
        #expect(response.head.field("x-connection") == resting.head?.field("x-connection"))
        peers.harness.settle(turns: 50)
        #expect(resting.chunks == 1, "a chunk came while paused")
        #expect(cancelled.ends == [.cancelled])
        resting.onChunk = {}
        transfer.resume()
        try peers.harness.run(until: "the rest") { resting.hasEnded }
        #expect(resting.ends == [nil])
        #expect(resting.bytes.count == HTTP2Peer.bigBytes)
    }
}
