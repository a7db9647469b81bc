import CCurl
import Core

// Design note
//
// Requests to the outside: the Kubernetes API, Prometheus, metrics of model servers, webhooks. Done
// by libcurl, which brings TLS, proxies, HTTP/2 and client certificates, and driven by our own
// event loop: libcurl says which descriptors to watch and when to wake it, and does everything else
// on its own state.
//
//   CurlClient ──has──▸ CurlTransfer … ──has──▸ EasyHandle (one request at libcurl, reused)
//   EventLoop ──ready, timer──▸ CurlClient ──curl_multi_socket_action──▸ callbacks
//
// A client belongs to one loop's thread and keeps its connections for the next requests. Calls from
// its callbacks are all allowed: what libcurl forbids while it is on the stack (adding and removing
// transfers) waits until it has returned.
//
//   queued ──▸ running ──▸ ended        each transfer ends exactly once, never within `start`
//                 └─ cancelled, failed by a limit ─▸ ended
//
// Names are looked up by libcurl on threads of its own, one per look-up, which are left behind when
// a transfer ends first (CURLOPT_QUICK_EXIT): nothing here waits for getaddrinfo(3).
//
// What is switched off: redirects, cookies, .netrc, other schemes than http and https, credentials
// in URLs, and proxies from the environment unless asked for. TLS 1.2 is the lowest version.
//
// Limits: `CurlLimits` and those of each request. It does not retry: callers know what may be
// repeated. But libcurl does, once, when a kept connection turns out to have been closed before any
// byte of an answer: whoever creates things must be able to bear a second request.

/// The bounds of a client that no request can move.
package enum CurlLimits {
    /// Requests at a time, over all hosts; the next one fails with `.tooManyRequests`.
    package static let requestsMax = 4_096
    /// Connections kept for later requests unless a client asks for another number.
    package static let idleConnectionsMax = 64
    /// Handles kept for later requests.
    package static let idleHandlesMax = 64
    /// Bytes of a URL.
    package static let urlBytesMax = 64 << 10
    /// Bytes of an answer's head, all interim answers included.
    package static let headBytesMax = 256 << 10
    /// Bytes of a certificate or key passed as data.
    package static let materialBytesMax = 4 << 20
}

/// What must happen once before libcurl is used, on whatever thread.
enum CurlLibrary {
    /// False where libcurl cannot be used at all: no memory, or its TLS library refuses.
    static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    /// `libcurl/7.88.1 OpenSSL/3.0.15 …`, as libcurl tells of itself.
    static var version: String { String(cString: curl_version()) }
}
