// Design note
//
// OpenSSL 3 between a socket and the connections of the data plane.
//
//   ServerContext   what a listener shows: certificates by name, versions, tickets, client CAs
//   ClientContext   how an upstream is asked: authorities, its name, our own certificate
//   TLSSession      one connection: handshake, read, write, end
//
// Contexts never change: a reload makes a new one, and connections keep what they began with. A
// session reads and writes its descriptor itself, straight between the kernel and OpenSSL's record
// buffers (`SessionState`), and never blocks. Decisions are values of their own: which certificate
// (`ServerNames`), which ticket key (`TicketKeyRing`), whether to take a new certificate
// (`CertificateRenewal`).
//
// Defaults are those of Mozilla's intermediate configuration
// (https://wiki.mozilla.org/Security/Server_Side_TLS): TLS 1.2 and 1.3, ephemeral keys and
// authenticated ciphers alone, no compression, no renegotiation. There is no early data: it can be
// replayed.
//
// What it does not do: certificate revocation lists, asking OCSP responders, HTTP.

import COpenSSL
import Glibc

/// What cannot be used, in words: which file, and what is wrong with it.
package struct TLSError: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }

    /// With what OpenSSL has to say about it.
    init(openSSL what: String) {
        let reason = OpenSSLErrors.take()
        self.description = reason.isEmpty ? what : "\(what): \(reason)"
    }
}

/// OpenSSL's queue of errors, which belongs to the thread.
enum OpenSSLErrors {
    /// The reason of the first error in words, empty without one; the queue is empty afterwards.
    static func take() -> String {
        let code = ERR_get_error()
        ERR_clear_error()
        return self.words(code)
    }

    static func words(_ code: UInt) -> String {
        guard code != 0 else { return "" }
        if let reason = ERR_reason_error_string(code) { return String(cString: reason) }
        return "error \(code)"
    }
}

/// A version of the protocol.
package enum TLSVersion: String, Sendable, CaseIterable {
    case tls12 = "1.2"
    case tls13 = "1.3"

    var number: Int32 { self == .tls12 ? TLS1_2_VERSION : TLS1_3_VERSION }
}

/// Why there is no session with a peer.
package struct TLSFailure: Error, Sendable, Equatable {
    /// The label of metrics.
    package enum Kind: String, Sendable, CaseIterable {
        /// The client spoke HTTP without TLS.
        case plainHTTP = "plain_http"
        case malformed
        case protocolVersion = "protocol_version"
        case noSharedCipher = "no_shared_cipher"
        case noSharedProtocol = "no_shared_protocol"
        /// The client showed no certificate where one is required.
        case certificateMissing = "certificate_missing"
        case certificateExpired = "certificate_expired"
        case certificateUnknownAuthority = "certificate_unknown_authority"
        case certificateNameMismatch = "certificate_name_mismatch"
        case certificateInvalid = "certificate_invalid"
        /// The peer ended the handshake with an alert.
        case refusedByPeer = "refused_by_peer"
        case closed
        case timeout
        /// There were too many handshakes at once.
        case tooMany = "too_many"
    }

    package let kind: Kind
    package let text: String

    package init(_ kind: Kind, _ text: String = "") {
        self.kind = kind
        self.text = text
    }
}

extension TLSFailure {
    /// Of a handshake that has just failed with an error of the protocol on `ssl`. Takes the
    /// thread's error queue.
    init(failed ssl: OpaquePointer) {
        // Causes come first; what it means for the session comes last.
        let code = ERR_peek_last_error()
        ERR_clear_error()
        self.init(code: code, verification: Int32(truncatingIfNeeded: SSL_get_verify_result(ssl)))
    }

    /// Of an error of OpenSSL's.
    /// - Parameter verification: what became of the peer's certificate.
    init(code: UInt, verification: Int32) {
        let words = OpenSSLErrors.words(code)
        let reason = Int32(truncatingIfNeeded: code & 0x7F_FFFF)
        switch reason {
        case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST:
            self.init(.plainHTTP, words)
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_UNKNOWN_PROTOCOL, SSL_R_VERSION_TOO_LOW,
            SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
            self.init(.protocolVersion, words)
        case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
            SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SHARED_GROUPS:
            self.init(.noSharedCipher, words)
        case SSL_R_NO_APPLICATION_PROTOCOL, SSL_R_BAD_EXTENSION:
            self.init(.noSharedProtocol, words)
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            self.init(.certificateMissing, words)
        case SSL_R_CERTIFICATE_VERIFY_FAILED:
            self.init(verification: verification)
        default:
            // Alerts that came are numbered from SSL_AD_REASON_OFFSET on.
            self.init(reason >= SSL_AD_REASON_OFFSET ? .refusedByPeer : .malformed, words)
        }
    }

    /// Of a certificate that did not pass.
    init(verification result: Int32) {
        let words = String(cString: X509_verify_cert_error_string(Int(result)))
        switch result {
        case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
            self.init(.certificateExpired, words)
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            self.init(.certificateNameMismatch, words)
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_CERT_UNTRUSTED:
            self.init(.certificateUnknownAuthority, words)
        default:
            self.init(.certificateInvalid, words)
        }
    }
}
