import COpenSSL

/// How upstreams are asked: whom we trust, and who we are. Made anew when anything of it changes.
package final class ClientContext: @unchecked Sendable {
    // @unchecked: nothing changes after `init`; OpenSSL locks what its contexts share.

    /// Whose word counts.
    package enum Trust: Sendable {
        /// The authorities of this machine.
        case system
        case authorities(Authorities)
        /// Nobody is checked: whoever answers is believed.
        case anybody
    }

    package struct Options: Sendable {
        package var trust = Trust.system
        /// Shown to servers that ask for it.
        package var identity: Identity?
        package var protocols = ["http/1.1"]

        package init() {}
    }

    private let context: OpaquePointer
    private let isVerified: Bool

    package init(_ options: Options) throws(TLSError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else {
            throw TLSError(openSSL: "no TLS context")
        }
        if case .anybody = options.trust { self.isVerified = false } else { self.isVerified = true }
        do throws(TLSError) {
            try Self.configure(context, options)
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        self.context = context
    }

    deinit {
        SSL_CTX_free(self.context)
    }

    /// A session that will greet the server `name`.
    package func makeSession(
        descriptor: Int32,
        name: String,
        resumes: TLSResumption?
    ) throws(TLSError) -> TLSSession {
        let session = try TLSSession(
            context: self.context,
            descriptor: descriptor,
            owner: self,
            usesKernel: false
        )
        session.connectFromNowOn(to: name, isVerified: self.isVerified, resumes: resumes)
        return session
    }

    private static func configure(
        _ context: OpaquePointer,
        _ options: Options
    ) throws(TLSError) {
        TLSSettings.apply(to: context)
        weir_ctx_set_read_ahead(context)
        weir_ctx_cache_off(context)
        SSL_CTX_set_options(
            context,
            weir_no_renegotiation | weir_no_compression
        )
        let protocols = options.protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        // This one call says 0 when all is well.
        guard weir_ctx_set_min_version(context, TLS1_2_VERSION) == 1,
            weir_ctx_set_groups(context, ServerContext.groups) == 1,
            SSL_CTX_set_alpn_protos(context, protocols, UInt32(protocols.count)) == 0
        else { throw TLSError(openSSL: "TLS settings were refused") }
        switch options.trust {
        case .system:
            guard SSL_CTX_set_default_verify_paths(context) == 1 else {
                throw TLSError(openSSL: "the system's authorities cannot be read")
            }
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        case .authorities(let authorities):
            try authorities.install(in: context, announces: false)
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        case .anybody:
            SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        }
        try options.identity?.install(in: context)
        // Called where a server asks and there is no identity.
        SSL_CTX_set_client_cert_cb(context) { ssl, _, _ in
            if let ssl { SessionState.of(SSL_get_rbio(ssl))?.pointee.isAskedForCertificate = true }
            return 0
        }
    }
}
