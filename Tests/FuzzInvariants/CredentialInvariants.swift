import Core
import Traffic

/// Keys as clients present them, and their hashes as files have them.
enum CredentialInvariants {
    static let seeds: [[UInt8]] = [
        "Bearer weir-0123", "bearer  x", "BEARER", "Basic dXNlcjpw", "Bearer a b", "Bearer ",
        String(repeating: "0123456789abcdef", count: 4),
        String(repeating: "0123456789ABCDEF", count: 4),
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let value = bytes.span.bytes
        if let range = PresentedKey.bearer(value) {
            let key = bytes[range]
            guard range.upperBound == bytes.count else { return "bytes behind the key" }
            guard (1...PresentedKey.bytesMax).contains(key.count),
                key.allSatisfy({ (0x21...0x7E).contains($0) })
            else { return "a key that is none" }
            let before = String(decoding: bytes[..<range.lowerBound], as: UTF8.self)
            let scheme = before.lowercased().split(separator: " ")
            guard scheme == ["bearer"] else { return "a key behind \(before)" }
        }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let digest = KeyDigest(hexadecimal: text) else { return nil }
        guard text.utf8.count == 64 else { return "a hash of \(text.utf8.count) digits" }
        var keys = TenantKeys()
        let isNew = keys.add(digest, tenant: 7)
        return isNew && keys.tenant(of: digest) == 7 ? nil : "a hash that is not found again"
    }
}
