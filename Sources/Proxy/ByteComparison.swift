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

/// `Cookie` as RFC 6265, section 5.4, has clients send it: `name=value; name=value`.
enum Cookies {
    /// Where the value of the first cookie of that name stands in the head's bytes.
    static func value(named name: [UInt8], _ head: RequestHead, _ bytes: RawSpan) -> ByteRange? {
        for field in head.fields where field.name == .cookie {
            if let range = self.value(named: name, in: bytes, field.valueRange) { return range }
        }
        return nil
    }

    private static func value(
        named name: [UInt8],
        in bytes: RawSpan,
        _ range: ByteRange
    ) -> ByteRange? {
        var start = Int(range.start)
        let end = Int(range.end)
        while start < end {
            var stop = start
            while stop < end, self.byte(bytes, stop) != UInt8(ascii: ";") { stop += 1 }
            if stop - start > name.count, self.byte(bytes, start + name.count) == UInt8(ascii: "="),
                bytes.extracting(start..<(start + name.count)).isEqual(to: name)
            {
                let valueStart = start + name.count + 1
                return ByteRange(start: UInt32(valueStart), count: UInt32(stop - valueStart))
            }
            start = stop + 1
            while start < end, self.byte(bytes, start) == UInt8(ascii: " ") { start += 1 }
        }
        return nil
    }

    private static func byte(_ bytes: RawSpan, _ index: Int) -> UInt8 {
        bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }
}
