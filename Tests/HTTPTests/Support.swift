import Core
import HTTP

extension [UInt8] {
    /// The bytes of `range` as text, for comparing in tests.
    func text(_ range: ByteRange) -> String {
        String(decoding: self[range.indices], as: UTF8.self)
    }
}

extension ByteBuffer {
    /// What is readable, as bytes.
    var bytes: [UInt8] {
        let span = self.readable
        return (0..<span.byteCount).map { span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }

    /// What is readable, as text.
    var text: String { String(decoding: self.bytes, as: UTF8.self) }
}

extension ParseStep {
    var isComplete: Bool {
        if case .complete = self { true } else { false }
    }
}

extension Substring {
    /// With its first letter in upper case.
    var withCapital: String { self.prefix(1).uppercased() + self.dropFirst() }
}
