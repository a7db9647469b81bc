#ifndef WEIR_COPENSSL_SHIM_H
#define WEIR_COPENSSL_SHIM_H
//
// First, for the same reason as in CEvent: no header may define _GNU_SOURCE before fd_set is known.
#include <sys/types.h>
#include <sys/select.h>
// OpenSSL 3, and functions for those of its calls that are macros or take function pointers that
// Swift cannot cast. Each does one call and nothing else.
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

/// Macros of macros, which Swift does not see.
static const uint64_t weir_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
static const uint64_t weir_no_compression = SSL_OP_NO_COMPRESSION;
static const uint64_t weir_server_order =
    SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
static const uint64_t weir_enable_kernel = SSL_OP_ENABLE_KTLS;
static const unsigned long weir_name_flags = XN_FLAG_RFC2253;
static const uint64_t weir_ignore_unexpected_end = SSL_OP_IGNORE_UNEXPECTED_EOF;

static inline int weir_ctx_set_min_version(SSL_CTX *ctx, int version) {
    return SSL_CTX_set_min_proto_version(ctx, version);
}
static inline long weir_ctx_set_mode(SSL_CTX *ctx, long mode) {
    return SSL_CTX_set_mode(ctx, mode);
}
static inline int weir_ctx_set_groups(SSL_CTX *ctx, const char *list) {
    return SSL_CTX_set1_groups_list(ctx, list);
}
static inline long weir_ctx_cache_off(SSL_CTX *ctx) {
    return SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}
static inline void weir_ctx_set_read_ahead(SSL_CTX *ctx) { SSL_CTX_set_read_ahead(ctx, 1); }
static inline int weir_ctx_add0_chain_cert(SSL_CTX *ctx, X509 *certificate) {
    return (int)SSL_CTX_add0_chain_cert(ctx, certificate);
}
static inline void weir_ctx_on_server_name(
    SSL_CTX *ctx, int (*callback)(SSL *, int *, void *), void *argument) {
    SSL_CTX_set_tlsext_servername_callback(ctx, callback);
    SSL_CTX_set_tlsext_servername_arg(ctx, argument);
}
static inline void weir_ctx_on_status(
    SSL_CTX *ctx, int (*callback)(SSL *, void *), void *argument) {
    SSL_CTX_set_tlsext_status_cb(ctx, callback);
    SSL_CTX_set_tlsext_status_arg(ctx, argument);
}
static inline void weir_ctx_on_ticket_key(
    SSL_CTX *ctx,
    int (*callback)(
        SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int)) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, callback);
}
/// The server name that the client asked for: NULL without one.
static inline const char *weir_server_name(const SSL *ssl) {
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
}
static inline int weir_set_server_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}
/// Hands over `count` bytes that OPENSSL_malloc gave.
static inline int weir_set_status(SSL *ssl, unsigned char *bytes, int count) {
    return (int)SSL_set_tlsext_status_ocsp_resp(ssl, bytes, count);
}
static inline void *weir_openssl_malloc(size_t count) { return OPENSSL_malloc(count); }
static inline void weir_openssl_free(void *pointer) { OPENSSL_free(pointer); }
static inline X509 *weir_peer_certificate(const SSL *ssl) { return SSL_get1_peer_certificate(ssl); }
static inline int weir_uses_kernel_to_send(SSL *ssl) {
    return (int)BIO_get_ktls_send(SSL_get_wbio(ssl));
}
static inline long weir_bio_memory(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }
static inline void weir_bio_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void weir_bio_retry_write(BIO *bio) { BIO_set_retry_write(bio); }
static inline void weir_bio_no_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline void weir_ctx_set_owner(SSL_CTX *ctx, void *owner) {
    SSL_CTX_set_app_data(ctx, owner);
}
static inline void *weir_ctx_owner(SSL_CTX *ctx) { return SSL_CTX_get_app_data(ctx); }

static inline int weir_names_count(const GENERAL_NAMES *names) {
    return sk_GENERAL_NAME_num(names);
}
/// The DNS name at an index; NULL where it is a name of another kind.
static inline const ASN1_STRING *weir_names_dns(const GENERAL_NAMES *names, int index) {
    int type = 0;
    void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, index), &type);
    return type == GEN_DNS ? (const ASN1_STRING *)value : NULL;
}
static inline void weir_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }

static inline int weir_mac_with_sha256(EVP_MAC_CTX *mac, const void *key, size_t count) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key, count),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, parameters);
}
#endif
