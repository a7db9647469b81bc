/// Ways to cut bytes into pieces, as a connection might deliver them.
enum Cut: CaseIterable {
    case whole, bytes, growing, uneven

    /// Calls `body` with each piece in turn. Around each lie bytes that would change what is read.
    func pieces(of bytes: [UInt8], _ body: (RawSpan) -> Void) {
        let guardBytes = Array("\"\\\n\r0{}:,".utf8)
        let padded = guardBytes + bytes + guardBytes
        let first = guardBytes.count
        let end = first + bytes.count
        var start = first
        var number = 0
        // An empty piece must change nothing.
        body(padded.span.bytes.extracting(start..<start))
        while start < end {
            let count = min(self.count(ofPiece: number, bytes), end - start)
            body(padded.span.bytes.extracting(start..<(start + count)))
            start += count
            number += 1
        }
    }

    private func count(ofPiece number: Int, _ bytes: [UInt8]) -> Int {
        switch self {
        case .whole: bytes.count
        case .bytes: 1
        case .growing: number + 1
        // Depends on the input, so that the fuzzer gets to choose.
        case .uneven: 1 + Int(bytes[number * 7 % bytes.count] % 37)
        }
    }
}

extension RawSpan {
    /// A copy.
    var array: [UInt8] { self.withUnsafeBytes { Array($0) } }
}

extension Array where Element == UInt8 {
    /// The text, with what is not UTF-8 replaced.
    var text: String { String(decoding: self, as: UTF8.self) }
}
