import Core
import Curl
import EventLoop
import Foundation
import Testing

/// Certificates made by the `openssl` program: an authority, a server's, a client's, and an
/// authority nobody trusts.
final class Certificates: Sendable {
    let scratch: Scratch
    /// Made once, and removed with the process: keys take a while.
    static let shared: Result<Certificates, any Error> = Result {
        atexit { if case .success(let made) = Certificates.shared { made.scratch.remove() } }
        return try Certificates()
    }

    private init() throws {
        self.scratch = try Scratch()
        try self.authority("ca")
        try self.authority("stranger")
        try self.issue("server", by: "ca", "subjectAltName=DNS:server.test,IP:127.0.0.1")
        try self.issue("other", by: "ca", "subjectAltName=DNS:other.test")
        try self.issue("expired", by: "ca", "subjectAltName=IP:127.0.0.1", days: "-1")
        try self.issue("client", by: "ca", "extendedKeyUsage=clientAuth")
        try self.issue("strange-client", by: "stranger", "extendedKeyUsage=clientAuth")
    }

    func path(_ name: String) -> String { self.scratch.path(name) }

    private func authority(_ name: String) throws {
        try self.run(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            self.path("\(name).key"),
            "-out",
            self.path("\(name).pem"),
            "-subj",
            "/CN=\(name)",
            "-days",
            "2"
        )
    }

    private func issue(
        _ name: String,
        by authority: String,
        _ extensions: String,
        days: String = "2"
    ) throws {
        let extensionsPath = self.path("\(name).ext")
        try extensions.write(toFile: extensionsPath, atomically: true, encoding: .utf8)
        try self.run(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            self.path("\(name).key"),
            "-out",
            self.path("\(name).csr"),
            "-subj",
            "/CN=\(name)"
        )
        try self.run(
            "x509",
            "-req",
            "-in",
            self.path("\(name).csr"),
            "-CA",
            self.path("\(authority).pem"),
            "-CAkey",
            self.path("\(authority).key"),
            "-CAcreateserial",
            "-out",
            self.path("\(name).pem"),
            "-days",
            days,
            "-extfile",
            extensionsPath
        )
    }

    private func run(_ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        let output = Pipe()
        process.standardError = output
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let said = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(String(decoding: said, as: UTF8.self))")
    }
}

/// An HTTPS server in another process, by Python's `ssl`: one thread per connection, HTTP/1.1.
///
/// It answers with the client's name, the path and the server name that was asked for; `/hang`
/// gets a head and nothing more.
final class TLSPeer {
    let port: UInt16
    private let process = Process()
    /// Its end tells the peer that the tests are gone, however they went.
    private let input = Pipe()

    private static let program = #"""
        import os, socket, ssl, sys, threading
        certificate, key, client_authority, maximum = sys.argv[1:]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["http/1.1"])
        if client_authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_authority)
        if maximum:
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.maximum_version = getattr(ssl.TLSVersion, maximum)
        asked = {}
        context.sni_callback = lambda connection, name, _: asked.update({connection: name})
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)

        def serve(plain):
            try:
                connection = context.wrap_socket(plain, server_side=True)
                subject = dict(pair[0] for pair in (connection.getpeercert() or {}).get("subject", ()))
                reader = connection.makefile("rb")
                while line := reader.readline():
                    path = line.split()[1].decode()
                    host = ""
                    while (field := reader.readline()) not in (b"\r\n", b""):
                        if field.lower().startswith(b"host:"):
                            host = field[5:].strip().decode()
                    text = "|".join(
                        [subject.get("commonName", "-"), path, asked.get(connection) or "-", host])
                    if path == "/hang":
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                    else:
                        connection.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                            % (len(text), text.encode()))
            except (OSError, ssl.SSLError):
                plain.close()

        def leave():
            sys.stdin.read()
            os._exit(0)

        threading.Thread(target=leave, daemon=True).start()
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        """#

    init(
        _ certificates: Certificates,
        certificate: String = "server",
        clientAuthority: String? = nil,
        maximumVersion: String = ""
    ) throws {
        self.process.executableURL = URL(filePath: "/usr/bin/env")
        self.process.arguments = [
            "python3", "-W", "ignore", "-c", Self.program, certificates.path("\(certificate).pem"),
            certificates.path("\(certificate).key"),
            clientAuthority.map { certificates.path("\($0).pem") } ?? "", maximumVersion,
        ]
        let output = Pipe()
        self.process.standardOutput = output
        self.process.standardInput = self.input
        try self.process.run()
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n") {
            let byte = output.fileHandleForReading.readData(ofLength: 1)
            try #require(!byte.isEmpty, "the TLS peer did not start")
            line += byte
        }
        self.port = try #require(UInt16(String(decoding: line.dropLast(), as: UTF8.self)))
    }

    deinit {
        // Not SIGTERM: the threads of tests block it, and so do their children.
        kill(self.process.processIdentifier, SIGKILL)
        self.process.waitUntilExit()
    }

    func request(_ target: String = "/") -> CurlRequest {
        CurlRequest("https://127.0.0.1:\(self.port)\(target)")
    }
}
