// Design note
//
// SHA-256, HMAC and random bytes by OpenSSL: what keys of tenants are made of and known by, and
// what signs webhooks.
// One function each; nothing is kept.

import COpenSSL

package enum Digests {
    /// The SHA-256 hash (FIPS 180-4) of bytes.
    package static func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { digest, count in
            var length: UInt32 = 0
            // Fails only without memory for its context, or in an OpenSSL without SHA-256.
            let isDone = EVP_Digest(
                bytes.baseAddress,
                bytes.count,
                digest.baseAddress,
                &length,
                EVP_sha256(),
                nil
            )
            precondition(isDone == 1 && length == 32, "OpenSSL has no SHA-256")
            count = 32
        }
    }

    package static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { self.sha256($0) }
    }

    /// The message's authentication code with SHA-256 (RFC 2104); `key` is not empty.
    package static func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> [UInt8] {
        precondition(!key.isEmpty, "an empty key signs nothing")
        return [UInt8](unsafeUninitializedCapacity: 32) { code, count in
            var length: UInt32 = 0
            // Fails only without memory for its context, or in an OpenSSL without SHA-256.
            let isDone = HMAC(
                EVP_sha256(),
                key,
                Int32(key.count),
                message,
                message.count,
                code.baseAddress,
                &length
            )
            precondition(isDone != nil && length == 32, "OpenSSL has no HMAC with SHA-256")
            count = 32
        }
    }

    /// Bytes that nobody can guess; at most as many as fit into an `Int32`.
    package static func randomBytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            let isDone = RAND_bytes(buffer.baseAddress, Int32(count))
            precondition(isDone == 1, "OpenSSL has no random bytes")
            filled = count
        }
    }
}
