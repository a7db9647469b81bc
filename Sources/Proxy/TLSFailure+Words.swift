import HTTP
import TLS

extension TLSFailure.Kind {
    /// What a client is told whose request could not be sent on for it.
    var upstreamDetail: ProxyError.Detail {
        switch self {
        case .certificateExpired:
            .init(
                label: "upstream-certificate-expired",
                message: "the certificate of the model server has expired or is not valid yet"
            )
        case .certificateUnknownAuthority:
            .init(
                label: "upstream-certificate-unknown-authority",
                message: "the certificate of the model server is signed by an unknown authority"
            )
        case .certificateNameMismatch:
            .init(
                label: "upstream-certificate-name-mismatch",
                message: "the certificate of the model server is for another name"
            )
        case .certificateInvalid, .certificateMissing:
            .init(
                label: "upstream-certificate-invalid",
                message: "the certificate of the model server is not valid"
            )
        case .refusedByPeer:
            .init(
                label: "upstream-tls-refused",
                message: "the model server refused the TLS session"
            )
        case .plainHTTP, .malformed, .protocolVersion, .noSharedCipher, .noSharedProtocol,
            .closed, .timeout, .tooMany:
            .init(
                label: "upstream-tls-failed",
                message: "no TLS session with the model server came about"
            )
        }
    }
}
