import Core

/// Reads metrics line by line, without building anything: the Prometheus text format 0.0.4 and 1.0,
/// and OpenMetrics 1.0.
///
/// Strict where a value could be misread: a line that is not well-formed, or not ended by a line
/// feed, gives no sample. Tolerant of everything else: unknown comments, exemplars, native
/// histograms' absence of a plain value, names in quotes, carriage returns. Lines that cannot be
/// read are counted and skipped, as one odd exporter metric must not hide all the others.
package struct ExpositionParser {
    /// What the answer's `Content-Type` says.
    package enum Format: Sendable {
        case text
        case openMetrics

        package init(contentType: String?) {
            let isOpen = contentType?.lowercased().hasPrefix("application/openmetrics-text") == true
            self = isOpen ? .openMetrics : .text
        }
    }

    package enum Limits {
        /// Bytes of a line.
        package static let lineBytesMax = 64 << 10
        /// Labels of a sample.
        package static let labelsMax = 64
        /// Samples of an exposition; those beyond are not read.
        package static let samplesMax = 200_000
    }

    /// Where a label stands. The value is without its quotes, with escapes as they are written.
    package struct Label: Sendable {
        package var name: Range<Int>
        package var value: Range<Int>
        var hasEscapes: Bool
    }

    package struct Sample: Sendable {
        package var name: Range<Int>
        package var value: Double
        /// Seconds since 1970, where one is given.
        package var timestamp: Double?
    }

    package let format: Format
    package private(set) var offset = 0
    /// Lines that are neither samples nor comments.
    package private(set) var malformed = 0
    package private(set) var samples = 0
    /// `# EOF` was read: nothing of an OpenMetrics exposition is missing.
    package private(set) var hasEnd = false
    /// More than `Limits.samplesMax`.
    package private(set) var isTruncated = false
    /// Those of the sample that was read last.
    package private(set) var labels: [Label] = []

    package init(format: Format = .text) {
        self.format = format
        self.labels.reserveCapacity(16)
    }

    /// The next sample; nil at the end. The bytes must be the same ones for every call.
    package mutating func next(_ bytes: RawSpan) -> Sample? {
        while self.offset < bytes.byteCount {
            let line = self.offset..<self.lineEnd(bytes)
            let isEnded = line.upperBound < bytes.byteCount
            self.offset = line.upperBound + (isEnded ? 1 : 0)
            guard isEnded, line.count <= Limits.lineBytesMax else {
                self.noteUnfinished(bytes, line)
                continue
            }
            guard let sample = self.read(bytes, line) else { continue }
            if self.samples == Limits.samplesMax {
                self.isTruncated = true
                self.offset = bytes.byteCount
                return nil
            }
            self.samples += 1
            return sample
        }
        return nil
    }

    /// The value of the first label of that name of the sample read last; nil where there is none.
    package func label(_ name: String, _ bytes: RawSpan) -> String? {
        guard let label = self.labels.first(where: { bytes.holds($0.name, name) }) else {
            return nil
        }
        return self.value(of: label, bytes)
    }

    /// Whether the sample read last has a label with that value. Makes no string.
    func has(_ name: String, _ value: String, _ bytes: RawSpan) -> Bool {
        self.labels.contains { label in
            bytes.holds(label.name, name)
                && (label.hasEscapes
                    ? self.value(of: label, bytes) == value : bytes.holds(label.value, value))
        }
    }

    package func value(of label: Label, _ bytes: RawSpan) -> String {
        guard label.hasEscapes else { return bytes.string(label.value) }
        var text: [UInt8] = []
        var index = label.value.lowerBound
        while index < label.value.upperBound {
            var byte = bytes.byte(at: index)
            if byte == UInt8(ascii: "\\"), index + 1 < label.value.upperBound {
                index += 1
                byte = bytes.byte(at: index)
                // An unknown escape stands for itself.
                switch byte {
                case UInt8(ascii: "n"): byte = 10
                case UInt8(ascii: "\\"), UInt8(ascii: "\""): break
                default: text.append(UInt8(ascii: "\\"))
                }
            }
            text.append(byte)
            index += 1
        }
        return String(decoding: text, as: UTF8.self)
    }

    // MARK: Lines

    private func lineEnd(_ bytes: RawSpan) -> Int {
        var index = self.offset
        while index < bytes.byteCount, bytes.byte(at: index) != 10 { index += 1 }
        return index
    }

    /// `# EOF` may be the last bytes without a line feed; anything else may have been cut.
    private mutating func noteUnfinished(_ bytes: RawSpan, _ line: Range<Int>) {
        if bytes.holds(line, "# EOF") {
            self.hasEnd = true
        } else if !line.isEmpty {
            self.malformed += 1
        }
    }

    private mutating func read(_ bytes: RawSpan, _ line: Range<Int>) -> Sample? {
        var line = line
        while let last = line.last, Self.isSpace(bytes.byte(at: last)) {
            line = line.lowerBound..<last
        }
        let start = Self.skipSpace(bytes, line)
        if start == line.upperBound { return nil }
        if bytes.byte(at: start) == UInt8(ascii: "#") {
            if bytes.holds(start..<line.upperBound, "# EOF") { self.hasEnd = true }
            return nil
        }
        guard let sample = self.readSample(bytes, start..<line.upperBound) else {
            self.malformed += 1
            return nil
        }
        return sample
    }

    /// `name{label="value",…} value timestamp # exemplar`.
    private mutating func readSample(_ bytes: RawSpan, _ line: Range<Int>) -> Sample? {
        self.labels.removeAll(keepingCapacity: true)
        var name = line.lowerBound..<Self.nameEnd(bytes, line)
        var rest = Self.skipSpace(bytes, name.upperBound..<line.upperBound)
        if rest < line.upperBound, bytes.byte(at: rest) == UInt8(ascii: "{") {
            guard let after = self.readLabels(bytes, (rest + 1)..<line.upperBound, &name) else {
                return nil
            }
            rest = after
        } else if rest == name.upperBound {
            return nil
        }
        if name.isEmpty { return nil }
        let value = Self.word(bytes, rest..<line.upperBound)
        guard let number = Self.number(bytes, value) else { return nil }
        var sample = Sample(name: name, value: number)
        let stamp = Self.word(bytes, value.upperBound..<line.upperBound)
        if stamp.isEmpty || bytes.byte(at: stamp.lowerBound) == UInt8(ascii: "#") { return sample }
        guard let seconds = self.timestamp(bytes, stamp) else { return nil }
        sample.timestamp = seconds
        let last = Self.word(bytes, stamp.upperBound..<line.upperBound)
        let isDone = last.isEmpty || bytes.byte(at: last.lowerBound) == UInt8(ascii: "#")
        return isDone ? sample : nil
    }

    private func timestamp(_ bytes: RawSpan, _ range: Range<Int>) -> Double? {
        guard let number = Self.number(bytes, range), number.isFinite else { return nil }
        return self.format == .text ? number / 1_000 : number
    }

    // MARK: Labels

    /// Reads behind the opening brace; returns the index behind the closing one.
    private mutating func readLabels(
        _ bytes: RawSpan,
        _ line: Range<Int>,
        _ name: inout Range<Int>
    ) -> Int? {
        var index = Self.skipSpace(bytes, line)
        while index < line.upperBound {
            if bytes.byte(at: index) == UInt8(ascii: "}") { return index + 1 }
            guard let after = self.readLabel(bytes, index..<line.upperBound, &name) else {
                return nil
            }
            index = Self.skipSpace(bytes, after..<line.upperBound)
            guard index < line.upperBound else { return nil }
            if bytes.byte(at: index) == UInt8(ascii: ",") {
                index = Self.skipSpace(bytes, (index + 1)..<line.upperBound)
            } else if bytes.byte(at: index) != UInt8(ascii: "}") {
                return nil
            }
        }
        return nil
    }

    /// `label="value"`, or a metric's name in quotes, which stands first and by itself.
    private mutating func readLabel(
        _ bytes: RawSpan,
        _ line: Range<Int>,
        _ name: inout Range<Int>
    ) -> Int? {
        var label = Label(name: line.lowerBound..<line.lowerBound, value: 0..<0, hasEscapes: false)
        var index = line.lowerBound
        let isQuoted = bytes.byte(at: index) == UInt8(ascii: "\"")
        if isQuoted {
            guard let quoted = Self.quoted(bytes, line) else { return nil }
            label.name = quoted.text
            index = quoted.end
        } else {
            label.name = index..<Self.nameEnd(bytes, line)
            index = label.name.upperBound
        }
        if label.name.isEmpty { return nil }
        index = Self.skipSpace(bytes, index..<line.upperBound)
        guard index < line.upperBound, bytes.byte(at: index) == UInt8(ascii: "=") else {
            guard isQuoted, name.isEmpty, self.labels.isEmpty else { return nil }
            name = label.name
            return index
        }
        index = Self.skipSpace(bytes, (index + 1)..<line.upperBound)
        guard index < line.upperBound,
            let quoted = Self.quoted(bytes, index..<line.upperBound),
            self.labels.count < Limits.labelsMax
        else { return nil }
        label.value = quoted.text
        label.hasEscapes = quoted.hasEscapes
        self.labels.append(label)
        return quoted.end
    }

    private static func quoted(
        _ bytes: RawSpan,
        _ line: Range<Int>
    ) -> (text: Range<Int>, end: Int, hasEscapes: Bool)? {
        guard bytes.byte(at: line.lowerBound) == UInt8(ascii: "\"") else { return nil }
        var index = line.lowerBound + 1
        var hasEscapes = false
        while index < line.upperBound {
            let byte = bytes.byte(at: index)
            if byte == UInt8(ascii: "\"") {
                return ((line.lowerBound + 1)..<index, index + 1, hasEscapes)
            }
            if byte == UInt8(ascii: "\\") {
                hasEscapes = true
                index += 1
            }
            index += 1
        }
        return nil
    }

    // MARK: Words

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 13 }

    private static func skipSpace(_ bytes: RawSpan, _ range: Range<Int>) -> Int {
        range.first { !self.isSpace(bytes.byte(at: $0)) } ?? range.upperBound
    }

    private static func nameEnd(_ bytes: RawSpan, _ range: Range<Int>) -> Int {
        var index = range.lowerBound
        while index < range.upperBound {
            switch bytes.byte(at: index) {
            case 65...90, 97...122, UInt8(ascii: "_"), UInt8(ascii: ":"): break
            case 48...57 where index > range.lowerBound: break
            default: return index
            }
            index += 1
        }
        return index
    }

    /// The next run of what is not white space; empty at the end.
    private static func word(_ bytes: RawSpan, _ range: Range<Int>) -> Range<Int> {
        let start = self.skipSpace(bytes, range)
        let end = (start..<range.upperBound).first { self.isSpace(bytes.byte(at: $0)) }
        return start..<(end ?? range.upperBound)
    }

    /// As Go's `ParseFloat` reads it, without hexadecimal.
    static func number(_ bytes: RawSpan, _ range: Range<Int>) -> Double? {
        if let integer = self.integer(bytes, range) { return integer }
        guard !range.isEmpty, range.count <= 64 else { return nil }
        var isDecimal = true
        for index in range {
            switch bytes.byte(at: index) {
            case 48...57, UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"),
                UInt8(ascii: "e"), UInt8(ascii: "E"):
                continue
            default: isDecimal = false
            }
        }
        let text = bytes.string(range)
        if isDecimal { return Double(text) }
        switch text.lowercased() {
        case "nan", "+nan", "-nan": return .nan
        case "inf", "+inf", "infinity", "+infinity": return .infinity
        case "-inf", "-infinity": return -.infinity
        default: return nil
        }
    }

    /// Digits alone, the common case, without a `String`.
    private static func integer(_ bytes: RawSpan, _ range: Range<Int>) -> Double? {
        guard !range.isEmpty, range.count <= 15 else { return nil }
        var value = 0
        for index in range {
            let byte = bytes.byte(at: index)
            guard (48...57).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 48)
        }
        return Double(value)
    }
}
