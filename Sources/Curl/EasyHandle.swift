import CCurl
import Core
import Glibc

/// One of libcurl's easy handles: what a transfer is set up with, and what it tells of itself.
///
/// Kept by its client for the next transfer. The lists of fields and addresses are libcurl's to
/// read until the transfer has ended, and freed by `reset`.
final class EasyHandle {
    let raw: UnsafeMutableRawPointer
    private let errorText: UnsafeMutablePointer<CChar>
    private var lists: [UnsafeMutablePointer<curl_slist>] = []
    /// The first option that libcurl refused.
    private var refused: CURLcode?

    /// Nil where there is no memory.
    init?() {
        guard let raw = curl_easy_init() else { return nil }
        self.raw = raw
        self.errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        self.errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    /// Must not belong to a multi handle any more.
    deinit {
        self.freeLists()
        curl_easy_cleanup(self.raw)
        self.errorText.deallocate()
    }

    /// Forgets every option; connections and what was looked up live on in the multi handle.
    func reset() {
        curl_easy_reset(self.raw)
        self.freeLists()
        self.errorText[0] = 0
        self.refused = nil
    }

    private func freeLists() {
        for list in self.lists { curl_slist_free_all(list) }
        self.lists.removeAll()
    }

    // MARK: Setting up

    /// Sets everything but the callbacks, which are the transfer's.
    func prepare(_ request: CurlRequest) throws(CurlError) {
        self.set(CURLOPT_NOSIGNAL, 1)
        self.set(CURLOPT_QUICK_EXIT, 1)
        self.set(CURLOPT_ERRORBUFFER, pointer: self.errorText)
        self.set(CURLOPT_PROTOCOLS_STR, "http,https")
        self.set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1)
        self.set(CURLOPT_FOLLOWLOCATION, 0)
        self.set(CURLOPT_PATH_AS_IS, 1)
        self.set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        self.set(CURLOPT_TCP_KEEPALIVE, 1)
        self.set(CURLOPT_TCP_KEEPIDLE, 30)
        self.set(CURLOPT_TCP_KEEPINTVL, 15)
        self.set(CURLOPT_CONNECTTIMEOUT_MS, request.connectTimeout.milliseconds)
        self.set(CURLOPT_TIMEOUT_MS, request.totalTimeout?.milliseconds ?? 0)
        self.set(
            CURLOPT_HTTP_VERSION,
            request.allowsHTTP2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1
        )
        // Wait for a connection that is being made and may be shared; known with the end of the TLS
        // handshake. Without TLS libcurl would wait for the end of another's answer.
        let mayShare = request.allowsHTTP2 && request.url.prefix(6).lowercased() == "https:"
        self.set(CURLOPT_PIPEWAIT, mayShare ? 1 : 0)
        if request.acceptsCompression { self.set(CURLOPT_ACCEPT_ENCODING, "gzip") }
        self.set(request.proxy)
        self.set(request.tls)
        let host = try self.setURL(request)
        self.setMethod(request)
        self.setFields(request, host: host)
        if let refused = self.refused {
            throw .invalidRequest(String(cString: curl_easy_strerror(refused)))
        }
    }

    private func set(_ proxy: CurlProxy) {
        switch proxy {
        // An empty string also keeps libcurl from looking into the environment.
        case .none: self.set(CURLOPT_PROXY, "")
        case .environment: break
        case .url(let url):
            self.set(CURLOPT_PROXY, url)
            self.set(CURLOPT_NOPROXY, "")
        }
    }

    private func set(_ tls: CurlTLS) {
        self.set(CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2)
        self.set(CURLOPT_SSL_VERIFYPEER, tls.acceptsAnyCertificate ? 0 : 1)
        self.set(CURLOPT_SSL_VERIFYHOST, tls.acceptsAnyCertificate ? 0 : 2)
        if let authorities = tls.authorities {
            // The system's directory of authorities would count beside the one given.
            self.check(weir_curl_set_string(self.raw, CURLOPT_CAPATH, nil))
            self.set(CURLOPT_CAINFO, CURLOPT_CAINFO_BLOB, authorities)
        }
        if let certificate = tls.certificate, let key = tls.key {
            self.set(CURLOPT_SSLCERTTYPE, "PEM")
            self.set(CURLOPT_SSLKEYTYPE, "PEM")
            self.set(CURLOPT_SSLCERT, CURLOPT_SSLCERT_BLOB, certificate)
            self.set(CURLOPT_SSLKEY, CURLOPT_SSLKEY_BLOB, key)
        }
    }

    /// Sets the URL. Where another server name is wanted, the URL gets it for its host, the
    /// connection is made to the real one, and the field `Host`, which is returned, names that.
    private func setURL(_ request: CurlRequest) throws(CurlError) -> String? {
        guard let name = request.tls.serverName else {
            self.set(CURLOPT_URL, request.url)
            return nil
        }
        guard let url = curl_url() else { throw .failed("out of memory") }
        defer { curl_url_cleanup(url) }
        guard curl_url_set(url, CURLUPART_URL, request.url, 0) == CURLUE_OK,
            let host = Self.part(url, CURLUPART_HOST, 0),
            let port = Self.part(url, CURLUPART_PORT, UInt32(CURLU_DEFAULT_PORT))
        else { throw .invalidRequest("the URL cannot be read") }
        let explicitPort = Self.part(url, CURLUPART_PORT, 0)
        let asked = name.contains(":") ? "[\(name)]" : name
        guard curl_url_set(url, CURLUPART_HOST, asked, 0) == CURLUE_OK,
            let changed = Self.part(url, CURLUPART_URL, 0)
        else { throw .invalidRequest("`\(name)` is no server name") }
        self.set(CURLOPT_URL, changed)
        self.set(CURLOPT_CONNECT_TO, ["\(asked):\(port):\(host):\(port)"])
        return explicitPort.map { "\(host):\($0)" } ?? host
    }

    private static func part(_ url: OpaquePointer, _ part: CURLUPart, _ flags: UInt32) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard curl_url_get(url, part, &text, flags) == CURLUE_OK, let text else { return nil }
        defer { curl_free(text) }
        return String(cString: text)
    }

    private func setMethod(_ request: CurlRequest) {
        let method = request.method
        if request.body.isEmpty && (method == "GET" || method == "HEAD") {
            self.set(method == "HEAD" ? CURLOPT_NOBODY : CURLOPT_HTTPGET, 1)
            return
        }
        if request.body.isEmpty && method == "DELETE" {
            self.set(CURLOPT_HTTPGET, 1)
        } else {
            self.check(
                weir_curl_set_offset(
                    self.raw,
                    CURLOPT_POSTFIELDSIZE_LARGE,
                    curl_off_t(request.body.count)
                )
            )
            // Copies; the size is set before.
            request.body.withUnsafeBytes {
                let start = $0.baseAddress?.assumingMemoryBound(to: CChar.self)
                self.check(weir_curl_set_string(self.raw, CURLOPT_COPYPOSTFIELDS, start))
            }
            if request.body.isEmpty {
                self.set(CURLOPT_POST, 1)
            }
        }
        self.set(CURLOPT_CUSTOMREQUEST, method)
    }

    private func setFields(_ request: CurlRequest, host: String?) {
        var lines = request.fields.map { field in
            field.value.isEmpty ? "\(field.name);" : "\(field.name): \(field.value)"
        }
        let names = Set(request.fields.map { $0.name.lowercased() })
        if !names.contains("user-agent") {
            self.set(CURLOPT_USERAGENT, "weir/\(WeirVersion.current)")
        }
        // libcurl would wait for a 100 that few servers send, and call any body a form.
        if !names.contains("expect") { lines.append("Expect:") }
        if !names.contains("content-type") { lines.append("Content-Type:") }
        if let host, !names.contains("host") { lines.append("Host: \(host)") }
        self.set(CURLOPT_HTTPHEADER, lines)
    }

    // MARK: Options

    private func check(_ code: CURLcode) {
        if code != CURLE_OK && self.refused == nil { self.refused = code }
    }

    func set(_ option: CURLoption, _ value: Int) {
        self.check(weir_curl_set_long(self.raw, option, value))
    }

    func set(_ option: CURLoption, pointer: UnsafeMutableRawPointer) {
        self.check(weir_curl_set_pointer(self.raw, option, pointer))
    }

    private func set(_ option: CURLoption, _ value: String) {
        self.check(weir_curl_set_string(self.raw, option, value))
    }

    private func set(_ option: CURLoption, _ lines: [String]) {
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines {
            guard let longer = curl_slist_append(list, line) else {
                curl_slist_free_all(list)
                return self.check(CURLE_OUT_OF_MEMORY)
            }
            list = longer
        }
        guard let list else { return }
        self.lists.append(list)
        self.check(weir_curl_set_list(self.raw, option, list))
    }

    private func set(_ file: CURLoption, _ blob: CURLoption, _ material: CurlMaterial) {
        switch material {
        case .file(let path): self.set(file, path)
        case .data(let bytes):
            bytes.withUnsafeBytes {
                self.check(weir_curl_set_blob(self.raw, blob, $0.baseAddress, $0.count))
            }
        }
    }

    // MARK: What it tells

    /// The error that libcurl ended with, in our words.
    func error(_ code: CURLcode) -> CurlError {
        // The tunnel's own status, where a proxy answered at all.
        let tunnel = self.long(CURLINFO_HTTP_CONNECTCODE)
        if tunnel != 0 && !(200..<300).contains(tunnel) {
            return .proxyRefused("it answered CONNECT with \(tunnel)")
        }
        return .from(
            code,
            detail: String(cString: self.errorText),
            systemError: Int32(clamping: self.long(CURLINFO_OS_ERRNO)),
            wasConnected: self.offset(CURLINFO_PRETRANSFER_TIME_T) > 0
        )
    }

    /// The status of the answer's last head; 0 before the first.
    var status: UInt16 { UInt16(clamping: self.long(CURLINFO_RESPONSE_CODE)) }

    private func long(_ info: CURLINFO) -> Int {
        var value = 0
        return weir_curl_get_long(self.raw, info, &value) == CURLE_OK ? value : 0
    }

    private func offset(_ info: CURLINFO) -> curl_off_t {
        var value: curl_off_t = 0
        return weir_curl_get_offset(self.raw, info, &value) == CURLE_OK ? value : 0
    }
}

extension Duration {
    /// For libcurl, where 0 would mean no limit: rounded up, at least 1.
    fileprivate var milliseconds: Int {
        Int(max(1, (self.nanosecondsClamped - 1) / 1_000_000 + 1))
    }
}
