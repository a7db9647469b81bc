import EventLoop
import Glibc
import TLS

/// Connections that are made before and after a run, to say what is wrong with a target. They
/// block, carry no request and are in no figure.
struct Preflight {
    /// For a target to accept, and again for a handshake.
    static let timeoutMilliseconds: Int32 = 5_000
    /// For a server that asks for a certificate to say what it thinks of ours: in TLS 1.3 it does
    /// so after the handshake, and one that is content may say nothing.
    static let objectionMilliseconds: Int32 = 1_000
    /// The same after a run that came to nothing.
    static let patientMilliseconds: Int32 = 10_000

    let target: TargetURL
    let address: SocketAddress
    var objectionMilliseconds = Self.objectionMilliseconds

    /// Finds refused, unreachable and silent targets, and those whose certificate is no good.
    func check(_ security: ClientContext?, hasIdentity: Bool) throws(LoadError) {
        let descriptor = try self.connect()
        defer { Sockets.close(descriptor) }
        guard let security else { return }
        if let failure = self.handshake(descriptor, security, hasIdentity: hasIdentity) {
            throw LoadError("\(self.target): \(failure.advice(for: self.target))")
        }
    }

    /// What TLS says against it, if it can be reached.
    func objection(_ security: ClientContext?, hasIdentity: Bool) -> LoadError? {
        guard let security, let descriptor = try? self.connect() else { return nil }
        defer { Sockets.close(descriptor) }
        return self.handshake(descriptor, security, hasIdentity: hasIdentity).map {
            LoadError("\(self.target): \($0.advice(for: self.target))")
        }
    }

    /// Whether somebody who is asked in plain text speaks TLS.
    func speaksTLS() -> Bool {
        var options = ClientContext.Options()
        options.trust = .anybody
        guard let context = try? ClientContext(options), let descriptor = try? self.connect() else {
            return false
        }
        defer { Sockets.close(descriptor) }
        guard let failure = self.handshake(descriptor, context, hasIdentity: false) else {
            return true
        }
        // An alert is TLS too.
        return [.refusedByPeer, .protocolVersion].contains(failure.kind)
    }

    private func connect() throws(LoadError) -> Int32 {
        let descriptor: Int32
        do throws(SystemError) {
            descriptor = try Sockets.connect(to: self.address)
        } catch {
            throw LoadError("\(self.problem): \(error.reason): is the server running?")
        }
        var isConnected = false
        defer { if !isConnected { Sockets.close(descriptor) } }
        guard Self.wait(descriptor, for: POLLOUT, Self.timeoutMilliseconds) else {
            throw LoadError(
                "\(self.problem): no answer within "
                    + "\(Self.timeoutMilliseconds / 1_000) s: is the address right?"
            )
        }
        let code = Sockets.pendingError(descriptor)
        guard code == 0 else {
            let reason = SystemError("connect", code: code).reason
            throw LoadError("\(self.problem): \(reason): is the server running?")
        }
        isConnected = true
        return descriptor
    }

    private var problem: String {
        let place = "\(self.address)"
        // A detour, or what a name was found to mean.
        let isSaid = place == "\(self.target.host):\(self.target.port)"
        return "cannot connect to \(self.target)" + (isSaid ? "" : " at \(place)")
    }

    /// Why there is no session; nil where there is.
    private func handshake(
        _ descriptor: Int32,
        _ security: ClientContext,
        hasIdentity: Bool
    ) -> TLSFailure? {
        let session: TLSSession
        do throws(TLSError) {
            session = try security.makeSession(
                descriptor: descriptor,
                name: self.target.host,
                resumes: nil
            )
        } catch {
            return TLSFailure(.malformed, error.description)
        }
        defer { session.free() }
        while true {
            switch session.handshake() {
            case .done:
                let isWaiting = hasIdentity || session.isAskedForCertificate
                guard isWaiting, session.version == .tls13 else {
                    _ = session.end()
                    return nil
                }
                return self.objection(descriptor, session)
            case .failed(let failure): return failure
            case .wantsMore:
                let event = session.wantsToWrite ? POLLOUT : POLLIN
                guard Self.wait(descriptor, for: event, Self.timeoutMilliseconds) else {
                    return TLSFailure(.timeout)
                }
                session.becameReadable()
            }
        }
    }

    /// What a server says of our certificate. One that is content sends tickets, or nothing.
    private func objection(_ descriptor: Int32, _ session: TLSSession) -> TLSFailure? {
        guard Self.wait(descriptor, for: POLLIN, self.objectionMilliseconds) else { return nil }
        session.becameReadable()
        var byte: UInt8 = 0
        switch session.read(into: &byte, count: 1).result {
        case .bytes, .wouldBlock: break
        case .failed, .endOfStream: return session.failure ?? TLSFailure(.refusedByPeer)
        }
        _ = session.end()
        return nil
    }

    private static func wait(
        _ descriptor: Int32,
        for event: Int32,
        _ milliseconds: Int32
    ) -> Bool {
        var wait = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        var count: Int32
        repeat { count = poll(&wait, 1, milliseconds) } while count < 0 && errno == EINTR
        return count > 0
    }
}

extension TLSFailure {
    /// What is wrong with a target's TLS, and what to do about it.
    func advice(for target: TargetURL) -> String {
        let unchecked = "or check nothing with --insecure"
        let words = self.text.isEmpty ? "" : " (\(self.text))"
        return switch self.kind {
        case .certificateUnknownAuthority where self.text == "self-signed certificate":
            "its certificate is self-signed: trust it with --ca FILE, \(unchecked)"
        case .certificateUnknownAuthority:
            "its certificate is signed by an unknown authority\(words): trust that with --ca FILE, "
                + unchecked
        case .certificateExpired:
            "its certificate is out of date\(words): renew it, \(unchecked)"
        case .certificateNameMismatch:
            "its certificate is not for \(target.host)\(words): use a name that it is for, with "
                + "--connect-to where that leads elsewhere, \(unchecked)"
        case .certificateInvalid:
            "its certificate cannot be accepted\(words): replace it, \(unchecked)"
        case .plainHTTP, .malformed:
            "it does not answer with TLS\(words): is it an http:// URL?"
        case .protocolVersion:
            "it speaks no version of TLS that is spoken here, 1.2 or 1.3\(words)"
        case .noSharedCipher: "it has no cipher in common with us\(words)"
        case .closed: "it ended the TLS handshake\(words): is it an http:// URL?"
        case .timeout:
            "no TLS handshake within \(Preflight.timeoutMilliseconds / 1_000) s: does it speak TLS?"
        case .refusedByPeer where self.text.contains("application protocol"),
            .noSharedProtocol:
            "it does not speak HTTP/1.1 over TLS\(words)"
        case .refusedByPeer, .certificateMissing, .tooMany:
            "it refused the TLS session\(words): does it want a certificate (--cert, --key), "
                + "or another one?"
        }
    }
}
