import Core
import HTTPService
import Workload

/// A trace that cannot be used, with the line where that shows.
package struct TraceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Counts from 1; 0 where no single line is to blame.
    package var line: Int
    package var message: String

    package var description: String {
        self.line > 0 ? "line \(self.line): \(self.message)" : self.message
    }
}

/// Reads traces: CSV with a time and token counts per request (Azure's and others with such
/// columns), CSV with a rate per window (ServeGen's), and JSON lines (Mooncake's, and `weir load
/// --records`).
///
/// The format shows in the first line. Nothing is guessed: a value that is missing, times that run
/// backwards, a window that is missing, or a silence longer than `gapMax` is an error with its
/// line.
package struct TraceReader {
    /// Seconds without a request that count as a hole; nil accepts any.
    package var gapMax: Double?

    package init(gapMax: Double?) {
        self.gapMax = gapMax
    }

    package func read(_ bytes: [UInt8]) throws(TraceError) -> Trace {
        let lines = TraceLines(bytes)
        guard let first = lines.first else {
            throw TraceError(line: 0, message: "the trace is empty")
        }
        if bytes[first.range].first == UInt8(ascii: "{") {
            return .requests(try self.readJSONLines(bytes, lines))
        }
        let header = CSVHeader(TraceLines.fields(bytes, first.range))
        if header.isWindows { return .windows(try self.readWindows(bytes, lines, header)) }
        guard header.time != nil else {
            throw TraceError(
                line: first.number,
                message: "no trace format begins like this: expected the columns TIMESTAMP, "
                    + "ContextTokens, GeneratedTokens, or window_start_s, total_rate_rps, or JSON"
            )
        }
        return .requests(try self.readRequests(bytes, lines, header))
    }

    // MARK: Requests as CSV

    private func readRequests(
        _ bytes: [UInt8],
        _ lines: TraceLines,
        _ header: CSVHeader
    ) throws(TraceError) -> RequestTrace {
        var builder = RequestTraceBuilder(gapMax: self.gapMax)
        for line in lines.rest {
            let fields = TraceLines.fields(bytes, line.range)
            guard fields.count == header.count else {
                throw TraceError(
                    line: line.number,
                    message: "\(fields.count) values where the header has \(header.count)"
                )
            }
            guard let time = header.time.flatMap({ Self.time(fields[$0]) }) else {
                throw TraceError(line: line.number, message: "no time can be read in it")
            }
            let input = try Self.tokens(fields, header.input, line.number, "input tokens")
            let output = try Self.tokens(fields, header.output, line.number, "output tokens")
            try builder.add(time: time, input: input, output: output, blocks: [], line: line.number)
        }
        return try builder.finish()
    }

    private static func tokens(
        _ fields: [String],
        _ column: Int?,
        _ line: Int,
        _ what: String
    ) throws(TraceError) -> UInt32 {
        guard let column else { return 0 }
        guard let value = UInt32(fields[column]), value <= WorkloadLimits.promptTokensMax else {
            throw TraceError(
                line: line,
                message: "its number of \(what) is \"\(fields[column])\": not 0 to "
                    + "\(WorkloadLimits.promptTokensMax)"
            )
        }
        return value
    }

    /// Seconds: a number, or a date and time whose zone does not matter.
    static func time(_ text: String) -> Double? {
        if let seconds = Double(text) { return seconds.isFinite && seconds >= 0 ? seconds : nil }
        let parts = text.split { $0 == " " || $0 == "T" }
        guard parts.count == 2 else { return nil }
        let date = parts[0].split(separator: "-").compactMap { Int($0) }
        let clockText = parts[1].prefix { $0 != "+" && $0 != "Z" && $0 != "-" }
        let clock = clockText.split(separator: ":", omittingEmptySubsequences: false)
            .compactMap { Double($0) }
        guard date.count == 3, clock.count == 3, (1970...9999).contains(date[0]),
            (1...12).contains(date[1]), (1...31).contains(date[2]), (0..<24).contains(clock[0]),
            (0..<60).contains(clock[1]), (0..<61).contains(clock[2])
        else { return nil }
        let day = Double(self.days(year: date[0], month: date[1], day: date[2]))
        return day * 86_400 + clock[0] * 3_600 + clock[1] * 60 + clock[2]
    }

    /// Days since 1970 in the Gregorian calendar, counting years from March.
    private static func days(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let monthFromMarch = (month + 9) % 12
        return 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400
            + (153 * monthFromMarch + 2) / 5 + day - 1 - 719_468
    }

    // MARK: Rates as CSV

    private func readWindows(
        _ bytes: [UInt8],
        _ lines: TraceLines,
        _ header: CSVHeader
    ) throws(TraceError) -> WindowTrace {
        var rows: [(start: Double, rate: Double, variation: Double, line: Int)] = []
        for line in lines.rest {
            let fields = TraceLines.fields(bytes, line.range)
            let numbers = [header.windowStart, header.windowRate].compactMap { column in
                column.flatMap { $0 < fields.count ? Double(fields[$0]) : nil }
            }
            let variation =
                header.windowVariation.map { $0 < fields.count ? Double(fields[$0]) : nil } ?? 1.0
            guard numbers.count == 2, let variation,
                numbers.allSatisfy({ $0.isFinite && $0 >= 0 }),
                (0...1_000).contains(variation), numbers[1] <= WorkloadLimits.rateMax
            else {
                throw TraceError(
                    line: line.number,
                    message: "it lacks a start, a rate or a variation that is a number"
                )
            }
            rows.append((numbers[0], numbers[1], variation, line.number))
        }
        return try Self.windows(rows)
    }

    /// Windows are as long as the first one; each must begin where the one before it ends.
    private static func windows(
        _ rows: [(start: Double, rate: Double, variation: Double, line: Int)]
    ) throws(TraceError) -> WindowTrace {
        guard rows.count >= 2 else {
            throw TraceError(
                line: 0,
                message: "two windows at least are needed to see their length"
            )
        }
        let length = rows[1].start - rows[0].start
        guard length > 0 else {
            throw TraceError(
                line: rows[1].line,
                message: "its time does not lie behind the one before"
            )
        }
        var windows: [TraceWindow] = []
        for (index, row) in rows.enumerated() {
            let start = Double(index) * length
            let offset = row.start - rows[0].start
            guard (offset - start).magnitude < length * 1e-6 else {
                throw TraceError(
                    line: row.line,
                    message: "the trace has a hole: a window at \(rows[0].start + start)s was "
                        + "expected, this one begins at \(row.start)s"
                )
            }
            windows.append(
                TraceWindow(
                    start: start,
                    duration: length,
                    rate: row.rate,
                    variation: row.variation
                )
            )
        }
        return WindowTrace(windows: windows)
    }

    // MARK: JSON lines

    private func readJSONLines(
        _ bytes: [UInt8],
        _ lines: TraceLines
    ) throws(TraceError) -> RequestTrace {
        var builder = RequestTraceBuilder(gapMax: self.gapMax)
        for line in lines.all {
            let record: JSONRecord
            do throws(JSONError) {
                record = try JSONRecord(bytes.span.bytes.extracting(line.range))
            } catch {
                throw TraceError(line: line.number, message: "\(error)")
            }
            guard let time = record.seconds else {
                throw TraceError(
                    line: line.number,
                    message: "it has neither \"timestamp\" (milliseconds) nor \"scheduled_s\""
                )
            }
            try builder.add(
                time: time,
                input: record.input,
                output: record.output,
                blocks: record.blocks,
                line: line.number
            )
        }
        return try builder.finish()
    }
}

/// One line of a JSON trace.
private struct JSONRecord {
    var seconds: Double?
    var input: UInt32 = 0
    var output: UInt32 = 0
    var blocks: [UInt64] = []

    init(_ bytes: RawSpan) throws(JSONError) {
        var cursor = JSONCursor()
        var record = (
            seconds: Double?.none, input: UInt32(0), output: UInt32(0), blocks: [UInt64]()
        )
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch String(
                decoding: bytes.extracting(key).withUnsafeBytes { Array($0) },
                as: UTF8.self
            )
            {
            case "timestamp": record.seconds = try Self.time(&cursor, bytes) / 1_000
            case "scheduled_s": record.seconds = try Self.time(&cursor, bytes)
            case "input_length", "input_tokens": record.input = try Self.count(&cursor, bytes)
            case "output_length", "output_tokens": record.output = try Self.count(&cursor, bytes)
            case "hash_ids":
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    record.blocks.append(UInt64(clamping: try cursor.integer(bytes)))
                }
            default: try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
        (self.seconds, self.input, self.output, self.blocks) = record
    }

    private static func time(_ cursor: inout JSONCursor, _ bytes: RawSpan) throws(JSONError)
        -> Double
    {
        let value = try cursor.number(bytes)
        guard value >= 0 else { throw cursor.error("a time below 0") }
        return value
    }

    private static func count(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> UInt32 {
        let value = try cursor.integer(bytes)
        guard (0...WorkloadLimits.promptTokensMax).contains(value) else {
            throw cursor.error("\(value) tokens")
        }
        return UInt32(value)
    }
}

/// Puts requests together and finds the holes.
private struct RequestTraceBuilder {
    private let gapMax: Double?
    private var trace = RequestTrace(requests: [])
    private var origin: Double?
    private var previous = 0.0

    init(gapMax: Double?) {
        self.gapMax = gapMax
    }

    mutating func add(
        time: Double,
        input: UInt32,
        output: UInt32,
        blocks: [UInt64],
        line: Int
    ) throws(TraceError) {
        let origin = self.origin ?? time
        if self.origin == nil { (self.origin, self.previous) = (time, time) }
        guard time >= self.previous else {
            throw TraceError(line: line, message: "its time lies before that of the line above")
        }
        if let gapMax = self.gapMax, time - self.previous > gapMax {
            throw TraceError(
                line: line,
                message: "the trace has a hole of \(DecimalText.figures(time - self.previous))s "
                    + "before it: replay a part of it, or allow it with --max-gap"
            )
        }
        guard time - origin <= WorkloadLimits.durationMaxSeconds,
            self.trace.requests.count < WorkloadLimits.traceRequestsMax
        else { throw TraceError(line: line, message: "the trace is longer than can be replayed") }
        self.previous = time
        let start = UInt32(clamping: self.trace.blocks.count)
        self.trace.blocks += blocks
        self.trace.requests.append(
            TraceRequest(
                offset: UInt64(((time - origin) * 1e9).rounded()),
                inputTokens: input,
                outputTokens: output,
                blocks: start..<UInt32(clamping: self.trace.blocks.count)
            )
        )
    }

    func finish() throws(TraceError) -> RequestTrace {
        guard !self.trace.requests.isEmpty else {
            throw TraceError(line: 0, message: "the trace has no requests")
        }
        return self.trace
    }
}

/// Where the lines of a text lie; empty ones at its end do not count.
private struct TraceLines {
    struct Line {
        var range: Range<Int>
        /// Counts from 1.
        var number: Int
    }

    private(set) var all: [Line] = []

    init(_ bytes: [UInt8]) {
        // A byte order mark is no part of the first column's name.
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var number = 1
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: 0x0A) ?? bytes.count
            let trimmed = end > start && bytes[end - 1] == 0x0D ? end - 1 : end
            self.all.append(Line(range: start..<trimmed, number: number))
            start = end + 1
            number += 1
        }
        while let last = self.all.last, last.range.isEmpty { self.all.removeLast() }
    }

    var first: Line? { self.all.first }
    var rest: ArraySlice<Line> { self.all.dropFirst() }

    /// Values between commas, without the spaces around them.
    static func fields(_ bytes: [UInt8], _ range: Range<Int>) -> [String] {
        bytes[range].split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map {
            var part = $0
            while part.first == 0x20 { part = part.dropFirst() }
            while part.last == 0x20 { part = part.dropLast() }
            return String(decoding: part, as: UTF8.self)
        }
    }
}

/// Which column means what.
private struct CSVHeader {
    let count: Int
    let time: Int?
    let input: Int?
    let output: Int?
    let windowStart: Int?
    let windowRate: Int?
    let windowVariation: Int?

    init(_ names: [String]) {
        let names = names.map { $0.lowercased() }
        func column(_ candidates: String...) -> Int? {
            names.firstIndex { candidates.contains($0) }
        }
        self.count = names.count
        self.time = column("timestamp")
        self.input = column("contexttokens", "request tokens", "input_tokens", "input_length")
        self.output = column("generatedtokens", "response tokens", "output_tokens", "output_length")
        self.windowStart = column("window_start_s")
        self.windowRate = column("total_rate_rps", "rate_rps")
        self.windowVariation = column("rate_weighted_cv", "cv")
    }

    var isWindows: Bool { self.windowStart != nil && self.windowRate != nil }
}
