import HTTP

/// The SHA-256 hash of a key: what is kept of keys, and what is compared.
package struct KeyDigest: Hashable, Sendable {
    package static let byteCount = 32

    /// The first bytes of the hash, the highest first, and so on.
    private let words: InlineArray<4, UInt64>

    /// - Parameter bytes: 32 of them.
    package init?(_ bytes: RawSpan) {
        guard bytes.byteCount == Self.byteCount else { return nil }
        var words = InlineArray<4, UInt64>(repeating: 0)
        for index in 0..<Self.byteCount {
            let byte = bytes.byte(unchecked: index)
            words[index / 8] = words[index / 8] << 8 | UInt64(byte)
        }
        self.words = words
    }

    /// - Parameter text: 64 hexadecimal digits of either case.
    package init?(hexadecimal text: String) {
        var words = InlineArray<4, UInt64>(repeating: 0)
        var count = 0
        for character in text.utf8 {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = character - UInt8(ascii: "A") + 10
            default: return nil
            }
            guard count < 64 else { return nil }
            words[count / 16] = words[count / 16] << 4 | UInt64(digit)
            count += 1
        }
        guard count == 64 else { return nil }
        self.words = words
    }

    /// Takes as long whatever the difference.
    package static func == (left: KeyDigest, right: KeyDigest) -> Bool {
        var difference: UInt64 = 0
        for index in 0..<4 { difference |= left.words[index] ^ right.words[index] }
        return difference == 0
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(self.words[0])
    }

    /// Where it is looked for. That this may be found out by timing tells nothing of the key: to
    /// make hashes that begin alike one has to try keys.
    fileprivate var bucket: UInt64 { self.words[0] }
}

/// Which tenant a key is of.
package struct TenantKeys: Sendable {
    /// Keys whose hashes begin with the same eight bytes: one, unless somebody took great pains.
    private var buckets: [UInt64: [(digest: KeyDigest, tenant: Int)]] = [:]

    package init() {}

    package var isEmpty: Bool { self.buckets.isEmpty }

    /// - Returns: false where the key is another tenant's already.
    package mutating func add(_ digest: KeyDigest, tenant: Int) -> Bool {
        if let owner = self.tenant(of: digest) { return owner == tenant }
        self.buckets[digest.bucket, default: []].append((digest, tenant))
        return true
    }

    package func tenant(of digest: KeyDigest) -> Int? {
        guard let bucket = self.buckets[digest.bucket] else { return nil }
        var found: Int?
        for entry in bucket where entry.digest == digest { found = entry.tenant }
        return found
    }
}

/// Finds the key in a request's credentials.
package enum PresentedKey {
    /// Longer ones are nobody's.
    package static let bytesMax = 512

    /// The key in the value of an `Authorization` field: `Bearer KEY` (RFC 6750, section 2.1; the
    /// scheme in any case, RFC 9110, section 11.1). Nil where that is another scheme, or no key.
    package static func bearer(_ value: RawSpan) -> Range<Int>? {
        let scheme: StaticString = "bearer"
        let count = scheme.utf8CodeUnitCount
        guard value.byteCount > count, value.byte(unchecked: count) == 0x20,
            value.equalsIgnoringCase(scheme, ByteRange(start: 0, count: UInt32(count)))
        else { return nil }
        var start = count
        while start < value.byteCount, value.byte(unchecked: start) == 0x20 { start += 1 }
        let key = start..<value.byteCount
        return self.isKey(value.extracting(key)) ? key : nil
    }

    /// Whether the bytes can be a key: visible ASCII, and not too many.
    package static func isKey(_ bytes: RawSpan) -> Bool {
        guard (1...self.bytesMax).contains(bytes.byteCount) else { return false }
        for index in 0..<bytes.byteCount {
            let byte = bytes.byte(unchecked: index)
            if byte <= 0x20 || byte >= 0x7F { return false }
        }
        return true
    }
}
