import COpenSSL
import Glibc

/// A certificate with its chain and its key, read from text, and what a staple says of it.
///
/// What it was read from is checked here: that the key is the certificate's, that it can be used
/// without a pass phrase, and that a staple is an answer.
package final class Identity: @unchecked Sendable {
    // @unchecked: OpenSSL's objects are not changed after `init`, and count their references
    // atomically.

    /// Certificates in a chain beside the first.
    static let chainMax = 16

    /// The names that clients may ask for it by.
    package let names: [String]
    package let validity: CertificateRenewal.Validity
    /// An answer of an OCSP responder in DER (RFC 6960); nil without one.
    let staple: [UInt8]?

    private let certificate: OpaquePointer
    private let chain: [OpaquePointer]
    private let key: OpaquePointer

    /// - Parameters:
    ///   - certificate: the certificate and then those between it and an authority, in PEM.
    ///   - key: its private key in PEM, without pass phrase.
    ///   - staple: an OCSP response in DER.
    package init(certificate: [UInt8], key: [UInt8], staple: [UInt8]? = nil) throws(TLSError) {
        var certificates = try PEM.certificates(certificate)
        guard !certificates.isEmpty else { throw TLSError("there is no certificate in PEM in it") }
        guard certificates.count <= Self.chainMax + 1 else {
            for pointer in certificates { X509_free(pointer) }
            throw TLSError("more than \(Self.chainMax + 1) certificates are in it")
        }
        let leaf = certificates.removeFirst()
        do throws(TLSError) {
            let privateKey = try PEM.privateKey(key)
            do throws(TLSError) {
                guard X509_check_private_key(leaf, privateKey) == 1 else {
                    ERR_clear_error()
                    throw TLSError("the key does not belong to the certificate")
                }
                if let staple { try Self.check(staple) }
                self.validity = try PEM.validity(leaf)
            } catch {
                EVP_PKEY_free(privateKey)
                throw error
            }
            self.key = privateKey
        } catch {
            for pointer in certificates + [leaf] { X509_free(pointer) }
            throw error
        }
        self.certificate = leaf
        self.chain = certificates
        self.names = PEM.names(leaf)
        self.staple = staple
    }

    deinit {
        X509_free(self.certificate)
        for pointer in self.chain { X509_free(pointer) }
        EVP_PKEY_free(self.key)
    }

    private static func check(_ staple: [UInt8]) throws(TLSError) {
        let response = staple.withUnsafeBufferPointer { bytes in
            var start = bytes.baseAddress
            return d2i_OCSP_RESPONSE(nil, &start, bytes.count)
        }
        guard let response else {
            ERR_clear_error()
            throw TLSError("the staple is no OCSP response in DER")
        }
        defer { OCSP_RESPONSE_free(response) }
        guard OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL else {
            throw TLSError("the staple is the error of an OCSP responder")
        }
    }

    /// Whether the two are one and the same for clients.
    package func isSame(as other: Identity) -> Bool {
        self.staple == other.staple && self.chain.count == other.chain.count
            && X509_cmp(self.certificate, other.certificate) == 0
            && EVP_PKEY_eq(self.key, other.key) == 1
            && zip(self.chain, other.chain).allSatisfy { X509_cmp($0, $1) == 0 }
    }

    /// Puts certificate, chain and key into a context.
    func install(in context: OpaquePointer) throws(TLSError) {
        guard SSL_CTX_use_certificate(context, self.certificate) == 1 else {
            throw TLSError(openSSL: "the certificate cannot be used")
        }
        guard SSL_CTX_use_PrivateKey(context, self.key) == 1 else {
            throw TLSError(openSSL: "the key cannot be used")
        }
        for pointer in self.chain {
            // The context takes one reference.
            X509_up_ref(pointer)
            guard weir_ctx_add0_chain_cert(context, pointer) == 1 else {
                X509_free(pointer)
                throw TLSError(openSSL: "the chain cannot be used")
            }
        }
    }
}

/// Certificates that others are checked against.
package final class Authorities: @unchecked Sendable {
    // @unchecked: as for `Identity`.
    private let certificates: [OpaquePointer]
    /// What they were read from, so that sessions of other authorities are told apart.
    let bytes: [UInt8]

    /// - Parameter pem: one certificate or more.
    package init(_ pem: [UInt8]) throws(TLSError) {
        self.certificates = try PEM.certificates(pem)
        self.bytes = pem
        if self.certificates.isEmpty { throw TLSError("there is no certificate in PEM in it") }
    }

    deinit {
        for pointer in self.certificates { X509_free(pointer) }
    }

    package func isSame(as other: Authorities?) -> Bool { self.bytes == other?.bytes }

    /// Trusts them in a context; with `announces` clients are told their names.
    func install(in context: OpaquePointer, announces: Bool) throws(TLSError) {
        guard let store = SSL_CTX_get_cert_store(context) else {
            throw TLSError("OpenSSL has no store")
        }
        for pointer in self.certificates {
            guard X509_STORE_add_cert(store, pointer) == 1 else {
                throw TLSError(openSSL: "an authority cannot be used")
            }
            if announces, SSL_CTX_add_client_CA(context, pointer) != 1 {
                throw TLSError(openSSL: "an authority cannot be announced")
            }
        }
    }
}

/// Reading text and certificates.
enum PEM {
    /// All certificates of a text, for the caller to free. What is not a certificate is skipped.
    static func certificates(_ pem: [UInt8]) throws(TLSError) -> [OpaquePointer] {
        guard let bio = self.reader(pem) else { throw TLSError("no memory for OpenSSL") }
        defer { BIO_free(bio) }
        ERR_clear_error()
        var found: [OpaquePointer] = []
        while let certificate = PEM_read_bio_X509(bio, nil, nil, nil) { found.append(certificate) }
        let code = ERR_peek_last_error()
        let isEnd = Int32(truncatingIfNeeded: code & 0x7F_FFFF) == PEM_R_NO_START_LINE
        if isEnd || code == 0 {
            ERR_clear_error()
            return found
        }
        for pointer in found { X509_free(pointer) }
        throw TLSError(openSSL: "a certificate in it cannot be read")
    }

    /// The private key of a text, for the caller to free.
    static func privateKey(_ pem: [UInt8]) throws(TLSError) -> OpaquePointer {
        guard let bio = self.reader(pem) else { throw TLSError("no memory for OpenSSL") }
        defer { BIO_free(bio) }
        ERR_clear_error()
        // Without the callback OpenSSL would ask for the pass phrase on the terminal.
        var wantsPassPhrase = false
        let key = PEM_read_bio_PrivateKey(
            bio,
            nil,
            { _, _, _, context in
                context?.assumingMemoryBound(to: Bool.self).pointee = true
                return -1
            },
            &wantsPassPhrase
        )
        guard let key else {
            let reason = OpenSSLErrors.take()
            throw TLSError(
                wantsPassPhrase
                    ? "the key is encrypted with a pass phrase: write it without one"
                    : "there is no private key in PEM in it (\(reason))"
            )
        }
        return key
    }

    private static func reader(_ pem: [UInt8]) -> OpaquePointer? {
        // It must not outlive the bytes, so it gets a copy.
        guard let bio = BIO_new(BIO_s_mem()) else { return nil }
        _ = pem.withUnsafeBytes { BIO_write(bio, $0.baseAddress, Int32(clamping: $0.count)) }
        return bio
    }

    /// From when to when a certificate holds.
    static func validity(
        _ certificate: OpaquePointer
    ) throws(TLSError) -> CertificateRenewal.Validity {
        guard let start = self.seconds(X509_get0_notBefore(certificate)),
            let end = self.seconds(X509_get0_notAfter(certificate))
        else { throw TLSError("the certificate's times cannot be read") }
        return CertificateRenewal.Validity(notBefore: start, notAfter: end)
    }

    /// Seconds since 1970.
    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
        var parts = tm()
        guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
        return Int64(timegm(&parts))
    }

    /// The DNS names of a certificate; its common name where it has no alternative names at all.
    static func names(_ certificate: OpaquePointer) -> [String] {
        let alternatives = X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil)
        guard let names = OpaquePointer(alternatives) else {
            ERR_clear_error()
            return self.commonName(certificate).map { [$0] } ?? []
        }
        defer { weir_names_free(names) }
        return (0..<weir_names_count(names)).compactMap {
            weir_names_dns(names, $0).flatMap(self.text)
        }
    }

    private static func commonName(_ certificate: OpaquePointer) -> String? {
        guard let subject = X509_get_subject_name(certificate) else { return nil }
        let index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
        guard index >= 0, let entry = X509_NAME_get_entry(subject, index) else { return nil }
        return X509_NAME_ENTRY_get_data(entry).flatMap { self.text($0) }
    }

    /// A name with a NUL in it is none: somebody wants it to be read as two.
    private static func text(_ string: UnsafePointer<ASN1_STRING>) -> String? {
        let count = Int(ASN1_STRING_length(string))
        guard count > 0, let start = ASN1_STRING_get0_data(string) else { return nil }
        let bytes = UnsafeBufferPointer(start: start, count: count)
        guard bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The subject as RFC 4514 writes it, in visible ASCII; nil where it is longer than `limit`.
    static func subject(_ certificate: OpaquePointer, limit: Int) -> [UInt8]? {
        guard let bio = BIO_new(BIO_s_mem()) else { return nil }
        defer { BIO_free(bio) }
        guard let name = X509_get_subject_name(certificate),
            X509_NAME_print_ex(bio, name, 0, weir_name_flags) >= 0
        else { return nil }
        var start: UnsafeMutablePointer<CChar>?
        let count = weir_bio_memory(bio, &start)
        guard let start, count <= limit else { return nil }
        let bytes = UnsafeRawBufferPointer(start: start, count: count)
        // The flags escape everything else.
        return bytes.allSatisfy { $0 >= 0x20 && $0 < 0x7F } ? Array(bytes) : nil
    }
}
