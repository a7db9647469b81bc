import Core

/// What a server says of its load beside a response: the value of the field `endpoint-load-metrics`
/// (Open Request Cost Aggregation, ORCA).
///
/// Two forms: `TEXT cpu_utilization=0.3, named_metrics.kv_cache_utilization=0.4`, and
/// `JSON {"cpu_utilization": 0.3, "named_metrics": {"kv_cache_utilization": 0.4}}`, also without
/// the outer braces, as some servers write it. The binary form is not read. Asked for by
/// `endpoint-load-metrics-format: TEXT` in the request.
package struct LoadReport: Sendable, Hashable {
    /// Bytes of the field's value; longer ones are not read.
    package static let bytesMax = 8 << 10
    /// Numbers in a report.
    package static let valuesMax = 64

    /// By their names, those of maps as `map.key`.
    package var values: [String: Double]

    /// Nil where it is no report.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.bytesMax,
            let space = bytes.firstIndex(of: UInt8(ascii: " "))
        else { return nil }
        let rest = bytes[(space + 1)...]
        let read: [String: Double]?
        switch String(decoding: bytes[..<space], as: UTF8.self).uppercased() {
        case "TEXT", "TEXT:": read = Self.text(rest)
        case "JSON", "JSON:": read = Self.json(rest)
        default: return nil
        }
        guard let read, !read.isEmpty, read.count <= Self.valuesMax else { return nil }
        self.values = read
    }

    /// The first of these names that is there and between 0 and 1.
    private func share(_ names: String...) -> Double? {
        names.lazy.compactMap { self.values[$0] }.first { $0 >= 0 && $0 <= 1 }
    }

    private func number(_ names: String...) -> Double? {
        names.lazy.compactMap { self.values[$0] }.first { $0 >= 0 }
    }

    /// 0 to 1.
    package var kvCacheUse: Double? {
        self.share(
            "named_metrics.kv_cache_usage_perc",
            "named_metrics.kv_cache_utilization",
            "named_metrics.gpu_cache_usage_perc",
            "utilization.kv_cache_usage_perc"
        )
    }

    package var waiting: Double? { self.number("named_metrics.num_requests_waiting") }
    package var running: Double? { self.number("named_metrics.num_requests_running") }
    package var cpuUse: Double? { self.number("cpu_utilization") }
    package var applicationUse: Double? { self.number("application_utilization") }

    // MARK: Reading

    private static func number(_ bytes: ArraySlice<UInt8>) -> Double? {
        let copy = Array(bytes)
        // Sound: the bytes are initialised, and the span ends with the call.
        let value = unsafe ExpositionParser.number(copy.span.bytes, 0..<copy.count)
        return value.flatMap { $0.isFinite ? $0 : nil }
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var bytes = bytes.drop { $0 == 32 || $0 == 9 }
        while let last = bytes.last, last == 32 || last == 9 { bytes.removeLast() }
        return bytes
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> [String: Double]? {
        var values: [String: Double] = [:]
        for pair in bytes.split(separator: UInt8(ascii: ",")) {
            let parts = pair.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
            guard parts.count == 2, let value = self.number(self.trimmed(parts[1])) else {
                return nil
            }
            let name = self.trimmed(parts[0])
            if name.isEmpty { return nil }
            values[String(decoding: name, as: UTF8.self)] = value
        }
        return values
    }

    private static func json(_ bytes: ArraySlice<UInt8>) -> [String: Double]? {
        var reader = ReportReader(bytes: self.trimmed(bytes))
        return reader.report()
    }
}

/// Objects of numbers, at most two levels deep; what else JSON has is no report.
private struct ReportReader {
    var bytes: ArraySlice<UInt8>
    private var values: [String: Double] = [:]

    init(bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
    }

    mutating func report() -> [String: Double]? {
        let isBraced = self.bytes.first == UInt8(ascii: "{")
        if isBraced { self.bytes.removeFirst() }
        guard self.members(prefix: "", isBraced: isBraced, depth: 0), self.bytes.isEmpty else {
            return nil
        }
        return self.values
    }

    private mutating func members(prefix: String, isBraced: Bool, depth: Int) -> Bool {
        self.skipSpace()
        if isBraced && self.take("}") { return true }
        repeat {
            guard let key = self.string() else { return false }
            self.skipSpace()
            guard self.take(":") else { return false }
            self.skipSpace()
            if self.take("{") {
                guard depth == 0, self.members(prefix: key + ".", isBraced: true, depth: 1) else {
                    return false
                }
            } else {
                guard let value = self.number(), self.values.count < LoadReport.valuesMax else {
                    return false
                }
                self.values[prefix + key] = value
            }
            self.skipSpace()
        } while self.take(",")
        return isBraced ? self.take("}") : true
    }

    private mutating func skipSpace() {
        self.bytes = self.bytes.drop { $0 == 32 || $0 == 9 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard self.bytes.first == UInt8(ascii: character) else { return false }
        self.bytes.removeFirst()
        return true
    }

    /// Names have no escapes: one with any is no name that is known.
    private mutating func string() -> String? {
        self.skipSpace()
        guard self.take("\""), let end = self.bytes.firstIndex(of: UInt8(ascii: "\"")) else {
            return nil
        }
        let text = self.bytes[..<end]
        guard !text.contains(UInt8(ascii: "\\")) else { return nil }
        self.bytes = self.bytes[(end + 1)...]
        return String(decoding: text, as: UTF8.self)
    }

    private mutating func number() -> Double? {
        let digits = self.bytes.prefix {
            (48...57).contains($0) || "+-.eE".utf8.contains($0)
        }
        self.bytes = self.bytes[digits.endIndex...]
        let copy = Array(digits)
        // Sound: the bytes are initialised, and the span ends with the call.
        let value = unsafe ExpositionParser.number(copy.span.bytes, 0..<copy.count)
        return value.flatMap { $0.isFinite ? $0 : nil }
    }
}
