/// A request path that names a model: `/v2/models/NAME…` of the Open Inference Protocol,
/// `/v1/models/NAME` and `/v1/models/NAME:predict` of its first version and of OpenAI's API.
package struct ModelPath: Equatable, Sendable {
    package enum API: UInt8, Sendable { case v1, v2 }

    package var api: API
    /// The name as it stands in the path; offsets as those of the path given.
    package var name: ByteRange
    /// Whether the name has percent escapes: decode it with `PercentEncoding.decode` then.
    package var isEncoded: Bool
    /// What follows the name: empty, `/infer`, `/versions/1/infer`, `:predict`.
    package var rest: ByteRange

    /// Nil if the path at `range` names no model. Also nil for a name that is not well-formed: an
    /// escape without two hexadecimal digits, or one that stands for a control byte.
    package init?(_ bytes: RawSpan, path range: ByteRange) {
        let prefixCount = "/v2/models/".utf8.count
        guard range.count > prefixCount else { return nil }
        let start = range.lower + prefixCount
        let prefix = ByteRange(range.lower, start)
        let end: Int
        if bytes.equals("/v2/models/", prefix) {
            self.api = .v2
            end = bytes.firstIndex(of: UInt8(ascii: "/"), from: start, to: range.upper)
        } else if bytes.equals("/v1/models/", prefix) {
            self.api = .v1
            end = Self.verbStart(bytes, from: start, to: range.upper)
        } else {
            return nil
        }
        self.name = ByteRange(start, end)
        self.rest = ByteRange(end, range.upper)
        let percent = bytes.firstIndex(of: UInt8(ascii: "%"), from: start, to: end)
        self.isEncoded = percent < end
        guard end > start, PercentEncoding.isValid(bytes, ByteRange(percent, end)) else {
            return nil
        }
    }

    /// Where `:predict` or `:explain` starts. Other colons, and slashes, belong to the name:
    /// `ft:base:team`, `organisation/model`.
    private static func verbStart(_ bytes: RawSpan, from start: Int, to end: Int) -> Int {
        let colon = end - ":predict".utf8.count
        guard colon >= start else { return end }
        let verb = ByteRange(colon, end)
        return bytes.equals(":predict", verb) || bytes.equals(":explain", verb) ? colon : end
    }
}

/// Percent escapes (RFC 3986, section 2.1).
package enum PercentEncoding {
    /// Whether every `%` starts an escape of a byte that is no control byte.
    static func isValid(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var index = range.lower
        while index < range.upper {
            if bytes.byte(at: index) != UInt8(ascii: "%") {
                index += 1
                continue
            }
            guard let byte = self.escape(bytes, at: index, end: range.upper) else { return false }
            if byte < 0x20 || byte == ASCII.delete { return false }
            index += 3
        }
        return true
    }

    /// The bytes that the run stands for, or nil where an escape is malformed. Decodes once:
    /// `%2541` is `%41`.
    package static func decode(_ bytes: RawSpan, _ range: ByteRange) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(Int(range.count))
        var index = range.lower
        while index < range.upper {
            let byte = bytes.byte(at: index)
            if byte == UInt8(ascii: "%") {
                guard let escaped = self.escape(bytes, at: index, end: range.upper) else {
                    return nil
                }
                result.append(escaped)
                index += 3
            } else {
                result.append(byte)
                index += 1
            }
        }
        return result
    }

    private static func escape(_ bytes: RawSpan, at index: Int, end: Int) -> UInt8? {
        guard index + 2 < end,
            let high = ASCII.hexValue(bytes.byte(at: index + 1)),
            let low = ASCII.hexValue(bytes.byte(at: index + 2))
        else { return nil }
        return high << 4 | low
    }
}

/// Looking at request paths.
package enum RequestPath {
    /// Whether a segment is `.` or `..`, also written with escapes. Such a path means one thing to
    /// us and, once normalised, may mean another to the next hop.
    package static func hasDotSegments(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var start = range.lower
        while start <= range.upper {
            let end = bytes.firstIndex(of: UInt8(ascii: "/"), from: start, to: range.upper)
            if self.isDots(bytes, ByteRange(start, end)) { return true }
            start = end + 1
        }
        return false
    }

    private static func isDots(_ bytes: RawSpan, _ segment: ByteRange) -> Bool {
        var dots = 0
        var index = segment.lower
        while index < segment.upper {
            if bytes.byte(at: index) == UInt8(ascii: ".") {
                index += 1
            } else if index + 2 < segment.upper,
                bytes.equalsIgnoringCase("2e", ByteRange(index + 1, index + 3)),
                bytes.byte(at: index) == UInt8(ascii: "%")
            {
                index += 3
            } else {
                return false
            }
            dots += 1
        }
        return dots == 1 || dots == 2
    }
}
