import CCurl
import Core
import Glibc

/// Why there is no answer, or no whole one. Texts name no secret: neither fields nor bodies.
package enum CurlError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Timeout: Hashable, Sendable {
        case connect, total, idle
    }

    /// It cannot be sent as it is; what is wrong.
    case invalidRequest(String)
    /// The host's or the proxy's name has no address.
    case unknownHost(String)
    /// Nobody listens there, or the way is blocked; why.
    case cannotConnect(String)
    /// The proxy does not let us through; why.
    case proxyRefused(String)
    /// The server's certificate does not hold; why.
    case certificateRefused(String)
    /// No TLS with that server for another reason, such as its refusal of our certificate.
    case tlsFailed(String)
    /// Our own certificate, key or list of authorities cannot be used; why.
    case badMaterial(String)
    case timedOut(Timeout)
    /// The connection broke off before the end of the answer.
    case connectionLost(String)
    /// What came is no HTTP answer; why.
    case invalidResponse(String)
    /// More than that many bytes, as the request allows.
    case tooLarge(bytesMax: Int)
    /// `CurlLimits.requestsMax` are under way.
    case tooManyRequests
    case cancelled
    /// Anything else that libcurl may say.
    case failed(String)

    package var description: String {
        switch self {
        case .invalidRequest(let why): "the request cannot be sent: \(why)"
        case .unknownHost(let why): "unknown host: \(why)"
        case .cannotConnect(let why): "cannot connect: \(why)"
        case .proxyRefused(let why): "the proxy refused: \(why)"
        case .certificateRefused(let why): "the server's certificate was refused: \(why)"
        case .tlsFailed(let why): "TLS failed: \(why)"
        case .badMaterial(let why): "our certificate, key or CA cannot be used: \(why)"
        case .timedOut(.connect): "no connection in time"
        case .timedOut(.total): "no complete answer in time"
        case .timedOut(.idle): "the server has been silent for too long"
        case .connectionLost(let why): "the connection was lost: \(why)"
        case .invalidResponse(let why): "not an HTTP answer: \(why)"
        case .tooLarge(let bytesMax): "the answer has more than \(bytesMax) bytes"
        case .tooManyRequests: "\(CurlLimits.requestsMax) requests are under way"
        case .cancelled: "cancelled"
        case .failed(let why): why
        }
    }

    /// Whether nothing can have reached the server: the request may be sent again whatever it was.
    package var isBeforeSending: Bool {
        switch self {
        case .invalidRequest, .unknownHost, .cannotConnect, .proxyRefused, .certificateRefused,
            .badMaterial, .timedOut(.connect), .tooManyRequests:
            true
        case .tlsFailed, .timedOut, .connectionLost, .invalidResponse, .tooLarge, .cancelled,
            .failed:
            false
        }
    }

    /// What libcurl says, in our words.
    ///
    /// - Parameters:
    ///   - detail: what stands in libcurl's error buffer; may be empty.
    ///   - systemError: the `errno` of a failed connection, or 0.
    ///   - wasConnected: whether the request's connection was ready to be used.
    static func from(
        _ code: CURLcode,
        detail: String,
        systemError: Int32,
        wasConnected: Bool
    ) -> CurlError {
        let words = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        switch code {
        case CURLE_LOGIN_DENIED:
            return .invalidRequest("credentials belong into a field, not into the URL")
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_FUNCTION_ARGUMENT:
            // An answer of another protocol's is called unsupported too.
            return wasConnected ? .invalidResponse(words) : .invalidRequest(words)
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: return .unknownHost(words)
        case CURLE_COULDNT_CONNECT, CURLE_INTERFACE_FAILED:
            let reason = systemError == 0 ? "" : " (\(String(cString: strerror(systemError))))"
            return .cannotConnect(words + reason)
        case CURLE_PROXY: return .proxyRefused(words)
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_PINNEDPUBKEYNOTMATCH,
            CURLE_SSL_INVALIDCERTSTATUS:
            return .certificateRefused(words)
        case CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CRL_BADFILE:
            return .badMaterial(words)
        case CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CIPHER, CURLE_USE_SSL_FAILED,
            CURLE_SSL_SHUTDOWN_FAILED, CURLE_SSL_CLIENTCERT:
            return .tlsFailed(words)
        case CURLE_OPERATION_TIMEDOUT: return .timedOut(wasConnected ? .total : .connect)
        case CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR,
            CURLE_HTTP2, CURLE_HTTP2_STREAM, CURLE_SEND_FAIL_REWIND, CURLE_AGAIN:
            return .connectionLost(words)
        case CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING: return .invalidResponse(words)
        default: return .failed(words)
        }
    }
}
