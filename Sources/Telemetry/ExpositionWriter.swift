import Core

/// Writes metrics as text for a scraper.
///
/// The Prometheus text format 0.0.4 and OpenMetrics 1.0 differ little: OpenMetrics names a
/// counter's family without `_total` and ends with `# EOF`. In both, all samples of a family stand
/// together, so a caller begins a family, writes its samples, and goes on to the next.
///
/// Names are the program's own and must be valid; label values may come from outside and are
/// escaped.
package struct ExpositionWriter {
    package enum Format: Sendable {
        /// Prometheus text format 0.0.4.
        case text
        /// OpenMetrics 1.0.
        case openMetrics

        package var contentType: StaticString {
            switch self {
            case .text: "text/plain; version=0.0.4; charset=utf-8"
            case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    package enum Kind: Sendable {
        case counter
        case gauge
        case histogram

        var text: StaticString {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    /// A label's name, and its value, which may come from outside.
    package typealias Label = (name: StaticString, value: String)

    private let buffer: ByteBuffer
    private let format: Format
    private var family: StaticString = ""
    private var kind = Kind.gauge
    private var isEnded = false
    /// Families so far: each may be begun once.
    private var families: Set<String> = []

    package init(into buffer: ByteBuffer, format: Format) {
        self.buffer = buffer
        self.format = format
    }

    // MARK: Families

    /// Begins a family.
    ///
    /// - Parameter name: for a counter with `_total`, for times with `_seconds`.
    package mutating func begin(_ name: StaticString, _ kind: Kind, help: StaticString) {
        precondition(!self.isEnded, "\(name) after the end")
        precondition(Self.isName(name), "`\(name)` is no metric name")
        precondition(self.families.insert("\(name)").inserted, "\(name) was begun before")
        if case .counter = kind {
            precondition("\(name)".hasSuffix("_total"), "the counter \(name) must end in _total")
        }
        self.family = name
        self.kind = kind
        self.comment("# HELP ")
        self.buffer.append(byte: UInt8(ascii: " "))
        self.appendEscaped("\(help)", quotes: false)
        self.buffer.append(byte: UInt8(ascii: "\n"))
        self.comment("# TYPE ")
        self.buffer.append(byte: UInt8(ascii: " "))
        self.buffer.append(kind.text)
        self.buffer.append(byte: UInt8(ascii: "\n"))
    }

    /// Ends the exposition: nothing may follow.
    package mutating func end() {
        precondition(!self.isEnded, "ended twice")
        self.isEnded = true
        if case .openMetrics = self.format { self.buffer.append("# EOF\n" as StaticString) }
    }

    /// A family of one counter without labels.
    package mutating func counter(_ name: StaticString, _ value: UInt64, help: StaticString) {
        self.begin(name, .counter, help: help)
        self.sample([], value)
    }

    /// A family of one gauge without labels.
    package mutating func gauge(_ name: StaticString, _ value: UInt64, help: StaticString) {
        self.begin(name, .gauge, help: help)
        self.sample([], value)
    }

    // MARK: Samples

    /// One sample of a counter or gauge.
    package mutating func sample(_ labels: [Label] = [], _ value: UInt64) {
        self.beginSample(labels)
        self.buffer.append(decimal: value)
        self.buffer.append(byte: UInt8(ascii: "\n"))
    }

    /// One sample of a counter or gauge; `value` may be infinite or not a number.
    package mutating func sample(_ labels: [Label] = [], _ value: Double) {
        self.beginSample(labels)
        self.buffer.append(Self.text(of: value))
        self.buffer.append(byte: UInt8(ascii: "\n"))
    }

    /// One histogram, in seconds.
    package mutating func sample(
        _ labels: [Label] = [],
        _ histogram: LatencyHistogram,
        _ boundaries: HistogramBoundaries
    ) {
        guard case .histogram = self.kind else {
            preconditionFailure("\(self.family) is no histogram")
        }
        let counts = histogram.cumulativeCounts(atNanoseconds: boundaries.nanoseconds)
        for (count, bound) in zip(counts, boundaries.labels) {
            self.bucket(labels, bound, count)
        }
        self.bucket(labels, "+Inf", histogram.count)
        self.name("_sum", labels)
        self.buffer.append(Self.text(of: Double(histogram.sum) / 1e9))
        self.buffer.append(byte: UInt8(ascii: "\n"))
        self.name("_count", labels)
        self.buffer.append(decimal: histogram.count)
        self.buffer.append(byte: UInt8(ascii: "\n"))
    }

    // MARK: Helpers

    private mutating func beginSample(_ labels: [Label]) {
        precondition(self.families.count > 0, "a sample before any family")
        if case .histogram = self.kind { preconditionFailure("\(self.family) is a histogram") }
        self.name("", labels)
    }

    private func bucket(_ labels: [Label], _ bound: String, _ count: UInt64) {
        self.name("_bucket", labels + [("le", bound)])
        self.buffer.append(decimal: count)
        self.buffer.append(byte: UInt8(ascii: "\n"))
    }

    /// `name_suffix{label="value",…} `.
    private func name(_ suffix: StaticString, _ labels: [Label]) {
        self.buffer.append(self.family)
        self.buffer.append(suffix)
        if !labels.isEmpty {
            for (index, label) in labels.enumerated() {
                assert(Self.isName(label.name), "`\(label.name)` is no label name")
                self.buffer.append(byte: UInt8(ascii: index == 0 ? "{" : ","))
                self.buffer.append(label.name)
                self.buffer.append("=\"" as StaticString)
                self.appendEscaped(label.value, quotes: true)
                self.buffer.append(byte: UInt8(ascii: "\""))
            }
            self.buffer.append(byte: UInt8(ascii: "}"))
        }
        self.buffer.append(byte: UInt8(ascii: " "))
    }

    /// A comment's beginning with the family's name, which OpenMetrics wants without `_total`.
    private func comment(_ prefix: StaticString) {
        self.buffer.append(prefix)
        if case .openMetrics = self.format, case .counter = self.kind {
            self.buffer.append(String("\(self.family)".dropLast("_total".utf8.count)))
        } else {
            self.buffer.append(self.family)
        }
    }

    /// Backslashes and line feeds, and in label values quotes, are escaped. OpenMetrics wants
    /// quotes escaped in help texts as well; there they are left out instead, as the formats
    /// disagree.
    private func appendEscaped(_ text: String, quotes: Bool) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): self.buffer.append("\\\\" as StaticString)
            case UInt8(ascii: "\n"): self.buffer.append("\\n" as StaticString)
            case UInt8(ascii: "\""):
                if quotes { self.buffer.append("\\\"" as StaticString) }
            default: self.buffer.append(byte: byte)
            }
        }
    }

    /// Shortest form that reads back the same; whole numbers with `.0`, as OpenMetrics wants for
    /// `le`.
    static func text(of value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return "\(value)"
    }

    private static func isName(_ name: StaticString) -> Bool {
        let text = "\(name)".utf8
        guard let first = text.first, !(48...57).contains(first) else { return false }
        return text.allSatisfy {
            ($0 | 0x20 >= 97 && $0 | 0x20 <= 122) || (48...57).contains($0)
                || $0 == UInt8(ascii: "_")
                || $0 == UInt8(ascii: ":")
        }
    }
}
