import Core
import HTTP

extension RawSpan {
    /// Whether the bytes are those of `other`, which has the same count.
    func isEqual(to other: [UInt8]) -> Bool {
        for index in other.indices
        where self.unsafeLoad(fromByteOffset: index, as: UInt8.self) != other[index] {
            return false
        }
        return true
    }

    /// The same, ASCII letters compared without their case; `other` is in lower case.
    func isEqualIgnoringCase(to other: [UInt8]) -> Bool {
        for index in other.indices {
            let byte = self.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            let folded = byte &- 0x41 < 26 ? byte | 0x20 : byte
            if folded != other[index] { return false }
        }
        return true
    }
}

extension RawSpan {
    func contains(_ byte: UInt8) -> Bool {
        for index in self.byteOffsets
        where self.unsafeLoad(fromByteOffset: index, as: UInt8.self) == byte {
            return true
        }
        return false
    }

    /// Whether the bytes begin with `prefix`, ASCII letters compared without their case.
    func hasPrefix(_ prefix: StaticString) -> Bool {
        self.byteCount >= prefix.utf8CodeUnitCount
            && self.equalsIgnoringCase(
                prefix,
                ByteRange(start: 0, count: UInt32(prefix.utf8CodeUnitCount))
            )
    }
}
