/// The last bytes a replica wrote, over its restarts, up to a fixed number.
///
/// Memory is taken as bytes come and never exceeds `capacity`.
package struct OutputRing: Sendable {
    package let capacity: Int
    private var bytes: [UInt8] = []
    /// Where the oldest byte is once the ring is full; where the next goes.
    private var head = 0

    package init(capacity: Int) {
        precondition(capacity >= 0, "a capacity of \(capacity)")
        self.capacity = capacity
    }

    package var count: Int { self.bytes.count }

    package mutating func append(_ new: some RandomAccessCollection<UInt8>) {
        for byte in new.suffix(self.capacity) {
            if self.bytes.count < self.capacity {
                self.bytes.append(byte)
            } else {
                self.bytes[self.head] = byte
                self.head = self.head + 1 == self.capacity ? 0 : self.head + 1
            }
        }
    }

    /// Everything kept, oldest first; what is not UTF-8 is replaced.
    package var text: String {
        String(decoding: self.bytes[self.head...] + self.bytes[..<self.head], as: UTF8.self)
    }

    /// The last lines that are not blank, joined by ` / `, at most `bytesMax` bytes.
    package func tail(lines: Int, bytesMax: Int = 600) -> String {
        let all = self.text.split(whereSeparator: \.isNewline).map(trimmed).filter { !$0.isEmpty }
        let joined = all.suffix(lines).joined(separator: " / ")
        guard joined.utf8.count > bytesMax else { return joined }
        return "…" + String(decoding: joined.utf8.suffix(bytesMax), as: UTF8.self)
    }
}

/// Cuts a stream of bytes into lines; longer lines than the limit are broken.
package struct LineSplitter: Sendable {
    package let limit: Int
    private var partial: [UInt8] = []

    package init(limit: Int = ClusterLimits.lineBytesMax) {
        precondition(limit > 0, "a line limit of \(limit)")
        self.limit = limit
    }

    /// Calls `line` for each line that is complete now, without its end.
    package mutating func append(_ bytes: some Collection<UInt8>, line: (String) -> Void) {
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                self.flush(line: line, isEndOfLine: true)
            } else {
                self.partial.append(byte)
                if self.partial.count >= self.limit { self.flush(line: line) }
            }
        }
    }

    /// Calls `line` for what was begun, if anything was.
    package mutating func flush(line: (String) -> Void, isEndOfLine: Bool = false) {
        guard isEndOfLine || !self.partial.isEmpty else { return }
        if self.partial.last == UInt8(ascii: "\r") { self.partial.removeLast() }
        line(String(decoding: self.partial, as: UTF8.self))
        self.partial.removeAll(keepingCapacity: true)
    }
}

private func trimmed(_ line: Substring) -> String {
    var line = line
    while let first = line.first, first.isWhitespace { line.removeFirst() }
    while let last = line.last, last.isWhitespace { line.removeLast() }
    return String(line)
}
