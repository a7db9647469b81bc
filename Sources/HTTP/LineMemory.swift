/// The lines of the last head that a parser accepted, to recognise them when they come again.
///
/// Heads repeat themselves: a client sends the same lines with every request, or all but one, and
/// so do servers and different clients of one library. A line that has the bytes of one that was
/// accepted before is as good as that one, so comparing it, many bytes at a time, takes the place
/// of looking at each. What a line means in its head (a second `Content-Length`, what `Connection`
/// names) is decided anew each time.
///
/// Holds at most `bytesMax` bytes; a longer head is not kept.
struct LineMemory {
    static let bytesMax = 4 * 1024

    private struct Line {
        /// With offsets into `bytes`, as it was before it was marked for what `Connection` says.
        var field: Field
        /// Behind its line end.
        var end: Int
    }

    /// The field lines of the head, from the first one to the last line end, without the empty
    /// line.
    private var bytes: [UInt8] = []
    private var lines: [Line] = []
    /// What stands in `bytes` before `agreedEnd` has been compared with what is `shift` further on
    /// in the head at hand, and is the same.
    private var agreedEnd = 0
    private var shift = 0
    /// Lines of the head at hand that were recognised.
    private var recognisedCount = 0

    /// Another head begins.
    @inline(__always)
    mutating func restart() {
        self.agreedEnd = 0
        self.shift = -1
        self.recognisedCount = 0
    }

    /// The field of line `index`, if that line is kept and is what stands at `position`, which
    /// moves behind it.
    @inline(__always)
    mutating func recognise(
        _ index: Int,
        _ head: RawSpan,
        at position: inout Int,
        end: Int
    ) -> Field? {
        guard index < self.lines.count else { return nil }
        let line = self.lines[index]
        let start = line.field.nameRange.lower
        guard line.end &- start <= end &- position else { return nil }
        if self.shift != position &- start || self.agreedEnd < line.end {
            self.shift = position &- start
            self.agreedEnd = Self.agreement(self.bytes, from: start, head, at: position, end: end)
            if self.agreedEnd < line.end { return nil }
        }
        self.recognisedCount &+= 1
        position = line.end &+ self.shift
        var field = line.field
        let shift = UInt32(truncatingIfNeeded: self.shift)
        field.nameRange.start &+= shift
        field.valueRange.start &+= shift
        return field
    }

    /// Bytes of the kept lines.
    var byteCount: Int { self.bytes.count }

    /// Whether the kept lines, and the empty line behind them, are what stands at `position`.
    func isWholeSection(_ head: RawSpan, at position: Int, end: Int) -> Bool {
        let count = self.bytes.count
        guard count &+ 2 <= end &- position,
            head.byte(at: position &+ count) == ASCII.carriageReturn,
            head.byte(at: position &+ count &+ 1) == ASCII.lineFeed
        else { return false }
        return Self.agreement(self.bytes, from: 0, head, at: position, end: end) == count
    }

    /// How far the kept bytes from `start` on agree with the head from `position` on.
    private static func agreement(
        _ bytes: [UInt8],
        from start: Int,
        _ head: RawSpan,
        at position: Int,
        end: Int
    ) -> Int {
        // Sound: a byte has no padding to expose, and the span ends with the call.
        let kept = unsafe bytes.span.bytes
        let limit = start &+ min(bytes.count &- start, end &- position)
        let shift = position &- start
        var index = start
        while index &+ 16 <= limit {
            let found = Self.firstDifference(kept, at: index, head, at: index &+ shift)
            index &+= found
            if found < 16 { return index }
        }
        if index == limit { return limit }
        if limit &- start >= 16 {
            // The last sixteen: those that were compared already are the same.
            let last = limit &- 16
            return last &+ Self.firstDifference(kept, at: last, head, at: last &+ shift)
        }
        while index < limit, kept.byte(at: index) == head.byte(at: index &+ shift) { index &+= 1 }
        return index
    }

    /// Which of sixteen bytes is the first that differs, or 16.
    @inline(__always)
    private static func firstDifference(
        _ kept: RawSpan,
        at index: Int,
        _ head: RawSpan,
        at place: Int
    ) -> Int {
        let differs: Block.Mask = kept.block(at: index) .!= head.block(at: place)
        return Block.first(differs)
    }

    /// A head was accepted whose field lines begin at `start`, with an empty line at `end`. Kept
    /// unless it is what is kept already, or too long; false where it is not kept.
    @inline(__always)
    mutating func keep(_ fields: [Field], _ head: RawSpan, from start: Int, to end: Int) -> Bool {
        if self.recognisedCount == fields.count, fields.count == self.lines.count { return true }
        return self.replace(fields, head, from: start, to: end)
    }

    private mutating func replace(
        _ fields: [Field],
        _ head: RawSpan,
        from start: Int,
        to end: Int
    ) -> Bool {
        self.lines.removeAll(keepingCapacity: true)
        self.bytes.removeAll(keepingCapacity: true)
        guard end &- start <= Self.bytesMax else { return false }
        let kept = head.extracting(start..<end)
        // Sound: the bytes are copied within the call.
        unsafe kept.withUnsafeBytes { unsafe self.bytes.append(contentsOf: $0) }
        let shift = UInt32(truncatingIfNeeded: start)
        for index in fields.indices {
            var field = fields[index]
            field.nameRange.start &-= shift
            field.valueRange.start &-= shift
            let isLast = index + 1 == fields.count
            let next = isLast ? end : fields[index + 1].nameRange.lower
            self.lines.append(Line(field: field, end: next &- start))
        }
        return true
    }
}

/// The first line of the last head, with its line end, and what it said: the same for lines before
/// the fields.
struct FirstLineMemory<Meaning> {
    static var bytesMax: Int { 256 }

    private var bytes: [UInt8] = []
    private var meaning: Meaning?

    /// What the line says that `head` begins with, if it is the one that is kept, and how long it
    /// is.
    @inline(__always)
    func recognise(_ head: RawSpan, end: Int) -> (meaning: Meaning, byteCount: Int)? {
        let count = self.bytes.count
        guard let meaning = self.meaning, count <= end else { return nil }
        // Sound: a byte has no padding to expose, and the span ends with the call.
        let kept = unsafe self.bytes.span.bytes
        var index = 0
        while index &+ 8 <= count {
            if kept.word(at: index) != head.word(at: index) { return nil }
            index &+= 8
        }
        while index < count {
            if kept.byte(at: index) != head.byte(at: index) { return nil }
            index &+= 1
        }
        return (meaning, count)
    }

    /// The first `count` bytes of `head` are a line that was accepted.
    mutating func keep(_ meaning: Meaning, _ head: RawSpan, count: Int) {
        self.bytes.removeAll(keepingCapacity: true)
        self.meaning = nil
        guard count <= Self.bytesMax else { return }
        // Sound: the bytes are copied within the call.
        unsafe head.extracting(0..<count).withUnsafeBytes {
            unsafe self.bytes.append(contentsOf: $0)
        }
        self.meaning = meaning
    }
}
