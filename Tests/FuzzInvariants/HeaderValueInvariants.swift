import Core
import HTTP

/// Values of single fields: `Cookie` and `traceparent`.
///
/// The input is a cookie's name, a line feed and a field's value; both readers get the value. Slow
/// readers of the same rules give the expected answers.
enum HeaderValueInvariants {
    static let seeds: [[UInt8]] = [
        "a\na=b", "weir\na=b; weir=canary; c=d", "weir\nweir=\"x\"", "a\n a=b;a=c", "ab\na=b; ab=",
        "a\na", "a\n;;a=1", "a\nba=1; a=2;", "a\n\ta=b ;\t a = c",
        "x\n00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x\n00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "x\n00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
        "x\n01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x\n00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "x\n00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let parts = bytes.split(separator: 10, maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty else { return nil }
        let value = Array(parts[1])
        return Self.cookie(named: Array(parts[0]), value) ?? Self.traceParent(value)
    }

    // MARK: Cookies

    private static func cookie(named name: [UInt8], _ value: [UInt8]) -> String? {
        // Neither can be in a name (RFC 6265, section 4.1.1), and configurations allow neither.
        guard !name.contains(UInt8(ascii: ";")), !name.contains(UInt8(ascii: "=")) else {
            return nil
        }
        let padded = name + Array("=x;".utf8) + value + Array("=x;".utf8) + name
        let offset = UInt32(name.count + 3)
        let range = ByteRange(start: offset, count: UInt32(value.count))
        let found = Cookies.value(named: name, in: padded.span.bytes, range)
        if let found, found.start < range.start || found.end > range.end {
            return "a cookie outside of its field"
        }
        let read = found.map { Array(padded[$0.indices]) }
        let expected = Self.slowCookie(named: name, value)
        return read == expected ? nil : "read \(read?.text ?? "none")"
    }

    private static func slowCookie(named name: [UInt8], _ value: [UInt8]) -> [UInt8]? {
        let parts = value.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        let isSpace = { (byte: UInt8) in byte == 32 || byte == 9 }
        for (index, part) in parts.enumerated() {
            let pair = index == 0 ? part : part.drop(while: isSpace)
            guard pair.starts(with: name + [UInt8(ascii: "=")]) else { continue }
            return Array(pair.dropFirst(name.count + 1))
        }
        return nil
    }

    // MARK: Trace context

    private static func traceParent(_ value: [UInt8]) -> String? {
        guard TraceParent.isValid(value.span.bytes) == Self.slowIsValid(value) else {
            return "the readers disagree on a traceparent"
        }
        var random = RandomSource(seed: value.reduce(0) { $0 &* 31 &+ UInt64($1) })
        let buffer = ByteBuffer(capacity: 64)
        TraceParent.start(random: &random, into: buffer)
        return TraceParent.isValid(buffer.readable) ? nil : "a new traceparent is not valid"
    }

    private static func slowIsValid(_ value: [UInt8]) -> Bool {
        let parts = value.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.count == 4, parts.map(\.count) == [2, 32, 16, 2] else { return false }
        let digits = Array("0123456789abcdef".utf8)
        return parts.allSatisfy { $0.allSatisfy(digits.contains) }
            && parts[0].elementsEqual([48, 48])
            && parts[1].contains { $0 != 48 } && parts[2].contains { $0 != 48 }
    }
}
