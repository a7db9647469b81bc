import COpenSSL
import Core
import EventLoop
import Glibc

/// One TLS connection on a non-blocking descriptor, which stays its owner's.
///
/// A value that names OpenSSL's object: whoever made it calls `free` once, and nothing afterwards.
/// It is no object of Swift's, so that a connection without TLS has nothing to count.
public struct TLSSession {
    private let ssl: OpaquePointer
    private let state: UnsafeMutablePointer<SessionState>

    /// The largest record's content (RFC 8446, section 5.1): what is written in multiples of it
    /// takes the fewest records.
    package static let recordBytes = 16 * 1024
    /// A client's subject may have so many bytes.
    static let subjectBytesMax = 2_048

    /// What became of a step of a handshake.
    package enum Handshake {
        case done
        /// It goes on when the socket is ready.
        case wantsMore
        case failed(TLSFailure)
    }

    /// - Parameter owner: kept until `free`.
    init(
        context: OpaquePointer,
        descriptor: Int32,
        owner: AnyObject,
        usesKernel: Bool
    ) throws(TLSError) {
        ERR_clear_error()
        guard let ssl = SSL_new(context) else { throw TLSError(openSSL: "no TLS session") }
        self.ssl = ssl
        self.state = .allocate(capacity: 1)
        self.state.initialize(
            to: SessionState(descriptor: descriptor, owner: .passRetained(owner))
        )
        if usesKernel {
            // OpenSSL hands keys to the kernel on sockets of its own kind alone.
            SSL_set_fd(ssl, descriptor)
            return
        }
        guard let bio = BIO_new(SessionState.method) else {
            self.free()
            throw TLSError(openSSL: "no TLS session")
        }
        BIO_set_data(bio, self.state)
        BIO_set_init(bio, 1)
        // One reference for both directions.
        SSL_set_bio(ssl, bio, bio)
    }

    /// Frees everything but the descriptor.
    package func free() {
        // Otherwise OpenSSL would take a connection that was cut for a session that is bad, and not
        // resume it again.
        SSL_set_shutdown(self.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(self.ssl)
        self.state.pointee.owner.release()
        self.state.deinitialize(count: 1)
        self.state.deallocate()
    }

    func acceptFromNowOn() { SSL_set_accept_state(self.ssl) }

    /// - Parameters:
    ///   - name: what the certificate must be for; a numeric address is compared as one.
    ///   - resumes: what `resumption` gave of an earlier session with the same peer.
    func connectFromNowOn(to name: String, isVerified: Bool, resumes: TLSResumption?) {
        SSL_set_connect_state(self.ssl)
        let isAddress = SocketAddress(host: name, port: 0) != nil && name != "localhost"
        if !isAddress { weir_set_server_name(self.ssl, name) }
        if isVerified {
            if isAddress {
                X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(self.ssl), name)
            } else {
                SSL_set_hostflags(self.ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
                SSL_set1_host(self.ssl, name)
            }
        }
        if let resumes { SSL_set_session(self.ssl, resumes.session) }
        ERR_clear_error()
    }

    // MARK: What the kernel tells

    /// The socket may have bytes again.
    @inline(__always)
    package func becameReadable() { self.state.pointee.isEmpty = false }

    /// The peer has closed its side: what a short read leaves behind is the end.
    package func endIsNear() {
        self.state.pointee.isEndNear = true
        self.state.pointee.isEmpty = false
    }

    /// The end came without the peer's word for it (`close_notify`): what was sent may have been
    /// cut by somebody on the way.
    package var isTruncated: Bool {
        self.state.pointee.hasEnded && SSL_get_shutdown(self.ssl) & SSL_RECEIVED_SHUTDOWN == 0
    }

    // MARK: Handshake

    /// Goes on with the handshake. Takes a millisecond or so where a signature is to be made.
    package func handshake() -> Handshake {
        ERR_clear_error()
        let result = SSL_do_handshake(self.ssl)
        if result == 1 { return .done }
        switch SSL_get_error(self.ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            return .wantsMore
        case SSL_ERROR_SSL:
            return .failed(TLSFailure(failed: self.ssl))
        default:
            let code = self.state.pointee.code
            let text = code == 0 ? "the peer has closed" : String(cString: strerror(code))
            return .failed(TLSFailure(.closed, text))
        }
    }

    /// The last step or read could not go on because the socket took no more.
    package var wantsToWrite: Bool { SSL_want(self.ssl) == SSL_WRITING }

    package var version: TLSVersion {
        SSL_version(self.ssl) == TLS1_3_VERSION ? .tls13 : .tls12
    }

    /// Whether both sides have agreed on HTTP/2 (RFC 7301).
    package var agreesOnHTTP2: Bool {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(self.ssl, &name, &count)
        return UnsafeBufferPointer(start: name, count: Int(count)).elementsEqual("h2".utf8)
    }

    /// As a client: the server asked for a certificate, and none was there to be shown. A server
    /// that insists says so after the handshake (TLS 1.3).
    package var isAskedForCertificate: Bool { self.state.pointee.isAskedForCertificate }

    package var isResumed: Bool { SSL_session_reused(self.ssl) == 1 }

    /// Before a handshake as a client: what to offer (RFC 7301), instead of what the context says.
    package func offer(_ protocols: [String]) {
        let bytes = protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        // Says 0 when all is well, and fails only for lack of memory: then the context's hold.
        _ = SSL_set_alpn_protos(self.ssl, bytes, UInt32(bytes.count))
        ERR_clear_error()
    }

    /// Whether the kernel encrypts what is written (kTLS).
    package var usesKernel: Bool { weir_uses_kernel_to_send(self.ssl) != 0 }

    /// The subject of the client's certificate, nil without one (RFC 4514).
    ///
    /// Throws where the certificate has expired since the session began that is resumed, or where
    /// the subject is too long to be passed on.
    package func peerSubject(now: Int64) throws(TLSFailure) -> [UInt8]? {
        guard let certificate = weir_peer_certificate(self.ssl) else { return nil }
        defer { X509_free(certificate) }
        let validity = try? PEM.validity(certificate)
        guard let validity, now <= validity.notAfter else {
            throw TLSFailure(.certificateExpired, "the client's certificate has expired")
        }
        guard let subject = PEM.subject(certificate, limit: Self.subjectBytesMax) else {
            throw TLSFailure(.certificateInvalid, "the client's subject is too long")
        }
        return subject
    }

    /// What a later connection to the same peer may begin with; nil where there is nothing of use.
    package var resumption: TLSResumption? {
        guard let session = SSL_get1_session(self.ssl) else { return nil }
        guard SSL_SESSION_is_resumable(session) == 1 else {
            SSL_SESSION_free(session)
            return nil
        }
        return TLSResumption(owning: session)
    }

    // MARK: Reading

    /// What `read` found, and whether there may be more to read right away.
    package struct Read {
        package let result: IOResult
        package let hasMore: Bool
    }

    /// Reads until `count` bytes are there or nothing more can be had now. Bytes come before the
    /// end or the error behind them, which the next call tells.
    package func read(into pointer: UnsafeMutableRawPointer, count: Int) -> Read {
        var received = 0
        while received < count {
            ERR_clear_error()
            let result = SSL_read(
                self.ssl,
                pointer + received,
                Int32(clamping: count - received)
            )
            if result <= 0 {
                if received > 0 {
                    let isLater = SSL_get_error(self.ssl, result) != SSL_ERROR_WANT_READ
                    return Read(result: .bytes(received), hasMore: isLater)
                }
                return self.readEnded(result)
            }
            received += Int(result)
            if self.state.pointee.isEmpty, SSL_has_pending(self.ssl) == 0 {
                return Read(result: .bytes(received), hasMore: false)
            }
        }
        return Read(result: .bytes(received), hasMore: true)
    }

    private func readEnded(_ result: Int32) -> Read {
        switch SSL_get_error(self.ssl, result) {
        case SSL_ERROR_WANT_READ:
            return Read(result: .wouldBlock, hasMore: false)
        case SSL_ERROR_WANT_WRITE:
            // An answer to a key update has to go out first: `wantsToWrite` says so.
            return Read(result: .wouldBlock, hasMore: false)
        case SSL_ERROR_ZERO_RETURN:
            return Read(result: .endOfStream, hasMore: false)
        case SSL_ERROR_SYSCALL where self.state.pointee.hasEnded:
            return Read(result: .endOfStream, hasMore: false)
        case SSL_ERROR_SYSCALL:
            let code = self.state.pointee.code
            return Read(result: .failed(code == 0 ? ECONNRESET : code), hasMore: false)
        default:
            self.keepError()
            return Read(result: .failed(EPROTO), hasMore: false)
        }
    }

    /// Takes the thread's queue of errors.
    private func keepError() {
        self.state.pointee.sessionError = ERR_peek_last_error()
        ERR_clear_error()
    }

    /// Why a read or a write failed, where TLS was the reason: an alert of the peer, for one.
    package var failure: TLSFailure? {
        let code = self.state.pointee.sessionError
        return code == 0 ? nil : TLSFailure(code: code, verification: X509_V_OK)
    }

    // MARK: Writing

    /// Writes as much as the socket takes. What was not taken must be offered again, with more
    /// behind it or not, before anything else: its record may be half on its way.
    package func write(from pointer: UnsafeRawPointer, count: Int) -> IOResult {
        var sent = 0
        while sent < count {
            ERR_clear_error()
            let result = SSL_write(self.ssl, pointer + sent, Int32(clamping: count - sent))
            if result <= 0 {
                if sent > 0 { return .bytes(sent) }
                switch SSL_get_error(self.ssl, result) {
                case SSL_ERROR_WANT_WRITE, SSL_ERROR_WANT_READ:
                    return .wouldBlock
                default:
                    self.keepError()
                    let code = self.state.pointee.code
                    return .failed(code == 0 ? EPROTO : code)
                }
            }
            sent += Int(result)
        }
        return .bytes(sent)
    }

    /// Tells the peer that nothing more will be written. False where the socket did not take it:
    /// call again when it is writable.
    package func end() -> Bool {
        if SSL_in_init(self.ssl) == 1 { return true }
        ERR_clear_error()
        let result = SSL_shutdown(self.ssl)
        if result >= 0 { return true }
        let error = SSL_get_error(self.ssl, result)
        ERR_clear_error()
        return error != SSL_ERROR_WANT_WRITE
    }
}

/// The ticket and the secrets of an earlier session.
package final class TLSResumption {
    let session: OpaquePointer

    init(owning session: OpaquePointer) {
        self.session = session
    }

    deinit {
        SSL_SESSION_free(self.session)
    }
}
