/// `Cookie` as RFC 6265, section 5.4, has clients send it: `name=value; name=value`.
package enum Cookies {
    /// Where the value of the first cookie of that name stands in the head's bytes; nil without
    /// one. `name` is compared byte by byte, with its case; the value is as it was sent, quotes and
    /// all.
    package static func value(
        named name: [UInt8],
        _ head: RequestHead,
        _ bytes: RawSpan
    ) -> ByteRange? {
        for field in head.fields where field.name == .cookie {
            if let range = self.value(named: name, in: bytes, field.valueRange) { return range }
        }
        return nil
    }

    /// The same for one field's value, which is the bytes of `range`.
    package static func value(
        named name: [UInt8],
        in bytes: RawSpan,
        _ range: ByteRange
    ) -> ByteRange? {
        var start = range.lower
        let end = range.upper
        while start < end {
            let stop = bytes.firstIndex(of: UInt8(ascii: ";"), from: start, to: end)
            let equals = start + name.count
            if equals < stop, bytes.byte(at: equals) == UInt8(ascii: "="),
                self.holds(bytes, name, at: start)
            {
                return ByteRange(equals + 1, stop)
            }
            start = stop + 1
            while start < end, ASCII.isWhitespace(bytes.byte(at: start)) { start += 1 }
        }
        return nil
    }

    private static func holds(_ bytes: RawSpan, _ name: [UInt8], at start: Int) -> Bool {
        for index in name.indices where bytes.byte(at: start + index) != name[index] {
            return false
        }
        return true
    }
}
