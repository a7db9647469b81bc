import Core

/// Certificates or a key in PEM.
package enum CurlMaterial: Sendable, Hashable {
    /// Read by libcurl for every new connection.
    case file(String)
    case data([UInt8])
}

/// How a server proves who it is, and we to it.
package struct CurlTLS: Sendable, Hashable {
    /// Who may sign the server's certificate; nil for the system's authorities. Nobody else's
    /// signature counts where this is set.
    package var authorities: CurlMaterial?
    /// Ours, for servers that ask for one. May hold intermediate ones.
    package var certificate: CurlMaterial?
    /// The key of `certificate`, without a passphrase.
    package var key: CurlMaterial?
    /// The name that is asked for and must be in the certificate, in place of the URL's host.
    package var serverName: String?
    /// Take any certificate: whoever sits in between can read and change everything.
    package var acceptsAnyCertificate = false

    package init() {}
}

/// Whom to send requests through.
package enum CurlProxy: Sendable, Hashable {
    case none
    /// What `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy` say.
    case environment
    /// `http://proxy.example:3128`, and what else libcurl knows (`https://`, `socks5h://`).
    case url(String)
}

/// One request.
package struct CurlRequest: Sendable {
    package var url: String
    package var method = "GET"
    /// Further fields. `Host`, `User-Agent`, `Accept` and what frames the body are written anyway
    /// and can be set here; an empty value sends the field without one.
    package var fields: [(name: String, value: String)] = []
    package var body: [UInt8] = []
    /// For name look-up, connection and TLS handshake together.
    package var connectTimeout = Duration.seconds(5)
    /// From the start to the last byte; nil for no limit.
    package var totalTimeout: Duration? = .seconds(30)
    /// Without any byte from the server; nil for no limit. A paused transfer is not idle.
    package var idleTimeout: Duration?
    /// Bytes of a collected answer, or of a streamed one over its whole life, after decompression.
    package var responseBytesMax = 16 << 20
    package var tls = CurlTLS()
    package var proxy = CurlProxy.none
    /// HTTP/2 where TLS agrees on it; requests to one server then share a connection.
    package var allowsHTTP2 = true
    /// Ask for compressed content and undo it.
    package var acceptsCompression = false

    package init(_ url: String) {
        self.url = url
    }

    /// What makes it impossible to send, in words; nil where nothing does.
    package var problem: String? {
        let url = self.url.utf8
        if url.count > CurlLimits.urlBytesMax {
            return "the URL has \(url.count) bytes, at most \(CurlLimits.urlBytesMax) are allowed"
        }
        let scheme = self.url.prefix(8).lowercased()
        guard scheme.hasPrefix("http://") || scheme.hasPrefix("https://") else {
            return "the URL does not begin with http:// or https://"
        }
        guard url.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            return "the URL has characters that need percent-encoding"
        }
        guard !self.method.isEmpty, self.method.utf8.allSatisfy(Self.isToken) else {
            return "`\(self.method)` is no method"
        }
        for field in self.fields {
            guard !field.name.isEmpty, field.name.utf8.allSatisfy(Self.isToken) else {
                return "`\(field.name)` is no name of a field"
            }
            // The value may be a secret: it is not shown.
            guard field.value.utf8.allSatisfy({ $0 == 9 || $0 >= 0x20 && $0 != 0x7F }) else {
                return "the value of \(field.name) has control characters"
            }
        }
        return self.timeoutProblem ?? self.tlsProblem
    }

    private var timeoutProblem: String? {
        let timeouts = [self.connectTimeout, self.totalTimeout, self.idleTimeout]
        for case .some(let timeout) in timeouts where timeout <= .zero {
            return "a timeout of \(timeout)"
        }
        return self.responseBytesMax < 0 ? "an answer of \(self.responseBytesMax) bytes" : nil
    }

    private var tlsProblem: String? {
        let tls = self.tls
        if (tls.certificate == nil) != (tls.key == nil) {
            return "a client certificate needs its key, and the key its certificate"
        }
        for case .some(let material) in [tls.authorities, tls.certificate, tls.key] {
            switch material {
            case .file(let path) where path.isEmpty || path.utf8.contains(0):
                return "a certificate's path is empty or has a NUL"
            case .data(let bytes) where bytes.isEmpty:
                return "a certificate or key is empty"
            case .data(let bytes) where bytes.count > CurlLimits.materialBytesMax:
                return "a certificate or key has \(bytes.count) bytes, "
                    + "at most \(CurlLimits.materialBytesMax) are allowed"
            case .file, .data: continue
            }
        }
        if let name = tls.serverName,
            name.isEmpty || !name.utf8.allSatisfy({ Self.isToken($0) || $0 == 58 })
        {
            return "`\(name)` is no server name"
        }
        return nil
    }

    /// RFC 9110, section 5.6.2.
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// The beginning of an answer.
package struct CurlHead: Sendable {
    package var status: UInt16
    package var fields: [(name: String, value: String)]

    /// The first field of that name, letter case aside.
    package func field(_ name: String) -> String? {
        let name = name.lowercased()
        return self.fields.first { $0.name.lowercased() == name }?.value
    }

    package var isSuccess: Bool { (200..<300).contains(self.status) }
}

/// A whole answer.
package struct CurlResponse: Sendable {
    package var head: CurlHead
    package var body: [UInt8]

    package var status: UInt16 { self.head.status }
    package var text: String { String(decoding: self.body, as: UTF8.self) }
}
