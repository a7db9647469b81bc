import COpenSSL
import Core
import Glibc

/// What a listener shows to clients. Made anew when anything of it changes.
package final class ServerContext: @unchecked Sendable {
    // @unchecked: nothing changes after `init`; OpenSSL locks what its contexts share.

    /// How a client proves who it is.
    package enum ClientVerification: Sendable {
        case none
        /// A certificate that one of them signed, or no session.
        case required(Authorities)
        /// One that one of them signed, or none.
        case optional(Authorities)
    }

    package struct Options: Sendable {
        /// The first one is for clients that ask for no name, or for one that nobody has.
        package var identities: [Identity]
        package var clients = ClientVerification.none
        package var minimumVersion = TLSVersion.tls12
        /// Names of the protocols above, preferred ones first (RFC 7301).
        package var protocols = ["h2", "http/1.1"]
        package var ticketKeys: TicketKeys
        /// Of the listener: a session of one is none of another.
        package var name: String
        /// The kernel is asked to encrypt, where it can: OpenSSL finds out by itself, and goes on
        /// by itself where it cannot.
        package var usesKernel = false

        package init(name: String, identities: [Identity], ticketKeys: TicketKeys) {
            self.name = name
            self.identities = identities
            self.ticketKeys = ticketKeys
        }
    }

    private let options: Options
    private let names: ServerNames
    /// One per identity.
    private var contexts: [OpaquePointer] = []

    /// Of TLS 1.3, and of TLS 1.2. All are good, and ours goes first: AES of 128 bits costs least.
    /// A client without AES in hardware, which names ChaCha20 first, gets that.
    private static let suites = [
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    ].joined(separator: ":")
    private static let cipherSuites = [
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    ].joined(separator: ":")
    static let groups = "X25519:P-256:P-384"
    /// Most certificates between a client's and its authority.
    private static let clientDepthMax: Int32 = 8
    /// How long a session may be resumed, in seconds: as long as its ticket is surely readable.
    private static let sessionSeconds = 7_200

    package init(_ options: Options) throws(TLSError) {
        precondition(!options.identities.isEmpty, "a listener without certificate")
        self.options = options
        self.names = ServerNames(options.identities.map(\.names))
        for identity in options.identities {
            self.contexts.append(try self.makeContext(identity))
        }
        // Unretained: every session keeps this object.
        let owner = Unmanaged.passUnretained(self).toOpaque()
        weir_ctx_on_server_name(
            self.contexts[0],
            { ssl, _, owner in
                guard let ssl, let owner else { return SSL_TLSEXT_ERR_NOACK }
                return Unmanaged<ServerContext>.fromOpaque(owner).takeUnretainedValue()
                    .selectCertificate(ssl)
            },
            owner
        )
        for context in self.contexts { self.installCallbacks(context, owner) }
    }

    deinit {
        for context in self.contexts { SSL_CTX_free(context) }
    }

    package var identities: [Identity] { self.options.identities }

    /// A session that waits for a client's first message.
    package func makeSession(descriptor: Int32) throws(TLSError) -> TLSSession {
        let session = try TLSSession(
            context: self.contexts[0],
            descriptor: descriptor,
            owner: self,
            usesKernel: self.options.usesKernel
        )
        session.acceptFromNowOn()
        return session
    }

    // MARK: Settings

    private func makeContext(_ identity: Identity) throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_server_method()) else {
            throw TLSError(openSSL: "no TLS context")
        }
        do throws(TLSError) {
            try self.configure(context)
            try identity.install(in: context)
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        return context
    }

    private func configure(_ context: OpaquePointer) throws(TLSError) {
        var flags = weir_no_renegotiation | weir_no_compression | weir_server_order
        if self.options.usesKernel {
            flags |= weir_enable_kernel | weir_ignore_unexpected_end
        } else {
            weir_ctx_set_read_ahead(context)
        }
        SSL_CTX_set_options(context, flags)
        TLSSettings.apply(to: context)
        guard weir_ctx_set_min_version(context, self.options.minimumVersion.number) == 1,
            SSL_CTX_set_ciphersuites(context, Self.suites) == 1,
            SSL_CTX_set_cipher_list(context, Self.cipherSuites) == 1,
            weir_ctx_set_groups(context, Self.groups) == 1
        else { throw TLSError(openSSL: "TLS settings were refused") }
        // Tickets hold all there is to a session: nothing is kept here, so nothing is shared.
        weir_ctx_cache_off(context)
        SSL_CTX_set_timeout(context, Self.sessionSeconds)
        // A client that opens several connections gets a ticket with each.
        SSL_CTX_set_num_tickets(context, 1)
        try self.requireCertificates(context)
        let scope = self.sessionScope
        guard SSL_CTX_set_session_id_context(context, scope, UInt32(scope.count)) == 1 else {
            throw TLSError(openSSL: "TLS settings were refused")
        }
    }

    private func requireCertificates(_ context: OpaquePointer) throws(TLSError) {
        switch self.options.clients {
        case .none:
            SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        case .required(let authorities):
            try authorities.install(in: context, announces: true)
            SSL_CTX_set_verify(
                context,
                SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                nil
            )
        case .optional(let authorities):
            try authorities.install(in: context, announces: true)
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        }
        SSL_CTX_set_verify_depth(context, Self.clientDepthMax)
    }

    /// Names what a session is good for: this listener, with the authorities that it has now. What
    /// one of others has vouched for proves nothing here.
    private var sessionScope: [UInt8] {
        var text = Array(self.options.name.utf8)
        switch self.options.clients {
        case .none: break
        case .required(let authorities): text += [0, 1] + authorities.bytes
        case .optional(let authorities): text += [0, 2] + authorities.bytes
        }
        var digest = [UInt8](repeating: 0, count: 32)
        EVP_Digest(text, text.count, &digest, nil, EVP_sha256(), nil)
        return digest
    }

    private func installCallbacks(
        _ context: OpaquePointer,
        _ owner: UnsafeMutableRawPointer
    ) {
        SSL_CTX_set_alpn_select_cb(
            context,
            { _, selected, count, offered, offeredCount, owner in
                guard let selected, let count, let offered, let owner else {
                    return SSL_TLSEXT_ERR_ALERT_FATAL
                }
                let list = UnsafeBufferPointer(start: offered, count: Int(offeredCount))
                let server = Unmanaged<ServerContext>.fromOpaque(owner).takeUnretainedValue()
                guard let range = ServerContext.choose(among: list, server.options.protocols) else {
                    return SSL_TLSEXT_ERR_ALERT_FATAL
                }
                selected.pointee = offered + range.lowerBound
                count.pointee = UInt8(range.count)
                return SSL_TLSEXT_ERR_OK
            },
            owner
        )
        // Tickets are those of the context that a session began with, the first one.
        weir_ctx_set_owner(context, owner)
        weir_ctx_on_ticket_key(context) { ssl, name, vector, cipher, mac, isMaking in
            guard let ssl, let name, let vector,
                let owner = weir_ctx_owner(SSL_get_SSL_CTX(ssl))
            else { return -1 }
            let server = Unmanaged<ServerContext>.fromOpaque(owner).takeUnretainedValue()
            let found = server.prepareTicket(name, vector, cipher, mac, isMaking: isMaking == 1)
            // A ticket of TLS 1.3 is to be used once (RFC 8446, appendix C.4): whoever comes back
            // with one gets the next.
            let isSpent = isMaking == 0 && SSL_version(ssl) == TLS1_3_VERSION
            return found == 1 && isSpent ? 2 : found
        }
        weir_ctx_on_status(
            context,
            { ssl, owner in
                guard let ssl, let owner else { return SSL_TLSEXT_ERR_NOACK }
                let server = Unmanaged<ServerContext>.fromOpaque(owner).takeUnretainedValue()
                return server.staple(ssl)
            },
            owner
        )
    }

    // MARK: In a handshake

    private func selectCertificate(_ ssl: OpaquePointer) -> Int32 {
        guard let name = weir_server_name(ssl) else { return SSL_TLSEXT_ERR_NOACK }
        let index = self.names.certificate(for: String(cString: name))
        if index > 0 { SSL_set_SSL_CTX(ssl, self.contexts[index]) }
        return SSL_TLSEXT_ERR_OK
    }

    /// The first of our protocols that is in the client's list: each is its length and its name.
    static func choose(
        among offered: UnsafeBufferPointer<UInt8>,
        _ ours: [String]
    ) -> Range<Int>? {
        for name in ours {
            var index = 0
            while index < offered.count {
                let start = index + 1
                let end = start + Int(offered[index])
                if end > offered.count { return nil }
                if offered[start..<end].elementsEqual(name.utf8) { return start..<end }
                index = end
            }
        }
        return nil
    }

    /// 1: go on; 2: go on, and give the client a new ticket; 0: the ticket is none of ours.
    private func prepareTicket(
        _ name: UnsafeMutablePointer<UInt8>,
        _ vector: UnsafeMutablePointer<UInt8>,
        _ cipher: OpaquePointer?,
        _ mac: OpaquePointer?,
        isMaking: Bool
    ) -> Int32 {
        let found: (key: TicketKey, isOld: Bool)
        if isMaking {
            found = (self.options.ticketKeys.newest, false)
            guard RAND_bytes(vector, EVP_MAX_IV_LENGTH) == 1 else { return -1 }
        } else {
            let wanted = UnsafeRawBufferPointer(start: name, count: TicketKey.nameBytes)
            guard let key = self.options.ticketKeys.key(named: wanted) else { return 0 }
            found = key
        }
        let isSet = found.key.withParts { parts in
            if isMaking {
                UnsafeMutableRawBufferPointer(start: name, count: TicketKey.nameBytes)
                    .copyMemory(from: parts.name)
            }
            let bytes = parts.cipher.bindMemory(to: UInt8.self).baseAddress
            return weir_mac_with_sha256(mac, parts.mac.baseAddress, parts.mac.count) == 1
                && EVP_CipherInit_ex(
                    cipher,
                    EVP_aes_256_cbc(),
                    nil,
                    bytes,
                    vector,
                    isMaking ? 1 : 0
                ) == 1
        }
        if !isSet { return -1 }
        return found.isOld ? 2 : 1
    }

    /// Gives the client the answer of the OCSP responder that belongs to its certificate.
    private func staple(_ ssl: OpaquePointer) -> Int32 {
        let context = SSL_get_SSL_CTX(ssl)
        guard let index = self.contexts.firstIndex(where: { $0 == context }),
            let staple = self.options.identities[index].staple,
            let copy = weir_openssl_malloc(staple.count)
        else { return SSL_TLSEXT_ERR_NOACK }
        staple.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { memcpy(copy, start, bytes.count) }
        }
        let bytes = copy.assumingMemoryBound(to: UInt8.self)
        guard weir_set_status(ssl, bytes, Int32(staple.count)) == 1 else {
            weir_openssl_free(copy)
            return SSL_TLSEXT_ERR_NOACK
        }
        return SSL_TLSEXT_ERR_OK
    }
}

/// What both sides set.
enum TLSSettings {
    static func apply(to context: OpaquePointer) {
        let mode =
            SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
            | SSL_MODE_RELEASE_BUFFERS
        weir_ctx_set_mode(context, Int(mode))
    }
}

/// Bytes that nobody can guess, from OpenSSL's generator.
package enum SecureRandom {
    package static func bytes(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let isDone = RAND_bytes(&bytes, Int32(count)) == 1
        precondition(isDone, "the system has no random numbers")
        return bytes
    }
}
