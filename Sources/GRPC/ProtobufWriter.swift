import Core

/// Writes the few protobuf messages that the gateway answers with, and gRPC's framing around them.
struct ProtobufWriter {
    let output: ByteBuffer

    /// Appends a message, not compressed, whose fields `body` writes.
    static func message(into output: ByteBuffer, _ body: (ProtobufWriter) -> Void) {
        let inner = ByteBuffer(capacity: 256)
        body(ProtobufWriter(output: inner))
        output.append(byte: 0)
        for shift in [24, 16, 8, 0] {
            output.append(byte: UInt8(truncatingIfNeeded: inner.count >> shift))
        }
        output.append(inner.readable)
    }

    func varint(_ field: UInt64, _ value: UInt64) {
        self.write(field << 3)
        self.write(value)
    }

    func text(_ field: UInt64, _ text: String) {
        self.write(field << 3 | 2)
        self.write(UInt64(text.utf8.count))
        self.output.append(Array(text.utf8))
    }

    /// A message within a message.
    func nested(_ field: UInt64, _ body: (ProtobufWriter) -> Void) {
        let inner = ByteBuffer(capacity: 128)
        body(ProtobufWriter(output: inner))
        self.write(field << 3 | 2)
        self.write(UInt64(inner.count))
        self.output.append(inner.readable)
    }

    private func write(_ value: UInt64) {
        var rest = value
        while rest > 0x7F {
            self.output.append(byte: UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        self.output.append(byte: UInt8(truncatingIfNeeded: rest))
    }
}
