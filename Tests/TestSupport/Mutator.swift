import Core

/// Small random damage to bytes, the kind that parsers stumble over.
package struct Mutator {
    private var random: RandomSource
    /// Pieces that mean something in HTTP/1.1.
    private static let pieces: [[UInt8]] = [
        "\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", ":", ",", ";", "\"", "\0", "0", "5", "chunked",
        "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n", "Host: b\r\n",
        "Connection: close, x\r\n", "HTTP/1.0", "HTTP/1.1", "http://a/", "*", "[::1]", "#", "%41",
        "0\r\n\r\n", "ffffffffffffffff\r\n", "\u{7F}", "é", "Expect: 100-continue\r\n",
    ].map { Array($0.utf8) }

    package init(seed: UInt64) {
        self.random = RandomSource(seed: seed)
    }

    /// `bytes` with one to four mutations.
    package mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
        var result = bytes
        for _ in 0..<Int.random(in: 1...4, using: &self.random) { self.mutateOnce(&result) }
        return result
    }

    private mutating func mutateOnce(_ bytes: inout [UInt8]) {
        let position = Int.random(in: 0...bytes.count, using: &self.random)
        let end = min(bytes.count, position + Int.random(in: 0...8, using: &self.random))
        switch Int.random(in: 0..<6, using: &self.random) {
        case 0:
            if position < bytes.count {
                bytes[position] = UInt8.random(in: 0...255, using: &self.random)
            }
        case 1:
            if position < bytes.count {
                bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &self.random)
            }
        case 2: bytes.removeSubrange(position..<end)
        case 3: bytes.insert(contentsOf: bytes[position..<end], at: position)
        case 4: bytes.removeSubrange(position...)
        default:
            let piece = Self.pieces.randomElement(using: &self.random) ?? []
            bytes.insert(contentsOf: piece, at: position)
        }
    }
}
