/// A request target taken apart (RFC 9112, section 3.2). Its bytes are visible ASCII without `#`.
struct RequestTarget {
    var form = TargetForm.origin
    var path: ByteRange
    var query: ByteRange?
    var authority: ByteRange?

    /// Nil for a target that is in no form that suits the method.
    init?(_ bytes: RawSpan, _ range: ByteRange, method: HTTPMethod) {
        self.path = ByteRange(range.lower, range.lower)
        guard !range.isEmpty else { return nil }
        if method == .connect {
            self.form = .authority
            self.authority = range
            guard Authority.isValid(bytes, range, needsPort: true) else { return nil }
            return
        }
        switch bytes.byte(at: range.lower) {
        case UInt8(ascii: "/"):
            self.split(bytes, from: range.lower, to: range.upper)
        case UInt8(ascii: "*"):
            guard range.count == 1 else { return nil }
            // Other methods have no use for `*`, but for PRI, which starts an HTTP/2 preface and is
            // recognised by its version.
            guard method == .options || method == .other else { return nil }
            self.form = .asterisk
        default:
            guard self.readAbsolute(bytes, range) else { return nil }
        }
    }

    private mutating func split(_ bytes: RawSpan, from start: Int, to end: Int) {
        let mark = bytes.firstIndex(of: UInt8(ascii: "?"), from: start, to: end)
        self.path = ByteRange(start, mark)
        if mark < end { self.query = ByteRange(mark &+ 1, end) }
    }

    /// `http://` or `https://`, an authority without user information (RFC 9110, section 4.2.4),
    /// and then a path or nothing.
    private mutating func readAbsolute(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        self.form = .absolute
        let colon = bytes.firstIndex(of: ASCII.colon, from: range.lower, to: range.upper)
        let scheme = ByteRange(range.lower, colon)
        guard
            bytes.equalsIgnoringCase("http", scheme) || bytes.equalsIgnoringCase("https", scheme),
            colon + 3 <= range.upper,
            bytes.equals("://", ByteRange(colon, colon + 3))
        else { return false }
        let start = colon + 3
        let slash = bytes.firstIndex(of: UInt8(ascii: "/"), from: start, to: range.upper)
        let mark = bytes.firstIndex(of: UInt8(ascii: "?"), from: start, to: range.upper)
        let end = min(slash, mark)
        let authority = ByteRange(start, end)
        guard Authority.isValid(bytes, authority, needsPort: false) else { return false }
        self.authority = authority
        self.split(bytes, from: end, to: range.upper)
        return true
    }
}

/// The `host [ ":" port ]` of a target or of a Host field.
enum Authority {
    /// Whether it is a host of RFC 3986, section 3.2.2, that is not empty (RFC 9110, section
    /// 4.2.1), with a port up to 65535. Stricter than the grammar in one point: no comma, which
    /// would let two Host lines that some hop joined pass for one.
    static func isValid(_ bytes: RawSpan, _ range: ByteRange, needsPort: Bool) -> Bool {
        guard !range.isEmpty else { return false }
        let hostEnd: Int
        if bytes.byte(at: range.lower) == UInt8(ascii: "[") {
            let bracket = bytes.firstIndex(
                of: UInt8(ascii: "]"),
                from: range.lower,
                to: range.upper
            )
            guard bracket < range.upper,
                self.isIPv6(bytes, ByteRange(range.lower + 1, bracket))
            else { return false }
            hostEnd = bracket + 1
        } else {
            hostEnd = bytes.firstIndex(of: ASCII.colon, from: range.lower, to: range.upper)
            guard self.isName(bytes, ByteRange(range.lower, hostEnd)) else { return false }
        }
        if hostEnd == range.upper { return !needsPort }
        guard bytes.byte(at: hostEnd) == ASCII.colon else { return false }
        return self.isPort(bytes, ByteRange(hostEnd + 1, range.upper), mayBeEmpty: !needsPort)
    }

    private static func isPort(_ bytes: RawSpan, _ range: ByteRange, mayBeEmpty: Bool) -> Bool {
        if range.isEmpty { return mayBeEmpty }
        guard let port = bytes.decimal(range) else { return false }
        return range.count <= 5 && port <= 65535
    }

    /// reg-name or IPv4address.
    private static func isName(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var index = range.lower
        while index < range.upper {
            let byte = bytes.byte(at: index)
            if byte == UInt8(ascii: "%") {
                guard index + 2 < range.upper,
                    ASCII.hexValue(bytes.byte(at: index + 1)) != nil,
                    ASCII.hexValue(bytes.byte(at: index + 2)) != nil
                else { return false }
                index += 3
            } else {
                guard self.isNameByte(byte) else { return false }
                index += 1
            }
        }
        return !range.isEmpty
    }

    /// unreserved / sub-delims of RFC 3986 without the comma.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "$"),
            UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "("), UInt8(ascii: ")"),
            UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: ";"), UInt8(ascii: "="):
            true
        default: false
        }
    }

    /// IPv6address of RFC 3986: eight groups of up to four digits, one `::` for what is missing,
    /// and an IPv4 address for the last two groups if it likes. No zone.
    private static func isIPv6(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var groups = 0
        var isCompressed = false
        var index = range.lower
        while index < range.upper {
            if bytes.byte(at: index) == ASCII.colon {
                let isDouble = index + 1 < range.upper && bytes.byte(at: index + 1) == ASCII.colon
                if isDouble {
                    let isTriple =
                        index + 2 < range.upper && bytes.byte(at: index + 2) == ASCII.colon
                    if isCompressed || isTriple { return false }
                    isCompressed = true
                    index += 2
                    continue
                }
                // A single colon only between two groups.
                guard groups > 0, index + 1 < range.upper else { return false }
                index += 1
            }
            let end = bytes.firstIndex(of: ASCII.colon, from: index, to: range.upper)
            if end == range.upper, self.isIPv4(bytes, ByteRange(index, end)) {
                groups += 2
            } else {
                guard self.isGroup(bytes, ByteRange(index, end)) else { return false }
                groups += 1
            }
            index = end
        }
        return isCompressed ? groups <= 7 : groups == 8
    }

    private static func isGroup(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        guard range.count >= 1, range.count <= 4 else { return false }
        return range.indices.allSatisfy { ASCII.hexValue(bytes.byte(at: $0)) != nil }
    }

    private static func isIPv4(_ bytes: RawSpan, _ range: ByteRange) -> Bool {
        var parts = 0
        var start = range.lower
        while start <= range.upper {
            let dot = bytes.firstIndex(of: UInt8(ascii: "."), from: start, to: range.upper)
            guard dot - start <= 3, let part = bytes.decimal(ByteRange(start, dot)), part <= 255
            else { return false }
            parts += 1
            start = dot + 1
        }
        return parts == 4
    }
}

/// Reads `HTTP/1.1`, byte by byte if it comes so.
struct VersionReader {
    static let byteCount = 8

    enum Result: Equatable {
        case needMore
        case invalid
        case version(major: UInt8, minor: UInt8)
    }

    /// Where the first `H` stands.
    var lineStart: Int

    /// Looks at the bytes from `position` on, which follow those that were fine before.
    func read(_ bytes: RawSpan, from position: Int, to end: Int) -> Result {
        // `HTTP/1.1`, the first byte lowest: what nearly everybody sends.
        if end &- self.lineStart >= Self.byteCount,
            bytes.word(at: self.lineStart) == 0x312E_312F_5054_5448
        {
            return .version(major: 1, minor: 1)
        }
        let expected: StaticString = "HTTP/0.0"
        for index in position..<max(position, min(end, self.lineStart + Self.byteCount)) {
            let offset = index - self.lineStart
            let byte = bytes.byte(at: index)
            // Sound: `offset` is below the literal's eight bytes.
            let matches =
                offset == 5 || offset == 7
                ? ASCII.isDigit(byte) : unsafe byte == expected.utf8Start[offset]
            if !matches { return .invalid }
        }
        guard end >= self.lineStart + Self.byteCount else { return .needMore }
        return .version(
            major: bytes.byte(at: self.lineStart + 5) - 0x30,
            minor: bytes.byte(at: self.lineStart + 7) - 0x30
        )
    }
}

extension RawSpan {
    /// The offset of the first byte that cannot stand in a request target, or `end`: anything but
    /// visible ASCII, and `#`, which never leaves a client (RFC 9110, section 7.1).
    func firstNonTarget(from start: Int, to end: Int) -> Int {
        var index = start
        while index &+ 8 <= end {
            let word = self.word(at: index)
            let hits =
                Word.below(0x21, word) | Word.equal(ASCII.delete, word)
                | Word.equal(UInt8(ascii: "#"), word) | (word & Word.tops)
            if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 3 }
            index &+= 8
        }
        while index < end {
            let byte = self.byte(at: index)
            if byte < 0x21 || byte >= ASCII.delete || byte == UInt8(ascii: "#") { break }
            index &+= 1
        }
        return index
    }
}
