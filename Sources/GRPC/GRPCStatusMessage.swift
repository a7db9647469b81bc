import Core

/// The value of `grpc-message`: UTF-8 text, percent-encoded (`PROTOCOL-HTTP2.md`, "Responses").
package enum GRPCStatusMessage {
    /// Longest encoded value; a longer message is cut between two characters.
    package static let encodedBytesMax = 4096

    /// Appends `text`. Space to `~` stand for themselves, `%` and all else is escaped byte by byte.
    package static func write(_ text: String, into output: ByteBuffer) {
        var room = self.encodedBytesMax
        for character in text.unicodeScalars {
            let encoded = UTF8.encode(character)
            guard let encoded else { continue }
            let cost = encoded.reduce(0) { $0 + (self.isPlain($1) ? 1 : 3) }
            if cost > room { return }
            room -= cost
            for byte in encoded { self.write(byte, into: output) }
        }
    }

    private static func write(_ byte: UInt8, into output: ByteBuffer) {
        if self.isPlain(byte) { return output.append(byte: byte) }
        output.append(byte: UInt8(ascii: "%"))
        output.append(byte: self.digit(byte >> 4))
        output.append(byte: self.digit(byte & 15))
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x20...0x7E).contains(byte) && byte != UInt8(ascii: "%")
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
    }

    /// The text of a value. Whoever reads it "must not" refuse a bad escape: it stands for itself.
    package static func text(_ value: RawSpan) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(value.byteCount)
        var index = 0
        while index < value.byteCount {
            let byte = value.byte(at: index)
            if byte == UInt8(ascii: "%"), index + 2 < value.byteCount,
                let high = self.hexadecimal(value.byte(at: index + 1)),
                let low = self.hexadecimal(value.byte(at: index + 2))
            {
                bytes.append(high << 4 | low)
                index += 3
            } else {
                bytes.append(byte)
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
