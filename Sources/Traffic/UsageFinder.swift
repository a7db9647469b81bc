/// Finds the last `"usage":{…}` among bytes that pass in any pieces and reads its token counts.
///
/// Looks for the two bytes `"u`, sixteen places at a time; all else happens only where they stand.
struct UsageFinder: Sendable {
    private enum State: UInt8 {
        /// Between candidates.
        case searching
        /// `matched` bytes of the pattern have been seen.
        case matching
        /// Behind the pattern, before the object.
        case opening
        /// Inside the object, which is being kept.
        case reading
    }

    private static let pattern: StaticString = "\"usage\""

    private(set) var usage: TokenUsage?
    private var state = State.searching
    private var matched = 0
    private var sawColon = false
    private var depth = 0
    private var kept: [UInt8] = []

    mutating func reset() {
        self.usage = nil
        self.state = .searching
        if !self.kept.isEmpty { self.kept.removeAll(keepingCapacity: true) }
    }

    mutating func scan(_ bytes: RawSpan) {
        let count = bytes.byteCount
        var index = 0
        while index < count {
            if self.state == .searching {
                index = Self.candidate(bytes, from: index)
                guard index < count else { return }
                if let end = self.takeWhole(bytes, at: index) {
                    index = end
                    continue
                }
                self.state = .matching
                self.matched = 1
                index &+= 1
            } else if self.state == .reading {
                self.keepRun(bytes, &index)
                if index < count, self.state == .reading {
                    self.step(bytes.byte(unchecked: index), &index)
                }
            } else {
                self.step(bytes.byte(unchecked: index), &index)
            }
        }
    }

    /// The offset of the next `"u`, or of a `"` that is the last byte, or the count of bytes.
    private static func candidate(_ bytes: RawSpan, from start: Int) -> Int {
        let count = bytes.byteCount
        var index = start
        while index &+ 65 <= count {
            if Self.mayHave(bytes, inBlockAt: index) { break }
            index &+= 64
        }
        while index &+ 17 <= count {
            let found = Lanes.first(Self.marks(bytes, at: index))
            if found < 16 { return index &+ found }
            index &+= 16
        }
        if index &- start >= 16, index &+ 1 < count {
            // The last sixteen pairs; those that were looked at already are looked at again.
            let found = Lanes.first(Self.marks(bytes, at: count &- 17))
            if found < 16 { return count &- 17 &+ found }
            index = count &- 1
        }
        while index < count {
            if bytes.byte(unchecked: index) == UInt8(ascii: "\""),
                index &+ 1 == count || bytes.byte(unchecked: index &+ 1) == UInt8(ascii: "u")
            {
                return index
            }
            index &+= 1
        }
        return count
    }

    /// Whether `"u` may begin among the 64 bytes at `index`, which one more follows. In text there
    /// is no quotation mark for long, so those are looked for first.
    @inline(__always)
    private static func mayHave(_ bytes: RawSpan, inBlockAt index: Int) -> Bool {
        let mark = UInt8(ascii: "\"")
        let first: SIMD2<UInt64> = Lanes.equal(bytes.vector(unchecked: index), mark)
        let second: SIMD2<UInt64> = Lanes.equal(bytes.vector(unchecked: index &+ 16), mark)
        let third: SIMD2<UInt64> = Lanes.equal(bytes.vector(unchecked: index &+ 32), mark)
        let fourth: SIMD2<UInt64> = Lanes.equal(bytes.vector(unchecked: index &+ 48), mark)
        let quotes: SIMD2<UInt64> = (first | second) | (third | fourth)
        if quotes[0] | quotes[1] == 0 { return false }
        let letter = UInt8(ascii: "u")
        let pairs: SIMD2<UInt64> =
            (first & Lanes.equal(bytes.vector(unchecked: index &+ 1), letter))
            | (second & Lanes.equal(bytes.vector(unchecked: index &+ 17), letter))
        let more: SIMD2<UInt64> =
            (third & Lanes.equal(bytes.vector(unchecked: index &+ 33), letter))
            | (fourth & Lanes.equal(bytes.vector(unchecked: index &+ 49), letter))
        let any: SIMD2<UInt64> = pairs | more
        return any[0] | any[1] != 0
    }

    /// Where `"u` begins among the sixteen bytes at `index`, which one more follows.
    @inline(__always)
    private static func marks(_ bytes: RawSpan, at index: Int) -> SIMD2<UInt64> {
        Lanes.equal(bytes.vector(unchecked: index), UInt8(ascii: "\""))
            & Lanes.equal(bytes.vector(unchecked: index &+ 1), UInt8(ascii: "u"))
    }

    /// Reads an object that is here whole in place, without keeping it. Returns what follows it, or
    /// nil where the bytes at `index` are left to the states.
    private mutating func takeWhole(_ bytes: RawSpan, at index: Int) -> Int? {
        guard bytes.has("\"usage\":", at: index) else { return nil }
        var start = index &+ 8
        while start < bytes.byteCount, bytes.byte(unchecked: start) == 0x20 { start &+= 1 }
        guard bytes.has("{", at: start) else { return nil }
        start &+= 1
        let limit = min(bytes.byteCount, start &+ ResponseObserver.usageBytesMax &+ 1)
        let counts = Self.parse(bytes, from: start, to: limit)
        guard let end = counts.end else { return nil }
        self.take(counts)
        return end &+ 1
    }

    private mutating func step(_ byte: UInt8, _ index: inout Int) {
        switch self.state {
        case .searching:
            break
        case .matching:
            self.match(byte, &index)
        case .opening:
            self.open(byte, &index)
        case .reading:
            self.read(byte)
            index &+= 1
        }
    }

    private mutating func match(_ byte: UInt8, _ index: inout Int) {
        // Sound: fewer bytes have matched than the pattern has.
        guard unsafe byte == Self.pattern.utf8Start[self.matched] else {
            // The byte may begin a candidate itself: it is looked at again.
            self.state = .searching
            return
        }
        index &+= 1
        self.matched &+= 1
        if self.matched == Self.pattern.utf8CodeUnitCount {
            self.state = .opening
            self.sawColon = false
        }
    }

    private mutating func open(_ byte: UInt8, _ index: inout Int) {
        if byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
            index &+= 1
        } else if byte == UInt8(ascii: ":"), !self.sawColon {
            self.sawColon = true
            index &+= 1
        } else if byte == UInt8(ascii: "{"), self.sawColon {
            self.state = .reading
            self.depth = 1
            self.kept.removeAll(keepingCapacity: true)
            index &+= 1
        } else {
            self.state = .searching
        }
    }

    /// Keeps the bytes up to the next brace at once, within the limit; the byte at `index` is then
    /// looked at by itself.
    private mutating func keepRun(_ bytes: RawSpan, _ index: inout Int) {
        let end = min(bytes.byteCount, index &+ ResponseObserver.usageBytesMax &- self.kept.count)
        var stop = index
        while stop < end {
            let byte = bytes.byte(unchecked: stop)
            if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}") { break }
            stop &+= 1
        }
        if stop == index { return }
        unsafe bytes.extracting(index..<stop).withUnsafeBytes {
            // Sound: the bytes are copied within the call.
            unsafe self.kept.append(contentsOf: $0)
        }
        index = stop
    }

    /// Keeps the object's bytes until it closes. Braces in strings would be miscounted; usage has
    /// no such strings, and the worst that comes of it is no usage.
    private mutating func read(_ byte: UInt8) {
        if byte == UInt8(ascii: "{") { self.depth &+= 1 }
        if byte == UInt8(ascii: "}") { self.depth &-= 1 }
        if self.depth == 0 {
            self.state = .searching
            // Sound: the span lives only for the call.
            self.take(unsafe Self.parse(self.kept.span.bytes, from: 0, to: self.kept.count))
        } else if self.kept.count >= ResponseObserver.usageBytesMax {
            self.state = .searching
        } else {
            self.kept.append(byte)
        }
    }

    /// What an object says, and where its closing brace stands, if it is there.
    private struct Counts {
        var prompt: Int?
        var completion: Int?
        var end: Int?
    }

    /// A count that a later object leaves out keeps its value.
    private mutating func take(_ counts: Counts) {
        if counts.prompt == nil, counts.completion == nil { return }
        self.usage = TokenUsage(
            prompt: counts.prompt ?? self.usage?.prompt ?? 0,
            completion: counts.completion ?? self.usage?.completion ?? 0
        )
    }

    /// Reads the counts at the object's own level, up to its end or `limit`: objects inside it
    /// break them down further.
    private static func parse(_ bytes: RawSpan, from start: Int, to limit: Int) -> Counts {
        var counts = Counts()
        var depth = 0
        var index = start
        while true {
            index = Self.mark(bytes, from: index, to: limit)
            guard index < limit else { return counts }
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\"") {
                if depth == 0 { self.readCount(bytes, &index, &counts) }
            } else if byte == UInt8(ascii: "{") {
                depth &+= 1
            } else {
                if depth == 0 {
                    counts.end = index
                    return counts
                }
                depth &-= 1
            }
            index &+= 1
        }
    }

    /// The offset of the first quotation mark or brace before `limit`, or `limit` or more.
    @inline(__always)
    private static func mark(_ bytes: RawSpan, from start: Int, to limit: Int) -> Int {
        var index = start
        while index < limit, index &+ 16 <= bytes.byteCount {
            let vector = bytes.vector(unchecked: index)
            let quotes: SIMD2<UInt64> = Lanes.equal(vector, UInt8(ascii: "\""))
            let opens: SIMD2<UInt64> = Lanes.equal(vector, UInt8(ascii: "{"))
            let closes: SIMD2<UInt64> = Lanes.equal(vector, UInt8(ascii: "}"))
            let found = Lanes.first(quotes | opens | closes)
            if found < 16 { return index &+ found }
            index &+= 16
        }
        while index < limit {
            let byte = bytes.byte(unchecked: index)
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}")
            {
                break
            }
            index &+= 1
        }
        return index
    }

    /// A quotation mark stands at `index`: reads the count whose key begins there, if one does, up
    /// to its last digit. The four keys differ in their first letter.
    @inline(__always)
    private static func readCount(_ bytes: RawSpan, _ index: inout Int, _ counts: inout Counts) {
        guard index &+ 1 < bytes.byteCount else { return }
        switch bytes.byte(unchecked: index &+ 1) {
        case UInt8(ascii: "p"):
            if let count = Self.count(bytes, "\"prompt_tokens\"", &index) { counts.prompt = count }
        case UInt8(ascii: "i"):
            if let count = Self.count(bytes, "\"input_tokens\"", &index) { counts.prompt = count }
        case UInt8(ascii: "c"):
            if let count = Self.count(bytes, "\"completion_tokens\"", &index) {
                counts.completion = count
            }
        case UInt8(ascii: "o"):
            if let count = Self.count(bytes, "\"output_tokens\"", &index) {
                counts.completion = count
            }
        default:
            break
        }
    }

    /// The number behind the key, if the key stands at `place`, which is then its last digit's.
    @inline(__always)
    private static func count(_ bytes: RawSpan, _ key: StaticString, _ place: inout Int) -> Int? {
        guard bytes.has(key, at: place) else { return nil }
        let end = bytes.byteCount
        var index = place &+ key.utf8CodeUnitCount
        Self.skipSpace(bytes, &index)
        guard index < end, bytes.byte(unchecked: index) == UInt8(ascii: ":") else { return nil }
        index &+= 1
        Self.skipSpace(bytes, &index)
        let first = index
        var value = 0
        while index < end {
            let digit = bytes.byte(unchecked: index) &- 0x30
            if digit >= 10 { break }
            // More tokens than that no server counts; it also keeps the sum within `Int`.
            if index &- first == Self.digitsMax { return nil }
            value = value &* 10 &+ Int(digit)
            index &+= 1
        }
        if index == first { return nil }
        place = index &- 1
        return value
    }

    private static let digitsMax = 15

    @inline(__always)
    private static func skipSpace(_ bytes: RawSpan, _ index: inout Int) {
        while index < bytes.byteCount, bytes.byte(unchecked: index) <= 0x20 { index &+= 1 }
    }
}
